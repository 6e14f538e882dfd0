"""Source distributions of other projects, with their tests."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def pip() -> tuple[list[str], dict[str, str]]:
    """How to run pip, and in which environment: ours, or else the one that Python brings along, or any on the path."""
    command, environment = [sys.executable, "-m", "pip"], dict(os.environ)
    if importlib.util.find_spec("pip") is None:
        bundled = importlib.util.find_spec("ensurepip")  # Debian packs it by itself
        wheels = list(Path(str(bundled.origin)).parent.glob("_bundled/pip-*.whl")) if bundled else []
        program = shutil.which("pip3") or shutil.which("pip")
        if wheels:
            environment["PYTHONPATH"] = str(wheels[0])
        elif program:
            command = [program]
        else:
            pytest.skip("there is no pip to fetch source distributions with")
    return command, environment


def fetch(name: str, version: str, folder: Path) -> Path:
    """Fetch the source distribution of a release into `folder`, or skip the test where it can't be had."""
    command, environment = pip()
    arguments = ["download", "--no-deps", "--no-binary", name, "--retries", "1", "--dest", str(folder)]
    wanted = f"{name}=={version}"
    done = subprocess.run([*command, *arguments, wanted], env=environment, capture_output=True, text=True, timeout=100)
    if done.returncode:
        pytest.skip(f"pip can't fetch {wanted}: {done.stderr.strip().splitlines()[-1:]}")
    (sdist,) = folder.glob(f"{name}-*.tar.gz")
    return sdist
