"""Django, with a SQLite file."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from types import ModuleType
from typing import Any

import pytest
from recorded import Connection
from support import in_thread, run_all

import threadhooks

django = pytest.importorskip("django")

RECIPE = "shop.apps"


@pytest.fixture(scope="module", autouse=True)
def app(recipe: ModuleType) -> None:
    from django.conf import settings

    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "app.db", "OPTIONS": {"timeout": 30}}},
        INSTALLED_APPS=["shop.apps.ShopConfig"],
        LOGGING_CONFIG=None,
        USE_TZ=True,
    )
    django.setup()
    with closing(sqlite3.connect("app.db")) as conn:
        conn.execute("CREATE TABLE orders (number INTEGER)")


def query() -> object:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return cursor.fetchone()


def test_threads_close_their_connections(connections: list[Connection]) -> None:
    """Each of a hundred threads closes the connection that Django has opened for it, itself."""
    for _ in range(10):
        threads = [threading.Thread(target=query) for _ in range(10)]
        run_all(threads)
    assert len(connections) == 100
    assert len({connection.opened_by for connection in connections}) == 100
    assert [connection.closed_by for connection in connections] == [connection.opened_by for connection in connections]


def test_the_workers_of_a_pool(connections: list[Connection]) -> None:
    """A worker keeps its connection from one task to the next, and closes it when the pool is shut down."""
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: query(), range(100))) == {(1,)}
        assert {connection.closed_by for connection in connections} == {None}
    assert 1 <= len(connections) <= 4
    assert [connection.closed_by for connection in connections] == [connection.opened_by for connection in connections]


def test_a_thread_that_fails(connections: list[Connection], monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that ends with an exception closes its connection, too, and so rolls back its transaction."""
    from django.db import connection, transaction

    def fail() -> None:
        transaction.set_autocommit(False)
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO orders VALUES (1)")
        raise LookupError("no such order")

    failures: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: failures.append(str(args.exc_value)))
    thread = in_thread(fail)
    assert failures == ["no such order"]
    assert [connection.closed_by for connection in connections] == [thread]
    with closing(sqlite3.connect("app.db")) as conn:
        assert conn.execute("SELECT count(*) FROM orders").fetchone() == (0,)


def test_without_the_recipe(connections: list[Connection]) -> None:
    """Django alone does not close them: the receiver is what does it."""
    with threadhooks.thread_exiting.muted():
        in_thread(query)
    [connection] = connections
    assert connection.closed_by is None
    connection.close()  # Django opens its connections for any thread


def test_ready_more_than_once(connections: list[Connection]) -> None:
    """Django may call `ready()` again: a connection is still closed once (`Connection` checks it)."""
    from django.apps import apps

    apps.get_app_config("shop").ready()
    thread = in_thread(query)
    assert [connection.closed_by for connection in connections] == [thread]


def test_a_resource_needs_no_install(connections: list[Connection], failures: list[Any]) -> None:
    """With nothing installed, a connection that is bound in a resource is closed by the worker of a pool."""
    from shop.database import count_orders

    threadhooks.uninstall()
    try:
        with ThreadPoolExecutor(4) as pool:
            assert set(pool.map(lambda _: count_orders(), range(100))) == {0}
    finally:
        threadhooks.install()
    assert 1 <= len(connections) <= 4
    assert [connection.closed_by for connection in connections] == [connection.opened_by for connection in connections]


def test_a_resource_of_a_thread_that_fails(connections: list[Connection], failures: list[Any]) -> None:
    """So it is by a thread that crashes in the midst of a transaction, which is rolled back by that."""
    from django.db import transaction
    from shop.database import count_orders, database

    def fail() -> None:
        with transaction.atomic():
            with database().cursor() as cursor:
                cursor.execute("INSERT INTO orders VALUES (1)")
            raise LookupError("no such order")

    def end_in_a_transaction() -> None:
        transaction.set_autocommit(False)
        with database().cursor() as cursor:
            cursor.execute("INSERT INTO orders VALUES (1)")

    counted: list[int] = []
    threadhooks.uninstall()
    try:
        for body in (fail, end_in_a_transaction, lambda: counted.append(count_orders())):
            in_thread(body)
    finally:
        threadhooks.install()
    assert [str(error) for error, _ in failures] == ["no such order"]
    assert counted == [0]
    assert len(connections) == 3
    assert [connection.closed_by for connection in connections] == [connection.opened_by for connection in connections]
