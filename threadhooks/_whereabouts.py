"""What can be found out about a thread from outside: name, what it runs, which line started it, and where it is now.

Guarantees:

- A thread whose `name` raises still gets a name.
- Nothing is kept: answers are texts and numbers, except for frames, which the caller should soon let go of.

What it does not promise:

- On a free-threaded build, a running thread changes its frames while another one reads them. What `f_back` gives may
  then be another frame's memory: in 36,000 looks, we once saw an ``f_globals`` that was an integer; we also saw the
  interpreter crash. (For that reason, CPython's `faulthandler` omits other threads on such builds.) So we go outwards
  from the innermost frame only in threads that seem to be at rest. One that wakes up just then may still be misread,
  or crash the interpreter.
"""

from __future__ import annotations

import functools
import linecache
import os
import sys
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from itertools import dropwhile
from threading import get_ident
from types import FrameType
from typing import NamedTuple

from ._report import describe
from ._threads import ident_of

_STILL = 2  # how many times a thread must be found at the instruction where it was before


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


def line_of(frames: Iterable[FrameType], skipped: Collection[str]) -> Line:
    """The line that the innermost frame outside the `skipped` packages executes; or the innermost of all."""
    frame = innermost(frames, skipped)
    return Line(frame.f_code.co_filename, frame.f_lineno)


def innermost(frames: Iterable[FrameType], skipped: Collection[str]) -> FrameType:
    """The innermost of the frames, of which there is one at least, outside the `skipped` packages; or of all."""
    first = None
    for frame in frames:
        if package_of(frame) not in skipped:
            return frame
        first = first or frame
    assert first is not None
    return first


def package_of(frame: FrameType) -> str:
    """The top-level package whose code a frame executes."""
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def outwards(frame: FrameType | None) -> Iterator[FrameType]:
    """A frame, the one that called it, and so on."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def stacks(idents: Collection[int | None]) -> dict[int, list[FrameType]]:
    """The frames of the threads with these idents that execute Python code just now, by ident, innermost first.

    Those of the thread that asks begin where it has called this package. On a free-threaded build, which this keeps
    waiting for some milliseconds at most, only the innermost one is there of a thread that is moving.
    """
    frames = _innermost_of(idents)
    still = dict.fromkeys(frames, 0 if _without_gil() else _STILL)
    for _ in range(10):
        if all(times >= _STILL for times in still.values()):
            break
        at = {ident: (frame, frame.f_lasti) for ident, frame in frames.items()}
        time.sleep(0.0003)
        frames = _innermost_of(idents)
        # At the same instruction once more, that may be a loop.
        still = {
            ident: still.get(ident, 0) + 1 if at.get(ident) == (frame, frame.f_lasti) else 0
            for ident, frame in frames.items()
        }
    found = {ident: [*outwards(frame)] if still[ident] >= _STILL else [frame] for ident, frame in frames.items()}
    if get_ident() in idents:
        ours = outwards(sys._getframe())
        found[get_ident()] = [*dropwhile(lambda frame: package_of(frame) == "threadhooks", ours)]
    return found


def _innermost_of(idents: Collection[int | None]) -> dict[int, FrameType]:
    # Without this very frame, which the dictionary of all has: in a variable here it would tie a cycle, which would
    # keep every other thread's variables alive until the collector comes.
    here = get_ident()
    return {ident: frame for ident, frame in sys._current_frames().items() if ident in idents and ident != here}


def _without_gil() -> bool:
    return not getattr(sys, "_is_gil_enabled", lambda: True)()


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
