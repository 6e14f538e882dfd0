"""What docs/guarantees.md says of receivers and connections, each promise and each limit by its number."""

from __future__ import annotations

import contextlib
import functools
import gc
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from signalling import Receiver, Worker
from support import in_thread, run

import threadhooks
from threadhooks import Plugin, per_thread, thread_exited


def test_g05_receivers_follow_in_the_order_of_connection(plugin: Plugin) -> None:
    """When `thread_exited` is emitted, the cleanups have run; receivers are called in the order of connection."""
    order: list[object] = []
    thread = threading.Thread(target=plugin.register, args=(order.append, "cleanup"))
    receivers = [lambda _, number=number, **extra: order.append(number) for number in range(5)]
    for number, receiver in enumerate(receivers):
        thread_exited.connect(receiver, sender=thread if number % 2 else thread_exited.ANY)
    run(thread)
    assert order == ["cleanup", 0, 1, 2, 3, 4]


def test_g12_muting_loses_no_cleanup(plugin: Plugin, heard: list[Any]) -> None:
    """`muted()` silences receivers, not cleanups."""
    ran: list[str] = []
    with thread_exited.muted():
        in_thread(lambda: plugin.register(ran.append, "cleanup"))
    assert (ran, heard) == (["cleanup"], [])


def test_g13_one_thread_alone() -> None:
    """A receiver of one thread is called for it alone, and released when that has exited, or its object is garbage."""
    thread = threading.Thread(target=threadhooks.attach)
    receiver = Receiver("told")
    heard, gone = receiver.heard, weakref.ref(receiver)
    thread_exited.connect(receiver, sender=thread, weak=False)
    del receiver
    in_thread(threadhooks.attach)
    assert heard == []
    run(thread)
    assert heard == ["told"]
    gc.collect()
    assert gone() is None
    assert not thread_exited.receivers
    thread_exited.connect(Receiver(), sender=thread, weak=False)  # too late
    assert not thread_exited.receivers
    worker = Worker()
    thread_exited.connect(worker.told, sender=worker.thread, weak=False)
    run(worker.thread)  # and it is never attached
    alive = weakref.ref(worker)
    del worker
    gc.collect()
    assert alive() is None
    assert not thread_exited.receivers


def test_g14_what_could_never_run_is_refused(plugin: Plugin) -> None:
    """What can't be called, or not so, or runs nothing when it is, is refused at once, with what to do instead."""

    async def coroutine(*args: Any) -> None:
        pass

    for refuse in (thread_exited.connect, plugin.thread_exited, plugin.register, plugin.register_early, per_thread):
        with pytest.raises(TypeError, match=r"pass a plain function, which may call asyncio\.run"):
            refuse(coroutine)
        with pytest.raises(TypeError, match="must be callable"):
            refuse("text")  # type: ignore[arg-type]

    def generator(*args: Any) -> Iterator[None]:
        yield

    for refuse in (thread_exited.connect, plugin.thread_exited, plugin.register, plugin.register_early):
        for prepares in (generator, functools.lru_cache(generator), functools.singledispatch(generator)):
            with pytest.raises(TypeError, match="a generator function"):
                refuse(prepares)
        with pytest.raises(TypeError, match="a context manager"):
            refuse(contextlib.contextmanager(generator))

    def takes_nothing() -> None:
        pass

    for refuse in (thread_exited.connect, plugin.thread_started, plugin.thread_exiting, plugin.thread_exited):
        with pytest.raises(TypeError, match=r"let it take \(thread, \*\*extra\)"):
            refuse(takes_nothing)  # type: ignore[operator]


def test_g15_any_mixture_of_threads() -> None:
    """Connect, disconnect and send in many threads at once: no error, no receiver lost, none left behind."""
    heard: list[object] = []
    stays = lambda sender, **extra: heard.append(sender)  # noqa: E731
    thread_exited.connect(stays)
    here = threading.Barrier(4)

    def body(number: int) -> int:
        here.wait()
        for _ in range(300):
            receiver = lambda sender, **extra: None  # noqa: E731
            thread_exited.connect(receiver, sender=number)
            thread_exited.connect(lambda sender, **extra: None)  # dies at once
            assert stays in [called for called, _ in thread_exited.send(number)]
            thread_exited.disconnect(receiver, sender=number)
        return number

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(body, range(4))) == [0, 1, 2, 3]
    assert len(heard) == 1200
    thread_exited.disconnect(stays)
    assert not thread_exited.receivers


def test_l21_what_is_muted_is_not_made_up_for(heard: list[Any]) -> None:
    """An exit that was muted is not announced later."""
    with thread_exited.muted():
        in_thread(threadhooks.attach)
    later = in_thread(threadhooks.attach)
    assert heard == [later]


def test_l22_connected_during_a_send() -> None:
    """A receiver that is connected during a send misses it; one that is disconnected meanwhile may still be called."""
    heard: list[str] = []
    newcomer, leaver = (lambda thread, name=name, **extra: heard.append(name) for name in ("newcomer", "leaver"))

    def changes(thread: threading.Thread, **extra: Any) -> None:
        thread_exited.connect(newcomer)
        thread_exited.disconnect(leaver)

    thread_exited.connect(changes)
    thread_exited.connect(leaver)
    in_thread(threadhooks.attach)
    assert heard == ["leaver"]
    in_thread(threadhooks.attach)
    assert heard == ["leaver", "newcomer"]


def test_l23_receivers_are_held_weakly() -> None:
    """A receiver that only the signal knows is gone at once, unless it is connected with ``weak=False``."""
    heard: list[str] = []
    thread_exited.connect(lambda thread, **extra: heard.append("weak"))
    strong = thread_exited.connect(lambda thread, **extra: heard.append("strong"), weak=False)
    in_thread(threadhooks.attach)
    thread_exited.disconnect(strong)
    assert heard == ["strong"]


def test_l31_connected_to_a_thread_that_is_gone() -> None:
    """Between the end of `run()` and its late hooks, a thread is not listed, and nothing can be connected to it."""
    heard: list[str] = []

    class Destroyed:
        def __del__(self) -> None:
            thread_exited.connect(lambda thread, **extra: heard.append("too late"), sender=thread, weak=False)
            heard.append(f"listed: {thread in threading.enumerate()}")

    def body() -> None:
        local.destroyed = Destroyed()
        threadhooks.attach()

    local = threading.local()
    thread = threading.Thread(target=body)
    run(thread)
    assert heard == ["listed: False"]
    assert not thread_exited.receivers


def test_l32_what_a_signature_does_not_tell(failures: list[Any]) -> None:
    """A wrapper that takes anything is accepted; that what it wraps can't take the call is reported when it is made."""

    def takes_nothing() -> None:
        pass

    @functools.wraps(takes_nothing)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        takes_nothing(*args, **kwargs)

    with thread_exited.connected_to(wrapper):
        thread = in_thread(threadhooks.attach)
    ((error, told),) = failures
    assert isinstance(error, TypeError)
    assert told is thread


def test_l33_receivers_of_a_thread_that_is_not_announced() -> None:
    """They are kept in the thread object, as long as that is kept, and by nobody else."""
    thread = threading.Thread(target=int)
    receiver = Receiver()
    thread_exited.connect(receiver, sender=thread, weak=False)
    gone = weakref.ref(receiver)
    heard = receiver.heard
    del receiver
    run(thread)
    assert len(thread_exited.receivers) == 1
    assert [name for name in vars(thread) if name.startswith("_threadhooks")]
    del thread
    gc.collect()
    assert gone() is None
    assert not thread_exited.receivers
    assert heard == []
