"""The sentinel: the only thread-local of the package, and the exit of a thread, which begins when it is finalized.

Guarantees, for a thread that has cleanups, or about which a receiver must be told:

- Each cleanup is run once, in its own thread, before `join()` returns: first the early ones that have not run, then the
  others, each stack last in, first out. Then `thread_exited` is sent. What either registers meanwhile runs in the same
  exit, until there is no more.
- Whatever a hook raises is reported, and the next one runs. An exception from outside (one that another thread throws
  in, a failed allocation) costs at most the hook that is just being run.
- While hooks run, `threading.current_thread()` is the thread that exits; `threading.enumerate()` is as it was after.
- A forked child neither runs nor destroys what its parent's other threads have registered.
- No hook of a thread that has ended runs in another one. If its exit was cut short, what has not run is reported.

Assumptions:

- CPython destroys a thread's locals in that thread, before `join()` returns (`PyThreadState_Clear`).
- Of two threads that are alive, at most one has a given ident; no thread soon gets the native id of one that has ended.
- One operation on a ``dict`` or a ``list`` is atomic, so that nothing here takes a lock, and everything may be called
  from a finalizer.

What it does not promise:

- A thread that is still running when the interpreter ends (a daemon) does not exit: none of its hooks run.
- If something gets the sentinel from `gc.get_objects()` and keeps it, the thread's hooks do not run: that is reported.
- Where `threading.local` was replaced before this module was imported (gevent), a greenlet is a thread, and its hooks
  run in another greenlet of the same OS thread.

The law of shutdown applies to every module of the package. When the interpreter ends, it clears the dict of each module
that is still alive, and goes on calling destructors. So:

1. No module of the package holds another one as an object: it imports names. A module that nothing holds is destroyed,
   and its functions keep its dict. One that is part of a cycle is cleared instead, and its functions find `None` in
   place of every global name.
2. Code that a destructor runs before it knows that the interpreter is not ending uses no global name: what it needs is
   bound as a default argument, at definition.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable
from threading import Thread, get_ident, get_native_id
from typing import Any

from ._attached import by_key as _attached
from ._attached import ended, forget, lose, remember_end, repair
from ._attachment import GREEN, Attachment, ThreadInfo
from ._fork import check as check_process
from ._fork import forked, in_child, own_thread_only, unsettled
from ._report import report
from ._threads import is_foreign, is_main, starting_here

if sys.implementation.name != "cpython":
    warnings.warn(
        f"{sys.implementation.name} does not destroy a thread's locals when the thread ends: the hooks of threadhooks "
        "run late, in any thread, or never",
        RuntimeWarning,
        stacklevel=2,
    )

_base = threading.local
_active: dict[int, threading.Thread] = threading._active  # type: ignore[attr-defined]  # it is never replaced


class _Sentinel:
    """Its end is the thread's end. Nothing but the thread-local ever holds it, and nothing can refer to it weakly.

    There are two in each thread. An exception from outside that is pending when the interpreter calls a `__del__` is
    raised at its first step, before anything there could catch it. Then the second sentinel does the work, in the same
    thread. Neither refers to the other: keeping that exception would keep the first one alive, and must not keep both.
    """

    __slots__ = ("attachment",)

    attachment: Attachment | None

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if is_finalizing():  # an interpreter that ends destroys the locals of daemons, in the main thread
            return
        try:
            attachment = self.attachment
        except AttributeError:  # an exception from outside came before it was given one
            return
        del self  # a hook's traceback refers to this frame
        if attachment is None or attachment.thread is None:  # its exit is over
            return
        if not attachment.persist(_finalized, attachment):
            end_here(attachment)


class _Local(threading.local):
    attachment: Attachment | None = None  # a default is faster than an AttributeError, at a thread's first registration


_local = _Local()
# By ident: those whose hooks are running. Their thread-locals must not be touched: to read one would create the state
# of the thread again, after it was cleared, and nothing would free it.
_exiting: dict[int, Attachment] = own_thread_only({}, lambda ident, attachment: ident)
# Whether there are any. A name of its own, since each registration asks: True and False are immortal, so on the
# free-threaded build threads that ask at the same time share no reference count.
_exits = False
_forked_when_over = False  # whether the thread that forked last had had its exit
# Called in a thread that was attached, as the last thing of its exit, with its attachment. By an opaque key. Unlike
# what `_over` tells, it makes no thread attach.
after_exit: dict[object, Callable[[Attachment], object]] = {}


def current() -> Attachment:
    """The attachment of the current thread, which is made if need be.

    Raises `RuntimeError` once the exit of the thread has been announced.
    """
    return (_exiting_here() if _exits else _local.attachment) or _attach()


def _exiting_here() -> Attachment | None:
    attachment = _exiting.get(get_ident())
    if attachment is None:
        return _local.attachment
    if forked() or not attachment.is_here():
        return None  # the long way round
    return attachment


def _attach() -> Attachment:
    """The long way round: for a thread that is not attached yet, that has forked, or of which something was asked."""
    if unsettled:
        check_process()
    ident, native_id = get_ident(), get_native_id()
    active = _active.get(ident)
    known = _known(ident, native_id) if native_id in _attached or ident in _exiting or GREEN else None
    if known is not None:
        known.listen()
        if known.began:
            return known
        if active is None or active is not known.thread or is_foreign(active):
            # Other locals are finalized before ours, when ours reads as empty already: our sentinel is still to come.
            return known
        # A subinterpreter's main thread loses its locals after each exec(); as to others, see _finalized.
        return _publish(known, is_main(threading.current_thread()))
    if ended.get(ident) == native_id:  # another thread-local, finalized after ours, has a destructor that calls us
        main = active is threading.main_thread()
        if main or active is None:  # or else both numbers have come back
            which = "the main thread" if main else "this thread"
            raise RuntimeError(f"the exit of {which} has been announced: nothing can be registered for it any more")
    if threading.local is not _base:
        raise RuntimeError("threading was patched (by gevent?) after threadhooks was imported: import it afterwards")
    main = False
    if type(active) is not Thread:  # nearly all are, and are spared these calls
        if active is None or is_foreign(active):
            active = threading.current_thread()  # a dummy, if `threading` does not list the thread yet
            active = starting_here() or active
        main = is_main(active)
    return _publish(Attachment(active, ident, native_id), main)


def _known(ident: int, native_id: int) -> Attachment | None:
    """The attachment of the current thread, which has these numbers, if there is one.

    Touches no thread-local, where that can be avoided.
    """
    attachment = _exiting.get(ident)
    if attachment is not None:
        if attachment.is_here():
            return attachment
        _exiting.pop(ident, None)  # the exit of an earlier thread was cut short
    if GREEN:
        return _local.attachment
    attachment = _attached.get(native_id)
    if attachment is None:
        return None
    if attachment.ident == ident:
        active = _active.get(ident)
        # A thread that is being torn down has left that table. If somebody asks for the current thread then, a dummy
        # takes its place; if it forks then, `threading` takes it for a new main thread.
        stand_in = is_foreign(active) or is_main(active)
        if active is None or active is attachment.thread or stand_in or _local.attachment is attachment:
            return attachment  # by the last: a debugger has put another object there
    # Both numbers have come back, or the kernel's alone: this was an earlier thread's.
    lose(attachment, "was cut short")
    return None


def _publish(attachment: Attachment, main: bool) -> Attachment:
    """Make `attachment` that of the current thread, unless that has one; return the one that it has then."""
    # A finalizer may have attached the thread while we made this one: who comes first, wins.
    attachment = _local.__dict__.setdefault("main", attachment) if main else _arm(attachment)
    _attached[attachment.key] = attachment
    _local.attachment = attachment  # last: code that finds it relies on the rest
    return attachment


def _arm(attachment: Attachment) -> Attachment:
    """Put a sentinel among the current thread's locals; return the attachment of the one that is there then."""
    sentinel: Any = _Sentinel()
    second: Any = _Sentinel()
    winner: Any = None
    try:
        sentinel.attachment = second.attachment = attachment
        # No variable for the locals: a traceback, of a RecursionError for instance, would keep them, and so these.
        winner = _local.__dict__.setdefault("sentinel", sentinel)
        if winner is sentinel:
            _local.__dict__["second"] = second
        else:
            sentinel.attachment = second.attachment = None  # they are not needed: their end means nothing
        return winner.attachment  # type: ignore[no-any-return]
    finally:
        sentinel = second = winner = None  # or else the traceback of an exception from outside would keep them


