"""What a forked child keeps, and what it leaves alone."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable
from typing import Any

import pytest
from support import forks

pytestmark = forks

Run = Callable[..., Any]


def test_a_thread_that_is_first_attached_in_the_child(forking: Run) -> None:
    """A thread that forks, and registers something only then, in the child, has its hooks as it ends there."""
    assert forking('in_thread(lambda: fork(lambda: finalize(say, "cleanup")))').said == (
        "child forks: cleanup\nchild forks: exited forks\n"
    )


def test_a_grandchild(forking: Run) -> None:
    """Forks may be nested: each process runs what its forking thread had registered."""
    assert forking("""
        def child():
            finalize(print, "of the child")
            if fork():
                finalize(print, "of the grandchild")

        plugin.close()
        finalize(print, "of the parent")
        fork(child)
        """) == ("of the grandchild\nof the child\nof the parent\nof the child\nof the parent\nof the parent\n", "", 0)


def test_references_to_other_threads_are_dead_in_the_child(forking: Run) -> None:
    """In the child the other threads have ended: references to them say so, and finalizers of theirs are dead."""
    assert forking("""
        def register():
            refs.append(ref(lambda _: say("never in the child")))
            finalizers.append(finalize(say, "never in the child"))

        def look():
            say(*(r() and r().name for r in refs), *(f.alive for f in finalizers), *(f() for f in finalizers))

        refs, finalizers = [ref()], [finalize(say, "own")]
        thread = started(register)
        leave(look)
        say(*(r().name for r in refs), *(f.alive for f in finalizers))
        finalizers[1].detach()
        refs.pop()
        end.set()
        """).said == (
        "child MainThread: own\nchild MainThread: MainThread None True False None None\n"
        "parent MainThread: MainThread other True True\n"
        "parent other: exited other\n"
        "parent MainThread: own\nparent MainThread: exited MainThread\n"
    )


def test_the_record_is_the_childs(forking: Run) -> None:
    """In the child, the record of the thread that forked has the native id that the thread has there."""
    assert forking("""
        def check(before):
            info = threadhooks.attach()
            assert info.native_id == threading.get_native_id() != before.native_id
            assert (info.thread, info.ident) == (threading.current_thread(), threading.get_ident())
            assert (info.ident, info.attached_at) == (before.ident, before.attached_at)
            assert threadhooks.attach() is info
            assert threadhooks.threads() == [info]
            say("checked")

        def body():
            before = threadhooks.attach()
            leave(lambda: check(before))
            assert threadhooks.attach() is before

        body()
        in_thread(body)
        """).said == (
        "child MainThread: checked\nchild forks: checked\n"
        "parent forks: exited forks\nparent MainThread: exited MainThread\n"
    )


def test_blocks_of_other_threads_are_over_in_the_child(forking: Run) -> None:
    """A `muted()` or `installed()` block that another thread was executing at the fork is not in force in the child."""
    assert forking("""
        def block():
            with thread_exited.muted(), threadhooks.installed():
                inside.set()
                end.wait()

        @plugin.thread_started
        def begun(thread, **extra):
            say("begun", thread.name)

        def child():
            say("muted:", thread_exited.is_muted)
            in_thread(threadhooks.attach, "inner")

        inside = threading.Event()
        threading.Thread(target=block, name="other").start()
        inside.wait()
        leave(child)
        with thread_exited.muted():
            leave(lambda: say("muted:", thread_exited.is_muted))
        plugin.close()
        end.set()
        """).said == ("child MainThread: muted: False\nchild inner: exited inner\nchild MainThread: muted: True\n")


def test_a_subprocess(forking: Run) -> None:
    """A program that is started has nothing to do with our hooks, also if it can't be."""
    assert forking("""
        import subprocess
        finalize(say, "cleanup")
        thread = started(lambda: finalize(say, Loud("argument")))
        subprocess.run([sys.executable, "-c", "print('program')"], preexec_fn=lambda: None, check=True)
        try:
            subprocess.run(["/there/is/no/such/program"], preexec_fn=lambda: None)
        except FileNotFoundError:
            say("not found")
        end.set()
        thread.join()
        """).said == (
        "program\nparent MainThread: not found\n"
        "parent other: argument\nparent other: destroyed argument\nparent other: exited other\n"
        "parent MainThread: cleanup\nparent MainThread: exited MainThread\n"
    )


@pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="CPython's own locks may be held for ever there: L29"
)
def test_forks_under_load_never_hang(forking: Run) -> None:
    """Children that are forked while threads come, register, close plugins and go, use all of it and end."""
    assert forking("""
        plugin.close()
        stop = threading.Event()

        def churn(number):
            def body():
                finalize(in_parent)
                kept = ref(lambda _: in_parent())
                with threadhooks.Plugin(f"plugin {number}") as mine:
                    mine.register(in_parent)
                    mine.thread_exited(lambda thread, **extra: thread.name == "child" or in_parent())
                    finalize(in_parent)
            while not stop.is_set():
                in_thread(body, "churns")

        def in_parent():
            if os.getpid() != parent:
                print("a hook of the parent's in the child")

        def child():
            log = []
            def body():
                finalize(log.append, 1)
                with threadhooks.Plugin("child") as mine:
                    mine.register(log.append, 2)
                    mine.close(run=True)
            in_thread(body, "child")
            if log != [2, 1]:
                print(log)

        churning = [threading.Thread(target=churn, args=(number,)) for number in range(4)]
        for thread in churning:
            thread.start()
        for _ in range(60):
            leave(child)
        stop.set()
        for thread in churning:
            thread.join()
        print("end")
        """) == ("end\n", "", 0)
