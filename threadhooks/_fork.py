"""Which process this is, and what a forked child keeps of the tables that its parent made.

After `os.fork` the child has one thread, the one that called it. What the parent wrote down about its other threads is
still in the child's memory, and none of it is true there: a block that such a thread was in will never end, a lock that
it held will never be released, and the next thread may get its ident.

Guarantees:

- Once `check` has returned in a forked child, each table given to `own_thread_only` holds what belongs to the thread
  that forked, and nothing else; then every function given to `in_child` has been called, in the order of registration.
- If an exception from outside comes in between, the next call of `check` does it all again. So what is done here, and
  each function given to `in_child`, may be repeated.
- That happens before the first answer of ours that depends on it, even if the one who asks is an ``after_in_child``
  handler that was registered before this package was imported, and so runs before our own.

What it does not promise:

- A fork made by C code that does not call Python's handlers is noticed by those who call `check` without asking
  `unsettled` first, not by others.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from threading import get_ident
from typing import Any, TypeVar

K = TypeVar("K")
V = TypeVar("V")

_pid = os.getpid()
_checking = 0  # the process in which `check` is under way
_tables: list[tuple[dict[Any, Any], Callable[[Any, Any], int]]] = []
_repairs: list[Callable[[], object]] = []
# Not empty from just before a fork until its child has been put right. To ask for the process's id is a call of the
# kernel: what is too fast for that, or is done for every thread, asks this instead, and then `check`.
unsettled: list[None] = []


def own_thread_only(table: dict[K, V], ident_of: Callable[[K, V], int]) -> dict[K, V]:
    """Let a forked child forget the items of `table` that belong to other threads; return `table`.

    `ident_of` is given a key and its value, and returns the ident of the thread to which they belong.
    """
    _tables.append((table, ident_of))
    return table


def in_child(repair: Callable[[], object]) -> Callable[[], object]:
    """Decorator: call `repair` in a forked child, once the tables are right. For what is no table: locks, say.

    It is called again if anything was raised by it, or after it.
    """
    _repairs.append(repair)
    return repair


class ParentsOwn:
    """Base class of what a forked child leaves to its parent, even if the thread that forked has it."""

    __slots__ = ()


def forked(getpid: Callable[[], int] = os.getpid) -> bool:
    """Whether this is a forked child in which nothing has been put right yet."""
    return getpid() != _pid


def check() -> None:
    """Put the tables right if this process was forked since the last call."""
    global _pid, _checking
    if not forked() or _checking == os.getpid():  # a repair may call what calls this
        return
    try:
        _checking = os.getpid()
        if not unsettled:
            unsettled.append(None)  # until all is done, no attachment is taken to be right: see Attachment.listen
        here = get_ident()
        for table, ident_of in _tables:
            # A copy, since list(items()) makes tuples: up to 3.11 these may start a collection, and a finalizer may
            # change the table half-way.
            for key, value in table.copy().items():
                if ident_of(key, value) != here:
                    table.pop(key, None)
        for repair in _repairs:
            repair()
        unsettled.clear()
        _pid = os.getpid()
    finally:
        _checking = 0


if hasattr(os, "register_at_fork"):
    # Written in C, so that no exception from outside can come between them.
    os.register_at_fork(
        before=functools.partial(unsettled.append, None), after_in_parent=unsettled.pop, after_in_child=check
    )
