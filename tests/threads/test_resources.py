"""Resources: each thread opens its own at the first use, and closes it as it ends."""

from __future__ import annotations

import _thread
import contextlib
import copy
import functools
import gc
import inspect
import itertools
import pickle
import sqlite3
import sys
import textwrap
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
from support import LONG, Farewell, Log, forks, run

import threadhooks
from threadhooks import PerThread, Plugin, per_thread, thread_exited
from threadhooks.threadref import finalize, ref

T = TypeVar("T")
Program = Callable[..., Any]


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


def crashing(error: BaseException, *uses: Callable[[], object]) -> None:
    """Call `uses` in a thread whose `run()` then raises `error`, and which has ended."""

    def body() -> None:
        for use in uses:
            use()
        raise error

    run(threading.Thread(target=body))


class Crash(Exception):
    """What `run()` raises here."""


class Manager:
    """A context manager that writes down what is done with it, and in which thread."""

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


@pytest.fixture
def log() -> Log:
    return Log()


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
        assert [event for event, *_ in log] == ["opened"]
        return value

    first = in_thread(body)
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


def test_join_waits_for_the_closing() -> None:
    """While it is being closed, nobody comes back from `join()`."""
    closing, go_on, closed = threading.Event(), threading.Event(), threading.Event()

    @per_thread
    def resource() -> Iterator[None]:
        yield
        closing.set()
        go_on.wait(LONG)
        closed.set()

    thread = threading.Thread(target=resource)
    thread.start()
    assert closing.wait(LONG)
    thread.join(0.05)
    assert thread.is_alive()
    go_on.set()
    thread.join()
    assert closed.is_set()


def test_a_thread_that_does_not_use_it_opens_nothing(log: Log) -> None:
    """A value of one thread means nothing to others that are attached and end."""
    in_thread(lambda: noted(log))
    in_thread(threadhooks.attach)
    assert [event for event, *_ in log] == ["opened", "closed"]


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
        assert [event for event, *_ in log] == ["opened"] * 4
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


def test_the_main_thread_closes_at_interpreter_exit(program: Program) -> None:
    """In the main thread, after the other threads have been joined, last in, first out, and before older handlers."""
    assert program(
        """
        import atexit, threading
        atexit.register(lambda: print("an older handler"))
        import threadhooks

        @threadhooks.per_thread
        def resource(name):
            yield
            print(threading.current_thread().name, "closes", name)

        def body():
            resource("its own")
            threading.main_thread().join()

        resource("first")
        resource("second")
        threading.Thread(target=body, name="thread").start()
        """
    ) == (
        "thread closes its own\nMainThread closes second\nMainThread closes first\nan older handler\n",
        "",
        0,
    )


@pytest.mark.parametrize(
    ("ending", "code", "last_line"),
    [("sys.exit(3)", 3, ""), ("raise KeyError('crash')", 1, "KeyError: 'crash'")],
)
def test_the_main_thread_closes_however_it_ends(ending: str, code: int, last_line: str, program: Program) -> None:
    """A program that exits or crashes closes the main thread's value: as usual, since it has not announced itself."""
    result = program(
        f"""
        import sys, threadhooks

        @threadhooks.per_thread
        def resource():
            try:
                yield
            except BaseException:
                print("rolled back")
            else:
                print("closed")

        resource()
        {ending}
        """
    )
    assert (result.out, result.code, result.err.strip().rpartition("\n")[2]) == ("closed\n", code, last_line)


# An opening that fails


def test_a_failing_opening_raises_at_the_call_and_leaves_nothing(log: Log, failures: list[Any]) -> None:
    """The next call tries again, and what has failed is not closed."""

    @per_thread
    def resource() -> Iterator[str]:
        log.append("tried")
        if len(log) < 3:
            raise OSError("no answer")
        yield "value"
        log.append("closed")

    def body() -> str:
        for _ in range(2):
            with pytest.raises(OSError, match="no answer"):
                resource()
            resource.close()
        return resource()

    assert in_thread(body) == "value"
    assert log == ["tried", "tried", "tried", "closed"]
    assert failures == []


def test_nothing_is_closed_if_only_the_opening_was_tried(log: Log, failures: list[Any]) -> None:
    """A thread whose opening failed ends without a closing, and nothing is reported."""

    class Failing(Manager):
        def __enter__(self) -> str:
            raise OSError

    def body() -> None:
        with pytest.raises(OSError):
            per_thread(lambda: Failing(log))()

    in_thread(body)
    assert log == failures == []


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, BaseException])
def test_whatever_the_opening_raises_is_raised(kind: type[BaseException]) -> None:
    """Exceptions that are no `Exception` as well."""

    @per_thread
    def resource() -> Iterator[None]:
        raise kind("opening")
        yield

    def body() -> None:
        for _ in range(2):
            with pytest.raises(kind, match="opening"):
                resource()

    in_thread(body)


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


# What can be made a resource


@contextlib.contextmanager
def managed(log: list[Any]) -> Iterator[str]:
    with Manager(log) as value:
        yield value


def generator_function(log: list[Any]) -> Iterator[str]:
    with Manager(log) as value:
        yield value


def an_exit_stack(log: list[Any]) -> contextlib.ExitStack:
    stack = contextlib.ExitStack()
    stack.enter_context(Manager(log))
    return stack


