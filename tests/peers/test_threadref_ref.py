"""One contract, two implementations: what `ref` does, of PyPI's threadref and of ours."""

from __future__ import annotations

import _thread
import copy
import gc
import pickle
import threading
import weakref
from types import ModuleType
from typing import Any

import pytest
from contract import Calls, result_of


def test_can_be_read_in_another_thread(threadref: ModuleType) -> None:
    """Any thread may ask a reference for its thread, which is the one that made it."""

    def body() -> bool:
        reference = threadref.ref()
        return result_of(reference) is threading.current_thread()

    assert result_of(body)


def test_can_refer_to_a_foreign_thread(threadref: ModuleType) -> None:
    """A thread that `threading` didn't start can be referred to, and its end is noticed."""
    seen: list[Any] = []
    called = threading.Event()

    def body() -> None:
        seen.append(threadref.ref(lambda reference: called.set()))
        seen.append(seen[0]() is threading.current_thread())

    _thread.start_new_thread(body, ())
    assert called.wait(60)
    assert seen[1]
    assert seen[0]() is None
    for thread in threading.enumerate():  # a dummy is nobody's to remove, so that it doesn't leak into other tests
        if isinstance(thread, threading._DummyThread):
            del threading._active[thread.ident]  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", ["none", "positional", "keyword", "explicit none"])
def test_arguments(threadref: ModuleType, how: str) -> None:
    """The callback is optional, and may be given by position or as `callback`."""
    calls: list[Any] = []
    make = {
        "none": lambda: threadref.ref(),
        "explicit none": lambda: threadref.ref(None),
        "positional": lambda: threadref.ref(calls.append),
        "keyword": lambda: threadref.ref(callback=calls.append),
    }[how]
    reference = result_of(make)
    assert calls == ([] if "none" in how else [reference])


@pytest.mark.parametrize(
    ("args", "kwargs"), [((print, print), {}), ((), {"function": print}), ((print,), {"callback": print})]
)
def test_bad_arguments(threadref: ModuleType, args: Any, kwargs: Any) -> None:
    """Two arguments, an unknown keyword, or the callback twice: a `TypeError`, from each of three places."""
    with pytest.raises(TypeError):
        result_of(lambda: threadref.ref(*args, **kwargs))
    with pytest.raises(TypeError):
        result_of(lambda: threadref.ref.__new__(threadref.ref, *args, **kwargs))
    with pytest.raises(TypeError):
        result_of(lambda: threadref.ref().__init__(*args, **kwargs))


def test_call_takes_no_arguments(threadref: ModuleType) -> None:
    """To read a reference takes no argument."""
    with pytest.raises(TypeError):
        result_of(lambda: threadref.ref()(1))


def test_callback_is_called_in_the_thread(threadref: ModuleType) -> None:
    """The callback is called once, by the thread that ends, with the reference as its only argument."""
    calls: list[Any] = []

    def body() -> tuple[Any, int]:
        return threadref.ref(lambda *args: calls.append((args, threading.get_ident()))), threading.get_ident()

    reference, ident = result_of(body)
    assert calls == [((reference,), ident)]


def test_callback_finds_every_reference_dead(threadref: ModuleType) -> None:
    """By the time of the first callback, all references to the thread are dead, and none has a callback."""
    seen: list[Any] = []
    kept: list[Any] = []

    def look(reference: Any) -> None:
        seen.append([(r(), r.__callback__) for r in kept])

    result_of(lambda: kept.extend([threadref.ref(), threadref.ref(look), threadref.ref(), threadref.ref(look)]))
    assert seen == [[(None, None)] * 4] * 2


def test_dropped_reference_is_not_called(threadref: ModuleType) -> None:
    """The callback of a reference that nobody kept is not called."""
    calls: list[Any] = []
    result_of(lambda: threadref.ref(calls.append) and None)
    assert calls == []


@pytest.mark.parametrize("keeps", [True, False], ids=["dead", "dropped"])
def test_lets_its_callback_go(threadref: ModuleType, keeps: bool) -> None:
    """A reference keeps its callback alive no longer when it is dead, or dropped while its thread runs."""

    def body() -> tuple[Any, Any]:
        callback = Calls()
        reference = threadref.ref(callback)
        gone = weakref.ref(callback)
        del callback
        if not keeps:
            reference = None
            assert gone() is None
        return reference, gone

    reference, gone = result_of(body)
    assert reference is None or reference() is None
    assert gone() is None


