"""``python -m threadhooks demo``: one small program, first in plain Python, then with threadhooks."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from .plugins import Plugin

# The program. Each of four threads opens a connection, and asks for three cleanups at its end.

NAMES = ("worker-1", "worker-2", "worker-3", "worker-4")
RAN, FAILED = "ran", "failed"

AtExit = Callable[..., object]  # called with the name of who asks, the cleanup, and its arguments


class Connection(sqlite3.Connection):
    """A connection that remembers in which thread it was closed."""

    closed_in: str | None = None

    def close(self) -> None:
        """Close it."""
        super().close()
        self.closed_in = threading.current_thread().name


class Worker:
    """What becomes of one thread."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.began = time.perf_counter()
        # It might be closed in any thread, so that we can close in the end what the plain program leaves open.
        self.connection = sqlite3.connect(":memory:", factory=Connection, check_same_thread=False)
        self.ended = 0.0
        self.cleanups: list[str] = []
        self.goodbye_from = ""


workers: dict[int, Worker] = {}  # by ident: a thread that ends in plain Python no longer knows its name


def work(at_exit: AtExit, everybody: threading.Barrier, seconds: float) -> None:
    """Open a connection, ask for cleanups, and do something for a while."""
    worker = workers[threading.get_ident()] = Worker(threading.current_thread().name)
    at_exit("database", close_connection)
    at_exit("audit", write_audit_entry)
    at_exit("log", say_goodbye)
    everybody.wait(30)
    time.sleep(seconds)
    worker.ended = time.perf_counter()


def say_goodbye() -> None:
    """A cleanup that asks which thread this is, as every line of a log does."""
    worker = workers[threading.get_ident()]
    worker.goodbye_from = threading.current_thread().name
    worker.cleanups.append(RAN)


def write_audit_entry() -> None:
    """A cleanup that fails, on purpose."""
    workers[threading.get_ident()].cleanups.append(FAILED)
    raise OSError("the audit log is full")


def close_connection() -> None:
    """The cleanup that matters."""
    worker = workers[threading.get_ident()]
    worker.connection.close()
    worker.cleanups.append(RAN)


def run_program(at_exit: AtExit) -> list[Worker]:
    """Run it to its end, and return what became of its threads."""
    workers.clear()
    everybody = threading.Barrier(len(NAMES))
    threads = []
    for number, name in enumerate(NAMES):
        threads.append(threading.Thread(target=work, args=(at_exit, everybody, 0.15 + number * 0.1), name=name))
        threads[-1].start()
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    return sorted(workers.values(), key=lambda worker: worker.name)


# In plain Python, and with threadhooks.


class CleanupsOfThisThread:
    """An object in a `threading.local`, whose destructor runs the cleanups of its thread."""

    def __init__(self) -> None:
        self.cleanups: list[Callable[[], object]] = []

    def __del__(self) -> None:
        for cleanup in reversed(self.cleanups):
            cleanup()


@contextmanager
def in_plain_python() -> Iterator[AtExit]:
    """What one writes without a library."""
    local = threading.local()

    def at_exit(owner: str, cleanup: Callable[[], object]) -> None:
        if not hasattr(local, "cleanups"):
            local.cleanups = CleanupsOfThisThread()
        local.cleanups.cleanups.append(cleanup)

    yield at_exit


@contextmanager
def with_threadhooks() -> Iterator[AtExit]:
    """Three plugins, which need not know of each other."""
    with ExitStack() as stack:
        plugins = {name: stack.enter_context(Plugin(name)) for name in ("database", "audit", "log")}
        yield lambda owner, cleanup: plugins[owner].register(cleanup)


class Outcome:
    """What became of the program, and of the process that it ran in."""

    def __init__(self, way: Callable[[], Any]) -> None:
        self.reports: list[str] = []
        before = threading.enumerate()
        hooks = sys.unraisablehook, threading.excepthook
        sys.unraisablehook = self._unraisable
        threading.excepthook = self._excepthook
        try:
            with way() as at_exit:
                self.workers = run_program(at_exit)
        finally:
            sys.unraisablehook, threading.excepthook = hooks
        self.dummies = [thread.name for thread in threading.enumerate() if thread not in before]
        self.open = [worker for worker in self.workers if worker.connection.closed_in is None]
        self.renamed = [worker for worker in self.workers if worker.goodbye_from != worker.name]
        self.closed_at_home = all(worker.connection.closed_in == worker.name for worker in self.workers)
        for worker in self.open:
            sqlite3.Connection.close(worker.connection)

    def _unraisable(self, args: sys.UnraisableHookArgs) -> None:
        where = getattr(args.object, "__qualname__", CleanupsOfThisThread.__del__.__qualname__)  # 3.14 doesn't say
        self.reports.append(f"{type(args.exc_value).__name__}: {args.exc_value}, ignored in {where}")

    def _excepthook(self, args: threading.ExceptHookArgs) -> None:
        notes = ", ".join(getattr(args.exc_value, "__notes__", ()))
        self.reports.append(f"{type(args.exc_value).__name__}: {args.exc_value}, {notes}")


