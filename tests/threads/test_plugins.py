"""Plugins: whoever owns hooks can take all of them back, whatever other threads are doing just then."""

from __future__ import annotations

import ctypes
import functools
import gc
import importlib
import itertools
import os
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from at_line import AtLine
from support import LONG, in_thread

import threadhooks
from threadhooks import (
    Plugin,
    ThreadSignal,
    load_plugins,
    plugins,
    thread_exited,
    thread_exiting,
    thread_started,
    threadref,
)


@contextmanager
def exiting_within(plugin: Plugin, *, early: bool = False) -> Generator[tuple[threading.Thread, threading.Event]]:
    """A thread that is in the middle of a clean-up of `plugin`, until the event is set."""
    entered, leave = threading.Event(), threading.Event()

    def clean_up() -> None:
        entered.set()
        assert leave.wait(LONG)

    thread = threading.Thread(target=plugin.register, args=(clean_up,))
    thread.start()
    assert entered.wait(LONG)
    try:
        yield thread, leave
    finally:
        leave.set()
        thread.join(LONG)


def closing(plugin: Plugin) -> threading.Thread:
    """A thread that closes `plugin`, and is waiting for a hook that runs, or else has ended."""
    thread = threading.Thread(target=plugin.close)
    thread.start()
    wait_for_close(plugin, thread.join)
    return thread


def wait_for_close(plugin: Plugin, closed: Callable[[float], object]) -> None:
    """Wait until `close` was called, and long enough for it to return if it has nothing to wait for."""
    while not plugin.closed:
        time.sleep(0)
    closed(0.05)


def announced(body: Callable[[], object]) -> list[threading.Thread]:
    """The threads that have announced their exit when one that runs `body` has ended: none, if it is not attached."""
    heard: list[threading.Thread] = []
    with thread_exited.connected_to(receiver := lambda thread, **extra: heard.append(thread)):
        in_thread(body)
    del receiver
    return heard


@pytest.fixture
def plugin() -> Iterator[Plugin]:
    with Plugin("tested") as made:
        yield made


def text(report: threading.ExceptHookArgs) -> str:
    return f"{type(report.exc_value).__name__}: {report.exc_value} ({'; '.join(report.exc_value.__notes__)})"


# -- its name, and whether it is open


def test_a_plugin_has_a_name_and_is_open() -> None:
    """A plugin shows its name, and whether it was closed, as attributes and in its repr."""
    plugin = Plugin("shown")
    assert (plugin.name, plugin.closed, repr(plugin)) == ("shown", False, "<Plugin 'shown'>")
    plugin.close()
    assert (plugin.name, plugin.closed, repr(plugin)) == ("shown", True, "<Plugin 'shown' closed>")


def test_the_package_exports_the_class() -> None:
    """`threadhooks.Plugin` is `threadhooks.plugins.Plugin`."""
    assert threadhooks.Plugin is plugins.Plugin


@pytest.mark.parametrize("name", [None, 1, b"name", ("name",)])
def test_a_name_is_a_string(name: Any) -> None:
    """A name that is no string is refused, and shown."""
    with pytest.raises(TypeError, match="the name of a plugin is a string, not"):
        Plugin(name)


def test_a_name_is_not_empty() -> None:
    """An empty name would say nothing in a report: it is refused."""
    with pytest.raises(ValueError, match="must not be empty"):
        Plugin("")


def test_two_open_plugins_have_two_names(plugin: Plugin) -> None:
    """A second plugin with the name of an open one is refused, and the first is none the worse for it."""
    with pytest.raises(ValueError, match="an open plugin named 'tested' already"):
        Plugin("tested")
    ran: list[int] = []
    in_thread(lambda: plugin.register(ran.append, 1))
    assert ran == [1]


def test_a_closed_plugin_gives_its_name_back() -> None:
    """The name of a closed plugin may be used again; closing the first once more leaves the second alone."""
    first = Plugin("again")
    first.close()
    with Plugin("again") as second:
        first.close()
        assert not second.closed
        with pytest.raises(ValueError, match="already"):
            Plugin("again")


def test_of_many_threads_one_gets_the_name() -> None:
    """When threads make plugins of one name at once, one of them succeeds."""
    barrier = threading.Barrier(8)

    def make(_: int) -> Plugin | None:
        barrier.wait(LONG)
        try:
            return Plugin("contended")
        except ValueError:
            return None

    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            [made] = [plugin for plugin in pool.map(make, range(8)) if plugin is not None]
            made.close()


def test_as_a_context_manager_it_closes_itself() -> None:
    """`with Plugin(…)` yields the plugin and closes it at the end, also of a block that raises."""
    with pytest.raises(ZeroDivisionError):
        with Plugin("scoped") as plugin:
            assert isinstance(plugin, Plugin)
            assert not plugin.closed
            raise ZeroDivisionError
    assert plugin.closed


@pytest.mark.parametrize("method", ["register", "register_early", "thread_started", "thread_exiting", "thread_exited"])
def test_a_closed_plugin_refuses(method: str) -> None:
    """What is registered at a closed plugin is refused, with its name."""
    plugin = Plugin("over")
    plugin.close()
    with pytest.raises(RuntimeError, match="plugin 'over' is closed"):
        getattr(plugin, method)(lambda *args, **extra: None)
    assert plugin.pending() == {}


async def coroutine_function() -> None:
    raise AssertionError("it is never run")


def generator_function() -> Iterator[None]:
    raise AssertionError("it is never run")
    yield


