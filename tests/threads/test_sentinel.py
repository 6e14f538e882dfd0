"""The sentinel: a thread is attached once, and its end is announced in it, before `join()` returns."""

from __future__ import annotations

import ctypes
import functools
import gc
import itertools
import logging
import os
import queue
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from at_line import AtLine
from support import Farewell, Log, in_thread

import threadhooks
from threadhooks import _stack, thread_exited
from threadhooks.threadref import finalize, ref


@pytest.fixture
def exits() -> Iterator[list[Any]]:
    """The ``(thread, info, exception)`` of every `thread_exited`."""
    heard: list[Any] = []

    def receiver(thread: threading.Thread, *, info: Any, exception: Any, **extra: Any) -> None:
        heard.append((thread, info, exception))

    with thread_exited.connected_to(receiver):
        yield heard


@pytest.fixture
def plugin() -> Iterator[threadhooks.Plugin]:
    with threadhooks.Plugin("sentinel tests") as plugin:
        yield plugin


@threadhooks.per_thread
def resource(log: list[Any], name: str = "resource") -> Iterator[str]:
    yield name
    log.append(name)


def nothing() -> None:
    pass


# Attaching


def test_attach_tells_what_is_known_of_the_thread() -> None:
    """`attach()` returns the record of the current thread."""
    got = []
    before = time.time()
    thread = in_thread(
        lambda: got.extend([threadhooks.attach(), threading.get_ident(), threading.get_native_id()]), name="a"
    )
    info, ident, native_id = got
    assert info == (thread, "a", ident, native_id, False, False, info.attached_at, False)
    assert before <= info.attached_at <= time.time()
    assert isinstance(info, threadhooks.ThreadInfo)


def test_attach_tells_of_a_daemon() -> None:
    """The record of a daemon thread says so."""
    got: list[Any] = []
    in_thread(lambda: got.append(threadhooks.attach()), daemon=True)
    assert got[0].daemon is True
    assert got[0].foreign is False


def test_attaching_again_changes_nothing(exits: list[Any]) -> None:
    """However often a thread is attached, its record is the same one, and its end is announced once."""
    infos: list[Any] = []
    thread = in_thread(lambda: infos.extend(threadhooks.attach() for _ in range(3)))
    assert infos[0] is infos[1] is infos[2]
    assert exits == [(thread, infos[0], None)]


def test_attaching_the_main_thread_gives_its_record() -> None:
    """The main thread can be attached like any other; its end is announced by `atexit`."""
    assert threadhooks.attach().thread is threading.main_thread()
    assert threadhooks.attach().ident == threading.main_thread().ident


def test_the_record_is_frozen() -> None:
    """Nothing in a record can be set, and a new name of the thread does not change it."""
    got: list[Any] = []

    def body() -> None:
        got.append(threadhooks.attach())
        threading.current_thread().name = "new"
        got.append(threadhooks.attach())

    in_thread(body, name="old")
    assert got[0] is got[1]
    assert got[1].name == "old"
    for field in got[0]._fields:
        with pytest.raises(AttributeError):
            setattr(got[0], field, None)


def test_a_thread_that_is_not_attached_is_not_announced(exits: list[Any]) -> None:
    """Only attached threads are announced by `thread_exited`."""
    in_thread(nothing)
    assert exits == []


@pytest.mark.parametrize("kind", ["finalize", "ref", "register", "per_thread"])
def test_any_registration_attaches(kind: str, exits: list[Any], plugin: threadhooks.Plugin) -> None:
    """Whoever registers anything for a thread need not attach it."""
    registrations: dict[str, Callable[[], object]] = {
        "finalize": lambda: finalize(nothing),
        "ref": ref,
        "register": lambda: plugin.register(nothing),
        "per_thread": lambda: resource(Log()),
    }
    thread = in_thread(registrations[kind])
    assert [heard[0] for heard in exits] == [thread]


def test_attach_as_the_initializer_of_a_pool(exits: list[Any]) -> None:
    """With `attach` as its initializer, every worker of a pool is announced before the pool's shutdown returns."""
    together = threading.Barrier(3)
    with ThreadPoolExecutor(3, initializer=threadhooks.attach) as pool:
        workers = {future.result() for future in [pool.submit(at_the_same_time, together) for _ in range(3)]}
        assert exits == []
    assert {heard[0] for heard in exits} == workers
    assert len(exits) == 3


