"""All that we keep of one attached thread, and what runs at its two moments.

Guarantees:

- At each moment every hook is run once: the cleanups last in, first out, then the receivers in the order of connection,
  then what the receivers registered. What one of them raises is reported, and the next one runs.
- An exception from outside (one that another thread throws in, a failed allocation) costs at most the hook that is just
  being run.

Assumption: what runs the moments is called in the thread that the attachment is about.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import get_ident, get_native_id
from typing import Any, NamedTuple

from ._fork import unsettled
from ._report import report
from ._signals import ThreadSignal, thread_exited, thread_exiting, thread_started
from ._stack import Stack
from ._threads import is_daemon, is_foreign

# How often a step of an exit, or of what comes before, is begun if exceptions from outside interrupt it. Made once, for
# speed.
_ATTEMPTS = range(100)

# Where greenlets have their own locals, these are cleared from another greenlet, whose ident is not the ended one's.
GREEN = threading.local.__module__ != "_thread"

_serials = itertools.count()


class ThreadInfo(NamedTuple):
    """What is known about an attached thread. Receivers get it as `info`. It never changes."""

    thread: threading.Thread
    """The thread itself: what `threading.current_thread()` returned in it."""
    name: str
    """Its name when this record was made: by `attach`, or at the thread's first signal."""
    ident: int
    """Its `threading.get_ident()`. Another thread may get the same one as soon as this thread has ended."""
    native_id: int
    """Its `threading.get_native_id()`, the kernel's number for it."""
    daemon: bool
    """Whether it is a daemon."""
    foreign: bool
    """Whether it was started by C code, `_thread` or a greenlet library, not by `threading`."""
    attached_at: float
    """When it was attached, in seconds since the epoch, as in `time.time()`."""
    announced: bool = False
    """Whether any receiver got `thread_started` for it. To count threads by their signals, count only these."""


