"""`Thread.start` under `install`: what it leaves on the thread object, and what happens when it fails."""

from __future__ import annotations

import functools
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from announcing import (
    KINDS,
    LIFE,
    MADE,
    SIGNALS,
    Body,
    Events,
    WrapsItsRun,
    crash,
    fail,
    lives,
    no_threads,
    note,
    refusing,
    with_run_attribute,
)
from support import LONG, in_thread, run

from threadhooks import Plugin, installed
from threadhooks.announce import before_start

pytestmark = pytest.mark.usefixtures("nothing_installed")

made = pytest.mark.parametrize("make", MADE.values(), ids=MADE)


def attributes(thread: threading.Thread) -> dict[str, type]:
    return {name: type(value) for name, value in vars(thread).items()}


@made
def test_no_trace_on_the_thread(make: Callable[[Body], threading.Thread], plugin: Plugin) -> None:
    """In `run()`, in the receivers, and after it, a thread object has the attributes of a bare one."""

    def traces() -> list[dict[str, type]]:
        seen.clear()
        thread = make(lambda: seen.append(attributes(threading.current_thread())))
        seen.append(attributes(thread))
        run(thread)
        return [*seen, attributes(thread)]

    seen: list[dict[str, type]] = []
    told: list[bool] = []
    bare = traces()
    for signal in SIGNALS:
        getattr(plugin, signal)(lambda thread, **extra: told.append("run" in vars(thread)))
    with installed():
        assert traces() == bare
    assert told == [make is WrapsItsRun] * 3


@pytest.mark.parametrize("own", ["function", "bound method", "method of the class", "partial"])
def test_run_that_was_set_on_the_instance_stays(own: str) -> None:
    """The attribute `run` that somebody has set is there again as it begins, and after it."""
    seen: list[object] = []

    class Looks(threading.Thread):
        def run(self) -> None:
            seen.append(vars(self).get("run"))

    thread = Looks()
    mine: Any = {
        "function": lambda: Looks.run(thread),
        "bound method": functools.partial(Looks.run, thread).__call__,
        "method of the class": thread.run,
        "partial": functools.partial(Looks.run, thread),
    }[own]
    thread.run = mine  # type: ignore[method-assign]
    with installed():
        run(thread)
    assert seen == [mine]
    assert vars(thread).get("run") is mine


# WrapsItsRun is in a cycle by itself.
WITHOUT_CYCLE: dict[str, Callable[[Body], threading.Thread]] = {
    **{name: make for name, make in MADE.items() if make is not WrapsItsRun},
    "run set on the instance": lambda body: with_run_attribute(threading.Thread(), body),
}
without_cycle = pytest.mark.parametrize("make", WITHOUT_CYCLE.values(), ids=WITHOUT_CYCLE)


@without_cycle
@pytest.mark.parametrize("body", [int, crash], ids=["normal", "crash"])
@pytest.mark.parametrize("listens", [False, True])
def test_no_cycle(
    make: Callable[[Body], threading.Thread],
    body: Body,
    listens: bool,
    plugin: Plugin,
    no_report: None,
    no_collection: None,
) -> None:
    """A thread object dies with its last reference, without the garbage collector, be receivers connected or not."""
    for signal in SIGNALS * listens:
        getattr(plugin, signal)(lambda thread, **extra: None)
    with installed():
        thread = run(make(body))
    alive = weakref.ref(thread)
    del thread
    assert alive() is None


@without_cycle
@pytest.mark.parametrize("way", ["can't be started", "is never started"])
def test_no_cycle_in_a_thread_that_does_not_run(
    make: Callable[[Body], threading.Thread], way: str, no_collection: None
) -> None:
    """The same for a thread that can't be started, and for one whose `start` is a test double that does nothing."""
    thread = make(int)
    if way == "is never started":
        threading.Thread.start = lambda self: None  # type: ignore[method-assign, assignment]
    with installed(), no_threads(), suppress(RuntimeError):
        thread.start()
    alive = weakref.ref(thread)
    del thread
    assert alive() is None


@pytest.mark.parametrize("kind", ["plain", "overrides run", "run set on the instance"])
def test_one_frame(kind: str) -> None:
    """`run()` is called one frame deeper than in a bare thread."""

    def count() -> None:
        frame, depth = sys._getframe(), 0
        while frame.f_back is not None:
            frame, depth = frame.f_back, depth + 1
        depths.append(depth)

    depths: list[int] = []
    KINDS[kind](count)
    with installed():
        KINDS[kind](count)
    assert depths[1] == depths[0] + 1


# When a thread can't be started


@made
def test_a_thread_that_could_not_be_started(make: Callable[[Body], threading.Thread], events: Events) -> None:
    """If there can be no more threads, `start()` raises what it raises, and the thread is what a bare one is then."""

    def fails() -> tuple[list[str], str, dict[str, type]]:
        events.clear()
        thread = make(note(events))
        with no_threads(), pytest.raises(RuntimeError) as caught:
            thread.start()
        state = attributes(thread)
        with suppress(RuntimeError):  # CPython 3.13.0 takes it for started
            run(thread)
        return [what for what, _ in events], str(caught.value), state

    happened, *bare = fails()
    with installed():
        announced_too, *ours = fails()
    assert ours == bare
    assert bare[0] == "can't start new thread"
    assert announced_too == (LIFE if happened else [])


