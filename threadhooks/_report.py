"""What a hook is, what may be one, and where its failure goes.

Guarantees:

- What could never run is refused where it is handed to us, with a `TypeError` that says what to write instead.
- `report` and `describe` never raise, whatever the hook, its exception or the program's own reporters do.
"""

from __future__ import annotations

import functools
import inspect
import sys
import threading
from contextlib import suppress
from types import BuiltinFunctionType, FunctionType
from typing import Any

# A call of such a function runs none of its code.
_NOT_RUN = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_GENERATOR


def check_hook(hook: object) -> None:
    """Raise `TypeError` for a hook that could never run: what can't be called, and what a call only prepares."""
    # This is on the path of each registration, and inspect is slow: most hooks are of one of these two types.
    if type(hook) is BuiltinFunctionType:
        return
    if type(hook) is FunctionType and not (hook.__code__.co_flags & _NOT_RUN or hook.__dict__):
        return
    if not callable(hook):
        raise TypeError(f"a hook must be callable, not {describe(hook)}")
    target: Any = hook
    while isinstance(target, (functools.partial, staticmethod)):
        target = target.func if isinstance(target, functools.partial) else target.__func__
    for function in (target, type(target).__call__):
        why = None
        with suppress(Exception):  # an attribute that fails makes no such function
            if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
                why = (
                    "a coroutine function, and a thread that ends has no event loop to run it; "
                    "pass a plain function, which may call asyncio.run() or loop.call_soon_threadsafe(), "
                    "or connect it with threadhooks.aio.connect()"
                )
            elif inspect.isgeneratorfunction(function):
                why = "a generator function, which does not run when it is called; pass a plain function"
        if why is not None:
            raise TypeError(f"{describe(hook)} is {why}")


def report(error: BaseException, hook: object, thread: threading.Thread | None) -> None:
    """Hand what `hook` raised to `threading.excepthook`, saying which hook it was; never raises."""
    note = ""
    with suppress(BaseException):  # a repr that fails must not cost us the report
        note = f"raised by {describe(hook)}, a hook of threadhooks"
        _annotate(error, note)
    try:
        threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, thread)))
        if sys.version_info < (3, 11) and note and threading.excepthook is threading.__excepthook__:
            if not isinstance(error, SystemExit):
                sys.stderr.write(f"{note}\n")  # there it prints no notes
    except BaseException as failure:  # noqa: BLE001 - the reporter must not stop the next hook
        try:
            failure.__suppress_context__ = True
            sys.stderr.write("Exception in threading.excepthook:\n")
            sys.excepthook(type(failure), failure, failure.__traceback__)
        except BaseException:  # noqa: BLE001, S110 - no reporter is left
            pass


def describe(hook: object) -> str:
    """The name of a hook, for messages; whatever it does when it is asked."""
    try:
        name = getattr(hook, "__qualname__", None)
        return f"{getattr(hook, '__module__', None)}.{name}" if isinstance(name, str) else repr(hook)
    except Exception:  # noqa: BLE001
        return object.__repr__(hook)


def _annotate(error: BaseException, note: str) -> None:
    notes = getattr(error, "__notes__", None) or []
    if note in notes:  # one exception object raised again and again
        return
    if sys.version_info >= (3, 11):
        error.add_note(note)
    else:
        error.__notes__ = [*notes, note]  # type: ignore[attr-defined]
