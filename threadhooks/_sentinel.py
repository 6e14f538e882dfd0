"""The sentinel: the only thread-local of the package, and all that follows when it is finalised.

Guarantees, for a thread whose `Stack` has clean-ups, or of which a receiver wants to hear:

- Each clean-up is run once, in its own thread, before `join()` returns; last in, first out, whoever registered it.
  Then `thread_exited` is sent. What either registers meanwhile runs in the same exit, until there is no more.
- Whatever a hook raises is reported, and the next one runs.
- While hooks run, `threading.current_thread()` is the thread that exits; `threading.enumerate()` is as it was after.
- A forked child runs nothing that belongs to its parent's other threads, nor destroys what they had registered.

Assumptions:

- CPython destroys a thread's locals in that thread, before `join()` returns (`PyThreadState_Clear`).
- `weakref.getweakrefs` lists references of a class of ours from the newest to the oldest.
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
from collections.abc import Callable, Iterator
from operator import length_hint
from threading import get_ident, get_native_id
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol
from weakref import getweakrefcount, getweakrefs

from ._signals import describe, report, thread_exited, thread_exiting, thread_started

if sys.implementation.name != "cpython":
    warnings.warn(
        f"{sys.implementation.name} does not destroy a thread's locals when the thread ends: the hooks of threadhooks "
        "run late, at some collection, in any thread, or never",
        RuntimeWarning,
        stacklevel=2,
    )

# How many clean-ups may be registered while clean-ups are being run, before we take it for a loop; and how many
# asynchronous exceptions may interrupt us between two of them.
_MOST_REGISTERED_MEANWHILE = 10_000
_MOST_INTERRUPTIONS = 100

# Where greenlets have their own locals, these are cleared from another greenlet, whose ident is not the ended one's.
_GREEN = threading.local.__module__ != "_thread"


_NOTHING: Any = MappingProxyType({})


class _Local(threading.local):
    stack: Stack | None = None  # a default is faster than an AttributeError, at a thread's first registration


_local = _Local()
_base = threading.local
_serials = itertools.count()
_attached: dict[int, Stack] = {}  # by `Stack.key`
_exiting: dict[int, Stack] = {}  # by ident: whose hooks are being run. Their thread-locals must not be touched
_ended: dict[int, int] = {}  # by ident, the native id of the last thread of that ident that has exited
# The idents of the threads that will announce the end of what they run; with the stack, for a block of announced().
announcing: dict[int, Stack | None] = {}
_abandoned: list[object] = []  # what must neither be used nor destroyed, by a forked child above all
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


if TYPE_CHECKING:

    class Entry(Protocol):
        """What stands in a stack: one clean-up, whose state is beside it (see `Stack.entries`)."""

        _runs_in_fork: bool  # whether a forked child runs it, too

    # What to call; with its arguments, if there are any. (What can be called is no tuple.)
    State = Callable[[], Any] | tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any] | None]


# Classes of entries that are run by calling their state. One of another class has a method for it, `_thread_unwind`;
# to look for it costs a tenth of an exit, so it is done only once there is such a class.
plain: set[type] = set()
all_plain = True


def not_all_plain() -> None:
    """Say that there is such a class."""
    global all_plain
    all_plain = False


def unpack(state: Any) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """What to call, and its arguments."""
    if type(state) is tuple:
        func, args, kwargs = state
        return func, args, kwargs or {}
    return state, (), {}


class Anchor:
    """What weak references to a thread point at: it dies as the thread's exit begins.

    A thread has several, one for each run of references between two other clean-ups; nobody can tell them apart.
    """

    __slots__ = ("__weakref__", "stack", "thread")

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.thread = stack.thread

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Anchor) and self.stack is other.stack

    def __hash__(self) -> int:
        return hash(self.stack)


class _Segment:
    """The clean-up that calls the callbacks of the weak references to one anchor, without keeping these alive."""

    __slots__ = ("anchor", "refs", "stack")

    _runs_in_fork = True

    def __init__(self, stack: Stack, anchor: Anchor) -> None:
        self.stack = stack
        self.anchor: Anchor | None = anchor
        self.refs: Iterator[Any] = iter(())  # once they are dead: those that wait, newest first

    def die(self) -> None:
        """Let the references die, all at once."""
        anchor = self.anchor
        if anchor is not None:
            self.refs = iter(getweakrefs(anchor))
            self.anchor = anchor.thread = None  # another thread may be looking at the anchor just now

    def __call__(self) -> None:
        """Call the callbacks, last in, first out; but what one of them registers comes before the next."""
        stack = self.stack
        entries = stack.entries
        entries[self] = self  # below what will be registered
        stack.anchor = False  # until something is registered
        self.die()
        for ref in self.refs:
            try:
                callback = ref._thread_callback
                ref._thread_callback = None  # a dead reference keeps nothing alive
            except (AttributeError, TypeError):
                callback = self._take_callback(ref)
            if callback is not None:
                try:
                    callback(ref)
                except BaseException as error:  # noqa: BLE001
                    report(error, callback, stack.thread)
                if stack.anchor is not False:
                    return  # type: ignore[unreachable]  # mypy doesn't see that the callback may have registered
        stack.segments.pop(self, None)
        entries.pop(self, None)

    @staticmethod
    def _take_callback(ref: Any) -> Any:
        try:
            callback = ref._thread_callback
        except AttributeError:  # it was being made, by a thread that is not here after a fork
            return None
        object.__setattr__(ref, "_thread_callback", None)  # its class forbids it, but not to us
        return callback


plain.add(_Segment)


class Stack:
    """All that we keep of one thread: its clean-ups, and what its `ThreadInfo` is made of."""

    __slots__ = (
        "__dict__",  # what few threads need is made when it is needed: see below
        "anchor",
        "attached_at",
        "entries",
        "exception",
        "ident",
        "info",
        "key",
        "native_id",
        "sent",
        "thread",
    )

    early: dict[Any, None] = _NOTHING  # those of the entries that run at `thread_exiting`, where that comes
    segments: dict[_Segment, None] = _NOTHING  # those of the entries that are segments, until they have run
    segments_before_purge = 8
    values: dict[Any, Any] = _NOTHING  # of per-thread resources

    def __init__(self, thread: threading.Thread, ident: int, native_id: int) -> None:
        self.thread: threading.Thread | None = thread
        self.ident = ident
        self.native_id = native_id
        self.attached_at = time.time()
        # The greenlets of one thread share its native id. An address would do for both, but addresses come back at
        # once, and a free-threaded dict gets slow when a key does.
        self.key = next(_serials) if _GREEN else native_id
        # A dict is a stack from the middle of which anybody may take: the one who pops an entry is the one to run it.
        self.entries: dict[Any, State] = {}
        # What a new weak reference points at. Whoever adds another entry sets it to None, so that references and
        # entries unwind in one order.
        self.anchor: Anchor | Literal[False] | None = None
        self.info: ThreadInfo | None = None
        self.exception: BaseException | None = None  # what `run()` raised
        self.sent = False  # whether `thread_exited` was sent

    def open_segment(self) -> Anchor:
        """Return a new anchor, whose references unwind before all that is registered now."""
        segments: dict[_Segment, None] = self.__dict__.setdefault("segments", {})
        if len(segments) >= self.segments_before_purge:
            for segment in list(segments):
                # One that somebody else holds as well is about to get a reference.
                if getweakrefcount(segment.anchor) == 0 and sys.getrefcount(segment.anchor) <= 2:
                    segments.pop(segment, None)
                    self.entries.pop(segment, None)
            self.segments_before_purge = 2 * len(segments) + 8
        anchor = Anchor(self)
        segment = _Segment(self, anchor)
        segments[segment] = None
        self.entries[segment] = segment
        self.anchor = anchor
        return anchor

    def add(self, entry: Entry, state: State, *, early: bool = False) -> None:
        """Register a clean-up. (`threadref.finalize` says the same inline.)"""
        if early:
            self.__dict__.setdefault("early", {})[entry] = None
        self.entries[entry] = state
        self.anchor = None

    def take(self, entry: Any) -> State | None:
        """Take a clean-up off the stack; `None` if somebody was faster. Who takes it, may run it."""
        if self.early:
            self.early.pop(entry, None)
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
        waiting = len(entries)
        if self.segments:
            self.let_refs_die()
            for segment in list(self.segments):
                entries.setdefault(segment, segment)  # one that an asynchronous exception has cost us
                waiting += length_hint(segment.refs)
        pop = entries.popitem
        entry: Any = None
        state: Any = None
        for _ in range(waiting + _MOST_REGISTERED_MEANWHILE):
            if not entries:
                entry = state = None  # its destructor may register
                if not entries:
                    return
            try:
                entry, state = pop()
            except KeyError:  # somebody took it meanwhile
                continue
            # What follows is run(), written out for speed.
            try:
                if not all_plain and type(entry) not in plain:
                    entry._thread_unwind(state)
                    continue
                match state:  # which looks at a flag first; type() alone would be slower
                    case [*_] if type(state) is tuple:  # no names for its parts: these would outlive it
                        state[0](*state[1], **(state[2] or {}))
                    case _:
                        state()
            except BaseException as error:  # noqa: BLE001 - an asynchronous one can arrive here as well
                if isinstance(entry, _Segment) and entry in self.segments:
                    entries.setdefault(entry, entry)  # before it could do so itself
                report(error, unpack(state)[0], self.thread)
        self._give_up()

    def unwind_early(self) -> None:
        """Run the clean-ups that are for the early moment, likewise. A loop is left to the late moment to end."""
        if not self.early:
            return
        for _ in range(len(self.early) + _MOST_REGISTERED_MEANWHILE):
            try:
                entry, _ = self.early.popitem()
            except KeyError:
                return
            self.run(entry)

    def run(self, entry: Any) -> None:
        """Run a clean-up, unless somebody else has taken it, and report what it raises."""
        state = self.take(entry)
        if state is None:
            return
        func, args, kwargs = unpack(state)
        try:
            if type(entry) in plain:
                func(*args, **kwargs)
            else:
                entry._thread_unwind(state)
        except BaseException as error:  # noqa: BLE001
            report(error, func, self.thread)

    def _give_up(self) -> None:
        """End a loop of hooks that register hooks: all that wait now are run, but not what these register."""
        for entry in reversed(list(self.entries)):
            self.run(entry)
            while isinstance(entry, _Segment) and entry in self.entries:
                self.run(entry)
        lost = self.hooks()
        self.entries.clear()
        if self.segments:
            self.segments.clear()
        if lost:
            names = ", ".join({describe(hook): None for hook in lost[:-11:-1]})
            loop = RuntimeError(
                f"clean-ups that were being run registered {_MOST_REGISTERED_MEANWHILE} more, without an end; "
                f"given up are {len(lost)}, the last of them {names}"
            )
            report(loop, lost[-1], self.thread)

    def hooks(self) -> list[Callable[..., Any]]:
        """What would be called, newest last; for reports. The references die."""
        self.let_refs_die()
        hooks: list[Any] = []
        for entry in list(self.entries):
            state = self.entries.get(entry)
            if isinstance(entry, _Segment):
                callbacks = [entry._take_callback(ref) for ref in entry.refs]
                hooks += [callback for callback in reversed(callbacks) if callback is not None]
            elif state is not None:
                hooks.append(unpack(state)[0])
        return hooks

    def let_refs_die(self) -> None:
        """Let all weak references to this thread die together."""
        self.anchor = None
        for segment in list(self.segments):
            segment.die()

    def exit(self, ident: int) -> None:
        """Run all that waits for the end of this thread, in this thread."""
        for _ in range(_MOST_INTERRUPTIONS):
            try:  # after an exception, this goes on where it was
                _exiting[ident] = self
                self.unwind()
                if not self.sent:
                    self.sent = True
                    if thread_exited.general or thread_exited.buckets:
                        thread_exited.send(self.thread, info=self.describe(), exception=self.exception)
                    self.exception = None  # here, since what it keeps alive may register as it is destroyed
                if self.entries or self.segments:  # what a receiver registered
                    self.unwind()
                return
            except BaseException as error:  # noqa: BLE001 - an asynchronous one: what a hook raises doesn't get here
                report(error, self.exit, self.thread)

    def end(self, ident: int, active: dict[int, threading.Thread], before: threading.Thread | None) -> None:
        """The last of this thread's exit. To repeat it does no harm."""
        _exiting.pop(ident, None)
        if before is None:
            active.pop(ident, None)
        else:  # another greenlet's, whose ident we borrow; or a foreign thread's own
            active[ident] = before
        if not (_GREEN or self.thread is None or isinstance(self.thread, threading._DummyThread)):
            _ended[self.ident] = self.native_id
        self.forget()

    def forget(self) -> None:
        """The thread has ended: whoever still holds on to this, holds nothing else by it."""
        _attached.pop(self.key, None)
        if announcing.get(self.ident) is self:  # a block that was left open
            del announcing[self.ident]
        if self.segments:
            self.let_refs_die()
            self.segments.clear()
        if self.early:
            self.early.clear()
        self.entries.clear()
        if thread_exited.buckets or thread_exiting.buckets or thread_started.buckets:
            for signal in (thread_started, thread_exiting, thread_exited):
                signal.forget(self.thread)
        self.thread = self.info = self.exception = None

    def abandon(self, *, all: bool = True) -> None:  # noqa: A002
        """Never run what belongs to a thread that isn't here, nor destroy it, since a destructor may say goodbye."""
        if self.values:
            _abandoned.append(self.values)
            self.values = {}
        for entry in list(self.entries):
            if all or not entry._runs_in_fork:
                _abandoned.append((entry, self.take(entry)))


