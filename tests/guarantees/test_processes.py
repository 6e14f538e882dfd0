"""What docs/guarantees.md says of processes and interpreters, each promise and each limit by its number."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest
from support import forks

Run = Callable[..., Any]

# Python 3.12.0 to 3.12.2 start no threads any more when the main thread's code has ended.
REFUSES = (3, 12) <= sys.version_info < (3, 12, 3)


@forks
def test_g22_a_child_runs_nothing_of_other_threads(forking: Run) -> None:
    """Nothing of the parent's other threads is run in the child, and nothing that they had registered is destroyed."""
    assert forking("""
        @threadhooks.per_thread
        def value():
            loud = Loud("value")
            yield loud
            say("closed")

        def register():
            finalize(say, Loud("finalizer's"))
            finalize(Loud("function").accept, keyword=Loud("keyword"))
            plugin.register(say, Loud("plugin's"))
            plugin.register_early(say, Loud("early one"))
            kept.append(ref(lambda _: say("ref")))
            value()

        kept = []
        thread = started(register)
        fork(lambda: say("pending:", plugin.pending())) and sys.exit(0)
        say("forked")
        end.set()
        thread.join()
        """).said == (
        "child MainThread: pending: {}\n"
        "parent MainThread: forked\n"
        "parent other: early one\nparent other: destroyed early one\n"
        "parent other: closed\nparent other: destroyed value\n"
        "parent other: ref\n"
        "parent other: plugin's\nparent other: destroyed plugin's\n"
        "parent other: destroyed keyword\nparent other: destroyed function\n"
        "parent other: finalizer's\nparent other: destroyed finalizer's\n"
        "parent other: exited other\n"
    )


@forks
def test_g23_a_child_keeps_what_the_forking_thread_registered(forking: Run) -> None:
    """What a thread that forks has registered runs in both processes, as it ends there, and nobody else's does."""
    assert forking("""
        def body():
            finalize(say, "cleanup")
            fork(lambda: finalize(say, "of the child"))

        finalize(say, "finalize")
        plugin.register(say, "plugin")
        kept = ref(lambda _: say("ref"))
        in_thread(body)
        fork(lambda: say("forked"))
        """).said == (
        "child forks: of the child\nchild forks: cleanup\nchild forks: exited forks\n"
        "parent forks: cleanup\nparent forks: exited forks\n"
        "child MainThread: forked\nchild MainThread: ref\nchild MainThread: plugin\nchild MainThread: finalize\n"
        "child MainThread: exited MainThread\n"
        "parent MainThread: ref\nparent MainThread: plugin\nparent MainThread: finalize\n"
        "parent MainThread: exited MainThread\n"
    )


# Hooks of both moments, and a thread that is not a daemon and ends only when the early moment tells it to.
SOURCE = """
def helper():
    stop.wait()
    plugin.register(say, "cleanup")

def exiting(thread, exception, **extra):
    say("exiting", exception)
    if thread is threading.main_thread():
        stop.set()

stop = threading.Event()
plugin.register(say, "late")
plugin.register_early(say, "early")
plugin.thread_exiting(exiting)
if sys.argv[2:] == ["installed"]:
    threadhooks.install()
threading.Thread(target=helper, name="helper").start()
"""

EARLY = "MainThread: early\nMainThread: exiting None\n"
REST = "helper: cleanup\nhelper: exited helper\nMainThread: late\nMainThread: exited MainThread\n"

ENDS = [
    ("say('end')", 0),
    ("sys.exit(3)", 3),
    ("sys.excepthook = lambda *error: None\nraise LookupError", 1),
    pytest.param(
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(6)); signal.raise_signal(signal.SIGTERM)",
        6,
        marks=pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals"),
    ),
]


@pytest.mark.parametrize("installed", [False, True], ids=["", "installed"])
@pytest.mark.parametrize(("end", "code"), ENDS, ids=["falls off", "sys.exit", "raises", "SIGTERM"])
def test_g24_the_main_thread(ending: Run, end: str, code: int, installed: bool) -> None:
    """The early moment comes then, before a thread is joined, and the exit after that, each once; the code stays."""
    out, err, returned = ending(SOURCE + end, "", *["installed"] * installed)
    said = out.replace("MainThread: end\n", "")
    if installed:  # the helper announces itself as well
        said = said.replace("helper: exiting None\n", "")
    assert (said, err, returned) == (EARLY + REST, "", code)


