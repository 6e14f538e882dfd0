"""Threaded web servers, Werkzeug's and waitress, under load from this machine."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from types import ModuleType

import pytest
from recorded import Connection
from serving import ALL, CLIENTS, RECORDED, RECORDING, hits, load, make_table
from support import LONG

RECIPE = "web_server"


@pytest.fixture(autouse=True)
def table(recipe: ModuleType) -> None:
    make_table()


def test_werkzeug(recipe: ModuleType, connections: list[Connection]) -> None:
    """Each thread of the server has a connection; all of them are closed, each by its thread, once it has shut down."""
    pytest.importorskip("werkzeug")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = recipe.werkzeug_server(port=0)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    load(server.port, "GET", "/", b"hello")
    server.shutdown()
    serving.join(LONG)
    assert not serving.is_alive()
    assert len(connections) == ALL  # Werkzeug has a thread for each request
    assert [connection.closed_by for connection in connections] == [connection.opened_by for connection in connections]
    assert hits() == ALL


WAITRESS = f"""{RECORDING}
import signal, web_server
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
server = web_server.waitress_server(port=0)
print(server.effective_port, flush=True)
web_server.run_waitress(server)
{RECORDED}"""


def test_waitress(recipe: ModuleType) -> None:
    """Each worker keeps one connection for all its requests, and has closed it once SIGTERM has ended the server."""
    pytest.importorskip("waitress")
    command = [sys.executable, "-W", "error", "-c", WAITRESS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            load(int(server.stdout.readline()), "GET", "/", b"hello")
        finally:
            server.terminate()
        out, err = server.communicate(timeout=LONG)
    count, closed = out.split()
    assert 1 <= int(count) <= CLIENTS
    assert (closed, server.returncode) == ("True", 0)
    assert [line for line in err.splitlines() if "queue depth" not in line] == []
    assert hits() == ALL
