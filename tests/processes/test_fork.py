"""What a forked child keeps, and what it leaves alone; each in a process of its own."""

from __future__ import annotations

import sys
import sysconfig
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
from support import forks

pytestmark = forks

Program = Callable[..., Any]

# What every program here begins with. `fork()` runs a function in a child and waits for it, so that the order of what
# both print is certain; from 3.12 on, os.fork() warns where there are other threads.
PREFIX = """\
import os, sys, threading, time, warnings
import threadhooks
from threadhooks import thread_exited
from threadhooks.threadref import finalize, ref

warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
plugin = threadhooks.Plugin("fork")
parent = os.getpid()

def say(*words):
    who = "parent" if os.getpid() == parent else "child"
    print(who, threading.current_thread().name + ":", *words)

class Loud:
    def __init__(self, name):
        self.name = name
    def __repr__(self):
        return self.name
    def accept(self, keyword):
        pass
    def __del__(self):
        say("destroyed", self.name)

@plugin.thread_exited
def exited(thread, **extra):
    say("exited", thread.name)

def wait(pid):
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        say("exit code of the child:", code)

def fork(in_child=lambda: None):
    # Fork, and let the parent wait until the child has ended. True in the child.
    pid = os.fork()
    if pid:
        wait(pid)
        return False
    in_child()
    return True

def leave(func):
    # Run this in a child that ends at once.
    def body():
        func()
        os._exit(0)
    fork(body)

def started(target, name="other"):
    # A thread that has executed `target` and goes on until the parent says so.
    ready = threading.Event()

    def body():
        target()
        ready.set()
        end.wait()

    thread = threading.Thread(target=body, name=name)
    thread.start()
    ready.wait()
    return thread

end = threading.Event()

"""


def text(source: str) -> str:
    return PREFIX + textwrap.dedent(source)


def test_a_child_runs_what_the_main_thread_registered(program: Program) -> None:
    """What the forking thread has registered runs in both processes, as what `atexit` has."""
    assert program(
        text("""
        finalize(say, "finalize")
        plugin.register(say, "plugin")
        kept = ref(lambda _: say("ref"))
        fork(lambda: say("forked"))
        """)
    ) == (
        "child MainThread: forked\nchild MainThread: ref\nchild MainThread: plugin\nchild MainThread: finalize\n"
        "child MainThread: exited MainThread\n"
        "parent MainThread: ref\nparent MainThread: plugin\nparent MainThread: finalize\n"
        "parent MainThread: exited MainThread\n",
        "",
        0,
    )


def test_a_child_runs_what_the_forking_thread_registered(program: Program) -> None:
    """It is the same for a thread that forks: its hooks run when it ends, in either process, and nobody else's do."""
    assert program(
        text("""
        def body():
            finalize(say, "clean-up")
            fork(lambda: finalize(say, "of the child"))

        finalize(say, "clean-up")
        thread = threading.Thread(target=body, name="forks")
        thread.start()
        thread.join()
        """)
    ) == (
        "child forks: of the child\nchild forks: clean-up\nchild forks: exited forks\n"
        "parent forks: clean-up\nparent forks: exited forks\n"
        "parent MainThread: clean-up\nparent MainThread: exited MainThread\n",
        "",
        0,
    )


def test_a_thread_that_is_first_attached_in_the_child(program: Program) -> None:
    """A thread that forks, and registers something only then, in the child, has its hooks as it ends there."""
    assert program(
        text("""
        thread = threading.Thread(target=lambda: fork(lambda: finalize(say, "clean-up")), name="forks")
        thread.start()
        thread.join()
        """)
    ) == ("child forks: clean-up\nchild forks: exited forks\n", "", 0)


