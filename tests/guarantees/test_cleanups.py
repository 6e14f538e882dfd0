"""What docs/guarantees.md says of cleanups and of exits, each promise and each limit by its number."""

from __future__ import annotations

import contextvars
import gc
import logging
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from signalling import Sender
from support import LONG, Farewell, Steal, in_thread, run_all, with_its_sentinel

import threadhooks
from threadhooks import Plugin, per_thread, thread_exited, threadref
from threadhooks._stack import Stack


def test_g01_once(plugin: Plugin, heard: list[Any]) -> None:
    """Each cleanup, and each receiver, is called once at one exit."""
    calls: list[str] = []

    def body() -> None:
        threadhooks.attach()
        plugin.register(calls.append, "cleanup")
        threadref.finalize(calls.append, "finalizer")
        threadhooks.attach()

    thread = in_thread(body)
    gc.collect()
    assert sorted(calls) == ["cleanup", "finalizer"]
    assert heard == [thread]


def test_g02_in_its_own_thread(plugin: Plugin) -> None:
    """A hook runs in the thread that ends: the one with its ident and its native id."""
    ran: list[tuple[int, int]] = []
    hook = lambda: ran.append((threading.get_ident(), threading.get_native_id()))  # noqa: E731
    threads = [in_thread(lambda: plugin.register(hook)) for _ in range(3)]
    assert ran == [(thread.ident, thread.native_id) for thread in threads]


def test_g03_before_join_returns(plugin: Plugin) -> None:
    """While a hook is running, `join()` does not return."""
    in_hook, go_on, joined = threading.Event(), threading.Event(), threading.Event()
    seen: list[bool] = []
    thread = threading.Thread(target=lambda: plugin.register(hook))
    waiter = threading.Thread(target=lambda: (thread.join(), joined.set()))

    def hook() -> None:
        in_hook.set()
        go_on.wait(LONG)
        seen.append(joined.is_set())

    thread.start()
    waiter.start()
    assert in_hook.wait(LONG)
    assert not joined.wait(0.1)
    go_on.set()
    waiter.join(LONG)
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


def test_g06_a_failure_stops_no_other_hook(plugin: Plugin, failures: list[Any]) -> None:
    """Whatever a hook raises, the next one runs."""
    ran: list[str] = []

    def fail(*_: object, **extra: object) -> None:
        raise KeyboardInterrupt

    def body() -> None:
        plugin.register(ran.append, "cleanup")
        plugin.register(fail)

    plugin.thread_exited(fail)
    plugin.thread_exited(lambda thread, **extra: ran.append("receiver"))
    in_thread(body)
    assert ran == ["cleanup", "receiver"]
    assert [type(error) for error, _ in failures] == [KeyboardInterrupt] * 2


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
    assert "plugin 'of the test'" in note

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
    """`SystemExit` ends the hook that raised it, and nothing else; nothing is printed."""
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)  # pytest's is not quiet
    ran: list[int] = []
    in_thread(lambda: (plugin.register(ran.append, 1), plugin.register(sys.exit, 3)))
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


def test_g10_what_is_registered_meanwhile_runs_in_the_same_exit(plugin: Plugin) -> None:
    """What a hook registers runs in the same exit, whether a cleanup registers it or a receiver."""
    ran: list[str] = []
    plugin.thread_exited(lambda thread, **extra: threadref.finalize(ran.append, "by the receiver"))
    in_thread(lambda: plugin.register(lambda: plugin.register(ran.append, "by the cleanup")))
    assert ran == ["by the cleanup", "by the receiver"]


def test_g11_an_endless_loop_ends(plugin: Plugin, failures: list[Any]) -> None:
    """A hook that registers itself without end is stopped and reported; the others run."""
    ran: list[str] = []

    def loop() -> None:
        plugin.register(loop)

    in_thread(lambda: (plugin.register(ran.append, "other"), loop()))
    assert ran == ["other"]
    ((error, _),) = failures
    assert isinstance(error, RuntimeError)
    assert "loop" in str(error)


def test_g16_nothing_after_close(plugin: Plugin) -> None:
    """When `close()` has returned, no hook of the plugin runs, in any thread."""
    in_hook, go_on, closed = threading.Event(), threading.Event(), threading.Event()
    events: list[str] = []

    def hook() -> None:
        in_hook.set()
        go_on.wait(LONG)
        events.append("hook ended")

    def close() -> None:
        plugin.close()
        events.append("close returned")
        closed.set()

    thread = threading.Thread(target=lambda: (plugin.register(events.append, "never"), plugin.register(hook)))
    closer = threading.Thread(target=close)
    thread.start()
    assert in_hook.wait(LONG)
    closer.start()
    assert not closed.wait(0.1)
    go_on.set()
    thread.join(LONG)
    closer.join(LONG)
    assert events == ["hook ended", "close returned"]
    with pytest.raises(RuntimeError, match="plugin 'of the test' is closed"):
        plugin.register(print)


