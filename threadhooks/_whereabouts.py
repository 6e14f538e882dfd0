"""What can be found out about a thread from outside: name, what it runs, which line started it, and where it is now.

Guarantees:

- A thread whose `name` raises still gets a name.
- Nothing is kept: answers are texts and numbers.
- No step is read of a thread that moves meanwhile.

What it does not promise:

- On a free-threaded build, what other threads execute is known of the hundred newest threads only, of each up to a
  hundred steps, with the bare names of the functions: we have it from `faulthandler`.
"""

from __future__ import annotations

import functools
import linecache
import os
import re
import sys
import threading
from collections.abc import Collection, Iterable, Iterator
from itertools import dropwhile
from threading import get_ident
from types import FrameType
from typing import NamedTuple

from ._report import describe
from ._threads import ident_of, is_foreign


class Line(NamedTuple):
    """A line of source."""

    file: str
    number: int

    def place(self, folder: str) -> str:
        """Its file and number; the file as seen from `folder`, or else as it is imported, if it is below either."""
        return f"{_below(self.file, [folder, *_import_folders()]) or self.file}:{self.number}"

    def text(self) -> str:
        """What is written there; empty where the source is not at hand."""
        return linecache.getline(self.file, self.number).strip()


class Step(NamedTuple):
    """What one frame executes."""

    module: str
    function: str
    file: str
    line: int

    @property
    def package(self) -> str:
        """The top-level package of its module."""
        return self.module.partition(".")[0]


def line_of(steps: Iterable[Step], skipped: Collection[str]) -> Line:
    """The line of the innermost step outside the `skipped` packages; or of the innermost of all."""
    step = innermost(steps, skipped)
    return Line(step.file, step.line)


def innermost(steps: Iterable[Step], skipped: Collection[str]) -> Step:
    """The innermost of the steps, of which there is one at least, outside the `skipped` packages; or of all."""
    first = None
    for step in steps:
        if step.package not in skipped:
            return step
        first = first or step
    assert first is not None
    return first


def outwards(frame: FrameType | None) -> Iterator[Step]:
    """What a frame executes, then the one that called it, and so on."""
    while frame is not None:
        code = frame.f_code
        name = getattr(code, "co_qualname", code.co_name)
        module = str(frame.f_globals.get("__name__", ""))
        yield Step(module, name, code.co_filename, frame.f_lineno or code.co_firstlineno)
        frame = frame.f_back


def stacks(idents: Collection[int | None]) -> dict[int, list[Step]]:
    """What the threads with these idents execute, of those that execute Python code just now; innermost step first.

    That of the thread that asks begins where it has called this package.
    """
    here = get_ident()
    found = _executed({ident for ident in idents if ident != here})
    if here in idents:
        found[here] = [*dropwhile(lambda step: step.package == "threadhooks", outwards(sys._getframe()))]
    return found


def _executed(idents: Collection[int | None]) -> dict[int, list[Step]]:
    if not idents:
        return {}
    if getattr(sys, "_is_gil_enabled", lambda: True)():
        # The dictionary of all frames has this very one in it. In a variable here, it would tie a cycle, which would
        # keep the variables of all callers alive until the collector comes.
        return {ident: [*outwards(frame)] for ident, frame in sys._current_frames().items() if ident in idents}
    # Without the GIL, a thread changes its frames while another one reads them: a step outwards may lead into memory
    # that is something else by now, and crash the interpreter. We saw it. faulthandler stops all threads to read them.
    if sys.version_info < (3, 13, 2):  # but not in these
        return {}
    import faulthandler  # these are not needed elsewhere
    import tempfile

    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        text = file.read().decode("utf-8", "replace")
    found, folders = {}, _import_folders()
    for ident, lines in re.findall(r"hread 0x([0-9a-f]+).*\n((?:  .*\n)*)", text):
        steps = [
            Step(_module_in(file, folders), function, file, int(line))
            for file, line, function in re.findall(r'^  File "(.*)", line (\d+) in (.*)$', lines, re.MULTILINE)
        ]
        if steps and int(ident, 16) in idents:
            found[int(ident, 16)] = steps
    return found


def _module_in(file: str, folders: list[str]) -> str:
    """The name of the module in a file, if it is somewhere below one of the folders, or frozen."""
    if file.startswith("<frozen "):
        return file[len("<frozen ") : -1]
    return os.path.splitext(_below(file, folders))[0].replace(os.sep, ".")


def _import_folders() -> list[str]:
    """Where modules are imported from, a folder after those that are inside it."""
    return sorted(map(os.path.abspath, sys.path), key=len, reverse=True)


def _below(file: str, folders: list[str]) -> str:
    """The file as seen from the first of the folders that it is in; empty if it is in none."""
    for folder in folders:
        if file.startswith(os.path.join(folder, "")):
            return os.path.relpath(file, folder)
    return ""


def thread_idents() -> set[int]:
    """Those of all live threads, whether `threading` knows them or not. (A new thread may get that of a dead one.)"""
    return {*sys._current_frames(), *(ident_of(thread) or 0 for thread in threading.enumerate() if is_alive(thread))}


def is_alive(thread: threading.Thread) -> bool:
    """Whether the thread has started and not ended."""
    # `threading` does not know when a thread ends that it has not started, and up to 3.12 lists it for ever.
    if is_foreign(thread):
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
