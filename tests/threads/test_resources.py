"""Resources: each thread opens its own at the first use, and closes it as it ends."""

from __future__ import annotations

import contextlib
import functools
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import pytest
from resourcing import Crash, events, in_thread, noted
from support import LONG, Log, run_all

import threadhooks
from threadhooks import per_thread, thread_exited

# Opened at the first use, closed at the end


def test_each_thread_opens_its_own_at_its_first_use(log: Log) -> None:
    """Nothing is opened before the first call; all calls of one thread return one value, another thread's another."""

    def body() -> object:
        threadhooks.attach()
        assert log == []
        value = noted(log)
        assert noted(log) is noted(log) is value
        assert events(log) == ["opened"]
        return value

    first = in_thread(body)
    in_thread(threadhooks.attach)
    assert events(log) == ["opened", "closed"]
    log.clear()
    assert in_thread(body) is not first


# An opening that fails


@pytest.mark.parametrize("kind", [OSError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_failing_opening_raises_at_the_call_and_leaves_nothing(
    kind: type[BaseException], log: Log, failures: list[Any]
) -> None:
    """The next call tries again, and what has failed is not closed."""

    @per_thread
    def resource() -> Iterator[str]:
        log.append("tried")
        if len(log) < 3:
            raise kind("no answer")
        yield "value"
        log.append("closed")

    def body() -> str:
        for _ in range(2):
            with pytest.raises(kind, match="no answer"):
                resource()
            resource.close()
        return resource()

    assert in_thread(body) == "value"
    assert log == ["tried", "tried", "tried", "closed"]
    assert failures == []


@pytest.mark.parametrize("method", [False, True])
def test_a_failing_opening_keeps_nothing_alive(method: bool, no_collection: None) -> None:
    """When its exception is gone, the arguments of a failing opening are, too, without a collection."""

    class Holder:
        @per_thread
        def resource(self, argument: object) -> Iterator[None]:
            raise OSError
            yield

    def body() -> bool:
        holder, argument = Holder(), Holder()
        alive = weakref.ref(argument)
        with contextlib.suppress(OSError):
            (holder.resource if method else functools.partial(Holder.resource, None))(argument)  # type: ignore[arg-type]
        del argument
        return alive() is None

    assert in_thread(body)


def test_a_generator_that_does_not_yield_once(log: Log, failures: list[Any]) -> None:
    """One that does not yield has opened nothing, an error at each call; one that yields twice fails to close."""

    @per_thread
    def resource(times: int) -> Iterator[int]:
        for number in range(times):
            log.append(number)
            yield number

    def body() -> None:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="didn't yield"):
                resource(0)
        resource(2)

    in_thread(body)
    assert [str(error) for error, _ in failures] == ["generator didn't stop"]
    assert log == [0, 1]


# close()


def test_close_of_what_is_not_open_is_quiet(log: Log) -> None:
    """Before the first use, twice, and in a thread that is not attached, which it does not attach either."""
    with thread_exited.connected_to(heard := Mock()):
        in_thread(lambda: noted.close(log))
    assert not heard.called
    in_thread(lambda: [use(log) for use in (noted.close, noted, noted.close, noted.close)])
    assert events(log) == ["opened", "closed"]


def test_close_is_for_the_calling_thread_and_these_arguments(log: Log) -> None:
    """It closes at once, and the next call opens anew; values of another thread, or for other arguments, stay open."""

    def body() -> None:
        values = [noted(log, number) for number in range(2)]
        in_thread(lambda: noted.close(log, 0))
        assert noted(log, 0) is values[0]
        noted.close(log, 1)
        assert [args for event, _, args, _ in log if event == "closed"] == [(1,)]
        assert noted(log, 1) is not values[1]

    in_thread(body)
    assert [args for event, _, args, _ in log if event == "closed"] == [(1,), (1,), (0,)]


def test_what_the_closing_raises_is_raised_by_close(log: Log, failures: list[Any]) -> None:
    """It is not reported, nor is the closing tried again; the next call opens anew."""

    @per_thread
    def resource() -> Iterator[None]:
        log.append("opened")
        yield
        if len(log) == 1:
            raise OSError("on closing")
        log.append("closed")

    def body() -> None:
        resource()
        with pytest.raises(OSError, match="on closing"):
            resource.close()
        resource.close()
        resource()

    in_thread(body)
    assert log == ["opened", "opened", "closed"]
    assert failures == []


def test_close_throws_nothing_into_the_generator(log: Log) -> None:
    """Not even while an exception is being handled: it is the end of a good use."""

    @per_thread
    def resource() -> Iterator[None]:
        try:
            yield
        except BaseException:
            log.append("rolled back")
        else:
            log.append("committed")

    def body() -> None:
        resource()
        try:
            raise Crash
        except Crash:
            resource.close()

    with threadhooks.installed():
        in_thread(body)
    assert log == ["committed"]


# Many of them


def test_one_that_is_built_on_itself_with_other_arguments(log: Log) -> None:
    """A value may use values of the same resource as it opens and closes."""

    @per_thread
    def tower(height: int) -> Iterator[int]:
        log.append(f"+{height}")
        yield height and tower(height - 1) + 1
        log.append(f"-{height}")

    assert in_thread(lambda: tower(3)) == 3
    assert log == ["+3", "+2", "+1", "+0", "-3", "-2", "-1", "-0"]


def test_many_threads_at_once(hurry: None) -> None:
    """Threads that open, use and close at the same moment, over and over, never share a value, nor lose one."""
    together = threading.Barrier(8)
    opened: list[tuple[int, object]] = []
    closed: list[tuple[int, object]] = []

    @per_thread
    def resource() -> Iterator[tuple[int, object]]:
        value = threading.get_native_id(), object()
        opened.append(value)
        yield value
        closed.append((threading.get_native_id(), value[1]))

    def body() -> None:
        together.wait(LONG)
        for number in range(50):
            value = resource()
            right.append(resource() is value and value[0] == threading.get_native_id())
            if number % 2:
                resource.close()
        together.wait(LONG)

    right: list[bool] = []
    for _ in range(3):
        run_all([threading.Thread(target=body) for _ in range(8)])
        assert Counter(opened) == Counter(closed)
    assert right == [True] * 3 * 8 * 50
    assert len(opened) == len(set(opened)) == 3 * 8 * 25
