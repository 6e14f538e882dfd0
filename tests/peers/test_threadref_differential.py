"""Random programs of references and finalizers, run by PyPI's threadref and by ours: what is seen must be the same.

A program is a list of steps in one thread. Some of its steps register hooks, and a hook is a list of steps as well, to
be taken when it runs. Left out is what is known to differ (see test_threadref_differences): a hook registers
nothing at the exit, and neither peeks at nor detaches a finalizer then.
"""

from __future__ import annotations

import copy
import pickle
import sys
import threading
import weakref
from types import ModuleType
from typing import Any

import pytest
import threadref as pypi
from hypothesis import given, settings
from hypothesis import strategies as st
from support import run

from threadhooks import threadref as ours

Step = tuple[Any, ...]

_which = st.integers(0, 7)  # one of the things made so far, counted modulo their number

# What can be done anywhere.
_looks = st.one_of(
    st.tuples(
        st.sampled_from(["call", "alive", "atexit", "drop", "eq", "hash", "reading", "callback", "copied", "pickled"]),
        _which,
    ),
    st.tuples(st.just("set atexit"), _which, st.sampled_from([True, False, 0, "yes"])),
    st.tuples(st.just("fail"), st.sampled_from([ValueError, SystemExit, KeyboardInterrupt])),
)
# What can be done only before the exit.
_kinds = st.sampled_from(["plain", "subclass", "call", "forgetful"])
_hooks = st.lists(_looks, max_size=3)
_steps = st.one_of(
    _looks,
    st.tuples(st.sampled_from(["peek", "detach", "repr", "call elsewhere"]), _which),
    st.tuples(st.just("finalize"), _kinds, _hooks),
    st.tuples(st.just("finalize"), _kinds, _hooks),
    st.tuples(st.just("ref"), st.sampled_from(["plain", "subclass"]), st.none() | _hooks),
    st.tuples(st.just("ref"), st.sampled_from(["plain", "subclass"]), _hooks),
    st.tuples(st.just("wrong"), st.sampled_from(["ref", "finalize"]), st.sampled_from([None, 0, 5, "text"])),
)


class Machine:
    """Runs one program with one implementation, and writes down what it sees."""

    def __init__(self, module: ModuleType) -> None:
        self.log: list[Any] = []
        self.things: list[Any] = []
        self.hooks = 0
        self.names: dict[int, str] = {}
        log = self.log

        class Called(module.finalize):  # type: ignore[name-defined,misc]
            def __call__(self, _: Any = None) -> Any:
                if self.alive:  # PyPI's calls a dead one, too, if it was called early by a hook
                    log.append("overridden")
                return super().__call__(_)

        class Subclass(module.finalize):  # type: ignore[name-defined,misc]
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                self.label = len(args)

        class Forgetful(module.finalize):  # type: ignore[name-defined,misc]
            def __init__(self, *args: Any) -> None:
                pass

        class Reference(module.ref):  # type: ignore[name-defined,misc]
            __slots__ = ("label",)

            def __init__(self, callback: Any = None) -> None:
                super().__init__(callback)
                self.label = 1

        self.module = module
        self.finalizers = {"plain": module.finalize, "subclass": Subclass, "call": Called, "forgetful": Forgetful}
        self.references = {"plain": module.ref, "subclass": Reference}

    def run(self, steps: list[Step]) -> list[Any]:
        """Take the steps in a thread, and return what was seen in the course of its life, and afterwards."""
        self.thread = threading.Thread(target=self.take, args=(steps,))
        self.thread.start()
        self.thread.join()
        self.log.append("joined")
        for number in range(len(self.things)):
            for what in ("alive", "atexit", "reading", "callback", "eq", "hash", "peek", "detach", "repr", "call"):
                self.step(what, number)
        return self.log

    def take(self, steps: list[Step]) -> None:
        for step in steps:
            try:
                self.step(*step)
            except AssertionError:
                raise
            except Exception as error:
                self.log.append(("raised", step[0], type(error)))

    def hook(self, steps: list[Step]) -> Any:
        self.hooks += 1
        number = self.hooks

        def run(*args: Any, **kwargs: Any) -> int:
            self.log.append(("hook", number, [self.name(arg) for arg in args], kwargs))
            for step in steps:
                if step[0] == "fail":
                    raise step[1]
                self.take([step])
            return number

        return run

    def name(self, thing: Any) -> Any:
        if thing is self.thread:
            return "the thread"
        if isinstance(thing, (weakref.ref, weakref.finalize)):
            return next((number for number, other in enumerate(self.things) if other is thing), "one that was dropped")
        return thing

    def step(self, what: str, *args: Any) -> None:
        if what == "fail":
            return
        if what == "finalize":
            function = self.hook(args[1])
            self.things.append(self.finalizers[args[0]](function, len(self.things), key=args[0]))
            return
        if what == "ref":
            self.things.append(self.references[args[0]](args[1] if args[1] is None else self.hook(args[1])))
            return
        if what == "wrong":
            self.things.append(getattr(self.module, args[0])(args[1]))
            return
        if not self.things:
            return
        thing = self.things[args[0] % len(self.things)]
        self.log.append((what, args[0], self.see(what, thing, *args[1:])))

    def see(self, what: str, thing: Any, *args: Any) -> Any:
        if thing is None:
            return None
        is_ref = isinstance(thing, self.module.ref)
        if what == "eq":
            return [thing == other for other in self.things], [thing != other for other in self.things]
        if what == "hash":
            try:
                value = hash(thing)
            except TypeError as error:
                return type(error)
            return [value == hash(other) for other in self.things if type(other) is type(thing) and other is thing]
        if what == "drop":
            self.things[next(n for n, other in enumerate(self.things) if other is thing)] = None
            return None
        if what == "copied":
            twin = copy.copy(thing)
            return (
                type(twin).__name__,
                twin.__dict__ if hasattr(twin, "__dict__") else None,
                twin.alive,
                repr(twin)[-5:],
            )
        if what == "pickled":
            return pickle.loads(pickle.dumps(thing)).alive
        if what == "repr":
            text = repr(thing).replace(str(id(thing)), "id")
            return text.replace(repr(self.thread), "the thread")
        if is_ref:
            return {"reading": lambda: self.name(thing()), "callback": lambda: thing.__callback__ is None}.get(
                what, lambda: None
            )()
        if what == "call elsewhere":
            seen: list[Any] = []
            other = threading.Thread(target=lambda: seen.append(self.see("call", thing)))
            run(other)
            return seen
        if what == "call":
            try:
                return self.name(thing())
            except BaseException as error:
                return type(error)
        if what in ("peek", "detach"):
            state = getattr(thing, what)()
            return state and (self.name(state[0]), callable(state[1]), state[2], state[3])
        if what == "set atexit":
            thing.atexit = args[0]
        return thing.alive, thing.atexit


def observe(module: ModuleType, steps: list[Step]) -> list[Any]:
    machine = Machine(module)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", lambda args: machine.log.append(("reported", args.exc_type)))
        patch.setattr(threading, "excepthook", lambda args: machine.log.append(("reported", args.exc_type)))
        return machine.run(steps)


@settings(max_examples=300, deadline=None)
@given(st.lists(_steps, max_size=12))
def test_programs_look_the_same(steps: list[Step]) -> None:
    """Whatever one thread does with references and finalizers, PyPI's and ours show the same, in the same order."""
    assert observe(ours, steps) == observe(pypi, steps)
