"""What a hook is, what may be one, and where its failure goes.

Guarantees:

- What could never run, or could never take the call that it waits for, is refused where it is handed to us, with a
  `TypeError` that says what to write instead. What can't be told beforehand is accepted.
- `report` never raises, and tells somebody as long as anybody can be told: `threading.excepthook`, or if that fails,
  `sys.excepthook`.
- Nothing that a hook or an exception answers (its name, its `repr`, its class) is trusted: what is asked may raise, or
  lie.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any

# Not by the attribute, of which an exception's class may make anything.
_traceback_of: Callable[[BaseException], Any] = vars(BaseException)["__traceback__"].__get__

# A call of such a function runs none of its code.
_NOT_RUN = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_GENERATOR


def _code(decorator: Callable[[Any], Any]) -> object:
    return decorator(lambda _: None).__code__


# Any decorator may leave a `__wrapped__` behind, and what it puts in front may run the coroutine, or pass other
# arguments. So we look through those alone of which we know that a call of them is a call of what they wrap. Functions
# that the standard library's decorators make share their code; nothing else can have it.
_LRU_CACHE = type(functools.lru_cache(lambda: None))
_SINGLE_DISPATCH: Any = _code(functools.singledispatch)
_MANAGER = _code(contextlib.contextmanager)
_ASYNC_MANAGER = _code(contextlib.asynccontextmanager)


class _Asking:
    """A block that asks something which may raise what it likes. Only Ctrl-C gets out, which is no answer of its."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not None and not issubclass(kind, KeyboardInterrupt)


def check_hook(hook: object, *, may_open: bool = False) -> None:
    """Raise `TypeError` for a hook that could never run: what can't be called, and what a call only prepares.

    With `may_open`, a function may be one that returns a context manager: somebody will enter it.
    """
    # This is on the path of each registration, and inspect is slow: most hooks are of one of these two types.
    if type(hook) is BuiltinFunctionType:
        return
    if type(hook) is FunctionType and not (hook.__code__.co_flags & _NOT_RUN or hook.__dict__):
        return
    code = _plain_code(hook)
    if code is not None and not code.co_flags & _NOT_RUN:
        return
    if not callable(hook):
        raise TypeError(f"a hook must be callable, not {describe(hook)}")
    reasons = [_why_not(function, may_open) for function in _called(hook)]
    if reasons and all(reasons):  # of a generic function, one implementation that runs is enough
        raise TypeError(f"{describe(hook)} is {reasons[0]}")


def _plain_code(hook: object) -> CodeType | None:
    """The code that a call runs, where that can be told without asking the hook: nothing can be marked on it."""
    if type(hook) is not FunctionType:
        hook = None if type(hook).__dictoffset__ else getattr(type(hook), "__call__", None)  # noqa: B004
    return hook.__code__ if type(hook) is FunctionType and not hook.__dict__ else None


def _called(hook: Any) -> list[Any]:
    """The functions one of which runs if `hook` is called, as far as that can be seen."""
    for _ in range(100):  # a partial may be made to wrap itself
        kind = type(hook)
        if issubclass(kind, functools.partial):
            hook = functools.partial.func.__get__(hook)
        elif kind is staticmethod or kind is MethodType:
            hook = hook.__func__
        elif kind is _LRU_CACHE:
            hook = hook.__wrapped__
        elif kind is FunctionType and hook.__code__ is _SINGLE_DISPATCH:
            with _Asking():  # somebody may have assigned another registry
                return [function for each in hook.registry.values() for function in _called(each)]
            break
        else:
            break
    return [hook]


def _why_not(function: Any, may_open: bool) -> str | None:
    """What is wrong with a function of which a call would run nothing."""
    code = function.__code__ if type(function) is FunctionType else None
    if code is _ASYNC_MANAGER or (code is _MANAGER and not may_open):
        return "the function of a context manager, which does not run when it is called; pass a plain function"
    for candidate in (function, getattr(type(function), "__call__", None)):  # noqa: B004
        with _Asking():  # an attribute that fails makes no such function
            if inspect.iscoroutinefunction(candidate) or inspect.isasyncgenfunction(candidate):
                return (
                    "a coroutine function, and a thread that ends has no event loop to run it; "
                    "pass a plain function, which may call asyncio.run() or loop.call_soon_threadsafe(), "
                    "or connect it with threadhooks.aio.connect()"
                )
            if inspect.isgeneratorfunction(candidate):
                return "a generator function, which does not run when it is called; pass a plain function"
    return None