def at_the_same_time(barrier: threading.Barrier) -> threading.Thread:
    barrier.wait()
    return threading.current_thread()


def test_a_pool_runs_its_workers_clean_ups_in_them() -> None:
    """What a pool's task registers runs as its worker ends, in the worker, and not as the task ends."""
    log: list[Any] = []
    with ThreadPoolExecutor(1, initializer=threadhooks.attach) as pool:
        pool.submit(lambda: finalize(lambda: log.append(threading.get_ident())) and None).result()
        ident = pool.submit(threading.get_ident).result()
        assert log == []
    assert log == [ident]


def test_a_finaliser_attaches_while_its_thread_is_being_attached(exits: list[Any]) -> None:
    """A finaliser that runs at any line of `attach()`, and attaches as well, gets the same record."""
    for number in itertools.count():
        infos: list[Any] = []
        line = AtLine(number, lambda infos=infos: infos.append(threadhooks.attach()))  # type: ignore[misc]
        thread = in_thread(lambda: line.run(lambda: infos.append(threadhooks.attach())))
        if not line.reached:
            break
        assert len(infos) == 2
        assert infos[0] == infos[1]
        assert exits == [(thread, infos[0], None)]
        exits.clear()
    assert number > 3


def thread_locals() -> list[tuple[Any, str]]:
    """Where in the package a `threading.local` is: module and name."""
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] == "threadhooks"]
    assert len(modules) > 5
    return [(m, name) for m in modules for name, value in vars(m).items() if isinstance(value, threading.local)]


def test_there_is_one_thread_local_in_the_package() -> None:
    """The sentinel's is the only `threading.local`."""
    assert len({id(getattr(module, name)) for module, name in thread_locals()}) == 1


# When, where and as whom hooks run


def test_join_waits_for_the_hooks(exits: list[Any]) -> None:
    """A thread is alive, and `join()` waits for it, until its last hook has returned."""
    entered, leave = threading.Event(), threading.Event()
    log: list[str] = []

    def slow() -> None:
        entered.set()
        assert leave.wait(60)
        log.append("slow")

    thread = threading.Thread(target=lambda: finalize(slow))
    thread.start()
    assert entered.wait(60)
    thread.join(0.05)
    assert thread.is_alive()
    assert log == []
    leave.set()
    thread.join()
    assert log == ["slow"]
    assert len(exits) == 1


def test_hooks_have_always_run_when_join_returns() -> None:
    """Three hundred times over, nothing is left to run when `join()` has returned."""
    early = 0
    for _ in range(300):
        log: list[int] = []
        in_thread(lambda log=log: finalize(log.append, 1))
        early += log != [1]
    assert early == 0


