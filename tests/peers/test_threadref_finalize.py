"""One contract, two implementations: what `finalize` does, of PyPI's threadref and of ours."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from contract import Calls, result_of


def test_is_called_in_the_thread(threadref: ModuleType) -> None:
    """The function is called once, by the thread that ends, with its arguments; nobody need keep the finalizer."""
    calls: list[Any] = []

    def function(*args: Any, **kwargs: Any) -> None:
        calls.append((args, kwargs, threading.get_ident()))

    def body() -> int:
        threadref.finalize(function, 1, 2, three=3)
        return threading.get_ident()

    ident = result_of(body)
    assert calls == [((1, 2), {"three": 3}, ident)]


def test_keyword_arguments_may_have_any_name(threadref: ModuleType) -> None:
    """Every name is free for the function's own keyword arguments."""
    kwargs = {"self": 1, "function": 2, "obj": 3, "func": 4, "cls": 5, "callback": 6}
    assert result_of(lambda: threadref.finalize(dict, **kwargs)()) == kwargs


@pytest.mark.parametrize("kwargs", [{}, {"function": print}, {"func": print}])
def test_missing_function(threadref: ModuleType, kwargs: Any) -> None:
    """The function must be given, and by position."""
    with pytest.raises(TypeError):
        result_of(lambda: threadref.finalize(**kwargs))


def test_alive_peek_and_detach(threadref: ModuleType) -> None:
    """`peek` and `detach` return thread, function, arguments and keywords; after `detach` the finalizer is dead."""
    calls: list[Any] = []

    def body() -> None:
        thread = threading.current_thread()
        finalizer = threadref.finalize(calls.append, 1, two=2)
        assert finalizer.alive is True
        assert finalizer.peek() == (thread, calls.append, (1,), {"two": 2})
        assert finalizer.detach() == (thread, calls.append, (1,), {"two": 2})
        assert finalizer.alive is False
        assert finalizer.peek() is None
        assert finalizer.detach() is None
        assert finalizer() is None
        assert threadref.finalize(int).detach() == (thread, int, (), {})

    result_of(body)
    assert calls == []


def test_early_call(threadref: ModuleType) -> None:
    """A finalizer may be called early, once: that returns what the function returns, and it is dead."""
    calls: list[int] = []

    def function(number: int) -> str:
        calls.append(number)
        return "result"

    def body() -> None:
        finalizer = threadref.finalize(function, 7)
        assert finalizer() == "result"
        assert finalizer() is None
        assert (finalizer.alive, finalizer.peek(), finalizer.detach()) == (False, None, None)

    result_of(body)
    assert calls == [7]


def test_call_takes_one_argument_and_ignores_it(threadref: ModuleType) -> None:
    """To call a finalizer takes one argument at most, as weak references give it, and makes nothing of it."""

    def body() -> None:
        assert threadref.finalize(lambda: 1)("anything") == 1
        assert threadref.finalize(lambda: 2)(_="anything") == 2
        finalizer = threadref.finalize(lambda: 3)
        for args, kwargs in (((1, 2), {}), ((), {"other": 1})):
            with pytest.raises(TypeError):
                finalizer(*args, **kwargs)
        assert finalizer.alive
        assert finalizer() == 3

    result_of(body)


def test_another_thread_may_call_it(threadref: ModuleType) -> None:
    """Any thread may call a finalizer early; the function is called by the thread that calls."""
    calls: list[int] = []

    def body() -> int:
        finalizer = threadref.finalize(lambda: calls.append(threading.get_ident()))
        return result_of(lambda: finalizer() or threading.get_ident())

    caller = result_of(body)
    assert calls == [caller]


def test_another_thread_may_use_it(threadref: ModuleType) -> None:
    """Any thread may look at a finalizer, switch its `atexit`, and detach it."""
    calls: list[int] = []

    def body() -> None:
        finalizer = threadref.finalize(calls.append, 1)
        state = (threading.current_thread(), calls.append, (1,), {})

        def other() -> None:
            finalizer.atexit = False
            assert (finalizer.alive, finalizer.atexit, finalizer.peek()) == (True, False, state)
            assert repr(finalizer) == f"<threadfinalize {id(finalizer)} {state[0]!r}>"
            assert finalizer.detach() == state

        result_of(other)
        assert not finalizer.alive

    result_of(body)
    assert calls == []


def test_state_while_it_is_called(threadref: ModuleType) -> None:
    """While its function is being called, at the exit or early, a finalizer is dead: it can't be called again."""
    states: list[Any] = []

    def body(early: bool) -> None:
        box: list[Any] = []

        def function() -> None:
            finalizer = box.pop()
            states.append((finalizer.alive, finalizer.atexit, finalizer.peek(), finalizer.detach(), finalizer()))

        box.append(threadref.finalize(function))
        if early:
            box[0]()

    result_of(lambda: body(early=True))
    result_of(lambda: body(early=False))
    assert states == [(False, False, None, None, None)] * 2


