"""Plugins: they own receivers and cleanups, list them, and take back single ones."""

from __future__ import annotations

import functools
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support import LONG, in_thread

import threadhooks
from threadhooks import (
    Plugin,
    ThreadSignal,
    thread_exited,
    thread_exiting,
    thread_started,
)


@pytest.fixture
def plugin() -> Iterator[Plugin]:
    with Plugin("tested") as made:
        yield made


def announced(body: Callable[[], object]) -> list[threading.Thread]:
    """The threads that have announced their exit when one that runs `body` has ended: none, if it is not attached."""
    heard: list[threading.Thread] = []
    with thread_exited.connected_to(receiver := lambda thread, **extra: heard.append(thread)):
        in_thread(body)
    del receiver
    return heard


# Its name, and whether it is open


def test_a_plugin_has_a_name_and_is_open() -> None:
    """A plugin shows its name, and whether it was closed, as attributes and in its repr."""
    plugin = Plugin("shown")
    assert (plugin.name, plugin.closed, repr(plugin)) == ("shown", False, "<Plugin 'shown'>")
    plugin.close()
    assert (plugin.name, plugin.closed, repr(plugin)) == ("shown", True, "<Plugin 'shown' closed>")


@pytest.mark.parametrize(
    ("name", "error", "why"),
    [
        *[(name, TypeError, "the name of a plugin is a string, not") for name in (None, 1, b"name", ("name",))],
        ("", ValueError, "must not be empty"),
    ],
)
def test_a_name_is_a_string_that_says_something(name: Any, error: type[Exception], why: str) -> None:
    """A name that is no string, or is empty, is refused."""
    with pytest.raises(error, match=why):
        Plugin(name)


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


METHODS = pytest.mark.parametrize(
    "method", ["register", "register_early", "thread_started", "thread_exiting", "thread_exited"]
)


@METHODS
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


@METHODS
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


# Receivers


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


# Cleanups


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
    # The early one first: its moment came late.
    assert calls == [((), {}, "mine"), "bare", ((1,), {"self": 2, "func": 3}, "mine"), "bare"]


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


def test_unregister_takes_back_by_identity(plugin: Plugin) -> None:
    """It takes back each cleanup that is this function, or this method of this object: one plugin's, in one thread."""
    ran: list[Any] = []

    class Clean:
        def up(self, what: str) -> None:
            ran.append(what)

        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    one, two = Clean(), Clean()

    def body() -> None:
        plugin.register(one.up, "gone")
        plugin.register(two.up, "an equal object's")
        other.register(one.up, "another plugin's")
        plugin.register_early(one.up, "gone as well")
        plugin.register(ran.append, "gone, too")
        plugin.register([].append, "an equal list's")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(plugin.register, one.up, "another thread's").result()
            plugin.unregister(one.up)  # a method is another object each time
        plugin.unregister(ran.append)

    with Plugin("other") as other:
        in_thread(body)
    assert ran == ["another thread's", "another plugin's", "an equal object's"]


def test_unregister_keeps_nothing(plugin: Plugin, no_collection: None) -> None:
    """A function that was taken back is gone when its owner lets go of it, though the thread goes on."""

    def body() -> None:
        plugin.register(int)
        plugin.unregister(int)  # from now on, the plugin looks its cleanups up by function
        gone = []
        for _ in range(2):

            def cleanup() -> None: ...

            plugin.register(cleanup)
            plugin.unregister(cleanup)
            gone.append(weakref.ref(cleanup))
            del cleanup
        alive.extend(reference() for reference in gone)

    alive: list[object] = []
    in_thread(body)
    assert alive == [None, None]


def test_unregister_asks_a_function_nothing(plugin: Plugin) -> None:
    """A function that can neither be compared nor hashed can be taken back, before other registrations and after."""
    ran: list[str] = []

    class Odd:
        def __eq__(self, other: object) -> bool:
            raise AssertionError("it is asked")

        __hash__ = None  # type: ignore[assignment]

        def __call__(self, what: str) -> None:
            ran.append(what)

    odd, another = Odd(), Odd()

    def body() -> None:
        for what in ("gone", "gone as well"):
            plugin.register(odd, what)
            plugin.register(another, "kept")
            plugin.unregister(odd)
            plugin.unregister(Odd())

    in_thread(body)
    assert ran == ["kept", "kept"]


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
    """A cleanup may take back those that have not run yet."""
    ran: list[str] = []

    def older() -> None:
        ran.append("older")

    def body() -> None:
        plugin.register(older)
        plugin.register(plugin.unregister, older)
        plugin.register(ran.append, "newer")

    in_thread(body)
    assert ran == ["newer"]


# Pending


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
    """What is done to the listing does nothing to the cleanups."""
    ran: list[dict[str, Any]] = []

    def body() -> None:
        plugin.register(lambda **kwargs: ran.append(kwargs), key="value")
        pending = plugin.pending()
        pending[threading.current_thread()][0].kwargs.clear()
        pending[threading.current_thread()].clear()

    in_thread(body)
    assert ran == [{"key": "value"}]


def test_pending_within_a_hook(plugin: Plugin) -> None:
    """The cleanup that runs is not pending any more; the older ones are, until they run."""
    seen: list[list[Any]] = []

    def look(number: int) -> None:
        seen.append([pending.args for pending in plugin.pending().get(threading.current_thread(), [])])

    in_thread(lambda: [plugin.register(look, number) for number in range(3)])
    assert seen == [[(1,), (0,)], [(0,)], []]


def test_pending_puts_early_cleanups_first(plugin: Plugin) -> None:
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
