"""Calls of the whole public interface with arguments that nobody should pass, and hooks that misbehave in every way.

A call is accepted, or it raises `TypeError`, `ValueError` or `RuntimeError` and leaves no trace. What was accepted is
called once as the thread ends; each hook below says so in the log, or raises, which must be reported.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import MethodType
from typing import Any

import blinker
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import in_thread

import threadhooks
from threadhooks import Plugin, threadref

SIGNALS = threadhooks.thread_started, threadhooks.thread_exiting, threadhooks.thread_exited

SIGNAL_NAMES = [signal.name for signal in SIGNALS]

START = threading.Thread.start


class Hostile(Exception):
    """What the methods of hostile objects raise."""


def hostile(*args: Any, **kwargs: Any) -> Any:
    raise Hostile


# -- the arguments

LOG: list[Any] = []


def called(*args: Any, **kwargs: Any) -> None:
    LOG.append("called")


async def coroutine_function(*args: Any, **kwargs: Any) -> None:
    pass


async def asyncgen_function(*args: Any, **kwargs: Any) -> Any:
    yield


def coroutine() -> Any:
    made = coroutine_function()
    made.close()  # nobody will await it
    return made


class CalledClass:
    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        called()


def instance(*, of: Any = object, slots: Any = ("__weakref__", "__dict__"), **methods: Any) -> Any:
    """An object of a class that has just these methods."""
    return type("Odd", (of,), {"__slots__": slots, **methods})()


def with_attributes(obj: Any, **attributes: Any) -> Any:
    obj.__dict__.update(attributes)
    return obj


def call(self: Any, /, *args: Any, **kwargs: Any) -> None:
    called()


async def async_call(self: Any, /, *args: Any, **kwargs: Any) -> None:
    pass


HOOKS: dict[str, Callable[[], Any]] = {  # they log that they are called, or raise
    "function": lambda: called,
    "lambda": lambda: lambda *args, **kwargs: called(),
    "partial": lambda: functools.partial(called, 1),
    "class": lambda: CalledClass,
    "bound method": lambda: MethodType(call, object()),
    "builtin": lambda: LOG.append,
    "callable": lambda: instance(__call__=call),
    "no weak references": lambda: instance(__call__=call, slots=()),
    "unhashable": lambda: instance(__call__=call, __hash__=None),
    "never equal": lambda: instance(__call__=call, __eq__=lambda *_: False, __hash__=lambda self: 0),
    "hostile hash": lambda: instance(__call__=call, __hash__=hostile),
    "hostile eq": lambda: instance(__call__=call, __eq__=hostile, __hash__=hostile),
    "hostile repr": lambda: instance(__call__=call, __repr__=hostile),
    "hostile repr that raises": lambda: instance(__call__=hostile, __repr__=hostile),
    "hostile bool": lambda: instance(__call__=call, __bool__=hostile),
    "hostile attributes": lambda: instance(__call__=call, __getattr__=hostile),
    "hostile attributes that raises": lambda: instance(__call__=hostile, __getattr__=hostile, __repr__=hostile),
    "hostile call": lambda: instance(__call__=hostile),
    "hostile function": lambda: hostile,
    "strange name": lambda: with_attributes(instance(__call__=hostile), __qualname__=5, __module__=None),
    "hostile in all": lambda: instance(
        **dict.fromkeys(("__call__", "__eq__", "__hash__", "__repr__", "__str__", "__bool__", "__getattr__"), hostile)
    ),
}
ASYNC: dict[str, Callable[[], Any]] = {  # hooks that are refused
    "coroutine function": lambda: coroutine_function,
    "async generator function": lambda: asyncgen_function,
    "partial of a coroutine function": lambda: functools.partial(coroutine_function, 1),
    "partial of a partial of one": lambda: functools.partial(functools.partial(asyncgen_function), x=1),
    "async call": lambda: instance(__call__=async_call),
    "partial of async call": lambda: functools.partial(instance(__call__=async_call)),
    "async method": lambda: MethodType(coroutine_function, object()),
    "async call, hostile repr": lambda: instance(__call__=async_call, __repr__=hostile),
    "async call, hostile attributes": lambda: instance(__call__=async_call, __getattr__=hostile),
}
THINGS: dict[str, Callable[[], Any]] = {  # that are not called
    "None": lambda: None,
    "zero": lambda: 0,
    "True": lambda: True,
    "huge number": lambda: 10**50,
    "nan": lambda: float("nan"),
    "text": lambda: "text",
    "empty text": lambda: "",
    "long text": lambda: "x" * 100_000,
    "surrogate": lambda: "\ud800",
    "hostile text": lambda: instance(of=str, slots=(), __hash__=hostile, __eq__=hostile, __repr__=hostile),
    "bytes": lambda: b"bytes",
    "tuple": lambda: (1, 2),
    "list": list,
    "dict": dict,
    "object": object,
    "coroutine": coroutine,
    "module": lambda: asyncio,
    "event": threading.Event,
    "thread": threading.Thread,
    "this thread": threading.current_thread,
    "ANY": lambda: blinker.ANY,
    "property": lambda: property(hostile),
    "object, hostile repr": lambda: instance(__repr__=hostile),
    "object, hostile attributes": lambda: instance(__getattr__=hostile, __repr__=hostile),
    "object, hostile bool": lambda: instance(__bool__=hostile),
}
ODD = HOOKS | ASYNC | THINGS


# -- the calls


class Env:
    """What calls are made on, and what they have made."""

    def __init__(self) -> None:
        self.plugins: list[Plugin] = []
        self.open_plugin()
        self.closed = Plugin("closed")
        self.closed.close()
        self.refs: list[threadref.ref] = []
        self.kept: list[Any] = []  # receivers are held weakly
        self.opened: list[Any] = []

        self.resource = threadhooks.per_thread(self.open)

    def open_plugin(self) -> None:
        self.plugin = Plugin("fuzzed")
        self.plugins.append(self.plugin)

    def begin(self) -> None:
        """In the thread whose end is at stake."""
        self.finalizer = threadref.finalize(called)
        self.finalizers = [self.finalizer]
        self.ref = threadref.ref()

    def end(self) -> None:
        threadhooks.uninstall()
        for plugin in self.plugins:
            plugin.close()
        for signal in SIGNALS:
            for value in self.kept:
                if callable(value):
                    signal.disconnect(value)

    def open(self, /, *args: Any, **kwargs: Any) -> Iterator[None]:
        self.opened.append(None)
        yield
        self.opened.pop()

    def state(self) -> Any:
        """What can be seen from outside."""
        return (
            [(plugin.closed, self.waiting(plugin)) for plugin in self.plugins],
            [(list(signal.receivers), signal.is_muted) for signal in SIGNALS],
            [finalizer.alive for finalizer in self.finalizers],
            len(self.opened),
            threading.Thread.start is START,
            threading.enumerate(),
        )

    @staticmethod
    def waiting(plugin: Plugin) -> list[Any]:
        return [
            (id(func), list(map(id, args)), {key: id(value) for key, value in kwargs.items()})
            for entries in plugin.pending().values()
            for func, args, kwargs in entries
        ]


Target = Callable[..., Any]


def entered(make: Target) -> Target:
    """Enter the context manager that a call returns, and leave it."""

    def enter(*args: Any, **kwargs: Any) -> None:
        with make(*args, **kwargs):
            pass

    return enter


def kept(things: list[Any], make: Target) -> Target:
    return lambda *args, **kwargs: things.append(make(*args, **kwargs))


TARGETS: dict[str, Callable[[Env], Target]] = {
    "attach": lambda env: threadhooks.attach,
    "install": lambda env: threadhooks.install,
    "uninstall": lambda env: threadhooks.uninstall,
    "installed": lambda env: entered(threadhooks.installed),
    "announced": lambda env: entered(threadhooks.announced),
    "load_plugins": lambda env: lambda one, /, *args, **kwargs: threadhooks.load_plugins(one, *args, **kwargs),
    "Plugin": lambda env: kept(env.plugins, Plugin),
    "per_thread": lambda env: threadhooks.per_thread,
    "PerThread": lambda env: threadhooks.PerThread,
    "resource": lambda env: env.resource,
    "resource.close": lambda env: env.resource.close,
    "resource, new": lambda env: lambda *args, **kwargs: threadhooks.per_thread(env.open, **kwargs)(*args),
    "resource, strange": lambda env: lambda func, /, **kwargs: threadhooks.per_thread(func, **kwargs)(),
    "ref": lambda env: kept(env.refs, threadref.ref),
    "ref()": lambda env: env.ref,
    "finalize": lambda env: kept(env.finalizers, threadref.finalize),
    "finalizer()": lambda env: lambda one, two, /, *args, **kwargs: env.finalizer(one, two, *args, **kwargs),
    "finalizer.detach": lambda env: env.finalizer.detach,
    "finalizer.peek": lambda env: env.finalizer.peek,
    "finalizer.atexit": lambda env: lambda value, /: setattr(env.finalizer, "atexit", value),
    "thread_exited.connect_via": lambda env: (
        lambda hook, /, *args, **kwargs: threadhooks.thread_exited.connect_via(*args, **kwargs)(hook)
    ),
    "thread_exited.connected_to": lambda env: entered(threadhooks.thread_exited.connected_to),
    "thread_exited.muted": lambda env: entered(threadhooks.thread_exited.muted),
    "thread_exited.receivers_for": lambda env: (
        lambda *args, **kwargs: [*threadhooks.thread_exited.receivers_for(*args, **kwargs)]
    ),
}
for signal in SIGNALS:
    TARGETS[f"{signal.name}.connect"] = lambda env, signal=signal: signal.connect
for name in ("disconnect", "send", "has_receivers_for"):
    TARGETS[f"thread_exited.{name}"] = lambda env, name=name: getattr(threadhooks.thread_exited, name)
for name in ("register", "register_early", "unregister", "pending", "close", *SIGNAL_NAMES):
    TARGETS[f"plugin.{name}"] = lambda env, name=name: getattr(env.plugin, name)
    TARGETS[f"closed.{name}"] = lambda env, name=name: getattr(env.closed, name)

# What the methods of arguments raise comes through where they have to be called: to compare, to copy attributes, to
# open; and the truth or the hash of these:
USED_ARGUMENTS = {"hostile text", "hostile bool", "hostile in all", "object, hostile bool"}
USES_ARGUMENTS = {"Plugin", "per_thread", "PerThread", "finalizer.atexit", "plugin.unregister", "closed.unregister"}
USES_ARGUMENTS |= {"resource", "resource.close", "resource, new", "resource, strange"}
TAKES_ANYTHING = {"ref", "finalize"}  # as PyPI's threadref does: what can't be called fails as the thread ends

Call = tuple[str, list[str], dict[str, str]]  # the target, and the names of the arguments


def must_be_refused(target: str, args: list[str], kwargs: dict[str, str]) -> bool:
    """Whether the documentation says so, for a call that is all right but for its first argument."""
    owner, _, method = target.rpartition(".")
    first = args[0] if args else kwargs.get("name", kwargs.get("receiver"))
    if method == "Plugin":
        return first not in ("text", "long text", "surrogate", "hostile text")
    registers = method in ("register", "register_early", "connect", "connect_via", "connected_to", *SIGNAL_NAMES)
    return registers and (owner == "closed" or first not in HOOKS)


def play(calls: list[Call], *, announced: bool) -> None:
    """Make the calls in a thread; see that each is accepted or refused as it should be, and count what its end runs."""
    LOG.clear()
    reports: list[threading.ExceptHookArgs] = []
    errors: list[BaseException] = []
    expected = 0
    env = Env()

    def body() -> None:
        nonlocal expected
        here = threading.current_thread()
        env.begin()
        for target, args, kwargs in calls:
            positional = [ODD[name]() for name in args]
            named = {key: ODD[name]() for key, name in kwargs.items()}
            env.kept += positional + list(named.values())
            before = env.state()
            try:
                TARGETS[target](env)(*positional, **named)
            except (TypeError, ValueError, RuntimeError, Hostile) as error:
                refusal = error
            else:
                assert not must_be_refused(target, args, kwargs), (target, args, kwargs)
                if env.plugin.closed:
                    env.open_plugin()
                continue
            assert env.state() == before, (target, args, kwargs)
            if isinstance(refusal, Hostile):
                used = USED_ARGUMENTS & {*args, *kwargs.values()}
                assert target in USES_ARGUMENTS or used, (target, args, kwargs)
        reports.clear()
        LOG.clear()
        expected = sum(len(env.waiting(plugin)) for plugin in env.plugins)
        expected += sum(finalizer.alive for finalizer in env.finalizers)
        expected += sum(ref.__callback__ is not None for ref in env.refs)
        expected += len(list(threadhooks.thread_exited.receivers_for(here)))
        if announced:
            expected += len(list(threadhooks.thread_exiting.receivers_for(here)))

    def run() -> None:
        try:
            with threadhooks.announced() if announced else ExitStack():
                body()
        except BaseException as error:
            errors.append(error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "excepthook", reports.append)
        thread = in_thread(run)
        env.end()
    if errors:
        raise errors[0]
    assert len(LOG) + len(reports) == expected
    if not any(target in TAKES_ANYTHING or "builtin" in (*args, *kwargs.values()) for target, args, kwargs in calls):
        assert all(report.exc_type is Hostile for report in reports)
    assert all(report.thread is thread for report in reports)
    assert not env.opened
    assert not any(signal.receivers for signal in SIGNALS)


NAMES = {  # of arguments; every other call has no business with names
    "connect": ["receiver", "sender", "weak"],
    "connect_via": ["sender", "weak"],
    "connected_to": ["receiver", "sender"],
    "disconnect": ["receiver", "sender"],
    "has_receivers_for": ["sender"],
    "receivers_for": ["sender"],
    "close": ["run"],
    "Plugin": ["name"],
    "per_thread": ["func", "early"],
    "PerThread": ["func", "early"],
    "resource, new": ["early"],
    "resource, strange": ["early"],
    "ref": ["callback"],
}


def names_for(target: str) -> list[str]:
    return ["self", "wrong", *NAMES.get(target.rpartition(".")[2], [])]


def is_promised(call: Call) -> bool:
    """Whether coroutine functions are refused by the target, or there are none."""
    target, args, kwargs = call
    return target not in TAKES_ANYTHING or not ASYNC.keys() & {*args, *kwargs.values()}


@pytest.mark.parametrize("target", TARGETS)
def test_each_argument(target: str) -> None:
    """Whatever is passed in the place of any argument, alone or with what is right, it is accepted or refused."""
    for some in HOOKS, ASYNC, THINGS:
        calls: list[Call] = []
        for odd in some:
            for args in [odd], ["function", odd], [odd, "this thread"], ["text", odd], [odd] * 5:
                calls.append((target, args, {}))
            for name in names_for(target):
                calls += [(target, [], {name: odd}), (target, ["function"], {name: odd})]
        play([call for call in calls if is_promised(call)], announced=False)


_odd = st.sampled_from(list(ODD)) | st.sampled_from(list(HOOKS))


def _calls_of(target: str) -> st.SearchStrategy[Call]:
    names = st.sampled_from(names_for(target))
    return st.tuples(st.just(target), st.lists(_odd, max_size=3), st.dictionaries(names, _odd, max_size=2))


# The comparison fails when an equal has been found.
FAILS_HALF_WAY = ("register", "hostile eq"), ("register", "function"), ("unregister", "function")

_calls = st.lists(st.sampled_from(list(TARGETS)).flatmap(_calls_of).filter(is_promised), min_size=1, max_size=15)


@settings(max_examples=100, deadline=None, print_blob=True)
@given(_calls, st.booleans())
@example([(f"plugin.{name}", [hook], {}) for name, hook in FAILS_HALF_WAY], True)
def test_many_calls(calls: list[Call], announced: bool) -> None:
    """Any calls, one after the other: what was accepted is run at the end, whatever else was refused."""
    play(calls, announced=announced)


# -- hooks that misbehave as they run

RAISING = [
    name for name in HOOKS if "that raises" in name or name.startswith(("hostile call", "hostile in", "strange"))
]

WAYS: dict[str, Callable[[Plugin, Any], object]] = {
    "finalize": lambda plugin, hook: threadref.finalize(hook),
    "ref": lambda plugin, hook: threadref.ref(hook),
    "register": Plugin.register,
    "register_early": Plugin.register_early,
    "thread_exiting": Plugin.thread_exiting,
    "thread_exited": Plugin.thread_exited,
    "connect": lambda plugin, hook: threadhooks.thread_exited.connect(
        hook, sender=threading.current_thread(), weak=False
    ),
    "send": lambda plugin, hook: threadhooks.thread_exited.connect(hook, weak=False),
    "close": lambda plugin, hook: (plugin.register(hook), plugin.close(run=True)),
}


def end_with(way: str, hook: Any) -> threading.Thread:
    """Run a thread to its end, with a hook between two others, and see that these are called."""
    called: list[str] = []
    kept: list[object] = []

    def run() -> None:
        with threadhooks.announced():
            threadref.finalize(called.append, "first")
            kept.append(WAYS[way](plugin, hook))
            threadref.finalize(called.append, "last")

    with Plugin("hostile") as plugin:
        thread = in_thread(run)
    threadhooks.thread_exited.disconnect(hook)
    assert called == ["last", "first"]
    return thread


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", RAISING)
def test_hostile_hooks_are_reported(way: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook that raises is reported, though one can neither print it nor look at its attributes."""
    reports: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", reports.append)
    thread = end_with(way, HOOKS[name]())
    assert [(report.exc_type, report.thread) for report in reports] == [(Hostile, thread)]
    (note,) = reports[0].exc_value.__notes__  # type: ignore[union-attr]
    assert ("of plugin 'hostile'" in note) == hasattr(Plugin, way)


