"""The exit of a thread: what runs in it, as whom, and what stays behind."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
from collections import deque
from typing import Any

import pytest
from resourcing import noted
from support import Log, in_thread

import threadhooks
from threadhooks import Plugin
from threadhooks.threadref import finalize, ref


def thread_locals() -> list[tuple[Any, str]]:
    """Where in the package a `threading.local` is: module and name."""
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] == "threadhooks"]
    assert len(modules) > 5
    return [(m, name) for m in modules for name, value in vars(m).items() if isinstance(value, threading.local)]


def test_there_is_one_thread_local_in_the_package() -> None:
    """The sentinel's is the only `threading.local`."""
    assert len({id(getattr(module, name)) for module, name in thread_locals()}) == 1


# When, where and as whom hooks run


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
        assert noted(log) is noted(log)
        noted.close(log)
        noted(log, "another")
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
    assert log.count("finalize") == log.count("plugin") == log.count("ref") == 4
    assert [entry[2] for entry in log if entry[0] == "closed"].count(("another",)) == 4


# Loops


@pytest.mark.parametrize("way", ["register", "register_early", "thread_exiting", "thread_exited"])
def test_endless_cleanups_are_stopped(way: str, plugin: Plugin, reports: list[Any]) -> None:
    """A loop ends at either moment, though it begins in a receiver; it is reported, and the other hooks run."""
    ran: list[str] = []

    def again(*_: object, **extra: object) -> None:
        (plugin.register_early if way in ("register_early", "thread_exiting") else plugin.register)(again)

    def body() -> None:
        plugin.register(ran.append, "late")
        plugin.register_early(ran.append, "early")
        if way.startswith("register"):
            again()

    if way.startswith("thread"):
        getattr(plugin, way)(again)
    with threadhooks.installed():
        in_thread(body)
    assert [report.exc_type for report in reports] == [RuntimeError]
    assert ran == ["early", "late"]


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
        noted(log)
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
