"""Resources that each thread opens for itself, and closes when it ends.

Guarantees:

- A value is closed once, in the thread that opened it: when the thread ends, when it calls `close`, or when it next
  uses a resource or registers anything after `close_all`, or after the instance that the value was opened for has died.
  Only ``close_all(anywhere=True)`` closes values in another thread.
- Once `close_all` has returned, no call in any thread returns a value that was opened before.
- Values are cleanups like any other: what was opened last is closed first.
- A forked child neither uses nor closes the values of its parent.

What it does not promise:

- The values of a daemon thread that is still running when the interpreter ends are not closed.
- A thread that uses no resource and registers nothing does not notice `close_all`. It closes its values when it ends.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from ._attached import warn_unless_early
from ._attachment import Attachment
from ._report import check_hook, describe
from ._sentinel import attached_here, current
from ._values import Opened, Value, close_all, enter, owner_of

P = ParamSpec("P")
Q = ParamSpec("Q")
S = TypeVar("S")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class PerThread(Generic[P, T_co]):
    """A resource of which each thread has its own value; made by `per_thread`.

    A call returns the current thread's value, and opens it if there is none yet. Each set of arguments has its own
    value. Arguments must be hashable. Equal ones, such as 1 and 1.0, are the same; but it matters whether an argument
    is passed by position or by name, and whether a default is passed or left out.

    For a method, each instance has its own values. The class must allow weak references, because ``self`` is a
    `weakref.proxy`. When the instance dies, its values are closed: at once in the thread in which it dies, in others
    when they next use any resource or register anything, and at their end at the latest.

    If opening fails, the call raises, and nothing is kept. After the exit of the thread, a call raises `RuntimeError`.
    If closing fails at the end of a thread, that is reported to `threading.excepthook`.
    """

    def __init__(
        self, func: Callable[P, Iterator[T_co] | AbstractContextManager[T_co]], *, early: bool = False
    ) -> None:
        self._open: Any = contextlib.contextmanager(func) if inspect.isgeneratorfunction(func) else func
        check_hook(self._open, may_open=True)
        functools.update_wrapper(self, func, updated=())  # without its attributes: some may have names of ours
        self._early = bool(early)
        self._opened = Opened()

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> T_co:
        """Return the current thread's value for these arguments; open it if there is none yet."""
        if not args and not kwargs:  # as _find() does it, in half the time
            known: Value | None = current().values.get(self._opened)
            if known is not None and not known.retired:
                return known.value  # type: ignore[no-any-return]
        return self._get(None, args, kwargs)  # type: ignore[no-any-return]

    def __reduce__(self) -> str:
        return getattr(self, "__qualname__", "")  # as a function: pickled by its name, and not copied

    def __repr__(self) -> str:
        return f"<per_thread resource {describe(self.__wrapped__)}>"  # type: ignore[attr-defined]

    def close(self, /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Close the current thread's value for these arguments now, if there is one. The next call opens a new one.

        If closing fails, this raises.
        """
        self._close(None, args, kwargs)

    def close_all(self, *, anywhere: bool = False) -> None:
        """Close the values of all threads, for all arguments. From now on, calls open new ones.

        The current thread's values are closed now, the newest first. Every other thread closes its own when it next
        uses any resource or registers anything, and at its end at the latest. With `anywhere`, all are closed now, in
        the calling thread: use it only for values that any thread may close, even while another is using them.

        For a method, ``instance.method.close_all()`` closes the values of this instance, and
        ``Class.method.close_all()`` those of all instances.

        If closing a value fails here, the other values are still closed. Then the first exception is raised. All later
        exceptions, and those in other threads, are reported to `threading.excepthook`.
        """
        self._opened.era = object()
        close_all(list(self._opened.values), anywhere)

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> PerThread[P, T_co]: ...

    @overload
    def __get__(
        self: PerThread[Concatenate[S, Q], T], instance: S, owner: type | None = None
    ) -> BoundPerThread[Q, T]: ...

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if isinstance(instance, weakref.ProxyTypes):  # by super(), in a method that is a resource
            instance = instance.__repr__.__self__
        return BoundPerThread(self, instance) if instance is not None else self

    def _get(self, instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        attachment = current()
        known, key, arguments = self._find(attachment, instance, args, kwargs)
        if known is not None:
            return known.value
        value = Value(attachment, self, self._opened, None if instance is None else owner_of(instance), key, arguments)
        era = value.era()
        if self._early:
            warn_unless_early(attachment, value)
        if instance is not None:  # which neither the generator nor we keep alive
            args = (weakref.proxy(instance), *args)
        value.manager, value.value = enter(self._open(*args, **kwargs), self)
        value.publish(self._early)
        if value.era() != era:  # close_all came as it was being opened
            value.retire()
        return value.value

    def _close(self, instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        attachment = attached_here()
        if attachment is None:
            return
        known, _, _ = self._find(attachment, instance, args, kwargs)
        if known is not None and known.take():
            known.close(None)

    def _find(
        self, attachment: Attachment, instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Value | None, object, object]:
        """The value, if it is open, and what it is found by: a place in the thread's table, and the arguments."""
        # The key of the place has none of the user's objects in it, nor a resource, of which there may be a derived
        # class. Their `__hash__` and `__eq__` may fail, or give something else, by the time when the value is closed.
        key: object
        opened = self._opened
        arguments: object = args
        if kwargs:
            arguments = args, frozenset(kwargs.items())
            key = opened, id(instance), hash(arguments), "named"  # no other call has such a key
        elif args:
            key = opened, id(instance), hash(arguments)
        else:
            key = opened if instance is None else (opened, id(instance))
        known: Value | None = attachment.values.get(key)
        while known is not None:
            owner = known.owner
            if not known.retired and (owner is None or owner() is instance) and known.arguments == arguments:
                break
            known = known.older
        return known, key, arguments


class BoundPerThread(Generic[P, T_co]):
    """A `PerThread` that is a method, bound to an instance."""

    __slots__ = ("_instance", "_resource")

    def __init__(self, resource: PerThread[..., T_co], instance: object) -> None:
        self._resource = resource
        self._instance = instance

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> T_co:
        """The current thread's value for this instance and these arguments, opened now if need be."""
        return self._resource._get(self._instance, args, kwargs)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<per_thread resource {describe(self._resource)} of {describe(self._instance)}>"

    def close(self, /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Close the current thread's value for this instance and these arguments: see `PerThread.close`."""
        self._resource._close(self._instance, args, kwargs)

    def close_all(self, *, anywhere: bool = False) -> None:
        """Close the values of this instance in all threads: see `PerThread.close_all`."""
        opened, owner = self._resource._opened, owner_of(self._instance)
        owner.eras[opened] = object()
        close_all([value for value in list(owner.values) if value.opened is opened], anywhere)


if TYPE_CHECKING:

    class Decorator(Protocol):
        """What `per_thread` returns when it is called with options alone."""

        @overload
        def __call__(self, func: Callable[P, AbstractContextManager[T]], /) -> PerThread[P, T]: ...

        @overload
        def __call__(self, func: Callable[P, Iterator[T]], /) -> PerThread[P, T]: ...


@overload
def per_thread(func: Callable[P, AbstractContextManager[T]], /, *, early: bool = False) -> PerThread[P, T]: ...


@overload
def per_thread(func: Callable[P, Iterator[T]], /, *, early: bool = False) -> PerThread[P, T]: ...


@overload
def per_thread(*, early: bool = False) -> Decorator: ...


def per_thread(func: Any = None, /, *, early: bool = False) -> Any:
    """Decorator: turn a generator function, or one that returns a context manager, into a resource of each thread.

    A generator function yields the value. The code after the ``yield`` closes it, in the thread that opened it, when
    that thread ends.

    Close it in a ``finally``. If the thread announces itself (see `install`) and its `run()` raised, the exception is
    raised at the ``yield``. Code after a ``yield`` without a ``finally`` is then skipped, so such a resource leaks as
    soon as any part of the program calls `install`. Never commit after the ``yield``: in a thread that does not
    announce itself, that would commit half a transaction after a crash.

    If a function returns a context manager, the value is what its ``__enter__`` returns, and its ``__exit__`` closes
    it. But if that value is the manager itself and has a ``close()``, like a file or a session, ``close()`` is called
    instead, and does not get the exception of a crash. (A `contextlib.ExitStack` does.) A database connection, whose
    ``with`` block is a transaction, is closed by ``close()``, and not even entered. So nothing is committed here.

    With `early`, the value is closed as soon as `run()` has ended, if the thread announces itself: for values that need
    other thread-locals when they are closed. In other threads it is closed when the thread ends, before all values and
    cleanups that are not early.

    Returns a `PerThread`. Raises `TypeError` for what can't be called, and for coroutine functions.
    """
    return PerThread(func, early=early) if func is not None else functools.partial(PerThread, early=early)