def test_after_a_failed_start_it_is_started_without_us(events: Events) -> None:
    """A thread that could not be started under `install` is a plain one after `uninstall`."""
    thread = threading.Thread(target=note(events))
    with installed(), refusing(), pytest.raises(RuntimeError):
        thread.start()
    run(thread)
    assert events == [("run", thread)]


@made
@pytest.mark.parametrize("error", [RuntimeError, MemoryError, KeyboardInterrupt, SystemExit])
def test_what_starting_raises_gets_through(
    error: type[BaseException], make: Callable[[Body], threading.Thread], events: Events
) -> None:
    """What the starting raises is what `start()` raises, however often; later it succeeds, and is announced once."""
    raised = error("no")
    thread = make(note(events))
    with installed():
        for _ in range(3):
            with refusing(raised), pytest.raises(error) as caught:
                thread.start()
            assert caught.value is raised
        assert events == []
        run(thread)
    assert lives(events) == {thread: LIFE}


@pytest.mark.parametrize("ended", [False, True], ids=["running", "ended"])
def test_a_thread_is_started_once(ended: bool, events: Events) -> None:
    """To start a thread twice raises as ever, changes nothing about it, and announces nothing."""
    leave = threading.Event()
    thread = threading.Thread(target=lambda: (leave.wait(LONG), note(events)()))
    with installed():
        thread.start()
        if ended:
            leave.set()
            thread.join(LONG)
        before = vars(thread).copy()
        with pytest.raises(RuntimeError, match="threads can only be started once"):
            thread.start()
        assert vars(thread).keys() == before.keys()
        leave.set()
        thread.join(LONG)
    assert lives(events) == {thread: LIFE}


def test_a_thread_without_init() -> None:
    """A subclass that forgets to call `__init__` gets the error that it gets without us, and no attribute."""

    class Forgetful(threading.Thread):
        def __init__(self) -> None:
            pass

    thread = Forgetful()
    with installed(), pytest.raises(RuntimeError, match=r"thread\.__init__\(\) not called"):
        thread.start()
    assert vars(thread) == {}


@pytest.mark.parametrize("error", [KeyboardInterrupt, TimeoutError])
def test_a_signal_handler_that_raises_while_a_thread_starts(error: type[BaseException], events: Events) -> None:
    """If `start()` raises though the thread was started, the thread announces itself all the same."""

    class Interrupted(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            super().wait(timeout)
            raise error

        def set(self) -> None:  # in the new thread, which goes on when start() has raised
            super().set()
            assert raised.wait(LONG)

    raised = threading.Event()
    thread = threading.Thread(target=note(events))
    thread._started = Interrupted()  # type: ignore[attr-defined]  # what start() waits for
    with installed():
        with pytest.raises(error):
            thread.start()
        raised.set()
        thread.join(LONG)
    assert lives(events) == {thread: LIFE}
    assert "run" not in vars(thread)


# before_start

Starts = list[tuple[threading.Thread, threading.Thread, bool]]


@pytest.fixture
def starts() -> Iterator[Starts]:
    """Each call of a callback before a start: in which thread, about which thread, and whether that was alive."""
    seen: Starts = []
    before_start[seen.append] = lambda thread: seen.append((threading.current_thread(), thread, thread.is_alive()))
    yield seen
    before_start.clear()


def test_before_start(starts: Starts) -> None:
    """Under `install`, and only there, a callback is called in the thread that calls `start()`, with the other one."""
    in_thread(int)
    with installed():
        inner = threading.Thread()
        outer = in_thread(lambda: run(inner))
    assert starts == [(threading.main_thread(), outer, False), (outer, inner, False)]


def test_before_start_again(starts: Starts) -> None:
    """A start that failed and one that comes after it are two; one that is refused since the thread runs is none."""
    thread = threading.Thread()
    with installed():
        with refusing(), pytest.raises(RuntimeError):
            thread.start()
        run(thread)
        with pytest.raises(RuntimeError):
            thread.start()
    assert starts == [(threading.main_thread(), thread, False)] * 2


def test_before_start_that_raises(
    starts: Starts, events: Events, failures: list[tuple[BaseException, threading.Thread]]
) -> None:
    """A callback that raises is reported, and stops neither the next one, nor the start."""
    errors = [ValueError(), SystemExit(), KeyboardInterrupt()]
    found = dict(before_start)
    before_start.clear()
    before_start.update({n: lambda _, error=error: fail(error) for n, error in enumerate(errors)})
    before_start.update(found)
    with installed():
        thread = in_thread(note(events))
    assert failures == [(error, threading.main_thread()) for error in errors]
    assert [about for _, about, _ in starts] == [thread]
    assert lives(events) == {thread: LIFE}


def test_before_start_beneath_another_tool(starts: Starts) -> None:
    """Where `install` is called anew above a tool that does not say what it wraps, a start is still one."""
    with installed():
        beneath = threading.Thread.start
        threading.Thread.start = lambda self: beneath(self)  # type: ignore[method-assign, assignment]
        with installed():
            thread = in_thread(int)
    assert [about for _, about, _ in starts] == [thread]
