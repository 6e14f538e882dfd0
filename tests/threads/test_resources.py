"""Resources: each thread opens its own at the first use, and closes it as it ends."""

from __future__ import annotations

import _thread
import contextlib
import itertools
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from resourcing import Crash, Manager, events, in_thread, noted
from support import LONG, Log

import threadhooks
from threadhooks import Plugin, per_thread, thread_exited
from threadhooks.threadref import finalize, ref


@pytest.fixture
def plugin() -> Iterator[Plugin]:
    with Plugin("resources") as plugin:
        yield plugin


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


def test_it_is_closed_in_the_thread_that_opened_it(log: Log) -> None:
    """Once, by ident and native id, while `current_thread()` is that thread."""

    def here() -> tuple[Any, ...]:
        return threading.current_thread(), threading.get_ident(), threading.get_native_id()

    @per_thread
    def resource() -> Iterator[None]:
        log.append(here())
        yield
        log.append(here())

    in_thread(resource)
    opened, closed = log
    assert opened == closed
    assert not isinstance(closed[0], threading._DummyThread)


def test_two_resources_of_one_thread_are_two() -> None:
    """What is decorated twice makes two resources, with values of their own."""

    def make() -> contextlib.AbstractContextManager[object]:
        return contextlib.nullcontext(object())

    first, second = per_thread(make), per_thread(make)
    assert in_thread(lambda: first() is not second() and first() is first())


def test_a_pools_workers() -> None:
    """However many jobs a worker does, it opens one value, and has closed it when the pool is shut down."""
    log = Log()
    together = threading.Barrier(4)

    def job(_: int) -> object:
        together.wait(LONG)
        return noted(log)

    with ThreadPoolExecutor(4) as pool:
        values = list(pool.map(job, range(40)))
        assert events(log) == ["opened"] * 4
    assert len(set(values)) == 4
    assert Counter(event for event, *_ in log) == {"opened": 4, "closed": 4}
    assert len({ident for _, ident, *_ in log}) == 4


def test_a_foreign_thread(log: Log) -> None:
    """A thread that `threading` did not start has a value, too, and closes it."""
    closed = threading.Event()

    @per_thread
    def resource() -> Iterator[int]:
        ident = threading.get_ident()
        yield ident
        log.append(threading.get_ident() == ident)
        closed.set()

    _thread.start_new_thread(resource, ())
    assert closed.wait(LONG)
    assert log == [True]


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


def test_what_can_not_be_entered_is_not_left(log: Log, failures: list[Any]) -> None:
    """A thread whose opening failed ends without a closing, and nothing is reported."""

    class Failing(Manager):
        def __enter__(self) -> str:
            raise OSError

    with pytest.raises(OSError):
        in_thread(per_thread(lambda: Failing(log)))
    assert log == failures == []


@pytest.mark.parametrize("method", [False, True])
def test_a_failing_opening_keeps_nothing_alive(method: bool, no_collection: None) -> None:
    """When its exception is gone, the arguments of a failing opening are, too, without a collection."""

    class Argument:
        pass

    class Holder:
        @per_thread
        def resource(self, argument: Argument) -> Iterator[None]:
            raise OSError
            yield

    @per_thread
    def function(argument: Argument) -> Iterator[None]:
        raise OSError
        yield

    def body() -> bool:
        holder, argument = Holder(), Argument()
        alive = weakref.ref(argument)
        try:
            if method:
                holder.resource(argument)
            else:
                function(argument)
        except OSError:
            pass
        del argument
        return alive() is None

    assert in_thread(body)


def test_a_generator_that_does_not_yield() -> None:
    """It has opened nothing: that is an error at the call, each time."""

    @per_thread
    def resource() -> Iterator[None]:
        return
        yield

    def body() -> None:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="didn't yield"):
                resource()

    in_thread(body)


def test_a_generator_that_yields_twice(log: Log, failures: list[Any]) -> None:
    """It does not end with its closing: that is reported, as a failing closing is."""

    @per_thread
    def resource() -> Iterator[int]:
        yield 1
        log.append("closing")
        yield 2

    assert in_thread(resource) == 1
    ((error, _),) = failures
    assert isinstance(error, RuntimeError)
    assert "didn't stop" in str(error)
    assert log == ["closing"]


