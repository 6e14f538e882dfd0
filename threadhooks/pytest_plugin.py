"""The pytest plugin: a test that leaves a thread behind fails, and so does one during which a hook fails.

Guarantees:

- The test that started a thread is blamed, whichever test runs when it is noticed; and for a thread that a thread of
  the test started, too.
- What a fixture of wider scope than a test starts as it is set up, and what those threads start, may stay.
- A thread that is busy with its clean-ups has not ended.
- No thread, frame or exception is kept alive by this.

Assumptions:

- One test runs at a time in a process.

What it does not promise:

- A thread that `threading` did not start, or under a `Thread.start` that goes past ours, is blamed on the test during
  which it appeared.
"""

from __future__ import annotations

import functools
import linecache
import math
import os
import re
import sys
import threading
import traceback
import weakref
from collections.abc import Generator, Iterable
from threading import current_thread, get_ident
from time import sleep
from types import FrameType
from typing import Any, NamedTuple

import pytest

from ._signals import describe
from .announce import before_start, installed


class ThreadLeakWarning(pytest.PytestWarning):
    """A test has left threads behind, or a hook has failed during it, where ``--thread-leaks=warn`` is in force."""


class _Test:
    """One run of one test: what threads belong to."""

    def __init__(self, mode: str, allow: list[re.Pattern[str]], allow_daemons: bool, older: set[int]) -> None:
        self.mode = mode
        self.allow = allow
        self.allow_daemons = allow_daemons
        self.failures: list[tuple[str, str]] = []  # of hooks, while it ran: in short, and with the traceback
        # The threads that were there before. By ident, as there may be some that `threading` does not know yet.
        self.older = older


class _Start(NamedTuple):
    """How a thread was started. All but the reference are texts: it must not keep anything alive."""

    thread: weakref.ref[threading.Thread]
    test: _Test | None  # None: it may stay, and so may what it starts
    target: str
    line: tuple[str, int]


_ANY = _Test("off", [], False, set())  # whose is the worker of a loop: it works for one test after the other

_STEP = 0.02  # seconds
_MOST_ENDED = 10_000  # how many threads may end while we wait, before we take it that there will always be another one


