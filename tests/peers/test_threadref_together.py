"""One contract, two implementations: `ref` beside `finalize`, several threads, the end of the interpreter, forks."""

from __future__ import annotations

import threading
from types import ModuleType
from typing import Any

from contract import Program, result_of
from support import forks


def test_last_in_first_out(threadref: ModuleType) -> None:
    """Callbacks and finalizers run as one stack, whatever was taken out of its middle."""
    calls: list[int] = []
    kept: list[Any] = []

    def body() -> None:
        def register(number: int) -> Any:
            if number % 3:
                return threadref.finalize(calls.append, number)
            return threadref.ref(lambda reference: calls.append(number))

        kept.extend(register(number) for number in range(12))
        kept[0] = None  # a dropped reference
        kept[4].detach()
        kept[5]()

    result_of(body)
    assert calls == [5, 11, 10, 9, 8, 7, 6, 3, 2, 1]


def test_hook_may_call_another_early(threadref: ModuleType) -> None:
    """A hook may call another finalizer of its thread, which then doesn't run again."""
    calls: list[Any] = []

    def body() -> None:
        older = threadref.finalize(lambda: calls.append("older") or "result")
        threadref.finalize(lambda: calls.append(older()))

    result_of(body)
    assert calls == ["older", "result"]


def test_hook_sees_those_that_wait(threadref: ModuleType) -> None:
    """While a hook runs, references are dead, but a finalizer that waits is alive, and `atexit` can be set."""
    seen: list[Any] = []

    def body() -> None:
        reference = threadref.ref()
        older = threadref.finalize(int)

        def look() -> None:
            seen.append((reference(), older.alive, older.atexit))
            older.atexit = False
            seen.append(older.atexit)

        threadref.finalize(look)

    result_of(body)
    assert seen == [(None, True, True), False]


def test_threads_are_independent(threadref: ModuleType) -> None:
    """The exit of one thread leaves the references and finalizers of another alone."""
    calls: list[str] = []

    def body() -> None:
        finalizer = threadref.finalize(calls.append, "mine")
        reference = threadref.ref(lambda reference: calls.append("my reference"))
        result_of(lambda: threadref.finalize(calls.append, "theirs"))
        assert calls == ["theirs"]
        assert finalizer.alive
        assert reference() is threading.current_thread()
        kept.append(reference)

    kept: list[Any] = []
    result_of(body)
    assert calls == ["theirs", "my reference", "mine"]


def test_before_join_returns(threadref: ModuleType) -> None:
    """`join()` waits for a finalizer that takes its time."""
    started, release, calls = threading.Event(), threading.Event(), []

    def slow() -> None:
        started.set()
        assert release.wait(60)
        calls.append("done")

    thread = threading.Thread(target=lambda: threadref.finalize(slow))
    thread.start()
    assert started.wait(60)
    assert thread.is_alive()
    assert calls == []
    release.set()
    thread.join()
    assert calls == ["done"]


def test_thread_that_fails(threadref: ModuleType, errors: list[BaseException]) -> None:
    """Hooks run for a thread that ends by an exception as for any other."""
    calls: list[int] = []

    def target() -> None:
        threadref.finalize(calls.append, 1)
        raise ZeroDivisionError

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    assert calls == [1]
    assert [type(error) for error in errors] == [ZeroDivisionError]


def test_main_thread(run: Program) -> None:
    """The main thread's finalizers run when the interpreter ends, last in, first out, except those that don't."""
    assert run("""
assert threadref.ref()() is threading.main_thread()
threadref.finalize(print, "first")
threadref.finalize(print, "not at exit").atexit = False
threadref.finalize(print, "detached").detach()
threadref.finalize(print, "third")
print("end")
""") == ("end\nthird\nfirst\n", "", 0)


def test_main_thread_that_registers_at_exit(run: Program) -> None:
    """A finalizer that the main thread's own finalizer registers at exit is the next to run."""
    assert run("""
threadref.finalize(print, "first")
threadref.finalize(lambda: threadref.finalize(print, "registered"))
""") == ("registered\nfirst\n", "", 0)


def test_main_thread_whose_finalizer_fails(run: Program) -> None:
    """A finalizer that fails at exit is reported, and the others run."""
    out, err, code = run("""
threadref.finalize(print, "first")
threadref.finalize(lambda: 1 / 0)
threadref.finalize(print, "third")
""")
    assert (out, code) == ("third\nfirst\n", 0)
    assert err.count("ZeroDivisionError") == 1


def test_main_thread_that_exits(run: Program) -> None:
    """`sys.exit` and an uncaught exception end the main thread as well."""
    out, err, code = run('threadref.finalize(print, "ran"); sys.exit(3)')
    assert (out, err, code) == ("ran\n", "", 3)
    out, err, code = run('threadref.finalize(print, "ran"); 1 / 0')
    assert (out, code) == ("ran\n", 1)
    assert "ZeroDivisionError" in err


def test_threads_are_joined_first(run: Program) -> None:
    """A thread that outlives the main thread's code runs its finalizers itself, before the main thread's."""
    assert run("""
def target():
    threadref.finalize(lambda: print("thread", threading.get_ident() == ident))
    ident = threading.get_ident()
    attached.set()
    threading.main_thread().join()
attached = threading.Event()
threadref.finalize(print, "main")
threading.Thread(target=target).start()
attached.wait()
print("end")
""") == ("end\nthread True\nmain\n", "", 0)


def test_daemon_at_exit(run: Program) -> None:
    """The finalizers of a daemon that still runs are called by the main thread, except those that don't want it."""
    assert run("""
def target():
    threadref.finalize(lambda: print("first", threading.current_thread() is threading.main_thread()))
    threadref.finalize(print, "not at exit").atexit = False
    threadref.finalize(print, "third")
    attached.set()
    threading.Event().wait()
attached = threading.Event()
threading.Thread(target=target, daemon=True).start()
attached.wait()
print("end")
""") == ("end\nthird\nfirst True\n", "", 0)


def test_daemons_reference_at_exit(run: Program) -> None:
    """A reference to a daemon that still runs is alive when the interpreter ends."""
    assert run("""
kept = []
def target():
    kept.append(threadref.ref())
    attached.set()
    threading.Event().wait()
attached = threading.Event()
thread = threading.Thread(target=target, daemon=True)
atexit.register(lambda: print(kept[0]() is thread))
thread.start()
attached.wait()
""") == ("True\n", "", 0)


@forks
def test_forking_thread(run: Program) -> None:
    """The thread that forks keeps its finalizers in the child, where they run when it ends."""
    out, err, code = run("""
warnings.simplefilter("ignore", DeprecationWarning)
threadref.finalize(lambda: print("child" if os.getpid() != parent else "parent"))
parent = os.getpid()
pid = os.fork()
if pid:
    assert os.waitpid(pid, 0)[1] == 0
""")
    assert (out, err, code) == ("child\nparent\n", "", 0)