def test_a_child_forgets_the_other_threads_without_a_trace(program: Program) -> None:
    """Nothing of the parent's other threads is run in the child, and nothing that they had registered is destroyed."""
    assert program(
        text("""
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

        def child():
            say("pending:", plugin.pending())

        kept = []
        thread = started(register)
        fork(child) and sys.exit(0)
        say("forked")
        end.set()
        thread.join()
        """)
    ) == (
        "child MainThread: pending: {}\n"
        "parent MainThread: forked\n"
        "parent other: early one\nparent other: destroyed early one\n"
        "parent other: closed\nparent other: destroyed value\n"
        "parent other: ref\n"
        "parent other: plugin's\nparent other: destroyed plugin's\n"
        "parent other: destroyed keyword\nparent other: destroyed function\n"
        "parent other: finalizer's\nparent other: destroyed finalizer's\n"
        "parent other: exited other\n",
        "",
        0,
    )


def test_references_to_other_threads_are_dead_in_the_child(program: Program) -> None:
    """In the child the other threads have ended: references to them say so, and finalizers of theirs are dead."""
    assert program(
        text("""
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
        """)
    ) == (
        "child MainThread: own\nchild MainThread: MainThread None True False None None\n"
        "parent MainThread: MainThread other True True\n"
        "parent other: exited other\n"
        "parent MainThread: own\nparent MainThread: exited MainThread\n",
        "",
        0,
    )


def test_the_record_is_the_childs(program: Program) -> None:
    """In the child, the record of the thread that forked has the native id that the thread has there."""
    assert program(
        text("""
        def check(before):
            info = threadhooks.attach()
            assert info.native_id == threading.get_native_id() != before.native_id
            assert (info.thread, info.ident) == (threading.current_thread(), threading.get_ident())
            assert (info.ident, info.attached_at) == (before.ident, before.attached_at)
            assert threadhooks.attach() is info
            say("checked")

        def body():
            before = threadhooks.attach()
            leave(lambda: check(before))
            assert threadhooks.attach() is before

        body()
        thread = threading.Thread(target=body, name="forks")
        thread.start()
        thread.join()
        """)
    ) == (
        "child MainThread: checked\nchild forks: checked\n"
        "parent forks: exited forks\nparent MainThread: exited MainThread\n",
        "",
        0,
    )


def test_a_child_has_threads_of_its_own(program: Program) -> None:
    """Threads that the child starts are announced in the child, also if their idents are those of the parent's."""
    assert program(
        text("""
        def child():
            for number in range(3):
                thread = threading.Thread(target=lambda: finalize(say, "clean-up"), name=str(number))
                thread.start()
                thread.join()

        threads = [started(lambda: finalize(say, "clean-up"), name) for name in "ab"]
        leave(child)
        for thread in threads:
            plugin.close()
        end.set()
        """)
    ).out.splitlines()[:6] == [f"child {n}: {what}" for n in range(3) for what in ("clean-up", f"exited {n}")]


def test_a_grandchild(program: Program) -> None:
    """Forks may be nested: each process runs what its forking thread had registered."""
    assert program(
        text("""
        def child():
            finalize(print, "of the child")
            pid = os.fork()
            if pid:
                wait(pid)
            else:
                finalize(print, "of the grandchild")

        plugin.close()
        finalize(print, "of the parent")
        fork(child)
        """)
    ) == ("of the grandchild\nof the child\nof the parent\nof the child\nof the parent\nof the parent\n", "", 0)


def test_a_fork_in_a_hook(program: Program) -> None:
    """A hook may fork: the hooks that are still to come run in both processes, each once."""
    assert program(
        text("""
        def body():
            finalize(say, "first")
            finalize(fork)
            finalize(say, "last")

        thread = threading.Thread(target=body, name="forks")
        thread.start()
        thread.join()
        """)
    ) == (
        "parent forks: last\nchild forks: first\nchild forks: exited forks\n"
        "parent forks: first\nparent forks: exited forks\n",
        "",
        0,
    )


def test_a_fork_in_a_receiver(program: Program) -> None:
    """A receiver of `thread_exited` may fork as well, and register in the child."""
    assert program(
        text("""
        @plugin.thread_exited
        def forks(thread, **extra):
            fork(lambda: finalize(say, "of the child"))

        thread = threading.Thread(target=threadhooks.attach, name="forks")
        thread.start()
        thread.join()
        """)
    ) == (
        "parent forks: exited forks\nchild forks: of the child\n",
        "",
        0,
    )