def check_receiver(receiver: Any, keywords: Collection[str]) -> None:
    """Raise `TypeError` for a receiver that can't be called as ``receiver(thread, keyword=…)``, if that can be told."""
    # As for check_hook, inspect is slow; what we ask people to write is found right without it.
    code = _plain_code(receiver)
    if code is not None and code.co_flags & inspect.CO_VARKEYWORDS and not code.co_kwonlyargcount:
        positional = code.co_argcount if type(receiver) is FunctionType else code.co_argcount - 1  # without self
        if positional == 1 and code.co_varnames[code.co_argcount - 1] not in keywords:
            return
        if positional == 0 and code.co_flags & inspect.CO_VARARGS:
            return
    signature = None
    with _Asking():
        # Not what a wrapper wraps, since it may pass less than it takes; but a cache passes on what it gets.
        function = receiver.__wrapped__ if type(receiver) is _LRU_CACHE else receiver
        signature = inspect.signature(function, follow_wrapped=False)
    if type(signature) is not inspect.Signature:  # it has none, or says anything
        return
    try:
        signature.bind("thread", **dict.fromkeys(keywords))
    except TypeError as why:
        call = ", ".join(["thread", *(f"{name}=…" for name in keywords)])
        raise TypeError(
            f"{describe(receiver)} can't be called as receiver({call}): {why}; "
            "let it take (thread, **extra), and name any of the others that it needs"
        ) from None


# Called with what a hook raised, the hook and its thread, before `threading.excepthook` is. By an opaque key.
watchers: dict[object, Callable[[BaseException, object, threading.Thread | None], object]] = {}


def report(error: BaseException, hook: object, thread: threading.Thread | None) -> None:
    """Hand what `hook` raised to `threading.excepthook`, saying which hook it was; never raises."""
    try:
        name = describe(hook)
    except BaseException:  # noqa: BLE001 - an interrupt must not cost us the report
        name = object.__repr__(hook)
    note = f"raised by {name}, a hook of threadhooks"
    printed = False
    with suppress(BaseException):  # an exception may refuse notes
        _annotate(error, note)
        printed = sys.version_info >= (3, 11)  # before that, nobody prints them
    for watch in list(watchers.values()):
        with suppress(BaseException):  # who only looks on must not cost us the report either
            watch(error, hook, thread)
    try:
        hand_over: Any = threading.excepthook
        if hand_over is None:  # threading takes its own then, too
            hand_over = threading.__excepthook__
        hand_over(threading.ExceptHookArgs((type(error), error, _traceback_of(error), thread)))
        if not printed and hand_over is threading.__excepthook__ and type(error) is not SystemExit:
            with suppress(Exception):  # there may be no stderr: in services, under pythonw
                sys.stderr.write(f"{note}\n")
    except BaseException as failure:  # noqa: BLE001 - the reporter must not stop the next hook
        with suppress(BaseException):
            failure.__suppress_context__ = True
        with suppress(BaseException):
            sys.stderr.write("Exception in threading.excepthook:\n")
        with suppress(BaseException):  # or else no reporter is left
            sys.excepthook(type(failure), failure, _traceback_of(failure))


def describe(hook: object) -> str:
    """The name of a hook, for messages; whatever it does when it is asked. (Only Ctrl-C gets out.)"""
    with _Asking():
        name, module = getattr(hook, "__qualname__", None), getattr(hook, "__module__", None)
        if not isinstance(name, str):
            name, module = repr(hook), None
        text = name if module is None else f"{module}.{name}"
        return str.__str__(text)  # a subclass of str could fail later, where it is printed
    return object.__repr__(hook)


def _annotate(error: BaseException, note: str) -> None:
    notes = getattr(error, "__notes__", None) or []
    if note in notes:  # one exception object raised again and again
        return
    if sys.version_info >= (3, 11):
        BaseException.add_note(error, note)
    else:
        error.__notes__ = [*notes, note]  # type: ignore[attr-defined]
