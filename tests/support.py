"""Threads in tests, and what they hold."""

from __future__ import annotations

import ctypes
import functools
import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

LONG = 30  # seconds: what bounds a hang, and nothing else

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no os.fork()")


def run(thread: threading.Thread) -> threading.Thread:
    """Start the thread, and wait for its end."""
    thread.start()
    thread.join(LONG)
    assert not thread.is_alive()
    return thread


def run_all(threads: Iterable[threading.Thread]) -> None:
    """Start the threads, and wait for the end of them all."""
    threads = list(threads)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive()


def in_thread(body: Callable[[], object], name: str | None = None, **kwargs: Any) -> threading.Thread:
    """Run `body` in a thread of its own, to its end; the other arguments are those of `threading.Thread`."""
    return run(threading.Thread(target=body, name=name, **kwargs))


class Log(list[Any]):
    """A list that can be an argument of a per-thread resource."""

    __hash__ = object.__hash__  # type: ignore[assignment]


class Farewell:
    """Calls something as it is destroyed."""

    def __init__(self, func: Callable[[], Any]) -> None:
        self.func = func

    def __del__(self) -> None:
        self.func()


class Thrown(BaseException):
    """What comes from outside, in the middle of something."""


# An exception that is thrown into coverage's trace function may make CPython 3.11 call it for ever, and an allocation
# that fails in it is the end of the process.
not_traced = pytest.mark.skipif("COVERAGE_RUN" in os.environ, reason="it would hit coverage's trace function")


def throw_into(ident: int) -> None:
    """Raise `Thrown` in the thread with that ident, as soon as it executes Python code."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(Thrown))


def thrower() -> Callable[[], object]:
    """What throws into the thread that calls this. It is written in C, and so executes no step that could be hit."""
    throw = ctypes.pythonapi.PyThreadState_SetAsyncExc
    return functools.partial(throw, ctypes.c_ulong(threading.get_ident()), ctypes.py_object(Thrown))


def as_it_dies(call: Callable[[], object]) -> object:
    """An object whose destructor is `call` itself."""
    return type("Dying", (), {"__del__": staticmethod(call)})()


Steal = Callable[[Callable[[], object]], "list[Any]"]


def with_its_sentinel(steal: Steal, register: Callable[[], object]) -> tuple[threading.Thread, list[Any]]:
    """A thread that has ended, and its two sentinels, which are still there."""
    stolen: list[Any] = []
    thread = in_thread(lambda: stolen.extend(steal(register)))
    assert len(stolen) == 2
    return thread, stolen


def interrupted(command: list[str], cwd: Path) -> tuple[str, str, int]:
    """Run a command that takes long, until it shows progress on a terminal; then press Ctrl-C. What it has said."""
    pty: Any = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    with subprocess.Popen(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs, encoding="utf-8"
    ) as process:
        os.close(theirs)
        said = b""
        try:
            while b" of " not in said and b"warming up" not in said:
                said += os.read(ours, 10_000)
            process.send_signal(signal.SIGINT)
            while True:
                if not select.select([ours], [], [], 10)[0]:
                    process.send_signal(signal.SIGINT)  # the first may have come in a finaliser, which drops it
                elif more := os.read(ours, 10_000):
                    said += more
                else:
                    break
        except OSError:  # Linux's way to say that it has ended
            pass
        out, _ = process.communicate(timeout=LONG)
    os.close(ours)
    return out, said.decode("utf-8"), process.returncode
