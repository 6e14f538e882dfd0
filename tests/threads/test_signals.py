"""The signals: blinker's interface, who is called in which order, and what an exit tells and forgets."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import types
import weakref
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import blinker
import pytest
from signalling import Receiver, Sender, Worker, heard
from support import forks, in_thread, run

import threadhooks
from threadhooks import ThreadInfo, ThreadSignal, thread_exited, thread_exiting, thread_started

pytestmark = pytest.mark.usefixtures("disconnected")


# What blinker documents.


@pytest.mark.parametrize("name", ["thread_started", "thread_exiting", "thread_exited"])
def test_the_signals_are_blinkers(name: str) -> None:
    """Each of the three is a documented `blinker.Signal` with its name in its repr."""
    signal = getattr(threadhooks, name)
    assert isinstance(signal, blinker.Signal)
    assert signal.ANY is blinker.ANY
    assert signal.name == name
    assert repr(signal) == f"<threadhooks.{name}>"
    assert signal.__doc__ != ThreadSignal.__doc__
    assert not signal.receivers


def test_connect_decorates(signal: ThreadSignal) -> None:
    """`connect` returns the receiver, and `send` the receivers with what they returned; it takes any keyword."""

    @signal.connect
    def receiver(sender: object, **extra: object) -> tuple[object, object]:
        return sender, extra

    assert isinstance(receiver, types.FunctionType)
    assert signal.send("sender", key=1) == [(receiver, ("sender", {"key": 1}))]
    assert signal.send() == [(receiver, (None, {}))]
    signal.disconnect(receiver)
    mock = signal.connect(Mock())
    signal.send(1, self=2, sender=3)
    mock.assert_called_once_with(1, self=2, sender=3)


def test_connected_to(signal: ThreadSignal) -> None:
    """`connected_to` connects for the length of a block, though that raises; `connect_via` returns the receiver."""
    with pytest.raises(ZeroDivisionError), signal.connected_to(Receiver(1)):
        1 / 0
    assert not signal.receivers
    receiver = Receiver()
    assert signal.connect_via("sender")(receiver) is receiver


def test_receivers_for(signal: ThreadSignal) -> None:
    """For `ANY`, `receivers_for` yields what hears every sender, and `has_receivers_for` tells whether any does."""
    sender, receivers = Sender(), [Receiver() for _ in range(3)]
    signal.connect(receivers[1], sender=sender)
    assert signal.has_receivers_for(sender)
    assert not signal.has_receivers_for(blinker.ANY)
    for receiver in receivers[::2]:
        signal.connect(receiver)
    assert signal.has_receivers_for(blinker.ANY)
    assert list(signal.receivers_for(blinker.ANY)) == list(signal.receivers_for(None)) == receivers[::2]
    calls = signal.receivers_for(None)
    assert next(calls).heard == []


def test_receiver_connected(signal: ThreadSignal) -> None:
    """`receiver_connected` and `receiver_disconnected` tell of every call, with its arguments."""
    told: list[Any] = []

    def tell(of: object, **arguments: object) -> None:
        assert of is signal
        told.append(arguments)

    signal.receiver_connected.connect(tell)
    signal.receiver_disconnected.connect(tell)
    receiver = Receiver()
    signal.connect(receiver)
    signal.connect(receiver, sender="x", weak=False)
    signal.disconnect(receiver, sender="x")
    signal.disconnect(receiver)
    assert told == [
        {"receiver": receiver, "sender": blinker.ANY, "weak": True},
        {"receiver": receiver, "sender": "x", "weak": False},
        {"receiver": receiver, "sender": "x"},
        {"receiver": receiver, "sender": blinker.ANY},
    ]


def test_receivers_are_given_by_blinkers_keys(signal: ThreadSignal) -> None:
    """`receivers` has each receiver once, under the key that blinker has for it; weakly, if it is held so."""
    strong, weak, bound = Receiver(), Receiver(), Receiver()
    theirs = blinker.Signal()
    for each in (signal, theirs):
        each.connect(strong, weak=False)
        each.connect(strong, sender=threading.main_thread(), weak=False)
        each.connect(weak, sender=threading.main_thread())
        each.connect(bound.method)
    found = signal.receivers
    assert found.keys() == theirs.receivers.keys()
    assert found[id(strong)] is strong
    assert found[id(weak)]() is weak
    assert [value() for value in found.values() if isinstance(value, weakref.ref)] == [bound.method, weak]


def test_send_async(signal: ThreadSignal) -> None:
    """`send_async` awaits plain receivers through blinker's `_sync_wrapper`, and is muted as `send` is."""
    receiver = signal.connect(Receiver(1))

    def wrap(func: Callable[..., Any]) -> Callable[..., Any]:
        async def wrapped(*args: Any, **kwargs: Any) -> Any:
            return func(*args, **kwargs)

        return wrapped

    async def main() -> None:
        assert await signal.send_async("x", _sync_wrapper=wrap) == [(receiver, 1)]
        with signal.muted():
            assert await signal.send_async("x", _sync_wrapper=wrap) == []

    asyncio.run(main())
    assert receiver.heard == [1]


