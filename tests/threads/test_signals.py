"""The signals: blinker's interface, and what we promise beyond it."""

from __future__ import annotations

import asyncio
import functools
import gc
import itertools
import random
import sys
import threading
import time
import traceback
import types
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple
from unittest.mock import AsyncMock, Mock

import blinker
import pytest
from support import in_thread

import threadhooks
from threadhooks import Plugin, ThreadInfo, ThreadSignal, _signals, thread_exited, thread_exiting, thread_started


class Receiver:
    """A receiver that notes its calls; an object, since free-threaded builds delay the end of functions."""

    def __init__(self, name: object = None, heard: list[Any] | None = None) -> None:
        self.name = name
        self.heard: list[Any] = [] if heard is None else heard

    def __call__(self, sender: Any, **extra: Any) -> object:
        self.heard.append(self.name)
        return self.name

    def method(self, sender: Any, **extra: Any) -> object:
        return self(sender, **extra)


class Sender:
    """What a weak reference can point at."""


class Report(NamedTuple):
    type: type[BaseException]
    text: str  # as the default hook would print it
    thread: threading.Thread | None


@pytest.fixture
def signal() -> ThreadSignal:
    return ThreadSignal("a_signal", "What it is for.")


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[Report]:
    """What `threading.excepthook` is given."""
    reports: list[Report] = []

    def excepthook(args: threading.ExceptHookArgs) -> None:
        assert args.exc_value is not None
        assert args.exc_traceback is args.exc_value.__traceback__ is not None
        text = "".join(traceback.format_exception(args.exc_type, args.exc_value, args.exc_traceback))
        reports.append(Report(args.exc_type, text, args.thread))

    monkeypatch.setattr(threading, "excepthook", excepthook)
    return reports


@pytest.fixture(autouse=True)
def _no_leftovers() -> Iterator[None]:
    yield
    for signal in (thread_started, thread_exiting, thread_exited):
        signal._clear_state()


def heard(signal: ThreadSignal, sender: Any = None) -> list[object]:
    return [result for _, result in signal.send(sender)]


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


def test_weak_methods(signal: ThreadSignal, no_collection: None) -> None:
    """A bound method, though made anew at each access, lives as long as its object, and can be disconnected."""
    first, second = Receiver(1), Receiver(2)
    signal.connect(first.method)
    signal.connect(second.method)
    assert heard(signal) == [1, 2]
    signal.disconnect(first.method)
    assert heard(signal) == [2]
    del second
    assert heard(signal) == []
    assert not signal.receivers


def test_weak_becomes_strong_and_back(signal: ThreadSignal, no_collection: None) -> None:
    """To connect a receiver again decides anew how it is held."""
    receiver = Receiver(1)
    signal.connect(receiver)
    signal.connect(receiver, weak=False)
    alive = weakref.ref(receiver)
    del receiver
    assert heard(signal) == [1]
    receiver = alive()
    signal.connect(receiver, weak=True)
    del receiver
    assert not signal.receivers


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


def test_disconnect_from_a_sender_alone(signal: ThreadSignal) -> None:
    """To disconnect from one sender leaves the connection to all of them."""
    sender, receiver = Sender(), Receiver(1)
    signal.connect(receiver)
    signal.disconnect(receiver, sender=sender)
    assert heard(signal, sender) == [1]


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


def test_receiver_disconnected_is_about_calls(signal: ThreadSignal, no_collection: None) -> None:
    """As with blinker, the death of a weak receiver is not told."""
    told: list[Any] = []

    def tell(of: object, **arguments: object) -> None:
        told.append(arguments)

    signal.receiver_disconnected.connect(tell)
    signal.connect(Receiver())
    assert not told


def test_receiver_connected_may_object(signal: ThreadSignal) -> None:
    """As with blinker, a `TypeError` of a listener to `receiver_connected` takes the connection back."""

    def refuse(of: object, receiver: object, sender: object, weak: object) -> None:
        raise TypeError("not that one")

    signal.receiver_connected.connect(refuse)
    receiver, sender = Receiver(), Sender()
    for whom in (blinker.ANY, sender):
        with pytest.raises(TypeError, match="not that one"):
            signal.connect(receiver, sender=whom)
    assert not signal.receivers


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
    assert heard(signal, "".join("ab")) == [1]


