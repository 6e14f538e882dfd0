"""blinker's own tests, from its source distribution, with our signal in the place of `blinker.Signal`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

import pytest
from sdists import fetch

# Tests that fail with our signal, each with what we have changed on purpose.
CHANGED = {
    "test_async_receiver": "a coroutine function is refused as it is connected, not as the signal is sent",
    "test_empty_bucket_growth": "reads blinker's private tables, which ours hasn't got",
    "test_filtered_receiver_weakref": "asserts that the receivers of a dead sender stay in `receivers`; ours are gone",
    "test_weak_receiver": "reads blinker's private tables, after its other assertions have passed",
}

# What the tests import as blinker's Signal, and what runs the coroutines among them.
CONFTEST = """
import asyncio
import inspect

import blinker.base
from threadhooks import ThreadSignal


class Signal(ThreadSignal):
    def __init__(self, doc=None):
        super().__init__("signal", doc)


class NamedSignal(ThreadSignal):
    def __init__(self, name, doc=None):
        super().__init__(name, doc)


blinker.Signal = Signal
blinker.NamedSignal = blinker.base.NamedSignal = NamedSignal


def pytest_pyfunc_call(pyfuncitem):
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        asyncio.run(pyfuncitem.obj())
        return True
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A directory with the tests of the installed blinker."""
    sdist = fetch("blinker", version("blinker"), tmp_path)
    directory = tmp_path / "suite"
    directory.mkdir()
    with tarfile.open(sdist) as archive:
        for member in archive:
            if re.fullmatch(r"[^/]+/tests/test_\w+\.py", member.name):
                text = archive.extractfile(member)
                assert text is not None
                (directory / Path(member.name).name).write_bytes(text.read())
    (directory / "conftest.py").write_text(CONFTEST)
    (directory / "pytest.ini").write_text("[pytest]\n")
    return directory


def test_blinkers_own_tests(suite: Path) -> None:
    """All of them pass, except those that contradict what we promise."""
    results = suite / "results.xml"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", "-c", "pytest.ini", f"--junitxml={results}"],
        cwd=suite,
        env={**os.environ, "PYTEST_ADDOPTS": "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr  # the tests could be run
    cases = list(ElementTree.parse(results).iter("testcase"))
    assert len(cases) > 20
    failed = {case.get("name") for case in cases if len(case)}
    assert failed == CHANGED.keys(), done.stdout
