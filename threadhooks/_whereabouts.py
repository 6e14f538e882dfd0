"""What can be said of a thread from outside: its name, what it runs, which line started it, and where it is now.

Guarantees:

- A thread whose name raises has one, too.
- Nothing is kept: answers are texts and numbers, except those of `frames_of`, which the caller should soon let go of.
"""

from __future__ import annotations

import functools
import linecache
import os
import sys
import threading
from collections.abc import Collection, Iterable
from types import FrameType
from typing import NamedTuple

from ._report import describe
from ._threads import ident_of


class Line(NamedTuple):
    """A line of source."""

    file: str
    number: int

    def place(self, folder: str) -> str:
        """Its file and number; the file as seen from `folder`, or else as it is imported, if it is below either."""
        file = self.file
        for parent in [folder, *sorted(map(os.path.abspath, sys.path), key=len, reverse=True)]:
            if file.startswith(os.path.join(parent, "")):
                file = os.path.relpath(file, parent)
                break
        return f"{file}:{self.number}"

    def text(self) -> str:
        """What is written there; empty where the source is not at hand."""
        return linecache.getline(self.file, self.number).strip()


def line_of(frame: FrameType, skipped: Collection[str]) -> Line:
    """The line that the innermost frame outside the `skipped` packages executes; or the innermost of all."""
    found: FrameType | None = frame
    while found is not None and package_of(found) in skipped:
        found = found.f_back
    found = found or frame
    return Line(found.f_code.co_filename, found.f_lineno)


def package_of(frame: FrameType) -> str:
    """The top-level package whose code a frame executes."""
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def frames_of(threads: Iterable[threading.Thread]) -> dict[int, FrameType]:
    """The innermost frames of the threads, by ident, of those that execute Python code just now."""
    idents = {ident_of(thread) for thread in threads}
    # The dictionary of all has this very frame in it. In a variable here it would tie a cycle, which would keep every
    # other thread's variables alive until the collector comes.
    return {ident: frame for ident, frame in sys._current_frames().items() if ident in idents}


def thread_idents() -> set[int]:
    """Those of all live threads, whether `threading` knows them or not. (A new thread may get that of a dead one.)"""
    return {*sys._current_frames(), *(ident_of(thread) or 0 for thread in threading.enumerate() if is_alive(thread))}


def is_alive(thread: threading.Thread) -> bool:
    """Whether the thread has started and not ended."""
    # `threading` does not know when a thread ends that it has not started, and up to 3.12 lists it for ever.
    if isinstance(thread, threading._DummyThread):
        return ident_of(thread) in sys._current_frames()
    return threading.Thread.is_alive(thread)


def name_of(thread: threading.Thread) -> str:
    """The thread's name."""
    try:
        return str(thread.name)
    except Exception:  # noqa: BLE001 - a property of its class
        return object.__repr__(thread)


def target_of(thread: threading.Thread) -> str:
    """The name of what the thread runs, to be asked before it has: at the end of `run()` the target is forgotten."""
    function = thread.function if isinstance(thread, threading.Timer) else getattr(thread, "_target", None)
    while isinstance(function, functools.partial):
        function = function.func
    return describe(type(thread).run if function is None else function)
