"""Behind each number of docs/guarantees.md stands the test of that number here, and the other way round."""

from __future__ import annotations

import contextvars
import gc
import logging
import os
import re
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from threads import forks, in_thread

import threadhooks
from threadhooks import Plugin, per_thread, thread_exited, threadref

PAGE = Path(__file__).parent.parent / "docs" / "guarantees.md"


@pytest.fixture
def plugin() -> Iterator[Plugin]:
    with Plugin("guarantees") as plugin:
        yield plugin


def test_the_page_and_the_tests_name_the_same_numbers() -> None:
    """No promise and no limit without a test, and no test without one."""
    page = re.findall(r"^### ([GL]\d+)\b", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    tests = [f"{m[1].upper()}{int(m[2])}" for name in globals() if (m := re.match(r"test_([gl])(\d+)_", name))]
    assert tests == page
    for letter in "GL":
        numbers = [int(number[1:]) for number in page if number[0] == letter]
        assert numbers == list(range(1, len(numbers) + 1))


# Promises


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
    """The clean-ups of everybody unwind as one stack: last in, first out."""
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
        threadref.finalize(order.append, "finalizer")

    kept: list[object] = []
    with Plugin("other") as other:
        in_thread(body)
    assert order == ["finalizer", "second plugin", "ref", "resource", "first plugin"]


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


def test_g07_a_failure_is_reported(plugin: Plugin, failures: list[Any]) -> None:
    """What a hook raises goes to `threading.excepthook`, with the thread, the hook and the plugin."""

    def fail() -> None:
        raise OSError("the disk is full")

    thread = in_thread(lambda: plugin.register(fail))
    ((error, told),) = failures
    assert (str(error), told) == ("the disk is full", thread)
    (note,) = error.__notes__
    assert fail.__qualname__ in note
    assert "plugin 'guarantees'" in note


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
    """`muted()` silences receivers, not clean-ups."""
    ran: list[str] = []

    @plugin.thread_exited
    def exited(thread: threading.Thread, **extra: Any) -> None:
        ran.append("receiver")

    with thread_exited.muted():
        in_thread(lambda: plugin.register(ran.append, "clean-up"))
    assert ran == ["clean-up"]


def test_g13_one_thread_alone() -> None:
    """A receiver of one thread hears of it alone; it is let go when the thread has exited, or its object is garbage."""

    class Receiver:
        def __call__(self, thread: threading.Thread, **extra: Any) -> None:
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
    never = threading.Thread()
    thread_exited.connect(heard.append, sender=never, weak=False)
    del never
    gc.collect()
    assert not thread_exited.receivers


def test_g14_what_could_never_run_is_refused(plugin: Plugin) -> None:
    """What can't be called, or runs nothing when it is, is refused when it is registered, with what to do instead."""

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
        with pytest.raises(TypeError, match="a generator function"):
            refuse(generator)


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


def test_g18_an_early_clean_up_is_never_lost(plugin: Plugin) -> None:
    """Where the early moment doesn't come, an early clean-up runs with the late ones."""
    ran: list[str] = []

    def body() -> None:
        plugin.register(ran.append, "late")
        plugin.register_early(ran.append, "early")

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


@forks
def test_g22_a_child_runs_nothing_of_other_threads(program: Callable[..., Any]) -> None:
    """A forked child neither runs nor destroys what its parent's other threads have registered."""
    assert program(
        """
        import os, threading, warnings
        import threadhooks
        warnings.simplefilter("ignore")  # that it forks while threads run

        class Goodbye:
            def __del__(self):
                print("destroyed in the", "child" if os.getpid() != parent else "parent")

        def body():
            plugin.register(print, "clean-up in the", "parent", end=".\\n")
            plugin.register(lambda goodbye: None, Goodbye())
            ready.set()
            go_on.wait()

        plugin = threadhooks.Plugin("plugin")
        parent = os.getpid()
        ready, go_on = threading.Event(), threading.Event()
        thread = threading.Thread(target=body)
        thread.start()
        ready.wait()
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
            go_on.set()
            thread.join()
        else:
            print("child")
        """
    ) == ("child\ndestroyed in the parent\nclean-up in the parent.\n", "", 0)


@forks
def test_g23_a_child_keeps_what_the_forking_thread_registered(program: Callable[..., Any]) -> None:
    """The hooks of the thread that forks run in both processes, as those of `atexit` do; resources in the parent."""
    assert program(
        """
        import os
        import threadhooks

        @threadhooks.per_thread
        def resource():
            yield
            print("closed in the", "parent" if os.getpid() == parent else "child")

        parent = os.getpid()
        plugin = threadhooks.Plugin("plugin")
        plugin.register(lambda: print("clean-up in the", "parent" if os.getpid() == parent else "child"))
        resource()
        pid = os.fork()
        if pid:
            os.waitpid(pid, 0)
        """
    ) == ("clean-up in the child\nclosed in the parent\nclean-up in the parent\n", "", 0)


def test_g24_the_main_thread(program: Callable[..., Any]) -> None:
    """The main thread's exit is announced at `atexit`, after the threads that are not daemons have been joined."""
    assert program(
        """
        import threading
        import threadhooks

        def body():
            main.join()
            plugin.register(print, "the other thread")

        @threadhooks.thread_exited.connect
        def exited(thread, **extra):
            print("exited:", thread.name)

        main = threading.main_thread()
        plugin = threadhooks.Plugin("plugin")
        plugin.register(print, "the main thread")
        threading.Thread(target=body, name="other").start()
        """
    ) == ("the other thread\nexited: other\nthe main thread\nexited: MainThread\n", "", 0)


def test_g25_install_reaches_every_thread(plugin: Plugin) -> None:
    """Under `install`, pools, timers, daemons and subclasses announce themselves."""
    started: list[str] = []

    class Overrides(threading.Thread):
        def run(self) -> None:
            pass

        def start(self) -> None:
            super().start()

    @plugin.thread_started
    def starts(thread: threading.Thread, **extra: Any) -> None:
        started.append(thread.name)

    with threadhooks.installed():
        with ThreadPoolExecutor(1, "pool") as pool:
            pool.submit(int).result()
        threads = [threading.Thread(name="daemon", daemon=True), Overrides(name="overrides"), threading.Timer(0, int)]
        for thread in threads:
            thread.start()
            thread.join()
    assert started == ["pool_0", *(thread.name for thread in threads)]


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


Steal = Callable[[Callable[[], object]], list[Any]]


def _with_its_sentinel(steal: Steal, register: Callable[[], object]) -> tuple[threading.Thread, list[Any]]:
    """A thread that has ended, and its sentinel, which is still there."""
    stolen: list[Any] = []
    thread = in_thread(lambda: stolen.extend(steal(register)))
    assert len(stolen) == 1
    return thread, stolen


def test_g29_never_in_a_thread_that_is_not_theirs(plugin: Plugin, failures: list[Any], steal: Steal) -> None:
    """A sentinel that is finalised in another thread runs nothing there, even under an ident used again: reported."""
    ran: list[Any] = []
    thread, stolen = _with_its_sentinel(steal, lambda: plugin.register(ran.append, 1))
    for _ in range(20):  # a new thread gets the same ident at once, as a rule
        other = in_thread(stolen.clear)
        if other.ident == thread.ident:
            break
    assert ran == []
    ((error, told),) = failures
    assert told is thread
    assert "was finalised in another thread" in str(error)


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


# Limits


def test_l01_thread_locals_are_gone(plugin: Plugin) -> None:
    """At the late moment other thread-locals read as empty."""
    local = threading.local()
    seen: list[bool] = []

    def body() -> None:
        local.value = 1
        plugin.register(lambda: seen.append(hasattr(local, "value")))

    in_thread(body)
    assert seen == [False]


def test_l02_context_variables(plugin: Plugin) -> None:
    """At the late moment what `run()` set in a context variable is gone, from Python 3.14 on."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="gone")
    seen: list[str] = []

    def body() -> None:
        variable.set("there")
        plugin.register(lambda: seen.append(variable.get()))

    in_thread(body)
    assert seen == ["gone" if sys.version_info >= (3, 14) else "there"]


def test_l03_a_thread_that_nobody_attached(plugin: Plugin) -> None:
    """A thread that registers nothing and isn't attached is not announced."""
    heard: list[threading.Thread] = []

    @plugin.thread_exited
    def exited(thread: threading.Thread, **extra: Any) -> None:
        heard.append(thread)

    in_thread(int)
    attached_thread = in_thread(threadhooks.attach)
    assert heard == [attached_thread]


def test_l04_threads_that_run_already(plugin: Plugin) -> None:
    """`install` does not reach threads that run already; they can be attached."""
    heard: list[str] = []

    def body() -> None:
        installed.wait()
        threadhooks.attach()

    @plugin.thread_exiting
    def exiting(thread: threading.Thread, **extra: Any) -> None:
        heard.append("exiting")

    @plugin.thread_exited
    def exited(thread: threading.Thread, **extra: Any) -> None:
        heard.append("exited")

    installed = threading.Event()
    thread = threading.Thread(target=body)
    thread.start()
    with threadhooks.installed():
        installed.set()
        thread.join()
    assert heard == ["exited"]


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


@pytest.mark.skipif(sys.platform != "linux", reason="speaks to Linux's threads")
def test_l06_foreign_threads_exit_at_each_outermost_call(program: Callable[..., Any]) -> None:
    """A thread of C code that calls into Python three times exits three times."""
    assert program(
        """
        import ctypes
        import threadhooks

        native_ids = []

        @threadhooks.thread_exited.connect
        def exited(thread, info, **extra):
            if info.foreign:
                native_ids.append(info.native_id)

        @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)
        def callback(_):
            threadhooks.attach()
            if again:  # the destructor of a pthread key calls anew, when the outermost call has returned
                again.pop()
                libc.pthread_setspecific(key, ctypes.c_void_p(1))

        again = [1, 1]
        libc = ctypes.CDLL(None)
        key = ctypes.c_uint()
        libc.pthread_key_create(ctypes.byref(key), callback)
        thread = ctypes.c_ulong()
        libc.pthread_create(ctypes.byref(thread), None, callback, None)
        libc.pthread_join(thread, None)
        print(len(native_ids), "exits of", len(set(native_ids)), "thread")
        """
    ) == ("3 exits of 1 thread\n", "", 0)


def test_l07_daemons_at_interpreter_exit(program: Callable[..., Any]) -> None:
    """A daemon that still runs when the interpreter ends has not exited: not announced, nothing run, nothing closed."""
    assert program(
        """
        import threading
        import threadhooks

        @threadhooks.per_thread
        def resource():
            yield
            print("closed")

        def body():
            plugin.register(print, "clean-up")
            plugin.register_early(print, "early clean-up")
            resource()
            ready.set()
            threading.Event().wait()

        @threadhooks.thread_exited.connect
        def exited(thread, **extra):
            print("exited:", thread.name)

        threadhooks.install()
        plugin = threadhooks.Plugin("plugin")
        ready = threading.Event()
        threading.Thread(target=body, daemon=True).start()
        ready.wait()
        threadhooks.attach()
        """
    ) == ("exited: MainThread\n", "", 0)


def test_l08_finalizers_of_daemons_at_interpreter_exit(program: Callable[..., Any]) -> None:
    """A `threadref.finalize` of such a daemon is called at `atexit`, by the main thread, unless `atexit` is false."""
    assert program(
        """
        import threading
        from threadhooks import threadref

        def body():
            threadref.finalize(lambda: print("in", threading.current_thread().name))
            threadref.finalize(print, "never").atexit = False
            ready.set()
            threading.Event().wait()

        ready = threading.Event()
        threading.Thread(target=body, daemon=True).start()
        ready.wait()
        """
    ) == ("in MainThread\n", "", 0)


def test_l09_the_order_across_threads_at_interpreter_exit(program: Callable[..., Any]) -> None:
    """Then they are called thread by thread, newest first, the main thread last; not by the time of their making."""
    assert program(
        """
        import threading
        from threadhooks import threadref

        def body(name, go_on):
            threadref.finalize(print, name, 1)
            made.wait()
            go_on.wait()
            threadref.finalize(print, name, 2)
            made.wait()
            threading.Event().wait()

        made = threading.Barrier(2)
        threadref.finalize(print, "main", 1)
        gates = [threading.Event(), threading.Event()]
        for name, gate in zip("ab", gates):
            threading.Thread(target=body, args=(name, gate), daemon=True).start()
            made.wait()
        for gate in reversed(gates):
            gate.set()
            made.wait()
        threadref.finalize(print, "main", 2)
        """
    ) == ("b 2\nb 1\na 2\na 1\nmain 2\nmain 1\n", "", 0)


@pytest.mark.skipif(os.name != "posix", reason="speaks to POSIX")
@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("os._exit(0)", 0),
        ("os.execv(sys.executable, [sys.executable, '-c', ''])", 0),
        ("signal.raise_signal(signal.SIGTERM)", -signal.SIGTERM),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9),
    ],
)
def test_l10_a_process_that_is_cut_short(program: Callable[..., Any], end: str, code: int) -> None:
    """`os._exit`, `os.exec*` and a signal that kills end the process at once: no hook runs."""
    assert program(
        f"""
        import os, signal, sys, threading
        import threadhooks

        plugin = threadhooks.Plugin("plugin")
        plugin.register(print, "never")
        {end}
        """
    ) == ("", "", code)


