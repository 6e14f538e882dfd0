"""The two implementations of `ref` and `finalize`."""

from __future__ import annotations

import importlib
import sys
import threading
from types import ModuleType

import pytest
from contract import IMPORT, Program


@pytest.fixture(params=["threadref", "threadhooks.threadref"], ids=["pypi", "ours"])
def threadref(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


@pytest.fixture
def run(program: Program, threadref: ModuleType) -> Program:
    """Run a program that finds the implementation as `threadref`."""
    return lambda source: program(IMPORT + source, threadref.__name__)


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """What hooks raised, by whichever way it was reported."""
    found: list[BaseException] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: found.append(args.exc_value))
    monkeypatch.setattr(threading, "excepthook", lambda args: found.append(args.exc_value))
    return found