def test_each_thread_runs_its_own_hooks(exits: list[Any]) -> None:
    """Threads that end at the same moment run each its own hooks, once, in themselves."""
    count, each = 40, 25
    end = threading.Barrier(count)
    log: list[tuple[int, int, int]] = []

    def body() -> None:
        ident = threading.get_ident()
        for number in range(each):
            finalize(lambda number=number: log.append((ident, threading.get_ident(), number)))
        end.wait()

    threads = [threading.Thread(target=body) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(log) == sorted((thread.ident, thread.ident, number) for thread in threads for number in range(each))
    assert {heard[0] for heard in exits} == set(threads)
    assert len(exits) == count


def test_clean_ups_unwind_as_one_stack_and_then_the_signal_is_sent(plugin: threadhooks.Plugin) -> None:
    """All clean-ups run last in, first out, whoever registered them; the receivers come after them, in order."""
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


def test_in_a_hook_the_current_thread_is_the_one_that_exits(plugin: threadhooks.Plugin) -> None:
    """`current_thread()`, `get_ident()`, and `enumerate()` speak of the real thread, in clean-ups and in receivers."""
    seen: list[Any] = []

    def look(*_: object, **extra: object) -> None:
        here = threading.current_thread()
        seen.append((here, here.name, threading.get_ident(), here in threading.enumerate()))

    def body() -> None:
        finalize(look)
        kept.append(ref(look))
        plugin.register(look)

    kept: list[Any] = []
    plugin.thread_exited(look)
    before = threading.enumerate()
    thread = in_thread(body, name="real")
    assert seen == [(thread, "real", thread.ident, True)] * 4
    assert threading.enumerate() == before


def test_a_log_record_of_a_hook_names_its_thread(caplog: pytest.LogCaptureFixture) -> None:
    """`logging` writes the thread's own name and ident while its hooks run."""
    thread = in_thread(lambda: finalize(logging.getLogger("hooks").warning, "bye"), name="worker-7")
    assert [(record.threadName, record.thread) for record in caplog.records] == [("worker-7", thread.ident)]


def test_nothing_stays_in_the_list_of_threads(exits: list[Any]) -> None:
    """After a thread's hooks, `threading` knows the same threads as before it."""
    before = dict(threading._active)  # type: ignore[attr-defined]
    for _ in range(50):
        in_thread(lambda: finalize(threading.current_thread))
    assert len(exits) == 50
    assert threading._active == before  # type: ignore[attr-defined]


def test_a_hook_may_start_threads() -> None:
    """A thread that is started from a hook is no daemon, and has hooks of its own."""
    log: list[Any] = []

    def start() -> None:
        thread = in_thread(lambda: finalize(log.append, "inner"))
        log.append((thread.daemon, thread.is_alive()))

    in_thread(lambda: finalize(start))
    assert log == ["inner", (False, False)]


def test_hooks_run_if_the_thread_crashed(reports: list[Any], exits: list[Any]) -> None:
    """A thread whose `in_thread()` raises is cleaned up as any other."""
    log: list[int] = []

    def body() -> None:
        finalize(log.append, 1)
        raise LookupError("crash")

    thread = in_thread(body)
    assert [report.exc_type for report in reports] == [LookupError]
    assert log == [1]
    assert [heard[0] for heard in exits] == [thread]


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
    plugin: threadhooks.Plugin, reports: list[Any], monkeypatch: pytest.MonkeyPatch
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
        with threadhooks.Plugin("closed within a hook") as other:
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


def test_clean_ups_that_are_registered_by_clean_ups_run_next(plugin: threadhooks.Plugin) -> None:
    """What a clean-up registers runs in the same exit, in the same thread, before older clean-ups."""
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


def test_clean_ups_that_are_registered_by_receivers_run_in_the_same_exit(plugin: threadhooks.Plugin) -> None:
    """What a receiver of `thread_exited` registers runs after the receivers, before `join()` returns."""
    log: list[Any] = []
    kept: list[Any] = []

    @plugin.thread_exited
    def receiver(thread: threading.Thread, **extra: object) -> None:
        log.append("receiver")
        finalize(lambda: finalize(log.append, "finalize"))
        plugin.register(log.append, "plugin")
        kept.append(ref(lambda _: log.append("ref")))

    in_thread(threadhooks.attach)
    assert log == ["receiver", "ref", "plugin", "finalize"]


def test_a_long_chain_of_clean_ups_is_no_loop(reports: list[Any]) -> None:
    """Nine hundred clean-ups, each registered by the one before it, all run."""
    log: list[int] = []

    def step(left: int) -> None:
        log.append(left)
        if left:
            finalize(step, left - 1)

    in_thread(lambda: finalize(step, 899))
    assert log == list(range(899, -1, -1))
    assert reports == []


def test_many_references_that_register_are_no_loop(reports: list[Any]) -> None:
    """However many references wait, each of their callbacks may register once."""
    calls: list[None] = []
    kept: list[Any] = []

    def body() -> None:
        kept.extend([ref(lambda _: finalize(calls.append, None)) for _ in range(6000)])

    in_thread(body)
    assert len(calls) == 6000
    assert reports == []


def finalize_again(again: Callable[[], None], plugin: threadhooks.Plugin, kept: list[Any]) -> None:
    finalize(again)


def register_again(again: Callable[[], None], plugin: threadhooks.Plugin, kept: list[Any]) -> None:
    plugin.register(again)


def refer_again(again: Callable[[], None], plugin: threadhooks.Plugin, kept: list[Any]) -> None:
    kept.append(ref(lambda _: again()))


def finalize_two(again: Callable[[], None], plugin: threadhooks.Plugin, kept: list[Any]) -> None:
    finalize(again)
    finalize(again)


AGAIN = [finalize_again, register_again, refer_again, finalize_two]


@pytest.mark.parametrize("how", AGAIN)
def test_endless_clean_ups_are_stopped_and_reported(
    how: Callable[..., None], plugin: threadhooks.Plugin, reports: list[Any], exits: list[Any]
) -> None:
    """A clean-up that registers itself again for ever is given up, with a report; older ones run, and the signal."""
    log: list[str] = []
    kept: list[Any] = []
    calls: list[None] = []

    def again() -> None:
        calls.append(None)
        assert len(calls) < 1_000_000  # or this test would never end
        how(again, plugin, kept)

    def body() -> None:
        finalize(log.append, "finalize")
        kept.append(ref(lambda _: log.append("ref")))
        plugin.register(log.append, "plugin")
        again()

    thread = in_thread(body)
    assert sorted(log) == ["finalize", "plugin", "ref"]
    assert [(report.exc_type, report.thread) for report in reports] == [(RuntimeError, thread)]
    assert "without an end" in str(reports[0].exc_value)
    assert "again" in str(reports[0].exc_value)
    assert 10_000 <= len(calls) <= 40_000
    assert len(exits) == 1
    kept.clear()


def test_endless_clean_ups_of_a_receiver_are_stopped(plugin: threadhooks.Plugin, reports: list[Any]) -> None:
    """A loop that begins in a receiver ends as well, and the thread with it."""

    def again() -> None:
        finalize(again)

    plugin.thread_exited(lambda thread, **extra: again())
    in_thread(threadhooks.attach)
    assert [report.exc_type for report in reports] == [RuntimeError]


# What hooks raise


class Broken(BaseException):
    pass


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit, Broken])
def test_what_a_hook_raises_is_reported_with_its_thread(
    error: type[BaseException], plugin: threadhooks.Plugin, reports: list[Any], exits: list[Any]
) -> None:
    """A hook that raises anything at all stops no other; `threading.excepthook` learns which thread and which hook."""
    log: list[str] = []
    kept: list[Any] = []

    def fail(*_: object, **extra: object) -> None:
        log.append("fail")
        raise error("on purpose")

    def body() -> None:
        finalize(log.append, "first")
        finalize(fail)
        plugin.register(fail)
        kept.append(ref(fail))
        finalize(log.append, "last")

    with thread_exited.connected_to(fail):
        thread = in_thread(body)
    assert log == ["last", "fail", "fail", "fail", "first", "fail"]
    assert [(report.exc_type, report.thread) for report in reports] == [(error, thread)] * 4
    assert all("fail" in report.exc_value.__notes__[0] for report in reports)
    assert len(exits) == 1
    reports.clear()


