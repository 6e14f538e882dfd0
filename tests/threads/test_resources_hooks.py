"""Resources in hooks, at the early moment, and in a thread that has crashed."""

from __future__ import annotations

import contextlib
import functools
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from resourcing import Crash, Manager, crashing, in_thread
from support import Log, run

import threadhooks
from threadhooks import per_thread, thread_exited, thread_exiting

# The early moment


@pytest.mark.parametrize("method", [False, True], ids=["function", "method"])
def test_early_closes_while_thread_locals_are_there(method: bool, log: Log) -> None:
    """Under `install`, before the receivers of `thread_exiting`; the others close late."""
    local = threading.local()

    class Registry:
        @per_thread(early=True)
        def session(self) -> Iterator[None]:
            yield
            log.append(f"session closed, {local.name}")

    @per_thread
    def connection() -> Iterator[None]:
        yield
        log.append("connection closed")

    def body() -> None:
        local.name = "there"
        (registry.session if method else functools.partial(Registry.session, None))()  # type: ignore[arg-type]
        connection()

    registry = Registry()
    exiting = lambda thread, **extra: log.append("exiting")  # noqa: E731
    with threadhooks.installed(), thread_exiting.connected_to(exiting):
        in_thread(body)
    assert log == ["session closed, there", "exiting", "connection closed"]


# A thread that has crashed


@per_thread
def verdict(log: Any, name: str = "") -> Iterator[None]:
    """Writes down whether it would commit or roll back."""
    try:
        yield
    except BaseException as error:
        log.append((f"{name}rolled back", error))
        raise
    else:
        log.append(f"{name}committed")


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("kind", [Crash, SystemExit, KeyboardInterrupt, StopIteration, RuntimeError])
def test_what_run_raised_is_thrown_into_the_generator(
    kind: type[BaseException], early: bool, log: Log, failures: list[Any]
) -> None:
    """Under `install`, whatever `run()` raised; if the generator lets it pass, it is not reported once more."""
    resource = per_thread(early=early)(verdict.__wrapped__)  # type: ignore[attr-defined]
    error = kind("crash")
    with threadhooks.installed():
        crashing(error, lambda: resource(log))
    assert log == [("rolled back", error)]
    assert [told for told, _ in failures] == [error]


def test_each_block_of_announced_has_its_own_crash() -> None:
    """The exception of each block of one thread is thrown into what was opened in it."""
    log = Log()
    errors = [Crash(), Crash(), None, Crash()]
    resource = per_thread(early=True)(verdict.__wrapped__)  # type: ignore[attr-defined]

    def body() -> None:
        for error in errors:
            with contextlib.suppress(Crash), threadhooks.announced():
                resource(log)
                if error is not None:
                    raise error

    in_thread(body)
    assert log == ["committed" if error is None else ("rolled back", error) for error in errors]


def test_what_did_not_leave_an_announced_run_is_not_thrown_in(log: Log, failures: list[Any]) -> None:
    """In a thread that does not announce itself, and in one that has handled what was raised, it is closed as usual."""

    def body() -> None:
        with pytest.raises(Crash):
            verdict(log)
            raise Crash

    crashing(Crash(), lambda: verdict(log))
    with threadhooks.installed():
        in_thread(body)
    assert log == ["committed", "committed"]
    assert [type(error) for error, _ in failures] == [Crash]


def test_a_context_manager_is_told_of_the_crash(log: Log, failures: list[Any]) -> None:
    """Its `__exit__` gets the type, the exception, and its traceback."""
    error = Crash()
    with threadhooks.installed():
        crashing(error, per_thread(lambda: Manager(log)))
    _, (event, _, kind, told, traceback) = log
    assert (event, kind, told) == ("exit", Crash, error)
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    assert traceback.tb_frame.f_code.co_name == "body"


def test_a_generator_that_swallows_the_crash(log: Log, failures: list[Any]) -> None:
    """It concerns nobody else: the crash is reported by `threading`, told to receivers, thrown into the others."""

    @per_thread
    def swallowing() -> Iterator[None]:
        with contextlib.suppress(Crash):
            yield

    error = Crash()
    with thread_exited.connected_to(lambda thread, exception, **extra: log.append(exception)), threadhooks.installed():
        crashing(error, lambda: verdict(log), swallowing)
    assert log == [("rolled back", error), error]
    assert [told for told, _ in failures] == [error]


def test_a_generator_that_raises_another_exception(log: Log, failures: list[Any]) -> None:
    """That is a failing closing, with the crash as its context; the others are told of the crash."""

    @per_thread
    def failing() -> Iterator[None]:
        try:
            yield
        finally:
            raise OSError("on closing")

    error = Crash()
    with threadhooks.installed():
        crashing(error, lambda: verdict(log), failing)
    assert log == [("rolled back", error)]
    (crash, _), (failure, _) = failures
    assert crash is error
    assert str(failure) == "on closing"
    assert "failing" in failure.__notes__[0]
    assert failure.__context__ is error


def test_the_crash_is_not_kept(no_report: None, no_collection: None) -> None:
    """When the thread has ended, the exception is freed, without a collection, though it was thrown in."""
    alive: list[weakref.ref[Crash]] = []

    @per_thread
    def resource() -> Iterator[None]:
        try:
            yield
        except Crash as error:
            alive.append(weakref.ref(error))
            raise

    def body() -> None:
        resource()
        raise Crash

    with threadhooks.installed():
        run(threading.Thread(target=body))
    assert [error() for error in alive] == [None]
