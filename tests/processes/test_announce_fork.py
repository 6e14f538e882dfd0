"""Forks of threads that announce themselves: each process tells what happens in it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

import pytest
from announcing import SIGNALS
from support import forks

pytestmark = forks

Tell = Callable[..., "list[str]"]

TELLS = """
plugin.close()
plugin = threadhooks.Plugin("tells")
for signal in ("thread_started", "thread_exiting", "thread_exited"):
    getattr(plugin, signal)(lambda thread, exception=None, signal=signal, **extra:
                            say(signal, *[repr(exception)] * bool(exception)))
"""


@pytest.fixture
def telling(forking: Callable[..., Any]) -> Tell:
    """Run a program that tells of each signal, in which process and thread it was sent."""

    def run(source: str, *arguments: str) -> list[str]:
        out, err, code = forking(TELLS + textwrap.dedent(source), *arguments)
        assert (err, code) == ("", 0)
        return str(out).splitlines()

    return run


def by(who: str, *events: str) -> list[str]:
    return [f"{who}: {event}" for event in events]


def test_a_fork_in_a_thread_that_announces_itself(telling: Tell) -> None:
    """Both processes go on with `run()`: in each the thread announces its end, once; the others' end in the parent."""
    assert telling("""
        def body():
            plugin.register_early(say, "early cleanup")
            fork()
            say("run")

        threadhooks.install()
        other = started(lambda: plugin.register_early(say, "early cleanup"))
        in_thread(body)
        end.set()
        other.join()
        plugin.close()
        """) == [
        *by("parent other", "thread_started"),
        *by("parent forks", "thread_started"),
        *by("child forks", "run", "early cleanup", "thread_exiting", "thread_exited"),
        *by("parent forks", "run", "early cleanup", "thread_exiting", "thread_exited"),
        *by("parent other", "early cleanup", "thread_exiting", "thread_exited"),
    ]


def test_a_fork_in_a_block(telling: Tell) -> None:
    """The same for a block of `announced`, here in the main thread; what the child's block raises, it tells alone."""
    assert telling("""
        with threadhooks.announced():
            if fork():
                raise SystemExit
        """) == [
        *by("parent MainThread", "thread_started"),
        *by("child MainThread", "thread_exiting SystemExit()", "thread_exited SystemExit()"),
        *by("parent MainThread", "thread_exiting", "thread_exited"),
    ]


@pytest.mark.parametrize("where", ["main", "thread"])
def test_threads_of_a_child(where: str, telling: Tell) -> None:
    """`install` holds in a forked child: the threads that it starts announce themselves there, once."""
    said = telling(
        """
        def body():
            leave(lambda: in_thread(int, "inner"))

        threadhooks.install()
        body() if sys.argv[1] == "main" else in_thread(body)
        plugin.close()
        """,
        where,
    )
    assert [line for line in said if line.startswith("child")] == by("child inner", *SIGNALS)


def test_a_fork_in_a_receiver(telling: Tell) -> None:
    """A receiver may fork: both processes go on with the same announcement."""
    rest = ["next receiver", *SIGNALS[1:]]
    assert telling("""
        plugin.thread_started(lambda thread, **extra: fork())
        plugin.thread_started(lambda thread, **extra: say("next receiver"))
        threadhooks.install()
        in_thread(int)
        plugin.close()
        """) == [*by("parent forks", "thread_started"), *by("child forks", *rest), *by("parent forks", *rest)]
