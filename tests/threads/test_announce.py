"""Threads that announce themselves: `install`, `installed` and `announced`, the three signals, the early moment."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import itertools
import logging
import sys
import textwrap
import threading
import time
import traceback
import weakref
from _thread import start_new_thread
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from multiprocessing.pool import ThreadPool
from typing import Any

import pytest
from at_line import AtLine
from support import LONG, forks, in_thread, run

import threadhooks
from threadhooks import (
    Plugin,
    _attached,
    announced,
    install,
    installed,
    thread_exited,
    thread_exiting,
    thread_started,
    uninstall,
)
from threadhooks.threadref import finalize

SIGNALS = ["thread_started", "thread_exiting", "thread_exited"]
LIFE = ["thread_started", "run", "thread_exiting", "thread_exited"]

Body = Callable[[], object]
Events = list[tuple[str, threading.Thread]]


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test has put in the place of the methods of `threading.Thread` is gone when it ends."""
    monkeypatch.setattr(threading.Thread, "start", threading.Thread.start)
    monkeypatch.setattr(threading.Thread, "run", threading.Thread.run)
    yield
    uninstall()


@pytest.fixture
def plugin() -> Iterator[Plugin]:
    with Plugin("announce tests") as plugin:
        yield plugin


@pytest.fixture
def events(plugin: Plugin) -> Events:
    """Which signal spoke of which thread, in order; tests add what else happens."""
    happened: Events = []
    for signal in SIGNALS:
        getattr(plugin, signal)(lambda thread, signal=signal, **extra: happened.append((signal, thread)))
    return happened


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is reported to `threading.excepthook` is dropped, so that no report keeps an exception."""
    monkeypatch.setattr(threading, "excepthook", lambda args: None)


def lives(events: Events) -> dict[threading.Thread, list[str]]:
    """What happened in each thread."""
    found: dict[threading.Thread, list[str]] = {}
    for what, thread in events:
        found.setdefault(thread, []).append(what)
    return found


def note(events: Events, what: str) -> Body:
    """A function that notes what happens, and in which thread."""
    return lambda: events.append((what, threading.current_thread()))


def noting(events: Events) -> Body:
    return note(events, "run")


Announce = Callable[..., threading.Thread]


@pytest.fixture(params=["installed", "announced"])
def announce(request: pytest.FixtureRequest) -> Announce:
    """Run a body in a thread that announces itself, in one of the two ways; `before` gets it before it starts."""

    def under_install(body: Body, before: Callable[[threading.Thread], object] = lambda thread: None, **kwargs: Any):
        thread = threading.Thread(target=body, **kwargs)
        before(thread)
        with installed():
            return run(thread)

    def by_itself(body: Body, before: Callable[[threading.Thread], object] = lambda thread: None, **kwargs: Any):
        def announcing() -> None:
            with announced():
                body()

        thread = threading.Thread(target=announcing, **kwargs)
        before(thread)
        return run(thread)

    return under_install if request.param == "installed" else by_itself


# Every kind of thread


class OverridesRun(threading.Thread):
    """A thread whose body is its method."""

    def __init__(self, body: Body, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.body = body

    def run(self) -> None:
        self.body()


class OverridesStart(threading.Thread):
    def start(self) -> None:
        self.started_by = threading.current_thread()
        super().start()


class OverridesBoth(OverridesStart, OverridesRun):
    pass


class OverridesRunAndCallsIt(threading.Thread):
    def run(self) -> None:
        super().run()


class WrapsItsRun(OverridesRun):
    """A thread whose `start` replaces its `run`."""

    def start(self) -> None:
        self.run = self.wrapped  # type: ignore[method-assign]
        super().start()

    def wrapped(self) -> None:
        type(self).run(self)


class Guarded(OverridesRun):
    """A thread on which nobody is to set or delete what it does not know."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == "run":
            raise AttributeError(name)
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name == "run":
            raise AttributeError(name)
        super().__delattr__(name)


def with_run_attribute(body: Body) -> None:
    thread = threading.Thread()
    thread.run = lambda *_: body()  # type: ignore[method-assign, assignment, misc]
    run(thread)


def with_run_attribute_of_a_subclass(body: Body) -> None:
    thread = OverridesBoth(int)
    thread.run = lambda *_: body()  # type: ignore[method-assign, assignment, misc]
    run(thread)


def with_static_run(body: Body) -> None:
    run(type("Static", (threading.Thread,), {"run": staticmethod(body)})())


def with_partial_run(body: Body) -> None:
    run(type("Partial", (threading.Thread,), {"run": functools.partialmethod(lambda self, what: what(), body)})())


def with_an_executor(body: Body) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(body).result(LONG)


def with_asyncio(body: Body) -> None:
    async def main() -> None:
        await asyncio.to_thread(body)

    asyncio.run(main())


def with_a_thread_pool(body: Body) -> None:
    pool = ThreadPool(1)
    pool.apply(body)
    pool.close()
    pool.join()


