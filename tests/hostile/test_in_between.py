"""What another thread does between two steps: each is held open by what a test puts in the place of a function."""

from __future__ import annotations

import asyncio
import threading
from _thread import start_new_thread
from collections.abc import Iterator
from typing import Any

import pytest
from loops import Worker, nothing
from support import LONG, in_thread, run

import threadhooks
from threadhooks import Timeline, _attached, _attachment, _capture, _entry_points, _values, aio, per_thread
from threadhooks._attached import attached


def names(timeline: Timeline) -> list[str]:
    return [life.name for life in timeline.threads if not life.main]


# Timeline


def test_a_thread_that_ends_as_the_capture_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is seen, though nobody notes its end any more."""
    stop = _capture.Capture.stop
    worker = Worker(nothing)

    def stopping(self: _capture.Capture) -> None:
        stop(self)
        worker.end()

    monkeypatch.setattr(_capture.Capture, "stop", stopping)
    with Timeline() as timeline:
        worker.begin()
    assert names(timeline) == ["worker"]


def test_a_look_as_the_capture_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who looks meanwhile sees what is seen afterwards."""
    stop = _capture.Capture.stop
    looks = threading.Thread(target=lambda: seen.append(timeline.threads))
    seen: list[Any] = []

    def stopping(self: _capture.Capture) -> None:
        stop(self)
        looks.start()

    monkeypatch.setattr(_capture.Capture, "stop", stopping)
    with Timeline() as timeline:
        in_thread(nothing, "child")
    looks.join(LONG)
    assert seen == [timeline.threads]
    assert names(timeline) == ["child"]


def test_threads_that_start_and_end_as_the_capture_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is seen once: one that runs on, one that has ended, and one that ends while it is looked for."""
    meet, enumerate_ = _capture.Capture.meet, threading.enumerate
    stays, ends = Worker(nothing), Worker(nothing)
    stays.name, ends.name = "stays", "ends"

    def listing() -> list[threading.Thread]:
        monkeypatch.setattr(threading, "enumerate", enumerate_)
        threads = threading.enumerate()
        ends.end()
        return threads

    def meeting(self: _capture.Capture, *, foreign: bool) -> None:
        if not foreign:
            stays.begin()
            in_thread(nothing, "has ended")
            ends.begin()
            monkeypatch.setattr(threading, "enumerate", listing)
        meet(self, foreign=foreign)

    monkeypatch.setattr(_capture.Capture, "meet", meeting)
    with Timeline() as timeline:
        stays.end()
    assert sorted(names(timeline)) == ["ends", "has ended", "stays"]
    assert all(life.ended is not None for life in timeline.threads if not life.main)


def test_a_thread_that_is_left_out_during_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that ends while somebody looks is either listed, or counted as left out."""
    sort_out = threadhooks.timeline._sort_out
    worker = Worker(nothing)

    def sorting(*args: Any) -> Any:
        if not worker.go.is_set():
            worker.end()
        return sort_out(*args)

    monkeypatch.setattr(threadhooks.timeline, "_sort_out", sorting)
    with Timeline(limit=1) as timeline:
        in_thread(nothing, "first")
        worker.begin()
        for _ in range(2):
            data = timeline.as_dict()
            assert data["summary"]["started"] == 2
            assert len(data["threads"]) + data["left_out"] == 3  # with the main thread


def test_a_thread_that_is_started_by_no_python_code(reports: list[threading.ExceptHookArgs]) -> None:
    """It is seen like others; the line that started it is ours."""
    done = threading.Event()
    thread = threading.Thread(target=done.set, name="started by C code")
    with Timeline() as timeline:
        start_new_thread(thread.start, ())
        assert done.wait(LONG)
        thread.join(LONG)
    [life] = [life for life in timeline.threads if life.name == "started by C code"]
    assert (life.ended is not None, reports) == (True, [])


def test_an_older_thread_that_attaches() -> None:
    """It has not started during the capture, though it attaches then."""
    go = threading.Event()
    thread = threading.Thread(target=lambda: (go.wait(LONG), threadhooks.attach()), name="older")
    thread.start()
    with Timeline() as timeline:
        go.set()
        thread.join(LONG)
    [life] = [life for life in timeline.threads if life.name == "older"]
    assert (life.started, life.ended is None) == (None, False)


