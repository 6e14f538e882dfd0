"""Threads that announce their start and the end of their `run()`, while their thread-locals are still there.

`install` replaces `Thread.start` by a wrapper. The wrapper gives the thread object an attribute `run`, which is found
before the method of its class. It announces the thread, runs it, and announces its end.

Guarantees:

- `install` makes every `threading.Thread` that is started from then on announce itself, whatever its class overrides.
- A thread is announced once, in itself, and only if it has started. Calling its `run()` elsewhere only runs it.
- What `run()` raises is raised as before. A thread that can't be started is as it was, and may be started again.
- Nothing stays on a thread object, and nothing refers to it in a cycle.

Assumptions:

- `Thread.start` makes the new thread call ``self.run()``, which an attribute of the instance may override.
- `threading._active` has the thread objects of the threads that run, by ident.
- Others who wrap `Thread.start` or `run` call what they have wrapped.

What it does not promise:

- A thread that `threading` does not start (`_thread.start_new_thread`, C code) does not announce itself.
- A `start` that never calls `run()` leaves our attribute on the thread object, where it waits for that call.
- A call of a thread's `run()`, while another thread is just starting it, may take the announcement from it.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Thread, get_ident
from types import FunctionType
from typing import Any

from ._attached import announcing, by_key
from ._attachment import Attachment, ThreadInfo
from ._fork import check as check_process
from ._fork import in_child, own_thread_only, unsettled
from ._over import of_all, of_one
from ._report import describe, report
from ._sentinel import attached_here, current
from ._signals import thread_exited, thread_exiting, thread_started
from ._start import replace_start, restore_start
from ._threads import attributes, ident_of, is_foreign

_wanted = False  # by install()
# The blocks of installed() that are being executed, with the ident of the thread that does.
_blocks: dict[object, int] = own_thread_only({}, lambda block, ident: ident)
# The ids of the threads that are being started, with the ident of the thread that starts each.
_starting: dict[int, int] = own_thread_only({}, lambda key, ident: ident)
_lock = threading.RLock()  # to put our wrappers there, and to take them away; a finalizer may come in between

before_start: dict[object, Callable[[threading.Thread], object]] = {}
"""Callbacks, each under a key of its owner's choice, for what has to know who starts whom.