@pytest.mark.parametrize("method", ["register", "register_early", "thread_started", "thread_exiting", "thread_exited"])
def test_a_hook_that_could_never_run_is_refused(plugin: Plugin, method: str) -> None:
    """What can't be called, or is a coroutine or generator function, is refused, and nothing is kept of it."""
    with pytest.raises(TypeError, match="must be callable, not 3"):
        getattr(plugin, method)(3)
    with pytest.raises(TypeError, match=r"asyncio\.run\(\)"):
        getattr(plugin, method)(coroutine_function)
    for hook in (generator_function, functools.partial(generator_function)):
        with pytest.raises(TypeError, match="does not run when it is called"):
            getattr(plugin, method)(hook)
    assert plugin.pending() == {}
    assert not any(signal.receivers for signal in (thread_started, thread_exiting, thread_exited))


# -- receivers


SIGNALS = pytest.mark.parametrize("signal", [thread_started, thread_exiting, thread_exited], ids=lambda s: s.name)


@SIGNALS
def test_a_receiver_is_held_until_close(signal: ThreadSignal) -> None:
    """The decorators hold what they decorate, so that a lambda stays; they return it as it was; close() lets it go."""
    heard: list[object] = []
    with Plugin("holder") as plugin:
        connect = getattr(plugin, signal.name)
        receiver = lambda thread, **extra: heard.append(thread)  # noqa: E731
        alive = weakref.ref(receiver)
        assert connect(receiver) is receiver
        del receiver
        gc.collect()
        with threadhooks.installed():
            thread = in_thread(lambda: None)
        assert heard == [thread]
    gc.collect()
    assert alive() is None
    assert signal.receivers == {}


def test_a_receiver_gets_what_the_signal_sends(plugin: Plugin) -> None:
    """A plugin's receiver is called as any other: with the thread, the record, and the exception."""
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
    for signal in ("thread_started", "thread_exiting", "thread_exited"):
        getattr(plugin, signal)(lambda *args, signal=signal, **kwargs: calls.append((signal, args, kwargs)))
    with threadhooks.installed():
        thread = in_thread(lambda: None, "spoken of")
    assert [(signal, args) for signal, args, _ in calls] == [
        ("thread_started", (thread,)),
        ("thread_exiting", (thread,)),
        ("thread_exited", (thread,)),
    ]
    assert [set(kwargs) for *_, kwargs in calls] == [{"info"}, {"info", "exception"}, {"info", "exception"}]
    assert all(kwargs["info"].name == "spoken of" and kwargs.get("exception") is None for *_, kwargs in calls)


def test_receivers_of_plugins_and_others_run_in_the_order_of_connection() -> None:
    """Who owns a receiver makes no difference to the order."""
    order: list[int] = []

    def second(thread: threading.Thread, **extra: Any) -> None:
        order.append(2)

    with Plugin("a") as a, Plugin("b") as b:
        b.thread_exited(lambda thread, **extra: order.append(1))
        with thread_exited.connected_to(second):
            a.thread_exited(lambda thread, **extra: order.append(3))
            b.thread_exited(lambda thread, **extra: order.append(4))
            in_thread(threadhooks.attach)
    assert order == [1, 2, 3, 4]


# -- clean-ups


def test_register_follows_atexit(plugin: Plugin) -> None:
    """`register` passes the arguments on, returns the function, works as a decorator, and takes one more than once."""
    calls: list[Any] = []

    def body() -> None:
        @plugin.register
        def bare() -> None:
            calls.append("bare")

        def full(*args: Any, **kwargs: Any) -> None:
            calls.append((args, kwargs, threading.current_thread().name))

        assert plugin.register(full, 1, self=2, func=3) is full
        assert plugin.register_early(full) is full
        plugin.register(bare)
        assert callable(bare)
        assert not calls

    in_thread(body, "mine")
    assert calls == ["bare", ((), {}, "mine"), ((1,), {"self": 2, "func": 3}, "mine"), "bare"]


def test_all_clean_ups_unwind_as_one_stack(plugin: Plugin) -> None:
    """Clean-ups of several plugins and of threadref run last in, first out; then the receivers are called."""
    order: list[Any] = []
    keep: list[Any] = []

    def body() -> None:
        plugin.register(order.append, 1)
        other.register(order.append, 2)
        threadref.finalize(order.append, 3)
        keep.append(threadref.ref(lambda ref: order.append(4)))
        plugin.register_early(order.append, 5)
        other.register(order.append, 6)

    with Plugin("other") as other:
        plugin.thread_exited(lambda thread, **extra: order.append("exited"))
        in_thread(body)
    assert order == [6, 5, 4, 3, 2, 1, "exited"]


def test_a_clean_up_that_registers_is_followed_by_what_it_registered(plugin: Plugin) -> None:
    """What a clean-up or a receiver registers runs in the same exit, next."""
    order: list[Any] = []

    def body() -> None:
        plugin.register(order.append, "older")
        plugin.register(lambda: (order.append("registers"), plugin.register(order.append, "registered")))

    plugin.thread_exited(lambda thread, **extra: plugin.register(order.append, "by the receiver"))
    in_thread(body)
    assert order == ["registers", "registered", "older", "by the receiver"]


def test_a_finaliser_may_register(plugin: Plugin) -> None:
    """A destructor that a collection calls, in any thread, registers for the thread it is called in."""
    ran: list[tuple[int, str]] = []

    class Registers:
        def __init__(self, number: int) -> None:
            self.number = number
            self.cycle = self

        def __del__(self) -> None:
            number = self.number
            plugin.register(lambda: ran.append((number, threading.current_thread().name)))

    def body() -> None:
        plugin.register(gc.collect)
        plugin.register(lambda: Registers(2) and None)
        Registers(1)
        gc.collect()

    in_thread(body, "collecting")
    assert sorted(ran) == [(1, "collecting"), (2, "collecting")]


