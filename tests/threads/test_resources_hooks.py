"""Resources in hooks, at the early moment, and in a thread that has crashed."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from resourcing import Crash, Manager, crashing, events, in_thread, noted
from support import Log

import threadhooks
from threadhooks import Plugin, per_thread, thread_exited
from threadhooks.threadref import finalize, ref


@pytest.fixture
def plugin() -> Iterator[Plugin]:
    with Plugin("resources") as plugin:
        yield plugin


# In other hooks


HOOKS: dict[str, Callable[[Plugin, Callable[..., Any], list[Any]], Any]] = {
    "register": lambda plugin, hook, kept: plugin.register(hook),
    "register_early": lambda plugin, hook, kept: plugin.register_early(hook),
    "finalize": lambda plugin, hook, kept: finalize(hook),
    "ref": lambda plugin, hook, kept: kept.append(ref(hook)),
    "thread_exiting": lambda plugin, hook, kept: plugin.thread_exiting(hook),
    "thread_exited": lambda plugin, hook, kept: plugin.thread_exited(hook),
}


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("hook", HOOKS)
def test_what_is_opened_in_a_hook_is_closed_in_the_same_exit(
    hook: str, early: bool, log: Log, plugin: Plugin, failures: list[Any]
) -> None:
    """In every kind of hook a resource can be used, and is closed in that thread, once, before its `join()` returns."""
    kept: list[Any] = []

    @per_thread(early=early)
    def resource() -> Iterator[object]:
        log.append(threading.current_thread())
        yield object()
        log.append(threading.current_thread())

    def use(*_: Any, **extra: Any) -> None:
        log.append(resource() is resource())

    def body() -> threading.Thread:
        HOOKS[hook](plugin, use, kept)
        return threading.current_thread()

    with threadhooks.installed():
        thread = in_thread(body)
    assert log == [thread, True, thread]
    assert failures == []


def test_every_hook_before_its_closing_finds_what_the_thread_has_opened(log: Log, plugin: Plugin) -> None:
    """From a receiver of `thread_started` to the last cleanup before its turn, the value is the same."""
    values: list[object] = []

    def use(*_: object, **extra: Any) -> None:
        values.append(noted(log))

    plugin.thread_started(use)
    plugin.thread_exiting(use)

    def body() -> None:
        use()
        plugin.register(use)
        plugin.register_early(use)

    with threadhooks.installed():
        in_thread(body)
    assert len(values) == 5
    assert len(set(values)) == 1
    assert events(log) == ["opened", "closed"]


def test_what_is_used_after_its_closing_is_opened_anew(log: Log, plugin: Plugin) -> None:
    """The receivers of `thread_exited` come when the values are closed: there it is another value."""
    values = []

    @plugin.thread_exited
    def exited(thread: threading.Thread, **extra: Any) -> None:
        values.append(noted(log))

    in_thread(lambda: values.append(noted(log)))
    assert values[0] is not values[1]
    assert events(log) == ["opened", "closed"] * 2


def test_a_failing_opening_in_a_hook_is_the_hooks_failure(log: Log, plugin: Plugin, failures: list[Any]) -> None:
    """It is reported as what that hook has raised."""

    @per_thread
    def resource() -> Iterator[None]:
        raise OSError("no answer")
        yield

    in_thread(lambda: plugin.register(resource))
    ((error, _),) = failures
    assert str(error) == "no answer"
    assert "of plugin 'resources'" in error.__notes__[0]


# The early moment


def test_early_closes_while_thread_locals_are_there(log: Log, plugin: Plugin) -> None:
    """Under `install`, before the receivers of `thread_exiting`; the others close late."""
    local = threading.local()

    @per_thread(early=True)
    def session() -> Iterator[None]:
        local.name = "registry"
        yield
        log.append(f"session closed, {local.name}")

    @per_thread
    def connection() -> Iterator[None]:
        yield
        log.append("connection closed")

    @plugin.thread_exiting
    def exiting(thread: threading.Thread, **extra: Any) -> None:
        log.append("exiting")

    with threadhooks.installed():
        in_thread(lambda: (session(), connection()))
    assert log == ["session closed, registry", "exiting", "connection closed"]


def test_early_under_announced(log: Log) -> None:
    """At the end of the block; what is used after it is opened anew, and closed late."""

    @per_thread(early=True)
    def resource() -> Iterator[object]:
        yield object()
        log.append("closed")

    def body() -> None:
        with threadhooks.announced():
            value = resource()
        assert log == ["closed"]
        assert resource() is not value
        log.append("end")

    in_thread(body)
    assert log == ["closed", "end", "closed"]


def test_early_in_a_thread_that_does_not_announce_itself(log: Log, plugin: Plugin) -> None:
    """It is closed late, before all that is not early."""

    @per_thread(early=True)
    def resource() -> Iterator[None]:
        yield
        log.append("resource")

    def body() -> None:
        plugin.register(log.append, "before")
        resource()
        plugin.register(log.append, "after")

    in_thread(body)
    assert log == ["resource", "after", "before"]


def test_early_in_a_receiver_of_thread_exiting(log: Log, plugin: Plugin) -> None:
    """What is opened as the early moment is announced is closed at this moment, too."""
    local = threading.local()

    @per_thread(early=True)
    def session() -> Iterator[None]:
        yield
        log.append(hasattr(local, "registry"))

    @plugin.thread_exiting
    def exiting(thread: threading.Thread, **extra: Any) -> None:
        local.registry = {}
        session()

    with threadhooks.installed():
        in_thread(lambda: None)
    assert log == [True]


def test_the_early_ones_close_in_reverse_order(log: Log, plugin: Plugin, failures: list[Any]) -> None:
    """Last in, first out, in one stack with early cleanups of plugins; one that fails stops no other."""

    @per_thread(early=True)
    def resource(number: int) -> Iterator[None]:
        yield
        log.append(number)
        if number == 3:
            raise OSError

    def body() -> None:
        resource(1)
        plugin.register_early(log.append, 2)
        resource(3)

    with threadhooks.installed():
        in_thread(body)
    assert log == [3, 2, 1]
    ((error, _),) = failures
    assert "resource" in error.__notes__[0]


def test_an_early_method(log: Log) -> None:
    """`early` and methods go together."""

    class Holder:
        @per_thread(early=True)
        def resource(self) -> Iterator[None]:
            yield
            log.append(hasattr(local, "there"))

    local = threading.local()
    holder = Holder()

    def body() -> None:
        local.there = True
        holder.resource()

    with threadhooks.installed():
        in_thread(body)
    assert log == [True]


# A thread that has crashed


@per_thread
def verdict(log: Any, name: str = "") -> Iterator[None]:
    """Writes down whether it would commit or roll back."""
    try:
        yield
    except BaseException as error:
        log.append((f"{name}rolled back", error))
        raise
    else:
        log.append(f"{name}committed")


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("kind", [Crash, SystemExit, KeyboardInterrupt, StopIteration, RuntimeError])
def test_what_run_raised_is_thrown_into_the_generator(
    kind: type[BaseException], early: bool, log: Log, failures: list[Any]
) -> None:
    """Under `install`, whatever `run()` raised; if the generator lets it pass, it is not reported once more."""
    resource = per_thread(early=early)(verdict.__wrapped__)  # type: ignore[attr-defined]
    error = kind("crash")
    with threadhooks.installed():
        crashing(error, lambda: resource(log))
    assert log == [("rolled back", error)]
    assert [told for told, _ in failures] == [error]


def test_each_block_of_announced_has_its_own_crash() -> None:
    """The exception of each block of one thread is thrown into what was opened in it."""
    log = Log()
    errors = [Crash(), Crash(), None, Crash()]
    resource = per_thread(early=True)(verdict.__wrapped__)  # type: ignore[attr-defined]

    def body() -> None:
        for error in errors:
            with contextlib.suppress(Crash), threadhooks.announced():
                resource(log)
                if error is not None:
                    raise error

    in_thread(body)
    assert log == ["committed" if error is None else ("rolled back", error) for error in errors]


def test_a_crash_that_is_not_known_is_not_thrown_in(log: Log, failures: list[Any]) -> None:
    """In a thread that does not announce itself, and in one that ended well, it is closed as usual."""
    crashing(Crash(), lambda: verdict(log))
    with threadhooks.installed():
        in_thread(lambda: verdict(log))
    assert log == ["committed", "committed"]
    assert [type(error) for error, _ in failures] == [Crash]


def test_an_exception_that_run_has_handled_is_not_thrown_in(log: Log) -> None:
    """Only what has left `run()` counts."""

    def body() -> None:
        with pytest.raises(Crash):
            verdict(log)
            raise Crash

    with threadhooks.installed():
        in_thread(body)
    assert log == ["committed"]


def test_a_context_manager_is_told_of_the_crash(log: Log, failures: list[Any]) -> None:
    """Its `__exit__` gets the type, the exception, and its traceback."""
    error = Crash()
    with threadhooks.installed():
        crashing(error, per_thread(lambda: Manager(log)))
    _, (event, _, kind, told, traceback) = log
    assert (event, kind, told) == ("exit", Crash, error)
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    assert traceback.tb_frame.f_code.co_name == "body"


def test_a_generator_that_swallows_the_crash(log: Log, failures: list[Any]) -> None:
    """It concerns nobody else: the crash is reported by `threading`, told to receivers, thrown into the others."""

    @per_thread
    def swallowing() -> Iterator[None]:
        with contextlib.suppress(Crash):
            yield

    def exited(thread: threading.Thread, exception: Any, **extra: Any) -> None:
        log.append(exception)

    error = Crash()
    with threadhooks.installed(), thread_exited.connected_to(exited):
        crashing(error, lambda: verdict(log), swallowing)
    assert log == [("rolled back", error), error]
    assert [told for told, _ in failures] == [error]


def test_a_generator_that_raises_another_exception(log: Log, failures: list[Any]) -> None:
    """That is a failing closing, with the crash as its context; the others are told of the crash."""

    @per_thread
    def failing() -> Iterator[None]:
        try:
            yield
        finally:
            raise OSError("on closing")

    error = Crash()
    with threadhooks.installed():
        crashing(error, lambda: verdict(log), failing)
    assert log == [("rolled back", error)]
    (crash, _), (failure, _) = failures
    assert crash is error
    assert str(failure) == "on closing"
    assert "failing" in failure.__notes__[0]
    assert failure.__context__ is error


def test_what_is_closed_by_hand_before_the_crash_is_not_told(log: Log, failures: list[Any]) -> None:
    """A value whose use had ended before is out of it."""
    with threadhooks.installed():
        crashing(Crash(), lambda: verdict(log, "first "), lambda: verdict.close(log, "first "), lambda: verdict(log))
    assert log[0] == "first committed"
    assert [event for event, _ in log[1:]] == ["rolled back"]


def test_the_crash_is_not_kept(log: Log, failures: list[Any], no_collection: None) -> None:
    """When the thread has ended, the exception is freed, without a collection, though it was thrown in."""

    @per_thread
    def resource() -> Iterator[None]:
        yield

    error = Crash()
    alive = weakref.ref(error)
    errors = [error]
    del error
    with threadhooks.installed():
        thread = threading.Thread(target=lambda: resource() or raise_(errors.pop()))
        thread.start()
        thread.join()
    failures.clear()
    assert alive() is None


def raise_(error: BaseException) -> None:
    try:
        raise error
    finally:
        del error