class Attachment:
    """All that we keep of one attached thread."""

    __slots__ = (
        "announced",
        "asked",
        "attached_at",
        "began",
        "busy",
        "displaced",
        "early",
        "exception",
        "ident",
        "info",
        "key",
        "late",
        "native_id",
        "owned",
        "ran",
        "receivers",
        "thread",
        "values",
    )

    def __init__(self, thread: threading.Thread, ident: int, native_id: int) -> None:
        self.thread: threading.Thread | None = thread  # until the thread has exited
        self.ident = ident
        self.native_id = native_id
        self.attached_at = time.time()
        # The greenlets of one thread share its native id. An address would do for both, but addresses come back at
        # once, and a free-threaded dict gets slow when a key does.
        self.key = next(_serials) if GREEN else native_id
        self.late = Stack()
        self.early = Stack()  # once early cleanups have no moment of their own any more, the same as `late`
        self.values: dict[Any, Any] = {}  # of per-thread resources
        self.owned: dict[Any, Any] = {}  # what plugins have in the stacks, by plugin
        self.asked: list[Callable[[], object]] = []  # what the thread is to do when it next has to do with us
        self.info: ThreadInfo | None = None
        self.announced = False  # whether `thread_started` was sent
        self.ran = False  # whether the end of what it runs has been announced
        self.exception: BaseException | None = None  # what `run()` raised
        self.receivers: Iterator[Callable[..., Any]] | None = None  # those that have not been called at this moment
        self.began = False  # whether the exit has
        self.busy = False  # whether hooks of the thread are being run, in the thread
        self.displaced: threading.Thread | None = None  # who has our ident in `threading._active` then

    def is_here(
        self, get_ident: Callable[[], int] = get_ident, get_native_id: Callable[[], int] = get_native_id
    ) -> bool:
        """Whether this is about the thread that asks.

        By both numbers, since an ident is used again at once, by the next thread that starts.
        """
        return self.native_id == get_native_id() and (GREEN or self.ident == get_ident())

    def describe(self) -> ThreadInfo:
        """The record of this thread, made when it is first asked for; `LookupError` if the thread has ended."""
        info = self.info
        if info is None:
            thread = self.thread
            if thread is None:
                raise LookupError("the thread has ended")
            failure: BaseException | None = None
            try:
                name, daemon = str(thread.name), bool(thread.daemon)
            except BaseException as error:  # noqa: BLE001 - a subclass may do anything there: that must cost nobody the news
                name, daemon = f"{type(thread).__name__}-{self.ident}", is_daemon(thread)
                failure = error
            info = self.info = ThreadInfo(
                thread, name, self.ident, self.native_id, daemon, is_foreign(thread), self.attached_at, self.announced
            )
            if failure is not None:  # reported last: the reporter may ask for the record
                report(failure, type(thread), thread)
        if info.announced != self.announced:  # its start was announced while another thread made the record
            info = self.info = info._replace(announced=self.announced)
        return info

    def failed(self, error: BaseException, hook: object) -> None:
        """Report what a hook of this thread raised."""
        report(error, hook, self.thread)

    def ask(self, errand: Callable[[], object]) -> None:
        """Have `errand` called by this thread when it next has to do with us.

        If the thread ends before, it is not called: this is for what the end of the thread brings about by itself.
        """
        self.asked.append(errand)
        self.disturb()
        if self.thread is None:  # it has ended meanwhile, and what it leaves is to hold nothing
            self.asked.clear()

    def disturb(self) -> None:
        """Have the thread notice, at its next look-up, that something has changed."""
        self.__class__ = _Disturbed

    def listen(self) -> None:
        """Do what was asked, in this thread."""
        # Else for nothing, the free-threaded build would stop all threads; or a forked child is not put right yet.
        if self.__class__ is not Attachment and not unsettled:
            self.__class__ = Attachment  # first: what is asked from now on is noticed at the next look-up
        while self.asked:
            try:
                errand = self.asked.pop()  # the last first: what was opened last is closed first
            except IndexError:  # a finalizer came in between, and did it
                break
            try:
                errand()
            except BaseException as error:  # noqa: BLE001
                self.failed(error, errand)

    def persist(self, step: Callable[[Any], object], argument: object) -> bool:
        """Call ``step(argument)``; if an exception from outside cuts it short, report that, and call it again.

        `step` must go on where it was. What hooks raise does not get here. Returns false if it has to give up.
        """
        for _ in _ATTEMPTS:
            try:
                self.busy = True
                step(argument)
                self.busy = False
                return True
            except BaseException as error:  # noqa: BLE001
                report(error, step, self.thread)
        self.busy = False
        return False

    def start_of_run(self) -> None:
        """The thread begins to announce itself: `thread_started`, if it has receivers.

        If nobody is, `announced` stays false, since nobody has counted it: see `ThreadInfo`.
        """
        self.ran = False
        if thread_started.is_muted or not thread_started.has_receivers_for(self.thread):
            return
        self.announced = True  # and so will its record be, which may be there already: see describe()
        self.receivers = None
        self.persist(self._send, thread_started)
        self.receivers = None

    def end_of_run(self, error: BaseException | None) -> None:
        """The early moment: the early cleanups, `thread_exiting`, and what its receivers registered."""
        self.ran = True
        self.exception = error
        self.receivers = None
        self.persist(self._end_of_run, self.failed)
        self.receivers = None

    def _end_of_run(self, failed: Callable[[BaseException, object], object]) -> None:
        self.early.unwind(failed)
        if self.receivers is not None or thread_exiting.has_receivers_for(self.thread):
            self._send(thread_exiting)
            self.early.unwind(failed)

    def begin_exit(self, displaced: threading.Thread | None) -> None:
        """The exit begins: `displaced` is who has our ident in `threading._active`, and gets it back afterwards."""
        self.displaced = displaced
        self.receivers = None
        self.began = True

    def begin_again(self) -> None:
        """Another process begins in this thread: the moments that were under way, or over, are its parent's."""
        self.ran = self.began = False
        self.receivers = None
        if self.early is self.late:
            self.early = Stack()

    def teardown(self) -> None:
        """The late moment: all that waits for the end of this thread. Called again, it goes on where it was."""
        if self.exception is not None:
            try:
                self._forget_frames()
            except BaseException as error:  # noqa: BLE001 - a class of exceptions may answer what it likes
                self.failed(error, self._forget_frames)
        if self.early is not self.late:
            if self.early.entries:
                self.late.let_references_die()  # the exit has begun: none that an early cleanup drops is missed
                self.early.unwind(self.failed)
            self.early = self.late
        self.late.unwind(self.failed)
        # That there is anybody at all is asked here, too: it spares most exits a call, half a microsecond.
        if self.receivers is not None or (
            (thread_exited.general or thread_exited.buckets) and thread_exited.has_receivers_for(self.thread)
        ):
            self._send(thread_exited)
        self.exception = None  # here, since what it keeps alive may register as it is destroyed
        if self.late.entries or self.late.segments:
            self.late.unwind(self.failed)

    def _send(self, signal: ThreadSignal) -> None:
        """Call the receivers of `signal`; called again, go on with those that were not called."""
        if self.receivers is None:
            self.receivers = iter([] if signal.is_muted else list(signal.receivers_for(self.thread)))
        thread = self.thread
        news: dict[str, Any] = {"info": self.describe()}
        if signal is not thread_started:
            news["exception"] = self.exception
        for receiver in self.receivers:  # nothing comes between the step and the call: see Stack.unwind
            try:
                receiver(thread, **news)
            except BaseException as error:  # noqa: BLE001
                self.failed(error, receiver)

    def _forget_frames(self) -> None:
        """Let go of what the frames of a thread that crashed hold, unless somebody else keeps the exception.

        If nobody had asked us to announce the crash, the exception would be gone by now, and with it its frames and all
        that is in them. It matters: an object there may have to be released before the runtime that it depends on is
        detached, by a cleanup that comes next. The traceback keeps its lines. The same goes for what nobody but this
        exception refers to: its cause, its context, the members of a group.
        """
        errors = _alone([self.exception])
        for error in errors:
            traceback = _traceback_of(error)
            while traceback is not None:
                with suppress(RuntimeError):  # a frame that is being executed
                    traceback.tb_frame.clear()
                traceback = traceback.tb_next
            parts = [_cause_of(error), _context_of(error)]
            if sys.version_info >= (3, 11) and issubclass(type(error), BaseExceptionGroup):  # noqa: F821
                members = BaseExceptionGroup.exceptions.__get__(error)  # noqa: F821
                parts += members
                for passed in _args_of(error)[1:2]:  # what it was made from; that refers to them as well
                    if passed is not members and type(passed) is list:
                        parts += passed
            errors += _alone(parts)

    def is_idle(self) -> bool:
        """Whether nothing waits for the end of this thread."""
        return not (
            self.late.entries
            or self.early.entries
            or self.exception is not None  # what it keeps alive may register as it is destroyed
            or thread_exited.has_receivers_for(self.thread)
        )

    def hooks(self) -> list[Callable[..., Any]]:
        """What would be called, newest last; for reports. The references die."""
        return self.late.hooks() + (self.early.hooks() if self.early is not self.late else [])

    def abandon(self, kept: list[object], kind: type = object) -> None:
        """Move all entries of a kind to `kept`, neither run nor destroyed: they belong to a thread that isn't here."""
        # Kept first: or else an exception from outside might have a destructor say goodbye on what a parent uses.
        kept.append(self.values)
        self.values = {}
        for stack in (self.late, self.early):
            for entry in [each for each in list(stack.entries) if issubclass(type(each), kind)]:
                kept.append((entry, stack.entries.get(entry)))
                stack.take(entry)


