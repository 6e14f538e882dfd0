"""The examples that the documentation shows, the connections that they open, and a browser."""

from __future__ import annotations

import functools
import importlib
import os
import shutil
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


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, without a window; skipped where it is missing (Debian: chromium and chromium-driver), except in CI."""
    webdriver = pytest.importorskip("selenium.webdriver")
    paths = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    if missing := [name for name, path in paths.items() if path is None]:
        # CI installs them. If that went wrong, nothing may pass as if the pages had been looked at.
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"there is no {' and no '.join(missing)}")
    options = webdriver.ChromeOptions()
    options.binary_location = paths["chromium"]
    # No sandbox: it doesn't start as root. No /dev/shm: it is small in containers. No network: nothing needs it.
    offline = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", offline):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options=options, service=webdriver.ChromeService(paths["chromedriver"])) as driver:
        yield driver
