"""What docs/guarantees.md promises, each by its number."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import gc
import logging
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from support import Steal, in_thread, with_its_sentinel

import threadhooks
from threadhooks import Plugin, per_thread, thread_exited, threadref


def test_g01_once(plugin: Plugin) -> None:
    """Each clean-up, and each receiver, is called once for one exit."""
    calls: list[str] = []

    @plugin.thread_exited
    def exited(thread: threading.Thread, **extra: Any) -> None:
        calls.append("receiver")

    def body() -> None:
        threadhooks.attach()
        plugin.register(calls.append, "clean-up")
        threadref.finalize(calls.append, "finalizer")
        threadhooks.attach()

    in_thread(body)
    gc.collect()
    assert sorted(calls) == ["clean-up", "finalizer", "receiver"]


def test_g02_in_its_own_thread(plugin: Plugin) -> None:
    """A hook runs in the thread that ends."""
    ran: list[int] = []
    with ThreadPoolExecutor(3) as pool:
        everyone = threading.Barrier(3)

        def work(_: int) -> int:
            everyone.wait()
            own = threading.get_native_id()
            plugin.register(lambda: ran.append(own == threading.get_native_id()))
            return own

        assert len(set(pool.map(work, range(3)))) == 3
    assert ran == [True] * 3


def test_g03_before_join_returns(plugin: Plugin) -> None:
    """While a hook runs, nobody comes back from `join()`."""
    in_hook, go_on, joined = threading.Event(), threading.Event(), threading.Event()
    seen: list[bool] = []

    def hook() -> None:
        in_hook.set()
        go_on.wait()
        seen.append(joined.is_set())

    thread = threading.Thread(target=plugin.register, args=(hook,))
    waiter = threading.Thread(target=lambda: (thread.join(), joined.set()))
    thread.start()
    waiter.start()
    assert in_hook.wait(30)
    assert not joined.wait(0.1)
    go_on.set()
    waiter.join()
    assert seen == [False]


def test_g04_one_stack(plugin: Plugin) -> None:
    """Everybody's cleanups unwind as one stack, last in, first out; early ones before them, as another."""
    order: list[str] = []

    @per_thread
    def resource() -> Iterator[None]:
        yield
        order.append("resource")

    def body() -> None:
        plugin.register(order.append, "first plugin")
        resource()
        kept.append(threadref.ref(lambda ref: order.append("ref")))
        other.register(order.append, "second plugin")
        plugin.register_early(order.append, "early")
        threadref.finalize(order.append, "finalizer")
        other.register_early(order.append, "earlier")

    kept: list[object] = []
    with Plugin("other") as other:
        in_thread(body)
    assert order == ["earlier", "early", "finalizer", "second plugin", "ref", "resource", "first plugin"]


def test_g05_receivers_follow_in_the_order_of_connection(plugin: Plugin) -> None:
    """When `thread_exited` is sent, the clean-ups have run; receivers are called in the order they were connected."""
    order: list[object] = []

    def body() -> None:
        plugin.register(order.append, "clean-up")

    thread = threading.Thread(target=body)
    receivers = [lambda _, number=number, **extra: order.append(number) for number in range(5)]
    for number, receiver in enumerate(receivers):
        thread_exited.connect(receiver, sender=thread if number % 2 else threadhooks.thread_exited.ANY)
    thread.start()
    thread.join()
    assert order == ["clean-up", 0, 1, 2, 3, 4]


def test_g06_a_failure_stops_nobody_else(plugin: Plugin, failures: list[Any]) -> None:
    """Whatever a hook raises, the others run."""
    ran: list[str] = []

    class Worst(BaseException):
        pass

    @plugin.thread_exited
    def fails(thread: threading.Thread, **extra: Any) -> None:
        raise Worst

    @plugin.thread_exited
    def exited(thread: threading.Thread, **extra: Any) -> None:
        ran.append("receiver")

    def fail() -> None:
        raise KeyboardInterrupt

    def body() -> None:
        plugin.register(ran.append, "clean-up")
        plugin.register(fail)

    in_thread(body)
    assert ran == ["clean-up", "receiver"]
    assert [type(error) for error, _ in failures] == [KeyboardInterrupt, Worst]


