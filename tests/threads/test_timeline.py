"""`Timeline`: a capture of what the threads of this process do."""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
import time
import weakref
from _thread import start_new_thread
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from announcing import refusing
from support import LONG, forks, in_thread, run, run_all

from threadhooks import Plugin, Timeline, _capture, announce, threadref
from threadhooks._attached import attached
from threadhooks.timeline import Failure, Life, Place


def next_line() -> Place:
    """The line after the one that calls this."""
    frame = sys._getframe(1)
    return Place(__file__, frame.f_lineno + 1, getattr(frame.f_code, "co_qualname", frame.f_code.co_name))


def nothing() -> None: ...


def only(timeline: Timeline, name: str) -> Life:
    [life] = [life for life in timeline.threads if life.name == name]
    return life


@contextmanager
def waiting(name: str = "waits", first: Callable[[], object] = nothing, **kwargs: Any) -> Iterator[threading.Thread]:
    """A thread that has called `first`, and ends with the block."""
    begun, end = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: (first(), begun.set(), wait(end)), name=name, **kwargs)
    thread.start()
    try:
        assert begun.wait(LONG)
        yield thread
    finally:
        end.set()
        thread.join(LONG)


def wait(end: threading.Event) -> None:
    end.wait(LONG)


@pytest.fixture
def plugin() -> Iterator[Plugin]:
    with Plugin("audit") as plugin:
        yield plugin


# What is known of a thread


def test_a_life() -> None:
    """Of a thread that was started and has ended, all is known."""
    before = time.time()
    with Timeline() as timeline:
        thread = threading.Thread(target=nothing, name="short", daemon=True)
        place = next_line()
        thread.start()
        thread.join(LONG)
    life = only(timeline, "short")
    assert life._replace(started=None, run_ended=None, ended=None) == Life(
        number=1, name="short", target=f"{__name__}.nothing", ident=thread.ident or 0, native_id=thread.native_id,
        main=False, daemon=True, foreign=False, started=None, run_ended=None, ended=None, parent=0, started_at=place,
        now=None, exception=None,
    )  # fmt: skip
    assert life.started is not None
    assert life.run_ended is not None
    assert 0 <= life.started <= life.run_ended
    assert life.ended == life.run_ended
    data = timeline.as_dict()
    assert life.ended <= data["duration"]
    assert before <= data["began"] <= time.time()


def test_the_main_thread() -> None:
    """It has the number 0, is older than the capture, and is at the line where the block ends."""
    with Timeline() as timeline:
        pass
    main = timeline.threads[0]
    assert (main.number, main.main, main.name, main.started, main.ended) == (0, True, "MainThread", None, None)
    assert main.now and main.now.file == __file__  # noqa: PT018


def test_the_parent() -> None:
    """A thread knows which thread has started it, and at which line, in whichever thread that was."""
    places: list[Place] = []

    def parent() -> None:
        child = threading.Thread(target=nothing, name="child")
        places.append(next_line())
        child.start()
        child.join(LONG)

    with Timeline() as timeline:
        in_thread(parent, "parent")
    child = only(timeline, "child")
    assert (child.parent, child.started_at) == (only(timeline, "parent").number, places[0])


def test_a_pool_names_who_made_it_start_a_thread() -> None:
    """A worker of a pool was started by the line that gave the pool its work, or made it; not by the pool's."""
    with Timeline() as timeline:
        with ThreadPoolExecutor(1, "executor") as pool:
            submitted = next_line()
            pool.submit(nothing)
        with ThreadPoolExecutor(1, "mapper") as pool:
            mapped = next_line()
            list(pool.map(str, [1]))

        async def run_one() -> Place:
            line = next_line()
            await asyncio.to_thread(nothing)
            return line

        awaited = asyncio.run(run_one())
    assert only(timeline, "executor_0").started_at == submitted
    assert only(timeline, "mapper_0").started_at == mapped
    assert only(timeline, "asyncio_0").started_at == awaited


class Runs(threading.Thread):
    def run(self) -> None: ...


