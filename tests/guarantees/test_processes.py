"""What docs/guarantees.md says of processes: promises and limits, each by its number."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest
from support import forks


@forks
def test_g22_a_child_runs_nothing_of_other_threads(program: Callable[..., Any]) -> None:
    """A forked child neither runs nor destroys what its parent's other threads have registered, whoever asks first."""
    assert program(
        """
        import os, threading, warnings
        os.register_at_fork(after_in_child=lambda: print(resource() == os.getpid(), finalizers[0]()))
        import threadhooks
        warnings.simplefilter("ignore")  # that it forks while threads run

        class Goodbye:
            def __del__(self):
                print("destroyed in the", "child" if os.getpid() != parent else "parent")

        @threadhooks.per_thread
        def resource():
            yield os.getpid()

        def body():
            finalizers.append(threadhooks.threadref.finalize(int, 1))
            plugin.register(print, "cleanup in the", "parent", end=".\\n")
            plugin.register(lambda goodbye: None, Goodbye())
            ready.set()
            go_on.wait()

        plugin = threadhooks.Plugin("plugin")
        parent = resource()
        finalizers = []
        ready, go_on = threading.Event(), threading.Event()
        thread = threading.Thread(target=body)
        thread.start()
        ready.wait()
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
            go_on.set()
            thread.join()
        else:
            print("child")
        """
    ) == ("True None\nchild\ndestroyed in the parent\ncleanup in the parent.\n", "", 0)


@forks
def test_g23_a_child_keeps_what_the_forking_thread_registered(program: Callable[..., Any]) -> None:
    """The hooks of the thread that forks run in both processes, as those of `atexit` do; resources in the parent."""
    assert program(
        """
        import os
        import threadhooks

        @threadhooks.per_thread
        def resource():
            yield
            print("closed in the", "parent" if os.getpid() == parent else "child")

        parent = os.getpid()
        plugin = threadhooks.Plugin("plugin")
        plugin.register(lambda: print("cleanup in the", "parent" if os.getpid() == parent else "child"))
        resource()
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
        """
    ) == ("cleanup in the child\nclosed in the parent\ncleanup in the parent\n", "", 0)


def test_g24_the_main_thread(program: Callable[..., Any]) -> None:
    """Its early moment comes before threads are joined, and can stop one; its exit comes at `atexit`, after that."""
    assert program(
        """
        import threading
        import threadhooks

        def body():
            stop.wait()
            plugin.register(print, "the other thread")

        @threadhooks.thread_exited.connect
        def exited(thread, **extra):
            print("exited:", thread.name)

        stop = threading.Event()
        plugin = threadhooks.Plugin("plugin")
        plugin.register(print, "the main thread")
        plugin.register_early(stop.set)
        plugin.register_early(print, "early")
        threading.Thread(target=body, name="other").start()
        """
    ) == ("early\nthe other thread\nexited: other\nthe main thread\nexited: MainThread\n", "", 0)


def test_l07_daemons_at_interpreter_exit(program: Callable[..., Any]) -> None:
    """A daemon that still runs when the interpreter ends has not exited: not announced, nothing run, nothing closed."""
    assert program(
        """
        import threading
        import threadhooks

        @threadhooks.per_thread
        def resource():
            yield
            print("closed")

        def body():
            plugin.register(print, "cleanup")
            plugin.register_early(print, "early cleanup")
            resource()
            ready.set()
            threading.Event().wait()

        @threadhooks.thread_exited.connect
        def exited(thread, **extra):
            print("exited:", thread.name)

        threadhooks.install()
        plugin = threadhooks.Plugin("plugin")
        ready = threading.Event()
        threading.Thread(target=body, daemon=True).start()
        ready.wait()
        threadhooks.attach()
        """
    ) == ("exited: MainThread\n", "", 0)


def test_l08_finalizers_of_daemons_at_interpreter_exit(program: Callable[..., Any]) -> None:
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


def test_l09_the_order_across_threads_at_interpreter_exit(program: Callable[..., Any]) -> None:
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
def test_l10_a_process_that_is_cut_short(program: Callable[..., Any], end: str, code: int) -> None:
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


@forks
def test_l11_children_of_multiprocessing(program: Callable[..., Any]) -> None:
    """What a child registers is run if it ends in an ordinary way; and not if it is terminated, or by `os._exit`.

    Up to 3.12 a forked child has its main thread's exit before its threads are joined.
    """
    last = ["worker", "main thread"] if sys.version_info >= (3, 13) else ["main thread", "worker"]
    out, err, code = program(
        """
        import multiprocessing, os, signal, sys, threading
        import threadhooks

        def child(how):
            mine = threadhooks.Plugin("of the child")
            mine.register_early(print, "early", flush=True)
            over, stop = threading.Event(), threading.Event()
            mine.register(over.set)
            mine.register(print, "main thread", flush=True)
            mine.thread_exiting(lambda thread, **extra: stop.set())
            if how == "returns":
                threading.Thread(target=worker, args=(mine, stop, over)).start()
            if how == "terminated":
                signal.raise_signal(signal.SIGTERM)
            if how == "os._exit":
                os._exit(1)

        def worker(mine, stop, over):
            stop.wait()
            if sys.version_info < (3, 13):
                over.wait()
            mine.register(print, "worker", flush=True)

        if __name__ == "__main__":
            plugin = threadhooks.Plugin("of the parent")
            plugin.register(print, "of the parent")
            plugin.register_early(print, "early of the parent")
            for method in ("fork", "forkserver"):
                context = multiprocessing.get_context(method)
                for how in ("returns", "terminated", "os._exit"):
                    print(how)
                    process = context.Process(target=child, args=(how,))
                    process.start()
                    process.join()
            os._exit(0)
        """
    )
    returned = ["returns", "early", *last]
    assert (out.splitlines(), err, code) == (2 * [*returned, "terminated", "os._exit"], "", 0)


