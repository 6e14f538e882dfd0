"""Random programs, run by real threads and by a plain model of the stack: what is seen must be the same.

A program is a list of steps. Some register a hook, and a hook is a list of steps as well, taken when it runs: so hooks
register others, raise, detach and call others, close plugins, start threads and wait for them, while the stack unwinds.
The `Machine` takes the steps and writes down what it sees; in one run it uses threadhooks, in the other the `Model`.
"""

from __future__ import annotations

import gc
import re
import threading
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import LONG
from thread_model import Model, ModelThread, Record

import threadhooks

Step = tuple[Any, ...]
Steps = list[Step]


class Fatal(BaseException):
    """What nobody catches by accident."""


# -- the real thing, with the model's interface


class RealPlugin(threadhooks.Plugin):
    def connect(self, signal: str, func: Any) -> None:
        getattr(self, signal)(func)


class Real:
    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.attach = threadhooks.attach
        self.finalize = threadhooks.threadref.finalize
        self.ref = threadhooks.threadref.ref
        self.plugin = RealPlugin
        self.muting = threadhooks.thread_exited.muted

    def derived(self, override: Any, func: Any) -> Any:
        class Derived(threadhooks.threadref.finalize):
            def __call__(self, _: Any = None) -> Any:
                return override(self.alive, super().__call__)

        return Derived(func)

    @property
    def here(self) -> threading.Thread:
        thread = threading.current_thread()
        assert (thread.ident, thread.native_id) == (threading.get_ident(), threading.get_native_id())
        return thread

    def drop(self, thing: Any) -> None:
        pass  # the machine has let go of it

    def per_thread(self, func: Any, early: bool) -> Any:
        return threadhooks.per_thread(func, early=early)

    def connect(self, signal: str, func: Any) -> None:
        getattr(threadhooks, signal).connect(func, sender=threading.current_thread(), weak=False)

    def connected(self, signal: str) -> int:
        if getattr(threadhooks, signal).receivers:
            gc.collect()  # those of a thread that was not announced stay as long as its object
        return len(getattr(threadhooks, signal).receivers)

    def report(self, args: threading.ExceptHookArgs) -> None:
        error = args.exc_value
        assert error is not None
        notes = "".join(getattr(error, "__notes__", ()))
        hook = re.search(r"<?(hook|resource) \d+>?", notes)
        plugin = re.search(r"of plugin '(\w+)'", notes)
        self.machine.report(error, args.thread, hook and hook[0], plugin and plugin[1])

    def run(self, name: str, mode: str, body: Callable[[], None]) -> None:
        def announcing() -> None:
            with threadhooks.announced():
                body()

        with ExitStack() as stack:
            if mode == "installed":
                stack.enter_context(threadhooks.installed())
            thread = threading.Thread(target=announcing if mode == "announced" else body, name=name)
            thread.start()
            thread.join(LONG)
            assert not thread.is_alive()


# -- what takes the steps


class Hook:
    def __init__(self, machine: Machine, steps: Steps, *, owner: str = "", signal: str = "") -> None:
        self.machine, self.steps, self.owner, self.signal = machine, steps, owner, signal
        self.number = len(machine.hooks)
        machine.hooks.append(self)

    def __repr__(self) -> str:
        return f"<hook {self.number}>"

    def __call__(self, *args: Any, **kwargs: Any) -> int:
        self.machine.see("hook", self.number, [self.machine.name(arg) for arg in args], self.machine.named(kwargs))
        owner = args[0] if args and isinstance(args[0], str) else self.owner  # what plugins register gets their name
        with self.machine.busy(owner, self.signal):
            self.machine.take_twice(self.steps)
        return self.number


class Value:
    """What a resource opens and closes."""

    def __init__(self, machine: Machine, name: tuple[int, int], opening: Steps, closing: Steps) -> None:
        self.machine, self.name, self.opening, self.closing = machine, name, opening, closing

    def __enter__(self) -> tuple[int, int]:
        self.machine.see("opening", self.name)
        self.machine.take_twice(self.opening)
        return self.name

    def __exit__(self, error_type: object, error: BaseException | None, traceback: object) -> None:
        self.machine.see("closing", self.name, error_type, type(error))
        self.machine.take_twice(self.closing)


