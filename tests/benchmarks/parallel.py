"""Two threads that register at the same time: each has its own stack, so neither should wait for the other."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from time import perf_counter_ns
from typing import Any

import threadref as pypi

from threadhooks import threadref

from .measuring import Sample, Sides, Sizes, nothing, row

FREE_THREADED = not getattr(sys, "_is_gil_enabled", lambda: True)()


def throughput(make: Callable[..., Any], threads: int, number: int) -> Sample:
    """Measure how many registrations a second that many threads make together."""

    def sample() -> float:
        barrier = threading.Barrier(threads)
        times: list[int] = []

        def body() -> None:
            make(nothing)
            again = range(number)
            barrier.wait()
            start = perf_counter_ns()
            for _ in again:
                make(nothing)
            times.extend((start, perf_counter_ns()))

        workers = [threading.Thread(target=body) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return threads * number / (max(times) - min(times)) * 1e9

    return sample


def both(make: Callable[..., Any], sizes: Sizes) -> Iterator[Sides]:
    number = sizes.batch * 10
    yield Sides(throughput(make, 2, number), throughput(make, 1, number))


if FREE_THREADED:

    @row(
        "parallel", "two threads registering a `finalize` at once", "one thread", 1.8, ratio="throughput", unit="per s"
    )
    def _(sizes: Sizes) -> Iterator[Sides]:
        yield from both(threadref.finalize, sizes)

    @row("parallel-threadref", "the same, with threadref", "one thread", ratio="throughput", unit="per s")
    def _(sizes: Sizes) -> Iterator[Sides]:
        yield from both(pypi.finalize, sizes)

    @row("parallel-machine", "the same, with a function that makes a list: what the machine gives", "one thread",
         ratio="throughput", unit="per s")  # fmt: skip
    def _(sizes: Sizes) -> Iterator[Sides]:
        yield from both(lambda function: [function, [[] for _ in range(10)]], sizes)