@pytest.mark.parametrize("method", ["register", "register_early"])
def test_a_registration_in_the_middle_of_another(plugin: Plugin, method: str) -> None:
    """A finaliser that registers at any line of a registration of the same thread spoils neither."""
    ran: list[tuple[int, str]] = []
    register = getattr(plugin, method)

    for number in itertools.count():
        line = AtLine(number, lambda: register(ran.append, (number, "interrupting")))
        in_thread(lambda: line.run(lambda: register(ran.append, (number, "interrupted"))))
        if not line.reached:
            break
        assert sorted(ran) == [(number, "interrupted"), (number, "interrupting")]
        ran.clear()
    assert ran == [(number, "interrupted")]
    assert number > 3


def test_unregister_takes_back_by_equality(plugin: Plugin) -> None:
    """`unregister` takes every clean-up that equals the function, of this plugin and thread, and no other."""
    ran: list[Any] = []

    class Clean:
        def up(self, what: str) -> None:
            ran.append(what)

    one, two = Clean(), Clean()

    def body() -> None:
        plugin.register(one.up, "gone")
        plugin.register(two.up, "kept")
        other.register(one.up, "another plugin's")
        plugin.register_early(one.up, "gone as well")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(plugin.register, one.up, "another thread's").result()
            plugin.unregister(one.up)  # a bound method is another object each time

    with Plugin("other") as other:
        in_thread(body)
    assert ran == ["another thread's", "another plugin's", "kept"]


def test_unregister_what_is_not_equal_to_itself(plugin: Plugin) -> None:
    """A clean-up whose `==` is false even for itself can be taken back, as `atexit` does."""

    class Odd:
        def __eq__(self, other: object) -> bool:
            return False

        __hash__ = None  # type: ignore[assignment]

        def __call__(self) -> None: ...

    odd = Odd()
    plugin.register(odd)
    plugin.unregister(Odd())
    assert [call.func is odd for calls in plugin.pending().values() for call in calls] == [True]
    plugin.unregister(odd)
    assert plugin.pending() == {}


def test_unregister_is_quiet_where_there_is_nothing(plugin: Plugin) -> None:
    """To unregister what was never registered, in a thread that isn't attached, or after close(), does nothing."""

    def body() -> None:
        plugin.register(len, ())
        plugin.unregister(print)
        assert list(plugin.pending()) == [threading.current_thread()]
        plugin.close()
        plugin.unregister(len)

    done: list[bool] = []
    in_thread(lambda: (body(), done.append(True)))
    assert done
    assert announced(lambda: plugin.unregister(print)) == []


def test_unregister_from_within_a_hook(plugin: Plugin) -> None:
    """A clean-up may take back those that have not run yet."""
    ran: list[str] = []

    def older() -> None:
        ran.append("older")

    def body() -> None:
        plugin.register(older)
        plugin.register(plugin.unregister, older)
        plugin.register(ran.append, "newer")

    in_thread(body)
    assert ran == ["newer"]


# -- pending


def test_pending_lists_what_would_run(plugin: Plugin) -> None:
    """`pending` shows function and arguments, by thread, newest first, of this plugin only; to look runs nothing."""
    ready, leave = threading.Barrier(3), threading.Event()
    ran: list[int] = []

    def body(start: int) -> None:
        plugin.register(ran.append, start)
        other.register(ran.append, 99)
        plugin.register_early(print, start + 1, end="")
        ready.wait(LONG)
        assert leave.wait(LONG)
        plugin.unregister(print)

    with Plugin("other") as other:
        threads = [threading.Thread(target=body, args=(start,)) for start in (10, 20)]
        for thread in threads:
            thread.start()
        ready.wait(LONG)
        pending = plugin.pending()
        assert ran == []
        leave.set()
        for thread in threads:
            thread.join(LONG)
    assert pending == {
        thread: [(print, (start + 1,), {"end": ""}), (ran.append, (start,), {})]
        for thread, start in zip(threads, (10, 20), strict=True)
    }
    entry = pending[threads[0]][0]
    assert (entry.func, entry.args, entry.kwargs) == (print, (11,), {"end": ""})
    assert plugin.pending() == {}


def test_pending_is_a_copy(plugin: Plugin) -> None:
    """What is done to the listing does nothing to the clean-ups."""
    ran: list[dict[str, Any]] = []

    def body() -> None:
        plugin.register(lambda **kwargs: ran.append(kwargs), key="value")
        pending = plugin.pending()
        pending[threading.current_thread()][0].kwargs.clear()
        pending.clear()

    in_thread(body)
    assert ran == [{"key": "value"}]


def test_pending_within_a_hook(plugin: Plugin) -> None:
    """The clean-up that runs is not pending any more; the older ones are, until they run."""
    seen: list[list[Any]] = []

    def look(number: int) -> None:
        seen.append([pending.args for pending in plugin.pending().get(threading.current_thread(), [])])

    in_thread(lambda: [plugin.register(look, number) for number in range(3)])
    assert seen == [[(1,), (0,)], [(0,)], []]


def test_pending_puts_early_clean_ups_first(plugin: Plugin) -> None:
    """In a thread that announces itself, the early ones would run before the late ones, and are listed so."""
    ran: list[Any] = []
    listed: list[Any] = []

    def body() -> None:
        for number, register in enumerate([plugin.register, plugin.register_early] * 2):
            register(ran.append, number)
        listed.extend(pending.args[0] for pending in plugin.pending()[threading.current_thread()])

    with threadhooks.installed():
        in_thread(body)
    assert ran == [3, 1, 2, 0]
    assert listed == ran


# -- reports


