"""Races of a thread that ends with a loop that begins to wait for it: each is made to happen, at every line of ours."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from at_line import AtLine, at_every_line
from loops import Worker, nothing, turns
from support import LONG

from threadhooks import _over, aio, attach, installed
from threadhooks.aio import exited

pytestmark = pytest.mark.usefixtures("nothing_stays_connected")


@pytest.mark.parametrize("first", [attach, nothing])
def test_a_wait_that_begins_at_any_line_of_the_exit(first: Callable[[], object]) -> None:
    """Whichever line of ours the thread has come to when the wait begins: the wait ends, when the thread is over."""

    async def main(number: int) -> bool:
        loop = asyncio.get_running_loop()
        assert _over.of_one == {}  # or else the thread would attach itself
        worker = Worker(first)
        here, go_on = asyncio.Event(), threading.Event()
        at_line = AtLine(number, lambda: (loop.call_soon_threadsafe(here.set), go_on.wait(LONG)))
        with installed():
            at_line.start(worker)
        worker.go.set()
        joined = loop.run_in_executor(None, worker.join)
        waited = asyncio.ensure_future(here.wait())
        await asyncio.wait([joined, waited], return_when=asyncio.FIRST_COMPLETED)
        waiting = asyncio.ensure_future(exited(worker))
        await turns()
        go_on.set()
        assert (await waiting).thread is worker
        assert not worker.is_alive()
        waited.cancel()
        await joined
        return at_line.reached

    at_every_line(lambda number: asyncio.run(asyncio.wait_for(main(number), LONG)))


@pytest.mark.parametrize("first", [attach, nothing])
def test_a_thread_that_ends_at_any_line_of_the_wait(first: Callable[[], object]) -> None:
    """Whichever line of ours the loop has come to when the thread ends: the wait ends, and once connected, is told."""

    def at(number: int) -> bool:
        with installed():
            worker = Worker(first).begin()
        connected: list[bool] = []
        infos: list[Any] = []

        def end() -> None:
            connected.append(bool(_over.of_one))
            worker.end()

        async def main() -> None:
            waiting = asyncio.ensure_future(exited(worker))
            await turns()
            end()
            infos.append(await waiting)

        at_line = AtLine(number, end)
        at_line.run(lambda: asyncio.run(asyncio.wait_for(main(), LONG)))
        assert infos[0].thread is worker
        assert math.isnan(infos[0].attached_at) != connected[0]
        return at_line.reached

    at_every_line(at)


def test_a_thread_that_is_about_to_end_at_any_line_of_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was told that the hooks have run waits until the thread is over, however long the rest of it takes."""
    monkeypatch.setattr(aio, "_LOOKS", (0,))

    def at(number: int) -> bool:
        worker = Worker().begin()
        last, go_on = threading.Event(), threading.Event()
        connected: list[bool] = []

        def pause(_: object) -> None:
            last.set()
            go_on.wait(LONG)

        def end() -> None:
            if worker.go.is_set():  # this line comes after the wait
                return
            connected.append(bool(_over.of_one))
            _over.tell_me(pause, pause, worker)  # the last one
            worker.go.set()
            last.wait(LONG)

        async def main() -> None:
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
        return at_line.reached and bool(connected)

    at_every_line(at)


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
