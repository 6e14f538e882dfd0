"""To import the package, in a new process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter_ns

from .measuring import Sample, Sides, Sizes, row

ROOT = Path(__file__).parents[2]

OURS = "import threadhooks"
PEERS = "import blinker, threading, weakref"


def running(program: str) -> Sample:
    """Measure a process that runs `program`, from its start to its end."""

    def sample() -> float:
        start = perf_counter_ns()
        subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
        return (perf_counter_ns() - start) / 1e6

    return sample


def above(program: str) -> Sample:
    """The same, without what an empty program takes."""
    full, empty = running(program), running("pass")
    return lambda: full() - empty()


@row("import", f"`{OURS}`, the whole process", PEERS, 1.25, ratio="cost", unit="ms")
def _(sizes: Sizes) -> Iterator[Sides]:
    yield Sides(running(OURS), running(PEERS))


@row("import-above", f"`{OURS}`, above an empty program", PEERS, ratio="cost", unit="ms")
def _(sizes: Sizes) -> Iterator[Sides]:
    yield Sides(above(OURS), above(PEERS))
