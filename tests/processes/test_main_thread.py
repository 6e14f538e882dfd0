"""The two moments of the main thread: when its code has ended, and at `atexit`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

Run = Callable[..., Any]

# Python 3.12.0 to 3.12.2 start no threads any more when the main thread's code has ended.
REFUSES = (3, 12) <= sys.version_info < (3, 12, 3)


def test_references_unwind_with_the_rest(ending: Run) -> None:
    """At the exit, cleanups and references unwind as one stack, and the references are dead."""
    assert ending("""
        finalize(say, "finalize")
        plugin.register(say, "plugin")
        kept = ref(lambda dead: say("ref", dead()))
        print("end of main")
        """).said == (
        "end of main\nMainThread: ref None\nMainThread: plugin\nMainThread: finalize\nMainThread: exited MainThread\n"
    )


@pytest.mark.parametrize("imported", ["before", "after"])
def test_executors_and_threads_work_at_the_early_moment(ending: Run, imported: str) -> None:
    """An executor takes tasks then, and a thread can be started, whichever package was imported first."""
    load = "import concurrent.futures.thread\n"
    out, err, code = ending(
        """
        from concurrent.futures import ThreadPoolExecutor

        def early():
            try:
                pool.submit(say, "task").result()
                thread = threading.Thread(target=plugin.register, args=(say, "cleanup"), name="new")
                thread.start()
                thread.join()
            except RuntimeError as error:
                say(error)

        pool = ThreadPoolExecutor(1, thread_name_prefix="pool", initializer=threadhooks.attach)
        plugin.register_early(early)
        """,
        before=load if imported == "before" else "",
    )
    lines = ["pool_0: task", "new: cleanup", "new: exited new", "pool_0: exited pool_0"]
    if REFUSES:
        lines = ["MainThread: can't create new thread at interpreter shutdown"]
    assert (out.splitlines(), err, code) == ([*lines, "MainThread: exited MainThread"], "", 0)


def test_a_stand_in_of_a_debugger(ending: Run) -> None:
    """An object that a debugger has put in the place of the main thread is the current thread in its hooks, too."""
    assert ending("""
        class StandIn(threading.Thread):
            pass

        plugin.register(lambda: print(type(threading.current_thread()).__name__))
        threading._active[threading.get_ident()] = StandIn()
        """).said.startswith("StandIn\n")


def test_a_pool_that_nobody_shut_down(ending: Run) -> None:
    """The workers of a pool that is left to the interpreter have their hooks before the main thread's exit."""
    assert ending("""
        from concurrent.futures import ThreadPoolExecutor
        pool = ThreadPoolExecutor(1, thread_name_prefix="pool", initializer=threadhooks.attach)
        finalize(say, "cleanup")
        pool.submit(lambda: finalize(say, "cleanup") and None).result()
        """).said == ("pool_0: cleanup\npool_0: exited pool_0\nMainThread: cleanup\nMainThread: exited MainThread\n")


def test_values_and_early_cleanups_of_the_early_moment(ending: Run) -> None:
    """What is early unwinds as one stack; `thread_exiting` is sent; what its receivers have registered runs."""
    assert ending("""
        @threadhooks.per_thread(early=True)
        def value():
            yield
            say("closed")

        @plugin.thread_exiting
        def exiting(thread, **extra):
            say("exiting")
            plugin.register_early(say, "registered then")

        plugin.register_early(say, "first")
        value()
        plugin.register_early(lambda: plugin.register_early(say, "last"))
        atexit.register(plugin.register_early, say, "registered at exit")
        plugin.register(say, "late")
        """).said == (
        "MainThread: last\nMainThread: closed\nMainThread: first\nMainThread: exiting\nMainThread: registered then\n"
        "MainThread: registered at exit\nMainThread: late\nMainThread: exited MainThread\n"
    )


def test_a_main_thread_that_announced_its_end(ending: Run) -> None:
    """After a block of `announced()`, `thread_exiting` is not sent again; what is early and was added since, runs."""
    assert ending("""
        plugin.thread_exiting(lambda thread, **extra: say("exiting"))
        with threadhooks.announced():
            plugin.register_early(say, "of the block")
        plugin.register_early(say, "early")
        print("end of main")
        """).said == (
        "MainThread: of the block\nMainThread: exiting\nend of main\nMainThread: early\nMainThread: exited MainThread\n"
    )


