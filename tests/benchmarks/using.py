"""To call a resource that is open, beside the thread-local that many write instead."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from time import thread_time_ns

from threadhooks import per_thread

from .measuring import Sample, Sides, Sizes, in_thread, row


@per_thread
def resource(*args: object) -> Iterator[object]:
    yield object()


class Owner:
    @per_thread
    def resource(self) -> Iterator[object]:
        yield object()


owner = Owner()
local = threading.local()


def using(use: Callable[[], object], batch: int) -> Sample:
    """Measure `use()`, in a thread that has used it before."""

    def body() -> float:
        local.value = object()
        use()
        again = itertools.repeat(None, batch)
        start = thread_time_ns()
        for _ in again:
            use()
        return (thread_time_ns() - start) / batch

    return lambda: in_thread(body)


@row("resource", "call an open resource", "a function that reads a `threading.local`", ratio="cost")
def _(sizes: Sizes) -> Iterator[Sides]:
    yield Sides(using(resource, sizes.batch), using(lambda: local.value, sizes.batch))


@row("resource-argument", "the same, with an argument", "a function that reads a `threading.local`", ratio="cost")
def _(sizes: Sizes) -> Iterator[Sides]:
    yield Sides(using(lambda: resource(1), sizes.batch), using(lambda: local.value, sizes.batch))


@row("resource-method", "the same, of an instance", "a function that reads a `threading.local`", ratio="cost")
def _(sizes: Sizes) -> Iterator[Sides]:
    yield Sides(using(lambda: owner.resource(), sizes.batch), using(lambda: local.value, sizes.batch))
