"""`concurrent.futures`, `multiprocessing.pool.ThreadPool` and `asyncio`: the pools of the standard library."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from types import ModuleType

import pytest
from recorded import Connection

import threadhooks

RECIPE = "pool_connections"


def check(connections: list[Connection], workers: int) -> None:
    """There was a connection for each of up to so many workers, and each closed its own."""
    assert 1 <= len(connections) <= workers
    assert len({connection.opened_by for connection in connections}) == len(connections)
    assert [connection.closed_by for connection in connections] == [connection.opened_by for connection in connections]


@pytest.mark.parametrize("function", ["with_an_executor", "with_a_thread_pool"])
def test_connections(recipe: ModuleType, connections: list[Connection], function: str) -> None:
    """Each worker has one connection for all its tasks; when the pool has shut down, each has closed its own."""
    results = getattr(recipe, function)(range(500))
    check(connections, 4)
    assert results == [number * number for number in range(500)]


def test_asyncio(recipe: ModuleType, connections: list[Connection]) -> None:
    """The threads of `asyncio.to_thread` close their connections before `asyncio.run` returns."""

    async def main() -> list[int]:
        return await asyncio.gather(*(asyncio.to_thread(recipe.square, number) for number in range(100)))

    assert asyncio.run(main()) == [number * number for number in range(100)]
    check(connections, 100)


def test_finaliser(recipe: ModuleType) -> None:
    """For each worker that was initialised, the finaliser is called once, in the worker, after its tasks."""
    barrier = threading.Barrier(4)
    happened: list[tuple[str, threading.Thread]] = []

    def tell(what: str) -> Callable[..., None]:
        return lambda *_: happened.append((what, threading.current_thread()))

    def work(_: int) -> None:
        barrier.wait(30)
        tell("work")()

    recipe.with_a_cleanup(tell("initialise"), tell("finalise"), work, range(8))
    workers = {thread for what, thread in happened}
    assert len(workers) == 4
    for worker in workers:
        mine = [what for what, thread in happened if thread is worker]
        assert mine[0] == "initialise"
        assert mine[-1] == "finalise"
        assert mine.count("initialise") == mine.count("finalise") == 1
        assert "work" in mine


@pytest.mark.parametrize("make_pool", [ThreadPoolExecutor, ThreadPool])
def test_attach_as_initializer(make_pool: Callable[..., ThreadPoolExecutor | ThreadPool]) -> None:
    """With `attach` as their initializer, all the workers are announced to the receivers of `thread_exited`."""
    exited: list[threading.Thread] = []

    def receiver(thread: threading.Thread, **extra: object) -> None:
        exited.append(thread)

    barrier = threading.Barrier(4)

    def task(_: int) -> threading.Thread:
        barrier.wait(30)
        return threading.current_thread()

    with threadhooks.thread_exited.connected_to(receiver):
        pool = make_pool(4, initializer=threadhooks.attach)
        if isinstance(pool, ThreadPool):
            workers = set(pool.map(task, range(4), chunksize=1))
            pool.close()
            pool.join()
        else:
            workers = set(pool.map(task, range(4)))
            pool.shutdown()
    assert len(workers) == 4
    assert workers <= set(exited)  # a ThreadPool has other threads, but these are not attached
    assert len(exited) == 4


def test_a_task_that_fails(recipe: ModuleType, connections: list[Connection]) -> None:
    """The error goes to the caller, and the worker, which lives on, keeps its connection until it ends."""
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(sqlite3.Error):
            pool.submit(lambda: recipe.connection().execute("nonsense")).result()
        assert pool.submit(recipe.square, 3).result() == 9
    check(connections, 1)