def test_each_receiver_once_a_send(signal: ThreadSignal) -> None:
    """Who is connected to all senders and to this one is called once."""
    sender, receiver = Sender(), Receiver(1)
    signal.connect(receiver, sender=sender)
    signal.connect(receiver)
    signal.connect(receiver, weak=False)
    assert heard(signal, sender) == [1]
    assert heard(signal) == [1]


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


def test_disconnecting_from_the_sender_lets_go(signal: ThreadSignal, no_collection: None) -> None:
    """`disconnect(receiver, sender=…)` leaves no strong reference."""
    sender, receiver = Sender(), Receiver()
    alive = weakref.ref(receiver)
    signal.connect(receiver, sender=sender, weak=False)
    signal.disconnect(receiver, sender=sender)
    del receiver
    assert alive() is None


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


# Order.


def test_order_of_connection(signal: ThreadSignal) -> None:
    """Receivers run in the order in which they were connected, to whomsoever and however held."""
    sender, called = Sender(), []
    receivers = [Receiver(number, called) for number in range(200)]
    draw = random.Random(1)
    for receiver in receivers:
        call = draw.choice([receiver, receiver.method])
        signal.connect(call, sender=draw.choice([blinker.ANY, sender]), weak=draw.choice([True, False]))
    signal.send(sender)
    assert called == list(range(200))


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


def test_one_thread_alone() -> None:
    """Who is connected to one thread hears of that thread alone."""
    mine = threading.Thread(target=threadhooks.attach)
    told: list[threading.Thread] = []
    thread_exited.connect(lambda thread, **extra: told.append(thread), sender=mine, weak=False)
    in_thread(threadhooks.attach)
    mine.start()
    mine.join()
    in_thread(threadhooks.attach)
    assert told == [mine]


def test_a_thread_connects_to_itself() -> None:
    """A receiver may be connected to the current thread, in that thread."""
    told: list[threading.Thread] = []

    def target() -> None:
        threadhooks.attach()
        thread_exited.connect(
            lambda thread, **extra: told.append(thread), sender=threading.current_thread(), weak=False
        )

    assert [in_thread(target)] == told


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


# Receivers that fail.


def fails(sender: object, **extra: object) -> None:
    raise ValueError("on purpose")


class CallableThing:
    def __call__(self, sender: object, **extra: object) -> None:
        raise ValueError("on purpose")

    def method(self, sender: object, **extra: object) -> None:
        raise ValueError("on purpose")

    def __repr__(self) -> str:
        return "<the thing>"


thing = CallableThing()


@pytest.mark.parametrize(
    ("receiver", "name"),
    [
        (fails, f"{__name__}.fails"),
        (thing, "<the thing>"),
        (thing.method, f"{__name__}.CallableThing.method"),
        (functools.partial(thing), "functools.partial(<the thing>)"),
        (lambda thread, **extra: 1 / 0, f"{__name__}.<lambda>"),
    ],
)
def test_a_failure_is_reported_with_its_receiver(
    receiver: Callable[..., Any], name: str, reports: list[Report]
) -> None:
    """What a receiver raises goes to `threading.excepthook`, with the thread and the receiver; the others run."""
    first, last = Receiver(), Receiver()
    for connected in (first, receiver, last):
        thread_exited.connect(connected)
    thread = in_thread(threadhooks.attach)
    assert len(first.heard) == len(last.heard) == 1
    ((kind, text, whose),) = reports
    assert kind in (ValueError, ZeroDivisionError)
    assert f"raised by {name}, a hook of threadhooks\n" in text
    assert whose is thread


def test_a_failure_is_reported_with_its_plugin(reports: list[Report]) -> None:
    """The report of a plugin's receiver, or clean-up, names the plugin as well."""
    with Plugin("the plugin") as plugin:
        plugin.thread_exited(fails)
        in_thread(lambda: plugin.register(fails, None))
    assert len(reports) == 2
    for report in reports:
        assert f"raised by {__name__}.fails of plugin 'the plugin', a hook of threadhooks" in report.text


