"""The matrix, which `tox` runs: it has what pyproject.toml promises, and each part of it tests what it should."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import pytest

import threadhooks

ENVIRONMENT = os.environ.get("TOX_ENV_NAME", "")


@pytest.fixture
def project() -> Any:
    tomllib = pytest.importorskip("tomllib")
    return tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))


def oldest() -> str:
    """The oldest blinker that the installed package takes."""
    [blinker] = [requirement for requirement in requires("threadhooks") or [] if "extra ==" not in requirement]
    match = re.fullmatch(r"blinker>=([\d.]+)", blinker)
    assert match, blinker
    return match[1]


def test_every_version_is_in_the_matrix(project: Any) -> None:
    """Each Python that the classifiers name is in the matrix, and so is the free-threaded one; with both blinkers."""
    classifiers = project["project"]["classifiers"]
    named = [found[1] for line in classifiers if (found := re.fullmatch(r".*:: Python :: (\d+\.\d+)", line))]
    pythons, blinkers = project["tool"]["tox"]["env_list"][0]["product"]
    assert [python for python in pythons if not python.endswith("t")] == named
    assert [python for python in pythons if python.endswith("t")] == ["3.13t", "3.14t"]
    assert set(blinkers) == {"newest", "oldest"}


def test_the_oldest_blinker_in_the_matrix_is_the_oldest_that_we_allow(project: Any) -> None:
    """The figure is given twice, and it is the same."""
    assert f"blinker=={oldest()}" in str(project["tool"]["tox"]["env_run_base"]["deps"])


@pytest.mark.skipif(not re.match(r"3\.\d+t?-(newest|oldest)$", ENVIRONMENT), reason="this is no part of the matrix")
def test_what_is_tested() -> None:
    """A part of the matrix tests what is installed, with the Python and the blinker that its name says."""
    assert Path(threadhooks.__file__).parent.parent == Path(sysconfig.get_path("purelib"))
    python, blinker = ENVIRONMENT.split("-")
    free = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    assert python == f"{sys.version_info[0]}.{sys.version_info[1]}{free}"
    assert (blinker == "oldest") == bool(re.fullmatch(rf"{re.escape(oldest())}(\.0)*", version("blinker")))