# A closing that fails


@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt, BaseException])
def test_a_failing_closing_is_reported_and_the_others_close(
    kind: type[BaseException], log: Log, failures: list[Any]
) -> None:
    """Once, to `threading.excepthook`, with the thread, and a note that names the resource."""

    @per_thread
    def failing() -> Iterator[None]:
        yield
        raise kind("on closing")

    def body() -> threading.Thread:
        noted(log, "before")
        failing()
        noted(log, "after")
        return threading.current_thread()

    thread = in_thread(body)
    ((error, told),) = failures
    assert type(error) is kind
    assert str(error) == "on closing"
    assert told is thread
    (note,) = error.__notes__
    assert f"{failing.__module__}.{failing.__qualname__}" in note  # type: ignore[attr-defined]
    assert [args for event, _, args, _ in log if event == "closed"] == [("after",), ("before",)]


def test_a_failing_closing_is_tried_once(log: Log, failures: list[Any]) -> None:
    """What could not be closed is not closed again."""

    class Failing(Manager):
        def __exit__(self, *error: object) -> None:
            super().__exit__(*error)
            raise OSError

    in_thread(per_thread(lambda: Failing(log)))
    assert events(log) == ["enter", "exit"]
    assert len(failures) == 1


# close()


def test_close_closes_at_once_and_the_next_call_opens_anew(log: Log) -> None:
    """What was closed early is not closed again at the thread's end; what was opened after it, is."""

    def body() -> None:
        first = noted(log)
        noted.close(log)
        assert events(log) == ["opened", "closed"]
        assert noted(log) is not first

    in_thread(body)
    assert events(log) == ["opened", "closed"] * 2


def test_close_of_what_is_not_open_is_quiet(log: Log) -> None:
    """Before the first use, twice, and in a thread that is not attached, which it does not attach either."""
    heard = []

    @thread_exited.connect
    def exited(thread: threading.Thread, **extra: Any) -> None:
        heard.append(thread)

    in_thread(lambda: noted.close(log))
    assert heard == log == []

    def body() -> None:
        noted.close(log)
        noted(log)
        noted.close(log)
        noted.close(log)

    in_thread(body)
    assert events(log) == ["opened", "closed"]


def test_close_is_for_the_calling_thread_and_these_arguments(log: Log) -> None:
    """Values of another thread, or for other arguments, stay open."""

    def body() -> None:
        value = noted(log, 1)
        noted(log, 2)
        in_thread(lambda: noted.close(log, 1))
        assert noted(log, 1) is value
        noted.close(log, 2)
        assert [args for event, _, args, _ in log if event == "closed"] == [(2,)]

    in_thread(body)
    assert [args for event, _, args, _ in log if event == "closed"] == [(2,), (1,)]


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


def test_close_in_a_hook(log: Log, plugin: Plugin) -> None:
    """A hook at the thread's end may close a value before its turn."""

    def body() -> None:
        noted(log)
        plugin.register(log.append, ("after close()",))
        plugin.register(noted.close, log)

    in_thread(body)
    assert events(log) == ["opened", "closed", "after close()"]


def test_close_in_its_own_closing_is_quiet(log: Log) -> None:
    """A value that is being closed is not open any more."""

    @per_thread
    def resource() -> Iterator[None]:
        yield
        log.append("closing")
        resource.close()

    in_thread(resource)
    in_thread(lambda: (resource(), resource.close()))
    assert log == ["closing", "closing"]


# Many of them


def test_they_close_in_reverse_order(log: Log) -> None:
    """What was opened last is closed first, and a value that was opened anew counts from then."""

    def body() -> None:
        for number in range(4):
            noted(log, number)
        noted.close(log, 1)
        noted(log, 1)
        log.clear()

    in_thread(body)
    assert [args for _, _, args, _ in log] == [(1,), (3,), (2,), (0,)]


def test_one_that_uses_another_in_its_opening_and_closing(log: Log) -> None:
    """What it was built on is still there, and the same, when it closes."""

    @per_thread
    def lower() -> Iterator[object]:
        yield object()
        log.append("lower closed")

    @per_thread
    def upper() -> Iterator[None]:
        value = lower()
        yield
        log.append(f"upper closed; the same: {lower() is value}")

    in_thread(upper)
    assert log == ["upper closed; the same: True", "lower closed"]


