"""Plugins: they own receivers and cleanups, list them, and take back single ones."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
from loops import Worker
from support import LONG, in_thread, run_all

import threadhooks
from threadhooks import (
    Plugin,
    ThreadSignal,
    thread_exited,
    thread_exiting,
    thread_started,
    threadref,
)


@pytest.fixture
def plugin() -> Iterator[Plugin]:
    with Plugin("tested") as made:
        yield made


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
        *[(name, TypeError, "the name of a plugin must be a string, not") for name in (None, 1, b"name", ("name",))],
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
    assert not plugin.closed


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
    together = threading.Barrier(8)
    made: list[Plugin] = []

    def make() -> None:
        together.wait(LONG)
        with suppress(ValueError):
            made.append(Plugin("contended"))

    for _ in range(20):
        run_all([threading.Thread(target=make) for _ in range(8)])
        assert len(made) == 1
        made.pop().close()


def test_as_a_context_manager_it_closes_itself() -> None:
    """`with Plugin(…)` yields the plugin and closes it at the end, also of a block that raises."""
    with pytest.raises(ZeroDivisionError), Plugin("scoped") as plugin:
        assert not plugin.closed
        1 / 0
    assert plugin.closed


@pytest.mark.parametrize("method", ["register", "register_early", "thread_started", "thread_exiting", "thread_exited"])
def test_a_closed_plugin_refuses(method: str) -> None:
    """What is registered at a closed plugin is refused, with its name."""
    plugin = Plugin("over")
    plugin.close()
    with pytest.raises(RuntimeError, match="plugin 'over' is closed"):
        getattr(plugin, method)(lambda *args, **extra: None)
    assert plugin.pending() == {}


# Receivers


@pytest.mark.parametrize("signal", [thread_started, thread_exiting, thread_exited], ids=lambda s: s.name)
def test_a_receiver_is_held_until_close(signal: ThreadSignal) -> None:
    """The decorators hold what they decorate, so that a lambda stays; they return it as it was; close() lets it go."""
    heard: list[object] = []
    with Plugin("holder") as plugin:
        receiver = lambda thread, **extra: heard.append(thread)  # noqa: E731
        alive = weakref.ref(receiver)
        assert getattr(plugin, signal.name)(receiver) is receiver
        del receiver
        gc.collect()
        with threadhooks.installed():
            thread = in_thread(int)
        assert heard == [thread]
    gc.collect()
    assert alive() is None
    assert signal.receivers == {}


# Cleanups


def test_register_follows_atexit(plugin: Plugin) -> None:
    """`register` passes the arguments on, returns the function, works as a decorator, and takes one more than once."""
    calls: list[Any] = []

    def cleanup(*args: Any, **kwargs: Any) -> None:
        calls.append((args, kwargs))

    def body() -> None:
        assert plugin.register(cleanup) is cleanup
        assert plugin.register(cleanup, 1, self=2, func=3) is cleanup
        assert plugin.register_early(cleanup, "early") is cleanup

    in_thread(body)
    # The early one first: its moment came late.
    assert calls == [(("early",), {}), ((1,), {"self": 2, "func": 3}), ((), {})]


def test_cleanups_and_references_unwind_in_one_order(plugin: Plugin) -> None:
    """A cleanup runs between the callbacks of a reference that is younger and of one that is older."""
    said: list[str] = []
    kept: list[object] = []

    def body() -> None:
        kept.append(threadref.ref(lambda _: said.append("older")))
        plugin.register(said.append, "cleanup")
        kept.append(threadref.ref(lambda _: said.append("younger")))

    in_thread(body)
    assert said == ["younger", "cleanup", "older"]


def test_an_early_cleanup_that_comes_late_hides_no_reference(plugin: Plugin) -> None:
    """The exit has begun by then: a reference that it drops has its callback called all the same."""
    said: list[str] = []
    kept: list[object] = []

    def body() -> None:
        kept.append(threadref.ref(lambda _: said.append("called")))
        plugin.register_early(kept.clear)

    in_thread(body)
    assert said == ["called"]
    assert kept == []


def test_unregister_takes_back_by_identity(plugin: Plugin) -> None:
    """It takes back each cleanup that is this function, or this method of this object: one plugin's, in one thread.

    They need neither be comparable nor hashable; nor does it matter whether anything was taken back before.
    """
    ran: list[Any] = []

    class Odd:
        def __call__(self, what: str) -> None:
            ran.append(what)

        def up(self, what: str) -> None:
            ran.append(what)

        def __eq__(self, other: object) -> bool:
            raise AssertionError("it is asked")

        __hash__ = None  # type: ignore[assignment]

    one, two = Odd(), Odd()

    def body() -> None:
        for _ in range(2):
            plugin.register(one.up, "gone")
            plugin.register(two.up, "another object's")
            plugin.register(one, "gone")
            plugin.register(two, "another object")
            other.register(one.up, "another plugin's")
            plugin.register_early(one.up, "gone as well")
            with ThreadPoolExecutor(1) as pool:
                pool.submit(plugin.register, one.up, "another thread's").result()
                plugin.unregister(one.up)  # a method is another object each time
            plugin.unregister(one)
            plugin.unregister(Odd())

    with Plugin("other") as other:
        in_thread(body)
    assert ran == ["another thread's"] * 2 + ["another plugin's", "another object", "another object's"] * 2


def test_unregister_keeps_nothing(plugin: Plugin, no_collection: None) -> None:
    """A function that was taken back is gone when its owner lets go of it, though the thread goes on."""

    def body() -> None:
        plugin.register(int)
        plugin.unregister(int)  # from now on, the plugin looks its cleanups up by function
        for _ in range(2):

            def cleanup() -> None: ...

            plugin.register(cleanup)
            plugin.unregister(cleanup)
            gone.append(weakref.ref(cleanup))
            del cleanup
        alive.extend(reference() for reference in gone)

    gone: list[weakref.ref[Any]] = []
    alive: list[object] = []
    in_thread(body)
    assert alive == [None, None]


def test_unregister_is_quiet_where_there_is_nothing(plugin: Plugin, exits: list[Any]) -> None:
    """To unregister what was never registered, in a thread that isn't attached, or after close(), does nothing."""
    in_thread(lambda: plugin.unregister(print))
    assert exits == []
    done: list[bool] = []

    def body() -> None:
        plugin.register(len, ())
        plugin.unregister(print)
        assert list(plugin.pending()) == [threading.current_thread()]
        plugin.close()
        plugin.unregister(len)
        done.append(True)

    in_thread(body)
    assert done


# Pending


def test_pending_lists_what_would_run(plugin: Plugin) -> None:
    """`pending` shows function and arguments, by thread, newest first, of this plugin only; to look runs nothing."""
    ran: list[int] = []

    def register(start: int) -> None:
        plugin.register(ran.append, start)
        other.register(ran.append, 99)
        plugin.register_early(ran.append, start + 1)
        plugin.register(dict, base=10)

    with Plugin("other") as other:
        workers = [Worker(lambda start=start: register(start)).begin() for start in (10, 20)]  # type: ignore[misc]
        pending = plugin.pending()
        assert ran == []
        for worker in workers:
            worker.end()
    assert pending == {
        worker: [(ran.append, (start + 1,), {}), (dict, (), {"base": 10}), (ran.append, (start,), {})]
        for worker, start in zip(workers, (10, 20), strict=True)
    }
    entry = pending[workers[0]][1]
    assert (entry.func, entry.args, entry.kwargs) == (dict, (), {"base": 10})
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
