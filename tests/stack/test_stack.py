"""The stack of cleanups, as plain data: no thread is started here."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule
from support import Farewell

from threadhooks._references import open_segment
from threadhooks._stack import MOST_ADDED_MEANWHILE, Stack, pack, unpack
from threadhooks.threadref import ref as thread_ref


class Failure(BaseException):
    """What a hook raises."""


Failures = list[tuple[BaseException, Any]]


@pytest.fixture
def failures() -> Failures:
    return []


@pytest.fixture
def failed(failures: Failures) -> Callable[[BaseException, Any], None]:
    return lambda error, hook: failures.append((error, hook))


class Reference(thread_ref):
    """A weak reference in a stack that belongs to no thread."""

    def __new__(cls, stack: Stack, callback: Callable[[Any], Any] | None = None) -> Reference:  # noqa: PYI034
        self = super(thread_ref, cls).__new__(cls, stack.top or open_segment(stack, "the thread", _let_out))
        self._thread_callback = callback
        return self

    def __init__(self, stack: Stack, callback: Callable[[Any], Any] | None = None) -> None: ...


def _let_out(error: BaseException, hook: Any) -> None:
    raise error


# Unwinding


def test_last_in_first_out(failed: Any) -> None:
    """Entries run in the reverse of the order in which they were added, with their arguments."""
    stack, ran = Stack(), []
    stack.add("a", lambda: ran.append("a"))
    stack.add("b", (ran.append, ("b",), None))
    stack.add("c", (lambda **kwargs: ran.append(kwargs), (), {"c": 1}))
    stack.unwind(failed)
    assert ran == [{"c": 1}, "b", "a"]
    assert not stack.entries


def test_added_meanwhile(failed: Any) -> None:
    """What a hook adds is run next, before those that waited."""
    stack, ran = Stack(), []
    stack.add(1, lambda: ran.append(1))
    stack.add(2, lambda: (ran.append(2), stack.add(3, lambda: ran.append(3))))
    stack.unwind(failed)
    assert ran == [2, 3, 1]


def test_a_failure_stops_nobody_else(failures: Failures, failed: Any) -> None:
    """What a hook raises is passed on with the hook; the next one runs."""
    stack, ran = Stack(), []

    def fails() -> None:
        raise Failure

    stack.add(1, lambda: ran.append(1))
    stack.add(2, fails)
    stack.add(3, (fails, (), {}))
    stack.unwind(failed)
    assert ran == [1]
    assert [(type(error), hook) for error, hook in failures] == [(Failure, fails)] * 2


def test_a_failure_of_an_entry_that_is_run_alone(failures: Failures, failed: Any) -> None:
    """`run`, too, passes on what the hook raises, with the hook."""
    stack = Stack()

    def fails(*args: object) -> None:
        raise Failure(*args)

    stack.add(1, fails)
    stack.add(2, (fails, (2,), None))
    for entry in (2, 1):
        stack.run(entry, failed)
    assert [(error.args, hook) for error, hook in failures] == [((2,), fails), ((), fails)]


def test_who_takes_an_entry_runs_it(failed: Any) -> None:
    """An entry that was taken off, wherever it stood, does not run; it can be taken once."""
    stack, ran = Stack(), []
    for number in range(3):
        stack.add(number, (ran.append, (number,), None))
    assert stack.take(1) == (ran.append, (1,), None)
    assert stack.take(1) is None
    stack.unwind(failed)
    assert ran == [2, 0]


def test_the_last_entry_is_taken_meanwhile(failed: Any) -> None:
    """A hook may take off all that waits: that is no failure."""
    stack, ran = Stack(), []
    stack.add(1, lambda: ran.append(1))
    stack.add(2, lambda: stack.take(1))
    stack.unwind(failed)
    assert ran == []


def test_arguments_die_before_the_next_hook(failed: Any) -> None:
    """What belongs to one hook is destroyed before the next one is taken off."""
    stack, ran = Stack(), []
    stack.add(1, lambda: ran.append("next"))
    stack.add(2, (lambda argument: ran.append("hook"), (Farewell(lambda: ran.append("died")),), None))
    stack.unwind(failed)
    assert ran == ["hook", "died", "next"]


def test_a_key_error_from_outside_is_no_end() -> None:
    """What looks like the end of the stack and isn't is let out, and unwinding goes on at the next call."""
    stack, ran = Stack(), []

    def failed(error: BaseException, hook: object) -> None:
        raise error

    def fails() -> None:
        raise KeyError

    stack.add(1, lambda: ran.append(1))
    stack.add(2, fails)
    with pytest.raises(KeyError):
        stack.unwind(failed)
    assert ran == []
    stack.unwind(failed)
    assert ran == [1]


