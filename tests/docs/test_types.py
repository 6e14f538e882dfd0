"""Type checkers make of the public interface what they should: no error in `typing_samples.py` but those it expects."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLES = Path(__file__).with_name("typing_samples.py")


def check(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a checker, away from the project's own settings, for what is installed here."""
    return subprocess.run([sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True, timeout=110)


def test_mypy(tmp_path: Path) -> None:
    """`mypy --strict` finds every type as it is asserted, every error where one is expected, and no other."""
    pytest.importorskip("mypy")
    options = ["--strict", "--warn-unreachable", "--config-file=", f"--cache-dir={tmp_path}", "--no-error-summary"]
    done = check("mypy", *options, str(SAMPLES), cwd=tmp_path)
    assert (done.stdout.splitlines(), done.stderr, done.returncode) == ([], "", 0)


def test_pyright(tmp_path: Path) -> None:
    """Pyright does, too, in its strict mode. (basedpyright is the same checker, and comes whole in its wheel.)"""
    checker = next((name for name in ("pyright", "basedpyright") if importlib.util.find_spec(name)), None)
    if checker is None:
        pytest.skip("pyright is not installed")
    settings = {
        "include": [SAMPLES.name],
        "typeCheckingMode": "strict",
        "reportUnnecessaryTypeIgnoreComment": "error",
    }
    shutil.copy(SAMPLES, tmp_path)  # it takes relative paths alone
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    done = check(checker, "--project", str(tmp_path), "--pythonpath", sys.executable, "--outputjson", cwd=tmp_path)
    try:
        result = json.loads(done.stdout)
    except ValueError:
        pytest.skip(f"{checker} can't run here: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
    assert result["summary"]["filesAnalyzed"] == 1
    found = result["generalDiagnostics"]
    assert [f"{each['range']['start']['line'] + 1}: {each['message']}" for each in found] == []
