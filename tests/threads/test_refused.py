"""What could never be called is refused when it is connected, and what can is not."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any
from unittest.mock import AsyncMock, Mock, create_autospec

import blinker
import pytest
from signalling import Sender, heard

from threadhooks import Plugin, ThreadSignal, per_thread, thread_exited, thread_exiting, thread_started

pytestmark = pytest.mark.usefixtures("disconnected")


async def coroutine(sender: object, **extra: object) -> None: ...


async def asynchronous_generator(sender: object, **extra: object) -> Any:
    yield


class Asynchronous:
    async def __call__(self, sender: object, **extra: object) -> None: ...

    async def method(self, sender: object, **extra: object) -> None: ...

    @staticmethod
    async def static(sender: object, **extra: object) -> None: ...

    @classmethod
    async def of_class(cls, sender: object, **extra: object) -> None: ...


class AsynchronousGenerator:
    async def __call__(self, sender: object, **extra: object) -> Any:
        yield


def generator(sender: object, **extra: object) -> Iterator[None]:
    yield


class Generating:
    def __call__(self, sender: object, **extra: object) -> Iterator[None]:
        yield


@pytest.mark.parametrize("sender", [blinker.ANY, "x", Sender()])
def test_what_cannot_be_weakly_held_is_refused(signal: ThreadSignal, sender: object) -> None:
    """A receiver that no weak reference can point at is refused, unless it is held strongly."""

    class Slotted:
        __slots__ = ()

        def __call__(self, sender: object) -> str:
            return "heard"

    receiver = Slotted()
    with pytest.raises(TypeError, match="weak reference"):
        signal.connect(receiver, sender=sender)
    assert not signal.receivers
    assert signal.buckets == {}
    signal.connect(receiver, sender=sender, weak=False)
    assert heard(signal, sender) == ["heard"]


# What the three signals send is known: what can't take it is refused as well.


def no_parameter() -> None: ...


def only_the_thread(thread: object) -> None: ...


def too_many(thread: object, more: object, **extra: object) -> None: ...


def misnamed(info: object, **extra: object) -> None: ...


def needs_another(thread: object, *, missing: object, **extra: object) -> None: ...


class Class:
    def __init__(self, thread: object) -> None: ...

    def method(thread: object) -> None: ...  # type: ignore[misc]

    def __call__(self) -> None: ...


@pytest.fixture(params=["signal", "plugin"])
def connect(request: pytest.FixtureRequest) -> Iterator[Any]:
    with Plugin("refusing") as plugin:
        yield thread_exited.connect if request.param == "signal" else plugin.thread_exited


@pytest.mark.parametrize(
    ("hook", "why"),
    [
        (no_parameter, "too many positional arguments"),
        (only_the_thread, "got an unexpected keyword argument 'info'"),
        (too_many, "missing a required argument: 'more'"),
        (misnamed, "multiple values for argument 'info'"),
        (needs_another, "missing a required .*'missing'"),
        (functools.partial(only_the_thread, 1), "too many positional arguments"),
        (Class, "got an unexpected keyword argument 'info'"),
        (Class(1), "too many positional arguments"),
        (Class(1).method, "too many positional arguments"),
        (lambda: None, "too many positional arguments"),
        (len, "got an unexpected keyword argument 'info'"),
        ([].append, "got an unexpected keyword argument 'info'"),
        (create_autospec(only_the_thread), "got an unexpected keyword argument 'info'"),
        (functools.lru_cache(only_the_thread), "got an unexpected keyword argument 'info'"),
    ],
)
def test_receivers_that_cannot_take_the_call_are_refused(connect: Any, hook: Any, why: str) -> None:
    """What its signature tells is told at once, with what to write instead, and leaves no trace."""
    with pytest.raises(TypeError, match=rf"{why}.*; let it take \(thread, \*\*extra\)") as caught:
        connect(hook)
    assert "can't be called as receiver(thread, info=…, exception=…)" in str(caught.value)
    assert not thread_exited.receivers


def test_each_signal_knows_what_it_sends() -> None:
    """`thread_started` sends no exception; a receiver that insists on one is refused there, and taken elsewhere."""

    def insists(thread: object, info: object, exception: object) -> None: ...

    def does_without(thread: object, info: object) -> None: ...

    with pytest.raises(TypeError, match=r"receiver\(thread, info=…\): missing a required argument: 'exception'"):
        thread_started.connect(insists)
    thread_started.connect(does_without)  # type: ignore[type-var]
    for signal in (thread_exiting, thread_exited):
        signal.connect(insists)
        with pytest.raises(TypeError, match=r"unexpected keyword argument 'exception'"):
            signal.connect(does_without)  # type: ignore[type-var]


def wraps(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator whose wrapper takes more than it passes."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function()

    return wrapper


class Unspeakable:
    @property
    def __signature__(self) -> Any:
        raise LookupError

    def __call__(self, *args: Any, **kwargs: Any) -> None: ...


class Takes:
    def __init__(self, *args: Any, **extra: Any) -> None: ...

    def method(self, thread: object, **extra: object) -> None: ...

    @classmethod
    def of_class(cls, thread: object, *, info: object, exception: object = None) -> None: ...

    @staticmethod
    def static(thread: object, exception: object, info: object) -> None: ...


@pytest.mark.parametrize(
    "hook",
    [
        wraps(no_parameter),
        functools.partial(needs_another, missing=1),
        Unspeakable(),
        Takes,
        Takes().method,
        Takes.of_class,
        Takes.static,
        functools.lru_cache(Takes.static),
        functools.singledispatch(only_the_thread),  # which dispatches to who knows what
        Mock(),
        Mock(spec=only_the_thread),
        dict,  # has no signature that could be read
        lambda *args, **kwargs: None,
        lambda thread, /, **kwargs: None,
        lambda thread, info=None, *, exception=None: None,
    ],
    ids=str,
)
def test_what_can_take_the_call_or_cannot_be_told(hook: Any) -> None:
    """What takes the thread and what is sent by name is taken; so is what nobody can tell beforehand."""
    assert thread_exited.connect(hook, weak=False) is hook
    thread_exited.disconnect(hook)


# Functions that the standard library has wrapped.


def plain(*args: Any, **kwargs: Any) -> str:
    return "ran"


@functools.singledispatch
def generic(thread: object, **extra: object) -> Iterator[None]:
    yield


@functools.singledispatch
def generic_of_threads(thread: object, **extra: object) -> Iterator[None]:
    yield


@generic_of_threads.register
def _(thread: threading.Thread, **extra: object) -> str:
    return "ran"


@contextlib.contextmanager
def manager(*args: Any, **extra: Any) -> Iterator[None]:
    yield


@contextlib.asynccontextmanager
async def async_manager(*args: Any, **extra: Any) -> AsyncIterator[None]:
    yield


class Managing:
    @contextlib.contextmanager
    def method(self, *args: Any, **extra: Any) -> Iterator[None]:
        yield

    @functools.lru_cache
    async def cached(self, *args: Any, **extra: Any) -> None: ...


REFUSED = {
    "a hook must be callable, not ": [None, 3, "name", [], Sender(), blinker.ANY],
    "a generator function, which does not run when it is called": [
        generator, functools.partial(generator), Generating(), Generating().__call__,
        functools.cache(generator), generic,
    ],
    r"plain function, which may call asyncio\.run.*threadhooks\.aio\.connect\(\)": [
        coroutine, functools.partial(functools.partial(coroutine), key=1),
        asynchronous_generator, functools.partial(asynchronous_generator), AsynchronousGenerator(),
        Asynchronous(), functools.partial(Asynchronous()), Asynchronous().method,
        Asynchronous.static, vars(Asynchronous)["static"], functools.partial(vars(Asynchronous)["static"]),
        Asynchronous.of_class, AsyncMock(),
        functools.lru_cache(coroutine), functools.partial(functools.lru_cache(coroutine)),
        functools.lru_cache(functools.partial(coroutine)), Managing().cached,
        functools.singledispatch(coroutine), functools.singledispatch(functools.lru_cache(coroutine)),
    ],
    "the function of a context manager, which does not run": [
        manager, functools.lru_cache(manager), async_manager, Managing().method,
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    "connect",
    [
        lambda signal, plugin, hook: signal.connect(hook),
        lambda signal, plugin, hook: signal.connect(hook, sender="x", weak=False),
        lambda signal, plugin, hook: signal.connect_via("x")(hook),
        lambda signal, plugin, hook: ExitStack().enter_context(signal.connected_to(hook)),
        lambda signal, plugin, hook: plugin.register(hook),
        lambda signal, plugin, hook: plugin.register_early(hook),
    ],
    ids=["connect", "connect a sender", "connect_via", "connected_to", "register", "register_early"],
)
@pytest.mark.parametrize(("why", "hook"), [(why, hook) for why, hooks in REFUSED.items() for hook in hooks])
def test_what_could_never_run_is_refused(
    signal: ThreadSignal, connect: Any, plugin: Plugin, why: str, hook: Any
) -> None:
    """What a call would not run, behind a decorator of the standard library too, is refused, with what to do instead.

    Nothing of it is kept.
    """
    with pytest.raises(TypeError, match=why):
        connect(signal, plugin, hook)
    assert plugin.pending() == {}
    assert not signal.receivers
    assert not signal.has_receivers_for("x")
    assert not signal.has_receivers_for(blinker.ANY)


def runs(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator whose wrapper runs the coroutine: a legal hook."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> str:
        function(*args, **kwargs).close()
        return "ran"

    return wrapper


@pytest.mark.parametrize(
    "hook",
    [
        runs(coroutine), functools.lru_cache(runs(coroutine)), functools.lru_cache(plain),
        functools.singledispatch(plain), generic_of_threads, functools.partial(generic_of_threads),
    ],
    ids=str,
)  # fmt: skip
def test_what_runs_behind_a_decorator_is_taken(signal: ThreadSignal, hook: Any) -> None:
    """What some wrapper runs, or one implementation of a generic function, is a hook."""
    signal.connect(hook, weak=False)
    assert heard(signal, threading.current_thread()) == ["ran"]


@pytest.mark.parametrize(
    "hook", [Asynchronous, print, functools.partial(print), Sender, [].append, no_parameter, only_the_thread]
)
def test_a_signal_that_does_not_know_what_it_sends_takes_all(signal: ThreadSignal, hook: Any) -> None:
    """A signal of one's own takes any function, as blinker's do, and any class, even of asynchronous objects."""
    assert signal.connect(hook, weak=False) is hook


def test_per_thread_enters_context_managers() -> None:
    """A resource may be made by the function of a context manager, but not of an asynchronous one."""
    assert per_thread(manager)() is None
    with pytest.raises(TypeError, match="the function of a context manager"):
        per_thread(async_manager)  # type: ignore[arg-type]