class _Disturbed(Attachment):
    """An attachment that is false.

    A look-up of the current thread's attachment tests whether it is true, and takes the slow path if it isn't.
    An object without a `__bool__` is true at no cost; so registrations pay nothing for being open to news.
    """

    __slots__ = ()

    def __bool__(self) -> bool:
        return False


# What the class of an exception makes of these names is not asked: it might raise, or make new ones without an end.
_traceback_of: Callable[[Any], Any] = vars(BaseException)["__traceback__"].__get__
_cause_of: Callable[[Any], Any] = vars(BaseException)["__cause__"].__get__
_context_of: Callable[[Any], Any] = vars(BaseException)["__context__"].__get__
_args_of: Callable[[Any], Any] = vars(BaseException)["args"].__get__


def _alone(parts: list[Any]) -> list[Any]:
    """Those to which nobody refers, except `parts` and, as often, what they are parts of."""
    times = Counter(map(id, parts))
    return [part for part in parts if sys.getrefcount(part) <= 2 * times[id(part)] + _WHO_ASKS]


def _count_who_asks() -> int:
    """How many `sys.getrefcount` counts in such a list, beside the list's own. It depends on the version."""
    return [sys.getrefcount(part) for part in [Exception()]][0] - 1  # noqa: RUF015 - it must be such a list


_WHO_ASKS = _count_who_asks()