class ThreadLeaks:
    """The hooks of the plugin, for one run of pytest."""

    def __init__(self, config: pytest.Config, mode: str) -> None:
        try:
            self._marked = [thread_leaks(mode, allow=config.getini("thread_leaks_allow"))]
            self._grace = float(config.getini("thread_leaks_grace"))
        except (ValueError, re.error) as error:
            raise pytest.UsageError(f"thread_leaks: {error}") from error
        self._allow_daemons: bool = config.getini("thread_leaks_allow_daemons")
        self._folder = str(config.invocation_params.dir)
        self._ident = get_ident()  # of the thread that runs the tests
        self._test: _Test | None = None  # to which belongs what that thread starts
        self._starts: dict[int, _Start] = {}  # of all threads that are alive, by id()
        self._listener = self._listen  # one object, which is recognised
        self._listener_before = threading.excepthook

    # Whose is a thread?

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, Any, Any]:
        """Watch who starts threads."""
        before_start[self] = self._note
        try:
            with installed():
                return (yield)
        finally:
            del before_start[self]

    def _note(self, thread: threading.Thread) -> None:
        test = self._test
        if get_ident() != self._ident:
            starter = self._starts.get(id(current_thread()))
            if starter is not None:
                test = test if starter.test is _ANY else starter.test
            elif test is not None and get_ident() in test.older:
                test = None
        key, starts = id(thread), self._starts
        reference = weakref.ref(thread, lambda _: starts.pop(key, None))
        line = _line(sys._getframe(1), {"threading", "concurrent", "asyncio", "threadhooks"})
        starts[key] = _Start(reference, test, _target(thread), line)

    # The wrappers are innermost (trylast): what other plugins start around a test, a timer for instance, is older.

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """A test begins; or begins again, if it is run more than once."""
        __tracebackhide__ = True
        self._ident = get_ident()
        self._test = None
        marked = self._marked + [
            thread_leaks(*m.args, **m.kwargs) for m in reversed(list(item.iter_markers("thread_leaks")))
        ]
        modes = [mode for mode, _, _ in marked if mode is not None]
        allow = [pattern for _, patterns, _ in marked for pattern in patterns]
        allow_daemons = self._allow_daemons or any(daemons for _, _, daemons in marked)
        self._test = _Test(modes[-1], allow, allow_daemons, _idents())
        self._start_listening()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
        """What a fixture of wider scope starts belongs to no test."""
        __tracebackhide__ = True
        if fixturedef.scope == "function":
            return (yield)
        test, self._test = self._test, None
        try:
            return (yield)
        finally:
            self._test = test
            if test is not None:
                test.older |= _idents()

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self) -> Generator[None, Any, Any]:
        """The body of the test."""
        __tracebackhide__ = True
        self._start_listening()
        return (yield)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """A test has ended with the teardown of its fixtures: what is still there is a leak."""
        self._start_listening()
        test = self._test
        try:
            result = yield
        except (KeyboardInterrupt, SystemExit, pytest.exit.Exception):
            self._stop_listening()
            raise
        except BaseException:
            if told := self._tell(test):
                item.add_report_section("teardown", "threads", told)
            raise
        told = self._tell(test)
        if test is not None and told:
            if test.mode == "error":
                pytest.fail(told, pytrace=False)
            item.warn(ThreadLeakWarning(told))
        return result

    # What is left of a test?

    def _tell(self, test: _Test | None) -> str:
        """What there is to say against the test, which has ended; empty if there is nothing."""
        try:
            if test is None or test.mode == "off":
                return ""
            left = self._wait(test)
            self._share(test)
            failures = test.failures
            heads = []
            if left:
                threads = "a thread" if len(left) == 1 else f"{len(left)} threads"
                heads.append(f"left {threads} behind: {_several(map(_name, left))}")
            heads += [f"a hook failed: {short}" for short, _ in failures]
            parts = ["; ".join(heads), *self._describe(left)]
            if left:
                parts.append(
                    f"Still alive {self._grace:g} s after the teardown. "
                    'If that is meant: @pytest.mark.thread_leaks(allow="name")'
                )
            parts += [long for _, long in failures]
            return "\n\n".join(parts) if heads else ""
        finally:
            self._test = None
            self._stop_listening()

    def _wait(self, test: _Test) -> list[threading.Thread]:
        """Wait for the threads of the test; return those that are still alive when its time is up."""
        left = self._left(test)
        # No clock is asked: the test may have stopped it (freezegun, time-machine), and then nothing would end this.
        steps = math.ceil(self._grace / _STEP)
        for _ in range(steps + _MOST_ENDED):
            if not left or steps <= 0:
                break
            try:
                # Not the method of a subclass, which may make a thread end that nobody else would have ended.
                threading.Thread.join(left[0], _STEP)
            except (AssertionError, RuntimeError):  # it can't be joined, as `threading` has not started it
                sleep(_STEP)
            if _is_alive(left[0]):
                steps -= 1
            left = self._left(test)
        return left

    def _left(self, test: _Test) -> list[threading.Thread]:
        starts = self._starts
        # By the record first: a thread that is being torn down has left enumerate().
        threads = [start.thread() for start in list(starts.values()) if start.test is test]
        others = threading.enumerate()
        threads += [thread for thread in others if id(thread) not in starts and thread.ident not in test.older]
        alive = [thread for thread in threads if thread is not None and _is_alive(thread)]
        frames = sys._current_frames() if alive else {}
        return [thread for thread in alive if not _is_allowed(thread, test, frames.get(thread.ident or 0))]

    def _share(self, test: _Test) -> None:
        """Take it that the idle workers which the test leaves to a loop will work for the tests that come."""
        mine = [(key, start) for key, start in list(self._starts.items()) if start.test is test]
        frames = sys._current_frames() if mine else {}
        for key, start in mine:
            thread = start.thread()
            if thread is not None and _is_waiting(thread, frames.get(thread.ident or 0)):
                self._starts[key] = start._replace(test=_ANY)

    def _describe(self, threads: list[threading.Thread]) -> Iterable[str]:
        """A paragraph about each thread; or one about several, where it would be the same: the workers of a pool."""
        frames = sys._current_frames()
        names: dict[tuple[str, ...], list[str]] = {}
        for thread in threads:
            start = self._starts.get(id(thread))
            frame = frames.get(thread.ident or 0)
            rows = [("target", start.target if start else _target(thread), "")]
            if start is not None:
                rows.append(("started", *self._show(start.line)))
            if frame is not None:
                rows.append(("now at", *self._show(_line(frame, {"threading", "queue", "threadhooks"}))))
            width = max([len(place) for _, place, text in rows if text], default=0)
            lines = (f"    {label:7}  {place:{width}}  {text}".rstrip() for label, place, text in rows)
            names.setdefault(("daemon" if thread.daemon else "", *lines), []).append(_name(thread))
        for (daemon, *told), alike in names.items():
            kind = f" ({daemon}{'s' if len(alike) > 1 else ''})" if daemon else ""
            yield "\n".join([f"  {_several(alike)}{kind}", *told])

    def _show(self, line: tuple[str, int]) -> tuple[str, str]:
        return f"{_short(line[0], self._folder)}:{line[1]}", linecache.getline(*line).strip()

    # Failing hooks

    def _start_listening(self) -> None:
        # In each phase anew: until 8.4, pytest itself replaced the hook in each.
        if threading.excepthook is not self._listener:
            self._listener_before = threading.excepthook
            threading.excepthook = self._listener

    def _stop_listening(self) -> None:
        if threading.excepthook is self._listener:
            threading.excepthook = self._listener_before

    def _listen(self, args: threading.ExceptHookArgs) -> None:
        test, error, trace = self._test, args.exc_value, args.exc_traceback
        # What a hook raised was caught by us, what the body of a thread raised by `threading`.
        ours = trace is not None and _package(trace.tb_frame) == "threadhooks"
        if test is None or test.mode == "off" or not ours or error is None:
            self._listener_before(args)
            return
        if isinstance(error, SystemExit):  # a thread may end so, a hook as well
            return
        # The text is made at once, so that the exception is not kept, nor the frames with it.
        lines = traceback.format_exception(error)
        if sys.version_info < (3, 11):  # notes are not printed
            lines += [f"{note}\n" for note in getattr(error, "__notes__", ())]
        thread = "" if args.thread is None else f"  in {_name(args.thread)}\n"
        short = traceback.format_exception_only(type(error), error)[0].strip()
        test.failures.append((short, thread + "".join(f"  {line}\n" for line in "".join(lines).splitlines())))


