"""What the end of a thread takes, and its start and end together."""

from __future__ import annotations

import functools
import os
import statistics
import threading
import weakref
from collections.abc import Callable, Iterator
from time import perf_counter_ns, thread_time_ns
from typing import Any

import threadref as pypi

import threadhooks
from threadhooks import threadref

from .measuring import Sample, Sides, Sizes, in_thread, nothing, nothing_of, row


class Stamp:
    """In a `threading.local`, it tells when that is cleared."""

    def __init__(self, report: Callable[[int], object]) -> None:
        self.report = report

    def __del__(self) -> None:
        self.report(thread_time_ns())


class Bare:
    """What many write instead of using a library: it is finalised when the thread's locals are cleared."""

    def __del__(self) -> None:
        nothing()


def exit_time(make: Callable[..., Any], number: int, *, keep: bool) -> int:
    """Measure the end of a thread with `number` callbacks, from the end of its target to its last local's."""
    kept: list[Any] = []
    starts: list[int] = []
    calls: list[int] = []
    ends: list[int] = []
    # Up to 3.12, the locals that a thread used first are cleared first; later versions begin with the last.
    first, last = threading.local(), threading.local()

    def oldest(*_: object) -> None:  # which is run last
        calls.append(thread_time_ns())

    def body() -> None:
        first.stamp = Stamp(ends.append)
        kept.append(make(oldest))
        if keep:
            kept.extend([make(nothing_of) for _ in range(number)])
        else:
            for _ in range(number):
                make(nothing)
        last.stamp = Stamp(ends.append)
        starts.append(thread_time_ns())

    in_thread(body)
    assert starts[0] <= calls[0] <= max(ends), "the callbacks were called after the end"
    return max(ends) - starts[0]


def exiting(make: Callable[..., Any], batch: int, *, keep: bool = False) -> Sample:
    """Measure what one callback adds to the end of a thread."""
    return lambda: (exit_time(make, batch, keep=keep) - exit_time(make, 0, keep=keep)) / batch


def dying(batch: int) -> float:
    """Measure what one `weakref.finalize` adds to the end of a thread object."""
    thread = threading.Thread()
    for _ in range(batch):
        weakref.finalize(thread, nothing)
    start = thread_time_ns()
    del thread
    return (thread_time_ns() - start) / batch