def test_a_main_thread_that_announced_its_end_may_stop_a_thread(ending: Run) -> None:
    """After a block of `announced()`, too, what is early runs before threads are joined."""
    assert ending("""
        with threadhooks.announced():
            pass
        stop = threading.Event()
        plugin.register_early(stop.set)
        threading.Thread(target=lambda: say("told:", stop.wait(10)), name="helper").start()
        """) == ("helper: told: True\nMainThread: exited MainThread\n", "", 0)


def test_a_main_thread_that_has_registered_nothing(ending: Run) -> None:
    """A receiver of `thread_exiting` is told of it, though nothing had attached it until then."""
    assert ending('plugin.thread_exiting(lambda thread, **extra: say("exiting"))').said == (
        "MainThread: exiting\nMainThread: exited MainThread\n"
    )


def test_a_receiver_that_comes_too_late(ending: Run) -> None:
    """Once the early moment is over, `thread_exiting` is not made up for, even if nobody was to be told then."""
    assert ending("""
        @atexit.register
        def late():
            plugin.thread_exiting(lambda thread, **extra: say("exiting"))
            plugin.register_early(say, "early")
        """) == ("MainThread: early\nMainThread: exited MainThread\n", "", 0)


def test_a_main_thread_of_which_nobody_must_be_told(ending: Run) -> None:
    """Without a registration, and without a receiver of `thread_exiting`, there is nothing to announce."""
    assert ending('print("end")') == ("end\n", "", 0)


def test_without_the_function_that_joins_threads(ending: Run) -> None:
    """Where `threading` has no `_shutdown`, the early moment comes with the exit, at `atexit`."""
    assert ending(
        """
        threading._shutdown = shutdown
        threading.Thread(target=lambda: (threading.main_thread().join(), say("end")), name="other").start()
        plugin.register(say, "late")
        plugin.register_early(say, "early")
        plugin.thread_exiting(lambda thread, **extra: say("exiting"))
        """,
        before="""
        import threading
        shutdown = threading._shutdown
        del threading._shutdown
        """,
    ).said == ("other: end\nMainThread: early\nMainThread: exiting\nMainThread: late\nMainThread: exited MainThread\n")


def test_atexit_handlers_may_register(ending: Run) -> None:
    """A handler that was registered after our import runs before the main thread's exit, and may still register."""
    assert ending("""
        atexit.register(finalize, say, "registered at exit")
        atexit.register(plugin.register, say, "registered by the plugin")
        """).said == (
        "MainThread: registered at exit\nMainThread: registered by the plugin\nMainThread: exited MainThread\n"
    )


def test_what_hooks_of_the_main_thread_register_runs_in_the_same_exit(ending: Run) -> None:
    """A cleanup and a receiver of the main thread may register more."""
    assert ending("""
        finalize(lambda: finalize(say, "second"))
        with threadhooks.Plugin("closed") as closed:
            closed.register(say, "never")

        @plugin.thread_exited
        def receiver(thread, **extra):
            finalize(say, "third")
        """) == ("MainThread: second\nMainThread: exited MainThread\nMainThread: third\n", "", 0)


@pytest.mark.parametrize("register", ["register_early", "register"])
def test_hooks_of_the_main_thread_that_raise(ending: Run, register: str) -> None:
    """A hook that fails there is reported with the main thread, and stops nothing; the exit code stays as it was."""
    errors = ["GeneratorExit", "SystemExit", "KeyboardInterrupt", "ValueError"]
    assert ending(
        """
        threading.excepthook = lambda args: print("reported:", args.thread.name, args.exc_type.__name__)

        def fail(error):
            raise error

        register = getattr(plugin, sys.argv[1])
        finalize(say, "cleanup")
        for error in (ValueError, KeyboardInterrupt, SystemExit(5), GeneratorExit):
            register(fail, error)
        plugin.thread_exited(lambda thread, **extra: 1 / 0)
        """,
        register,
    ).said == (
        "".join(f"reported: MainThread {error}\n" for error in errors)
        + "MainThread: cleanup\nMainThread: exited MainThread\nreported: MainThread ZeroDivisionError\n"
    )
