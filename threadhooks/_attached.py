"""Which threads are attached, and which have ended.

Guarantees:

- Nothing is kept of a thread that has ended, except for the last thousand pairs of numbers.
- What belongs to a thread that has ended, or that a forked child hasn't got, is neither run nor destroyed by another
  thread. If the thread has ended and it was to run, that is reported.
"""

from __future__ import annotations

import threading
import warnings
from contextlib import suppress

from ._attachment import GREEN, Attachment, ThreadInfo
from ._connections import had_by_a_thread
from ._fork import ParentsOwn, own_thread_only
from ._fork import check as check_process
from ._over import of_all, of_one, tell
from ._report import describe, report
from ._signals import thread_exited, thread_exiting, thread_started
from ._threads import attributes, has_ended

# How many exits are remembered, so that a thread can be told that its own is over.
_MOST_ENDED = 1000

by_key: dict[int, Attachment] = {}  # by `Attachment.key`
# The idents of the threads that announce the end of what they run; with the attachment, for a block of announced().
announcing: dict[int, Attachment | None] = own_thread_only({}, lambda ident, attachment: ident)
ended: dict[int, int] = {}  # by ident, the native id of the last thread of that ident that has exited
_abandoned: list[object] = []  # what must neither be used nor destroyed, by a forked child above all


def attached() -> list[Attachment]:
    """The attachments of all threads that are attached and alive, oldest first.

    One whose thread has ended is still known only if its exit was cut short; what it held is reported as lost.
    """
    check_process()
    found = []
    for attachment in list(by_key.values()):
        thread = attachment.thread
        if thread is None:
            continue
        if not has_ended(thread):
            found.append(attachment)
        elif attachment.thread is not None:  # or else its exit was just being completed
            lose(attachment, "was cut short")
    return found


def threads() -> list[ThreadInfo]:
    """Return the records of all attached threads that are alive, in the order in which they were attached.

    A thread is attached when it registers something, calls `attach`, or emits a signal to a receiver. So if
    `thread_started` has a receiver, every thread that starts under `install` is in this list until it has exited. The
    list is a snapshot: threads may start and end while it is made. May be called in any thread.
    """
    records = []
    for attachment in attached():
        with suppress(LookupError):  # it has ended meanwhile
            records.append(attachment.describe())
    return records


def attachment_of(thread: threading.Thread) -> Attachment | None:
    """The attachment of `thread`, if it is attached."""
    attachment = by_key.get(attributes(thread).get("_native_id") or 0)
    if attachment is not None and attachment.thread is thread:
        return attachment
    # It is known by another number: a greenlet, or the thread that forked.
    return next((attachment for attachment in list(by_key.values()) if attachment.thread is thread), None)


def warn_unless_early(attachment: Attachment, hook: object) -> None:
    """Warn of a cleanup for the early moment, `hook`, in a thread that has none to come.

    To be called before the cleanup is registered, as the third call from the line that the warning is about. At the
    late moment nobody knows that line any more; and what shows warnings may use thread-locals, which must not be
    touched then. If the thread enters a block of `announced` later, this was a false alarm.

    A `ResourceWarning`, as for a file that nobody closed: off by default, and on under ``-X dev``.
    """
    # The main thread has an early moment. In an exit, everything is late.
    if attachment.ident in announcing or attachment.began or attachment.thread is threading.main_thread():
        return
    warnings.warn(
        f"early cleanup {describe(hook)} will run late, when thread-locals are gone: this thread does not announce "
        "itself. Call threadhooks.install() before the thread is started, or use threadhooks.announced()",
        ResourceWarning,
        stacklevel=4,
    )


def lose(attachment: Attachment, why: str) -> None:
    """Report that nothing more of a thread will be run, and keep what it had registered from being destroyed here."""
    thread = attachment.thread
    hooks = attachment.hooks()
    attachment.abandon(_abandoned)
    forget(attachment)
    if hooks:  # the report comes last: its receiver may ask for the attached threads, and would lose it again
        names = ", ".join(map(_repr, hooks))
        report(RuntimeError(f"the exit of {_repr(thread)} {why}; not run: [{names}]"), hooks[-1], thread)


def _repr(obj: object) -> str:
    try:
        return repr(obj)
    except BaseException:  # noqa: BLE001 - it is the user's, and may do anything: that must not cost us the report
        return object.__repr__(obj)


def forget(attachment: Attachment) -> None:
    """Keep nothing of a thread that has ended."""
    thread = attachment.thread
    if by_key.get(attachment.key) is attachment:
        by_key.pop(attachment.key, None)  # two threads may find one whose exit was cut short
    if announcing.get(attachment.ident) is attachment:  # a block that was left open
        announcing.pop(attachment.ident, None)
    if thread is not None:
        if had_by_a_thread:
            for signal in (thread_started, thread_exiting, thread_exited):
                signal.forget(thread)
        if of_all or of_one:  # last, when who looks for the thread does not find it
            tell(thread, attachment.describe())
    # Who keeps the attachment, as a finalizer does, must keep nothing else alive. Most threads leave nothing behind: to
    # ask is faster than to clear.
    late, early = attachment.late, attachment.early
    if late.entries or late.segments:
        late.clear()
    if early.entries:  # it has no segments
        early.clear()
    if attachment.asked or attachment.owned or attachment.values:
        attachment.asked.clear()
        attachment.owned.clear()
        attachment.values.clear()
    attachment.thread = attachment.info = attachment.exception = attachment.receivers = attachment.displaced = None


def remember_end(ident: int, native_id: int) -> None:
    # The newest last, and not without a bound: idents are addresses, and a program may see a great many of them.
    ended.pop(ident, None)
    ended[ident] = native_id
    if len(ended) > _MOST_ENDED:
        for old in list(ended)[: _MOST_ENDED // 2]:
            ended.pop(old, None)


def forget_ends() -> None:
    """Let any thread register again: a process of `multiprocessing` begins, and nothing has ended in it."""
    ended.clear()


def repair(mine: Attachment | None, native_id: int) -> None:
    """In a forked child, keep only what belongs to the thread that forked: `mine`, if it is attached.

    `native_id` is the thread's new one. May be repeated, after an exception from outside.
    """
    ended.clear()
    ours = (mine.native_id, native_id) if mine is not None else ()
    for attachment in list(by_key.values()):
        if attachment.native_id not in ours:
            attachment.abandon(_abandoned)
            forget(attachment)
    # One, or all the greenlets of the thread that forked; `mine` comes last, since it tells which the others are.
    for key, attachment in sorted(by_key.copy().items(), key=lambda item: item[1] is mine):
        attachment.abandon(_abandoned, ParentsOwn)
        attachment.info = None
        if not GREEN:
            attachment.key = native_id
            by_key[native_id] = attachment  # first: it must not be missing in between
            if key != native_id:
                del by_key[key]
        attachment.native_id = native_id


def keep_for_ever() -> None:
    """Let the interpreter not destroy, as it ends, what daemons still use and will add, and what is a parent's."""
    kept = by_key, _abandoned
    if any(kept) or threading.active_count() > 1:
        try:
            import ctypes  # it is slow to import, and seldom needed
        except ImportError:
            return
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
