"""What the page about connections says of resources that don't do as it says."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from recorded import Connection
from support import in_thread

import threadhooks


@pytest.mark.parametrize("installed", [False, True])
def test_without_finally(connections: list[Connection], failures: list[Any], installed: bool) -> None:
    """A thread that crashes skips what follows a bare `yield`, as soon as anybody has called `install()`."""

    @threadhooks.per_thread
    def bare() -> Iterator[sqlite3.Connection]:
        conn = sqlite3.connect(":memory:", check_same_thread=False)
        yield conn
        conn.close()

    @threadhooks.per_thread
    def safe() -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(":memory:")) as conn:
            yield conn

    def crash() -> None:
        bare()
        safe()
        raise LookupError

    with threadhooks.installed() if installed else contextlib.nullcontext():
        thread = in_thread(crash)
    assert [connection.closed_by for connection in connections] == [None if installed else thread, thread]
    if installed:
        connections[0].close()
    assert [type(error) for error, _ in failures] == [LookupError]


def test_a_commit_after_the_yield(tmp_path: Path, failures: list[Any]) -> None:
    """In a thread that does not announce itself it commits half a transaction, though `run()` has raised."""

    @threadhooks.per_thread
    def connection() -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(tmp_path / "app.db")) as conn:
            yield conn
            conn.commit()

    def crash() -> None:
        connection().execute("INSERT INTO orders VALUES (1)")
        raise LookupError("what should follow")

    def crash_in_a_block() -> None:
        with connection() as conn:
            conn.execute("INSERT INTO orders VALUES (2)")
            raise LookupError("what should follow")

    def orders() -> list[tuple[int]]:
        with contextlib.closing(sqlite3.connect(tmp_path / "app.db")) as conn:
            return conn.execute("SELECT number FROM orders").fetchall()

    with contextlib.closing(sqlite3.connect(tmp_path / "app.db")) as conn:
        conn.execute("CREATE TABLE orders (number INTEGER)")
    in_thread(crash)
    assert orders() == [(1,)]
    in_thread(crash_in_a_block)
    assert orders() == [(1,)]
    assert [str(error) for error, _ in failures] == ["what should follow"] * 2


def test_a_commit_that_fails(failures: list[Any]) -> None:
    """It is reported when the thread ends; nobody who could do something about it gets the error."""

    @threadhooks.per_thread
    def connection() -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
            yield conn
            conn.execute("COMMIT")  # there is no transaction

    thread = in_thread(connection)
    assert [(type(error), told) for error, told in failures] == [(sqlite3.OperationalError, thread)]
    assert threading.current_thread() is not thread