def test_a_report_names_the_plugin(plugin: Plugin, reports: list[threading.ExceptHookArgs]) -> None:
    """What a clean-up or a receiver raises is reported with its function, its plugin and the thread; others go on."""
    ran: list[str] = []

    def fails(*_: Any, **__: Any) -> None:
        raise ValueError("no luck")

    def body() -> None:
        plugin.register(ran.append, "first in")
        plugin.register(fails)
        plugin.register(ran.append, "last in")

    plugin.thread_exited(fails)
    plugin.thread_exited(lambda thread, **extra: ran.append("receiver"))
    thread = in_thread(body)
    assert ran == ["last in", "first in", "receiver"]
    assert [report.thread for report in reports] == [thread, thread]
    named = f"raised by {__name__}.{fails.__qualname__} of plugin 'tested', a hook of threadhooks"
    assert [text(report) for report in reports] == [f"ValueError: no luck ({named})"] * 2


def test_system_exit_is_quiet(
    plugin: Plugin, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hook that calls `sys.exit` stops nothing, and nothing is printed, as in any thread."""
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)  # pytest's is not quiet
    ran: list[int] = []

    def body() -> None:
        plugin.register(ran.append, 1)
        plugin.register(sys.exit, 3)

    in_thread(body)
    assert ran == [1]
    assert capfd.readouterr() == ("", "")


def test_muted_silences_receivers_alone(plugin: Plugin) -> None:
    """While the signal is muted, the plugin's receivers are not called; its clean-ups run all the same."""
    ran: list[str] = []
    plugin.thread_exited(lambda thread, **extra: ran.append("receiver"))
    with thread_exited.muted():
        in_thread(lambda: plugin.register(ran.append, "clean-up"))
    assert ran == ["clean-up"]
    in_thread(threadhooks.attach)
    assert ran == ["clean-up", "receiver"]


# -- close


def test_close_takes_everything_back_in_every_thread() -> None:
    """After close(), no receiver and no clean-up of the plugin runs, in no thread; those of others do."""
    ran: list[str] = []
    ready, leave = threading.Barrier(4), threading.Event()

    def body() -> None:
        gone.register(ran.append, "gone")
        kept.register(ran.append, "kept")
        gone.register_early(ran.append, "gone")
        ready.wait(LONG)
        assert leave.wait(LONG)

    with Plugin("kept") as kept, Plugin("gone") as gone, threadhooks.installed():
        gone.thread_exited(lambda thread, **extra: ran.append("gone"))
        gone.thread_exiting(lambda thread, **extra: ran.append("gone"))
        threads = [threading.Thread(target=body) for _ in range(3)]
        for thread in threads:
            thread.start()
        ready.wait(LONG)
        gone.close()
        assert gone.pending() == {}
        assert {thread: len(pending) for thread, pending in kept.pending().items()} == dict.fromkeys(threads, 1)
        leave.set()
        for thread in threads:
            thread.join(LONG)
    assert ran == ["kept"] * 3


def test_close_destroys_what_was_registered() -> None:
    """A closed plugin keeps neither functions nor arguments alive, though its threads go on."""

    class Argument:
        pass

    def body() -> None:
        plugin = Plugin("forgetful")
        argument = Argument()
        function = functools.partial(print)
        plugin.register(function, argument)
        alive = weakref.ref(argument), weakref.ref(function)
        del argument, function
        plugin.close()
        results.append([ref() for ref in alive])

    results: list[list[object]] = []
    in_thread(body)
    assert results == [[None, None]]


def test_closing_again_does_nothing() -> None:
    """A closed plugin may be closed, also with `run`."""
    plugin = Plugin("twice")
    plugin.close()
    plugin.close(run=True)
    assert plugin.closed


def test_close_with_run_runs_the_current_threads(reports: list[threading.ExceptHookArgs]) -> None:
    """With `run`, this thread's clean-ups run now, last in, first out, once; other threads' are taken back."""
    ran: list[Any] = []
    registered, leave = threading.Event(), threading.Event()

    def elsewhere() -> None:
        plugin.register(ran.append, "another thread's")
        registered.set()
        assert leave.wait(LONG)

    def fails() -> None:
        raise OSError("disc full")

    def body() -> None:
        plugin.register(ran.append, 1)
        plugin.register(fails)
        plugin.register_early(ran.append, 2)
        plugin.close(run=True)
        ran.append("closed")

    plugin = Plugin("running")
    other = threading.Thread(target=elsewhere)
    other.start()
    assert registered.wait(LONG)
    thread = in_thread(body)
    leave.set()
    other.join(LONG)
    assert ran == [2, 1, "closed"]
    assert [report.thread for report in reports] == [thread]
    assert "fails of plugin 'running', a hook of threadhooks" in text(reports[0])


def test_a_clean_up_that_runs_at_close_may_not_register() -> None:
    """With `run`, what runs finds the plugin closed; what it registers is refused, and the refusal reported."""
    refused: list[str] = []

    def registers() -> None:
        try:
            plugin.register(print)
        except RuntimeError as error:
            refused.append(str(error))

    def body() -> None:
        plugin.register(registers)
        plugin.close(run=True)

    plugin = Plugin("shut")
    in_thread(body)
    assert refused == ["plugin 'shut' is closed"]


def test_close_with_run_in_a_thread_without_clean_ups() -> None:
    """With `run` in a thread that has nothing, nothing runs, and the thread is not attached."""
    plugin = Plugin("elsewhere")
    assert announced(lambda: plugin.close(run=True)) == []
    assert plugin.closed


# -- close, while other threads are exiting


def test_close_waits_for_a_clean_up_that_runs() -> None:
    """close() returns when the clean-up that another thread is running has returned, and not before."""
    plugin = Plugin("waiting")
    with exiting_within(plugin) as (_, leave):
        closer = closing(plugin)
        assert closer.is_alive()
        leave.set()
        closer.join(LONG)
        assert not closer.is_alive()
    assert plugin.closed


@SIGNALS
def test_close_waits_for_a_receiver_that_runs(signal: ThreadSignal) -> None:
    """The same for a receiver of any signal, which may raise."""
    entered, leave = threading.Event(), threading.Event()

    def receiver(thread: threading.Thread, **extra: Any) -> None:
        entered.set()
        assert leave.wait(LONG)
        order.append("the receiver ends")
        raise ValueError("it raises")

    order: list[str] = []
    plugin = Plugin("waiting")
    getattr(plugin, signal.name)(receiver)
    reported: list[object] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(threading, "excepthook", reported.append)
        with threadhooks.installed():
            thread = threading.Thread(target=threadhooks.attach)
            thread.start()
        assert entered.wait(LONG)
        closer = threading.Thread(target=lambda: (plugin.close(), order.append("it is closed")))
        closer.start()
        wait_for_close(plugin, closer.join)
        order.append("the receiver may end")
        leave.set()
        closer.join(LONG)
        thread.join(LONG)
    assert order == ["the receiver may end", "the receiver ends", "it is closed"]
    assert len(reported) == 1


def test_close_does_not_wait_for_other_plugins(plugin: Plugin) -> None:
    """A hook of another plugin that hangs is nobody else's business."""
    with exiting_within(plugin) as (thread, _):
        in_thread(Plugin("quick").close)
        assert thread.is_alive()


def test_close_in_two_threads_waits_in_both() -> None:
    """The second to close waits as the first does."""
    plugin = Plugin("doubly")
    with exiting_within(plugin) as (_, leave):
        closers = [closing(plugin), closing(plugin)]
        assert all(closer.is_alive() for closer in closers)
        leave.set()
        for closer in closers:
            closer.join(LONG)
            assert not closer.is_alive()


def test_close_waits_for_what_another_close_runs() -> None:
    """A clean-up that `close(run=True)` is running in one thread has ended when close() returns in another."""
    entered, leave = threading.Event(), threading.Event()
    order: list[str] = []

    def clean_up() -> None:
        entered.set()
        assert leave.wait(LONG)
        order.append("the clean-up ends")

    def first() -> None:
        plugin.register(clean_up)
        plugin.close(run=True)

    plugin = Plugin("run by close")
    thread = threading.Thread(target=first)
    thread.start()
    assert entered.wait(LONG)
    second = threading.Thread(target=lambda: (plugin.close(), order.append("it is closed")))
    second.start()
    wait_for_close(plugin, second.join)
    leave.set()
    second.join(LONG)
    thread.join(LONG)
    assert order == ["the clean-up ends", "it is closed"]


@pytest.mark.parametrize("method", ["register", "register_early", "thread_started", "thread_exiting", "thread_exited"])
def test_close_at_any_line_of_a_thread(method: str) -> None:
    """Closed at any line of ours that a thread executes from its start to its exit, a hook has run before, or never."""

    def hook(*_: Any, **__: Any) -> None:
        ran.append(closed.is_set())

    def body() -> None:
        if method.startswith("register"):
            with suppress(RuntimeError):  # it is closed
                getattr(plugin, method)(hook)

    def close() -> None:
        assert interrupted.wait(LONG)
        plugin.close()
        closed.set()

    def interrupt() -> None:  # perhaps after the thread has left `threading.enumerate()`: it must not ask who it is
        interrupted.set()
        wait_for_close(plugin, closed.wait)

    outcomes: set[tuple[bool, ...]] = set()
    number = 0
    while True:
        plugin, interrupted, closed = Plugin(f"at line {number}"), threading.Event(), threading.Event()
        closer = threading.Thread(target=close)
        closer.start()
        ran: list[bool] = []
        if not method.startswith("register"):
            getattr(plugin, method)(hook)
        line = AtLine(number, interrupt)
        thread = threading.Thread(target=body)
        with threadhooks.installed():
            line.start(thread)
        thread.join(LONG)
        interrupted.set()
        closer.join(LONG)
        assert closed.is_set()
        if line.reached:
            outcomes.add(tuple(ran))
            number += 1
        elif line.lines:  # free-threaded 3.13 traces nothing of a thread, now and then
            break
    assert outcomes == {(), (False,)}


def test_a_receiver_chosen_but_not_called_is_never_called() -> None:
    """A receiver that a send has found before close(), and would call after it, is not called."""
    heard: list[str] = []
    first = Plugin("first")
    second = Plugin("second")
    chosen, begin = threading.Event(), threading.Event()

    @first.thread_exited
    def holds_up(thread: threading.Thread, **extra: Any) -> None:
        chosen.set()
        assert begin.wait(LONG)

    second.thread_exited(lambda thread, **extra: heard.append("second"))
    thread = threading.Thread(target=threadhooks.attach)
    thread.start()
    assert chosen.wait(LONG)
    second.close()
    begin.set()
    thread.join(LONG)
    first.close()
    assert heard == []


def test_close_waits_for_hooks_that_close_in_a_circle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hooks that wait for each other in `close` don't wait for who is in no hook: it waits for them all the same."""
    plugin = Plugin("circle")
    barrier = threading.Barrier(4)
    slow, rest = threading.Event(), threading.Event()
    ended: list[str] = []

    def closer() -> None:
        barrier.wait(LONG)
        plugin.close()
        assert rest.wait(LONG)
        ended.append("closer")

    def sleeper() -> None:
        barrier.wait(LONG)
        assert slow.wait(LONG)
        ended.append("sleeper")

    def outside() -> None:
        barrier.wait(LONG)
        plugin.close()
        ended.append("outsider")

    def wake() -> None:  # the outsider alone, so that it looks while the others still stand there
        for news, (ident, _) in list(plugins._waiting.items()):
            if ident == outsider.ident:
                with suppress(RuntimeError):
                    news.release()

    outsider = threading.Thread(target=outside)
    monkeypatch.setattr(plugins, "_wake", wake)
    hooks = [threading.Thread(target=plugin.register, args=(hook,)) for hook in (closer, closer, sleeper)]
    for thread in (*hooks, outsider):
        thread.start()
    deadline = time.monotonic() + LONG
    while len(plugins._waiting) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    slow.set()
    hooks[2].join(LONG)
    outsider.join(0.2)
    rest.set()
    for thread in (*hooks, outsider):
        thread.join(LONG)
    assert ended == ["sleeper", "closer", "closer", "outsider"]


@pytest.mark.skipif("COVERAGE_RUN" in os.environ, reason="3.11 may loop for ever when it throws into what it traces")
def test_an_asynchronous_exception_in_a_hook_leaves_nothing_to_wait_for(plugin: Plugin, reports: Any) -> None:
    """Thrown into a thread that runs hook after hook, it never makes a later `close` wait for a thread that is gone."""
    hook = plugins._Hook(plugin, int)

    class Thrown(BaseException):
        pass

    def body() -> None:
        going.set()
        while not stop.is_set():
            hook()

    for number in range(300):
        going, stop = threading.Event(), threading.Event()
        thread = threading.Thread(target=body)
        thread.start()
        assert going.wait(LONG)
        for _ in range(number % 50 * 20):  # another moment each time
            pass
        ident = ctypes.c_ulong(thread.ident)  # type: ignore[arg-type]
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(Thrown))
        thread.join(0.1)
        stop.set()  # a tracer may have swallowed it
        thread.join(LONG)
        assert plugins._running == {}
    assert {report.exc_type for report in reports} == {Thrown}