# The engine


def test_a_record_that_is_made_as_the_start_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that the start was announced, though it was begun before."""
    record, start_of_run = _attachment.ThreadInfo, _attachment.Attachment.start_of_run
    ready, announces, announced, end = (threading.Event() for _ in range(4))
    infos: list[Any] = []

    def making(*args: Any) -> Any:
        monkeypatch.setattr(_attachment, "ThreadInfo", record)
        announces.set()
        assert announced.wait(LONG)
        return record(*args)

    def starting(self: Any) -> None:
        self.announced = True
        announced.set()
        start_of_run(self)

    def body() -> None:
        threadhooks.threadref.finalize(nothing)  # attaches without a record
        ready.set()
        assert announces.wait(LONG)
        with threadhooks.announced():
            assert end.wait(LONG)

    def hear(thread: threading.Thread, info: threadhooks.ThreadInfo, **extra: Any) -> None:
        infos.append(info)

    monkeypatch.setattr(_attachment.Attachment, "start_of_run", starting)
    thread = threading.Thread(target=body)
    with threadhooks.thread_exited.connected_to(hear, thread), threadhooks.thread_started.connected_to(hear, thread):
        thread.start()
        assert ready.wait(LONG)
        monkeypatch.setattr(_attachment, "ThreadInfo", making)
        infos += [info for info in threadhooks.threads() if info.thread is thread]
        end.set()
        thread.join(LONG)
    assert [info.announced for info in infos] == [True, True, True]


def test_an_exit_that_is_over_as_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is kept of a thread that ends while the attached threads are being listed."""
    worker = Worker().begin()
    has_ended = _attached.has_ended

    def ending(thread: threading.Thread) -> bool:
        if thread is worker:
            worker.end()
        return has_ended(thread)

    monkeypatch.setattr(_attached, "has_ended", ending)
    before = len(_attached._abandoned)
    assert worker not in [attachment.thread for attachment in attached()]
    assert len(_attached._abandoned) == before


# Subscribers


def test_a_value_that_is_closed_elsewhere_as_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is kept for its owner."""

    class Owner:
        @per_thread
        def resource(self) -> Iterator[object]:
            yield object()

    class Values(dict[Any, None]):
        def __setitem__(self, key: Any, value: None) -> None:
            super().__setitem__(key, value)
            in_thread(lambda: Owner.resource.close_all(anywhere=True))

    owner = Owner()
    monkeypatch.setattr(vars(Owner)["resource"]._opened, "values", Values())
    in_thread(owner.resource)
    assert [list(known.values) for known in _values._owners.values() if known() is owner] == [[]]


def test_plugins_that_are_loaded_in_two_threads(
    monkeypatch: pytest.MonkeyPatch, reports: list[threading.ExceptHookArgs]
) -> None:
    """While one thread loads an entry point, another one leaves it alone, and reports nothing."""

    class EntryPoint:
        name = value = "of two threads"

        def load(self) -> Any:
            return lambda plugin: None

    def load() -> None:
        loaded.append(_entry_points._load(entry_point, source))

    def making(name: str) -> Any:
        plugin = threadhooks.Plugin(name)
        run(threading.Thread(target=load))
        return plugin

    entry_point: Any = EntryPoint()
    source: Any = _entry_points._Source(object(), entry_point)  # type: ignore[arg-type]
    loaded: list[Any] = []
    monkeypatch.setattr(_entry_points, "Plugin", making)
    load()
    try:
        assert loaded[0] is None
        assert loaded[1].name == "of two threads"
        assert reports == []
    finally:
        loaded[1].close()
        _entry_points._loaded.pop(("of two threads", "of two threads"))


def test_a_record_that_comes_as_the_iteration_is_closed() -> None:
    """Of two tasks that wait for exits, none gets a record after `aclose()`."""

    async def main() -> list[Any]:
        exits = aio.exits()
        tasks = [asyncio.ensure_future(exits.__anext__()) for _ in range(2)]
        await asyncio.sleep(0)
        await exits.aclose()
        exits._queue.put_nowait("late")  # type: ignore[arg-type]  # what the loop was asked to do before
        return [type(result) for result in await asyncio.gather(*tasks, return_exceptions=True)]

    assert asyncio.run(main()) == [StopAsyncIteration] * 2