@pytest.mark.parametrize(("references", "entries"), [(0, 1), (1, 0), (0, 2), (1, 1)])
def test_an_endless_loop_ends(references: int, entries: int, failures: Failures, failed: Any) -> None:
    """Hooks that add hooks without an end are given up, and named; those that waited have run."""
    stack, ran = Stack(), []
    kept: list[Any] = []

    def again(*_: object) -> None:
        ran.append("again")
        assert len(ran) < 100_000  # or this test would never end
        kept.extend(Reference(stack, again) for _ in range(references))
        for _ in range(entries):
            stack.add(object(), again)

    def waits(_: object) -> None:
        ran.append("reference")
        stack.add(object(), again)

    stack.add("first", lambda: ran.append("entry"))
    kept.extend(Reference(stack, waits) for _ in range(3))
    stack.add("loop", again)
    stack.unwind(failed)
    assert (ran.count("entry"), ran.count("reference")) == (1, 3)
    assert MOST_ADDED_MEANWHILE <= len(ran) <= 4 * MOST_ADDED_MEANWHILE
    [(error, hook)] = failures
    assert isinstance(error, RuntimeError)
    assert "again" in str(error)
    assert hook is again
    assert not stack.entries


def test_references_count_as_waiting(failures: Failures, failed: Any) -> None:
    """However many wait, each callback may add a hook: that is no loop."""
    stack, ran = Stack(), []
    number = MOST_ADDED_MEANWHILE * 3 // 5
    kept = [Reference(stack, lambda _: stack.add(object(), lambda: ran.append(None))) for _ in range(number)]
    stack.unwind(failed)
    assert (len(ran), failures) == (len(kept), [])


@pytest.mark.parametrize(
    ("func", "args", "kwargs", "packed"),
    [(int, (), {}, int), (int, (1,), {}, (int, (1,), None)), (int, (), {"a": 1}, (int, (), {"a": 1}))],
    ids=["bare", "positional", "by name"],
)
def test_pack(func: Any, args: Any, kwargs: Any, packed: Any) -> None:
    """A function without arguments stands beside its entry as it is; `unpack` is the way back."""
    assert pack(func, args, kwargs) == packed
    assert unpack(packed) == (func, args, kwargs)


@pytest.mark.parametrize("odd", [None, (1, 2)])
def test_pack_what_is_no_function(odd: Any) -> None:
    """What would be taken for something else is packed: a tuple, and None."""
    assert unpack(pack(odd, (), {})) == (odd, (), {})


# References


def test_references_unwind_in_their_place(failed: Any) -> None:
    """Callbacks of references and other entries run in one order."""
    stack, ran = Stack(), []
    kept = [Reference(stack, lambda _: ran.append("ref 1"))]
    stack.add(1, lambda: ran.append("entry"))
    kept += [Reference(stack, lambda _: ran.append("ref 2")), Reference(stack, lambda _: ran.append("ref 3"))]
    stack.unwind(failed)
    assert ran == ["ref 3", "ref 2", "entry", "ref 1"]


def test_a_reference_that_was_dropped(failed: Any) -> None:
    """A stack keeps no reference alive: the callback of one that is gone is not called."""
    stack, ran = Stack(), []
    Reference(stack, lambda _: ran.append("dropped"))
    kept = Reference(stack, lambda _: ran.append("kept"))
    stack.unwind(failed)
    assert ran == ["kept"]
    assert kept() is None