class Maker:
    """Something that can be called, or has methods that can, and that makes resources."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log

    def __call__(self) -> Manager:
        return Manager(self.log)

    def generator_method(self) -> Iterator[str]:
        yield from generator_function(self.log)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda log: functools.partial(generator_function, log), id="partial generator function"),
        pytest.param(lambda log: Maker(log).generator_method, id="bound generator method"),
        pytest.param(lambda log: lambda: Manager(log), id="function that returns a context manager"),
        pytest.param(lambda log: functools.partial(managed, log), id="contextmanager"),
        pytest.param(lambda log: functools.partial(Manager, log), id="class"),
        pytest.param(lambda log: Maker(log), id="callable object"),
        pytest.param(lambda log: lambda: an_exit_stack(log), id="ExitStack"),
    ],
)
def test_what_can_be_a_resource(make: Callable[[list[Any]], Callable[[], Any]], log: Log) -> None:
    """A generator function, or anything that returns a context manager: entered once, and left once, in the thread."""
    resource = per_thread(make(log))

    def body() -> int:
        value = resource()
        assert resource() is value
        assert value == "value" or isinstance(value, contextlib.ExitStack)
        return threading.get_ident()

    ident = in_thread(body)
    assert log == [("enter", ident), ("exit", ident, None, None, None)]


def test_a_function_that_returns_contextlib_closing(log: Log) -> None:
    """The value is what `closing` has been given, and it is closed."""

    class Connection:
        def close(self) -> None:
            log.append("closed")

    @per_thread
    def connection() -> contextlib.closing[Connection]:
        return contextlib.closing(Connection())

    assert isinstance(in_thread(connection), Connection)
    assert log == ["closed"]


class Busy:
    """A context manager that has a name for everything."""

    closed: list[str] = []
    _open = _early = _get = _close = __call__ = __get__ = __reduce__ = None  # type: ignore[assignment]

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None:
        self.closed.append("exit")

    def close(self) -> None:
        raise AssertionError("that's the context manager's")


@pytest.mark.parametrize("kind", [contextlib.ExitStack, Busy])
def test_a_class_whose_attributes_have_names_of_ours(kind: type[Any]) -> None:
    """A class is called as any function; `close` of the resource is the resource's."""
    Busy.closed.clear()
    resource: PerThread[[], Any] = per_thread(kind)

    def body() -> bool:
        first = resource()
        resource.close()
        return isinstance(first, kind) and resource() is not first

    assert in_thread(body)
    assert Busy.closed == (["exit", "exit"] if kind is Busy else [])


class OnlyEnter:
    def __enter__(self) -> None:
        pass


@contextlib.asynccontextmanager
async def asynchronous() -> Any:
    yield


@pytest.mark.parametrize(
    "returned",
    [
        pytest.param(lambda: None, id="None"),
        pytest.param(object, id="object"),
        pytest.param(lambda: generator_function([]), id="generator"),
        pytest.param(lambda: Manager, id="the class itself"),
        pytest.param(OnlyEnter, id="no __exit__"),
        pytest.param(asynchronous, id="asynchronous"),
    ],
)
def test_a_function_that_returns_something_else(returned: Callable[[], Any], failures: list[Any]) -> None:
    """That is a `TypeError` at the call, which names the resource and says what to return; nothing is left."""
    calls = []

    @per_thread
    def resource() -> Any:
        calls.append(1)
        return returned()

    def body() -> None:
        for _ in range(2):
            with pytest.raises(TypeError, match=r"resource must yield, or return a context manager, not "):
                resource()
            resource.close()

    in_thread(body)
    assert len(calls) == 2
    assert failures == []


async def coroutine_function() -> None:
    pass


async def async_generator_function() -> Any:
    yield


class CallGenerates:
    def __call__(self) -> Iterator[None]:
        yield


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize(
    ("func", "message"),
    [
        (coroutine_function, "coroutine function"),
        (async_generator_function, "coroutine function"),
        (functools.partial(coroutine_function), "coroutine function"),
        (CallGenerates(), "generator function"),
        (7, "must be callable"),
        ("resource", "must be callable"),
        (Manager([]), "must be callable"),
    ],
    ids=[
        "coroutine",
        "asynchronous generator",
        "partial coroutine",
        "call generates",
        "number",
        "string",
        "context manager",
    ],
)
def test_what_can_not_be_a_resource_is_refused_at_decoration(func: Any, message: str, early: bool) -> None:
    """What could never be opened is refused with a `TypeError`, in either form of the decorator."""
    with pytest.raises(TypeError, match=message):
        if early:
            per_thread(early=True)(func)
        else:
            per_thread(func)


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


def test_the_note_names_a_method(failures: list[Any]) -> None:
    """The note on what a method's closing raises names the method."""

    class Holder:
        @per_thread
        def connection(self) -> Iterator[None]:
            yield
            raise OSError

    holder = Holder()
    in_thread(holder.connection)
    ((error, _),) = failures
    assert "Holder.connection" in error.__notes__[0]


def test_a_failing_closing_is_tried_once(log: Log, failures: list[Any]) -> None:
    """What could not be closed is not closed again."""

    class Failing(Manager):
        def __exit__(self, *error: object) -> None:
            super().__exit__(*error)
            raise OSError

    in_thread(per_thread(lambda: Failing(log)))
    assert [event for event, *_ in log] == ["enter", "exit"]
    assert len(failures) == 1


# close()


def test_close_closes_at_once_and_the_next_call_opens_anew(log: Log) -> None:
    """What was closed early is not closed again at the thread's end; what was opened after it, is."""

    def body() -> None:
        first = noted(log)
        noted.close(log)
        assert [event for event, *_ in log] == ["opened", "closed"]
        assert noted(log) is not first

    in_thread(body)
    assert [event for event, *_ in log] == ["opened", "closed"] * 2


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
    assert [event for event, *_ in log] == ["opened", "closed"]


def test_close_is_for_the_calling_thread_alone(log: Log) -> None:
    """Another thread's value stays open."""

    def body() -> None:
        value = noted(log)
        in_thread(lambda: noted.close(log))
        assert noted(log) is value
        assert [event for event, *_ in log] == ["opened"]

    in_thread(body)


def test_close_is_for_these_arguments_alone(log: Log) -> None:
    """Values for other arguments stay open."""

    def body() -> None:
        noted(log, 1)
        noted(log, 2)
        noted.close(log, 1)
        assert [args for event, _, args, _ in log if event == "closed"] == [(1,)]

    in_thread(body)
    assert [args for event, _, args, _ in log if event == "closed"] == [(1,), (2,)]


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
    assert [event for event, *_ in log] == ["opened", "closed", "after close()"]


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
    """A loop without an end is stopped and reported, like other clean-ups that register clean-ups for ever."""

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


def test_one_stack_with_all_other_clean_ups(log: Log, plugin: Plugin) -> None:
    """Values, clean-ups of plugins, finalizers and references unwind as one stack; then the receivers are called."""
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


# Arguments


