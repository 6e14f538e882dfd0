"""Celery's worker with its pools of threads, of processes and without any; the broker is a folder."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support import LONG, forks

pytest.importorskip("celery")

RECIPE = "celery_tasks"
HERE = Path(__file__).parent
TASKS = 12

WORKER = f"""
import functools, os, sqlite3, sys, threading
sys.path[:0] = {[str(HERE), str(HERE / "examples")]!r}
import recorded, celery_tasks, threadhooks

def log(what):
    with open("log", "a") as file:
        file.write(f"{{what}} {{os.getpid()}} {{threading.get_ident()}}\\n")

class Logged(recorded.Connection):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        log("opened")
        plugin.register(log, "cleanup")

    def close(self):
        super().close()
        log("closed")

def close_plugin(**extra):
    plugin.close(run=True)

plugin = threadhooks.Plugin("test")
if "--without" in sys.argv:
    sys.argv.remove("--without")
    celery_tasks.worker_process_shutdown.disconnect(celery_tasks.close_connection)
else:
    celery_tasks.worker_process_shutdown.connect(close_plugin)
sqlite3.connect = functools.partial(sqlite3.connect, factory=Logged)
celery_tasks.connection()  # the parent's own, which its children shall leave alone
plugin.unregister(log)
celery_tasks.app.conf.update(eval(sys.argv[1]))
celery_tasks.app.worker_main(sys.argv[2:])
"""


@pytest.fixture(scope="module")
def settings(recipe: ModuleType) -> dict[str, Any]:
    for folder in ("queue", "control", "results"):
        Path(folder).mkdir()
    settings = {
        "broker_url": "filesystem://",
        "broker_transport_options": {
            "data_folder_in": "queue",
            "data_folder_out": "queue",
            "control_folder": "control",
            "polling_interval": 0.05,
        },
        "result_backend": Path("results").absolute().as_uri(),
    }
    recipe.app.conf.update(settings)
    return settings


@pytest.fixture(autouse=True)
def table(settings: dict[str, Any]) -> None:
    Path("log").unlink(missing_ok=True)
    with closing(sqlite3.connect("app.db")) as conn:
        conn.execute("DROP TABLE IF EXISTS done")
        conn.execute("CREATE TABLE done (number INTEGER)")


@pytest.fixture
def work(recipe: ModuleType, settings: dict[str, Any]) -> Callable[..., tuple[Log, Log]]:
    """Let a worker with these options do its tasks, and end it; what its own threads did, and what its children did."""

    def work(*options: str) -> tuple[Log, Log]:
        command = [sys.executable, "-c", WORKER, repr(settings), "worker", "--concurrency", "2", *options]
        command += ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "warning"]
        with open("out", "w") as out, subprocess.Popen(command, stdout=out, stderr=out) as worker:
            try:
                results = [recipe.insert.delay(number) for number in range(TASKS)]
                for result in results:
                    result.get(timeout=LONG, interval=0.05)
                worker.send_signal(signal.SIGTERM)  # a warm shutdown
                code = worker.wait(LONG)
            finally:
                worker.kill()
        assert code == 0, Path("out").read_text()
        with closing(sqlite3.connect("app.db")) as conn:
            assert conn.execute("SELECT count(DISTINCT number) FROM done").fetchone() == (TASKS,)
        own, childrens = Log(), Log()
        for line in Path("log").read_text().splitlines():
            event, process, thread = line.split()
            log = own if int(process) == worker.pid else childrens
            log[event][process, thread] += 1
        return own, childrens

    return work


class Log(dict[str, "Counter[tuple[str, str]]"]):
    """How often each thread of each process has opened and closed a connection, and run a cleanup."""

    def __init__(self) -> None:
        super().__init__(opened=Counter(), closed=Counter(), cleanup=Counter())


def test_threads(work: Callable[..., tuple[Log, Log]]) -> None:
    """With `--pool threads` each thread has one connection, which is closed in it before the worker has ended."""
    own, childrens = work("--pool", "threads")
    assert own["closed"] == own["opened"]
    assert 2 <= len(own["opened"]) <= 3  # the main thread has one, too
    assert set(own["opened"].values()) == {1}
    assert len(own["cleanup"]) == len(own["opened"]) - 1
    assert childrens == Log()


def test_solo(work: Callable[..., tuple[Log, Log]]) -> None:
    """With `--pool solo` the main thread has one connection, which is closed as the process ends."""
    own, childrens = work("--pool", "solo")
    assert own["closed"] == own["opened"]
    assert list(own["opened"].values()) == [1]
    assert childrens == Log()


@forks
def test_prefork(work: Callable[..., tuple[Log, Log]]) -> None:
    """With `--pool prefork` each child closes its connection, as it is replaced, or ends with the worker."""
    own, childrens = work("--pool", "prefork", "--max-tasks-per-child", "5")
    assert childrens["closed"] == childrens["cleanup"] == childrens["opened"]
    assert len({process for process, _ in childrens["opened"]}) == len(childrens["opened"]) >= 3
    assert set(childrens["opened"].values()) == {1}
    assert own["closed"] == own["opened"]
    assert list(own["opened"].values()) == [1]  # the parent's


@forks
def test_without_the_recipe(work: Callable[..., tuple[Log, Log]]) -> None:
    """A child of Celery's pool ends by `os._exit`: without the receiver nothing is closed, no cleanup is run."""
    _, childrens = work("--pool", "prefork", "--without")
    assert len(childrens["opened"]) >= 1
    assert not childrens["closed"]
    assert not childrens["cleanup"]
