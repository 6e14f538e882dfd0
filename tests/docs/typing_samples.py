"""What type checkers must make of the public interface: read by them alone, for `test_types.py`; never executed.

`assert_type` says what a type is. A line with ``type: ignore`` must be an error: the checkers are told to complain of a
comment that they don't need.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TextIO

import blinker
from typing_extensions import assert_type

import threadhooks
from threadhooks import (
    PerThread,
    Plugin,
    ThreadInfo,
    ThreadSignal,
    announced,
    attach,
    install,
    installed,
    load_plugins,
    per_thread,
    thread_exited,
    thread_exiting,
    thread_started,
    uninstall,
)
from threadhooks.aio import Connection, Exits, exits
from threadhooks.plugins import Pending
from threadhooks.threadref import finalize, ref

# Resources: a call takes what the function takes, and returns what is yielded


@per_thread
def connection(path: str, timeout: float = 5, *, cached: bool = True) -> Iterator[sqlite3.Connection]:
    yield sqlite3.connect(path, timeout)


assert_type(connection("app.db"), sqlite3.Connection)
assert_type(connection("app.db", 1.5, cached=False), sqlite3.Connection)
assert_type(connection.close("app.db", cached=False), None)
assert_type(connection.close_all(), None)
assert_type(connection.close_all(anywhere=True), None)
connection.close_all(True)  # type: ignore[call-arg]
connection()  # type: ignore[call-arg]
connection(7)  # type: ignore[arg-type]
connection("app.db", uncached=True)  # type: ignore[call-arg]
connection.close()  # type: ignore[call-arg]
connection.close("app.db", "late")  # type: ignore[arg-type]
connection("app.db").nonsense()  # type: ignore[attr-defined]
text: str = connection("app.db")  # type: ignore[assignment]


@per_thread
def number() -> Generator[int, None, None]:
    yield 1


assert_type(number, PerThread[[], int])
assert_type(number(), int)
assert_type(number.close(), None)


@per_thread(early=True)
def early(name: str) -> Iterator[list[str]]:
    yield [name]


assert_type(early("a"), list[str])
early(1)  # type: ignore[arg-type]


@per_thread()
def neither_early(name: str) -> Iterator[str]:
    yield name


assert_type(neither_early("a"), str)


# Whatever returns a context manager: a call returns what that is entered as


@per_thread
def closing(path: str) -> contextlib.closing[sqlite3.Connection]:
    return contextlib.closing(sqlite3.connect(path))


@per_thread(early=True)
def pool(workers: int) -> contextlib.AbstractContextManager[ThreadPoolExecutor]:
    return ThreadPoolExecutor(workers)


@per_thread
@contextlib.contextmanager
def managed() -> Generator[bytes, None, None]:
    yield b""


@per_thread
def file(path: str) -> TextIO:  # is an iterator as well; it is the context manager that counts
    return open(path)


class Manager:
    def __init__(self, name: str) -> None: ...
    def __enter__(self) -> int:
        return 1

    def __exit__(self, *error: object) -> None: ...


assert_type(closing("app.db"), sqlite3.Connection)
assert_type(pool(3), ThreadPoolExecutor)
assert_type(managed(), bytes)
assert_type(file("log.txt"), TextIO)
assert_type(per_thread(Manager)("a"), int)
per_thread(Manager)(1)  # type: ignore[arg-type]


# Methods: a call of a bound one takes no `self`


class Repository:
    @per_thread
    def connection(self, name: str = "main") -> Iterator[sqlite3.Connection]:
        yield sqlite3.connect(name)

    @per_thread(early=True)
    def session(self) -> Iterator[set[int]]:
        yield {self.use()}

    @staticmethod
    @per_thread
    def shared(size: int) -> Iterator[bytes]:
        yield bytes(size)

    def use(self) -> int:
        assert_type(self.connection(), sqlite3.Connection)
        assert_type(self.connection.close_all(anywhere=True), None)
        return self.connection("other").total_changes


class Child(Repository):
    @per_thread
    def cursor(self, name: str) -> Iterator[sqlite3.Cursor]:
        yield super().connection(name).cursor()


repository = Repository()
assert_type(repository.connection(), sqlite3.Connection)
assert_type(repository.connection(name="other"), sqlite3.Connection)
assert_type(repository.connection.close("other"), None)
assert_type(repository.session(), set[int])
assert_type(Repository.shared(1), bytes)
assert_type(Child().connection("other"), sqlite3.Connection)
assert_type(Child().cursor("other"), sqlite3.Cursor)
repository.connection(1)  # type: ignore[arg-type]
repository.connection.close(1)  # type: ignore[arg-type]
repository.session("more")  # type: ignore[call-arg]
on_the_class: PerThread[[Repository], set[int]] = Repository.session  # read from the class, it is the resource
assert_type(Repository.connection(repository, "other"), sqlite3.Connection)
Repository.connection("other")  # type: ignore[arg-type]


# What is no resource


async def coroutine_function() -> int:
    return 1


def plain() -> int:
    return 1


per_thread(coroutine_function)  # type: ignore[arg-type]
per_thread(plain)  # type: ignore[arg-type]
per_thread(1)  # type: ignore[call-overload]
per_thread(early=True)(plain)  # type: ignore[arg-type]
per_thread(number, early="yes")  # type: ignore[call-overload]
per_thread(number, late=True)  # type: ignore[call-overload]


# Plugins: a decorator gives back the function as it was


def hook(thread: threading.Thread, info: ThreadInfo, exception: BaseException | None, **extra: Any) -> int:
    return info.ident


def no_parameter() -> None: ...


def of_a_number(thread: int, **extra: Any) -> None: ...


def only_the_thread(thread: threading.Thread) -> None: ...


def too_many(thread: threading.Thread, more: int, **extra: Any) -> None: ...


def clean_up(name: str, *, hard: bool = False) -> bool:
    return hard


with Plugin("typed") as plugin:
    assert_type(plugin, Plugin)
    assert_type(plugin.name, str)
    assert_type(plugin.closed, bool)
    for signal in (plugin.thread_started, plugin.thread_exiting, plugin.thread_exited):
        signal(1)  # type: ignore[type-var]
        signal(no_parameter)  # type: ignore[type-var]
        signal(of_a_number)  # type: ignore[type-var]
        signal(only_the_thread)  # type: ignore[type-var]
    assert_type(plugin.thread_started(hook)(threading.main_thread(), attach(), None), int)
    assert_type(plugin.thread_exiting(hook)(threading.main_thread(), attach(), None), int)
    assert_type(plugin.thread_exited(hook)(threading.main_thread(), attach(), None), int)
    assert_type(plugin.register(clean_up, "a", hard=True)("b"), bool)
    assert_type(plugin.register_early(clean_up, "a")("b"), bool)
    plugin.register(clean_up)(1)  # type: ignore[arg-type]
    plugin.register_early(clean_up)(1)  # type: ignore[arg-type]
    plugin.register("clean_up")  # type: ignore[type-var]
    plugin.register()  # type: ignore[call-arg]
    plugin.register(func=clean_up)  # type: ignore[call-arg]
    assert_type(plugin.unregister(clean_up), None)
    assert_type(plugin.pending(), Mapping[threading.Thread, list[Pending]])
    assert_type(plugin.close(), None)
    plugin.close(run=True)
    plugin.close(True)  # type: ignore[call-arg]
    plugin.name = "other"  # type: ignore[misc]
    plugin.closed = True  # type: ignore[misc]

    @plugin.thread_exited
    def decorated(thread: threading.Thread, **extra: Any) -> str:
        return thread.name

    @plugin.register
    def registered() -> float:
        return 1.5


assert_type(decorated(threading.main_thread()), str)
assert_type(registered(), float)
assert_type(load_plugins(), list[Plugin])
Plugin()  # type: ignore[call-arg]
Plugin(1)  # type: ignore[arg-type]


# Signals: blinker's, whose `connect` gives back the receiver


for thread_signal in (thread_started, thread_exiting, thread_exited):
    blinkers: blinker.Signal = thread_signal
    assert_type(thread_signal.connect(hook)(threading.main_thread(), attach(), None), int)
    thread_signal.connect(hook, sender=threading.main_thread(), weak=False)
    thread_signal.connect(hook, threading.main_thread(), False)
    assert_type(thread_signal.disconnect(hook), None)
    assert_type(thread_signal.is_muted, bool)
    assert_type(thread_signal.has_receivers_for(threading.main_thread()), bool)
    thread_signal.connect("hook")  # type: ignore[type-var]
    thread_signal.connect(hook, sender=blinker.ANY)
    thread_signal.connect(hook, sender="worker")  # type: ignore[arg-type]
    thread_signal.connect(no_parameter)  # type: ignore[type-var]
    thread_signal.connect(of_a_number)  # type: ignore[type-var]
    thread_signal.connect(only_the_thread)  # type: ignore[type-var]
    thread_signal.connect(too_many)  # type: ignore[type-var]
    assert_type(thread_signal.receiver_connected, ThreadSignal)
    thread_signal.is_muted = True  # type: ignore[misc]
    with thread_signal.muted() as nothing:
        assert_type(nothing, None)


@thread_exited.connect
def receiver(thread: threading.Thread, **extra: Any) -> bytes:
    return b""


@thread_exited.connect
def named(thread: threading.Thread, info: ThreadInfo, exception: BaseException | None) -> bytes:
    return b""


@thread_exited.connect
def by_name(thread: object, /, *, exception: BaseException | None = None, **extra: object) -> bytes:
    return b""


class Watcher:
    def told(self, thread: threading.Thread, **extra: Any) -> float:
        return 1.5

    def __call__(self, thread: threading.Thread, **extra: object) -> None: ...


def watch(signal: ThreadSignal) -> None:  # it is public, so that one can annotate with it
    annotated: threadhooks.ThreadSignal = signal
    watcher = Watcher()
    assert_type(annotated.connect(watcher), Watcher)
    assert_type(annotated.connect(watcher.told)(threading.main_thread()), float)
    annotated.connect(functools.partial(receiver), weak=False)
    annotated.connect(Watcher)  # type: ignore[type-var]
    annotated.connect(lambda: None)  # type: ignore[type-var]


watch(thread_exited)
assert_type(receiver(threading.main_thread()), bytes)
assert_type(named(threading.main_thread(), attach(), None), bytes)
assert_type(by_name(threading.main_thread(), exception=None), bytes)


# Threads


info = attach()
assert_type(info, ThreadInfo)
assert_type(info.thread, threading.Thread)
assert_type(info.name, str)
assert_type(info.ident, int)
assert_type(info.native_id, int)
assert_type(info.daemon, bool)
assert_type(info.foreign, bool)
assert_type(info.attached_at, float)
info.name = "other"  # type: ignore[misc]
attach("thread")  # type: ignore[call-arg]
ThreadPoolExecutor(initializer=attach)

with announced() as told:
    assert_type(told, ThreadInfo)
with installed() as nothing_told:
    assert_type(nothing_told, None)
assert_type(install(), None)
assert_type(uninstall(), None)


# threadref


reference = ref()
assert_type(reference(), threading.Thread | None)
reference().name  # type: ignore[union-attr]
assert_type(ref(lambda dead: print(dead())), ref)
assert_type(ref(None), ref)
ref(1)  # type: ignore[arg-type]
ref(lambda: None)  # type: ignore[arg-type, misc]
assert_type(threadhooks.threadref.ref()(), threading.Thread | None)

State = tuple[threading.Thread, Callable[..., Any], tuple[Any, ...], dict[str, Any]]
finalizer = finalize(clean_up, "a", hard=True)
assert_type(finalizer.peek(), State | None)
assert_type(finalizer.detach(), State | None)
assert_type(finalizer.alive, bool)
assert_type(finalizer.atexit, bool)
finalizer.atexit = False
finalizer.atexit = "no"  # type: ignore[assignment]
finalizer.alive = True  # type: ignore[misc]
finalize()  # type: ignore[call-arg]
finalize(1)  # type: ignore[arg-type]


class Subclass(finalize):
    def __call__(self, _: Any = None) -> Any:
        return super().__call__(_)


class Reference(ref):
    __slots__ = ("name",)
    name: str


# asyncio


async def on_exit(thread: threading.Thread, info: ThreadInfo, **extra: object) -> int:
    return info.ident


async def in_a_loop(thread: threading.Thread) -> None:
    assert_type(await threadhooks.aio.exited(thread), ThreadInfo)
    assert_type(exits(), Exits)
    async for each in exits():
        assert_type(each, ThreadInfo)
    async with exits() as followed:
        assert_type(followed, Exits)
    async with contextlib.aclosing(exits()) as closing:
        assert_type([info.name async for info in closing], list[str])
    connection = threadhooks.aio.connect(thread_exited, on_exit)
    assert_type(connection, Connection)
    assert_type(connection.disconnect(), None)
    with threadhooks.aio.connect(thread_exited, on_exit, sender=thread) as connected:
        assert_type(connected, Connection)
    await threadhooks.aio.exited("thread")  # type: ignore[arg-type]
    threadhooks.aio.connect(thread_exited, hook)  # type: ignore[arg-type]
    threadhooks.aio.connect("thread_exited", on_exit)  # type: ignore[arg-type]
    threadhooks.aio.nonsense()  # type: ignore[attr-defined]
