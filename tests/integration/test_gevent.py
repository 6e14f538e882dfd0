"""gevent, which replaces `threading`: in interpreters of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("gevent")

EXAMPLE = Path(__file__).parent / "examples" / "gevent_greenlets.py"


def test_example() -> None:
    """With the recipe, greenlets close their connections themselves, whoever started them."""
    done = subprocess.run([sys.executable, "-W", "error", str(EXAMPLE)], capture_output=True, text=True, timeout=60)
    name, _, rest = done.stdout.partition("\n")[2].partition(" ")
    assert done.stdout == f"a thread has closed its connection\n{name} has closed its connection\n"
    assert (rest.strip(), done.stderr, done.returncode) == ("has closed its connection", "", 0)


def test_late_hooks(program: Callable[..., object]) -> None:
    """A thread's cleanups have run when `join()` returns, in another greenlet of the same OS thread.

    `current_thread()` is the one that exits all the same, and nothing stays behind in `threading.enumerate()`.
    """
    assert program("""
        from gevent import monkey
        monkey.patch_all()
        import threading, greenlet, threadhooks

        plugin = threadhooks.Plugin("test")

        def hook(name, native_id):
            ran[name] = (threading.current_thread().name, greenlet.getcurrent() is not greenlets[name],
                         threading.get_native_id() == native_id)

        def work():
            name = threading.current_thread().name
            greenlets[name] = greenlet.getcurrent()
            plugin.register(hook, name, threading.get_native_id())
            barrier.wait()

        ran, greenlets = {}, {}
        barrier = threading.Barrier(3)
        threads = [threading.Thread(target=work, name=name) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
            print(thread.name, *ran[thread.name])
        print(threading.enumerate() == [threading.main_thread()], plugin.pending())
    """) == (
        "a a True True\nb b True True\nc c True True\nTrue {}\n",
        "",
        0,
    )


def test_many_greenlets(program: Callable[..., object]) -> None:
    """Of a thousand greenlets that switch to and fro, each closes its own value once, and none another's."""
    assert program("""
        from gevent import monkey
        monkey.patch_all()
        import gevent, threading, threadhooks

        @threadhooks.per_thread
        def value():
            mine = object()
            opened.append(mine)
            yield mine
            closed.append(mine)

        def work():
            mine = value()
            for _ in range(3):
                gevent.sleep(0)
                assert value() is mine

        opened, closed = [], []
        gevent.joinall([gevent.spawn(work) for _ in range(1000)], raise_error=True)
        gevent.sleep(0)
        print(len(set(opened)), len(closed), set(opened) == set(closed), threading.active_count())
    """) == ("1000 1000 True 1\n", "", 0)


def test_patched_too_late(program: Callable[..., object]) -> None:
    """Patched after threadhooks was imported, a registration is refused: its hooks could only be lost."""
    assert program("""
        import threadhooks
        from gevent import monkey
        monkey.patch_all()
        import threading

        def register():
            try:
                plugin.register(print, "late")
            except RuntimeError as error:
                print("refused:", "patch" in str(error))

        plugin = threadhooks.Plugin("test")
        thread = threading.Thread(target=register)
        thread.start()
        thread.join()
    """) == ("refused: True\n", "", 0)


def test_the_thread_pool_of_gevent(program: Callable[..., object]) -> None:
    """The real threads of gevent's thread pool run their cleanups, too, when the pool is killed."""
    assert program("""
        from gevent import monkey
        monkey.patch_all()
        import gevent, threading, threadhooks
        from gevent.monkey import get_original
        from gevent.threadpool import ThreadPool

        native_id = get_original("threading", "get_native_id")
        waits = get_original("_thread", "allocate_lock")()  # for kill() doesn't wait until the thread is gone
        waits.acquire()
        plugin = threadhooks.Plugin("test")
        main = native_id()

        def work():
            mine = native_id()
            plugin.register(waits.release)
            plugin.register(lambda: print(mine != main, native_id() == mine))

        pool = ThreadPool(1)
        pool.spawn(work).get()
        print("done")
        pool.kill()
        waits.acquire(timeout=30)
    """) == ("done\nTrue True\n", "", 0)


def test_the_main_thread(program: Callable[..., object]) -> None:
    """Where gevent has patched `threading` first, the main thread has the same moments, in the same order."""
    assert program("""
        from gevent import monkey
        monkey.patch_all()
        import threading
        import threadhooks

        stop = threading.Event()
        plugin = threadhooks.Plugin("plugin")
        plugin.register_early(stop.set)
        plugin.register(print, "late")
        threading.Thread(target=lambda: (stop.wait(), print("stopped"))).start()
        """) == ("stopped\nlate\n", "", 0)