def test_a_value_for_each_combination_of_arguments(log: Log) -> None:
    """Equal arguments mean the same value, and different ones different values; the function gets them as given."""

    def body() -> None:
        values = [noted(log), noted(log, 1), noted(log, 2), noted(log, 1, 2), noted(log, a=1), noted(log, 1, a=1)]
        assert len(set(values)) == 6
        again = [noted(log), noted(log, 1), noted(log, 2), noted(log, 1, 2), noted(log, a=1), noted(log, 1, a=1)]
        assert again == values

    in_thread(body)
    opened = [tuple(given) for event, _, *given in log if event == "opened"]
    assert opened == [((), {}), ((1,), {}), ((2,), {}), ((1, 2), {}), ((), {"a": 1}), ((1,), {"a": 1})]


def test_the_order_of_keywords_does_not_matter(log: Log) -> None:
    """The same keywords in another order are the same arguments."""
    assert in_thread(lambda: noted(log, a=1, b=2) is noted(log, b=2, a=1))
    assert in_thread(lambda: noted(log, a=1, b=2) is not noted(log, a=2, b=1))


def test_equal_arguments_need_not_be_identical(log: Log) -> None:
    """The first arguments open the value; those that equal them find it."""
    assert in_thread(lambda: noted(log, ("a", "1")) is noted(log, tuple("a1")))


def test_defaults_and_every_kind_of_parameter() -> None:
    """Positional, positional-only, keyword-only and default ones arrive as in a call of the function itself."""

    @per_thread
    def resource(a: int, /, b: int = 2, *rest: int, c: int = 3, **others: int) -> Iterator[tuple[Any, ...]]:
        yield a, b, rest, c, others

    def body() -> None:
        assert resource(1) == (1, 2, (), 3, {})
        assert resource(1, 5, 6, c=7, a=8) == (1, 5, (6,), 7, {"a": 8})
        assert resource(1, b=5) == (1, 5, (), 3, {})

    in_thread(body)


def test_keywords_may_have_any_name() -> None:
    """No name of a parameter is taken by the resource itself."""

    @per_thread
    def resource(self: int, instance: int, args: int, kwargs: int, early: int) -> Iterator[tuple[int, ...]]:
        yield self, instance, args, kwargs, early

    def body() -> None:
        value = resource(1, instance=2, args=3, kwargs=4, early=5)
        assert value == (1, 2, 3, 4, 5)
        resource.close(1, instance=2, args=3, kwargs=4, early=5)
        assert resource(1, instance=2, args=3, kwargs=4, early=5) is not value

    in_thread(body)


def test_a_call_that_the_function_refuses() -> None:
    """Arguments that don't fit are a `TypeError` at the call, as in a call of the function itself."""

    @per_thread
    def resource(name: str) -> Iterator[str]:
        yield name

    def body() -> None:
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'name'"):
            resource()  # type: ignore[call-arg]
        assert resource("a") == "a"

    in_thread(body)


@pytest.mark.parametrize("keyword", [False, True])
def test_arguments_that_are_not_hashable(keyword: bool, log: Log) -> None:
    """They are a `TypeError` at the call, before anything is opened."""
    args, kwargs = ((), {"a": []}) if keyword else (([],), {})

    def body() -> None:
        for use in (noted, noted.close):
            with pytest.raises(TypeError, match="unhashable"):
                use(log, *args, **kwargs)

    in_thread(body)
    assert log == []


def test_nothing_of_a_thread_that_has_ended_is_kept(no_collection: None) -> None:
    """The value and the arguments are freed with the thread, without a collection, though the resource lives on."""

    class Thing:
        pass

    @per_thread
    def resource(argument: Thing) -> Iterator[Thing]:
        yield Thing()

    def body() -> list[weakref.ref[Any]]:
        argument = Thing()
        return [weakref.ref(resource(argument)), weakref.ref(argument)]

    thread_and_refs: list[Any] = []
    thread = threading.Thread(target=lambda: thread_and_refs.extend(body()))
    thread.start()
    thread.join()
    assert [reference() for reference in thread_and_refs] == [None, None]


# Methods


def test_a_value_for_each_thread_and_instance(log: Log) -> None:
    """Two instances have two values, even if they are equal and can't be hashed; two threads have two of each."""

    class Equal(Owner):
        def __eq__(self, other: object) -> bool:
            return True

    first, second = Equal(log), Equal(log)

    def body() -> set[object]:
        values = {first.resource(), second.resource()}
        assert values == {first.resource(), second.resource()}
        return values

    assert len(in_thread(body) | in_thread(body)) == 4


def test_a_method_takes_arguments(log: Log) -> None:
    """Each combination of them has a value, and `close` is for one of them."""
    owner = Owner(log)

    def body() -> None:
        assert owner.resource(1) is owner.resource(1) is not owner.resource(2)
        owner.resource.close(1)
        owner.resource.close(3)
        log.append("end")

    in_thread(body)
    assert log == [("opened", (1,)), ("opened", (2,)), ("closed", (1,)), "end", ("closed", (2,))]


def test_a_bound_method_may_be_kept(log: Log) -> None:
    """A bound method is a function like others: it can be the target of a thread, and finds the same value."""
    owner = Owner(log)

    def body() -> bool:
        bound = owner.resource
        return bound() is owner.resource()

    assert in_thread(body)


def test_self_gives_access_to_the_instance() -> None:
    """In the function, `self` reads and writes attributes of the instance, and calls its methods."""

    class Counting:
        opened = 0

        def label(self) -> str:
            return f"number {self.opened}"

        @per_thread
        def resource(self) -> Iterator[str]:
            self.opened += 1
            yield self.label()

    counting = Counting()
    assert in_thread(counting.resource) == "number 1"
    assert in_thread(counting.resource) == "number 2"
    assert counting.opened == 2


def test_an_instance_is_not_kept_alive(log: Log, no_collection: None) -> None:
    """An instance that dies in a thread that has opened a value closes that at once, in this thread."""

    def body() -> None:
        owner = Owner(log)
        alive = weakref.ref(owner)
        owner.resource("a")
        owner.resource("b")
        del owner
        assert alive() is None
        log.append("the owner is gone")

    in_thread(body)
    closed = [("closed", ("a",)), ("closed", ("b",))]
    assert sorted(log[2:4]) == closed
    assert log[4:] == ["the owner is gone"]


