"""Threads that announce their start and the end of their `run()`, while their thread-locals are still there.

Guarantees:

- `install` makes every `threading.Thread` that is started from then on announce itself, whatever its class overrides.
- What `run()` raises is raised as before. A thread that can't be started is as it was, and may be started again.
- Nothing stays on a thread object, and nothing refers to it in a cycle.

Assumptions:

- `Thread.start` makes the new thread call ``self.run()``, which an attribute of the instance may override.
- Others who wrap `Thread.start` or `run` call what they have wrapped.

What it does not promise:

- A thread that `threading` does not start (`_thread.start_new_thread`, C code) does not announce itself.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import current_thread, get_ident
from typing import Any

from ._attached import announcing
from ._attachment import Attachment, ThreadInfo
from ._fork import in_child, own_thread_only
from ._over import of_all, of_one
from ._report import report
from ._sentinel import attached_here, current
from ._signals import thread_exited, thread_exiting, thread_started

_wanted = False  # by install()
# The blocks of installed() that are being executed, with the ident of the thread that does.
_blocks: dict[object, int] = own_thread_only({}, lambda block, ident: ident)
_wrappers: dict[type, tuple[Any, Any]] = {}  # what we last put in the place of `start`, and of what, by class
# Called in the thread that starts another, just before it does, with the thread that is about to start, whenever one
# is started under install(). By an opaque key.
before_start: dict[object, Callable[[threading.Thread], object]] = {}
_lock = threading.RLock()  # to put it there, and to take it away; a finaliser may come in between


def _begin(thread: threading.Thread) -> None:
    """Announce the start of the current thread, if anybody wants to hear of it."""
    if thread_started.has_receivers_for(thread):
        current().start_of_run()


@contextmanager
def announced() -> Generator[ThreadInfo, None, None]:
    """Announce the current thread for the length of the ``with`` block, as `install` does for the length of `run()`.

    Sends `thread_started`, and at the end, whether the block raised or not, runs the early clean-ups and sends
    `thread_exiting`. Yields the thread's `ThreadInfo`. Within another such block, under `install`, or in a hook of the
    thread's exit, it does nothing.

    Raises `RuntimeError` once the exit of the thread has been announced; and if the block ends in another thread, as
    that of a generator may, or as the thread's locals are destroyed.
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
    active: Any = threading._active.get(here)  # type: ignore[attr-defined]
    if announcing.get(here) is not attachment or active is not info.thread:
        raise RuntimeError(f"the announced() block of {info.thread!r} ends in another thread, or as the thread is gone")
    attachment.end_of_run(error)


def _run(*_: object, previous: Callable[[], None] | None = None) -> None:
    # This is a thread's attribute "run" from start() until now. Others who wrap it may pass the thread.
    thread = current_thread()
    run: Any = thread.run
    if _is_ours(run):
        _take_back(thread, previous)
        run = thread.run
    else:  # somebody's wrapper, which has called us
        run = previous or _run_of_class(thread)
    ident = get_ident()
    if ident in announcing:  # somebody has wrapped us twice
        return run()  # type: ignore[no-any-return]
    announcing[ident] = None
    try:
        if thread_started.general or thread_started.buckets:
            try:
                _begin(thread)
            except Exception as error:  # noqa: BLE001 - it can't be attached, but it shall run
                report(error, _begin, thread)
        try:
            run()
        except BaseException as error:
            _end_run(thread, error)
            raise
        # A thread of which nobody wants to hear is not attached by us: that would cost it more than all the rest.
        heard = thread_exiting.general or thread_exited.general or thread_exiting.buckets or thread_exited.buckets
        if heard or attached_here():
            _end_run(thread, None)
    finally:
        announcing.pop(ident, None)
    # Only attached threads tell that they are over. Who waits for this one asks to be told, and then looks whether the
    # ident is in `announcing`: if it was there, then that one has asked by now.
    if (of_one or of_all) and not attached_here():
        try:
            current()
        except RuntimeError as failure:  # it can't be attached
            report(failure, current, thread)
    return None


