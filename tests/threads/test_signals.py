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
    """`connect` returns the receiver, and `send` the receivers with what they returned."""

    @signal.connect
    def receiver(sender: object, **extra: object) -> tuple[object, object]:
        return sender, extra

    assert isinstance(receiver, types.FunctionType)
    assert signal.send("sender", key=1) == [(receiver, ("sender", {"key": 1}))]
    assert signal.send() == [(receiver, (None, {}))]


def test_send_takes_any_keyword(signal: ThreadSignal) -> None:
    """A keyword may be called as a parameter of `send` is."""
    receiver = Mock()
    signal.connect(receiver)
    signal.send(1, self=2, sender=3)
    receiver.assert_called_once_with(1, self=2, sender=3)


def test_weak_by_default(signal: ThreadSignal, no_collection: None) -> None:
    """A receiver that nobody else holds is gone at once, unless `weak` is false."""
    signal.connect(Receiver("weak"))
    assert not signal.receivers
    signal.connect(Receiver("strong"), weak=False)
    assert heard(signal) == ["strong"]


def test_connect_via(signal: ThreadSignal, no_collection: None) -> None:
    """`connect_via` decorates, holds strongly unless told otherwise, and returns the receiver."""
    sender = Sender()
    receiver = Receiver(1)
    assert signal.connect_via(sender)(receiver) is receiver
    signal.connect_via(blinker.ANY, weak=True)(Receiver("weak"))
    del receiver
    assert heard(signal, sender) == [1]
    assert heard(signal) == []


def test_connected_to(signal: ThreadSignal) -> None:
    """`connected_to` connects for the length of a block, whether that raises or not."""
    sender = Sender()
    with signal.connected_to(Receiver(1)), signal.connected_to(Receiver(2), sender=sender):
        assert heard(signal) == [1]
        assert heard(signal, sender) == [1, 2]
    assert not signal.receivers
    with pytest.raises(ZeroDivisionError), signal.connected_to(Receiver(1)):
        1 / 0
    assert not signal.receivers


def test_disconnect(signal: ThreadSignal) -> None:
    """`disconnect` speaks of one sender or of all, and is quiet where there is nothing to do."""
    first, second, receiver = Sender(), Sender(), Receiver(1)
    signal.disconnect(receiver)
    signal.disconnect(receiver, first)
    for sender in (first, second):
        signal.connect(receiver, sender=sender)
    signal.disconnect(receiver, sender=first)
    assert heard(signal, first) == []
    assert heard(signal, second) == [1]
    signal.connect(receiver)
    signal.connect(receiver, sender=first)
    signal.disconnect(receiver)
    assert heard(signal, first) == heard(signal, second) == heard(signal) == []
    assert not signal.receivers


def test_has_receivers_for(signal: ThreadSignal) -> None:
    """`has_receivers_for` and `receivers` tell whether anything is connected."""
    sender, receiver = Sender(), Receiver()
    assert not signal.receivers
    assert not signal.has_receivers_for(sender)
    signal.connect(receiver, sender=sender)
    assert signal.receivers
    assert signal.has_receivers_for(sender)
    assert not signal.has_receivers_for(None)
    assert not signal.has_receivers_for(blinker.ANY)
    signal.disconnect(receiver)
    assert not signal.has_receivers_for(sender)
    signal.connect(receiver)
    assert signal.has_receivers_for(sender) is signal.has_receivers_for(None) is True
    assert signal.has_receivers_for(blinker.ANY)


def test_receivers_for(signal: ThreadSignal) -> None:
    """`receivers_for` yields what a send would call, in order; for `ANY`, what hears every sender."""
    sender = Sender()
    receivers = [Receiver(number) for number in range(3)]
    for receiver, whom in zip(receivers, (blinker.ANY, sender, blinker.ANY), strict=True):
        signal.connect(receiver, sender=whom)
    assert list(signal.receivers_for(sender)) == receivers
    assert list(signal.receivers_for(blinker.ANY)) == list(signal.receivers_for(None)) == receivers[::2]
    calls = signal.receivers_for(None)
    assert next(calls).heard == []


def test_a_weak_receiver_that_dies_during_a_send_is_skipped(signal: ThreadSignal, no_collection: None) -> None:
    """A weakly held receiver is held during its own call alone."""
    doomed = [Receiver("doomed")]
    called: list[object] = []

    def kills(sender: object) -> None:
        called.append("kills")
        doomed.clear()

    signal.connect(kills)
    signal.connect(doomed[0])
    assert len(signal.send()) == 1
    assert called == ["kills"]


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
    signal._clear_state()
    assert not signal.receivers
    del receiver
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


def test_order_when_connected_again(signal: ThreadSignal) -> None:
    """To connect again keeps a receiver's place; to disconnect loses it."""
    sender = Sender()
    first, second, third = (Receiver(number) for number in range(3))
    for receiver in (first, second, third):
        signal.connect(receiver, sender=sender)
    signal.connect(first, sender=sender, weak=False)
    signal.connect(first)  # at its earliest place
    assert heard(signal, sender) == [0, 1, 2]
    signal.disconnect(second)
    signal.connect(second)
    assert heard(signal, sender) == [0, 2, 1]


# The exit of a thread.