def test_close_that_is_interrupted_gives_the_name_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt while `close` waits leaves a closed plugin, whose name is free."""

    def interrupt(plugin: Plugin) -> None:
        raise KeyboardInterrupt

    plugin = Plugin("interrupted")
    with monkeypatch.context() as patched:
        patched.setattr(Plugin, "_wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            plugin.close()
    assert plugin.closed
    Plugin("interrupted").close()


def test_a_hook_may_close_its_own_plugin() -> None:
    """close() from within a clean-up takes the others back, does not wait for its caller, and lets it go on."""
    ran: list[str] = []
    plugin = Plugin("own")

    def closes() -> None:
        plugin.close()
        ran.append("went on")

    def body() -> None:
        plugin.register(ran.append, "older")
        plugin.register(closes)

    plugin.thread_exited(lambda thread, **extra: ran.append("receiver"))
    in_thread(body)
    assert ran == ["went on"]


def test_a_hook_may_close_its_own_plugin_and_run_the_rest() -> None:
    """With `run`, from within a clean-up, the older ones of the thread run at once."""
    ran: list[str] = []
    plugin = Plugin("own")

    def closes() -> None:
        plugin.close(run=True)
        ran.append("went on")

    def body() -> None:
        plugin.register(ran.append, "older")
        plugin.register(closes)

    in_thread(body)
    assert ran == ["older", "went on"]


def test_a_receiver_may_close_its_own_plugin() -> None:
    """close() from within a receiver lets it go on, and silences those that would follow."""
    ran: list[str] = []
    plugin = Plugin("own")

    @plugin.thread_exited
    def closes(thread: threading.Thread, **extra: Any) -> None:
        plugin.close()
        ran.append("went on")

    plugin.thread_exited(lambda thread, **extra: ran.append("later"))
    in_thread(threadhooks.attach)
    assert ran == ["went on"]


def test_hooks_in_two_threads_that_run_while_one_of_them_closes() -> None:
    """A hook that closes its plugin waits for another thread's hook of it, and then goes on."""
    order: list[str] = []
    plugin = Plugin("pair")

    with exiting_within(plugin) as (_, leave):
        closer = threading.Thread(
            target=lambda: plugin.register(lambda: (plugin.close(), order.append("closed"))),
        )
        closer.start()
        wait_for_close(plugin, closer.join)
        order.append("released")
        leave.set()
        closer.join(LONG)
    assert order == ["released", "closed"]


