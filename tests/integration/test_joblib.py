"""joblib's threading backend and `ThreadPool.terminate`, which end daemons and do not join them."""

from __future__ import annotations

import sqlite3
import threading
from types import ModuleType

import pytest
from recorded import Connection
from support import LONG

pytest.importorskip("joblib")

RECIPE = "joblib_workers"
BOTH = pytest.mark.parametrize("function", ["with_joblib", "with_a_thread_pool"])


def test_main(recipe: ModuleType, connections: list[Connection], capsys: pytest.CaptureFixture[str]) -> None:
    """When `main()` has returned, each worker of both pools has closed its own connection."""
    recipe.main()
    assert capsys.readouterr().out == "328350\n328350\n"
    assert 2 <= len(connections) <= 8
    assert [connection.closed_by for connection in connections] == [connection.opened_by for connection in connections]
    assert all(connection.opened_by.daemon for connection in connections)


@BOTH
def test_workers_are_not_joined(recipe: ModuleType, function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call returns while workers are still closing their connections."""
    go_on = threading.Event()
    closed: list[threading.Thread] = []

    class Slow(sqlite3.Connection):
        def close(self) -> None:
            go_on.wait(LONG)
            super().close()
            closed.append(threading.current_thread())

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda *args, **kwargs: Slow(*args, **kwargs))
        assert getattr(recipe, function)(range(10)) == [number * number for number in range(10)]
    assert closed == []
    workers = list(recipe.workers)
    assert workers
    go_on.set()
    for worker in workers:
        worker.join(LONG)
    assert set(closed) == set(workers)
    assert recipe.workers == set()


@BOTH
def test_a_task_that_fails(recipe: ModuleType, connections: list[Connection], function: str) -> None:
    """Where a task fails, the workers end all the same, and close their connections."""
    with pytest.raises(sqlite3.Error):
        getattr(recipe, function)([1, 2, object(), 3])
    for worker in list(recipe.workers):
        worker.join(LONG)
    assert connections
    assert [connection.closed_by for connection in connections] == [connection.opened_by for connection in connections]
