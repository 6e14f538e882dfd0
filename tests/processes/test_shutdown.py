"""How an interpreter ends: who is announced, who is not, and that nothing hangs; each in a process of its own."""

from __future__ import annotations

import signal
import sys
import sysconfig
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Program = Callable[..., Any]

# What every program here begins with: a main thread that says which hooks run, and in which thread.
PREFIX = """\
import atexit, os, signal, sys, threading, time
import threadhooks
from threadhooks import thread_exited
from threadhooks.threadref import finalize, ref

plugin = threadhooks.Plugin("shutdown")

def say(*words):
    print(threading.current_thread().name + ":", *words)

class Loud:
    def __init__(self, name):
        self.name = name
    def __del__(self):
        print("destroyed:", self.name)

@plugin.thread_exited
def exited(thread, **extra):
    say("exited", thread.name)

"""


def text(source: str) -> str:
    return PREFIX + textwrap.dedent(source)


def test_the_main_thread_is_announced_when_the_program_ends(program: Program) -> None:
    """The clean-ups of the main thread unwind at exit, once, in it; then it is announced, and references are dead."""
    assert program(
        text("""
        finalize(say, "finalize")
        plugin.register(say, "plugin")
        kept = ref(lambda dead: say("ref", dead()))
        print("end of main")
        """)
    ) == (
        "end of main\nMainThread: ref None\nMainThread: plugin\nMainThread: finalize\nMainThread: exited MainThread\n",
        "",
        0,
    )


def test_the_main_thread_is_announced_after_the_other_threads(program: Program) -> None:
    """Threads that are no daemons outlive the end of the program's text: the main thread is announced after them."""
    assert program(
        text("""
        go = threading.Event()

        def body():
            finalize(say, "clean-up")
            go.wait()

        plugin.register(say, "clean-up")
        threading.Thread(target=body, name="worker").start()
        threading.Thread(target=lambda: (threading.main_thread().join(), go.set()), name="waits").start()
        print("end of main")
        """)
    ) == (
        "end of main\nworker: clean-up\nworker: exited worker\nMainThread: clean-up\nMainThread: exited MainThread\n",
        "",
        0,
    )


def test_a_main_thread_that_is_not_attached_is_not_announced(program: Program) -> None:
    """Without any registration there is nothing to announce."""
    assert program(text('print("end")')) == ("end\n", "", 0)


def test_a_pool_that_nobody_shut_down(program: Program) -> None:
    """The workers of a pool that is left to the interpreter have their hooks before the main thread's."""
    assert program(
        text("""
        from concurrent.futures import ThreadPoolExecutor
        pool = ThreadPoolExecutor(1, thread_name_prefix="pool", initializer=threadhooks.attach)
        finalize(say, "clean-up")
        pool.submit(lambda: finalize(say, "clean-up") and None).result()
        """)
    ) == (
        "pool_0: clean-up\npool_0: exited pool_0\nMainThread: clean-up\nMainThread: exited MainThread\n",
        "",
        0,
    )


def test_atexit_handlers_may_register(program: Program) -> None:
    """A handler that was registered after our import runs before the main thread's exit, and may still register."""
    assert program(
        text("""
        atexit.register(finalize, say, "registered at exit")
        atexit.register(plugin.register, say, "registered by the plugin")
        """)
    ) == (
        "MainThread: registered at exit\nMainThread: registered by the plugin\nMainThread: exited MainThread\n",
        "",
        0,
    )


def test_what_hooks_of_the_main_thread_register_runs_in_the_same_exit(program: Program) -> None:
    """A clean-up and a receiver of the main thread may register more."""
    assert program(
        text("""
        finalize(lambda: finalize(say, "second"))
        with threadhooks.Plugin("closed") as closed:
            closed.register(say, "never")

        @plugin.thread_exited
        def receiver(thread, **extra):
            finalize(say, "third")
        """)
    ) == ("MainThread: second\nMainThread: exited MainThread\nMainThread: third\n", "", 0)


def test_nothing_can_be_registered_after_the_exit_of_the_main_thread(program: Program) -> None:
    """Once the main thread's exit has been announced, a registration for it raises: it could never run."""
    source = """\
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
    print(plugin.pending())
    plugin.unregister(print)
    plugin.close(run=True)

"""
    source += text("""
        @threadhooks.per_thread
        def resource():
            yield "never"

        finalize(say, "clean-up")
    """)
    refused = "the exit of the main thread has been announced: nothing can be registered for it any more\n"
    assert program(source) == (
        "MainThread: clean-up\nMainThread: exited MainThread\n" + 6 * refused + "{}\n",
        "",
        0,
    )