@pytest.mark.parametrize("first", [True, False], ids=["used before ours", "used after ours"])
def test_an_instance_that_dies_with_a_thread_local(first: bool, failures: list[Any]) -> None:
    """The value of an instance that is held by another thread-local is closed as the thread ends, as it ends.

    The closing sees the exception of `run()`, and its thread as the current one; no dummy stays behind.
    """
    local = threading.local()
    seen: list[Any] = []
    raised = Crash()

    class Client:
        @per_thread
        def transaction(self) -> Iterator[None]:
            try:
                yield
            except BaseException as error:
                seen.append((error, threading.current_thread()))
                raise

    def body() -> None:
        if first:
            local.client = Client()
        else:
            threadhooks.attach()
            local.client = Client()
        local.client.transaction()
        raise raised

    with threadhooks.installed():
        thread = run(threading.Thread(target=body))
    assert seen == [(raised, thread)]
    assert thread not in threading.enumerate()
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading._DummyThread)]
    assert failures[0] == (raised, thread)


def test_what_closing_for_a_dead_instance_raises_is_reported(failures: list[Any]) -> None:
    """It can't be raised where the instance dies: it is reported, with the thread and the name of the resource."""

    class Holder:
        @per_thread
        def connection(self) -> Iterator[None]:
            yield
            raise OSError

    def body() -> threading.Thread:
        Holder().connection()
        assert len(failures) == 1
        return threading.current_thread()

    thread = in_thread(body)
    ((error, told),) = failures
    assert isinstance(error, OSError)
    assert told is thread
    assert "Holder.connection" in error.__notes__[0]


def test_an_instance_that_dies_in_another_thread(log: Log, no_collection: None) -> None:
    """The value is closed as its own thread ends: not in the other one, nor at once."""
    owners = [Owner(log)]
    opened, go_on = threading.Event(), threading.Event()

    def body() -> None:
        owners[0].resource()
        opened.set()
        go_on.wait(LONG)

    thread = threading.Thread(target=body)
    thread.start()
    assert opened.wait(LONG)
    owners.clear()
    log.append("the owner is gone")
    go_on.set()
    thread.join()
    assert log == [("opened", ()), "the owner is gone", ("closed", ())]


class Large:
    """An instance of an unusual size: the next one is likely to get the address of one that has died."""

    __slots__ = ("__weakref__", *(f"slot{number}" for number in range(50)))

    @per_thread
    def resource(self, log: Any) -> Iterator[object]:
        log.append("opened")
        yield object()
        log.append("closed")


@pytest.mark.parametrize("close", [False, True])
def test_an_instance_that_gets_the_address_of_a_dead_one(close: bool, log: Log) -> None:
    """It does not get the dead one's value: it opens its own, and each is closed once."""
    owners = [Large()]
    address = id(owners[0])
    opened, go_on = threading.Event(), threading.Event()

    def body() -> None:
        first = owners[0].resource(log)
        opened.set()
        assert go_on.wait(LONG)
        if not owners:
            pytest.skip("the address did not come back")
        if close:
            owners[0].resource.close(log)
        assert owners[0].resource(log) is not first
        assert owners[0].resource(log) is owners[0].resource(log)

    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(body)
        assert opened.wait(LONG)
        owners.clear()
        made = [Large() for _ in range(1000)]
        owners.extend(owner for owner in made if id(owner) == address)
        go_on.set()
        future.result(LONG)
    assert log == ["opened", "closed"] * 2


def test_an_instance_that_can_not_be_referred_to_weakly() -> None:
    """One with slots and without ``__weakref__`` is a `TypeError` at the call that says so."""

    class Slotted:
        __slots__ = ()

        @per_thread
        def resource(self) -> Iterator[None]:
            yield

    def body() -> None:
        with pytest.raises(TypeError, match=r"weak reference to '.*Slotted' object"):
            Slotted().resource()

    in_thread(body)


def test_an_instance_with_slots(log: Log) -> None:
    """One with slots that has ``__weakref__`` among them is as good as any."""

    class Slotted:
        __slots__ = ("__weakref__",)

        @per_thread
        def resource(self) -> Iterator[object]:
            yield object()
            log.append("closed")

    def body() -> bool:
        slotted = Slotted()
        return slotted.resource() is slotted.resource()

    assert in_thread(body)
    assert log == ["closed"]


def test_inheritance(log: Log) -> None:
    """A subclass inherits a resource, and one that overrides it can use the inherited one: each has its value."""

    class Child(Owner):
        pass

    class Overriding(Owner):
        @per_thread
        def resource(self, *args: Any) -> Iterator[Any]:
            log = self.log
            yield super().resource(*args)
            log.append("overriding closed")

    child, owner = Child(log), Overriding(log)
    assert in_thread(lambda: child.resource() is child.resource())
    log.clear()
    assert in_thread(lambda: owner.resource() is owner.resource())
    assert log == [("opened", ()), "overriding closed", ("closed", ())]


def test_on_the_class_it_is_the_resource_itself() -> None:
    """What is read from the class is what the decorator has made."""
    assert isinstance(Owner.resource, PerThread)
    assert Owner.resource is Owner.__dict__["resource"]


def test_static_methods(log: Log) -> None:
    """A static method has one value in a thread, whichever instance is asked."""

    class Static:
        @staticmethod
        @per_thread
        def resource() -> Iterator[object]:
            yield object()
            log.append("closed")

    assert in_thread(lambda: Static.resource() is Static().resource() is Static().resource())
    assert log == ["closed"]


# In other hooks


HOOKS: dict[str, Callable[[Plugin, Callable[..., Any], list[Any]], Any]] = {
    "register": lambda plugin, hook, kept: plugin.register(hook),
    "register_early": lambda plugin, hook, kept: plugin.register_early(hook),
    "finalize": lambda plugin, hook, kept: finalize(hook),
    "ref": lambda plugin, hook, kept: kept.append(ref(hook)),
    "thread_exiting": lambda plugin, hook, kept: plugin.thread_exiting(hook),
    "thread_exited": lambda plugin, hook, kept: plugin.thread_exited(hook),
}


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("hook", HOOKS)
def test_what_is_opened_in_a_hook_is_closed_in_the_same_exit(
    hook: str, early: bool, log: Log, plugin: Plugin, failures: list[Any]
) -> None:
    """In every kind of hook a resource can be used, and is closed in that thread, once, before its `join()` returns."""
    kept: list[Any] = []

    @per_thread(early=early)
    def resource() -> Iterator[object]:
        log.append(threading.current_thread())
        yield object()
        log.append(threading.current_thread())

    def use(*_: Any, **extra: Any) -> None:
        log.append(resource() is resource())

    def body() -> threading.Thread:
        HOOKS[hook](plugin, use, kept)
        return threading.current_thread()

    with threadhooks.installed():
        thread = in_thread(body)
    assert log == [thread, True, thread]
    assert failures == []


