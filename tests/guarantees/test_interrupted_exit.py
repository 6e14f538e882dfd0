"""Ctrl-C while the interpreter waits for threads that are not daemons."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")

Run = Callable[..., Any]

# A worker that ends when `go` is set, and a daemon that interrupts the main thread as that waits for the worker.
SOURCE = """
from threadhooks import _shutdown

entered = {name: threading.Event() for name in ("announcing_shutdown", "_wait_for_workers", "join")}

def tell(frame, event, arg):
    if event == "call" and frame.f_code.co_name in entered:
        entered[frame.f_code.co_name].set()

def main_is_in(name):
    # It tells so itself: to read the frames of a thread that runs may crash a free-threaded build.
    entered[name].wait()
    time.sleep(0.1)  # it may be on its way to the lock

sys.setprofile(tell)

def interrupts():
    main_is_in("announcing_shutdown")
    os.kill(os.getpid(), signal.SIGINT)
    main_is_in("_wait_for_workers")
    then()

def then():
    pass

def body():
    finalize(say, "finalizer")
    plugin.register(say, "cleanup")
    ready.set()
    go.wait()

signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever started the tests may have had it ignored
sys.unraisablehook = lambda unraisable: say(unraisable.exc_type.__name__)
threading.excepthook = lambda args: say("reported", args.thread.name, args.exc_value)
ready, go = threading.Event(), threading.Event()
worker = threading.Thread(target=body, name="worker")
worker.start()
ready.wait()
threading.Thread(target=interrupts, daemon=True).start()
finalize(say, "finalizer")
"""

OWN = "worker: cleanup\nworker: finalizer\nworker: exited worker\n"
MAIN = "MainThread: finalizer\nMainThread: exited MainThread\n"


def test_l37_a_worker_that_ends_soon_has_its_hooks(ending: Run) -> None:
    """They run in the worker, when it ends, and before the main thread's exit."""
    out, err, code = ending(SOURCE + "then = go.set")
    assert (out, err, code) == ("MainThread: KeyboardInterrupt\n" + OWN + MAIN, "", 0)


@pytest.mark.parametrize(
    "impatience",
    ["_shutdown.GRACE = 0.1", "then = lambda: os.kill(os.getpid(), signal.SIGINT)"],
    ids=["the grace is over", "Ctrl-C again"],
)
def test_l37_a_worker_that_goes_on_is_reported(ending: Run, impatience: str) -> None:
    """What the worker has registered is not run by anybody, and is reported as lost; then the main thread exits."""
    out, err, code = ending(SOURCE + impatience)
    interrupted, lost, *rest = out.splitlines(keepends=True)
    assert interrupted == "MainThread: KeyboardInterrupt\n"
    assert lost.startswith("MainThread: reported worker the exit of <Thread(worker, ")
    assert "was missed: the interpreter ended first; not run: [<function say at " in lost
    assert lost.endswith("__main__.say of plugin 'program']\n")
    assert ("".join(rest), err, code) == (MAIN, "", 0)


def test_an_interrupt_that_main_catches(ending: Run) -> None:
    """An interrupt of `join()` concerns neither the thread, nor its hooks, nor what is known of it."""
    assert ending(
        SOURCE
        + """
def interrupts():
    main_is_in("join")
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupts, daemon=True).start()
try:
    worker.join()
except KeyboardInterrupt:
    print(sorted(info.name for info in threadhooks.threads()), len(plugin.pending()[worker]))
go.set()
while threadhooks.threads()[1:]:
    time.sleep(0.01)
os._exit(0)
"""
    ) == ("['MainThread', 'worker'] 1\n" + OWN, "", 0)


def test_an_interrupt_that_nobody_catches(ending: Run) -> None:
    """It ends the program, whose hooks run all the same."""
    assert ending("""
        def body():
            finalize(say, "cleanup")
            os.kill(os.getpid(), signal.SIGINT)
            go.wait()

        def excepthook(*error):
            print(error[0].__name__)
            go.set()

        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.excepthook = excepthook
        go = threading.Event()
        finalize(say, "cleanup")
        thread = threading.Thread(target=body, name="worker")
        thread.start()
        thread.join()
        """) == (
        "KeyboardInterrupt\nworker: cleanup\nworker: exited worker\nMainThread: cleanup\n"
        "MainThread: exited MainThread\n",
        "",
        -signal.SIGINT,
    )
