"""What every kind of hook must do: each test is one promise, and runs for each kind."""

from __future__ import annotations

import functools
import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import get_ident, get_native_id
from typing import Any

import pytest
from hooks import CLEANUPS, KINDS, Kind, keep_and_run, run_with
from support import LONG, Farewell, forks

import threadhooks
from threadhooks import Plugin

TESTS = Path(__file__).parents[1]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def plugin() -> Iterator[Plugin]:
    with Plugin("owner") as plugin:
        yield plugin


class Broken(BaseException):
    """What nobody expects."""


def test_it_runs_in_its_own_thread(kind: Kind, plugin: Plugin) -> None:
    """Of threads that end at the same moment, each runs its own hook, by ident and by native id."""
    ran: list[tuple[object, ...]] = []
    together = threading.Barrier(4)

    def body() -> None:
        own = get_ident(), get_native_id()
        hook = lambda: ran.append((*own, get_ident(), get_native_id()))  # noqa: E731
        if kind.owned:  # it is told of every thread
            hook = lambda: ran.append((get_ident(), get_native_id()) * 2)  # noqa: E731
        if not kind.owned or together.wait(LONG) == 0:
            kept.append(kind.add(plugin, hook))
        together.wait(LONG)

    kept: list[object] = []
    with threadhooks.installed():
        threads = [threading.Thread(target=body) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
    ids = {(thread.ident, thread.native_id) for thread in threads}
    assert len(ran) == len(ids) == 4
    assert {each[:2] for each in ran} == {each[2:] for each in ran} == ids


def test_it_runs_before_join_returns(kind: Kind, plugin: Plugin) -> None:
    """As long as it runs, its thread is alive, and `join()` waits."""
    entered, leave, joined = threading.Event(), threading.Event(), threading.Event()
    seen: list[bool] = []

    def hook() -> None:
        entered.set()
        assert leave.wait(LONG)
        seen.append(joined.is_set())

    waiter = threading.Thread(target=lambda: (run_with(kind, hook, plugin=plugin), joined.set()))
    waiter.start()
    assert entered.wait(LONG)
    assert not joined.wait(0.05)
    leave.set()
    waiter.join(LONG)
    assert joined.is_set()
    assert seen == [False]


def test_it_runs_once(kind: Kind, plugin: Plugin) -> None:
    """Neither a second attaching, nor a collection, nor the closing of its plugin calls it again."""
    ran: list[int] = []
    run_with(kind, lambda: ran.append(1), plugin=plugin, then=threadhooks.attach)
    gc.collect()
    plugin.close(run=True)
    assert ran == [1]


def test_the_last_in_is_the_first_out(kind: Kind, plugin: Plugin) -> None:
    """Cleanups run in the reverse of the order in which they were registered; receivers in that of their connection."""
    ran: list[int] = []
    run_with(kind, *[functools.partial(ran.append, number) for number in range(4)], plugin=plugin)
    assert ran == ([0, 1, 2, 3] if kind.receives else [3, 2, 1, 0])


def test_its_failure_is_reported_and_stops_nobody(
    kind: Kind, plugin: Plugin, reports: list[threading.ExceptHookArgs]
) -> None:
    """Whatever it raises, the others run; `threading.excepthook` gets the thread, and a note names the hook."""
    ran: list[int] = []
    errors = [ValueError, KeyboardInterrupt, GeneratorExit, Broken]

    def failing(error: type[BaseException]) -> Callable[[], None]:
        def hook() -> None:
            ran.append(0)
            raise error

        return hook

    hooks = [lambda: ran.append(1), *map(failing, errors), lambda: ran.append(2)]
    thread = run_with(kind, *hooks, plugin=plugin)
    assert ran == [1, 0, 0, 0, 0, 2] if kind.receives else [2, 0, 0, 0, 0, 1]
    assert [report.exc_type for report in reports] == (errors if kind.receives else errors[::-1])
    assert {report.thread for report in reports} == {thread}
    for report in reports:
        [note] = report.exc_value.__notes__  # type: ignore[union-attr]
        assert note.startswith("raised by ")
        assert note.endswith(f"{kind.note}, a hook of threadhooks")


def test_system_exit_is_quiet(
    kind: Kind, plugin: Plugin, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sys.exit()` ends the hook alone, and nothing is printed of it."""
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)  # pytest's is not quiet
    ran: list[int] = []
    run_with(kind, lambda: ran.append(1), functools.partial(sys.exit, 3), lambda: ran.append(2), plugin=plugin)
    assert sorted(ran) == [1, 2]
    assert capfd.readouterr() == ("", "")


def test_the_current_thread_is_the_one_that_ends(kind: Kind, plugin: Plugin) -> None:
    """In it, `threading` knows the thread and its name; afterwards `threading` knows the same threads as before."""
    seen: list[Any] = []

    def hook() -> None:
        here = threading.current_thread()
        seen.append((here, here.name, here in threading.enumerate(), threadhooks.attach().thread))

    before = dict(threading._active)  # type: ignore[attr-defined]
    thread = run_with(kind, hook, plugin=plugin, name="the real one")
    assert seen == [(thread, "the real one", True, thread)]
    assert threading._active == before  # type: ignore[attr-defined]


@pytest.mark.parametrize("fails", [False, True], ids=["returns", "fails"])
def test_nothing_of_it_is_kept(
    kind: Kind, plugin: Plugin, fails: bool, no_collection: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When its thread has ended, the thread, the hook and its arguments are gone, without a collection.

    So they are though somebody keeps what the registration returned.
    """
    monkeypatch.setattr(threading, "excepthook", lambda args: None)

    def hook(argument: object) -> None:
        if fails:
            raise ValueError

    def run() -> list[weakref.ref[Any]]:
        argument = Farewell(lambda: None)
        bound = functools.partial(hook, argument)
        thread = keep_and_run(kind, kept, bound, plugin=plugin)
        return [weakref.ref(argument), weakref.ref(bound), weakref.ref(thread)]

    kept: list[object] = []
    gone = run()
    if kind.owned:
        assert gone[2]() is None
        plugin.close()
    assert [what() for what in gone] == [None, None, None]


@pytest.mark.parametrize("other", CLEANUPS, ids=lambda kind: kind.name)
def test_what_it_registers_runs_in_the_same_exit(kind: Kind, other: Kind, plugin: Plugin) -> None:
    """It may register any cleanup, and that may register another: both run, once, in the thread that ends."""
    ran: list[Any] = []
    kept: list[object] = []

    def hook(depth: int) -> None:
        ran.append((depth, get_native_id()))
        if depth < 2:
            kept.append(other.add(plugin, functools.partial(hook, depth + 1)))

    thread = run_with(kind, functools.partial(hook, 0), plugin=plugin)
    assert ran == [(depth, thread.native_id) for depth in range(3)]


@forks
def test_a_forked_child_does_not_run_it_for_another_thread(kind: Kind, program: Callable[..., Any]) -> None:
    """What a thread has registered runs as the thread ends, in the parent, and never in a child that another forks."""
    assert program(
        f"""
        import os, sys, threading, warnings
        sys.path.insert(0, {str(TESTS)!r})
        from hooks import KINDS
        import threadhooks
        warnings.simplefilter("ignore", DeprecationWarning)  # that it forks while threads run

        def body():
            kept.append(kind.add(plugin, lambda: print("parent" if os.getpid() == parent else "child")))
            registered.set()
            end.wait()

        [kind] = [kind for kind in KINDS if kind.name == sys.argv[1]]
        parent, plugin, kept = os.getpid(), threadhooks.Plugin("owner"), []
        registered, end = threading.Event(), threading.Event()
        threadhooks.install()
        thread = threading.Thread(target=body)
        thread.start()
        registered.wait()
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)
        end.set()
        thread.join()
        print("joined")
        plugin.close()
        """,
        kind.name,
    ) == ("parent\njoined\n", "", 0)