def test_atexit(threadref: ModuleType) -> None:
    """`atexit` is true at first, becomes the truth of what it is set to, and is false for good once it is dead."""

    def body() -> Any:
        finalizer = threadref.finalize(int)
        assert finalizer.atexit is True
        finalizer.atexit = 0
        assert finalizer.atexit is False
        finalizer.atexit = "yes"
        assert finalizer.atexit is True
        with pytest.raises(AttributeError):
            del finalizer.atexit
        finalizer.detach()
        assert finalizer.atexit is False
        finalizer.atexit = True
        assert finalizer.atexit is False
        with pytest.raises(AttributeError):
            finalizer.alive = True
        ended = threadref.finalize(int)
        ended.atexit = False
        return ended

    ended = result_of(body)
    ended.atexit = True
    assert ended.atexit is False


def test_atexit_asks_a_value_only_while_alive(threadref: ModuleType) -> None:
    """What `atexit` is set to is asked for its truth, unless the finalizer is dead."""

    class Unsure:
        def __bool__(self) -> bool:
            raise ZeroDivisionError

    def body() -> None:
        finalizer = threadref.finalize(int)
        with pytest.raises(ZeroDivisionError):
            finalizer.atexit = Unsure()
        assert finalizer.atexit is True
        finalizer()
        finalizer.atexit = Unsure()

    result_of(body)


def test_dead_after_the_exit(threadref: ModuleType) -> None:
    """After the thread's exit a finalizer is dead, and stays so."""
    calls: list[int] = []
    finalizer = result_of(lambda: threadref.finalize(calls.append, 1))
    assert (finalizer.alive, finalizer.atexit, finalizer.peek()) == (False, False, None)
    assert (finalizer.detach(), finalizer()) == (None, None)
    assert calls == [1]


def test_lets_go_what_it_held(threadref: ModuleType) -> None:
    """A dead finalizer keeps neither function nor arguments alive, however it died."""

    def body(how: Callable[[Any], Any]) -> tuple[Any, Any, Any]:
        function, argument = Calls(), Calls()
        finalizer = threadref.finalize(function, argument)
        how(finalizer)
        return finalizer, weakref.ref(function), weakref.ref(argument)

    for how in (lambda f: f(), lambda f: f.detach(), lambda f: None):
        finalizer, function, argument = result_of(lambda how=how: body(how))
        assert not finalizer.alive
        assert (function(), argument()) == (None, None)


def test_itself_is_freed(threadref: ModuleType) -> None:
    """A finalizer lives until the thread's exit, and not longer."""

    class Sub(threadref.finalize):  # type: ignore[name-defined,misc]
        __slots__ = ("__weakref__",)

    def body() -> Any:
        finalizer = weakref.ref(Sub(int))
        assert finalizer() is not None
        return finalizer

    assert result_of(body)() is None


def test_keyword_arguments_are_one_dict(threadref: ModuleType) -> None:
    """What `peek` shows is what will be used: a change of its keywords counts, a change of ours before doesn't."""
    calls: list[Any] = []

    def body() -> None:
        mine = {"one": 1}
        finalizer = threadref.finalize(lambda **kwargs: calls.append(kwargs), **mine)
        mine["two"] = 2
        assert finalizer.peek()[3] == {"one": 1}
        finalizer.peek()[3]["three"] = 3

    result_of(body)
    assert calls == [{"one": 1, "three": 3}]


def test_identity_equality_and_hash(threadref: ModuleType) -> None:
    """Finalizers are compared and hashed by identity, alive or dead."""

    def body() -> tuple[Any, Any]:
        first, second = threadref.finalize(int), threadref.finalize(int)
        assert first != second
        assert hash(first) == object.__hash__(first)
        return first, second

    first, second = result_of(body)
    assert first == first
    assert first != second
    assert hash(first) == object.__hash__(first)


def test_never_initialised(threadref: ModuleType) -> None:
    """A finalizer whose `__init__` was never called is dead."""
    finalizer = threadref.finalize.__new__(threadref.finalize)
    assert (finalizer.alive, finalizer.atexit, finalizer.peek(), finalizer.detach()) == (False, False, None, None)
    assert finalizer() is None
    finalizer.atexit = True
    assert finalizer.atexit is False
    assert repr(finalizer) == f"<threadfinalize {id(finalizer)} dead>"


def test_second_init_starts_anew(threadref: ModuleType) -> None:
    """To initialise a finalizer again, in its thread, replaces what it stands for, and revives it."""
    calls: list[int] = []

    def body() -> None:
        finalizer = threadref.finalize(calls.append, 1)
        finalizer()
        finalizer.__init__(calls.append, 2)
        finalizer.__init__(calls.append, 3)
        assert finalizer.alive

    result_of(body)
    assert calls == [1, 3]
