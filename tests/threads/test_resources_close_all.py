"""Resources that are retired everywhere: `close_all` in one thread, and what the others do then."""

from __future__ import annotations

import functools
import itertools
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import Mock

import pytest
from resourcing import Crash, Manager, Owner, events, in_thread, noted, working
from support import LONG, Log, run, run_all

import threadhooks
from threadhooks import Plugin, per_thread, thread_exited
from threadhooks._attached import attached
from threadhooks.threadref import finalize, ref


@per_thread
def another() -> Iterator[None]:
    yield


USES: dict[str, Callable[[Plugin], object]] = {
    "another resource": lambda plugin: another(),
    "close of another resource": lambda plugin: another.close(),
    "close_all of another resource": lambda plugin: another.close_all(),
    "register": lambda plugin: plugin.register(int),
    "finalize": lambda plugin: finalize(int),
    "ref": lambda plugin: ref(),
    "attach": lambda plugin: threadhooks.attach(),
    "none": lambda plugin: None,
}


def test_it_closes_all_of_the_current_thread(log: Log) -> None:
    """Those for all arguments, the last that was opened first; each call opens anew."""

    def body() -> None:
        values = [noted(log, number) for number in range(3)]
        noted.close_all()
        assert [args for event, _, args, _ in log if event == "closed"] == [(2,), (1,), (0,)]
        assert not {noted(log, number) for number in range(3)} & set(values)

    in_thread(body)
    assert Counter(events(log)) == {"opened": 6, "closed": 6}


@pytest.mark.parametrize("use", USES)
def test_another_thread_closes_its_own_when_it_next_has_to_do_with_us(use: str, log: Log) -> None:
    """Whatever it does with us, it closes all that was retired, the last that was opened first; at its end at last."""
    with Plugin("plugin") as plugin:
        with working() as worker:
            worker.do(lambda: [noted(log, number) for number in range(2)])
            noted.close_all()
            noted.close_all()
            assert events(log) == ["opened"] * 2
            worker.do(lambda: USES[use](plugin) and None)
            assert events(log) == ["opened"] * 2 + ["closed"] * 2 * (use != "none")
    assert [(event, args) for event, _, args, _ in log[2:]] == [("closed", (1,)), ("closed", (0,))]
    assert {ident for _, ident, *_ in log} == {worker.thread.ident}


@pytest.mark.parametrize("of", ["a function", "an instance", "all instances"])
def test_a_thread_that_is_just_opening(of: str, log: Log) -> None:
    """The call that is opening returns its value; the next one in that thread closes this, and opens another."""
    opening, go_on = threading.Event(), threading.Event()

    class Slow:
        @per_thread
        def resource(self) -> Iterator[int]:
            number = log.count("opened")
            opening.set()
            assert go_on.wait(LONG)
            log.append("opened")
            yield number
            log.append("closed")

    slow = Slow()
    function = per_thread(functools.partial(Slow.resource.__wrapped__, slow))  # type: ignore[attr-defined]
    resource: Any = function if of == "a function" else slow.resource
    with working() as worker:
        first = worker.begin(resource)
        assert opening.wait(LONG)
        (Slow.resource if of == "all instances" else resource).close_all()
        go_on.set()
        assert first.result(LONG) == 0
        assert worker.do(resource) == 1
        assert log == ["opened", "closed", "opened"]


@pytest.mark.parametrize("anywhere", [False, True])
@pytest.mark.parametrize("moment", ["before its closing", "in its closing"])
def test_a_thread_that_is_just_exiting(moment: str, anywhere: bool) -> None:
    """Its value is closed once: by the thread, unless the caller comes before and may."""
    waiting, go_on = threading.Event(), threading.Event()
    closed: list[threading.Thread] = []

    def wait() -> None:
        waiting.set()
        assert go_on.wait(LONG)

    @per_thread
    def resource() -> Iterator[None]:
        yield
        if moment == "in its closing":
            wait()
        closed.append(threading.current_thread())

    def body() -> None:
        resource()
        if moment == "before its closing":
            finalize(wait)

    thread = threading.Thread(target=body)
    thread.start()
    assert waiting.wait(LONG)
    resource.close_all(anywhere=anywhere)
    early = list(closed)
    go_on.set()
    thread.join(LONG)
    by_caller = anywhere and moment == "before its closing"
    assert early == ([threading.current_thread()] if by_caller else [])
    assert closed == (early or [thread])


