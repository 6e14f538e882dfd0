"""Forks of threads that announce themselves: each process tells what happens in it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

import pytest
from announcing import SIGNALS
from support import forks

PREFIX = """
import os, sys, threading, warnings
import threadhooks
warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads

parent = os.getpid()
plugin = threadhooks.Plugin("forks")

def say(what, thread):
    print("parent" if os.getpid() == parent else "child", thread.name, what)

for signal in ("thread_started", "thread_exiting", "thread_exited"):
    getattr(plugin, signal)(lambda thread, exception=None, signal=signal, **extra:
                            say(f"{signal} {exception!r}" if exception else signal, thread))

def fork():
    # The parent goes on when the child has ended.
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    return not pid
"""


@forks
def test_a_fork_in_a_thread_that_announces_itself(program: Callable[..., object]) -> None:
    """Both processes go on with `run()`: in each the thread announces its end, once; the others' end in the parent."""
    source = """
        from threading import Thread, Event
        leave, running = Event(), Event()

        def other():
            plugin.register_early(print, "early cleanup of the other")
            running.set()
            leave.wait()

        def forks():
            plugin.register_early(print, "early cleanup")
            fork()
            say("run", threading.current_thread())

        threadhooks.install()
        others = Thread(target=other, name="other")
        others.start()
        running.wait()
        thread = Thread(target=forks, name="forks")
        thread.start()
        thread.join()
        leave.set()
        others.join()
        plugin.close()
        """
    assert program(PREFIX + textwrap.dedent(source)) == (
        "parent other thread_started\nparent forks thread_started\n"
        "child forks run\nearly cleanup\nchild forks thread_exiting\nchild forks thread_exited\n"
        "parent forks run\nearly cleanup\nparent forks thread_exiting\nparent forks thread_exited\n"
        "early cleanup of the other\nparent other thread_exiting\nparent other thread_exited\n",
        "",
        0,
    )


@forks
def test_a_fork_in_a_block(program: Callable[..., object]) -> None:
    """The same for a block of `announced`, here in the main thread; what the child's block raises, it tells alone."""
    source = """
        with threadhooks.announced():
            if fork():
                raise SystemExit
        """
    main = "MainThread thread_"
    assert program(PREFIX + textwrap.dedent(source)) == (
        f"parent {main}started\n"
        f"child {main}exiting SystemExit()\nchild {main}exited SystemExit()\n"
        f"parent {main}exiting\nparent {main}exited\n",
        "",
        0,
    )


@forks
@pytest.mark.parametrize("where", ["main", "thread"])
def test_threads_of_a_child(where: str, program: Callable[..., object]) -> None:
    """`install` holds in a forked child: the threads that it starts announce themselves there, once."""
    source = """
        def body():
            if fork():
                inner = threading.Thread(name="inner")
                inner.start()
                inner.join()
                os._exit(0)

        threadhooks.install()
        if sys.argv[1] == "main":
            body()
        else:
            outer = threading.Thread(target=body)
            outer.start()
            outer.join()
        plugin.close()
        """
    result: Any = program(PREFIX + textwrap.dedent(source), where)
    assert [line for line in result.out.splitlines() if line.startswith("child")] == [
        f"child inner {signal}" for signal in SIGNALS
    ]
    assert (result.err, result.code) == ("", 0)


@forks
def test_a_fork_in_a_receiver(program: Callable[..., object]) -> None:
    """A receiver may fork: both processes go on with the same announcement."""
    source = """
        plugin.thread_started(lambda thread, **extra: fork())
        plugin.thread_started(lambda thread, **extra: say("next receiver", thread))
        threadhooks.install()
        thread = threading.Thread(name="forks")
        thread.start()
        thread.join()
        plugin.close()
        """
    result: Any = program(PREFIX + textwrap.dedent(source))
    life = [f"{who} forks {what}\n" for who in ("child", "parent") for what in ("next receiver", *SIGNALS[1:])]
    assert result == ("".join(["parent forks thread_started\n", *life]), "", 0)
