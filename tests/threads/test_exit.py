"""The exit of a thread: what runs in it, as whom, and what stays behind."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support import Log, in_thread

import threadhooks
from threadhooks import Plugin
from threadhooks.threadref import finalize, ref


@pytest.fixture
def plugin() -> Iterator[Plugin]:
    with Plugin("sentinel tests") as plugin:
        yield plugin


@threadhooks.per_thread
def resource(log: list[Any], name: str = "resource") -> Iterator[str]:
    yield name
    log.append(name)


def nothing() -> None:
    pass


def thread_locals() -> list[tuple[Any, str]]:
    """Where in the package a `threading.local` is: module and name."""
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] == "threadhooks"]
    assert len(modules) > 5
    return [(m, name) for m in modules for name, value in vars(m).items() if isinstance(value, threading.local)]


def test_there_is_one_thread_local_in_the_package() -> None:
    """The sentinel's is the only `threading.local`."""
    assert len({id(getattr(module, name)) for module, name in thread_locals()}) == 1


# When, where and as whom hooks run


def test_hooks_have_always_run_when_join_returns() -> None:
    """Three hundred times over, nothing is left to run when `join()` has returned."""
    early = 0
    for _ in range(300):
        log: list[int] = []
        in_thread(lambda log=log: finalize(log.append, 1))
        early += log != [1]
    assert early == 0


def test_a_pool_runs_its_workers_cleanups_in_them() -> None:
    """What a pool's task registers runs as its worker ends, in the worker, and not as the task ends."""
    log: list[Any] = []
    with ThreadPoolExecutor(1, initializer=threadhooks.attach) as pool:
        pool.submit(lambda: finalize(lambda: log.append(threading.get_ident())) and None).result()
        ident = pool.submit(threading.get_ident).result()
        assert log == []
    assert log == [ident]


def test_cleanups_unwind_as_one_stack_and_then_the_signal_is_sent(plugin: Plugin) -> None:
    """All cleanups run last in, first out, whoever registered them; the receivers come after them, in order."""
    log = Log()
    refs = []

    def body() -> None:
        finalize(log.append, "finalize 1")
        plugin.register(log.append, "plugin 1")
        refs.append(ref(lambda _: log.append("ref 1")))
        resource(log, "resource 1")
        refs.append(ref(lambda _: log.append("ref 2")))
        plugin.register_early(log.append, "plugin 2")
        finalize(log.append, "finalize 2")

    plugin.thread_exited(lambda thread, **extra: log.append("receiver 1"))
    plugin.thread_exited(lambda thread, **extra: log.append("receiver 2"))
    in_thread(body)
    assert log == [
        "plugin 2",  # the early moment did not come: so it comes late, before the others
        "finalize 2",
        "ref 2",
        "resource 1",
        "ref 1",
        "plugin 1",
        "finalize 1",
        "receiver 1",
        "receiver 2",
    ]


def test_a_hook_may_start_threads() -> None:
    """A thread that is started from a hook is no daemon, and has hooks of its own."""
    log: list[Any] = []

    def start() -> None:
        thread = in_thread(lambda: finalize(log.append, "inner"))
        log.append((thread.daemon, thread.is_alive()))

    in_thread(lambda: finalize(start))
    assert log == ["inner", (False, False)]


class Touched(Exception):
    pass


class Untouchable:
    """Stands in for the thread-local, and can't be touched."""

    def __getattribute__(self, name: str) -> Any:
        raise Touched(name)

    def __setattr__(self, name: str, value: object) -> None:
        raise Touched(name)

    def __delattr__(self, name: str) -> None:
        raise Touched(name)


