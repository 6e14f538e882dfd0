"""A thread is attached once, by whatever it registers, wherever it does."""

from __future__ import annotations

import gc
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hooks import CLEANUPS, Kind, run_with
from support import Farewell, in_thread

import threadhooks
from threadhooks import Plugin
from threadhooks.threadref import finalize, ref


def nothing() -> None:
    pass


# What attaches a thread


@pytest.mark.parametrize("daemon", [False, True])
def test_attach_tells_what_is_known_of_the_thread(daemon: bool, exits: list[Any]) -> None:
    """It returns the record of the current thread, the same one however often; its end is announced once."""
    got: list[Any] = []
    before = time.time()
    thread = in_thread(lambda: got.extend(threadhooks.attach() for _ in range(3)), name="a", daemon=daemon)
    info = got[0]
    assert got == [info] * 3
    assert info == (thread, "a", thread.ident, thread.native_id, daemon, False, info.attached_at, False)
    assert before <= info.attached_at <= time.time()
    assert isinstance(info, threadhooks.ThreadInfo)
    assert exits == [(thread, info, None)]


def test_attaching_the_main_thread_gives_its_record() -> None:
    """The main thread can be attached like any other; its end is announced by `atexit`."""
    assert threadhooks.attach().thread is threading.main_thread()
    assert threadhooks.attach().ident == threading.main_thread().ident


@pytest.mark.parametrize("kind", CLEANUPS, ids=lambda kind: kind.name)
def test_any_registration_attaches(kind: Kind, exits: list[Any], plugin: Plugin) -> None:
    """A thread that registers anything need not be attached by somebody."""
    thread = run_with(kind, nothing, plugin=plugin)
    assert [heard[0] for heard in exits] == [thread]


# Destructors that register


@pytest.mark.parametrize("order", ["before", "after"])
def test_the_destructor_of_another_thread_local_registers(
    order: str, exits: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it comes before the sentinel's end, that runs in the same exit; where it comes after, it is refused.

    Which of two thread-locals ends first depends on the version. Neither leaves anything in `threading.enumerate()`.
    """
    refused: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: refused.append(args.exc_type))
    log: list[Any] = []
    other = threading.local()

    def farewell() -> None:
        destroyed.append("late" if log else "in time")
        finalize(lambda: log.append(threading.get_ident()))

    def body() -> None:
        if order == "before":
            other.value = Farewell(farewell)
        finalize(log.append, "attached")
        if order == "after":
            other.value = Farewell(farewell)

    destroyed: list[str] = []
    threads = threading.enumerate()
    thread = in_thread(body)
    if destroyed == ["in time"]:
        assert (log, refused) == ([thread.ident, "attached"], [])
    else:
        assert (log, refused) == (["attached"], [RuntimeError])
    assert [heard[0] for heard in exits] == [thread]
    assert threading.enumerate() == threads


def test_what_is_destroyed_as_hooks_run_may_register() -> None:
    """The arguments of a cleanup are destroyed as it has run; their destructors may register more."""
    log: list[Any] = []

    def accept(*_: object) -> None:
        log.append("accepted")

    def body() -> None:
        finalize(accept, Farewell(lambda: finalize(log.append, "later")))
        finalize(log.append, "first")

    in_thread(body)
    assert log == ["first", "accepted", "later"]


@pytest.mark.parametrize("objects", range(12))
def test_a_collection_while_a_reference_is_made(objects: int) -> None:
    """A finaliser that registers, and is called as a reference is being made, does not cost it its callback."""
    calls: list[None] = []
    kept: list[Any] = []

    def register() -> None:
        finalize(nothing)
        kept.append(ref(lambda _: None))

    class Cycle:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            gc.disable()
            for _ in range(12):
                register()

    def body() -> None:
        for _ in range(7):
            register()
        finalize(nothing)
        Cycle()
        gc.set_threshold(gc.get_count()[0] + objects)
        gc.enable()
        kept.append(ref(calls.append))
        gc.disable()

    threshold = gc.get_threshold()
    gc.disable()
    try:
        in_thread(body)
    finally:
        gc.set_threshold(*threshold)
        gc.enable()
    assert len(calls) == 1


def test_a_recursion_error_at_the_first_registration() -> None:
    """If the stack overflows in it, and somebody keeps the exception, what the thread registers later runs."""
    limit = sys.getrecursionlimit()
    lost: list[int] = []
    failed = 0

    def deep(calls: int) -> None:
        if calls:
            deep(calls - 1)
        else:
            finalize(nothing)

    for calls in range(100, 200):
        log: list[str] = []
        with ThreadPoolExecutor(1) as pool:
            pool.submit(nothing).result()
            sys.setrecursionlimit(200)
            try:
                future = pool.submit(deep, calls)
                failed += future.exception() is not None
            finally:
                sys.setrecursionlimit(limit)
            pool.submit(finalize, log.append, "closed").result()
        lost += [calls] * (log != ["closed"])
    assert 0 < failed < 100
    assert lost == []
