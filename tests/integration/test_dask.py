"""Dask distributed: a worker process of its own, with several threads, on this machine."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

distributed = pytest.importorskip("distributed")

from dask_tasks import leave, value_of, watch  # noqa: E402

RECIPE = "dask_connections"
THREADS, TASKS = 4, 200


@pytest.fixture
def cluster() -> Iterator[object]:
    """A scheduler here, and one worker: a process, watched over by a nanny, that has several threads."""
    with distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=THREADS,
        processes=True,
        host="127.0.0.1",
        dashboard_address=None,
        worker_dashboard_address=None,
        silence_logs=False,
    ) as cluster:
        yield cluster


def lines(path: Path, first: str = "") -> list[list[str]]:
    return [line.split() for line in path.read_text().splitlines() if line.startswith(first)]


def test_connections_of_a_worker(recipe: ModuleType, tmp_path: Path, cluster: object) -> None:
    """Every thread of the worker closes its connection, and is heard of, before the worker's process has ended."""
    database, log, exits = tmp_path / "app.db", tmp_path / "connections.log", tmp_path / "threads.log"
    conn = sqlite3.connect(database)
    conn.execute("CREATE TABLE done (number INTEGER, pid INTEGER, thread INTEGER)")
    with distributed.Client(cluster) as client:
        client.run(watch, str(log))
        recipe.insert_all(client, str(database), range(TASKS), str(exits))
        assert not lines(log, "closed")
    cluster.close()

    numbers, pids, threads = zip(*conn.execute("SELECT * FROM done"))
    conn.close()
    assert sorted(numbers) == list(range(TASKS))
    [pid] = set(pids)
    assert pid != os.getpid()
    assert 1 <= len(set(threads)) <= THREADS
    opened = {tuple(line[1:]) for line in lines(log, "opened")}
    assert len(opened) == len(set(threads))
    assert sorted(line[1:] for line in lines(log, "closed")) == sorted(map(list, opened))
    assert {(str(pid), str(thread)) for thread in set(threads)} <= {(line[0], line[1]) for line in lines(exits)}


def test_a_resource_as_an_argument(recipe: ModuleType, tmp_path: Path, cluster: object) -> None:
    """A resource that is passed to a task is the worker's own of that name, not a copy: one value for each thread."""
    path = str(tmp_path / "app.db")
    with distributed.Client(cluster) as client:
        tasks = [client.submit(value_of, recipe.connection, path, number) for number in range(20)]
        seen = set(client.gather(tasks))
    assert len(seen) == len({thread for thread, _ in seen})


def test_a_thread_that_secedes(recipe: ModuleType, tmp_path: Path, cluster: object) -> None:
    """A thread that leaves the worker's pool closes its connection when its task is done; the worker lives on."""
    log = tmp_path / "connections.log"
    with distributed.Client(cluster) as client:
        client.run(watch, str(log))
        client.submit(leave, recipe.connection, str(tmp_path / "app.db")).result()
        deadline = time.monotonic() + 30
        while not lines(log, "closed"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert client.submit(abs, -1).result() == 1
