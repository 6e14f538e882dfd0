"""A timeline as trace events: a track for each thread, and nothing that a reader would drop."""

from __future__ import annotations

import json
from typing import Any

import pytest
from timelines import HOSTILE, crowd, failed, never_ended, raised, thread, timeline

from threadhooks import _trace


def events(data: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    """The events that have these fields."""
    found = json.loads(json.dumps(_trace.trace_events(data)))["traceEvents"]
    return [event for event in found if fields.items() <= event.items()]


def test_a_track_for_each_thread() -> None:
    """Each thread has a track with its name, although idents are used again; the main thread's has its pid."""
    data = timeline(thread(0), *(thread(number) for number in range(1, 10)))
    named = events(data, name="thread_name")
    assert [event["args"]["name"] for event in named] == [one["name"] for one in data["threads"]]
    assert len({event["tid"] for event in named}) == 10
    assert named[0]["tid"] == named[0]["pid"] == 4711


def test_a_life_in_microseconds() -> None:
    """A life is one complete event, with its teardown in it and what is known of the thread beside it."""
    data = timeline(thread(0), thread(1, started=1.5, run_ended=2.0, ended=2.25))
    (life,) = events(data, ph="X", name="program.work")
    (teardown,) = events(data, ph="X", name="thread teardown")
    assert (life["ts"], life["dur"], teardown["ts"], teardown["dur"]) == (1_500_000, 750_000, 2_000_000, 250_000)
    assert life["args"]["started_at"] == "/src/program.py:12 in main"
    assert life["args"]["state"] == "ended"


def test_what_is_older_or_goes_on() -> None:
    """A thread older than the capture is there from the start, one that never ended to the end; both say so."""
    main, leaked = events(timeline(thread(0), never_ended(4)), ph="X")
    assert (main["ts"], main["dur"], main["args"]["started"]) == (0, 10_000_000, "before the capture")
    assert (leaked["ts"], leaked["dur"], leaked["args"]["state"]) == (4_000_000, 6_000_000, "leaked")
    assert leaked["args"]["now"] == "/src/program.py:77 in wait_for_more"


def test_crashes_and_failed_hooks_are_instants() -> None:
    """A crash stands at the end of run(), and a failed hook where it failed, each in its thread."""
    data = timeline(thread(0), thread(1, exception=raised("KeyError", "'user'")), hooks=(failed(1, 1.45),))
    crash, hook = events(data, ph="i", s="t")
    assert (crash["name"], crash["ts"], crash["tid"]) == ("KeyError: 'user'", 1_400_000, 4712)
    assert (hook["name"], hook["ts"], hook["tid"]) == ("hook failed: program.close", 1_450_000, 4712)


def test_a_hook_of_a_thread_that_was_left_out() -> None:
    """A hook that failed in a thread that isn't in the picture is an instant of the whole process."""
    (hook,) = events(timeline(thread(0), hooks=(failed(1, 2.0, thread=None),)), ph="i")
    assert (hook["s"], hook["tid"]) == ("p", 4711)


def test_an_arrow_from_the_parent() -> None:
    """An arrow leads from the thread that called start() to the one that it started, unless one of them isn't known."""
    data = timeline(thread(0), thread(1), thread(2, parent=1), thread(3, parent=99))
    arrows = {(event["ph"], event["id"]): event["tid"] - 4711 for event in events(data, cat="start")}
    assert arrows == {("s", 1): 0, ("f", 1): 1, ("s", 2): 1, ("f", 2): 2}


def test_a_counter_of_the_living() -> None:
    """A counter tells how many threads are alive besides the main one."""
    counts = [(event["ts"], event["args"]["threads"]) for event in events(timeline(thread(0), thread(1)), ph="C")]
    assert counts == [(1_000_000, 1), (1_500_000, 0)]


def test_a_teardown_ends_with_its_life() -> None:
    """Rounding never makes a teardown end after the life that it is part of, for readers drop what overlaps."""
    ends: dict[int, int] = {}
    for event in events(crowd(2000), ph="X"):
        end = event["ts"] + event["dur"]
        assert type(end) is int
        assert ends.setdefault(event["tid"], end) == end


@pytest.mark.parametrize("name", HOSTILE)
def test_any_name(name: str) -> None:
    """Whatever a thread is called, it is so in its track."""
    named = events(timeline(thread(0), thread(1, name or None)), name="thread_name")
    assert named[1]["args"]["name"] == (name or "worker-1")
