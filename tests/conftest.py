"""What several test modules use."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from programs import ENDS, FORKS
from support import Log

from threadhooks import Plugin, ThreadSignal, thread_exited, thread_exiting, thread_started

# A shell that runs the tests in the background has Ctrl-C ignored by them, and so by all programs that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)


class Result(NamedTuple):
    """What became of a program: compare it with a plain tuple."""

    out: str
    err: str
    code: int

    @property
    def said(self) -> str:
        """What it wrote; nothing else may be wrong with it."""
        assert (self.err, self.code) == ("", 0)
        return self.out


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Result]:
    """Run the text of a program in an interpreter of its own, where warnings are errors: ``(out, err, code)``.

    But not the one of early cleanups that come late, which most programs that register one are not about.

    It is unbuffered, so that a fork doubles no output and a sudden end loses none. `options` go to the interpreter,
    `arguments` to the program.
    """

    def run(source: str, *arguments: str, options: tuple[str, ...] = (), timeout: float = 60) -> Result:
        path = tmp_path / "program.py"
        path.write_text(textwrap.dedent(source), encoding="utf-8")
        warnings = ["-W", "error", "-W", "ignore:early cleanup:ResourceWarning"]
        command = [sys.executable, *warnings, "-u", *options, str(path), *arguments]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,
        )
        with process:
            try:
                return Result(*process.communicate(timeout=timeout), process.returncode)
            except subprocess.TimeoutExpired:
                getattr(os, "killpg", os.kill)(process.pid, 9)  # what it has forked may hang as well
                raise

    return run


@pytest.fixture
def ending(program: Callable[..., Any]) -> Callable[..., Any]:
    """Run a program that begins with `ENDS`; `before` is what comes before even that."""

    def run(source: str, *arguments: str, before: str = "", **options: Any) -> Any:
        return program(textwrap.dedent(before) + ENDS + textwrap.dedent(source), *arguments, **options)

    return run


@pytest.fixture
def forking(ending: Callable[..., Any]) -> Callable[..., Any]:
    """Run a program that begins with `FORKS` as well."""

    def run(source: str, *arguments: str, before: str = "", **options: Any) -> Any:
        return ending(FORKS + textwrap.dedent(source), *arguments, before=before, **options)

    return run


@pytest.fixture
def plugin() -> Iterator[Plugin]:
    """A plugin that is closed when the test ends."""
    with Plugin("of the test") as plugin:
        yield plugin


@pytest.fixture
def exits() -> Iterator[list[Any]]:
    """The ``(thread, info, exception)`` of every `thread_exited`."""
    heard: list[Any] = []

    def receiver(thread: threading.Thread, *, info: Any, exception: Any, **extra: Any) -> None:
        heard.append((thread, info, exception))

    with thread_exited.connected_to(receiver):
        yield heard


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[threading.ExceptHookArgs]:
    """What is reported to `threading.excepthook`."""
    reported: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", reported.append)
    return reported


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is reported to `threading.excepthook`, in short: ``(exception, thread)``."""
    told: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append((args.exc_value, args.thread)))
    return told


@pytest.fixture
def signal() -> ThreadSignal:
    """A signal of the test's own, which does not know what it sends."""
    return ThreadSignal("a_signal", "What it is for.")


@pytest.fixture
def disconnected() -> Iterator[None]:
    """After the test, nothing is connected to the three signals."""
    yield
    for signal in (thread_started, thread_exiting, thread_exited):
        signal._clear_state()


@pytest.fixture
def log() -> Log:
    """What happens is written down here; it can be an argument of a resource."""
    return Log()


@pytest.fixture
def no_collection() -> Iterator[None]:
    """What is freed or closed here, is so without the collector: nothing ties it in a cycle."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    gc.collect()


@pytest.fixture
def hurry() -> Iterator[None]:
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(interval)


def _module(obj: object) -> str:
    return str(type(obj).__module__)  # a class may have anything there


@pytest.fixture
def steal() -> Callable[[Callable[[], object]], list[Any]]:
    """Take the sentinel that something gives to the current thread, by means of the collector; return it in a list."""

    def sentinels() -> dict[int, object]:
        # The collector knows the thread-local's dict. (All that everything refers to may be more than there is memory.)
        dicts = [obj for obj in gc.get_objects() if type(obj) is dict]
        ours = (obj for found in dicts for obj in list(found.values()) if _module(obj).startswith("threadhooks."))
        return {id(obj): obj for obj in ours if hasattr(type(obj), "__del__")}

    def steal(attach: Callable[[], object]) -> list[Any]:
        before = set(sentinels())
        attach()
        return [obj for key, obj in sentinels().items() if key not in before]

    return steal
