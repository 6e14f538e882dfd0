"""What comes from outside in the middle of an exit: exceptions that others throw in, allocations that fail."""

from __future__ import annotations

import functools
import sys
import threading
import time
from contextlib import ExitStack
from typing import Any

import pytest
from support import LONG, Thrown, as_it_dies, in_thread, not_traced, throw_into, thrower

from threadhooks import Plugin, _attached, _sentinel, plugins, thread_exited
from threadhooks.threadref import finalize


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is reported, by whatever hook."""
    told: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_value))
    monkeypatch.setattr(sys, "unraisablehook", lambda args: told.append(args.exc_value))
    return told


@not_traced
def test_an_exception_that_is_pending_as_the_sentinel_dies(told: list[Any]) -> None:
    """It is raised where nothing of ours could catch it; all hooks run all the same, in their own thread."""
    before, after = threading.local(), threading.local()
    ran: list[tuple[int, str]] = []

    def body() -> None:
        before.pending = as_it_dies(thrower())
        finalize(lambda: ran.append((threading.get_ident(), "finalizer")))
        ran.append((threading.get_ident(), "body"))
        after.pending = as_it_dies(thrower())

    with thread_exited.connected_to(lambda thread, **extra: ran.append((threading.get_ident(), "receiver"))):
        in_thread(body)
    assert [what for _, what in ran] == ["body", "finalizer", "receiver"]
    assert len({ident for ident, _ in ran}) == 1
    assert {type(error) for error in told} == {Thrown}
    assert [attachment for attachment in _attached.attached() if not attachment.is_here()] == []


@not_traced
def test_an_exception_ends_the_hook_that_it_hits(told: list[Any]) -> None:
    """An exception that another thread throws into a hook is reported as the hook's own; the other hooks run."""
    entered = threading.Event()
    ran: list[str] = []

    def spin() -> None:
        entered.set()
        deadline = time.monotonic() + LONG
        while time.monotonic() < deadline:
            pass
        ran.append("not thrown")

    def body() -> None:
        finalize(ran.append, "first")
        finalize(spin)

    with thread_exited.connected_to(lambda thread, **extra: ran.append("receiver")):
        thread = threading.Thread(target=body)
        thread.start()
        assert entered.wait(LONG)
        throw_into(thread.ident)  # type: ignore[arg-type]
        thread.join(LONG)
    assert ran == ["first", "receiver"]
    assert [type(error) for error in told] == [Thrown]


@not_traced
def test_exceptions_that_come_as_hooks_return(told: list[Any]) -> None:
    """Each is reported; the hooks that wait run, and the receivers."""
    ran: list[object] = []

    def body() -> None:
        throw = thrower()

        def hook() -> None:
            last = as_it_dies(throw)  # noqa: F841 - destroyed as this returns
            ran.append("hook")

        for number in range(3):
            finalize(ran.append, number)
        for _ in range(3):
            finalize(hook)

    with thread_exited.connected_to(lambda thread, **extra: ran.append("receiver")):
        in_thread(body)
    assert ran == ["hook"] * 3 + [2, 1, 0, "receiver"]
    assert [type(error) for error in told] == [Thrown] * 3


@not_traced
def test_an_asynchronous_exception_in_a_hook_leaves_nothing_to_wait_for(reports: Any) -> None:
    """Thrown into a thread that runs hook after hook, it never makes a later `close` wait for a thread that is gone."""
    hook = plugins._Hook(Plugin("hit"), int)

    def body() -> None:
        going.set()
        while not stop.is_set():
            hook()

    for number in range(300):
        going, stop = threading.Event(), threading.Event()
        thread = threading.Thread(target=body)
        thread.start()
        assert going.wait(LONG)
        for _ in range(number % 50 * 20):  # another moment each time
            pass
        throw_into(thread.ident)  # type: ignore[arg-type]
        thread.join(0.1)
        stop.set()  # a tracer may have swallowed it
        thread.join(LONG)
        assert plugins._running == {}
    assert {report.exc_type for report in reports} == {Thrown}
    hook.plugin.close()


@not_traced
@pytest.mark.skipif(
    getattr(sys, "_is_gil_enabled", lambda: True)() is False, reason="other threads would be hit as well"
)
def test_a_failed_allocation_costs_one_hook_at_most(told: list[Any]) -> None:
    """Each allocation of an exit fails in turn: all hooks run, but for the one that was just being run at the most."""
    memory = pytest.importorskip("_testcapi")
    lost: list[tuple[int, int, int]] = []
    for point in range(1, 45):
        ran: list[int] = []
        heard: list[int] = []
        go, done = threading.Lock(), threading.Lock()
        kept = threading.local(), threading.local()  # or else they would die before the thread does
        go.acquire(), done.acquire()
        with ExitStack() as connected:
            for number in range(3):
                receiver = functools.partial(lambda number, *_, **extra: heard.append(number), number)
                connected.enter_context(thread_exited.connected_to(receiver))
            thread = threading.Thread(target=_exits_in_between, args=(memory, point, ran, go, done, *kept))
            thread.start()
            # While the other thread exits, this one must not allocate anything. Both calls are C's own.
            go.release()
            done.acquire()
            thread.join(LONG)
        if len(ran) + len(heard) < 8:
            lost.append((point, len(ran), len(heard)))
    assert lost, "no allocation of an exit was hit"
    assert [each for each in lost if each[1] + each[2] < 7] == []
    assert not _sentinel._exiting


def _exits_in_between(memory: Any, point: int, ran: list[int], go: Any, done: Any, arm: Any, disarm: Any) -> None:
    """Register five hooks; of the exit that follows, the allocation number `point` fails."""
    # Up to 3.12 the thread-local that was used first is destroyed first; from 3.13 on, last.
    first, last = (arm, disarm) if sys.version_info < (3, 13) else (disarm, arm)
    events = {
        arm: [as_it_dies(functools.partial(memory.set_nomemory, point, point + 1))],
        disarm: [as_it_dies(memory.remove_mem_hooks), as_it_dies(done.release)],
    }
    first.events = events[first]
    for number in range(5):
        finalize(ran.append, number)
    last.events = events[last]
    events.clear()
    go.acquire()