def test_reference_dropped_by_an_earlier_callback_is_called(threadref: ModuleType) -> None:
    """Those that are alive when the exit begins are called, even if a callback drops one of them."""
    calls: list[str] = []
    kept: list[Any] = []

    def body() -> None:
        kept.append(threadref.ref(lambda reference: calls.append("older")))
        kept.append(threadref.ref(lambda reference: (calls.append("newer"), kept.clear())))

    result_of(body)
    assert calls == ["newer", "older"]


def test_callback_that_holds_its_reference_is_called(threadref: ModuleType) -> None:
    """A callback and its reference that keep one another alive are as good as kept, until they are collected."""
    calls: list[int] = []

    def body(collect: bool) -> None:
        box: list[Any] = []
        box.append(threadref.ref(lambda reference, box=box: calls.append(len(box))))
        del box
        if collect:
            gc.collect()

    enabled = gc.isenabled()
    gc.disable()
    try:
        result_of(lambda: body(collect=True))
        assert calls == []
        result_of(lambda: body(collect=False))
        assert calls == [1]
    finally:
        if enabled:
            gc.enable()


def test_callback_whose_truth_cannot_be_told(threadref: ModuleType, errors: list[BaseException]) -> None:
    """A callback is not asked whether it is true."""
    calls: list[Any] = []

    class Callback:
        def __bool__(self) -> bool:
            raise ZeroDivisionError

        def __call__(self, reference: Any) -> None:
            calls.append(reference)

    kept = result_of(lambda: threadref.ref(Callback()))
    assert calls == [kept]
    assert errors == []


def test_callback_attribute(threadref: ModuleType) -> None:
    """`__callback__` is the callback as long as the thread runs, then `None`; it can't be set nor deleted."""
    callback = Calls()

    def body() -> Any:
        assert threadref.ref().__callback__ is None
        reference = threadref.ref(callback)
        assert reference.__callback__ is callback
        with pytest.raises(AttributeError):
            reference.__callback__ = None
        with pytest.raises(AttributeError):
            del reference.__callback__
        return reference

    assert result_of(body).__callback__ is None


def test_identity(threadref: ModuleType) -> None:
    """Each reference is an object of its own, with a callback or without."""

    def body() -> int:
        return len({id(reference) for reference in [threadref.ref(), threadref.ref(), threadref.ref(print)]})

    assert result_of(body) == 3


def test_equality(threadref: ModuleType) -> None:
    """Live references are equal if their thread is the same; dead ones, or one of each, if they are identical."""
    event = threading.Event()

    def body() -> tuple[Any, Any]:
        first, second = threadref.ref(), threadref.ref(print)
        assert first == second
        assert not first != second
        assert first != result_of(threadref.ref)
        assert first != threading.current_thread()
        assert threadref.ref.__eq__(first, 5) is NotImplemented
        with pytest.raises(TypeError):
            first < second
        other: list[Any] = []
        thread = threading.Thread(target=lambda: (other.append(threadref.ref()), ready.set(), event.wait(60)))
        ready = threading.Event()
        thread.start()
        assert ready.wait(60)
        assert first != other[0]
        event.set()
        thread.join()
        assert first != other[0]
        return threadref.ref(), threadref.ref()

    first, second = result_of(body)
    assert first == first
    assert first != second


def test_hash(threadref: ModuleType) -> None:
    """Live references of one thread hash alike, and keep that hash; a dead one that was never hashed has none."""

    def body() -> tuple[Any, int, Any]:
        first, second, never = threadref.ref(), threadref.ref(print), threadref.ref()
        assert hash(first) == hash(second)
        return first, hash(first), never

    hashed, value, never = result_of(body)
    assert hash(hashed) == value
    with pytest.raises(TypeError):
        hash(never)


def test_cannot_be_copied_nor_pickled(threadref: ModuleType) -> None:
    """A reference can't be copied or pickled."""

    def body() -> None:
        reference = threadref.ref(print)
        for attempt in (copy.copy, copy.deepcopy, *(lambda r, p=p: pickle.dumps(r, p) for p in range(6))):
            with pytest.raises(TypeError):
                attempt(reference)
        del reference

    result_of(body)


