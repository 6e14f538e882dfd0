"""Something else happens before each line of ours in turn: a registration, a close, an exception from outside."""

from __future__ import annotations

import functools
import gc
import itertools
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from at_line import AtLine
from support import LONG, in_thread, throw_into

import threadhooks
from threadhooks import Plugin, thread_exited
from threadhooks.threadref import finalize, ref

METHODS = pytest.mark.parametrize(
    "method", ["register", "register_early", "thread_started", "thread_exiting", "thread_exited"]
)


# Registering and closing


@pytest.mark.parametrize("method", ["register", "register_early"])
def test_a_registration_in_the_middle_of_another(plugin: Plugin, method: str) -> None:
    """A finaliser that registers at any line of a registration of the same thread spoils neither."""
    ran: list[tuple[int, str]] = []
    register = getattr(plugin, method)

    for number in itertools.count():
        line = AtLine(number, lambda: register(ran.append, (number, "interrupting")))
        in_thread(lambda: line.run(lambda: register(ran.append, (number, "interrupted"))))
        if not line.reached:
            break
        assert sorted(ran) == [(number, "interrupted"), (number, "interrupting")]
        ran.clear()
    assert ran == [(number, "interrupted")]
    assert number > 3


def test_a_finaliser_attaches_while_its_thread_is_being_attached(exits: list[Any]) -> None:
    """A finaliser that runs at any line of `attach()`, and attaches as well, gets the same record."""
    for number in itertools.count():
        infos: list[Any] = []
        line = AtLine(number, lambda infos=infos: infos.append(threadhooks.attach()))  # type: ignore[misc]
        thread = in_thread(lambda: line.run(lambda: infos.append(threadhooks.attach())))
        if not line.reached:
            break
        assert len(infos) == 2
        assert infos[0] == infos[1]
        assert exits == [(thread, infos[0], None)]
        exits.clear()
    assert number > 3


@METHODS
def test_registering_while_it_is_being_closed(method: str) -> None:
    """A registration during which another thread closes, at any line, never runs, and is not kept."""
    kept, alive, pending, refused = [], [], {}, set()
    for number in itertools.count():
        plugin = Plugin(f"at line {number}")
        ran: list[str] = []

        def hook(*_: Any, ran: list[str] = ran, **__: Any) -> None:
            ran.append("ran")

        def body(line: AtLine, hook: Callable[..., None] = hook, plugin: Plugin = plugin) -> None:
            try:
                line.run(lambda: getattr(plugin, method)(hook))
            except RuntimeError as error:
                refused.add(str(error).replace(plugin.name, "…"))
            if line.reached:
                pending.update(plugin.pending())

        line = AtLine(number, lambda plugin=plugin: in_thread(plugin.close))  # type: ignore[misc]
        in_thread(functools.partial(body, line))
        with threadhooks.installed():
            in_thread(lambda: None)
        if not line.reached:
            break
        assert ran == []
        assert pending == {}
        kept.append(plugin)
        alive.append(weakref.ref(hook))
    plugin.close()
    del hook, body, line
    gc.collect()
    assert [number for number, hook in enumerate(alive) if hook() is not None] == []
    assert refused == {"plugin '…' is closed"}


def wait_for_close(plugin: Plugin, closed: Callable[[float], object]) -> None:
    """Wait until `close` was called, and long enough for it to return if it has nothing to wait for."""
    while not plugin.closed:
        time.sleep(0)
    closed(0.05)


@METHODS
def test_close_at_any_line_of_a_thread(method: str) -> None:
    """Closed at any line of ours that a thread executes from its start to its exit, a hook has run before, or never."""

    def hook(*_: Any, **__: Any) -> None:
        ran.append(closed.is_set())

    def body() -> None:
        if method.startswith("register"):
            with suppress(RuntimeError):  # it is closed
                getattr(plugin, method)(hook)

    def close() -> None:
        assert interrupted.wait(LONG)
        plugin.close()
        closed.set()

    def interrupt() -> None:  # perhaps after the thread has left `threading.enumerate()`: it must not ask who it is
        interrupted.set()
        wait_for_close(plugin, closed.wait)

    outcomes: set[tuple[bool, ...]] = set()
    number = 0
    while True:
        plugin, interrupted, closed = Plugin(f"at line {number}"), threading.Event(), threading.Event()
        closer = threading.Thread(target=close)
        closer.start()
        ran: list[bool] = []
        if not method.startswith("register"):
            getattr(plugin, method)(hook)
        line = AtLine(number, interrupt)
        thread = threading.Thread(target=body)
        with threadhooks.installed():
            line.start(thread)
        thread.join(LONG)
        interrupted.set()
        closer.join(LONG)
        assert closed.is_set()
        if line.reached:
            outcomes.add(tuple(ran))
            number += 1
        elif line.lines:  # free-threaded 3.13 traces nothing of a thread, now and then
            break
    assert outcomes == {(), (False,)}


# Exits


def test_an_asynchronous_exception_anywhere_costs_one_hook_at_most(
    reports: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thrown at any line of ours while hooks are being run, it loses one hook at most; the others run once, in order.

    Nor does anything stay behind, or else the next thread with the same ident would register in vain.
    """
    monkeypatch.setattr(sys, "unraisablehook", reports.append)  # where what is thrown into a `__del__` goes
    hooks = [4, 3, 2, 1, 0, -1]
    active = dict(threading._active)  # type: ignore[attr-defined]
    ended: list[weakref.ref[threading.Thread]] = []

    def trial(number: int) -> bool:
        """Throw before line `number`; false if the exit was over before."""
        log: list[int] = []
        kept: list[Any] = []
        line = AtLine(number, lambda: throw_into(threading.get_ident()))

        def begin() -> None:
            sys.settrace(line)
            frame = sys._getframe().f_back
            while frame is not None:
                frame.f_trace = line
                frame = frame.f_back

        def body() -> None:
            finalize(log.append, 0)
            kept.append(ref(lambda _: log.append(1)))
            kept.append(ref(lambda _: log.append(2)))
            finalize(log.append, 3)
            finalize(log.append, 4)
            finalize(begin)

        def receiver(thread: threading.Thread, **extra: object) -> None:
            log.append(-1)

        with thread_exited.connected_to(receiver):
            ended.append(weakref.ref(in_thread(body)))
        assert log == [hook for hook in hooks if hook in log], (number, log)
        assert len(log) >= len(hooks) - 1, (number, log)
        assert threading._active == active, number  # type: ignore[attr-defined]
        del log[:]
        in_thread(lambda: finalize(log.append, 1))
        assert log == [1], number
        return line.reached

    for number in itertools.count():
        if not trial(number):
            break
    assert number > 20
    reports.clear()  # which refer to the threads
    gc.collect()
    assert {thread() for thread in ended} == {None}
