"""The end of the program, where somebody interrupts it or what is asked fails; and children that are forked then."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
from support import forks

Program = Callable[..., Any]

may_fork_at_exit = pytest.mark.skipif(sys.version_info[:2] == (3, 12), reason="this version refuses to fork at exit")


def test_a_join_that_was_interrupted(program: Program) -> None:
    """Up to 3.12 `threading` then takes the thread for dead. It isn't: it is listed, waited for, and loses no hook."""
    out, err, code = program("""
        import signal, threading, time
        import threadhooks
        from threadhooks.threadref import finalize

        class Interrupt(Exception):
            pass

        def interrupt(*_):
            raise Interrupt

        def body():
            finalize(print, "the worker's cleanup")
            ready.set()
            time.sleep(0.5)

        finalize(print, "the main thread's cleanup")
        ready = threading.Event()
        thread = threading.Thread(target=body)
        thread.start()
        ready.wait()
        signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            thread.join()
        except Interrupt:
            print("interrupted")
        print([info.thread is thread for info in threadhooks.threads() if info.thread is not threading.main_thread()])
        """)
    assert (out, err, code) == (
        "interrupted\n[True]\nthe worker's cleanup\nthe main thread's cleanup\n",
        "",
        0,
    )


def test_workers_with_methods_of_their_own(program: Program) -> None:
    """After Ctrl-C at the end, workers are waited for, even if `join` takes no timeout and comparing them fails."""
    out, err, _ = program("""
        import os, signal, threading, time
        from threadhooks.threadref import finalize

        class Worker(threading.Thread):
            __hash__ = threading.Thread.__hash__

            def __eq__(self, other):
                raise ValueError

            def join(self):
                super().join()

            def run(self):
                finalize(print, "the worker's cleanup")
                ready.set()
                end.wait()
                time.sleep(0.2)

        def interrupt():
            time.sleep(0.3)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
            end.set()

        finalize(print, "the main thread's cleanup")
        ready, end = threading.Event(), threading.Event()
        Worker().start()
        ready.wait()
        threading.Thread(target=interrupt, daemon=True).start()
        """)
    assert out == "the worker's cleanup\nthe main thread's cleanup\n"
    assert "KeyboardInterrupt" in err
    assert "ValueError" not in err
    assert "TypeError" not in err


def test_a_finalizer_that_can_not_say_whether_it_is_wanted_at_exit(program: Program) -> None:
    """That is reported; it is called all the same, and so are the main thread's cleanups."""
    out, err, code = program("""
        import threading
        from threadhooks.threadref import finalize

        class Unsure(finalize):
            @property
            def atexit(self):
                raise ValueError("unsure")

        def body():
            Unsure(print, "the daemon's finalizer")
            ready.set()
            threading.Event().wait()

        finalize(print, "the main thread's cleanup")
        ready = threading.Event()
        threading.Thread(target=body, daemon=True).start()
        ready.wait()
        """)
    assert (out, code) == ("the daemon's finalizer\nthe main thread's cleanup\n", 0)
    assert "ValueError: unsure" in err


@forks
@may_fork_at_exit
def test_a_child_that_an_older_handler_forks(program: Program) -> None:
    """The main thread's exit has been announced by then: nothing can be registered for it in the child either."""
    assert program("""
        import atexit, os

        @atexit.register
        def older():
            pid = os.fork()
            if pid:
                os.waitpid(pid, 0)
                return
            try:
                finalize(print, "never")
            except RuntimeError as error:
                print(error)

        from threadhooks.threadref import finalize
        finalize(print, "the main thread's cleanup")
        """) == (
        "the main thread's cleanup\n"
        "the exit of the main thread has been announced: nothing can be registered for it any more\n",
        "",
        0,
    )


CHILDREN = """
    import multiprocessing, os, threading, warnings
    from threadhooks.threadref import finalize, ref

    warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)

    parent = os.getpid()
    refs = []

    def register(whose):
        finalize(say, whose + " cleanup")
        refs.append(ref(lambda _: say(whose + " reference")))

    def say(*words):
        print("in the parent:" if os.getpid() == parent else "in the child:", *words, flush=True)

    def child():
        process = multiprocessing.get_context("fork").Process(target=register, args=("the child's",))
        process.start()
        process.join()

    def in_thread(body):
        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
"""
BY_CHILD = "in the child: the child's reference\nin the child: the child's cleanup\n"


@forks
def test_a_child_of_multiprocessing_and_references(program: Program) -> None:
    """It calls its own references and cleanups, not those of the thread that has forked it."""
    out, err, code = program(
        textwrap.dedent(CHILDREN)
        + textwrap.dedent("""
        def body():
            register("the thread's")
            child()

        in_thread(body)
        """)
    )
    assert out == BY_CHILD + "in the parent: the thread's reference\nin the parent: the thread's cleanup\n"
    assert (err, code) == ("", 0)


@forks
def test_a_child_of_multiprocessing_that_a_hook_starts(program: Program) -> None:
    """The exit in which it was forked is the parent's; what it registers is called at its own."""
    out, err, code = program(
        textwrap.dedent(CHILDREN)
        + textwrap.dedent("""
        in_thread(lambda: finalize(child))
        """)
    )
    assert (out, err, code) == (BY_CHILD, "", 0)


@forks
@may_fork_at_exit
def test_a_child_of_multiprocessing_that_is_started_at_exit(program: Program) -> None:
    """`multiprocessing` has run its finalizers by then, and lets the child run none. Its cleanups run all the same."""
    out, err, code = program(
        textwrap.dedent(CHILDREN)
        + textwrap.dedent("""
        import multiprocessing.util
        finalize(child)
        """)
    )
    assert (out, err, code) == (BY_CHILD, "", 0)
