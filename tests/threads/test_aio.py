"""`threadhooks.aio.exited`: the end of one thread, awaited in an event loop, which may begin at any moment."""

from __future__ import annotations

import asyncio
import gc
import math
import threading
import weakref
from _thread import start_new_thread
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
from loops import RunAsync, Worker, nothing, turns
from support import LONG, Farewell, forks, in_thread

import threadhooks
from threadhooks import _over, aio, attach, installed, thread_exited
from threadhooks._attached import announcing
from threadhooks.aio import exited

pytestmark = pytest.mark.usefixtures("nothing_stays_connected")


# The end that is still to come


@pytest.mark.parametrize("muted", [False, True])
async def test_it_gives_the_record(run_async: RunAsync, muted: bool) -> None:
    """It waits for the end of an attached thread, and gives the record that its hooks got, though they are muted."""
    worker = Worker().begin()
    waiting = asyncio.ensure_future(exited(worker))
    await turns()
    assert not waiting.done()
    with thread_exited.muted() if muted else nullcontext():
        worker.end()
    assert await waiting is worker.result


async def test_a_thread_under_install_need_not_be_attached(run_async: RunAsync) -> None:
    """A thread that was started under `install()` is awaited though nobody else listens, and it registers nothing."""
    with installed():
        worker = Worker(nothing).begin()
    waiting = asyncio.ensure_future(exited(worker))
    await turns()
    worker.go.set()
    info = await waiting
    assert (info.thread, info.ident, info.foreign) == (worker, worker.ident, False)