def test_a_hook_finds_what_the_thread_has_opened(log: Log, plugin: Plugin) -> None:
    """In clean-ups that run before its closing, and in receivers of `thread_exiting`, the value is still the same."""
    values: list[object] = []

    @plugin.thread_exiting
    def exiting(thread: threading.Thread, **extra: Any) -> None:
        values.append(noted(log))

    def body() -> None:
        values.append(noted(log))
        plugin.register(lambda: values.append(noted(log)))
        plugin.register_early(lambda: values.append(noted(log)))

    with threadhooks.installed():
        in_thread(body)
    assert len(values) == 4
    assert len(set(values)) == 1


def test_a_receiver_of_thread_started_opens_it_for_run(log: Log, plugin: Plugin) -> None:
    """What a receiver of `thread_started` opens is the value that `run()` finds, and is closed at the end."""
    values = []

    @plugin.thread_started
    def started(thread: threading.Thread, **extra: Any) -> None:
        values.append(noted(log))

    with threadhooks.installed():
        in_thread(lambda: values.append(noted(log)))
    assert values[0] is values[1]
    assert [event for event, *_ in log] == ["opened", "closed"]


def test_what_is_used_after_its_closing_is_opened_anew(log: Log, plugin: Plugin) -> None:
    """The receivers of `thread_exited` come when the values are closed: there it is another value."""
    values = []

    @plugin.thread_exited
    def exited(thread: threading.Thread, **extra: Any) -> None:
        values.append(noted(log))

    in_thread(lambda: values.append(noted(log)))
    assert values[0] is not values[1]
    assert [event for event, *_ in log] == ["opened", "closed"] * 2


def test_a_failing_opening_in_a_hook_is_the_hooks_failure(log: Log, plugin: Plugin, failures: list[Any]) -> None:
    """It is reported as what that hook has raised."""

    @per_thread
    def resource() -> Iterator[None]:
        raise OSError("no answer")
        yield

    in_thread(lambda: plugin.register(resource))
    ((error, _),) = failures
    assert str(error) == "no answer"
    assert "of plugin 'resources'" in error.__notes__[0]


# The early moment


def test_early_closes_while_thread_locals_are_there(log: Log, plugin: Plugin) -> None:
    """Under `install`, before the receivers of `thread_exiting`; the others close late."""
    local = threading.local()

    @per_thread(early=True)
    def session() -> Iterator[None]:
        local.name = "registry"
        yield
        log.append(f"session closed, {local.name}")

    @per_thread
    def connection() -> Iterator[None]:
        yield
        log.append("connection closed")

    @plugin.thread_exiting
    def exiting(thread: threading.Thread, **extra: Any) -> None:
        log.append("exiting")

    with threadhooks.installed():
        in_thread(lambda: (session(), connection()))
    assert log == ["session closed, registry", "exiting", "connection closed"]


def test_early_under_announced(log: Log) -> None:
    """At the end of the block; what is used after it is opened anew, and closed late."""

    @per_thread(early=True)
    def resource() -> Iterator[object]:
        yield object()
        log.append("closed")

    def body() -> None:
        with threadhooks.announced():
            value = resource()
        assert log == ["closed"]
        assert resource() is not value
        log.append("end")

    in_thread(body)
    assert log == ["closed", "end", "closed"]


def test_early_in_a_thread_that_does_not_announce_itself(log: Log, plugin: Plugin) -> None:
    """It is closed late, in its place in the stack."""

    @per_thread(early=True)
    def resource() -> Iterator[None]:
        yield
        log.append("resource")

    def body() -> None:
        plugin.register(log.append, "before")
        resource()
        plugin.register(log.append, "after")

    in_thread(body)
    assert log == ["after", "resource", "before"]


def test_early_in_a_receiver_of_thread_exiting(log: Log, plugin: Plugin) -> None:
    """What is opened as the early moment is announced is closed at this moment, too."""
    local = threading.local()

    @per_thread(early=True)
    def session() -> Iterator[None]:
        yield
        log.append(hasattr(local, "registry"))

    @plugin.thread_exiting
    def exiting(thread: threading.Thread, **extra: Any) -> None:
        local.registry = {}
        session()

    with threadhooks.installed():
        in_thread(lambda: None)
    assert log == [True]


def test_the_early_ones_close_in_reverse_order(log: Log, plugin: Plugin) -> None:
    """Last in, first out, in one stack with early clean-ups of plugins."""

    @per_thread(early=True)
    def resource(number: int) -> Iterator[None]:
        yield
        log.append(number)

    def body() -> None:
        resource(1)
        plugin.register_early(log.append, 2)
        resource(3)

    with threadhooks.installed():
        in_thread(body)
    assert log == [3, 2, 1]


def test_a_failing_early_closing_is_reported_and_the_others_close(log: Log, failures: list[Any]) -> None:
    """As at the late moment."""

    @per_thread(early=True)
    def resource(number: int) -> Iterator[None]:
        yield
        log.append(number)
        if number == 2:
            raise OSError

    with threadhooks.installed():
        in_thread(lambda: [resource(number) for number in range(4)])
    assert log == [3, 2, 1, 0]
    ((error, _),) = failures
    assert "resource" in error.__notes__[0]


def test_an_early_method(log: Log) -> None:
    """`early` and methods go together."""

    class Holder:
        @per_thread(early=True)
        def resource(self) -> Iterator[None]:
            yield
            log.append(hasattr(local, "there"))

    local = threading.local()
    holder = Holder()

    def body() -> None:
        local.there = True
        holder.resource()

    with threadhooks.installed():
        in_thread(body)
    assert log == [True]


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


def test_what_a_block_of_announced_raised_is_thrown_in(log: Log) -> None:
    """Under `announced`, likewise."""
    error = Crash()

    def body() -> None:
        with pytest.raises(Crash), threadhooks.announced():
            verdict(log)
            raise error

    in_thread(body)
    assert log == [("rolled back", error)]


