"""What a thread that announces itself tells: when, where, to whom, and with which exception."""

from __future__ import annotations

import contextvars
import logging
import sys
import threading
import time
import traceback
import weakref
from contextlib import suppress
from typing import Any

import pytest
from announcing import ERRORS, LIFE, SIGNALS, Abort, Announce, Crash, Events, crash, fail, lives, note
from support import in_thread, run

import threadhooks
from threadhooks import Plugin, announced, installed, thread_exited, thread_exiting, thread_started

pytestmark = pytest.mark.usefixtures("nothing_installed")


def test_the_order_of_what_happens(announce: Announce, events: Events) -> None:
    """`thread_started` comes before the body, `thread_exiting` after it, then `thread_exited`, all before `join()`."""
    thread = announce(note(events))
    assert events == [(what, thread) for what in LIFE]


def test_signals_are_sent_in_the_thread(announce: Announce, plugin: Plugin) -> None:
    """Each signal is sent in the thread that it speaks of, which is the current one, and is alive."""
    seen: list[tuple[Any, ...]] = []

    def look(thread: threading.Thread, info: threadhooks.ThreadInfo, **extra: Any) -> None:
        current = threading.current_thread()
        seen.append((current, current.is_alive(), current in threading.enumerate(), threading.get_ident()))
        assert (info.ident, info.native_id) == (threading.get_ident(), threading.get_native_id())

    for signal in SIGNALS:
        getattr(plugin, signal)(look)
    thread = announce(int)
    assert seen == [(thread, True, True, thread.ident)] * 3
    assert thread not in threading.enumerate()


def test_the_record(announce: Announce, plugin: Plugin) -> None:
    """All three signals hand over the record of the thread, which is the one that `attach` returns in it."""
    infos: list[threadhooks.ThreadInfo] = []
    for signal in SIGNALS:
        getattr(plugin, signal)(lambda thread, info, **extra: infos.append(info))
    before = time.time()
    thread = announce(lambda: infos.append(threadhooks.attach()), name="spoken of", daemon=True)
    assert infos == [infos[0]] * 4
    assert infos[0][:4] == (thread, "spoken of", thread.ident, thread.native_id)
    assert infos[0][4:6] == (True, False)
    assert before <= infos[0].attached_at <= time.time()


def test_what_receivers_are_called_with(announce: Announce, plugin: Plugin) -> None:
    """`thread_started` tells of `info` alone; the other two tell of the exception as well."""
    calls: list[tuple[tuple[Any, ...], set[str]]] = []
    for signal in SIGNALS:
        getattr(plugin, signal)(lambda *args, **kwargs: calls.append((args, set(kwargs))))
    thread = announce(int)
    assert calls == [((thread,), {"info"}), ((thread,), {"info", "exception"}), ((thread,), {"info", "exception"})]


@pytest.mark.parametrize("signal", [thread_started, thread_exiting, thread_exited], ids=SIGNALS)
def test_one_thread_alone(announce: Announce, signal: Any) -> None:
    """A receiver that is connected to a thread before it starts hears of it, of no other, and is let go with it."""
    heard: list[threading.Thread] = []

    def connect(thread: threading.Thread) -> None:
        signal.connect(lambda thread, **extra: heard.append(thread), sender=thread, weak=False)

    thread = announce(int, connect)
    announce(int)
    assert heard == [thread]
    assert signal.receivers == {}


@pytest.mark.parametrize("signal", [thread_started, thread_exiting, thread_exited], ids=SIGNALS)
def test_muted(announce: Announce, signal: Any, events: Events) -> None:
    """A signal that is muted is not sent, the others are; early cleanups are not receivers."""
    with Plugin("muted") as other:

        def body() -> None:
            note(events)()
            other.register_early(note(events, "early"))
            other.register(note(events, "late"))

        with signal.muted():
            thread = announce(body)
    life = ["thread_started", "run", "early", "thread_exiting", "late", "thread_exited"]
    assert lives(events) == {thread: [what for what in life if what != signal.name]}


