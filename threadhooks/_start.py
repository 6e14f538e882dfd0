"""Where `start` is replaced in the classes of `threading`, and put back.

Guarantees:

- Every thread of `threading` that is started by an inherited `start` is started by the replacement, whichever class
  `threading.Thread` names by now.
- What stood in a class is put back as it was. A replacement over which another tool has put its own stays beneath.

Assumption: who calls this holds a lock, so that no two calls overlap.
"""

from __future__ import annotations

import inspect
import threading
import weakref
from collections.abc import Callable
from types import FunctionType
from typing import Any

_ours: weakref.WeakSet[Any] = weakref.WeakSet()  # the replacements that we have made, which are functions
_classes: dict[type, None] = {}  # in which one may stand


def replace_start(wrap: Callable[[Any], Any]) -> None:
    """Replace what is found as `start` by ``wrap(found)``, except where one of ours is already.

    What is found is passed as it stands in the class: a function, as a rule, or another descriptor. The replacement has
    it as its ``__wrapped__``.
    """
    for cls in _that_define_start():
        found = vars(cls)["start"]
        # What is no descriptor, as a mock, isn't told which thread it should start: there is nothing to announce. It
        # is left alone, so that it stays to everybody what it is.
        if hasattr(type(found), "__get__") and not _has_ours(found):
            ours = wrap(found)
            _ours.add(ours)
            _classes[cls] = None
            cls.start = ours  # type: ignore[attr-defined]


def restore_start() -> None:
    """Put back what `replace_start` has found."""
    for cls in [*_classes, *_that_define_start()]:
        found = vars(cls).get("start")
        if _is_ours(found):
            found = found.__wrapped__  # type: ignore[union-attr]
            cls.start = found  # type: ignore[attr-defined]
        if not _has_ours(found):
            _classes.pop(cls, None)


def _that_define_start() -> list[type]:
    # `threading.Thread` may have been replaced by a subclass that only inherits its `start`, while what was made before
    # (timers, for one) goes on with the original. And a tool may have put a `start` on `Timer`.
    heads: list[Any] = [threading.Thread, threading.Timer]
    bases = dict.fromkeys(base for head in heads if isinstance(head, type) for base in head.__mro__)
    return [base for base in bases if "start" in vars(base)]


def _is_ours(start: object) -> bool:
    return type(start) is FunctionType and start in _ours


def _has_ours(start: Any) -> bool:
    """Whether that is one of ours, or wraps one and says so."""
    try:
        return _is_ours(inspect.unwrap(start, stop=_is_ours))
    except Exception:  # noqa: BLE001 - it wraps itself, or fails when it is asked
        return False