# On the terminal.


class Screen:
    """Prints, as wide as the terminal is, and in colour where that is wanted."""

    def __init__(self) -> None:
        self.width = max(60, min(shutil.get_terminal_size((80, 24)).columns, 120))
        terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self.colour = terminal and not os.environ.get("NO_COLOR")
        try:
            "━✓✗·".encode(sys.stdout.encoding or "ascii")
            self.bar, marks = "━", "✓✗·"
        except UnicodeEncodeError:
            self.bar, marks = "=", "+x."
        self.ran = self.paint(marks[0], 32)
        self.failed = self.paint(marks[1], 31)
        self.never = self.paint(marks[2], 31)

    def paint(self, text: str, colour: int) -> str:
        return f"\033[{colour}m{text}\033[0m" if self.colour else text

    def say(self, text: str = "", colour: int = 0) -> None:
        """Print a paragraph."""
        for line in textwrap.wrap(text, self.width) or [""]:
            print(self.paint(line, colour) if colour else line)

    def note(self, text: str) -> None:
        """Print what a timeline shows."""
        for line in textwrap.wrap(text, self.width, initial_indent="   - ", subsequent_indent="     "):
            print(line)

    def timeline(self, outcome: Outcome) -> None:
        """Print a lane for each thread: its life, its three cleanups, and what became of its connection."""
        began = min(worker.began for worker in outcome.workers)
        seconds = max(worker.ended for worker in outcome.workers) - began
        room = self.width - 48
        for worker in outcome.workers:
            start = round((worker.began - began) / seconds * room)
            length = max(1, round((worker.ended - began) / seconds * room) - start)
            marks = [self.ran if cleanup == RAN else self.failed for cleanup in worker.cleanups]
            marks += [self.never] * (3 - len(marks))
            closed = worker.connection.closed_in
            said = f"closed in {closed}" if closed else "connection left open"
            fate = self.paint(said, 32 if closed == worker.name else 31)
            lane = " " * start + self.paint(self.bar * length, 36) + " " + "".join(marks)
            print(f"   {worker.name}  {lane}{' ' * (room - start - length)}  {fate}")
        print(f"   {'':10}{self.ran} ran  {self.failed} failed, on purpose  {self.never} never ran")


def demo() -> int:
    """Show both; return the exit status."""
    try:
        status = _show(Screen())
        sys.stdout.flush()
    except BrokenPipeError:
        # Nobody reads on, as after `| head -1`. What is buffered must not fail again when the interpreter flushes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    # The dummies that the first part leaves behind go as the interpreter ends; free-threaded 3.13 fails to do so, and
    # would say that of each.
    sys.unraisablehook = lambda args: None
    return status


def _show(screen: Screen) -> int:
    screen.say("threadhooks demo: cleanups at the end of a thread, without it and with it", colour=1)
    screen.say(
        "Each of four threads opens a connection and asks for three cleanups, last in, first out: close_connection, "
        "write_audit_entry, which fails on purpose, and say_goodbye."
    )
    screen.say()
    screen.say("In plain Python: a threading.local whose destructor runs the cleanups", colour=1)
    sys.stdout.flush()  # what follows takes half a second
    plain = Outcome(in_plain_python)
    screen.timeline(plain)
    if plain.open:
        screen.note(f"The failure stopped the cleanups after it: {len(plain.open)} connections are left open.")
    if plain.dummies:
        screen.note(
            f"say_goodbye found itself in a thread named {plain.workers[0].goodbye_from}; threading.enumerate() now "
            f"lists {len(plain.dummies)} such dummies, though the threads have ended."
        )
    if plain.reports:
        screen.note(f"Python's report: {plain.reports[0]}.")
    screen.say()
    screen.say("With threadhooks: plugin.register(cleanup)", colour=1)
    sys.stdout.flush()
    ours = Outcome(with_threadhooks)
    screen.timeline(ours)
    right = ours.closed_at_home and not ours.dummies and not ours.renamed and len(ours.reports) == len(NAMES)
    if right:
        screen.note("Every cleanup ran in its own thread, under its own name, before join() returned.")
        screen.note(f"The report names the owner: {ours.reports[0]}.")
    screen.say()
    if right:
        screen.say("Every connection was closed in its own thread, and the failure stopped nothing.", colour=32)
    else:
        screen.say("SOMETHING IS WRONG: threadhooks has not done what it promises.", colour=31)
    return 0 if right else 1