def test_all_references_die_at_once(failed: Any) -> None:
    """When the first hook runs, every reference is dead."""
    stack, seen = Stack(), []
    refs = [Reference(stack)]
    stack.add(1, lambda: seen.append([ref() for ref in refs]))
    refs.append(Reference(stack))
    assert [ref() for ref in refs] == ["the thread"] * 2
    stack.unwind(failed)
    assert seen == [[None, None]]


def test_what_a_callback_registers_comes_before_the_next(failed: Any) -> None:
    """A callback may add an entry or a reference: that is run before the other references of its run."""
    stack, ran = Stack(), []
    kept: list[Any] = [Reference(stack, lambda _: ran.append("first"))]

    def registers(_: object) -> None:
        ran.append("second")
        stack.add(1, lambda: ran.append("entry"))
        kept.append(Reference(stack, lambda _: ran.append("reference")))

    kept.append(Reference(stack, registers))
    stack.unwind(failed)
    assert ran == ["second", "reference", "entry", "first"]


def test_segments_without_references_are_removed() -> None:
    """Many references that come and go, with entries in between, leave nothing that grows."""
    stack = Stack()
    for _ in range(1000):
        Reference(stack)
        stack.add("same", int)
    assert len(stack.segments) < 20


def test_a_dead_reference_keeps_nothing_alive(failed: Any) -> None:
    """Once its callback was called, the reference has let go of it."""
    stack, died = Stack(), []
    farewell = Farewell(lambda: died.append(True))
    kept = Reference(stack, lambda _, farewell=farewell: None)
    del farewell
    stack.unwind(failed)
    gc.collect()
    assert died == [True]
    assert kept() is None


# Anything, in any order


class Machine(RuleBasedStateMachine):
    """Any sequence of operations on a stack does what it does to a list."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = Stack()
        self.model: list[Any] = []
        self.ran: list[Any] = []
        self.kept: dict[int, Reference] = {}
        self.number = 0

    entries = Bundle("entries")
    references = Bundle("references")

    def _hook(self, number: int, adds: int, fails: bool) -> Callable[..., None]:
        def hook(*_: object) -> None:
            self.ran.append(number)
            for more in range(adds):
                self.stack.add((number, more), (self.ran.append, ((number, more),), None))
            if fails:
                raise Failure

        return hook

    def _expected(self) -> list[Any]:
        expected: list[Any] = []
        for number, adds in reversed(self.model):
            expected.append(number)
            expected += [(number, more) for more in reversed(range(adds))]
        return expected

    @rule(target=entries, adds=st.integers(0, 2), fails=st.booleans(), bare=st.booleans())
    def add(self, adds: int, fails: bool, bare: bool) -> int:
        self.number += 1
        hook = self._hook(self.number, adds, fails)
        self.stack.add(self.number, hook if bare else (hook, (1,), {}))
        self.model.append((self.number, adds))
        return self.number

    @rule(target=references, adds=st.integers(0, 2))
    def refer(self, adds: int) -> int:
        self.number += 1
        self.kept[self.number] = Reference(self.stack, self._hook(self.number, adds, False))
        self.model.append((self.number, adds))
        return self.number

    def _forget(self, number: int) -> None:
        self.model = [each for each in self.model if each[0] != number]

    @rule(number=consumes(entries))
    def take(self, number: int) -> None:
        known = number in [each for each, _ in self.model]
        assert (self.stack.take(number) is not None) == known
        self._forget(number)

    @rule(number=consumes(references))
    def drop(self, number: int) -> None:
        if self.kept.pop(number, None) is not None:
            self._forget(number)

    @precondition(lambda self: self.model)
    @rule()
    def unwind(self) -> None:
        expected = self._expected()
        self.stack.unwind(lambda error, hook: None)
        assert self.ran == expected
        self.ran.clear()
        self.model.clear()
        self.kept.clear()

    @invariant()
    def nothing_runs_by_itself(self) -> None:
        assert self.ran == []


TestMachine = Machine.TestCase