def test_no_thread_local_is_touched_while_hooks_run(
    plugin: Plugin, reports: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a hook does with this package, no thread-local is read or written."""
    places = thread_locals()
    log = Log()

    def everything(*_: object, **extra: object) -> None:
        info = threadhooks.attach()
        assert info.thread is threading.current_thread()
        kept.append(ref(lambda _: log.append("ref")))
        assert kept[-1]() is info.thread
        finalize(log.append, "finalize").peek()
        assert finalize(log.append, "never").detach()[0] is info.thread
        assert finalize(lambda: "now")() == "now"
        plugin.register(log.append, "plugin")
        plugin.register_early(log.append, "early")
        plugin.register(log.append)
        plugin.unregister(log.append)
        plugin.register(log.append, "plugin")
        assert plugin.pending()
        assert resource(log) == resource(log) == "resource"
        resource.close(log)
        resource(log, "another")
        with Plugin("closed within a hook") as other:
            other.register(log.append, "other")
            other.close(run=True)
        with threadhooks.announced() as again:
            assert again is info
        with threadhooks.thread_exited.muted():
            pass
        log.append("all")

    def body() -> None:
        finalize(everything)
        plugin.register(everything)
        kept.append(ref(everything))
        finalize(lambda: [monkeypatch.setattr(module, name, Untouchable()) for module, name in places])

    kept: list[Any] = []
    plugin.thread_exited(everything)
    in_thread(body)
    for module, name in places:
        with pytest.raises(Touched):
            _ = getattr(module, name).anything
    assert [report.exc_value for report in reports] == []
    assert log.count("all") == 4
    assert log.count("finalize") == log.count("plugin") == log.count("ref") == log.count("another") == 4


def test_cleanups_that_are_registered_by_cleanups_run_next(plugin: Plugin) -> None:
    """What a cleanup registers runs in the same exit, in the same thread, before older cleanups."""
    log: list[Any] = []
    kept: list[Any] = []

    def step(depth: int, *_: object) -> None:
        log.append((depth, threading.get_ident()))
        if depth == 1:
            finalize(step, 2)
        if depth == 2:
            plugin.register(step, 3)
        if depth == 3:
            kept.append(ref(lambda _: step(4)))
        if depth == 4:
            plugin.register_early(step, 5)

    def body() -> None:
        finalize(step, "old")
        finalize(step, 1)

    thread = in_thread(body)
    assert log == [(depth, thread.ident) for depth in (1, 2, 3, 4, 5, "old")]


# Loops


def test_endless_cleanups_of_a_receiver_are_stopped(plugin: Plugin, reports: list[Any]) -> None:
    """A loop that begins in a receiver ends as well, and the thread with it."""

    def again() -> None:
        finalize(again)

    plugin.thread_exited(lambda thread, **extra: again())
    in_thread(threadhooks.attach)
    assert [report.exc_type for report in reports] == [RuntimeError]


# What a report looks like


def test_a_report_is_printed_with_the_thread_and_the_hook(program: Callable[..., Any]) -> None:
    """Without an excepthook of one's own, the report is the one of `threading`, and names the hook."""
    out, err, code = program("""
        import threading
        from threadhooks.threadref import finalize

        def fail():
            1 / 0

        thread = threading.Thread(target=lambda: finalize(fail), name="worker-7")
        thread.start()
        thread.join()
        print(threading.enumerate() == [threading.main_thread()])
    """)
    assert (out, code) == ("True\n", 0)
    lines = err.splitlines()
    assert "Exception in thread worker-7:" in lines
    assert "ZeroDivisionError: division by zero" in lines
    assert any("raised by __main__.fail, a hook of threadhooks" in line for line in lines)
    assert err.count("Traceback") == 1


# What stays behind


@pytest.mark.parametrize("kept", [0, 1, 50])
def test_references_that_come_and_go_leave_nothing_behind(kept: int) -> None:
    """In a thread that lives on, references among other registrations cost nothing once they are gone."""
    sizes: list[int] = []
    called: list[int] = []

    refs: deque[Any] = deque(maxlen=kept)

    def body() -> None:
        for number in range(6000):
            refs.append(ref(lambda _, number=number: called.append(number)))
            finalize(int).detach()
            if number in (2999, 5999):
                gc.collect()
                sizes.append(sys.getallocatedblocks())

    in_thread(body)
    before, after = sizes
    assert after - before < 1000
    assert called == list(range(5999, 5999 - kept, -1))


@pytest.mark.skipif("COVERAGE_RUN" in os.environ, reason="coverage keeps something of each thread")
def test_memory_is_flat(plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two thousand threads, whose hooks log, register, fail and read references, leave no object behind."""
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    logger = logging.getLogger("memory")
    if hasattr(logging.Logger, "_tls"):  # it writes to a thread-local for each record, which is never freed
        monkeypatch.setattr(logger, "warning", lambda *_: None)
    logger.propagate = False
    monkeypatch.setattr(logger, "handlers", [logging.NullHandler()])
    monkeypatch.setattr(logging, "logAsyncioTasks", False, raising=False)  # nor what 3.12 asks asyncio for
    log = Log()

    def fail() -> None:
        raise ValueError("on purpose")

    def body() -> None:
        here = ref(lambda _: logger.warning("ref"))
        finalize(here)
        finalize(fail)
        plugin.register(lambda: finalize(logger.warning, "registered by a hook"))
        finalize(threading.current_thread)
        resource(log)
        finalize(log.clear)

    plugin.thread_exited(lambda thread, **extra: logger.warning("exited"))

    def measure(threads: int) -> tuple[int, int]:
        for _ in range(threads):
            in_thread(body)
        log.clear()
        gc.collect()
        return len(gc.get_objects()), sys.getallocatedblocks()

    measure(200)
    objects, blocks = measure(200)
    more_objects, more_blocks = measure(2000)
    assert more_objects - objects < 200
    assert more_blocks - blocks < 1000
