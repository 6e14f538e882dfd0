"""Races of a thread that ends with a loop that begins to wait for it: each is made to happen, at every line of ours."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from at_line import AtLine
from loops import Worker, nothing, turns
from support import LONG

from threadhooks import _over, aio, attach, installed
from threadhooks.aio import exited

pytestmark = pytest.mark.usefixtures("nothing_stays_connected")


@pytest.mark.parametrize("first", [attach, nothing])
def test_a_wait_that_begins_at_any_line_of_the_exit(first: Callable[[], object]) -> None:
    """Whichever line of ours the thread has come to when the wait begins: the wait ends, when the thread is over."""
    reached = True

    async def main(number: int) -> None:
        nonlocal reached
        loop = asyncio.get_running_loop()
        assert _over.of_one == {}  # or else the thread would attach itself
        worker = Worker(first)
        here = asyncio.Event()
        go_on = threading.Event()

        def interruption() -> None:
            loop.call_soon_threadsafe(here.set)
            go_on.wait(LONG)

        at_line = AtLine(number, interruption)
        with installed():
            at_line.start(worker)
        worker.go.set()
        joined = loop.run_in_executor(None, worker.join)
        waited = asyncio.ensure_future(here.wait())
        await asyncio.wait([joined, waited], return_when=asyncio.FIRST_COMPLETED)
        waiting = asyncio.ensure_future(exited(worker))
        await turns()
        go_on.set()
        info = await waiting
        assert info.thread is worker
        assert not worker.is_alive()
        waited.cancel()
        await joined
        reached = at_line.reached

    number = 0
    while reached:
        asyncio.run(asyncio.wait_for(main(number), LONG))
        number += 1
    assert number > 20


@pytest.mark.parametrize("first", [attach, nothing])
def test_a_thread_that_ends_at_any_line_of_the_wait(first: Callable[[], object]) -> None:
    """Whichever line of ours the loop has come to when the thread ends: the wait ends, and once connected, is told."""
    number = 0
    reached = True
    while reached:
        with installed():
            worker = Worker(first).begin()
        connected: list[bool] = []

        def end(worker: Worker = worker, connected: list[bool] = connected) -> None:
            connected.append(bool(_over.of_one))
            worker.end()

        async def main(worker: Worker = worker, end: Callable[[], None] = end) -> Any:
            waiting = asyncio.ensure_future(exited(worker))
            await turns()
            end()
            return await waiting

        at_line = AtLine(number, end)
        infos: list[Any] = []
        at_line.run(lambda: infos.append(asyncio.run(asyncio.wait_for(main(), LONG))))
        assert infos[0].thread is worker
        assert math.isnan(infos[0].attached_at) != connected[0]
        reached = at_line.reached
        number += 1
    assert number > 20


def test_a_thread_that_is_about_to_end_at_any_line_of_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was told that the hooks have run waits until the thread is over, however long the rest of it takes."""
    monkeypatch.setattr(aio, "_LOOKS", (0,))
    number = 0
    reached = True
    while reached:
        worker = Worker().begin()
        last = threading.Event()
        go_on = threading.Event()
        connected: list[bool] = []

        def pause(_: object, last: Any = last, go_on: Any = go_on) -> None:
            last.set()
            go_on.wait(LONG)

        def end(worker: Worker = worker, connected: Any = connected, pause: Any = pause, last: Any = last) -> None:
            if worker.go.is_set():  # this line comes after the wait
                return
            connected.append(bool(_over.of_one))
            _over.tell_me(pause, pause, worker)  # the last one
            worker.go.set()
            last.wait(LONG)

        async def main(worker: Worker = worker, connected: Any = connected, go_on: Any = go_on) -> None:
            waiting = asyncio.ensure_future(exited(worker))
            await turns()
            worker.go.set()
            go_on.set()
            if connected and not connected[0]:  # it may have come too late to be told
                with suppress(RuntimeError):
                    assert await waiting is worker.result
            else:
                assert await waiting is worker.result
                assert not worker.is_alive()

        at_line = AtLine(number, end)
        at_line.run(lambda: asyncio.run(asyncio.wait_for(main(), LONG)))
        worker.join(LONG)
        _over.leave_me(pause)
        reached = at_line.reached and bool(connected)
        number += 1
    assert number > 20


def test_a_thread_that_has_not_come_to_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that has been started under `install()`, and does nothing yet, is known as such at the first look."""
    monkeypatch.setattr(aio, "_LOOKS", (0,))
    there, go_on = threading.Event(), threading.Event()

    def interruption() -> None:
        there.set()
        go_on.wait(LONG)

    async def main() -> None:
        worker = Worker(nothing)
        with installed():
            AtLine(0, interruption).start(worker)
        assert there.wait(LONG)
        waiting = asyncio.ensure_future(exited(worker))
        await turns()
        go_on.set()
        worker.go.set()
        assert (await waiting).thread is worker

    asyncio.run(asyncio.wait_for(main(), LONG))