class Machine:
    """Takes the steps of a program, and writes down what happens, and where."""

    def __init__(self, world: type[Real | Model]) -> None:
        self.log: list[Any] = []
        self.world: Any = world(self)
        self.plugins = {name: self.world.plugin(name) for name in PLUGINS}
        self.things: list[Any] = []
        self.hooks: list[Hook] = []
        self.resources: list[Any] = []
        self.taken: Counter[int] = Counter()
        self.threads = 0
        self.over: set[str] = set()  # the threads whose body has ended
        self.late: set[int] = set()  # what they have made since
        self.at_work: list[tuple[str, str, Any]] = []  # hooks that are running: plugin, signal, thread
        self.opening: list[Any] = []  # resources, in which thread

    def see(self, *what: Any) -> None:
        self.log.append((self.world.here.name, *what))

    def report(self, error: BaseException, thread: Any, hook: str | None, plugin: str | None) -> None:
        self.see("reported", type(error), thread.name, hook, plugin)

    def name(self, thing: Any) -> Any:
        if isinstance(thing, (threading.Thread, ModelThread)):
            return thing.name
        if isinstance(thing, tuple) and hasattr(thing, "thread"):  # the info
            return "info", thing.thread.name, thing.name
        if isinstance(thing, BaseException):
            return type(thing)
        if isinstance(thing, Hook):
            return repr(thing)
        if isinstance(thing, (threadhooks.threadref.ref, Record)):
            return "a dead reference" if thing() is None else "alive"
        return thing

    def named(self, things: dict[str, Any]) -> dict[str, Any]:
        return {key: self.name(value) for key, value in things.items()}

    @contextmanager
    def busy(self, plugin: str, signal: str) -> Generator[None]:
        self.at_work.append((plugin, signal, self.world.here))
        try:
            yield
        finally:
            self.at_work.pop()

    def run(self, mode: str, steps: Steps) -> list[Any]:
        self.start(mode, steps)
        self.log.append("joined")
        for number, thing in enumerate(self.things):
            if thing is not None:
                self.take([("read", number), ("peek", number), ("call", number)])
        self.log.append([self.world.connected(signal) for signal in SIGNALS])
        return self.log

    def start(self, mode: str, steps: Steps) -> None:
        """Run a thread to its end."""

        def body() -> None:
            try:
                self.take(steps)
            finally:
                self.over.add(self.world.here.name)

        self.threads += 1
        self.world.run(f"thread {self.threads}", mode, body)

    def keep(self, thing: Any) -> None:
        self.things.append(thing)
        if self.world.here.name in self.over:
            self.late.add(id(thing))

    def take(self, steps: Steps) -> None:
        for what, *args in steps:
            if what == "raise":
                raise args[0]
            try:
                self.see(what, getattr(self, "step_" + what.replace(" ", "_"))(*args))
            except BaseException as error:
                self.see(what, "raised", type(error))

    def take_twice(self, steps: Steps) -> None:
        """Take the steps of a hook, unless it has run twice: so no program is endless."""
        self.taken[id(steps)] += 1
        if self.taken[id(steps)] <= 2:
            self.take(steps)

    def thing(self, number: int) -> Any:
        return self.things[number % len(self.things)] if self.things else None

    # Steps: each returns what is to be compared.

    def step_finalize(self, steps: Steps) -> None:
        number = len(self.things)
        self.keep(self.world.finalize(Hook(self, steps), number, key=number))

    def step_derived(self, calls_super: bool, steps: Steps) -> None:
        """Make a finalizer of a class with a `__call__` of its own, which calls that of its base, or doesn't."""
        hook = Hook(self, steps)

        def override(alive: bool, call: Callable[[], Any]) -> Any:
            self.see("overridden", hook.number, alive)
            return call() if calls_super or not alive else self.take_twice(steps)

        self.keep(self.world.derived(override, hook))

    def step_ref(self, steps: Steps | None) -> None:
        self.keep(self.world.ref(None if steps is None else Hook(self, steps)))

    def step_drop(self, number: int) -> Any:
        thing = self.thing(number)
        if thing is None or id(thing) in self.late:
            return "undecided"  # when the references die that are made as the thread exits
        self.things[number % len(self.things)] = None
        self.world.drop(thing)
        return None

    def step_read(self, number: int) -> Any:
        """Of a reference, the thread; of a finalizer, whether it is alive."""
        thing = self.thing(number)
        if isinstance(thing, threadhooks.threadref.finalize) or (isinstance(thing, Record) and not thing.is_ref):
            return thing.alive
        return thing and self.name(thing())

    def step_peek(self, number: int, detach: bool = False) -> Any:
        thing = self.thing(number)
        if isinstance(thing, threadhooks.threadref.ref) or (isinstance(thing, Record) and thing.is_ref):
            return None
        state = thing and (thing.detach() if detach else thing.peek())
        return state and [self.name(part) for part in state]

    def step_detach(self, number: int) -> Any:
        return self.step_peek(number, detach=True)

    def step_call(self, number: int) -> Any:
        thing = self.thing(number)
        return thing and self.name(thing())

    def step_register(self, plugin: str, early: bool, steps: Steps) -> Any:
        return self.register(plugin, early, Hook(self, steps))

    def step_register_again(self, plugin: str, early: bool, number: int) -> Any:
        return self.register(plugin, early, self.hooks[number % len(self.hooks)]) if self.hooks else None

    def register(self, plugin: str, early: bool, hook: Hook) -> Any:
        owner = self.plugins[plugin]
        (owner.register_early if early else owner.register)(hook, plugin, key=early)
        return self.step_pending(plugin)

    def step_unregister(self, plugin: str, number: int) -> None:
        if self.hooks:
            self.plugins[plugin].unregister(self.hooks[number % len(self.hooks)])

    def step_pending(self, plugin: str) -> Any:
        pending = self.plugins[plugin].pending().items()
        return {thread.name: [[self.name(part) for part in entry] for entry in entries] for thread, entries in pending}

    def step_close(self, plugin: str, run: bool) -> Any:
        here = self.world.here
        # Called by hand, a finalizer is no hook.
        within_hook = here.name in self.over or any(
            thread is here and (owner or sent) for owner, sent, thread in self.at_work
        )
        if not within_hook and any(owner == plugin and thread is not here for owner, _, thread in self.at_work):
            return "would wait for that hook"
        self.plugins[plugin].close(run=run)
        return self.step_pending(plugin)

    def step_connect(self, signal: str, plugin: str, steps: Steps) -> Any:
        if any(sent == signal for _, sent, _ in self.at_work):
            return "undecided"  # whether what is connected during a send is called
        if plugin:
            self.plugins[plugin].connect(signal, Hook(self, steps, owner=plugin, signal=signal))
        else:
            self.world.connect(signal, Hook(self, steps, signal=signal))
        return None

    def step_resource(self, early: bool, opening: Steps, closing: Steps) -> Any:
        number = len(self.resources)

        def manager(arg: int) -> Value:
            return Value(self, (number, arg), opening, closing)

        def generator(arg: int) -> Generator[tuple[int, int]]:
            with manager(arg) as value:
                yield value

        resource = generator if number % 2 else manager
        resource.__qualname__ = f"resource {number}"
        self.resources.append(self.world.per_thread(resource, early))
        return self.step_use(number, 0)

    def step_use(self, number: int, arg: int) -> Any:
        if not self.resources:
            return None
        number %= len(self.resources)
        opening = number, self.world.here
        if opening in self.opening:
            return "endless"
        self.opening.append(opening)
        try:
            return self.resources[number](arg)
        except BaseException:
            self.world.attach()  # whether a use that fails attaches the thread is not promised
            raise
        finally:
            self.opening.pop()

    def step_close_value(self, number: int, arg: int) -> None:
        if self.resources:
            self.resources[number % len(self.resources)].close(arg)

    def step_muted(self, steps: Steps) -> None:
        with self.world.muting():
            self.take(steps)

    def step_thread(self, mode: str, steps: Steps) -> None:
        self.start(mode, steps)