def exit_here(attachment: Attachment) -> None:
    """Run all that waits for the end of the current thread. To call it again goes on where it was."""
    global _exits
    _exiting[get_ident()] = attachment
    _exits = True
    attachment.teardown()


def end_here(attachment: Attachment) -> None:
    """The exit of the current thread is over: put things back, and forget it. To repeat it does no harm."""
    global _exits
    ident = get_ident()
    if _exiting.pop(ident, None) is not None and not _exiting:
        # Without the GIL, another thread may begin its exit between the question and the answer. So we look once more;
        # for some nanoseconds, that thread is told that it doesn't exit. At worst, a thread-local is created again,
        # and a few bytes are never freed.
        _exits = False
        if _exiting:
            _exits = True
    thread = attachment.thread
    if attachment.displaced is not None:  # another greenlet's, whose ident we borrow; or a foreign thread's own
        _active[ident] = attachment.displaced
    elif _active.get(ident) is thread:
        _active.pop(ident, None)
    if not GREEN and thread is not None and (type(thread) is Thread or not is_foreign(thread)):
        remember_end(attachment.ident, attachment.native_id)
    if after_exit and thread is not None:
        for watch in list(after_exit.values()):
            try:
                watch(attachment)
            except BaseException as error:  # noqa: BLE001
                report(error, watch, thread)
    if attachment.late.entries or attachment.early.entries:
        lose(attachment, "was interrupted too often")
    else:
        forget(attachment)


