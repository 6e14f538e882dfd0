"""The signals: blinker's, made safe for threads and for failing receivers.

Guarantees:

- Any number of threads, and finalisers, may connect, disconnect and send at the same time: no error, no receiver lost,
  none left behind.
- Receivers run in the order in which they were connected, each of them once per send.
- A receiver that raises stops no other one. Nothing that it raises leaves `send`.

Assumptions:

- One operation on a ``dict`` or a ``list`` is atomic: CPython promises it, with the GIL and without. So there is no
  lock here that a finaliser could find held by its own thread.
- An object keeps its address until the callbacks of its weak references have returned, so an identity is not reused
  while it is being forgotten.

What it does not promise:

- A receiver that is connected while a signal is being sent may miss that send; one that is disconnected meanwhile may
  still hear it. (`threadhooks.Plugin.close` does wait.)
- The signals in `receiver_connected` and `receiver_disconnected` are blinker's own, and so is `send_async`: what a
  receiver raises there, ends it.
"""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from operator import itemgetter
from types import MethodType
from typing import Any, TypeAlias, TypeVar

import blinker

from ._report import check_hook, report

F = TypeVar("F", bound=Callable[..., Any])


# The number of connections that the signal had made before; what identifies the receiver; and what returns it, or None
# once it is dead, if it is held weakly.
_Connection: TypeAlias = "tuple[int, object, Callable[[], Callable[..., Any] | None]]"


class _Bucket(dict[object, "_Connection"]):
    """The connections to one sender, by receiver."""

    __slots__ = ("sender",)

    sender: weakref.ref[Any]  # whose callback forgets the bucket


_NOTHING = _Bucket()


def _key(obj: object) -> object:
    # A bound method is made anew at each access. Strings and numbers are senders by value, marked as such, so that no
    # number is taken for an address.
    if isinstance(obj, MethodType):
        return id(obj.__func__), id(obj.__self__)
    if isinstance(obj, (str, int)):
        return str, obj
    return id(obj)


