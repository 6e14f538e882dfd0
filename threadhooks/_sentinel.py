"""The sentinel: the only thread-local of the package, and all that follows when it is finalised.

Guarantees, for a thread whose `Stack` has clean-ups, or of which a receiver wants to hear:

- Each clean-up is run once, in its own thread, before `join()` returns; last in, first out, whoever registered it.
  Then `thread_exited` is sent. What either registers meanwhile runs in the same exit, until there is no more.
- Whatever a hook raises is reported, and the next one runs.
- While hooks run, `threading.current_thread()` is the thread that exits; `threading.enumerate()` is as it was after.
- A forked child runs nothing that belongs to its parent's other threads, nor destroys what they had registered.

Assumptions:

- CPython destroys a thread's locals in that thread, before `join()` returns (`PyThreadState_Clear`).
- Of two threads that are alive, at most one has a given ident; no thread soon gets the native id of one that has ended.
- One operation on a ``dict`` or a ``list`` is atomic, so that nothing here takes a lock, and everything may be called
  from a finaliser.

What it does not promise:

- A thread that still runs when the interpreter ends (a daemon) has not exited: nothing of it is announced.
- Whoever takes the sentinel out of `gc.get_objects()` and keeps it stops its thread's hooks: that is reported.
- A hook that registers hooks for ever is stopped, and reported.
- Where `threading.local` was replaced before this module was imported (gevent), a greenlet is a thread, and its hooks
  run in another greenlet of the same OS thread.
"""

from __future__ import annotations

import atexit
import itertools
import os
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from operator import attrgetter
from threading import get_ident, get_native_id
from typing import Any, NamedTuple, Protocol

from ._signals import report, thread_exited, thread_exiting, thread_started

if sys.implementation.name != "cpython":
    warnings.warn(
        f"{sys.implementation.name} does not destroy a thread's locals when the thread ends: the hooks of threadhooks "
        "run late, at some collection, in any thread, or never",
        RuntimeWarning,
        stacklevel=2,
    )

# How many clean-ups may be registered while clean-ups are being run, before we take it for a loop.
_MOST_REGISTERED_MEANWHILE = 1000

# Where greenlets have their own locals, these are cleared from another greenlet, whose ident is not the ended one's.
_GREEN = threading.local.__module__ != "_thread"

_signals = thread_started, thread_exiting, thread_exited


class _Local(threading.local):
    stack: Stack | None = None  # a default is faster than an AttributeError, at a thread's first registration


_local = _Local()
_serials = itertools.count()
_attached: dict[int, Stack] = {}  # by `Stack.key`
_exiting: dict[int, Stack] = {}  # by ident: whose hooks are being run. Their thread-locals must not be touched
_ended: dict[int, int] = {}  # by ident, the native id of the last thread of that ident that has exited
_abandoned: list[object] = []  # what a forked child must neither use nor destroy
_pid = os.getpid()


class ThreadInfo(NamedTuple):
    """What is known of an attached thread; receivers get it as `info`. Nothing in it ever changes."""

    thread: threading.Thread
    """The thread itself: what `threading.current_thread()` returned in it."""
    name: str
    """Its name when this was made: by `attach`, or at the first signal that speaks of the thread."""
    ident: int
    """Its `threading.get_ident()`. It may be in use again as soon as the thread has ended."""
    native_id: int
    """Its `threading.get_native_id()`: the kernel's number."""
    daemon: bool
    """Whether it is a daemon."""
    foreign: bool
    """Whether it was not started by `threading`, but by C code, `_thread`, or a greenlet library."""
    attached_at: float
    """When it was attached, in seconds since the epoch, as from `time.time()`."""


class Entry(Protocol):
    """What stands in a stack: one clean-up, whose state is beside it (see `Stack.entries`)."""

    _thread_stack: Any  # the stack that it belongs to
    _runs_early: bool  # whether it runs at `thread_exiting`, where that comes
    _runs_in_fork: bool  # whether a forked child runs it, too
    _unwind: Callable[..., Any] | None  # instead of the function itself


_State = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any] | None, int]


