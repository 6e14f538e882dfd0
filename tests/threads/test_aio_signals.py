"""`threadhooks.aio.exits` and `threadhooks.aio.connect`: all that happens in threads, told to an event loop."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import threading
import weakref
from collections.abc import Coroutine
from contextlib import aclosing
from typing import Any

import pytest
from announcing import fail
from loops import RunAsync, nothing, turns
from support import LONG, in_thread

import threadhooks
from threadhooks import Plugin, ThreadInfo, _over, attach, installed, thread_exited, thread_exiting, thread_started
from threadhooks.aio import connect, exited, exits

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


pytestmark = pytest.mark.usefixtures("nothing_stays_connected")


# exits()


async def test_exits_follows_all(run_async: RunAsync) -> None:
    """It gives the record of each thread that exits after the call, attached or under `install()`, in their order.

    What a slow loop has not taken waits for it.
    """
    in_thread(attach)
    infos = exits()
    threads = [in_thread(attach)]
    in_thread(nothing)
    with installed():
        threads += [in_thread(nothing) for _ in range(200)]
    assert [(await infos.__anext__()).thread for _ in threads] == threads


def test_exits_waits_until_a_thread_is_over(run_async: RunAsync) -> None:
    """A thread whose hooks are running has not exited: its record comes when `join()` does not block any more."""
    running, go_on = threading.Event(), threading.Event()

    def last() -> None:
        running.set()
        go_on.wait(LONG)

    async def main(plugin: Plugin) -> None:
        async with exits() as infos:
            thread = threading.Thread(target=plugin.register, args=(last,))
            thread.start()
            assert running.wait(LONG)
            first = asyncio.ensure_future(infos.__anext__())
            await turns()
            assert not first.done()
            go_on.set()
            assert (await first).thread is thread
            assert not thread.is_alive()

    with Plugin("hooks") as plugin:
        run_async(main(plugin))


async def test_break_disconnects(run_async: RunAsync, no_collection: None) -> None:
    """To leave the loop by ``break`` leaves nothing connected, without the collector."""
    iterator = exits()
    in_thread(attach)
    async for info in iterator:
        assert isinstance(info, ThreadInfo)
        break
    assert len(_over.of_all) == 1
    del iterator
    assert _over.of_all == {}


@pytest.mark.parametrize("manager", [aclosing, lambda infos: infos])
async def test_exits_as_a_context_manager(run_async: RunAsync, manager: Any) -> None:
    """At the end of its block it is disconnected, and gives nothing more, though something waits."""
    async with manager(exits()) as infos:
        in_thread(attach)
        assert len(_over.of_all) == 1
    assert _over.of_all == {}
    await turns()
    assert [info async for info in infos] == []
    assert [info async for info in infos] == []


async def test_aclose_ends_the_iteration_of_others(run_async: RunAsync) -> None:
    """`aclose()` ends the loops of all the tasks that wait for another exit."""
    infos = exits()

    async def follow() -> list[ThreadInfo]:
        return [info async for info in infos]

    tasks = [asyncio.ensure_future(follow()) for _ in range(3)]
    await turns()
    await infos.aclose()
    assert await asyncio.gather(*tasks) == [[], [], []]


async def test_a_cancelled_iteration_loses_nothing(run_async: RunAsync) -> None:
    """Who is cancelled as it waits for an exit can go on with the same iterator."""
    infos = exits()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(infos.__anext__(), 0.01)
    thread = in_thread(attach)
    assert (await infos.__anext__()).thread is thread


def test_exits_of_a_closed_loop(run_async: RunAsync, reports: list[Any]) -> None:
    """When its loop is closed, the next exit disconnects it, and nobody notices."""

    async def main() -> Any:
        return exits()

    infos = run_async(main())
    in_thread(attach)
    assert (_over.of_all, reports) == ({}, [])
    del infos


@pytest.mark.parametrize("use", [exits, lambda: connect(thread_exited, coroutine_function)])
def test_what_needs_a_loop(use: Any) -> None:
    """Where no loop runs, it is refused at once, and nothing is connected."""
    with pytest.raises(RuntimeError, match="no running event loop"):
        use()


# connect()


async def test_it_runs_on_the_loop_that_connected_it(run_async: RunAsync, no_report: None) -> None:
    """The coroutine function is called, in the loop's thread, with what the signal sends."""
    calls: list[Any] = []
    error = ValueError("the thread fails")

    async def receiver(thread: threading.Thread, info: ThreadInfo, exception: BaseException | None) -> None:
        await asyncio.sleep(0)
        calls.append((thread, info.thread, exception, threading.current_thread()))

    with connect(thread_exiting, receiver):
        with installed():
            thread = in_thread(lambda: fail(error))
        await turns()
    assert calls == [(thread, thread, error, threading.current_thread())]


