"""What takes back many registrations, and the end of many threads at once: each is to be linear in their number."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from time import perf_counter_ns, thread_time_ns

from threadhooks import Plugin, threadref

from .exiting import Bare
from .measuring import Sample, Sides, Sizes, in_thread, nothing, row

THREADS = 10  # that live while plugins are closed


def closing(number: int) -> Sample:
    """Measure the closing of a plugin, of `number` that each have a cleanup in each of ten threads."""

    def sample() -> float:
        with ExitStack() as stack:
            plugins = [stack.enter_context(Plugin(f"benchmark {each}")) for each in range(number)]
            registered, leave = threading.Barrier(THREADS + 1), threading.Event()

            def body() -> None:
                for plugin in plugins:
                    plugin.register(nothing)
                registered.wait()
                leave.wait()

            threads = [threading.Thread(target=body) for _ in range(THREADS)]
            for thread in threads:
                thread.start()
            registered.wait()
            start = thread_time_ns()
            for plugin in plugins:
                plugin.close()
            taken = thread_time_ns() - start
            leave.set()
            for thread in threads:
                thread.join()
        return taken / number

    return sample


def unregistering(number: int) -> Sample:
    """Measure `unregister`, which takes back one of `number` cleanups of a plugin in a thread."""

    def body() -> float:
        with Plugin("benchmark") as plugin:
            hooks = [plugin.register(lambda: None) for _ in range(number)]
            start = thread_time_ns()
            for hook in hooks:
                plugin.unregister(hook)
            return (thread_time_ns() - start) / number

    return lambda: in_thread(body)


def ending(target: Callable[[], object], number: int) -> Sample:
    """Measure the end of a thread, of `number` that run `target` and end together, until all are joined."""

    def sample() -> float:
        threading.stack_size(128 * 1024)
        read, write = os.pipe()  # an Event would be slow itself, with so many who wait for it
        started = threading.Semaphore(0)

        def body() -> None:
            target()
            started.release()
            os.read(read, 1)

        threads = [threading.Thread(target=body) for _ in range(number)]
        for thread in threads:
            thread.start()
        for _ in threads:
            started.acquire()
        start = perf_counter_ns()
        os.close(write)
        for thread in threads:
            thread.join()
        taken = perf_counter_ns() - start
        os.close(read)
        return taken / number

    return sample


@row("close-plugins", "close one of many plugins with hooks in ten threads", "of a tenth as many", 2, ratio="cost")
def _(sizes: Sizes) -> Iterator[Sides]:
    many = max(10, sizes.batch)
    yield Sides(closing(many), closing(many // 10))


@row("unregister", "`unregister` one of many cleanups", "of a hundredth as many", 2, ratio="cost")
def _(sizes: Sizes) -> Iterator[Sides]:
    many = max(100, sizes.attached)
    yield Sides(unregistering(many), unregistering(many // 100))


def with_hook() -> None:
    threadref.finalize(nothing)


local = threading.local()


def with_local() -> None:
    local.bare = Bare()


# All that wait for the GIL wake up every five milliseconds: with many at once, that takes nearly all the time.
@row("end-crowd", "end and join a quarter of the crowd at once, each with a `finalize`", "bare threads", ratio="cost")
def _(sizes: Sizes) -> Iterator[Sides]:
    number = max(1, sizes.attached // 4)
    yield Sides(ending(with_hook, number), ending(nothing, number))


@row("end-crowd-local", "the same", "a bare threading.local with `__del__`", ratio="cost")
def _(sizes: Sizes) -> Iterator[Sides]:
    number = max(1, sizes.attached // 4)
    yield Sides(ending(with_hook, number), ending(with_local, number))