def test_g27_nothing_is_kept(plugin: Plugin) -> None:
    """A thread that has ended can be garbage-collected, and so can its cleanups and their arguments."""
    objects: list[weakref.ref[Any]] = []

    def body() -> None:
        argument = Sender()
        objects.append(weakref.ref(argument))
        plugin.register(lambda argument: None, argument)

    objects.append(weakref.ref(in_thread(body)))
    gc.collect()
    assert [ref() for ref in objects] == [None, None]


def test_g28_reading_a_reference_moves_nothing(plugin: Plugin) -> None:
    """A `threadref.ref` may be read from any thread, at any time, and the hooks run where they belong."""
    refs: list[threadref.ref] = []
    ran: list[int] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            for ref in refs:
                ref()

    def body() -> None:
        refs.append(threadref.ref())
        plugin.register(lambda: ran.append(threading.get_ident()))

    reader = threading.Thread(target=read)
    reader.start()
    threads = [in_thread(body) for _ in range(100)]
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


def test_g29_what_was_lost_keeps_nobody_else(steal: Steal, failures: list[Any], no_collection: None) -> None:
    """A finalizer that was lost so does not keep the thread alive in which its sentinel was finalized."""
    kept: list[Any] = []
    _, stolen = with_its_sentinel(steal, lambda: kept.append(threadref.finalize(print)))
    other = weakref.ref(in_thread(stolen.clear))
    assert len(failures) == 1
    failures.clear()
    assert other() is None
    assert not kept[0].alive


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


def test_l01_thread_locals_are_gone(plugin: Plugin) -> None:
    """At the late moment other thread-locals read as empty."""
    local = threading.local()
    seen: list[bool] = []
    hook = lambda: seen.append(hasattr(local, "value"))  # noqa: E731
    in_thread(lambda: (setattr(local, "value", 1), hook(), plugin.register(hook)))
    assert seen == [True, False]


def test_l02_context_variables(plugin: Plugin) -> None:
    """At the late moment what `run()` set in a context variable is gone, from Python 3.14 on."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="gone")
    seen: list[str] = []
    in_thread(lambda: (variable.set("there"), plugin.register(lambda: seen.append(variable.get()))))
    assert seen == ["gone" if sys.version_info >= (3, 14) else "there"]


def test_l14_a_sentinel_that_is_kept(plugin: Plugin, failures: list[Any], steal: Steal) -> None:
    """Who takes a sentinel (by means of the `gc` module) and keeps it, stops its thread's hooks; it is reported."""
    ran: list[Any] = []
    thread, stolen = with_its_sentinel(steal, lambda: plugin.register(ran.append, 1))
    assert ran == []
    assert failures == []
    stolen.clear()
    assert ran == []
    assert [told for _, told in failures] == [thread]


def test_l15_native_ids(program: Callable[..., Any]) -> None:
    """That is seen by the ident and the native id: if both were in use again, the hooks would run in that thread."""
    assert program(
        """
        import _thread, gc, threading

        def get_ident(real=_thread.get_ident):
            return again.ident if again else real()

        def get_native_id(real=_thread.get_native_id):
            return again.native_id if again else real()

        again = None
        _thread.get_ident = threading.get_ident = get_ident
        _thread.get_native_id = threading.get_native_id = get_native_id

        import threadhooks

        def body():
            plugin.register(print, "run elsewhere")
            for obj in gc.get_referents(*gc.get_objects()):
                if type(obj).__module__.startswith("threadhooks.") and hasattr(type(obj), "__del__"):
                    stolen.append(obj)
            obj = None

        stolen = []
        plugin = threadhooks.Plugin("plugin")
        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        print(bool(stolen))
        again = thread
        stolen.clear()
        again = None
        print("done")
        """
    ) == ("True\nrun elsewhere\ndone\n", "", 0)


def test_l16_destructors_of_other_thread_locals(program: Callable[..., Any]) -> None:
    """What the destructor of another thread-local registers may come too late: then it is never run."""
    out, _, code = program(
        """
        import threading
        import threadhooks

        class Registers:
            def __del__(self):
                plugin.register(ran.append, "late")

        def body(ours_first):
            if ours_first:
                plugin.register(ran.append, "ours")
            local.value = Registers()
            if not ours_first:
                plugin.register(ran.append, "ours")

        ran = []
        local = threading.local()
        plugin = threadhooks.Plugin("plugin")
        for ours_first in (True, False):
            thread = threading.Thread(target=body, args=(ours_first,))
            thread.start()
            thread.join()
        print(sorted(ran))
        """
    )
    assert (out, code) == ("['late', 'ours', 'ours']\n", 0)  # which order loses it depends on the version


