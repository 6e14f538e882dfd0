"""What the tests of announcing threads share: kinds of threads, and what they tell of themselves."""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.pool import ThreadPool
from typing import Any

import pytest
from support import LONG, in_thread, run

from threadhooks import Plugin

SIGNALS = ["thread_started", "thread_exiting", "thread_exited"]
LIFE = ["thread_started", "run", "thread_exiting", "thread_exited"]

Body = Callable[[], object]
Events = list[tuple[str, threading.Thread]]  # what happened in which thread, in order
Announce = Callable[..., threading.Thread]  # the fixture `announce`


def listen(plugin: Plugin) -> Events:
    """What the signals tell from now on; tests add what else happens."""
    happened: Events = []
    for signal in SIGNALS:
        getattr(plugin, signal)(lambda thread, signal=signal, **extra: happened.append((signal, thread)))
    return happened


def lives(events: Events) -> dict[threading.Thread, list[str]]:
    """What happened in each thread."""
    found: dict[threading.Thread, list[str]] = {}
    for what, thread in events:
        found.setdefault(thread, []).append(what)
    return found


def note(events: Events, what: str = "run") -> Body:
    """A function that notes what happens, and in which thread."""
    return lambda: events.append((what, threading.current_thread()))


def fail(error: BaseException) -> None:
    raise error


def crash() -> None:
    raise ValueError("crash")


class Crash(Exception):
    pass


class Abort(BaseException):
    pass


ERRORS = [Crash, Abort, SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration]


class OverridesRun(threading.Thread):
    """A thread whose body is its method."""

    def __init__(self, body: Body, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.body = body

    def run(self) -> None:
        self.body()


class OverridesStart(threading.Thread):
    def start(self) -> None:
        self.started_by = threading.current_thread()
        super().start()


class OverridesBoth(OverridesStart, OverridesRun):
    pass


class OverridesRunAndCallsIt(threading.Thread):
    def run(self) -> None:
        super().run()


class WrapsItsRun(OverridesRun):
    """A thread whose `start` replaces its `run`."""

    def start(self) -> None:
        self.run = self.wrapped  # type: ignore[method-assign]
        super().start()

    def wrapped(self) -> None:
        type(self).run(self)


class Guarded(OverridesRun):
    """A thread on which nobody can set or delete what it does not know."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == "run":
            raise AttributeError(name)
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name == "run":
            raise AttributeError(name)
        super().__delattr__(name)


def with_run_attribute(thread: threading.Thread, body: Body) -> threading.Thread:
    thread.run = lambda *_: body()  # type: ignore[method-assign, assignment, misc]
    return thread


def with_an_executor(body: Body) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(body).result(LONG)


def with_asyncio(body: Body) -> None:
    async def main() -> None:
        await asyncio.to_thread(body)

    asyncio.run(main())


def with_a_thread_pool(body: Body) -> None:
    pool = ThreadPool(1)
    pool.apply(body)
    pool.close()
    pool.join()


# Every kind of thread, as a function that runs a body in one, to its end
KINDS: dict[str, Callable[[Body], object]] = {
    "plain": in_thread,
    "daemon": lambda body: run(threading.Thread(target=body, daemon=True)),
    "timer": lambda body: run(threading.Timer(0, body)),
    "executor": with_an_executor,
    "to_thread": with_asyncio,
    "ThreadPool": with_a_thread_pool,
    "overrides run": lambda body: run(OverridesRun(body)),
    "overrides run, and calls it": lambda body: run(OverridesRunAndCallsIt(target=body)),
    "overrides start": lambda body: run(OverridesStart(target=body)),
    "overrides both": lambda body: run(OverridesBoth(body)),
    "overrides both, daemon": lambda body: run(OverridesBoth(body, daemon=True)),
    "start wraps run": lambda body: run(WrapsItsRun(body)),
    "guards its attributes": lambda body: run(Guarded(body)),
    "run set on the instance": lambda body: run(with_run_attribute(threading.Thread(), body)),
    "run set on an instance that overrides both": lambda body: run(with_run_attribute(OverridesBoth(int), body)),
    "run is a static method": lambda body: run(type("Static", (threading.Thread,), {"run": staticmethod(body)})()),
    "run is a partial method": lambda body: run(
        type("Partial", (threading.Thread,), {"run": functools.partialmethod(lambda self, what: what(), body)})()
    ),
}

# Threads that can be looked at before they are started
MADE: dict[str, Callable[[Body], threading.Thread]] = {
    "plain": lambda body: threading.Thread(target=body),
    "timer": lambda body: threading.Timer(0, body),
    "overrides run": OverridesRun,
    "overrides both": OverridesBoth,
    "start wraps run": WrapsItsRun,
    "guards its attributes": Guarded,
}


class no_threads:
    """The operating system refuses to start threads: it really does, since a stack of that size can't be had."""

    def __enter__(self) -> None:
        self.size = threading.stack_size(1 << 60)

    def __exit__(self, *_: object) -> None:
        threading.stack_size(self.size)


@contextmanager
def refusing(error: BaseException | None = None) -> Iterator[None]:
    """`_thread` raises an error instead of starting a thread, and does nothing else."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise error or RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as patch:
        name = "_start_joinable_thread" if sys.version_info >= (3, 13) else "_start_new_thread"
        patch.setattr(threading, name, refuse)
        yield
