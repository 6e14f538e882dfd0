"""SQLAlchemy, with a pool of connections to a SQLite file."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support import run, run_all

import threadhooks

sqlalchemy = pytest.importorskip("sqlalchemy")

RECIPE = "sqlalchemy_sessions"
EXAMPLES = Path(__file__).parent / "examples"


@pytest.fixture(autouse=True)
def table(recipe: ModuleType) -> Iterator[None]:
    with recipe.engine.begin() as connection:
        connection.execute(sqlalchemy.text("DROP TABLE IF EXISTS visits"))
        connection.execute(sqlalchemy.text("CREATE TABLE visits (thread TEXT)"))
    yield
    recipe.engine.dispose()


def run_threads(target: Callable[[], object], count: int) -> None:
    """Run `target` in `count` threads of its own, a few at a time; what it raises is raised."""
    failures = []

    def run() -> None:
        try:
            target()
        except Exception as error:
            failures.append(error)

    for _ in range(count // 8):
        threads = [threading.Thread(target=run) for _ in range(8)]
        run_all(threads)
    assert not failures


def visits(recipe: ModuleType) -> int:
    with recipe.engine.connect() as connection:
        return connection.execute(sqlalchemy.text("SELECT count(*) FROM visits")).scalar_one()


READ = sqlalchemy.text("SELECT count(*) FROM visits")
WRITE = sqlalchemy.text("INSERT INTO visits VALUES ('a thread')")


def test_scoped_sessions(recipe: ModuleType, no_collection: None) -> None:
    """After a thousand threads with a scoped session each, no connection of the pool is checked out."""
    run_threads(lambda: recipe.Session.execute(READ), 1000)
    assert recipe.engine.pool.checkedout() == 0


def test_without_the_recipe(recipe: ModuleType, no_collection: None) -> None:
    """The connections are not given back by SQLAlchemy alone: the receiver is what does it."""
    with threadhooks.thread_exiting.muted():
        run_threads(lambda: recipe.Session.execute(READ), 8)
    assert recipe.engine.pool.checkedout() > 0
    gc.collect()


def test_per_thread_sessions(recipe: ModuleType, no_collection: None) -> None:
    """A session that is a per-thread resource gives its connection back as well, with nothing installed."""
    threadhooks.uninstall()
    try:
        run_threads(lambda: recipe.current_session().execute(READ), 1000)
    finally:
        threadhooks.install()
    assert recipe.engine.pool.checkedout() == 0


@pytest.mark.parametrize("session", ["Session", "current_session"])
def test_unfinished_transactions_are_rolled_back(recipe: ModuleType, session: str) -> None:
    """What a thread did not commit is rolled back as it ends; what it did commit stays."""

    def write(commit: bool) -> None:
        mine = getattr(recipe, session)()
        mine.execute(WRITE)
        if commit:
            mine.commit()

    for commit in (False, True, False):
        thread = threading.Thread(target=write, args=(commit,))
        run(thread)
    assert visits(recipe) == 1
    assert recipe.engine.pool.checkedout() == 0


def test_the_workers_of_a_pool(recipe: ModuleType) -> None:
    """A worker keeps one session for all its tasks, and gives it back when the pool is shut down."""
    barrier = threading.Barrier(4)

    def task(_: int) -> tuple[int, int]:
        barrier.wait(30)
        recipe.Session.execute(READ)
        return threading.get_ident(), id(recipe.Session())

    with ThreadPoolExecutor(4) as pool:
        seen = set(pool.map(task, range(40)))
        assert recipe.engine.pool.checkedout() == 4
    assert len(seen) == 4
    assert recipe.engine.pool.checkedout() == 0


@pytest.mark.parametrize("session", ["Session", "current_session"])
def test_the_main_thread(program: Callable[..., Any], tmp_path: Path, session: str) -> None:
    """Its session is closed when the program ends."""
    assert program(
        f"""
        import atexit, os, sys

        @atexit.register  # before threadhooks is imported, and so called last
        def end():
            print(recipe.engine.pool.checkedout(), "connections are checked out")

        os.chdir({str(tmp_path)!r})
        sys.path.insert(0, {str(EXAMPLES)!r})
        import sqlalchemy, sqlalchemy_sessions as recipe
        recipe.{session}().execute(sqlalchemy.text("SELECT 1"))
        print(recipe.engine.pool.checkedout(), "connections are checked out")
        """
    ) == ("1 connections are checked out\n0 connections are checked out\n", "", 0)