def test_a_crash_that_is_not_known_is_not_thrown_in(log: Log, failures: list[Any]) -> None:
    """In a thread that does not announce itself, and in one that ended well, it is closed as usual."""
    crashing(Crash(), lambda: verdict(log))
    with threadhooks.installed():
        in_thread(lambda: verdict(log))
    assert log == ["committed", "committed"]
    assert [type(error) for error, _ in failures] == [Crash]


def test_an_exception_that_run_has_handled_is_not_thrown_in(log: Log) -> None:
    """Only what has left `run()` counts."""

    def body() -> None:
        with pytest.raises(Crash):
            verdict(log)
            raise Crash

    with threadhooks.installed():
        in_thread(body)
    assert log == ["committed"]


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

    def exited(thread: threading.Thread, exception: Any, **extra: Any) -> None:
        log.append(exception)

    error = Crash()
    with threadhooks.installed(), thread_exited.connected_to(exited):
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


def test_what_is_closed_by_hand_before_the_crash_is_not_told(log: Log, failures: list[Any]) -> None:
    """A value whose use had ended before is out of it."""
    with threadhooks.installed():
        crashing(Crash(), lambda: verdict(log, "first "), lambda: verdict.close(log, "first "), lambda: verdict(log))
    assert log[0] == "first committed"
    assert [event for event, _ in log[1:]] == ["rolled back"]


def test_the_crash_is_not_kept(log: Log, failures: list[Any], no_collection: None) -> None:
    """When the thread has ended, the exception is freed, without a collection, though it was thrown in."""

    @per_thread
    def resource() -> Iterator[None]:
        yield

    error = Crash()
    alive = weakref.ref(error)
    errors = [error]
    del error
    with threadhooks.installed():
        thread = threading.Thread(target=lambda: resource() or raise_(errors.pop()))
        thread.start()
        thread.join()
    failures.clear()
    assert alive() is None


def raise_(error: BaseException) -> None:
    try:
        raise error
    finally:
        del error


@pytest.mark.parametrize("crashes", [False, True])
def test_a_transaction(crashes: bool, tmp_path: Path, failures: list[Any]) -> None:
    """With sqlite3: what a thread has written is there if it ended well, and gone if it crashed."""
    file = tmp_path / "app.db"

    @per_thread
    def transaction() -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(file)) as connection, connection:
            yield connection

    def body() -> None:
        transaction().execute("CREATE TABLE jobs (number INTEGER)")
        transaction().commit()
        transaction().execute("INSERT INTO jobs VALUES (1)")
        if crashes:
            raise Crash

    with threadhooks.installed():
        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
    with contextlib.closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (0 if crashes else 1,)
    assert [type(error) for error, _ in failures] == [Crash] * crashes


# A function like others


@per_thread
def documented(a: int, b: str = "b") -> Iterator[int]:
    """What it is for."""
    yield a


def test_it_looks_like_the_function() -> None:
    """Its names, its documentation and its signature are the function's, which is its ``__wrapped__``."""

    @per_thread(early=True)
    @functools.wraps(documented)
    def early(*args: Any) -> Iterator[int]:
        yield 1

    for resource in (documented, early):
        attributes: Any = resource
        assert attributes.__name__ == attributes.__qualname__ == "documented"
        assert (attributes.__module__, attributes.__doc__) == (__name__, "What it is for.")
        assert list(inspect.signature(resource).parameters) == ["a", "b"]
    function: Any = documented.__wrapped__  # type: ignore[attr-defined]
    assert inspect.isgeneratorfunction(function)


