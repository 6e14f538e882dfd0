"""Event loops in tests, and threads that they wait for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from support import LONG

from threadhooks import attach

RunAsync = Callable[[Coroutine[Any, Any, Any]], Any]


async def turns(number: int = 5) -> None:
    """Let the loop go round: time for a task to come to where it waits."""
    for _ in range(number):
        await asyncio.sleep(0)


class Worker(threading.Thread):
    """A thread that runs `first`, then waits for `go`."""

    def __init__(self, first: Callable[[], Any] = attach) -> None:
        super().__init__(name="worker", daemon=True)
        self.first = first
        self.ready = threading.Event()
        self.go = threading.Event()
        self.result: Any = None

    def run(self) -> None:
        self.result = self.first()
        self.ready.set()
        self.go.wait(LONG)

    def begin(self) -> Worker:
        """Start it, and wait until it waits."""
        self.start()
        assert self.ready.wait(LONG)
        return self

    def end(self) -> None:
        """Let it end, and wait for that."""
        self.go.set()
        self.join(LONG)
        assert not self.is_alive()


def nothing() -> None:
    """What a thread may do at first, in order not to be attached."""
