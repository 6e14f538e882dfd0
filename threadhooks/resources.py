"""Resources that each thread opens for itself, and that are closed in it when it ends.

Guarantees:

- A value is closed once, in the thread that opened it: when the thread ends, or when the thread calls `close`.
- Values are clean-ups like others: the last that was opened is the first to be closed.
- A forked child neither uses nor closes the values of its parent.

What it does not promise:

- A daemon thread that still runs when the interpreter ends keeps its values: they are not closed.
- When an instance dies in another thread than the one that opened a value for it, or with a thread-local of that one,
  the value is closed as late as its thread ends, or opens one for another instance in the same place.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from ._attached import warn_unless_early
from ._attachment import Attachment
from ._report import check_hook, describe
from ._sentinel import attached_here, current

P = ParamSpec("P")
Q = ParamSpec("Q")
S = TypeVar("S")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class _Value:
    """One value that is open, in one thread."""

    __slots__ = ("attachment", "key", "manager", "owner", "resource", "sees_crash", "value")

    manager: AbstractContextManager[Any]
    value: Any

    def __init__(self, resource: PerThread[..., Any], attachment: Attachment, key: object) -> None:
        self.resource = resource
        self.attachment = attachment
        self.key = key
        self.owner: weakref.ref[Any] | None = None
        self.sees_crash = attachment.exception is None  # or else it was opened after the crash

    # With what it needs at hand: an instance may die when the globals are gone. It may also die with another
    # thread-local, as the thread ends: then the sentinel closes the value, in a moment.
    def _owner_died(self, _: object, active: Any = threading._active) -> None:  # type: ignore[attr-defined]
        attachment = self.attachment
        if attachment.is_here() and active.get(attachment.ident) is attachment.thread:
            self.discard()
        else:
            attachment.ask(self.discard)

    def discard(self) -> None:
        """Close it, unless that was done, for an instance that is gone, and report what that raises."""
        if self.take():
            try:
                self.close(None)
            except BaseException as error:  # noqa: BLE001
                self.attachment.failed(error, self)

    def take(self) -> bool:
        """Take it off its thread's stack: whether it is the caller's to close."""
        attachment = self.attachment
        return (attachment.late.take(self) or attachment.early.take(self)) is not None

    def close(self, error: BaseException | None) -> None:
        """Close it; it has been taken off the stack."""
        values = self.attachment.values
        if values.get(self.key) is self:
            del values[self.key]
        self.owner = None  # which refers to this
        if error is None:
            self.manager.__exit__(None, None, None)
        else:
            traceback = error.__traceback__
            try:
                self.manager.__exit__(type(error), error, traceback)
            finally:
                error.__traceback__ = traceback  # on 3.10, a frame of contextlib's would keep the error

    def __call__(self) -> None:  # when the thread ends
        self.close(self.attachment.exception if self.sees_crash else None)

    def __repr__(self) -> str:
        return f"the closing of {describe(self.resource)}"


class PerThread(Generic[P, T_co]):
    """A resource of which each thread has its own value; made by `per_thread`.

    A call returns the current thread's value, which it opens if need be. Each combination of arguments, which must be
    hashable, has a value of its own, as they are passed: by position or by name, with defaults or without. (Those that
    are equal, as 1 and 1.0, are the same.) So has each instance, for a method, whose ``self`` is a `weakref.proxy`: its
    class must allow weak references.

    What the opening raises is raised by the call, and nothing is kept; once the exit of the thread has been announced,
    the call raises `RuntimeError`. What the closing raises, at the end of a thread, is reported to
    `threading.excepthook`.
    """

    def __init__(
        self, func: Callable[P, Iterator[T_co] | AbstractContextManager[T_co]], *, early: bool = False
    ) -> None:
        self._open: Any = contextlib.contextmanager(func) if inspect.isgeneratorfunction(func) else func
        check_hook(self._open, may_open=True)
        functools.update_wrapper(self, func, updated=())  # without its attributes: some may have names of ours
        self._early = bool(early)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> T_co:
        """The current thread's value for these arguments, opened now if need be."""
        return self._get(None, args, kwargs)  # type: ignore[no-any-return]

    def __reduce__(self) -> str:
        return getattr(self, "__qualname__", "")  # as a function: pickled by its name, and not copied

    def close(self, /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Close the current thread's value for these arguments now, if there is one; the next call opens it anew.

        What the closing raises is raised here.
        """
        self._close(None, args, kwargs)

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
        key = self._key(instance, args, kwargs)
        known: _Value | None = attachment.values.get(key)
        if known is not None:
            if known.owner is None or known.owner() is instance:
                return known.value
            known.discard()  # of an instance that died in another thread, and had this address
        opened = _Value(self, attachment, key)
        if self._early:
            warn_unless_early(attachment, opened)
        if instance is not None:
            args = (weakref.proxy(instance), *args)
        opened.manager = manager = self._open(*args, **kwargs)
        if not (hasattr(type(manager), "__enter__") and hasattr(type(manager), "__exit__")):
            raise TypeError(f"{describe(self)} must yield, or return a context manager, not {manager!r}")
        opened.value = manager.__enter__()
        if instance is not None:  # which neither the generator nor we keep alive
            opened.owner = weakref.ref(instance, opened._owner_died)
        (attachment.early if self._early else attachment.late).add(opened, opened)
        attachment.values[key] = opened
        return opened.value

    def _close(self, instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        attachment = attached_here()
        if attachment is None:
            return
        known: _Value | None = attachment.values.get(self._key(instance, args, kwargs))
        if known is not None and known.take():
            known.close(None)

    def _key(self, instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
        if instance is None and not args and not kwargs:
            return self
        return self, id(instance), args, frozenset(kwargs.items())


class BoundPerThread(Generic[P, T_co]):
    """A `PerThread` that is a method, bound to an instance."""

    __slots__ = ("_instance", "_resource")

    def __init__(self, resource: PerThread[..., T_co], instance: object) -> None:
        self._resource = resource
        self._instance = instance

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> T_co:
        """The current thread's value for this instance and these arguments, opened now if need be."""
        return self._resource._get(self._instance, args, kwargs)  # type: ignore[no-any-return]

    def close(self, /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Close the current thread's value for this instance and these arguments: see `PerThread.close`."""
        self._resource._close(self._instance, args, kwargs)


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
    """Decorator: make a generator function, or what returns a context manager, a resource of each thread.

    What is yielded is the value. What follows the ``yield`` closes it, in the thread that opened it, when that ends. If
    the thread announces itself (see `install`) and its `run()` raised, the exception is thrown into the generator at
    its ``yield``: what must be done even then belongs in a ``finally``.

    With `early`, it is closed as soon as `run()` has ended, if the thread announces itself: for what needs other
    thread-locals to close itself. Otherwise it is closed with the clean-ups of that end, last in, first out.

    Returns a `PerThread`. Raises `TypeError` for what can't be called, and for coroutine functions.
    """
    return PerThread(func, early=early) if func is not None else functools.partial(PerThread, early=early)
