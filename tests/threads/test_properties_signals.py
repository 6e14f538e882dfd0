"""The signal beside a plain model (who is connected to whom, in order), and beside blinker's where both agree.

Receivers and senders have numbers. The test forgets some of them on the way, and so must the signal.
"""

from __future__ import annotations

import functools
import gc
import sysconfig
import threading
import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from types import FunctionType
from typing import Any

import blinker
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support import LONG

import threadhooks

ANY = -1  # the number of blinker.ANY

# Before 1.9, blinker tells strings and numbers apart by identity.
BY_VALUE = ["text", "int"] if version("blinker").split(".")[:2] != ["1", "8"] else []
FUNCTIONS_DIE_LATE = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


class Failure(BaseException):
    """What a receiver raises."""


class Model:
    """Who is connected to whom, and whether strongly, in order."""

    def __init__(self) -> None:
        self.connections: dict[tuple[int, int], bool] = {}
        self.owners: dict[int, int] = {}  # of each receiver: two methods have one owner
        self.held: list[int] = []  # the owners that somebody holds, as often as they do

    def calls(self, sender: int) -> list[int]:
        """The receivers that a send calls: each once, at its first place."""
        return list(dict.fromkeys(receiver for receiver, to in self.connections if to in (ANY, sender)))

    def connect(self, receiver: int, sender: int, weak: bool) -> None:
        self.connections[receiver, sender] = not weak  # a key that is there keeps its place

    def disconnect(self, receiver: int, sender: int) -> None:
        self._keep(lambda r, to: r != receiver or sender not in (ANY, to))

    def forget(self, sender: int) -> None:
        self._keep(lambda _, to: to != sender)

    def bury(self) -> list[int]:
        """Disconnect the receivers that nobody holds, and return them."""
        strong = {self.owners[receiver] for (receiver, _), strong in self.connections.items() if strong}
        dead = [receiver for receiver, owner in self.owners.items() if owner not in strong and owner not in self.held]
        self._keep(lambda r, _: r not in dead)
        for receiver in dead:
            del self.owners[receiver]
        return dead

    def _keep(self, condition: Any) -> None:
        self.connections = {key: strong for key, strong in self.connections.items() if condition(*key)}


class Owner:
    """A receiver, or one whose methods are receivers."""

    def __init__(self, world: World, number: int) -> None:
        self.world, self.number = world, number

    def __call__(self, sender: Any, **extra: Any) -> int:
        return self.world.hear(self.number, sender)

    def second(self, sender: Any, **extra: Any) -> int:
        return self.world.hear(self.number + 1, sender)