def test_l07_daemons_at_interpreter_exit(ending: Run) -> None:
    """It has not exited: none of its hooks runs, and nothing that it registered is destroyed, since it may use it."""
    assert ending("""
        @threadhooks.per_thread
        def value():
            loud = Loud("value")
            yield loud
            say("closed")

        def body():
            plugin.register(say, Loud("argument of the plugin's"))
            plugin.register_early(say, Loud("argument of the early one"))
            finalize(say, Loud("argument")).atexit = False
            kept.append(ref(lambda _: say("ref")))
            value()
            ready.set()
            threading.Event().wait()

        threadhooks.install()
        kept, ready = [], threading.Event()
        threading.Thread(target=body, daemon=True, name="daemon").start()
        ready.wait()
        finalize(say, "cleanup")
        """) == ("MainThread: cleanup\nMainThread: exited MainThread\n", "", 0)


def test_l08_finalizers_of_daemons_at_interpreter_exit(program: Run) -> None:
    """A `threadref.finalize` of such a daemon is called at `atexit`, in the main thread, unless `atexit` is false."""
    assert program(
        """
        import threading
        from threadhooks import threadref

        def body():
            threadref.finalize(lambda: print("in", threading.current_thread().name))
            threadref.finalize(print, "never").atexit = False
            ready.set()
            threading.Event().wait()

        ready = threading.Event()
        threading.Thread(target=body, daemon=True).start()
        ready.wait()
        """
    ) == ("in MainThread\n", "", 0)


def test_l09_the_order_across_threads_at_interpreter_exit(program: Run) -> None:
    """They are called thread by thread, the newest first, the main thread last; not in the order of registration."""
    assert program(
        """
        import threading
        from threadhooks import threadref

        def body(name, go_on):
            threadref.finalize(print, name, 1)
            made.wait()
            go_on.wait()
            threadref.finalize(print, name, 2)
            made.wait()
            threading.Event().wait()

        made = threading.Barrier(2)
        threadref.finalize(print, "main", 1)
        gates = [threading.Event(), threading.Event()]
        for name, gate in zip("ab", gates):
            threading.Thread(target=body, args=(name, gate), daemon=True).start()
            made.wait()
        for gate in reversed(gates):
            gate.set()
            made.wait()
        threadref.finalize(print, "main", 2)
        """
    ) == ("b 2\nb 1\na 2\na 1\nmain 2\nmain 1\n", "", 0)


@pytest.mark.skipif(os.name != "posix", reason="speaks to POSIX")
@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("os._exit(3)", 3),
        ("threading.Thread(target=plugin.register, args=(os._exit, 4)).start(); end.wait()", 4),
        ("os.execv(sys.executable, [sys.executable, '-c', ''])", 0),
        ("signal.raise_signal(signal.SIGTERM)", -signal.SIGTERM),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9),
    ],
)
def test_l10_a_process_that_is_cut_short(program: Run, end: str, code: int) -> None:
    """`os._exit`, in a hook as well, `os.exec*` and a signal that kills end the process at once: no hook runs."""
    assert program(
        f"""
        import os, signal, sys, threading
        import threadhooks

        def register():
            plugin.register(print, "never")
            plugin.register_early(print, "never")

        def body():
            register()
            ready.set()
            end.wait()

        plugin = threadhooks.Plugin("plugin")
        ready, end = threading.Event(), threading.Event()
        threading.Thread(target=body).start()
        ready.wait()
        register()
        {end}
        """
    ) == ("", "", code)


@pytest.mark.skipif(sys.platform != "linux", reason="calls the C library")
def test_l40_a_fork_that_python_does_not_know_of(program: Run) -> None:
    """After a fork by C code, the child has its parent's values, until it asks for what depends on the process."""
    assert program(
        """
        import ctypes, os
        import threadhooks

        @threadhooks.per_thread
        def resource():
            yield os.getpid()

        parent = resource()
        child = ctypes.PyDLL(None).fork()
        if not child:
            print(resource() == parent)
            threadhooks.threads()
            print(resource() == os.getpid())
            os._exit(0)
        os.waitpid(child, 0)
        """
    ) == ("True\nTrue\n", "", 0)


def test_l12_after_the_main_threads_exit(ending: Run) -> None:
    """Once the main thread's exit has been announced, a registration for it raises: it could never run."""
    refused = "the exit of the main thread has been announced: nothing can be registered for it any more\n"
    assert ending(
        """
        @threadhooks.per_thread
        def resource():
            yield "never"

        finalize(say, "cleanup")
        """,
        before="""
        import atexit

        @atexit.register  # before our import, so it is called after ours
        def late():
            for register in (
                threadhooks.attach,
                lambda: finalize(print, "never"),
                lambda: ref(print),
                lambda: plugin.register(print, "never"),
                lambda: plugin.register_early(print, "never"),
                resource,
            ):
                try:
                    register()
                except RuntimeError as error:
                    print(error)
                else:
                    print("registered")
            print(plugin.pending(), threadhooks.threads())
            plugin.unregister(print)
            plugin.close(run=True)

        """,
    ) == ("MainThread: cleanup\nMainThread: exited MainThread\n" + 6 * refused + "{} []\n", "", 0)


