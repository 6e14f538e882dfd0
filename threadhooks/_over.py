"""Who is told, in another thread, that a thread is over: those who wait for its end, and must not be told too early.

A receiver of `thread_exited` would be too early, since cleanups that later receivers register are still to come. It can
be too late as well: one that is connected while the signal is being sent is missed.

Guarantees:

- They are told after the last hook of the thread, when it has left the table of attached threads.
- If a caller of `tell_me` then still finds the thread in that table, it will be told.

What it does not promise:

- They are called in the thread that ends, where they can register nothing, and must not ask for the current thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ._report import report
from ._threads import attributes

Told = Callable[[Any], object]  # is passed the thread's record

# The attribute of a thread where those who wait for it are. A table by thread would have to be cleared of threads that
# are never announced; this goes with the thread object.
_ATTRIBUTE = "_threadhooks_waits"

# Called for every thread, by a key of their own. `_sentinel.after_exit` is another table: called only in the thread
# that exits, makes no thread attach, and needs no record, for which a class is asked for the name. These are also told
# of a thread whose exit was cut short, and in a forked child of those that it hasn't got.
of_all: dict[object, Told] = {}
of_one: dict[object, threading.Thread] = {}  # the thread that somebody waits for, by a key of its own


def tell_me(key: object, told: Told, thread: threading.Thread | None = None) -> None:
    """Call `told` when `thread` is over; or whenever any thread is."""
    if thread is None:
        of_all[key] = told
    else:
        attributes(thread).setdefault(_ATTRIBUTE, {})[key] = told
        of_one[key] = thread


def leave_me(key: object) -> None:
    """Take that back, if need be."""
    of_all.pop(key, None)
    thread = of_one.pop(key, None)
    if thread is not None:
        attributes(thread).get(_ATTRIBUTE, {}).pop(key, None)


def tell(thread: threading.Thread, info: Any) -> None:
    """Say that `thread` is over. Those who waited for it alone have left then."""
    waits: dict[object, Told] = attributes(thread).pop(_ATTRIBUTE, {})
    for key in list(waits):
        of_one.pop(key, None)
    for told in [*list(of_all.values()), *list(waits.values())]:
        try:
            told(info)
        except BaseException as error:  # noqa: BLE001 - an asynchronous one
            report(error, told, thread)