def on_one_processor() -> None:
    """Stay there, where that can be had: or else it matters most on which one the system wakes whom."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def starting(target: Callable[[], object], threads: int) -> Sample:
    """Measure the start and join of a thread that runs `target`."""
    on_one_processor()

    def sample() -> float:
        start = perf_counter_ns()
        for _ in range(threads):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
        return (perf_counter_ns() - start) / threads

    return sample


@row("exit-finalize", "run them at exit, a `finalize`", "threadref.finalize", 2)
def _(sizes: Sizes) -> Iterator[Sides]:
    yield Sides(exiting(threadref.finalize, sizes.batch), exiting(pypi.finalize, sizes.batch))


@row("exit-finalize-object", "run them at exit, a `finalize`", "weakref.finalize on the thread object")
def _(sizes: Sizes) -> Iterator[Sides]:
    yield Sides(exiting(threadref.finalize, sizes.batch), lambda: dying(sizes.batch))


@row("exit-ref", "run them at exit, a `ref`'s callback", "threadref.ref", 2)
def _(sizes: Sizes) -> Iterator[Sides]:
    yield Sides(exiting(threadref.ref, sizes.batch, keep=True), exiting(pypi.ref, sizes.batch, keep=True))


class Loop:
    """What calls callbacks in a loop, as it is finalised, and does nothing else."""

    def __init__(self) -> None:
        self.refs: list[Any] = []

    def __del__(self) -> None:
        for ref, callback in self.refs:
            callback(ref)


def in_bare_loop(callback: Callable[..., object]) -> None:
    try:
        loop = local.loop
    except AttributeError:
        loop = local.loop = Loop()
    loop.refs.append((loop.refs, callback))


@row("exit-ref-loop", "the same, of a loop in Python that does nothing else", "threadref.ref")
def _(sizes: Sizes) -> Iterator[Sides]:
    yield Sides(exiting(in_bare_loop, sizes.batch, keep=True), exiting(pypi.ref, sizes.batch, keep=True))


def with_threadhooks() -> None:
    threadref.finalize(nothing)


def with_threadref() -> None:
    pypi.finalize(nothing)


def with_weakref() -> None:
    weakref.finalize(threading.current_thread(), nothing)


local = threading.local()


def with_local() -> None:
    local.bare = Bare()


@row(
    "thread-finalize", "start and join a thread with one `finalize`", "threadref.finalize", 1, ratio="cost", apart=False
)
def _(sizes: Sizes) -> Iterator[Sides]:
    yield Sides(starting(with_threadhooks, sizes.threads), starting(with_threadref, sizes.threads))


@row("thread-finalize-object", "start and join a thread with one `finalize`", "weakref.finalize on the thread object",
     ratio="cost", apart=False)  # fmt: skip
def _(sizes: Sizes) -> Iterator[Sides]:
    yield Sides(starting(with_threadhooks, sizes.threads), starting(with_weakref, sizes.threads))


@row("thread-finalize-local", "start and join a thread with one `finalize`", "a bare threading.local with `__del__`",
     ratio="cost", apart=False)  # fmt: skip
def _(sizes: Sizes) -> Iterator[Sides]:
    yield Sides(starting(with_threadhooks, sizes.threads), starting(with_local, sizes.threads))


@row("thread-finalize-bare", "start and join a thread with one `finalize`", "a bare thread", ratio="cost", apart=False)
def _(sizes: Sizes) -> Iterator[Sides]:
    yield Sides(starting(with_threadhooks, sizes.threads), starting(nothing, sizes.threads))


@row(
    "thread-installed",
    "start and join a thread under `install()`, no receivers",
    "a bare thread",
    1.1,
    ratio="cost",
    apart=False,
)
def _(sizes: Sizes) -> Iterator[Sides]:
    bare = starting(nothing, sizes.threads)

    def announced() -> float:
        with threadhooks.installed():
            return bare()

    yield Sides(announced, bare)


@row("thread-installed-local", "start and join a thread under `install()`, no receivers",
     "a bare threading.local with `__del__`", ratio="cost", apart=False)  # fmt: skip
def _(sizes: Sizes) -> Iterator[Sides]:
    bare = starting(nothing, sizes.threads)

    def announced() -> float:
        with threadhooks.installed():
            return bare()

    yield Sides(announced, starting(with_local, sizes.threads))


def exit_and_join(target: Callable[[], object]) -> int:
    """Measure one thread's end, from the last line of its target to the return of `join()`."""
    times: list[int] = []

    def body() -> None:
        target()
        times.append(perf_counter_ns())

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    return perf_counter_ns() - times[0]


def crowded(target: Callable[[], object], sizes: Sizes) -> Iterator[Sides]:
    def none() -> float:
        return statistics.median(exit_and_join(target) for _ in range(sizes.threads))

    threading.stack_size(128 * 1024)
    on_one_processor()
    # Who waits for an Event sits in one of a few queues of the kernel, and slows down everybody else who waits so.
    read, _ = os.pipe()

    def park() -> None:
        target()
        os.read(read, 1)

    @functools.cache
    def gather() -> None:
        for _ in range(sizes.attached):
            threading.Thread(target=park, daemon=True).start()

    def many() -> float:
        gather()
        return none()

    yield Sides(many, none)


@row("crowd", "one thread's exit while many others are attached", "the same with none", 1.1, ratio="cost")
def _(sizes: Sizes) -> Iterator[Sides]:
    yield from crowded(with_threadhooks, sizes)


@row("crowd-threadref", "the same, with threadref", "the same with none", ratio="cost")
def _(sizes: Sizes) -> Iterator[Sides]:
    yield from crowded(with_threadref, sizes)


@row("crowd-bare", "the same, with bare threads", "the same with none", ratio="cost")
def _(sizes: Sizes) -> Iterator[Sides]:
    yield from crowded(nothing, sizes)
