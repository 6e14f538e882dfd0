"""A thread that `threading` is starting, and does not list yet: a class, or a finalizer, may register there."""

from __future__ import annotations

import _thread
import threading
from typing import Any

import pytest
from support import LONG, run

import threadhooks
from threadhooks import Plugin
from threadhooks.threadref import finalize, ref


@pytest.mark.parametrize("method", ["_bootstrap", "_bootstrap_inner", "_set_native_id"])
def test_it_is_known_as_itself(method: str, plugin: Plugin, failures: list[Any]) -> None:
    """Whoever asks is told of the thread, at that moment and afterwards, and not of a dummy that stands in for it."""
    told: list[Any] = []

    def first(self: threading.Thread) -> None:
        info = threadhooks.attach()
        finalize(told.append, "registered first")
        reference = ref()
        told.append((info.thread, info.foreign, info.name, reference()))
        told.append([info.thread for info in threadhooks.threads() if info.ident == threading.get_ident()] == [self])
        told.append(list(plugin.pending()))
        getattr(threading.Thread, method)(self)

    def exited(thread: threading.Thread, *, info: Any, **extra: Any) -> None:
        told.append((thread, info.thread, info.foreign, threading.current_thread()))

    plugin.thread_exited(exited)
    before = set(threading.enumerate())  # with dummies that other tests have left, maybe
    early = type("Early", (threading.Thread,), {method: first})
    thread = run(early(target=lambda: told.append(threadhooks.attach().thread), name="early"))
    assert told == [
        (thread, False, "early", thread),
        True,
        [],
        thread,
        "registered first",
        (thread, thread, False, thread),
    ]
    assert failures == []
    assert set(threading.enumerate()) <= before


def test_a_thread_that_was_handed_one_that_is_being_started() -> None:
    """A foreign thread is not taken for one that is being started meanwhile, though that is its argument."""
    infos: list[threadhooks.ThreadInfo] = []
    begun, attached = threading.Event(), threading.Event()

    def body(thread: threading.Thread) -> None:
        infos.append(threadhooks.attach())
        attached.set()

    class Slow(threading.Thread):
        def _bootstrap(self) -> None:
            begun.set()
            assert attached.wait(LONG)
            super()._bootstrap()  # type: ignore[misc]

    slow = Slow(target=str)
    starter = threading.Thread(target=slow.start)
    starter.start()
    assert begun.wait(LONG)
    _thread.start_new_thread(body, (slow,))
    assert attached.wait(LONG)
    starter.join(LONG)
    slow.join(LONG)
    (info,) = infos
    assert info.foreign
    assert info.thread is not slow