def _runs_on() -> bool:
    """Whether the thread executes anything beneath the finalizer that calls this: nothing, when it is torn down."""
    frame: Any = sys._getframe()
    while frame and frame.f_code is not _Sentinel.__del__.__code__:
        frame = frame.f_back
    return GREEN or not frame or frame.f_back is not None


def _finalized(attachment: Attachment) -> None:
    """The sentinel of a thread is finalized. As a rule that means that the thread ends: run what waits for that."""
    thread, here = attachment.thread, attachment.is_here()
    if thread is None:  # an exception from outside came as all was done
        return
    if not here and forked():
        # A forked child destroys the locals of threads that it hasn't got, before any handler of ours could run.
        return
    ident = get_ident()
    if not attachment.began:
        displaced = _active.get(ident)
        if displaced is thread:
            if not is_foreign(thread) and _runs_on():
                # The thread still runs. Up to 3.11 a collection may run while CPython makes the thread's locals; what
                # finalizers keep in these meanwhile is lost, except for what we put in again now.
                _arm(attachment)
                return
            # It must not stay there. A dummy, made for us, would up to 3.12; a thread does if an exception from outside
            # has come as it was leaving.
            displaced = None
        if not attachment.late.entries and attachment.is_idle():
            attachment.displaced = displaced
            end_here(attachment)
            return
        if not here:
            # A destructor might do what must not be done in this thread.
            lose(attachment, "was missed: its sentinel was finalized in another thread, because something had kept it")
            return
        attachment.begin_exit(displaced)  # first: from now on the table below does not tell whether the thread runs
    # The thread has left threading._active. It is put back, or else current_thread(), and so logging, would make a
    # dummy that stays there.
    _active[ident] = thread
    exit_here(attachment)
    end_here(attachment)


def attach() -> ThreadInfo:
    """Attach the current thread, so that it emits `thread_exited` when it ends; return its `ThreadInfo`.

    Registering anything attaches the thread, too. Call this in threads that register nothing, for instance as the
    ``initializer`` of a `concurrent.futures.ThreadPoolExecutor`. Attaching a thread again changes nothing.

    Raises `RuntimeError` after the thread's exit: in an `atexit` handler, or in the destructor of another thread-local.
    """
    return current().describe()


def attached_here() -> Attachment | None:
    """The attachment of the current thread, if it has one. Touches no thread-local, where that can be avoided."""
    check_process()
    attachment = _known(get_ident(), get_native_id())
    if attachment is not None:
        attachment.listen()
    return attachment


def refuse_here() -> None:
    """The exit of the current thread, which still runs, has been announced: let it register nothing more."""
    remember_end(get_ident(), get_native_id())
    _local.attachment = None


def _about_to_fork() -> None:
    # In the child, handlers that were registered before ours run first, and may call us. They must not find what is the
    # parent's; so whatever the forking thread next calls goes the long way round, where we see which process this is.
    global _forked_when_over
    ident, native_id = get_ident(), get_native_id()
    attachment = _known(ident, native_id)
    if attachment is not None:
        attachment.disturb()
    _forked_when_over = ended.get(ident) == native_id


@in_child
def _repair() -> None:
    # Its native id was the parent's. It is found by its ident where the thread's locals are being destroyed.
    here = get_ident()
    mine = _exiting.get(here)  # which is false here, like any that is disturbed
    if mine is None:
        mine = _local.attachment
    if mine is None:
        mine = next((attachment for attachment in _attached.values() if attachment.ident == here), None)
    repair(mine, get_native_id())
    if _forked_when_over:  # so what is registered here would not be run in the child either
        remember_end(here, get_native_id())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_about_to_fork)
