"""Threads, hooks and exceptions whose classes lie, or fail when they are asked; and tables that others have changed."""

from __future__ import annotations

import gc
import importlib.metadata
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import MethodType
from typing import Any

import pytest
from support import in_thread, run

import threadhooks
from threadhooks import Plugin, _attached, _over, _sentinel, _stack
from threadhooks.threadref import finalize


class Hostile(Exception):
    """What they raise."""


def hostile(*_: Any) -> Any:
    raise Hostile


def cut_short(register: Callable[[], object], cls: Callable[..., threading.Thread] = threading.Thread) -> None:
    """A thread whose exit is interrupted until it is given up."""
    with pytest.MonkeyPatch.context() as patch:

        def body() -> None:
            register()
            stack, unwind = _sentinel.current().late, _stack.Stack.unwind
            patch.setattr(
                _stack.Stack, "unwind", lambda self, failed: (hostile if self is stack else unwind)(self, failed)
            )

        run(cls(target=body))


@pytest.mark.parametrize("lie", [threading._DummyThread, threading._MainThread, None])  # type: ignore[attr-defined]
def test_a_thread_that_lies_of_its_class(lie: type[threading.Thread] | None, failures: list[Any]) -> None:
    """Its hooks run, it is listed while it lives, and nothing of it stays."""

    class Liar(threading.Thread):
        @property
        def __class__(self) -> Any:
            return lie or hostile()

    ran: list[object] = []

    def body() -> None:
        finalize(ran.append, "hook")
        ran.append(len(threadhooks.threads()))

    before = len(threadhooks.threads())
    run(Liar(target=body))
    assert ran == [before + 1, "hook"]
    assert len(threadhooks.threads()) == before
    assert failures == []


def test_what_is_lost_is_told_by_name_even_if_it_has_none(failures: list[Any]) -> None:
    """A hook and a thread whose `repr` raises are named in the report of an exit that was cut short."""
    hook = type("Hook", (), {"__call__": print, "__repr__": hostile})()
    cls = type("Nameless", (threading.Thread,), {"__repr__": hostile})
    cut_short(lambda: finalize(hook), cls)
    assert "Nameless object" in str(failures[-1][0])
    assert "Hook object" in str(failures[-1][0])
    assert not [attachment for attachment in _attached.attached() if type(attachment.thread) is cls]


def test_who_is_told_of_a_loss_may_ask_for_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss is reported once, even if `threading.excepthook` asks for the attached threads."""
    told: list[object] = []

    def tell(args: threading.ExceptHookArgs) -> None:
        told.append(args.exc_value)
        threadhooks.threads()

    def forget_the_sentinels() -> None:
        finalize(print)
        own = _sentinel._local.__dict__
        own["sentinel"].attachment = own["second"].attachment = None

    monkeypatch.setattr(threading, "excepthook", tell)
    in_thread(forget_the_sentinels)
    threadhooks.threads()
    (lost,) = told
    assert "was cut short; not run: [<built-in function print>]" in str(lost)


def test_a_thread_that_somebody_has_replaced_in_the_table(failures: list[Any]) -> None:
    """A debugger may put another object into `threading._active`: no hook is lost."""
    ran: list[int] = []

    def body() -> None:
        finalize(ran.append, 1)
        threading._active[threading.get_ident()] = threading.Thread()  # type: ignore[attr-defined]
        plugin.unregister(print)  # which looks for the thread
        finalize(ran.append, 2)

    with Plugin("any") as plugin:
        in_thread(body)
    assert ran == [2, 1]
    assert failures == []


def test_a_finaliser_that_registers_before_the_thread_is_known(failures: list[Any]) -> None:
    """A collection may run before `threading` has put the new thread into its table: no hook is lost."""
    ran: list[str] = []

    class Early(threading.Thread):
        def _bootstrap_inner(self) -> None:
            finalize(ran.append, "early")
            super()._bootstrap_inner()  # type: ignore[misc]

    def body() -> None:
        plugin.unregister(print)
        finalize(ran.append, "late")

    before = set(threading.enumerate())  # with dummies that other tests have left, maybe
    with Plugin("any") as plugin:
        run(Early(target=body))
    assert ran == ["late", "early"]
    assert failures == []
    assert set(threading.enumerate()) <= before


def test_a_thread_that_was_stopped_from_leaving_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception from outside may come as `threading` deletes the thread from its table: its hooks run."""
    monkeypatch.setattr(sys, "unraisablehook", lambda args: None)
    ran: list[int] = []
    thread = type("Stays", (threading.Thread,), {"_delete": hostile})(target=lambda: finalize(ran.append, 1))
    run(thread)
    assert ran == [1]
    assert thread not in threading.enumerate()