class Callable_:
    def __call__(self) -> None: ...

    def method(self) -> None: ...


def targets() -> dict[str, tuple[threading.Thread, str | None]]:
    return {
        "function": (threading.Thread(target=nothing), f"{__name__}.nothing"),
        "method": (threading.Thread(target=Callable_().method), f"{__name__}.Callable_.method"),
        "object": (threading.Thread(target=Callable_()), f"{__name__}.Callable_"),
        "partial": (threading.Thread(target=functools.partial(functools.partial(nothing))), f"{__name__}.nothing"),
        "builtin": (threading.Thread(target=time.time), "time.time"),
        "method of a builtin": (threading.Thread(target=[].clear), "list.clear"),
        "run": (Runs(), f"{__name__}.Runs.run"),
        "timer": (threading.Timer(0, nothing), f"{__name__}.nothing"),
        "none": (threading.Thread(), None),
    }


@pytest.mark.parametrize("kind", targets())
def test_the_target(kind: str) -> None:
    """What a thread runs is named, whatever it is that it was given."""
    thread, name = targets()[kind]
    with Timeline() as timeline:
        run(thread)
    assert timeline.threads[-1].target == name


def test_the_last_name_counts() -> None:
    """A thread that renames itself has the name that it ended with; one that runs, the name that it has now."""

    def rename() -> None:
        threading.current_thread().name = "second"

    with Timeline() as timeline, waiting("before") as thread:
        in_thread(rename, "first")
        thread.name = "after"
        assert [life.name for life in timeline.threads[1:]] == ["after", "second"]


class Unnamed(threading.Thread):
    fails = False

    @property
    def name(self) -> str:
        if self.fails:
            raise RuntimeError("no name")
        return super().name


def test_a_name_that_fails(failures: list[Any]) -> None:
    """A thread whose class fails to compute its name has the one that `threading` gave it, and nothing is reported."""
    with Timeline() as timeline:
        thread = Unnamed()
        name = thread.name
        thread.fails = True
        run(thread)
    assert only(timeline, name).ended is not None
    assert failures == []


# What becomes of it


class Unsayable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def crash(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ValueError("no such row"), "ValueError", "no such row"),
        (Unsayable(), f"{__name__}.Unsayable", "<its str() has failed>"),
        (KeyError("x" * 1000), "KeyError", f"'{'x' * 498}…"),
        (KeyboardInterrupt(), "KeyboardInterrupt", ""),
    ],
)
def test_a_crash(error: BaseException, kind: str, message: str, failures: list[Any]) -> None:
    """What `run()` raised is told as text, with the line that raised it; `threading` reports it as ever."""
    with Timeline() as timeline:
        in_thread(lambda: crash(error), "crashes")
    raised = only(timeline, "crashes").exception
    assert raised is not None
    assert (raised.type, raised.message) == (kind, message)
    assert (raised.file, raised.line, raised.function) == (__file__, crash.__code__.co_firstlineno + 1, "crash")
    assert [told for told, _ in failures] == [error]
    assert timeline.as_dict()["summary"]["crashed"] == 1


def test_a_thread_with_hooks_ends_after_them(plugin: Plugin) -> None:
    """Its life has two ends: that of `run()`, and that of its hooks."""
    entered, go_on = threading.Event(), threading.Event()

    def hook() -> None:
        entered.set()
        assert go_on.wait(LONG)

    with Timeline() as timeline:
        thread = threading.Thread(target=plugin.register, args=(hook,), name="hooked")
        thread.start()
        assert entered.wait(LONG)
        during = only(timeline, "hooked")
        go_on.set()
        thread.join(LONG)
    after = only(timeline, "hooked")
    assert during.now is not None
    assert during.now.function.endswith("hook")
    assert (during.ended, during.run_ended) == (None, after.run_ended)
    assert after.ended is not None
    assert after.run_ended is not None
    assert after.ended > after.run_ended


