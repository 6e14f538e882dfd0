"""One contract, two implementations: what PyPI's threadref does and ours does as well; then, where they differ.

The programs that are run in an interpreter of their own get the name of the implementation as their argument.
"""

from __future__ import annotations

import copy
import importlib
import os
import pickle
import sys
import threading
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import threadref as pypi

from threadhooks import _sentinel
from threadhooks import threadref as ours

Program = Callable[..., tuple[str, str, int]]

IMPORT = """\
import atexit, importlib, os, signal, sys, threading, warnings
name = sys.argv[1]
threadref = importlib.import_module(name)
"""


@pytest.fixture(params=["threadref", "threadhooks.threadref"], ids=["pypi", "ours"])
def threadref(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


@pytest.fixture
def run(program: Program, threadref: ModuleType) -> Callable[[str], tuple[str, str, int]]:
    """Run a program that finds the implementation as `threadref`."""
    return lambda source: program(IMPORT + source, threadref.__name__)


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """What hooks raised, by whichever way it was reported."""
    found: list[BaseException] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: found.append(args.exc_value))
    monkeypatch.setattr(threading, "excepthook", lambda args: found.append(args.exc_value))
    return found


def in_thread(function: Callable[[], Any]) -> Any:
    """Call `function` in a thread of its own, which has ended when we return its result or raise what it raised."""
    outcome: list[Any] = []
    failure: list[BaseException] = []

    def target() -> None:
        try:
            outcome.append(function())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    if failure:
        raise failure.pop()
    return outcome.pop()


