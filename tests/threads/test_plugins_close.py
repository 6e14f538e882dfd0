"""`Plugin.close()`: it takes everything back, whatever other threads are doing just then."""

from __future__ import annotations

import functools
import threading
import time
import weakref
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
from hooks import KINDS, Kind, run_with
from support import LONG, Log, forks, in_thread, run_all

import threadhooks
from threadhooks import Plugin, thread_exited


class Slow:
    """A hook that runs until it may leave, in a thread of its own; it tells `events` when it ends."""

    def __init__(self) -> None:
        self.entered, self.leave = threading.Event(), threading.Event()
        self.events: list[str] = []
        self.thread: threading.Thread

    def __call__(self, *_: Any, **__: Any) -> None:
        self.entered.set()
        assert self.leave.wait(LONG)
        self.events.append("hook ended")


@contextmanager
def running(start: Callable[[Slow], object], before: Callable[[Slow], object] = id) -> Generator[Slow]:
    """A hook that is being run. Its thread has called `start` with it; `before` is called before the thread starts."""
    slow = Slow()
    before(slow)
    slow.thread = threading.Thread(target=start, args=(slow,))
    with threadhooks.installed():
        slow.thread.start()
    assert slow.entered.wait(LONG)
    try:
        yield slow
    finally:
        slow.leave.set()
        slow.thread.join(LONG)


def closing(plugin: Plugin, slow: Slow, attach: Callable[[], object] = bool) -> threading.Thread:
    """A thread that has called `close`, and had the time to return from it; it tells when it does."""
    thread = threading.Thread(target=lambda: (attach(), plugin.close(), slow.events.append("closed")))
    thread.start()
    while not plugin.closed:
        time.sleep(0)
    thread.join(0.05)
    return thread


# What it takes back


def test_close_takes_everything_back_in_every_thread() -> None:
    """After close(), which may be called again, nothing of the plugin runs, in no thread; what is others' does."""
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
        gone.close(run=True)
        assert gone.pending() == {}
        assert {thread: len(pending) for thread, pending in kept.pending().items()} == dict.fromkeys(threads, 1)
        leave.set()
        for thread in threads:
            thread.join(LONG)
    assert ran == ["kept"] * 3


def test_close_destroys_what_was_registered() -> None:
    """A closed plugin keeps neither functions nor arguments alive, though its threads go on."""

    def body() -> None:
        plugin = Plugin("forgetful")
        argument, function = Log(), functools.partial(print)
        plugin.register(function, argument)
        alive = weakref.ref(argument), weakref.ref(function)
        del argument, function
        plugin.close()
        results.append([ref() for ref in alive])

    results: list[list[object]] = []
    in_thread(body)
    assert results == [[None, None]]


def test_close_with_a_run_that_is_neither_true_nor_false() -> None:
    """What has no truth value is refused before anything is taken back."""

    class Neither:
        def __bool__(self) -> bool:
            raise ValueError("ambiguous")

    ran: list[str] = []

    def body() -> None:
        with Plugin("neither") as plugin:
            plugin.register(ran.append, "cleanup")
            with pytest.raises(ValueError, match="ambiguous"):
                plugin.close(run=Neither())  # type: ignore[arg-type]
            assert not plugin.closed
            plugin.close(run=True)

    in_thread(body)
    assert ran == ["cleanup"]


def test_close_with_run_in_a_thread_without_cleanups(exits: list[Any]) -> None:
    """With `run` in a thread that has nothing, nothing runs, and the thread is not attached."""
    in_thread(lambda: Plugin("elsewhere").close(run=True))
    assert exits == []


# While other threads are exiting


@pytest.mark.parametrize("fails", [False, True], ids=["returns", "fails"])
@pytest.mark.parametrize("method", ["register", "register_early", "thread_started", "thread_exiting", "thread_exited"])
def test_close_waits_for_a_hook_that_runs(method: str, fails: bool, reports: list[Any]) -> None:
    """It returns, in each thread that has called it, attached or not, when the hook has ended that another one runs."""
    plugin = Plugin("waiting")
    register = getattr(plugin, method)

    def hook(slow: Slow) -> None:
        def hook(*_: Any, **__: Any) -> None:
            slow()
            if fails:
                raise ValueError

        register(hook)

    in_its_thread = method.startswith("register")
    with running(hook if in_its_thread else _attach, id if in_its_thread else hook) as slow:
        closers = [closing(plugin, slow, attach) for attach in (bool, threadhooks.attach)]
        slow.leave.set()
        for closer in closers:
            closer.join(LONG)
    assert slow.events == ["hook ended", "closed", "closed"]
    assert [report.exc_type for report in reports] == [ValueError] * fails


def _attach(slow: Slow) -> None:
    threadhooks.attach()


def test_close_waits_for_the_last_of_several_hooks() -> None:
    """However many end meanwhile, it goes on waiting."""
    plugin = Plugin("several")
    with ExitStack() as stack:
        hooks = [stack.enter_context(running(plugin.register)) for _ in range(4)]
        closer = closing(plugin, hooks[0])
        for number in (2, 0, 3):
            hooks[number].leave.set()
            hooks[number].thread.join(LONG)
            assert closer.is_alive()
        hooks[1].leave.set()
        closer.join(LONG)
        assert not closer.is_alive()


