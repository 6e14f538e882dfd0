"""CPython's own tests of `weakref.finalize`, all of them, with ours in its place.

An object of theirs becomes the owner of a thread: what they finalize with the object we finalize with the thread, which
ends, and is joined, when the object dies. `test_atexit` runs a program, in which the object is the main thread.
"""

from __future__ import annotations

import queue
import threading
import types
import unittest.mock
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from threadhooks import threadref

suite = pytest.importorskip("test.test_weakref", reason="this interpreter comes without its test package")


class Owner:
    """An object that owns a thread, and lives as long."""

    owners: weakref.WeakValueDictionary[threading.Thread, Owner] = weakref.WeakValueDictionary()

    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[Callable[[], Any] | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self.serve, args=(self.jobs,))
        self.thread.start()
        self.owners[self.thread] = self

    @staticmethod
    def serve(jobs: queue.SimpleQueue[Callable[[], Any] | None]) -> None:
        while (job := jobs.get()) is not None:
            job()
            del job  # what a test counts the references of must not linger here

    def do(self, function: Callable[[], Any]) -> None:
        """Call `function` in the thread."""
        failure: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

        def job() -> None:
            try:
                function()
            except BaseException as error:
                failure.put(error)
            else:
                failure.put(None)

        self.jobs.put(job)
        error = failure.get()
        if error is not None:
            raise error

    def __del__(self) -> None:
        self.jobs.put(None)
        self.thread.join()


class Finalize(threadref.finalize):
    """The interface of `weakref.finalize`, for an `Owner`."""

    __slots__ = ()

    def __init__(self, owner: Owner, /, *args: Any, **kwargs: Any) -> None:
        owner.do(lambda: super(Finalize, self).__init__(*args, **kwargs))

    def detach(self) -> Any:
        return self.with_owner(super().detach())

    def peek(self) -> Any:
        return self.with_owner(super().peek())

    @staticmethod
    def with_owner(state: Any) -> Any:
        return state and (Owner.owners[state[0]], *state[1:])


class TestFinalize(suite.FinalizeTestCase):  # type: ignore[name-defined,misc]
    A = Owner

    @pytest.fixture(autouse=True)
    def _ours_in_its_place(self, program: Callable[..., Any]) -> Any:
        self.program = program
        names = types.SimpleNamespace(**{**vars(weakref), "finalize": Finalize})
        with unittest.mock.patch.object(suite, "weakref", names):
            yield

    def test_atexit(self) -> None:
        """The program of CPython's test, which registers in the main thread, prints what that test expects."""
        out, err, code = self.program(
            """
            import types
            import test.test_weakref as suite
            from threadhooks import threadref

            def finalize(obj, /, *args, **kwargs):
                return threadref.finalize(*args, **kwargs)

            suite.weakref = types.SimpleNamespace(finalize=finalize)
            suite.FinalizeTestCase.run_in_child()
            """
        )
        assert (out.splitlines(), code) == (["f4 foobar", "f3 error", "g1", "f1 foobar"], 0)
        assert "ZeroDivisionError" in err
