"""Forks at moments when something is under way: hooks, the closing of a plugin, the end of thread-locals."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from support import forks

pytestmark = forks

Run = Callable[..., Any]

# Python 3.12.0 to 3.12.2 refuse to fork, and to start threads, when the main thread's code has ended.
REFUSES = (3, 12) <= sys.version_info < (3, 12, 3)


def _by(process: str, events: list[str]) -> list[str]:
    return [f"{process} MainThread: {event}" for event in events]


def test_a_fork_in_a_hook(forking: Run) -> None:
    """A cleanup may fork, and so may a receiver: what is still to come runs in both processes, each once."""
    assert forking("""
        def body():
            finalize(say, "first")
            finalize(fork)
            finalize(say, "last")

        in_thread(body)
        plugin.thread_exited(lambda thread, **extra: fork(lambda: finalize(say, "of the child")))
        in_thread(threadhooks.attach, "receiver")
        plugin.close()
        """).said == (
        "parent forks: last\nchild forks: first\nchild forks: exited forks\n"
        "parent forks: first\nparent forks: exited forks\n"
        "parent receiver: exited receiver\nchild receiver: of the child\n"
    )


@pytest.mark.parametrize("moment", ["early", "late"])
def test_a_fork_in_a_hook_of_the_main_thread(forking: Run, moment: str) -> None:
    """There, too, the child goes on with the moment and with the exit: each comes once in either process."""
    before, rest = [], ["first", "exiting", "late", "exited MainThread"]
    if moment == "late":
        before, rest = ["exiting"], ["first", "exited MainThread"]
    expected = _by("parent", before)
    expected += ["parent MainThread: can't fork at interpreter shutdown"] if REFUSES else _by("child", rest)
    expected += _by("parent", rest)
    out, err, code = forking(
        """
        def forks():
            try:
                fork()
            except RuntimeError as error:
                say(error)

        plugin.thread_exiting(lambda thread, **extra: say("exiting"))
        register = plugin.register
        if sys.argv[1] == "early":
            register(say, "late")
            register = plugin.register_early
        register(say, "first")
        register(forks)
        """,
        moment,
    )
    assert (out.splitlines(), err, code) == (expected, "", 0)


@pytest.mark.parametrize("hook", ["waits", "is busy"])
def test_a_fork_while_another_thread_runs_hooks(forking: Run, hook: str) -> None:
    """In the child such a thread's exit does not go on, its ident is free again, and other threads have hooks.

    On free-threaded Python a thread that is busy holds the locks of the objects that it is about to change.
    """
    assert forking(
        """
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
            in_thread(lambda: finalize(say, "cleanup"), "inner")
            say(threading.enumerate() == [threading.main_thread()])
            plugin.close()
            say("closed")

        entered = threading.Event()
        thread = threading.Thread(target=body, name="other")
        thread.start()
        entered.wait()
        leave(child)
        end.set()
        thread.join()
        """,
        hook,
        timeout=20,
    ).said == (
        "child inner: cleanup\nchild inner: exited inner\n"
        "child MainThread: True\nchild MainThread: closed\n"
        "parent other: slow\nparent other: argument\n"
        "parent other: destroyed argument\nparent other: exited other\n"
    )


# A plugin with a hook, `run` of a thread that ends, that waits for `end`; and what closes the plugin meanwhile.
CLOSES = """
other = threadhooks.Plugin("other")
entered = threading.Event()

def slow():
    entered.set()
    in_hook()
    end.wait()

def in_hook():
    pass

def is_closed():
    while not other.closed:
        time.sleep(0.001)

exits = threading.Thread(target=lambda: other.register(slow), name="exits")
"""


def test_a_fork_while_another_thread_closes_a_plugin(forking: Run) -> None:
    """The child can close the plugin, whose hook was being waited for in a thread that it hasn't got."""
    assert forking(
        CLOSES
        + """
def child():
    other.close()
    say(other, other.pending())
    threadhooks.Plugin("other").close()
    with threadhooks.Plugin("another") as another:
        another.register(say, "pending")
        another.close(run=True)

exits.start()
entered.wait()
closes = threading.Thread(target=other.close, name="closes")
closes.start()
is_closed()
closes.join(0.1)  # it waits for the hook
say("closing:", closes.is_alive())
leave(child)
end.set()
closes.join()
exits.join()
say(other)
"""
    ).said == (
        "parent MainThread: closing: True\n"
        "child MainThread: <Plugin 'other' closed> {}\nchild MainThread: pending\n"
        "parent exits: exited exits\nparent MainThread: <Plugin 'other' closed>\n"
    )


def test_a_hook_that_forks_while_its_plugin_is_being_closed(forking: Run) -> None:
    """In the child the hook goes on, though nobody waits for it there."""
    assert forking(
        CLOSES
        + """
def in_hook():
    is_closed()
    leave(lambda: say("forked", threading.active_count()))
    end.set()

exits.start()
entered.wait()
other.close()
exits.join()
say(other)
"""
    ).said == ("child exits: forked 1\nparent exits: exited exits\nparent MainThread: <Plugin 'other' closed>\n")


def test_a_fork_in_a_signal_handler_while_a_plugin_is_being_closed(forking: Run) -> None:
    """Who waits in `close` and forks in a signal handler goes on in both processes."""
    assert forking(
        CLOSES
        + """
def handler(*args):
    global child
    child = os.fork()
    if child:
        end.set()

signal.signal(signal.SIGALRM, handler)
exits.start()
entered.wait()
signal.setitimer(signal.ITIMER_REAL, 0.2)
plugin.close()
other.close()
if not child:
    say("closed")
    os._exit(0)
wait(child)
say("closed")
"""
    ) == ("child MainThread: closed\nparent MainThread: closed\n", "", 0)


@pytest.mark.parametrize("first", [True, False], ids=["used before ours", "used after ours"])
def test_a_fork_in_the_destructor_of_a_thread_local(forking: Run, first: bool) -> None:
    """A thread that forks while its locals are destroyed runs what it has registered in both processes, or in one.

    It is one, the parent, if that has been done when the destructor comes.
    """
    out, err, code = forking(f"""
        class Forks:
            def __del__(self):
                fork()

        def body():
            if {first}:
                local.forks = Forks()
            finalize(say, "cleanup")
            if not {first}:
                local.forks = Forks()

        local = threading.local()
        in_thread(body)
        """)
    said = [line for line in out.splitlines() if "cleanup" in line]
    ours_first = first == (sys.version_info >= (3, 13))
    assert sorted(said) == ["child forks: cleanup"] * (not ours_first) + ["parent forks: cleanup"]
    assert (err, code) == ("", 0)