def test_many_hooks_that_run_are_all_waited_for() -> None:
    """close() waits for the last of several hooks, however many end meanwhile."""
    plugin = Plugin("several")
    barrier = threading.Barrier(5)
    leave = [threading.Event() for _ in range(4)]
    ended: list[int] = []

    def clean_up(number: int) -> None:
        barrier.wait(LONG)
        assert leave[number].wait(LONG)
        ended.append(number)

    threads = [threading.Thread(target=plugin.register, args=(clean_up, number)) for number in range(4)]
    for thread in threads:
        thread.start()
    barrier.wait(LONG)
    closer = closing(plugin)
    for number in (2, 0, 3):
        leave[number].set()
        threads[number].join(LONG)
        assert closer.is_alive()
    leave[1].set()
    closer.join(LONG)
    assert sorted(ended) == [0, 1, 2, 3]
    threads[1].join(LONG)


# -- registering, while the plugin is being closed


@pytest.mark.parametrize("method", ["register", "register_early", "thread_started", "thread_exiting", "thread_exited"])
def test_registering_while_it_is_being_closed(method: str) -> None:
    """A registration during which another thread closes, at any line, never runs, and is not kept."""
    kept, alive, pending, refused = [], [], {}, set()
    for number in itertools.count():
        plugin = Plugin(f"at line {number}")
        ran: list[str] = []

        def hook(*_: Any, ran: list[str] = ran, **__: Any) -> None:
            ran.append("ran")

        def body(line: AtLine, hook: Callable[..., None] = hook, plugin: Plugin = plugin) -> None:
            try:
                line.run(lambda: getattr(plugin, method)(hook))
            except RuntimeError as error:
                refused.add(str(error).replace(plugin.name, "…"))
            if line.reached:
                pending.update(plugin.pending())

        line = AtLine(number, lambda plugin=plugin: in_thread(plugin.close))  # type: ignore[misc]
        in_thread(functools.partial(body, line))
        with threadhooks.installed():
            in_thread(lambda: None)
        if not line.reached:
            break
        assert ran == []
        assert pending == {}
        kept.append(plugin)
        alive.append(weakref.ref(hook))
    plugin.close()
    del hook, body, line
    gc.collect()
    assert [number for number, hook in enumerate(alive) if hook() is not None] == []
    assert refused == {"plugin '…' is closed"}


