"""What docs/guarantees.md says of attaching, announcing and `install`, each by its number."""

from __future__ import annotations

import contextvars
import gc
import sys
import textwrap
import threading
import traceback
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from resourcing import working
from support import in_thread

import threadhooks
from threadhooks import Plugin


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


def test_g25_a_class_that_has_replaced_thread_before_us(program: Callable[..., object]) -> None:
    """A subclass may stand in the place of `threading.Thread` when this package is imported, as gevent's does."""
    assert program(
        """
        import threading

        class Replaces(threading.Thread):
            pass

        original = threading.Thread
        threading.Thread = Replaces
        import threadhooks
        threadhooks.thread_started.connect(started := lambda thread, **extra: print(type(thread).__name__, "started"))
        threadhooks.install()
        for kind in (Replaces, original):
            thread = kind(target=print, args=("body",))
            thread.start()
            thread.join()
        """
    ) == ("Replaces started\nbody\nThread started\nbody\n", "", 0)


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


def test_l03_a_thread_that_nobody_attached(heard: list[Any]) -> None:
    """A thread that registers nothing and isn't attached is not announced."""
    in_thread(int)
    attached_thread = in_thread(threadhooks.attach)
    assert heard == [attached_thread]


def test_l04_threads_that_are_already_running(plugin: Plugin, heard: list[Any]) -> None:
    """`install` does not reach threads that are already running; they can be attached."""
    early: list[threading.Thread] = []
    plugin.thread_exiting(lambda thread, **extra: early.append(thread))
    with ExitStack() as stack:
        with working() as worker:
            worker.do(int)
            stack.enter_context(threadhooks.installed())
            worker.do(threadhooks.attach)
    assert (early, heard) == ([], [worker.thread])


def test_l05_threads_that_threading_did_not_start(plugin: Plugin) -> None:
    """A thread of `_thread`, or of C code, doesn't announce itself; once it is attached, its exit does, as foreign."""
    import _thread

    heard: list[bool] = []
    exited = threading.Event()

    @plugin.thread_started
    @plugin.thread_exiting
    def early(thread: threading.Thread, **extra: Any) -> None:
        heard.append(False)

    @plugin.thread_exited
    def late(thread: threading.Thread, info: threadhooks.ThreadInfo, **extra: Any) -> None:
        heard.append(info.foreign)
        exited.set()

    with threadhooks.installed():
        _thread.start_new_thread(threadhooks.attach, ())
        assert exited.wait(30)
    assert heard == [True]