def test_send_gives_the_others_results(signal: ThreadSignal, reports: list[Report]) -> None:
    """Nothing that is raised leaves `send`, which returns what the other receivers returned."""
    first, last = Receiver(1), Receiver(2)
    for connected in (first, fails, last):
        signal.connect(connected)
    assert signal.send("no thread") == [(first, 1), (last, 2)]
    assert reports[0].thread is None


@pytest.mark.parametrize("error", [BaseException, GeneratorExit, KeyboardInterrupt, StopIteration, SystemExit])
def test_nothing_gets_past_the_dispatch(
    error: type[BaseException], signal: ThreadSignal, reports: list[Report]
) -> None:
    """Whatever class of exception it is, it is reported, and the next receiver is called."""

    def raises(sender: object) -> None:
        raise error

    last = Receiver()
    signal.connect(raises)
    signal.connect(last)
    signal.send()
    assert [report.type for report in reports] == [error]
    assert len(last.heard) == 1


def test_a_receiver_with_other_parameters(reports: list[Report]) -> None:
    """A receiver that doesn't take what it is given is reported as one that raises."""

    def too_few() -> None:
        raise AssertionError("not reached")

    thread_exited.connect(too_few)
    in_thread(threadhooks.attach)
    assert [report.type for report in reports] == [TypeError]
    assert "too_few, a hook of threadhooks" in reports[0].text


def test_one_error_raised_by_two(signal: ThreadSignal, reports: list[Report]) -> None:
    """One exception object that several receivers raise, again and again, names each of them once."""
    error = ValueError("shared")

    def one(sender: object) -> None:
        raise error

    def other(sender: object) -> None:
        raise error

    signal.connect(one)
    signal.connect(other)
    for _ in range(3):
        signal.send()
    assert len(reports) == 6
    notes = [note.rpartition(".")[2] for note in error.__notes__]
    assert notes == ["one, a hook of threadhooks", "other, a hook of threadhooks"]
    assert all(note in reports[-1].text for note in notes)


def test_a_receiver_without_a_repr(signal: ThreadSignal, reports: list[Report]) -> None:
    """A receiver whose `repr` fails costs us its name, not the report."""

    class Nameless(CallableThing):
        def __repr__(self) -> str:
            raise RuntimeError

    receiver, last = Nameless(), Receiver()
    signal.connect(receiver)
    signal.connect(last)
    signal.send()
    assert [report.type for report in reports] == [ValueError]
    assert len(last.heard) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "raise ValueError('on purpose')",
        "raise ValueError('on purpose') from None",
        "raise ValueError('on purpose') from KeyError('cause')",
        "try: {}['key']\n    except KeyError: raise ValueError('on purpose')",
        "try: {}['key']\n    except KeyError: raise ValueError('on purpose') from None",
        "error = ValueError('on purpose'); raise error from error",
        "first = ValueError('on purpose'); second = KeyError(); first.__context__ = second; "
        "second.__cause__ = first; raise first",
    ],
    ids=["plain", "from None", "from a cause", "in a context", "context hidden", "its own cause", "a circle"],
)
def test_what_the_default_hook_prints(program: Any, statement: str) -> None:
    """`threading`'s own hook prints which thread, which error, and which receiver, on every version."""
    out, err, code = program(
        "import threading, threadhooks\n"
        "@threadhooks.thread_exited.connect\n"
        "def receiver(thread, **extra):\n"
        f"    {statement}\n"
        "@threadhooks.thread_exited.connect\n"
        "def last(thread, **extra):\n"
        "    print(thread.name)\n"
        "thread = threading.Thread(target=threadhooks.attach, name='T-1')\n"
        "thread.start()\n"
        "thread.join()\n",
        timeout=20,
    )
    assert (out, code) == ("T-1\n", 0)
    assert err.count("Exception in thread T-1:\n") == 1
    assert "ValueError: on purpose\n" in err
    assert err.count("raised by __main__.receiver, a hook of threadhooks\n") == 1