def test_g07_a_failure_is_reported(plugin: Plugin, failures: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What a hook raises goes to `threading.excepthook`, with the thread, the hook and the plugin.

    If that fails, `sys.excepthook` is told; what listens to connections is a hook like others.
    """

    def fail() -> None:
        raise OSError("the disk is full")

    thread = in_thread(lambda: plugin.register(fail))
    ((error, told),) = failures
    assert (str(error), told) == ("the disk is full", thread)
    (note,) = error.__notes__
    assert fail.__qualname__ in note
    assert "plugin 'guarantees'" in note

    def listen(*args: Any, **extra: Any) -> None:
        raise TypeError("not that one")

    thread_exited.receiver_connected.connect(listen)  # type: ignore[type-var]
    plugin.thread_exited(lambda thread, **extra: None)
    thread_exited.receiver_connected.disconnect(listen)
    assert str(failures[1][0]) == "not that one"
    told: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, *_: told.append(kind))
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(threading, "excepthook", lambda args: {}["no such key"])
    in_thread(lambda: plugin.register(fail))
    assert told == [KeyError]


def test_g08_system_exit_is_quiet(
    plugin: Plugin, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`SystemExit` in a hook prints nothing, ends nothing but the hook."""
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)  # pytest's is not quiet
    ran: list[int] = []

    def body() -> None:
        plugin.register(ran.append, 1)
        plugin.register(sys.exit, 3)

    in_thread(body)
    assert ran == [1]
    assert capfd.readouterr() == ("", "")


def test_g09_current_thread(plugin: Plugin, caplog: pytest.LogCaptureFixture) -> None:
    """In a hook, `current_thread()` is the thread that ends, logs bear its name, and nothing stays in `enumerate()`."""
    seen: list[threading.Thread] = []

    def hook() -> None:
        seen.append(threading.current_thread())
        logging.getLogger("guarantees").warning("bye")

    before = threading.enumerate()
    thread = in_thread(lambda: plugin.register(hook))
    assert seen == [thread]
    assert [record.threadName for record in caplog.records] == [thread.name]
    assert threading.enumerate() == before


def test_g10_registered_meanwhile(plugin: Plugin) -> None:
    """What a hook registers runs in the same exit, be it a clean-up or a receiver that registers."""
    ran: list[str] = []

    @plugin.thread_exited
    def exited(thread: threading.Thread, **extra: Any) -> None:
        threadref.finalize(ran.append, "by the receiver")

    def again() -> None:
        plugin.register(ran.append, "by the clean-up")

    in_thread(lambda: plugin.register(again))
    assert ran == ["by the clean-up", "by the receiver"]


def test_g11_an_endless_loop_ends(plugin: Plugin, failures: list[Any]) -> None:
    """A hook that registers itself for ever is stopped and reported; the others run."""
    ran: list[str] = []

    def loop() -> None:
        plugin.register(loop)

    def body() -> None:
        plugin.register(ran.append, "other")
        plugin.register(loop)

    in_thread(body)
    assert ran == ["other"]
    ((error, _),) = failures
    assert isinstance(error, RuntimeError)
    assert "loop" in str(error)


def test_g12_muting_loses_no_clean_up(plugin: Plugin) -> None:
    """`muted()` silences receivers, not cleanups."""
    ran: list[str] = []

    @plugin.thread_exited
    def exited(thread: threading.Thread, **extra: Any) -> None:
        ran.append("receiver")

    with thread_exited.muted():
        in_thread(lambda: plugin.register(ran.append, "cleanup"))
    assert ran == ["cleanup"]


def test_g13_one_thread_alone() -> None:
    """A receiver of one thread is called for it alone, and let go when that has exited, or its object is garbage."""

    class Receiver:
        def __call__(self, thread: threading.Thread, **extra: Any) -> None:
            heard.append(thread)

    class Worker:
        def __init__(self) -> None:
            self.thread = threading.Thread(target=int)
            thread_exited.connect(self.told, sender=self.thread, weak=False)

        def told(self, thread: threading.Thread, **extra: Any) -> None:
            heard.append(thread)

    heard: list[threading.Thread] = []
    thread = threading.Thread(target=threadhooks.attach)
    receiver = Receiver()
    thread_exited.connect(receiver, sender=thread, weak=False)
    gone = weakref.ref(receiver)
    del receiver
    in_thread(threadhooks.attach)
    thread.start()
    thread.join()
    assert heard == [thread]
    gc.collect()
    assert gone() is None
    assert not thread_exited.receivers
    thread_exited.connect(Receiver(), sender=thread, weak=False)  # too late
    assert not thread_exited.receivers
    worker = Worker()
    worker.thread.start()  # and never attached
    worker.thread.join()
    alive = weakref.ref(worker)
    del worker
    gc.collect()
    assert alive() is None
    assert not thread_exited.receivers


