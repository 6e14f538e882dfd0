"""`install`, `uninstall` and `installed`: which threads announce themselves, and what is replaced for it."""

from __future__ import annotations

import functools
import threading
from _thread import start_new_thread
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from unittest import mock

import pytest
from announcing import KINDS, LIFE, SIGNALS, Events, OverridesStart, lives, note
from loops import Worker
from support import LONG, in_thread, run, run_all

import threadhooks
from threadhooks import announced, install, installed, uninstall

pytestmark = pytest.mark.usefixtures("nothing_installed")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_thread_announces_itself(kind: str, events: Events) -> None:
    """Whatever its class and whoever starts it, a thread sends each signal once, around one execution of `run()`."""
    with installed():
        KINDS[kind](note(events))
    found = lives(events)
    assert list(found.values()).count(LIFE) == 1
    assert all([what for what in life if what != "run"] == SIGNALS for life in found.values())


@pytest.mark.parametrize("kind", KINDS)
def test_without_install_no_kind_of_thread_announces_itself(kind: str, events: Events) -> None:
    """Before `install`, and after `uninstall`, threads are as they are without us."""
    KINDS[kind](note(events))
    install()
    uninstall()
    KINDS[kind](note(events))
    assert [what for what, thread in events] == ["run", "run"]


def test_many_threads_at_once(events: Events) -> None:
    """Each of many threads, and those that they start, sends its three signals once, whatever the others do."""
    together = threading.Barrier(50)
    inner = [threading.Thread(target=note(events)) for _ in range(50)]

    def body(thread: threading.Thread) -> None:
        together.wait(LONG)
        note(events)()
        run(thread)

    threads = [threading.Thread(target=body, args=(thread,)) for thread in inner]
    with installed():
        run_all(threads)
    assert lives(events) == dict.fromkeys([*threads, *inner], LIFE)


def test_a_thread_that_threading_does_not_start(events: Events) -> None:
    """A thread of `_thread` says nothing under `install`; with `announced` it does, and is known to be foreign."""
    ended = threading.Semaphore(0)
    infos: list[threadhooks.ThreadInfo] = []

    def announcing() -> None:
        with announced() as info:
            infos.append(info)
        ended.release()

    with installed():
        start_new_thread(ended.release, ())
        start_new_thread(announcing, ())
        assert ended.acquire(timeout=LONG)
        assert ended.acquire(timeout=LONG)
    [info] = infos
    assert info.foreign
    assert [event for event in events if event[0] != "thread_exited"] == [
        ("thread_started", info.thread),
        ("thread_exiting", info.thread),
    ]


class TellsAFunction:
    """A data descriptor that only an instance finds out to be one: to the class it looks like a method."""

    def __get__(self, thread: Any, owner: type) -> Any:
        return threading.Thread.run if thread is None else thread.own

    def __set__(self, thread: Any, value: object) -> None:
        thread.set_by_others = value


DATA_DESCRIPTORS: dict[str, dict[str, Any]] = {
    "read-only property": {"run": property(lambda self: self.own)},
    "property": {"run": property(lambda self: self.own, lambda self, value: setattr(self, "own", value))},
    "property that fails in the parent": {"run": property(lambda self: self.own if self.ident else 1 / 0)},
    "slot": {"__slots__": ("run",)},
    "another data descriptor": {"run": TellsAFunction()},
}


@pytest.mark.parametrize("namespace", DATA_DESCRIPTORS.values(), ids=DATA_DESCRIPTORS)
def test_a_thread_whose_run_is_a_data_descriptor(namespace: dict[str, Any], events: Events) -> None:
    """A thread whose class has a property, a slot or the like in the place of `run` runs once, and tells nothing."""
    thread: Any = type("Special", (threading.Thread,), dict(namespace))()
    thread.own = body = note(events)
    if "__slots__" in namespace:
        thread.run = body
    with installed():
        run(thread)
    assert events == [("run", thread)]
    assert "set_by_others" not in vars(thread)


# I is install and U uninstall; a block is entered at (, and the last one left at ), the first one at ]. After each step
# comes whether a thread announces itself.
SEQUENCES = {
    "to install twice is to install once": "I+ I+ I+ U-",
    "to uninstall twice does no harm": "U- I+ U- U- I+",
    "blocks nest": "(+ (+ )+ )-",
    "blocks overlap": "(+ (+ ]+ ]-",
    "a block does not undo install": "I+ (+ )+ U-",
    "install outlives the block that it is called in": "(+ I+ )+ U-",
    "uninstall does not undo a block": "I+ (+ U+ )-",
}


@pytest.mark.parametrize("steps", SEQUENCES.values(), ids=SEQUENCES)
def test_installing_and_uninstalling(steps: str, events: Events) -> None:
    """A thread announces itself, once, while `install` or any block of `installed` is in force."""
    original = threading.Thread.start
    blocks: list[ExitStack] = []

    def enter() -> None:
        blocks.append(ExitStack())
        blocks[-1].enter_context(installed())

    do: dict[str, Callable[[], object]] = {
        "I": install,
        "U": uninstall,
        "(": enter,
        ")": lambda: blocks.pop().close(),
        "]": lambda: blocks.pop(0).close(),
    }
    for step, tells in steps.split():
        do[step]()
        events.clear()
        thread = in_thread(note(events))
        assert lives(events) == {thread: LIFE if tells == "+" else ["run"]}, step
        assert (threading.Thread.start is original) == (tells == "-")


