"""Flask, under Werkzeug's server and in threads that serve no request."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import pytest
from recorded import Connection
from support import LONG, in_thread, run

pytest.importorskip("flask")

RECIPE = "flask_app"


@pytest.fixture(autouse=True)
def table(recipe: ModuleType) -> None:
    with contextlib.closing(sqlite3.connect("app.db")) as conn:
        conn.execute("DROP TABLE IF EXISTS orders")
        conn.execute("CREATE TABLE orders (number INTEGER PRIMARY KEY, state TEXT)")


@pytest.fixture
def pool(recipe: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        monkeypatch.setattr(recipe, "pool", pool)
        yield pool


def orders() -> list[tuple[int, str]]:
    with contextlib.closing(sqlite3.connect("app.db")) as conn:
        return conn.execute("SELECT number, state FROM orders ORDER BY number").fetchall()


def test_requests_and_other_threads(
    recipe: ModuleType, connections: list[Connection], pool: ThreadPoolExecutor
) -> None:
    """Threads of the server and of the pool close their connections, each its own, as the server and the pool end."""
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, recipe.app, threaded=True)
    assert server.daemon_threads  # which the page says
    server.daemon_threads = False
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    for number in range(20):
        request = urllib.request.Request(f"http://127.0.0.1:{server.port}/orders/{number}", method="POST")
        with urllib.request.urlopen(request, timeout=LONG) as response:
            assert response.status == 202
    server.shutdown()
    serving.join(LONG)
    pool.shutdown()
    of_requests = [connection for connection in connections if "ThreadPool" not in connection.opened_by.name]
    assert len(of_requests) == 20  # Werkzeug has a thread for each request
    assert 1 <= len(connections) - len(of_requests) <= 2
    assert [connection.closed_by for connection in connections] == [connection.opened_by for connection in connections]
    assert orders() == [(number, "sent") for number in range(20)]


def test_a_view_that_fails(recipe: ModuleType, connections: list[Connection], pool: ThreadPoolExecutor) -> None:
    """What a request leaves unfinished is rolled back, and the thread keeps its connection for the next one."""

    def requests() -> None:
        client = recipe.app.test_client()
        codes = [client.post(f"/orders/{number}").status_code for number in (1, 1, 2)]
        assert codes == [202, 500, 202]
        assert [connection.in_transaction for connection in connections if connection.opened_by is thread] == [False]

    recipe.app.logger.disabled = True
    thread = threading.Thread(target=requests)
    run(thread)
    pool.shutdown()
    assert orders() == [(1, "sent"), (2, "sent")]


def test_teardown_functions_know_requests_only(
    recipe: ModuleType, connections: list[Connection], pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flask calls its teardown functions for a request, not for the threads that the request has work done in."""
    torn_down: list[threading.Thread] = []
    tear_down = lambda error: torn_down.append(threading.current_thread())  # noqa: E731
    monkeypatch.setattr(recipe.app, "teardown_appcontext_funcs", [tear_down])
    thread = in_thread(lambda: recipe.app.test_client().post("/orders/1"))
    pool.shutdown()
    assert torn_down == [thread]
    assert len(connections) == 2
    assert [connection.closed_by for connection in connections] == [connection.opened_by for connection in connections]
