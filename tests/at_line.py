"""Something that happens in the middle of the package: before any one line of it, so that a test can try them all."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Callable
from typing import Any


def at_every_line(run: Callable[[int], bool]) -> None:
    """Call `run` with the number of each line, until it returns that the line was not reached."""
    number = 0
    while run(number):
        number += 1
    assert number > 20


class AtLine:
    """A trace function, which calls `interruption` before the line of the package that is executed as `number`."""

    def __init__(self, number: int, interruption: Callable[[], object]) -> None:
        self.number = number
        self.interruption = interruption
        self.lines = 0

    @property
    def reached(self) -> bool:
        """Whether there was such a line."""
        return self.lines > self.number

    def __call__(self, frame: types.FrameType, event: str, arg: object) -> Any:
        if self.reached or frame.f_globals.get("__name__", "").partition(".")[0] != "threadhooks":
            return None
        if event == "line":
            self.lines += 1
            if self.reached:
                sys.settrace(None)
                self.interruption()
        return self

    def run(self, operation: Callable[[], object]) -> None:
        """Call `operation`, and count its lines."""
        before = sys.gettrace()
        sys.settrace(self)
        try:
            operation()
        finally:
            sys.settrace(before)

    def start(self, thread: threading.Thread) -> None:
        """Start `thread`, and count its lines until its exit is over."""
        before = threading.gettrace()
        traced = threading.Event()

        def trace(frame: types.FrameType, event: str, arg: object) -> Any:
            if not traced.is_set():
                traced.set()
            return self(frame, event, arg)

        threading.settrace(trace)
        try:
            thread.start()
            # The new thread asks for the trace function after start() has returned, as a rule.
            while thread.is_alive() and not traced.wait(0.01):
                pass
        finally:
            threading.settrace(before)  # type: ignore[arg-type]
