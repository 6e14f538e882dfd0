"""The part of a `Timeline` that runs in the threads themselves: it notes what happens to each, and makes no text of it.

Guarantees:

- It keeps no thread, frame, exception, target or argument alive.
- It keeps at most `limit` threads that have ended, and those that are alive. What it doesn't keep, it counts.

Assumptions:

- One operation on a ``dict`` or a ``list`` is atomic, so no `start()` takes a lock here.
- While a thread is alive, no other thread object has its `id()`.

Speed decides how this is written: what it does, it does to every thread of a program, beside a start and join of 45 to
60 microseconds. A receiver of a signal would make each thread attach, which alone costs more than all of this.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import AbstractContextManager
from threading import get_ident
from time import perf_counter
from types import CodeType, FrameType
from typing import Any, NamedTuple

from ._attachment import Attachment
from ._report import describe, watchers
from ._sentinel import after_exit
from ._threads import is_foreign
from .announce import after_run, before_start, installed
from .plugins import Plugin

# These start threads for somebody else, who is the one to name. (The last one wraps `Thread.start`.)
_START_FOR_OTHERS = frozenset(
    {
        "asyncio.base_events",
        "asyncio.threads",
        "concurrent.futures._base",
        "concurrent.futures.thread",
        "multiprocessing.pool",
        "threading",
        "threadhooks.announce",
    }
)
_LONGEST_MESSAGE = 500  # characters of what an exception says

# Bound here for speed. `threading` never replaces this dict, not even in a forked child.
_active: dict[int, threading.Thread] = threading._active  # type: ignore[attr-defined]
_getframe = sys._getframe

_open: dict[Capture, None] = {}


class Record:
    """What is noted of one thread. Times are those of `perf_counter()`."""

    # There is no __init__: to call one would cost as much as all the rest of a record.
    __slots__ = (
        "code",
        "daemon",
        "ended",
        "exception",
        "foreign",
        "ident",
        "lasti",
        "name",
        "native_id",
        "number",
        "parent",
        "run_ended",
        "started",
        "target",
    )

    number: int | None  # given when somebody looks
    parent: Record | None
    code: CodeType | None  # and `lasti`: the instruction that called start(). Its line would have to be looked up
    lasti: int
    target: tuple[object, object] | None  # its module and its qualified name
    started: float | None
    run_ended: float | None
    ended: float | None
    exception: tuple[str, str, CodeType | None, int] | None  # class, message, and the instruction that raised it
    # These are noted when run() has ended, or when somebody looks before that.
    name: str
    ident: int
    native_id: int | None
    daemon: bool
    foreign: bool

    def describe(self, thread: threading.Thread) -> None:
        """Note what `threading` knows of the thread. Not what its class says: that may compute it, and fail."""
        known: Any = thread
        self.name = known._name
        self.daemon = known._daemonic
        self.ident = known._ident or 0
        self.native_id = known._native_id
        self.foreign = is_foreign(thread)


class LeftOut(NamedTuple):
    """What is not kept, but counted."""

    threads: int
    crashed: int
    failures: int
    most_at_once: int  # noted since something was left out: without it, the records tell


class Capture:
    """Notes what the threads of this process do, from `start` to `stop`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.began = 0.0  # by time.time()
        self.zero = 0.0  # the same moment, by perf_counter()
        self.live: dict[int, Record] = {}  # by the id() of the thread: of those that have not ended, as far as we know
        self.begun: dict[int, None] | None = None  # while we begin: the id() of the threads that are started meanwhile
        self.ended: list[Record] = []
        # The record of the thread, when, the hook, its plugin, and what it raised.
        self.failures: list[tuple[Record | None, float, str, str | None, str]] = []
        # Held to move a record from `live` to `ended`, or to count it: who looks finds it in one of the three, and two
        # threads that end at once don't both take the last place. A finalizer in that thread may come here.
        self.lock = threading.RLock()
        self.looking = threading.RLock()  # held by those who look, which takes longer: no thread that ends waits for it
        self.left_out = LeftOut(0, 0, 0, 0)
        self._installed: AbstractContextManager[None] = installed()

    def start(self) -> None:
        """Begin."""
        self.began = time.time()
        self.zero = perf_counter()
        _open[self] = None
        before_start[self] = self._starts
        after_run[self] = self._ran
        after_exit[self] = self._exited
        watchers[self] = self._failed
        self.begun = {}
        self._installed.__enter__()
        self.meet(foreign=False)  # now that none is missed that is started
        self.begun = None

    def stop(self) -> None:
        """Stop listening."""
        self._installed.__exit__(None, None, None)
        before_start.pop(self, None)
        after_run.pop(self, None)
        after_exit.pop(self, None)
        watchers.pop(self, None)
        _open.pop(self, None)

    def meet(self, *, foreign: bool) -> None:
        """Note the threads that are alive and were not seen to start.

        If `foreign` is true, only foreign ones: of the others, one that has no record has just ended its `run()`.
        """
        for thread in threading.enumerate():
            key = id(thread)
            by_threading = not is_foreign(thread)
            if key in self.live or (by_threading and (foreign or key in (self.begun or ()))):
                continue
            record = _found(thread)
            # A foreign one may be exiting just now: then it leaves that table first, and looks for its record next.
            with self.lock:
                if by_threading or _active.get(record.ident) is thread:
                    self.live.setdefault(key, record)

    # The rest is called in every thread, from finalizers, too.

    def _starts(self, thread: Any) -> None:
        try:
            frame: FrameType = _getframe(2)  # who called start()
        except ValueError:
            frame = _getframe(1)  # C code did: this is the wrapper of start()
        while frame.f_globals.get("__name__") in _START_FOR_OTHERS and frame.f_back is not None:
            frame = frame.f_back
        record = Record()
        record.code = frame.f_code
        record.lasti = frame.f_lasti
        record.number = record.run_ended = record.ended = record.exception = None
        try:  # here, since threading deletes it as run() ends
            target = thread._target
            record.target = target.__module__, target.__qualname__
        except AttributeError:
            record.target = _target(thread)
        live = self.live
        # Not current_thread(), which would make a dummy for a foreign thread.
        record.parent = live.get(id(_active.get(get_ident())))
        key = id(thread)
        if self.begun is not None:
            self.begun[key] = None
        if key in live:
            self._bury(live.pop(key, None))
        record.started = perf_counter()
        live[key] = record

    def _ran(self, thread: Any, error: BaseException | None, attached: bool) -> None:
        now = perf_counter()
        exception = None if error is None or isinstance(error, SystemExit) else _raised(error)
        key = id(thread)
        # Taken off in one step, not looked up before: without the GIL, to do both makes an end several times slower.
        with self.lock:
            record = self.live.get(key) if attached else self.live.pop(key, None)
            if record is None:
                return
            # This is record.describe(thread), written out for speed.
            record.name = thread._name
            record.daemon = thread._daemonic
            record.ident = thread._ident
            record.native_id = thread._native_id
            record.foreign = False
            record.exception = exception
            record.run_ended = now  # after these: somebody who looks just now, and finds it set, reads them
            if not attached:
                record.ended = now
                self._keep(record)

    def _exited(self, attachment: Attachment) -> None:
        thread = attachment.thread
        if thread is None:
            return
        key = id(thread)
        found = _found(thread) if key not in self.live and is_foreign(thread) else None
        with self.lock:
            record = self.live.pop(key, found)
            if record is None:  # it was seen to end with its run()
                return
            if record.started is None and record.foreign and attachment.attached_at >= self.began:
                record.started = self.zero + attachment.attached_at - self.began
            if record.run_ended is None:
                record.describe(thread)
            record.ident = attachment.ident
            record.native_id = attachment.native_id
            record.ended = perf_counter()
            self._keep(record)

    def _failed(self, error: BaseException, hook: object, thread: threading.Thread | None) -> None:
        now = perf_counter()
        record = self.live.get(id(thread or _active.get(get_ident())))
        owner = getattr(hook, "plugin", None)
        name, plugin = describe(hook), None
        if isinstance(owner, Plugin):
            name, plugin = describe(getattr(hook, "func", hook)), owner.name
        kind, message, _, _ = _raised(error)
        with self.lock:
            if len(self.failures) < self.limit:
                self.failures.append((record, now, name, plugin, f"{kind}: {message}" if message else kind))
            else:
                self.left_out = self.left_out._replace(failures=self.left_out.failures + 1)

    def _keep(self, record: Record) -> None:
        # With the lock.
        if len(self.ended) < self.limit:
            self.ended.append(record)
            return
        record.parent = None  # or else each thread would keep the record of the one that started it, without an end
        threads, crashed, failures, most = self.left_out
        most = max(most, len(self.live))  # with this thread, without the main one
        self.left_out = LeftOut(threads + 1, crashed + (record.exception is not None), failures, most)

    def _bury(self, record: Record | None) -> None:
        # Another thread has its id(): it has ended unnoticed. If it is not older than the capture, it could not be
        # started, as when the system has no more threads to give.
        if record is not None and record.started is None:
            record.ended = perf_counter()
            with self.lock:
                self._keep(record)