def test_clear_state(signal: ThreadSignal, no_collection: None) -> None:
    """blinker's `_clear_state`, for tests, disconnects everything."""
    sender, receiver = Sender(), Receiver()
    alive = weakref.ref(receiver)
    signal.connect(receiver, weak=False)
    signal.connect(receiver, sender=sender, weak=False)
    del receiver
    signal._clear_state()
    assert not signal.receivers
    assert alive() is None


# Senders.


@pytest.mark.parametrize("sender", [0, False, 7, "", "name", None, (), 1.5], ids=repr)
def test_any_object_can_be_a_sender(signal: ThreadSignal, sender: object) -> None:
    """0, which blinker takes for `ANY`, is a sender like any other; so is what can't be weakly held."""
    receiver = Receiver("heard")
    signal.connect(receiver, sender=sender)
    assert heard(signal, sender) == ["heard"]
    assert heard(signal, Sender()) == []
    assert not signal.has_receivers_for(blinker.ANY)
    signal.disconnect(receiver, sender=sender)
    assert not signal.receivers


def test_strings_and_numbers_are_senders_by_value(signal: ThreadSignal) -> None:
    """Strings and numbers are compared by value, other objects by identity; no number is taken for an address."""
    receiver, sender = Receiver(1), Sender()
    signal.connect(receiver, sender=10**20)
    assert heard(signal, int("1" + "0" * 20)) == [1]
    signal.disconnect(receiver)
    signal.connect(receiver, sender=sender)
    assert heard(signal, id(sender)) == []
    signal.connect(receiver, sender="ab")
    assert [heard(signal, other) for other in ("".join("ab"), "abc", "")] == [[1], [], []]


def test_a_sender_of_a_dead_ones_address_is_new(signal: ThreadSignal, no_collection: None) -> None:
    """An object that gets the address of a dead sender doesn't inherit its receivers."""
    receiver = Receiver(1)
    addresses = set()
    for _ in range(50):
        sender = Sender()
        assert heard(signal, sender) == []
        addresses.add(id(sender))
        signal.connect(receiver, sender=sender)
        assert heard(signal, sender) == [1]
        del sender
    if len(addresses) == 50:  # as may happen on a free-threaded build
        pytest.skip("no address came back")


# The exit of a thread.


def test_what_receivers_are_told(exits: list[Any]) -> None:
    """A receiver is called with the thread, its record, in which nothing can be changed, and no exception."""
    before = time.time()
    thread = in_thread(threadhooks.attach, name="the thread")
    ((sender, info, exception),) = exits
    assert sender is thread
    assert exception is None
    assert info == ThreadInfo(thread, "the thread", thread.ident, thread.native_id, False, False, info.attached_at)  # type: ignore[arg-type]
    assert before <= info.attached_at <= time.time()
    for field in (*ThreadInfo._fields, "anything"):
        with pytest.raises(AttributeError):
            setattr(info, field, None)