Each is called once for every `start()` under `install`, in the thread that calls it, with the thread that is about to
start; not for a thread that was started before. The start may still fail. What a callback raises is reported.
"""

# Called in a thread started under install(), as soon as run() has ended: with the thread, what run() raised, and
# whether the thread is attached, so that `_sentinel.after_exit` follows. This attaches no thread: a receiver of
# `thread_exiting` would, and to attach a thread costs more than all else that install() does. By an opaque key.
after_run: dict[object, Callable[[threading.Thread, BaseException | None, bool], object]] = {}

# The threads that run, by ident. `current_thread()` would tell, too, but in a thread that `threading` has not started
# it makes a dummy, which stays there.
_active: dict[int, threading.Thread] = threading._active  # type: ignore[attr-defined]

_OF_THREAD = vars(Thread)  # as it is at any time
_RUN = Thread.run
_ABSENT: Any = object()
_traceback: Any = vars(BaseException)["__traceback__"]


@contextmanager
def announced() -> Generator[ThreadInfo, None, None]:
    """Announce the current thread for the length of the ``with`` block, as `install` does for the length of `run()`.

    At the start, emits `thread_started`. At the end, whether the block raised or not, runs the early cleanups and emits
    `thread_exiting`. Yields the thread's `ThreadInfo`. Does nothing else inside another such block, in a thread started
    under `install`, or in a hook of the thread's exit.

    Raises `RuntimeError` after the exit of the thread. At its end, raises it if that comes in another thread (as it may
    for a block in a generator), or while the thread's locals are being destroyed.
    """
    attachment = current()
    ident = get_ident()
    if ident in announcing or attachment.began:
        yield attachment.describe()
        return
    attachment.exception = None  # of an earlier block
    announcing[ident] = attachment
    try:
        attachment.start_of_run()
        info = attachment.describe()
        try:
            yield info
        except BaseException as error:
            _end_block(attachment, info, error)
            raise
        else:
            _end_block(attachment, info, None)
    finally:
        if announcing.get(ident) is attachment:  # or else the thread has ended, and another one has its ident
            del announcing[ident]


def _end_block(attachment: Attachment, info: ThreadInfo, error: BaseException | None) -> None:
    here = get_ident()
    if announcing.get(here) is not attachment or _active.get(here) is not info.thread:
        thread = describe(info.thread)
        raise RuntimeError(f"the announced() block of {thread} ends in another thread, or after that thread has ended")
    attachment.end_of_run(error)


class _Run:
    """A thread's attribute `run` from `start()` until the thread begins: a call announces the thread, and runs it.

    It may be kept and called by anybody. Tools that wrap `run` keep what they have wrapped on the thread object, and a
    test double may call it in the thread that calls `start()`. So it knows which thread it is for. It refers to that
    weakly, since the thread refers to it, and would otherwise live until the next collection of garbage.
    """

    __slots__ = ("_own", "_thread", "only_runs")

    def __init__(self, thread: threading.Thread, own: Any) -> None:
        self._thread = weakref.ref(thread)
        self._own = own  # the attribute `run` that was there before
        self.only_runs = False  # once the thread has been announced, or could not be started

    def __call__(self, *_: object) -> None:  # tools may pass the thread, or what they take for it
        thread = self._thread()
        if thread is None:
            raise ReferenceError("the thread object whose run() this was is gone")
        if self.take_off(thread):
            run: Any = thread.run
        else:  # a tool's wrapper has its place, and has called us
            run = _bind(_run_in_class(thread), thread) if self._own is _ABSENT else self._own
        ident = get_ident()
        if self.only_runs or ident in announcing or _active.get(ident) is not thread:
            run()
            return
        self.only_runs = True
        announcing[ident] = None
        try:
            if (thread_started.general or thread_started.buckets) and thread_started.has_receivers_for(thread):
                try:
                    current().start_of_run()
                except Exception as error:  # noqa: BLE001 - it can't be attached: it runs as without us
                    report(error, current, thread)
                    run()
                    return
            try:
                run()
            except BaseException as error:
                # It is reported as it would be without us. (3.10 keeps a traceback of its own for the `raise` below.)
                # By BaseException's own attribute, whatever the class of the exception makes of that name.
                _traceback.__set__(error, getattr(_traceback.__get__(error), "tb_next", None))
                _tell_run_ended(thread, error, True)
                _end_run(thread, error)
                raise
            # A thread of which nobody must be told is not attached by us: that would cost it more than all the rest.
            told = thread_exiting.general or thread_exited.general or thread_exiting.buckets or thread_exited.buckets
            attached = bool(told or (by_key and attached_here() is not None))
            if after_run:
                _tell_run_ended(thread, None, attached)
            if attached:
                _end_run(thread, None)
        finally:
            announcing.pop(ident, None)
        # Only attached threads tell that they are over. Who waits for this one asks to be told, and then looks whether
        # the ident is in `announcing`: if it was there, then that one has asked by now.
        if (of_one or of_all) and attached_here() is None:
            try:
                current()
            except RuntimeError as failure:  # it can't be attached
                report(failure, current, thread)

    def take_off(self, thread: threading.Thread) -> bool:
        """Put back what was there before, and say so; unless somebody else has put something there since."""
        if thread.run is not self:
            return False
        if self._own is _ABSENT:
            try:
                object.__delattr__(thread, "run")  # whatever the class does in a `__delattr__` of its own
            except AttributeError:  # somebody else has called this at the same time
                return False
        else:
            object.__setattr__(thread, "run", self._own)
        return True


def announces(thread: threading.Thread) -> bool:
    """Whether `thread`, which is alive, was started under `install`, and has not ended its `run()`."""
    # What `start` put there is taken away as `run()` begins. A foreign thread may have died without a trace, and
    # another one have its ident.
    own = attributes(thread)  # a class may answer what it likes
    return type(own.get("run")) is _Run or (own.get("_ident") in announcing and not is_foreign(thread))


def _tell_run_ended(thread: threading.Thread, error: BaseException | None, attached: bool) -> None:
    for watch in list(after_run.values()):
        try:
            watch(thread, error, attached)
        except BaseException as failure:  # noqa: BLE001
            report(failure, watch, thread)


def _end_run(thread: threading.Thread, error: BaseException | None) -> None:
    try:
        attachment = current()
    except RuntimeError as failure:  # it can't be attached
        report(failure, _end_run, thread)
    else:
        attachment.end_of_run(error)


def _run_in_class(thread: threading.Thread) -> Any:
    """What stands in the class of `thread` as `run`: a descriptor, which is not asked for what it stands for."""
    for cls in type(thread).__mro__:
        if "run" in (attributes := cls.__dict__):
            return attributes["run"]
    raise AttributeError("run")


def _bind(found: Any, thread: threading.Thread) -> Any:
    get = getattr(type(found), "__get__", None)
    return found if get is None else get(found, thread, type(thread))


def _put(thread: threading.Thread) -> _Run | None:
    """Make the thread announce itself when it runs. Return what does so, or `None` where that can't be done."""
    try:
        # A property, or a slot, comes before any attribute of the instance. (Nearly every thread is spared the search.)
        plain = type(thread) is Thread and _OF_THREAD.get("run") is _RUN
        if not plain and hasattr(type(_run_in_class(thread)), "__set__"):
            return None
        # A bound method is made anew each time, an attribute of the instance isn't. (Asking for `__dict__` makes one.)
        run: Any = thread.run
        own = run if run is thread.run and "run" in thread.__dict__ else _ABSENT
        ours = _Run(thread, own)
        object.__setattr__(thread, "run", ours)  # whatever the class does in a `__setattr__` of its own
    except Exception:  # noqa: BLE001 - what is not quite a thread may be started, too
        return None
    return ours


