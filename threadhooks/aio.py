"""Threads for asyncio: an event loop, which runs in one thread, is told what happens in others.

Guarantees:

- Nobody polls, and no thread is started: the thread that ends calls ``loop.call_soon_threadsafe``, after its last hook.
- A thread that ends while somebody begins to wait for it is not missed.
- The end of a thread is reported when the thread is over: its `join()` does not block any more.
- A loop that is closed, and a forked child, are left alone: what was connected there disconnects itself, quietly.

Assumptions:

- ``call_soon_threadsafe`` may be called during thread teardown, and raises `RuntimeError` once the loop is closed.
  asyncio's own loops and uvloop keep to that.

What it does not promise:

- A thread that never emits `threadhooks.thread_exited` is not reported here. Muting that signal changes nothing here.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import math
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any

import blinker

from ._attached import attachment_of
from ._attachment import Attachment, ThreadInfo
from ._over import leave_me, tell_me
from ._report import describe, report
from ._signals import ThreadSignal
from ._threads import attributes
from .announce import announces

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ("Connection", "Exits", "connect", "exited", "exits")

# How long a thread that nobody has attached may still attach itself, before we call it an error to wait for it; in
# seconds, between one look and the next. It may have been started just now; or it ends just now, without a hook.
_LOOKS = (0, 0.001, 0.004, 0.015, 0.03, 0.05)
_LONGEST_LOOK = 0.05  # seconds, between two looks at a thread that has run its hooks and still isn't over

# The loop itself refers to its tasks weakly. A loop that is closed with tasks unfinished leaves them here for ever: to
# let go of them would close their coroutines in whichever thread did it.
_tasks: set[asyncio.Task[None]] = set()


class _Loop:
    """The event loop that is running here, for other threads to call."""

    __slots__ = ("_context", "_pid", "loop")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        # Not that of the ending thread: it would be created again after the interpreter has destroyed it, and leak.
        self._context = contextvars.copy_context()
        self._pid = os.getpid()

    def call(self, callback: Callable[..., object], *args: Any) -> bool:
        """Call it soon in the thread of the loop; return whether there still is a loop to do so. Never blocks."""
        if os.getpid() != self._pid:  # the pipe that wakes the loop is shared with the parent: it would wake that one
            return False
        try:
            self.loop.call_soon_threadsafe(callback, *args, context=self._context)
        except RuntimeError:  # it is closed
            return False
        return True

    def call_when_over(self, callback: Callable[[ThreadInfo], object], info: ThreadInfo) -> bool:
        """As `call`, but not before the thread is over; its hooks have already run."""
        return self.call(_look, self.loop, callback, info)


def _look(
    loop: asyncio.AbstractEventLoop, callback: Callable[[ThreadInfo], object], info: ThreadInfo, wait: float = 0
) -> None:
    # Between our last word and the moment when join() returns, the interpreter clears the rest of the thread's state:
    # microseconds, and no hook is left that could tell us when it is done. So the loop goes round until it is, once or
    # twice, and does other work meanwhile. If it takes longer, it is the destructor of somebody else's thread-local.
    if info.foreign or not threading.Thread.is_alive(info.thread):  # a foreign thread can't be joined
        callback(info)
    else:
        loop.call_later(wait, _look, loop, callback, info, min(2 * wait + 0.0001, _LONGEST_LOOK))


async def exited(thread: threading.Thread) -> ThreadInfo:
    """Wait until `thread` has exited, without blocking the event loop; return its `ThreadInfo`.

    By then all hooks of the thread have run, and ``thread.join()`` does not block. Any number of tasks, in any number
    of loops, may wait for the same thread. Cancelling leaves nothing connected.

    If the thread has already exited, this returns at once. No record of such a thread is kept, so one is made from the
    thread object, and its `attached_at` is ``math.nan``.

    Raises `TypeError` for anything but a thread, and `RuntimeError` if the end would never be reported:

    - if the thread has not been started or is the current one (as in `threading.Thread.join`);
    - if it is not attached and was not started under `threadhooks.install`. It may have been started just now, so this
      error comes a tenth of a second later, unless the thread attaches itself meanwhile;
    - for the main thread, if the current thread is not a daemon: the main thread joins it before it exits;
    - if no event loop is running.
    """
    here = _Loop()
    foreign = isinstance(thread, threading._DummyThread)  # which can't be joined, and never is known to be over
    if foreign and thread is threading.current_thread():
        raise RuntimeError("cannot join current thread")
    try:
        if not foreign:
            threading.Thread.join(thread, 0)  # does not wait, but raises what it raises; a subclass may override it
    except AttributeError:
        raise TypeError(f"not a thread: {thread!r}") from None
    if thread is threading.main_thread() and not threading.current_thread().daemon:
        raise RuntimeError("the main thread exits only after this thread, which is not a daemon, has ended")
    done: asyncio.Future[ThreadInfo] = here.loop.create_future()
    # Not a variable that the other thread assigns: up to 3.12, a trace function here may undo that (bpo-30744).
    told: list[ThreadInfo] = []

    def finish(info: ThreadInfo) -> None:
        if not done.done():  # as when it is cancelled
            done.set_result(info)

    def tell(info: ThreadInfo) -> None:
        told.append(info)
        here.call_when_over(finish, info)

    # First ask to be told, then look. A thread that ends does the same the other way round: it leaves the tables in
    # which we look, then tells those who have asked. So either we see that it has left, or it sees us.
    try:
        tell_me(done, tell, thread)
        for wait in _LOOKS:
            announced = announces(thread) or attachment_of(thread) is not None
            # This comes last: only of a thread that is alive after that, it is certain that the ident was its own.
            if not (foreign or threading.Thread.is_alive(thread)):
                await asyncio.sleep(0)  # what the thread told the loop is done first: what told us, above all
                return done.result() if done.done() else _record(thread)
            if announced or told:
                return await done
            await asyncio.sleep(wait)
        raise RuntimeError(
            f"{thread!r} is not attached, and was not started under install(): its exit will not be announced; "
            "call threadhooks.install() before it is started, or threadhooks.attach() in it"
        )
    finally:
        leave_me(done)


def _record(thread: threading.Thread) -> ThreadInfo:
    """What a thread that has exited still knows of itself."""
    own = attributes(thread)
    return Attachment(thread, own["_ident"], own["_native_id"]).describe()._replace(attached_at=math.nan)


class Exits:
    """An asynchronous iterator over the threads that exit; made by `exits`."""

    def __init__(self) -> None:
        here = _Loop()
        key = object()
        self._queue: asyncio.Queue[ThreadInfo | None] = asyncio.Queue()
        self._closed = False
        put = self._queue.put_nowait

        def tell(info: ThreadInfo) -> None:  # which must not refer to the iterator: when that is gone, so is this
            if not here.call_when_over(put, info):
                leave_me(key)

        self._leave = weakref.finalize(self, leave_me, key)
        tell_me(key, tell)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ThreadInfo:
        if not self._closed:
            info = await self._queue.get()
            if info is not None and not self._closed:
                return info
            self._queue.put_nowait(None)  # for the next task that waits
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Stop following: drop the records that were not taken, and end the iteration, even in a waiting task."""
        self._closed = True
        self._leave()
        self._queue.put_nowait(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()


def exits() -> Exits:
    """Follow the exits of all threads: ``async for info in exits()`` yields the `ThreadInfo` of each.

    Reports every attached thread, and every thread started under `threadhooks.install`, that exits after this call.
    By then all hooks of the thread have run, and ``info.thread.join()`` does not block. Records are kept in memory,
    without a limit, until they are taken: no exit is left out, and a slow loop delays no thread.

    The iterator disconnects itself in `Exits.aclose`, and as soon as nothing refers to it, for instance after a
    ``break``. As an asynchronous context manager, it closes itself.

    Raises `RuntimeError` if no event loop is running.
    """
    return Exits()


class Connection:
    """Runs a coroutine function whenever a signal is sent; made by `connect`.

    As a context manager, it disconnects itself at the end of the ``with`` block.
    """

    def __init__(self, signal: ThreadSignal, receiver: Callable[..., Coroutine[Any, Any, object]], sender: Any) -> None:
        self._here = _Loop()
        self._signal = signal
        self._receiver = receiver
        self._sender = sender
        signal.connect(self._receive, sender, weak=False)

    def __repr__(self) -> str:
        return f"<Connection of {describe(self._receiver)} to {self._signal!r}>"

    def _receive(self, thread: Any, **kwargs: Any) -> None:
        if not self._here.call(self._begin, thread, kwargs):
            self.disconnect()

    def _begin(self, thread: Any, kwargs: dict[str, Any]) -> None:
        task = self._here.loop.create_task(self._run(thread, kwargs))
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)

    async def _run(self, thread: Any, kwargs: dict[str, Any]) -> None:
        try:
            await self._receiver(thread, **kwargs)
        except (asyncio.CancelledError, KeyboardInterrupt):  # neither is a failure of the receiver
            raise
        except BaseException as error:  # noqa: BLE001 - SystemExit would stop the loop
            report(error, self._receiver, thread if isinstance(thread, threading.Thread) else None)

    def disconnect(self) -> None:
        """Ignore signals from now on. Tasks for earlier ones still run."""
        self._signal.disconnect(self._receive, self._sender)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.disconnect()