def test_l17_cleanups_that_are_given_up(plugin: Plugin, failures: list[Any]) -> None:
    """Beyond ten thousand cleanups registered by cleanups, each that waits is run, but not what it registers."""
    ran: list[int] = []

    def loop(number: int) -> None:
        ran.append(number)
        plugin.register(loop, number + 1)

    in_thread(lambda: plugin.register(loop, 0))
    assert len(ran) in range(10_000, 10_010)
    assert "were dropped" in str(failures[0][0])


def test_l18_a_hook_that_does_not_return(plugin: Plugin) -> None:
    """A hook that does not return keeps its thread alive, and `join()` waiting."""
    go_on = threading.Event()
    thread = threading.Thread(target=plugin.register, args=(go_on.wait,))
    thread.start()
    thread.join(0.1)
    assert thread.is_alive()
    go_on.set()
    thread.join(LONG)
    assert not thread.is_alive()


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs SIGUSR1")
def test_l19_a_signal_handler_that_raises_inside_join(program: Callable[..., Any]) -> None:
    """Up to Python 3.12 a signal handler that raises inside `join()` makes later `join()` calls return too soon."""
    assert program(
        """
        import os, signal, sys, threading
        import threadhooks

        def handler(*args):
            raise InterruptedError

        def main_is_in_join():
            frame = sys._current_frames()[threading.main_thread().ident]
            return frame.f_code.co_name in ("join", "_wait_for_tstate_lock")

        def hook():
            joins.wait()
            while not main_is_in_join() or go_on.wait(0.1):
                pass
            os.kill(os.getpid(), signal.SIGUSR1)
            go_on.wait()

        signal.signal(signal.SIGUSR1, handler)
        joins, go_on = threading.Event(), threading.Event()
        plugin = threadhooks.Plugin("plugin")
        thread = threading.Thread(target=plugin.register, args=(hook,))
        thread.start()
        try:
            joins.set()
            thread.join()
        except InterruptedError:
            pass
        thread.join(0.1)
        print(thread.is_alive())
        go_on.set()
        """
    ) == (f"{sys.version_info >= (3, 13)}\n", "", 0)


def test_l20_close_from_within_a_hook() -> None:
    """Hooks that close each other's plugin take everything back, don't wait for each other, and go on."""
    together = threading.Barrier(2)
    plugins = [Plugin("one"), Plugin("two")]
    ran: list[str] = []

    def hook(other: int) -> None:
        together.wait(LONG)
        plugins[other].close()
        together.wait(LONG)  # both have returned, while both hooks are running
        ran.append("went on")

    def body(own: int) -> None:
        plugins[own].register(ran.append, "taken back")
        plugins[own].register(hook, 1 - own)

    threads = [threading.Thread(target=body, args=(own,)) for own in range(2)]
    run_all(threads)
    assert ran == ["went on", "went on"]


def test_l38_an_exit_that_is_interrupted_too_often(failures: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to a hundred interruptions cost no hook; with more, what was not run is reported as lost, and never run."""
    ran: list[str] = []
    interruptions = iter(range(99))

    def interrupt(self: Stack, failed: object) -> None:
        if next(interruptions, None) is not None:
            raise KeyboardInterrupt
        real(self, failed)  # type: ignore[arg-type]

    def body(name: str) -> None:
        threadref.finalize(ran.append, name)

    real = Stack.unwind
    monkeypatch.setattr(Stack, "unwind", interrupt)
    in_thread(lambda: body("run"))
    assert ran == ["run"]
    interruptions = iter(range(1000))
    thread = in_thread(lambda: body("lost"))
    monkeypatch.undo()
    in_thread(lambda: body("later"))
    assert ran == ["run", "later"]
    (lost,) = [failure for failure in failures if isinstance(failure[0], RuntimeError)]
    assert lost[1] is thread
    assert "was interrupted too often; not run: [<built-in method append" in str(lost[0])


def test_l39_what_the_frames_of_a_crash_hold(plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is released before the late cleanups run, unless somebody else keeps the exception."""
    kept: list[BaseException] = []
    events: list[str] = []

    def body() -> None:
        plugin.register(events.append, "cleanup")
        held = Farewell(lambda: events.append("released"))
        raise LookupError(type(held).__name__)

    with threadhooks.installed():
        monkeypatch.setattr(threading, "excepthook", lambda args: None)
        in_thread(body)
        monkeypatch.setattr(threading, "excepthook", lambda args: kept.append(args.exc_value))
        in_thread(body)
    assert events == ["released", "cleanup", "cleanup"]
    kept.clear()
    assert events[3:] == ["released"]


def test_l41_one_plugin_can_harm_another(heard: list[Any]) -> None:
    """What one plugin has connected, another may list and disconnect. (tests/hostile shows the rest.)"""

    def disconnect() -> None:
        for receiver in list(thread_exited.receivers_for(threading.current_thread())):
            thread_exited.disconnect(receiver)

    with Plugin("evil") as evil:
        in_thread(lambda: evil.register(disconnect))
    assert heard == []