def _wrap(found: Any) -> Any:
    """A wrapper for what stands in a class as `start`: a function, or another descriptor."""

    def bound(self: threading.Thread, *args: Any, **kwargs: Any) -> Any:
        return _bind(found, self)(*args, **kwargs)

    start = found if type(found) is FunctionType else bound

    @functools.wraps(found)
    def announcing_start(self: threading.Thread, *args: Any, **kwargs: Any) -> Any:
        if unsettled:
            check_process()  # a forked child doesn't execute other threads' blocks
        key, here = id(self), get_ident()
        try:
            started = self._ident is not None  # type: ignore[attr-defined]  # `ident` may be overridden
        except Exception:  # noqa: BLE001 - a subclass without __init__, which start() will refuse
            started = False
        # A wrapper of ours may be beneath another one, with a tool in between.
        if started or not (_wanted or _blocks) or _starting.get(key) == here:
            return start(self, *args, **kwargs)
        ours = None
        try:
            _starting[key] = here
            if before_start:
                for callback in list(before_start.values()):
                    try:
                        callback(self)
                    except BaseException as error:  # noqa: BLE001
                        report(error, callback, threading.current_thread())
            ours = _put(self)
            if args or kwargs:  # or else the plain call spares half a microsecond
                return start(self, *args, **kwargs)
            return start(self)
        except Exception:
            # It can't be started. But a signal handler, or a tool, may raise when it was. (As does an interrupt.)
            if ours is not None and ident_of(self) is None:
                ours.take_off(self)
                ours.only_runs = True
            raise
        finally:
            _starting.pop(key, None)

    return announcing_start


def _patch() -> None:
    """Put our wrapper where it is wanted, and take it away where it isn't."""
    with _lock:
        wanted = None
        while wanted != bool(_wanted or _blocks):  # a finalizer may have come in between
            wanted = bool(_wanted or _blocks)
            if wanted:
                replace_start(_wrap)
            else:
                restore_start()


def install() -> None:
    """Make every `threading.Thread` that is started from now on emit lifecycle signals, even in a pool.

    Such a thread announces itself, whatever its class: it emits `thread_started` before `run()`, `thread_exiting` after
    it, and `thread_exited` at its end. Installing twice is the same as once. May be called in any thread.
    """
    global _wanted
    _wanted = True
    _patch()


def uninstall() -> None:
    """Undo `install`: threads that are started from now on don't announce themselves, except in `installed` blocks.

    Uninstalling twice is the same as once. May be called in any thread. If another tool has wrapped `Thread.start`
    since `install`, our wrapper stays below that one, and only calls the original.
    """
    global _wanted
    _wanted = False
    _patch()


@contextmanager
def installed() -> Generator[None, None, None]:
    """Like `install`, for the length of the ``with`` block, in all threads. Blocks may nest and overlap."""
    token = object()
    _blocks[token] = get_ident()
    try:
        _patch()
        yield
    finally:
        _blocks.pop(token, None)
        _patch()


@in_child
def _in_child() -> None:
    global _lock
    _lock = threading.RLock()  # another thread may have held it
    _patch()