def test_connecting_and_closing_under_load() -> None:
    """Whatever threads register and exit while others close: a hook never begins after close() has returned."""
    late: list[str] = []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for turn in range(100):
            plugin = Plugin(f"turn {turn}")
            over = threading.Event()

            def hook(*_: Any, over: threading.Event = over, **__: Any) -> None:
                if over.is_set():
                    late.append("late")

            def body(plugin: Plugin = plugin, hook: Callable[..., None] = hook) -> None:
                try:
                    plugin.register(hook)
                    plugin.thread_exited(hook)
                    plugin.register_early(hook)
                except RuntimeError:
                    pass

            threads = [threading.Thread(target=body) for _ in range(6)]
            for thread in threads[:3]:
                thread.start()
            closer = threading.Thread(target=lambda p=plugin, o=over: (p.close(), o.set()))  # type: ignore[misc]
            closer.start()
            for thread in threads[3:]:
                thread.start()
            for thread in [*threads, closer]:
                thread.join(LONG)
            assert plugin.pending() == {}
    finally:
        sys.setswitchinterval(interval)
    assert late == []
    assert thread_exited.receivers == {}


# -- fork


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize("own", [False, True], ids=["open", "closed by its hook"])
def test_a_forked_child_does_not_wait_for_its_parents_threads(program: Any, own: bool) -> None:
    """A hook that ran in another thread at the fork is not there in the child: close() doesn't wait for it there."""
    out, err, code = program(
        """
        import os, sys, threading, warnings
        import threadhooks
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads
        plugin = threadhooks.Plugin("forked")
        entered, leave = threading.Event(), threading.Event()
        def clean_up():
            if sys.argv[1] == "True":
                plugin.close()
            entered.set()
            leave.wait(30)
        thread = threading.Thread(target=plugin.register, args=(clean_up,))
        thread.start()
        entered.wait(30)
        pid = os.fork()
        if not pid:
            plugin.close()
            print("the child has closed it")
            os._exit(0)
        os.waitpid(pid, 0)
        leave.set()
        thread.join()
        plugin.close()
        print("so has the parent")
        """,
        str(own),
        timeout=10,
    )
    assert (out, err, code) == ("the child has closed it\nso has the parent\n", "", 0)


# -- entry points


class Site:
    """A folder on `sys.path` in which distributions are installed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.loaded: list[Plugin] = []

    def load(self) -> list[Plugin]:
        """Load what is installed, until the end of the test."""
        loaded = load_plugins()
        self.loaded += loaded
        return loaded

    def install(self, distribution: str, entry_points: dict[str, str], **modules: str) -> None:
        folder = self.path / f"{distribution.replace('-', '_')}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in entry_points.items()]
        (folder / "entry_points.txt").write_text("\n".join(["[threadhooks]", *lines, ""]))
        for name, source in modules.items():
            (self.path / f"{name}.py").write_text(source)
        importlib.invalidate_caches()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = set(sys.modules)
    site = Site(tmp_path)
    yield site
    for plugin in site.loaded:
        plugin.close()
    for name in set(sys.modules) - modules:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


GOOD = """
ran = []
def setup(plugin):
    ran.append(plugin)
    plugin.thread_exited(lambda thread, **extra: ran.append(thread.name))
"""


def test_an_entry_point_gets_a_plugin_of_its_name(site: Site) -> None:
    """What a distribution declares in the group "threadhooks" is called with a plugin of the entry point's name."""
    site.install("thp-good", {"good plugin": "thp_good:setup"}, thp_good=GOOD)
    [plugin] = site.load()
    import thp_good  # type: ignore[import-not-found]

    assert (plugin.name, plugin.closed) == ("good plugin", False)
    assert thp_good.ran == [plugin]
    in_thread(threadhooks.attach, "heard of")
    assert thp_good.ran == [plugin, "heard of"]
    plugin.close()
    in_thread(threadhooks.attach)
    assert thp_good.ran == [plugin, "heard of"]


def test_no_entry_points() -> None:
    """Where no distribution declares any, nothing is loaded."""
    assert load_plugins() == []


