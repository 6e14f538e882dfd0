"""One contract, two implementations: classes that are derived from `finalize`, and copies."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import threadref as pypi
from contract import result_of


@pytest.mark.parametrize("how", ["copy", "deepcopy", *range(pickle.HIGHEST_PROTOCOL + 1)])
def test_copies_are_dead(threadref: ModuleType, how: Any) -> None:
    """A copy, or what comes out of a pickle, is a dead finalizer; the original is as it was."""
    calls: list[int] = []

    def body() -> None:
        finalizer = threadref.finalize(calls.append, 1)
        finalizer.atexit = False
        if isinstance(how, int):
            twin = pickle.loads(pickle.dumps(finalizer, how))
        else:
            twin = getattr(copy, how)(finalizer)
        assert type(twin) is threadref.finalize
        assert twin is not finalizer
        assert (twin.alive, twin.atexit, twin.peek(), twin.detach(), twin()) == (False, False, None, None, None)
        assert (finalizer.alive, finalizer.atexit) == (True, False)

    result_of(body)
    assert calls == [1]


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])
def test_copies_keep_what_a_subclass_added(threadref: ModuleType, how: Callable[[Any], Any]) -> None:
    """The copy of a subclass's instance has its attributes, and is dead."""

    class WithDict(threadref.finalize):  # type: ignore[name-defined,misc]
        pass

    class WithSlots(threadref.finalize):  # type: ignore[name-defined,misc]
        __slots__ = ("label",)

    def body(cls: Any) -> None:
        finalizer = cls(int)
        finalizer.label = "mine"
        twin = how(finalizer)
        assert (type(twin), twin.label, twin.alive) == (cls, "mine", False)

    for cls in (WithDict, WithSlots):
        result_of(lambda cls=cls: body(cls))


def test_subclass_with_its_own_methods(threadref: ModuleType) -> None:
    """A subclass may take its own arguments, have slots, and extend every method with `super()`."""
    seen: list[Any] = []

    class Sub(threadref.finalize):  # type: ignore[name-defined,misc]
        __slots__ = ("label",)

        def __new__(cls, label: str, *args: Any, **kwargs: Any) -> Any:
            return super().__new__(cls)

        def __init__(self, label: str, *args: Any, **kwargs: Any) -> None:
            self.label = label
            super().__init__(*args, **kwargs)

        def __call__(self, _: Any = None) -> Any:
            seen.append((self.label, "called", self.alive))
            return super().__call__(_)

        def detach(self) -> Any:
            return self.label, super().detach()

        def peek(self) -> Any:
            return super().peek()

    def body() -> None:
        thread = threading.current_thread()
        Sub("at exit", seen.append, 1)
        early = Sub("early", dict, key=2)
        assert early() == {"key": 2}
        detached = Sub("detached", seen.append, 3)
        assert detached.peek() == (thread, seen.append, (3,), {})
        assert detached.detach() == ("detached", (thread, seen.append, (3,), {}))
        with pytest.raises(AttributeError):
            detached.other = 1

    result_of(body)
    assert seen == [("early", "called", True), ("at exit", "called", True), 1]


def test_subclass_that_skips_init(threadref: ModuleType) -> None:
    """An instance whose subclass doesn't initialise it is dead."""

    class Sub(threadref.finalize):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            pass

    finalizer = Sub()
    assert (finalizer.alive, finalizer(), finalizer.peek()) == (False, None, None)


