"""The end of the program, where somebody interrupts it or what is asked fails; and children that are forked then."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from support import forks

Run = Callable[..., Any]

may_fork_at_exit = pytest.mark.skipif(sys.version_info[:2] == (3, 12), reason="this version refuses to fork at exit")


def test_a_join_that_was_interrupted(ending: Run) -> None:
    """Up to 3.12 `threading` then takes the thread for dead. It isn't: it is listed, waited for, and loses no hook."""
    assert ending("""
        class Interrupt(Exception):
            pass

        def interrupt(*_):
            raise Interrupt

        def body():
            finalize(print, "the worker's cleanup")
            ready.set()
            time.sleep(0.5)

        plugin.close()
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
        """) == ("interrupted\n[True]\nthe worker's cleanup\nthe main thread's cleanup\n", "", 0)


def test_workers_with_methods_of_their_own(ending: Run) -> None:
    """After Ctrl-C at the end, workers are waited for, even if `join` takes no timeout and comparing them fails."""
    out, err, _ = ending("""
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

        plugin.close()
        signal.signal(signal.SIGINT, signal.default_int_handler)
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


def test_a_finalizer_that_can_not_say_whether_it_is_wanted_at_exit(ending: Run) -> None:
    """That is reported; it is called all the same, and so are the main thread's cleanups."""
    out, err, code = ending("""
        class Unsure(finalize):
            @property
            def atexit(self):
                raise ValueError("unsure")

        def body():
            Unsure(print, "the daemon's finalizer")
            ready.set()
            threading.Event().wait()

        plugin.close()
        finalize(print, "the main thread's cleanup")
        ready = threading.Event()
        threading.Thread(target=body, daemon=True).start()
        ready.wait()
        """)
    assert (out, code) == ("the daemon's finalizer\nthe main thread's cleanup\n", 0)
    assert "ValueError: unsure" in err


@forks
@may_fork_at_exit
def test_a_child_that_an_older_handler_forks(ending: Run) -> None:
    """The main thread's exit has been announced by then: nothing can be registered for it in the child either."""
    assert ending(
        "finalize(say, 'cleanup')",
        before="""
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
        """,
    ).said == (
        "MainThread: cleanup\nMainThread: exited MainThread\n"
        "the exit of the main thread has been announced: nothing can be registered for it any more\n"
    )


@forks
@pytest.mark.parametrize(
    "forked",
    [
        'in_thread(lambda: (register("the thread\'s"), child()))',
        "in_thread(lambda: finalize(child))",
        pytest.param("import multiprocessing.util; finalize(child)", marks=may_fork_at_exit),
    ],
    ids=["in a thread", "in a hook", "at exit"],
)
def test_a_child_of_multiprocessing(forking: Run, forked: str) -> None:
    """It calls its own references and cleanups, whenever it was forked, and not those of the thread that forked it.

    (At exit, `multiprocessing` has run its finalizers, and lets the child run none.)
    """
    out, err, code = forking(f"""
        import multiprocessing
        plugin.close()
        refs = []

        def register(whose):
            finalize(print, who() + whose, "cleanup", flush=True)
            refs.append(ref(lambda _: print(who() + whose, "reference", flush=True)))

        def child():
            process = multiprocessing.get_context("fork").Process(target=register, args=("the child's",))
            process.start()
            process.join()

        {forked}
        """)
    said = ["child the child's reference", "child the child's cleanup"]
    if "the thread's" in forked:
        said += ["parent the thread's reference", "parent the thread's cleanup"]
    assert (out.splitlines(), err, code) == (said, "", 0)
