"""Resources under attack: arguments that fight, finalisers and collections in the midst of everything."""

from __future__ import annotations

import functools
import gc
import itertools
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from at_line import AtLine
from resourcing import Owner, events, in_thread, noted, working
from support import Farewell, Log, run_all

import threadhooks
from threadhooks import _values, per_thread
from threadhooks._attached import attached


class Wrath(BaseException):
    """What arguments raise when they have begun to fight."""


class Fighting:
    """An argument like others, until it fights. All have one hash."""

    fights = False

    def __eq__(self, other: object) -> bool:
        if self.fights:
            raise Wrath
        return self is other

    def __hash__(self) -> int:
        if self.fights:
            raise Wrath
        return 1

    def __repr__(self) -> str:
        raise Wrath


class Changing(Fighting):
    """An argument whose hash becomes another one."""

    def __eq__(self, other: object) -> bool:
        return not self.fights and self is other

    def __hash__(self) -> int:
        return 2 if self.fights else 1


@pytest.fixture
def argument(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Makes arguments; afterwards none of them fights."""
    monkeypatch.setattr(Fighting, "fights", False)
    return Changing if request.param == "changing" else Fighting


CLOSINGS: dict[str, Callable[[], object]] = {
    "at the end": lambda: None,
    "close_all": noted.close_all,
    "close_all anywhere": lambda: in_thread(lambda: noted.close_all(anywhere=True)),
    "close_all elsewhere": lambda: (in_thread(noted.close_all), threadhooks.attach()),
}


@pytest.mark.parametrize("argument", ["fighting", "changing"], indirect=True)
@pytest.mark.parametrize("closing", CLOSINGS)
def test_arguments_that_begin_to_fight(
    argument: Callable[[], Any], closing: str, log: Log, failures: list[Any]
) -> None:
    """What was opened with them is closed once, and nobody asks them for anything."""

    def body() -> None:
        for _ in range(3):
            noted(log, argument())
        noted(log, key=argument())
        Fighting.fights = True
        CLOSINGS[closing]()
        assert closing == "at the end" or events(log).count("closed") == 4
        Fighting.fights = False
        for event in list(log):
            noted(log, *event[2], **event[3])

    in_thread(body)
    assert events(log).count("opened") == events(log).count("closed") == (4 if closing == "at the end" else 8)
    assert failures == []


@pytest.mark.parametrize("argument", ["fighting", "changing"], indirect=True)
def test_a_dead_instances_arguments_that_fight(argument: Callable[[], Any], log: Log, failures: list[Any]) -> None:
    """What was opened for the instance is closed, here and in another thread."""
    owners = [Owner(log)]

    def use() -> None:
        for _ in range(2):
            owners[0].resource(argument())

    with working() as worker:
        worker.do(use)
        use()
        Fighting.fights = True
        owners.clear()
        worker.do(threadhooks.attach)
        assert Counter(event for event, _ in log) == {"opened": 4, "closed": 4}
    assert failures == []


def test_a_call_with_an_argument_that_fights(monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    """What it raises is raised by the call or the `close` that it was given to, and by no other."""

    def body() -> None:
        value = noted(log, 5)
        monkeypatch.setattr(Fighting, "fights", True)
        for use in (noted, noted.close):
            with pytest.raises(Wrath):
                use(log, Fighting())
        assert noted(log, 5) is value

    in_thread(body)
    assert events(log) == ["opened", "closed"]


class Unfriendly:
    """An instance that can neither be compared, nor hashed, nor printed."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        raise Wrath

    def __bool__(self) -> bool:
        raise Wrath

    def __repr__(self) -> str:
        raise RuntimeError

    @per_thread
    def resource(self) -> Iterator[object]:
        yield object()
        raise OSError


def test_resources_of_a_class_that_takes_them_for_equal() -> None:
    """Each has its own values, whatever a derived class says of equality; it need not even be hashable."""

    class Equal(threadhooks.PerThread[[], Any]):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return True

    first, second = (Equal(functools.partial(nullcontext, name)) for name in ("first", "second"))

    def body() -> None:
        for _ in range(2):
            assert (first(), second()) == ("first", "second")
        first.close()
        assert second() == "second"

    in_thread(body)


def test_an_instance_that_fights(failures: list[Any]) -> None:
    """It has its values, and they are closed; a failing closing is reported."""
    first, second = Unfriendly(), Unfriendly()

    def body() -> None:
        assert first.resource() is first.resource() is not second.resource()
        repr(first.resource)
        with pytest.raises(OSError):
            first.resource.close()
        in_thread(first.resource.close_all)
        with pytest.raises(OSError):
            second.resource.close_all()
        assert first.resource() is not second.resource()

    in_thread(body)
    assert [type(error) for error, _ in failures] == [OSError] * 2


class Large:
    """An instance of an unusual size: the next one is likely to get the address of one that has died."""

    __slots__ = ("__weakref__", *(f"slot{number}" for number in range(50)))

    @per_thread
    def resource(self, log: Any) -> Iterator[object]:
        log.append("opened")
        yield object()
        log.append("closed")


def test_an_instance_whose_death_was_not_heard(monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    """Another one at its address gets its own value all the same, and the old one is closed at the end."""

    def hit(owner: object) -> None:
        raise Wrath

    def body() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(_values.Owner, "died", hit)
            patch.setattr(sys, "unraisablehook", lambda unraisable: None)
            first = Large()
            value = first.resource(log)
            address = id(first)
            del first
        twin = next((made for made in [Large() for _ in range(1000)] if id(made) == address), None)
        if twin is None:
            pytest.skip("the address did not come back")
        assert twin.resource(log) is twin.resource(log) is not value
        twin.resource.close_all()
        assert log == ["opened", "opened", "closed"]

    in_thread(body)
    assert log == ["opened", "opened", "closed", "closed"]


# Finalisers in the midst of it


def test_a_finaliser_uses_it_while_it_opens(log: Log) -> None:
    """The finaliser gets a value, and so does the call; each opening is closed once, and later calls agree."""
    values: list[object] = []

    @per_thread
    def resource() -> Iterator[object]:
        log.append("opened")
        if len(log) == 1:
            Farewell(lambda: values.append(resource()))
        yield object()
        log.append("closed")

    def body() -> None:
        value = resource()
        values.append(value)
        assert resource() is resource() is value

    in_thread(body)
    assert len(values) == 2
    assert log == ["opened", "opened", "closed", "closed"]


def test_a_finaliser_uses_it_while_it_closes(log: Log) -> None:
    """At the thread's end and by `close()`, the finaliser gets a new value, which is closed in its turn."""

    @per_thread
    def resource() -> Iterator[int]:
        number = log.count("opened")
        log.append("opened")
        yield number
        if number % 2 == 0:
            Farewell(lambda: log.append(resource()))
        log.append("closed")

    def body() -> None:
        assert resource() == 0
        resource.close()
        assert resource() == 1
        resource.close()
        assert resource() == 2

    in_thread(body)
    assert log == ["opened", "opened", 1, "closed", "closed", "opened", "opened", 3, "closed", "closed"]


def test_a_value_whose_destructor_opens_others(log: Log) -> None:
    """What a destructor opens as the last value dies is closed in the same exit, however long the chain is."""

    @per_thread
    def chain(length: int) -> Iterator[Farewell]:
        log.append(length)
        yield Farewell(lambda: length and chain(length - 1))
        log.append(-length)

    in_thread(lambda: chain(5) and None)
    assert sorted(log) == [*range(-5, 0), 0, 0, *range(1, 6)]


def test_a_finaliser_at_any_line_of_what_a_thread_was_asked(log: Log) -> None:
    """Whatever the line at which it comes in between and does what was asked: all is closed once."""

    def body(number: int) -> bool:
        log.clear()
        for argument in range(3):
            noted(log, argument)
        (attachment,) = [found for found in attached() if found.is_here()]
        in_thread(noted.close_all)
        at_line = AtLine(number, lambda: (attachment.disturb(), threadhooks.attach()))
        at_line.run(threadhooks.attach)
        assert events(log) == ["opened"] * 3 + ["closed"] * 3
        return at_line.reached

    numbers = itertools.count()
    while in_thread(functools.partial(body, next(numbers))):
        pass
    assert next(numbers) > 20


class Cycle:
    """Garbage that only the collector finds; it calls something as it is destroyed."""

    def __init__(self, func: Callable[[], Any]) -> None:
        self.func = func
        self.itself = self

    def __del__(self) -> None:
        self.func()


@pytest.fixture
def threshold() -> Iterator[Callable[[int], None]]:
    """Sets the collector's threshold, for what is made from now on; afterwards it is as before."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    yield gc.set_threshold
    gc.set_threshold(*before)
    gc.unfreeze()


@pytest.mark.parametrize("attached", [False, True])
def test_a_collection_at_any_moment_of_the_first_use(
    attached: bool, threshold: Callable[[int], None], log: Log
) -> None:
    """Whichever allocation makes the collector find a finaliser that uses it: every opening is closed, at the end."""

    def body(allocations: int) -> None:
        if attached:
            threadhooks.attach()
        here = threading.get_native_id()
        gc.collect()  # the collector counts from here
        Cycle(lambda: noted(log) if threading.get_native_id() == here else None)  # not if it is found too late
        threshold(allocations)
        value = noted(log)
        threshold(0)
        assert noted(log) is value
        assert "closed" not in events(log)

    for allocations in range(1, 30):
        log.clear()
        in_thread(functools.partial(body, allocations))
        assert events(log).count("opened") == events(log).count("closed")
        assert len({ident for _, ident, *_ in log}) == 1


def test_collections_all_the_time(threshold: Callable[[int], None]) -> None:
    """Finalisers use a resource over and over, as it opens and closes: each opening is closed once, in its thread."""
    opened: list[int] = []
    closed: list[int] = []

    @per_thread
    def resource(number: int) -> Iterator[object]:
        opened.append(threading.get_ident())
        yield [object() for _ in range(5)]
        closed.append(threading.get_ident())

    def finaliser() -> None:
        if threading.current_thread() in threads:  # the collector may run anywhere
            resource(0)

    def body() -> None:
        threadhooks.attach()
        for number in range(40):
            Cycle(finaliser)
            resource(number % 3)
            Cycle(finaliser)
            resource.close(number % 3)

    threads = [threading.Thread(target=body) for _ in range(4)]
    threshold(3)
    run_all(threads)
    assert opened
    assert Counter(opened) == Counter(closed)