def test_system_exit_is_quiet(program: Any) -> None:
    """With `threading`'s own hook, `SystemExit` says nothing, and stops neither the others nor the process."""
    assert program("""
        import sys, threading, threadhooks

        @threadhooks.thread_exited.connect
        def leaves(thread, **extra):
            sys.exit("unheard of")

        @threadhooks.thread_exited.connect
        def stays(thread, **extra):
            print("stays")

        thread = threading.Thread(target=threadhooks.attach)
        thread.start()
        thread.join()
    """) == ("stays\n", "", 0)


@pytest.mark.parametrize("error", ["ZeroDivisionError", "SystemExit", "KeyboardInterrupt"])
def test_an_excepthook_that_raises(program: Any, error: str) -> None:
    """A `threading.excepthook` that raises is told on stderr, as by `threading`, and stops no receiver."""
    out, err, code = program(f"""
        import threading, threadhooks

        def excepthook(args):
            raise {error}("in the hook")

        def fails(thread, **extra):
            raise ValueError

        def last(thread, **extra):
            print("last")

        threading.excepthook = excepthook
        threadhooks.thread_exited.connect(fails)
        threadhooks.thread_exited.connect(last)
        thread = threading.Thread(target=threadhooks.attach)
        thread.start()
        thread.join()
    """)
    assert (out, code) == ("last\n", 0)
    assert err.startswith("Exception in threading.excepthook:\nTraceback (most recent call last):\n")
    assert err.endswith(f"{error}: in the hook\n")
    assert "During handling" not in err


@pytest.mark.parametrize("spoil", ["sys.stderr = None", "sys.excepthook = None", "del sys.stderr"])
def test_no_reporter_is_left(program: Any, spoil: str) -> None:
    """Where nobody can be told, the next receiver is called all the same."""
    out, _, code = program(f"""
        import sys, threading, threadhooks

        def fails(thread, **extra):
            raise ValueError

        def last(thread, **extra):
            print("last")

        threadhooks.thread_exited.connect(fails)
        threadhooks.thread_exited.connect(last)
        thread = threading.Thread(target=threadhooks.attach)
        threading.excepthook = None
        {spoil}
        thread.start()
        thread.join()
    """)
    assert (out, code) == ("last\n", 0)


# What is refused.


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


connections = pytest.mark.parametrize(
    "connect",
    [
        lambda signal, hook: signal.connect(hook),
        lambda signal, hook: signal.connect(hook, sender="x", weak=False),
        lambda signal, hook: signal.connect_via("x")(hook),
        lambda signal, hook: ExitStack().enter_context(signal.connected_to(hook)),
    ],
    ids=["connect", "connect a sender", "connect_via", "connected_to"],
)


def assert_no_trace(signal: ThreadSignal) -> None:
    assert not signal.receivers
    assert not signal.has_receivers_for("x")
    assert not signal.has_receivers_for(blinker.ANY)


def generator(sender: object, **extra: object) -> Iterator[None]:
    yield


class Generating:
    def __call__(self, sender: object, **extra: object) -> Iterator[None]:
        yield


@connections
@pytest.mark.parametrize("hook", [generator, functools.partial(generator), Generating(), Generating().__call__])
def test_generator_functions_are_refused(signal: ThreadSignal, connect: Any, hook: Any) -> None:
    """What would only make a generator is refused, and leaves no trace."""
    with pytest.raises(TypeError, match="a generator function, which does not run when it is called"):
        connect(signal, hook)
    assert_no_trace(signal)


@connections
@pytest.mark.parametrize(
    "hook",
    [
        coroutine,
        functools.partial(coroutine, key=1),
        functools.partial(functools.partial(coroutine), key=1),
        asynchronous_generator,
        functools.partial(asynchronous_generator),
        Asynchronous(),
        functools.partial(Asynchronous()),
        Asynchronous().method,
        Asynchronous.static,
        vars(Asynchronous)["static"],
        functools.partial(vars(Asynchronous)["static"]),
        Asynchronous.of_class,
        AsynchronousGenerator(),
        AsyncMock(),
    ],
)
def test_coroutine_functions_are_refused(signal: ThreadSignal, connect: Any, hook: Any) -> None:
    """What would need an event loop is refused with what to do instead, and leaves no trace."""
    with pytest.raises(TypeError, match=r"plain function, which may call asyncio\.run"):
        connect(signal, hook)
    assert_no_trace(signal)