def test_a_block_that_raises(events: Events) -> None:
    """What is raised in a block of `installed` gets through, and the block has ended."""
    with pytest.raises(ZeroDivisionError), installed():
        1 / 0
    in_thread(int)
    assert events == []


def test_uninstall_while_threads_run(events: Events) -> None:
    """A thread that was started under `install` announces its end, though `uninstall` was called meanwhile."""
    worker = Worker(note(events))
    with installed():
        worker.begin()
    worker.end()
    assert lives(events) == {worker: LIFE}


def test_what_counts_is_the_start(events: Events) -> None:
    """A thread that was made before `install` and is started under it announces itself; the reverse does not."""
    before = threading.Thread(target=note(events))
    with installed():
        run(before)
        after = threading.Thread(target=note(events))
    run(after)
    assert lives(events) == {before: LIFE, after: ["run"]}


# What is replaced


def snapshot() -> dict[str, object]:
    """Everything that stands in `threading`, and in its classes."""
    found: dict[str, object] = {}
    for name, value in vars(threading).items():
        found[name] = value
        if isinstance(value, type):
            found.update({f"{name}.{key}": member for key, member in vars(value).items()})
    return found


def test_start_is_all_that_is_replaced() -> None:
    """`install` changes nothing in `threading` but the documented method `start`, whose names and documentation stay.

    `uninstall` puts it back.
    """
    before = snapshot()
    original = threading.Thread.start
    with installed():
        during = snapshot()
        start = threading.Thread.start
    after = snapshot()
    assert {name for name in {**before, **during} if during.get(name) is not before.get(name)} == {"Thread.start"}
    assert {name for name in {**before, **after} if after.get(name) is not before.get(name)} == set()
    assert (start.__name__, start.__qualname__, start.__module__) == ("start", "Thread.start", "threading")
    assert start.__doc__ == original.__doc__


def test_start_hands_on_what_it_takes_and_returns() -> None:
    """Whatever somebody's `Thread.start` takes gets through to it, and what it returns is returned."""
    threading.Thread.start = lambda *args, **kwargs: (args, kwargs)  # type: ignore[method-assign, assignment]
    thread: Any = threading.Thread()
    with installed():
        assert thread.start(1, two=2) == ((thread, 1), {"two": 2})


@pytest.mark.parametrize("kind", ["static method", "class method", "descriptor"])
def test_start_is_bound_as_before(kind: str) -> None:
    """Somebody's `Thread.start` gets the thread, the class or neither, as without us, and is put back as it was."""

    class Descriptor:
        def __get__(self, thread: threading.Thread | None, owner: type) -> Any:
            return functools.partial(got.append, (thread, owner))

    got: list[Any] = []
    start: Any = {
        "static method": staticmethod(lambda *args: got.append(args)),
        "class method": classmethod(lambda *args: got.append(args)),
        "descriptor": Descriptor(),
    }[kind]
    threading.Thread.start = start  # type: ignore[method-assign]
    thread = OverridesStart()
    thread.start()
    with installed():
        assert vars(threading.Thread)["start"] is not start
        thread.start()
    assert vars(threading.Thread)["start"] is start
    assert len(got) == 2
    assert got[0] == got[1]


# threading.Thread is not what it was


class Inherits(threading.Thread):
    """A well-known recipe: a thread that remembers what `run()` raised."""

    def run(self) -> None:
        try:
            super().run()
        except Exception as error:
            self.error = error


class HasStart(Inherits):
    def start(self) -> None:
        super().start()


class NoThread:
    """Something else that can be started, in its own way."""

    name = "no thread"

    def __init__(self, target: Callable[[], object]) -> None:
        self.start = target

    def join(self, timeout: float) -> None: ...


def start_some(events: Events) -> list[list[str]]:
    """What a thread, one of a pool, a timer, and one of a class made earlier tell."""
    events.clear()
    for start in (in_thread, *(KINDS[kind] for kind in ("executor", "timer", "overrides both"))):
        start(note(events))
    return list(lives(events).values())


@pytest.mark.parametrize("classes", [[Inherits], [HasStart], [Inherits, HasStart]], ids=["one", "start", "two"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_subclass_in_the_place_of_the_class(
    classes: list[Any], when: str, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads of whichever class announce themselves once, if `threading.Thread` is replaced before `install` or after.

    `uninstall` leaves nothing of ours in any of the classes.
    """
    original = threading.Thread
    before = [vars(cls).get("start") for cls in (*classes, *threading.Timer.__mro__)]
    if when == "after":
        install()
    for cls in classes:
        monkeypatch.setattr(threading, "Thread", cls)
        install()
        assert start_some(events) == [LIFE] * 4
    monkeypatch.setattr(threading, "Thread", original)
    assert start_some(events) == [LIFE] * 4
    uninstall()
    assert start_some(events) == [["run"]] * 4
    assert [vars(cls).get("start") for cls in (*classes, *threading.Timer.__mro__)] == before


@pytest.mark.parametrize("kind", ["other class", "function", "mock"])
def test_something_else_in_the_place_of_the_class(kind: str, events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `threading.Thread` is no class of threads any more, it works as it did; threads of real ones tell."""
    other: Any = {"other class": NoThread, "function": functools.partial(Inherits), "mock": mock.MagicMock()}[kind]
    monkeypatch.setattr(threading, "Thread", other)
    with installed():
        thread = threading.Thread(target=note(events))
        thread.start()
        thread.join(LONG)
        KINDS["overrides start"](note(events))
    told = list(lives(events).values())
    assert told == {"other class": [["run"], LIFE], "function": [LIFE, LIFE], "mock": [LIFE]}[kind]
