"""Other tools that wrap what `install` wraps, before it or after it: both work, and nobody runs in another's place."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from announcing import KINDS, LIFE, Body, Events, OverridesRun, lives, note, refusing
from support import in_thread, run

from threadhooks import Plugin, install, installed, uninstall

pytestmark = pytest.mark.usefixtures("nothing_installed")


class Tool:
    """A tool that wraps methods of `threading.Thread` for itself, and notes the threads that run in its wrapper."""

    def __init__(self, events: Events) -> None:
        self.events = events
        self.active = False

    def note(self) -> None:
        if self.active:
            self.events.append(("tool", threading.current_thread()))

    def install(self) -> None:
        self.active = True
        self.found = threading.Thread.start, threading.Thread.run
        self.wrap(*self.found)
        self.made = threading.Thread.start, threading.Thread.run

    def wrap(self, start: Any, run: Any) -> None:
        raise NotImplementedError

    def uninstall(self) -> None:
        """Put back what was found, if nobody has come since; otherwise only cease."""
        self.active = False
        for name, found, made in zip(("start", "run"), self.found, self.made, strict=True):
            if getattr(threading.Thread, name) is made:
                setattr(threading.Thread, name, found)


def begin(tool: Tool, ours_first: bool) -> None:
    """Install both."""
    for step in (install, tool.install) if ours_first else (tool.install, install):
        step()


class WrapsRunOfTheInstance(Tool):
    """In `start`, it replaces the `run` of the thread, with a function that calls what it found there."""

    def wrap(self, start: Any, run: Any) -> None:
        @functools.wraps(start)
        def tool_start(thread: threading.Thread, *args: Any, **kwargs: Any) -> Any:
            found = thread.run

            def tool_run(*args: Any, **kwargs: Any) -> Any:
                self.note()
                return found(*args, **kwargs)

            thread.run = tool_run  # type: ignore[method-assign]
            return start(thread, *args, **kwargs)

        threading.Thread.start = tool_start  # type: ignore[method-assign]


class WrapsTheFunctionOfTheInstance(Tool):
    """As sentry-sdk: it takes the function out of a bound method, and calls it with the thread."""

    def wrap(self, start: Any, run: Any) -> None:
        @functools.wraps(start)
        def tool_start(thread: threading.Thread, *args: Any, **kwargs: Any) -> Any:
            found: Any = getattr(thread.run, "__func__", thread.run)

            @functools.wraps(found)
            def tool_run(*args: Any, **kwargs: Any) -> Any:
                self.note()
                return found(threading.current_thread(), *args[1:], **kwargs)

            thread.run = tool_run  # type: ignore[method-assign]
            return start(thread, *args, **kwargs)

        threading.Thread.start = tool_start  # type: ignore[method-assign]


class HidesWhatItWraps(Tool):
    """It replaces `run` of the instance, and does not say what it has wrapped: it has no ``__wrapped__``."""

    def wrap(self, start: Any, run: Any) -> None:
        def tool_start(thread: threading.Thread) -> None:
            found = thread.run

            def tool_run() -> None:
                self.note()
                found()

            thread.run = tool_run  # type: ignore[method-assign]
            start(thread)

        threading.Thread.start = tool_start  # type: ignore[method-assign]


class WrapsBothMethods(Tool):
    """As OpenTelemetry: wrappers of both methods of the class; `start` leaves something on the thread for `run`."""

    def wrap(self, start: Any, run: Any) -> None:
        @functools.wraps(start)
        def tool_start(thread: threading.Thread, *args: Any, **kwargs: Any) -> Any:
            thread._of_a_tool = True  # type: ignore[attr-defined]
            return start(thread, *args, **kwargs)

        @functools.wraps(run)
        def tool_run(thread: threading.Thread, *args: Any, **kwargs: Any) -> Any:
            if vars(thread).get("_of_a_tool"):
                self.note()
            return run(thread, *args, **kwargs)

        threading.Thread.start = tool_start  # type: ignore[method-assign]
        threading.Thread.run = tool_run  # type: ignore[method-assign]


TOOLS = [WrapsRunOfTheInstance, WrapsTheFunctionOfTheInstance, HidesWhatItWraps, WrapsBothMethods]

tools = pytest.mark.parametrize("kind", TOOLS, ids=lambda kind: kind.__name__)
we_come_first = pytest.mark.parametrize("ours_first", [True, False], ids=["we come first", "the other comes first"])

COMMON = ["plain", "timer", "overrides run", "overrides both", "run set on the instance"]
RARE = ["run is a static method", "run is a partial method"]  # to which such a tool as sentry-sdk passes the thread
CASES = [(kind, name) for kind in TOOLS for name in COMMON + RARE * (kind is not WrapsTheFunctionOfTheInstance)]


def what_happens(events: Events, start: Callable[[Body], object] = in_thread) -> tuple[list[str], int]:
    """What a thread tells of itself, and how often the tool notes it."""
    events.clear()
    start(note(events))
    return [what for what, thread in events if what != "tool"], [what for what, thread in events].count("tool")


@pytest.mark.parametrize(("kind", "start"), CASES, ids=lambda case: getattr(case, "__name__", case))
@we_come_first
def test_another_tool(kind: type[Tool], ours_first: bool, start: str, events: Events, no_report: None) -> None:
    """Beside another tool each thread announces itself once, and the tool does what it does without us."""
    tool = kind(events)
    tool.install()
    alone = what_happens(events, KINDS[start])
    tool.uninstall()
    begin(tool, ours_first)
    assert what_happens(events, KINDS[start]) == (LIFE, alone[1])


@tools
@we_come_first
@pytest.mark.parametrize("ours_ends_first", [True, False], ids=["we go first", "the tool goes first"])
def test_another_tool_is_uninstalled(kind: type[Tool], ours_first: bool, ours_ends_first: bool, events: Events) -> None:
    """In whichever order the two are uninstalled, the one that stays does its work; and we can come back."""
    tool = kind(events)
    begin(tool, ours_first)
    steps = [(uninstall, (["run"], 1)), (tool.uninstall, (LIFE, 0))]  # with what happens where that step comes first
    (step, expected), (last, _) = steps if ours_ends_first else steps[::-1]
    step()
    assert what_happens(events) == expected
    last()
    assert what_happens(events) == (["run"], 0)
    install()
    assert what_happens(events) == (LIFE, 0)


@tools
def test_a_tool_before_us_and_a_tool_after_us(kind: type[Tool], events: Events) -> None:
    """Between two other tools, threads announce themselves once as well, and both tools do their work."""
    for other in TOOLS:
        before, after = kind(events), other(events)
        for step in (before.install, install, after.install):
            step()
        assert what_happens(events) == (LIFE, 2), other
        for step in (uninstall, after.uninstall, before.uninstall):
            step()
        uninstall()
        assert what_happens(events) == (["run"], 0), other


@tools
def test_installing_again_above_another_tool(kind: type[Tool], events: Events) -> None:
    """If `install` is called anew when another tool has come in between, it is still once."""
    install()
    tool = kind(events)
    tool.install()
    install()
    with installed():
        assert what_happens(events) == (LIFE, 1)
    if kind is not HidesWhatItWraps:  # the tool finds its own wrapper there
        assert threading.Thread.start is tool.made[0]
    uninstall()
    assert what_happens(events) == (["run"], 1)
    install()
    assert what_happens(events) == (LIFE, 1)


def test_a_tool_that_removes_us(events: Events) -> None:
    """When a tool puts back the `start` from before us, `install` brings us back, and `uninstall` does not touch it."""
    original = threading.Thread.start
    install()
    threading.Thread.start = original  # type: ignore[method-assign]
    assert what_happens(events) == (["run"], 0)
    install()
    assert what_happens(events) == (LIFE, 0)
    threading.Thread.start = original  # type: ignore[method-assign]
    uninstall()
    assert threading.Thread.start is original


def test_a_tool_that_initialises_threads(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beneath us, a tool may call `__init__` for the classes that have forgotten it: their threads tell, too."""
    start = threading.Thread.start

    def tool_start(thread: threading.Thread) -> None:
        threading.Thread.__init__(thread, target=note(events))
        start(thread)

    class Forgets(threading.Thread):
        def __init__(self) -> None:
            pass

    monkeypatch.setattr(threading.Thread, "start", tool_start)
    with installed():
        thread = run(Forgets())
    assert lives(events) == {thread: LIFE}