@pytest.mark.parametrize("name", ["__traceback__", "__cause__", "__context__"])
def test_a_crash_that_can_not_be_looked_at(name: str, failures: list[Any]) -> None:
    """An exception whose class overrides what is asked of it costs no hook; one that a hook raises is reported."""
    ran: list[int] = []
    error = type("Crash", (Exception,), {name: property(hostile)})

    def crash() -> None:
        raise error

    def body() -> None:
        finalize(ran.append, 1)
        finalize(crash)
        _sentinel.current().end_of_run(error())

    in_thread(body)
    assert ran == [1]
    assert [type(each) for each, _ in failures] == [error]


def test_a_hook_that_says_that_it_is_a_method() -> None:
    """It is told apart by its type: it can be registered, and taken back."""
    hook = type("Hook", (), {"__class__": property(lambda self: MethodType), "__call__": hostile})()
    with Plugin("any") as plugin:
        plugin.register(hook)
        plugin.unregister(hook)
        assert plugin.pending() == {}


def test_who_waits_for_a_thread_that_hides_its_attributes(failures: list[Any]) -> None:
    """They are told of its end."""
    told: list[object] = []

    class Hidden(threading.Thread):
        def __getattribute__(self, name: str) -> Any:
            return hostile() if name == "__dict__" else super().__getattribute__(name)

    thread = Hidden(target=threadhooks.attach)
    _over.tell_me("key", told.append, thread)
    run(thread)
    assert len(told) == 1
    assert _over.of_one == {}
    assert failures == []


def test_a_thread_that_ends_while_the_threads_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left out."""
    found: list[Any] = []
    in_thread(lambda: found.append(_sentinel.current()))
    monkeypatch.setattr(_attached, "attached", lambda: found)
    assert threadhooks.threads() == []


def test_a_thread_that_comes_to_its_end_in_two_threads(failures: list[Any]) -> None:
    """Two threads may find one whose exit was cut short: neither fails."""
    found: list[Any] = []

    def body() -> None:
        found.append(_sentinel.current())
        own = _sentinel._local.__dict__
        own["sentinel"].attachment = own["second"].attachment = None

    in_thread(body)
    for _ in range(2):
        _attached.lose(found[0], "was cut short")
    assert found[0] not in _attached.by_key.values()


def test_collections_while_tables_are_read() -> None:
    """Up to 3.11 a collection may run as a list of pairs is made: a finaliser that registers then disturbs nobody."""
    left = 300

    def register(phase: str, info: object) -> None:
        nonlocal left
        if left:
            left -= 1
            with suppress(RuntimeError):  # it is closed
                plugin.register(int)

    def body() -> None:
        for _ in range(5000):  # more tuples than are kept for use again
            plugin.register(int)
        gc.callbacks.append(register)
        old = gc.get_threshold()
        gc.set_threshold(100)
        try:
            plugin.pending()
            plugin.close()
        finally:
            gc.callbacks.remove(register)
            gc.set_threshold(*old)
        done.append(1)

    done: list[int] = []
    with Plugin("any") as plugin:
        in_thread(body)
    assert done == [1]


def test_a_distribution_that_does_not_know_where_it_is(monkeypatch: pytest.MonkeyPatch, failures: list[Any]) -> None:
    """It is reported, and stops no other plugin."""
    lost: Any = type("Lost", (), {"__getattr__": hostile})()
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: iter([lost]))
    assert threadhooks.load_plugins() == []
    assert [type(error) for error, _ in failures] == [Hostile]


def test_a_thread_of_which_nothing_was_asked_changes_no_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the free-threaded build that would stop all threads, at each look-up; as a program ends, it may hang so."""
    assigned: list[str] = []

    def assign(self: object, name: str, value: object) -> None:
        assigned.append(name)
        object.__setattr__(self, name, value)

    monkeypatch.setattr(_sentinel.Attachment, "__setattr__", assign, raising=False)
    with Plugin("any") as plugin:
        in_thread(lambda: finalize(plugin.unregister, print))
    assert assigned  # while it was made
    assert "__class__" not in assigned