def test_subclass_with_its_own_methods(threadref: ModuleType) -> None:
    """A subclass may take its own arguments, have slots, extend the reading, and is what its callback gets."""
    calls: list[Any] = []

    class Sub(threadref.ref):  # type: ignore[name-defined,misc]
        __slots__ = ("label", "reads")

        def __new__(cls, label: str, callback: Any = None) -> Any:
            return super().__new__(cls, callback)

        def __init__(self, label: str, callback: Any = None) -> None:
            super().__init__(callback)
            self.label = label
            self.reads = 0

        def __call__(self) -> Any:
            self.reads += 1
            return super().__call__()

    def body() -> Any:
        reference = Sub("mine", lambda reference: calls.append((reference.label, reference())))
        assert reference() is threading.current_thread()
        with pytest.raises(AttributeError):
            reference.other = 1
        return reference

    reference = result_of(body)
    assert calls == [("mine", None)]
    assert reference.reads == 2
    assert isinstance(reference, threadref.ref)


def test_subclass_that_forgets_init(threadref: ModuleType) -> None:
    """`__new__` alone makes a working reference."""
    calls: list[Any] = []
    reference = result_of(lambda: threadref.ref.__new__(threadref.ref, calls.append))
    assert calls == [reference]


def test_subclass_with_another_comparison(threadref: ModuleType) -> None:
    """A subclass that can't be hashed, or is equal to everything, is called all the same."""
    calls: list[str] = []
    kept: list[Any] = []

    class Unhashable(threadref.ref):  # type: ignore[name-defined,misc]
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    def body() -> None:
        kept.append(Unhashable(lambda reference: calls.append("first")))
        kept.append(Unhashable(lambda reference: calls.append("second")))

    result_of(body)
    assert calls == ["second", "first"]


@pytest.mark.parametrize("slots", [None, ("_callback", "_mark")])
def test_subclass_with_attributes_of_any_name(threadref: ModuleType, slots: Any) -> None:
    """A subclass may call its attributes what it likes, `_callback` for instance."""
    calls: list[Any] = []
    body: dict[str, Any] = {} if slots is None else {"__slots__": slots}
    sub = type("Sub", (threadref.ref,), body)

    def make() -> Any:
        reference = sub(calls.append)
        reference._callback = "mine"
        reference._mark = "mine"
        assert reference.__callback__ == calls.append
        return reference

    reference = result_of(make)
    assert calls == [reference]
    assert (reference._callback, reference._mark) == ("mine", "mine")


def test_one_that_its_callback_drops(threadref: ModuleType) -> None:
    """A reference that a callback drops is destroyed once all have been called, in the thread that ends."""
    calls: list[Any] = []
    references: dict[int, Any] = {}

    class Sub(threadref.ref):  # type: ignore[name-defined,misc]
        def __del__(self) -> None:
            calls.append(("gone", threading.get_ident()))

    def drop(reference: Any) -> None:
        calls.append(max(references))
        references.popitem()

    def body() -> int:
        for number in range(3):
            references[number] = Sub(drop)
        return threading.get_ident()

    ident = result_of(body)
    assert calls == [2, 1, 0, *[("gone", ident)] * 3]


@pytest.mark.parametrize("error", [TypeError, AttributeError])
@pytest.mark.parametrize("made", [True, False], ids=["always", "once it is made"])
def test_subclass_that_is_immutable(threadref: ModuleType, made: bool, error: type[Exception]) -> None:
    """A subclass may forbid that its attributes be set, from the beginning or later, with whatever error."""
    calls: list[Any] = []

    class Immutable(threadref.ref):  # type: ignore[name-defined,misc]
        frozen = made

        def __init__(self, callback: Any) -> None:
            super().__init__(callback)
            object.__setattr__(self, "frozen", True)

        def __setattr__(self, name: str, value: object) -> None:
            if self.frozen:
                raise error(name)
            object.__setattr__(self, name, value)

    reference = result_of(lambda: Immutable(calls.append))
    assert calls == [reference]
