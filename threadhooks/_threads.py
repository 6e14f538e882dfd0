"""What `threading` knows of a thread, whatever the thread's class makes of it.

A subclass may override any method or property of `threading.Thread`, be it `ident` or `__class__`, with another
meaning, or with one that fails. So the object's own attributes are read, and `threading`'s own functions called.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

# `threading.Thread` itself may have been replaced by a subclass, which older threads are no instances of.
_THREAD = threading.Timer.__mro__[-2]


def attributes(thread: object) -> dict[str, Any]:
    """The attributes of a thread object."""
    return object.__getattribute__(thread, "__dict__")  # type: ignore[no-any-return]


def ident_of(thread: object) -> int | None:
    """The ident of a thread, or `None` if it has not been started."""
    return attributes(thread).get("_ident")


def is_thread(obj: object) -> bool:
    """Whether it is a thread. (`isinstance` would believe what an object says of its class.)"""
    kind = type(obj)
    return kind is _THREAD or issubclass(kind, _THREAD)


def is_main(thread: object) -> bool:
    """Whether `threading` has made the object for the main thread. (A forked child's may be a thread like others.)"""
    kind = type(thread)
    return kind is not _THREAD and issubclass(kind, threading._MainThread)  # type: ignore[attr-defined]


def is_foreign(thread: object) -> bool:
    """Whether `threading` has made the object for a thread that it did not start."""
    kind = type(thread)
    return kind is not _THREAD and issubclass(kind, threading._DummyThread)


def is_daemon(thread: threading.Thread) -> bool:
    """Whether a thread is a daemon."""
    return bool(attributes(thread).get("_daemonic"))


def starting_here() -> threading.Thread | None:
    """The thread that `threading` is just starting, if that is the current one. It isn't listed yet.

    What its class does then, or a finalizer that a collection calls, gets a dummy from `current_thread()`. The thread
    learns its ident soon after it has begun; until then, it is known as the one whose `_bootstrap` is being executed.
    """
    limbo: dict[Any, threading.Thread] = threading._limbo  # type: ignore[attr-defined]
    ident = threading.get_ident()
    if not limbo or not is_foreign(threading._active.get(ident)):  # type: ignore[attr-defined]
        return None
    frame: Any = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
    code = frame.f_code
    owner: Any = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
    if not is_thread(owner) or getattr(type(owner)._bootstrap, "__code__", None) is not code:
        owner = None
    for thread in list(limbo.values()):
        known = ident_of(thread)
        if known == ident or (known is None and thread is owner):
            return thread
    return None


def has_ended(
    thread: threading.Thread, is_alive: Callable[[threading.Thread], bool] = threading.Thread.is_alive
) -> bool:
    """Whether a thread was started and has ended. The main thread never has.

    `threading` calls the main thread stopped from the moment when it begins to wait for the others. Of a foreign thread
    it doesn't know, and up to Python 3.12 fails when it is asked.
    """
    ident = ident_of(thread)
    if ident is None or is_foreign(thread) or thread is threading.main_thread() or is_alive(thread):
        return False
    limbo: dict[Any, threading.Thread] = threading._limbo  # type: ignore[attr-defined]
    if limbo and any(starting is thread for starting in list(limbo.values())):
        return False
    # Up to 3.12, `threading` takes a thread for dead when a signal handler raises in its `join()`, as Ctrl-C does. But
    # one that lives executes something.
    return threading._active.get(ident) is not thread or ident not in sys._current_frames()  # type: ignore[attr-defined]


class ByThread(Mapping[threading.Thread, T]):
    """Values by thread. Threads are told apart by identity: a class may compare and hash its own as it likes."""

    def __init__(self) -> None:
        self._items: dict[int, tuple[threading.Thread, T]] = {}  # by id; the thread is kept, so that it stays the same

    def put(self, thread: threading.Thread, value: T) -> T:
        """Set the value of a thread, unless it has one; return the one that it has then."""
        return self._items.setdefault(id(thread), (thread, value))[1]

    def __getitem__(self, thread: threading.Thread) -> T:
        return self._items[id(thread)][1]

    def __iter__(self) -> Iterator[threading.Thread]:
        return (thread for thread, _ in self._items.values())

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        theirs = {id(thread): value for thread, value in other.items()}
        return {id(thread): value for thread, value in self.items()} == theirs

    def __repr__(self) -> str:
        return f"{{{', '.join(f'{thread!r}: {value!r}' for thread, value in self._items.values())}}}"
