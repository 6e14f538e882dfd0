"""The early moment: cleanups that run as soon as `run()` has ended, while thread-locals are still there."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from announcing import Announce, Events, lives, note
from support import in_thread

import threadhooks
from threadhooks import Plugin, announced, installed
from threadhooks.threadref import finalize

pytestmark = pytest.mark.usefixtures("nothing_installed")


# The early moment


def test_early_cleanups_come_before_the_receivers(announce: Announce, plugin: Plugin, events: Events) -> None:
    """They run when the body has ended, last in, first out, whoever registered them; late ones after the receivers."""

    @threadhooks.per_thread(early=True)
    def resource() -> Iterator[None]:
        yield
        note(events, "resource")()

    with Plugin("another") as other:
        plugin.thread_started(lambda thread, **extra: plugin.register_early(note(events, "of a receiver")))

        def body() -> None:
            plugin.register_early(note(events, "one"))
            plugin.register(note(events, "late 1"))
            resource()
            other.register_early(note(events, "another"))
            finalize(note(events, "late 2"))
            note(events)()

        thread = announce(body)
    early = ["another", "resource", "one", "of a receiver"]
    life = ["thread_started", "run", *early, "thread_exiting", "late 2", "late 1", "thread_exited"]
    assert lives(events) == {thread: life}


def test_early_cleanups_from_before_the_block(plugin: Plugin, events: Events) -> None:
    """What was registered before a block of `announced` runs at its end; what comes after the block, late."""

    def body() -> None:
        plugin.register_early(note(events, "before"))
        with announced():
            pass
        plugin.register_early(note(events, "after"))

    thread = in_thread(body)
    assert lives(events) == {thread: ["thread_started", "before", "thread_exiting", "after", "thread_exited"]}


def test_a_receiver_of_the_early_moment_that_registers(announce: Announce, plugin: Plugin, events: Events) -> None:
    """What a receiver of `thread_exiting` registers as early runs after the receivers, with thread-locals there."""
    local = threading.local()

    @plugin.thread_exiting
    def registers(thread: threading.Thread, **extra: Any) -> None:
        plugin.register(note(events, "late"))
        plugin.register_early(lambda: events.append((local.value, thread)))

    thread = announce(lambda: setattr(local, "value", "early"))
    assert lives(events) == {thread: ["thread_started", "thread_exiting", "early", "late", "thread_exited"]}


def test_a_thread_that_is_attached_before_it_announces_itself(plugin: Plugin) -> None:
    """The early moment comes though a tool beneath has wrapped `run`, and registers something before it is ours."""
    local = threading.local()
    seen: list[object] = []

    def target() -> None:
        local.value = "there"
        plugin.register_early(lambda: seen.append(getattr(local, "value", None)))

    start = threading.Thread.start

    def wrapping(thread: threading.Thread) -> None:
        inner = thread.run

        def outer() -> None:
            finalize(int)
            inner()

        thread.run = outer  # type: ignore[method-assign]
        start(thread)

    threading.Thread.start = wrapping  # type: ignore[method-assign]
    try:
        with installed():
            in_thread(target)
    finally:
        threading.Thread.start = start  # type: ignore[method-assign]
    assert seen == ["there"]


# Where it does not come


@threadhooks.per_thread(early=True)
def early_resource() -> Iterator[int]:
    yield 1


class HasEarlyResource:
    @threadhooks.per_thread(early=True)
    def resource(self) -> Iterator[int]:
        yield 1


def early_cleanup() -> None:
    pass


instance = HasEarlyResource()
EARLY: dict[str, tuple[Callable[[Plugin], object], str]] = {
    "register_early": (lambda plugin: plugin.register_early(early_cleanup), "early_cleanup of plugin 'of the test'"),
    "per_thread": (lambda plugin: early_resource(), "the closing of .*early_resource"),
    "per_thread method": (lambda plugin: instance.resource(), "the closing of .*HasEarlyResource.resource"),
}
early = pytest.mark.parametrize("register", [register for register, _ in EARLY.values()], ids=EARLY)


def warned(body: Callable[[], object]) -> list[warnings.WarningMessage]:
    """The warnings of early cleanups, of a thread that runs `body`."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        in_thread(body)
    return [each for each in caught if "early cleanup" in str(each.message)]


@pytest.mark.parametrize("kind", EARLY)
def test_an_early_cleanup_that_will_be_late_is_warned_of(kind: str, plugin: Plugin) -> None:
    """In a thread that does not announce itself, a `ResourceWarning` names the cleanup, the remedy and the line."""
    register, name = EARLY[kind]
    [warning] = warned(lambda: register(plugin))
    assert warning.category is ResourceWarning
    assert re.match(rf"early cleanup .*{name} will run late.*threadhooks\.install\(\)", str(warning.message))
    assert warning.filename == __file__


@early
def test_no_warning_where_the_early_moment_comes(register: Any, plugin: Plugin) -> None:
    """In a thread that announces itself, in the main thread, and in a hook of an exit, there is nothing to warn of."""
    assert warned(lambda: announced()(register)(plugin)) == []
    assert warned(lambda: finalize(register, plugin)) == []
    with installed():
        assert warned(lambda: register(plugin)) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        register(plugin)  # in the main thread


@early
def test_the_warning_as_an_error(register: Any, events: Events, reports: list[Any]) -> None:
    """Where warnings are errors, nothing is registered or opened."""
    with warnings.catch_warnings(), Plugin("of the warning") as plugin:
        warnings.simplefilter("error", ResourceWarning)
        in_thread(lambda: register(plugin))
        assert plugin.pending() == {}
    assert [report.exc_type for report in reports] == [ResourceWarning]
    assert [what for what, _ in events] == ["thread_exited"]


@pytest.mark.parametrize("options", [(), ("-X", "dev")], ids=["default", "dev"])
def test_who_sees_the_warning(options: tuple[str, ...]) -> None:
    """It is off, except in Python's development mode."""
    program = "import threading, threadhooks; p = threadhooks.Plugin('p'); r = p.register_early\n"
    program += "t = threading.Thread(target=r, args=(int,)); t.start(); t.join()"
    done = subprocess.run([sys.executable, *options, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert ("early cleanup builtins.int of plugin 'p'" in done.stderr) == bool(options)
