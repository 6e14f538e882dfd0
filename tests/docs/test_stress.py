"""The campaigns of `tests/stress`, for a few seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from support import interrupted

HERE = Path(__file__).parents[1] / "stress"


def run(file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # By its path, so that what is installed is what is tested. Warnings are errors there as well.
    command = [sys.executable, "-W", "error", str(file), *arguments]
    # Coverage keeps something of each thread.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", timeout=110, stdin=subprocess.DEVNULL, env=env
    )


def test_every_hook_is_accounted_for() -> None:
    """Among a thousand threads and more, under disturbance, no hook runs twice, late, elsewhere, or not at all."""
    done = run(HERE, "--exits", "3000", "--seconds", "10", "--json")
    assert (done.stderr, done.returncode) == ("", 0)
    said = json.loads(done.stdout)
    figures = said["figures"]
    assert set(said["failures"].values()) == {0}
    assert figures["run, say the hooks"] == figures["run, say the journals"]
    assert figures["hooks"] == figures["run, say the hooks"] + figures["taken back"]
    assert figures["exits"] >= 320
    assert figures["shutdowns"] >= 3
    assert figures["forks"] >= 1 or not hasattr(os, "fork") or sysconfig.get_config_var("Py_GIL_DISABLED")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the resident size is read from /proc")
def test_memory_stays_flat() -> None:
    """Neither the resident size nor the number of objects grows with the threads that come and go."""
    done = run(HERE / "memory.py", "--threads", "4000")
    assert (done.stderr, done.returncode) == ("", 0), done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [str(HERE), "--exits", "1000000"],
        [str(HERE), "--exits", "1000000", "--processes", "2"],
        pytest.param(
            [str(HERE / "memory.py"), "--threads", "1000000"],
            marks=pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="it reads /proc"),
        ),
    ],
    ids=["one process", "two", "memory"],
)
def test_ctrl_c(arguments: list[str]) -> None:
    """On a terminal they show how far they are. Ctrl-C ends them with what they have, without a traceback."""
    out, err, code = interrupted([sys.executable, "-W", "error", *arguments], HERE)
    assert code == 130, (out, err)
    assert out
    assert "interrupted" in err.splitlines()[-1]
    assert "Traceback" not in err
