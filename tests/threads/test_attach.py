"""A thread is attached once, by whatever it registers, wherever it does."""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hooks import CLEANUPS, Kind, run_with
from support import Farewell, in_thread

import threadhooks
from threadhooks import Plugin
from threadhooks.threadref import finalize, ref


@pytest.fixture
def plugin() -> Iterator[Plugin]:
    with Plugin("sentinel tests") as plugin:
        yield plugin


def nothing() -> None:
    pass


def at_the_same_time(barrier: threading.Barrier) -> threading.Thread:
    barrier.wait()
    return threading.current_thread()


class Other(threading.local):
    """A thread-local of somebody else."""


# What attaches a thread


def test_attach_tells_what_is_known_of_the_thread() -> None:
    """`attach()` returns the record of the current thread."""
    got = []
    before = time.time()
    thread = in_thread(
        lambda: got.extend([threadhooks.attach(), threading.get_ident(), threading.get_native_id()]), name="a"
    )
    info, ident, native_id = got
    assert info == (thread, "a", ident, native_id, False, False, info.attached_at, False)
    assert before <= info.attached_at <= time.time()
    assert isinstance(info, threadhooks.ThreadInfo)


def test_attach_tells_of_a_daemon() -> None:
    """The record of a daemon thread says so."""
    got: list[Any] = []
    in_thread(lambda: got.append(threadhooks.attach()), daemon=True)
    assert got[0].daemon is True
    assert got[0].foreign is False


def test_attaching_again_changes_nothing(exits: list[Any]) -> None:
    """However often a thread is attached, its record is the same one, and its end is announced once."""
    infos: list[Any] = []
    thread = in_thread(lambda: infos.extend(threadhooks.attach() for _ in range(3)))
    assert infos[0] is infos[1] is infos[2]
    assert exits == [(thread, infos[0], None)]


def test_attaching_the_main_thread_gives_its_record() -> None:
    """The main thread can be attached like any other; its end is announced by `atexit`."""
    assert threadhooks.attach().thread is threading.main_thread()
    assert threadhooks.attach().ident == threading.main_thread().ident


def test_the_record_is_frozen() -> None:
    """Nothing in a record can be set, and a new name of the thread does not change it."""
    got: list[Any] = []

    def body() -> None:
        got.append(threadhooks.attach())
        threading.current_thread().name = "new"
        got.append(threadhooks.attach())

    in_thread(body, name="old")
    assert got[0] is got[1]
    assert got[1].name == "old"
    for field in got[0]._fields:
        with pytest.raises(AttributeError):
            setattr(got[0], field, None)


def test_a_thread_that_is_not_attached_is_not_announced(exits: list[Any]) -> None:
    """Only attached threads are announced by `thread_exited`."""
    in_thread(nothing)
    assert exits == []


@pytest.mark.parametrize("kind", CLEANUPS, ids=lambda kind: kind.name)
def test_any_registration_attaches(kind: Kind, exits: list[Any], plugin: Plugin) -> None:
    """A thread that registers anything need not be attached by somebody."""
    thread = run_with(kind, nothing, plugin=plugin)
    assert [heard[0] for heard in exits] == [thread]


def test_attach_as_the_initializer_of_a_pool(exits: list[Any]) -> None:
    """With `attach` as its initializer, every worker of a pool is announced before the pool's shutdown returns."""
    together = threading.Barrier(3)
    with ThreadPoolExecutor(3, initializer=threadhooks.attach) as pool:
        workers = {future.result() for future in [pool.submit(at_the_same_time, together) for _ in range(3)]}
        assert exits == []
    assert {heard[0] for heard in exits} == workers
    assert len(exits) == 3


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
    other = Other()

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
