"""Which thread is drawn in which lane, and what became of it."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from timelines import never_ended, raised, thread, timeline

from threadhooks import _lanes
from threadhooks._summary import counts


def names(data: dict[str, Any]) -> list[tuple[int, str]]:
    """The lanes, each as its depth and what is in it."""
    return [(lane.depth, " ".join(one["name"] for one in lane.threads)) for lane in _lanes.lanes(data)]


def test_children_stand_below_who_started_them() -> None:
    """A thread stands below the one that started it, further in; the main thread comes first."""
    child, grandchild = thread(2, "child", parent=1), thread(4, "grandchild", parent=2)
    data = timeline(thread(3, "other"), child, thread(1, "parent"), thread(0), grandchild)
    assert names(data) == [(0, "MainThread"), (1, "parent"), (2, "child"), (3, "grandchild"), (1, "other")]


def test_a_few_of_a_kind_have_a_lane_each() -> None:
    """Workers that follow each other stand in one lane each, as long as they are few."""
    workers = [thread(number) for number in range(1, _lanes.OWN_LANES + 1)]
    assert len(_lanes.lanes(timeline(thread(0), *workers))) == 1 + _lanes.OWN_LANES


def test_many_short_lives_share_lanes() -> None:
    """A hundred requests, two at a time, need two lanes; the first tells how many they are, and of what kind."""
    requests = [thread(n, f"request-{n}", started=n / 2, ended=n / 2 + 0.9, run_ended=None) for n in range(1, 101)]
    first, second = _lanes.lanes(timeline(thread(0), *requests, duration=60.0))[1:]
    assert (first.label, first.size, second.label) == ("request", 100, None)
    assert len(first.threads) == len(second.threads) == 50


def test_children_of_a_crowd_stand_below_all_of_it() -> None:
    """What the threads of a shared lane started stands below their lanes."""
    requests = [thread(n, f"request-{n}") for n in range(1, 20)]
    logs = [thread(100 + n, f"log-{n}", parent=n, started=n + 0.1, ended=n + 0.2) for n in range(1, 20)]
    found = _lanes.lanes(timeline(thread(0), *requests, *logs, duration=30.0))
    assert [(lane.depth, lane.label, lane.size) for lane in found] == [
        (0, "MainThread", 1), (1, "request", 19), (2, "log", 19)
    ]  # fmt: skip


def test_who_never_ended_keeps_its_lane() -> None:
    """No thread comes after one that never ended in its lane, not even at the moment at which the capture ended."""
    threads = [never_ended(1, started=9.0), thread(2, started=10.0, ended=10.0)]
    assert len(_lanes.pack(threads, 10.0)) == 2


def test_an_orphan_stands_on_its_own() -> None:
    """A thread whose parent was left out of the capture stands at the margin."""
    assert names(timeline(thread(0), thread(7, "orphan", parent=5))) == [(0, "MainThread"), (0, "orphan")]


def test_a_timer_that_starts_the_next() -> None:
    """Ten thousand timers, each started by the one before, need no more than two lanes."""
    timers = [thread(n, f"Thread-{n}", parent=n - 1, target="threading.Timer.run") for n in range(1, 10_001)]
    found = _lanes.lanes(timeline(thread(0), *timers, duration=10_002.0))
    assert len(found) <= 3
    assert found[1].label == "threading.Timer.run"


def test_a_long_chain_of_different_kinds() -> None:
    """Threads of two kinds that start each other by turns are indented no deeper than a page can show."""
    chain = [thread(n, "ping" if n % 2 else "pong", parent=n - 1, target=None) for n in range(1, 3001)]
    found = _lanes.lanes(timeline(thread(0), *chain, duration=3002.0))
    assert max(lane.depth for lane in found) <= _lanes.DEEPEST + 1
    assert len(found) < 30


def test_names_that_are_all_different() -> None:
    """A thousand names that have nothing in common don't make a thousand lanes."""
    letters = string.ascii_lowercase
    threads = [
        thread(n, letters[n % 26] + letters[n // 26 % 26] + letters[n // 676], target=None) for n in range(1, 1000)
    ]
    found = _lanes.lanes(timeline(thread(0), *threads, duration=1001.0))
    assert [(lane.label, lane.size) for lane in found] == [("MainThread", 1), ("various", 999)]


@pytest.mark.parametrize(
    ("name", "target", "kind"),
    [
        ("ThreadPoolExecutor-0_3", "concurrent.futures.thread._worker", "ThreadPoolExecutor-0"),
        ("Thread-12 (handle)", "app.handle", "handle"),
        ("Thread-12", "threading.Timer.run", "threading.Timer.run"),
        ("Thread-12", None, "Thread"),
        ("Dummy-4", None, "Dummy"),
        ("flusher", "app.flush", "app.flush"),
        ("flusher", None, "flusher"),
        ("7", "app.work", "app.work"),
    ],
)
def test_kinds(name: str, target: str | None, kind: str) -> None:
    """Threads are of one kind if their names differ by a number only, or if they do the same."""
    assert _lanes.kind(thread(1, name, target=target)) == kind


@pytest.mark.parametrize(
    ("state", "look", "fields"),
    [
        ("ended", "ended", {}),
        ("ended", "daemon", {"daemon": True}),
        ("ended", "foreign", {"daemon": True, "foreign": True}),
        ("crashed", "crashed", {"exception": raised()}),
        ("crashed", "crashed", {"exception": raised(), "daemon": True}),
        ("leaked", "leaked", {"ended": None}),
        ("running", "daemon", {"ended": None, "daemon": True}),
        ("running", "foreign", {"ended": None, "foreign": True}),
        ("running", "main", {"ended": None, "main": True}),
        ("running", "ended", {"ended": None, "started": None}),
    ],
)
def test_states(state: str, look: str, fields: dict[str, Any]) -> None:
    """A thread leaked if it began in the capture, never ended, and is none of those that may stay."""
    one = thread(1, **fields)
    assert (_lanes.state(one), _lanes.look(one)) == (state, look)


def test_how_many_were_alive() -> None:
    """The count, without the main thread, changes as threads start and end, not as one follows another at once."""
    threads = [thread(0), thread(1, ended=3.0), thread(2, ended=4.0), thread(3, ended=5.0), never_ended(6)]
    assert _lanes.alive(threads) == [(1.0, 1), (2.0, 2), (4.0, 1), (5.0, 0), (6.0, 1)]


@st.composite
def captures(draw: st.DrawFn) -> dict[str, Any]:
    threads = [thread(0)]
    for number in range(1, draw(st.integers(1, 25))):
        began = draw(st.integers(0, 20))
        life = draw(st.none() | st.integers(0, 10))
        name = draw(st.sampled_from(["work", "load", "save", "Thread"])) + f"-{number}"
        ended = None if life is None else began + life
        parent = draw(st.none() | st.integers(0, number - 1))
        threads.append(thread(number, name, started=began, run_ended=None, ended=ended, parent=parent))
    return timeline(*threads, duration=30.0)


@settings(max_examples=100, deadline=None)
@given(captures())
def test_everybody_has_one_place(data: dict[str, Any]) -> None:
    """Every thread is in one lane, and no lane has two that live at the same time."""
    found = _lanes.lanes(data)
    numbers = [one["number"] for lane in found for one in lane.threads]
    assert sorted(numbers) == [one["number"] for one in data["threads"]]
    for lane in found:
        for before, after in zip(lane.threads, lane.threads[1:], strict=False):
            assert before["ended"] is not None
            assert before["ended"] <= after["started"]


@settings(max_examples=100, deadline=None)
@given(captures())
def test_no_lane_is_wasted(data: dict[str, Any]) -> None:
    """Lives are packed into as many lanes as there are threads at one time, and into no more."""
    others = data["threads"][1:]
    lives = [one for one in others if one["ended"] is None or one["ended"] != one["started"]]
    threads = sorted(lives, key=_lanes.begin)
    most = max((count for _, count in _lanes.alive(threads)), default=0)
    assert len(_lanes.pack(threads, data["duration"])) == most


@settings(max_examples=100, deadline=None)
@given(captures())
def test_picture_and_summary_count_alike(data: dict[str, Any]) -> None:
    """A picture shows as many at one time, and as many that never ended, as the summary tells."""
    told = counts(data["threads"], data["duration"])
    assert told["most_at_once"] == max((count for _, count in _lanes.alive(data["threads"])), default=0)
    assert told["running"] == sum(map(_lanes.never_ended, data["threads"]))