class _Sentinel:
    """Its end is the thread's end. Nobody but the thread-local ever holds it, and nothing can refer to it weakly."""

    __slots__ = ("stack",)

    stack: Stack | None

    def __del__(
        self, getpid: Callable[[], int] = os.getpid, is_finalizing: Callable[[], bool] = sys.is_finalizing
    ) -> None:
        if is_finalizing():  # an interpreter that ends destroys the locals of daemons, in the main thread
            return
        stack = self.stack
        del self  # a hook's traceback refers to this frame
        thread = stack.thread if stack is not None else None
        if stack is None or thread is None:
            return
        ident = get_ident()
        here = get_native_id() == stack.native_id and (ident == stack.ident or _GREEN)
        if not here and getpid() != _pid:
            # A forked child destroys the locals of threads that it hasn't got, before any handler of ours could run.
            return
        active: dict[int, threading.Thread] = threading._active  # type: ignore[attr-defined]
        before = active.get(ident)
        if before is thread:
            if not isinstance(thread, threading._DummyThread):
                # The thread still runs. Up to 3.11 a collection may run while CPython makes the thread's locals; what
                # finalisers keep in these meanwhile is lost, but for what we put in again now.
                _arm(stack)
                return
            before = None  # it was made for us, and up to 3.12 it would stay
        if not (stack.entries or thread_exited.general or thread_exited.buckets):
            stack.end(ident, active, before)
            return
        if not here:
            error = RuntimeError(
                f"the sentinel of {thread!r} was finalised in another thread, since somebody had kept it; "
                f"not run: {stack.hooks()!r}"
            )
            report(error, _Sentinel, thread)
            stack.abandon()  # a destructor might do what must not be done in this thread
            stack.forget()
            return
        # The thread has left threading._active. It is put back, or else current_thread(), and so logging, would make
        # a dummy that stays there for good.
        active[ident] = thread
        try:
            try:
                stack.exit(ident)
            except BaseException as failure:  # noqa: BLE001 - an asynchronous one, between the steps of that
                report(failure, stack.exit, thread)
                stack.exit(ident)
            finally:
                stack.end(ident, active, before)
        except BaseException as failure:  # noqa: BLE001 - likewise; it may have cut that short
            stack.end(ident, active, before)
            report(failure, stack.end, thread)


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
    known = None if _GREEN else _attached.get(native_id)
    if known is not None and known.ident == ident:
        active: Any = threading._active.get(ident)  # type: ignore[attr-defined]
        if active is None or active is not known.thread or isinstance(active, threading._DummyThread):
            # Other locals are finalised before ours, when ours reads as empty already: our sentinel is still to come.
            return known
        # A subinterpreter's main thread loses its locals after each exec(); as to others, see _Sentinel.__del__.
        return _publish(known, threading.current_thread())
    if _ended.get(ident) == native_id:  # another thread-local, finalised after ours, has a destructor that calls us
        active = threading._active.get(ident)  # type: ignore[attr-defined]
        is_main = active is threading.main_thread()
        if is_main or active is None:  # or else both numbers have come back
            which = "the main" if is_main else "this"
            raise RuntimeError(
                f"the exit of {which} thread has been announced: nothing can be registered for it any more"
            )
    if threading.local is not _base:
        raise RuntimeError(
            "threading was patched (by gevent?) after threadhooks was imported: import threadhooks later"
        )
    thread = threading.current_thread()
    return _publish(Stack(thread, ident, native_id), thread)


