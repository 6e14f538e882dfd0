"""What the frames of a thread that crashed hold is gone before its cleanups run at thread teardown."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import Farewell, in_thread

import threadhooks
from threadhooks import per_thread, thread_exited, threadref


class Crash(Exception):
    pass


def plain(events: list[str]) -> None:
    """The crash itself."""
    held = Farewell(lambda: events.append("released"))
    raise Crash(type(held).__name__)


def exits(events: list[str]) -> None:
    held = Farewell(lambda: events.append("released"))
    sys.exit(type(held).__name__)


def cause(events: list[str]) -> None:
    """What the crash was raised from."""
    try:
        plain(events)
    except Crash as error:
        raise Crash("from") from error


def context(events: list[str]) -> None:
    """What was being handled when it was raised."""
    try:
        plain(events)
    except Crash:
        raise Crash("while")


def deep(events: list[str]) -> None:
    """The cause of a context."""
    try:
        cause(events)
    except Crash:
        raise Crash("while")


def caught(events: list[str]) -> Crash:
    try:
        plain(events)
    except Crash as error:
        return error
    raise AssertionError


def group_of_a_list(events: list[str]) -> None:
    """A member of a group, as task groups make them."""
    errors = [caught(events), ValueError()]
    raise ExceptionGroup("a list", errors)  # noqa: F821


def group_of_a_tuple(events: list[str]) -> None:
    raise ExceptionGroup("a tuple", (ExceptionGroup("within", [caught(events)]),))  # noqa: F821


groups = pytest.mark.skipif(sys.version_info < (3, 11), reason="there are no groups")
BODIES = [
    plain, exits, cause, context, deep,
    pytest.param(group_of_a_list, marks=groups), pytest.param(group_of_a_tuple, marks=groups),
]  # fmt: skip


@pytest.fixture
def crash(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[list[str]], None]], list[str]]:
    """Let a thread open a resource, hold an object that needs it, and crash, under `install`; what happened."""
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    events: list[str] = []

    @per_thread
    def runtime() -> Iterator[None]:
        try:
            yield
        finally:
            events.append("detached")

    def crash(body: Callable[[list[str]], None]) -> list[str]:
        with threadhooks.installed():
            in_thread(lambda: (runtime(), body(events)))
        return events

    return crash


@pytest.mark.parametrize("body", BODIES)
def test_what_the_frames_hold_is_released_first(
    body: Callable[[list[str]], None], crash: Callable[..., list[str]]
) -> None:
    """It goes before the runtime that it needs is detached; so it is for all exceptions that the crash alone holds."""
    assert crash(body) == ["released", "detached"]


def test_receivers_get_the_exception_all_the_same(crash: Callable[..., list[str]]) -> None:
    """They come after the cleanups, and get the exception with the lines of its traceback."""
    told: list[tuple[type, list[str]]] = []

    def exited(thread: threading.Thread, exception: BaseException, **extra: Any) -> None:
        traceback, names = exception.__traceback__, []
        while traceback is not None:
            names.append(traceback.tb_frame.f_code.co_name)
            traceback = traceback.tb_next
        told.append((type(exception), names))

    with thread_exited.connected_to(exited):
        assert crash(plain) == ["released", "detached"]
    ((kind, names),) = told
    assert kind is Crash
    assert names[-1] == "plain"


@pytest.mark.parametrize("kept", ["the crash", "its context"])
def test_what_somebody_else_holds_is_left_alone(kept: str, crash: Callable[..., list[str]]) -> None:
    """If anybody else holds the exception, or the one behind it, that one's frames stay as they are."""
    keepers: list[BaseException] = []

    def body(events: list[str]) -> None:
        try:
            plain(events)
        except Crash as error:
            if kept == "its context":
                keepers.append(error)
            raise

    def outer(events: list[str]) -> None:
        try:
            body(events)
        except Crash as error:
            if kept == "the crash":
                keepers.append(error)
                raise
            raise Crash("while")

    events = crash(outer)
    assert events == ["detached"]
    keepers.clear()
    assert events == ["detached", "released"]


def test_an_exception_that_answers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose class answers for its cause is not asked, and costs no cleanup."""
    told: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(str(args.exc_value)))
    ran: list[str] = []

    class Mute(Exception):
        @property
        def __cause__(self) -> Any:
            raise LookupError("no answer")

    def body() -> None:
        threadref.finalize(ran.append, "cleanup")
        raise Mute("crash")

    with threadhooks.installed():
        in_thread(body)
    assert ran == ["cleanup"]
    assert told == ["crash"]
