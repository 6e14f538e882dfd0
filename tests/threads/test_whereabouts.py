"""Where other threads are, read from outside."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator

import pytest
from support import LONG

from threadhooks import Timeline, _whereabouts
from threadhooks._whereabouts import innermost, stacks


@pytest.fixture
def moving() -> Iterator[tuple[threading.Thread, threading.Barrier]]:
    """A thread that moves whenever somebody else comes to its barrier."""
    barrier = threading.Barrier(2)

    def body() -> None:
        with pytest.raises(threading.BrokenBarrierError):
            while True:
                barrier.wait(LONG)

    thread = threading.Thread(target=body)
    thread.start()
    yield thread, barrier
    barrier.abort()
    thread.join(LONG)


def test_a_thread_that_moves_is_read_no_further(
    moving: tuple[threading.Thread, threading.Barrier], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the GIL only the innermost frame of a thread that moves is read, and all frames of one at rest."""
    thread, barrier = moving
    end = threading.Event()
    resting = threading.Thread(target=lambda: end.wait(LONG))
    resting.start()
    monkeypatch.setattr(_whereabouts, "_without_gil", lambda: True)
    try:
        sleep = time.sleep
        monkeypatch.setattr(time, "sleep", lambda _: (barrier.wait(LONG), sleep(0)))
        found = stacks({thread.ident, resting.ident, threading.get_ident()})
        monkeypatch.setattr(time, "sleep", sleep)
    finally:
        end.set()
        resting.join(LONG)
    assert len(found[thread.ident or 0]) == 1
    for ident in (resting.ident or 0, threading.get_ident()):
        assert innermost(found[ident], {"threading"}).f_globals["__name__"] == __name__


@pytest.mark.skipif(sys.version_info < (3, 13), reason="there, a thread leaves the list by no method of its own")
def test_a_look_while_a_thread_leaves() -> None:
    """A thread that has ended its `run()`, but is still listed by `threading`, is in a `Timeline` once, as ended."""

    class Leaves(threading.Thread):
        def _delete(self) -> None:
            left.set()
            go.wait(LONG)
            super()._delete()  # type: ignore[misc]

    left, go = threading.Event(), threading.Event()
    with Timeline() as timeline:
        thread = Leaves(name="leaves")
        thread.start()
        try:
            assert left.wait(LONG)
            assert thread in threading.enumerate()
            seen = timeline.threads
        finally:
            go.set()
            thread.join(LONG)
    assert [life.ended is not None for life in seen if life.name == "leaves"] == [True]
    assert seen[-1] == timeline.threads[-1]