KINDS: dict[str, Callable[[Body], object]] = {
    "plain": in_thread,
    "daemon": lambda body: run(threading.Thread(target=body, daemon=True)),
    "timer": lambda body: run(threading.Timer(0, body)),
    "executor": with_an_executor,
    "to_thread": with_asyncio,
    "ThreadPool": with_a_thread_pool,
    "overrides run": lambda body: run(OverridesRun(body)),
    "overrides run, and calls it": lambda body: run(OverridesRunAndCallsIt(target=body)),
    "overrides start": lambda body: run(OverridesStart(target=body)),
    "overrides both": lambda body: run(OverridesBoth(body)),
    "overrides both, daemon": lambda body: run(OverridesBoth(body, daemon=True)),
    "start wraps run": lambda body: run(WrapsItsRun(body)),
    "guards its attributes": lambda body: run(Guarded(body)),
    "run set on the instance": with_run_attribute,
    "run set on an instance that overrides both": with_run_attribute_of_a_subclass,
    "run is a static method": with_static_run,
    "run is a partial method": with_partial_run,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_thread_announces_itself(kind: str, events: Events) -> None:
    """Whatever its class and whoever starts it, a thread sends each signal once, around one execution of `run()`."""
    with installed():
        KINDS[kind](noting(events))
    found = lives(events)
    assert list(found.values()).count(LIFE) == 1
    assert all([what for what in life if what != "run"] == SIGNALS for life in found.values())


@pytest.mark.parametrize("kind", KINDS)
def test_without_install_no_kind_of_thread_announces_itself(kind: str, events: Events) -> None:
    """Before `install`, and after `uninstall`, threads are as they are without us."""
    KINDS[kind](noting(events))
    install()
    uninstall()
    KINDS[kind](noting(events))
    assert [what for what, thread in events] == ["run", "run"]


def test_a_thread_that_a_thread_starts(events: Events) -> None:
    """It makes no difference which thread starts a thread; each speaks of itself alone."""
    with installed():
        outer = in_thread(lambda: in_thread(noting(events)))
    found = lives(events)
    inner = next(thread for thread in found if thread is not outer)
    assert found == {outer: SIGNALS, inner: LIFE}


def test_many_threads_at_once(events: Events) -> None:
    """Each of many threads sends its three signals once, whatever the others do."""
    together = threading.Barrier(50)

    def body() -> None:
        together.wait(LONG)
        noting(events)()

    with installed():
        threads = [threading.Thread(target=body) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
    assert lives(events) == dict.fromkeys(threads, LIFE)


def test_a_thread_that_threading_does_not_start(events: Events) -> None:
    """A thread of `_thread` says nothing under `install`; with `announced` it does, and is known to be foreign."""
    ended = threading.Semaphore(0)
    infos: list[threadhooks.ThreadInfo] = []

    def plain() -> None:
        ended.release()

    def announcing() -> None:
        with announced() as info:
            infos.append(info)
        ended.release()

    with installed():
        start_new_thread(plain, ())
        start_new_thread(announcing, ())
        assert ended.acquire(timeout=LONG)
        assert ended.acquire(timeout=LONG)
    [info] = infos
    assert info.foreign
    assert [event for event in events if event[0] != "thread_exited"] == [
        ("thread_started", info.thread),
        ("thread_exiting", info.thread),
    ]


@pytest.mark.parametrize("setter", [None, lambda self, run: setattr(self, "_own", run)], ids=["read-only", "settable"])
def test_a_thread_whose_run_is_a_property(events: Events, setter: Any) -> None:
    """A thread whose class has a property in the place of `run` is started all the same, and runs once."""
    body = noting(events)
    thread = type("Property", (threading.Thread,), {"run": property(lambda self: self._own, setter)})()
    thread._own = body  # type: ignore[attr-defined]
    with installed():
        run(thread)
    assert events == [("run", thread)]


def test_a_thread_that_is_attached_before_it_announces_itself(plugin: Plugin) -> None:
    """The early moment comes though a tool beneath has wrapped `run`, and registers something before it is ours."""
    local = threading.local()
    seen: list[object] = []

    def target() -> None:
        local.value = "there"
        plugin.register_early(lambda: seen.append(getattr(local, "value", None)))

    start = threading.Thread.start

    def wrapping(thread: threading.Thread) -> None:
        inner = thread.run

        def outer() -> None:
            finalize(int)
            inner()

        thread.run = outer  # type: ignore[method-assign]
        start(thread)

    threading.Thread.start = wrapping  # type: ignore[method-assign]
    try:
        with installed():
            in_thread(target)
    finally:
        threading.Thread.start = start  # type: ignore[method-assign]
    assert seen == ["there"]


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_a_thread_that_can_not_be_announced(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch, plugin: Plugin, reports: Any
) -> None:
    """What fails before `run()` is reported, and `run()` is called; but an exit is an exit. Nothing stays behind."""
    ran: list[int] = []

    def fail(thread: threading.Thread) -> None:
        raise error

    plugin.thread_started(lambda thread, **extra: None)
    monkeypatch.setattr("threadhooks.announce._begin", fail)
    with installed():
        in_thread(lambda: ran.append(1))
    assert ran == ([1] if error is RuntimeError else [])
    assert [report.exc_type for report in reports] == [error]
    assert _attached.announcing == {}


def test_run_that_is_called_by_hand(events: Events) -> None:
    """`run()` that somebody calls without `start()` is a function call: no thread begins, and none ends."""
    with installed():
        OverridesRun(noting(events)).run()
    assert events == [("run", threading.current_thread())]


# install and uninstall, as often as one likes


def test_to_install_twice_is_to_install_once(events: Events) -> None:
    """However often `install` was called, the signals come once, and one `uninstall` undoes it."""
    for _ in range(3):
        install()
    thread = in_thread(noting(events))
    assert lives(events) == {thread: LIFE}
    uninstall()
    in_thread(int)
    assert lives(events) == {thread: LIFE}


def test_to_uninstall_twice_does_no_harm(events: Events) -> None:
    """`uninstall` where nothing is installed does nothing, and a later `install` works."""
    uninstall()
    install()
    uninstall()
    uninstall()
    install()
    thread = in_thread(noting(events))
    assert lives(events) == {thread: LIFE}


def test_blocks_nest(events: Events) -> None:
    """Until the outermost block of `installed` has ended, threads announce themselves, and once."""
    with installed():
        with installed():
            threads = [in_thread(noting(events))]
        threads.append(in_thread(noting(events)))
    in_thread(int)
    assert lives(events) == dict.fromkeys(threads, LIFE)


def test_blocks_overlap(events: Events) -> None:
    """The block that was entered first may be left first: the other one stays in force."""
    first, second = ExitStack(), ExitStack()
    first.enter_context(installed())
    second.enter_context(installed())
    first.close()
    thread = in_thread(noting(events))
    second.close()
    in_thread(int)
    assert lives(events) == {thread: LIFE}


def test_a_block_does_not_undo_install(events: Events) -> None:
    """`install` outlives a block of `installed` that came later, or was left later."""
    install()
    with installed():
        pass
    with installed():
        install()
    thread = in_thread(noting(events))
    assert lives(events) == {thread: LIFE}


def test_uninstall_does_not_undo_a_block(events: Events) -> None:
    """`uninstall` leaves the blocks of `installed` in force."""
    install()
    with installed():
        uninstall()
        thread = in_thread(noting(events))
    in_thread(int)
    assert lives(events) == {thread: LIFE}


def test_a_block_reaches_threads_that_other_threads_start(events: Events) -> None:
    """A block of `installed` is in force for whoever starts a thread, not for the thread that entered it alone."""
    entered, started = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def starter() -> None:
        assert entered.wait(LONG)
        threads.append(in_thread(noting(events)))
        started.set()

    other = threading.Thread(target=starter)
    other.start()
    with installed():
        entered.set()
        assert started.wait(LONG)
    other.join(LONG)
    assert lives(events) == {threads[0]: LIFE}


def test_a_block_that_raises(events: Events) -> None:
    """What is raised in a block of `installed` gets through, and the block has ended."""
    error = ValueError()
    with pytest.raises(ValueError) as caught, installed():
        raise error
    in_thread(int)
    assert caught.value is error
    assert events == []


def test_blocks_of_many_threads(events: Events) -> None:
    """In a block of `installed`, threads announce themselves, also while other threads enter and leave their blocks."""
    original = threading.Thread.start
    done = threading.Event()

    def enter_and_leave() -> None:
        while not done.is_set():
            with installed():
                pass

    def is_announced() -> bool:
        with installed():
            thread = in_thread(int)
        return lives(events).get(thread) == SIGNALS

    others = [threading.Thread(target=enter_and_leave) for _ in range(2)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in others:
            thread.start()
        deadline = time.monotonic() + 0.2
        results = []
        while time.monotonic() < deadline:
            results.append(is_announced())
    finally:
        sys.setswitchinterval(interval)
        done.set()
        for thread in others:
            thread.join(LONG)
    assert results.count(False) == 0
    assert threading.Thread.start is original


class PausedAt(threading.Thread):
    """Executes `body`, and waits before it executes the line of threadhooks with that number, until `resume` is set."""

    def __init__(self, number: int, body: Body) -> None:
        super().__init__()
        self.body = body
        self.line = AtLine(number, self.pause)
        self.paused, self.resume = threading.Event(), threading.Event()

    def run(self) -> None:
        try:
            self.line.run(self.body)
        finally:
            self.paused.set()

    def pause(self) -> None:
        self.paused.set()
        assert self.resume.wait(LONG)


@pytest.mark.parametrize("other", ["enters", "leaves"])
def test_blocks_of_two_threads_step_by_step(other: str, events: Events) -> None:
    """Wherever another thread stops as it enters or leaves its block, ours is in force; in the end nothing is left."""
    original = threading.Thread.start
    for number in itertools.count():
        mine, theirs = ExitStack(), ExitStack()
        if other == "leaves":
            theirs.enter_context(installed())
        thread = PausedAt(number, lambda: theirs.enter_context(installed()) if other == "enters" else theirs.close())
        thread.start()
        assert thread.paused.wait(LONG)
        entered: list[threading.Thread] = []

        def enter() -> None:
            mine.enter_context(installed())
            entered.append(in_thread(int))

        entering = threading.Thread(target=enter)
        entering.start()
        entering.join(0.02)  # it may have to wait for the other one
        thread.resume.set()
        thread.join(LONG)
        entering.join(LONG)
        entered.append(in_thread(int))
        mine.close()
        theirs.close()
        assert [lives(events).get(thread) for thread in entered] == [SIGNALS] * 2, number
        assert threading.Thread.start is original, number
        if not thread.line.reached:
            assert number > 1
            break


def test_uninstall_while_threads_run(events: Events) -> None:
    """A thread that was started under `install` announces its end, though `uninstall` was called meanwhile."""
    running, leave = threading.Event(), threading.Event()

    def body() -> None:
        running.set()
        assert leave.wait(LONG)
        noting(events)()

    thread = threading.Thread(target=body)
    with installed():
        thread.start()
        assert running.wait(LONG)
    leave.set()
    thread.join(LONG)
    assert lives(events) == {thread: LIFE}


@pytest.mark.parametrize("attaches", [False, True])
def test_threads_that_run_already(attaches: bool, events: Events, no_report: None) -> None:
    """`install` does not reach threads that were started before; if one attaches itself, only its exit is told."""
    running, leave = threading.Event(), threading.Event()

    def body() -> None:
        running.set()
        assert leave.wait(LONG)
        if attaches:
            threadhooks.attach()
        raise ValueError

    thread = threading.Thread(target=body)
    thread.start()
    assert running.wait(LONG)
    with installed():
        leave.set()
        thread.join(LONG)
    assert events == [("thread_exited", thread)] * attaches


def test_what_counts_is_the_start(events: Events) -> None:
    """A thread that was made before `install` and is started under it announces itself; the reverse does not."""
    before = threading.Thread(target=noting(events))
    with installed():
        run(before)
        after = threading.Thread(target=noting(events))
    run(after)
    assert lives(events) == {before: LIFE, after: ["run"]}


# Documented interfaces alone, and nothing left


def snapshot() -> dict[str, object]:
    """Everything that stands in `threading`, and in its classes."""
    found: dict[str, object] = {}
    for name, value in vars(threading).items():
        found[name] = value
        if isinstance(value, type):
            found.update({f"{name}.{key}": member for key, member in vars(value).items()})
    return found


def test_start_is_all_that_is_replaced() -> None:
    """`install` changes nothing in `threading` but the documented methods `start`; `uninstall` puts these back."""
    before = snapshot()
    with installed():
        during = snapshot()
        changed = {name for name in during if name not in before or during[name] is not before[name]}
    after = snapshot()
    assert changed <= {"Thread.start", "Timer.start"}
    assert before.keys() <= during.keys()
    assert after.keys() == before.keys()
    assert [name for name in after if after[name] is not before[name]] == []


def test_start_looks_as_before() -> None:
    """What is in the place of `Thread.start` has its name and its documentation."""
    original = threading.Thread.start
    with installed():
        start = threading.Thread.start
        assert (start.__name__, start.__qualname__, start.__module__) == ("start", "Thread.start", "threading")
        assert start.__doc__ == original.__doc__


def test_start_hands_arguments_on() -> None:
    """Whatever somebody's `Thread.start` takes gets through to it."""
    got: list[object] = []
    threading.Thread.start = lambda self, *args, **kwargs: got.extend([args, kwargs])  # type: ignore[method-assign]
    with installed():
        threading.Thread().start(1, two=2)  # type: ignore[call-arg]
    assert got == [(1,), {"two": 2}]


def test_start_hands_the_result_on() -> None:
    """Whatever somebody's `Thread.start` returns is returned."""
    threading.Thread.start = lambda self: self  # type: ignore[method-assign, assignment, return-value]
    thread = threading.Thread()
    with installed():
        assert thread.start() is thread  # type: ignore[func-returns-value]


def attributes(thread: threading.Thread) -> dict[str, type]:
    return {name: type(value) for name, value in vars(thread).items()}


TRACELESS: dict[str, Callable[[Body], threading.Thread]] = {
    "plain": lambda body: threading.Thread(target=body),
    "timer": lambda body: threading.Timer(0, body),
    "overrides run": OverridesRun,
    "overrides both": OverridesBoth,
    "start wraps run": WrapsItsRun,
    "guards its attributes": Guarded,
}


@pytest.mark.parametrize("make", TRACELESS.values(), ids=TRACELESS)
def test_no_trace_on_the_thread(make: Callable[[Body], threading.Thread]) -> None:
    """In `run()`, and after it, a thread object has the attributes of a bare one."""

    def look() -> None:
        seen.append(attributes(threading.current_thread()))

    def traces() -> list[dict[str, type]]:
        seen.clear()
        thread = make(look)
        seen.append(attributes(thread))
        run(thread)
        return [*seen, attributes(thread)]

    seen: list[dict[str, type]] = []
    bare = traces()
    with installed():
        assert traces() == bare


def test_no_trace_in_the_signals(plugin: Plugin) -> None:
    """Receivers see no attribute of ours either."""
    seen: list[bool] = []
    for signal in SIGNALS:
        getattr(plugin, signal)(lambda thread, **extra: seen.append("run" in vars(thread)))
    with installed():
        in_thread(int)
    assert seen == [False] * 3


@pytest.mark.parametrize("own", ["function", "bound method", "method of the class", "partial"])
def test_run_that_was_set_on_the_instance_stays(own: str) -> None:
    """The attribute `run` that somebody has set is there again as it begins, and after it."""
    seen: list[object] = []

    class Looks(threading.Thread):
        def run(self) -> None:
            seen.append(vars(self).get("run"))

    thread = Looks()
    mine: Any = {
        "function": lambda: Looks.run(thread),
        "bound method": functools.partial(Looks.run, thread).__call__,
        "method of the class": thread.run,
        "partial": functools.partial(Looks.run, thread),
    }[own]
    thread.run = mine  # type: ignore[method-assign]
    with installed():
        run(thread)
    assert seen == [mine]
    assert vars(thread).get("run") is mine


def crash() -> None:
    raise ValueError("crash")


# WrapsItsRun is in a cycle by itself.
without_cycle = pytest.mark.parametrize("make", [make for make in TRACELESS.values() if make is not WrapsItsRun])


@without_cycle
@pytest.mark.parametrize("body", [int, crash], ids=["normal", "crash"])
def test_no_cycle(
    make: Callable[[Body], threading.Thread], body: Body, plugin: Plugin, no_report: None, no_collection: None
) -> None:
    """A thread object dies with its last reference, without the garbage collector, be receivers connected or not."""
    for connect in (False, True):
        if connect:
            for signal in SIGNALS:
                getattr(plugin, signal)(lambda thread, **extra: None)
        with installed():
            thread = run(make(body))
        alive = weakref.ref(thread)
        del thread
        assert alive() is None


def test_no_cycle_with_run_on_the_instance(no_collection: None) -> None:
    """The same for a thread whose `run` was set on the instance."""
    thread = threading.Thread()
    thread.run = int  # type: ignore[method-assign, assignment]
    with installed():
        run(thread)
    alive = weakref.ref(thread)
    del thread
    assert alive() is None


@without_cycle
def test_no_cycle_in_a_thread_that_could_not_be_started(
    make: Callable[[Body], threading.Thread], no_collection: None
) -> None:
    """The same for a thread that could not be started."""
    thread = make(int)
    with installed(), no_threads(), suppress(RuntimeError):
        thread.start()
    alive = weakref.ref(thread)
    del thread
    assert alive() is None


@pytest.mark.parametrize("kind", ["plain", "overrides run", "run set on the instance"])
def test_one_frame(kind: str) -> None:
    """`run()` is called one frame deeper than in a bare thread."""

    def count() -> None:
        frame, depth = sys._getframe(), 0
        while frame.f_back is not None:
            frame, depth = frame.f_back, depth + 1
        depths.append(depth)

    depths: list[int] = []
    KINDS[kind](count)
    with installed():
        KINDS[kind](count)
    assert depths[1] == depths[0] + 1


# When a thread can't be started


class no_threads:
    """The operating system refuses to start threads: it really does, since a stack of that size can't be had."""

    def __enter__(self) -> None:
        self.size = threading.stack_size(1 << 60)

    def __exit__(self, *_: object) -> None:
        threading.stack_size(self.size)


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[..., AbstractContextManager[None]]:
    """Let `_thread` raise an error instead of starting a thread, and do nothing else."""

    @contextmanager
    def refusing(error: BaseException | None = None) -> Iterator[None]:
        def refuse(*args: object, **kwargs: object) -> None:
            raise error or RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            name = "_start_joinable_thread" if sys.version_info >= (3, 13) else "_start_new_thread"
            patch.setattr(threading, name, refuse)
            yield

    return refusing


Refuse = Callable[..., AbstractContextManager[None]]


@pytest.mark.parametrize("make", TRACELESS.values(), ids=TRACELESS)
def test_a_thread_that_could_not_be_started(make: Callable[[Body], threading.Thread], events: Events) -> None:
    """If there can be no more threads, `start()` raises what it raises, and the thread is what a bare one is then."""

    def fails() -> tuple[list[str], str, dict[str, type]]:
        events.clear()
        thread = make(noting(events))
        with no_threads(), pytest.raises(RuntimeError) as caught:
            thread.start()
        state = attributes(thread)
        with suppress(RuntimeError):  # CPython 3.13.0 takes it for started
            run(thread)
        return [what for what, _ in events], str(caught.value), state

    happened, *bare = fails()
    with installed():
        announced_too, *ours = fails()
    assert ours == bare
    assert bare[0] == "can't start new thread"
    assert announced_too == (LIFE if happened else [])


@pytest.mark.parametrize("make", TRACELESS.values(), ids=TRACELESS)
def test_a_thread_that_could_not_be_started_can_be_started_again(
    make: Callable[[Body], threading.Thread], events: Events, refuse: Refuse
) -> None:
    """A thread that could not be started, however often, can be started later, and announces itself once."""
    thread = make(noting(events))
    with installed():
        for _ in range(3):
            with refuse(), pytest.raises(RuntimeError):
                thread.start()
        assert events == []
        run(thread)
    assert lives(events) == {thread: LIFE}


def test_after_a_failed_start_it_is_started_without_us(events: Events, refuse: Refuse) -> None:
    """A thread that could not be started under `install` is a plain one after `uninstall`."""
    thread = threading.Thread(target=noting(events))
    with installed(), refuse(), pytest.raises(RuntimeError):
        thread.start()
    run(thread)
    assert events == [("run", thread)]


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, KeyboardInterrupt, SystemExit])
def test_what_starting_raises_gets_through(error: type[BaseException], events: Events, refuse: Refuse) -> None:
    """Whatever the starting of a thread raises is what `start()` raises, and later the thread can be started."""
    raised = error("no")
    thread = threading.Thread(target=noting(events))
    with installed():
        with refuse(raised), pytest.raises(error) as caught:
            thread.start()
        assert caught.value is raised
        run(thread)
    assert lives(events) == {thread: LIFE}
    assert "run" not in vars(thread)


@pytest.mark.parametrize("ended", [False, True], ids=["running", "ended"])
def test_a_thread_is_started_once(ended: bool, events: Events) -> None:
    """To start a thread twice raises as ever, changes nothing about it, and announces nothing."""
    running, leave = threading.Event(), threading.Event()

    def body() -> None:
        running.set()
        assert leave.wait(LONG)
        noting(events)()

    thread = threading.Thread(target=body)
    with installed():
        thread.start()
        assert running.wait(LONG)
        if ended:
            leave.set()
            thread.join(LONG)
        before = vars(thread).copy()
        with pytest.raises(RuntimeError, match="threads can only be started once"):
            thread.start()
        assert vars(thread).keys() == before.keys()
        leave.set()
        thread.join(LONG)
    assert lives(events) == {thread: LIFE}


def test_a_thread_that_is_started_twice_at_once(events: Events) -> None:
    """Starting it again while it is about to begin disturbs it neither: it runs, and announces itself, once."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with installed():
            threads = [threading.Thread(target=noting(events)) for _ in range(300)]
            for thread in threads:
                thread.start()
                for _ in range(5):
                    with pytest.raises(RuntimeError, match="threads can only be started once"):
                        thread.start()
                thread.join(LONG)
    finally:
        sys.setswitchinterval(interval)
    assert lives(events) == dict.fromkeys(threads, LIFE)
    assert [thread for thread in threads if "run" in vars(thread)] == []


def test_a_thread_without_init() -> None:
    """A subclass that forgets to call `__init__` gets the error that it gets without us, and no attribute."""

    class Forgetful(threading.Thread):
        def __init__(self) -> None:
            pass

    thread = Forgetful()
    with installed(), pytest.raises(RuntimeError, match=r"thread\.__init__\(\) not called"):
        thread.start()
    assert vars(thread) == {}


def test_an_interrupt_while_starting(events: Events) -> None:
    """If an interrupt makes `start()` raise though the thread was started, the thread announces itself all the same."""

    class Interrupted(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            super().wait(timeout)
            raise KeyboardInterrupt

        def set(self) -> None:  # in the new thread, which goes on when start() has raised
            super().set()
            assert raised.wait(LONG)

    raised = threading.Event()
    thread = threading.Thread(target=noting(events))
    thread._started = Interrupted()  # type: ignore[attr-defined]  # what start() waits for
    with installed():
        with pytest.raises(KeyboardInterrupt):
            thread.start()
        raised.set()
        thread.join(LONG)
    assert lives(events) == {thread: LIFE}
    assert "run" not in vars(thread)


def test_starting_fails_in_a_thread_of_its_own(events: Events, reports: list[threading.ExceptHookArgs]) -> None:
    """The failure belongs to the thread that starts; it ends, and announces itself, as after any other error."""
    inner = threading.Thread()

    def body() -> None:
        noting(events)()
        with no_threads():
            inner.start()

    with installed():
        outer = in_thread(body)
    assert lives(events) == {outer: LIFE}
    assert [(report.exc_type, report.thread) for report in reports] == [(RuntimeError, outer)]


# Other tools that wrap the same methods


class Tool:
    """A tool that wraps methods of `threading.Thread` for itself, and notes the threads that run in its wrapper."""

    def __init__(self, events: Events) -> None:
        self.events = events
        self.active = False

    def note(self) -> None:
        if self.active:
            self.events.append(("tool", threading.current_thread()))

    def install(self) -> None:
        self.active = True
        self.found = threading.Thread.start, threading.Thread.run
        self.wrap(*self.found)
        self.made = threading.Thread.start, threading.Thread.run

    def wrap(self, start: Any, run: Any) -> None:
        raise NotImplementedError

    def uninstall(self) -> None:
        """Put back what was found, if nobody has come since; otherwise only cease."""
        self.active = False
        for name, found, made in zip(("start", "run"), self.found, self.made, strict=True):
            if getattr(threading.Thread, name) is made:
                setattr(threading.Thread, name, found)


class WrapsRunOfTheInstance(Tool):
    """In `start`, it replaces the `run` of the thread, with a function that calls what it found there."""

    def wrap(self, start: Any, run: Any) -> None:
        @functools.wraps(start)
        def tool_start(thread: threading.Thread, *args: Any, **kwargs: Any) -> Any:
            found = thread.run

            def tool_run(*args: Any, **kwargs: Any) -> Any:
                self.note()
                return found(*args, **kwargs)

            thread.run = tool_run  # type: ignore[method-assign]
            return start(thread, *args, **kwargs)

        threading.Thread.start = tool_start  # type: ignore[method-assign]


class WrapsTheFunctionOfTheInstance(Tool):
    """As sentry-sdk: it takes the function out of a bound method, and calls it with the thread."""

    def wrap(self, start: Any, run: Any) -> None:
        @functools.wraps(start)
        def tool_start(thread: threading.Thread, *args: Any, **kwargs: Any) -> Any:
            found: Any = getattr(thread.run, "__func__", thread.run)

            @functools.wraps(found)
            def tool_run(*args: Any, **kwargs: Any) -> Any:
                self.note()
                return found(threading.current_thread(), *args[1:], **kwargs)

            thread.run = tool_run  # type: ignore[method-assign]
            return start(thread, *args, **kwargs)

        threading.Thread.start = tool_start  # type: ignore[method-assign]


class HidesWhatItWraps(Tool):
    """It replaces `run` of the instance, and does not say what it has wrapped: it has no ``__wrapped__``."""

    def wrap(self, start: Any, run: Any) -> None:
        def tool_start(thread: threading.Thread) -> None:
            found = thread.run

            def tool_run() -> None:
                self.note()
                found()

            thread.run = tool_run  # type: ignore[method-assign]
            start(thread)

        threading.Thread.start = tool_start  # type: ignore[method-assign]


class WrapsBothMethods(Tool):
    """As OpenTelemetry: wrappers of both methods of the class; `start` leaves something on the thread for `run`."""

    def wrap(self, start: Any, run: Any) -> None:
        @functools.wraps(start)
        def tool_start(thread: threading.Thread, *args: Any, **kwargs: Any) -> Any:
            thread._of_a_tool = True  # type: ignore[attr-defined]
            return start(thread, *args, **kwargs)

        @functools.wraps(run)
        def tool_run(thread: threading.Thread, *args: Any, **kwargs: Any) -> Any:
            if vars(thread).get("_of_a_tool"):
                self.note()
            return run(thread, *args, **kwargs)

        threading.Thread.start = tool_start  # type: ignore[method-assign]
        threading.Thread.run = tool_run  # type: ignore[method-assign]


TOOLS = [WrapsRunOfTheInstance, WrapsTheFunctionOfTheInstance, HidesWhatItWraps, WrapsBothMethods]

tools = pytest.mark.parametrize("kind", TOOLS, ids=lambda kind: kind.__name__)

COMMON = ["plain", "timer", "overrides run", "overrides both", "run set on the instance"]
RARE = ["run is a static method", "run is a partial method"]  # to which such a tool as sentry-sdk passes the thread
CASES = [(kind, name) for kind in TOOLS for name in COMMON + RARE * (kind is not WrapsTheFunctionOfTheInstance)]


def what_happens(events: Events, start: Callable[[Body], object] = in_thread) -> tuple[list[str], int]:
    """What a thread tells of itself, and how often the tool notes it."""
    events.clear()
    start(noting(events))
    return [what for what, thread in events if what != "tool"], [what for what, thread in events].count("tool")


@pytest.mark.parametrize(("kind", "start"), CASES, ids=lambda case: getattr(case, "__name__", case))
@pytest.mark.parametrize("ours_first", [True, False], ids=["we come first", "the tool comes first"])
def test_another_tool(kind: type[Tool], ours_first: bool, start: str, events: Events, no_report: None) -> None:
    """Beside another tool each thread announces itself once, and the tool does what it does without us."""
    tool = kind(events)
    tool.install()
    alone = what_happens(events, KINDS[start])
    tool.uninstall()
    for step in (install, tool.install) if ours_first else (tool.install, install):
        step()
    assert what_happens(events, KINDS[start]) == (LIFE, alone[1])


@tools
@pytest.mark.parametrize("ours_first", [True, False], ids=["we come first", "the tool comes first"])
@pytest.mark.parametrize("ours_ends_first", [True, False], ids=["we go first", "the tool goes first"])
def test_another_tool_is_uninstalled(kind: type[Tool], ours_first: bool, ours_ends_first: bool, events: Events) -> None:
    """In whichever order the two are uninstalled, the one that stays does its work; and we can come back."""
    tool = kind(events)
    for step in (install, tool.install) if ours_first else (tool.install, install):
        step()
    if ours_ends_first:
        uninstall()
        assert what_happens(events) == (["run"], 1)
        tool.uninstall()
    else:
        tool.uninstall()
        assert what_happens(events) == (LIFE, 0)
        uninstall()
    assert what_happens(events) == (["run"], 0)
    install()
    assert what_happens(events) == (LIFE, 0)


@tools
def test_a_tool_before_us_and_a_tool_after_us(kind: type[Tool], events: Events) -> None:
    """Between two other tools, threads announce themselves once as well, and both tools do their work."""
    for other in TOOLS:
        before, after = kind(events), other(events)
        for step in (before.install, install, after.install):
            step()
        assert what_happens(events) == (LIFE, 2), other
        for step in (uninstall, after.uninstall, before.uninstall):
            step()
        uninstall()
        assert what_happens(events) == (["run"], 0), other


@tools
def test_installing_again_above_another_tool(kind: type[Tool], events: Events) -> None:
    """If `install` is called anew when another tool has come in between, it is still once."""
    install()
    tool = kind(events)
    tool.install()
    install()
    with installed():
        assert what_happens(events) == (LIFE, 1)
    uninstall()
    assert what_happens(events) == (["run"], 1)
    install()
    assert what_happens(events) == (LIFE, 1)


def test_a_tool_that_removes_us(events: Events) -> None:
    """When a tool puts back the `start` from before us, `install` brings us back, and `uninstall` does not touch it."""
    original = threading.Thread.start
    install()
    threading.Thread.start = original  # type: ignore[method-assign]
    assert what_happens(events) == (["run"], 0)
    install()
    assert what_happens(events) == (LIFE, 0)
    threading.Thread.start = original  # type: ignore[method-assign]
    uninstall()
    assert threading.Thread.start is original


def test_what_stood_in_the_class_is_put_back() -> None:
    """A tool whose wrapper is a descriptor of its own, as wrapt's are, finds that very object in the class again."""

    class Descriptor:
        def __get__(self, thread: threading.Thread | None, owner: type) -> Any:
            return functools.partial(original, *([thread] if thread is not None else []))

    original = threading.Thread.start
    threading.Thread.start = wrapper = Descriptor()  # type: ignore[method-assign, assignment]
    with installed():
        assert vars(threading.Thread)["start"] is not wrapper
        in_thread(int)
    assert vars(threading.Thread)["start"] is wrapper


def test_a_tool_that_has_wrapped_what_a_subclass_inherits(events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool that has put a wrapper of `Thread.start` on `Timer` before us, as OpenTelemetry does, hides no timer."""
    original = threading.Thread.start

    @functools.wraps(original)
    def start(self: threading.Thread) -> None:
        events.append(("tool", self))
        original(self)

    monkeypatch.setattr(threading.Timer, "start", start, raising=False)
    install()
    assert what_happens(events, KINDS["timer"]) == (LIFE, 1)
    uninstall()
    assert what_happens(events, KINDS["timer"]) == (["run"], 1)


@tools
def test_a_thread_that_cannot_be_started_under_a_tool(kind: type[Tool], events: Events, refuse: Refuse) -> None:
    """If it can't be started, nothing of ours stays between the tools: it can be started later, and tells once."""
    for ours_first in (True, False):
        tool = kind(events)
        for step in (install, tool.install) if ours_first else (tool.install, install):
            step()
        thread = threading.Thread(target=noting(events))
        with refuse(), pytest.raises(RuntimeError):
            thread.start()
        assert what_happens(events, lambda body: run(thread))[0] == LIFE
        tool.uninstall()
        uninstall()


# The signals


def test_the_order_of_what_happens(announce: Announce, events: Events) -> None:
    """`thread_started` comes before the body, `thread_exiting` after it, then `thread_exited`, all before `join()`."""
    thread = announce(noting(events))
    assert events == [(what, thread) for what in LIFE]


def test_signals_are_sent_in_the_thread(announce: Announce, plugin: Plugin) -> None:
    """Each signal is sent in the thread that it speaks of, which is the current one, and is alive."""
    seen: list[tuple[Any, ...]] = []

    def look(thread: threading.Thread, info: threadhooks.ThreadInfo, **extra: Any) -> None:
        current = threading.current_thread()
        seen.append((current, current.is_alive(), current in threading.enumerate(), threading.get_ident()))
        assert (info.ident, info.native_id) == (threading.get_ident(), threading.get_native_id())

    for signal in SIGNALS:
        getattr(plugin, signal)(look)
    thread = announce(int)
    assert seen == [(thread, True, True, thread.ident)] * 3
    assert thread not in threading.enumerate()


def test_the_record(announce: Announce, plugin: Plugin) -> None:
    """All three signals hand over the record of the thread, which is the one that `attach` returns in it."""
    infos: list[threadhooks.ThreadInfo] = []
    for signal in SIGNALS:
        getattr(plugin, signal)(lambda thread, info, **extra: infos.append(info))
    before = time.time()
    thread = announce(lambda: infos.append(threadhooks.attach()), name="spoken of", daemon=True)
    assert infos == [infos[0]] * 4
    assert infos[0][:4] == (thread, "spoken of", thread.ident, thread.native_id)
    assert infos[0][4:6] == (True, False)
    assert before <= infos[0].attached_at <= time.time()


def test_what_receivers_are_called_with(announce: Announce, plugin: Plugin) -> None:
    """`thread_started` tells of `info` alone; the other two tell of the exception as well."""
    calls: list[tuple[tuple[Any, ...], set[str]]] = []
    for signal in SIGNALS:
        getattr(plugin, signal)(lambda *args, **kwargs: calls.append((args, set(kwargs))))
    thread = announce(int)
    assert calls == [((thread,), {"info"}), ((thread,), {"info", "exception"}), ((thread,), {"info", "exception"})]


@pytest.mark.parametrize("name", SIGNALS)
def test_decorators_of_a_plugin(announce: Announce, name: str) -> None:
    """A plugin has a decorator for each signal; it returns the receiver, which is called until the plugin is closed."""
    heard: list[threading.Thread] = []
    with Plugin("decorated") as plugin:

        @getattr(plugin, name)
        def receiver(thread: threading.Thread, **extra: Any) -> None:
            heard.append(thread)

        thread = announce(int)
    announce(int)
    assert heard == [thread]
    receiver(thread)
    assert heard == [thread, thread]


@pytest.mark.parametrize("signal", [thread_started, thread_exiting, thread_exited], ids=SIGNALS)
def test_one_thread_alone(announce: Announce, signal: Any) -> None:
    """A receiver that is connected to a thread before it starts hears of it, of no other, and is let go with it."""
    heard: list[threading.Thread] = []

    def connect(thread: threading.Thread) -> None:
        signal.connect(lambda thread, **extra: heard.append(thread), sender=thread, weak=False)

    thread = announce(int, connect)
    announce(int)
    assert heard == [thread]
    assert signal.receivers == {}


@pytest.mark.parametrize("signal", [thread_started, thread_exiting, thread_exited], ids=SIGNALS)
def test_muted(announce: Announce, signal: Any, events: Events) -> None:
    """A signal that is muted is not sent, the others are; early clean-ups are not receivers."""
    with Plugin("muted") as other:

        def body() -> None:
            noting(events)()
            other.register_early(note(events, "early"))
            other.register(note(events, "late"))

        with signal.muted():
            thread = announce(body)
    life = ["thread_started", "run", "early", "thread_exiting", "late", "thread_exited"]
    assert lives(events) == {thread: [what for what in life if what != signal.name]}


class Crash(Exception):
    pass


class Abort(BaseException):
    pass


ERRORS = [Crash, Abort, SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration]


def fail(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("error", ERRORS)
def test_the_exception(
    announce: Announce, error: type[BaseException], plugin: Plugin, reports: list[threading.ExceptHookArgs]
) -> None:
    """What the body raises, whatever it is, is the `exception` of `thread_exiting` and `thread_exited`."""
    told: list[BaseException] = []
    for signal in SIGNALS[1:]:
        getattr(plugin, signal)(lambda thread, exception, **extra: told.append(exception))
    raised = error("crash")
    announce(lambda: fail(raised))
    assert told == [raised, raised]


def test_no_exception(announce: Announce, plugin: Plugin, no_report: None) -> None:
    """If the body returns, `exception` is `None`, whatever it has caught, and whatever hooks raise."""
    told: list[BaseException | None] = []

    def body() -> None:
        with suppress(Crash):
            raise Crash
        plugin.register_early(sys.exit)

    for signal in SIGNALS[1:]:
        getattr(plugin, signal)(lambda thread, **extra: sys.exit())
        getattr(plugin, signal)(lambda thread, exception, **extra: told.append(exception))
    announce(body)
    assert told == [None, None]


def test_threading_hears_of_a_crash_once(
    announce: Announce, events: Events, reports: list[threading.ExceptHookArgs]
) -> None:
    """`threading.excepthook` gets the very exception, once, with the thread, after `thread_exiting`."""
    raised = Crash()
    order: list[list[str]] = []
    hook = threading.excepthook
    threading.excepthook = lambda args: (order.append([what for what, thread in events]), hook(args))  # type: ignore[assignment]
    thread = announce(lambda: fail(raised))
    threading.excepthook = hook
    [report] = reports
    assert report.exc_type is Crash
    assert report.exc_value is raised
    assert report.exc_traceback is raised.__traceback__
    assert report.thread is thread
    assert order == [["thread_started", "thread_exiting"]]


def test_the_traceback_of_a_crash(reports: list[threading.ExceptHookArgs]) -> None:
    """The traceback of a crash is that of a bare thread, with one entry more, where we call `run()`."""

    def frames() -> list[tuple[str, int | None]]:
        in_thread(crash)
        return [(frame.name, frame.lineno) for frame in traceback.extract_tb(reports.pop().exc_traceback)]

    bare = frames()
    with installed():
        ours = frames()
    added = [number for number in range(len(ours)) if ours[:number] + ours[number + 1 :] == bare]
    assert len(added) == 1
    assert ours[-1][0] == "crash"
    assert 0 < added[0] < len(ours) - 1


def test_an_exit_is_quiet(announce: Announce, capfd: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    """`sys.exit()` in a body ends the thread and prints nothing, as without us."""
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
    announce(sys.exit)
    assert capfd.readouterr() == ("", "")


def test_a_crash_is_printed_as_before(capfd: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    """What `threading` prints of a crash is what it prints without us, but for one entry of the traceback."""
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)

    def printed() -> list[str]:
        run(threading.Thread(target=crash, name="crashes"))
        return capfd.readouterr().err.splitlines()

    bare = printed()
    with installed():
        ours = printed()
    assert ours[:2] == bare[:2] == ["Exception in thread crashes:", "Traceback (most recent call last):"]
    assert [line for line in bare if line not in ours] == []
    files = [line for line in ours if line.startswith("  File ")]
    assert len(files) == len([line for line in bare if line.startswith("  File ")]) + 1


def test_the_exception_is_not_kept(announce: Announce, plugin: Plugin, no_report: None, no_collection: None) -> None:
    """When the thread has ended, what it raised is gone, without the garbage collector."""
    kept: list[weakref.ref[BaseException]] = []
    for signal in SIGNALS[1:]:
        getattr(plugin, signal)(lambda thread, exception, **extra: kept.append(weakref.ref(exception)))

    def body() -> None:
        raise Crash

    thread = announce(body)
    assert [ref() for ref in kept] == [None, None]
    assert not thread.is_alive()


def test_locals_of_a_crash_are_not_kept(announce: Announce, no_report: None, no_collection: None) -> None:
    """Nor is what its frames have held, with no receiver connected."""

    class Object:
        pass

    kept: list[weakref.ref[Object]] = []

    def body() -> None:
        held = Object()
        kept.append(weakref.ref(held))
        raise Crash

    announce(body)
    assert kept[0]() is None


def test_thread_locals_are_there(announce: Announce, plugin: Plugin) -> None:
    """What `thread_started` has put into thread-locals, `run()` finds, and what that leaves there, `thread_exiting`."""
    local = threading.local()
    seen: list[list[str]] = []

    plugin.thread_started(lambda thread, **extra: setattr(local, "values", ["started"]))
    plugin.thread_exiting(lambda thread, **extra: seen.append([*local.values, "exiting"]))
    announce(lambda: local.values.append("run"))
    assert seen == [["started", "run", "exiting"]]


def test_context_variables_are_there(announce: Announce, plugin: Plugin) -> None:
    """The same for context variables."""
    variable: contextvars.ContextVar[list[str]] = contextvars.ContextVar("variable")
    seen: list[list[str]] = []

    plugin.thread_started(lambda thread, **extra: variable.set(["started"]))
    plugin.thread_exiting(lambda thread, **extra: seen.append([*variable.get(), "exiting"]))
    announce(lambda: variable.set([*variable.get(), "run"]))
    assert seen == [["started", "run", "exiting"]]
    assert variable.get(None) is None


def test_logging(announce: Announce, plugin: Plugin) -> None:
    """What receivers log bears the name of the thread, and logging leaves nothing in `threading.enumerate()`."""
    names: list[str | None] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            names.append(record.threadName)

    logger = logging.getLogger("announce tests")
    logger.addHandler(handler := Handler())
    before = threading.enumerate()
    for signal in SIGNALS:
        getattr(plugin, signal)(lambda thread, **extra: logger.warning("heard"))
    announce(int, name="logs")
    logger.removeHandler(handler)
    assert names == ["logs"] * 3
    assert threading.enumerate() == before


@pytest.mark.parametrize("moment", SIGNALS)
@pytest.mark.parametrize("error", [Crash, Abort, SystemExit, KeyboardInterrupt])
def test_a_receiver_that_fails(
    announce: Announce, moment: str, error: type[BaseException], reports: list[threading.ExceptHookArgs]
) -> None:
    """At each moment, a receiver that raises stops neither the next one, nor the body, nor what comes after."""
    events: Events = []
    with Plugin("failing") as failing, Plugin("next") as following:

        @getattr(failing, moment)
        def fails(thread: threading.Thread, **extra: Any) -> None:
            raise error

        for signal in SIGNALS:
            getattr(following, signal)(lambda thread, signal=signal, **extra: events.append((signal, thread)))
        thread = announce(noting(events))
    assert lives(events) == {thread: LIFE}
    [report] = reports
    assert (report.exc_type, report.thread) == (error, thread)
    assert "fails of plugin 'failing', a hook of threadhooks" in report.exc_value.__notes__[0]


@pytest.mark.parametrize("moment", ["early clean-up", *SIGNALS])
def test_a_crash_is_not_touched_by_a_hook_that_fails(
    announce: Announce, moment: str, plugin: Plugin, reports: list[threading.ExceptHookArgs]
) -> None:
    """If a hook fails in a thread that crashes, both are reported, and the crash is what it was."""
    raised = Crash("of the body")
    failure = ValueError("of the hook")

    def body() -> None:
        if moment == "early clean-up":
            plugin.register_early(fail, failure)
        raise raised

    if moment != "early clean-up":
        getattr(plugin, moment)(lambda thread, **extra: fail(failure))
    announce(body)
    assert {report.exc_value for report in reports} == {raised, failure}
    assert len(reports) == 2
    assert (raised.__cause__, raised.__context__, getattr(raised, "__notes__", [])) == (None, None, [])


def test_a_receiver_that_starts_threads(events: Events, plugin: Plugin) -> None:
    """At each moment a receiver may start a thread, which announces itself as well."""
    started: list[threading.Thread] = []

    def starts(thread: threading.Thread, **extra: Any) -> None:
        if thread.name == "outer":
            started.append(in_thread(int))

    for signal in SIGNALS:
        getattr(plugin, signal)(starts)
    with installed():
        outer = run(threading.Thread(name="outer"))
    assert lives(events) == {outer: SIGNALS, **dict.fromkeys(started, SIGNALS)}
    assert len(started) == 3


def test_a_receiver_that_comes_while_a_thread_runs(events: Events) -> None:
    """A thread that began when nobody was listening tells of its end to those who listen by then."""
    heard: list[threading.Thread] = []
    with Plugin("late") as late, installed():
        thread = in_thread(lambda: late.thread_exiting(lambda thread, **extra: heard.append(thread)))
    assert heard == [thread]


# announced()


def test_announced_yields_the_record() -> None:
    """The value of the block is the record that `attach` returns."""
    infos: list[threadhooks.ThreadInfo] = []

    def body() -> None:
        with announced() as info:
            infos.extend([info, threadhooks.attach()])

    thread = in_thread(body)
    assert isinstance(infos[0], threadhooks.ThreadInfo)
    assert infos[0] is infos[1]
    assert infos[0].thread is thread


def test_announced_ends_with_its_block(events: Events) -> None:
    """`thread_exiting` is sent at the end of the block, and the thread goes on; `thread_exited` comes with its end."""

    def body() -> None:
        with announced():
            noting(events)()
        events.append(("after the block", threading.current_thread()))

    thread = in_thread(body)
    assert lives(events) == {thread: ["thread_started", "run", "thread_exiting", "after the block", "thread_exited"]}


def test_announced_within_itself_does_nothing(events: Events) -> None:
    """An inner block yields the same record, and sends nothing."""
    infos: list[threadhooks.ThreadInfo] = []

    def body() -> None:
        with announced() as outer, announced() as inner:
            infos.extend([outer, inner])
        events.append(("after the block", threading.current_thread()))

    thread = in_thread(body)
    assert infos[0] is infos[1]
    assert lives(events) == {thread: ["thread_started", "thread_exiting", "after the block", "thread_exited"]}


def test_announced_under_install_does_nothing(announce: Announce, events: Events) -> None:
    """In a thread that announces itself already, a block yields its record and sends nothing, though it raises."""
    infos: list[threadhooks.ThreadInfo] = []

    def body() -> None:
        with suppress(Crash), announced() as info:
            infos.append(info)
            raise Crash
        noting(events)()

    thread = announce(body)
    assert [info.thread for info in infos] == [thread]
    assert lives(events) == {thread: LIFE}


@pytest.mark.parametrize("moment", SIGNALS[:2])
def test_announced_in_a_receiver_does_nothing(moment: str, announce: Announce, events: Events, plugin: Plugin) -> None:
    """Nor does a block in a receiver of the start, or of the early moment."""

    def receiver(thread: threading.Thread, **extra: Any) -> None:
        with announced():
            pass

    getattr(plugin, moment)(receiver)
    thread = announce(noting(events))
    assert lives(events) == {thread: LIFE}


def test_announced_again(plugin: Plugin, events: Events) -> None:
    """One block after the other: each sends its two signals, and tells of its own exception."""
    told: list[BaseException | None] = []
    for signal in SIGNALS[1:]:
        getattr(plugin, signal)(lambda thread, exception, **extra: told.append(exception))
    raised = Crash()

    def body() -> None:
        with suppress(Crash), announced():
            raise raised
        with announced():
            pass

    thread = in_thread(body)
    assert lives(events) == {thread: [*SIGNALS[:2], *SIGNALS[:2], "thread_exited"]}
    assert told == [raised, None, None]


def test_announced_in_a_hook_of_the_exit(plugin: Plugin, events: Events, reports: Any) -> None:
    """In a hook of a thread's exit a block does nothing: the thread keeps its exception, and is announced once."""
    told: list[BaseException | None] = []
    plugin.thread_exited(lambda thread, exception, **extra: told.append(exception))
    raised = SystemExit()

    def body() -> None:
        finalize(announced()(lambda: events.append(("hook", threading.current_thread()))))
        raise raised

    with installed():
        thread = in_thread(body)
    assert lives(events) == {thread: ["thread_started", "thread_exiting", "hook", "thread_exited"]}
    assert told == [raised]


def test_announced_that_ends_in_another_thread(events: Events) -> None:
    """A block that a generator began and another thread ends raises there, and touches neither thread's hooks."""

    def generator() -> Iterator[None]:
        with announced():
            finalize(int)
            yield

    begun = generator()
    next(begun)
    caught: list[BaseException] = []

    def body() -> None:
        try:
            begun.close()  # type: ignore[attr-defined]
        except RuntimeError as error:
            caught.append(error)

    with installed():
        thread = in_thread(body)
    assert "ends in another thread" in str(caught[0])
    assert lives(events) == {threading.main_thread(): ["thread_started"], thread: LIFE[:1] + LIFE[2:]}
    assert _attached.announcing == {}


def test_announced_in_the_main_thread(plugin: Plugin, events: Events) -> None:
    """The main thread can announce itself for a while; early clean-ups run at the end of the block."""
    main = threading.main_thread()
    with announced() as info:
        plugin.register_early(lambda: events.append(("early", main)))
        events.append(("run", main))
    assert info.thread is main
    assert lives(events) == {main: ["thread_started", "run", "early", "thread_exiting"]}


@pytest.mark.parametrize("error", ERRORS)
def test_what_the_block_raises_gets_through(error: type[BaseException], plugin: Plugin) -> None:
    """What is raised in a block is raised by it: the same object, with the traceback that it has without us."""
    told: list[BaseException | None] = []
    plugin.thread_exiting(lambda thread, exception, **extra: told.append(exception))
    raised = error("crash")
    with pytest.raises(error) as caught:
        with announced():
            raise raised
    assert caught.value is raised
    assert told == [raised]
    assert [frame.name for frame in traceback.extract_tb(raised.__traceback__)] == [
        "test_what_the_block_raises_gets_through"
    ]
    assert (raised.__cause__, raised.__context__, raised.__suppress_context__) == (None, None, False)


def test_a_block_returns_and_breaks(events: Events) -> None:
    """A block that is left by `return` or `break` has ended as any other."""

    def body() -> int:
        for _ in range(2):
            with announced():
                break
        with announced():
            return 1

    in_thread(body)
    assert [what for what, thread in events] == [*SIGNALS[:2], *SIGNALS[:2], "thread_exited"]


# The early moment


def test_early_clean_ups_come_before_the_receivers(announce: Announce, plugin: Plugin, events: Events) -> None:
    """Early clean-ups run when the body has ended, last in, first out, before `thread_exiting`; late ones after it."""

    def body() -> None:
        plugin.register_early(note(events, "early 1"))
        plugin.register(note(events, "late 1"))
        plugin.register_early(note(events, "early 2"))
        finalize(note(events, "late 2"))
        noting(events)()

    thread = announce(body)
    assert lives(events) == {
        thread: ["thread_started", "run", "early 2", "early 1", "thread_exiting", "late 2", "late 1", "thread_exited"]
    }


def test_early_clean_ups_of_several_plugins_are_one_stack(announce: Announce, plugin: Plugin, events: Events) -> None:
    """Whoever registered it, the early clean-up that was registered last comes first."""

    @threadhooks.per_thread(early=True)
    def resource() -> Iterator[None]:
        yield
        note(events, "resource")()

    with Plugin("another") as other:

        def body() -> None:
            plugin.register_early(note(events, "one"))
            resource()
            other.register_early(note(events, "another"))
            plugin.register_early(note(events, "one again"))

        thread = announce(body)
    assert lives(events) == {
        thread: ["thread_started", "one again", "another", "resource", "one", "thread_exiting", "thread_exited"]
    }


def test_early_clean_ups_that_a_receiver_registers(announce: Announce, plugin: Plugin, events: Events) -> None:
    """A receiver of `thread_started` may register for the early moment of its thread."""
    plugin.thread_started(lambda thread, **extra: plugin.register_early(note(events, "early")))
    thread = announce(noting(events))
    assert lives(events) == {thread: ["thread_started", "run", "early", "thread_exiting", "thread_exited"]}


def test_early_clean_ups_find_everything(announce: Announce, plugin: Plugin) -> None:
    """In an early clean-up, thread-locals, context variables and `current_thread()` are there."""
    local = threading.local()
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")
    seen: list[tuple[object, ...]] = []

    def body() -> None:
        local.value = 1
        variable.set(2)
        plugin.register_early(lambda: seen.append((local.value, variable.get(), threading.current_thread())))

    thread = announce(body)
    assert seen == [(1, 2, thread)]


@pytest.mark.parametrize("error", ERRORS)
def test_early_clean_ups_of_a_thread_that_crashes(
    announce: Announce, error: type[BaseException], plugin: Plugin, no_report: None
) -> None:
    """They run early whatever the body has raised."""
    ran: list[str] = []

    def body() -> None:
        plugin.register_early(ran.append, "early")
        plugin.register(ran.append, "late")
        raise error

    announce(body)
    assert ran == ["early", "late"]


def test_where_the_early_moment_does_not_come(plugin: Plugin, events: Events) -> None:
    """In a thread that was only attached, early clean-ups run late, each in its place of the stack."""

    def body() -> None:
        plugin.register(note(events, "late 1"))
        plugin.register_early(note(events, "early 1"))
        finalize(note(events, "late 2"))
        plugin.register_early(note(events, "early 2"))

    thread = in_thread(body)
    assert lives(events) == {thread: ["early 2", "late 2", "early 1", "late 1", "thread_exited"]}


def test_early_clean_ups_from_before_the_block(plugin: Plugin, events: Events) -> None:
    """What was registered before a block of `announced` runs at its end; what comes after the block, late."""

    def body() -> None:
        plugin.register_early(note(events, "before"))
        with announced():
            pass
        plugin.register_early(note(events, "after"))

    thread = in_thread(body)
    assert lives(events) == {thread: ["thread_started", "before", "thread_exiting", "after", "thread_exited"]}


def test_an_early_clean_up_that_registers_another(announce: Announce, plugin: Plugin, events: Events) -> None:
    """What an early clean-up registers as early runs next, in the same moment; what it registers as late, late."""

    def registers() -> None:
        note(events, "early 2")()
        plugin.register(note(events, "late"))
        plugin.register_early(note(events, "early 3"))

    def body() -> None:
        plugin.register_early(note(events, "early 1"))
        plugin.register_early(registers)

    thread = announce(body)
    assert lives(events) == {
        thread: ["thread_started", "early 2", "early 3", "early 1", "thread_exiting", "late", "thread_exited"]
    }


def test_a_receiver_of_the_early_moment_that_registers(announce: Announce, plugin: Plugin, events: Events) -> None:
    """What a receiver of `thread_exiting` registers as early runs after the receivers, with thread-locals there."""
    local = threading.local()

    @plugin.thread_exiting
    def registers(thread: threading.Thread, **extra: Any) -> None:
        plugin.register(note(events, "late"))
        plugin.register_early(lambda: events.append((local.value, thread)))

    thread = announce(lambda: setattr(local, "value", "early"))
    assert lives(events) == {thread: ["thread_started", "thread_exiting", "early", "late", "thread_exited"]}


@pytest.mark.parametrize("moment", ["late clean-up", "thread_exited"])
def test_early_clean_ups_that_come_too_late(announce: Announce, moment: str, plugin: Plugin, events: Events) -> None:
    """What is registered as early when the early moment is over runs in the same exit all the same."""

    def registers(*_: object, **extra: Any) -> None:
        plugin.register_early(note(events, "early"))

    if moment == "thread_exited":
        plugin.thread_exited(registers)
    thread = announce(lambda: plugin.register(registers) if moment == "late clean-up" else None)
    assert sorted(lives(events)[thread]) == sorted([*SIGNALS, "early"])


def test_early_clean_ups_without_an_end(
    announce: Announce, plugin: Plugin, reports: list[threading.ExceptHookArgs], events: Events
) -> None:
    """Early clean-ups that register themselves for ever are stopped and reported; all others run, all signals come."""

    def again() -> None:
        plugin.register_early(again)

    def body() -> None:
        plugin.register(note(events, "late"))
        plugin.register_early(note(events, "early"))
        again()

    thread = announce(body)
    assert [report.exc_type for report in reports] == [RuntimeError]
    assert sorted(lives(events)[thread]) == sorted([*SIGNALS, "early", "late"])


def test_early_clean_ups_that_fail(
    announce: Announce, plugin: Plugin, reports: list[threading.ExceptHookArgs], events: Events
) -> None:
    """An early clean-up that raises is reported, and stops neither the next one nor the signal."""

    def body() -> None:
        plugin.register_early(note(events, "early 1"))
        plugin.register_early(fail, Crash())
        plugin.register_early(fail, KeyboardInterrupt())
        plugin.register_early(note(events, "early 2"))

    thread = announce(body)
    assert lives(events) == {thread: ["thread_started", "early 2", "early 1", "thread_exiting", "thread_exited"]}
    assert [(report.exc_type, report.thread) for report in reports] == [(KeyboardInterrupt, thread), (Crash, thread)]


def test_unregistering_early_clean_ups(announce: Announce, plugin: Plugin) -> None:
    """`unregister` takes back early clean-ups as it does late ones; an early one may take back the next."""
    ran: list[str] = []

    def first() -> None:
        ran.append("first")

    def second() -> None:
        ran.append("second")

    def body() -> None:
        plugin.register_early(first)
        plugin.register_early(second)
        plugin.register_early(second)
        plugin.register_early(ran.append, "kept")
        plugin.unregister(second)
        plugin.register_early(plugin.unregister, first)

    announce(body)
    assert ran == ["kept"]


def test_closing_a_plugin_takes_back_its_early_clean_ups(announce: Announce, plugin: Plugin, events: Events) -> None:
    """`close` takes early clean-ups and receivers of `thread_exiting` back, even from within the early moment."""
    other = Plugin("closed")
    other.thread_exiting(lambda thread, **extra: events.append(("of the closed plugin", thread)))

    def body() -> None:
        other.register_early(note(events, "of the closed plugin"))
        plugin.register_early(note(events, "kept"))
        plugin.register_early(other.close)

    thread = announce(body)
    assert lives(events) == {thread: ["thread_started", "kept", "thread_exiting", "thread_exited"]}


def test_closing_a_plugin_waits_for_an_early_clean_up(announce: Announce) -> None:
    """`close` does not return while another thread is executing an early clean-up of the plugin."""
    plugin = Plugin("waited for")
    entered, leave, closed = threading.Event(), threading.Event(), threading.Event()
    seen: list[bool] = []

    def clean_up() -> None:
        entered.set()
        assert leave.wait(LONG)
        seen.append(closed.is_set())

    def close() -> None:
        assert entered.wait(LONG)
        threading.Timer(0.02, leave.set).start()
        plugin.close()
        closed.set()

    closing = threading.Thread(target=close)
    closing.start()
    announce(lambda: plugin.register_early(clean_up))
    closing.join(LONG)
    assert seen == [False]


# Fork

PREFIX = """
import os, sys, threading, warnings
import threadhooks
warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads

parent = os.getpid()
plugin = threadhooks.Plugin("forks")

def say(what, thread):
    print("parent" if os.getpid() == parent else "child", thread.name, what)

for signal in ("thread_started", "thread_exiting", "thread_exited"):
    getattr(plugin, signal)(lambda thread, exception=None, signal=signal, **extra:
                            say(f"{signal} {exception!r}" if exception else signal, thread))

def fork():
    # The parent goes on when the child has ended.
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    return not pid
"""


@forks
def test_a_fork_in_a_thread_that_announces_itself(program: Callable[..., object]) -> None:
    """Both processes go on with `run()`: in each the thread announces its end, once; the others' end in the parent."""
    source = """
        from threading import Thread, Event
        leave, running = Event(), Event()

        def other():
            plugin.register_early(print, "early clean-up of the other")
            running.set()
            leave.wait()

        def forks():
            plugin.register_early(print, "early clean-up")
            fork()
            say("run", threading.current_thread())

        threadhooks.install()
        others = Thread(target=other, name="other")
        others.start()
        running.wait()
        thread = Thread(target=forks, name="forks")
        thread.start()
        thread.join()
        leave.set()
        others.join()
        plugin.close()
        """
    assert program(PREFIX + textwrap.dedent(source)) == (
        "parent other thread_started\nparent forks thread_started\n"
        "child forks run\nearly clean-up\nchild forks thread_exiting\nchild forks thread_exited\n"
        "parent forks run\nearly clean-up\nparent forks thread_exiting\nparent forks thread_exited\n"
        "early clean-up of the other\nparent other thread_exiting\nparent other thread_exited\n",
        "",
        0,
    )


@forks
def test_a_fork_in_a_block(program: Callable[..., object]) -> None:
    """The same for a block of `announced`, here in the main thread; what the child's block raises, it tells alone."""
    source = """
        with threadhooks.announced():
            if fork():
                raise SystemExit
        """
    main = "MainThread thread_"
    assert program(PREFIX + textwrap.dedent(source)) == (
        f"parent {main}started\n"
        f"child {main}exiting SystemExit()\nchild {main}exited SystemExit()\n"
        f"parent {main}exiting\nparent {main}exited\n",
        "",
        0,
    )


@forks
@pytest.mark.parametrize("where", ["main", "thread"])
def test_threads_of_a_child(where: str, program: Callable[..., object]) -> None:
    """`install` holds in a forked child: the threads that it starts announce themselves there, once."""
    source = """
        def body():
            if fork():
                inner = threading.Thread(name="inner")
                inner.start()
                inner.join()
                os._exit(0)

        threadhooks.install()
        if sys.argv[1] == "main":
            body()
        else:
            outer = threading.Thread(target=body)
            outer.start()
            outer.join()
        plugin.close()
        """
    result: Any = program(PREFIX + textwrap.dedent(source), where)
    assert [line for line in result.out.splitlines() if line.startswith("child")] == [
        f"child inner {signal}" for signal in SIGNALS
    ]
    assert (result.err, result.code) == ("", 0)


@forks
def test_a_fork_in_a_receiver(program: Callable[..., object]) -> None:
    """A receiver may fork: both processes go on with the same announcement."""
    source = """
        plugin.thread_started(lambda thread, **extra: fork())
        plugin.thread_started(lambda thread, **extra: say("next receiver", thread))
        threadhooks.install()
        thread = threading.Thread(name="forks")
        thread.start()
        thread.join()
        plugin.close()
        """
    result: Any = program(PREFIX + textwrap.dedent(source))
    life = [f"{who} forks {what}\n" for who in ("child", "parent") for what in ("next receiver", *SIGNALS[1:])]
    assert result == ("".join(["parent forks thread_started\n", *life]), "", 0)


def test_announced_that_is_left_open(plugin: Plugin, events: Events, reports: Any) -> None:
    """A block that its thread never ends marks no later thread of the same ident, and to end it touches none."""
    left = ExitStack()
    first = in_thread(lambda: left.enter_context(announced()))
    assert not _attached.announcing
    told: list[BaseException | None] = []
    plugin.thread_exited(lambda thread, exception, **extra: told.append(exception))
    caught: list[BaseException] = []
    raised = SystemExit()

    def body() -> None:
        try:
            left.close()
        except RuntimeError as error:
            caught.append(error)
        with announced():  # does nothing, as long as this thread announces itself
            pass
        raise raised

    with installed():
        second = in_thread(body)
    assert str(caught[0]).startswith(f"the announced() block of {first!r} ends in another thread")
    assert lives(events) == {first: [SIGNALS[0], SIGNALS[2]], second: SIGNALS}
    assert told == [raised]


@pytest.mark.parametrize("before", [True, False], ids=["before ours", "after ours"])
def test_announced_that_ends_with_a_thread_local(
    before: bool, events: Events, reports: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block that another thread-local's destruction ends is too late: it raises, and no dummy hears of it."""
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: unraisable.append(str(args.exc_value)))
    local = threading.local()

    def body() -> None:
        if not before:
            threadhooks.attach()
        local.block = ExitStack()
        local.block.enter_context(announced())

    thread = in_thread(body)
    assert lives(events) == {thread: [SIGNALS[0], SIGNALS[2]]}
    assert ["as the thread is gone" in said for said in unraisable] == [True]
    assert threading.enumerate() == [threading.main_thread()]
    assert reports == []