class Anchor:
    """What weak references to a thread point at: it dies as the thread's exit begins."""

    __slots__ = ("__weakref__", "thread")

    def __init__(self, thread: threading.Thread) -> None:
        self.thread: threading.Thread | None = thread


class Stack:
    """All that we keep of one thread: its clean-ups, and what its `ThreadInfo` is made of."""

    __slots__ = (
        "anchor",
        "announced",
        "attached_at",
        "entries",
        "exception",
        "ident",
        "info",
        "key",
        "marks",
        "native_id",
        "thread",
        "values",
    )

    def __init__(self, thread: threading.Thread, ident: int, native_id: int) -> None:
        self.thread: threading.Thread | None = thread
        self.ident = ident
        self.native_id = native_id
        self.attached_at = time.time()
        # The greenlets of one thread share its native id. An address would do for both, but addresses come back at
        # once, and a free-threaded dict gets slow when a key does.
        self.key = next(_serials) if _GREEN else self.native_id
        self.info: ThreadInfo | None = None
        # A dict is a stack from the middle of which anybody may take: the one who pops an entry is the one to run it.
        # With each entry: what to call, and how many weak references with callbacks had been made before.
        self.entries: dict[Entry, _State] = {}
        self.anchor: Anchor | None = None  # made by the first weak reference
        self.marks = 0  # the weak references with callbacks that were made
        self.values: dict[Any, Any] = {}  # of per-thread resources
        self.announced = False  # whether somebody will tell us when `run()` has ended
        self.exception: BaseException | None = None  # what `run()` raised

    def take(self, entry: Any) -> _State | None:
        """Take a clean-up off the stack; `None` if somebody was faster. Who takes it, may run it."""
        return self.entries.pop(entry, None)

    def describe(self) -> ThreadInfo:
        """The record of this thread, made when it is first asked for."""
        info = self.info
        if info is None:
            thread = self.thread
            assert thread is not None
            foreign = isinstance(thread, threading._DummyThread)
            info = self.info = ThreadInfo(
                thread, thread.name, self.ident, self.native_id, thread.daemon, foreign, self.attached_at
            )
        return info

    def unwind(self) -> None:
        """Run the clean-ups, last in, first out, until there are no more."""
        entries = self.entries
        refs = self._take_refs()
        for _ in range(len(entries) + len(refs) + _MOST_REGISTERED_MEANWHILE):
            if refs or self.anchor is not None:
                refs += self._take_refs()
                if not self._run_newest(refs):
                    return
                continue
            try:
                entry, (func, args, kwargs, _) = entries.popitem()
            except KeyError:
                return
            # What follows is _run(), written out for speed.
            try:
                if entry._thread_stack is not self:
                    continue
                if entry._unwind is not None:
                    entry._unwind(func, args, kwargs)
                elif kwargs is None:
                    func(*args)
                else:
                    func(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - an asynchronous one can arrive here as well
                report(error, func, self.thread)
        self._give_up(refs)

    def unwind_early(self) -> None:
        """Run the clean-ups that are for the early moment, likewise. A loop is left to the late moment to end."""
        for _ in range(len(self.entries) + _MOST_REGISTERED_MEANWHILE):
            if not self._run_newest([], early=True):
                return

    def run(self, entry: Entry, state: _State) -> None:
        """Run a clean-up that was taken off the stack, and report what it raises."""
        func, args, kwargs, _ = state
        try:
            if entry._thread_stack is not self:  # a finalizer that was armed anew, in another thread
                return
            if entry._unwind is not None:
                entry._unwind(func, args, kwargs)
            else:
                func(*args, **(kwargs or {}))
        except BaseException as error:  # noqa: BLE001
            report(error, func, self.thread)

    def _run_newest(self, refs: list[Any], *, early: bool = False) -> bool:
        """Run the newest clean-up, be it an entry or the callback of one of `refs`; return whether there was one."""
        entry = None
        while entry is None:
            try:
                for entry in reversed(self.entries):
                    state = self.entries[entry]
                    if refs and state[3] < refs[-1]._thread_mark:
                        break
                    if not early or entry._runs_early:
                        del self.entries[entry]
                        self.run(entry, state)
                        return True
                break
            except (KeyError, RuntimeError):  # somebody took one away meanwhile
                entry = None
        if not refs:
            return False
        self._call_back(refs.pop())
        return True

    def _call_back(self, ref: Any) -> None:
        callback, ref._thread_callback = ref._thread_callback, None  # a dead reference keeps nothing alive
        try:
            callback(ref)
        except BaseException as error:  # noqa: BLE001
            report(error, callback, self.thread)

    def _give_up(self, refs: list[Any]) -> None:
        """End a loop of hooks that register hooks: all that wait now are run, but not what these register."""
        for entry in reversed(list(self.entries)):
            state = self.take(entry)
            if state is not None:
                self.run(entry, state)
        for ref in reversed(refs):
            self._call_back(ref)
        lost = [func for func, *_ in list(self.entries.values())] + [ref._thread_callback for ref in self._take_refs()]
        self.entries.clear()
        if lost:
            loop = RuntimeError(
                f"clean-ups that were being run registered {_MOST_REGISTERED_MEANWHILE} more, without an end; "
                f"given up: {lost!r}"
            )
            report(loop, lost[-1], self.thread)

    def _take_refs(self) -> list[Any]:
        """Let all weak references to this thread die together, and return those that have a callback, oldest first."""
        anchor = self.anchor
        if anchor is None:
            return []
        self.anchor = None
        anchor.thread = None  # another thread may be looking at the anchor just now
        refs: list[Any] = weakref.getweakrefs(anchor)
        refs = [ref for ref in refs if getattr(ref, "_thread_callback", None) is not None]
        return sorted(refs, key=attrgetter("_thread_mark"))

    def exit(self) -> None:
        """Run all that waits for the end of this thread, in this thread."""
        ident = get_ident()
        _exiting[ident] = self
        # The second unwinding finds what a receiver registered, and what an asynchronous exception left of the first.
        for step in (self.unwind, self._send, self.unwind):
            try:
                step()
            except BaseException as error:  # noqa: BLE001
                report(error, step, self.thread)
        del _exiting[ident]

    def _send(self) -> None:
        if thread_exited.has_receivers_for(self.thread):
            thread_exited.send(self.thread, info=self.describe(), exception=self.exception)

    def forget(self) -> None:
        """The thread has ended: whoever still holds on to this, holds nothing else by it."""
        _attached.pop(self.key, None)
        self._take_refs()
        for signal in _signals:
            if signal.buckets:
                signal.forget(self.thread)
        self.thread = self.info = self.exception = None

    def end(self, active: dict[int, threading.Thread]) -> None:
        """The last of this thread's exit."""
        thread = self.thread
        if not isinstance(thread, threading._DummyThread):
            if not _GREEN:
                _ended[self.ident] = self.native_id
        elif active.get(self.ident) is thread:
            del active[self.ident]  # a foreign thread's dummy was made for us, and up to 3.12 it would stay
        self.forget()

    def abandon(self, *, all: bool = True) -> None:  # noqa: A002
        """In a forked child: never run what is the parent's, nor destroy it, since a destructor may say goodbye."""
        _abandoned.append(self.values)
        self.values = {}
        for entry in list(self.entries):
            if all or not entry._runs_in_fork:
                _abandoned.append((entry, self.take(entry)))


class _Sentinel:
    """Its end is the thread's end. Nobody but the thread-local ever holds it, and nothing can refer to it weakly."""

    __slots__ = ("stack",)

    stack: Stack

    def __del__(
        self, getpid: Callable[[], int] = os.getpid, is_finalizing: Callable[[], bool] = sys.is_finalizing
    ) -> None:
        # A forked child destroys the locals of the threads that it hasn't got, before any handler of ours could run.
        # An interpreter that ends destroys those of daemons, in the main thread.
        if getpid() != _pid or is_finalizing():
            return
        stack = self.stack
        del self  # a hook's traceback refers to this frame
        thread = stack.thread
        if thread is None:
            return
        active = threading._active  # type: ignore[attr-defined]
        if not (stack.entries or stack.anchor is not None or thread_exited.has_receivers_for(thread)):
            stack.end(active)
            return
        ident = get_ident()
        if get_native_id() != stack.native_id or (ident != stack.ident and not _GREEN):
            error = RuntimeError(
                f"the sentinel of {thread!r} was finalised in another thread, since somebody had kept it; "
                f"not run: {[state[0] for state in list(stack.entries.values())]!r}"
            )
            report(error, _Sentinel, thread)
            stack.forget()
            return
        # The thread has left threading._active. It is put back, or else current_thread(), and so logging, would make
        # a dummy that stays there for good.
        before = active.get(ident)
        active[ident] = thread
        try:
            stack.exit()
        finally:
            if before is None:
                del active[ident]
            else:  # another greenlet's, whose ident we borrow; or a foreign thread's own
                active[ident] = before
            stack.end(active)


def current() -> Stack:
    """The stack of the current thread, which is attached if need be. (The hot paths say the same inline.)"""
    if _exiting:
        stack = _exiting.get(get_ident())
        if stack is not None:
            return stack
    return _local.stack or _attach()


def _attach() -> Stack:
    ident = get_ident()
    native_id = get_native_id()
    if not _GREEN:
        # Other locals may be finalised before ours, when ours reads as empty already: our sentinel is still to come.
        # And a subinterpreter's main thread loses its locals after each exec(), but not its stack.
        known = _attached.get(native_id)
        if known is not None and known.ident == ident:
            return known
    if _ended.get(ident) == native_id:  # another thread-local, finalised after ours, has a destructor that calls us
        which = "the main" if ident == threading.main_thread().ident else "this"
        raise RuntimeError(f"the exit of {which} thread has been announced: nothing can be registered for it any more")
    if threading.local is not _Local.__base__:
        raise RuntimeError(
            "threading was patched (by gevent?) after threadhooks was imported: import threadhooks later"
        )
    thread = threading.current_thread()
    is_main = thread is threading.main_thread()
    stack = Stack(thread, ident, native_id)
    # A finaliser may have attached the thread while we made the stack.
    local: dict[str, Any] = _local.__dict__
    winner: Stack = local.setdefault("stack", stack)
    if winner is stack:
        _attached[stack.key] = stack
        if not is_main:
            local["sentinel"] = sentinel = _Sentinel()
            sentinel.stack = stack
    return winner


def attach() -> ThreadInfo:
    """Give the current thread its sentinel, so that its end is announced, and return what is known of it.

    Any registration does so by itself; call this for a thread that should be announced to the receivers of
    `thread_exited` though it registers nothing, for instance as the ``initializer`` of a
    `concurrent.futures.ThreadPoolExecutor`. To attach a thread again changes nothing.

    Raises `RuntimeError` in the main thread, once its exit has been announced.
    """
    return current().describe()


def attached() -> list[Stack]:
    """The stacks of all threads that are attached, oldest first."""
    return list(_attached.values())


def attached_here() -> Stack | None:
    """The stack of the current thread, if it has one."""
    return _exiting.get(get_ident()) or _local.stack


def _at_exit() -> None:
    # Called after the threads that are not daemons have been joined, and after most other handlers, since it was
    # registered early.
    main = threading.main_thread()
    ident = get_ident()
    for stack in attached():
        if stack.thread is main and stack.ident == ident:
            stack.exit()
            stack.forget()
    _ended[ident] = get_native_id()
    _local.stack = None
    # The interpreter is about to destroy what daemons still use, and what belongs to a parent process.
    kept = [*_abandoned, *(stack for stack in attached() if stack.entries)]
    if kept:
        try:
            import ctypes
        except ImportError:
            return
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))


def _after_fork_in_child() -> None:
    global _pid
    _pid = os.getpid()
    _ended.clear()
    mine = attached_here()
    for stack in attached():
        if mine is None or stack.native_id != mine.native_id:
            stack.abandon()
            stack.forget()
            _exiting.pop(stack.ident, None)
    native_id = get_native_id()
    for stack in attached():  # one, or all the greenlets of the thread that forked
        del _attached[stack.key]
        stack.native_id = native_id
        stack.info = None
        _attached[stack.key] = stack
        stack.abandon(all=False)


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