# -- the programs

PLUGINS = ("red", "blue")
SIGNALS = ("thread_started", "thread_exiting", "thread_exited")
MODES = ("plain", "announced", "installed")

_which = st.integers(0, 5)  # one of those made so far, counted modulo their number
_plugin = st.sampled_from(PLUGINS)
_signal = st.sampled_from(SIGNALS)
_mode = st.sampled_from(MODES)

_leaves = st.one_of(
    st.tuples(st.sampled_from(["drop", "read", "peek", "detach", "call"]), _which),
    st.tuples(st.sampled_from(["drop", "detach", "call"]), _which),
    st.tuples(st.sampled_from(["use", "close value"]), _which, st.integers(0, 1)),
    st.tuples(st.just("register again"), _plugin, st.booleans(), _which),
    st.tuples(st.just("unregister"), _plugin, _which),
    st.tuples(st.just("pending"), _plugin),
    st.tuples(st.just("close"), _plugin, st.just(True)),
    st.tuples(st.just("close"), _plugin, st.booleans()),
    st.tuples(st.just("raise"), st.just(ValueError)),
    st.tuples(st.just("raise"), st.sampled_from([ValueError, SystemExit, KeyboardInterrupt, Fatal])),
)


def _branches(inner: st.SearchStrategy[Steps]) -> st.SearchStrategy[Step]:
    return st.one_of(
        st.tuples(st.just("finalize"), inner),
        st.tuples(st.just("finalize"), inner),
        st.tuples(st.just("derived"), st.booleans(), inner),
        st.tuples(st.just("ref"), inner),
        st.tuples(st.just("ref"), st.none() | inner),
        st.tuples(st.just("register"), _plugin, st.booleans(), inner),
        st.tuples(st.just("register"), _plugin, st.booleans(), inner),
        st.tuples(st.just("connect"), _signal, st.just("") | _plugin, inner),
        st.tuples(st.just("resource"), st.booleans(), inner, inner),
        st.tuples(st.just("thread"), _mode, inner),
        st.tuples(st.just("muted"), inner),
    )