def test_anywhere_closes_what_other_threads_have_opened(log: Log) -> None:
    """Now, in the caller, even what was retired before; the others open anew, and close nothing twice."""
    with working() as first, working() as second:
        old = [worker.do(lambda: noted(log)) for worker in (first, second)]
        noted.close_all()
        noted.close_all(anywhere=True)
        assert [ident for event, ident, *_ in log if event == "closed"] == [threading.get_ident()] * 2
        assert first.do(lambda: noted(log)) not in old
    assert Counter(events(log)) == {"opened": 3, "closed": 3}


@pytest.mark.parametrize("args", [(), (1,)])
def test_a_closing_that_uses_what_was_closed_elsewhere(args: tuple[int, ...], log: Log) -> None:
    """It opens that anew, even if its thread has not had the time to forget the old one."""

    @per_thread
    def upper() -> Iterator[None]:
        old = noted(log, *args)
        yield
        log.append((noted(log, *args) is old,))

    with working() as worker:
        worker.do(upper)
        noted.close_all(anywhere=True)
        upper.close_all()
        worker.do(another)
    assert events(log) == ["opened", "closed", "opened", False, "closed"]


def test_what_was_closed_elsewhere_is_not_kept(no_collection: None) -> None:
    """The thread lets go of it when it next has to do with us, or ends."""

    @per_thread
    def resource() -> Iterator[Log]:
        yield Log()

    with working() as comes:
        with working() as ends:
            things = [worker.do(lambda: weakref.ref(resource())) for worker in (comes, ends)]
            resource.close_all(anywhere=True)
            comes.do(another)
            comes.do(int)  # a free-threaded build destroys an object in the thread that made it, when that comes by
            assert things[0]() is None
    assert things[1]() is None


def test_it_is_for_one_instance(log: Log) -> None:
    """In all threads; other instances keep their values, and so do other resources of the same instance."""

    class Two(Owner):
        @per_thread
        def other(self) -> Iterator[object]:
            yield object()

    one, two = Two(log), Two(log)

    def use() -> list[object]:
        return [one.resource(1), two.resource(2), one.other()]

    with working() as worker:
        here, there = use(), worker.do(use)
        one.resource.close_all()
        assert [new is old for new, old in zip(use(), here)] == [False, True, True]
        assert [new is old for new, old in zip(worker.do(use), there)] == [False, True, True]
        Two.resource.close_all()
        assert log.count(("closed", (1,))) == 3
        assert log.count(("closed", (2,))) == 1
        worker.do(another)
        Two.other.close_all()
    assert Counter(event for event, _ in log) == {"opened": 6, "closed": 6}


def test_another_instances_value_that_is_just_being_opened_stays() -> None:
    """What concerns one instance retires nothing of another one, nor another resource of the same."""
    opening, go_on = threading.Event(), threading.Event()

    class Slow(Owner):
        @per_thread
        def slow(self) -> Iterator[object]:
            opening.set()
            assert go_on.wait(LONG)
            yield object()

    opened, closed = Slow([]), Slow([])
    with working() as worker:
        value = worker.begin(opened.slow)
        assert opening.wait(LONG)
        closed.slow.close_all()
        opened.resource.close_all()
        go_on.set()
        assert worker.do(opened.slow) is value.result(LONG)


