"""How samples are taken, compared and shown."""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

T = TypeVar("T")

Sample = Callable[[], float]

ABOVE = Path(__file__).parents[__name__.count(".")]  # where the name of this module leads to it


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


Ratio = Literal["speed", "cost", "throughput"]


class Row(NamedTuple):
    """One line of the table."""

    name: str
    what: str
    peer: str
    target: float | None
    ratio: Ratio  # how many times as fast, or how many times the cost, or how many times the throughput
    unit: str
    apart: bool  # whether each side has a process of its own
    sides: Callable[[Sizes], AbstractContextManager[Sides]]


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


ROWS: list[Row] = []


def row(
    name: str,
    what: str,
    peer: str,
    target: float | None = None,
    *,
    ratio: Ratio = "speed",
    unit: str = "ns",
    apart: bool = True,
) -> Callable[[Callable[[Sizes], Iterator[Sides]]], None]:
    """Decorator: make a row of a generator function that yields its two sides, between setting up and tidying up."""

    def add(sides: Callable[[Sizes], Iterator[Sides]]) -> None:
        ROWS.append(Row(name, what, peer, target, ratio, unit, apart, contextmanager(sides)))

    return add


@contextmanager
def working(row: Row, sizes: Sizes) -> Generator[Callable[[Literal["ours", "peer"]], float], None, None]:
    """A process that measures one side of `row`, or the other, whenever it is asked to."""
    module = __name__.replace("measuring", "worker")
    command = [sys.executable, "-m", module, row.name, *map(str, sizes)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    # In a session of its own: Ctrl-C is for this process, which ends that one.
    with subprocess.Popen(command, cwd=ABOVE, text=True, start_new_session=True, **pipes) as process:

        def measure(side: str) -> float:
            assert process.stdin is not None
            assert process.stdout is not None
            print(side, file=process.stdin, flush=True)
            answer = process.stdout.readline()
            if not answer:
                raise RuntimeError(f"{command} has ended: it has said why")
            # A clock that stands still gives 0: a thousandth of a nanosecond keeps the ratio finite.
            return max(float(answer), 0.001)

        try:
            yield measure  # afterwards, the end of its input ends it
        except BaseException:
            process.kill()  # it may be busy for seconds
            raise


def compare(row: Row, sizes: Sizes, progress: Callable[[int], object]) -> Result:
    """Measure both sides of `row` in turns; `progress` is told how many rounds there were."""
    samples: list[tuple[float, float]] = []
    with working(row, sizes) as measure, working(row, sizes) if row.apart else nullcontext(measure) as other:
        progress(0)
        for sample in _samples(lambda: measure("ours"), lambda: other("peer"), sizes.rounds):
            samples.append(sample)
            progress(len(samples))
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
        len(samples),
    )  # fmt: skip


def _samples(ours: Sample, peer: Sample, rounds: int) -> Generator[tuple[float, float], None, None]:
    for number in range(-1, rounds):
        if number % 2:
            mine, theirs = ours(), peer()
        else:
            theirs, mine = peer(), ours()
        if number >= 0:  # the first one warms up
            yield mine, theirs


def in_thread(body: Callable[[], T]) -> T:
    """Call `body` in a thread of its own, and return what it returns, once the thread has ended."""
    results: list[T] = []
    thread = threading.Thread(target=lambda: results.append(body()))
    thread.start()
    thread.join()
    return results[0]  # if there is none, threading has reported why


def nothing() -> None:
    """What is registered: it costs next to nothing itself."""


def nothing_of(_: object) -> None:
    """The same for a `ref`, which is passed."""