def test_a_fork_in_a_hook_of_the_main_thread(program: Program) -> None:
    """At exit a hook of the main thread may fork, unless Python refuses it: the child goes on with the exit."""
    parents = "parent MainThread: first\nparent MainThread: exited MainThread\n"
    children = parents.replace("parent", "child")
    result = program(
        text("""
        def forks():
            try:
                fork()
            except RuntimeError as error:
                say(error)

        finalize(say, "first")
        finalize(forks)
        """)
    )
    if sys.version_info[:2] == (3, 12) and "shutdown" in result.out:
        children = "parent MainThread: can't fork at interpreter shutdown\n"
    assert result == (children + parents, "", 0)


@pytest.mark.parametrize("hook", ["waits", "is busy"])
def test_a_fork_while_another_thread_runs_hooks(program: Program, hook: str) -> None:
    """In the child such a thread's exit does not go on, its ident is free again, and other threads have hooks.

    On free-threaded Python a thread that is busy holds the locks of the objects that it is about to change.
    """
    assert program(
        text("""
        entered = threading.Event()

        def slow():
            entered.set()
            while sys.argv[1] == "is busy" and not end.is_set():
                pass
            end.wait()
            say("slow")

        def body():
            finalize(say, Loud("argument"))
            plugin.register(slow)

        def child():
            inner = threading.Thread(target=lambda: finalize(say, "clean-up"), name="inner")
            inner.start()
            inner.join()
            say(threading.enumerate() == [threading.main_thread()])
            plugin.close()
            say("closed")

        thread = threading.Thread(target=body, name="other")
        thread.start()
        entered.wait()
        leave(child)
        end.set()
        thread.join()
        """),
        hook,
        timeout=20,
    ) == (
        "child inner: clean-up\nchild inner: exited inner\n"
        "child MainThread: True\nchild MainThread: closed\n"
        "parent other: slow\nparent other: argument\n"
        "parent other: destroyed argument\nparent other: exited other\n",
        "",
        0,
    )


def test_a_fork_while_another_thread_closes_a_plugin(program: Program) -> None:
    """The child can close the plugin, whose hook was being waited for in a thread that it hasn't got."""
    assert program(
        text("""
        entered = threading.Event()
        other = threadhooks.Plugin("other")

        def slow():
            entered.set()
            end.wait()

        def child():
            other.close()
            say(other, other.pending())
            threadhooks.Plugin("other").close()
            with threadhooks.Plugin("another") as another:
                another.register(say, "pending")
                another.close(run=True)

        exits = threading.Thread(target=lambda: other.register(slow), name="exits")
        exits.start()
        entered.wait()
        closes = threading.Thread(target=other.close, name="closes")
        closes.start()
        while not other.closed:
            time.sleep(0.001)
        closes.join(0.1)  # it waits for the hook
        say("closing:", closes.is_alive())
        leave(child)
        end.set()
        closes.join()
        exits.join()
        say(other)
        """)
    ) == (
        "parent MainThread: closing: True\n"
        "child MainThread: <Plugin 'other' closed> {}\nchild MainThread: pending\n"
        "parent exits: exited exits\nparent MainThread: <Plugin 'other' closed>\n",
        "",
        0,
    )


def test_a_hook_that_forks_while_its_plugin_is_being_closed(program: Program) -> None:
    """In the child the hook goes on, though nobody waits for it there."""
    assert program(
        text("""
        entered = threading.Event()
        other = threadhooks.Plugin("other")

        def forks():
            entered.set()
            while not other.closed:
                time.sleep(0.001)
            leave(lambda: say("forked", threading.active_count()))

        exits = threading.Thread(target=lambda: other.register(forks), name="exits")
        exits.start()
        entered.wait()
        other.close()
        exits.join()
        say(other)
        """)
    ) == (
        "child exits: forked 1\nparent exits: exited exits\nparent MainThread: <Plugin 'other' closed>\n",
        "",
        0,
    )


@pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="CPython's own locks may be held for ever there: L29"
)
def test_forks_under_load_never_hang(program: Program) -> None:
    """Children that are forked while threads come, register, close plugins and go, use all of it and end."""
    assert program(
        text("""
        plugin.close()
        stop = threading.Event()
        children = []

        def churn(number):
            while not stop.is_set():
                def body():
                    finalize(in_parent)
                    kept = ref(lambda _: in_parent())
                    with threadhooks.Plugin(f"plugin {number}") as mine:
                        mine.register(in_parent)
                        mine.thread_exited(lambda thread, **extra: thread.name == "child" or in_parent())
                        finalize(in_parent)
                thread = threading.Thread(target=body)
                thread.start()
                thread.join()

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
            thread = threading.Thread(target=body, name="child")
            thread.start()
            thread.join()
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
        """)
    ) == ("end\n", "", 0)


def test_what_the_child_of_a_thread_that_is_not_attached_registers(program: Program) -> None:
    """A thread forks that has registered nothing; what it registers in the child runs there, as the thread ends."""
    assert program(
        text("""
        def body():
            pid = os.fork()
            if pid:
                wait(pid)
            else:
                plugin.register(say, "registered in the child")

        thread = threading.Thread(target=body, name="forks")
        thread.start()
        thread.join()
        """)
    ) == ("child forks: registered in the child\nchild forks: exited forks\n", "", 0)


def test_idents_of_announced_threads_come_back_in_the_child(program: Program) -> None:
    """Threads of the child announce themselves, though their idents are those of threads that did in the parent."""
    assert program(
        text("""
        def body():
            with threadhooks.announced():
                end.wait()

        def child():
            end.set()
            for thread in [threading.Thread(target=body) for _ in range(8)]:
                thread.start()
                thread.join()
            say(len(heard))

        heard = []
        threads = [started(lambda: None), *(threading.Thread(target=body) for _ in range(8))]
        for thread in threads[1:]:
            thread.start()
        plugin.close()
        mine = threadhooks.Plugin("mine")
        mine.thread_started(lambda thread, **extra: heard.append(thread))
        leave(child)
        end.set()
        for thread in threads:
            thread.join()
        """)
    ) == ("child MainThread: 8\n", "", 0)


def test_a_child_that_ends_at_once_runs_nothing(program: Program) -> None:
    """`os._exit()` in the child runs no hook there."""
    assert program(
        text("""
        finalize(say, "clean-up")
        leave(lambda: say("forked"))
        """)
    ) == (
        "child MainThread: forked\nparent MainThread: clean-up\nparent MainThread: exited MainThread\n",
        "",
        0,
    )


def test_a_subprocess(program: Program) -> None:
    """A program that is started has nothing to do with our hooks, also if it can't be."""
    assert program(
        text("""
        import subprocess
        finalize(say, "clean-up")
        thread = started(lambda: finalize(say, Loud("argument")))
        subprocess.run([sys.executable, "-c", "print('program')"], preexec_fn=lambda: None, check=True)
        try:
            subprocess.run(["/there/is/no/such/program"], preexec_fn=lambda: None)
        except FileNotFoundError:
            say("not found")
        end.set()
        thread.join()
        """)
    ) == (
        "program\nparent MainThread: not found\n"
        "parent other: argument\nparent other: destroyed argument\nparent other: exited other\n"
        "parent MainThread: clean-up\nparent MainThread: exited MainThread\n",
        "",
        0,
    )


