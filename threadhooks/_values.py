"""What is open of per-thread resources: how a value is found, retired, and closed.

Guarantees:

- A value is closed once, by the code that takes it off its thread's stack.
- What has been opened is found again by identity: nothing that its arguments do later keeps it from being closed.
- A thread's table of values is changed in that thread alone. What concerns other threads' values, asks these threads.

Assumption: weak references to an instance learn of its end before another object can get its address.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

from ._attachment import Attachment
from ._fork import ParentsOwn
from ._report import describe, report
from ._sentinel import attached_here


class Opened:
    """What is open of one resource, in whatever threads."""

    __slots__ = ("era", "values")

    def __init__(self) -> None:
        self.values: dict[Value, None] = {}  # oldest first
        self.era = object()  # another one after each close_all: see Value.era


_owners: dict[int, Owner] = {}  # by the instance's id


class Owner(weakref.ref[Any]):
    """An instance, and what is open for it, of whatever resources, in whatever threads."""

    __slots__ = ("eras", "key", "values")

    def __init__(self, instance: object, died: Callable[[Owner], object]) -> None:
        super().__init__(instance, died)  # type: ignore[call-arg]
        self.key = id(instance)
        self.values: dict[Value, None] = {}  # oldest first
        self.eras: dict[Opened, object] = {}  # as Opened.era, for this instance alone

    def died(
        self,
        owners: dict[int, Owner] = _owners,
        active: dict[int, threading.Thread] = threading._active,  # type: ignore[attr-defined]
        is_finalizing: Callable[[], bool] = sys.is_finalizing,
    ) -> None:
        """Close what is open for it in the current thread; ask the other threads to close theirs."""
        if is_finalizing():  # the law of shutdown, see _sentinel: what is still open is a daemon's, and stays so
            return
        owners.pop(self.key, None)
        ours = []
        for value in list(self.values):
            attachment = value.attachment
            # If it dies with another thread-local, its thread has left this table: our sentinel closes it, in a moment.
            if attachment.is_here() and active.get(attachment.ident) is attachment.thread:
                ours.append(value)
            else:
                value.retire()
        for value in reversed(ours):
            value.discard()


def owner_of(instance: object) -> Owner:
    """What is known of an instance, from its first value on until it dies."""
    owner = _owners.get(id(instance))
    if owner is None or owner() is not instance:
        if owner is not None:  # an exception from outside has hit died() before it could do anything
            _owners.pop(id(instance), None)
        owner = _owners.setdefault(id(instance), Owner(instance, Owner.died))
    return owner


class Value(ParentsOwn):
    """One value that is open, in one thread. On that thread's stack, it is the entry that closes it."""

    __slots__ = (
        "arguments",
        "attachment",
        "key",
        "manager",
        "older",
        "opened",
        "owner",
        "resource",
        "retired",
        "sees_crash",
        "value",
    )

    manager: AbstractContextManager[Any]
    value: Any

    def __init__(
        self, attachment: Attachment, resource: object, opened: Opened, owner: Owner | None, key: object, arguments: Any
    ) -> None:
        self.attachment = attachment
        self.resource = resource
        self.opened = opened
        self.owner = owner
        self.key = key
        self.arguments = arguments
        self.older: Value | None = None  # another one in the same place of the table
        self.retired = False  # whether calls open another one instead; may be set in any thread
        self.sees_crash = attachment.exception is None  # or else it was opened after the crash

    def era(self) -> tuple[object, object]:
        """What is another one after each `close_all` that concerns this value, even if it is just being opened."""
        return self.opened.era, self.owner and self.owner.eras.get(self.opened)

    def publish(self, early: bool) -> None:
        """It is open: let it be found, and closed."""
        attachment = self.attachment
        (attachment.early if early else attachment.late).add(self, self)
        self.older = attachment.values.get(self.key)
        attachment.values[self.key] = self
        self.opened.values[self] = None
        if self.owner is not None:
            self.owner.values[self] = None
        if self not in attachment.late.entries and self not in attachment.early.entries:
            self._unlist()  # another thread has found it, and closed it, before it was in all of these

    def retire(self) -> None:
        """Have its thread close it when that next has to do with us. May be called in any thread."""
        if not self.retired:  # or else a thread that never comes would be asked again and again
            self.retired = True
            self.attachment.ask(self.discard)

    def discard(self) -> None:
        """Close it, unless that was done, and report what that raises."""
        if self.take():
            try:
                self.close(None)
            except BaseException as error:  # noqa: BLE001
                self.attachment.failed(error, self)

    def take(self) -> bool:
        """Take it off its thread's stack: whether it is the caller's to close."""
        attachment = self.attachment
        return (attachment.late.take(self) or attachment.early.take(self)) is not None

    def close(self, error: BaseException | None) -> None:
        """Close it; it has been taken off the stack."""
        self.retired = True
        self._unlist()
        if self.attachment.is_here():
            self._forget()
        else:
            self.attachment.ask(self._forget)
        if error is None:
            self.manager.__exit__(None, None, None)
        else:
            traceback = error.__traceback__
            try:
                self.manager.__exit__(type(error), error, traceback)
            finally:
                error.__traceback__ = traceback  # on 3.10, a frame of contextlib's would keep the error

    def _unlist(self) -> None:
        """Let nobody find it who closes what is open of its resource, or for its owner."""
        self.opened.values.pop(self, None)
        if self.owner is not None:
            self.owner.values.pop(self, None)

    def _forget(self) -> None:
        """Take it out of its thread's table, in that thread.

        A finalizer that comes in between, and opens another one in the same place, may find that one left out: it is
        closed with all the rest, and at most another one is opened.
        """
        values = self.attachment.values
        newer, known = None, values.get(self.key)
        while known is not self:
            if known is None:
                return
            newer, known = known, known.older
        if newer is not None:
            newer.older = self.older
        elif self.older is not None:
            values[self.key] = self.older
        else:
            values.pop(self.key, None)

    def __call__(self) -> None:  # when the thread ends
        self.close(self.attachment.exception if self.sees_crash else None)

    def __repr__(self) -> str:
        return f"the closing of {describe(self.resource)}"