@pytest.mark.parametrize("error", ERRORS)
def test_the_exception(
    announce: Announce, error: type[BaseException], plugin: Plugin, reports: list[threading.ExceptHookArgs]
) -> None:
    """What the body raises, whatever it is, is the `exception` of `thread_exiting` and `thread_exited`."""
    told: list[BaseException] = []
    for signal in SIGNALS[1:]:
        getattr(plugin, signal)(lambda thread, exception, **extra: told.append(exception))
    raised = error("crash")
    announce(lambda: fail(raised))
    assert told == [raised, raised]


def test_no_exception(announce: Announce, plugin: Plugin, no_report: None) -> None:
    """If the body returns, `exception` is `None`, whatever it has caught, and whatever hooks raise."""
    told: list[BaseException | None] = []

    def body() -> None:
        with suppress(Crash):
            raise Crash
        plugin.register_early(sys.exit)

    for signal in SIGNALS[1:]:
        getattr(plugin, signal)(lambda thread, **extra: sys.exit())
        getattr(plugin, signal)(lambda thread, exception, **extra: told.append(exception))
    announce(body)
    assert told == [None, None]


def test_threading_hears_of_a_crash_once(
    announce: Announce, events: Events, reports: list[threading.ExceptHookArgs]
) -> None:
    """`threading.excepthook` gets the very exception, once, with the thread, after `thread_exiting`."""
    raised = Crash()
    order: list[list[str]] = []
    hook = threading.excepthook
    threading.excepthook = lambda args: (order.append([what for what, thread in events]), hook(args))  # type: ignore[assignment]
    thread = announce(lambda: fail(raised))
    threading.excepthook = hook
    [report] = reports
    assert report.exc_type is Crash
    assert report.exc_value is raised
    assert report.exc_traceback is raised.__traceback__
    assert report.thread is thread
    assert order == [["thread_started", "thread_exiting"]]


def test_the_traceback_of_a_crash(reports: list[threading.ExceptHookArgs]) -> None:
    """The traceback of a crash is that of a bare thread. (On 3.10 it has one entry more, where we call `run()`.)"""

    def frames() -> list[tuple[str, int | None]]:
        in_thread(crash)
        return [(frame.name, frame.lineno) for frame in traceback.extract_tb(reports.pop().exc_traceback)]

    bare = frames()
    with installed():
        ours = frames()
    assert ours[-1][0] == "crash"
    if sys.version_info < (3, 11):
        del ours[1]
    assert ours == bare