def test_a_thread_that_is_started_by_a_late_handler_registers(program: Program) -> None:
    """The main thread's exit does not concern other threads, which may end after it."""
    out, err, code = program(
        "import atexit\n"
        + textwrap.dedent("""\
        @atexit.register
        def late():
            leave.set()
            thread.join()
        """)
        + text("""
        entered, leave = threading.Event(), threading.Event()

        def body():
            entered.set()
            leave.wait()
            finalize(say, "clean-up")

        finalize(say, "clean-up")
        thread = threading.Thread(target=body, name="daemon", daemon=True)
        thread.start()
        entered.wait()
        """)
    )
    assert (out, err, code) == (
        "MainThread: clean-up\nMainThread: exited MainThread\ndaemon: clean-up\ndaemon: exited daemon\n",
        "",
        0,
    )


def test_hooks_run_when_the_program_fails(program: Program) -> None:
    """An exception that ends the program is printed as ever, before the main thread's hooks run."""
    out, err, code = program(
        text("""
        sys.excepthook = lambda *error: print(*error[:2])
        finalize(say, "clean-up")
        raise LookupError("the end")
        """)
    )
    assert (out, err, code) == (
        "<class 'LookupError'> the end\nMainThread: clean-up\nMainThread: exited MainThread\n",
        "",
        1,
    )


def test_sys_exit_in_a_thread(program: Program) -> None:
    """`sys.exit()` ends its thread alone, quietly: that thread's hooks run, and so do the main thread's."""
    assert program(
        text("""
        def body():
            finalize(say, "clean-up")
            sys.exit("not printed")

        finalize(say, "clean-up")
        thread = threading.Thread(target=body, name="worker")
        thread.start()
        thread.join()
        sys.exit(3)
        """)
    ) == (
        "worker: clean-up\nworker: exited worker\nMainThread: clean-up\nMainThread: exited MainThread\n",
        "",
        3,
    )


def test_hooks_of_the_main_thread_that_raise(program: Program) -> None:
    """A hook that fails at exit is reported with the main thread, and stops nothing; the exit code stays as it was."""
    assert program(
        text("""
        threading.excepthook = lambda args: print("reported:", args.thread.name, args.exc_type.__name__)

        def fail(error):
            raise error

        finalize(say, "clean-up")
        for error in (ValueError, KeyboardInterrupt, SystemExit(5), GeneratorExit):
            finalize(fail, error)
        plugin.thread_exited(lambda thread, **extra: 1 / 0)
        """)
    ) == (
        "reported: MainThread GeneratorExit\nreported: MainThread SystemExit\n"
        "reported: MainThread KeyboardInterrupt\nreported: MainThread ValueError\n"
        "MainThread: clean-up\nMainThread: exited MainThread\nreported: MainThread ZeroDivisionError\n",
        "",
        0,
    )


def test_a_daemon_that_still_runs_is_not_announced(program: Program) -> None:
    """It has not exited: none of its hooks runs, and nothing that it registered is destroyed, since it may use it."""
    assert program(
        text("""
        ready = threading.Event()

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

        kept = []
        threading.Thread(target=body, daemon=True, name="daemon").start()
        ready.wait()
        finalize(say, "clean-up")
        """)
    ) == ("MainThread: clean-up\nMainThread: exited MainThread\n", "", 0)


def test_a_daemons_finalizer_keeps_the_contract_of_weakref(program: Program) -> None:
    """`finalize` of a daemon is called by the main thread at exit, unless its `atexit` was set to false."""
    assert program(
        text("""
        ready = threading.Event()

        def body():
            finalize(say, "called")
            finalize(say, "not called").atexit = False
            ready.set()
            threading.Event().wait()

        threading.Thread(target=body, daemon=True, name="daemon").start()
        ready.wait()
        """)
    ) == ("MainThread: called\n", "", 0)


def test_a_daemon_in_the_middle_of_a_hook(program: Program) -> None:
    """A hook that a daemon is still running does not hold the interpreter up, and nothing more of the daemon runs."""
    assert program(
        text("""
        entered = threading.Event()

        def slow():
            say("begins")
            entered.set()
            threading.Event().wait()

        def body():
            plugin.register(say, Loud("argument"))
            plugin.register(slow)

        threading.Thread(target=body, daemon=True, name="daemon").start()
        entered.wait()
        finalize(say, "clean-up")
        """)
    ) == ("daemon: begins\nMainThread: clean-up\nMainThread: exited MainThread\n", "", 0)