def test_g14_what_could_never_run_is_refused(plugin: Plugin) -> None:
    """What can't be called, or not so, or runs nothing when it is, is refused at once, with what to do instead."""

    async def coroutine(*args: Any) -> None:
        pass

    for refuse in (thread_exited.connect, plugin.thread_exited, plugin.register, plugin.register_early, per_thread):
        with pytest.raises(TypeError, match=r"pass a plain function, which may call asyncio\.run"):
            refuse(coroutine)
        with pytest.raises(TypeError, match="must be callable"):
            refuse("text")  # type: ignore[arg-type]

    def generator(*args: Any) -> Iterator[None]:
        yield

    for refuse in (thread_exited.connect, plugin.thread_exited, plugin.register, plugin.register_early):
        for prepares in (generator, functools.lru_cache(generator), functools.singledispatch(generator)):
            with pytest.raises(TypeError, match="a generator function"):
                refuse(prepares)
        with pytest.raises(TypeError, match="a context manager"):
            refuse(contextlib.contextmanager(generator))

    def takes_nothing() -> None:
        pass

    for refuse in (thread_exited.connect, plugin.thread_started, plugin.thread_exiting, plugin.thread_exited):
        with pytest.raises(TypeError, match=r"let it take \(thread, \*\*extra\)"):
            refuse(takes_nothing)  # type: ignore[operator]


def test_g15_any_mixture_of_threads() -> None:
    """Connect, disconnect and send in many threads at once: no error, no receiver lost, none left behind."""
    heard: list[object] = []
    stays = lambda sender, **extra: heard.append(sender)  # noqa: E731
    thread_exited.connect(stays)
    here = threading.Barrier(4)

    def body(number: int) -> int:
        here.wait()
        for _ in range(300):
            receiver = lambda sender, **extra: None  # noqa: E731
            thread_exited.connect(receiver, sender=number)
            thread_exited.connect(lambda sender, **extra: None)  # dies at once
            assert stays in [called for called, _ in thread_exited.send(number)]
            thread_exited.disconnect(receiver, sender=number)
        return number

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(body, range(4))) == [0, 1, 2, 3]
    assert len(heard) == 1200
    thread_exited.disconnect(stays)
    assert not thread_exited.receivers


def test_g16_nothing_after_close() -> None:
    """When `close()` has returned, no hook of the plugin runs, in any thread."""
    plugin = Plugin("closing")
    in_hook, go_on, closed = threading.Event(), threading.Event(), threading.Event()
    events: list[str] = []

    def hook() -> None:
        in_hook.set()
        go_on.wait()
        events.append("hook ended")

    def body() -> None:
        plugin.register(events.append, "never")
        plugin.register(hook)

    def close() -> None:
        plugin.close()
        events.append("close returned")
        closed.set()

    thread, closer = threading.Thread(target=body), threading.Thread(target=close)
    thread.start()
    assert in_hook.wait(30)
    closer.start()
    assert not closed.wait(0.1)
    go_on.set()
    thread.join()
    closer.join()
    assert events == ["hook ended", "close returned"]
    with pytest.raises(RuntimeError, match="plugin 'closing' is closed"):
        plugin.register(print)


def test_g17_the_early_moment(plugin: Plugin) -> None:
    """At `thread_exiting`, thread-locals, context variables and `current_thread()` are there."""
    local = threading.local()
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen: list[object] = []

    def look(*_: object, **extra: Any) -> None:
        seen.append((local.value, variable.get(), threading.current_thread()))

    plugin.thread_exiting(look)

    def body() -> None:
        local.value = 1
        variable.set("two")
        plugin.register_early(look)

    with threadhooks.installed():
        thread = in_thread(body)
    assert seen == [(1, "two", thread)] * 2


def test_g18_an_early_cleanup_is_never_lost(plugin: Plugin) -> None:
    """Where the early moment doesn't come, an early cleanup runs before the late ones, and there is a warning."""
    ran: list[str] = []

    def body() -> None:
        with pytest.warns(ResourceWarning, match="early cleanup .*append.* will run late"):
            plugin.register_early(ran.append, "early")
        plugin.register(ran.append, "late")

    in_thread(body)
    assert ran == ["early", "late"]