class ThreadSignal(blinker.Signal):
    """A `blinker.Signal` whose sender is a thread; see blinker's documentation for what is not said here.

    A receiver is called as ``receiver(thread, info=…, exception=…)``, in the thread that is spoken of. It should take
    ``**extra``, so that later versions can tell it more.
    """

    def __init__(self, name: str, doc: str) -> None:
        # blinker's own state is left unmade: none of it would be kept.
        self.__doc__ = doc
        self.name = name
        self.general: dict[object, _Connection] = {}  # to any sender
        self.buckets: dict[object, _Bucket] = {}  # to one sender, by sender
        self._order = itertools.count()
        self._mutes: dict[object, int] = {}  # the blocks of muted(), with the ident of the thread that executes each

    def __repr__(self) -> str:
        return f"<threadhooks.{self.name}>"

    @property
    def receivers(self) -> dict[Any, Any]:  # type: ignore[override]
        """What is connected, by an opaque key: empty exactly if no receiver is connected at all."""
        return {key: resolve for bucket in self._all_buckets() for _, key, resolve in list(bucket.values())}

    @property
    def is_muted(self) -> bool:  # type: ignore[override]
        """Whether some `muted()` block is being executed, in any thread."""
        return bool(self._mutes)

    def _all_buckets(self) -> list[dict[object, _Connection]]:
        return [self.general, *list(self.buckets.values())]

    def connect(self, receiver: F, sender: Any = blinker.ANY, weak: bool = True) -> F:
        """Call `receiver` whenever the signal speaks of `sender`: a thread, or `blinker.ANY` for every one.

        Returns the receiver. It is held weakly unless `weak` is false: a lambda or a nested function that nobody else
        holds is gone at once. Connecting it again keeps its place in the order. Everything about a sender is forgotten
        when the thread has exited, or the sender is garbage.

        Raises `TypeError` if `receiver` can't be called, is a coroutine or generator function, or can't be held weakly.
        """
        check_hook(receiver)
        if weak:
            _weakref(receiver, None)  # which may raise: before anything is kept
        key = _key(receiver)
        bucket = self.general if sender is blinker.ANY else self._bucket(sender)
        old = bucket.get(key)
        order = next(self._order) if old is None else old[0]
        bucket[key] = order, key, self._weak(receiver, bucket, key) if weak else lambda: receiver
        meta = self.__dict__.get("receiver_connected")
        if meta is not None and meta.receivers:
            try:
                meta.send(self, receiver=receiver, sender=sender, weak=weak)
            except TypeError:  # as blinker does
                self.disconnect(receiver, sender)
                raise
        return receiver

    def _bucket(self, sender: object) -> _Bucket:
        key = _key(sender)
        buckets = self.buckets
        bucket = buckets.get(key)
        if bucket is None:
            bucket = _Bucket()
            with suppress(TypeError):  # a sender that can't be weakly held is remembered for good, as by blinker
                bucket.sender = _weakref(sender, lambda _: buckets.pop(key, _NOTHING).clear())
            bucket = buckets.setdefault(key, bucket)
        return bucket

    @staticmethod
    def _weak(receiver: F, bucket: dict[object, _Connection], key: object) -> Callable[[], F | None]:
        return _weakref(receiver, lambda _: bucket.pop(key, None))

    def disconnect(self, receiver: Callable[..., Any], sender: Any = blinker.ANY) -> None:
        """Stop calling `receiver` for `sender`, by default for all of them; quietly, if it is not connected."""
        key = _key(receiver)
        for bucket in self._all_buckets() if sender is blinker.ANY else [self.buckets.get(_key(sender), {})]:
            bucket.pop(key, None)
        meta = self.__dict__.get("receiver_disconnected")
        if meta is not None and meta.receivers:
            meta.send(self, receiver=receiver, sender=sender)

    @contextmanager
    def muted(self) -> Generator[None, None, None]:
        """No receiver is called during the ``with`` block, whichever thread sends. Blocks may overlap.

        Clean-ups are not receivers: they run all the same.
        """
        token = object()
        self._mutes[token] = threading.get_ident()
        try:
            yield
        finally:
            self._mutes.pop(token, None)

    def has_receivers_for(self, sender: Any) -> bool:
        """Whether a receiver is connected to `sender` or to any sender; it may have died since."""
        return bool(self.general or (self.buckets and self.buckets.get(_key(sender))))

    def receivers_for(self, sender: Any) -> Generator[Callable[..., Any], None, None]:
        """Yield the receivers that a send would call now, in order."""
        # list(values()) makes no object that could start a collection, so no finaliser changes the dict half-way.
        connections = list(self.general.values())
        bucket = self.buckets.get(_key(sender)) if self.buckets else None
        if bucket:
            connections += list(bucket.values())
            connections.sort(key=itemgetter(0))
            connections = list({c[1]: c for c in connections}.values())  # each receiver once, at its first place
        for _, _, resolve in connections:
            receiver = resolve()
            if receiver is not None:
                yield receiver

    def send(
        self, sender: Any = None, /, *, _async_wrapper: object = None, **kwargs: Any
    ) -> list[tuple[Callable[..., Any], Any]]:
        """Call every receiver as ``receiver(sender, **kwargs)``, in this thread, in the order of connection.

        Returns a list of ``(receiver, result)`` for those that returned. What the others raised goes to
        `threading.excepthook`, with `sender` as its thread, and says which receiver it was. A muted signal calls none.
        """
        results: list[tuple[Callable[..., Any], Any]] = []
        if self._mutes:
            return results
        for receiver in self.receivers_for(sender):
            try:
                results.append((receiver, receiver(sender, **kwargs)))
            except BaseException as error:  # noqa: BLE001 - an asynchronous one can arrive here as well
                report(error, receiver, sender if isinstance(sender, threading.Thread) else None)
        return results

    def forget(self, sender: Any) -> None:
        """Disconnect what is connected to `sender` alone: it has ended, and will not be spoken of again."""
        self.buckets.pop(_key(sender), _NOTHING).clear()

    def _clear_state(self) -> None:
        for bucket in self._all_buckets():
            bucket.clear()
        self.buckets.clear()


def _weakref(obj: Any, callback: Callable[[Any], object] | None) -> weakref.ref[Any]:
    return weakref.WeakMethod(obj, callback) if isinstance(obj, MethodType) else weakref.ref(obj, callback)


thread_started: ThreadSignal = ThreadSignal(
    "thread_started",
    "Sent in a new thread, before its `run()`, if the thread announces itself: see `install` and `announced`.",
)
thread_exiting: ThreadSignal = ThreadSignal(
    "thread_exiting",
    "Sent in a thread that announces itself, after `run()` has returned or raised; thread-locals are still there.",
)
thread_exited: ThreadSignal = ThreadSignal(
    "thread_exited",
    "Sent by every attached thread as it ends, before its `join()` returns; thread-locals are already gone.",
)


def _after_fork_in_child() -> None:
    here = threading.get_ident()
    for signal in (thread_started, thread_exiting, thread_exited):
        for token, ident in list(signal._mutes.items()):
            if ident != here:  # the end of that block will not come
                del signal._mutes[token]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
