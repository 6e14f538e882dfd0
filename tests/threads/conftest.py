"""What the tests of `threadhooks.aio` share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from loops import RunAsync
from support import LONG

from threadhooks import _over, thread_exited, thread_exiting, thread_started


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
