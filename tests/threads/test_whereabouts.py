"""Where other threads are, read from outside."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from support import LONG

from threadhooks import _whereabouts
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
