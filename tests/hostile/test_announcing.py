"""Threads that fight their announcement, and starts, blocks and forks of the package at the worst moment."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from announcing import LIFE, SIGNALS, Body, Events, listen, lives, note
from at_line import AtLine
from support import LONG, in_thread, run

import threadhooks
from threadhooks import Plugin, announced, installed
from threadhooks._attached import announcing


@pytest.fixture
def events(plugin: Plugin) -> Events:
    return listen(plugin)


@contextmanager
def switching_often() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


# Threads that fail when they are asked


def raises(self: object, *_: object) -> Any:
    raise ZeroDivisionError


class NotText:
    def __str__(self) -> str:
        raise ZeroDivisionError


def raises_for_us(self: threading.Thread) -> bool:
    """Where `threading` itself asks, it has to have an answer."""
    return False if sys._getframe(1).f_globals["__name__"] == "threading" else raises(self)


STRANGE: dict[str, dict[str, Any]] = {
    "name": {"name": property(raises, lambda self, value: None)},
    "name, which is no text": {"name": property(lambda self: NotText(), lambda self, value: None)},
    "name and repr": {"name": property(raises, lambda self, value: None), "__repr__": raises},
    "daemon": {"daemon": property(raises_for_us, lambda self, value: None)},
}
HARMLESS = {"ident": {"ident": property(raises)}, "repr": {"__repr__": raises}, "hash": {"__eq__": raises}}


@pytest.mark.parametrize("namespace", STRANGE.values(), ids=STRANGE)
@pytest.mark.parametrize("way", ["installed", "announced", "attached"])
def test_a_thread_whose_attributes_raise(namespace: Any, way: str, events: Events, reports: list[Any]) -> None:
    """It has a record, which says what can be said; all its signals are sent; what it raised is reported once."""
    infos: list[threadhooks.ThreadInfo] = []

    def body() -> None:
        infos.append(threadhooks.attach())
        note(events)()

    def announcing() -> None:
        with announced():
            body()

    thread = type("Strange", (threading.Thread,), dict(namespace))(target=announcing if way == "announced" else body)
    with installed() if way == "installed" else ExitStack():
        run(thread)
    assert lives(events) == {thread: LIFE if way != "attached" else ["run", "thread_exited"]}
    assert [report.exc_type for report in reports] == [ZeroDivisionError]
    [info] = infos
    assert info.name == f"Strange-{info.ident}"
    assert info.daemon is False


@pytest.mark.parametrize("namespace", HARMLESS.values(), ids=HARMLESS)
def test_what_nobody_has_to_ask_for(namespace: Any, events: Events, reports: list[Any]) -> None:
    """A thread may fail when it is asked for something that its record does not need: nothing of that is noticed."""
    thread = type("Strange", (threading.Thread,), {"__hash__": object.__hash__, **namespace})(target=note(events))
    with installed():
        run(thread)
    assert [what for what, _ in events] == LIFE
    assert reports == []


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_a_thread_that_can_not_be_announced(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch, plugin: Plugin, reports: Any
) -> None:
    """What fails before `run()` is reported, and `run()` is called; but an exit is an exit. Nothing stays behind."""
    ran: list[int] = []

    def fail() -> None:
        raise error

    plugin.thread_started(lambda thread, **extra: None)
    monkeypatch.setattr("threadhooks.announce.current", fail)
    with installed():
        in_thread(lambda: ran.append(1))
    assert ran == ([1] if error is RuntimeError else [])
    assert [report.exc_type for report in reports] == [error]
    assert announcing == {}


# At the same time


def test_a_thread_that_is_started_twice_at_once(events: Events) -> None:
    """Starting it again while it is about to begin disturbs it neither: it runs, and announces itself, once."""
    with switching_often(), installed():
        threads = [threading.Thread(target=note(events)) for _ in range(300)]
        for thread in threads:
            thread.start()
            for _ in range(5):
                with pytest.raises(RuntimeError, match="threads can only be started once"):
                    thread.start()
            thread.join(LONG)
    assert lives(events) == dict.fromkeys(threads, LIFE)
    assert [thread for thread in threads if "run" in vars(thread)] == []


def test_blocks_of_many_threads(events: Events) -> None:
    """In a block of `installed`, threads announce themselves, also while other threads enter and leave their blocks."""
    original = threading.Thread.start
    done = threading.Event()

    def enter_and_leave() -> None:
        while not done.is_set():
            with installed():
                pass

    def is_announced() -> bool:
        with installed():
            thread = in_thread(int)
        return lives(events).get(thread) == SIGNALS

    others = [threading.Thread(target=enter_and_leave) for _ in range(2)]
    results = []
    with switching_often():
        try:
            for thread in others:
                thread.start()
            deadline = time.monotonic() + 0.2
            while time.monotonic() < deadline:
                results.append(is_announced())
        finally:
            done.set()
            for thread in others:
                thread.join(LONG)
    assert results.count(False) == 0
    assert threading.Thread.start is original


class PausedAt(threading.Thread):
    """Executes `body`, and waits before it executes the line of threadhooks with that number, until `resume` is set."""

    def __init__(self, number: int, body: Body) -> None:
        super().__init__()
        self.body = body
        self.line = AtLine(number, self.pause)
        self.paused, self.resume = threading.Event(), threading.Event()

    def run(self) -> None:
        try:
            self.line.run(self.body)
        finally:
            self.paused.set()

    def pause(self) -> None:
        self.paused.set()
        assert self.resume.wait(LONG)


@pytest.mark.parametrize("other", ["enters", "leaves"])
def test_blocks_of_two_threads_step_by_step(other: str, events: Events) -> None:
    """Wherever another thread stops as it enters or leaves its block, ours is in force; in the end nothing is left."""
    original = threading.Thread.start
    for number in itertools.count():
        mine, theirs = ExitStack(), ExitStack()
        if other == "leaves":
            theirs.enter_context(installed())
        change: Callable[[], object] = theirs.close
        if other == "enters":
            change = lambda theirs=theirs: theirs.enter_context(installed())  # noqa: E731
        thread = PausedAt(number, change)
        thread.start()
        assert thread.paused.wait(LONG)
        entered: list[threading.Thread] = []

        def enter(mine: ExitStack = mine, entered: list[threading.Thread] = entered) -> None:
            mine.enter_context(installed())
            entered.append(in_thread(int))

        entering = threading.Thread(target=enter)
        entering.start()
        entering.join(0.02)  # it may have to wait for the other one
        thread.resume.set()
        thread.join(LONG)
        entering.join(LONG)
        entered.append(in_thread(int))
        mine.close()
        theirs.close()
        assert [lives(events).get(thread) for thread in entered] == [SIGNALS] * 2, number
        assert threading.Thread.start is original, number
        if not thread.line.reached:
            assert number > 1
            break


def test_run_that_another_thread_calls_step_by_step(events: Events) -> None:
    """Wherever a thread is, who else calls its `run()` just then runs its body, and takes no signal from it."""
    for number in itertools.count():
        thread = threading.Thread()
        thread.run = body = note(events)  # type: ignore[method-assign, assignment]
        go, done = threading.Event(), threading.Event()

        def calls(thread: threading.Thread = thread, go: Any = go, done: Any = done) -> None:
            assert go.wait(LONG)
            thread.run()
            done.set()

        def interrupt(go: Any = go, done: Any = done) -> None:
            go.set()
            assert done.wait(LONG)

        other = threading.Thread(target=calls)
        other.start()
        line = AtLine(number, interrupt)
        events.clear()
        with installed():
            line.start(thread)
            thread.join(LONG)
        go.set()
        other.join(LONG)
        assert [what for what, about in events if about is thread and what != "run"] == SIGNALS, number
        assert [what for what, _ in events].count("run") == 2, number
        assert vars(thread)["run"] is body
        if not line.reached:
            break


# Blocks that do not end where they began


def test_announced_that_is_left_open(plugin: Plugin, events: Events, reports: Any) -> None:
    """A block that its thread never ends marks no later thread of the same ident, and to end it touches none."""
    left = ExitStack()
    first = in_thread(lambda: left.enter_context(announced()))
    assert not announcing
    told: list[BaseException | None] = []
    plugin.thread_exited(lambda thread, exception, **extra: told.append(exception))
    caught: list[BaseException] = []
    raised = SystemExit()

    def body() -> None:
        try:
            left.close()
        except RuntimeError as error:
            caught.append(error)
        with announced():  # does nothing, as long as this thread announces itself
            pass
        raise raised

    with installed():
        second = in_thread(body)
    assert str(caught[0]).startswith(f"the announced() block of {first!r} ends in another thread")
    assert lives(events) == {first: [SIGNALS[0], SIGNALS[2]], second: SIGNALS}
    assert told == [raised]


@pytest.mark.parametrize("before", [True, False], ids=["before ours", "after ours"])
def test_announced_that_ends_with_a_thread_local(
    before: bool, events: Events, reports: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block that another thread-local's destruction ends is too late: it raises, and no dummy is announced."""
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: unraisable.append(str(args.exc_value)))
    local = threading.local()

    def body() -> None:
        if not before:
            threadhooks.attach()
        local.block = ExitStack()
        local.block.enter_context(announced())

    thread = in_thread(body)
    assert lives(events) == {thread: [SIGNALS[0], SIGNALS[2]]}
    assert ["after that thread has ended" in said for said in unraisable] == [True]
    assert threading.enumerate() == [threading.main_thread()]
    assert reports == []
