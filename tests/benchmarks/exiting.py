"""What the end of a thread takes, and its start and end together."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter_ns, thread_time_ns
from typing import Any

import threadref as pypi

import threadhooks
from threadhooks import threadref

from .measuring import Sample, Sides, Sizes, in_thread, nothing, row

ABOVE = Path(__file__).parents[__name__.count(".")]  # where the name of this module leads to it


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
            kept.extend([make(nothing) for _ in range(number)])
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


def starting(target: Callable[[], object], threads: int) -> Sample:
    """Measure the start and join of a thread that runs `target`."""

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


def with_threadhooks() -> None:
    threadref.finalize(nothing)


def with_threadref() -> None:
    pypi.finalize(nothing)


def with_weakref() -> None:
    weakref.finalize(threading.current_thread(), nothing)


local = threading.local()


def with_local() -> None:
    local.bare = Bare()


@row("thread-finalize", "start and join a thread with one `finalize`", "threadref.finalize", 1, ratio="cost")
def _(sizes: Sizes) -> Iterator[Sides]:
    yield Sides(starting(with_threadhooks, sizes.threads), starting(with_threadref, sizes.threads))


@row("thread-finalize-object", "start and join a thread with one `finalize`", "weakref.finalize on the thread object",
     ratio="cost")  # fmt: skip
def _(sizes: Sizes) -> Iterator[Sides]:
    yield Sides(starting(with_threadhooks, sizes.threads), starting(with_weakref, sizes.threads))


@row("thread-finalize-local", "start and join a thread with one `finalize`", "a bare threading.local with `__del__`",
     ratio="cost")  # fmt: skip
def _(sizes: Sizes) -> Iterator[Sides]:
    yield Sides(starting(with_threadhooks, sizes.threads), starting(with_local, sizes.threads))


@row("thread-finalize-bare", "start and join a thread with one `finalize`", "a bare thread", ratio="cost")
def _(sizes: Sizes) -> Iterator[Sides]:
    yield Sides(starting(with_threadhooks, sizes.threads), starting(nothing, sizes.threads))


@row("thread-installed", "start and join a thread under `install()`, no receivers", "a bare thread", 1.1, ratio="cost")
def _(sizes: Sizes) -> Iterator[Sides]:
    bare = starting(nothing, sizes.threads)

    def announced() -> float:
        with threadhooks.installed():
            return bare()

    yield Sides(announced, bare)


@row("thread-installed-local", "start and join a thread under `install()`, no receivers",
     "a bare threading.local with `__del__`", ratio="cost")  # fmt: skip
def _(sizes: Sizes) -> Iterator[Sides]:
    bare = starting(nothing, sizes.threads)

    def announced() -> float:
        with threadhooks.installed():
            return bare()

    yield Sides(announced, starting(with_local, sizes.threads))


class Crowd:
    """A process in which many threads are parked, and others exit, one after the other."""

    TARGETS = {"threadhooks": with_threadhooks, "threadref": with_threadref, "bare": nothing}

    def __init__(self, kind: str, number: int, threads: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__, kind, str(number), str(threads)],
            cwd=ABOVE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> int:
        return int(self._read())  # how many are parked

    def __exit__(self, *_: object) -> None:
        self.process.communicate()  # the end of its input ends it

    def sample(self) -> float:
        assert self.process.stdin is not None
        print(file=self.process.stdin, flush=True)
        return float(self._read())

    def _read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    @staticmethod
    def run(kind: str, number: int, threads: int) -> None:
        """What the process does."""
        target = Crowd.TARGETS[kind]
        threading.stack_size(128 * 1024)
        # Who waits for an Event sits in one of a few queues of the kernel, and slows down everybody else who waits so.
        read, _ = os.pipe()

        def park() -> None:
            target()
            os.read(read, 1)

        parked = 0
        try:
            for _ in range(number):
                threading.Thread(target=park, daemon=True).start()
                parked += 1
        except (RuntimeError, MemoryError):  # the machine has no more
            pass
        print(parked, flush=True)
        for _ in sys.stdin:
            print(statistics.median(exit_and_join(target) for _ in range(threads)), flush=True)
        os._exit(0)  # nobody needs to see ten thousand threads off


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


def crowded(kind: str, sizes: Sizes) -> Iterator[Sides]:
    with ExitStack() as stack:
        many, none = Crowd(kind, sizes.attached, sizes.threads), Crowd(kind, 0, sizes.threads)
        parked = stack.enter_context(many)
        stack.enter_context(none)
        yield Sides(many.sample, none.sample, f"{parked} threads")


@row("crowd", "one thread's exit while many others are attached", "the same with none", 1.1, ratio="cost")
def _(sizes: Sizes) -> Iterator[Sides]:
    yield from crowded("threadhooks", sizes)


@row("crowd-threadref", "the same, with threadref", "the same with none", ratio="cost")
def _(sizes: Sizes) -> Iterator[Sides]:
    yield from crowded("threadref", sizes)


@row("crowd-bare", "the same, with bare threads", "the same with none", ratio="cost")
def _(sizes: Sizes) -> Iterator[Sides]:
    yield from crowded("bare", sizes)


if __name__ == "__main__":
    Crowd.run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