class Calls:
    """A callable that counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *args: object) -> None:
        self.calls += 1


class Falsy(Calls):
    """One that is false, as an empty container is."""

    def __len__(self) -> int:
        return 0


class TestRef:
    """What both implementations of `ref` do."""

    def test_is_a_weak_reference(self, threadref: ModuleType) -> None:
        """`ref` is a subclass of `weakref.ref`, and its instances know it."""
        assert issubclass(threadref.ref, weakref.ref)
        assert isinstance(in_thread(threadref.ref), weakref.ref)

    def test_gives_the_thread_while_it_runs(self, threadref: ModuleType) -> None:
        """Called in its own thread, a reference returns the thread."""
        assert in_thread(lambda: threadref.ref()() is threading.current_thread())

    def test_gives_none_afterwards(self, threadref: ModuleType) -> None:
        """Once the thread has ended, a reference returns `None`."""
        assert in_thread(threadref.ref)() is None

    def test_can_be_read_in_another_thread(self, threadref: ModuleType) -> None:
        """Any thread may ask a reference for its thread, which is the one that made it."""

        def body() -> bool:
            reference = threadref.ref()
            return in_thread(reference) is threading.current_thread()

        assert in_thread(body)

    def test_can_refer_to_a_foreign_thread(self, threadref: ModuleType) -> None:
        """A thread that `threading` didn't start can be referred to, and its end is noticed."""
        import _thread

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
    def test_arguments(self, threadref: ModuleType, how: str) -> None:
        """The callback is optional, and may be given by position or as `callback`."""
        calls: list[Any] = []
        make = {
            "none": lambda: threadref.ref(),
            "explicit none": lambda: threadref.ref(None),
            "positional": lambda: threadref.ref(calls.append),
            "keyword": lambda: threadref.ref(callback=calls.append),
        }[how]
        reference = in_thread(make)
        assert calls == ([] if "none" in how else [reference])

    @pytest.mark.parametrize(
        ("args", "kwargs"), [((print, print), {}), ((), {"function": print}), ((print,), {"callback": print})]
    )
    def test_bad_arguments(self, threadref: ModuleType, args: Any, kwargs: Any) -> None:
        """Two arguments, an unknown keyword, or the callback twice: a `TypeError`, from each of three places."""
        with pytest.raises(TypeError):
            in_thread(lambda: threadref.ref(*args, **kwargs))
        with pytest.raises(TypeError):
            in_thread(lambda: threadref.ref.__new__(threadref.ref, *args, **kwargs))
        with pytest.raises(TypeError):
            in_thread(lambda: threadref.ref().__init__(*args, **kwargs))

    def test_call_takes_no_arguments(self, threadref: ModuleType) -> None:
        """To read a reference takes no argument."""
        with pytest.raises(TypeError):
            in_thread(lambda: threadref.ref()(1))

    def test_callback_is_called_in_the_thread(self, threadref: ModuleType) -> None:
        """The callback is called once, by the thread that ends, with the reference as its only argument."""
        calls: list[Any] = []

        def body() -> tuple[Any, int]:
            return threadref.ref(lambda *args: calls.append((args, threading.get_ident()))), threading.get_ident()

        reference, ident = in_thread(body)
        assert calls == [((reference,), ident)]

    def test_callback_finds_every_reference_dead(self, threadref: ModuleType) -> None:
        """By the time of the first callback, all references to the thread are dead, and none has a callback."""
        seen: list[Any] = []
        kept: list[Any] = []

        def look(reference: Any) -> None:
            seen.append([(r(), r.__callback__) for r in kept])

        in_thread(lambda: kept.extend([threadref.ref(), threadref.ref(look), threadref.ref(), threadref.ref(look)]))
        assert seen == [[(None, None)] * 4] * 2

    def test_dropped_reference_is_not_called(self, threadref: ModuleType) -> None:
        """The callback of a reference that nobody kept is not called."""
        calls: list[Any] = []
        in_thread(lambda: threadref.ref(calls.append) and None)
        assert calls == []

    def test_dropped_reference_lets_its_callback_go(self, threadref: ModuleType) -> None:
        """A reference that is dropped keeps its callback alive no longer, though the thread still runs."""

        def body() -> Any:
            callback = Calls()
            threadref.ref(callback)
            return weakref.ref(callback)

        assert in_thread(lambda: body()()) is None

    def test_dead_reference_lets_its_callback_go(self, threadref: ModuleType) -> None:
        """A reference that is dead keeps its callback alive no longer."""

        def body() -> tuple[Any, Any]:
            callback = Calls()
            return threadref.ref(callback), weakref.ref(callback)

        reference, callback = in_thread(body)
        assert reference() is None
        assert callback() is None

    def test_reference_dropped_by_an_earlier_callback_is_called(self, threadref: ModuleType) -> None:
        """Those that are alive when the exit begins are called, even if a callback drops one of them."""
        calls: list[str] = []
        kept: list[Any] = []

        def body() -> None:
            kept.append(threadref.ref(lambda reference: calls.append("older")))
            kept.append(threadref.ref(lambda reference: (calls.append("newer"), kept.clear())))

        in_thread(body)
        assert calls == ["newer", "older"]

    def test_callback_that_holds_its_reference_is_called(self, threadref: ModuleType) -> None:
        """A callback and its reference that keep one another alive are as good as kept, until they are collected."""
        import gc

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
            in_thread(lambda: body(collect=True))
            assert calls == []
            in_thread(lambda: body(collect=False))
            assert calls == [1]
        finally:
            if enabled:
                gc.enable()

    @pytest.mark.parametrize("callback", [5, 0, "", ()], ids=repr)
    def test_callback_that_cannot_be_called(
        self, threadref: ModuleType, callback: object, errors: list[BaseException]
    ) -> None:
        """Something that can't be called is accepted as a callback; the `TypeError` is reported at the exit."""
        in_thread(lambda: threadref.ref(callback))
        kept = in_thread(lambda: threadref.ref(callback))
        assert kept() is None
        assert [type(error) for error in errors] == [TypeError, TypeError]

    def test_falsy_callback_is_called(self, threadref: ModuleType) -> None:
        """A callback that is false (an empty container, say) is a callback."""
        callback = Falsy()
        kept = in_thread(lambda: threadref.ref(callback))
        assert kept() is None
        assert callback.calls == 1

    def test_callback_whose_truth_cannot_be_told(self, threadref: ModuleType, errors: list[BaseException]) -> None:
        """A callback is not asked whether it is true."""
        calls: list[Any] = []

        class Callback:
            def __bool__(self) -> bool:
                raise ZeroDivisionError

            def __call__(self, reference: Any) -> None:
                calls.append(reference)

        kept = in_thread(lambda: threadref.ref(Callback()))
        assert calls == [kept]
        assert errors == []

    def test_failing_callback_stops_nothing(self, threadref: ModuleType, errors: list[BaseException]) -> None:
        """What a callback raises is reported, whatever it is, and the next one is called."""
        calls: list[str] = []
        kept: list[Any] = []

        def fail(error: BaseException) -> Callable[[Any], None]:
            def callback(reference: Any) -> None:
                raise error

            return callback

        raised = [ValueError(), KeyboardInterrupt(), SystemExit(), GeneratorExit()]

        def body() -> None:
            for error in raised:
                kept.append(threadref.ref(fail(error)))
                kept.append(threadref.ref(lambda reference: calls.append("called")))

        in_thread(body)
        assert calls == ["called"] * 4
        assert errors == raised[::-1]

    def test_callback_attribute(self, threadref: ModuleType) -> None:
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

        assert in_thread(body).__callback__ is None

    def test_repr(self, threadref: ModuleType) -> None:
        """`repr` tells the thread, or that the reference is dead; a subclass keeps the form."""

        class Sub(threadref.ref):  # type: ignore[name-defined,misc]
            pass

        def body(cls: Any) -> Any:
            reference = cls()
            assert repr(reference) == f"<threadref {id(reference)} {threading.current_thread()!r}>"
            assert str(reference) == repr(reference)
            return reference

        for cls in (threadref.ref, Sub):
            reference = in_thread(lambda cls=cls: body(cls))
            assert repr(reference) == f"<threadref {id(reference)} dead>"

    def test_repr_follows_an_overridden_call(self, threadref: ModuleType) -> None:
        """`repr` asks the reference itself for the thread."""

        class Sub(threadref.ref):  # type: ignore[name-defined,misc]
            def __call__(self) -> Any:
                return "a thread"

        reference = in_thread(Sub)
        assert repr(reference) == f"<threadref {id(reference)} 'a thread'>"

    def test_identity(self, threadref: ModuleType) -> None:
        """Each reference is an object of its own, with a callback or without."""

        def body() -> int:
            return len({id(reference) for reference in [threadref.ref(), threadref.ref(), threadref.ref(print)]})

        assert in_thread(body) == 3

    def test_equality(self, threadref: ModuleType) -> None:
        """Live references are equal if their thread is the same; dead ones, or one of each, if they are identical."""
        event = threading.Event()

        def body() -> tuple[Any, Any]:
            first, second = threadref.ref(), threadref.ref(print)
            assert first == second
            assert not first != second
            assert first != in_thread(threadref.ref)
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

        first, second = in_thread(body)
        assert first == first
        assert first != second

    def test_hash(self, threadref: ModuleType) -> None:
        """Live references of one thread hash alike, and keep that hash; a dead one that was never hashed has none."""

        def body() -> tuple[Any, int, Any]:
            first, second, never = threadref.ref(), threadref.ref(print), threadref.ref()
            assert hash(first) == hash(second)
            return first, hash(first), never

        hashed, value, never = in_thread(body)
        assert hash(hashed) == value
        with pytest.raises(TypeError):
            hash(never)

    @pytest.mark.parametrize("cls", ["ref", "finalize"])
    def test_is_a_slotted_object(self, threadref: ModuleType, cls: str) -> None:
        """Neither class has room for attributes or for weak references to it; subclasses without slots have."""

        class Sub(getattr(threadref, cls)):  # type: ignore[misc]
            pass

        def body() -> None:
            args = () if cls == "ref" else (print,)
            thing = getattr(threadref, cls)(*args)
            assert not hasattr(thing, "__dict__")
            with pytest.raises(AttributeError):
                thing.attribute = 1
            with pytest.raises(TypeError):
                weakref.ref(thing)
            sub = Sub(*args)
            sub.attribute = 1
            assert sub.__dict__ == {"attribute": 1}
            assert weakref.ref(sub)() is sub
            if cls == "finalize":
                assert thing.detach()
                assert sub.detach()

        in_thread(body)

    def test_cannot_be_copied_nor_pickled(self, threadref: ModuleType) -> None:
        """A reference can't be copied or pickled."""

        def body() -> None:
            reference = threadref.ref(print)
            for attempt in (copy.copy, copy.deepcopy, *(lambda r, p=p: pickle.dumps(r, p) for p in range(6))):
                with pytest.raises(TypeError):
                    attempt(reference)
            del reference

        in_thread(body)

    def test_generic(self, threadref: ModuleType) -> None:
        """`ref[...]` is allowed, as `weakref.ref[...]` is; `finalize[...]` is not, as `weakref.finalize[...]` isn't."""
        assert threadref.ref[int].__origin__ is threadref.ref
        with pytest.raises(TypeError):
            threadref.finalize[int]

    def test_subclass_with_its_own_methods(self, threadref: ModuleType) -> None:
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

        reference = in_thread(body)
        assert calls == [("mine", None)]
        assert reference.reads == 2
        assert isinstance(reference, threadref.ref)

    def test_subclass_that_forgets_init(self, threadref: ModuleType) -> None:
        """`__new__` alone makes a working reference."""
        calls: list[Any] = []
        reference = in_thread(lambda: threadref.ref.__new__(threadref.ref, calls.append))
        assert calls == [reference]

    def test_subclass_with_another_comparison(self, threadref: ModuleType) -> None:
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

        in_thread(body)
        assert calls == ["second", "first"]

    @pytest.mark.parametrize("slots", [None, ("_callback", "_mark")])
    def test_subclass_with_attributes_of_any_name(self, threadref: ModuleType, slots: Any) -> None:
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

        reference = in_thread(make)
        assert calls == [reference]
        assert (reference._callback, reference._mark) == ("mine", "mine")

    @pytest.mark.parametrize("frozen", ["always", "once it is made"])
    def test_subclass_that_is_immutable(self, threadref: ModuleType, frozen: str) -> None:
        """A subclass may forbid that its attributes be set, with a `TypeError` as well."""
        calls: list[Any] = []

        class Immutable(threadref.ref):  # type: ignore[name-defined,misc]
            made = frozen == "always"

            def __init__(self, callback: Any) -> None:
                super().__init__(callback)
                object.__setattr__(self, "made", True)

            def __setattr__(self, name: str, value: object) -> None:
                if self.made:
                    raise TypeError(f"{type(self)} is immutable")
                object.__setattr__(self, name, value)

        reference = in_thread(lambda: Immutable(calls.append))
        assert calls == [reference]

    def test_one_that_its_callback_drops(self, threadref: ModuleType) -> None:
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

        ident = in_thread(body)
        assert calls == [2, 1, 0, *[("gone", ident)] * 3]

    def test_subclass_that_guards_its_attributes(self, threadref: ModuleType) -> None:
        """A subclass may forbid that its attributes be set."""
        calls: list[Any] = []

        class Frozen(threadref.ref):  # type: ignore[name-defined,misc]
            def __setattr__(self, name: str, value: object) -> None:
                raise AttributeError(name)

        reference = in_thread(lambda: Frozen(calls.append))
        assert calls == [reference]


