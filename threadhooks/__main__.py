"""``python -m threadhooks demo``: the main job of the package, done before your eyes."""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import threadhooks

_printing = threading.Lock()


def say(text: str) -> None:
    """Print a line with the thread it comes from."""
    with _printing:
        print(f"{threading.current_thread().name:>12}  {text}", flush=True)


def report(args: threading.ExceptHookArgs) -> None:
    """What a hook raised ends up here: `threading.excepthook`, in one line for this demo."""
    notes = "; ".join(getattr(args.exc_value, "__notes__", ()))
    say(f"reported  {type(args.exc_value).__name__}: {args.exc_value} ({notes})")


def demo() -> int:
    """Four threads, a connection each, two plugins that don't know of each other, and a hook that fails."""
    opened: dict[str, str] = {}
    closed: dict[str, str] = {}

    database = threadhooks.Plugin("database")
    audit = threadhooks.Plugin("audit")

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "demo.sqlite3")
        with sqlite3.connect(file) as connection:
            connection.execute("CREATE TABLE work (thread TEXT, job INTEGER)")
        connection.close()

        def close(connection: sqlite3.Connection, owner: str) -> None:
            connection.close()  # sqlite3 itself refuses this in any thread but the one that opened it
            closed[owner] = threading.current_thread().name
            say("closed    its connection")

        @threadhooks.per_thread
        def connection_of_this_thread() -> Any:
            name = threading.current_thread().name
            connection = sqlite3.connect(file, timeout=30)
            opened[name] = name
            say("opened    its connection")
            try:
                yield connection
            finally:
                close(connection, name)

        @audit.thread_started
        def started(thread: threading.Thread, **extra: Any) -> None:
            say("started")
            audit.register(fail)
            database.register(say, "signed    off from the database")

        def fail() -> None:
            raise OSError("the audit log is full")

        @audit.thread_exited
        def exited(thread: threading.Thread, info: threadhooks.ThreadInfo, **extra: Any) -> None:
            say(f"exited    (native id {info.native_id}); the audit heard of it all the same")

        def work(job: int) -> None:
            connection = connection_of_this_thread()
            with connection:
                connection.execute("INSERT INTO work VALUES (?, ?)", (threading.current_thread().name, job))
            everyone_has_a_job.wait(30)

        everyone_has_a_job = threading.Barrier(4)
        excepthook, threading.excepthook = threading.excepthook, report
        try:
            with threadhooks.installed(), ThreadPoolExecutor(4, "worker") as pool:
                for future in [pool.submit(work, job) for job in range(8)]:
                    future.result()
                say("the pool is shut down; its threads end")
        finally:
            threading.excepthook = excepthook
            database.close()
            audit.close()

        connection = sqlite3.connect(file)
        rows = connection.execute("SELECT count(*), count(DISTINCT thread) FROM work").fetchone()
        connection.close()

    ok = opened == closed and len(closed) == 4
    say(f"{rows[0]} rows were written by {rows[1]} threads")
    for owner, closer in sorted(closed.items()):
        say(f"the connection of {owner} was closed in {closer}")
    say("every connection was closed in its own thread" if ok else "SOMETHING IS WRONG")
    return 0 if ok else 1


def main() -> int:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m threadhooks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("demo", help=demo.__doc__)
    parser.parse_args()
    return demo()


if __name__ == "__main__":
    raise SystemExit(main())
