"""The blocks of `announced`: one thread that announces itself, for as long as it likes."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Iterator
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


def test_announced_yields_the_record() -> None:
    """The value of the block is the record that `attach` returns."""
    infos: list[threadhooks.ThreadInfo] = []

    def body() -> None:
        with announced() as info:
            infos.extend([info, threadhooks.attach()])

    thread = in_thread(body)
    assert isinstance(infos[0], threadhooks.ThreadInfo)
    assert infos[0] is infos[1]
    assert infos[0].thread is thread


def test_announced_ends_with_its_block(events: Events) -> None:
    """`thread_exiting` is sent at the end of the block, and the thread goes on; `thread_exited` comes with its end."""

    def body() -> None:
        with announced():
            note(events)()
        events.append(("after the block", threading.current_thread()))

    thread = in_thread(body)
    assert lives(events) == {thread: ["thread_started", "run", "thread_exiting", "after the block", "thread_exited"]}


def test_announced_within_itself_does_nothing(events: Events) -> None:
    """An inner block yields the same record, and sends nothing."""
    infos: list[threadhooks.ThreadInfo] = []

    def body() -> None:
        with announced() as outer, announced() as inner:
            infos.extend([outer, inner])
        events.append(("after the block", threading.current_thread()))

    thread = in_thread(body)
    assert infos[0] is infos[1]
    assert lives(events) == {thread: ["thread_started", "thread_exiting", "after the block", "thread_exited"]}


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
    """One block after the other: each sends its two signals, and tells of its own exception."""
    told: list[BaseException | None] = []
    for signal in SIGNALS[1:]:
        getattr(plugin, signal)(lambda thread, exception, **extra: told.append(exception))
    raised = Crash()

    def body() -> None:
        with suppress(Crash), announced():
            raise raised
        with announced():
            pass

    thread = in_thread(body)
    assert lives(events) == {thread: [*SIGNALS[:2], *SIGNALS[:2], "thread_exited"]}
    assert told == [raised, None, None]


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

    def generator() -> Iterator[None]:
        with announced():
            finalize(int)
            yield

    begun = generator()
    next(begun)
    caught: list[BaseException] = []

    def body() -> None:
        try:
            begun.close()  # type: ignore[attr-defined]
        except RuntimeError as error:
            caught.append(error)

    with installed():
        thread = in_thread(body)
    assert "ends in another thread" in str(caught[0])
    assert lives(events) == {threading.main_thread(): ["thread_started"], thread: LIFE[:1] + LIFE[2:]}
    assert announcing == {}


def test_announced_in_the_main_thread(plugin: Plugin, events: Events) -> None:
    """The main thread can announce itself for a while; early cleanups run at the end of the block."""
    main = threading.main_thread()
    with announced() as info:
        plugin.register_early(lambda: events.append(("early", main)))
        events.append(("run", main))
    assert info.thread is main
    assert lives(events) == {main: ["thread_started", "run", "early", "thread_exiting"]}


@pytest.mark.parametrize("error", ERRORS)
def test_what_the_block_raises_gets_through(error: type[BaseException], plugin: Plugin) -> None:
    """What is raised in a block is raised by it: the same object, with the traceback that it has without us."""
    told: list[BaseException | None] = []
    plugin.thread_exiting(lambda thread, exception, **extra: told.append(exception))
    raised = error("crash")
    with pytest.raises(error) as caught:
        with announced():
            raise raised
    assert caught.value is raised
    assert told == [raised]
    assert [frame.name for frame in traceback.extract_tb(raised.__traceback__)] == [
        "test_what_the_block_raises_gets_through"
    ]
    assert (raised.__cause__, raised.__context__, raised.__suppress_context__) == (None, None, False)


def test_a_block_returns_and_breaks(events: Events) -> None:
    """A block that is left by `return` or `break` has ended as any other."""

    def body() -> int:
        for _ in range(2):
            with announced():
                break
        with announced():
            return 1

    in_thread(body)
    assert [what for what, thread in events] == [*SIGNALS[:2], *SIGNALS[:2], "thread_exited"]


def test_a_resource_sees_the_crash_of_its_own_block(events: Events) -> None:
    """What is opened in a block that follows one that has crashed is told of the crash of its own."""
    seen: list[BaseException] = []
    crashes = [Crash("first"), Crash("second")]

    @threadhooks.per_thread(early=True)
    def resource() -> Iterator[None]:
        try:
            yield
        except Crash as error:
            seen.append(error)
            raise

    def body() -> None:
        for number, crash in enumerate(crashes):
            with suppress(Crash), announced():
                if number:
                    resource()
                raise crash

    in_thread(body)
    assert seen == [crashes[1]]


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