async def test_a_thread_whose_class_gives_no_numbers(run_async: RunAsync) -> None:
    """It is awaited, before and after it has ended, though its class raises when it is asked for its ident."""

    class Nameless(threading.Thread):
        ident = native_id = property(lambda self: 1 // 0)  # type: ignore[assignment]

    go = threading.Event()
    with installed():
        thread = Nameless(target=go.wait, args=(LONG,))
        thread.start()
    waiting = asyncio.ensure_future(exited(thread))
    await turns()
    go.set()
    assert (await waiting).thread is (await exited(thread)).thread is thread


async def test_a_foreign_thread_may_be_attached(run_async: RunAsync) -> None:
    """The exit of a thread that `threading` did not start is awaited, if it is attached."""
    ready, go = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def foreign() -> None:
        threads.append(attach().thread)
        ready.set()
        go.wait(LONG)

    start_new_thread(foreign, ())
    assert ready.wait(LONG)
    waiting = asyncio.ensure_future(exited(threads[0]))
    await turns()
    go.set()
    assert (await waiting).foreign


def test_all_hooks_come_first(run_async: RunAsync) -> None:
    """A cleanup that another cleanup registers, which a receiver registered, has run when the wait is over."""
    running, go_on = threading.Event(), threading.Event()

    def last() -> None:
        running.set()
        go_on.wait(LONG)

    with threadhooks.Plugin("hooks") as plugin:
        worker = Worker().begin()

        async def main() -> None:
            waiting = asyncio.ensure_future(exited(worker))
            await turns()
            plugin.thread_exited(lambda thread, **extra: plugin.register(plugin.register, last))
            worker.go.set()
            assert running.wait(LONG)
            await turns()
            assert not waiting.done()
            go_on.set()
            await waiting
            assert not worker.is_alive()

        run_async(main())


async def test_destructors_of_thread_locals_come_first(run_async: RunAsync) -> None:
    """A destructor that runs after our hooks, as the thread's other locals are destroyed, delays the answer as well."""
    destroying, go_on = threading.Semaphore(0), threading.Event()

    def destroy() -> None:
        destroying.release()
        go_on.wait(LONG)

    early, late = threading.local(), threading.local()

    def first() -> None:  # in which order the locals are destroyed depends on the version of Python
        early.value = Farewell(destroy)
        attach()
        late.value = Farewell(destroy)

    worker = Worker(first).begin()
    waiting = asyncio.ensure_future(exited(worker))
    await turns()
    worker.go.set()
    assert destroying.acquire(timeout=LONG)
    await turns(50)
    assert not waiting.done()
    go_on.set()
    await waiting
    assert not worker.is_alive()
    assert destroying.acquire(timeout=0)


def test_many_loops_await_many_threads(run_async: RunAsync) -> None:
    """Loops in many threads, and many tasks in each, may wait for the same threads: all get the same records."""
    workers = [Worker().begin() for _ in range(20)]
    waiting = threading.Barrier(5)
    records: list[object] = []

    async def main() -> None:
        gathered = asyncio.gather(*(exited(worker) for worker in workers * 5))
        await turns()
        waiting.wait(LONG)
        records.extend(await gathered)

    threads = [threading.Thread(target=lambda: run_async(main())) for _ in range(4)]
    for thread in threads:
        thread.start()
    waiting.wait(LONG)
    for worker in workers:
        worker.end()
    for thread in threads:
        thread.join(LONG)
    assert records == [worker.result for worker in workers] * 20


# The end that has been, or comes just now


def test_a_thread_that_has_exited(run_async: RunAsync) -> None:
    """Of a thread that has ended the record is made anew; when it was attached, is not known any more."""
    thread = in_thread(attach, name="ended")
    info = run_async(exited(thread))
    assert info[:6] == (thread, "ended", thread.ident, thread.native_id, False, False)
    assert math.isnan(info.attached_at)
    unattached = in_thread(nothing)
    assert run_async(exited(unattached)).thread is unattached


async def test_what_a_thread_has_told_the_loop_comes_first(run_async: RunAsync) -> None:
    """A callback that a thread has passed to the loop has run when the thread has been awaited."""
    called: list[bool] = []
    loop = asyncio.get_running_loop()
    thread = in_thread(lambda: loop.call_soon_threadsafe(called.append, True))
    await exited(thread)
    assert called == [True]


async def test_a_thread_may_attach_itself_a_little_later(run_async: RunAsync, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that has been started just now has a moment to attach itself."""
    monkeypatch.setattr(aio, "_LOOKS", (0.001,) * LONG * 1000)
    attach_now = threading.Event()

    def body() -> None:
        attach_now.wait(LONG)
        attach()

    thread = threading.Thread(target=body)
    thread.start()
    waiting = asyncio.ensure_future(exited(thread))
    await turns()
    attach_now.set()
    assert (await waiting).thread is thread


# What there is no end of


def test_a_thread_that_will_not_be_announced(run_async: RunAsync) -> None:
    """To await a thread that is neither attached nor under `install()` is an error that says what to do."""
    worker = Worker(nothing).begin()
    with pytest.raises(RuntimeError, match=r"is not attached.*threadhooks\.install\(\) before.*attach\(\)"):
        run_async(exited(worker))
    worker.end()


def test_a_foreign_thread_that_is_gone(run_async: RunAsync) -> None:
    """Of a foreign thread that has ended nobody knows it; another thread that has its ident now is not it."""
    foreign: list[threading.Thread] = []
    done = threading.Event()

    def body() -> None:
        foreign.append(threading.current_thread())
        done.set()

    start_new_thread(body, ())
    assert done.wait(LONG)
    ident = foreign[0].ident
    assert ident is not None
    announcing[ident] = None
    try:
        with pytest.raises(RuntimeError, match="is not attached"):
            run_async(exited(foreign[0]))
    finally:
        del announcing[ident]


def test_the_current_thread(run_async: RunAsync) -> None:
    """As by `join()`, nobody waits for the own thread: neither the main one, nor another, nor a foreign one."""
    done = threading.Semaphore(0)

    async def main() -> None:
        with pytest.raises(RuntimeError, match="current thread"):
            await exited(threading.current_thread())
        done.release()

    run_async(main())
    in_thread(lambda: run_async(main()))
    start_new_thread(lambda: run_async(main()), ())
    assert all(done.acquire(timeout=LONG) for _ in range(3))


def test_the_main_thread_from_a_thread_that_it_joins(run_async: RunAsync) -> None:
    """A thread that is no daemon doesn't wait for the main thread, which waits for it."""
    refused: list[bool] = []

    def body() -> None:
        with pytest.raises(RuntimeError, match="is not a daemon"):
            run_async(exited(threading.main_thread()))
        refused.append(True)

    attach()
    in_thread(body, daemon=False)
    assert refused


def test_the_main_thread_from_a_daemon(program: Callable[..., Any]) -> None:
    """A daemon may wait for the main thread."""
    source = """
        import asyncio, atexit, threading

        waiting, told = threading.Event(), threading.Event()
        atexit.register(lambda: print(told.wait(30)))
        import threadhooks.aio

        async def main():
            task = asyncio.ensure_future(threadhooks.aio.exited(threading.main_thread()))
            await asyncio.sleep(0)
            waiting.set()
            print((await task).name)
            told.set()

        threadhooks.attach()
        threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
        waiting.wait(30)
    """
    assert program(source) == ("MainThread\nTrue\n", "", 0)


@pytest.mark.parametrize("wrong", ["worker", None, threading.Thread()])
def test_what_has_no_end(run_async: RunAsync, wrong: Any) -> None:
    """What is no thread is refused, and so is, as by `join()`, one that has not been started."""
    error, why = (RuntimeError, "before it is started") if isinstance(wrong, threading.Thread) else (TypeError, "not a")
    with pytest.raises(error, match=why):
        run_async(exited(wrong))


# What is left


async def test_a_wait_that_is_cancelled(run_async: RunAsync) -> None:
    """A wait that is cancelled leaves nothing connected."""
    worker = Worker().begin()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(exited(worker), 0.01)
    assert _over.of_one == {}
    assert not vars(worker).get("_threadhooks_waits")
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    waiting = asyncio.ensure_future(exited(worker))
    await turns()
    worker.end()
    waiting.cancel()
    await turns()
    assert waiting.cancelled()
    assert complaints == []


def test_a_loop_that_is_closed_first(reports: list[Any]) -> None:
    """If the loop is closed before the thread ends, the thread ends as if nobody had waited."""
    worker = Worker().begin()
    loop = asyncio.new_event_loop()
    logged: list[Any] = []
    loop.set_exception_handler(lambda loop, context: logged.append(context["message"]))
    task = loop.create_task(exited(worker))
    loop.run_until_complete(turns())
    loop.close()
    worker.end()
    assert reports == []
    del task
    gc.collect()
    assert logged == ["Task was destroyed but it is pending!"]  # asyncio's own complaint


def test_nothing_of_the_thread_is_kept(run_async: RunAsync, no_collection: None) -> None:
    """When the record is gone, so is the thread object, in no cycle with the loop; and no dummy is left."""
    workers = [Worker(lambda: bool(attach())).begin()]  # or else its result would be a record of it
    known = weakref.ref(workers[0])

    async def main() -> None:
        waiting = asyncio.ensure_future(exited(workers[0]))
        await turns()
        workers.pop().end()
        await waiting

    before = {thread.name for thread in threading.enumerate()}
    run_async(main())
    assert known() is None
    assert {thread.name for thread in threading.enumerate()} < before


@forks
def test_a_forked_child_leaves_the_loop_alone(program: Callable[..., Any]) -> None:
    """In a forked child, the threads that end there, or aren't there, tell nothing to the parent's loop."""
    source = """
        import asyncio, os, threading, warnings
        import threadhooks.aio

        warnings.simplefilter("ignore", DeprecationWarning)  # of fork, beside threads
        go = threading.Event()
        woken = 0

        async def main():
            loop = asyncio.get_running_loop()
            wake = loop._write_to_self

            def count():
                global woken
                woken += 1
                wake()

            loop._write_to_self = count
            thread = threading.Thread(target=go.wait)
            thread.start()
            infos = threadhooks.aio.exits()
            waiting = asyncio.ensure_future(threadhooks.aio.exited(thread))
            connection = threadhooks.aio.connect(threadhooks.thread_exited, never)
            await asyncio.sleep(0)
            if not os.fork():
                another = threading.Thread(target=int)
                another.start()
                another.join()
                print("child", woken, threadhooks.thread_exited.receivers)
                os._exit(0)
            os.wait()
            connection.disconnect()
            go.set()
            print("parent", (await waiting).thread is thread, (await anext(infos)).thread is thread)

        async def never(thread, **extra):
            print("never")

        def anext(iterator):
            return iterator.__anext__()

        threadhooks.install()
        asyncio.run(main())
    """
    assert program(source) == ("child 0 {}\nparent True True\n", "", 0)


def test_asyncio_is_imported_where_it_is_asked_for(program: Callable[..., Any]) -> None:
    """To import the package does not import asyncio; to name `threadhooks.aio` does."""
    source = """
        import sys
        import threadhooks
        print("asyncio" in sys.modules, hasattr(threadhooks, "nonsense"))
        print(threadhooks.aio.exited.__name__, "asyncio" in sys.modules)
    """
    assert program(source) == ("False False\nexited True\n", "", 0)