def test_connections_end_with_the_exit(no_collection: None) -> None:
    """What is connected to a thread is gone as that has exited, though somebody still holds the thread."""
    thread = threading.Thread(target=threadhooks.attach)
    receiver = Receiver()
    alive = weakref.ref(receiver)
    for signal in (thread_started, thread_exiting, thread_exited):
        signal.connect(receiver, sender=thread, weak=False)
    run(thread)
    assert len(receiver.heard) == 1
    for signal in (thread_started, thread_exiting, thread_exited):
        assert not signal.receivers
        assert not signal.has_receivers_for(thread)
    del receiver
    assert alive() is None


def test_a_receiver_that_holds_its_thread(no_collection: None) -> None:
    """A strong receiver that holds its own sender ties no knot that outlives the exit."""
    worker = Worker(threadhooks.attach)
    thread_exited.connect(worker.told, sender=worker.thread, weak=False)
    run(worker.thread)
    assert worker.heard == [worker.thread]
    alive = weakref.ref(worker)
    del worker
    assert alive() is None


@pytest.mark.parametrize("installed", [True, False], ids=["announced", "never attached"])
@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_a_worker_that_is_told_of_its_thread(installed: bool, late: bool) -> None:
    """A thread whose receiver holds it can be collected, whether it was announced, or connected to when it was over."""
    alive: list[weakref.ref[Worker]] = []
    before = set(thread_exited.buckets)  # of threads that other tests have left
    if installed:
        threadhooks.install()
    try:
        for _ in range(50):
            worker = Worker()
            if late:
                run(worker.thread)
            for signal in (thread_started, thread_exiting, thread_exited):
                signal.connect(worker.told, sender=worker.thread, weak=False)
            if not late:
                run(worker.thread)
            assert len(worker.heard) == (3 if installed and not late else 0)
            alive.append(weakref.ref(worker))
    finally:
        threadhooks.uninstall()
    del worker
    gc.collect()
    assert [ref() for ref in alive] == [None] * 50
    assert not thread_exited.receivers
    assert set(thread_exited.buckets) <= before


def test_a_thread_that_never_starts_holds_its_receivers(signal: ThreadSignal) -> None:
    """What is connected to a thread that was not started stays, as long as somebody has the thread, and is called."""
    worker = Worker(threadhooks.attach)
    thread, told = worker.thread, worker.heard
    thread_exited.connect(worker.told, sender=thread, weak=False)
    del worker
    gc.collect()
    run(thread)
    assert told == [thread]


def test_connecting_to_a_thread_that_has_exited(no_collection: None) -> None:
    """It connects nothing, tells nobody, and leaves nothing on the thread."""
    thread = in_thread(int)
    before = dict(vars(thread))
    receiver = Receiver()
    with thread_exited.receiver_connected.connected_to(tell := Mock()):  # type: ignore[arg-type]
        assert thread_exited.connect(receiver, sender=thread, weak=False) is receiver
    assert not thread_exited.receivers
    assert not tell.called
    assert vars(thread) == before
    alive = weakref.ref(receiver)
    del receiver
    assert alive() is None


def test_an_exiting_thread_has_not_exited() -> None:
    """While its hooks run, early and late, a thread can be connected to; nothing is left when they have run."""
    receivers = [Receiver(number) for number in range(3)]
    alive = [weakref.ref(receiver) for receiver in receivers]
    heard = receivers[0].heard = receivers[1].heard = receivers[2].heard

    def connect(*_: object) -> None:
        thread_exited.connect(receivers.pop(), sender=threading.current_thread(), weak=False)

    def body() -> None:
        threadhooks.threadref.finalize(connect)
        plugin.register_early(connect)
        connect()

    with threadhooks.Plugin("late") as plugin, threadhooks.installed():
        thread = in_thread(body)
    assert heard == [2, 1, 0]
    assert "_threadhooks_receivers" not in vars(thread)
    gc.collect()
    assert [ref() for ref in alive] == [None] * 3


def test_nothing_stays_on_a_thread_that_was_connected_to() -> None:
    """Not even if its receiver was disconnected before it exited."""
    receiver = Receiver("gone")

    def body() -> None:
        threadhooks.attach()
        thread_exited.connect(receiver, sender=threading.current_thread())
        thread_exited.disconnect(receiver, threading.current_thread())

    assert not any("_threadhooks" in name for name in vars(in_thread(body)))


