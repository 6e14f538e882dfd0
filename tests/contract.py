"""What the contract of `ref` and `finalize` needs, which runs against two implementations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from support import in_thread

Program = Callable[..., tuple[str, str, int]]

# Programs in an interpreter of their own get the name of the implementation as their argument.
IMPORT = """\
import atexit, importlib, os, signal, sys, threading, warnings
name = sys.argv[1]
threadref = importlib.import_module(name)
"""


def result_of(function: Callable[[], Any]) -> Any:
    """Call `function` in a thread of its own, which has ended when we return its result or raise what it raised."""
    outcome: list[Any] = []
    failure: list[BaseException] = []

    def target() -> None:
        try:
            outcome.append(function())
        except BaseException as error:
            failure.append(error)

    in_thread(target)
    if failure:
        raise failure.pop()
    return outcome.pop()


class Calls:
    """A callable that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *args: object) -> None:
        self.calls += 1
