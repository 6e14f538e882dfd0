"""Resources with arguments: a value for each combination; and what else a resource has of a function."""

from __future__ import annotations

import copy
import functools
import inspect
import itertools
import pickle
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from resourcing import Crash, Manager, Owner, events, in_thread, noted
from support import Log
from support import in_thread as run_in_thread

import threadhooks
from threadhooks import per_thread
from threadhooks._attached import attached


def test_a_value_for_each_combination_of_arguments(log: Log) -> None:
    """Equal arguments mean the same value, and different ones different values; the function gets them as given."""

    def body() -> None:
        values, again = [
            [noted(log), noted(log, 1), noted(log, 2), noted(log, 1, 2), noted(log, a=1), noted(log, 1, a=1)]
            for _ in range(2)
        ]
        assert len(set(values)) == 6
        assert again == values

    in_thread(body)
    opened = [tuple(given) for event, _, *given in log if event == "opened"]
    assert opened == [((), {}), ((1,), {}), ((2,), {}), ((1, 2), {}), ((), {"a": 1}), ((1,), {"a": 1})]


@per_thread
def anything(*args: object, **kwargs: object) -> Iterator[object]:
    yield object()


def test_which_arguments_are_the_same(log: Log) -> None:
    """Those that are equal, though not identical, and in any order of keywords; not those of another shape."""

    def body() -> None:
        assert noted(log, ("a", "1")) is noted(log, tuple("a1"))
        assert noted(log, a=1, b=2) is noted(log, b=2, a=1) is not noted(log, a=2, b=1)
        assert noted(log, -1) is not noted(log, -2)  # whose hashes are equal
        assert anything(1, a=2) is not anything((1,), frozenset({("a", 2)}))
        noted.close(log, -2)
        assert [args for event, _, args, _ in log if event == "closed"] == [(-2,)]

    in_thread(body)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_arguments_of_one_hash(order: tuple[int, ...], log: Log) -> None:
    """Whichever of them are closed, and in whatever order, the others keep their values."""

    class Same:
        def __hash__(self) -> int:
            return 1

    def body() -> None:
        arguments = [Same() for _ in order]
        values = [noted(log, argument) for argument in arguments]
        for closed, number in enumerate(order):
            noted.close(log, arguments[number])
            assert events(log) == ["opened"] * 3 + ["closed"] * (closed + 1)
            for other in order[closed + 1 :]:
                assert noted(log, arguments[other]) is values[other]
        (attachment,) = [found for found in attached() if found.is_here()]
        assert attachment.values == {}

    in_thread(body)


def test_every_kind_of_parameter() -> None:
    """All kinds of parameters, of whatever names, arrive as in a call of the function itself, which may refuse it."""

    @per_thread
    def resource(a: int, /, self: int = 2, *args: int, instance: int = 3, **kwargs: int) -> Iterator[tuple[Any, ...]]:
        yield a, self, args, instance, kwargs

    def body() -> None:
        assert resource(1) == (1, 2, (), 3, {})
        assert resource(1, self=5) == (1, 5, (), 3, {})
        value = resource(1, 5, 6, instance=7, a=8, early=9)
        assert value == (1, 5, (6,), 7, {"a": 8, "early": 9})
        resource.close(1, 5, 6, instance=7, a=8, early=9)
        assert resource(1, 5, 6, instance=7, a=8, early=9) is not value
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'a'"):
            resource()  # type: ignore[call-arg]

    in_thread(body)


@pytest.mark.parametrize(("args", "kwargs"), [(([],), {}), ((), {"a": []})])
def test_arguments_that_are_not_hashable(args: Any, kwargs: Any, log: Log) -> None:
    """They are a `TypeError` at the call, before anything is opened."""
    for use in (noted, noted.close):
        with pytest.raises(TypeError, match="unhashable"):
            in_thread(lambda use=use: (threadhooks.attach(), use(log, *args, **kwargs)))  # type: ignore[misc]
    assert log == []


def test_nothing_of_a_thread_that_has_ended_is_kept(no_collection: None) -> None:
    """The value and the arguments are freed with the thread, without a collection, though the resource lives on."""
    kept: list[weakref.ref[Any]] = []

    @per_thread
    def resource(argument: Log) -> Iterator[Log]:
        kept.append(weakref.ref(argument))
        value = Log()
        kept.append(weakref.ref(value))
        yield value

    run_in_thread(lambda: resource(Log()))
    assert [reference() for reference in kept] == [None, None]


# A function like others


@per_thread
def documented(a: int, b: str = "b") -> Iterator[int]:
    """What it is for."""
    yield a


def test_it_looks_like_the_function() -> None:
    """Its names, its documentation and its signature are the function's, which is its ``__wrapped__``."""

    @per_thread(early=True)
    @functools.wraps(documented)
    def early(*args: Any) -> Iterator[int]:
        yield 1

    for resource in (documented, early):
        attributes: Any = resource
        assert attributes.__name__ == attributes.__qualname__ == "documented"
        assert (attributes.__module__, attributes.__doc__) == (__name__, "What it is for.")
        assert list(inspect.signature(resource).parameters) == ["a", "b"]
    function: Any = documented.__wrapped__  # type: ignore[attr-defined]
    assert inspect.isgeneratorfunction(function)


def test_its_repr_says_what_it_is() -> None:
    """A resource names what it was made of; a bound one, its instance as well, even if that has no repr."""

    class Mute(Owner):
        def __repr__(self) -> str:
            raise Crash

    owner = Mute([])
    assert repr(documented) == f"<per_thread resource {__name__}.documented>"
    assert repr(per_thread(functools.partial(Manager, [1]))).startswith("<per_thread resource functools.partial(")
    assert repr(owner.resource) == f"<per_thread resource resourcing.Owner.resource of {object.__repr__(owner)}>"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickling(protocol: int) -> None:
    """It is pickled by its name, as functions are, and so is one that is a method; one without a name is an error."""
    for resource in (documented, Owner.resource):
        assert pickle.loads(pickle.dumps(resource, protocol)) is resource
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(per_thread(lambda: Manager([])), protocol)


@pytest.mark.parametrize("func", [documented.__wrapped__, functools.partial(Manager, [])])  # type: ignore[attr-defined]
def test_copying(func: Callable[..., Any]) -> None:
    """A copy is the resource itself, as for functions: there are not two with one value, nor two values."""
    resource = per_thread(func)
    assert copy.copy(resource) is resource
    assert copy.deepcopy({"key": [resource]}) == {"key": [resource]}