def test_g19_the_exception(plugin: Plugin, failures: list[Any]) -> None:
    """Receivers are told what `run()` raised; afterwards we keep it no longer."""
    told: list[str] = []
    kept: list[weakref.ref[BaseException]] = []

    class Crash(Exception):
        pass

    @plugin.thread_exiting
    @plugin.thread_exited
    def exited(thread: threading.Thread, exception: BaseException, **extra: Any) -> None:
        told.append(type(exception).__name__)
        kept.append(weakref.ref(exception))

    def body() -> None:
        raise Crash

    with threadhooks.installed():
        in_thread(body)
    assert told == ["Crash", "Crash"]
    failures.clear()
    gc.collect()
    assert kept[0]() is None


def test_g20_a_resource_of_each_thread() -> None:
    """A `per_thread` value is opened once in a thread, and closed once, in that thread, before what it was built on."""
    events: list[tuple[str, int]] = []

    @per_thread
    def lower() -> Iterator[str]:
        yield "lower"
        events.append(("lower closed", threading.get_ident()))

    @per_thread
    def upper() -> Iterator[object]:
        lower()
        yield object()
        events.append(("upper closed", threading.get_ident()))

    thread = in_thread(lambda: upper() is upper() or events.append(("opened twice", 0)))
    assert events == [("upper closed", thread.ident), ("lower closed", thread.ident)]


def test_g21_a_crash_is_thrown_into_the_resource(failures: list[Any]) -> None:
    """If `run()` raised and the thread announces itself, the generator gets the exception."""
    events: list[str] = []

    @per_thread
    def transaction() -> Iterator[None]:
        try:
            yield
        except ZeroDivisionError:
            events.append("rolled back")
        else:
            events.append("committed")

    def crash() -> None:
        transaction()
        raise ZeroDivisionError

    with threadhooks.installed():
        in_thread(transaction)
        in_thread(crash)
    assert events == ["committed", "rolled back"]


def test_g20_no_value_from_before_close_all() -> None:
    """Once `close_all` has returned, each thread opens anew; its old value has been closed in that thread."""
    events: list[tuple[str, int]] = []

    @per_thread
    def resource() -> Iterator[object]:
        yield object()
        events.append(("closed", threading.get_ident()))

    def body() -> None:
        old = resource()
        in_thread(resource.close_all)
        assert events == []
        assert resource() is not old
        events.append(("opened anew", threading.get_ident()))

    thread = in_thread(body)
    assert events == [("closed", thread.ident), ("opened anew", thread.ident), ("closed", thread.ident)]


def test_g21_nothing_is_committed(failures: list[Any]) -> None:
    """A connection whose `with` commits is closed, whether its thread crashes or not."""
    done: list[str] = []

    class Connection:
        def __enter__(self) -> Connection:  # noqa: PYI034
            return self

        def __exit__(self, *error: object) -> None:
            done.append("commit")

        def close(self) -> None:
            done.append("close")

    connection = per_thread(Connection)
    in_thread(connection)
    in_thread(lambda: [connection()][1])
    assert done == ["close", "close"]


