"""What the tests of Dask run in a worker, which can import this module, but not the tests themselves."""

from __future__ import annotations

import functools
import os
import sqlite3
import threading
from collections.abc import Callable

import distributed


def watch(log: str) -> None:
    """Called in the worker process: every connection that is opened there logs that, and its closing."""

    def write(what: str, connection: int) -> None:
        with open(log, "a") as file:
            file.write(f"{what} {os.getpid()} {connection}\n")

    class Watched(sqlite3.Connection):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(*args, **kwargs)  # type: ignore[arg-type]
            write("opened", id(self))

        def close(self) -> None:
            super().close()  # which raises in any thread but the right one
            write("closed", id(self))

    sqlite3.connect = functools.partial(sqlite3.connect, factory=Watched)  # type: ignore[assignment]


def value_of(resource: Callable[[str], object], path: str, number: int) -> tuple[int, int]:
    return threading.get_ident(), id(resource(path))


def leave(resource: Callable[[str], object], path: str) -> None:
    resource(path)
    distributed.secede()