def test_a_daemon_that_holds_a_lock_of_its_hooks(program: Program) -> None:
    """At finalisation no hook of a daemon runs in the main thread, where it would wait for the daemon's lock."""
    assert program(
        text("""
        lock, ready = threading.Lock(), threading.Event()

        def body():
            plugin.register(lock.acquire)
            lock.acquire()
            ready.set()
            threading.Event().wait()

        threading.Thread(target=body, daemon=True).start()
        ready.wait()
        print("end")
        """)
    ) == ("end\n", "", 0)


@pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")) and sys.version_info < (3, 14),
    reason="one time in a hundred it hangs, with bare threads and a thread-local as well (L7)",
)
def test_daemons_that_exit_while_the_interpreter_does(program: Program) -> None:
    """Daemons that come and go until the very end are no trouble to it."""
    for _ in range(5):
        out, err, code = program(
            text("""
            plugin.close()
            started = threading.Semaphore(0)

            def body():
                while True:
                    thread = threading.Thread(target=lambda: finalize(str), daemon=True)
                    try:
                        thread.start()
                    except RuntimeError:  # at shutdown
                        return
                    started.release()
                    thread.join()

            for _ in range(4):
                threading.Thread(target=body, daemon=True).start()
            for _ in range(40):
                started.acquire()
            finalize(print, "end")
            """)
        )
        assert (out, err, code) == ("end\n", "", 0)


def test_os_exit_runs_nothing(program: Program) -> None:
    """`os._exit()` ends the process at once: no hook runs, as no handler of `atexit` does."""
    assert program(
        text("""
        ready = threading.Event()

        def body():
            finalize(say, "never")
            ready.set()
            threading.Event().wait()

        threading.Thread(target=body).start()
        ready.wait()
        finalize(say, "never")
        os._exit(4)
        """)
    ) == ("", "", 4)


def test_os_exit_in_a_hook(program: Program) -> None:
    """A hook may end the process."""
    assert program(
        text("""
        def body():
            finalize(say, "never")
            finalize(os._exit, 5)

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        print("never")
        """)
    ) == ("", "", 5)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_sigterm_runs_nothing(program: Program) -> None:
    """A signal that ends the process runs no hook."""
    assert program(
        text("""
        finalize(say, "never")
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait()
        """)
    ) == ("", "", -signal.SIGTERM)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_sigterm_with_a_handler_that_exits(program: Program) -> None:
    """A handler that calls `sys.exit()` makes it an ordinary exit."""
    assert program(
        text("""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(6))
        finalize(say, "clean-up")
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait()
        """)
    ) == ("MainThread: clean-up\nMainThread: exited MainThread\n", "", 6)


INTERRUPTED = """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may have had it ignored
    go, done = threading.Event(), threading.Event()

    def body():
        finalize(done.set)
        finalize(say, "clean-up")
        os.kill(os.getpid(), signal.SIGINT)
        go.wait()

    finalize(say, "clean-up")
    thread = threading.Thread(target=body, name="worker")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_sigint_during_join(program: Program) -> None:
    """An interrupt of `join()` concerns neither the thread, nor its hooks, nor the main thread's."""
    assert program(
        text(
            INTERRUPTED
            + """
    try:
        thread.start()
        thread.join()
    except KeyboardInterrupt:
        print("interrupted")
    go.set()
    done.wait()
        """
        )
    ) == (
        "interrupted\nworker: clean-up\nworker: exited worker\nMainThread: clean-up\nMainThread: exited MainThread\n",
        "",
        0,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_sigint_ends_the_program(program: Program) -> None:
    """An interrupt that nobody catches ends the program: its hooks run all the same."""
    out, err, code = program(
        text(
            INTERRUPTED
            + """
    def excepthook(*error):
        print(error[0].__name__)
        go.set()
        done.wait()

    sys.excepthook = excepthook
    plugin.close()
    thread.start()
    thread.join()
        """
        )
    )
    assert (out, err, code) == (
        "KeyboardInterrupt\nworker: clean-up\nMainThread: clean-up\n",
        "",
        -signal.SIGINT,
    )


def test_what_the_teardown_of_modules_destroys_may_try_to_register(program: Program) -> None:
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
            marks=pytest.mark.skipif(
                bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="there, every module is emptied before"
            ),
        ),
    ],
)
def test_late_destructors_may_use_what_they_hold(
    program: Program, tmp_path: Path, module: str, methods: str, said: str
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
