"""What one plugin can do to another by public means: what is prevented, and what is not (L41 in docs/guarantees.md)."""

from __future__ import annotations

import functools
import itertools
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
from hooks import CLEANUPS, Kind
from support import Thrown, as_it_dies, in_thread, not_traced, run, thrower

import threadhooks
from threadhooks import Plugin, _stack

PACKAGE = str(Path(threadhooks.__file__).parent)


class Good(Plugin):
    """The plugin that comes to harm, or doesn't: ten cleanups and ten receivers, which say that they were called."""

    def __init__(self) -> None:
        super().__init__("good")
        self.ran: list[int] = []
        self.heard: list[int] = []
        for number in range(10):
            self.thread_exited(functools.partial(lambda number, *_, **extra: self.heard.append(number), number))

    def exit(self, attack: Callable[[], object]) -> threading.Thread:
        """A thread that has registered the cleanups, has called `attack` after each, and has ended."""

        def body() -> None:
            for number in range(10):
                self.register(self.ran.append, number)
                kept.append(attack())

        kept: list[object] = []
        return in_thread(body)


@pytest.fixture
def good() -> Iterator[Good]:
    with Good() as good:
        yield good


CLEANUPS_RAN = list(range(10))[::-1]
RECEIVERS_RAN = list(range(10))


@not_traced
@pytest.mark.parametrize("kind", CLEANUPS, ids=lambda kind: kind.name)
def test_an_argument_that_throws_as_it_dies(kind: Kind, good: Good, plugin: Plugin, reports: list[Any]) -> None:
    """Its own hook has run; the other plugin's, which come next, run. Each of these exceptions is reported."""
    good.exit(lambda: kind.add(plugin, functools.partial(lambda argument: None, as_it_dies(thrower()))))
    assert (good.ran, good.heard) == (CLEANUPS_RAN, RECEIVERS_RAN)
    assert [report.exc_type for report in reports] == [Thrown] * 10


def test_an_endless_loop_that_is_slow(
    good: Good, plugin: Plugin, reports: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound is a number, not a time: the other plugin's hooks run late, and so does who waits for the thread."""
    monkeypatch.setattr(_stack, "MOST_ADDED_MEANWHILE", 100)

    def again() -> None:
        time.sleep(0.002)
        plugin.register(again)

    start = time.monotonic()
    good.exit(lambda: plugin.register(again) if not plugin.pending() else None)
    assert time.monotonic() - start > 0.2
    assert (good.ran, good.heard) == (CLEANUPS_RAN, RECEIVERS_RAN)
    assert [report.exc_type for report in reports] == [RuntimeError]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there is no sys.monitoring")
def test_a_monitoring_callback_that_raises(good: Good, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raised at the entry of any function of ours, it costs one hook at most; what follows runs, once, in order."""
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    monkeypatch.setattr(sys, "unraisablehook", lambda args: None)
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined]
    starts: Iterator[int] = itertools.count()

    def raises(code: CodeType, offset: int) -> None:
        if code.co_filename.startswith(PACKAGE) and exiting.is_set() and next(starts) == number:
            raise Thrown

    exiting = threading.Event()
    monitoring.use_tool_id(3, "evil")
    try:
        monitoring.register_callback(3, monitoring.events.PY_START, raises)
        monitoring.set_events(3, monitoring.events.PY_START)
        for number in itertools.count():
            starts = itertools.count()
            exiting.clear()
            thread = threading.Thread(target=_exits, args=(good, exiting))
            run(thread)
            assert (good.ran, good.heard) == (sorted(set(good.ran), reverse=True), sorted(set(good.heard)))
            assert len(good.ran) + len(good.heard) >= 12, number
            good.ran.clear(), good.heard.clear()
            if next(starts) <= number:
                break
        assert number > 15
    finally:
        monitoring.set_events(3, 0)
        monitoring.free_tool_id(3)


def _exits(good: Good, exiting: threading.Event) -> None:
    for number in range(3):
        good.register(good.ran.append, number)
    exiting.set()