def its_own_cause() -> Exception:
    error = ValueError()
    error.__cause__ = error.__context__ = error
    return error


ERRORS: dict[str, Callable[[], BaseException]] = {
    "BaseException": BaseException,
    "hostile text": lambda: instance(of=Exception, slots=(), __str__=hostile, __repr__=hostile),
    "hostile notes": lambda: instance(of=Exception, slots=(), __notes__=property(hostile), add_note=hostile),
    "notes of a wrong type": lambda: instance(of=Exception, slots=(), __notes__=5),
    "hostile to notes": lambda: instance(of=Exception, slots=(), __setattr__=hostile, add_note=hostile),
    "hostile attributes": lambda: instance(of=Exception, slots=(), __getattr__=hostile),
    "hostile eq": lambda: instance(of=Exception, slots=(), __eq__=hostile, __hash__=hostile, __bool__=hostile),
    "its own cause": its_own_cause,
}


@pytest.mark.parametrize("name", ERRORS)
def test_hostile_errors_are_reported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a hook raises is reported, though one can neither print it nor put a note on it."""
    error = ERRORS[name]()
    reports: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", reports.append)

    def fail() -> None:
        raise error

    thread = end_with("finalize", fail)
    assert [report.exc_value is error and report.thread is thread for report in reports] == [True]


@pytest.mark.parametrize("name", ERRORS)
def test_hostile_errors_are_printed(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By default they are printed; or it is, that they can't be."""
    error = ERRORS[name]()
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)

    def fail() -> None:
        raise error

    end_with("finalize", fail)
    printed = capsys.readouterr().err
    assert "raise error" in printed or "Exception in threading.excepthook" in printed