class TestFinalize:
    """What both implementations of `finalize` do."""

    def test_is_a_finalize(self, threadref: ModuleType) -> None:
        """`finalize` is a subclass of `weakref.finalize`, and its instances know it."""
        assert issubclass(threadref.finalize, weakref.finalize)
        assert in_thread(lambda: isinstance(threadref.finalize(int), weakref.finalize))

    def test_is_called_in_the_thread(self, threadref: ModuleType) -> None:
        """The function is called once, by the thread that ends, with its arguments; nobody need keep the finalizer."""
        calls: list[Any] = []

        def function(*args: Any, **kwargs: Any) -> None:
            calls.append((args, kwargs, threading.get_ident()))

        def body() -> int:
            threadref.finalize(function, 1, 2, three=3)
            return threading.get_ident()

        ident = in_thread(body)
        assert calls == [((1, 2), {"three": 3}, ident)]

    def test_keyword_arguments_may_have_any_name(self, threadref: ModuleType) -> None:
        """Every name is free for the function's own keyword arguments."""
        kwargs = {"self": 1, "function": 2, "obj": 3, "func": 4, "cls": 5, "callback": 6}
        assert in_thread(lambda: threadref.finalize(dict, **kwargs)()) == kwargs

    @pytest.mark.parametrize("kwargs", [{}, {"function": print}, {"func": print}])
    def test_missing_function(self, threadref: ModuleType, kwargs: Any) -> None:
        """The function must be given, and by position."""
        with pytest.raises(TypeError):
            in_thread(lambda: threadref.finalize(**kwargs))

    @pytest.mark.parametrize("function", [None, 5, "text"])
    def test_function_that_cannot_be_called(
        self, threadref: ModuleType, function: Any, errors: list[BaseException]
    ) -> None:
        """Something that can't be called is accepted; the `TypeError` comes when it is called."""

        def body() -> None:
            early = threadref.finalize(function)
            threadref.finalize(function, 1)
            with pytest.raises(TypeError):
                early()
            assert not early.alive

        in_thread(body)
        assert [type(error) for error in errors] == [TypeError]

    def test_failing_function_stops_nothing(self, threadref: ModuleType, errors: list[BaseException]) -> None:
        """What a function raises is reported, whatever it is, and the next one is called."""
        calls: list[str] = []

        def fail(error: BaseException) -> None:
            raise error

        raised = [ValueError(), KeyboardInterrupt(), SystemExit(), GeneratorExit()]

        def body() -> None:
            for error in raised:
                threadref.finalize(fail, error)
                threadref.finalize(calls.append, "called")

        in_thread(body)
        assert calls == ["called"] * 4
        assert errors == raised[::-1]

    def test_alive_peek_and_detach(self, threadref: ModuleType) -> None:
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

        in_thread(body)
        assert calls == []

    def test_early_call(self, threadref: ModuleType) -> None:
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

        in_thread(body)
        assert calls == [7]

    def test_early_call_that_fails(self, threadref: ModuleType) -> None:
        """What the function raises when it is called early, the caller gets; the finalizer is dead."""
        calls: list[str] = []

        def fail() -> None:
            calls.append("called")
            raise ZeroDivisionError

        def body() -> None:
            finalizer = threadref.finalize(fail)
            with pytest.raises(ZeroDivisionError):
                finalizer()
            assert not finalizer.alive

        in_thread(body)
        assert calls == ["called"]

    def test_call_takes_one_argument_and_ignores_it(self, threadref: ModuleType) -> None:
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

        in_thread(body)

    def test_another_thread_may_call_it(self, threadref: ModuleType) -> None:
        """Any thread may call a finalizer early; the function is called by the thread that calls."""
        calls: list[int] = []

        def body() -> int:
            finalizer = threadref.finalize(lambda: calls.append(threading.get_ident()))
            return in_thread(lambda: finalizer() or threading.get_ident())

        caller = in_thread(body)
        assert calls == [caller]

    def test_another_thread_may_use_it(self, threadref: ModuleType) -> None:
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

            in_thread(other)
            assert not finalizer.alive

        in_thread(body)
        assert calls == []

    def test_state_while_it_is_called(self, threadref: ModuleType) -> None:
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

        in_thread(lambda: body(early=True))
        in_thread(lambda: body(early=False))
        assert states == [(False, False, None, None, None)] * 2

    def test_atexit(self, threadref: ModuleType) -> None:
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

        ended = in_thread(body)
        ended.atexit = True
        assert ended.atexit is False

    def test_atexit_off_changes_nothing_for_the_thread(self, threadref: ModuleType) -> None:
        """`atexit` is about the interpreter's end, not the thread's."""
        calls: list[int] = []
        in_thread(lambda: setattr(threadref.finalize(calls.append, 1), "atexit", False))
        assert calls == [1]

    def test_atexit_asks_a_value_only_while_alive(self, threadref: ModuleType) -> None:
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

        in_thread(body)

    def test_dead_after_the_exit(self, threadref: ModuleType) -> None:
        """After the thread's exit a finalizer is dead, and stays so."""
        calls: list[int] = []
        finalizer = in_thread(lambda: threadref.finalize(calls.append, 1))
        assert (finalizer.alive, finalizer.atexit, finalizer.peek()) == (False, False, None)
        assert (finalizer.detach(), finalizer()) == (None, None)
        assert calls == [1]

    def test_lets_go_what_it_held(self, threadref: ModuleType) -> None:
        """A dead finalizer keeps neither function nor arguments alive, however it died."""

        def body(how: Callable[[Any], Any]) -> tuple[Any, Any, Any]:
            function, argument = Calls(), Calls()
            finalizer = threadref.finalize(function, argument)
            how(finalizer)
            return finalizer, weakref.ref(function), weakref.ref(argument)

        for how in (lambda f: f(), lambda f: f.detach(), lambda f: None):
            finalizer, function, argument = in_thread(lambda how=how: body(how))
            assert not finalizer.alive
            assert (function(), argument()) == (None, None)

    def test_itself_is_freed(self, threadref: ModuleType) -> None:
        """A finalizer lives until the thread's exit, and not longer."""

        class Sub(threadref.finalize):  # type: ignore[name-defined,misc]
            __slots__ = ("__weakref__",)

        def body() -> Any:
            finalizer = weakref.ref(Sub(int))
            assert finalizer() is not None
            return finalizer

        assert in_thread(body)() is None

    def test_keyword_arguments_are_one_dict(self, threadref: ModuleType) -> None:
        """What `peek` shows is what will be used: a change of its keywords counts, a change of ours before doesn't."""
        calls: list[Any] = []

        def body() -> None:
            mine = {"one": 1}
            finalizer = threadref.finalize(lambda **kwargs: calls.append(kwargs), **mine)
            mine["two"] = 2
            assert finalizer.peek()[3] == {"one": 1}
            finalizer.peek()[3]["three"] = 3

        in_thread(body)
        assert calls == [{"one": 1, "three": 3}]

    def test_repr(self, threadref: ModuleType) -> None:
        """`repr` tells the thread, or that the finalizer is dead; a subclass keeps the form."""

        class Sub(threadref.finalize):  # type: ignore[name-defined,misc]
            pass

        def body(cls: Any) -> Any:
            finalizer = cls(int)
            assert repr(finalizer) == f"<threadfinalize {id(finalizer)} {threading.current_thread()!r}>"
            called = cls(int)
            called()
            assert repr(called) == f"<threadfinalize {id(called)} dead>"
            return finalizer

        for cls in (threadref.finalize, Sub):
            finalizer = in_thread(lambda cls=cls: body(cls))
            assert str(finalizer) == repr(finalizer) == f"<threadfinalize {id(finalizer)} dead>"

    def test_repr_follows_an_overridden_peek(self, threadref: ModuleType) -> None:
        """`repr` asks `peek` for the thread."""

        class Sub(threadref.finalize):  # type: ignore[name-defined,misc]
            def peek(self) -> Any:
                return "a thread", None, None, None

        finalizer = in_thread(lambda: Sub(int))
        assert repr(finalizer) == f"<threadfinalize {id(finalizer)} 'a thread'>"

    def test_identity_equality_and_hash(self, threadref: ModuleType) -> None:
        """Finalizers are compared and hashed by identity, alive or dead."""

        def body() -> tuple[Any, Any]:
            first, second = threadref.finalize(int), threadref.finalize(int)
            assert first != second
            assert hash(first) == object.__hash__(first)
            return first, second

        first, second = in_thread(body)
        assert first == first
        assert first != second
        assert hash(first) == object.__hash__(first)

    def test_never_initialised(self, threadref: ModuleType) -> None:
        """A finalizer whose `__init__` was never called is dead."""
        finalizer = threadref.finalize.__new__(threadref.finalize)
        assert (finalizer.alive, finalizer.atexit, finalizer.peek(), finalizer.detach()) == (False, False, None, None)
        assert finalizer() is None
        finalizer.atexit = True
        assert finalizer.atexit is False
        assert repr(finalizer) == f"<threadfinalize {id(finalizer)} dead>"

    @pytest.mark.parametrize("how", ["copy", "deepcopy", *range(pickle.HIGHEST_PROTOCOL + 1)])
    def test_copies_are_dead(self, threadref: ModuleType, how: Any) -> None:
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

        in_thread(body)
        assert calls == [1]

    @pytest.mark.parametrize("how", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])
    def test_copies_keep_what_a_subclass_added(self, threadref: ModuleType, how: Callable[[Any], Any]) -> None:
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
            in_thread(lambda cls=cls: body(cls))

    def test_second_init_starts_anew(self, threadref: ModuleType) -> None:
        """To initialise a finalizer again, in its thread, replaces what it stands for, and revives it."""
        calls: list[int] = []

        def body() -> None:
            finalizer = threadref.finalize(calls.append, 1)
            finalizer()
            finalizer.__init__(calls.append, 2)
            finalizer.__init__(calls.append, 3)
            assert finalizer.alive

        in_thread(body)
        assert calls == [1, 3]

    def test_subclass_with_its_own_methods(self, threadref: ModuleType) -> None:
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

        in_thread(body)
        assert seen == [("early", "called", True), ("at exit", "called", True), 1]

    def test_subclass_that_skips_init(self, threadref: ModuleType) -> None:
        """An instance whose subclass doesn't initialise it is dead."""

        class Sub(threadref.finalize):  # type: ignore[name-defined,misc]
            def __init__(self) -> None:
                pass

        finalizer = Sub()
        assert (finalizer.alive, finalizer(), finalizer.peek()) == (False, None, None)

    def test_subclass_whose_call_comes_from_a_mixin(self, threadref: ModuleType) -> None:
        """An overriding `__call__` counts wherever it comes from."""
        calls: list[str] = []

        class Mixin:
            __slots__ = ()

            def __call__(self, _: Any = None) -> Any:
                calls.append("mixin")
                return super().__call__(_)  # type: ignore[misc]

        class Sub(Mixin, threadref.finalize):  # type: ignore[name-defined,misc]
            __slots__ = ()

        in_thread(lambda: Sub(calls.append, "function") and None)
        assert calls == ["mixin", "function"]

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_subclass_whose_call_is_replaced(self, threadref: ModuleType, when: str) -> None:
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

        in_thread(body)
        assert calls == ["replaced", "function"]

    def test_subclass_with_init_subclass(self, threadref: ModuleType) -> None:
        """A subclass may define `__init_subclass__`, call `super()` there or not, and take class arguments."""
        calls: list[str] = []

        class Base(threadref.finalize):  # type: ignore[name-defined,misc]
            def __init_subclass__(cls, **kwargs: Any) -> None:
                calls.extend(kwargs)

        class Sub(Base, option=1):
            def __call__(self, _: Any = None) -> Any:
                calls.append("overridden")
                return super().__call__(_)

        in_thread(lambda: Sub(calls.append, "function") and None)
        assert calls == ["option", "overridden", "function"]
        with pytest.raises(TypeError):
            type("Wrong", (threadref.finalize,), {}, option=1)

    def test_subclass_with_another_equality(self, threadref: ModuleType) -> None:
        """Finalizers that are equal, by a subclass's will, are one: the later one replaces the earlier."""
        calls: list[int] = []

        class Equal(threadref.finalize):  # type: ignore[name-defined,misc]
            def __eq__(self, other: object) -> bool:
                return isinstance(other, Equal)

            def __hash__(self) -> int:
                return 1

        def body() -> None:
            first, second = Equal(calls.append, 1), Equal(calls.append, 2)
            assert first.peek() == second.peek()

        in_thread(body)
        assert calls == [2]

    def test_subclass_that_cannot_be_hashed(self, threadref: ModuleType) -> None:
        """A finalizer must be hashable: otherwise it is a `TypeError`."""

        class Unhashable(threadref.finalize):  # type: ignore[name-defined,misc]
            __hash__ = None  # type: ignore[assignment]

        with pytest.raises(TypeError):
            in_thread(lambda: Unhashable(int))

    def test_subclass_with_attributes_of_any_name(self, threadref: ModuleType) -> None:
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

        finalizer = in_thread(body)
        assert calls == [1]
        assert not finalizer.alive

    def test_subclass_that_answers_for_every_attribute(self, threadref: ModuleType) -> None:
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

        in_thread(body)

    def test_subclass_that_guards_its_attributes(self, threadref: ModuleType) -> None:
        """A subclass may forbid that its attributes be set; `atexit` then can't be set either."""
        calls: list[int] = []

        class Frozen(threadref.finalize):  # type: ignore[name-defined,misc]
            def __setattr__(self, name: str, value: object) -> None:
                raise AttributeError(name)

        def body() -> None:
            finalizer = Frozen(calls.append, 1)
            with pytest.raises(AttributeError):
                finalizer.atexit = False

        in_thread(body)
        assert calls == [1]