def test_a_thread_that_is_being_started_has_not_exited() -> None:
    """A thread that knows its ident already, and is not yet among the active ones, can be connected to."""
    receiver = Receiver("told")

    class Starting(threading.Thread):
        def _set_ident(self) -> None:
            super()._set_ident()  # type: ignore[misc]
            thread_exited.connect(receiver, sender=self)

    run(Starting(target=threadhooks.attach))
    assert receiver.heard == ["told"]


@forks
def test_the_threads_of_a_parent_process_have_exited(program: Any) -> None:
    """In a forked child, nothing can be connected to its parent's other threads; the thread that forked goes on."""
    assert program("""
        import os, threading, threadhooks, warnings
        warnings.simplefilter("ignore")  # that it forks while threads run

        def told(thread, **extra):
            print("told of", thread.name)

        def fork():
            if os.fork():
                os.wait()
                return
            for thread in (main, other, threading.current_thread()):
                threadhooks.thread_exited.connect(told, sender=thread)
                print(thread.name, threadhooks.thread_exited.has_receivers_for(thread))
            threadhooks.attach()

        leave = threading.Event()
        main, other = threading.main_thread(), threading.Thread(target=leave.wait, name="other")
        other.start()
        forking = threading.Thread(target=fork, name="forking")
        forking.start()
        forking.join()
        leave.set()
    """) == ("MainThread False\nother False\nforking True\ntold of forking\n", "", 0)


def test_foreign_and_main_threads_have_not_exited() -> None:
    """A dummy, and the main thread, are connected to while they run."""
    import _thread

    done = threading.Event()
    receiver = Receiver("told")

    def body() -> None:
        threadhooks.attach()
        thread_exited.connect(receiver, sender=threading.current_thread())
        farewell.append(threading.local())  # dies after the hooks, whatever the version
        done.set()

    farewell: list[object] = []
    _thread.start_new_thread(body, ())
    assert done.wait(30)
    deadline = time.monotonic() + 30
    while not receiver.heard and time.monotonic() < deadline:
        time.sleep(0.001)
    assert receiver.heard == ["told"]
    thread_exited.connect(receiver, sender=threading.main_thread())
    assert thread_exited.has_receivers_for(threading.main_thread())


# Muted.


def test_muted(signal: ThreadSignal) -> None:
    """A `muted()` block that raises has ended."""
    with pytest.raises(ZeroDivisionError), signal.muted():
        1 / 0
    assert not signal.is_muted


def test_a_sender_to_whom_nobody_listens_any_more(signal: ThreadSignal) -> None:
    """Once the last receiver of a sender is disconnected, the signal knows nothing of it; connecting works again."""
    thread, receiver = threading.Thread(target=int), Receiver()
    signal.connect(receiver, sender=thread)
    signal.disconnect(receiver, sender=thread)
    assert not signal.buckets
    signal.connect(receiver, sender=thread)
    assert list(signal.receivers_for(thread)) == [receiver]


def test_nothing_of_a_dead_sender_is_left(signal: ThreadSignal, no_collection: None) -> None:
    """Strong receivers of a sender die with it, without a collection."""
    alive: list[weakref.ref[Receiver]] = []
    for _ in range(100):
        sender, receiver = Sender(), Receiver()
        alive.append(weakref.ref(receiver))
        signal.connect(receiver, sender=sender, weak=False)
        signal.connect(receiver.method, sender=sender, weak=False)
    assert len(signal.receivers) == 2
    del sender, receiver
    assert not signal.receivers
    assert not any(reference() for reference in alive)


@pytest.mark.parametrize("start", [False, True], ids=["never started", "never attached"])
def test_connections_end_with_the_thread_object(start: bool, no_collection: None) -> None:
    """A thread that never speaks takes its connections along as it is destroyed."""
    thread = threading.Thread(target=int)
    receiver = Receiver()
    alive = weakref.ref(receiver)
    thread_exited.connect(receiver, sender=thread, weak=False)
    del receiver
    if start:
        thread.start()
        thread.join()
    del thread
    assert not thread_exited.receivers
    assert alive() is None
