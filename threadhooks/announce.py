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
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import get_ident
from typing import Any

from ._sentinel import Stack, ThreadInfo, announcing, attached_here, current
from ._signals import report, thread_exited, thread_exiting, thread_started

_wanted = False  # by install()
_blocks: dict[object, None] = {}  # of installed(), that are being executed
_wrapper: Callable[..., None] | None = None  # what we last put in the place of Thread.start


def _begin(thread: threading.Thread) -> bool:
    """Announce the start of the current thread, unless that was done; return whether its end is to be announced."""
    ident = get_ident()
    if ident in announcing:
        return False
    announcing[ident] = None
    # A thread of which nobody wants to hear is not attached: that would cost it more than all the rest.
    if thread_started.has_receivers_for(thread):
        thread_started.send(thread, info=current().describe())
    return True


def _end(thread: threading.Thread, error: BaseException | None) -> None:
    """Announce that the body of the thread has ended: the early clean-ups, then `thread_exiting`."""
    try:
        stack = attached_here()
        if stack is None:
            if not (thread_exiting.has_receivers_for(thread) or thread_exited.has_receivers_for(thread)):
                return
            stack = current()
        stack.exception = error
        # As at the late moment: the second unwinding finds what a receiver registered.
        for step in (Stack.unwind_early, _send, Stack.unwind_early):
            try:
                step(stack)
            except BaseException as failure:  # noqa: BLE001 - an asynchronous one
                report(failure, step, thread)
    finally:
        announcing.pop(get_ident(), None)


def _send(stack: Stack) -> None:
    if thread_exiting.has_receivers_for(stack.thread):
        thread_exiting.send(stack.thread, info=stack.describe(), exception=stack.exception)


@contextmanager
def announced() -> Generator[ThreadInfo, None, None]:
    """Announce the current thread for the length of the ``with`` block, as `install` does for the length of `run()`.

    Sends `thread_started`, and at the end, whether the block raised or not, runs the early clean-ups and sends
    `thread_exiting`. Yields the thread's `ThreadInfo`. Within another such block, or under `install`, it does nothing.
    """
    info = current().describe()
    thread = info.thread
    if not _begin(thread):
        yield info
        return
    try:
        yield info
    except BaseException as error:
        _end(thread, error)
        raise
    else:
        _end(thread, None)


def _run(*_: object, previous: Callable[[], None] | None = None) -> None:
    # This is a thread's attribute "run" from start() until now. Others who wrap it may pass the thread.
    thread = threading.current_thread()
    run: Any = thread.run
    if _is_ours(run):
        _take_back(thread, previous)
        run = thread.run
    else:  # somebody's wrapper, which has called us
        run = previous or functools.partial(type(thread).run, thread)
    announces = _begin(thread)
    try:
        run()
    except BaseException as error:
        if announces:
            _end(thread, error)
        raise
    else:
        if announces:
            _end(thread, None)


def _is_ours(run: Any) -> bool:
    return run is _run or (isinstance(run, functools.partial) and run.func is _run)


def _take_back(thread: threading.Thread, previous: Callable[[], None] | None) -> None:
    # Not by __dict__, which would be made for this alone.
    if previous is None:
        object.__delattr__(thread, "run")
    else:
        object.__setattr__(thread, "run", previous)


def _wrap(start: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(start)
    def announcing_start(self: threading.Thread, *args: Any, **kwargs: Any) -> None:
        run: Any = self.run
        if not (_wanted or _blocks) or _is_ours(run):
            return start(self, *args, **kwargs)
        overridden = getattr(run, "__func__", None) is not type(self).run and "run" in self.__dict__
        previous = run if overridden else None
        ours = functools.partial(_run, previous=run) if overridden else _run
        object.__setattr__(self, "run", ours)
        try:
            start(self, *args, **kwargs)
        except Exception:  # it can't be started. (An interrupt may come when it was.)
            if self.run is ours:
                _take_back(self, previous)
            raise

    return announcing_start


def _patch() -> None:
    global _wrapper
    start: Any = threading.Thread.start
    while start is not None:
        if start is _wrapper:
            return  # others may have wrapped it
        start = getattr(start, "__wrapped__", None)
    _wrapper = _wrap(threading.Thread.start)
    threading.Thread.start = _wrapper  # type: ignore[method-assign]


def _unpatch() -> None:
    if not (_wanted or _blocks) and threading.Thread.start is _wrapper and _wrapper is not None:
        threading.Thread.start = _wrapper.__wrapped__  # type: ignore[method-assign, attr-defined]


def install() -> None:
    """Make every `threading.Thread` that is started from now on announce itself: pools, timers, daemons, subclasses.

    Each is attached, sends `thread_started` before `run()`, and `thread_exiting` after it, in the thread. To install
    twice is the same as once.
    """
    global _wanted
    _wanted = True
    _patch()


def uninstall() -> None:
    """Undo `install`: threads that are started from now on don't announce themselves. To uninstall twice does no harm.

    Where another tool has wrapped `Thread.start` meanwhile, our wrapper stays beneath, and only calls the original.
    """
    global _wanted
    _wanted = False
    _unpatch()


@contextmanager
def installed() -> Generator[None, None, None]:
    """As `install`, for the length of the ``with`` block, whichever thread starts threads. Blocks nest and overlap."""
    token = object()
    _blocks[token] = None
    try:
        _patch()
        yield
    finally:
        del _blocks[token]
        _unpatch()
