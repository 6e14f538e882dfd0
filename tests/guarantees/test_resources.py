"""What docs/guarantees.md says of `per_thread`, each promise and each limit by its number."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from resourcing import Owner, events, noted, working
from support import Log, in_thread

import threadhooks
from threadhooks import per_thread


def test_g20_a_resource_of_each_thread(log: Log) -> None:
    """A `per_thread` value is opened once in a thread, and closed once, in that thread, before what it was built on."""

    @per_thread
    def upper() -> Iterator[object]:
        noted(log)
        yield object()
        log.append(("upper closed", threading.get_ident()))

    thread = in_thread(lambda: upper() is upper() or log.append(("opened twice", 0)))
    assert events(log) == ["opened", "upper closed", "closed"]
    assert {ident for _, ident, *_ in log} == {thread.ident}


def test_g20_no_value_from_before_close_all(log: Log) -> None:
    """Once `close_all` has returned, each thread opens anew; its old value is closed in that thread."""
    with working() as worker:
        old = worker.do(lambda: noted(log))
        noted.close_all()
        assert events(log) == ["opened"]
        assert worker.do(lambda: noted(log)) is not old
    assert events(log) == ["opened", "closed", "opened", "closed"]
    assert {ident for _, ident, *_ in log} == {worker.thread.ident}


def test_g21_a_crash_is_thrown_into_the_resource(failures: list[Any]) -> None:
    """If `run()` raised and the thread announces itself, the generator gets the exception."""
    events: list[str] = []

    @per_thread
    def transaction() -> Iterator[None]:
        try:
            yield
        except ZeroDivisionError:
            events.append("rolled back")
        else:
            events.append("committed")

    def crash() -> None:
        transaction()
        raise ZeroDivisionError

    with threadhooks.installed():
        in_thread(transaction)
        in_thread(crash)
    assert events == ["committed", "rolled back"]


def test_g21_nothing_is_committed(failures: list[Any]) -> None:
    """A connection whose `with` commits is closed, whether its thread crashes or not."""
    done: list[str] = []

    class Connection:
        def __enter__(self) -> Connection:  # noqa: PYI034
            return self

        def __exit__(self, *error: object) -> None:
            done.append("commit")

        def close(self) -> None:
            done.append("close")

    connection = per_thread(Connection)
    in_thread(connection)
    in_thread(lambda: [connection()][1])
    assert done == ["close", "close"]


def test_l24_an_instance_that_dies_elsewhere(log: Log) -> None:
    """An instance's value in another thread is closed there, when that thread has to do with us or ends."""
    owner = [Owner(log)]
    with working() as worker:
        worker.do(lambda: owner[0].resource() and None)
        owner.clear()
        gc.collect()
        assert events(log) == ["opened"]
        log.append(("asked",))
        worker.do(threadhooks.attach)
    assert events(log) == ["opened", "asked", "closed"]


@pytest.mark.parametrize("anywhere", [False, True])
def test_l42_a_thread_that_has_nothing_to_do_with_us(log: Log, anywhere: bool) -> None:
    """It keeps what it should close until it ends; `close_all(anywhere=True)` does not wait for it."""
    with working() as worker:
        worker.do(lambda: noted(log) and None)
        noted.close_all(anywhere=anywhere)
        log.append(("retired", 0))
    closed_by = threading.get_ident() if anywhere else worker.thread.ident
    expected = [("retired", 0), ("closed", closed_by)]
    assert [each[:2] for each in log[1:]] == (expected[::-1] if anywhere else expected)


def test_l43_closed_while_it_is_used() -> None:
    """A value that is kept is closed under its user's hands; the next call opens another."""

    @per_thread
    def resource() -> Iterator[dict[str, bool]]:
        value = {"open": True}
        yield value
        value["open"] = False

    def body() -> None:
        kept = resource()
        in_thread(resource.close_all)
        assert kept["open"]
        threadhooks.threadref.finalize(int)
        assert not kept["open"]
        kept = resource()
        in_thread(lambda: resource.close_all(anywhere=True))
        assert not kept["open"]
        assert resource()["open"]
        passed.append(True)

    passed: list[bool] = []
    in_thread(body)
    assert passed


def test_l44_a_close_that_is_not_the_end() -> None:
    """What has a `close` and is its own manager is closed by it, even if to leave it would do more."""
    done: list[str] = []

    class Browser:
        def __enter__(self) -> Browser:  # noqa: PYI034
            return self

        def __exit__(self, *error: object) -> None:
            done.append("quit")

        def close(self) -> None:
            done.append("close a window")

    in_thread(per_thread(Browser))
    assert done == ["close a window"]
