"""Receivers and senders in tests of the signals."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from threadhooks import ThreadSignal


class Receiver:
    """A receiver that notes its calls; an object, since free-threaded builds delay the end of functions."""

    def __init__(self, name: object = None, heard: list[Any] | None = None) -> None:
        self.name = name
        self.heard: list[Any] = [] if heard is None else heard

    def __call__(self, sender: Any, **extra: Any) -> object:
        self.heard.append(self.name)
        return self.name

    def method(self, sender: Any, **extra: Any) -> object:
        return self(sender, **extra)


class Sender:
    """What a weak reference can point at."""


class Worker:
    """Has a thread, of whose exit it wants to be told: `told` is called then."""

    def __init__(self, target: Callable[[], object] = int) -> None:
        self.thread = threading.Thread(target=target)
        self.heard: list[threading.Thread] = []

    def told(self, thread: threading.Thread, **extra: object) -> None:
        self.heard.append(thread)


def heard(signal: ThreadSignal, sender: Any = None) -> list[object]:
    """Send the signal, and return what its receivers returned."""
    return [result for _, result in signal.send(sender)]