@forks
def test_l11_children_of_multiprocessing(program: Callable[..., Any]) -> None:
    """A child that `multiprocessing` has forked ends by `os._exit`: its main thread's exit is not announced."""
    assert program(
        """
        import multiprocessing, threading
        import threadhooks

        def child():
            plugin = threadhooks.Plugin("plugin")
            plugin.register(print, "main thread")
            thread = threading.Thread(target=plugin.register, args=(print, "other thread"))
            thread.start()
            thread.join()

        if __name__ == "__main__":
            for method in ("fork", "spawn"):
                print(method)
                process = multiprocessing.get_context(method).Process(target=child)
                process.start()
                process.join()
        """
    ) == ("fork\nother thread\nspawn\nother thread\nmain thread\n", "", 0)


def test_l12_after_the_main_threads_exit(program: Callable[..., Any]) -> None:
    """Once the main thread's exit has been announced, it refuses registrations."""
    assert program(
        """
        import atexit, sys

        def too_late():
            try:
                threadhooks.attach()
            except RuntimeError as error:
                print(error)

        atexit.register(too_late)  # before threadhooks has: it runs later
        import threadhooks
        """
    ) == (
        "the exit of the main thread has been announced: nothing can be registered for it any more\n",
        "",
        0,
    )


def test_l13_threads_started_as_the_interpreter_ends(program: Callable[..., Any]) -> None:
    """A hook of the main thread's exit can't count on starting a thread: Python 3.12 refuses; others still start it."""
    out, err, code = program(
        """
        import threading
        import threadhooks

        def start():
            thread = threading.Thread(target=print, args=("started",))
            thread.start()
            thread.join()

        threadhooks.Plugin("plugin").register(start)
        """
    )
    assert code == 0
    if sys.version_info[:2] == (3, 12):
        assert "can't create new thread at interpreter shutdown" in err
    else:
        assert (out, err) == ("started\n", "")


