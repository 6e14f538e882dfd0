"""Threads in tests, and what they hold."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

LONG = 30  # seconds: what bounds a hang, and nothing else

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no os.fork()")


def run(thread: threading.Thread) -> threading.Thread:
    """Start the thread, and wait for its end."""
    thread.start()
    thread.join(LONG)
    assert not thread.is_alive()
    return thread


def in_thread(body: Callable[[], object], name: str | None = None, **kwargs: Any) -> threading.Thread:
    """Run `body` in a thread of its own, to its end; the other arguments are those of `threading.Thread`."""
    return run(threading.Thread(target=body, name=name, **kwargs))


class Log(list[Any]):
    """A list that can be an argument of a per-thread resource."""

    __hash__ = object.__hash__  # type: ignore[assignment]


class Farewell:
    """Calls something as it is destroyed."""

    def __init__(self, func: Callable[[], Any]) -> None:
        self.func = func

    def __del__(self) -> None:
        self.func()


Steal = Callable[[Callable[[], object]], "list[Any]"]


def with_its_sentinel(steal: Steal, register: Callable[[], object]) -> tuple[threading.Thread, list[Any]]:
    """A thread that has ended, and its two sentinels, which are still there."""
    stolen: list[Any] = []
    thread = in_thread(lambda: stolen.extend(steal(register)))
    assert len(stolen) == 2
    return thread, stolen