def test_what_receivers_are_told() -> None:
    """A receiver is called with the thread, its record and no exception, in that thread, before `join()` returns."""
    calls: list[Any] = []

    @thread_exited.connect
    def receiver(thread: threading.Thread, **extra: Any) -> None:
        calls.append((thread, extra, threading.get_ident(), threading.current_thread(), thread in joined))

    joined: list[threading.Thread] = []
    before = time.time()
    thread = in_thread(threadhooks.attach, name="the thread")
    joined.append(thread)
    ((sender, extra, ident, current, too_late),) = calls
    assert sender is thread is current
    assert not too_late
    assert extra.keys() == {"info", "exception"}
    assert extra["exception"] is None
    info = extra["info"]
    assert info == ThreadInfo(thread, "the thread", ident, thread.native_id or 0, False, False, info.attached_at)
    assert before <= info.attached_at <= time.time()


def test_info_is_frozen() -> None:
    """Nothing in a `ThreadInfo` can be changed."""
    infos: list[ThreadInfo] = []
    with thread_exited.connected_to(lambda thread, info, **extra: infos.append(info)):
        in_thread(threadhooks.attach)
    for field in (*ThreadInfo._fields, "anything"):
        with pytest.raises(AttributeError):
            setattr(infos[0], field, None)


def test_connections_end_with_the_exit(no_collection: None) -> None:
    """What is connected to a thread is gone as that has exited, though somebody still holds the thread."""
    thread = threading.Thread(target=threadhooks.attach)
    receiver = Receiver()
    alive = weakref.ref(receiver)
    for signal in (thread_started, thread_exiting, thread_exited):
        signal.connect(receiver, sender=thread, weak=False)
    thread.start()
    thread.join()
    assert len(receiver.heard) == 1
    for signal in (thread_started, thread_exiting, thread_exited):
        assert not signal.receivers
        assert not signal.has_receivers_for(thread)
    del receiver
    assert alive() is None


def test_a_receiver_that_holds_its_thread(no_collection: None) -> None:
    """A strong receiver that holds its own sender ties no knot that outlives the exit."""

    class Worker(threading.Thread):
        told = 0

        def run(self) -> None:
            threadhooks.attach()

        def finished(self, thread: threading.Thread, **extra: object) -> None:
            Worker.told += 1

    worker = Worker()
    thread_exited.connect(worker.finished, sender=worker, weak=False)
    worker.start()
    worker.join()
    alive = weakref.ref(worker)
    del worker
    assert alive() is None
    assert Worker.told == 1


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
    receiver, tell = Receiver(), Mock()
    thread_exited.receiver_connected.connect(tell)
    assert thread_exited.connect(receiver, sender=thread, weak=False) is receiver
    thread_exited.receiver_connected.disconnect(tell)
    assert not thread_exited.has_receivers_for(thread)
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


def test_a_thread_that_is_being_started_has_not_exited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that knows its ident already, and is not yet among the active ones, can be connected to."""
    told: list[object] = []

    class Starting(threading.Thread):
        def _set_ident(self) -> None:
            super()._set_ident()  # type: ignore[misc]
            thread_exited.connect(self.told, sender=self)

        def told(self, thread: threading.Thread, **extra: object) -> None:
            told.append(thread)

    thread = run(Starting(target=threadhooks.attach))
    assert told == [thread]


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


def test_nothing_is_kept_by_an_exit(no_collection: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an exit with a failing receiver, the thread, the receiver and the error die without a collection."""
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    errors: list[weakref.ref[Exception]] = []

    class Failure(Exception):
        pass

    class Failing(Receiver):
        def __call__(self, sender: Any, **extra: Any) -> None:
            error = Failure()
            errors.append(weakref.ref(error))
            try:
                raise error
            finally:
                del error  # a local that its own traceback holds: this knot is the receiver's to cut

    receiver = Failing()
    thread_exited.connect(receiver)
    alive = weakref.ref(in_thread(threadhooks.attach))
    assert [error() for error in errors] == [None]
    assert alive() is None
    del receiver
    assert not thread_exited.receivers


# Muted.


def test_muted(signal: ThreadSignal) -> None:
    """No receiver is called in a `muted()` block, whether that raises or not; blocks nest."""
    receiver = Receiver(1)
    signal.connect(receiver)
    with pytest.raises(ZeroDivisionError), signal.muted():
        with signal.muted():
            assert signal.is_muted
        assert signal.is_muted
        assert signal.send() == []
        1 / 0
    assert not signal.is_muted
    assert heard(signal) == [1]


def test_muted_blocks_overlap(signal: ThreadSignal) -> None:
    """The block of one thread stays muted when that of another thread, begun earlier, ends."""
    signal.connect(receiver := Receiver(1))
    entered, leave = threading.Event(), threading.Event()

    def block() -> None:
        with signal.muted():
            entered.set()
            leave.wait()

    thread = threading.Thread(target=block)
    thread.start()
    entered.wait()
    with signal.muted():
        leave.set()
        thread.join()
        assert signal.is_muted
        signal.send()
        assert receiver.heard == []
    assert heard(signal) == [1]


def test_a_sender_to_whom_nobody_listens_any_more(signal: ThreadSignal) -> None:
    """Once the last receiver of a sender is disconnected, the signal knows nothing of it; connecting works again."""
    thread = threading.Thread(target=int)
    receiver = signal.connect(lambda thread, **extra: None, sender=thread, weak=False)
    assert signal.has_receivers_for(thread)
    signal.disconnect(receiver, sender=thread)
    assert not signal.buckets
    signal.connect(receiver, sender=thread, weak=False)
    assert signal.has_receivers_for(thread)
    assert list(signal.receivers_for(thread)) == [receiver]
