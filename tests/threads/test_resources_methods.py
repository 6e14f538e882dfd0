"""Resources that are methods: a value for each thread and instance, which ends with the instance."""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from resourcing import Crash, Owner, in_thread, working
from support import LONG, Log, run, run_all

import threadhooks
from threadhooks import PerThread, _values, per_thread
from threadhooks._attached import attached


def test_a_value_for_each_thread_and_instance(log: Log) -> None:
    """Two instances have two values, even if they are equal and can't be hashed; two threads have two of each."""

    class Equal(Owner):
        def __eq__(self, other: object) -> bool:
            return True

    first, second = Equal(log), Equal(log)

    def body() -> set[object]:
        values = {first.resource(), second.resource()}
        assert values == {first.resource(), second.resource()}
        return values

    assert len(in_thread(body) | in_thread(body)) == 4


def test_a_method_takes_arguments(log: Log) -> None:
    """Each combination of them has a value, and `close` is for one of them; a bound method that is kept finds them."""
    owner = Owner(log)

    def body() -> None:
        bound = owner.resource
        assert bound(1) is owner.resource(1) is not owner.resource(2)
        owner.resource.close(1)
        bound.close(3)
        log.append("end")

    in_thread(body)
    assert log == [("opened", (1,)), ("opened", (2,)), ("closed", (1,)), "end", ("closed", (2,))]


def test_self_gives_access_to_the_instance() -> None:
    """In the function, `self` reads and writes attributes of the instance, and calls its methods."""

    class Counting:
        opened = 0

        def label(self) -> str:
            return f"number {self.opened}"

        @per_thread
        def resource(self) -> Iterator[str]:
            self.opened += 1
            yield self.label()

    counting = Counting()
    assert [in_thread(counting.resource) for _ in range(2)] == ["number 1", "number 2"]
    assert counting.opened == 2


def test_inheritance(log: Log) -> None:
    """A subclass that overrides a resource can use the inherited one: each has its value."""

    class Overriding(Owner):
        @per_thread
        def resource(self, *args: Any) -> Iterator[Any]:
            log = self.log
            yield super().resource(*args)
            log.append("overriding closed")

    owner = Overriding(log)
    assert in_thread(lambda: owner.resource() is owner.resource())
    assert log == [("opened", ()), "overriding closed", ("closed", ())]


def test_static_methods() -> None:
    """A static method has one value in a thread; what is read from the class is the resource itself."""

    class Static:
        @staticmethod
        @per_thread
        def resource() -> Iterator[object]:
            yield object()

    assert in_thread(lambda: Static.resource() is Static().resource() is Static().resource())
    assert isinstance(Owner.resource, PerThread)
    assert Owner.resource is Owner.__dict__["resource"]


@pytest.mark.parametrize("slots", [("__weakref__",), ()])
def test_an_instance_with_slots(slots: tuple[str, ...]) -> None:
    """One that has ``__weakref__`` among them is as good as any; one without is a `TypeError` that says so."""

    class Slotted:
        __slots__ = slots

        @per_thread
        def resource(self) -> Iterator[object]:
            yield object()

    def body() -> bool:
        slotted = Slotted()
        return slotted.resource() is slotted.resource()

    if slots:
        assert in_thread(body)
    else:
        with pytest.raises(TypeError, match=r"weak reference to '.*Slotted' object"):
            in_thread(body)


def test_what_was_closed_of_an_instance_that_lives_on_is_not_kept(no_collection: None) -> None:
    """However often it opens and closes something, nothing of it stays."""

    class Holder:
        @per_thread
        def resource(self) -> Iterator[Log]:
            yield Log()

    holder = Holder()

    def body() -> bool:
        alive = weakref.ref(holder.resource())
        holder.resource.close()
        return alive() is None

    assert in_thread(body)


# Instances that die


class Layers(Owner):
    """One resource is built on another."""

    @per_thread
    def upper(self) -> Iterator[None]:
        log = self.log
        self.resource()
        yield
        log.append("upper closed")


def test_an_instance_that_dies_where_it_was_used(log: Log, no_collection: None) -> None:
    """It is not kept alive; what was opened for it is closed at once, what was built on something before that."""

    def body() -> None:
        owner = Layers(log)
        alive = weakref.ref(owner)
        owner.upper()
        owner.resource("a")
        del owner
        assert alive() is None
        log.append("the owner is gone")

    in_thread(body)
    assert log[2:] == [("closed", ("a",)), "upper closed", ("closed", ()), "the owner is gone"]


@per_thread
def another() -> Iterator[None]:
    yield


