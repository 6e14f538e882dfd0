"""JPype, with a real Java virtual machine."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support import in_thread

import threadhooks

jpype = pytest.importorskip("jpype")
try:
    jpype.getDefaultJVMPath()
except Exception as error:
    pytest.skip(f"there is no Java virtual machine: {error}", allow_module_level=True)

RECIPE = "jpype_threads"
EXAMPLES = Path(__file__).parent / "examples"
THREADS = 20


@pytest.fixture
def left(recipe: ModuleType) -> Callable[[Callable[[], object]], int]:
    """Call something in twenty threads, one after the other; return how many of them Java still knows afterwards."""

    def threads_of_java() -> set[int]:
        return {thread.getId() for thread in recipe.JavaThread.getAllStackTraces().keySet()}

    def left(body: Callable[[], object]) -> int:
        before = threads_of_java()
        for _ in range(THREADS):
            in_thread(body)
        return len(threads_of_java() - before)

    return left


def test_threads_are_detached(recipe: ModuleType, left: Callable[[Callable[[], object]], int]) -> None:
    """Java knows no thread any more that has ended, though it had values that are Java's objects."""
    counted: list[int] = []
    assert left(lambda: counted.append(recipe.count("to be or not to be"))) == 0
    assert counted == [4] * THREADS


def test_without_the_recipe(recipe: ModuleType, left: Callable[[Callable[[], object]], int]) -> None:
    """JPype alone attaches each thread that calls Java, and detaches none."""
    assert left(lambda: jpype.java.util.TreeSet()) == THREADS


def test_an_object_in_a_thread_local(recipe: ModuleType, left: Callable[[Callable[[], object]], int]) -> None:
    """Java's object in a `threading.local` attaches the thread anew, if it is released after the detaching.

    Up to Python 3.12 that is so for the local that is used after `java()`, from 3.13 on for the one used before it.
    """
    before, after = threading.local(), threading.local()

    def work(before: threading.local, after: threading.local) -> None:
        before.found = jpype.java.util.TreeSet()
        after.found = recipe.java().util.TreeSet()

    assert left(lambda: work(before, after)) == THREADS


def test_an_object_in_a_value(recipe: ModuleType, left: Callable[[Callable[[], object]], int]) -> None:
    """An object that is the value of a resource opened after `java()` is released before the thread is detached."""

    @threadhooks.per_thread
    def found() -> Iterator[object]:
        try:
            yield recipe.java().util.TreeSet()
        finally:
            pass

    assert left(found) == 0


@pytest.mark.parametrize("first", ["jpype", "threadhooks"])
def test_the_main_thread(program: Callable[..., Any], first: str) -> None:
    """What the main thread has opened is closed before JPype shuts Java down, if JPype was imported first."""
    result = program(
        f"""
        import sys
        import {first}
        sys.path.insert(0, {str(EXAMPLES)!r})
        import jpype_threads
        print(jpype_threads.count("to be or not to be"))
        """
    )
    assert (result.out, result.code) == ("4\n", 0)
    assert ("JVMNotRunning" in result.err) == (first == "threadhooks")
    assert (result.err == "") == (first == "jpype")


@pytest.mark.parametrize("installed", [False, True])
def test_a_thread_that_crashes(
    recipe: ModuleType, left: Callable[[Callable[[], object]], int], monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    """The objects in the frames of a crash are released before the thread is detached, under `install()` as well."""

    def crash() -> None:
        found = recipe.java().util.TreeSet()  # noqa: F841 - the frame holds it
        raise SystemExit

    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    with threadhooks.installed() if installed else contextlib.nullcontext():
        assert left(crash) == 0