def test_entry_points_that_fail_stop_no_others(site: Site, reports: list[threading.ExceptHookArgs]) -> None:
    """One that can't be imported, raises, exits or is no function is reported by name and closed; others are loaded."""
    site.install(
        "thp-bad",
        {
            "a-missing": "thp_missing:setup",
            "b-import": "thp_import:setup",
            "c-attribute": "thp_good:nothing",
            "d-raises": "thp_bad:raises",
            "e-exits": "thp_bad:exits",
            "f-no-function": "thp_bad:number",
            "z-good": "thp_good:setup",
        },
        thp_good=GOOD,
        thp_import="raise LookupError('at the import')",
        thp_bad="import sys\n"
        "ran = []\n"
        "def raises(plugin):\n"
        "    plugin.thread_exited(lambda thread, **extra: ran.append(thread))\n"
        "    raise ZeroDivisionError\n"
        "def exits(plugin):\n"
        "    sys.exit('no more')\n"
        "number = 3\n",
    )
    [plugin] = site.load()
    assert plugin.name == "z-good"
    kinds = {
        "a-missing": ModuleNotFoundError,
        "b-import": LookupError,
        "c-attribute": AttributeError,
        "d-raises": ZeroDivisionError,
        "e-exits": ImportError,
        "f-no-function": TypeError,
    }
    assert len(reports) == len(kinds)
    for report in reports:
        [name] = [name for name in kinds if name in text(report)]
        assert report.exc_type is kinds[name]
        assert report.thread is threading.current_thread()
        Plugin(name).close()  # the name is free
    assert any("exits: no more" in text(report) for report in reports)
    in_thread(threadhooks.attach)
    assert sys.modules["thp_bad"].ran == []  # what it had connected before it failed


def test_an_entry_point_whose_name_is_in_use(site: Site, reports: list[threading.ExceptHookArgs]) -> None:
    """Of two distributions that declare one name, one is loaded, and the other reported; both are there."""
    source = "calls = []\ndef setup(plugin): calls.append(plugin)\n"
    site.install("thp-one", {"same": "thp_one:setup"}, thp_one=source)
    site.install("thp-two", {"same": "thp_two:setup"}, thp_two=source)
    loaded = site.load()
    calls = [call for name in ("thp_one", "thp_two") if name in sys.modules for call in sys.modules[name].calls]
    assert calls == loaded
    assert [plugin.name for plugin in loaded] == ["same"]
    [report] = reports
    assert report.exc_type is ValueError
    assert "an open plugin named 'same' already" in text(report)
    assert not loaded[0].closed


def test_loading_twice_loads_once(site: Site) -> None:
    """What is loaded stays as it is; what has come since, or was closed, is loaded by the next call."""
    site.install("thp-good", {"good": "thp_good:setup"}, thp_good=GOOD)
    [first] = site.load()
    assert site.load() == []
    assert not first.closed
    site.install("thp-new", {"new": "thp_new:setup"}, thp_new=GOOD)
    [new] = site.load()
    assert new.name == "new"
    first.close()
    [again] = site.load()
    assert (again.name, again is first) == ("good", False)


def test_an_entry_point_that_has_failed_is_tried_again(site: Site, reports: list[threading.ExceptHookArgs]) -> None:
    """A failure takes neither the name nor the chance to load it later."""
    site.install(
        "thp-late",
        {"late": "thp_late:setup"},
        thp_late="ready = False\ndef setup(plugin):\n    assert ready, 'not yet'\n",
    )
    assert site.load() == []
    sys.modules["thp_late"].ready = True
    [plugin] = site.load()
    assert plugin.name == "late"
    assert len(reports) == 1
    assert "not yet" in text(reports[0])


def test_a_plugin_that_loads_plugins(site: Site, reports: list[threading.ExceptHookArgs]) -> None:
    """An entry point may call `load_plugins` itself: what is being loaded, is not loaded again."""
    source = "import threadhooks\ndef setup(plugin):\n    assert threadhooks.load_plugins() == []\n"
    site.install("thp-nest", {"nest": "thp_nest:setup"}, thp_nest=source)
    assert [plugin.name for plugin in site.load()] == ["nest"]
    assert reports == []


def test_a_plugin_that_closes_itself_is_not_loaded(site: Site, reports: list[threading.ExceptHookArgs]) -> None:
    """An entry point that closes its plugin declines: it is not among those that were loaded."""
    site.install("thp-shy", {"shy": "thp_shy:setup"}, thp_shy="def setup(plugin): plugin.close()\n")
    assert site.load() == []
    assert reports == []


@pytest.mark.parametrize(("kind", "body"), [("async def", "pass"), ("def", "yield")], ids=["coroutine", "generator"])
def test_an_entry_point_that_would_not_run(
    site: Site, reports: list[threading.ExceptHookArgs], kind: str, body: str
) -> None:
    """A coroutine function, or a generator function, is reported, and not taken for loaded."""
    site.install("thp-idle", {"idle": "thp_idle:setup"}, thp_idle=f"{kind} setup(plugin): {body}\n")
    assert site.load() == []
    assert [report.exc_type for report in reports] == [TypeError]
    Plugin("idle").close()  # the name is free


def test_an_entry_point_that_exits_shows_where(site: Site, reports: list[threading.ExceptHookArgs]) -> None:
    """The report of an entry point that calls `sys.exit` has the traceback of that."""
    site.install("thp-quit", {"quit": "thp_quit:setup"}, thp_quit="import sys\ndef setup(plugin): sys.exit('no')\n")
    assert site.load() == []
    [report] = reports
    assert "thp_quit.py" in "".join(traceback.format_exception(report.exc_type, report.exc_value, report.exc_traceback))


def test_an_interrupt_while_loading(site: Site) -> None:
    """Control-C in an entry point gets through, and leaves no plugin half made."""
    site.install(
        "thp-slow",
        {"slow": "thp_slow:setup"},
        thp_slow="impatient = True\ndef setup(plugin):\n    if impatient:\n        raise KeyboardInterrupt\n",
    )
    with pytest.raises(KeyboardInterrupt):
        site.load()
    Plugin("slow").close()  # the name is free
    sys.modules["thp_slow"].impatient = False
    [plugin] = site.load()
    assert plugin.name == "slow"
