"""To register for the end of the current thread, to take it back, to call it early, and what it takes of the memory."""

from __future__ import annotations

import functools
import itertools
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from time import thread_time_ns
from typing import Any

import threadref as pypi

from threadhooks import Plugin, threadref

from .measuring import Sample, Sides, Sizes, in_thread, nothing, nothing_of, row


def registering(make: Callable[..., Any], batch: int) -> Sample:
    """Measure `make(nothing)`, in a thread that is attached already. Its end, which throws all away, isn't measured."""

    def body() -> float:
        make(nothing)
        again = itertools.repeat(None, batch)
        start = thread_time_ns()
        for _ in again:
            make(nothing)
        return (thread_time_ns() - start) / batch

    return lambda: in_thread(body)


def registering_for_object(batch: int) -> Sample:
    """The same for `weakref.finalize(threading.current_thread(), nothing)`."""

    def body() -> float:
        thread = threading.current_thread()
        make = weakref.finalize
        make(thread, nothing)
        again = itertools.repeat(None, batch)
        start = thread_time_ns()
        for _ in again:
            make(thread, nothing)
        return (thread_time_ns() - start) / batch

    return lambda: in_thread(body)


def keeping(make: Callable[..., Any], batch: int) -> Sample:
    """Measure `make(nothing_of)`, where the result must be kept."""

    def body() -> float:
        kept = [make(nothing_of)]
        keep = kept.append
        again = itertools.repeat(None, batch)
        start = thread_time_ns()
        for _ in again:
            keep(make(nothing_of))
        return (thread_time_ns() - start) / batch

    return lambda: in_thread(body)


def detaching(make: Callable[..., Any], batch: int) -> Sample:
    """Measure `detach()` of finalizers that are alive."""

    def body() -> float:
        finalizers = [make(nothing) for _ in range(batch)]
        start = thread_time_ns()
        for finalizer in finalizers:
            finalizer.detach()
        return (thread_time_ns() - start) / batch

    return lambda: in_thread(body)


def calling(make: Callable[..., Any], batch: int) -> Sample:
    """Measure the call of finalizers that are alive."""

    def body() -> float:
        finalizers = [make(nothing) for _ in range(batch)]
        start = thread_time_ns()
        for finalizer in finalizers:
            finalizer()
        return (thread_time_ns() - start) / batch

    return lambda: in_thread(body)


def remembering(make: Callable[..., Any], batch: int, *, keep: bool = False) -> Sample:
    """Weigh one registration. Dicts and lists grow in steps, so the numbers of registrations spread over a doubling."""
    numbers = itertools.cycle([int(10 * batch * 2 ** (step / 8)) for step in range(8)])

    def body(number: int) -> float:
        kept: list[Any] = [None] * number
        again = range(number)
        tracemalloc.start()
        try:
            make(nothing)
            before, _ = tracemalloc.get_traced_memory()
            if keep:
                for position in again:
                    kept[position] = make(nothing_of)
            else:
                for _ in again:
                    make(nothing)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        return (after - before) / number

    return lambda: in_thread(lambda: body(next(numbers)))


def for_current_thread(function: Callable[..., Any]) -> weakref.finalize[..., Any]:
    """What many write instead of threadref's."""
    return weakref.finalize(threading.current_thread(), function)


@row("register-finalize", "register a `finalize`", "threadref.finalize", 2.5)
def _(sizes: Sizes) -> Iterator[Sides]:
    yield Sides(registering(threadref.finalize, sizes.batch), registering(pypi.finalize, sizes.batch))


@row("register-finalize-argument", "the same, with an argument", "threadref.finalize")
def _(sizes: Sizes) -> Iterator[Sides]:
    def with_argument(make: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
        return lambda _: make(nothing_of, None)

    ours, peer = with_argument(threadref.finalize), with_argument(pypi.finalize)
    yield Sides(registering(ours, sizes.batch), registering(peer, sizes.batch))


@row("register-finalize-object", "register a `finalize`", "weakref.finalize on the thread object")
def _(sizes: Sizes) -> Iterator[Sides]:
    yield Sides(registering(threadref.finalize, sizes.batch), registering_for_object(sizes.batch))


@row("register-plugin", "`Plugin.register`", "threadref.finalize")
def _(sizes: Sizes) -> Iterator[Sides]:
    with Plugin("benchmark") as plugin:
        yield Sides(registering(plugin.register, sizes.batch), registering(pypi.finalize, sizes.batch))


@row("register-ref", "make a `ref` with a callback", "threadref.ref", 1.2)
def _(sizes: Sizes) -> Iterator[Sides]:
    yield Sides(keeping(threadref.ref, sizes.batch), keeping(pypi.ref, sizes.batch))


@row("detach", "`detach()`", "threadref.finalize", 2)
def _(sizes: Sizes) -> Iterator[Sides]:
    yield Sides(detaching(threadref.finalize, sizes.batch), detaching(pypi.finalize, sizes.batch))


@row("detach-object", "`detach()`", "weakref.finalize on the thread object")
def _(sizes: Sizes) -> Iterator[Sides]:
    yield Sides(detaching(threadref.finalize, sizes.batch), detaching(for_current_thread, sizes.batch))


@row("call", "calling one early", "threadref.finalize", 2)
def _(sizes: Sizes) -> Iterator[Sides]:
    yield Sides(calling(threadref.finalize, sizes.batch), calling(pypi.finalize, sizes.batch))


@row("call-object", "calling one early", "weakref.finalize on the thread object")
def _(sizes: Sizes) -> Iterator[Sides]:
    yield Sides(calling(threadref.finalize, sizes.batch), calling(for_current_thread, sizes.batch))


class Called:
    """What can be called once it is made, and does nothing but to call what it was made with."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[[], object]) -> None:
        self.function = function

    def __call__(self, _: object = None) -> object:
        return self.function()


@row("call-class", "the same, of a class that does nothing else", "threadref.finalize")
def _(sizes: Sizes) -> Iterator[Sides]:
    yield Sides(calling(Called, sizes.batch), calling(pypi.finalize, sizes.batch))


@row("call-after", "calling one early, after 2,000 uses of `weakref.finalize`", "the same without", ratio="cost")
def _(sizes: Sizes) -> Iterator[Sides]:
    measure = calling(threadref.finalize, sizes.batch)

    @functools.cache
    def use() -> None:
        # Each assigns to an attribute of weakref.finalize. From 3.13 on, a class that has changed a thousand times
        # is not cached any more, nor are those that are derived from it.
        for _ in range(2000):
            for_current_thread(nothing)()
            threadref.finalize(nothing)()

    def after() -> float:
        use()
        return measure()

    yield Sides(after, measure)


@row("memory-finalize", "memory of one `finalize`", "threadref.finalize", 0.6, ratio="cost", unit="bytes")
def _(sizes: Sizes) -> Iterator[Sides]:
    yield Sides(remembering(threadref.finalize, sizes.batch), remembering(pypi.finalize, sizes.batch))


@row("memory-finalize-object", "memory of one `finalize`", "weakref.finalize on the thread object", ratio="cost",
     unit="bytes")  # fmt: skip
def _(sizes: Sizes) -> Iterator[Sides]:
    yield Sides(remembering(threadref.finalize, sizes.batch), remembering(for_current_thread, sizes.batch))


@row("memory-ref", "memory of one `ref` with a callback", "threadref.ref", ratio="cost", unit="bytes")
def _(sizes: Sizes) -> Iterator[Sides]:
    ours, peer = threadref.ref, pypi.ref
    yield Sides(remembering(ours, sizes.batch, keep=True), remembering(peer, sizes.batch, keep=True))