def _publish(stack: Stack, thread: threading.Thread) -> Stack:
    """Make `stack` that of the current thread, unless that has one; return the one that it has then."""
    # A finaliser may have attached the thread while we made the stack: who comes first, wins.
    # A forked child's main thread may be a thread like others.
    is_main = isinstance(thread, threading._MainThread)  # type: ignore[attr-defined]
    # No variable for the locals: a traceback, of a RecursionError for instance, would keep them, and so the sentinel.
    stack = _local.__dict__.setdefault("main", stack) if is_main else _arm(stack)
    _attached[stack.key] = stack
    _local.stack = stack  # last: who finds it, may rely on the rest
    return stack


def _arm(stack: Stack) -> Stack:
    """Put a sentinel for `stack` among the current thread's locals; return the stack of the one that is there then."""
    sentinel: Any = _Sentinel()
    winner: Any = None
    try:
        sentinel.stack = stack
        winner = _local.__dict__.setdefault("sentinel", sentinel)
        if winner is not sentinel:
            sentinel.stack = None  # nobody needs it: its end is nobody's
        return winner.stack  # type: ignore[no-any-return]
    finally:
        sentinel = winner = None  # or else the traceback of an asynchronous exception would keep it


def attach() -> ThreadInfo:
    """Give the current thread its sentinel, so that its end is announced, and return what is known of it.

    Any registration does so by itself; call this for a thread that should be announced to the receivers of
    `thread_exited` though it registers nothing, for instance as the ``initializer`` of a
    `concurrent.futures.ThreadPoolExecutor`. To attach a thread again changes nothing.

    Raises `RuntimeError` once the exit of the thread has been announced: in an `atexit` handler of the main thread, or
    in the destructor of another thread-local.
    """
    return current().describe()