def thread_leaks(
    mode: str | None = None, *, allow: str | Iterable[str] = (), allow_daemons: bool = False
) -> tuple[str | None, list[re.Pattern[str]], bool]:
    """The arguments of the marker of this name, checked."""
    if mode not in (None, "error", "warn", "off"):
        raise ValueError(f"the mode must be 'error', 'warn' or 'off', not {mode!r}")
    patterns = [allow] if isinstance(allow, str) else allow
    return mode, [re.compile(pattern) for pattern in patterns], allow_daemons


# Who waits in which function for work may stay: it is a worker of an event loop or of a cache of threads, which ends
# it. (While it is at work it may not.)
_WAITING = {
    ("concurrent.futures.thread", "_worker"): re.compile(r"asyncio_\d+"),
    ("trio._core._thread_cache", "_work"): re.compile("Trio thread"),
    ("queue", "get"): re.compile("AnyIO worker thread"),
}
# Tools that start one thread for the whole process when they are first used.
_TOOLS = {"IPython", "_pydevd_bundle", "debugpy", "pydevd", "tqdm"}


def _is_allowed(thread: threading.Thread, test: _Test, frame: FrameType | None) -> bool:
    name = _name(thread)
    if any(pattern.match(name) for pattern in test.allow) or (test.allow_daemons and thread.daemon):
        return True
    return type(thread).__module__.partition(".")[0] in _TOOLS or _is_waiting(thread, frame)


def _is_waiting(thread: threading.Thread, frame: FrameType | None) -> bool:
    while frame is not None and frame.f_globals.get("__name__") == "threading":
        frame = frame.f_back
    if frame is None:
        return False
    waiting = _WAITING.get((frame.f_globals.get("__name__", ""), frame.f_code.co_name))
    return waiting is not None and waiting.match(_name(thread)) is not None


def _idents() -> set[int]:
    """Those of all live threads, whether `threading` knows them or not. (A new thread may get that of a dead one.)"""
    return {*sys._current_frames(), *(thread.ident or 0 for thread in threading.enumerate() if _is_alive(thread))}


def _is_alive(thread: threading.Thread) -> bool:
    # `threading` does not know when a thread ends that it has not started, and up to 3.12 lists it for ever.
    if isinstance(thread, threading._DummyThread):
        return thread.ident in sys._current_frames()
    return threading.Thread.is_alive(thread)


def _name(thread: threading.Thread) -> str:
    try:
        return str(thread.name)
    except Exception:  # noqa: BLE001 - a property of its class
        return object.__repr__(thread)


def _several(names: Iterable[str], most: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _target(thread: threading.Thread) -> str:
    """What the thread executes. Its attributes are deleted at the end of `run()`."""
    function = thread.function if isinstance(thread, threading.Timer) else getattr(thread, "_target", None)
    while isinstance(function, functools.partial):
        function = function.func
    return describe(type(thread).run if function is None else function)


def _line(frame: FrameType, skipped: set[str]) -> tuple[str, int]:
    """The file and line of the innermost frame outside some packages; or of the innermost."""
    found: FrameType | None = frame
    while found is not None and _package(found) in skipped:
        found = found.f_back
    found = found or frame
    return found.f_code.co_filename, found.f_lineno


def _short(file: str, folder: str) -> str:
    """The path as seen from where pytest was started, as pytest shows it; or else as it is imported."""
    for parent in [folder, *sorted(map(os.path.abspath, sys.path), key=len, reverse=True)]:
        if file.startswith(os.path.join(parent, "")):
            return os.path.relpath(file, parent)
    return file


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
