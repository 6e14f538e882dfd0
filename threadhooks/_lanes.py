"""Which thread is drawn in which lane of a timeline, and what became of it.

The tree of who started whom comes first: a thread stands below the one that started it. Where a thread starts many of
a kind (a server: one for each request), a lane each would be a wall of nearly empty lines. These share as few lanes as
their lives allow, and what they start themselves stands below all of them.

Everything here works on the plain data of a capture (see `Timeline` for its fields). Nothing is recursive without a
bound: a `threading.Timer` that starts the next one makes a chain as long as the program runs.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

Thread = Mapping[str, Any]

OWN_LANES = 8  # as many threads of one kind, started by the same thread, still have a lane each
SORTS = 24  # as many kinds are told apart below one thread
DEEPEST = 10  # as many generations are indented


class Lane(NamedTuple):
    """Threads that are drawn in one line, first to last; no two live at the same time."""

    threads: list[Thread]
    label: str | None  # None: the lane continues the group of the one above
    depth: int  # generations below the first thread
    size: int  # how many threads the group of this lane has


def begin(thread: Thread) -> float:
    """When a thread comes into the picture, in seconds."""
    return float(thread["started"] or 0.0)


def end(thread: Thread, duration: float) -> float:
    """When it leaves the picture: those that never ended do so with the capture."""
    ended = duration if thread["ended"] is None else float(thread["ended"])
    return max(ended, begin(thread))


def state(thread: Thread) -> str:
    """``ended``, ``crashed``, ``leaked`` (it never ended, and nobody said that it may stay), or ``running``."""
    if thread["exception"]:
        return "crashed"
    if thread["ended"] is not None:
        return "ended"
    may_stay = thread["main"] or thread["daemon"] or thread["foreign"] or thread["started"] is None
    return "running" if may_stay else "leaked"


def never_ended(thread: Thread) -> bool:
    """Whether it still ran when the capture ended. The main thread always does, which is nothing to be told."""
    return thread["ended"] is None and not thread["main"]


def look(thread: Thread) -> str:
    """How it is drawn: that a thread crashed or leaked matters more than what kind of thread it was."""
    if state(thread) in ("crashed", "leaked"):
        return state(thread)
    kinds = ("foreign", "main", "daemon")
    return next((kind for kind in kinds if thread[kind]), "ended")


def alive(threads: Iterable[Thread]) -> list[tuple[float, int]]:
    """How many threads were alive besides the main one, from each moment on at which that changed."""
    changes: dict[float, int] = {}
    for thread in threads:
        if thread["main"]:
            continue
        changes[begin(thread)] = changes.get(begin(thread), 0) + 1
        if thread["ended"] is not None:
            ended = end(thread, 0.0)
            changes[ended] = changes.get(ended, 0) - 1
    count, steps = 0, []
    for time, change in sorted(changes.items()):
        if change:
            count += change
            steps.append((time, count))
    return steps


def lanes(data: Mapping[str, Any]) -> list[Lane]:
    """The lanes of a capture, from top to bottom."""
    threads = sorted(data["threads"], key=lambda thread: (not thread["main"], begin(thread), thread["number"]))
    known = {thread["number"] for thread in threads}
    children: dict[int, list[Thread]] = {}
    roots = []
    for thread in threads:
        if thread["parent"] in known:  # it may have been left out
            children.setdefault(thread["parent"], []).append(thread)
        else:
            roots.append(thread)
    found: list[Lane] = []
    _place(roots, 0, children, float(data["duration"]), found)
    return found


def _place(
    siblings: Sequence[Thread], depth: int, children: Mapping[int, list[Thread]], duration: float, found: list[Lane]
) -> None:
    for label, group in _groups(siblings).items():
        family = _family(group, children, same_kind=depth < DEEPEST)
        if len(family) <= OWN_LANES:
            for thread in group:
                found.append(Lane([thread], str(thread["name"]), depth, 1))
                _place(children.get(thread["number"], ()), depth + 1, children, duration, found)
        else:
            for packed in pack(family, duration):
                found.append(Lane(packed, label if packed[0] is family[0] else None, depth, len(family)))
            inside = {thread["number"] for thread in family}
            below = [child for thread in family for child in children.get(thread["number"], ())]
            below = [child for child in below if child["number"] not in inside]
            _place(sorted(below, key=begin), depth + 1, children, duration, found)


def kind(thread: Thread) -> str:
    """What a thread has in common with others that do the same: its name without the number, or its target."""
    name = str(thread["name"])
    if given := re.fullmatch(r"Thread-\d+(?: \((.+)\))?", name):  # by Python, not by somebody
        return given[1] or str(thread["target"] or "Thread")
    stem = re.sub(r"[-_ #.:]*\d+$", "", name)
    return stem if stem and stem != name else str(thread["target"] or name)


def _groups(siblings: Sequence[Thread]) -> dict[str, list[Thread]]:
    groups: dict[str, list[Thread]] = {}
    for thread in siblings:
        groups.setdefault("" if thread["main"] else kind(thread), []).append(thread)
    if len(groups) > SORTS:  # names that are all different: no kinds, then, but those that do have many
        others = [label for label, group in groups.items() if label and len(group) <= OWN_LANES]
        mixed = [thread for label in others for thread in groups.pop(label)]
        groups["various"] = sorted(mixed, key=begin)
    return groups


def _family(group: Sequence[Thread], children: Mapping[int, list[Thread]], *, same_kind: bool) -> list[Thread]:
    """A group, with those of its kind that it started, and that these started, and so on; or with all of them."""
    kinds = {kind(thread) for thread in group}
    family = list(group)
    for thread in family:  # which grows meanwhile
        family += [child for child in children.get(thread["number"], ()) if not same_kind or kind(child) in kinds]
    return sorted(family, key=begin)


def pack(threads: Sequence[Thread], duration: float) -> list[list[Thread]]:
    """Spread threads, given in the order they began, over as few lanes as possible: each takes the highest free one."""
    packed: list[list[Thread]] = []
    free: list[int] = []
    taken: list[tuple[float, int]] = []
    for thread in threads:
        while taken and taken[0][0] <= begin(thread):
            heapq.heappush(free, heapq.heappop(taken)[1])
        if free:
            lane = heapq.heappop(free)
            packed[lane].append(thread)
        else:
            lane = len(packed)
            packed.append([thread])
        # A thread that never ended keeps its lane, even where another began at the very moment the capture ended.
        until = float("inf") if thread["ended"] is None else end(thread, duration)
        heapq.heappush(taken, (until, lane))
    return packed