def connect(
    signal: ThreadSignal, receiver: Callable[..., Coroutine[Any, Any, object]], sender: Any = blinker.ANY
) -> Connection:
    """Run a coroutine function in the current event loop whenever `sender` emits `signal`.

    `sender` is a thread, or `blinker.ANY` for every thread. Each call, ``receiver(thread, info=…, exception=…)``,
    becomes a task, with the context variables of the call of `connect`. Tasks begin in the order of the signals. The
    thread does not wait for them, and may be over when they run. They keep `exception` alive until they are done.

    Returns a `Connection`; call its `disconnect` to stop. `receiver` is held strongly until then, or until the first
    signal after the loop was closed.

    What the receiver raises goes to `threading.excepthook`, as with other hooks. `KeyboardInterrupt` stops the loop, as
    it does in any task. Cancelling a task is not a failure.

    Raises `TypeError` if `receiver` is not a coroutine function, and `RuntimeError` if no event loop is running.
    """
    if not isinstance(signal, ThreadSignal):
        raise TypeError(f"not a signal: {signal!r}")
    if not _is_coroutine_function(receiver):
        raise TypeError(f"{describe(receiver)} is not a coroutine function; connect it with the signal's own connect()")
    return Connection(signal, receiver, sender)


def _is_coroutine_function(receiver: object) -> bool:
    if not callable(receiver):
        return False
    # What is wrapped is looked at as well: a plain function around a coroutine function returns its coroutine.
    candidates = receiver, type(receiver).__call__, getattr(receiver, "__wrapped__", None)
    return any(inspect.iscoroutinefunction(candidate) for candidate in candidates)