def test_a_mocked_run(events: Events) -> None:
    """A data descriptor that somebody has put in the place of `Thread.run` is not handed anything of ours."""
    body = note(events)
    with (
        mock.patch.object(threading.Thread, "run", new_callable=mock.PropertyMock, return_value=body) as mocked,
        installed(),
    ):
        thread = in_thread(print)
    assert events == [("run", thread)]
    assert mocked.mock_calls == [mock.call()]


def test_a_tool_that_has_wrapped_what_a_subclass_inherits(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool that has put a wrapper of `Thread.start` on `Timer` before us, as OpenTelemetry does, hides no timer."""
    original = threading.Thread.start

    @functools.wraps(original)
    def start(self: threading.Thread) -> None:
        events.append(("tool", self))
        original(self)

    monkeypatch.setattr(threading.Timer, "start", start, raising=False)
    install()
    assert what_happens(events, KINDS["timer"]) == (LIFE, 1)
    uninstall()
    assert what_happens(events, KINDS["timer"]) == (["run"], 1)


@tools
@we_come_first
def test_a_thread_that_cannot_be_started_under_a_tool(kind: type[Tool], ours_first: bool, events: Events) -> None:
    """If it can't be started, nothing of ours stays between the tools: it can be started later, and tells once.

    After `uninstall`, what a tool has kept of the start that failed announces nobody.
    """
    tool = kind(events)
    begin(tool, ours_first)
    threads = [threading.Thread(target=note(events)) for _ in range(2)]
    for thread in threads:
        with refusing(), pytest.raises(RuntimeError):
            thread.start()
    assert what_happens(events, lambda body: run(threads[0]))[0] == LIFE
    uninstall()
    assert what_happens(events, lambda body: run(threads[1]))[0] == ["run"]


# run() by whoever calls it


# A tool like sentry-sdk, above us, calls the method of the class with whichever thread is the current one, by itself.
AGAIN = [(kind, ours_first) for kind in TOOLS for ours_first in (True, False)]
AGAIN.remove((WrapsTheFunctionOfTheInstance, True))


@pytest.mark.parametrize(("kind", "ours_first"), AGAIN, ids=lambda case: getattr(case, "__name__", case))
def test_run_is_called_again(kind: type[Tool], ours_first: bool, events: Events, plugin: Plugin) -> None:
    """`run()` of a thread that has ended, called from another one, runs its body there, and announces nobody.

    The early cleanups of the thread that calls it are not run.
    """
    begin(kind(events), ours_first)
    plugin.register_early(note(events, "early cleanup of the main thread"))
    thread = run(OverridesRun(note(events)))
    thread.run()
    told = [event for event in events if event[0] != "tool"]
    assert told == [*[(what, thread) for what in LIFE], ("run", threading.main_thread())]
    plugin.close()


@tools
def test_run_of_the_current_thread(kind: type[Tool], events: Events) -> None:
    """A thread that calls its own `run()` again, within it or after it, announces itself once."""

    class Twice(threading.Thread):
        calls = 0

        def run(self) -> None:
            note(events)()
            self.calls += 1
            if self.calls < 3:
                self.run()

    tool = kind(events)
    tool.install()
    with installed():
        thread = run(Twice())
    assert [what for what, _ in events if what != "tool"] == ["thread_started", "run", "run", "run", *LIFE[2:]]
    assert {about for _, about in events} == {thread}


def test_a_tool_that_calls_run_twice(events: Events) -> None:
    """A wrapper that calls what it has wrapped twice makes a thread run twice, but not begin twice."""
    start = threading.Thread.start

    def starts(thread: threading.Thread) -> None:
        kept = thread.run
        thread.run = lambda: [kept(), kept()]  # type: ignore[method-assign, assignment]
        start(thread)

    threading.Thread.start = starts  # type: ignore[method-assign]
    with installed():
        run(OverridesRun(note(events)))
    assert [what for what, _ in events] == [*LIFE[:3], "run", "thread_exited"]


def test_run_that_outlives_its_thread() -> None:
    """What a tool has kept of a thread object that is gone says so."""
    kept: list[Any] = []
    threading.Thread.start = lambda self: kept.append(self.run)  # type: ignore[method-assign, assignment, return-value]
    with installed():
        threading.Thread().start()
    with pytest.raises(ReferenceError, match="is gone"):
        kept[0]()


# Test doubles


def synchronous(self: threading.Thread) -> None:
    self.run()


@we_come_first
def test_a_synchronous_start(ours_first: bool, events: Events, plugin: Plugin) -> None:
    """Where `start` only calls `run()`, the target runs, as often as threads are started, and nobody is announced."""
    if ours_first:
        install()
    plugin.register_early(note(events, "early cleanup of the main thread"))
    with mock.patch.object(threading.Thread, "start", synchronous):
        install()
        threads = [threading.Thread(target=note(events)) for _ in range(2)]
        for thread in threads:
            thread.start()
    assert events == [("run", threading.main_thread())] * 2
    assert not any("run" in vars(thread) for thread in threads)
    plugin.close()


@we_come_first
@pytest.mark.parametrize("autospec", [False, True])
def test_a_mocked_start(ours_first: bool, autospec: bool, events: Events) -> None:
    """A mock in the place of `start` is called as without us, and says so; when it is gone, threads tell again."""
    if ours_first:
        install()
    with mock.patch.object(threading.Thread, "start", autospec=autospec) as double:
        install()
        thread = threading.Thread(target=note(events))
        thread.start()
        double.assert_called_once_with(*[thread] * autospec)
        threading.Thread.start.assert_called_once_with(*[thread] * autospec)  # type: ignore[attr-defined]
    assert events == []
    install()
    thread = in_thread(note(events))
    assert lives(events) == {thread: LIFE}


def test_patches_that_come_and_go_pile_up_nothing() -> None:
    """However often `start` is patched while we are installed, and we within that patch, one `uninstall` undoes it."""
    original = threading.Thread.start
    for _ in range(3):
        install()
        with mock.patch.object(threading.Thread, "start", synchronous):
            install()
        uninstall()
        assert threading.Thread.start is original
