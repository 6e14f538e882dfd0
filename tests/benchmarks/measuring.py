"""How samples are taken, compared and shown."""

from __future__ import annotations

import gc
import statistics
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal, NamedTuple, TypeVar

T = TypeVar("T")

Sample = Callable[[], float]


class Sizes(NamedTuple):
    """How much is measured."""

    rounds: int = 25
    batch: int = 1000  # registrations in one sample; what takes longer is done less often
    attached: int = 10_000  # threads that are attached while another one exits

    @property
    def threads(self) -> int:
        """How many threads one sample starts and joins."""
        return max(1, self.batch // 20)


class Sides(NamedTuple):
    """What a row compares: each call of `ours` and `peer` measures once."""

    ours: Sample
    peer: Sample
    note: str = ""


Ratio = Literal["speed", "cost", "throughput"]


class Row(NamedTuple):
    """One line of the table."""

    name: str
    what: str
    peer: str
    target: float | None
    ratio: Ratio  # how many times as fast, or how many times the cost, or how many times the throughput
    unit: str
    sides: Callable[[Sizes], AbstractContextManager[Sides | None]]  # None: nothing to measure on this interpreter


class Result(NamedTuple):
    """What came out, with medians over all rounds."""

    name: str
    what: str
    peer: str
    kind: Ratio
    target: str
    reached: bool | None
    ratio: float
    quartiles: tuple[float, float]
    ours: float
    theirs: float
    unit: str
    rounds: int
    note: str


ROWS: list[Row] = []


def row(
    name: str, what: str, peer: str, target: float | None = None, *, ratio: Ratio = "speed", unit: str = "ns"
) -> Callable[[Callable[[Sizes], Iterator[Sides | None]]], None]:
    """Decorator: make a row of a generator function that yields its two sides, between setting up and tidying up."""

    def add(sides: Callable[[Sizes], Iterator[Sides | None]]) -> None:
        ROWS.append(Row(name, what, peer, target, ratio, unit, contextmanager(sides)))

    return add


def compare(row: Row, sizes: Sizes) -> Result | None:
    """Measure both sides of `row` in turns."""
    with row.sides(sizes) as sides:
        if sides is None:
            return None
        samples = list(_samples(sides, sizes.rounds))
    ratios = [peer / ours if row.ratio == "speed" else ours / peer for ours, peer in samples]
    ratio = statistics.median(ratios)
    first, _, third = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    target, reached = "", None
    if row.target is not None:
        at_most = row.ratio == "cost"
        target = f"{'≤' if at_most else '≥'} {row.target:.2f}"
        reached = ratio <= row.target if at_most else ratio >= row.target
    ours, theirs = (statistics.median(side) for side in zip(*samples, strict=True))
    return Result(
        row.name, row.what, row.peer, row.ratio, target, reached, ratio, (first, third), ours, theirs, row.unit,
        len(samples), sides.note,
    )  # fmt: skip


def _samples(sides: Sides, rounds: int) -> Generator[tuple[float, float], None, None]:
    for number in range(-1, rounds):
        # A clock that stands still gives 0: a thousandth of a nanosecond keeps the ratio finite.
        if number % 2:
            ours, peer = _sample(sides.ours), _sample(sides.peer)
        else:
            peer, ours = _sample(sides.peer), _sample(sides.ours)
        if number >= 0:  # the first one warms up
            yield ours, peer


def _sample(measure: Sample) -> float:
    gc.collect()  # neither side shall pay for the other's garbage
    return max(measure(), 0.001)


def in_thread(body: Callable[[], T]) -> T:
    """Call `body` in a thread of its own, and return what it returns, once the thread has ended."""
    results: list[T] = []
    thread = threading.Thread(target=lambda: results.append(body()))
    thread.start()
    thread.join()
    return results[0]  # if there is none, threading has reported why


def nothing(*_: object) -> None:
    """What is registered: it costs next to nothing itself."""