def close_all(values: Iterable[Value], anywhere: bool) -> None:
    """Close those of the current thread, or all of them; ask the other threads to close theirs."""
    here = attached_here()
    ours = []
    for value in values:
        if anywhere or value.attachment is here:
            ours.append(value)
        else:
            value.retire()
    failure: BaseException | None = None
    try:
        for value in reversed(ours):
            if value.take():
                try:
                    value.close(None)
                except BaseException as error:  # noqa: BLE001
                    if failure is None:
                        failure = error
                    else:
                        report(error, value, threading.current_thread())
        if failure is not None:
            raise failure
    finally:
        failure = None  # its traceback refers to this frame


def enter(made: Any, resource: object) -> tuple[AbstractContextManager[Any], Any]:
    """Enter what a resource's function has returned. Returns what closes it, and the value."""
    if not (hasattr(type(made), "__enter__") and hasattr(type(made), "__exit__")):
        raise TypeError(f"{describe(resource)} must yield, or return a context manager, not {describe(made)}")
    kind = made.__class__  # of a proxy: the class of what it stands for
    # A connection of the DB-API is a context manager of its transactions. To leave it would commit, and in most drivers
    # not close it. To enter it would begin one: psycopg2 then refuses the ``with connection:`` of its users.
    if hasattr(kind, "close") and hasattr(kind, "commit") and hasattr(kind, "cursor"):
        return contextlib.closing(made), made
    value = made.__enter__()
    # Others that are their own managers may commit as well, while `close` does what it says. But an ExitStack passes on
    # what it is told, and what it holds may have to roll back.
    if value is made and hasattr(kind, "close") and not isinstance(made, contextlib.ExitStack):
        return contextlib.closing(made), value
    return made, value