def test_a_thread_that_never_ends() -> None:
    """A daemon that still runs has no end, and is at its innermost line outside the standard library."""
    with waiting("older"), waiting("daemon", daemon=True):
        with Timeline() as timeline, waiting("leaks", daemon=True):
            timeline.__exit__(None, None, None)
    for name in ("daemon", "leaks"):
        life = only(timeline, name)
        assert (life.daemon, life.ended, life.run_ended) == (True, None, None)
        assert life.now is not None
        assert (life.now.file, life.now.function) == (__file__, "wait")
    assert only(timeline, "leaks").started is not None
    assert only(timeline, "older").started is None


def test_older_threads_that_end_meanwhile() -> None:
    """A thread that is older than the capture is said to have ended with that at the latest.

    It is not lost if another thread object is made at its address.
    """
    with waiting("older"):
        timeline = Timeline().__enter__()
    for number in range(200):
        in_thread(nothing, f"new {number}")
    timeline.__exit__(None, None, None)
    life = only(timeline, "older")
    assert (life.started, life.run_ended, life.now) == (None, None, None)
    assert life.ended is not None
    assert life.ended <= timeline.as_dict()["duration"]
    assert len(timeline.threads) == 202


def test_an_older_thread_with_hooks(plugin: Plugin) -> None:
    """The end of an older thread is seen if it has hooks."""
    with ExitStack() as ends:
        ends.enter_context(waiting("older", lambda: plugin.register(nothing)))
        with Timeline() as timeline:
            ends.close()
            at_once = only(timeline, "older")
    assert at_once == only(timeline, "older")
    assert at_once.ended is not None


def test_a_foreign_thread() -> None:
    """A thread not started by `threading` is seen as foreign, from when it was attached until its hooks have run."""
    done = threading.Event()
    with Timeline() as timeline:
        start_new_thread(threadref.finalize, (done.set,))
        assert done.wait(LONG)
        while not any(life.foreign and life.ended for life in timeline.threads):
            time.sleep(0.001)
    [life] = [life for life in timeline.threads if life.foreign]
    assert life.started is not None
    assert life.ended is not None
    assert life.started <= life.ended
    assert life.parent is None


def test_a_foreign_thread_without_hooks() -> None:
    """If it runs at the end of the capture, and `threading` knows it, it is seen."""
    known, end = threading.Event(), threading.Event()

    def body() -> None:
        threading.current_thread().name = "foreign"
        known.set()
        end.wait(LONG)

    with Timeline() as timeline:
        start_new_thread(body, ())
        assert known.wait(LONG)
    end.set()
    life = only(timeline, "foreign")
    assert (life.foreign, life.started, life.ended) == (True, None, None)
    while threading.active_count() > 1 and life.ident in sys._current_frames():
        time.sleep(0.001)
    with Timeline() as later:
        pass
    assert all(life.ended is not None for life in later.threads if life.foreign)  # threading may know it still


def test_a_thread_that_could_not_be_started() -> None:
    """It is not in the picture; if it is started later, it is, once."""
    with Timeline() as timeline:
        thread = threading.Thread(target=nothing, name="late")
        with refusing(), pytest.raises(RuntimeError, match="can't start"):
            thread.start()
        assert "late" not in [life.name for life in timeline.threads]
        run(thread)
    assert [life.name for life in timeline.threads].count("late") == 1
    assert timeline.as_dict()["summary"]["started"] == 1


# Hooks that fail


def fail() -> None:
    raise OSError("the log is full")


def test_a_hook_that_fails(plugin: Plugin, failures: list[Any]) -> None:
    """It is told which hook or receiver failed, of which plugin, in which thread, and how; it is reported as ever."""

    def body() -> None:
        plugin.register(fail)
        threadref.finalize(crash, ValueError())

    started = plugin.thread_started(lambda thread, **extra: fail())
    with Timeline() as timeline:
        in_thread(body, "worker")
    number = only(timeline, "worker").number
    assert [failure._replace(time=0) for failure in timeline.failures] == [
        Failure(number, 0, f"{__name__}.{started.__qualname__}", "audit", "OSError: the log is full"),
        Failure(number, 0, f"{__name__}.crash", None, "ValueError"),
        Failure(number, 0, f"{__name__}.fail", "audit", "OSError: the log is full"),
    ]
    times = [failure.time for failure in timeline.failures]
    assert [0.0, *times, timeline.as_dict()["duration"]] == sorted([0.0, *times, timeline.as_dict()["duration"]])
    assert len(failures) == 3
    assert timeline.as_dict()["hooks"][2]["owner"] == "audit"


