"""The lines that sum up a program: what they tell, and how they fit a terminal."""

from __future__ import annotations

from typing import Any

import pytest
from timelines import failed, never_ended, raised, thread, timeline

from threadhooks._summary import counts, summary


def lines(*threads: dict[str, Any], width: int | None = None, **fields: Any) -> list[str]:
    data = timeline(thread(0), *threads, **fields)
    data["summary"] = counts(data["threads"], data["duration"])
    return summary(data, "/src", width).splitlines()


def test_a_hook_that_fails_often_is_told_once() -> None:
    """Of equal failures of a hook the first is told, with its thread, and how many more there were."""
    hooks = (failed(1, 1.0), failed(2, 2.0), failed(3, 3.0, error="OSError: the disk is full"))
    told = [line for line in lines(thread(1), thread(2), thread(3), hooks=hooks) if "hook failed" in line]
    closed = "program.close of plugin 'database', in worker-1: OSError: it is closed already and 1 more like it"
    full = "program.close of plugin 'database', in worker-3: OSError: the disk is full"
    assert told == [f"  hook failed       {closed}", f"  hook failed       {full}"]


def test_leaks_come_first() -> None:
    """Of the threads that never ended, those that are neither daemon nor foreign are told first."""
    left = never_ended(1, daemon=True), never_ended(2, foreign=True), never_ended(3)
    told = [line.split()[2] for line in lines(*left) if "never ended" in line]
    assert told == ["worker-3", "worker-1", "worker-2"]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_lines_fit_the_terminal(width: int) -> None:
    """What is too long for a terminal goes on below what it tells. No word is broken, and none is lost."""
    long = f"/srv/{'x' * 150}.py", "a message that has very many words, as messages may " * 4
    crashed = thread(1, exception={**raised(message=long[1]), "file": long[0]})
    found = lines(crashed, width=width)
    assert " ".join(" ".join(found).split()) == " ".join(" ".join(lines(crashed)).split())
    assert all(len(line) <= width for line in found if long[0] not in line)
    more = found[found.index(next(line for line in found if "worker-1: ValueError" in line)) + 1]
    assert more.startswith(" " * 24)