FOREIGN = """
import ctypes
import threadhooks

@threadhooks.per_thread
def resource():
    try:
        yield
    finally:
        closed.append(1)

@threadhooks.thread_exited.connect
def exited(thread, info, **extra):
    if info.foreign:
        native_ids.append(info.native_id)

def run_in_a_thread_of_c(func):
    thread = ctypes.c_ulong()
    libc.pthread_create(ctypes.byref(thread), None, func, None)
    libc.pthread_join(thread, None)

closed, native_ids = [], []
libc = ctypes.CDLL(None)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="speaks to Linux's threads")
def test_l06_foreign_threads_exit_at_each_outermost_call(program: Callable[..., Any]) -> None:
    """A thread of C code that calls into Python ten times exits ten times, and opens and closes ten values."""
    assert program(
        FOREIGN
        + textwrap.dedent("""
        @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
        def callback(_):
            if not native_ids:  # the destructor of each key calls this anew, when the outermost call has returned
                for key in keys:
                    libc.pthread_setspecific(key, ctypes.c_void_p(1))
            assert resource() is resource()

        keys = [ctypes.c_uint() for _ in range(9)]
        for key in keys:
            libc.pthread_key_create(ctypes.byref(key), callback)
        run_in_a_thread_of_c(callback)
        print(len(closed), "values closed,", len(native_ids), "exits of", len(set(native_ids)), "thread")
        """)
    ) == ("10 values closed, 10 exits of 1 thread\n", "", 0)


@pytest.mark.skipif(sys.platform != "linux", reason="speaks to Linux's threads")
def test_l06_a_state_that_is_never_released(program: Callable[..., Any]) -> None:
    """A thread whose state its embedder does not release has no exit, then or at interpreter exit, in silence."""
    assert program(
        FOREIGN
        + textwrap.dedent("""
        @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
        def callback(_):
            resource()
            if keeps:
                ctypes.pythonapi.PyGILState_Ensure()  # without a PyGILState_Release

        for keeps in (False, True):
            run_in_a_thread_of_c(callback)
            print(len(closed), "closed,", len(native_ids), "exits,", len(threadhooks.threads()), "known")
        plugin = threadhooks.Plugin("last")
        plugin.register(lambda: print(len(closed), "closed at the end"))
        """)
    ) == ("1 closed, 1 exits, 0 known\n1 closed, 1 exits, 1 known\n1 closed at the end\n", "", 0)


def test_l25_the_record_does_not_follow() -> None:
    """`ThreadInfo` tells what was so when it was made: a thread that is renamed later keeps its name there."""
    with working() as worker:
        before = worker.thread.name
        info = worker.do(threadhooks.attach)
        worker.thread.name = "new"
        assert worker.do(threadhooks.attach) is info
    assert info.name == before != "new"


def test_l30_classes_that_go_their_own_way(plugin: Plugin) -> None:
    """A class with a data descriptor for `run`, or a `start` that goes past ours, has threads that announce nothing."""
    ran: list[str] = []
    told: list[str] = []

    class Property(threading.Thread):
        run = property(lambda self: lambda: ran.append(self.name))  # type: ignore[assignment]

    class Slot(threading.Thread):
        __slots__ = ("run",)

    class Taken(threading.Thread):
        start_of_thread = threading.Thread.start

        def start(self) -> None:
            self.start_of_thread()

        def run(self) -> None:
            ran.append(self.name)

    slot = Slot(name="slot")
    slot.run = lambda: ran.append("slot")  # type: ignore[method-assign, misc]
    plugin.thread_started(lambda thread, **extra: told.append(thread.name))
    with threadhooks.installed():
        for thread in (Property(name="property"), slot, Taken(name="taken"), threading.Thread(name="usual")):
            thread.start()
            thread.join()
    assert ran == ["property", "slot", "taken"]
    assert told == ["usual"]


def test_l34_our_frame_in_stack_dumps(failures: list[Any]) -> None:
    """Under `install`, one frame of ours stands in the stack of a running thread; on 3.10, of a crash, too."""

    def of_ours(frames: traceback.StackSummary) -> list[str]:
        files = [Path(frame.filename) for frame in frames]
        return [file.name for file in files if file.parent.name == "threadhooks"]

    running: list[str] = []
    with threadhooks.installed():
        in_thread(lambda: running.extend(of_ours(traceback.extract_stack())))
        in_thread(lambda: [][0])
    assert running == ["announce.py"]
    [(error, _)] = failures
    assert of_ours(traceback.extract_tb(error.__traceback__)) == ["announce.py"] * (sys.version_info < (3, 11))


def test_l35_a_start_that_is_replaced_later(plugin: Plugin) -> None:
    """A patch that was entered before `install` takes us away as it ends; then `install` can be called again."""
    told: list[str] = []
    plugin.thread_started(lambda thread, **extra: told.append(thread.name))
    original = threading.Thread.start
    with mock.patch.object(threading.Thread, "start", lambda self: original(self)):
        threadhooks.install()
        in_thread(int, name="in the patch")
    in_thread(int, name="after it")
    threadhooks.install()
    in_thread(int, name="installed again")
    threadhooks.uninstall()
    assert told == ["in the patch", "installed again"]
    assert threading.Thread.start is original


def test_l36_a_false_alarm(plugin: Plugin) -> None:
    """An early cleanup that is registered before its thread enters a block is warned of, and comes early."""
    ran: list[str] = []

    def body() -> None:
        with pytest.warns(ResourceWarning, match="will run late"):
            plugin.register_early(ran.append, "early")
        with threadhooks.announced():
            pass
        ran.append("end of the body")

    in_thread(body)
    assert ran == ["early", "end of the body"]