def test_one_that_opens_another_as_it_closes(log: Log) -> None:
    """What is first used in a closing is opened there, and closed in the same exit, once, next."""

    @per_thread
    def audit() -> Iterator[object]:
        log.append("audit opened")
        yield object()
        log.append("audit closed")

    @per_thread
    def session(name: str) -> Iterator[None]:
        yield
        log.append(f"{name} closed, {audit() is audit()}")

    in_thread(lambda: (session("first"), session("second")))
    assert log == [
        *("audit opened", "second closed, True", "audit closed"),
        *("audit opened", "first closed, True", "audit closed"),
    ]


def test_one_that_opens_itself_as_it_closes_is_stopped(log: Log, failures: list[Any]) -> None:
    """A loop without an end is stopped and reported, like other cleanups that register cleanups for ever."""

    @per_thread
    def resource() -> Iterator[None]:
        yield
        log.append("closed")
        resource()

    def body() -> None:
        noted(log)
        resource()

    in_thread(body)
    assert [type(error) for error, _ in failures] == [RuntimeError]
    assert [event for event in log if event != "closed"] == [("opened", *log[0][1:]), ("closed", *log[0][1:])]
    assert log.count("closed") < 100_000


def test_one_that_is_built_on_itself_with_other_arguments(log: Log) -> None:
    """A value may use values of the same resource as it opens and closes."""

    @per_thread
    def tower(height: int) -> Iterator[int]:
        log.append(f"+{height}")
        yield height and tower(height - 1) + 1
        log.append(f"-{height}")

    assert in_thread(lambda: tower(3)) == 3
    assert log == ["+3", "+2", "+1", "+0", "-3", "-2", "-1", "-0"]


def test_one_that_is_built_on_itself_fails(log: Log, failures: list[Any]) -> None:
    """An endless recursion is an error at the call, and leaves nothing to close."""

    @per_thread
    def resource() -> Iterator[None]:
        resource()
        yield
        log.append("closed")

    def body() -> None:
        with pytest.raises(RecursionError):
            resource()

    in_thread(body)
    assert log == failures == []


def test_one_stack_with_all_other_cleanups(log: Log, plugin: Plugin) -> None:
    """Values, cleanups of plugins, finalizers and references unwind as one stack; then the receivers are called."""
    kept: list[ref] = []

    @per_thread
    def resource(number: int) -> Iterator[None]:
        yield
        log.append(("resource", number))

    @plugin.thread_exited
    def exited(thread: threading.Thread, **extra: Any) -> None:
        log.append("exited")

    def body() -> None:
        for number in range(2):
            plugin.register(log.append, ("plugin", number))
            resource(number)
            finalize(log.append, ("finalize", number))
            kept.append(ref(lambda _, number=number: log.append(("ref", number))))

    in_thread(body)
    kinds = ("ref", "finalize", "resource", "plugin")
    assert log == [*itertools.product(kinds, [1]), *itertools.product(kinds, [0]), "exited"]


def test_many_threads_at_once() -> None:
    """Threads that open, use and close at the same moment, over and over, never share a value, nor lose one."""
    count, rounds = 8, 12
    together = threading.Barrier(count)
    opened: list[tuple[int, object]] = []
    closed: list[tuple[int, object]] = []

    @per_thread
    def resource() -> Iterator[object]:
        value = object()
        opened.append((threading.get_native_id(), value))
        yield value
        closed.append((threading.get_native_id(), value))

    def body(wrong: list[str]) -> None:
        together.wait(LONG)
        for number in range(50):
            value = resource()
            if resource() is not value or opened_here(value) != threading.get_native_id():
                wrong.append("shared or opened twice")
            if number % 2:
                resource.close()
        together.wait(LONG)

    def opened_here(value: object) -> int | None:
        return next((ident for ident, other in reversed(opened) if other is value), None)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    wrong: list[str] = []
    try:
        for _ in range(rounds // 4):
            threads = [threading.Thread(target=body, args=(wrong,)) for _ in range(count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert Counter(opened) == Counter(closed)
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []
    assert len(opened) == len({value for _, value in opened}) == rounds // 4 * count * 25
