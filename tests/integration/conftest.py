"""The examples that the documentation shows, and the connections that they open."""

from __future__ import annotations

import functools
import importlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from recorded import Connection

import threadhooks

EXAMPLES = Path(__file__).parent / "examples"


@pytest.fixture(scope="module")
def recipe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The example that the test module names in ``RECIPE``, imported in an empty folder; undone afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        patch.chdir(tmp_path_factory.mktemp("recipe"))
        module = importlib.import_module(request.module.RECIPE)
        yield module
        threadhooks.uninstall()
        for plugin in vars(module).values():
            if isinstance(plugin, threadhooks.Plugin):
                plugin.close()


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[Connection]:
    """Every connection to SQLite that is opened during the test, by anybody."""
    opened: list[Connection] = []

    def record(*args: Any, **kwargs: Any) -> Connection:
        connection = Connection(*args, **kwargs)
        opened.append(connection)
        return connection

    monkeypatch.setattr(sqlite3, "connect", functools.partial(sqlite3.connect, factory=record))
    monkeypatch.setattr(sqlite3.dbapi2, "connect", sqlite3.connect)
    return opened
