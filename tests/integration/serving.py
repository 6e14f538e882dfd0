"""Web servers under load, in a process of their own, or in this one."""

from __future__ import annotations

import contextlib
import http.client
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support import LONG

HERE = Path(__file__).parent
CLIENTS, REQUESTS = 8, 20
ALL = CLIENTS * REQUESTS

# What the program of a server begins with: it records the connections that are opened; and what it ends with.
RECORDING = f"""
import functools, sqlite3, sys
sys.path[:0] = {[str(HERE), str(HERE / "examples")]!r}
import recorded

def record(*args, **kwargs):
    connections.append(recorded.Connection(*args, **kwargs))
    return connections[-1]

connections = []
sqlite3.connect = functools.partial(sqlite3.connect, factory=record)
"""
RECORDED = "print(len(connections), all(c.opened_by is c.closed_by for c in connections))\n"


def load(port: int, method: str, path: str, answer: bytes) -> None:
    """`CLIENTS` clients at once, each sending `REQUESTS` requests over one connection."""

    def client(_: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONG)
        with contextlib.closing(connection):
            for _ in range(REQUESTS):
                connection.request(method, path)
                response = connection.getresponse()
                assert (response.status, response.read()) == (200, answer)

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(client, range(CLIENTS)))


def make_table() -> None:
    """An empty table, in which each request leaves a row."""
    with contextlib.closing(sqlite3.connect("app.db")) as conn:
        conn.execute("DROP TABLE IF EXISTS hits")
        conn.execute("CREATE TABLE hits (thread INTEGER)")


def hits() -> int:
    """How many rows there are."""
    with contextlib.closing(sqlite3.connect("app.db")) as conn:
        return int(conn.execute("SELECT count(*) FROM hits").fetchone()[0])
