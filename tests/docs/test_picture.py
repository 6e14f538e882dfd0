"""The picture of a thread's life: a command draws it, and what it shows is so."""

from __future__ import annotations

import contextvars
import importlib.util
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import threadhooks

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def draw() -> ModuleType:
    """The module that draws."""
    spec = importlib.util.spec_from_file_location("draw", ROOT / "docs" / "draw.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["draw"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_command_draws_what_is_committed(tmp_path: Path) -> None:
    """``python docs/draw.py`` writes the files that README and the documentation show, byte for byte."""
    subprocess.run([sys.executable, str(ROOT / "docs" / "draw.py"), "--to", str(tmp_path)], check=True, timeout=60)
    drawn = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    committed = {path.name: path.read_bytes() for path in (ROOT / "docs" / "_static").glob("life*")}
    assert drawn == committed


def test_each_hook_runs_in_its_place(draw: ModuleType) -> None:
    """The cleanups and signals of the picture run in the order, and at the moments, that it shows."""
    ran: list[str] = []

    @threadhooks.per_thread
    def late() -> Any:
        yield
        ran.append("per_thread")

    @threadhooks.per_thread(early=True)
    def early() -> Any:
        yield
        ran.append("per_thread(early=True)")

    with threadhooks.Plugin("picture") as plugin, threadhooks.installed():
        plugin.thread_started(lambda *_, **__: ran.append("thread_started"))
        plugin.thread_exiting(lambda *_, **__: ran.append("thread_exiting"))
        plugin.thread_exited(lambda *_, **__: ran.append("thread_exited"))

        def run() -> None:
            ran.append("run()")
            threadhooks.threadref.finalize(ran.append, "threadref")
            late()
            plugin.register(ran.append, "register")
            early()
            plugin.register_early(ran.append, "register_early")

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    shown = []
    for moment in draw.MOMENTS:
        shown += [moment.name] if moment.colour == "code" else [*moment.cleanups, moment.signal]
    assert ran == [name for name in shown if name != "before run()"]


def test_what_is_there_is_there(draw: ModuleType) -> None:
    """At each moment, what the picture shows is there, and what it does not show is gone."""
    local = threading.local()
    variable: contextvars.ContextVar[str | None] = contextvars.ContextVar("variable", default=None)
    seen: dict[str, list[str]] = {}

    def look(moment: str) -> None:
        found = {
            "current_thread()": threading.current_thread() is thread,
            "thread-locals": hasattr(local, "value"),
            "context variables": variable.get() == "set",
        }
        seen[moment] = [name for name, there in found.items() if there]

    def run() -> None:
        local.value = "set"
        variable.set("set")
        look("run()")
        plugin.register(look, "thread teardown")

    with threadhooks.Plugin("picture") as plugin, threadhooks.installed():
        plugin.thread_exiting(lambda *_, **__: look("end of run()"))
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
    for place, moment in enumerate(draw.MOMENTS):
        if moment.name in seen:
            there = [
                name
                for name, last, perhaps, when in draw.THERE
                if place <= last or (place <= perhaps and when == "up to Python 3.13" and sys.version_info < (3, 14))
            ]
            assert seen[moment.name] == there, moment.name
    assert len(seen) == 3