def test_a_hook_that_exits_is_quiet(program: Callable[..., Any]) -> None:
    """`sys.exit()` in a hook ends that hook alone, and nothing is printed of it."""
    assert program("""
        import sys, threading
        from threadhooks.threadref import finalize

        def body():
            finalize(print, "first")
            finalize(sys.exit, "quiet")

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
    """) == ("first\n", "", 0)


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


def throw(ident: int, error: type[BaseException]) -> None:
    """Raise `error` in another thread, as soon as it executes Python code."""
    assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(error)) == 1


def test_an_asynchronous_exception_ends_one_hook(reports: list[Any], exits: list[Any]) -> None:
    """An exception that another thread throws into a hook is reported like the hook's own; the other hooks run."""
    entered = threading.Event()
    log: list[str] = []

    def spin() -> None:
        entered.set()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            pass
        log.append("not thrown")

    def body() -> None:
        finalize(log.append, "first")
        finalize(spin)

    thread = threading.Thread(target=body)
    thread.start()
    assert entered.wait(60)
    throw(thread.ident, Broken)  # type: ignore[arg-type]
    thread.join()
    assert log == ["first"]
    assert [(report.exc_type, report.thread) for report in reports] == [(Broken, thread)]
    assert len(exits) == 1


def test_an_asynchronous_exception_anywhere_costs_one_hook_at_most(
    reports: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thrown at any line of ours while hooks are being run, it loses one hook at most; the others run once, in order.

    Nor does anything stay behind, or else the next thread with the same ident would register in vain.
    """
    monkeypatch.setattr(sys, "unraisablehook", reports.append)  # where what is thrown into a `__del__` goes
    hooks = [4, 3, 2, 1, 0, -1]
    active = dict(threading._active)  # type: ignore[attr-defined]
    ended: list[weakref.ref[threading.Thread]] = []

    def trial(number: int) -> bool:
        """Throw before line `number`; false if the exit was over before."""
        log: list[int] = []
        kept: list[Any] = []
        line = AtLine(number, lambda: throw(threading.get_ident(), Broken))

        def begin() -> None:
            sys.settrace(line)
            frame = sys._getframe().f_back
            while frame is not None:
                frame.f_trace = line
                frame = frame.f_back

        def body() -> None:
            finalize(log.append, 0)
            kept.append(ref(lambda _: log.append(1)))
            kept.append(ref(lambda _: log.append(2)))
            finalize(log.append, 3)
            finalize(log.append, 4)
            finalize(begin)

        def receiver(thread: threading.Thread, **extra: object) -> None:
            log.append(-1)

        with thread_exited.connected_to(receiver):
            ended.append(weakref.ref(in_thread(body)))
        assert log == [hook for hook in hooks if hook in log], (number, log)
        assert len(log) >= len(hooks) - 1, (number, log)
        assert threading._active == active, number  # type: ignore[attr-defined]
        del log[:]
        in_thread(lambda: finalize(log.append, 1))
        assert log == [1], number
        return line.reached

    for number in itertools.count():
        if not trial(number):
            break
    assert number > 20
    reports.clear()  # which refer to the threads
    gc.collect()
    assert {thread() for thread in ended} == {None}


def test_several_asynchronous_exceptions_in_one_exit(reports: list[Any], exits: list[Any]) -> None:
    """Each of them, thrown as one hook ends, is reported; the hooks that wait run, and the signal is sent."""
    log: list[Any] = []

    def body() -> None:
        ident = ctypes.c_ulong(threading.get_ident())
        # Written in C, so that the exception waits until we execute Python code again.
        interrupt = functools.partial(ctypes.pythonapi.PyThreadState_SetAsyncExc, ident, ctypes.py_object(Broken))
        interrupting = type("Interrupting", (), {"__del__": staticmethod(interrupt)})

        def hook() -> None:
            last = interrupting()  # noqa: F841 - destroyed as this returns
            log.append("hook")

        for number in range(3):
            finalize(log.append, number)
        for _ in range(3):
            finalize(hook)

    thread = in_thread(body)
    assert log == ["hook"] * 3 + [2, 1, 0]
    assert [(report.exc_type, report.thread) for report in reports] == [(Broken, thread)] * 3
    assert len(exits) == 1


# A sentinel that is kept


Steal = Callable[[Callable[[], object]], list[Any]]


def test_a_sentinel_can_not_be_weakly_referenced(steal: Steal) -> None:
    """Nobody gets a sentinel by dereferencing something."""
    done: list[bool] = []

    def body() -> None:
        for sentinel in steal(threadhooks.attach):
            with pytest.raises(TypeError, match="weak reference"):
                weakref.ref(sentinel)
        done.append(True)

    in_thread(body)
    assert done


def test_a_sentinel_that_was_kept_is_reported_and_its_hooks_are_not_run(
    reports: list[Any], exits: list[Any], steal: Steal
) -> None:
    """Whoever holds a sentinel longer than its thread lives gets a report, and no hook runs in a wrong thread."""
    kept: list[Any] = []
    log: list[str] = []

    def body() -> None:
        kept.extend(steal(lambda: finalize(log.append, "must not run")))
        kept_refs.append(ref(lambda _: log.append("nor this")))

    kept_refs: list[Any] = []
    thread = in_thread(body)
    assert len(kept) == 2
    assert reports == []
    kept.clear()
    assert [(report.exc_type, report.thread) for report in reports] == [(RuntimeError, thread)]
    assert "finalised in another thread" in str(reports[0].exc_value)
    assert "append" in str(reports[0].exc_value)
    assert (log, exits) == ([], [])
    assert kept_refs[0]() is None


def test_a_kept_sentinel_closes_no_resource(reports: list[Any], steal: Steal) -> None:
    """Not even the `finally` of a generator runs in the thread that drops another one's sentinel."""
    log: list[Any] = []
    kept: list[Any] = []

    @threadhooks.per_thread
    def guarded() -> Iterator[None]:
        try:
            yield
        finally:
            log.append(threading.current_thread())

    in_thread(lambda: kept.extend(steal(guarded)))
    kept.clear()
    gc.collect()
    assert log == []
    assert "guarded" in str(reports[0].exc_value)


def test_the_report_of_a_kept_sentinel_names_all_hooks(reports: list[Any], steal: Steal) -> None:
    """What is not run is named in the order of registration, be it false, or not fit for a truth value at all."""
    kept: list[Any] = []

    class Falsy:
        def __init__(self, number: int) -> None:
            self.number = number

        def __call__(self, *_: object) -> None: ...

        def __bool__(self) -> bool:
            raise ValueError("ambiguous")

        def __repr__(self) -> str:
            return f"hook {self.number}"

    def body() -> None:
        kept.append(steal(lambda: finalize(Falsy(0))))
        kept.extend([ref(Falsy(1)), ref(), ref(Falsy(2))])

    in_thread(body)
    kept[0].clear()
    assert [str(report.exc_value).partition("not run: ")[2] for report in reports] == ["[hook 0, hook 1, hook 2]"]


def test_a_sentinel_that_was_kept_is_reported_though_its_ident_is_in_use_again(
    reports: list[Any], steal: Steal
) -> None:
    """A thread with the ident of one that has ended is not taken for it."""
    kept: list[Any] = []
    log: list[str] = []

    def body() -> None:
        kept.extend(steal(lambda: finalize(log.append, "must not run")))

    first = in_thread(body)
    done: queue.SimpleQueue[None] = queue.SimpleQueue()
    leave = threading.Event()

    def drop() -> None:
        if threading.get_ident() == first.ident:
            kept.clear()
        done.put(None)
        leave.wait()

    others = []
    while kept and len(others) < 100:  # that live together, so that each has an ident of its own
        others.append(threading.Thread(target=drop))
        others[-1].start()
        done.get()
    leave.set()
    for other in others:
        other.join()
    if kept:
        kept.clear()
        pytest.skip("no ident was used again")
    assert [(report.exc_type, report.thread) for report in reports] == [(RuntimeError, first)]
    assert log == []


def test_a_sentinel_that_its_own_thread_drops_late_is_in_order(reports: list[Any], steal: Steal) -> None:
    """A sentinel that is kept, and given back in time, does no harm."""
    log: list[str] = []

    def body() -> None:
        kept = steal(lambda: finalize(log.append, "runs"))
        assert len(kept) == 2
        kept.clear()

    in_thread(body)
    assert (log, reports) == (["runs"], [])


# Registering from destructors


def test_a_destructor_registers(exits: list[Any]) -> None:
    """What a finaliser registers, wherever it happens to run, is a clean-up of the thread that it runs in."""
    log: list[Any] = []

    def body() -> None:
        cycle: list[Any] = []
        cycle += [cycle, Farewell(lambda: finalize(lambda: log.append(threading.get_ident())))]
        del cycle
        gc.collect()

    thread = in_thread(body)
    assert log == [thread.ident]
    assert len(exits) == 1


class Other(threading.local):
    """A thread-local of somebody else."""


@pytest.mark.parametrize("order", ["before", "after"])
def test_the_destructor_of_another_thread_local_registers(
    order: str, exits: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it comes before the sentinel's end, that runs in the same exit; where it comes after, it is refused.

    Which of two thread-locals ends first depends on the version. Neither leaves anything in `threading.enumerate()`.
    """
    refused: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: refused.append(args.exc_type))
    log: list[Any] = []
    other = Other()

    def farewell() -> None:
        destroyed.append("late" if log else "in time")
        finalize(lambda: log.append(threading.get_ident()))

    def body() -> None:
        if order == "before":
            other.value = Farewell(farewell)
        finalize(log.append, "attached")
        if order == "after":
            other.value = Farewell(farewell)

    destroyed: list[str] = []
    threads = threading.enumerate()
    thread = in_thread(body)
    if destroyed == ["in time"]:
        assert (log, refused) == ([thread.ident, "attached"], [])
    else:
        assert (log, refused) == (["attached"], [RuntimeError])
    assert [heard[0] for heard in exits] == [thread]
    assert threading.enumerate() == threads


def test_what_is_destroyed_as_hooks_run_may_register() -> None:
    """The arguments of a clean-up are destroyed as it has run; their destructors may register more."""
    log: list[Any] = []

    def accept(*_: object) -> None:
        log.append("accepted")

    def body() -> None:
        finalize(accept, Farewell(lambda: finalize(log.append, "later")))
        finalize(log.append, "first")

    in_thread(body)
    assert log == ["first", "accepted", "later"]


@pytest.mark.parametrize("objects", range(12))
def test_a_collection_while_a_reference_is_made(objects: int) -> None:
    """A finaliser that registers, and is called as a reference is being made, does not cost it its callback."""
    calls: list[None] = []
    kept: list[Any] = []

    def register() -> None:
        finalize(nothing)
        kept.append(ref(lambda _: None))

    class Cycle:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            gc.disable()
            for _ in range(12):
                register()

    def body() -> None:
        for _ in range(7):
            register()
        finalize(nothing)
        Cycle()
        gc.set_threshold(gc.get_count()[0] + objects)
        gc.enable()
        kept.append(ref(calls.append))
        gc.disable()

    threshold = gc.get_threshold()
    gc.disable()
    try:
        in_thread(body)
    finally:
        gc.set_threshold(*threshold)
        gc.enable()
    assert len(calls) == 1


# What stays behind


@pytest.mark.parametrize("failing", [False, True])
def test_nothing_of_a_thread_is_kept(failing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a thread has ended, it and all that it had registered are gone at once, without a collection."""
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    arguments: list[Any] = []

    def hook(argument: object) -> None:
        if failing:
            raise ValueError

    def receiver(thread: threading.Thread, **extra: object) -> None:
        if failing:
            raise ValueError

    def body() -> None:
        argument = Farewell(nothing)
        arguments.append(weakref.ref(argument))
        arguments.append(weakref.ref(threading.current_thread()))
        kept.append(ref(lambda _, argument=argument: hook(argument)))
        finalize(hook, argument)

    kept: list[Any] = []
    gc.collect()
    gc.disable()
    try:
        with thread_exited.connected_to(receiver):
            in_thread(body)
        assert [argument() for argument in arguments] == [None, None]
        assert kept[0]() is None
    finally:
        gc.enable()


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
def test_memory_is_flat(plugin: threadhooks.Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_recursion_error_at_the_first_registration() -> None:
    """If the stack overflows in it, and somebody keeps the exception, what the thread registers later runs."""
    limit = sys.getrecursionlimit()
    lost: list[int] = []
    failed = 0

    def deep(calls: int) -> None:
        if calls:
            deep(calls - 1)
        else:
            finalize(nothing)

    for calls in range(100, 200):
        log: list[str] = []
        with ThreadPoolExecutor(1) as pool:
            pool.submit(nothing).result()
            sys.setrecursionlimit(200)
            try:
                future = pool.submit(deep, calls)
                failed += future.exception() is not None
            finally:
                sys.setrecursionlimit(limit)
            pool.submit(finalize, log.append, "closed").result()
        lost += [calls] * (log != ["closed"])
    assert 0 < failed < 100
    assert lost == []


def test_references_of_a_receiver_count_as_waiting(reports: list[threading.ExceptHookArgs]) -> None:
    """What a receiver registers is no loop, however much of it there is, and whatever each of them registers."""
    number = _stack.MOST_ADDED_MEANWHILE * 3 // 5
    refs: list[ref] = []
    ran: list[None] = []

    def receiver(thread: threading.Thread, **extra: Any) -> None:
        refs.extend(ref(lambda _: finalize(ran.append, None)) for _ in range(number))  # type: ignore[func-returns-value]

    with thread_exited.connected_to(receiver):
        in_thread(threadhooks.attach)
    assert len(ran) == number
    assert reports == []