def test_l13_threads_started_as_the_interpreter_ends(ending: Run) -> None:
    """Once the main code has ended, executors take nothing from a hook; threads can be started, on most versions."""
    out, err, code = ending(
        """
        from concurrent.futures import ThreadPoolExecutor
        pool = ThreadPoolExecutor(1)

        def starts():
            for start in (lambda: pool.submit(int), threading.Thread(target=int).start):
                try:
                    start()
                except RuntimeError as error:
                    print(error)
                else:
                    print("started")

        def body():
            refused.wait()
            plugin.register(starts)

        plugin.close()
        plugin = threadhooks.Plugin("starts")
        plugin.register(starts)
        threading.Thread(target=body).start()
        """,
        before="""
        import threading
        refused = threading.Event()
        threading._register_atexit(refused.set)  # before that of executors, so it is called after that
        """,
    )
    started = "can't create new thread at interpreter shutdown" if REFUSES else "started"
    assert (out, err, code) == (2 * f"cannot schedule new futures after interpreter shutdown\n{started}\n", "", 0)


@forks
def test_l29_free_threaded_builds_and_fork(forking: Run) -> None:
    """Threads that the child starts are announced in the child, also if their idents are those of the parent's."""
    out, err, code = forking("""
        def body():
            with threadhooks.announced():
                finalize(say, "cleanup")

        def parked():
            with threadhooks.announced():
                ready.wait()
                end.wait()

        @plugin.thread_started
        def begun(thread, **extra):
            say("begun")

        ready = threading.Barrier(9)
        with threadhooks.thread_started.muted():
            threads = [threading.Thread(target=parked) for _ in range(8)]
            for thread in threads:
                thread.start()
            ready.wait()
        leave(lambda: [in_thread(body, n) for n in range(1, 9)])
        plugin.close()
        end.set()
        """)
    said = [f"child {n}: {what}" for n in range(1, 9) for what in ("begun", "cleanup", f"exited {n}")]
    assert (out.splitlines(), err, code) == (said, "", 0)


def test_l26_subinterpreters(program: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each interpreter has its own signals. The exit of a subinterpreter's main thread comes when that is destroyed."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # coverage can't be imported in a subinterpreter
    assert program(
        """
        import textwrap, threading
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        import threadhooks

        @threadhooks.thread_exited.connect
        def exited(thread, **extra):
            print("heard outside:", thread.name)

        create = interpreters.create
        number = create(isolated=False) if interpreters.__name__ == "_xxsubinterpreters" else create()
        interpreters.run_string(number, textwrap.dedent('''
            import threading, threadhooks
            plugin = threadhooks.Plugin("plugin")
            thread = threading.Thread(target=plugin.register, args=(print, "thread inside"), kwargs={"flush": True})
            thread.start()
            thread.join()
            plugin.register(print, "main inside", flush=True)
        '''))
        interpreters.run_string(number, "print('second run', flush=True)")
        interpreters.destroy(number)
        threadhooks.attach()
        """
    ) == ("thread inside\nsecond run\nmain inside\nheard outside: MainThread\n", "", 0)


def test_l27_greenlets(program: Run) -> None:
    """Under gevent's monkey-patching a greenlet is a thread; its hooks run in another greenlet, at the next switch."""
    pytest.importorskip("gevent")
    hook = "same thread: True - same greenlet: False\n"
    ended = "joined\n" + hook if sys.version_info >= (3, 13) else hook + "joined\n"
    assert program(
        """
        from gevent import monkey
        monkey.patch_all()
        import threading, gevent
        import threadhooks

        def hook(ident):
            same_thread = threading.current_thread() is thread
            print("same thread:", same_thread, "- same greenlet:", threading.get_ident() == ident)

        def body():
            plugin.register(hook, threading.get_ident())
            if waits:
                gevent.sleep(0)

        plugin = threadhooks.Plugin("plugin")
        for waits in (True, False):
            thread = threading.Thread(target=body)
            thread.start()
            thread.join()
            print("joined")
            gevent.sleep(0)
        """
    ) == (hook + "joined\n" + ended, "", 0)


def test_l28_other_implementations(program: Run) -> None:
    """On an implementation without reference counting, hooks run late or never: the import warns of it."""
    _, err, code = program(
        """
        import blinker, sys
        sys.implementation.name = "pypy"
        import threadhooks
        """
    )
    assert code == 1
    assert "RuntimeWarning: pypy does not destroy a thread's locals when the thread ends" in err