def attached() -> list[Stack]:
    """The stacks of all threads that are attached, oldest first."""
    return list(_attached.values())


def attached_here() -> Stack | None:
    """The stack of the current thread, if it has one. Touches no thread-local, where that can be avoided."""
    if _GREEN:
        return _exiting.get(get_ident()) or _local.stack
    stack = _attached.get(get_native_id())
    return stack if stack is not None and stack.ident == get_ident() else None


def _at_exit() -> None:
    # Called after the threads that are not daemons have been joined, and after most other handlers, since it was
    # registered early.
    main = threading.main_thread()
    ident = get_ident()
    for stack in attached():
        if stack.thread is main and stack.ident == ident:
            try:
                stack.exit(ident)
            except BaseException as error:  # noqa: BLE001 - an interrupt between two hooks
                report(error, stack.exit, main)
                stack.exit(ident)
            _exiting.pop(ident, None)
            stack.forget()
    _ended[ident] = get_native_id()
    _local.stack = None
    # The interpreter is about to destroy what daemons still use and will add, and what belongs to a parent process.
    kept = _attached, _abandoned
    if any(kept) or threading.active_count() > 1:
        try:
            import ctypes
        except ImportError:
            return
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))


def _after_fork_in_child() -> None:
    global _pid
    _pid = os.getpid()
    _ended.clear()
    here = get_ident()
    for ident in list(announcing):  # that of a thread which isn't there any more may come back
        if ident != here:
            del announcing[ident]
    # Its native id was the parent's. It is found by its ident where the thread's locals are being destroyed.
    mine = _exiting.get(here) or _local.stack or next((stack for stack in attached() if stack.ident == here), None)
    for stack in attached():
        if mine is None or stack.native_id != mine.native_id:
            stack.abandon()
            stack.forget()
            _exiting.pop(stack.ident, None)
    native_id = get_native_id()
    for stack in attached():  # one, or all the greenlets of the thread that forked
        del _attached[stack.key]
        stack.native_id = native_id
        if not _GREEN:
            stack.key = native_id
        stack.info = None
        _attached[stack.key] = stack
        stack.abandon(all=False)


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
