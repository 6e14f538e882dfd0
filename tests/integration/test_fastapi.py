"""FastAPI and AnyIO, whose worker threads are told to end and are not waited for."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from types import ModuleType
from typing import Any

import pytest
from recorded import Connection
from serving import ALL, CLIENTS, RECORDED, RECORDING, hits, load, make_table
from support import LONG

anyio = pytest.importorskip("anyio")
fastapi = pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

RECIPE = "fastapi_app"


@pytest.fixture(autouse=True)
def table(recipe: ModuleType) -> None:
    make_table()


def in_workers(func: Callable[[], object], count: int) -> Callable[[], Awaitable[None]]:
    """An async function that calls `func` in so many workers at once."""
    here = threading.Barrier(count)

    def call() -> None:
        here.wait(LONG)
        func()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(anyio.to_thread.run_sync, call)

    return main


def test_workers_close_their_connections(recipe: ModuleType, connections: list[Connection]) -> None:
    """Each of six workers of AnyIO closes its own connection; all have done so after `wait_for_workers()`."""
    anyio.run(in_workers(recipe.connection, 6))
    recipe.wait_for_workers()
    assert len({connection.opened_by for connection in connections}) == 6
    assert [connection.closed_by for connection in connections] == [connection.opened_by for connection in connections]
    assert not any(connection.opened_by.daemon for connection in connections)  # so the interpreter waits for them


def test_workers_are_not_joined(recipe: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """`anyio.run()` returns while a worker is still closing its connection; `wait_for_workers()` waits for it."""
    go_on, closed = threading.Event(), threading.Event()

    class Slow(sqlite3.Connection):
        def close(self) -> None:
            go_on.wait(LONG)
            super().close()
            closed.set()

    async def main() -> None:
        await in_workers(recipe.connection, 1)()
        [worker] = recipe.workers
        worker.join(0.1)
        assert worker.is_alive()  # it is told to end after this, and so after the application's lifespan

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda *args, **kwargs: Slow(*args, **kwargs))
        anyio.run(main)
    assert not closed.is_set()
    go_on.set()
    recipe.wait_for_workers()
    assert closed.is_set()


def test_a_dependency_may_run_in_another_worker() -> None:
    """What a dependency returns comes from another thread than the endpoint's, if another request takes its worker."""
    seen: list[int] = []
    taken, go_on = threading.Event(), threading.Event()

    def other_request() -> None:
        taken.set()
        go_on.wait(LONG)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            app = fastapi.FastAPI()

            def dependency() -> int:
                return threading.get_ident()

            async def meanwhile(first: int = fastapi.Depends(dependency)) -> int:
                group.start_soon(anyio.to_thread.run_sync, other_request)  # takes the only worker that is idle
                while not taken.is_set():
                    await anyio.sleep(0.001)
                return first

            @app.get("/")
            def endpoint(first: int = fastapi.Depends(meanwhile)) -> None:
                seen.extend([first, threading.get_ident()])
                go_on.set()

            async def receive() -> dict[str, Any]:
                return {"type": "http.request"}

            async def send(message: dict[str, Any]) -> None:
                assert message.get("status", 200) == 200

            scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
            await app(scope, receive, send)

    anyio.run(main)
    assert len(set(seen)) == 2


@pytest.fixture
def serve() -> Callable[[str], tuple[str, str, int]]:
    """Run the server by this call, in a process of its own, put it under load, and end it with SIGTERM."""

    def serve(call: str) -> tuple[str, str, int]:
        program = f"{RECORDING}\nimport fastapi_app\ntry:\n    {call}\nfinally:\n    {RECORDED}"
        command = [sys.executable, "-W", "error", "-c", program]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
            try:
                for line in server.stderr:
                    if "running on http://127.0.0.1:" in line:
                        load(int(line.split(":")[-1].split()[0]), "POST", "/hits", b'"hello"')
                        break
            finally:
                server.terminate()
            return *server.communicate(timeout=LONG), server.returncode

    return serve


def test_a_server(recipe: ModuleType, serve: Callable[[str], tuple[str, str, int]]) -> None:
    """Under uvicorn each worker keeps one connection, and has closed it once SIGTERM has ended the server."""
    out, err, code = serve("fastapi_app.serve(port=0)")
    count, closed = out.splitlines()[-1].split()  # after what uvicorn logs
    assert 1 <= int(count) <= CLIENTS
    assert (closed, code) == ("True", 0), err
    assert hits() == ALL


def test_sigterm_without_a_handler(recipe: ModuleType, serve: Callable[[str], tuple[str, str, int]]) -> None:
    """uvicorn raises SIGTERM once more when it has shut down, and that kills the process before anything is closed."""
    out, err, code = serve("fastapi_app.uvicorn.run(fastapi_app.app, port=0)")
    assert code == -signal.SIGTERM, err
    assert "POST /hits" in out.splitlines()[-1]  # nothing after what uvicorn logs