def _found(thread: threading.Thread) -> Record:
    """A record of a thread that was not seen to start."""
    record = Record()
    record.code = record.parent = None
    record.lasti = 0
    record.number = record.started = record.run_ended = record.ended = record.exception = None
    record.target = _target(thread)
    record.describe(thread)
    return record


def _target(thread: threading.Thread) -> tuple[object, object] | None:
    """What a thread runs, also if that is no plain function; whatever its parts do when they are asked."""
    try:
        target = getattr(thread, "_target", None)
        if target is None and isinstance(thread, threading.Timer):
            target = thread.function
        while hasattr(target, "func"):  # a functools.partial
            target = getattr(target, "func")  # noqa: B009
        if target is None:
            target = type(thread).run
            if target is threading.Thread.run or is_foreign(thread):
                return None
        if not isinstance(getattr(target, "__qualname__", None), str):
            target = type(target)
        return target.__module__, target.__qualname__
    except Exception:  # noqa: BLE001
        return None


def _raised(error: BaseException) -> tuple[str, str, CodeType | None, int]:
    cls = type(error)
    name = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    try:
        message = str(error)
    except Exception:  # noqa: BLE001
        message = "<its str() has failed>"
    if len(message) > _LONGEST_MESSAGE:
        message = f"{message[: _LONGEST_MESSAGE - 1]}…"
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return name, message, None, 0
    return name, message, traceback.tb_frame.f_code, traceback.tb_lasti


def _after_fork_in_child() -> None:
    for capture in list(_open):
        capture.lock = threading.RLock()  # another thread may have held them
        capture.looking = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