def test_an_instance_that_dies_elsewhere(log: Log, no_collection: None) -> None:
    """What it had in another thread is closed there, as soon as that has to do with us; layers in their order."""
    owners = [Layers(log)]
    with working() as worker:
        worker.do(owners[0].upper)
        owners.clear()
        log.append("the owner is gone")
        worker.do(another)
        log.append("the thread goes on")
    assert log == [("opened", ()), "the owner is gone", "upper closed", ("closed", ()), "the thread goes on"]


def test_instances_that_die_without_an_end(log: Log) -> None:
    """However many have come and gone, a thread that lives on has closed them, and nothing is kept of any."""
    before = len(_values._owners)
    with working() as worker:
        for _ in range(100):
            owner = Owner(log)
            worker.do(owner.resource)
        del owner
        worker.do(another)
        assert Counter(event for event, _ in log) == {"opened": 100, "closed": 100}
        (attachment,) = [found for found in attached() if found.thread is worker.thread]
        assert [value.resource for value in attachment.values.values()] == [another]
        assert attachment.asked == []
    assert len(_values._owners) == before


def test_instances_that_die_while_their_thread_works(hurry: None) -> None:
    """Whatever the moment, each value is closed once, in its thread."""
    opened: list[int] = []
    closed: list[int] = []

    class Brief:
        @per_thread
        def resource(self) -> Iterator[object]:
            opened.append(threading.get_native_id())
            yield object()
            closed.append(threading.get_native_id())

    def body() -> None:
        for _ in range(200):
            owner = Brief()
            owner.resource()
            handed_over.append(owner)

    def take_over() -> None:
        while not over.is_set():
            handed_over.clear()

    handed_over: list[Brief] = []
    over = threading.Event()
    reaper = threading.Thread(target=take_over)
    reaper.start()
    run_all([threading.Thread(target=body) for _ in range(3)])
    over.set()
    reaper.join(LONG)
    assert len(opened) == 600
    assert Counter(opened) == Counter(closed)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_what_closing_for_a_dead_instance_raises_is_reported(elsewhere: bool, failures: list[Any]) -> None:
    """Neither the death nor the next registration raises it: it is reported, with its thread and its resource."""

    class Holder:
        @per_thread
        def connection(self) -> Iterator[None]:
            yield
            raise OSError

    holders: list[Holder] = []
    with working() as worker:
        worker.do(lambda: (holders.append(Holder()), holders[0].connection()))
        if elsewhere:
            holders.clear()
        worker.do(lambda: (holders.clear(), another()))
        ((error, told),) = failures
        assert told is worker.thread
    assert isinstance(error, OSError)
    assert "Holder.connection" in error.__notes__[0]


@pytest.mark.parametrize("first", [True, False], ids=["used before ours", "used after ours"])
def test_an_instance_that_dies_with_a_thread_local(first: bool, failures: list[Any]) -> None:
    """The value of an instance that is held by another thread-local is closed as the thread ends, as it ends.

    The closing sees the exception of `run()`, and its thread as the current one; no dummy stays behind.
    """
    local = threading.local()
    seen: list[Any] = []
    raised = Crash()

    class Client:
        @per_thread
        def transaction(self) -> Iterator[None]:
            try:
                yield
            except BaseException as error:
                seen.append((error, threading.current_thread()))
                raise

    def body() -> None:
        if not first:
            threadhooks.attach()
        local.client = Client()
        local.client.transaction()
        raise raised

    before = {thread.name for thread in threading.enumerate()}
    with threadhooks.installed():
        thread = run(threading.Thread(target=body))
    assert seen == failures == [(raised, thread)]
    assert {thread.name for thread in threading.enumerate()} <= before


class Large:
    """An instance of an unusual size: the next one is likely to get the address of one that has died."""

    __slots__ = ("__weakref__", *(f"slot{number}" for number in range(50)))

    @per_thread
    def resource(self, log: Any) -> Iterator[object]:
        log.append("opened")
        yield object()
        log.append("closed")


@pytest.mark.parametrize("close", [False, True])
def test_an_instance_that_gets_the_address_of_a_dead_one(close: bool, log: Log) -> None:
    """It does not get the dead one's value: it opens its own, and each is closed once."""
    owners = [Large()]
    address = id(owners[0])
    opened, go_on = threading.Event(), threading.Event()

    def body() -> None:
        first = owners[0].resource(log)
        opened.set()
        assert go_on.wait(LONG)
        if not owners:
            pytest.skip("the address did not come back")
        if close:
            owners[0].resource.close(log)
        assert owners[0].resource(log) is not first
        assert owners[0].resource(log) is owners[0].resource(log)

    with working() as worker:
        future = worker.begin(body)
        assert opened.wait(LONG)
        owners.clear()
        made = [Large() for _ in range(1000)]
        owners.extend(owner for owner in made if id(owner) == address)
        go_on.set()
        future.result(LONG)
    assert log == ["opened", "closed"] * 2
