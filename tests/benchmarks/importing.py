"""To import the package, in a new process, from bytecode that is there already, as it is once a package was used."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter_ns

from .measuring import Sample, Sides, Sizes, row

HERE = Path(__file__).parents[1]  # not above, where the package is that may not be the one that is installed

OURS = "import threadhooks"
PEERS = "import blinker, threading, weakref"
TIMED = "import time; start = time.perf_counter_ns(); {}; print(time.perf_counter_ns() - start)"


@contextmanager
def with_bytecode() -> Iterator[dict[str, str]]:
    """An environment in which bytecode is kept, in a place of its own: the first sample, which warms up, writes it."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        yield environment


def importing(statement: str, environment: dict[str, str]) -> Sample:
    """Measure `statement` inside a new process."""

    def sample() -> float:
        command = [sys.executable, "-c", TIMED.format(statement)]
        run = subprocess.run(command, cwd=HERE, env=environment, check=True, stdout=subprocess.PIPE)
        return int(run.stdout) / 1e6

    return sample


def running(statement: str, environment: dict[str, str]) -> Sample:
    """Measure a process that runs `statement`, from its start to its end."""

    def sample() -> float:
        start = perf_counter_ns()
        subprocess.run([sys.executable, "-c", statement], cwd=HERE, env=environment, check=True)
        return (perf_counter_ns() - start) / 1e6

    return sample


@row("import", f"`{OURS}`", f"`{PEERS}`", 1.25, ratio="cost", unit="ms")
def _(sizes: Sizes) -> Iterator[Sides]:
    with with_bytecode() as environment:
        yield Sides(importing(OURS, environment), importing(PEERS, environment))


@row("import-process", "the same, the whole process", f"`{PEERS}`", ratio="cost", unit="ms")
def _(sizes: Sizes) -> Iterator[Sides]:
    with with_bytecode() as environment:
        yield Sides(running(OURS, environment), running(PEERS, environment))
