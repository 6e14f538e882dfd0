"""Resources for tests, and what happens to their values."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from support import LONG, run

from threadhooks import per_thread

T = TypeVar("T")


def in_thread(body: Callable[[], T]) -> T:
    """What `body` returns, or raises, in a thread of its own, which has ended."""
    future: Future[T] = Future()

    def target() -> None:
        try:
            future.set_result(body())
        except BaseException as error:
            future.set_exception(error)

    run(threading.Thread(target=target))
    return future.result(0)


class Crash(Exception):
    """What `run()` raises in tests."""


def crashing(error: BaseException, *uses: Callable[[], object]) -> None:
    """Call `uses` in a thread whose `run()` then raises `error`, and which has ended."""

    def body() -> None:
        for use in uses:
            use()
        raise error

    run(threading.Thread(target=body))


class Manager:
    """A context manager that writes down what is done with it, and in which thread. Its value is another object."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log

    def __enter__(self) -> str:
        self.log.append(("enter", threading.get_ident()))
        return "value"

    def __exit__(self, *error: object) -> None:
        self.log.append(("exit", threading.get_ident(), *error))


@per_thread
def noted(log: Any, *args: Any, **kwargs: Any) -> Iterator[object]:
    """A resource that writes down, in `log`, what is done with it, and in which thread."""
    log.append(("opened", threading.get_ident(), args, kwargs))
    yield object()
    log.append(("closed", threading.get_ident(), args, kwargs))


def events(log: list[Any]) -> list[str]:
    """What was done, without the rest."""
    return [event for event, *_ in log]


class Owner:
    """Its method is a resource."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log

    @per_thread
    def resource(self, *args: Any) -> Iterator[object]:
        log = self.log  # `self` may be dead at the closing
        log.append(("opened", args))
        yield object()
        log.append(("closed", args))


class Worker:
    """A thread that does what it is told, one thing after the other, and waits in between."""

    def __init__(self) -> None:
        self._jobs: list[tuple[Callable[[], Any], Future[Any]]] = []
        self._more = threading.Semaphore(0)
        self.thread = threading.Thread(target=self._work, daemon=True)  # a failing test must not hang
        self.thread.start()

    def _work(self) -> None:
        while True:
            self._more.acquire()
            if not self._jobs:
                return
            job, future = self._jobs.pop(0)
            try:
                future.set_result(job())
            except BaseException as error:
                future.set_exception(error)
            del job, future

    def begin(self, job: Callable[[], T]) -> Future[T]:
        """Let the thread begin `job`."""
        future: Future[T] = Future()
        self._jobs.append((job, future))
        self._more.release()
        return future

    def do(self, job: Callable[[], T]) -> T:
        """What `job` returns, or raises, in the thread."""
        return self.begin(job).result(LONG)

    def end(self) -> None:
        """Let the thread end, and wait for it."""
        self._more.release()
        self.thread.join(LONG)
        assert not self.thread.is_alive()


@contextlib.contextmanager
def working() -> Iterator[Worker]:
    """A thread that does what it is told, and has ended when the block is left."""
    it = Worker()
    try:
        yield it
    finally:
        it.end()
