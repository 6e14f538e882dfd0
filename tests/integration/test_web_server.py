"""Threaded web servers, Werkzeug's and waitress, under load from this machine."""

from __future__ import annotations

import contextlib
import http.client
import logging
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest
from recorded import Connection

RECIPE = "web_server"
HERE = Path(__file__).parent
CLIENTS, REQUESTS = 8, 40


@pytest.fixture(autouse=True)
def table(recipe: ModuleType) -> None:
    conn = sqlite3.connect("app.db")
    conn.execute("DROP TABLE IF EXISTS hits")
    conn.execute("CREATE TABLE hits (thread INTEGER)")
    conn.close()


def hits() -> int:
    with contextlib.closing(sqlite3.connect("app.db")) as conn:
        return conn.execute("SELECT count(*) FROM hits").fetchone()[0]


def load(port: int) -> None:
    """`CLIENTS` clients at once, each sending `REQUESTS` requests over one connection."""

    def client(_: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        with contextlib.closing(connection):
            for _ in range(REQUESTS):
                connection.request("GET", "/")
                response = connection.getresponse()
                assert (response.status, response.read()) == (200, b"hello")

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(client, range(CLIENTS)))


def test_werkzeug(recipe: ModuleType, connections: list[Connection]) -> None:
    """Each thread of the server has a connection; all of them are closed, each by its thread, once it has shut down."""
    pytest.importorskip("werkzeug")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = recipe.werkzeug_server(port=0)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    load(server.port)
    server.shutdown()
    serving.join(30)
    assert not serving.is_alive()
    assert len(connections) == CLIENTS * REQUESTS  # Werkzeug has a thread for each request
    assert [connection.closed_by for connection in connections] == [connection.opened_by for connection in connections]
    assert hits() == CLIENTS * REQUESTS


WAITRESS = f"""
import functools, signal, sqlite3, sys, threading
sys.path[:0] = {[str(HERE), str(HERE / "examples")]!r}
import recorded, web_server

def record(*args, **kwargs):
    connections.append(recorded.Connection(*args, **kwargs))
    return connections[-1]

connections = []
sqlite3.connect = functools.partial(sqlite3.connect, factory=record)
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
server = web_server.waitress_server(port=0)
print(server.effective_port, flush=True)
web_server.run_waitress(server)
print(len(connections), all(c.opened_by is c.closed_by for c in connections))
"""


def test_waitress(recipe: ModuleType) -> None:
    """Each worker keeps one connection for all its requests, and has closed it once SIGTERM has ended the server."""
    pytest.importorskip("waitress")
    command = [sys.executable, "-W", "error", "-c", WAITRESS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            load(int(server.stdout.readline()))
        finally:
            server.terminate()
        out, err = server.communicate(timeout=30)
    count, closed = out.split()
    assert 1 <= int(count) <= 8
    assert (closed, server.returncode) == ("True", 0)
    assert [line for line in err.splitlines() if "queue depth" not in line] == []
    assert hits() == CLIENTS * REQUESTS
