"""Where other threads are, read from outside."""

from __future__ import annotations

import sys
import threading

import pytest
from support import LONG

from threadhooks import Timeline
from threadhooks._whereabouts import innermost, stacks


def rest(end: threading.Event) -> None:
    end.wait(LONG)


@pytest.mark.skipif(sys.version_info < (3, 13, 2), reason="faulthandler does not stop the threads there")
def test_without_the_gil(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the GIL, what another thread executes is not read from its frames, which it may be changing."""
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False)
    monkeypatch.setattr(sys, "_current_frames", None)
    end = threading.Event()
    thread = threading.Thread(target=rest, args=(end,))
    thread.start()
    try:
        here, there = threading.get_ident(), thread.ident or 0
        found = stacks({here, there})
        assert set(found) == {here, there}
        assert found[there][0].module == "threading"
        step = innermost(found[there], sys.stdlib_module_names)
        assert (step.function, step.file, step.line) == ("rest", __file__, rest.__code__.co_firstlineno + 1)
        assert innermost(found[here], ()).function == "test_without_the_gil"
    finally:
        end.set()
        thread.join(LONG)


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
