"""Threads and finalisers that connect, disconnect and send at the same time: at every bytecode, and by chance."""

from __future__ import annotations

import gc
import itertools
import random
import sys
import threading
import time
import types
import weakref
from collections.abc import Callable
from typing import Any

import blinker
import pytest
from at_line import AtLine
from signalling import Receiver, Sender, heard
from support import run, run_all

import threadhooks
from threadhooks import ThreadSignal, _connections, _signals, thread_exited


def test_finalisers_change_connections(
    signal: ThreadSignal, no_collection: None, reports: list[threading.ExceptHookArgs]
) -> None:
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

    def __init__(self, kind: type) -> None:
        self.signal = ThreadSignal("signal", "")
        self.sender, self.other, self.dying = kind(), kind(), kind()
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
        whom = (None, self.sender, self.other, getattr(self, "dying", None), blinker.ANY)
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
    "a sender dies": lambda w: vars(w).pop("dying", None),
    "forget": lambda w: w.signal.forget(w.sender),
    "send": lambda w: w.sent.append([name for _, name in w.signal.send(w.sender)]),
}


def interleave(operation: Callable[[], object], interruption: Callable[[], object], at: int) -> bool:
    """Run `operation`, and `interruption` before its bytecode number `at` in our modules; false if it has fewer.

    That is what a switch to another thread does to it, or a finaliser.
    """
    count = 0

    def trace(frame: types.FrameType, event: str, arg: object) -> Any:
        nonlocal count
        if frame.f_code.co_filename not in (_connections.__file__, _signals.__file__):
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


@pytest.mark.parametrize("kind", [Sender, threading.Thread])
@pytest.mark.parametrize("first", OPERATIONS)
def test_every_interleaving(
    first: str, kind: type, no_collection: None, reports: list[threading.ExceptHookArgs]
) -> None:
    """Interrupted by another at any bytecode, an operation does what it does before the other, or after it."""
    for second in OPERATIONS:
        orders = []
        for names in ((first, second), (second, first)):
            world = World(kind)
            for name in names:
                OPERATIONS[name](world)
            orders.append(world.view())
        for at in itertools.count():
            world = World(kind)
            reached = interleave(lambda: OPERATIONS[first](world), lambda: OPERATIONS[second](world), at)
            if not reached:
                break
            for seen, before, after in zip(world.view(), *orders, strict=True):
                assert seen in (before, after), f"{second} at {at}"
        assert at > 5 or first.startswith("a ")  # a death runs one short callback
        assert at > 0
    assert not reports


@pytest.mark.parametrize("attached", [True, False])
def test_a_thread_that_exits_while_it_is_connected_to(attached: bool) -> None:
    """At whichever line of `connect` the thread exits, its receiver is called at most once, and nothing is left."""
    for number in itertools.count():
        thread = threading.Thread(target=threadhooks.attach if attached else int)
        receiver = Receiver("told")
        alive, told = weakref.ref(receiver), receiver.heard
        line = AtLine(number, lambda thread=thread: run(thread))  # type: ignore[misc]
        before = sys.gettrace()
        sys.settrace(line)
        try:
            thread_exited.connect(receiver, sender=thread, weak=False)
        finally:
            sys.settrace(before)
        if not line.reached:
            break
        assert told == (["told"] if told and attached else [])
        if attached:  # or else nobody notices that it exits after connect() has looked
            assert not thread_exited.has_receivers_for(thread)
            assert not any("_threadhooks" in name for name in vars(thread))
        del receiver
        if not attached:
            del thread, line
        assert alive() is None
    assert number > 20
    thread_exited.forget(thread)


def test_stress(signal: ThreadSignal, reports: list[threading.ExceptHookArgs], monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads and finalisers that do everything at once: each send calls exactly whom it should, in order."""
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: unraisable.append(repr(args.exc_value)))
    errors: list[BaseException] = []
    shared: list[Any] = [threading.Thread(), "by value", 0]
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
            receiver, sender = Silent("of a finaliser"), random.choice([Sender, threading.Thread])()
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
            self.kind: Any = threading.Thread if number % 2 else Sender
            self.senders = [*shared, self.kind()]  # the last is mine, and dies
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
            self.senders[3] = self.kind()
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
        run_all(threads)
    finally:
        sys.setswitchinterval(interval)
    gc.collect()  # the last finalisers
    assert errors == unraisable == reports == []
    assert list(signal.receivers_for(None)) == steady
    assert len(signal.receivers) == len(steady)
    assert not signal._connections._places  # what serves disconnect() is gone with the connections
    assert all(counts.values()), counts
