"""What a thread that announces itself tells: when, where, to whom, and with which exception."""

from __future__ import annotations

import contextvars
import sys
import threading
import time
import weakref
from contextlib import suppress
from typing import Any

import pytest
from announcing import ERRORS, LIFE, SIGNALS, Abort, Announce, Crash, Events, crash, fail, lives, note
from support import in_thread, run

import threadhooks
from threadhooks import Plugin, installed, thread_exited, thread_exiting, thread_started

pytestmark = pytest.mark.usefixtures("nothing_installed")


def test_what_receivers_are_told(announce: Announce, plugin: Plugin) -> None:
    """Each signal tells, in its thread, the record that `attach` returns there; `thread_started` no exception."""
    calls: list[tuple[Any, ...]] = []

    def look(*args: Any, info: Any, **extra: Any) -> None:
        assert threading.current_thread().is_alive()
        assert (info.ident, info.native_id) == (threading.get_ident(), threading.get_native_id())
        calls.append((*args, threading.current_thread(), info, extra))

    for signal in SIGNALS:
        getattr(plugin, signal)(look)
    infos: list[threadhooks.ThreadInfo] = []
    before = time.time()
    thread = announce(lambda: infos.append(threadhooks.attach()), name="spoken of", daemon=True)
    (info,) = infos
    assert calls == [(thread, thread, info, extra) for extra in ({}, {"exception": None}, {"exception": None})]
    assert info[:6] == (thread, "spoken of", thread.ident, thread.native_id, True, False)
    assert before <= info.attached_at <= time.time()


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


def test_threading_hears_of_a_crash_once(announce: Announce, events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    """`threading.excepthook` gets the very exception, once, with the thread, after `thread_exiting`."""
    raised = Crash()
    told: list[Any] = []

    def hook(args: Any) -> None:
        told.append((*args, [what for what, _ in events]))

    monkeypatch.setattr(threading, "excepthook", hook)
    thread = announce(lambda: fail(raised))
    assert told == [(Crash, raised, raised.__traceback__, thread, ["thread_started", "thread_exiting"])]


def test_a_crash_is_printed_as_before(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What `threading` prints is what it prints without us, nothing for `sys.exit()`; on 3.10, with an entry more."""
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)

    def printed() -> list[str]:
        for target in (crash, sys.exit):
            run(threading.Thread(target=target, name=f"calls {target.__name__}"))
        return capfd.readouterr().err.splitlines()

    bare = printed()
    with installed():
        ours = printed()
    assert bare[:2] == ["Exception in thread calls crash:", "Traceback (most recent call last):"]
    if sys.version_info < (3, 11):
        del ours[4:6]
    assert ours == bare


@pytest.mark.parametrize("listens", [False, True])
def test_the_exception_is_not_kept(
    announce: Announce, listens: bool, plugin: Plugin, no_report: None, no_collection: None
) -> None:
    """When the thread has ended, what it raised is gone, and what its frames held, without the garbage collector."""
    kept: list[weakref.ref[Any]] = []
    for signal in SIGNALS[1:] * listens:
        getattr(plugin, signal)(lambda thread, exception, **extra: kept.append(weakref.ref(exception)))

    def body() -> None:
        held = Crash()
        kept.append(weakref.ref(held))
        raise Crash

    announce(body)
    assert [ref() for ref in kept] == [None, None, None][: len(kept)]
    assert len(kept) == 1 + 2 * listens


@pytest.mark.parametrize("moment", SIGNALS)
def test_a_receiver_that_fails(announce: Announce, moment: str, events: Events, failures: list[Any]) -> None:
    """At each moment, a receiver that raises stops neither the next one, nor the body, nor what comes after."""
    errors = [Crash(), Abort(), SystemExit(), KeyboardInterrupt()]
    with Plugin("failing") as failing:
        for error in errors:
            getattr(failing, moment)(lambda thread, error=error, **extra: fail(error))
        getattr(failing, moment)(lambda thread, **extra: events.append(("the next", thread)))
        thread = announce(note(events))
    assert lives(events) == {thread: [what for each in LIFE for what in [each, "the next"][: 1 + (each == moment)]]}
    assert failures == [(error, thread) for error in errors]


@pytest.mark.parametrize("moment", ["register_early", *SIGNALS])
def test_a_crash_is_not_touched_by_a_hook_that_fails(
    announce: Announce, moment: str, plugin: Plugin, failures: list[Any]
) -> None:
    """If a hook fails in a thread that crashes, both are reported, and the crash is what it was."""
    raised = Crash("of the body")
    failure = ValueError("of the hook")

    def body() -> None:
        if moment == "register_early":
            plugin.register_early(fail, failure)
        raise raised

    if moment != "register_early":
        getattr(plugin, moment)(lambda thread, **extra: fail(failure))
    announce(body)
    assert {error for error, _ in failures} == {raised, failure}
    assert len(failures) == 2
    assert (raised.__cause__, raised.__context__, getattr(raised, "__notes__", [])) == (None, None, [])


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


@pytest.mark.parametrize("why", ["somebody listens", "nobody listened", "another thread's receiver", "muted"])
def test_a_record_tells_whether_the_start_was_announced(announce: Announce, why: str, plugin: Plugin) -> None:
    """Where `thread_started` was sent to somebody, the record says so from then on, to its receivers as well.

    A thread of whose start nobody was told is not announced, and never will be: its exit must not be counted.
    """
    told: list[bool] = []
    for signal in SIGNALS[1:] if why != "somebody listens" else SIGNALS:
        getattr(plugin, signal)(lambda thread, info, **extra: told.append(info.announced))
    if why == "muted":
        plugin.thread_started(lambda thread, **extra: None)
    receiver = thread_started.connect(lambda thread, **extra: None, sender=threading.main_thread(), weak=False)
    with thread_started.muted() if why == "muted" else suppress():
        announce(lambda: plugin.thread_started(lambda thread, **extra: None))
    thread_started.disconnect(receiver)
    assert told == ([True] * 3 if why == "somebody listens" else [False] * 2)


@pytest.mark.parametrize("listened", [True, False], ids=["announced", "not announced"])
def test_a_count_of_threads_comes_out_even(announce: Announce, listened: bool, plugin: Plugin, no_report: None) -> None:
    """The announced threads, plus one at each start, minus one at each exit of an announced one, are those that run.

    Here the count begins in a thread whose start was announced, or was not since nobody listened.
    """
    counts: list[int] = []

    def subscribe() -> None:
        threadhooks.attach()
        plugin.thread_started(lambda thread, **extra: counts.append(counts[-1] + 1))
        plugin.thread_exited(lambda thread, info, **extra: counts.append(counts[-1] - info.announced))
        counts.append(sum(info.announced for info in threadhooks.threads()))

    if listened:
        plugin.thread_started(lambda thread, **extra: None)
    before = sum(info.announced for info in threadhooks.threads())  # another test may have announced the main thread
    announce(subscribe)
    assert counts == [before + listened, before]
    in_thread(threadhooks.attach)
    announce(int)
    announce(lambda: fail(Crash()))
    assert counts[2:] == [before, before + 1, before, before + 1, before]