@connections
@pytest.mark.parametrize("hook", [None, 3, "name", [], Sender(), blinker.ANY])
def test_what_cannot_be_called_is_refused(signal: ThreadSignal, connect: Any, hook: Any) -> None:
    """What can't be called is refused, and leaves no trace."""
    with pytest.raises(TypeError, match="a hook must be callable, not "):
        connect(signal, hook)
    assert_no_trace(signal)


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
    assert_no_trace(signal)
    assert signal.buckets == {}
    signal.connect(receiver, sender=sender, weak=False)
    assert heard(signal, sender) == ["heard"]


@pytest.mark.parametrize("hook", [Asynchronous, print, Mock(), functools.partial(print), Sender, [].append])
def test_what_is_not_refused(signal: ThreadSignal, hook: Any) -> None:
    """Classes, even of asynchronous objects, built-in functions, methods and mocks can be receivers."""
    assert signal.connect(hook, weak=False) is hook
    signal.disconnect(hook)
    assert not signal.receivers


def test_a_refused_hook_is_not_kept(signal: ThreadSignal, no_collection: None) -> None:
    """Nothing holds on to a hook that was refused."""
    hook = Asynchronous()
    alive = weakref.ref(hook)
    with pytest.raises(TypeError):
        signal.connect(hook, sender="x", weak=False)
    del hook
    assert alive() is None


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


def test_muted_loses_no_clean_up() -> None:
    """`muted()` silences receivers in every thread, but clean-ups run."""
    receiver, ran = Receiver(), []
    thread_exited.connect(receiver)

    def target() -> None:
        threadhooks.threadref.finalize(ran.append, "finalize")
        plugin.register(ran.append, "plugin")

    with Plugin("muted") as plugin, thread_exited.muted():
        in_thread(target)
    assert ran == ["plugin", "finalize"]
    assert receiver.heard == []
    in_thread(threadhooks.attach)
    assert len(receiver.heard) == 1


# Changes while a signal is being sent.


def test_receivers_that_disconnect(signal: ThreadSignal, reports: list[Report]) -> None:
    """A receiver may disconnect itself, earlier ones and later ones; those that it leaves alone are all called."""
    called: list[str] = []

    def early(sender: object) -> None:
        called.append("early")

    def busy(sender: object) -> None:
        called.append("busy")
        for receiver in (early, busy, late):
            signal.disconnect(receiver)

    def late(sender: object) -> None: ...

    def last(sender: object) -> None:
        called.append("last")

    for receiver in (early, busy, late, last):
        signal.connect(receiver)
    signal.send()
    assert called == ["early", "busy", "last"]
    signal.send()
    assert called == ["early", "busy", "last", "last"]
    assert not reports


def test_receivers_that_connect(signal: ThreadSignal, reports: list[Report]) -> None:
    """A receiver may connect others, to any sender, for the next send at the latest; and send."""
    sender, added = Sender(), Receiver("added")

    def connects(of: object) -> str:
        signal.connect(added)
        signal.connect(added, sender=sender)
        if of is not None:
            signal.send()
        return "connects"

    signal.connect(connects)
    signal.send(sender)
    assert added.heard == ["added"]
    assert heard(signal, sender) == ["connects", "added"]
    assert not reports


def test_finalisers_change_connections(signal: ThreadSignal, no_collection: None, reports: list[Report]) -> None:
    """A receiver's destructor may connect, disconnect and send in the middle of what destroyed it."""
    senders = [Sender() for _ in range(3)]
    steady, added = Receiver("steady"), Receiver("added")

    class Dying(Receiver):
        def __del__(self) -> None:
            signal.disconnect(steady, sender=senders[1])
            signal.connect(added)
            for sender in senders:
                signal.connect(added, sender=sender)
                signal.send(sender)

    def connect() -> None:
        signal.connect(steady)
        for sender in senders:
            signal.connect(steady, sender=sender)
            for _ in range(3):
                signal.connect(Dying("dying"), sender=sender, weak=False)

    for kill in (
        lambda: signal.forget(senders[0]),
        lambda: [signal.disconnect(receiver) for receiver in signal.receivers_for(senders[2])],
        senders.pop,
        signal._clear_state,
    ):
        connect()
        kill()
        assert "added" in heard(signal)
    signal.disconnect(added)
    assert not signal.receivers
    assert not reports