class TestTogether:
    """What both implementations do where `ref` meets `finalize`, several threads, and the interpreter's end."""

    def test_last_in_first_out(self, threadref: ModuleType) -> None:
        """Callbacks and finalizers run as one stack, whatever was taken out of its middle."""
        calls: list[int] = []
        kept: list[Any] = []

        def body() -> None:
            def register(number: int) -> Any:
                if number % 3:
                    return threadref.finalize(calls.append, number)
                return threadref.ref(lambda reference: calls.append(number))

            kept.extend(register(number) for number in range(12))
            kept[0] = None  # a dropped reference
            kept[4].detach()
            kept[5]()

        in_thread(body)
        assert calls == [5, 11, 10, 9, 8, 7, 6, 3, 2, 1]

    def test_hook_may_call_another_early(self, threadref: ModuleType) -> None:
        """A hook may call another finalizer of its thread, which then doesn't run again."""
        calls: list[Any] = []

        def body() -> None:
            older = threadref.finalize(lambda: calls.append("older") or "result")
            threadref.finalize(lambda: calls.append(older()))

        in_thread(body)
        assert calls == ["older", "result"]

    def test_hook_sees_those_that_wait(self, threadref: ModuleType) -> None:
        """While a hook runs, references are dead, but a finalizer that waits is alive, and `atexit` can be set."""
        seen: list[Any] = []

        def body() -> None:
            reference = threadref.ref()
            older = threadref.finalize(int)

            def look() -> None:
                seen.append((reference(), older.alive, older.atexit))
                older.atexit = False
                seen.append(older.atexit)

            threadref.finalize(look)

        in_thread(body)
        assert seen == [(None, True, True), False]

    def test_threads_are_independent(self, threadref: ModuleType) -> None:
        """The exit of one thread leaves the references and finalizers of another alone."""
        calls: list[str] = []

        def body() -> None:
            finalizer = threadref.finalize(calls.append, "mine")
            reference = threadref.ref(lambda reference: calls.append("my reference"))
            in_thread(lambda: threadref.finalize(calls.append, "theirs"))
            assert calls == ["theirs"]
            assert finalizer.alive
            assert reference() is threading.current_thread()
            kept.append(reference)

        kept: list[Any] = []
        in_thread(body)
        assert calls == ["theirs", "my reference", "mine"]

    def test_before_join_returns(self, threadref: ModuleType) -> None:
        """`join()` waits for a finalizer that takes its time."""
        started, release, calls = threading.Event(), threading.Event(), []

        def slow() -> None:
            started.set()
            assert release.wait(60)
            calls.append("done")

        thread = threading.Thread(target=lambda: threadref.finalize(slow))
        thread.start()
        assert started.wait(60)
        assert thread.is_alive()
        assert calls == []
        release.set()
        thread.join()
        assert calls == ["done"]

    def test_thread_that_fails(self, threadref: ModuleType, errors: list[BaseException]) -> None:
        """Hooks run for a thread that ends by an exception as for any other."""
        calls: list[int] = []

        def target() -> None:
            threadref.finalize(calls.append, 1)
            raise ZeroDivisionError

        thread = threading.Thread(target=target)
        thread.start()
        thread.join()
        assert calls == [1]
        assert [type(error) for error in errors] == [ZeroDivisionError]

    def test_main_thread(self, run: Callable[[str], tuple[str, str, int]]) -> None:
        """The main thread's finalizers run when the interpreter ends, last in, first out, except those that don't."""
        assert run("""
assert threadref.ref()() is threading.main_thread()
threadref.finalize(print, "first")
threadref.finalize(print, "not at exit").atexit = False
threadref.finalize(print, "detached").detach()
threadref.finalize(print, "third")
print("end")
""") == ("end\nthird\nfirst\n", "", 0)

    def test_main_thread_that_registers_at_exit(self, run: Callable[[str], tuple[str, str, int]]) -> None:
        """A finalizer that the main thread's own finalizer registers at exit is the next to run."""
        assert run("""
threadref.finalize(print, "first")
threadref.finalize(lambda: threadref.finalize(print, "registered"))
""") == ("registered\nfirst\n", "", 0)

    def test_main_thread_whose_finalizer_fails(self, run: Callable[[str], tuple[str, str, int]]) -> None:
        """A finalizer that fails at exit is reported, and the others run."""
        out, err, code = run("""
threadref.finalize(print, "first")
threadref.finalize(lambda: 1 / 0)
threadref.finalize(print, "third")
""")
        assert (out, code) == ("third\nfirst\n", 0)
        assert err.count("ZeroDivisionError") == 1

    def test_main_thread_that_exits(self, run: Callable[[str], tuple[str, str, int]]) -> None:
        """`sys.exit` and an uncaught exception end the main thread as well."""
        out, err, code = run('threadref.finalize(print, "ran"); sys.exit(3)')
        assert (out, err, code) == ("ran\n", "", 3)
        out, err, code = run('threadref.finalize(print, "ran"); 1 / 0')
        assert (out, code) == ("ran\n", 1)
        assert "ZeroDivisionError" in err

    def test_threads_are_joined_first(self, run: Callable[[str], tuple[str, str, int]]) -> None:
        """A thread that outlives the main thread's code runs its finalizers itself, before the main thread's."""
        assert run("""
def target():
    threadref.finalize(lambda: print("thread", threading.get_ident() == ident))
    ident = threading.get_ident()
    attached.set()
    threading.main_thread().join()
attached = threading.Event()
threadref.finalize(print, "main")
threading.Thread(target=target).start()
attached.wait()
print("end")
""") == ("end\nthread True\nmain\n", "", 0)

    def test_daemon_at_exit(self, run: Callable[[str], tuple[str, str, int]]) -> None:
        """The finalizers of a daemon that still runs are called by the main thread, except those that don't want it."""
        assert run("""
def target():
    threadref.finalize(lambda: print("first", threading.current_thread() is threading.main_thread()))
    threadref.finalize(print, "not at exit").atexit = False
    threadref.finalize(print, "third")
    attached.set()
    threading.Event().wait()
attached = threading.Event()
threading.Thread(target=target, daemon=True).start()
attached.wait()
print("end")
""") == ("end\nthird\nfirst True\n", "", 0)

    def test_daemons_reference_at_exit(self, run: Callable[[str], tuple[str, str, int]]) -> None:
        """A reference to a daemon that still runs is alive when the interpreter ends."""
        assert run("""
kept = []
def target():
    kept.append(threadref.ref())
    attached.set()
    threading.Event().wait()
attached = threading.Event()
thread = threading.Thread(target=target, daemon=True)
atexit.register(lambda: print(kept[0]() is thread))
thread.start()
attached.wait()
""") == ("True\n", "", 0)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
    def test_forking_thread(self, run: Callable[[str], tuple[str, str, int]]) -> None:
        """The thread that forks keeps its finalizers in the child, where they run when it ends."""
        out, err, code = run("""
warnings.simplefilter("ignore", DeprecationWarning)
threadref.finalize(lambda: print("child" if os.getpid() != parent else "parent"))
parent = os.getpid()
pid = os.fork()
if pid:
    assert os.waitpid(pid, 0)[1] == 0
""")
        assert (out, err, code) == ("child\nparent\n", "", 0)


