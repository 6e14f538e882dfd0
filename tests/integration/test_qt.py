"""Qt's threads, with PySide6: foreign threads, whose every outermost call into Python is a life of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from recorded import Connection
from support import LONG

import threadhooks

QtCore = pytest.importorskip("PySide6.QtCore", exc_type=ImportError)  # it may be there without a library it needs

RECIPE = "qt_threads"


@pytest.fixture(scope="module", autouse=True)
def application() -> Any:
    return QtCore.QCoreApplication.instance() or QtCore.QCoreApplication([])


@pytest.fixture
def calculate(recipe: ModuleType) -> Callable[[Any, int], list[int]]:
    """Let a calculator in a `QThread` square so many numbers, and wait for the end of the thread."""

    class Asker(QtCore.QObject):
        ask = QtCore.Signal(int)

    def calculate(thread: Any, count: int) -> list[int]:
        calculator, asker = recipe.Calculator(), Asker()
        results: list[int] = []

        def calculated(number: int) -> None:
            results.append(number)
            if len(results) == count:
                thread.quit()

        calculator.moveToThread(thread)
        asker.ask.connect(calculator.square, QtCore.Qt.ConnectionType.QueuedConnection)
        calculator.calculated.connect(calculated, QtCore.Qt.ConnectionType.DirectConnection)
        thread.start()
        for number in range(count):
            asker.ask.emit(number)
        assert thread.wait(LONG * 1000)
        return results

    return calculate


def test_an_event_loop_in_python(
    recipe: ModuleType, connections: list[Connection], calculate: Callable[[Any, int], list[int]]
) -> None:
    """A thread that runs its loop in Python has one connection for all slots, closed before `wait()` returns."""
    assert calculate(recipe.EventLoop(), 10) == [number * number for number in range(10)]
    [connection] = connections
    assert connection.closed_by is not None
    assert connection.closed_by is connection.opened_by


def test_start(recipe: ModuleType, connections: list[Connection]) -> None:
    """The program of the page squares in the thread, and its connection is closed after `quit()` and `wait()`."""

    class Asker(QtCore.QObject):
        ask = QtCore.Signal(int)

    got: list[int] = []
    answered = threading.Event()

    def answer(number: int) -> None:
        got.append(number)
        answered.set()

    thread, calculator = recipe.start()
    asker = Asker()
    asker.ask.connect(calculator.square)
    calculator.calculated.connect(answer, QtCore.Qt.ConnectionType.DirectConnection)
    asker.ask.emit(7)
    assert answered.wait(LONG)
    thread.quit()
    assert thread.wait(LONG * 1000)
    assert got == [49]
    assert [connection.closed_by for connection in connections] == [connection.opened_by for connection in connections]


def test_an_event_loop_of_qt(connections: list[Connection], calculate: Callable[[Any, int], list[int]]) -> None:
    """In a plain `QThread` each slot is an outermost call into Python: it opens and closes a connection of its own."""
    assert calculate(QtCore.QThread(), 10) == [number * number for number in range(10)]
    assert len(connections) == 10
    assert [connection.closed_by for connection in connections] == [connection.opened_by for connection in connections]


def test_announced(recipe: ModuleType, calculate: Callable[[Any, int], list[int]]) -> None:
    """The thread announces its start, the end of its loop and its exit: once each, as a foreign thread.

    While it runs, it is among `threads()`.
    """
    heard: list[tuple[str, bool]] = []
    listed: list[bool] = []
    with threadhooks.Plugin("test") as plugin:
        plugin.thread_started(lambda thread, info, **extra: heard.append(("started", info.foreign)))
        plugin.thread_exiting(lambda thread, info, **extra: heard.append(("exiting", info.foreign)))
        plugin.thread_exited(lambda thread, info, **extra: heard.append(("exited", info.foreign)))
        plugin.thread_started(lambda thread, info, **extra: listed.append(info in threadhooks.threads()))
        calculate(recipe.EventLoop(), 3)
    assert listed == [True]
    assert heard == [("started", True), ("exiting", True), ("exited", True)]
    assert not any(isinstance(thread, threading._DummyThread) for thread in threading.enumerate())  # type: ignore[attr-defined]


def test_install_does_not_reach_it(recipe: ModuleType) -> None:
    """A `QThread` that has no `announced()` block emits `thread_exited` alone, though `install()` was called."""
    heard: list[tuple[str, bool, bool]] = []

    def tell(signal: str) -> Callable[..., None]:
        return lambda thread, info, **extra: heard.append((signal, info.foreign, info.name.startswith("Dummy-")))

    class Thread(QtCore.QThread):
        def run(self) -> None:
            recipe.connection()

    with threadhooks.Plugin("test") as plugin, threadhooks.installed():
        plugin.thread_started(tell("started"))
        plugin.thread_exiting(tell("exiting"))
        plugin.thread_exited(tell("exited"))
        thread = Thread()
        thread.start()
        assert thread.wait(LONG * 1000)
    assert heard == [("exited", True, True)]


def test_a_thread_pool(recipe: ModuleType, connections: list[Connection]) -> None:
    """Each task of a `QThreadPool` opens and closes a connection; all are closed when `waitForDone()` returns."""

    class Task(QtCore.QRunnable):
        def run(self) -> None:
            assert recipe.connection() is recipe.connection()

    pool = QtCore.QThreadPool()
    pool.setMaxThreadCount(1)
    native_ids: list[int] = []
    for _ in range(3):
        pool.start(Task())
        pool.start(lambda: native_ids.append(threading.get_native_id()))
    assert pool.waitForDone(LONG * 1000)
    assert len(set(native_ids)) == 1  # one thread, and yet
    assert len(connections) == 3
    assert [connection.closed_by for connection in connections] == [connection.opened_by for connection in connections]
