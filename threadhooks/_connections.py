"""Who is connected to whom: the tables behind a signal, which knows how to send, but not what is where.

Guarantees:

- Any number of threads, and finalizers, may add, remove and read at the same time: nothing that was added is missed,
  nothing that was removed is left behind.
- What is connected to one thread lives no longer than the thread, nor does it keep the thread alive.
- What is added, removed or looked up is told apart by what it is. What its owner may change (how it compares, its hash,
  what it says of its class) is not asked.

Assumptions:

- One operation on a ``dict`` or a ``list`` is atomic: CPython promises it, with the GIL and without. So there is no
  lock here that a finalizer could find held by its own thread.
- An object keeps its address until the callbacks of its weak references have returned, so an identity is not reused
  while it is being forgotten.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from operator import itemgetter
from types import MethodType
from typing import Any

# It takes an entry out of a dict if its value is a dead weak reference, in one step: WeakValueDictionary uses it.
from weakref import _remove_dead_weakref  # type: ignore[attr-defined]

from ._threads import attributes, is_thread

# The number of connections that were made before; what identifies the receiver; what returns it, or None once it is
# dead, if it is held weakly; and its places.
Connection = tuple[int, object, Callable[[], "Callable[..., Any] | None"], "_Places"]

ANY = object()  # as a sender: every one

# The attribute of a thread where its `_Buckets` are.
_ATTRIBUTE = "_threadhooks_receivers"

# Not empty once a thread has had one. Each exit asks; to look into the attributes of a thread would make a dict of them
# from Python 3.13 on.
had_by_a_thread: list[None] = []


class _Places(dict[int, "weakref.ref[_Bucket]"]):
    """The buckets of single senders that one receiver is in, by the address of its connection there.

    They are an index for `remove`, which would look into the bucket of each sender otherwise. The connections hold it,
    and nobody else does, so it is gone with the last of them. To throw it away when it is found empty would not do:
    another thread may just be putting something in.
    """

    __slots__ = ("__weakref__",)


_NOWHERE = _Places()  # the places of a connection to every sender: where that is needs no index


class _WayToPlaces(weakref.ref[_Places]):
    __slots__ = ("key",)

    key: object


class _Bucket(dict[object, Connection]):
    """Connections by receiver: those to one sender, or to every one."""

    __slots__ = ("__weakref__", "known", "sender", "way")

    sender: weakref.ref[Any]  # to one that is no thread; its callback forgets the bucket

    def __init__(self, known: dict[int, weakref.ref[_Bucket]]) -> None:
        self.way: weakref.ref[_Bucket] = weakref.ref(self)
        self.known: dict[int, weakref.ref[_Bucket]] = known
        known[id(self)] = self.way

    def leave(self, key: object) -> None:
        """Disconnect a receiver."""
        connection = self.pop(key, None)
        if connection is not None:
            connection[3].pop(id(connection), None)
        if not self:
            # Or else every thread would be announced for a sender that nobody listens to any more.
            self.known.pop(id(self), None)
            if self:  # somebody has connected meanwhile
                self.known[id(self)] = self.way

    def empty(self) -> None:
        """Disconnect all that are here."""
        for key in list(self):
            self.leave(key)

    def __del__(self) -> None:
        # As the interpreter ends, the names of this module may be gone before the last thread object is: use none.
        self.known.pop(id(self), None)
        self.empty()


class _Buckets(dict["Connections", _Bucket]):
    """What is connected to one thread, by signal: an attribute of the thread.

    If the signal held it, a receiver that refers to the thread (a method of a worker that has its thread) would keep
    itself alive through the signal, for ever where the thread is never announced. Here, the two are a cycle like any
    other, which the collector finds.
    """

    __slots__ = ("thread",)

    def __init__(self, thread: threading.Thread) -> None:
        self.thread = weakref.ref(thread)

    def __reduce__(self) -> Any:  # where a class makes its threads fit to be pickled, or to be copied deeply
        return type(None), ()


class Connections:
    """The connections of one signal."""

    def __init__(self) -> None:
        self.general = _Bucket({})  # to every sender
        self.buckets: dict[int, weakref.ref[_Bucket]] = {}  # to one sender, by the bucket's address
        self._senders: dict[object, _Bucket] = {}  # those of senders that are no threads, by sender
        self._order = itertools.count()
        self._places = places = dict[object, _WayToPlaces]()

        def forget(way: Any, remove: Callable[[Any, object], None] = _remove_dead_weakref) -> None:
            remove(places, way.key)  # unless somebody has put another one there

        self._forget_places = forget

    def add(self, receiver: Any, sender: Any, weak: bool) -> bool:
        """Connect `receiver`, if it can be held so, and tell whether it is connected: not to a thread that has exited.

        To add it again keeps its place in the order.
        """
        key = _key(receiver)
        if sender is ANY:
            bucket = self.general
            resolve = _resolve(receiver, weak, bucket, key)
            old = bucket.get(key)
            bucket[key] = next(self._order) if old is None else old[0], key, resolve, _NOWHERE
            return True
        found = self._find(sender)
        if found is None and weak:
            weak_reference(receiver, None)  # which may raise: before anything is kept
        bucket = self._make(sender) if found is None else found
        old = bucket.get(key)
        resolve = _resolve(receiver, weak, bucket, key)
        order, places = (next(self._order), self._places_of(key)) if old is None else (old[0], old[3])
        connection = order, key, resolve, places
        places[id(connection)] = bucket.way  # first: remove() must find everything that is in a bucket
        bucket[key] = connection
        bucket.known[id(bucket)] = bucket.way  # after that: see _Bucket.leave
        if old is not None:
            places.pop(id(old), None)
        if is_thread(sender) and _has_exited(sender):  # last: it may have exited meanwhile
            # Only this one: a thread leaves `threading`'s table before its late hooks run, and may be between the two.
            if old is None:
                bucket.leave(key)
            if not bucket:
                self.forget(sender)
            return False
        return True

    def remove(self, receiver: Any, sender: Any) -> None:
        """Disconnect `receiver` from one sender, or from all of them; quietly, if it is not connected."""
        key = _key(receiver)
        if sender is ANY:
            self.general.leave(key)
            way = self._places.get(key)
            places = None if way is None else way()
            found = [] if places is None else [way() for way in list(places.values())]
        else:
            found = [self._find(sender)]
        for bucket in found:
            if bucket is not None:
                bucket.leave(key)

    def to(self, sender: Any) -> list[Connection]:
        """The connections to `sender` and to every sender, in order; each receiver once."""
        # list(values()) makes no object that could start a collection, so no finalizer changes the dict half-way.
        connections = list(self.general.values())
        bucket = self._find(sender) if self.buckets else None
        if bucket:
            connections += list(bucket.values())
            connections.sort(key=itemgetter(0))
            connections = list({c[1]: c for c in connections}.values())  # each receiver at its first place
        return connections

    def has(self, sender: Any) -> bool:
        """Whether there are connections to `sender` alone."""
        return bool(self._find(sender))

    def all(self) -> list[Connection]:
        """Every connection."""
        return [connection for bucket in self._all_buckets() for connection in list(bucket.values())]

    def forget(self, sender: Any) -> None:
        """Remove what is connected to `sender` alone."""
        if self._find(sender) is None:
            return
        if is_thread(sender):
            own = attributes(sender)
            buckets = own.get(_ATTRIBUTE, {})
            buckets.pop(self, None)
            if not buckets:
                own.pop(_ATTRIBUTE, None)
        else:
            self._senders.pop(_key(sender), None)

    def clear(self) -> None:
        """Remove all."""
        for bucket in self._all_buckets():
            bucket.empty()
        self._senders.clear()

    def _all_buckets(self) -> list[_Bucket]:
        return [self.general, *(bucket for way in list(self.buckets.values()) if (bucket := way()) is not None)]

    def _find(self, sender: Any) -> _Bucket | None:
        if not is_thread(sender):
            return self._senders.get(_key(sender))
        buckets = attributes(sender).get(_ATTRIBUTE)
        # A copy of a thread has the attributes of the thread that it was made of.
        return None if buckets is None or buckets.thread() is not sender else buckets.get(self)

    def _make(self, sender: Any) -> _Bucket:
        bucket = _Bucket(self.buckets)
        if is_thread(sender):
            had_by_a_thread[:] = [None]
            own = attributes(sender)
            buckets = own.setdefault(_ATTRIBUTE, _Buckets(sender))
            if buckets is None or buckets.thread() is not sender:
                buckets = own[_ATTRIBUTE] = _Buckets(sender)
            return buckets.setdefault(self, bucket)  # type: ignore[no-any-return]
        senders = self._senders
        key = _key(sender)
        with suppress(TypeError):  # a sender that can't be weakly held stays, as with blinker
            bucket.sender = weak_reference(sender, lambda _: senders.pop(key, None))
        return senders.setdefault(key, bucket)

    def _places_of(self, key: object) -> _Places:
        while True:
            way = self._places.get(key)
            if way is None:
                mine = _Places()
                way = _WayToPlaces(mine, self._forget_places)
                way.key = key
                way = self._places.setdefault(key, way)
            places = way()
            if places is not None:
                return places
            _remove_dead_weakref(self._places, key)  # they have just died


class _WeakMethod(weakref.ref[Any]):
    """A weak reference to a bound method, a new object at each access: it lives as long as its two parts do.

    `weakref.WeakMethod` is the same, but says `AttributeError` on stderr if it dies with its object at the end of the
    interpreter.
    """

    __slots__ = ("function",)

    function: weakref.ref[Any]

    def __call__(self) -> Any:
        obj = super().__call__()
        function = self.function()
        return None if obj is None or function is None else MethodType(function, obj)


def weak_reference(obj: Any, callback: Callable[[Any], object] | None) -> weakref.ref[Any]:
    """A weak reference to anything, bound methods included."""
    if type(obj) is not MethodType:
        return weakref.ref(obj, callback)
    reference = _WeakMethod(obj.__self__, callback)
    reference.function = weakref.ref(obj.__func__, callback)
    return reference


def _resolve(receiver: Any, weak: bool, bucket: _Bucket, key: object) -> Callable[[], Any]:
    if not weak:
        return lambda: receiver
    way = bucket.way  # a bucket that its own connections held would die by a collection alone

    def forget(_: object) -> None:
        bucket = way()
        if bucket is not None:
            bucket.leave(key)

    return weak_reference(receiver, forget)


def _key(obj: Any) -> object:
    # Strings and numbers are senders by value, marked as such, so that no number is taken for an address. The value is
    # taken out of a subclass, which may compare as it likes.
    kind = type(obj)
    if kind is MethodType:
        return id(obj.__func__), id(obj.__self__)
    if issubclass(kind, str):
        return str, str.__str__(obj)
    if issubclass(kind, int):
        return str, int.__int__(obj)
    return id(obj)


def _has_exited(thread: object) -> bool:
    """Whether a thread was started, and is not in `threading.enumerate()` any more.

    `enumerate` looks at the same tables, but under a lock, which a finalizer might find held. (While its late hooks
    run, a thread is put back there. `is_alive` is no use: a class may override it, and up to 3.12 it takes a lock,
    too.) A thread that is not yet active is in limbo, so that is looked at first.
    """
    ident = attributes(thread).get("_ident")
    limbo: dict[Any, Any] = threading._limbo  # type: ignore[attr-defined]
    if ident is None or (limbo and any(starting is thread for starting in list(limbo.values()))):
        return False
    return threading._active.get(ident) is not thread  # type: ignore[attr-defined]
