"""What it takes to capture the life of a thread, from its start to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from typing import Any

import threadhooks

from .exiting import starting
from .measuring import Sample, Sides, Sizes, nothing, row


def captured(capture: Callable[[], AbstractContextManager[Any]], threads: int) -> Sample:
    """Measure the start and join of a thread while all are captured; not what becomes of the capture afterwards."""
    bare = starting(nothing, threads)

    def sample() -> float:
        with capture():
            return bare()

    return sample


@row("thread-timeline", "start and join a thread in a `Timeline`", "a bare thread", 1.15, ratio="cost", apart=False)
def _(sizes: Sizes) -> Iterator[Sides]:
    yield Sides(captured(threadhooks.Timeline, sizes.threads), starting(nothing, sizes.threads))


if find_spec("viztracer"):

    @contextmanager
    def viztracer() -> Iterator[None]:
        from viztracer import VizTracer

        tracer = VizTracer(verbose=0)
        tracer.start()
        yield
        tracer.stop()
        tracer.clear()

    # Each has a process of its own: a tracer that has stopped leaves its mark on threads that are started later.
    @row("thread-timeline-viztracer", "start and join a thread in a `Timeline`", "viztracer", ratio="cost")
    def _(sizes: Sizes) -> Iterator[Sides]:
        yield Sides(captured(threadhooks.Timeline, sizes.threads), captured(viztracer, sizes.threads))
