"""One contract, two implementations: `ref` beside `finalize`, several threads, the end of the interpreter, forks."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from contract import Calls, Program, result_of
from support import forks, in_thread


@pytest.mark.parametrize("cls", ["ref", "finalize"])
def test_classes(threadref: ModuleType, cls: str) -> None:
    """Both are subclasses of what `weakref` has by that name, and as generic as that is."""
    ours, base = getattr(threadref, cls), getattr(weakref, cls)
    assert issubclass(ours, base)
    assert result_of(lambda: isinstance(ours(Calls()), base))
    if cls == "ref":
        assert ours[int].__origin__ is ours
    else:
        with pytest.raises(TypeError):
            ours[int]


@pytest.mark.parametrize("cls", ["ref", "finalize"])
def test_is_a_slotted_object(threadref: ModuleType, cls: str) -> None:
    """Neither class has room for attributes or for weak references to it; subclasses without slots have."""

    class Sub(getattr(threadref, cls)):  # type: ignore[misc]
        pass

    def body() -> None:
        thing = getattr(threadref, cls)(Calls())
        assert not hasattr(thing, "__dict__")
        with pytest.raises(AttributeError):
            thing.attribute = 1
        with pytest.raises(TypeError):
            weakref.ref(thing)
        sub = Sub(Calls())
        sub.attribute = 1
        assert sub.__dict__ == {"attribute": 1}
        assert weakref.ref(sub)() is sub
        if cls == "finalize":
            assert thing.detach()
            assert sub.detach()

    result_of(body)


@pytest.mark.parametrize("cls", ["ref", "finalize"])
def test_repr(threadref: ModuleType, cls: str) -> None:
    """`repr` tells the thread, or that it is dead; a subclass keeps the form, and may give another thread."""
    word = {"ref": "threadref", "finalize": "threadfinalize"}[cls]

    class Sub(getattr(threadref, cls)):  # type: ignore[misc]
        pass

    class Asked(getattr(threadref, cls)):  # type: ignore[misc]
        if cls == "ref":

            def __call__(self) -> Any:
                return "a thread"

        def peek(self) -> Any:
            return "a thread", None, None, None

    def body(cls: Any) -> Any:
        made = cls(Calls())
        assert str(made) == repr(made) == f"<{word} {id(made)} {threading.current_thread()!r}>"
        return made

    for kind in (getattr(threadref, cls), Sub):
        made = result_of(lambda kind=kind: body(kind))
        assert str(made) == repr(made) == f"<{word} {id(made)} dead>"
    made = result_of(lambda: Asked(Calls()))
    assert repr(made) == f"<{word} {id(made)} 'a thread'>"


@pytest.mark.parametrize("cls", ["ref", "finalize"])
@pytest.mark.parametrize("hook", [None, 5, 0, "", "text", ()], ids=repr)
def test_what_cannot_be_called(threadref: ModuleType, cls: str, hook: object, errors: list[BaseException]) -> None:
    """It is accepted; the `TypeError` comes when it is called, early or at the exit. `None` is no callback."""
    kept = result_of(lambda: getattr(threadref, cls)(hook))
    none = cls == "ref" and hook is None
    assert [type(error) for error in errors] == [TypeError] * (not none)
    assert kept() is None
    if cls == "finalize":

        def early() -> Any:
            finalizer = threadref.finalize(hook)
            with pytest.raises(TypeError):
                finalizer()
            return finalizer

        assert not result_of(early).alive


@pytest.mark.parametrize("cls", ["ref", "finalize"])
def test_a_failure_stops_nothing(threadref: ModuleType, cls: str, errors: list[BaseException]) -> None:
    """What a hook raises is reported, whatever it is, and the next one is called."""
    calls: list[str] = []
    kept: list[Any] = []
    raised = [ValueError(), KeyboardInterrupt(), SystemExit(), GeneratorExit()]

    def fail(error: BaseException) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            raise error

        return hook

    def body() -> None:
        for error in raised:
            kept.append(getattr(threadref, cls)(fail(error)))
            kept.append(getattr(threadref, cls)(lambda *_: calls.append("called")))

    result_of(body)
    assert calls == ["called"] * 4
    assert errors == raised[::-1]


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


def test_thread_that_fails(threadref: ModuleType, errors: list[BaseException]) -> None:
    """Hooks run for a thread that ends by an exception as for any other."""
    calls: list[int] = []
    in_thread(lambda: (threadref.finalize(calls.append, 1), 1 / 0))
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