async def test_tasks_begin_in_the_order_of_the_sends(run_async: RunAsync) -> None:
    """The calls begin in the order in which the threads started; one for one sender is for that thread alone."""
    begun: list[threading.Thread] = []
    alone: list[threading.Thread] = []

    async def receiver(thread: threading.Thread, **extra: Any) -> None:
        begun.append(thread)
        await asyncio.Event().wait()

    async def receiver_of_one(thread: threading.Thread, **extra: Any) -> None:
        alone.append(thread)

    threads = [threading.Thread(target=nothing) for _ in range(20)]
    with connect(thread_started, receiver), connect(thread_started, receiver_of_one, threads[7]), installed():
        for thread in threads:
            thread.start()
            thread.join()
        await turns()
    assert begun == threads
    assert alone == [threads[7]]
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        if task.get_coro().__qualname__ == "Connection._run":  # type: ignore[union-attr]
            task.cancel()
    await turns()


async def test_disconnect(run_async: RunAsync) -> None:
    """What was sent before `disconnect()` is still told, what is sent later isn't; a call that has begun goes on."""
    begun, finished = [], []
    go_on = asyncio.Event()

    async def receiver(thread: threading.Thread, **extra: Any) -> None:
        begun.append(thread)
        await go_on.wait()
        finished.append(thread)

    connection = connect(thread_exited, receiver)
    assert repr(connection).startswith(f"<Connection of {__name__}.test_disconnect.")
    assert repr(connection).endswith(" to <threadhooks.thread_exited>>")
    first = in_thread(attach)
    await turns()
    second = in_thread(attach)
    connection.disconnect()
    connection.disconnect()
    assert thread_exited.receivers == {}
    in_thread(attach)
    await turns()
    go_on.set()
    await turns()
    assert begun == finished == [first, second]


async def test_a_running_receiver_is_kept(run_async: RunAsync) -> None:
    """A task that nobody but its own frame knows is not collected before it is done."""
    begun: list[Any] = []
    finished: list[bool] = []

    async def receiver(thread: threading.Thread, **extra: Any) -> None:
        future = asyncio.get_running_loop().create_future()
        begun.append(weakref.ref(future))
        await future
        finished.append(True)

    with connect(thread_exited, receiver):
        in_thread(attach)
        await turns()
    gc.collect()
    begun.pop()().set_result(None)
    await turns()
    assert finished == [True]


@pytest.mark.parametrize("error", [ValueError, SystemExit])
async def test_what_a_receiver_raises_is_reported(
    run_async: RunAsync, error: type[BaseException], reports: list[Any]
) -> None:
    """It goes to `threading.excepthook`, with the thread, and says whose it is; the loop and the connection go on."""

    async def bad(thread: threading.Thread, **extra: Any) -> None:
        raise error

    with connect(thread_exited, bad):
        threads = [in_thread(attach), in_thread(attach)]
        await turns()
    assert [(report.exc_type, report.thread) for report in reports] == [(error, t) for t in threads]
    assert "bad, a hook of threadhooks" in reports[0].exc_value.__notes__[0]


def test_keyboard_interrupt_stops_the_loop(run_async: RunAsync, reports: list[Any]) -> None:
    """`KeyboardInterrupt` is not held up by a receiver in which it happens to arrive."""

    async def main() -> None:
        async def interrupted(thread: threading.Thread, **extra: Any) -> None:
            raise KeyboardInterrupt

        with connect(thread_exited, interrupted):
            in_thread(attach)
            await asyncio.sleep(LONG)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    gc.collect()  # asyncio complains of the task, and should not do so in the middle of something else
    assert reports == []


