"""The main thread's exit, and what must survive the interpreter's shutdown.

The main thread's locals are destroyed in the last moments of the interpreter, or never. So its exit has no sentinel: it
is announced from the places where a program ends.

Guarantees:

- The main thread's early moment comes when its code has ended, before any thread is joined: threads and executors can
  still be used then, and one that waits to be told to stop can be told.
- Its exit is announced from `atexit`, after the threads that are not daemons have been joined.
- A child that `multiprocessing` has forked ends without `atexit`. There both come with the last finalizers of
  `multiprocessing.util`, and run what was registered in the child.

Assumptions:

- The interpreter calls `threading._shutdown` when the main thread's code has ended, and looks it up by that name. This
  is a private name of `threading`; without it the early moment comes at `atexit`, with the exit.
- `multiprocessing` forgets what was registered with it for the end of the parent, and then calls what was registered
  for after the fork.

What it does not promise:

- If Ctrl-C interrupts the interpreter while it waits for threads, `atexit` comes while some of these are still running.
  We wait for them, for `GRACE` seconds. Hooks that have not run by then are lost, and reported.
"""

from __future__ import annotations

import atexit
import functools
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from ._attached import attached, forget_ends, keep_for_ever, lose
from ._attachment import Attachment
from ._fork import in_child
from ._report import report
from ._sentinel import attached_here, current, end_here, exit_here, refuse_here
from ._signals import thread_exiting
from ._stack import Stack
from ._threads import is_daemon, is_foreign

# How long threads that are not daemons, and still run at `atexit`, are waited for, in seconds.
GRACE = 5.0


_before_exit: list[Callable[[], object]] = []


def before_exit_of_main(step: Callable[[], object]) -> Callable[[], object]:
    """Decorator: call `step` in the main thread just before its exit is announced."""
    _before_exit.append(step)
    return step


def _end_of_main() -> None:
    """The main thread's early moment. Called again, it leaves what was registered since then for the exit."""
    global _ended
    main = threading.main_thread()  # in a child that another thread has forked, that thread
    if _ended is main:
        return
    _ended = main
    here = attached_here()
    if here is None and thread_exiting.has_receivers_for(threading.current_thread()):
        here = current()
    if here is None or here.began:
        return
    if here.ran:  # a block, which has already announced its end
        here.persist(here.early.unwind, here.failed)
    else:
        here.end_of_run(None)


_without_finalizers = False  # whether this is a child of multiprocessing that only calls `threading._shutdown`
_ended: threading.Thread | None = None  # the main thread whose early moment has come


def _take(*steps: Callable[[], object]) -> None:
    """Call one after the other. What one of them raises, Ctrl-C for instance, costs us none of the others."""
    for step in steps:
        try:
            step()
        except BaseException as error:  # noqa: BLE001
            report(error, step, threading.current_thread())


def _exit_of_main() -> None:
    """The exit of the thread that ends with its process."""
    _take(_end_of_main, *_before_exit, _announce_exit, refuse_here)


def _announce_exit() -> None:
    here = attached_here()
    if here is not None and here.thread is not None and not here.began:
        here.begin_exit(here.thread)  # which stays in threading._active
        here.persist(exit_here, here)
        end_here(here)


def _wait_for_workers() -> None:
    # They are there if Ctrl-C has interrupted the interpreter as it waited for them. What they have registered is their
    # own business, in their own time; but the interpreter will not wait for them a second time.
    deadline = time.monotonic() + GRACE
    main = threading.main_thread()
    try:
        # Not by `join()`: a class may override it, and up to 3.12 it returns at once if it was interrupted before.
        while _workers(main) and time.monotonic() < deadline:
            time.sleep(0.01)
    except KeyboardInterrupt:  # once more: so be it
        pass
    for worker in _workers(main):
        lose(worker, "was missed: the interpreter ended first")


def _workers(main: threading.Thread) -> list[Attachment]:
    """What waits for the end of threads that are not daemons, and that `threading` has started."""
    return [
        attachment
        for attachment in attached()
        if (thread := attachment.thread) is not None
        and thread is not main
        and not is_foreign(thread)
        and not is_daemon(thread)
        and not attachment.is_here()
    ]


def _at_exit() -> None:
    # Called after the threads that are not daemons have been joined, and after most other handlers, since it was
    # registered early.
    _take(_wait_for_workers, _exit_of_main, keep_for_ever)


def _wrap_shutdown(shutdown: Callable[[], Any]) -> Callable[[], Any]:
    @functools.wraps(shutdown)
    def announcing_shutdown() -> Any:
        # `threading` first calls what was registered with its private `_register_atexit`; that is how executors stop
        # taking work, and join their threads. To come before these, whenever they were registered, we come before all.
        try:
            if threading.current_thread() is threading.main_thread():
                _end_of_main()
        finally:
            try:
                result = shutdown()
            except BaseException as error:  # Ctrl-C: the interpreter prints it, as it would without us
                error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
                raise
        if _without_finalizers:
            _exit_of_main()
        return result

    return announcing_shutdown


if callable(getattr(threading, "_shutdown", None)):
    threading._shutdown = _wrap_shutdown(threading._shutdown)  # type: ignore[attr-defined]
atexit.register(_at_exit)


class _Child:
    """Something that `multiprocessing` can refer to weakly."""


_child = _Child()
# What the forking thread had registered: to be taken back, if this turns out to be a child of `multiprocessing`.
_inherited: list[tuple[Stack, Any]] = []
_kept: list[object] = []  # and not destroyed, since a destructor may say goodbye on what the parent uses


@in_child
def _in_child() -> None:
    _inherited.clear()
    if "billiard" in sys.modules:  # which uses the same module, and may import it only now
        import multiprocessing.util  # noqa: F401
    util: Any = sys.modules.get("multiprocessing.util")
    if util is None:
        return
    here = attached_here()
    for stack in (here.late, here.early) if here is not None else ():
        stack.top = None  # references that are made from now on are not the parent's
        _inherited.extend((stack, entry) for entry in list(stack.entries))
    util.register_after_fork(_child, _begin_child)


def _begin_child(_: object = None) -> None:
    """A process of `multiprocessing` begins: it has forgotten what its parent registered for the end, and so do we."""
    global _ended, _without_finalizers
    _ended = None
    for stack, entry in _inherited:
        _kept.append((entry, stack.take(entry)))
        stack.segments.pop(entry, None)
    _inherited.clear()
    forget_ends()
    here = attached_here()
    if here is not None:  # it may have been forked by a hook, during an exit
        here.begin_again()
    util: Any = sys.modules["multiprocessing.util"]
    # It thinks that it has run its finalizers, if its parent has: one that starts a process as it ends.
    _without_finalizers = bool(getattr(util, "_exiting", False))
    util.Finalize(None, _exit_of_main, exitpriority=-sys.maxsize)  # the last of all


def _import_in_child() -> None:
    # A child of multiprocessing may be the one that imports us, at any point of its start. One that was spawned is no
    # matter: it ends as other programs do.
    util: Any = sys.modules.get("multiprocessing.util")
    process: Any = sys.modules.get("multiprocessing.process")
    if util is None or process is None or "--multiprocessing-fork" in sys.orig_argv:
        return
    util.register_after_fork(_child, _begin_child)
    if process.parent_process() is not None:  # it has called what was registered for after the fork
        _begin_child()


_import_in_child()
