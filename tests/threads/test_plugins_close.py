"""`Plugin.close()`: it takes everything back, whatever other threads are doing just then."""

from __future__ import annotations

import functools
import sys
import threading
import time
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest
from hooks import KINDS, Kind, run_with
from support import LONG, forks, in_thread

import threadhooks
from threadhooks import (
    Plugin,
    ThreadSignal,
    thread_exited,
    thread_exiting,
    thread_started,
)


@contextmanager
def exiting_within(plugin: Plugin) -> Generator[tuple[threading.Thread, threading.Event]]:
    """A thread that is in the middle of a cleanup of `plugin`, until the event is set."""
    entered, leave = threading.Event(), threading.Event()

    def cleanup() -> None:
        entered.set()
        assert leave.wait(LONG)

    thread = threading.Thread(target=plugin.register, args=(cleanup,))
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


# What it takes back


def test_close_takes_everything_back_in_every_thread() -> None:
    """After close(), no receiver and no cleanup of the plugin runs, in no thread; those of others do."""
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
    """With `run`, this thread's cleanups run now, last in, first out, once; other threads' are taken back."""
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
    assert "fails of plugin 'running', a hook of threadhooks" in reports[0].exc_value.__notes__[0]  # type: ignore[union-attr]


def test_a_cleanup_that_runs_at_close_may_not_register() -> None:
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


def test_close_with_run_in_a_thread_without_cleanups() -> None:
    """With `run` in a thread that has nothing, nothing runs, and the thread is not attached."""
    plugin = Plugin("elsewhere")
    attached: list[bool] = []
    in_thread(
        lambda: (
            plugin.close(run=True),
            attached.append(threading.current_thread() in [info.thread for info in threadhooks.threads()]),
        )
    )
    assert attached == [False]
    assert plugin.closed


# While other threads are exiting


def test_close_waits_for_a_cleanup_that_runs() -> None:
    """close() returns when the cleanup that another thread is running has returned, and not before."""
    plugin = Plugin("waiting")
    with exiting_within(plugin) as (_, leave):
        closer = closing(plugin)
        assert closer.is_alive()
        leave.set()
        closer.join(LONG)
        assert not closer.is_alive()
    assert plugin.closed


SIGNALS = pytest.mark.parametrize("signal", [thread_started, thread_exiting, thread_exited], ids=lambda s: s.name)


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


def test_close_does_not_wait_for_other_plugins() -> None:
    """A hook of another plugin that hangs is nobody else's business."""
    with Plugin("slow") as slow, exiting_within(slow) as (thread, _):
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
    """A cleanup that `close(run=True)` is running in one thread has ended when close() returns in another."""
    entered, leave = threading.Event(), threading.Event()
    order: list[str] = []

    def cleanup() -> None:
        entered.set()
        assert leave.wait(LONG)
        order.append("the cleanup ends")

    def first() -> None:
        plugin.register(cleanup)
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
    assert order == ["the cleanup ends", "it is closed"]


def test_many_hooks_that_run_are_all_waited_for() -> None:
    """close() waits for the last of several hooks, however many end meanwhile."""
    plugin = Plugin("several")
    barrier = threading.Barrier(5)
    leave = [threading.Event() for _ in range(4)]
    ended: list[int] = []

    def cleanup(number: int) -> None:
        barrier.wait(LONG)
        assert leave[number].wait(LONG)
        ended.append(number)

    threads = [threading.Thread(target=plugin.register, args=(cleanup, number)) for number in range(4)]
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


# From within a hook


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_close_within_a_hook_does_not_wait(kind: Kind) -> None:
    """Called from within a hook of any kind, it takes everything back, and returns though another hook still runs."""
    heard: list[threading.Thread] = []
    plugin = Plugin("closed by a hook")
    plugin.thread_exited(lambda thread, **extra: heard.append(thread))
    with Plugin("owner") as owner, exiting_within(plugin) as (thread, _):
        run_with(kind, plugin.close, plugin=owner)  # which has ended
        assert thread.is_alive()
        assert (plugin.closed, plugin.pending()) == (True, {})
    assert thread not in heard


def test_close_within_a_receiver_of_the_start_does_not_wait() -> None:
    """The same within a receiver of `thread_started`."""
    plugin = Plugin("closed at a start")
    with thread_started.connected_to(receiver := lambda thread, **extra: plugin.close()):
        with exiting_within(plugin) as (thread, _):
            with threadhooks.installed():
                in_thread(lambda: None)
            assert thread.is_alive()
    del receiver


def test_close_waits_for_a_hook_that_has_closed_it_and_goes_on() -> None:
    """A hook that closes its plugin is still one of its hooks: a close() from outside waits for its end."""
    plugin = Plugin("closed by its hook")
    closed, leave = threading.Event(), threading.Event()
    order: list[str] = []

    def closes() -> None:
        plugin.close()
        closed.set()
        assert leave.wait(LONG)
        order.append("the hook ends")

    thread = threading.Thread(target=plugin.register, args=(closes,))
    thread.start()
    assert closed.wait(LONG)
    outside = threading.Thread(target=lambda: (plugin.close(), order.append("it is closed")))
    outside.start()
    outside.join(0.05)
    leave.set()
    outside.join(LONG)
    thread.join(LONG)
    assert order == ["the hook ends", "it is closed"]


def test_a_hook_may_close_its_own_plugin() -> None:
    """close() from within a cleanup takes the others back, does not wait for its caller, and lets it go on."""
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
    """With `run`, from within a cleanup, the older ones of the thread run at once."""
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