class World:
    """A signal in a known state, at which two operations meet."""

    def __init__(self) -> None:
        self.signal = ThreadSignal("signal", "")
        self.sender = Sender()
        self.other = Sender()
        self.dying: Sender | None = Sender()
        self.strong, self.both, self.added = Receiver("strong"), Receiver("both"), Receiver("added")
        self.weak: Receiver | None = Receiver("weak")
        self.sent: list[list[object]] = []
        connect = self.signal.connect
        connect(self.strong, weak=False)
        connect(self.both)
        connect(self.both, sender=self.sender, weak=False)
        connect(self.weak)
        connect(self.weak.method, sender=self.sender)
        connect(Receiver("of the dying"), sender=self.dying, weak=False)

    def view(self) -> list[object]:
        """All that can be seen of the signal; of two that are connected at once, no order is promised."""
        whom = (None, self.sender, self.other, self.dying, blinker.ANY)
        names = [[receiver(None) for receiver in self.signal.receivers_for(sender)] for sender in whom]
        orders = [[name for name in some if name not in ("both", "added")] for some in (*names, *self.sent)]
        found = [self.signal.has_receivers_for(sender) for sender in whom]
        return [*map(sorted, (*names, *self.sent)), orders, found]


OPERATIONS: dict[str, Callable[[World], object]] = {
    "connect": lambda w: w.signal.connect(w.added),
    "connect to a sender": lambda w: w.signal.connect(w.added, sender=w.sender),
    "connect to a new sender": lambda w: w.signal.connect(w.both, sender=w.other),
    "connect again": lambda w: w.signal.connect(w.both, sender=w.sender, weak=True),
    "disconnect": lambda w: w.signal.disconnect(w.both),
    "disconnect from a sender": lambda w: w.signal.disconnect(w.both, w.sender),
    "a weak receiver dies": lambda w: setattr(w, "weak", None),
    "a sender dies": lambda w: setattr(w, "dying", None),
    "forget": lambda w: w.signal.forget(w.sender),
    "send": lambda w: w.sent.append([name for _, name in w.signal.send(w.sender)]),
}


def interleave(operation: Callable[[], object], interruption: Callable[[], object], at: int) -> bool:
    """Run `operation`, and `interruption` before its bytecode number `at` in the module; false if it has fewer.

    That is what a switch to another thread does to it, or a finaliser.
    """
    count = 0

    def trace(frame: types.FrameType, event: str, arg: object) -> Any:
        nonlocal count
        if frame.f_code.co_filename != _signals.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            count += 1
            if count > at:
                sys.settrace(None)
                interruption()
        return trace

    before = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # 3.12 wants it asked for before it traces
    sys.settrace(trace)
    try:
        operation()
    finally:
        sys.settrace(before)
    return count > at


@pytest.mark.parametrize("first", OPERATIONS)
def test_every_interleaving(first: str, no_collection: None, reports: list[Report]) -> None:
    """Interrupted by another at any bytecode, an operation does what it does before the other, or after it."""
    for second in OPERATIONS:
        orders = []
        for names in ((first, second), (second, first)):
            world = World()
            for name in names:
                OPERATIONS[name](world)
            orders.append(world.view())
        for at in itertools.count():
            world = World()
            reached = interleave(lambda: OPERATIONS[first](world), lambda: OPERATIONS[second](world), at)
            if not reached:
                break
            for seen, before, after in zip(world.view(), *orders, strict=True):
                assert seen in (before, after), f"{second} at {at}"
        assert at > 5 or first.startswith("a ")  # a death runs one short callback
        assert at > 0
    assert not reports