@pytest.mark.parametrize("anywhere", [False, True])
def test_what_fails(anywhere: bool, failures: list[Any]) -> None:
    """All are closed; the first exception of the caller's closings is raised, and all others are reported."""
    log: list[int] = []

    @per_thread
    def resource(number: int) -> Iterator[None]:
        yield
        log.append(number)
        raise OSError(number)

    with working() as worker, working() as caller:
        for number, opener in enumerate([worker, worker, caller, caller]):
            opener.do(lambda number=number: resource(number))  # type: ignore[misc]
        with pytest.raises(OSError, match="3"):
            caller.do(lambda: resource.close_all(anywhere=anywhere))
        worker.do(another)
    assert log == [3, 2, 1, 0]
    elsewhere = caller.thread if anywhere else worker.thread
    told = [(error.args[0], thread) for error, thread in failures]
    assert told == [(2, caller.thread), (1, elsewhere), (0, elsewhere)]
    assert all("resource" in error.__notes__[0] for error, _ in failures)


def test_what_fails_is_in_no_cycle(no_collection: None) -> None:
    """The exception that it raises is gone as soon as its catcher lets go of it, and with it what its frames hold."""
    caught: list[weakref.ref[Crash]] = []

    class Failing(Manager):
        def __exit__(self, *_: object) -> None:
            raise Crash

    def body() -> None:
        resource()
        try:
            resource.close_all()
        except Crash as error:
            caught.append(weakref.ref(error))

    resource = per_thread(lambda: Failing([]))
    in_thread(body)
    assert [error() for error in caught] == [None]


def test_in_its_own_opening_and_closing(log: Log) -> None:
    """Called by what it is about, it does nothing to what is being closed, and retires what is being opened."""

    @per_thread
    def resource() -> Iterator[object]:
        resource.close_all()
        log.append("opened")
        yield object()
        resource.close_all()
        log.append("closed")

    in_thread(lambda: (resource(), resource()))
    assert log == ["opened", "closed"] * 2


def test_a_thread_is_asked_once(log: Log) -> None:
    """However often a value is retired, that takes no more memory; a thread that has ended is asked nothing."""
    with working() as worker:
        worker.do(lambda: noted(log))
        (attachment,) = [found for found in attached() if found.thread is worker.thread]
        for _ in range(100):
            noted.close_all()
        assert len(attachment.asked) == 1
        worker.do(another)
        assert attachment.asked == []
    attachment.ask(int)
    assert attachment.asked == []


def test_a_thread_that_is_not_attached_stays_so() -> None:
    """Nothing is opened or attached, in any thread, for there is nothing to close."""
    with thread_exited.connected_to(heard := Mock()):
        in_thread(lambda: (noted.close_all(), noted.close_all(anywhere=True)))
    assert not heard.called


@pytest.mark.parametrize("anywhere", [False, True])
def test_many_threads_while_it_is_called_over_and_over(anywhere: bool, hurry: None) -> None:
    """No call returns a value that was opened before the last `close_all`, and each value is closed once."""
    numbers = itertools.count(1)
    opened: list[int] = []
    closed: list[tuple[int, int]] = []
    newest_that_is_retired = [0]
    wrong: list[object] = []
    stop = threading.Event()

    @per_thread
    def resource() -> Iterator[int]:
        number = next(numbers)
        opened.append(number)
        ident = threading.get_native_id()
        yield number
        closed.append((number, threading.get_native_id() - ident))

    def body() -> None:
        turn = 0
        while not stop.is_set():
            retired = newest_that_is_retired[0]
            number = resource()
            if number <= retired:
                wrong.append((number, retired))
            turn += 1
            if turn % 5 == 0:
                resource.close()

    def retire() -> None:
        try:
            for _ in range(150):
                newest = next(numbers)
                resource.close_all(anywhere=anywhere)
                newest_that_is_retired[0] = newest
        finally:
            stop.set()

    brief = threading.Thread(target=lambda: [run(threading.Thread(target=resource)) for _ in range(5)])
    run_all([brief, *(threading.Thread(target=body) for _ in range(3)), threading.Thread(target=retire)])
    assert wrong == []
    assert sorted(opened) == sorted(number for number, _ in closed)
    assert anywhere or {distance for _, distance in closed} == {0}
