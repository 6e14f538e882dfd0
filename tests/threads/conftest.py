"""What the tests of `threadhooks.aio`, and those of announcing threads, share."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from announcing import Announce, Body, Events, listen
from loops import RunAsync
from suites import Run, run_suite
from support import LONG, run

from threadhooks import (
    Plugin,
    _over,
    announced,
    installed,
    thread_exited,
    thread_exiting,
    thread_started,
    uninstall,
)


@pytest.fixture
def nothing_stays_connected() -> Iterator[None]:
    """Whatever a test does, nothing is connected, and nobody waits, when it has ended."""
    yield
    assert [signal.receivers for signal in (thread_started, thread_exiting, thread_exited)] == [{}] * 3
    assert _over.of_all == _over.of_one == {}


@pytest.fixture(params=["asyncio", "asyncio debug", "uvloop"])
def run_async(request: pytest.FixtureRequest) -> RunAsync:
    """Run a coroutine to its end, in a loop of its own, of each kind."""
    make: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if request.param == "uvloop":
        make = pytest.importorskip("uvloop", exc_type=(ImportError, RuntimeWarning)).new_event_loop

    def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
        loop = make()
        loop.set_debug(request.param == "asyncio debug")
        try:
            return loop.run_until_complete(asyncio.wait_for(coroutine, LONG))
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    return run


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test has put in the place of the methods of `threading.Thread` is gone when it ends."""
    monkeypatch.setattr(threading.Thread, "start", threading.Thread.start)
    monkeypatch.setattr(threading.Thread, "run", threading.Thread.run)
    yield
    uninstall()


@pytest.fixture
def events(plugin: Plugin) -> Events:
    """Which signal spoke of which thread, in order; tests add what else happens."""
    return listen(plugin)


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is reported to `threading.excepthook` is dropped, so that no report keeps an exception."""
    monkeypatch.setattr(threading, "excepthook", lambda args: None)


@pytest.fixture(params=["installed", "announced"])
def announce(request: pytest.FixtureRequest) -> Announce:
    """Run a body in a thread that announces itself, in one of the two ways; `before` gets it before it starts."""

    def announce(body: Body, before: Callable[[threading.Thread], object] = id, **kwargs: Any) -> threading.Thread:
        def announcing() -> None:
            with announced():
                body()

        thread = threading.Thread(target=body if request.param == "installed" else announcing, **kwargs)
        before(thread)
        if request.param == "announced":
            return run(thread)
        with installed():
            return run(thread)

    return announce


@pytest.fixture(name="run")
def run_a_suite(pytester: pytest.Pytester) -> Run:
    """Run a suite of tests with ``--thread-leaks=error``, or with other options."""

    def run(tests: str, *options: str, ini: str = "") -> pytest.RunResult:
        return run_suite(pytester, tests, *(options or ("--thread-leaks=error",)), ini=ini)

    return run


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine function by means of its `run_async`."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    pyfuncitem.funcargs["run_async"](pyfuncitem.obj(**arguments))
    return True