def announces(thread: threading.Thread) -> bool:
    """Whether `thread`, which is alive, was started under `install`, and has not ended its `run()`."""
    # What `start` put there is taken away as `run()` begins. A foreign thread may have died without a trace, and
    # another one have its ident.
    foreign = isinstance(thread, threading._DummyThread)
    return _is_ours(vars(thread).get("run")) or (thread.ident in announcing and not foreign)


def _end_run(thread: threading.Thread, error: BaseException | None) -> None:
    try:
        attachment = current()
    except RuntimeError as failure:  # it can't be attached
        report(failure, _end_run, thread)
    else:
        attachment.end_of_run(error)


def _is_ours(run: Any) -> bool:
    return run is _run or (isinstance(run, functools.partial) and run.func is _run)


def _put(thread: threading.Thread, run: Callable[[], None]) -> bool:
    if hasattr(type(type(thread).run), "__set__"):  # a property of the class, which may do anything
        return False
    try:
        object.__setattr__(thread, "run", run)
    except AttributeError:
        return False
    return True


def _take_back(thread: threading.Thread, previous: Callable[[], None] | None) -> None:
    # Not by __dict__, which would be made for this alone; and not by a method of the class, which may forbid it.
    if previous is None:
        object.__delattr__(thread, "run")
    else:
        object.__setattr__(thread, "run", previous)


def _run_of_class(thread: threading.Thread) -> Any:
    run: Any = inspect.getattr_static(type(thread), "run")
    return run.__get__(thread, type(thread)) if hasattr(run, "__get__") else run


def _wrap(start: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(start)
    def announcing_start(self: threading.Thread, *args: Any, **kwargs: Any) -> Any:
        if not (_wanted or _blocks):
            return start(self, *args, **kwargs)
        for watch in list(before_start.values()):
            try:
                watch(self)
            except BaseException as error:  # noqa: BLE001
                report(error, watch, current_thread())
        run: Any = self.run
        ours: Callable[[], None] = _run
        previous: Callable[[], None] | None = None
        if run is self.run:  # a method would be bound anew: it may be an attribute of the instance
            if _is_ours(run):
                return start(self, *args, **kwargs)
            if "run" in self.__dict__:
                previous = run
                ours = functools.partial(_run, previous=run)
        if not _put(self, ours):  # this thread can't be made to announce itself
            return start(self, *args, **kwargs)
        try:
            return start(self, *args, **kwargs)
        except Exception:  # it can't be started. (An interrupt may come when it was.)
            if self.run is ours:
                _take_back(self, previous)
            raise

    return announcing_start


def _patch() -> None:
    """Put our wrapper where it is wanted, and take it away where it isn't."""
    with _lock:
        wanted = None
        while wanted != bool(_wanted or _blocks):  # a finaliser may have come in between
            wanted = bool(_wanted or _blocks)
            for cls in (threading.Thread, threading.Timer):  # a tool may have put a `start` on Timer
                if "start" in vars(cls):
                    _patch_class(cls, wanted)


def _patch_class(cls: Any, wanted: bool) -> None:
    found = vars(cls)["start"]
    ours, before = _wrappers.get(cls, (None, None))
    if not wanted:
        if found is ours:
            cls.start = before
        return
    start = found
    while start is not None:
        if start is ours:
            return  # others may have wrapped it
        start = getattr(start, "__wrapped__", None)
    cls.start = wrapper = _wrap(cls.start)
    _wrappers[cls] = wrapper, found


def install() -> None:
    """Make every `threading.Thread` that is started from now on announce itself: pools, timers, daemons, subclasses.

    Each sends `thread_started` before `run()`, and `thread_exiting` after it, in the thread; then `thread_exited`. To
    install twice is the same as once. May be called in any thread.
    """
    global _wanted
    _wanted = True
    _patch()


def uninstall() -> None:
    """Undo `install`: threads that are started from now on don't announce themselves, but for `installed` blocks.

    To uninstall twice does no harm. May be called in any thread.
    Where another tool has wrapped `Thread.start` meanwhile, our wrapper stays beneath, and only calls the original.
    """
    global _wanted
    _wanted = False
    _patch()


@contextmanager
def installed() -> Generator[None, None, None]:
    """As `install`, for the length of the ``with`` block, whichever thread starts threads. Blocks nest and overlap."""
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