def test_subclass_whose_call_comes_from_a_mixin(threadref: ModuleType) -> None:
    """An overriding `__call__` counts wherever it comes from."""
    calls: list[str] = []

    class Mixin:
        __slots__ = ()

        def __call__(self, _: Any = None) -> Any:
            calls.append("mixin")
            return super().__call__(_)  # type: ignore[misc]

    class Sub(Mixin, threadref.finalize):  # type: ignore[name-defined,misc]
        __slots__ = ()

    result_of(lambda: Sub(calls.append, "function") and None)
    assert calls == ["mixin", "function"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_subclass_whose_call_is_replaced(threadref: ModuleType, when: str) -> None:
    """A `__call__` that is set on a subclass later, as a mock is, counts, too."""
    calls: list[str] = []

    class Sub(threadref.finalize):  # type: ignore[name-defined,misc]
        pass

    def body() -> None:
        if when == "after":
            Sub(calls.append, "function")
        Sub.__call__ = lambda self, _=None: calls.append("replaced") or threadref.finalize.__call__(self, _)  # type: ignore[method-assign,assignment]
        if when == "before":
            Sub(calls.append, "function")

    result_of(body)
    assert calls == ["replaced", "function"]


def test_subclass_with_init_subclass(threadref: ModuleType) -> None:
    """A subclass may define `__init_subclass__`, call `super()` there or not, and take class arguments."""
    calls: list[str] = []

    class Base(threadref.finalize):  # type: ignore[name-defined,misc]
        def __init_subclass__(cls, **kwargs: Any) -> None:
            calls.extend(kwargs)

    class Sub(Base, option=1):
        def __call__(self, _: Any = None) -> Any:
            calls.append("overridden")
            return super().__call__(_)

    result_of(lambda: Sub(calls.append, "function") and None)
    assert calls == ["option", "overridden", "function"]
    with pytest.raises(TypeError):
        type("Wrong", (threadref.finalize,), {}, option=1)


def test_subclass_with_attributes_of_any_name(threadref: ModuleType) -> None:
    """A subclass may call its attributes and methods what it likes, `_stack` or `_unwind` for instance."""
    calls: list[Any] = []

    class Sub(threadref.finalize):  # type: ignore[name-defined,misc]
        _unwind = _early = _inherited = _unwind_by_call = "mine"

        def __init__(self, *args: Any) -> None:
            self._stack = self._at_exit = "before"
            super().__init__(*args)

    def body() -> Any:
        finalizer = Sub(calls.append, 1)
        assert (finalizer._stack, finalizer._at_exit) == ("before", "before")
        finalizer._stack = finalizer._at_exit = "after"
        assert (finalizer.alive, finalizer.atexit) == (True, True)
        return finalizer

    finalizer = result_of(body)
    assert calls == [1]
    assert not finalizer.alive


def test_subclass_that_answers_for_every_attribute(threadref: ModuleType) -> None:
    """A subclass may answer for attributes that are not there."""

    class Proxy(threadref.finalize):  # type: ignore[name-defined,misc]
        def __getattr__(self, name: str) -> str:
            return name

    def body() -> None:
        finalizer = Proxy(int)
        assert (finalizer.alive, finalizer.atexit) == (True, True)
        blank = Proxy.__new__(Proxy)
        assert (blank.alive, blank.atexit) == (False, False)
        assert (blank.peek(), blank.detach(), blank()) == (None, None, None)

    result_of(body)


def test_subclass_that_sets_nothing(threadref: ModuleType, errors: list[BaseException]) -> None:
    """The hooks of a subclass whose `__setattr__` does nothing are called all the same."""
    calls: list[Any] = []

    class Reference(threadref.ref):  # type: ignore[name-defined,misc]
        def __setattr__(self, name: str, value: object) -> None: ...

    class Finalizer(threadref.finalize):  # type: ignore[name-defined,misc]
        def __setattr__(self, name: str, value: object) -> None: ...

    reference, _ = result_of(lambda: (Reference(calls.append), Finalizer(calls.append, "called")))
    assert calls == ["called", reference]
    assert errors == []


def test_subclass_that_raises_for_each_attribute(threadref: ModuleType, errors: list[BaseException]) -> None:
    """The callback of a reference whose `__getattribute__` raises is called, and so are those of its neighbours.

    Ours reports what was raised.
    """
    calls: list[Any] = []

    class Reference(threadref.ref):  # type: ignore[name-defined,misc]
        def __getattribute__(self, name: str) -> Any:
            raise ValueError(name)

    references = result_of(
        lambda: (threadref.ref(calls.append), Reference(lambda _: calls.append(0)), threadref.ref(calls.append))
    )
    assert calls == [references[2], 0, references[0]]
    assert [str(error) for error in errors] == ([] if threadref is pypi else ["_thread_callback"])


def test_subclass_that_guards_its_attributes(threadref: ModuleType) -> None:
    """A subclass may forbid that its attributes be set; `atexit` then can't be set either."""
    calls: list[int] = []

    class Frozen(threadref.finalize):  # type: ignore[name-defined,misc]
        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(name)

    def body() -> None:
        finalizer = Frozen(calls.append, 1)
        with pytest.raises(AttributeError):
            finalizer.atexit = False

    result_of(body)
    assert calls == [1]
