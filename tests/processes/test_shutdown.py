"""What the end of an interpreter does to threads that still run, and to what is destroyed last."""

from __future__ import annotations

import sys
import sysconfig
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def test_a_daemon_in_the_middle_of_a_hook(ending: Run) -> None:
    """A hook that a daemon is still running does not hold the interpreter up, and nothing more of the daemon runs."""
    assert ending("""
        def slow():
            say("begins")
            entered.set()
            threading.Event().wait()

        def body():
            plugin.register(say, Loud("argument"))
            plugin.register(slow)

        entered = threading.Event()
        threading.Thread(target=body, daemon=True, name="daemon").start()
        entered.wait()
        finalize(say, "cleanup")
        """) == ("daemon: begins\nMainThread: cleanup\nMainThread: exited MainThread\n", "", 0)


def test_a_daemon_that_holds_a_lock_of_its_hooks(ending: Run) -> None:
    """At finalisation no hook of a daemon runs in the main thread, where it would wait for the daemon's lock."""
    assert ending("""
        def body():
            plugin.register(lock.acquire)
            lock.acquire()
            ready.set()
            threading.Event().wait()

        lock, ready = threading.Lock(), threading.Event()
        threading.Thread(target=body, daemon=True).start()
        ready.wait()
        print("end")
        """) == ("end\n", "", 0)


def test_a_daemon_that_ends_after_the_main_threads_exit(ending: Run) -> None:
    """The main thread's exit does not concern other threads: one that still runs may register, and has its hooks."""
    assert ending(
        """
        def body():
            entered.set()
            leave.wait()
            finalize(say, "cleanup")

        entered, leave = threading.Event(), threading.Event()
        finalize(say, "cleanup")
        thread = threading.Thread(target=body, name="daemon", daemon=True)
        thread.start()
        entered.wait()
        """,
        before="""
        import atexit

        @atexit.register
        def late():
            leave.set()
            thread.join()

        """,
    ) == ("MainThread: cleanup\nMainThread: exited MainThread\ndaemon: cleanup\ndaemon: exited daemon\n", "", 0)


@pytest.mark.skipif(
    FREE_THREADED and sys.version_info < (3, 14),
    reason="it may hang: a frozen daemon holds the lock of a thread-local, which the main thread waits for (L7)",
)
def test_daemons_that_exit_while_the_interpreter_does(ending: Run) -> None:
    """Daemons that come and go until the very end are no trouble to it."""
    for _ in range(5):
        assert ending("""
            def body():
                while True:
                    thread = threading.Thread(target=lambda: finalize(str), daemon=True)
                    try:
                        thread.start()
                    except RuntimeError:  # at shutdown
                        return
                    started.release()
                    thread.join()

            plugin.close()
            started = threading.Semaphore(0)
            for _ in range(4):
                threading.Thread(target=body, daemon=True).start()
            for _ in range(40):
                started.acquire()
            finalize(print, "end")
            """) == ("end\n", "", 0)


def test_sys_exit_in_a_thread(ending: Run) -> None:
    """`sys.exit()` ends its thread alone, quietly: that thread's hooks run, and so do the main thread's."""
    assert ending("""
        def body():
            finalize(say, "cleanup")
            sys.exit("not printed")

        finalize(say, "cleanup")
        thread = threading.Thread(target=body, name="worker")
        thread.start()
        thread.join()
        """).said == ("worker: cleanup\nworker: exited worker\nMainThread: cleanup\nMainThread: exited MainThread\n")


def test_what_the_teardown_of_modules_destroys_may_try_to_register(program: Run) -> None:
    """Destructors that run after everything are refused, without a crash."""
    assert program("""
        import sys, threadhooks

        class Late:
            def __del__(self, attach=threadhooks.attach, write=sys.stdout.write):
                try:
                    attach()
                except RuntimeError:
                    write("refused")

        late = Late()
        threadhooks.attach()
    """) == ("refused", "", 0)


@pytest.mark.parametrize("module", ["before", "after"])
@pytest.mark.parametrize(
    ("methods", "said"),
    [
        ("finalizer, finalizer.detach", "None;None;"),
        pytest.param(
            "plugin.pending, functools.partial(plugin.unregister, print)",
            "{};None;",
            marks=pytest.mark.skipif(FREE_THREADED, reason="there, every module is emptied before"),
        ),
    ],
)
def test_late_destructors_may_use_what_they_hold(
    program: Run, tmp_path: Path, module: str, methods: str, said: str
) -> None:
    """A finalizer that was called, and a plugin, do nothing in a destructor that comes after everything else.

    By then the interpreter may have emptied modules: it does so in the order of import.
    """
    (tmp_path / "late.py").write_text(
        textwrap.dedent("""
        import os

        class Late:
            def __init__(self, *methods):
                self.methods = methods

            def __del__(self, write=os.write):
                for method in self.methods:
                    write(1, ascii(method()).encode() + b";")
        """),
        encoding="utf-8",
    )
    assert program(
        f"""
        import functools, sys, threading, time
        if sys.argv[1] == "before":
            import late
        import threadhooks
        from threadhooks import threadref
        import late

        finalizer = threadref.finalize(print, "called", flush=True)
        finalizer()
        plugin = threadhooks.Plugin("late")
        late.late = late.Late({methods})
        started = threading.Event()

        def daemon():
            threadref.ref()
            started.set()
            time.sleep(100)

        threading.Thread(target=daemon, daemon=True).start()
        started.wait()
        """,
        module,
    ) == (f"called\n{said}", "", 0)