def test_l14_a_sentinel_that_is_kept(plugin: Plugin, failures: list[Any], steal: Steal) -> None:
    """Who takes a sentinel (by means of the `gc` module) and keeps it, stops its thread's hooks; it is reported."""
    ran: list[Any] = []
    thread, stolen = _with_its_sentinel(steal, lambda: plugin.register(ran.append, 1))
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
                    stolen[:] = [obj]
            obj = None

        stolen = []
        plugin = threadhooks.Plugin("plugin")
        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        print(len(stolen))
        again = thread
        stolen.clear()
        again = None
        print("done")
        """
    ) == ("1\nrun elsewhere\ndone\n", "", 0)


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


def test_l17_clean_ups_that_are_given_up(plugin: Plugin, failures: list[Any]) -> None:
    """Beyond ten thousand clean-ups registered by clean-ups, each that waits is run, but not what it registers."""
    ran: list[int] = []

    def loop(number: int) -> None:
        ran.append(number)
        plugin.register(loop, number + 1)

    in_thread(lambda: plugin.register(loop, 0))
    assert len(ran) in range(10_000, 10_010)
    assert "given up" in str(failures[0][0])


def test_l18_a_hook_that_does_not_return(plugin: Plugin) -> None:
    """A hook that does not return keeps its thread alive, and `join()` waiting."""
    go_on = threading.Event()
    thread = threading.Thread(target=plugin.register, args=(go_on.wait,))
    thread.start()
    thread.join(0.1)
    assert thread.is_alive()
    go_on.set()
    thread.join()


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


@pytest.mark.parametrize("number", [1, 2, 3])
def test_l20_hooks_that_close_each_others_plugin(number: int) -> None:
    """Hooks that close each other's plugin, or all the same, in a circle of threads, do not wait for each other."""
    everyone = threading.Barrier(number + 1)
    plugins = [threadhooks.Plugin(f"in a circle {index}") for index in range(number)]
    ran: list[int] = []

    def hook(index: int) -> None:
        everyone.wait()
        plugins[(index + 1) % number].close()
        ran.append(index)

    threads = [threading.Thread(target=plugins[index].register, args=(hook, index)) for index in range(number)]
    threads.append(threading.Thread(target=plugins[0].register, args=(hook, 0)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert sorted(ran) == sorted([0, *range(number)])


def test_l21_what_is_muted_is_not_made_up_for(plugin: Plugin) -> None:
    """An exit that was muted is not announced later."""
    heard: list[threading.Thread] = []
    plugin.thread_exited(lambda thread, **extra: heard.append(thread))
    with thread_exited.muted():
        in_thread(threadhooks.attach)
    later = in_thread(threadhooks.attach)
    assert heard == [later]


def test_l22_connected_during_a_send() -> None:
    """A receiver that is connected during a send misses it; one that is disconnected meanwhile may still be called."""
    heard: list[str] = []

    def newcomer(thread: threading.Thread, **extra: Any) -> None:
        heard.append("newcomer")

    def leaver(thread: threading.Thread, **extra: Any) -> None:
        heard.append("leaver")

    def changes(thread: threading.Thread, **extra: Any) -> None:
        thread_exited.connect(newcomer)
        thread_exited.disconnect(leaver)

    for receiver in (changes, leaver):
        thread_exited.connect(receiver)
    in_thread(threadhooks.attach)
    assert heard == ["leaver"]
    in_thread(threadhooks.attach)
    assert heard == ["leaver", "newcomer"]


def test_l23_receivers_are_held_weakly() -> None:
    """A receiver that only the signal knows is gone at once, unless it is connected with ``weak=False``."""
    heard: list[str] = []
    thread_exited.connect(lambda thread, **extra: heard.append("weak"))
    strong = thread_exited.connect(lambda thread, **extra: heard.append("strong"), weak=False)
    in_thread(threadhooks.attach)
    thread_exited.disconnect(strong)
    assert heard == ["strong"]


def test_l24_an_instance_that_dies_elsewhere() -> None:
    """The `per_thread` value of an instance that dies in another thread is closed at the end of the thread it is of."""
    events: list[str] = []

    class Owner:
        @per_thread
        def resource(self) -> Iterator[None]:
            yield
            events.append("closed in its thread" if threading.current_thread() is thread else "elsewhere")

    def body() -> None:
        owner[0].resource()
        opened.set()
        go_on.wait()

    owner = [Owner()]
    opened, go_on = threading.Event(), threading.Event()
    thread = threading.Thread(target=body)
    thread.start()
    opened.wait()
    owner.clear()
    gc.collect()
    events.append("the owner is gone")
    go_on.set()
    thread.join()
    assert events == ["the owner is gone", "closed in its thread"]


def test_l25_the_record_does_not_follow(plugin: Plugin) -> None:
    """`ThreadInfo` tells what was so when it was made: a thread that is renamed later keeps its name there."""
    names: list[tuple[str, str]] = []

    @plugin.thread_exited
    def exited(thread: threading.Thread, info: threadhooks.ThreadInfo, **extra: Any) -> None:
        names.append((info.name, thread.name))

    def body() -> None:
        threadhooks.attach()
        threading.current_thread().name = "new"

    thread = threading.Thread(target=body, name="old")
    thread.start()
    thread.join()
    assert names == [("old", "new")]


def test_l26_subinterpreters(program: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each interpreter has its own signals. The exit of a subinterpreter's main thread comes when that is destroyed."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # coverage can't be imported in a subinterpreter
    assert program(
        """
        import textwrap, threading
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        import threadhooks

        @threadhooks.thread_exited.connect
        def exited(thread, **extra):
            print("heard outside:", thread.name)

        create = interpreters.create
        number = create(isolated=False) if interpreters.__name__ == "_xxsubinterpreters" else create()
        interpreters.run_string(number, textwrap.dedent('''
            import threading, threadhooks
            plugin = threadhooks.Plugin("plugin")
            thread = threading.Thread(target=plugin.register, args=(print, "thread inside"), kwargs={"flush": True})
            thread.start()
            thread.join()
            plugin.register(print, "main inside", flush=True)
        '''))
        interpreters.run_string(number, "print('second run', flush=True)")
        interpreters.destroy(number)
        threadhooks.attach()
        """
    ) == ("thread inside\nsecond run\nmain inside\nheard outside: MainThread\n", "", 0)


def test_l27_greenlets(program: Callable[..., Any]) -> None:
    """Under gevent's monkey-patching a greenlet is a thread; its hooks run in another greenlet, at the next switch."""
    pytest.importorskip("gevent")
    hook = "same thread: True - same greenlet: False\n"
    ended = "joined\n" + hook if sys.version_info >= (3, 13) else hook + "joined\n"
    assert program(
        """
        from gevent import monkey
        monkey.patch_all()
        import threading, gevent
        import threadhooks

        def hook(ident):
            same_thread = threading.current_thread() is thread
            print("same thread:", same_thread, "- same greenlet:", threading.get_ident() == ident)

        def body():
            plugin.register(hook, threading.get_ident())
            if waits:
                gevent.sleep(0)

        plugin = threadhooks.Plugin("plugin")
        for waits in (True, False):
            thread = threading.Thread(target=body)
            thread.start()
            thread.join()
            print("joined")
            gevent.sleep(0)
        """
    ) == (hook + "joined\n" + ended, "", 0)


def test_l28_other_implementations(program: Callable[..., Any]) -> None:
    """On an implementation without reference counting, hooks run late or never: the import warns of it."""
    _, err, code = program(
        """
        import blinker, sys
        sys.implementation.name = "pypy"
        import threadhooks
        """
    )
    assert code == 1
    assert "RuntimeWarning: pypy does not destroy a thread's locals when the thread ends" in err


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_l29_free_threaded_builds_and_fork(program: Callable[..., Any]) -> None:
    """On every build, a child that is forked while other threads run, but none ends, attaches threads of its own."""
    assert program(
        """
        import os, threading, warnings
        import threadhooks

        def body():
            plugin.register(os.write, 1, f"hook of {threading.current_thread().name}\\n".encode())
            if threading.current_thread() in parked:
                ready.wait()
                end.wait()

        warnings.simplefilter("ignore", DeprecationWarning)
        plugin = threadhooks.Plugin("plugin")
        ready, end = threading.Barrier(9), threading.Event()
        parked = [threading.Thread(target=body, name="parent's") for _ in range(8)]
        for thread in parked:
            thread.start()
        ready.wait()
        child = os.fork()
        if not child:
            thread = threading.Thread(target=body, name="child's")
            thread.start()
            thread.join()
            os._exit(0)
        os.waitpid(child, 0)
        end.set()
        for thread in parked:
            thread.join()
        """
    ) == ("hook of child's\n" + 8 * "hook of parent's\n", "", 0)


def test_l30_classes_that_go_their_own_way(plugin: Plugin) -> None:
    """A class with a property for `run`, or with a `start` that was taken before, has threads that announce nothing."""
    ran: list[str] = []
    told: list[str] = []

    class Property(threading.Thread):
        run = property(lambda self: lambda: ran.append(self.name))  # type: ignore[assignment]

    class Taken(threading.Thread):
        start_of_thread = threading.Thread.start

        def start(self) -> None:
            self.start_of_thread()

        def run(self) -> None:
            ran.append(self.name)

    plugin.thread_started(lambda thread, **extra: told.append(thread.name))
    with threadhooks.installed():
        for thread in (Property(name="property"), Taken(name="taken"), threading.Thread(name="usual")):
            thread.start()
            thread.join()
    assert ran == ["property", "taken"]
    assert told == ["usual"]
