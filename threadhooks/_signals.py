"""The signals: blinker's, made safe for threads and for failing receivers.

Guarantees:

- Receivers run in the order in which they were connected, each of them once per send.
- If a receiver raises, the others are still called. What it raises does not leave `send`, `connect` or `disconnect`.
- What `_connections` promises: any number of threads, and finalizers, may do all this at the same time.

What it does not promise:

- A receiver that is connected while a signal is being sent may miss that send; one that is disconnected meanwhile may
  still be called. (`threadhooks.Plugin.close` does wait.)
- `send_async` is blinker's own: what a receiver raises there, ends it.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import blinker

from ._connections import ANY, Connections
from ._fork import check as check_process
from ._fork import own_thread_only
from ._report import check_hook, check_receiver, report
from ._threads import is_thread

if TYPE_CHECKING:
    from blinker._utilities import Symbol


class Receiver(Protocol):
    """What can be connected: it takes the thread, and by name whatever is sent with it, now or in a later version."""

    def __call__(self, thread: threading.Thread, /, *, info: Any, exception: BaseException | None) -> object:
        """Handle the signal of a thread. (`thread_started` sends no `exception`.)"""


ReceiverT = TypeVar("ReceiverT", bound=Receiver)


class ThreadSignal(blinker.Signal):
    """A `blinker.Signal` whose senders are threads. For what is not described here, see blinker's documentation.

    A receiver is called as ``receiver(thread, info=…, exception=…)``, in that thread. It should accept ``**extra``, so
    that later versions can pass more.
    """

    def __init__(self, name: str, doc: str, keywords: Iterable[str] | None = None) -> None:
        # blinker's own state is left unmade: none of it would be kept.
        self.__doc__ = doc
        self.name = name
        self._keywords = None if keywords is None else tuple(keywords)  # what is sent with the thread, if it is known
        self._connections = Connections()
        # If these two are empty, there is nobody to tell.
        self.general: Mapping[object, object] = self._connections.general
        self.buckets: Mapping[int, object] = self._connections.buckets
        self._mutes: dict[object, int] = {}  # the blocks of muted(), with the ident of the thread that executes each

    def __repr__(self) -> str:
        return f"<threadhooks.{self.name}>"

    @property
    def receiver_connected(self) -> ThreadSignal:
        """Sent after a call of `connect` that connected something, with the arguments of that call."""
        return self._about("receiver_connected", "Sent after a receiver was connected.")

    @property
    def receiver_disconnected(self) -> ThreadSignal:
        """Sent after each call of `disconnect`, with the arguments of that call."""
        return self._about("receiver_disconnected", "Sent after a receiver was disconnected.")

    def _about(self, name: str, doc: str) -> ThreadSignal:
        # blinker's are plain signals: what one listener raised would leave the `connect` or `close` of somebody else.
        about: ThreadSignal = self.__dict__.setdefault(name, ThreadSignal(name, doc))
        return about

    @property
    def receivers(self) -> dict[Any, Any]:  # type: ignore[override]
        """Every connected receiver, by blinker's key: the receiver itself, or the weak reference that holds it."""
        ways = [(key, resolve) for _, key, resolve, _ in self._connections.all()]
        return {key: resolve if isinstance(resolve, weakref.ref) else resolve() for key, resolve in ways}

    @property
    def is_muted(self) -> bool:  # type: ignore[override]
        """Whether a `muted()` block is running, in any thread."""
        if self._mutes:
            check_process()  # a forked child doesn't execute other threads' blocks
        return bool(self._mutes)

    def check_receiver(self, receiver: object) -> None:
        """Raise `TypeError` for what can't be connected, as `connect` does, and connect nothing."""
        check_hook(receiver)
        if self._keywords is not None:
            check_receiver(receiver, self._keywords)

    def connect(
        self, receiver: ReceiverT, sender: threading.Thread | Symbol = blinker.ANY, weak: bool = True
    ) -> ReceiverT:
        """Call `receiver` whenever `sender` emits the signal: a thread, or `blinker.ANY` for every thread.

        Returns the receiver. It is held weakly unless `weak` is false: a lambda or a nested function that nothing else
        refers to is garbage at once. Connecting it again keeps its place in the order.

        A receiver that is connected to one thread is kept in the thread object, until the thread has exited or the
        object is garbage. If the thread has already exited (it was started, and `threading.enumerate()` no longer lists
        it), nothing is connected.

        Raises `TypeError` if `receiver` can't be called, is a coroutine or generator function, can't be held weakly, or
        has a signature which shows that it can't be called with what the signal sends.
        """
        self.check_receiver(receiver)
        if self._connections.add(receiver, ANY if sender is blinker.ANY else sender, weak):
            told = self.__dict__.get("receiver_connected")
            if told is not None:
                told.send(self, receiver=receiver, sender=sender, weak=weak)
        return receiver

    def disconnect(self, receiver: Callable[..., Any], sender: Any = blinker.ANY) -> None:
        """Stop calling `receiver` for `sender`, by default for all senders. Does nothing if it is not connected."""
        self._connections.remove(receiver, ANY if sender is blinker.ANY else sender)
        told = self.__dict__.get("receiver_disconnected")
        if told is not None:
            told.send(self, receiver=receiver, sender=sender)

    @contextmanager
    def muted(self) -> Generator[None, None, None]:
        """Call no receivers during the ``with`` block, in any thread. Blocks may overlap.

        Cleanups are not receivers: they still run.
        """
        token = object()
        self._mutes[token] = threading.get_ident()
        try:
            yield
        finally:
            self._mutes.pop(token, None)

    def has_receivers_for(self, sender: Any) -> bool:
        """Whether a receiver is connected to `sender` or to every sender. (It may be garbage by now.)"""
        return bool(self.general or (self.buckets and self._connections.has(sender)))

    def receivers_for(self, sender: Any) -> Generator[Callable[..., Any], None, None]:
        """Yield the receivers that a send would call now, in order."""
        for connection in self._connections.to(sender):
            receiver = connection[2]()
            if receiver is not None:
                yield receiver

    def send(
        self, sender: Any = None, /, *, _async_wrapper: object = None, **kwargs: Any
    ) -> list[tuple[Callable[..., Any], Any]]:
        """Call every receiver as ``receiver(sender, **kwargs)``, in this thread, in the order of connection.

        Returns a list of ``(receiver, result)`` for the receivers that returned. What the others raised goes to
        `threading.excepthook`, with `sender` as the thread and a note that names the receiver. Calls none if the signal
        is muted.
        """
        results: list[tuple[Callable[..., Any], Any]] = []
        if not (self.general or self.buckets) or self.is_muted:
            return results
        for receiver in self.receivers_for(sender):
            try:
                results.append((receiver, receiver(sender, **kwargs)))
            except BaseException as error:  # noqa: BLE001 - an asynchronous one can arrive here as well
                report(error, receiver, sender if is_thread(sender) else None)
        return results

    def forget(self, sender: Any) -> None:
        """Disconnect what is connected to `sender` alone: it has ended, and sends nothing more."""
        self._connections.forget(sender)

    def _clear_state(self) -> None:
        self._connections.clear()


thread_started: ThreadSignal = ThreadSignal(
    "thread_started",
    "Emitted in a new thread, before its `run()`, if the thread announces itself: see `install` and `announced`.",
    ("info",),
)
thread_exiting: ThreadSignal = ThreadSignal(
    "thread_exiting",
    "Emitted in a thread that announces itself, after `run()` has returned or raised. Thread-locals are still there.",
    ("info", "exception"),
)
thread_exited: ThreadSignal = ThreadSignal(
    "thread_exited",
    "Emitted in every attached thread when it ends, before its `join()` returns. Thread-locals are already gone.",
    ("info", "exception"),
)

for _signal in (thread_started, thread_exiting, thread_exited):
    own_thread_only(_signal._mutes, lambda token, ident: ident)  # in a forked child, other threads' blocks don't end
