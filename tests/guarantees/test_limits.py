"""Where the promises of docs/guarantees.md end, each limit by its number."""

from __future__ import annotations

import contextvars
import functools
import gc
import signal
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from support import Farewell, Steal, in_thread, with_its_sentinel

import threadhooks
from threadhooks import Plugin, per_thread, thread_exited, threadref
from threadhooks._stack import Stack


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


def test_l20_close_from_within_a_hook() -> None:
    """Hooks that close each other's plugin take everything back, don't wait for each other, and go on."""
    together = threading.Barrier(2)
    plugins = [Plugin("one"), Plugin("two")]
    events: list[str] = []

    def hook(other: int) -> None:
        together.wait()
        plugins[other].close()
        together.wait()  # both have returned, while both hooks are running
        events.append("went on")

    def body(own: int) -> None:
        plugins[own].register(events.append, "taken back")
        plugins[own].register(hook, 1 - own)

    threads = [threading.Thread(target=body, args=(own,)) for own in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert events == ["went on", "went on"]


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
    """An instance's value in another thread is closed there, when that thread has to do with us or ends."""
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


def test_l31_connected_to_a_thread_that_is_gone() -> None:
    """Between the end of `run()` and its late hooks, a thread is not listed, and nothing can be connected to it."""
    heard: list[str] = []

    class Destroyed:
        def __del__(self) -> None:
            thread_exited.connect(lambda thread, **extra: heard.append("too late"), sender=thread, weak=False)
            heard.append(f"listed: {thread in threading.enumerate()}")

    def body() -> None:
        local.destroyed = Destroyed()
        threadhooks.attach()

    local = threading.local()
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert heard == ["listed: False"]
    assert not thread_exited.receivers


def test_l32_what_a_signature_does_not_tell(failures: list[Any]) -> None:
    """A wrapper that takes anything is accepted; that what it wraps can't take the call is reported when it is made."""

    def takes_nothing() -> None:
        pass

    @functools.wraps(takes_nothing)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        takes_nothing(*args, **kwargs)

    with thread_exited.connected_to(wrapper):
        thread = in_thread(threadhooks.attach)
    ((error, told),) = failures
    assert isinstance(error, TypeError)
    assert told is thread


def test_l33_receivers_of_a_thread_that_is_not_announced() -> None:
    """They are kept in the thread object, as long as that is kept, and by nobody else."""

    class Receiver:
        def __call__(self, thread: threading.Thread, **extra: Any) -> None:
            raise AssertionError("nobody announces it")

    thread = threading.Thread(target=int)
    thread_exited.connect(Receiver(), sender=thread, weak=False)
    thread.start()
    thread.join()
    assert len(thread_exited.receivers) == 1
    assert [name for name in vars(thread) if name.startswith("_threadhooks")]
    del thread
    gc.collect()
    assert not thread_exited.receivers


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


def test_l36_a_warning_in_vain(plugin: Plugin) -> None:
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


def test_l41_one_plugin_can_harm_another(plugin: Plugin) -> None:
    """What one plugin has connected, another may list and disconnect. (tests/hostile shows the rest.)"""
    heard: list[threading.Thread] = []
    plugin.thread_exited(lambda thread, **extra: heard.append(thread))

    def disconnect() -> None:
        for receiver in list(thread_exited.receivers_for(threading.current_thread())):
            thread_exited.disconnect(receiver)

    with Plugin("evil") as evil:
        in_thread(lambda: evil.register(disconnect))
    assert heard == []


def test_l42_a_thread_that_has_nothing_to_do_with_us() -> None:
    """It keeps what it should close until it ends; `close_all(anywhere=True)` does not wait for it."""
    events: list[str] = []

    @per_thread
    def resource(name: str) -> Iterator[None]:
        yield
        events.append(f"{name} closed in {threading.current_thread().name}")

    def body() -> None:
        resource("its value")
        opened.set()
        go_on.wait()

    for anywhere in (False, True):
        opened, go_on = threading.Event(), threading.Event()
        thread = threading.Thread(target=body, name="its thread")
        thread.start()
        opened.wait()
        resource.close_all(anywhere=anywhere)
        events.append("retired")
        go_on.set()
        thread.join()
    caller = threading.current_thread().name
    assert events == ["retired", "its value closed in its thread", f"its value closed in {caller}", "retired"]


def test_l43_closed_while_it_is_used() -> None:
    """A value that is kept is closed under its user's hands; the next call opens another."""

    @per_thread
    def resource() -> Iterator[dict[str, bool]]:
        value = {"open": True}
        yield value
        value["open"] = False

    def body() -> None:
        kept = resource()
        in_thread(resource.close_all)
        assert kept["open"]
        threadhooks.threadref.finalize(int)
        assert not kept["open"]
        kept = resource()
        in_thread(lambda: resource.close_all(anywhere=True))
        assert not kept["open"]
        assert resource()["open"]
        passed.append(True)

    passed: list[bool] = []
    in_thread(body)
    assert passed


def test_l44_a_close_that_is_not_the_end() -> None:
    """What has a `close` and is its own manager is closed by it, even if to leave it would do more."""
    done: list[str] = []

    class Browser:
        def __enter__(self) -> Browser:  # noqa: PYI034
            return self

        def __exit__(self, *error: object) -> None:
            done.append("quit")

        def close(self) -> None:
            done.append("close a window")

    in_thread(per_thread(Browser))
    assert done == ["close a window"]
