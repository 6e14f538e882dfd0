"""Resources that are methods: a value for each thread and instance, which ends with the instance."""

from __future__ import annotations

import copy
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from resourcing import Crash, Owner, in_thread, working
from support import LONG, Log, run

import threadhooks
from threadhooks import PerThread, Plugin, _values, per_thread
from threadhooks._attached import attached
from threadhooks.threadref import finalize


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
    """Each combination of them has a value, and `close` is for one of them."""
    owner = Owner(log)

    def body() -> None:
        assert owner.resource(1) is owner.resource(1) is not owner.resource(2)
        owner.resource.close(1)
        owner.resource.close(3)
        log.append("end")

    in_thread(body)
    assert log == [("opened", (1,)), ("opened", (2,)), ("closed", (1,)), "end", ("closed", (2,))]


def test_a_bound_method_may_be_kept(log: Log) -> None:
    """A bound method is a function like others: it can be the target of a thread, and finds the same value."""
    owner = Owner(log)

    def body() -> bool:
        bound = owner.resource
        return bound() is owner.resource()

    assert in_thread(body)


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
    assert in_thread(counting.resource) == "number 1"
    assert in_thread(counting.resource) == "number 2"
    assert counting.opened == 2


def test_inheritance(log: Log) -> None:
    """A subclass inherits a resource, and one that overrides it can use the inherited one: each has its value."""

    class Child(Owner):
        pass

    class Overriding(Owner):
        @per_thread
        def resource(self, *args: Any) -> Iterator[Any]:
            log = self.log
            yield super().resource(*args)
            log.append("overriding closed")

    child, owner = Child(log), Overriding(log)
    assert in_thread(lambda: child.resource() is child.resource())
    log.clear()
    assert in_thread(lambda: owner.resource() is owner.resource())
    assert log == [("opened", ()), "overriding closed", ("closed", ())]


def test_on_the_class_it_is_the_resource_itself() -> None:
    """What is read from the class is what the decorator has made."""
    assert isinstance(Owner.resource, PerThread)
    assert Owner.resource is Owner.__dict__["resource"]


def test_static_methods(log: Log) -> None:
    """A static method has one value in a thread, whichever instance is asked."""

    class Static:
        @staticmethod
        @per_thread
        def resource() -> Iterator[object]:
            yield object()
            log.append("closed")

    assert in_thread(lambda: Static.resource() is Static().resource() is Static().resource())
    assert log == ["closed"]


def test_an_instance_with_slots(log: Log) -> None:
    """One with slots that has ``__weakref__`` among them is as good as any."""

    class Slotted:
        __slots__ = ("__weakref__",)

        @per_thread
        def resource(self) -> Iterator[object]:
            yield object()
            log.append("closed")

    def body() -> bool:
        slotted = Slotted()
        return slotted.resource() is slotted.resource()

    assert in_thread(body)
    assert log == ["closed"]


def test_an_instance_that_can_not_be_referred_to_weakly() -> None:
    """One with slots and without ``__weakref__`` is a `TypeError` at the call that says so."""

    class Slotted:
        __slots__ = ()

        @per_thread
        def resource(self) -> Iterator[None]:
            yield

    def body() -> None:
        with pytest.raises(TypeError, match=r"weak reference to '.*Slotted' object"):
            Slotted().resource()

    in_thread(body)


def test_a_class_that_has_one_can_be_copied(log: Log) -> None:
    """A copy of an instance is another instance, with values of its own."""
    owner = Owner(log)
    twin = copy.copy(owner)
    assert in_thread(lambda: owner.resource() is not twin.resource())


def test_many_threads_share_an_instance(log: Log) -> None:
    """Threads that use a method of one instance at the same moment have a value each, and close it."""
    owner = Owner(log)
    together = threading.Barrier(8)
    values: list[object] = []

    def body() -> None:
        together.wait(LONG)
        values.append(owner.resource())
        together.wait(LONG)

    threads = [threading.Thread(target=body) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(values)) == 8
    assert Counter(event for event, _ in log) == {"opened": 8, "closed": 8}


def test_what_was_closed_of_an_instance_that_lives_on_is_not_kept(no_collection: None) -> None:
    """However often it opens and closes something, nothing of it stays."""

    class Thing:
        pass

    class Holder:
        @per_thread
        def resource(self) -> Iterator[Thing]:
            yield Thing()

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


USES: dict[str, Callable[[Plugin], object]] = {
    "a resource": lambda plugin: another(),
    "close": lambda plugin: another.close(),
    "register": lambda plugin: plugin.register(int),
    "finalize": lambda plugin: finalize(int),
}


@per_thread
def another() -> Iterator[None]:
    yield


@pytest.mark.parametrize("use", USES)
def test_an_instance_that_dies_elsewhere(use: str, log: Log, no_collection: None) -> None:
    """What it had in another thread is closed there, as soon as that has to do with us; layers in their order."""
    owners = [Layers(log)]
    with Plugin("plugin") as plugin, working() as worker:
        worker.do(lambda: owners[0].upper())
        owners.clear()
        log.append("the owner is gone")
        worker.do(lambda: USES[use](plugin) and None)
        log.append("the thread goes on")
    assert log == [("opened", ()), "the owner is gone", "upper closed", ("closed", ()), "the thread goes on"]


def test_an_instance_that_dies_as_the_thread_exits(log: Log) -> None:
    """What is not closed yet is closed once, by its thread, before `join()` returns."""
    owners = [Owner(log)]
    exiting, go_on = threading.Event(), threading.Event()

    def body() -> None:
        owners[0].resource()
        finalize(lambda: (exiting.set(), go_on.wait(LONG), log.append("the thread goes on")))

    thread = threading.Thread(target=body)
    thread.start()
    assert exiting.wait(LONG)
    owners.clear()
    log.append("the owner is gone")
    go_on.set()
    thread.join()
    assert log == [("opened", ()), "the owner is gone", "the thread goes on", ("closed", ())]


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
        assert list(attachment.values) == [another]
        assert attachment.asked == []
    assert len(_values._owners) == before


def test_instances_that_die_while_their_thread_works() -> None:
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
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=body) for _ in range(3)]
        reaper = threading.Thread(target=take_over)
        for thread in [reaper, *threads]:
            thread.start()
        for thread in threads:
            thread.join(LONG)
    finally:
        over.set()
        sys.setswitchinterval(interval)
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
            worker.do(another)
        else:
            worker.do(holders.clear)
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
        if first:
            local.client = Client()
        else:
            threadhooks.attach()
            local.client = Client()
        local.client.transaction()
        raise raised

    with threadhooks.installed():
        thread = run(threading.Thread(target=body))
    assert seen == [(raised, thread)]
    assert thread not in threading.enumerate()
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading._DummyThread)]
    assert failures[0] == (raised, thread)


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
