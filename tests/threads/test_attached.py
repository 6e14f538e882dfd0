"""Which threads are known: what `threads()` lists, and what is remembered of those that have ended."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from support import LONG, in_thread

import threadhooks
from threadhooks import _attached, thread_exited, thread_started, threads
from threadhooks._sentinel import current
from threadhooks.threadref import finalize


class Parked:
    """A thread that has executed `body`, and ends with the ``with`` block."""

    def __init__(self, body: Any, name: str) -> None:
        self.ready, self.end = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=lambda: (body(), self.ready.set(), self.end.wait(LONG)), name=name)

    def __enter__(self) -> threading.Thread:
        self.thread.start()
        assert self.ready.wait(LONG)
        return self.thread

    def __exit__(self, *_: object) -> None:
        self.end.set()
        self.thread.join(LONG)


def known() -> list[str]:
    """The threads that are listed, except for those that the tests have from elsewhere."""
    return [info.name for info in threads() if info.thread is not threading.main_thread()]


def test_threads_lists_those_that_are_attached_and_alive(exits: list[Any]) -> None:
    """The oldest first, with the record that receivers get, until its last hook has run."""
    seen: list[list[str]] = []
    with Parked(lambda: finalize(lambda: seen.append(known())), "b") as b, Parked(threadhooks.attach, "a"):
        with Parked(int, "not attached"), thread_exited.connected_to(lambda thread, **extra: seen.append(known())):
            assert known() == ["b", "a"]
            records = {info.thread: info for info in threads()}
            in_thread(threadhooks.attach, "exits")
    assert seen == [["b", "a", "exits"], ["b"]]
    assert known() == []
    assert (b, records[b], None) in exits


def test_who_has_announced_its_start() -> None:
    """`announced` tells those under `install`, and in a block, from those that have only attached themselves.

    A record that was made before its thread announces itself does not change; the next one says it.
    """
    infos: list[threadhooks.ThreadInfo] = []

    def block() -> None:
        infos.append(threadhooks.attach())
        with threadhooks.announced() as info:
            infos.append(info)
        infos.append(threadhooks.attach())

    with Parked(threadhooks.attach, "older"), threadhooks.installed():
        with thread_started.connected_to(lambda thread, **extra: None), Parked(int, "installed"):
            announced = {info.name: info.announced for info in threads() if info.name in known()}
            assert announced == {"older": False, "installed": True}
    with thread_started.connected_to(lambda thread, **extra: None):
        in_thread(block)
    assert infos == [infos[0], infos[0]._replace(announced=True), infos[1]]
    assert infos[0].announced is False


def test_how_many_exits_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many idents a program sees, the newest thousand at most are kept, the last one among them."""
    monkeypatch.setattr(_attached, "ended", {})
    for ident in range(20_000):
        _attached.remember_end(ident, native_id=ident + 1)
        assert len(_attached.ended) <= 1000
    assert _attached.ended.get(19_999) == 20_000
    assert _attached.ended.get(19_600) == 19_601
    assert _attached.ended.get(5) != 6


def test_an_ident_that_comes_back_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered of an ident is its last thread, and it counts as new."""
    monkeypatch.setattr(_attached, "ended", {})
    for ident in range(999):
        _attached.remember_end(ident, native_id=1)
    _attached.remember_end(0, native_id=2)
    for ident in range(1000, 1010):
        _attached.remember_end(ident, native_id=1)
    assert _attached.ended.get(0) == 2


def test_what_a_thread_is_asked_to_do_may_fail(reports: list[threading.ExceptHookArgs]) -> None:
    """What an errand raises is reported with the thread, and the next one is done."""
    done: list[str] = []

    def fails() -> None:
        raise ValueError("on purpose")

    def body() -> None:
        attachment = current()
        attachment.ask(lambda: done.append("the next"))
        attachment.ask(fails)  # which comes first: the last of them does
        threadhooks.attach()

    thread = in_thread(body)
    assert [(report.exc_type, report.thread) for report in reports] == [(ValueError, thread)]
    assert done == ["the next"]