# What it leaves behind


def test_it_keeps_nothing_alive(no_collection: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the thread, nor its target, arguments, frames and exception, outlive the thread because of a capture."""

    class Target(Exception):
        def __call__(self, argument: Target) -> None:
            local = Target()
            kept.append(weakref.ref(local))
            timeline.threads
            raise Target

    kept: list[weakref.ref[Any]] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: kept.append(weakref.ref(args.exc_value)))
    with Timeline() as timeline:
        target, argument = Target(), Target()
        thread = threading.Thread(target=target, args=(argument,), name="crashes")
        kept += [weakref.ref(target), weakref.ref(argument), weakref.ref(thread)]
        del target, argument
        run(thread)
        del thread
        timeline.threads
        assert [ref() for ref in kept] == [None] * 5
    assert only(timeline, "crashes").exception is not None


def test_it_keeps_no_frame(no_collection: None) -> None:
    """To look where the current thread is keeps nothing of what its frames have."""
    kept: list[weakref.ref[Any]] = []

    def look() -> None:
        local = Runs()
        kept.append(weakref.ref(local))
        timeline.threads

    with Timeline() as timeline:
        look()
    assert kept[0]() is None


def test_nothing_is_left_installed() -> None:
    """After the block, though that has raised, nothing announces itself, and nobody watches."""
    start = threading.Thread.start
    with pytest.raises(ZeroDivisionError), Timeline() as timeline:
        assert threading.Thread.start is not start
        in_thread(nothing, "before")
        1 / 0
    assert only(timeline, "before").ended is not None
    assert threading.Thread.start is start
    assert not any((announce.before_start, announce.after_run, _capture.after_exit, _capture.watchers))


def test_no_thread_is_attached() -> None:
    """A thread without hooks stays so: to attach it would cost it more than the capture does."""
    seen: list[int] = []
    with Timeline():
        in_thread(lambda: seen.append(len(attached())))
    assert seen == [len(attached())]


# Several, and the limit


def test_captures_nest_and_overlap(no_report: None) -> None:
    """Any number of them sees what happens while it is open; a thread that calls `sys.exit()` is no crash."""
    first, second = Timeline(), Timeline()
    first.__enter__()
    in_thread(sys.exit, "a")
    second.__enter__()
    in_thread(nothing, "b")
    first.__exit__(None, None, None)
    in_thread(nothing, "c")
    second.__exit__(None, None, None)
    assert [(life.name, life.exception) for life in first.threads] == [("MainThread", None), ("a", None), ("b", None)]
    assert [life.name for life in second.threads] == ["MainThread", "b", "c"]


def test_an_older_thread_started_under_install_is_seen_to_end() -> None:
    """What was started in an outer capture is older than the inner one, which sees the end of its `run()`."""
    with Timeline(), ExitStack() as ends:
        ends.enter_context(waiting("older"))
        with Timeline() as inner:
            ends.close()
    life = only(inner, "older")
    assert (life.started, life.parent) == (None, None)
    assert life.ended is not None
    assert life.ended == life.run_ended


def test_the_limit(failures: list[Any]) -> None:
    """The first threads that end are kept, later ones are counted, and those that run are all seen."""

    def parent(number: int) -> None:
        in_thread(nothing, f"child {number}")
        if number == 9:
            fail()

    with Timeline(limit=5) as timeline, waiting("runs"):
        for number in range(10):
            in_thread(functools.partial(parent, number), f"parent {number}")
        timeline.__exit__(None, None, None)
    assert timeline.left_out == 15
    assert [life.name for life in timeline.threads] == [
        "MainThread", "runs", "parent 0", "child 0", "parent 1", "child 1", "child 2",
    ]  # fmt: skip
    assert only(timeline, "child 2").parent is None
    assert only(timeline, "child 1").parent == only(timeline, "parent 1").number
    data = timeline.as_dict()
    assert (data["limit"], data["left_out"]) == (5, 15)
    summary = data["summary"]
    assert (summary["started"], summary["ended"], summary["crashed"], summary["running"]) == (21, 20, 1, 1)
    assert summary["most_at_once"] == 3


def test_its_memory_is_bounded(no_collection: None) -> None:
    """Threads that start one another, in a chain, leave nothing behind beyond the limit."""

    def chain(left: int) -> None:
        if left:
            threading.Thread(target=chain, args=(left - 1,)).start()
        else:
            done.set()

    done = threading.Event()
    with Timeline(limit=10) as timeline:
        chain(300)
        assert done.wait(LONG)
        while threading.active_count() > 1:
            time.sleep(0.001)
        depth = 0
        record: _capture.Record | None = timeline._capture.ended[-1]
        while record is not None:
            record, depth = record.parent, depth + 1
    assert depth <= 12
    assert timeline.left_out == 290


@pytest.mark.parametrize(("limit", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("9", TypeError)])
def test_a_limit_that_is_none(limit: Any, error: type[Exception]) -> None:
    """A limit that is no integer, or less than 1, is refused at once."""
    with pytest.raises(error, match="limit"):
        Timeline(limit=limit)


def test_it_captures_once() -> None:
    """A second block is refused; before the first one there is nothing."""
    timeline = Timeline()
    assert (timeline.threads, timeline.failures) == ((), ())
    with timeline:
        assert "open" in repr(timeline)
    with pytest.raises(RuntimeError, match="once"):
        timeline.__enter__()
    assert "ended" in repr(timeline)


def test_numbers_are_kept() -> None:
    """Who looks during the capture, here one without a limit, finds the same numbers later."""
    with Timeline(limit=None) as timeline:
        with waiting("a"):
            in_thread(nothing, "b")
            during = {life.name: life.number for life in timeline.threads}
        in_thread(nothing, "c")
    assert {life.name: life.number for life in timeline.threads} == {**during, "c": 3}
    assert [life.number for life in timeline.threads] == [0, 1, 2, 3]
    assert timeline.as_dict()["limit"] is None


def test_many_threads_at_once() -> None:
    """Threads that start and end at the same time are all seen, each once, while others look."""
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            timeline.threads

    def start() -> None:
        for _ in range(25):
            in_thread(nothing, "child")

    with Timeline() as timeline:
        looker = threading.Thread(target=look, name="looks")
        looker.start()
        run_all([threading.Thread(target=start, name="parent") for _ in range(8)])
        stop.set()
        looker.join(LONG)
    names = [life.name for life in timeline.threads]
    assert (names.count("child"), names.count("parent"), len(names)) == (200, 8, 210)
    assert sorted(life.number for life in timeline.threads) == list(range(210))
    assert all(life.ended is not None for life in timeline.threads[1:])


@forks
def test_a_forked_child(program: Callable[..., Any]) -> None:
    """A child's copy goes on: it has what was seen before the fork, without the parent's threads that run."""
    out, err, code = program(
        """
        import os, threading, warnings
        import threadhooks
        warnings.simplefilter("ignore", DeprecationWarning)
        stop = threading.Event()
        with threadhooks.Timeline(limit=1) as timeline:
            threading.Thread(target=stop.wait, name="stays", daemon=True).start()
            first = threading.Thread(target=int, name="first"); first.start(); first.join()
            child = os.fork()
            if child == 0:
                for name in "second", "third":
                    thread = threading.Thread(target=int, name=name); thread.start(); thread.join()
        if child:
            os.waitpid(child, 0)
        print(sorted(life.name for life in timeline.threads), timeline.left_out)
        """
    )
    assert (err, code) == ("", 0)
    assert out.splitlines() == ["['MainThread', 'first'] 2", "['MainThread', 'first', 'stays'] 0"]