def test_an_exit_is_quiet(announce: Announce, capfd: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    """`sys.exit()` in a body ends the thread and prints nothing, as without us."""
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
    announce(sys.exit)
    assert capfd.readouterr() == ("", "")


def test_a_crash_is_printed_as_before(capfd: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    """What `threading` prints of a crash is what it prints without us; on 3.10, with an entry more in the traceback."""
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)

    def printed() -> list[str]:
        run(threading.Thread(target=crash, name="crashes"))
        return capfd.readouterr().err.splitlines()

    bare = printed()
    with installed():
        ours = printed()
    assert bare[:2] == ["Exception in thread crashes:", "Traceback (most recent call last):"]
    if sys.version_info < (3, 11):
        del ours[4:6]
    assert ours == bare


def test_the_exception_is_not_kept(announce: Announce, plugin: Plugin, no_report: None, no_collection: None) -> None:
    """When the thread has ended, what it raised is gone, without the garbage collector."""
    kept: list[weakref.ref[BaseException]] = []
    for signal in SIGNALS[1:]:
        getattr(plugin, signal)(lambda thread, exception, **extra: kept.append(weakref.ref(exception)))

    def body() -> None:
        raise Crash

    thread = announce(body)
    assert [ref() for ref in kept] == [None, None]
    assert not thread.is_alive()


def test_locals_of_a_crash_are_not_kept(announce: Announce, no_report: None, no_collection: None) -> None:
    """Nor is what its frames have held, with no receiver connected."""

    class Object:
        pass

    kept: list[weakref.ref[Object]] = []

    def body() -> None:
        held = Object()
        kept.append(weakref.ref(held))
        raise Crash

    announce(body)
    assert kept[0]() is None


def test_logging(announce: Announce, plugin: Plugin) -> None:
    """What receivers log bears the name of the thread, and logging leaves nothing in `threading.enumerate()`."""
    names: list[str | None] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            names.append(record.threadName)

    logger = logging.getLogger("announce tests")
    logger.addHandler(handler := Handler())
    before = threading.enumerate()
    for signal in SIGNALS:
        getattr(plugin, signal)(lambda thread, **extra: logger.warning("heard"))
    announce(int, name="logs")
    logger.removeHandler(handler)
    assert names == ["logs"] * 3
    assert threading.enumerate() == before


@pytest.mark.parametrize("moment", SIGNALS)
@pytest.mark.parametrize("error", [Crash, Abort, SystemExit, KeyboardInterrupt])
def test_a_receiver_that_fails(
    announce: Announce, moment: str, error: type[BaseException], reports: list[threading.ExceptHookArgs]
) -> None:
    """At each moment, a receiver that raises stops neither the next one, nor the body, nor what comes after."""
    events: Events = []
    with Plugin("failing") as failing, Plugin("next") as following:

        @getattr(failing, moment)
        def fails(thread: threading.Thread, **extra: Any) -> None:
            raise error

        for signal in SIGNALS:
            getattr(following, signal)(lambda thread, signal=signal, **extra: events.append((signal, thread)))
        thread = announce(note(events))
    assert lives(events) == {thread: LIFE}
    [report] = reports
    assert (report.exc_type, report.thread) == (error, thread)
    assert "fails of plugin 'failing', a hook of threadhooks" in report.exc_value.__notes__[0]


@pytest.mark.parametrize("moment", ["early cleanup", *SIGNALS])
def test_a_crash_is_not_touched_by_a_hook_that_fails(
    announce: Announce, moment: str, plugin: Plugin, reports: list[threading.ExceptHookArgs]
) -> None:
    """If a hook fails in a thread that crashes, both are reported, and the crash is what it was."""
    raised = Crash("of the body")
    failure = ValueError("of the hook")

    def body() -> None:
        if moment == "early cleanup":
            plugin.register_early(fail, failure)
        raise raised

    if moment != "early cleanup":
        getattr(plugin, moment)(lambda thread, **extra: fail(failure))
    announce(body)
    assert {report.exc_value for report in reports} == {raised, failure}
    assert len(reports) == 2
    assert (raised.__cause__, raised.__context__, getattr(raised, "__notes__", [])) == (None, None, [])


def test_a_receiver_that_starts_threads(events: Events, plugin: Plugin) -> None:
    """At each moment a receiver may start a thread, which announces itself as well."""
    started: list[threading.Thread] = []

    def starts(thread: threading.Thread, **extra: Any) -> None:
        if thread.name == "outer":
            started.append(in_thread(int))

    for signal in SIGNALS:
        getattr(plugin, signal)(starts)
    with installed():
        outer = run(threading.Thread(name="outer"))
    assert lives(events) == {outer: SIGNALS, **dict.fromkeys(started, SIGNALS)}
    assert len(started) == 3


def test_a_receiver_that_comes_while_a_thread_runs(events: Events) -> None:
    """A thread that began when nobody was listening tells of its end to those who listen by then."""
    heard: list[threading.Thread] = []
    with Plugin("late") as late, installed():
        thread = in_thread(lambda: late.thread_exiting(lambda thread, **extra: heard.append(thread)))
    assert heard == [thread]


def test_thread_locals_and_context_variables_are_there(announce: Announce, plugin: Plugin) -> None:
    """What one of receivers, body and early cleanups leaves in them is there for the next, and for nobody else."""
    local = threading.local()
    variable: contextvars.ContextVar[list[str]] = contextvars.ContextVar("variable")
    seen: list[tuple[list[str], list[str], threading.Thread]] = []

    def add(what: str) -> None:
        local.values = [*getattr(local, "values", []), what]
        variable.set([*variable.get([]), what])
        seen.append((local.values, variable.get(), threading.current_thread()))

    def body() -> None:
        plugin.register_early(add, "early")
        add("run")

    plugin.thread_started(lambda thread, **extra: add("started"))
    plugin.thread_exiting(lambda thread, **extra: add("exiting"))
    thread = announce(body)
    steps = ["started", "run", "early", "exiting"]
    assert seen == [(steps[:number], steps[:number], thread) for number in range(1, 5)]
    assert variable.get(None) is None


# ThreadInfo.announced


def test_a_record_tells_whether_the_start_was_announced(announce: Announce, plugin: Plugin) -> None:
    """Where `thread_started` was sent, the record says so from then on, to its receivers as well."""
    told: list[bool] = []
    for signal in SIGNALS:
        getattr(plugin, signal)(lambda thread, info, **extra: told.append(info.announced))
    announce(lambda: told.append(threadhooks.attach().announced))
    assert told == [True] * 4


@pytest.mark.parametrize("why", ["nobody listened", "another thread's receiver", "muted"])
def test_a_start_that_nobody_was_told_of(announce: Announce, why: str, plugin: Plugin) -> None:
    """A thread of whose start nobody was told is not announced, and never will be: its exit must not be counted."""
    told: list[bool] = []
    plugin.thread_exited(lambda thread, info, **extra: told.append(info.announced))
    if why == "muted":
        plugin.thread_started(lambda thread, **extra: None)
    receiver = thread_started.connect(lambda thread, **extra: None, sender=threading.main_thread(), weak=False)
    with thread_started.muted() if why == "muted" else suppress():
        announce(lambda: plugin.thread_started(lambda thread, **extra: None))
    thread_started.disconnect(receiver)
    assert told == [False]


def test_a_record_from_before_the_announcement(plugin: Plugin) -> None:
    """A record that was made before its thread announces itself does not change; the next one says it."""
    plugin.thread_started(lambda thread, **extra: None)
    infos: list[threadhooks.ThreadInfo] = []

    def body() -> None:
        infos.append(threadhooks.attach())
        with announced() as info:
            infos.append(info)
        infos.append(threadhooks.attach())

    in_thread(body)
    assert infos == [infos[0], infos[0]._replace(announced=True), infos[1]]
    assert infos[0].announced is False


@pytest.mark.parametrize("listened", [True, False], ids=["announced", "not announced"])
def test_a_count_of_threads_comes_out_even(announce: Announce, listened: bool, plugin: Plugin, no_report: None) -> None:
    """The announced threads, plus one at each start, minus one at each exit of an announced one, are those that run.

    Here the count begins in a thread whose start was announced, or was not since nobody listened.
    """
    counts: list[int] = []

    def starts(thread: threading.Thread, **extra: Any) -> None:
        counts.append(counts[-1] + 1)

    def exits(thread: threading.Thread, info: threadhooks.ThreadInfo, **extra: Any) -> None:
        counts.append(counts[-1] - info.announced)

    def subscribe() -> None:
        threadhooks.attach()
        plugin.thread_started(starts)
        plugin.thread_exited(exits)
        counts.append(sum(info.announced for info in threadhooks.threads()))

    if listened:
        plugin.thread_started(lambda thread, **extra: None)
    announce(subscribe)
    assert counts == [int(listened), 0]
    in_thread(threadhooks.attach)
    announce(int)
    announce(lambda: fail(Crash()))
    assert counts[2:] == [0, 1, 0, 1, 0]