class Equal(Owner):
    """All of these are equal, and have no hash."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True


class World:
    """A signal, with receivers and senders of its own."""

    def __init__(self, signal: Any) -> None:
        self.signal = signal
        self.receivers: dict[int, tuple[Any, str]] = {}  # by number: an owner, and the name of a method
        self.refs: dict[int, weakref.ref[Any]] = {}  # to the owners
        self.senders: dict[int, tuple[str, Any]] = {ANY: ("ANY", blinker.ANY)}
        self.called: list[tuple[int, Any, threading.Thread]] = []
        self.failing: set[int] = set()
        self.actions: dict[int, Callable[[], None]] = {}

    def hear(self, number: int, sender: Any, **extra: Any) -> int:
        self.called.append((number, sender, threading.current_thread()))
        self.actions.pop(number, lambda: None)()
        if number in self.failing:
            raise Failure
        return number

    def make_receivers(self, kind: str, number: int) -> None:
        def function(sender: Any, **extra: Any) -> int:
            return self.hear(number, sender)

        owner: Any = function
        if kind == "partial":
            owner = functools.partial(self.hear, number)
        elif kind != "function":
            owner = (Equal if "equal" in kind else Owner)(self, number)
        self.refs[number] = self.refs[number + 1] = weakref.ref(owner)
        self.receivers[number] = owner, kind
        if "methods" in kind:
            self.receivers[number] = owner, "__call__"
            self.receivers[number + 1] = owner, "second"

    def receiver(self, number: int) -> Any:
        owner, name = self.receivers[number]
        return getattr(owner, name, owner)  # a bound method is made anew each time

    def make_sender(self, kind: str, number: int) -> None:
        makers: dict[str, Callable[[], Any]] = {
            "thread": lambda: threading.Thread(target=threadhooks.attach),
            "object": lambda: Owner(self, 0),
            "equal": lambda: Equal(self, 0),
            "list": list,
        }
        self.senders[number] = kind, makers.get(kind, lambda: None)()

    def sender(self, number: int) -> Any:
        kind, sender = self.senders[number]  # strings and numbers are senders by value, and made anew each time
        return f"sender {number}" if kind == "text" else int(f"{number}000") if kind == "int" else sender

    def forget(self, receivers: Iterable[int]) -> None:
        for receiver in receivers:
            self.receivers.pop(receiver, None)

    def is_dead(self, receiver: int) -> bool:
        ref = self.refs[receiver]
        if FUNCTIONS_DIE_LATE and isinstance(ref(), FunctionType):
            gc.collect()
        return ref() is None

    def send(self, sender: int) -> tuple[list[int], list[int]]:
        """The receivers that are called, and those of them that return."""
        obj = self.sender(sender)
        returned = [result for _, result in self.signal.send(obj, info=None)]
        called = self.take()
        assert all(heard is obj and thread is threading.current_thread() for _, heard, thread in called)
        return [number for number, *_ in called], returned

    def receivers_for(self, sender: int) -> list[int]:
        found = [receiver(None) for receiver in self.signal.receivers_for(self.sender(sender))]
        assert found == [number for number, *_ in self.take()]
        return found

    def take(self) -> list[tuple[int, Any, threading.Thread]]:
        """What was called since; nothing else must keep a sender."""
        called, self.called = self.called, []
        return called


which = st.integers(0, 9)  # one of those that there are, counted modulo their number
senders = st.just(0) | which  # the first is blinker.ANY
receiver_kinds = st.sampled_from(["function", "partial", "object", "equal object", "methods", "methods of equals"])


class Signals(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.ours = World(threadhooks.thread_exited)
        self.blinkers = World(blinker.Signal())
        self.worlds = self.ours, self.blinkers
        self.kept: set[int] = set()  # owners that blinker keeps for longer than we do
        self.count = 0
        self.blocks: list[tuple[int, int, list[AbstractContextManager[Any]]]] = []
        self.reports: list[tuple[type[BaseException], threading.Thread | None]] = []
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(threading, "excepthook", lambda args: self.reports.append((args.exc_type, args.thread)))

    def pick_receiver(self, number: int) -> int:
        receivers = list(self.ours.receivers)
        return receivers[number % len(receivers)]

    def pick_sender(self, number: int) -> int:
        senders = list(self.ours.senders)
        return senders[number % len(senders)]

    def bury(self) -> None:
        owners = dict(self.model.owners)
        dead = self.model.bury()
        for receiver in dead:
            if owners[receiver] in self.kept:
                self.blinkers.signal.disconnect(self.blinkers.receiver(receiver))
        self.blinkers.forget(dead)
        assert all(self.ours.is_dead(receiver) for receiver in dead)

    # What comes and goes.

    @initialize(receivers=st.lists(receiver_kinds, min_size=3, max_size=5))
    def begin(self, receivers: list[str]) -> None:
        for kind in receivers:
            self.make_receivers(kind)
        self.make_sender("none")
        self.make_sender("thread")

    @precondition(lambda self: len(self.ours.receivers) < 6)
    @rule(kind=receiver_kinds)
    def make_receivers(self, kind: str) -> None:
        number = self.count
        self.count += 2
        for world in self.worlds:
            world.make_receivers(kind, number)
        for receiver in range(number, number + (2 if "methods" in kind else 1)):
            self.model.owners[receiver] = number
        self.model.held.append(number)

    @precondition(lambda self: len(self.ours.senders) < 6)
    @rule(kind=st.sampled_from(["thread", "thread", "object", "equal", "list", *BY_VALUE]))
    def make_sender(self, kind: str) -> None:
        for world in self.worlds:
            world.make_sender(kind, self.count)
        self.count += 1

    @precondition(lambda self: len(self.ours.receivers) > 2)
    @rule(receiver=which)
    def drop_receiver(self, receiver: int) -> None:
        self.drop(self.pick_receiver(receiver))

    def drop(self, receiver: int) -> None:
        owner = self.model.owners[receiver]
        receivers = [receiver for receiver in self.model.owners if self.model.owners[receiver] == owner]
        self.ours.forget(receivers)
        if owner not in self.kept:
            self.blinkers.forget(receivers)
        self.model.held.remove(owner)
        self.bury()

    @rule(sender=which)
    def drop_sender(self, sender: int) -> None:
        sender = self.pick_sender(sender)
        if self.ours.senders[sender][0] in ("thread", "object", "equal") and not self.is_in_block(sender):
            for world in self.worlds:
                del world.senders[sender]
            self.model.forget(sender)
            self.bury()

    def has_exited(self, sender: int) -> bool:
        kind, thread = self.ours.senders[sender]
        return bool(kind == "thread" and thread.ident is not None)

    def is_in_block(self, sender: int) -> bool:
        return any(sender == of_block for _, of_block, _ in self.blocks)

    # Connections.

    @rule(receivers=st.lists(which, min_size=1, max_size=4), sender=senders, weak=st.booleans(), via=st.booleans())
    def connect(self, receivers: list[int], sender: int, weak: bool, via: bool) -> None:
        for receiver in receivers:
            self.connect_one(self.pick_receiver(receiver), self.pick_sender(sender), weak, via)

    def connect_one(self, receiver: int, sender: int, weak: bool, via: bool) -> None:
        if self.has_exited(sender):
            self.connect_to_the_past(receiver, sender, weak)
            return
        for world in self.worlds:
            if via:
                world.signal.connect_via(world.sender(sender), weak)(world.receiver(receiver))
            else:
                world.signal.connect(world.receiver(receiver), world.sender(sender), weak)
        self.connected(receiver, sender, weak)

    def connect_to_the_past(self, receiver: int, sender: int, weak: bool) -> None:
        """To connect to a thread that has exited does nothing."""
        assert self.ours.signal.connect(self.ours.receiver(receiver), self.ours.sender(sender), weak)

    def connected(self, receiver: int, sender: int, weak: bool) -> None:
        self.model.connect(receiver, sender, weak)
        if not weak:
            self.kept.add(self.model.owners[receiver])
        self.bury()

    @rule(receiver=which, sender=senders)
    def disconnect(self, receiver: int, sender: int) -> None:
        receiver, sender = self.pick_receiver(receiver), self.pick_sender(sender)
        for world in self.worlds:
            world.signal.disconnect(world.receiver(receiver), world.sender(sender))
        self.model.disconnect(receiver, sender)
        self.bury()

    @rule(receiver=which, sender=senders)
    def begin_block(self, receiver: int, sender: int) -> None:
        receiver, sender = self.pick_receiver(receiver), self.pick_sender(sender)
        if self.has_exited(sender):
            return
        blocks = [world.signal.connected_to(world.receiver(receiver), world.sender(sender)) for world in self.worlds]
        for block in blocks:
            block.__enter__()
        self.blocks.append((receiver, sender, blocks))
        self.model.held.append(self.model.owners[receiver])
        self.connected(receiver, sender, weak=False)

    @precondition(lambda self: self.blocks)
    @rule(number=which)
    def end_block(self, number: int) -> None:
        receiver, _, blocks = self.blocks.pop(number % len(self.blocks))
        while blocks:
            blocks.pop().__exit__(None, None, None)
        self.model.held.remove(self.model.owners[receiver])
        self.model.disconnect(receiver, ANY)
        self.bury()

    # Sends.

    @rule(sender=which, failing=st.sets(which))
    def send(self, sender: int, failing: set[int]) -> None:
        """The receivers are called in order, and those that fail stop no other one."""
        sender = self.pick_sender(sender)
        assert set(self.blinkers.send(sender)[0]) == set(self.model.calls(sender))
        expected = self.model.calls(sender)
        self.ours.failing = {expected[number] for number in failing if number < len(expected)}
        called, returned = self.ours.send(sender)
        assert called == expected
        assert returned == [receiver for receiver in expected if receiver not in self.ours.failing]
        thread = self.ours.sender(sender) if self.ours.senders[sender][0] == "thread" else None
        assert self.reports == [(Failure, thread)] * len(self.ours.failing)
        self.ours.failing.clear()
        self.reports.clear()

    @rule(sender=which)
    def send_muted(self, sender: int) -> None:
        """Blocks that mute may overlap: no receiver is called until the last has ended."""
        first, second = self.ours.signal.muted(), self.ours.signal.muted()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert self.ours.signal.is_muted
        assert self.ours.send(self.pick_sender(sender)) == ([], [])
        second.__exit__(None, None, None)
        assert not self.ours.signal.is_muted

    @rule(
        sender=which,
        actor=which,
        action=st.sampled_from(["connect", "disconnect", "drop", "send"]),
        receiver=which,
        other=which,
    )
    def act_in_send(self, sender: int, actor: int, action: str, receiver: int, other: int) -> None:
        """While one receiver connects or disconnects another, or lets it die, the others are called as before."""
        sender, other, receiver = self.pick_sender(sender), self.pick_sender(other), self.pick_receiver(receiver)
        expected = self.model.calls(sender)
        if not expected or (action == "drop" and len(self.ours.receivers) <= 2):
            return
        if action == "connect" and self.has_exited(other):
            return
        actor = expected[actor % len(expected)]
        later = [r for r in expected[expected.index(actor) + 1 :] if r in self.ours.receivers]
        receiver = later[-1] if later and action != "connect" else receiver
        touched = {receiver} if action != "send" else set()
        nested: list[int] = []
        if action == "drop":
            touched = {twin for twin, owner in self.model.owners.items() if owner == self.model.owners[receiver]}

        def act() -> None:
            ours = self.ours
            if action == "connect":
                ours.signal.connect(ours.receiver(receiver), ours.sender(other))
            elif action == "disconnect":
                ours.signal.disconnect(ours.receiver(receiver), ours.sender(other))
            elif action == "drop":
                ours.forget(touched)
            else:
                before = ours.take()
                nested.extend(ours.send(other)[0])
                ours.called = before

        self.ours.actions = {actor: act}
        called, returned = self.ours.send(sender)
        assert called == returned
        assert not self.reports
        assert len(called) == len(set(called))
        touched.discard(actor)  # it was being called already
        assert [r for r in called if r not in touched] == [r for r in expected if r not in touched]
        assert nested == (self.model.calls(other) if action == "send" else [])
        blinkers = self.blinkers
        if action == "connect":
            blinkers.signal.connect(blinkers.receiver(receiver), blinkers.sender(other))
            self.connected(receiver, other, weak=True)
        elif action == "disconnect":
            blinkers.signal.disconnect(blinkers.receiver(receiver), blinkers.sender(other))
            self.model.disconnect(receiver, other)
            self.bury()
        elif action == "drop":
            self.drop(receiver)

    @rule(sender=which, muted=st.booleans())
    def exit(self, sender: int, muted: bool) -> None:
        """A thread that exits sends the signal itself, and is forgotten; nothing stays on it."""
        sender = self.pick_sender(sender)
        kind, thread = self.ours.senders[sender]
        if kind != "thread" or self.has_exited(sender):
            return
        with self.ours.signal.muted() if muted else nullcontext():
            thread.start()
            thread.join(LONG)
        calls = [] if muted else self.model.calls(sender)
        assert self.ours.take() == [(receiver, thread, thread) for receiver in calls]
        for receiver, to in self.model.connections:
            if to == sender:
                self.blinkers.signal.disconnect(self.blinkers.receiver(receiver), self.blinkers.sender(sender))
        self.model.forget(sender)
        self.bury()
        assert "_threadhooks_receivers" not in vars(thread)

    # What is always so.

    @invariant()
    def the_signal_knows_what_the_model_knows(self) -> None:
        for sender in self.ours.senders:
            calls = self.model.calls(sender)
            assert self.ours.receivers_for(sender) == calls
            assert self.ours.signal.has_receivers_for(self.ours.sender(sender)) == bool(calls)
            assert sorted(self.blinkers.receivers_for(sender)) == sorted(calls)
        found = self.ours.signal.receivers
        assert sorted(map(self.number_of, found.values())) == sorted(
            {receiver for receiver, _ in self.model.connections}
        )

    def number_of(self, receiver: Any) -> int:
        receiver = receiver() if isinstance(receiver, weakref.ref) else receiver
        number: int = receiver(None)
        self.ours.take()
        return number

    def teardown(self) -> None:
        self.patch.undo()
        while self.blocks:
            self.end_block(0)
        for sender in self.ours.senders:
            for receiver in self.ours.signal.receivers_for(self.ours.sender(sender)):
                self.ours.signal.disconnect(receiver)
        assert not self.ours.signal.receivers
        assert not self.ours.signal._connections._places  # the index of what is connected to single senders


TestSignals = Signals.TestCase
TestSignals.settings = settings(max_examples=120, stateful_step_count=40, deadline=None, print_blob=True)