def test_blocks_of_other_threads_are_over_in_the_child(program: Program) -> None:
    """A `muted()` or `installed()` block that another thread was executing at the fork is not in force in the child."""
    assert program(
        text("""
        def block():
            with thread_exited.muted(), threadhooks.installed():
                inside.set()
                go_on.wait()

        @plugin.thread_started
        def begun(thread, **extra):
            say("begun", thread.name)

        inside, go_on = threading.Event(), threading.Event()
        other = threading.Thread(target=block, name="other")
        other.start()
        inside.wait()

        def child():
            say("muted:", thread_exited.is_muted)
            thread = threading.Thread(target=threadhooks.attach, name="child's")
            thread.start()
            thread.join()

        fork(child) and os._exit(0)
        with thread_exited.muted():
            fork(lambda: say("muted:", thread_exited.is_muted)) and os._exit(0)
        go_on.set()
        other.join()
        plugin.close()
        """)
    ) == ("child MainThread: muted: False\nchild child's: exited child's\nchild MainThread: muted: True\n", "", 0)


def test_a_fork_in_a_signal_handler_while_a_plugin_is_being_closed(program: Program) -> None:
    """Who waits in `close` and forks in a signal handler goes on in both processes."""
    assert program(
        text("""
        import signal

        def hook():
            running.set()
            go_on.wait()

        def handler(*args):
            global child
            child = os.fork()
            if child:
                go_on.set()

        running, go_on = threading.Event(), threading.Event()
        thread = threading.Thread(target=plugin.register, args=(hook,))
        thread.start()
        running.wait()
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        plugin.close()
        if not child:
            say("closed")
            os._exit(0)
        wait(child)
        say("closed")
        thread.join()
        """)
    ) == ("child MainThread: closed\nparent MainThread: closed\n", "", 0)


def test_a_resource_is_not_shared_with_the_child(program: Program) -> None:
    """The child opens its own value, and neither uses nor closes its parent's."""
    assert program(
        text("""
        @threadhooks.per_thread
        def value():
            yield os.getpid()
            say("closed")

        plugin.close()
        assert value() == parent

        fork()
        assert value() == os.getpid()
        """)
    ) == ("child MainThread: closed\nparent MainThread: closed\n", "", 0)


WORKER = """
import multiprocessing, sys, threading

def say(*words):
    print(multiprocessing.current_process().name, threading.current_thread().name + ":", *words, flush=True)

def work():
    from threadhooks.threadref import finalize
    finalize(say, "of the process")
    thread = threading.Thread(target=lambda: finalize(say, "of a thread"), name="inner")
    thread.start()
    thread.join()
    say("end of work")

if __name__ == "__main__":
    from threadhooks.threadref import finalize
    finalize(say, "of the parent")
    context = multiprocessing.get_context(sys.argv[1])
    process = context.Process(target=work, name="Child")
    process.start()
    process.join()
    say(process.exitcode)
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(method: str, program: Program) -> None:
    """A child process runs what its own threads registered, its main thread included, and nothing of its parent's."""
    lines = ["Child inner: of a thread", "Child MainThread: end of work", "Child MainThread: of the process"]
    lines += ["MainProcess MainThread: 0", "MainProcess MainThread: of the parent"]
    out, err, code = program(WORKER, method)
    assert (out.splitlines(), err, code) == (lines, "", 0)


@pytest.mark.parametrize("first", [True, False], ids=["used before ours", "used after ours"])
def test_a_fork_in_the_destructor_of_a_thread_local(program: Program, first: bool) -> None:
    """A thread that forks while its locals are destroyed runs what it has registered in both processes, or in one.

    It is one, the parent, if that has been done when the destructor comes.
    """
    out, err, code = program(
        text(f"""
        local = threading.local()
        class Forks:
            def __del__(self):
                pid = os.fork()
                if pid:
                    wait(pid)
        def body():
            if {first}:
                local.forks = Forks()
            finalize(say, "clean-up")
            if not {first}:
                local.forks = Forks()
        thread = threading.Thread(target=body, name="forks")
        thread.start()
        thread.join()
        """)
    )
    said = [line for line in out.splitlines() if "clean-up" in line]
    ours_first = first == (sys.version_info >= (3, 13))
    assert sorted(said) == ["child forks: clean-up"] * (not ours_first) + ["parent forks: clean-up"]
    assert (err, code) == ("", 0)
