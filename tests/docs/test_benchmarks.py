"""The benchmarks run. What they measure is not asserted: a busy machine must not fail a test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from support import interrupted

HERE = Path(__file__).parents[1]  # and not above, where the package is that may not be the one that is installed
SMALL = ("--rounds", "1", "--batch", "4", "--attached", "2")


def benchmarks(*options: str) -> str:
    command = [sys.executable, "-W", "error", "-m", "benchmarks", *SMALL, *options]
    run = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=100)
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


def test_json() -> None:
    """Every row that has a target comes out as JSON, with its target, and its ratio between its quartiles."""
    results = json.loads(benchmarks("--json"))
    assert results["python"] == sys.version.split()[0].rstrip("+")
    rows = {row["name"]: row for row in results["rows"]}
    targets = {
        "register-finalize": "≥ 2.50",
        "register-ref": "≥ 1.20",
        "exit-finalize": "≥ 2.00",
        "exit-ref": "≥ 2.00",
        "detach": "≥ 2.00",
        "call": "≥ 2.00",
        "memory-finalize": "≤ 0.60",
        "thread-finalize": "≤ 1.00",
        "thread-installed": "≤ 1.10",
        "thread-timeline": "≤ 1.15",
        "crowd": "≤ 1.10",
        "close-plugins": "≤ 2.00",
        "unregister": "≤ 2.00",
        "send": "≤ 1.50",
        "disconnect": "≤ 2.00",
        "import": "≤ 1.25",
    }
    if results["free_threaded"]:
        targets["parallel"] = "≥ 1.80"
    assert {name: row["target"] for name, row in rows.items() if row["target"]} == targets
    for name, row in rows.items():
        low, high = row["quartiles"]
        assert low <= row["ratio"] <= high, name
        assert (row["reached"] is None) == (not row["target"])
        assert row["ours"] > 0 < row["theirs"], name


def test_table() -> None:
    """The table has a line for each row, and those that `--only` leaves out are not measured."""
    title, _, head, rule, *lines = benchmarks("--only", "send").splitlines()
    assert title.startswith("Python ")
    assert {line.count("|") for line in (head, rule, *lines)} == {head.count("|")}
    assert [line.split("|")[3].strip() for line in lines] == ["≤ 1.50", "", "", "", ""]


def test_unknown_name() -> None:
    """README's command refuses a name that no row has, with the names that there are."""
    command = [sys.executable, "-m", "tests.benchmarks", "--only", "nonsense"]
    run = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, timeout=100)
    assert run.returncode == 2
    assert "register-finalize" in run.stderr


def test_ctrl_c() -> None:
    """On a terminal it shows how far it is. Ctrl-C ends it with what it has, without a traceback."""
    command = [sys.executable, "-W", "error", "-m", "benchmarks", "--json", "--only", "thread", "--rounds", "10000"]
    out, err, code = interrupted(command, HERE)
    assert code == 130
    assert json.loads(out)["rows"] == []
    assert "round 0 of 10000" in err
    assert err.rstrip().endswith("rows are measured")
    assert "Traceback" not in err
