"""The blocks of `announced`: one thread that announces itself, for as long as it likes."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any

import pytest
from announcing import ERRORS, LIFE, SIGNALS, Announce, Crash, Events, lives, note
from support import in_thread

import threadhooks
from threadhooks import Plugin, announced, installed
from threadhooks._attached import announcing
from threadhooks.threadref import finalize

pytestmark = pytest.mark.usefixtures("nothing_installed")


# announced()


def test_announced_ends_with_its_block(events: Events) -> None:
    """It yields the record of `attach`; its end sends `thread_exiting`, and an inner block sends nothing."""
    infos: list[threadhooks.ThreadInfo] = []

    def body() -> None:
        with announced() as outer:
            with announced() as inner:
                note(events)()
            note(events, "after the inner")()
        infos.extend([outer, inner, threadhooks.attach()])
        note(events, "after the block")()

    thread = in_thread(body)
    assert infos[0] is infos[1] is infos[2]
    assert infos[0].thread is thread
    life = ["thread_started", "run", "after the inner", "thread_exiting", "after the block", "thread_exited"]
    assert lives(events) == {thread: life}


def test_announced_under_install_does_nothing(announce: Announce, events: Events) -> None:
    """In a thread that announces itself already, a block yields its record and sends nothing, though it raises."""
    infos: list[threadhooks.ThreadInfo] = []

    def body() -> None:
        with suppress(Crash), announced() as info:
            infos.append(info)
            raise Crash
        note(events)()

    thread = announce(body)
    assert [info.thread for info in infos] == [thread]
    assert lives(events) == {thread: LIFE}


@pytest.mark.parametrize("moment", SIGNALS[:2])
def test_announced_in_a_receiver_does_nothing(moment: str, announce: Announce, events: Events, plugin: Plugin) -> None:
    """Nor does a block in a receiver of the start, or of the early moment."""

    def receiver(thread: threading.Thread, **extra: Any) -> None:
        with announced():
            pass

    getattr(plugin, moment)(receiver)
    thread = announce(note(events))
    assert lives(events) == {thread: LIFE}


def test_announced_again(plugin: Plugin, events: Events) -> None:
    """One block after the other: each, however it is left, sends its two signals, and tells of its own exception."""
    told: list[BaseException | None] = []
    for signal in SIGNALS[1:]:
        getattr(plugin, signal)(lambda thread, exception, **extra: told.append(exception))
    raised = Crash()

    def body() -> None:
        with suppress(Crash), announced():
            raise raised
        for _ in range(2):
            with announced():
                break
        with announced():
            return

    thread = in_thread(body)
    assert lives(events) == {thread: [*SIGNALS[:2] * 3, "thread_exited"]}
    assert told == [raised, None, None, None]


def test_announced_in_a_hook_of_the_exit(plugin: Plugin, events: Events, reports: Any) -> None:
    """In a hook of a thread's exit a block does nothing: the thread keeps its exception, and is announced once."""
    told: list[BaseException | None] = []
    plugin.thread_exited(lambda thread, exception, **extra: told.append(exception))
    raised = SystemExit()

    def body() -> None:
        finalize(announced()(lambda: events.append(("hook", threading.current_thread()))))
        raise raised

    with installed():
        thread = in_thread(body)
    assert lives(events) == {thread: ["thread_started", "thread_exiting", "hook", "thread_exited"]}
    assert told == [raised]


def test_announced_that_ends_in_another_thread(events: Events) -> None:
    """A block that a generator began and another thread ends raises there, and touches neither thread's hooks."""

    def generator() -> Generator[None]:
        with announced():
            finalize(int)
            yield

    def body() -> None:
        with pytest.raises(RuntimeError, match="ends in another thread"):
            begun.close()
        raised.append(True)

    raised: list[bool] = []
    begun = generator()
    next(begun)
    with installed():
        thread = in_thread(body)
    assert raised
    assert lives(events) == {threading.main_thread(): ["thread_started"], thread: LIFE[:1] + LIFE[2:]}
    assert announcing == {}


@pytest.mark.parametrize("error", ERRORS)
def test_what_the_block_raises_gets_through(error: type[BaseException], plugin: Plugin) -> None:
    """What is raised in a block, of the main thread here, is raised by it, with the traceback that it has without us.

    The early cleanups have run by then.
    """
    told: list[object] = []
    plugin.thread_exiting(lambda thread, exception, **extra: told.append(exception))
    raised = error("crash")
    with pytest.raises(error) as caught:
        with announced():
            plugin.register_early(told.append, "early")
            raise raised
    assert caught.value is raised
    assert told == ["early", raised]
    assert [frame.name for frame in traceback.extract_tb(raised.__traceback__)] == [
        "test_what_the_block_raises_gets_through"
    ]
    assert (raised.__cause__, raised.__context__, raised.__suppress_context__) == (None, None, False)


def test_the_end_of_the_main_thread_is_told_once(program: Callable[..., Any]) -> None:
    """After a block in the main thread, of whose start nobody was told, its end is not announced a second time."""
    source = """
        import threadhooks
        threadhooks.thread_exiting.connect(lambda thread, **extra: print("exiting"), weak=False)
        with threadhooks.announced():
            print("block")
        print("end")
        """
    assert program(source) == ("block\nexiting\nend\n", "", 0)