def test_g25_install_reaches_every_thread(plugin: Plugin, failures: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Under `install`, pools, timers, daemons and subclasses announce themselves; what only calls `run()` does not."""
    started: list[Any] = []

    class Overrides(threading.Thread):
        def run(self) -> None:
            started.append("body")

        def start(self) -> None:
            super().start()

    class Nameless(threading.Thread):
        name = property(lambda self: 1 / 0, lambda self, name: None)  # type: ignore[assignment]

    class Replaces(threading.Thread):
        pass

    @plugin.thread_started
    def starts(thread: threading.Thread, info: threadhooks.ThreadInfo, **extra: Any) -> None:
        started.append(thread)
        assert info.announced

    original = threading.Thread
    monkeypatch.setattr(threading, "Thread", Replaces)
    with threadhooks.installed():
        monkeypatch.setattr(threading, "Thread", original)
        with ThreadPoolExecutor(1, "pool") as pool:
            worker = pool.submit(threading.current_thread).result()
        threads = [threading.Thread(daemon=True), threading.Timer(0, int), Nameless(), Replaces()]
        for thread in threads:
            thread.start()
            thread.join()
        assert started == [worker, *threads]
        assert [type(error) for error, _ in failures] == [ZeroDivisionError]
        started.clear()
        overrides = Overrides()
        overrides.start()
        overrides.join()
        overrides.run()
        with mock.patch.object(threading.Thread, "start", lambda self: self.run()):
            threadhooks.install()
            Overrides().start()
            threadhooks.uninstall()
    assert started == [overrides, "body", "body", "body"]


def test_g26_install_changes_nothing_else(failures: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What `run()` raises is raised as before; nothing stays on the thread; a start that failed can be tried again."""
    with threadhooks.installed():
        thread = in_thread(lambda: [][0])
        never = threading.Thread(target=int)
        before = set(vars(never))
        with monkeypatch.context() as patch:
            name = "_start_joinable_thread" if hasattr(threading, "_start_joinable_thread") else "_start_new_thread"

            def refuse(*args: Any, **kwargs: Any) -> None:
                raise RuntimeError("can't start new thread")

            patch.setattr(threading, name, refuse)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                never.start()
        with mock.patch.object(threading.Thread, "start", autospec=True) as start:
            with threadhooks.installed():
                threading.Thread(target=int).start()
            start.assert_called_once()
        assert set(vars(never)) == before
        never.start()
        never.join()
    assert [(type(error), told) for error, told in failures] == [(IndexError, thread)]
    assert "run" not in vars(thread)


def test_g27_nothing_is_left(plugin: Plugin) -> None:
    """A thread that has ended leaves nothing behind with us: it can be collected."""
    objects: list[weakref.ref[Any]] = []

    class Argument:
        pass

    def body() -> None:
        argument = Argument()
        objects.append(weakref.ref(argument))
        plugin.register(lambda argument: None, argument)

    objects.append(weakref.ref(in_thread(body)))
    gc.collect()
    assert [ref() for ref in objects] == [None, None]


def test_g28_references_move_nothing(plugin: Plugin) -> None:
    """A `threadref.ref` may be read from any thread, at any time, and the hooks run where they belong."""
    refs: list[threadref.ref] = []
    ran: list[int] = []
    made, stop = threading.Event(), threading.Event()

    def read() -> None:
        while not stop.is_set():
            for ref in refs:
                ref()

    def body() -> None:
        refs.append(threadref.ref())
        plugin.register(lambda: ran.append(threading.get_ident()))
        made.set()

    reader = threading.Thread(target=read)
    reader.start()
    threads = []
    for _ in range(100):
        threads.append(in_thread(body))
    stop.set()
    reader.join()
    assert ran == [thread.ident for thread in threads]
    assert [ref() for ref in refs] == [None] * 100


def test_g29_never_in_a_thread_that_is_not_theirs(plugin: Plugin, failures: list[Any], steal: Steal) -> None:
    """A sentinel that is finalized in another thread runs nothing there, even under an ident used again: reported."""
    ran: list[Any] = []
    thread, stolen = with_its_sentinel(steal, lambda: plugin.register(ran.append, 1))
    for _ in range(20):  # a new thread gets the same ident at once, as a rule
        other = in_thread(stolen.clear)
        if other.ident == thread.ident:
            break
    assert ran == []
    ((error, told),) = failures
    assert told is thread
    assert "was finalized in another thread" in str(error)


def test_g30_no_lock_to_wait_for(plugin: Plugin) -> None:
    """A finaliser that comes in the middle of a registration may register, connect and disconnect in its turn."""
    ran: list[str] = []

    class Finalised:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            thread_exited.connect(receiver)
            plugin.register(ran.append, "registered by a finaliser")
            thread_exited.disconnect(receiver)

    def receiver(thread: threading.Thread, **extra: Any) -> None:
        pass

    def body() -> None:
        threshold = gc.get_threshold()
        gc.set_threshold(1)
        try:
            for _ in range(50):
                Finalised()
                plugin.register(ran.append, "registered")
        finally:
            gc.set_threshold(*threshold)
        gc.collect()

    in_thread(body)
    assert sorted(ran) == ["registered"] * 50 + ["registered by a finaliser"] * 50


def test_g31_a_plugin_that_fails_to_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: list[Any]) -> None:
    """A plugin that fails to load is reported, and stops no other."""
    (tmp_path / "guarantees_plugin.py").write_text("def good(plugin): plugin.register(print)\ndef bad(plugin): 1 / 0\n")
    folder = tmp_path / "guarantees-1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: guarantees\nVersion: 1\n")
    (folder / "entry_points.txt").write_text(
        "[threadhooks]\nbad = guarantees_plugin:bad\ngood = guarantees_plugin:good\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    loaded = threadhooks.load_plugins()
    for plugin in loaded:
        plugin.close()
    assert "good" in [plugin.name for plugin in loaded]
    ((error, _),) = failures
    assert isinstance(error, ZeroDivisionError)
    assert "bad" in error.__notes__[0]
