"""What can be made a resource, and how what a function returns is entered and closed."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import tempfile
import threading
import xmlrpc.client
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from resourcing import Crash, Manager, crashing, in_thread
from support import Log, run

import threadhooks
from threadhooks import PerThread, per_thread


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


class Closes:
    """What `contextlib.closing` closes; to be told apart by its value alone."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log
        Manager(log).__enter__()

    def close(self) -> None:
        Manager(self.log).__exit__(None, None, None)


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
        pytest.param(lambda log: lambda: contextlib.closing(Closes(log)), id="closing"),
    ],
)
def test_what_can_be_a_resource(make: Callable[[list[Any]], Callable[[], Any]], log: Log) -> None:
    """A generator function, or anything that returns a context manager: entered once, and left once, in the thread."""
    resource = per_thread(make(log))

    def body() -> int:
        value = resource()
        assert resource() is value
        assert value == "value" or isinstance(value, (contextlib.ExitStack, Closes))
        return threading.get_ident()

    ident = in_thread(body)
    assert log == [("enter", ident), ("exit", ident, None, None, None)]


class OnlyEnter:
    def __enter__(self) -> None:
        pass


class Unspeakable(OnlyEnter):
    def __repr__(self) -> str:
        raise Crash


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
        pytest.param(Unspeakable, id="its repr fails"),
        pytest.param(asynchronous, id="asynchronous"),
    ],
)
def test_a_function_that_returns_something_else(returned: Callable[[], Any], failures: list[Any]) -> None:
    """That is a `TypeError` at each call, which names the resource and says what to return; nothing is left."""

    @per_thread
    def resource() -> Any:
        return returned()

    def body() -> None:
        for _ in range(2):
            with pytest.raises(TypeError, match=r"resource must yield, or return a context manager, not "):
                resource()
            resource.close()

    in_thread(body)
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
        pytest.param(coroutine_function, "coroutine function", id="coroutine"),
        pytest.param(async_generator_function, "coroutine function", id="asynchronous generator"),
        pytest.param(CallGenerates(), "generator function", id="call generates"),
        pytest.param(Manager([]), "must be callable", id="context manager"),
    ],
)
def test_what_can_not_be_a_resource_is_refused_at_decoration(func: Any, message: str, early: bool) -> None:
    """What could never be opened is refused with a `TypeError`, in either form of the decorator."""
    with pytest.raises(TypeError, match=message):
        (per_thread(early=True) if early else per_thread)(func)


# What is its own manager


class Itself(Manager):
    """A manager whose value is itself, and that can be closed."""

    def __enter__(self) -> Any:
        super().__enter__()
        return self

    def close(self) -> None:
        self.log.append(("close", threading.get_ident()))


def test_what_is_its_own_manager_is_closed_by_close(log: Log, failures: list[Any]) -> None:
    """It is entered, but not left, whether the thread crashes or not: leaving it might mean something else."""
    resource = per_thread(lambda: Itself(log))
    ident = in_thread(lambda: resource() and threading.get_ident())
    assert log == [("enter", ident), ("close", ident)]
    log.clear()
    with threadhooks.installed():
        crashing(Crash(), resource)
    assert [event for event, *_ in log] == ["enter", "close"]


def test_a_manager_with_a_close_of_its_own_for_another_value(log: Log) -> None:
    """Where the value is something else, the manager is left, as a ``with`` would."""

    class Pool(Itself):
        def __enter__(self) -> Any:
            super().__enter__()
            return "a connection"

    assert in_thread(per_thread(lambda: Pool(log))) == "a connection"
    assert [event for event, *_ in log] == ["enter", "exit"]


def test_what_answers_to_any_name() -> None:
    """An object is asked by its class what it has: a proxy of a server would pass `close` on to the server."""
    value: Any = in_thread(per_thread(lambda: xmlrpc.client.ServerProxy("http://localhost:9")))
    assert isinstance(value, xmlrpc.client.ServerProxy)


def test_an_exit_stack_is_told_of_the_crash(log: Log, failures: list[Any]) -> None:
    """What it holds may have to roll back."""
    error = Crash()
    with threadhooks.installed():
        crashing(error, per_thread(lambda: an_exit_stack(log)))
    assert log[-1][2:4] == (Crash, error)


