"""The pytest plugin: a test that leaves a thread behind fails, and so does one during which a hook fails.

Guarantees:

- The test that started a thread is blamed, whichever test runs when it is noticed; also for the threads that its
  threads started.
- What a fixture of wider scope than a test starts as it is set up, and what those threads start, may stay.
- A thread that is busy with its cleanups has not ended.
- No thread, frame or exception is kept alive by this.

Assumptions:

- One test runs at a time in a process.

What it does not promise:

- A thread that `threading` did not start, or under a `Thread.start` that goes past ours, is blamed on the test during
  which it appeared.
"""

from __future__ import annotations

import math
import re
import sys
import threading
import traceback
import weakref
from collections.abc import Generator, Iterable
from threading import current_thread, get_ident
from time import sleep
from typing import Any, NamedTuple

import pytest

from ._threads import ident_of
from ._whereabouts import Line, Step, is_alive, line_of, name_of, outwards, stacks, target_of, thread_idents
from .announce import before_start, installed


class ThreadLeakWarning(pytest.PytestWarning):
    """A test has left threads behind, or a hook has failed during it, under ``--thread-leaks=warn``."""


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
    line: Line


_ANY = _Test("off", [], False, set())  # whose is the worker of a loop: it works for one test after the other

# Before 8.4, pytest replaces our hook by its own in each phase of a test. Later versions leave alone what is
# there, and so do we: a fixture that puts one there wants to see what fails, and it is the test's to judge.
_REPLACES_EXCEPTHOOK = pytest.version_tuple < (8, 4)

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
        self._test: _Test | None = None  # the one that runs
        self._owner: _Test | None = None  # whose is what that thread starts: the test's, or nobody's
        self._starts: dict[int, _Start] = {}  # of all threads that are alive, by id()
        self._listener = self._listen  # one object, which is recognised
        self._listener_before = threading.excepthook

    # Who owns a thread?

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
        test = self._owner
        if get_ident() != self._ident:
            starter = self._starts.get(id(current_thread()))
            if starter is not None:
                test = test if starter.test is _ANY else starter.test
            elif test is not None and get_ident() in test.older:
                test = None
        key, starts = id(thread), self._starts
        reference = weakref.ref(thread, lambda _: starts.pop(key, None))
        line = line_of(outwards(sys._getframe(1)), {"threading", "concurrent", "asyncio", "threadhooks"})
        starts[key] = _Start(reference, test, target_of(thread), line)

    # The wrappers are innermost (trylast): what other plugins start around a test, a timer for instance, is older.

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """A test begins; or begins again, if it is run more than once."""
        __tracebackhide__ = True
        self._ident = get_ident()
        self._test = self._owner = None
        marked = self._marked + [
            thread_leaks(*m.args, **m.kwargs) for m in reversed(list(item.iter_markers("thread_leaks")))
        ]
        modes = [mode for mode, _, _ in marked if mode is not None]
        allow = [pattern for _, patterns, _ in marked for pattern in patterns]
        allow_daemons = self._allow_daemons or any(daemons for _, _, daemons in marked)
        self._test = self._owner = _Test(modes[-1], allow, allow_daemons, thread_idents())
        self._start_listening()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
        """What a fixture of wider scope starts belongs to no test."""
        __tracebackhide__ = True
        if fixturedef.scope == "function":
            return (yield)
        owner, self._owner = self._owner, None
        try:
            return (yield)
        finally:
            self._owner = owner
            if owner is not None:
                owner.older |= thread_idents()
            self._share(None)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self) -> Generator[None, Any, Any]:
        """The body of the test."""
        __tracebackhide__ = True
        if _REPLACES_EXCEPTHOOK:
            self._start_listening()
        return (yield)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """A test has ended with the teardown of its fixtures: what is still there is a leak."""
        if _REPLACES_EXCEPTHOOK:
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
            self._share(None)  # those that were still at work for the fixture when its setup ended
            self._test = None  # what fails from now on goes where it would go without us
            failures = list(test.failures)
            heads = []
            if left:
                threads = "a thread" if len(left) == 1 else f"{len(left)} threads"
                heads.append(f"left {threads} behind: {_several(map(name_of, left))}")
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
            self._test = self._owner = None
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
            if is_alive(left[0]):
                steps -= 1
            left = self._left(test)
        return left

    def _left(self, test: _Test) -> list[threading.Thread]:
        starts = self._starts
        # By the record first: a thread that is being torn down has left enumerate(). And again, if none of these is
        # alive: the last thing that a thread did may have been to start another one.
        threads: list[threading.Thread | None] = []
        while not any(thread is not None and is_alive(thread) for thread in threads):
            known = len(threads)
            threads = [start.thread() for start in list(starts.values()) if start.test is test]
            if len(threads) <= known:
                break
        others = threading.enumerate()
        threads += [thread for thread in others if id(thread) not in starts and ident_of(thread) not in test.older]
        alive = [thread for thread in threads if thread is not None and is_alive(thread)]
        steps = stacks({ident_of(thread) for thread in alive})
        return [thread for thread in alive if not _is_allowed(thread, test, steps.get(ident_of(thread) or 0, []))]

    def _share(self, test: _Test | None) -> None:
        """The idle workers that a test or a fixture leaves to a loop will work for the tests that follow: note it."""
        mine = [(key, start, start.thread()) for key, start in list(self._starts.items()) if start.test is test]
        steps = stacks({ident_of(thread) for _, _, thread in mine if thread is not None})
        for key, start, thread in mine:
            if thread is not None and _is_waiting(thread, steps.get(ident_of(thread) or 0, [])):
                self._starts[key] = start._replace(test=_ANY)

    def _describe(self, threads: list[threading.Thread]) -> Iterable[str]:
        """A paragraph about each thread; or one about several, where it would be the same: the workers of a pool."""
        steps = stacks({ident_of(thread) for thread in threads})
        alike: dict[tuple[str, ...], list[str]] = {}
        for thread in threads:
            start = self._starts.get(id(thread))
            executed = steps.get(ident_of(thread) or 0)
            lines = {}
            if start is not None:
                lines["started"] = start.line
            if executed:
                lines["now at"] = line_of(executed, {"threading", "queue", "threadhooks"})
            places = {label: line.place(self._folder) for label, line in lines.items()}
            width = max(map(len, places.values()), default=0)
            rows = [f"    target   {start.target if start else target_of(thread)}"]
            rows += [f"    {label:7}  {places[label]:{width}}  {line.text()}".rstrip() for label, line in lines.items()]
            kind = "daemon" if thread.daemon else ""
            alike.setdefault((kind, *rows), []).append(name_of(thread))
        for (kind, *rows), names in alike.items():
            said = f" ({kind}{'s' if len(names) > 1 else ''})" if kind else ""
            yield "\n".join([f"  {_several(names)}{said}", *rows])

    # Failing hooks

    def _start_listening(self) -> None:
        if threading.excepthook is not self._listener:
            self._listener_before = threading.excepthook
            threading.excepthook = self._listener

    def _stop_listening(self) -> None:
        if threading.excepthook is self._listener:
            threading.excepthook = self._listener_before

    def _listen(self, args: threading.ExceptHookArgs) -> None:
        test, error, trace = self._test, args.exc_value, args.exc_traceback
        # What a hook raised was caught by us, what the body of a thread raised by `threading`.
        ours = trace is not None and next(outwards(trace.tb_frame)).package == "threadhooks"
        if test is None or test.mode == "off" or not ours or error is None:
            self._listener_before(args)
            return
        if isinstance(error, SystemExit):  # a thread may end so, a hook as well
            return
        # The text is made at once, so that the exception is not kept, nor the frames with it.
        lines = traceback.format_exception(error)
        if sys.version_info < (3, 11):  # notes are not printed
            lines += [f"{note}\n" for note in getattr(error, "__notes__", ())]
        thread = "" if args.thread is None else f"  in {name_of(args.thread)}\n"
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


def _is_allowed(thread: threading.Thread, test: _Test, steps: list[Step]) -> bool:
    name = name_of(thread)
    if any(pattern.match(name) for pattern in test.allow) or (test.allow_daemons and thread.daemon):
        return True
    return type(thread).__module__.partition(".")[0] in _TOOLS or _is_waiting(thread, steps)


def _is_waiting(thread: threading.Thread, steps: list[Step]) -> bool:
    step = next((step for step in steps if step.module != "threading"), None)
    if step is None:
        return False
    waiting = _WAITING.get((step.module, step.function.rpartition(".")[2]))
    return waiting is not None and waiting.match(name_of(thread)) is not None


def _several(names: Iterable[str], most: int = 5) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