def test_a_cancelled_receiver_is_not_reported(reports: list[Any]) -> None:
    """When the loop ends and cancels its tasks, that is no failure of the receiver."""
    cancelled: list[bool] = []

    async def main() -> None:
        async def waiting(thread: threading.Thread, **extra: Any) -> None:
            try:
                await asyncio.sleep(LONG)
            finally:
                cancelled.append(True)

        with connect(thread_exited, waiting):
            in_thread(attach)
            await turns()

    asyncio.run(main())
    assert (cancelled, reports) == ([True], [])


async def test_the_context_is_that_of_the_connection(run_async: RunAsync) -> None:
    """A receiver sees the context variables of the moment of `connect`, and changes them for itself alone."""
    seen: list[str] = []

    async def receiver(thread: threading.Thread, **extra: Any) -> None:
        seen.append(variable.get())
        variable.set("by the receiver")

    variable.set("connected")
    with connect(thread_exited, receiver):
        variable.set("later")
        in_thread(attach)
        in_thread(attach)
        await turns()
    assert seen == ["connected", "connected"]


def test_connect_of_a_closed_loop(run_async: RunAsync, reports: list[Any]) -> None:
    """When its loop is closed, the next send disconnects it, and nobody notices."""

    async def receiver(thread: threading.Thread, **extra: Any) -> None:
        raise AssertionError

    async def main() -> None:
        connect(thread_exited, receiver)

    run_async(main())
    assert len(thread_exited.receivers) == 1
    in_thread(attach)
    assert (thread_exited.receivers, reports) == ({}, [])


async def coroutine_function(thread: threading.Thread, **extra: Any) -> None:
    """What may be connected."""


class AsyncCallable:
    async def method(self, thread: threading.Thread, **extra: Any) -> None:
        """What may be connected, bound."""

    async def __call__(self, thread: threading.Thread, **extra: Any) -> None:
        """What makes its instances such that they may be connected."""


def wrapped(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, None]:
    """A plain function around a coroutine function."""
    return coroutine_function(*args, **kwargs)


functools.update_wrapper(wrapped, coroutine_function)


@pytest.mark.parametrize(
    "receiver",
    [coroutine_function, functools.partial(coroutine_function), AsyncCallable().method, AsyncCallable(), wrapped],
    ids=["function", "partial", "method", "callable", "wrapper"],
)
def test_what_may_be_connected(run_async: RunAsync, receiver: Any, reports: list[Any]) -> None:
    """All that returns a coroutine when it is called."""

    async def main() -> None:
        with connect(thread_exited, receiver):
            in_thread(attach)
            await turns()

    run_async(main())
    assert reports == []


@pytest.mark.parametrize("receiver", [nothing, lambda thread, **extra: None, AsyncCallable, None, print])
async def test_what_may_not_be_connected(run_async: RunAsync, receiver: Any) -> None:
    """What does not return a coroutine is refused, with a hint where it belongs, and leaves no trace."""
    with pytest.raises(TypeError, match=r"is not a coroutine function; .*the signal's own connect\(\)"):
        connect(thread_exited, receiver)


def test_what_is_no_signal(run_async: RunAsync) -> None:
    """The first argument is a signal, and nothing else."""

    async def main() -> None:
        connect(coroutine_function, thread_exited)  # type: ignore[arg-type]

    with pytest.raises(TypeError, match="not a signal"):
        run_async(main())


def test_all_of_it_in_many_loops_at_once(run_async: RunAsync) -> None:
    """Loops in many threads follow, connect and wait at the same time, while threads come and go: each misses none."""
    loops, number = 4, 25
    ready = threading.Barrier(loops + 1)
    told: list[set[str]] = []
    names = {f"thread {n}" for n in range(number)}

    async def main() -> None:
        called: set[str] = set()
        seen: set[str] = set()

        async def receiver(thread: threading.Thread, **extra: Any) -> None:
            called.add(thread.name)

        with connect(thread_exited, receiver):
            async with exits() as infos:
                ready.wait(LONG)
                while not names <= seen:
                    info = await infos.__anext__()
                    seen.add(info.name)
                    assert (await exited(info.thread)).thread is info.thread
                await turns()  # the last of the calls may not have begun
        told.extend([called & names, seen & names])

    threads = [threading.Thread(target=lambda: run_async(main())) for _ in range(loops)]
    for thread in threads:
        thread.start()
    ready.wait(LONG)
    for name in sorted(names):
        threading.Thread(target=threadhooks.attach, name=name).start()
    for thread in threads:
        thread.join(LONG)
    assert told == [names] * 2 * loops