@pytest.mark.parametrize(
    ("make", "is_closed"),
    [
        (lambda path: open(path / "file", "w"), lambda file: file.closed),
        (lambda path: tempfile.NamedTemporaryFile(dir=path), lambda file: file.closed),
        (lambda path: tempfile.SpooledTemporaryFile(dir=path), lambda file: file.closed),
        (lambda path: tempfile.TemporaryDirectory(dir=path), lambda folder: not Path(folder).exists()),
        (lambda path: ThreadPoolExecutor(1), lambda pool: pool._shutdown),
    ],
    ids=["file", "NamedTemporaryFile", "SpooledTemporaryFile", "TemporaryDirectory", "ThreadPoolExecutor"],
)
def test_managers_of_the_standard_library(make: Any, is_closed: Any, tmp_path: Path) -> None:
    """A file is closed; what can't be closed is left: a directory is removed, a pool is shut down."""
    assert is_closed(in_thread(per_thread(lambda: make(tmp_path))))


# Connections of the DB-API


class Psycopg:
    """As psycopg's connection: leaving it commits, or rolls back, and closes it."""

    closed = 0

    def __init__(self) -> None:
        self.done: list[str] = []

    def __enter__(self) -> Any:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.done.append("commit" if kind is None else "rollback")
        self.close()

    def close(self) -> None:
        self.closed += 1

    def commit(self) -> None:
        self.done.append("commit")

    def cursor(self) -> None:
        pass


class Psycopg2(Psycopg):
    """As psycopg2's: leaving it does not close it, and what has been entered can't be entered again."""

    entered = False

    def __enter__(self) -> Any:
        if self.entered:
            raise RuntimeError("the connection cannot be re-entered recursively")
        self.entered = True
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.entered = False
        self.done.append("commit" if kind is None else "rollback")


class Traced:
    """As the proxies of tools that trace: it passes everything on, and says it is of the class that it stands for."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    @property
    def __class__(self) -> Any:
        return type(self.connection)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)

    def __enter__(self) -> Any:
        return self.connection.__enter__()

    def __exit__(self, *error: object) -> None:
        self.connection.__exit__(*error)


@pytest.mark.parametrize("crashes", [False, True])
@pytest.mark.parametrize("announces", [False, True])
@pytest.mark.parametrize("make", [Psycopg, Psycopg2, lambda: Traced(Psycopg()), lambda: Traced(Psycopg2())])
def test_a_connection_is_closed_and_nothing_else(
    make: Callable[[], Any], announces: bool, crashes: bool, no_report: None
) -> None:
    """What its users commit is committed, in transactions of their own; nothing else is, and it is closed."""
    resource = per_thread(make)
    seen: list[Any] = []

    def body() -> None:
        with resource():
            pass
        seen.append((resource(), list(resource().done)))
        if crashes:
            raise Crash

    with threadhooks.installed() if announces else contextlib.nullcontext():
        run(threading.Thread(target=body))
    ((connection, done),) = seen
    assert done == connection.done == ["commit"]
    assert connection.closed


@pytest.mark.parametrize("crashes", [False, True])
def test_sqlite3(crashes: bool, tmp_path: Path, no_report: None) -> None:
    """A connection that a function returns is closed, with half a transaction not committed.

    A generator that means to commit does: what a thread has written is there unless it is known to have crashed.
    """
    files = tmp_path / "connection.db", tmp_path / "transaction.db"
    connection = per_thread(lambda: sqlite3.connect(files[0], check_same_thread=False))

    @per_thread
    def transaction() -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(files[1])) as connection, connection:
            yield connection

    def body() -> None:
        kept.append(connection())
        for each in (connection(), transaction()):
            each.execute("CREATE TABLE jobs (number INTEGER)")
            each.commit()
            each.execute("INSERT INTO jobs VALUES (1)")
        if crashes:
            raise Crash

    kept: list[sqlite3.Connection] = []
    with threadhooks.installed():
        run(threading.Thread(target=body))
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        kept[0].execute("SELECT 1")
    for file, count in zip(files, (0, 0 if crashes else 1), strict=True):
        with contextlib.closing(sqlite3.connect(file)) as other:
            assert other.execute("SELECT count(*) FROM jobs").fetchone() == (count,)


# Names of ours


class Busy(Itself):
    """A context manager that has a name for everything."""

    log: list[Any] = []
    _open = _early = _opened = _get = _close = _find = __call__ = __get__ = __reduce__ = None

    def __init__(self) -> None:
        pass


def busy() -> Busy:
    return Busy()


busy.close = busy._open = busy._early = busy._opened = "not ours"  # type: ignore[attr-defined]


@pytest.mark.parametrize("func", [Busy, busy])
def test_attributes_that_have_names_of_ours(func: Callable[[], Any]) -> None:
    """A class or function may have attributes of any name; those of the resource are the resource's."""
    resource: PerThread[[], Any] = per_thread(func)
    Busy.log.clear()

    def body() -> bool:
        first = resource()
        resource.close()
        return isinstance(first, Busy) and resource() is not first

    assert in_thread(body)
    assert [event for event, *_ in Busy.log] == ["enter", "close"] * 2