def test_l12_after_the_main_threads_exit(program: Callable[..., Any]) -> None:
    """Once the main thread's exit has been announced, it refuses registrations."""
    assert program(
        """
        import atexit, sys

        def too_late():
            try:
                threadhooks.attach()
            except RuntimeError as error:
                print(error)

        atexit.register(too_late)  # before threadhooks has: it runs later
        import threadhooks
        """
    ) == (
        "the exit of the main thread has been announced: nothing can be registered for it any more\n",
        "",
        0,
    )


@pytest.mark.parametrize("moment", ["register_early", "register"])
def test_l13_threads_started_as_the_interpreter_ends(program: Callable[..., Any], moment: str) -> None:
    """When the main code has ended, some versions start no threads in a hook; executors refuse those of workers."""
    out, err, code = program(
        """
        import threading
        refused = threading.Event()
        threading._register_atexit(refused.set)  # before that of executors, so it is called after that
        import concurrent.futures.thread, sys
        import threadhooks

        def attempt(start):
            try:
                start()
            except RuntimeError as error:
                print(error)
            else:
                print("started")

        def worker():
            refused.wait()
            plugin.register(attempt, lambda: pool.submit(int))
            plugin.register(attempt, threading.Thread(target=int).start)

        def main():
            threading.Thread(target=int).start()

        pool = concurrent.futures.ThreadPoolExecutor(1)
        plugin = threadhooks.Plugin("plugin")
        if sys.argv[1] == "register":
            plugin.register(attempt, main)
            threading.Thread(target=worker).start()
        else:
            plugin.register_early(attempt, main)
        """,
        moment,
    )
    thread = "started"
    if (3, 12) <= sys.version_info < (3, 12, 3):
        thread = "can't create new thread at interpreter shutdown"
    lines = [thread]
    if moment == "register":
        lines = [thread, "cannot schedule new futures after interpreter shutdown", thread]
    assert (out.splitlines(), err, code) == (lines, "", 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_l29_free_threaded_builds_and_fork(program: Callable[..., Any]) -> None:
    """On every build, a child that is forked while other threads run, but none ends, attaches threads of its own."""
    assert program(
        """
        import os, threading, warnings
        import threadhooks

        def body():
            plugin.register(os.write, 1, f"hook of {threading.current_thread().name}\\n".encode())
            if threading.current_thread() in parked:
                ready.wait()
                end.wait()

        warnings.simplefilter("ignore", DeprecationWarning)
        plugin = threadhooks.Plugin("plugin")
        ready, end = threading.Barrier(9), threading.Event()
        parked = [threading.Thread(target=body, name="parent's") for _ in range(8)]
        for thread in parked:
            thread.start()
        ready.wait()
        child = os.fork()
        if not child:
            thread = threading.Thread(target=body, name="child's")
            thread.start()
            thread.join()
            os._exit(0)
        os.waitpid(child, 0)
        end.set()
        for thread in parked:
            thread.join()
        """
    ) == ("hook of child's\n" + 8 * "hook of parent's\n", "", 0)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
@pytest.mark.parametrize("ends", [True, False], ids=["the worker ends in time", "the worker goes on"])
def test_l37_ctrl_c_while_the_interpreter_waits_for_threads(program: Callable[..., Any], ends: bool) -> None:
    """A thread that is not a daemon has its hooks itself, if it ends soon; if it doesn't, they are reported as lost."""
    out, err, code = program(
        """
        import os, signal, sys, threading, time
        import threadhooks

        def main_is_in(name):
            names = []
            while name not in names:
                time.sleep(0.1)
                frame = sys._current_frames()[threading.main_thread().ident]
                names.clear()
                while frame is not None:
                    names.append(frame.f_code.co_name)
                    frame = frame.f_back

        def body():
            threadhooks.threadref.finalize(lambda: print("own thread:", threading.current_thread() is worker))
            main_is_in("announcing_shutdown")
            os.kill(os.getpid(), signal.SIGINT)
            main_is_in("_wait_for_workers")
            if sys.argv[1] == "False":
                threading.Event().wait()

        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.unraisablehook = lambda unraisable: print(unraisable.exc_type.__name__)
        threadhooks._shutdown.GRACE = 30.0 if sys.argv[1] == "True" else 0.5
        worker = threading.Thread(target=body, name="worker")
        worker.start()
        """,
        str(ends),
    )
    assert (out, code) == ("KeyboardInterrupt\n" + "own thread: True\n" * ends, 0)
    assert ("will not be seen, since the interpreter ends before it; not run: [<function body" in err) is not ends


@pytest.mark.skipif(sys.platform != "linux", reason="calls the C library")
def test_l40_a_fork_that_python_does_not_know_of(program: Callable[..., Any]) -> None:
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
