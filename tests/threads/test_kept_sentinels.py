"""A sentinel that somebody keeps beyond its thread's end: nothing runs in a wrong thread, and that is reported."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from loops import Worker
from support import Farewell, Steal, in_thread, with_its_sentinel

import threadhooks
from threadhooks.threadref import finalize, ref


def test_a_sentinel_can_not_be_weakly_referenced(steal: Steal) -> None:
    """Nobody gets a sentinel by dereferencing something."""
    _, sentinels = with_its_sentinel(steal, threadhooks.attach)
    for sentinel in sentinels:
        with pytest.raises(TypeError, match="weak reference"):
            weakref.ref(sentinel)


def test_a_kept_sentinel_closes_no_resource(reports: list[Any], exits: list[Any], steal: Steal) -> None:
    """Not even the `finally` of a generator runs in the thread that drops another one's sentinel; no signal is sent."""
    log: list[Any] = []

    @threadhooks.per_thread
    def guarded() -> Iterator[None]:
        try:
            yield
        finally:
            log.append(threading.current_thread())

    _, kept = with_its_sentinel(steal, guarded)
    kept.clear()
    gc.collect()
    assert log == exits == []
    assert "guarded" in str(reports[0].exc_value)


def test_the_report_of_a_kept_sentinel_names_all_hooks(reports: list[Any], steal: Steal) -> None:
    """What is not run is named in the order of registration, be it false, or not fit for a truth value at all."""
    kept: list[Any] = []

    class Falsy:
        def __init__(self, number: int) -> None:
            self.number = number

        def __call__(self, *_: object) -> None: ...

        def __bool__(self) -> bool:
            raise ValueError("ambiguous")

        def __repr__(self) -> str:
            return f"hook {self.number}"

    def body() -> None:
        kept.append(steal(lambda: finalize(Falsy(0))))
        kept.extend([ref(Falsy(1)), ref(), ref(Falsy(2))])

    in_thread(body)
    kept[0].clear()
    assert [str(report.exc_value).partition("not run: ")[2] for report in reports] == ["[hook 0, hook 1, hook 2]"]


@pytest.mark.filterwarnings("ignore:early cleanup:ResourceWarning")
def test_the_report_of_a_kept_sentinel_names_early_hooks(reports: list[Any], steal: Steal) -> None:
    """What was to run early, and is not run at all, is named, too."""
    with threadhooks.Plugin("lost") as plugin:
        _, kept = with_its_sentinel(steal, lambda: plugin.register_early(Farewell, "early"))
        kept.clear()
    assert [str(report.exc_value).count("Farewell of plugin 'lost'") for report in reports] == [1]


def test_what_a_kept_sentinel_costs_is_not_destroyed(reports: list[Any], steal: Steal) -> None:
    """The arguments of hooks that are not run live on: they may belong to their thread."""
    destroyed: list[bool] = []
    _, kept = with_its_sentinel(steal, lambda: finalize(print, Farewell(lambda: destroyed.append(True))))
    kept.clear()
    reports.clear()
    gc.collect()
    assert destroyed == []


def test_a_sentinel_that_was_kept_is_reported_though_its_ident_is_in_use_again(
    reports: list[Any], steal: Steal
) -> None:
    """A thread with the ident of one that has ended is not taken for it."""
    log: list[str] = []
    first, kept = with_its_sentinel(steal, lambda: finalize(log.append, "must not run"))
    others: list[Worker] = []
    while kept and len(others) < 100:  # that live together, so that each has an ident of its own
        others.append(Worker(lambda: threading.get_ident() == first.ident and kept.clear()).begin())
    for other in others:
        other.end()
    if kept:
        kept.clear()
        pytest.skip("no ident was used again")
    assert [(report.exc_type, report.thread) for report in reports] == [(RuntimeError, first)]
    assert log == []


def test_a_sentinel_that_its_own_thread_drops_late_is_in_order(reports: list[Any], steal: Steal) -> None:
    """A sentinel that is kept, and given back in time, does no harm."""
    log: list[str] = []

    def body() -> None:
        kept = steal(lambda: finalize(log.append, "runs"))
        assert len(kept) == 2
        kept.clear()

    in_thread(body)
    assert (log, reports) == (["runs"], [])