def test_stress(signal: ThreadSignal, reports: list[Report], monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads and finalisers that do everything at once: each send calls exactly whom it should, in order."""
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: unraisable.append(repr(args.exc_value)))
    errors: list[BaseException] = []
    shared: list[Any] = [Sender(), "by value", 0]
    steady = [Receiver(("steady", number)) for number in range(3)]
    for number, receiver in enumerate(steady):
        signal.connect(receiver, weak=number == 0)
    counts = {"sends": 0, "changes": 0, "finalisers": 0}
    serials = itertools.count()

    class Silent(Receiver):
        def __call__(self, sender: Any, **extra: Any) -> object:
            return self.name  # and keeps no list of it

    class Finalised:
        def __init__(self) -> None:
            self.knot = self

        def __del__(self) -> None:
            receiver, sender = Silent("of a finaliser"), Sender()
            signal.connect(receiver, sender=shared[0], weak=False)
            signal.connect(receiver, sender=sender, weak=False)
            signal.connect(receiver)
            assert any(known is receiver for known in signal.receivers_for(shared[0]))
            signal.disconnect(receiver)
            signal.connect(Silent("short-lived"), sender=sender, weak=False)
            counts["finalisers"] += 1

    class Work:
        """One thread's part; nobody else touches its receivers, so that it knows what a send must call."""

        def __init__(self, number: int) -> None:
            self.draw = random.Random(number)
            self.number = number
            self.senders = [*shared, Sender()]  # the last is mine, and dies
            self.receivers = [self.make(which) for which in range(4)]
            self.expected: dict[tuple[int, int], None] = {}  # receiver and sender, in the order of connection

        def make(self, which: int) -> Silent:
            # The name is new, since another thread may be about to call the receiver that dies.
            return Silent((self.number, which, next(serials)))

        def run(self) -> None:
            try:
                while time.monotonic() < deadline:
                    self.draw.choice((self.change, self.change, self.send, self.die, self.kill, Finalised))()
                self.finish()
            except BaseException as error:
                errors.append(error)

        def change(self) -> None:
            which, of = self.draw.randrange(4), self.draw.randrange(-1, 4)
            sender = blinker.ANY if of < 0 else self.senders[of]
            if self.draw.random() < 0.6:
                signal.connect(self.receivers[which], sender=sender, weak=self.draw.random() < 0.5)
                self.expected[which, of] = None
            else:
                signal.disconnect(self.receivers[which], sender)
                for key in list(self.expected):
                    if key[0] == which and of in (-1, key[1]):
                        del self.expected[key]
            counts["changes"] += 1

        def die(self) -> None:
            """A receiver dies: connected weakly, or with its sender."""
            which = self.draw.randrange(4)
            signal.disconnect(self.receivers[which])
            signal.connect(self.receivers[which])
            signal.connect(self.receivers[which], sender=self.senders[0])
            self.receivers[which] = self.make(which)
            self.expected = {key: None for key in self.expected if key[0] != which}

        def kill(self) -> None:
            """My own sender dies, and another is born, often at its address."""
            self.senders[3] = None
            self.senders[3] = Sender()
            self.expected = {key: None for key in self.expected if key[1] != 3}

        def send(self) -> None:
            of = self.draw.randrange(4)
            names = heard(signal, self.senders[of])
            assert [name for name in names if name[0] == "steady"] == [receiver.name for receiver in steady]
            living = {receiver.name for receiver in self.receivers}
            mine = [name[1] for name in names if name in living]
            assert mine == list(dict.fromkeys(which for which, sender in self.expected if sender in (-1, of)))
            counts["sends"] += 1

        def finish(self) -> None:
            for of in range(4):
                self.send()
            for receiver in self.receivers:
                signal.disconnect(receiver)

    interval = sys.getswitchinterval()
    deadline = time.monotonic() + 1.5
    threads = [threading.Thread(target=Work(number).run) for number in range(4)]
    try:
        sys.setswitchinterval(1e-6)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    gc.collect()  # the last finalisers
    assert errors == unraisable == reports == []
    assert list(signal.receivers_for(None)) == steady
    assert len(signal.receivers) == len(steady)
    assert all(counts.values()), counts