_hooks = st.lists(_leaves, max_size=2)
for _ in range(2):
    _hooks = st.lists(_leaves | _branches(_hooks), max_size=3)
_programs = st.builds(
    list.__add__,
    st.lists(_branches(_hooks), min_size=2, max_size=6),
    st.lists(_leaves | _branches(_hooks), min_size=2, max_size=6),
)


def observe(world: type[Real | Model], mode: str, steps: Steps) -> list[Any]:
    machine = Machine(world)
    with ExitStack() as stack:
        if isinstance(machine.world, Real):
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            patch.setattr(threading, "excepthook", machine.world.report)
        for plugin in machine.plugins.values():
            stack.callback(plugin.close)
        return machine.run(mode, steps)


@settings(max_examples=120, deadline=None, print_blob=True)
@given(_mode, _programs)
@example("plain", [("register", "red", False, [("raise", ValueError)]), ("close", "red", True)])
@example("announced", [("connect", "thread_exiting", "red", [("register", "red", True, []), ("finalize", [])])])
@example("plain", [("ref", []), ("register", "red", True, [("drop", 0)])])
@example("plain", [("finalize", []), ("ref", []), ("ref", [("detach", 0), ("finalize", [])])])
def test_threads_do_as_the_model_says(mode: str, steps: Steps) -> None:
    """Whatever is registered, taken back, called or closed, by whom and when: all runs in the order of the model."""
    before = threading.enumerate()
    assert observe(Real, mode, steps) == observe(Model, mode, steps)
    assert threading.enumerate() == before
    assert not any(getattr(threadhooks, signal).receivers for signal in SIGNALS)