def test_close_is_told_that_a_hook_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not find out by looking again: it returns though its lock waits longer than it should."""
    waited: list[bool] = []

    class Patient:
        def __init__(self) -> None:
            self.lock = threading.Lock()
            self.release = self.lock.release

        def acquire(self, timeout: float) -> None:
            waited.append(self.lock.acquire(timeout=LONG))

    class Threading:
        Lock = Patient

        def __getattr__(self, name: str) -> Any:
            return getattr(threading, name)

    monkeypatch.setattr(threadhooks.plugins, "threading", Threading())
    plugin = Plugin("told")
    with running(plugin.register) as slow:
        closer = closing(plugin, slow)
        slow.leave.set()
        closer.join(LONG)
    assert slow.events == ["hook ended", "closed"]
    assert waited
    assert all(waited)
    assert not threadhooks.plugins._waiting


def test_close_does_not_wait_for_other_plugins() -> None:
    """A hook of another plugin that hangs is nobody else's business."""
    with Plugin("slow") as other, running(other.register) as slow:
        in_thread(Plugin("quick").close)
        assert slow.thread.is_alive()


@pytest.mark.parametrize("way", ["run by close", "closed by its hook"])
def test_close_waits_for_what_another_close_concerns(way: str) -> None:
    """A cleanup that `close(run=True)` is running in one thread has ended when close() returns in another.

    So has a hook that has closed its plugin and goes on.
    """

    def start(slow: Slow) -> None:
        if way == "run by close":
            plugin.register(slow)
            plugin.close(run=True)
        else:
            plugin.register(lambda: (plugin.close(), slow()))

    plugin = Plugin(way)
    with running(start) as slow:
        closer = closing(plugin, slow)
        slow.leave.set()
        closer.join(LONG)
    assert slow.events == ["hook ended", "closed"]


def test_a_receiver_chosen_but_not_called_is_never_called() -> None:
    """A receiver that a send has found before close(), and would call after it, is not called."""
    heard: list[threading.Thread] = []
    with Plugin("first") as first, Plugin("second") as second:

        def connect(slow: Slow) -> None:
            first.thread_exited(slow)
            second.thread_exited(lambda thread, **extra: heard.append(thread))

        with running(_attach, connect):
            second.close()
        assert heard == []


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


def test_connecting_and_closing_under_load(hurry: None) -> None:
    """Whatever threads register and exit while others close: a hook never begins after close() has returned."""
    late: list[str] = []
    for turn in range(100):
        plugin = Plugin(f"turn {turn}")
        over = threading.Event()

        def hook(*_: Any, over: threading.Event = over, **__: Any) -> None:
            if over.is_set():
                late.append("late")

        def body(plugin: Plugin = plugin, hook: Callable[..., None] = hook) -> None:
            with suppress(RuntimeError):
                plugin.register(hook)
                plugin.thread_exited(hook)
                plugin.register_early(hook)

        threads = [threading.Thread(target=body) for _ in range(6)]
        closer = threading.Thread(target=lambda p=plugin, o=over: (p.close(), o.set()))  # type: ignore[misc]
        run_all([*threads[:3], closer, *threads[3:]])
        assert plugin.pending() == {}
    assert late == []
    assert thread_exited.receivers == {}


# From within a hook


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_close_within_a_hook_does_not_wait(kind: Kind) -> None:
    """Called from within a hook of any kind, it takes everything back, and returns though another hook still runs."""
    heard: list[threading.Thread] = []
    plugin = Plugin("closed by a hook")
    plugin.thread_exited(lambda thread, **extra: heard.append(thread))
    with Plugin("owner") as owner, running(plugin.register) as slow:
        run_with(kind, plugin.close, plugin=owner)  # which has ended
        assert slow.thread.is_alive()
        assert (plugin.closed, plugin.pending()) == (True, {})
    assert slow.thread not in heard


@pytest.mark.parametrize("way", ["a receiver of the start", "a cleanup that close runs"])
def test_close_within_what_is_not_in_an_exit_does_not_wait(way: str) -> None:
    """The same within a receiver of `thread_started`, and within a cleanup that `close(run=True)` calls."""
    plugin = Plugin("closed")

    def body() -> None:
        if way == "a cleanup that close runs":
            other.register(plugin.close)
            other.close(run=True)

    with running(plugin.register) as slow, threadhooks.installed(), Plugin("closes it") as other:
        if way == "a receiver of the start":
            other.thread_started(lambda thread, **extra: plugin.close())
        in_thread(body)
        assert slow.thread.is_alive()
        assert plugin.closed


# After a fork


@forks
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
        def cleanup():
            if sys.argv[1] == "True":
                plugin.close()
            entered.set()
            leave.wait(30)
        thread = threading.Thread(target=plugin.register, args=(cleanup,))
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