class TestDifferences:
    """Where PyPI's threadref breaks a promise and ours keeps it; with a few in which ours is merely different."""

    # PyPI's break is shown beside ours, so that each difference is a fact, not an opinion.

    def test_subclass_that_sets_nothing(self, threadref: ModuleType, errors: list[BaseException]) -> None:
        """Ours keep what they need as an attribute: a subclass that sets nothing loses the call."""
        calls: list[Any] = []

        class Reference(threadref.ref):  # type: ignore[name-defined,misc]
            def __setattr__(self, name: str, value: object) -> None: ...

        class Finalizer(threadref.finalize):  # type: ignore[name-defined,misc]
            def __setattr__(self, name: str, value: object) -> None: ...

        reference, _ = in_thread(lambda: (Reference(calls.append), Finalizer(calls.append, "called")))
        assert calls == (["called", reference] if threadref is pypi else [])
        assert [type(error) for error in errors] == ([] if threadref is pypi else [AttributeError])

    def test_errors_go_to_the_excepthook_of_threads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What a hook raises goes to `threading.excepthook`, with its thread and its name; PyPI's: unraisable."""
        heard: list[tuple[str, BaseException, Any]] = []
        monkeypatch.setattr(threading, "excepthook", lambda a: heard.append(("thread", a.exc_value, a.thread)))
        monkeypatch.setattr(sys, "unraisablehook", lambda a: heard.append(("unraisable", a.exc_value, None)))

        def fail(*args: Any) -> None:
            raise ZeroDivisionError

        def body(module: ModuleType) -> Any:
            module.finalize(fail)
            return module.ref(fail), threading.current_thread()

        _, thread = in_thread(lambda: body(ours))
        assert [(way, type(error), who) for way, error, who in heard] == [("thread", ZeroDivisionError, thread)] * 2
        assert all("fail, a hook of threadhooks" in error.__notes__[0] for _, error, _ in heard)  # type: ignore[attr-defined]
        heard.clear()
        kept = in_thread(lambda: body(pypi))
        assert [way for way, _, _ in heard] == ["unraisable"] * 2
        del kept

    def test_a_hook_derives_a_class(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The `__call__` of a class that a hook derives counts at once. (PyPI's hooks can't register.)"""
        monkeypatch.setattr(_sentinel, "all_plain", True)  # as if nobody else had derived one
        calls: list[str] = []

        def hook() -> None:
            class Derived(ours.finalize):
                def __call__(self, _: Any = None) -> Any:
                    calls.append("call")
                    return super().__call__(_)

            Derived(calls.append, "function")

        in_thread(lambda: ours.finalize(hook) and None)
        assert calls == ["call", "function"]

    @pytest.mark.parametrize("module", [ours, pypi], ids=["ours", "pypi"])
    def test_an_init_subclass_that_keeps_to_itself(self, monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> None:
        """Where `__init_subclass__` doesn't call `super()`, the function may be called past the class's `__call__`."""
        monkeypatch.setattr(_sentinel, "all_plain", True)  # as if nobody else had derived a class
        calls: list[str] = []

        class Selfish:
            __slots__ = ()

            def __init_subclass__(cls) -> None:
                pass

        class Sub(Selfish, module.finalize):  # type: ignore[name-defined,misc]
            def __call__(self, _: Any = None) -> Any:
                calls.append("call")
                return super().__call__(_)

        in_thread(lambda: Sub(calls.append, "function") and None)
        assert calls == (["function"] if module is ours else ["call", "function"])

    @pytest.mark.parametrize("module", [ours, pypi], ids=["ours", "pypi"])
    def test_reading_a_reference_moves_nothing(self, module: ModuleType) -> None:
        """Hooks run in their thread though another one is just reading a reference; PyPI's then run in the reader."""
        calls: list[int] = []
        held: list[Any] = []

        def body() -> tuple[Any, int]:
            module.finalize(lambda: calls.append(threading.get_ident()))
            reference = module.ref()
            # The first step of a reading, in both. We hold its result as a reader does that is slow to take the next.
            held.append(weakref.ref.__call__(reference))
            return reference, threading.get_ident()

        reference, ident = in_thread(body)
        if module is ours:
            assert calls == [ident]
            assert reference() is None
        else:
            assert calls == []  # though the thread has been joined
            assert isinstance(reference(), threading.Thread)
            held.clear()
            assert calls == [threading.get_ident()]

    @pytest.mark.parametrize("module", [ours, pypi], ids=["ours", "pypi"])
    def test_registering_within_a_hook(self, program: Program, module: ModuleType) -> None:
        """What a hook registers runs in the same exit, in the same thread; PyPI's: late, by main, or never."""
        out, err, code = program(
            IMPORT
            + """
def late(*_):
    print("late", threading.get_ident() == ident)
def hook():
    threadref.finalize(late)
    kept.append(threadref.ref(late))
def target():
    global ident
    ident = threading.get_ident()
    threadref.finalize(hook)
kept = []
thread = threading.Thread(target=target)
thread.start()
thread.join()
print("joined")
""",
            module.__name__,
        )
        if module is ours:
            assert (out, err, code) == ("late True\nlate True\njoined\n", "", 0)
        else:
            assert (out.startswith("joined\n"), "late True" in out, code) == (True, False, 0)

    @pytest.mark.parametrize("module", [ours, pypi], ids=["ours", "pypi"])
    def test_detach_while_hooks_run(self, module: ModuleType) -> None:
        """A hook can look at and detach a finalizer that still waits; PyPI's are alive then, but neither works."""
        calls: list[str] = []
        seen: list[Any] = []

        def body() -> None:
            older = module.finalize(calls.append, "older")
            module.finalize(lambda: seen.extend([older.alive, older.peek(), older.detach(), older.alive]))

        in_thread(body)
        if module is ours:
            thread = seen[1][0]
            assert seen == [True, (thread, calls.append, ("older",), {}), seen[1], False]
            assert isinstance(thread, threading.Thread)
            assert calls == []
        else:
            assert seen == [True, None, None, True]
            assert calls == ["older"]

    @pytest.mark.parametrize("module", [ours, pypi], ids=["ours", "pypi"])
    def test_current_thread_within_a_hook(self, program: Program, module: ModuleType) -> None:
        """In a hook `current_thread()` is the thread that ends; PyPI's: a dummy, which stays in `enumerate()`."""
        out, err, code = program(
            IMPORT
            + """
def target():
    thread = threading.current_thread()
    threadref.finalize(lambda: print(threading.current_thread() is thread))
thread = threading.Thread(target=target)
thread.start()
thread.join()
print(len(threading.enumerate()))
""",
            module.__name__,
        )
        assert (out, code) == ("True\n1\n" if module is ours else "False\n2\n", 0)
        assert err == "" or module is pypi  # the dummy may fail at the interpreter's end

    @pytest.mark.parametrize("module", [ours, pypi], ids=["ours", "pypi"])
    def test_main_threads_references(self, program: Program, module: ModuleType) -> None:
        """The main thread's callbacks run at `atexit`, in one stack with its finalizers; PyPI's: too late, or never."""
        out, err, code = program(
            IMPORT
            + """
threadref.finalize(print, "first")
sys.kept = threadref.ref(lambda reference: print("second", sys.is_finalizing(), reference()))
threadref.finalize(print, "third")
""",
            module.__name__,
        )
        assert code == 0
        if module is ours:
            assert (out, err) == ("third\nsecond False None\nfirst\n", "")
        else:
            assert out.startswith("third\nfirst\n")
            assert "second False" not in out

    @pytest.mark.parametrize("module", [ours, pypi], ids=["ours", "pypi"])
    def test_order_at_interpreter_exit(self, program: Program, module: ModuleType) -> None:
        """At exit each thread unwinds as a whole, newest first, main last; PyPI's: interleaved by creation."""
        out, err, code = program(
            IMPORT
            + """
import weakref
def target(name, first, second):
    threadref.finalize(print, name, 1)
    first.set()
    second.wait()
    threadref.finalize(print, name, 2)
    ready.set()
    threading.Event().wait()
threadref.finalize(print, "main", 1)
ready = threading.Event()
for name in "AB":
    first, second = threading.Event(), threading.Event()
    threading.Thread(target=target, args=(name, first, second), daemon=True).start()
    first.wait()
    if name == "A":
        go = second
    else:
        second.set()
        ready.wait()
        ready.clear()
        go.set()
        ready.wait()
threadref.finalize(print, "main", 2)
""",
            module.__name__,
        )
        order = "B 2,B 1,A 2,A 1,main 2,main 1" if module is ours else "main 2,A 2,B 2,B 1,A 1,main 1"
        assert (out.split("\n"), err, code) == ([*order.split(","), ""], "", 0)

    @pytest.mark.parametrize("module", [ours, pypi], ids=["ours", "pypi"])
    def test_system_exit_at_interpreter_exit(self, program: Program, module: ModuleType) -> None:
        """A finalizer that raises `SystemExit` at exit stops no other one; PyPI's stops all of them."""
        out, _, _ = program(
            IMPORT
            + """
threadref.finalize(print, "first")
threadref.finalize(sys.exit)
threadref.finalize(print, "third")
""",
            module.__name__,
        )
        assert out == ("third\nfirst\n" if module is ours else "third\n")

    @pytest.mark.parametrize("module", [ours, pypi], ids=["ours", "pypi"])
    def test_errors_at_interpreter_exit(self, program: Program, module: ModuleType) -> None:
        """What a finalizer raises at exit goes to `threading.excepthook`; PyPI's: to `sys.excepthook`."""
        out, err, code = program(
            IMPORT
            + """
threading.excepthook = lambda args: print("threading", args.exc_type.__name__, args.thread.name)
sys.excepthook = lambda type, *_: print("sys", type.__name__)
threadref.finalize(lambda: 1 / 0)
""",
            module.__name__,
        )
        expected = "threading ZeroDivisionError MainThread\n" if module is ours else "sys ZeroDivisionError\n"
        assert (out, err, code) == (expected, "", 0)

    @pytest.mark.parametrize("module", [ours, pypi], ids=["ours", "pypi"])
    def test_after_the_interpreters_exit(self, program: Program, module: ModuleType) -> None:
        """What isn't called at exit is dead if it is main's, and can be called if a daemon's; PyPI's: the reverse."""
        out, err, code = program(
            "import atexit\natexit.register(lambda: print(main.alive, main(), daemon.alive, daemon()))\n"
            + IMPORT
            + """
def target():
    global daemon
    daemon = threadref.finalize(lambda: "called")
    attached.set()
    threading.Event().wait()
attached = threading.Event()
threading.Thread(target=target, daemon=True).start()
attached.wait()
main = threadref.finalize(lambda: "called")
main.atexit = daemon.atexit = False
""",
            module.__name__,
        )
        expected = "False None True called\n" if module is ours else "True None True None\n"
        assert (out, err, code) == (expected, "", 0)

    @pytest.mark.parametrize("module", [ours, pypi], ids=["ours", "pypi"])
    def test_collector_at_interpreter_exit(self, program: Program, module: ModuleType) -> None:
        """The garbage collector stays on while finalizers are called at exit; PyPI's: it is off."""
        out, err, code = program(
            IMPORT + "import gc; threadref.finalize(lambda: print(gc.isenabled()))", module.__name__
        )
        assert (out, err, code) == ("True\n" if module is ours else "False\n", "", 0)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
    @pytest.mark.parametrize("module", [ours, pypi], ids=["ours", "pypi"])
    def test_other_threads_of_a_forked_child(self, program: Program, module: ModuleType) -> None:
        """In a forked child nothing of the parent's other threads runs; PyPI's run there, and again in the parent."""
        out, err, code = program(
            IMPORT
            + """
warnings.simplefilter("ignore", DeprecationWarning)
def target():
    threadref.finalize(lambda: print("child" if os.getpid() != parent else "parent"))
    kept.append(threadref.ref(lambda _: print("child" if os.getpid() != parent else "parent")))
    attached.set()
    end.wait()
kept = []
parent = os.getpid()
attached, end = threading.Event(), threading.Event()
thread = threading.Thread(target=target)
thread.start()
attached.wait()
pid = os.fork()
if pid:
    assert os.waitpid(pid, 0)[1] == 0
    end.set()
    thread.join()
""",
            module.__name__,
        )
        assert (err, code) == ("", 0)
        assert out.split() == [*(["child"] * 2 if module is pypi else []), "parent", "parent"]

    @pytest.mark.parametrize("module", [ours, pypi], ids=["ours", "pypi"])
    def test_registering_after_the_main_threads_exit(self, program: Program, module: ModuleType) -> None:
        """To register for the main thread after its exit is a `RuntimeError`; PyPI's accepts it, and never calls it."""
        out, err, code = program(
            "import atexit\natexit.register(lambda: late())\n"
            + IMPORT
            + """
def late():
    for register in (threadref.ref, threadref.finalize):
        try:
            register(print)
            print("accepted")
        except RuntimeError as error:
            print("refused")
threadref.finalize(int)
""",
            module.__name__,
        )
        assert (out, err, code) == (("refused\n" if module is ours else "accepted\n") * 2, "", 0)

    @pytest.mark.parametrize("module", [ours, pypi], ids=["ours", "pypi"])
    def test_what_a_finalizer_is_called_with(self, module: ModuleType) -> None:
        """A subclass's `__call__` gets `None` at the exit; PyPI's gets the weak reference that it is made of."""
        seen: list[Any] = []

        class Sub(module.finalize):  # type: ignore[name-defined,misc]
            def __call__(self, _: Any = None) -> Any:
                seen.append(_)
                return super().__call__(_)

        in_thread(lambda: Sub(int) and None)
        assert [type(argument) for argument in seen] == [type(None) if module is ours else weakref.ref]

    @pytest.mark.parametrize("module", [ours, pypi], ids=["ours", "pypi"])
    def test_finalizer_that_does_not_call_super(self, module: ModuleType) -> None:
        """A subclass's `__call__` that ignores `super()` leaves a dead finalizer; PyPI's is alive for ever."""

        class Sub(module.finalize):  # type: ignore[name-defined,misc]
            def __call__(self, _: Any = None) -> Any:
                return None

        finalizer = in_thread(lambda: Sub(int))
        assert finalizer.alive is (module is pypi)
        weakref.finalize.__call__(finalizer)  # PyPI's would be called again when the tests end

    @pytest.mark.parametrize("module", [ours, pypi], ids=["ours", "pypi"])
    def test_finalizer_that_a_hook_calls_early(self, module: ModuleType) -> None:
        """A subclass's `__call__` is called once, though a hook calls it early at the exit; PyPI's is called again."""
        calls: list[bool] = []

        class Sub(module.finalize):  # type: ignore[name-defined,misc]
            def __call__(self, _: Any = None) -> Any:
                calls.append(self.alive)
                return super().__call__(_)

        def body() -> None:
            older = Sub(int)
            module.finalize(older)

        in_thread(body)
        assert calls == ([True] if module is ours else [True, False])

    @pytest.mark.parametrize("module", [ours, pypi], ids=["ours", "pypi"])
    def test_second_init_of_a_reference(self, module: ModuleType) -> None:
        """`ref.__init__` may be called again in any thread; PyPI's fails in one that has registered nothing."""
        reference = in_thread(module.ref)
        if module is ours:
            in_thread(reference.__init__)
        else:
            with pytest.raises(AttributeError):
                in_thread(reference.__init__)

    @pytest.mark.parametrize("module", [ours, pypi], ids=["ours", "pypi"])
    def test_second_init_in_another_thread(self, module: ModuleType) -> None:
        """A finalizer that another thread initialises again stands in both threads; PyPI's in the second alone."""
        calls: list[str] = []

        def body() -> None:
            finalizer = module.finalize(calls.append, "first")
            in_thread(lambda: finalizer.__init__(calls.append, "second"))

        in_thread(body)
        assert calls == (["second", "first"] if module is ours else ["second"])

    @pytest.mark.parametrize("module", [ours, pypi], ids=["ours", "pypi"])
    def test_second_init_in_the_same_thread(self, module: ModuleType) -> None:
        """A finalizer that is initialised again keeps its place and its `atexit`; PyPI's gets new ones."""
        calls: list[int] = []

        def body() -> None:
            finalizer = module.finalize(calls.append, 1)
            module.finalize(calls.append, 2)
            finalizer.atexit = False
            finalizer.__init__(calls.append, 3)
            calls.append(finalizer.atexit)

        in_thread(body)
        assert calls == ([False, 2, 3] if module is ours else [True, 3, 2])

    def test_registering_without_end(self, errors: list[BaseException]) -> None:
        """Hooks that register hooks for ever are stopped, and reported; PyPI's never runs them in the first place."""
        calls: list[None] = []

        def again() -> None:
            calls.append(None)
            ours.finalize(again)

        in_thread(lambda: ours.finalize(again) and None)
        assert len(calls) > 1000
        assert [type(error) for error in errors] == [RuntimeError]

    def test_bases_with_slots(self) -> None:
        """Ours have slots, so they can't be joined with another class that has some; PyPI's can."""

        class Other:
            __slots__ = ("label",)

        type("Fine", (pypi.finalize, Other), {})
        with pytest.raises(TypeError, match="conflict"):
            type("Wrong", (ours.finalize, Other), {})

    def test_registry_of_weakref_finalize(self) -> None:
        """Ours aren't in the registry of `weakref.finalize`: its methods, called by that name, find nothing there."""

        def body(module: ModuleType) -> bool:
            finalizer = module.finalize(int)
            found = weakref.finalize.peek(finalizer) is not None
            finalizer.detach()
            return found

        assert in_thread(lambda: body(pypi))
        assert not in_thread(lambda: body(ours))

    def test_names_of_the_module(self) -> None:
        """`from … import *` gives both classes; PyPI's gives `ref` alone, and it has a `__version__`."""
        assert ours.__all__ == ("finalize", "ref")
        assert pypi.__all__ == ("ref",)
        assert pypi.__version__ == "1.1.5"  # the one that this module compares with
        assert not hasattr(ours, "__version__")