def test_attributes_of_the_function_do_no_harm(log: Log) -> None:
    """A function may have attributes of any name."""

    def function() -> Iterator[object]:
        yield object()
        log.append("closed")

    function.close = function._open = function._early = "not ours"  # type: ignore[attr-defined]
    resource = per_thread(function)

    def body() -> bool:
        first = resource()
        resource.close()
        return resource() is not first

    assert in_thread(body)
    assert log == ["closed", "closed"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickling(protocol: int) -> None:
    """It is pickled by its name, as functions are, and so is one that is a method."""
    for resource in (documented, Owner.resource):
        assert pickle.loads(pickle.dumps(resource, protocol)) is resource


def test_one_that_has_no_name_to_be_found_by_is_not_pickled() -> None:
    """As for functions, that is an error when it is pickled."""
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(per_thread(lambda: Manager([])))


@pytest.mark.parametrize("func", [generator_function, lambda: Manager([]), functools.partial(Manager, []), Maker([])])
def test_copying(func: Callable[..., Any]) -> None:
    """A copy is the resource itself, as for functions: there are not two with one value, nor two values."""
    resource = per_thread(func)
    assert copy.copy(resource) is resource
    assert copy.deepcopy({"key": [resource]}) == {"key": [resource]}


def test_a_class_that_has_one_can_be_copied(log: Log) -> None:
    """A copy of an instance is another instance, with values of its own."""
    owner = Owner(log)
    twin = copy.copy(owner)
    assert in_thread(lambda: owner.resource() is not twin.resource())


# Finalisers in the midst of it


def test_a_finaliser_uses_it_while_it_opens(log: Log) -> None:
    """The finaliser gets a value, and so does the call; each opening is closed once, and later calls agree."""
    values: list[object] = []

    @per_thread
    def resource() -> Iterator[object]:
        log.append("opened")
        if len(log) == 1:
            Farewell(lambda: values.append(resource()))
        yield object()
        log.append("closed")

    def body() -> None:
        value = resource()
        values.append(value)
        assert resource() is resource() is value

    in_thread(body)
    assert len(values) == 2
    assert log == ["opened", "opened", "closed", "closed"]


def test_a_finaliser_uses_it_while_it_closes(log: Log) -> None:
    """At the thread's end and by `close()`, the finaliser gets a new value, which is closed in its turn."""

    @per_thread
    def resource() -> Iterator[int]:
        number = log.count("opened")
        log.append("opened")
        yield number
        if number % 2 == 0:
            Farewell(lambda: log.append(resource()))
        log.append("closed")

    def body() -> None:
        assert resource() == 0
        resource.close()
        assert resource() == 1
        resource.close()
        assert resource() == 2

    in_thread(body)
    assert log == ["opened", "opened", 1, "closed", "closed", "opened", "opened", 3, "closed", "closed"]


def test_a_value_whose_destructor_opens_others(log: Log, plugin: Plugin) -> None:
    """What a destructor opens as the last value dies is closed in the same exit, however long the chain is."""

    @per_thread
    def chain(length: int) -> Iterator[Farewell]:
        log.append(length)
        yield Farewell(lambda: length and chain(length - 1))
        log.append(-length)

    in_thread(lambda: chain(5) and None)
    assert sorted(log) == [*range(-5, 0), 0, 0, *range(1, 6)]


class Cycle:
    """Garbage that only the collector finds; it calls something as it is destroyed."""

    def __init__(self, func: Callable[[], Any]) -> None:
        self.func = func
        self.itself = self

    def __del__(self) -> None:
        self.func()


@pytest.fixture
def threshold() -> Iterator[Callable[[int], None]]:
    """Sets the collector's threshold, for what is made from now on; afterwards it is as before."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    yield gc.set_threshold
    gc.set_threshold(*before)
    gc.unfreeze()


@pytest.mark.parametrize("attached", [False, True])
def test_a_collection_at_any_moment_of_the_first_use(
    attached: bool, threshold: Callable[[int], None], log: Log
) -> None:
    """Whichever allocation makes the collector find a finaliser that uses it: every opening is closed, at the end."""

    def body(allocations: int) -> None:
        if attached:
            threadhooks.attach()
        here = threading.get_native_id()
        gc.collect()  # the collector counts from here
        Cycle(lambda: noted(log) if threading.get_native_id() == here else None)  # not if it is found too late
        threshold(allocations)
        value = noted(log)
        threshold(0)
        assert noted(log) is value
        assert "closed" not in [event for event, *_ in log]

    for allocations in range(1, 30):
        log.clear()
        in_thread(functools.partial(body, allocations))
        events = [event for event, *_ in log]
        assert events.count("opened") == events.count("closed")
        assert len({ident for _, ident, *_ in log}) == 1


def test_collections_all_the_time(threshold: Callable[[int], None]) -> None:
    """Finalisers use a resource over and over, as it opens and closes: each opening is closed once, in its thread."""
    opened: list[int] = []
    closed: list[int] = []

    @per_thread
    def resource(number: int) -> Iterator[object]:
        opened.append(threading.get_ident())
        yield [object() for _ in range(5)]
        closed.append(threading.get_ident())

    def finaliser() -> None:
        if threading.current_thread() in threads:  # the collector may run anywhere
            resource(0)

    def body() -> None:
        threadhooks.attach()
        for number in range(40):
            Cycle(finaliser)
            resource(number % 3)
            Cycle(finaliser)
            resource.close(number % 3)

    threads = [threading.Thread(target=body) for _ in range(4)]
    threshold(3)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened
    assert Counter(opened) == Counter(closed)


# Many threads


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


def test_many_threads_share_an_instance(log: Log) -> None:
    """Threads that use a method of one instance at the same moment have a value each, and close it."""
    owner = Owner(log)
    together = threading.Barrier(8)
    values: list[object] = []

    def body() -> None:
        together.wait(LONG)
        values.append(owner.resource())
        together.wait(LONG)

    threads = [threading.Thread(target=body) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(values)) == 8
    assert Counter(event for event, _ in log) == {"opened": 8, "closed": 8}


# Forked children, and daemons at interpreter exit

# `finally` is also executed when a generator is destroyed: so these programs see that, too.
PREFIX = """\
import gc, os, sys, threading, warnings
import threadhooks

warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
parent = os.getpid()

def say(*words, write=os.write, getpid=os.getpid, parent=parent, current=threading.current_thread):
    # With what it needs at hand, even when modules are gone; and unbuffered.
    who = "parent" if getpid() == parent else "child"
    try:
        name = current().name
    except:
        name = "(threading is gone)"
    write(1, f"{who} {name}: {' '.join(words).strip()}\\n".encode())

@threadhooks.per_thread
def resource(name="value", say=say, getpid=os.getpid):
    pid = getpid()
    say("opened", name)
    try:
        yield pid
    finally:
        say("closed", name, "" if pid == getpid() else "of another process")

def wait(pid):
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        say("exit code of the child:", str(code))

def run(target, name):
    thread = threading.Thread(target=target, name=name)
    thread.start()
    thread.join()

"""


def lines(result: Any) -> tuple[list[str], str, int]:
    return result.out.splitlines(), result.err, result.code


def text(source: str) -> str:
    return PREFIX + textwrap.dedent(source)


@forks
def test_a_child_opens_its_own(program: Program) -> None:
    """The child uses, closes early and closes at its end what it has opened; the parent's value is left alone."""
    assert lines(
        program(
            text("""
            assert resource() == parent
            pid = os.fork()
            if pid:
                wait(pid)
                assert resource() == parent
                sys.exit()
            resource.close()  # it has none yet
            say("nothing was open")
            assert resource() == resource() == os.getpid()
            resource.close()
            assert resource() == os.getpid()
            """)
        )
    ) == (
        [
            "parent MainThread: opened value",
            "child MainThread: nothing was open",
            "child MainThread: opened value",
            "child MainThread: closed value",
            "child MainThread: opened value",
            "child MainThread: closed value",
            "parent MainThread: closed value",
        ],
        "",
        0,
    )


@forks
@pytest.mark.parametrize("ending", ["sys.exit()", "os._exit(0)", "gc.collect()"])
def test_a_child_does_not_destroy_its_parents(ending: str, program: Program) -> None:
    """However the child ends, no generator of its parent is closed or destroyed in it, whichever thread opened it."""
    assert lines(
        program(
            text(f"""
            def other():
                resource("other's")
                ready.set()
                end.wait()

            ready, end = threading.Event(), threading.Event()
            thread = threading.Thread(target=other, name="other")
            thread.start()
            ready.wait()
            resource("main's")
            pid = os.fork()
            if pid == 0:
                gc.collect()
                {ending}
            else:
                wait(pid)
                end.set()
                thread.join()
            """)
        )
    ) == (
        [
            "parent other: opened other's",
            "parent MainThread: opened main's",
            "parent other: closed other's",
            "parent MainThread: closed main's",
        ],
        "",
        0,
    )


@forks
def test_another_thread_than_the_main_one_forks(program: Program) -> None:
    """The child's only thread opens its own value and closes it as it ends; all others are left to the parent."""
    assert lines(
        program(
            text("""
            def forks():
                resource("forker's")
                pid = os.fork()
                if pid:
                    wait(pid)
                    assert resource("forker's") == parent
                else:
                    gc.collect()
                    assert resource("forker's") == os.getpid()

            resource("main's")
            run(forks, "forks")
            """)
        )
    ) == (
        [
            "parent MainThread: opened main's",
            "parent forks: opened forker's",
            "child forks: opened forker's",
            "child forks: closed forker's",
            "parent forks: closed forker's",
            "parent MainThread: closed main's",
        ],
        "",
        0,
    )


@forks
def test_a_child_has_its_own_value_for_an_instance(program: Program) -> None:
    """Methods, too; an instance that dies in the child closes what the child has opened, and not its parent's."""
    assert lines(
        program(
            text("""
            class Owner:
                @threadhooks.per_thread
                def resource(self):
                    yield from resource.__wrapped__("the owner's")

            owner = Owner()
            assert owner.resource() == parent
            pid = os.fork()
            if pid:
                wait(pid)
                del owner
                say("the owner is gone")
            else:
                assert owner.resource() == os.getpid()
                del owner
                say("the owner is gone")
                gc.collect()
            """)
        )
    ) == (
        [
            "parent MainThread: opened the owner's",
            "child MainThread: opened the owner's",
            "child MainThread: closed the owner's",
            "child MainThread: the owner is gone",
            "parent MainThread: closed the owner's",
            "parent MainThread: the owner is gone",
        ],
        "",
        0,
    )


@forks
def test_an_instance_that_dies_in_the_child_before_it_is_used_there(program: Program) -> None:
    """The parent's value for it is not closed in the child."""
    assert lines(
        program(
            text("""
            class Owner:
                @threadhooks.per_thread
                def resource(self):
                    yield from resource.__wrapped__("the owner's")

            owner = Owner()
            owner.resource()
            pid = os.fork()
            if pid:
                wait(pid)
            else:
                del owner
                gc.collect()
                say("the owner is gone")
            """)
        )
    ) == (
        [
            "parent MainThread: opened the owner's",
            "child MainThread: the owner is gone",
            "parent MainThread: closed the owner's",
        ],
        "",
        0,
    )


@forks
def test_a_child_that_is_forked_in_a_hook(program: Program) -> None:
    """A clean-up that forks leaves in the child nothing of what waits to be closed in the parent."""
    assert lines(
        program(
            text("""
            plugin = threadhooks.Plugin("forks")

            def fork():
                pid = os.fork()
                if pid:
                    wait(pid)
                else:
                    assert resource() == os.getpid()
                    say("forked")

            def body():
                resource()
                plugin.register(fork)

            run(body, "thread")
            """)
        )
    ) == (
        [
            "parent thread: opened value",
            "child thread: opened value",
            "child thread: forked",
            "child thread: closed value",
            "parent thread: closed value",
        ],
        "",
        0,
    )


def test_a_daemon_keeps_its_value(program: Program) -> None:
    """One that still runs as the interpreter ends is not closed, nor is its generator destroyed, in whatever thread."""
    assert lines(
        program(
            text("""
            class Owner:
                @threadhooks.per_thread
                def resource(self):
                    yield from resource.__wrapped__("of a method")

            def body():
                resource()
                owner.resource()
                ready.set()
                threading.Event().wait()

            owner = Owner()
            ready = threading.Event()
            threading.Thread(target=body, daemon=True, name="daemon").start()
            ready.wait()
            resource("main's")
            """)
        )
    ) == (
        [
            "parent daemon: opened value",
            "parent daemon: opened of a method",
            "parent MainThread: opened main's",
            "parent MainThread: closed main's",
        ],
        "",
        0,
    )


@pytest.mark.parametrize("attached", [False, True])
def test_a_daemon_that_opens_it_as_the_interpreter_ends(attached: bool, program: Program) -> None:
    """What a daemon opens when the main thread's exit has been announced is kept as well."""
    late = """
    import atexit
    atexit.register(lambda: (go_on.set(), opened.wait(30)))  # an older handler: it is called after ours
    """
    assert lines(
        program(
            textwrap.dedent(late)
            + text(f"""
            def body():
                {attached} and threadhooks.attach()
                ready.set()
                go_on.wait()
                resource()
                opened.set()
                threading.Event().wait()

            ready, go_on, opened = threading.Event(), threading.Event(), threading.Event()
            threading.Thread(target=body, daemon=True, name="daemon").start()
            ready.wait()
            """)
        )
    ) == (["parent daemon: opened value"], "", 0)


def test_a_daemon_that_ends_before_closes_its_value(program: Program) -> None:
    """A daemon is a thread like others as long as it ends before the interpreter does."""
    assert lines(
        program(
            text("""
            thread = threading.Thread(target=resource, daemon=True, name="daemon")
            thread.start()
            thread.join()
            say("joined")
            """)
        )
    ) == (
        ["parent daemon: opened value", "parent daemon: closed value", "parent MainThread: joined"],
        "",
        0,
    )


def test_an_argument_of_any_name() -> None:
    """A function may have a parameter called `self`, and get it by name."""

    @threadhooks.per_thread
    def resource(self: int) -> Iterator[int]:
        yield self

    assert resource(self=3) == 3
    resource.close(self=3)


def test_each_announced_block_has_its_own_crash() -> None:
    """The exception of each block of one thread is thrown into what was opened in it."""
    log: list[str] = []

    @per_thread(early=True)
    def transaction(number: int) -> Iterator[None]:
        try:
            yield
        except Crash:
            log.append(f"roll back {number}")
        else:
            log.append(f"commit {number}")

    def body() -> None:
        for number, error in enumerate([Crash(), Crash(), None, Crash()]):
            with contextlib.suppress(Crash), threadhooks.announced():
                transaction(number)
                if error is not None:
                    raise error

    in_thread(body)
    assert log == ["roll back 0", "roll back 1", "commit 2", "roll back 3"]
