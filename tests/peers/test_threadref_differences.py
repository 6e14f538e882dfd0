"""Where PyPI's threadref breaks a promise that ours keeps, or is merely different: both are shown."""

from __future__ import annotations

import sys
import threading
import weakref
from types import ModuleType
from typing import Any

import pytest
import threadref as pypi
from contract import IMPORT, Program, result_of
from support import forks

from threadhooks import threadref as ours


def test_subclass_with_another_equality(threadref: ModuleType) -> None:
    """Finalizers that say that they are equal are one in PyPI's: the later one replaces the earlier. Ours are two."""
    calls: list[int] = []

    class Equal(threadref.finalize):  # type: ignore[name-defined,misc]
        def __eq__(self, other: object) -> bool:
            return isinstance(other, Equal)

        def __hash__(self) -> int:
            return 1

    def body() -> None:
        first, second, third = (Equal(calls.append, number) for number in (1, 2, 3))
        assert (first.peek() == second.peek()) is (threadref is pypi)
        second.detach()
        assert [f.alive for f in (first, second, third)] == ([False] * 3 if threadref is pypi else [True, False, True])

    result_of(body)
    assert calls == ([] if threadref is pypi else [3, 1])


def test_subclass_whose_hash_changes(threadref: ModuleType) -> None:
    """A finalizer whose hash has changed is not found by PyPI's. Ours is, and is called once."""
    calls: list[int] = []

    class Keyed(threadref.finalize):  # type: ignore[name-defined,misc]
        key = 1

        def __eq__(self, other: object) -> bool:
            return self is other

        def __hash__(self) -> int:
            return self.key

    def body() -> None:
        finalizer = Keyed(calls.append, 1)
        finalizer.key = 2
        assert finalizer.alive is (threadref is ours)
        finalizer()
        finalizer.key = 1
        finalizer.detach()

    result_of(body)
    assert calls == ([] if threadref is pypi else [1])


def test_subclass_that_cannot_be_hashed(threadref: ModuleType) -> None:
    """A finalizer must be hashable in PyPI's: otherwise it is a `TypeError`. Ours need not be."""
    calls: list[int] = []

    class Unhashable(threadref.finalize):  # type: ignore[name-defined,misc]
        __hash__ = None  # type: ignore[assignment]

    if threadref is pypi:
        with pytest.raises(TypeError):
            result_of(lambda: Unhashable(int))
    else:
        result_of(lambda: Unhashable(calls.append, 1))
        assert calls == [1]


def test_errors_go_to_the_excepthook_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a hook raises goes to `threading.excepthook`, with its thread and its name; PyPI's: unraisable."""
    heard: list[tuple[str, BaseException, Any]] = []
    monkeypatch.setattr(threading, "excepthook", lambda a: heard.append(("thread", a.exc_value, a.thread)))
    monkeypatch.setattr(sys, "unraisablehook", lambda a: heard.append(("unraisable", a.exc_value, None)))

    def fail(*args: Any) -> None:
        raise ZeroDivisionError

    def body(module: ModuleType) -> Any:
        module.finalize(fail)
        return module.ref(fail), threading.current_thread()

    _, thread = result_of(lambda: body(ours))
    assert [(way, type(error), who) for way, error, who in heard] == [("thread", ZeroDivisionError, thread)] * 2
    assert all("fail, a hook of threadhooks" in error.__notes__[0] for _, error, _ in heard)  # type: ignore[attr-defined]
    heard.clear()
    kept = result_of(lambda: body(pypi))
    assert [way for way, _, _ in heard] == ["unraisable"] * 2
    del kept


def test_reading_a_reference_moves_nothing(threadref: ModuleType) -> None:
    """Hooks run in their thread though another one is just reading a reference; PyPI's then run in the reader."""
    calls: list[int] = []
    held: list[Any] = []

    def body() -> tuple[Any, int]:
        threadref.finalize(lambda: calls.append(threading.get_ident()))
        reference = threadref.ref()
        # The first step of a reading, in both. We hold its result as a reader does that is slow to take the next.
        held.append(weakref.ref.__call__(reference))
        return reference, threading.get_ident()

    reference, ident = result_of(body)
    if threadref is ours:
        assert calls == [ident]
        assert reference() is None
    else:
        assert calls == []  # though the thread has been joined
        assert isinstance(reference(), threading.Thread)
        held.clear()
        assert calls == [threading.get_ident()]


def test_registering_within_a_hook(run: Program, threadref: ModuleType) -> None:
    """What a hook registers runs in the same exit, in the same thread; PyPI's: late, by main, or never."""
    out, err, code = run("""
def late(*_):
    print("late", threading.get_ident() == ident)
def hook():
    threadref.finalize(late)
    kept.append(threadref.ref(late))
def target():
    global ident
    ident = threading.get_ident()
    threadref.finalize(hook)
kept = []
thread = threading.Thread(target=target)
thread.start()
thread.join()
print("joined")
""")
    if threadref is ours:
        assert (out, err, code) == ("late True\nlate True\njoined\n", "", 0)
    else:
        assert (out.startswith("joined\n"), "late True" in out, code) == (True, False, 0)


def test_detach_while_hooks_run(threadref: ModuleType) -> None:
    """A hook can look at and detach a finalizer that still waits; PyPI's are alive then, but neither works."""
    calls: list[str] = []
    seen: list[Any] = []

    def body() -> None:
        older = threadref.finalize(calls.append, "older")
        threadref.finalize(lambda: seen.extend([older.alive, older.peek(), older.detach(), older.alive]))

    result_of(body)
    if threadref is ours:
        thread = seen[1][0]
        assert seen == [True, (thread, calls.append, ("older",), {}), seen[1], False]
        assert isinstance(thread, threading.Thread)
        assert calls == []
    else:
        assert seen == [True, None, None, True]
        assert calls == ["older"]


def test_current_thread_within_a_hook(run: Program, threadref: ModuleType) -> None:
    """In a hook `current_thread()` is the thread that ends; PyPI's: a dummy, which stays in `enumerate()`."""
    out, err, code = run("""
def target():
    thread = threading.current_thread()
    threadref.finalize(lambda: print(threading.current_thread() is thread))
thread = threading.Thread(target=target)
thread.start()
thread.join()
print(len(threading.enumerate()))
""")
    assert (out, code) == ("True\n1\n" if threadref is ours else "False\n2\n", 0)
    assert err == "" or threadref is pypi  # the dummy may fail at the interpreter's end


def test_main_threads_references(run: Program, threadref: ModuleType) -> None:
    """The main thread's callbacks run at `atexit`, in one stack with its finalizers; PyPI's: too late, or never."""
    out, err, code = run("""
threadref.finalize(print, "first")
sys.kept = threadref.ref(lambda reference: print("second", sys.is_finalizing(), reference()))
threadref.finalize(print, "third")
""")
    assert code == 0
    if threadref is ours:
        assert (out, err) == ("third\nsecond False None\nfirst\n", "")
    else:
        assert out.startswith("third\nfirst\n")
        assert "second False" not in out


def test_order_at_interpreter_exit(run: Program, threadref: ModuleType) -> None:
    """At exit each thread unwinds as a whole, newest first, main last; PyPI's: interleaved by creation."""
    out, err, code = run("""
import weakref
def target(name, first, second):
    threadref.finalize(print, name, 1)
    first.set()
    second.wait()
    threadref.finalize(print, name, 2)
    ready.set()
    threading.Event().wait()
threadref.finalize(print, "main", 1)
ready = threading.Event()
for name in "AB":
    first, second = threading.Event(), threading.Event()
    threading.Thread(target=target, args=(name, first, second), daemon=True).start()
    first.wait()
    if name == "A":
        go = second
    else:
        second.set()
        ready.wait()
        ready.clear()
        go.set()
        ready.wait()
threadref.finalize(print, "main", 2)
""")
    order = "B 2,B 1,A 2,A 1,main 2,main 1" if threadref is ours else "main 2,A 2,B 2,B 1,A 1,main 1"
    assert (out.split("\n"), err, code) == ([*order.split(","), ""], "", 0)


def test_system_exit_at_interpreter_exit(run: Program, threadref: ModuleType) -> None:
    """A finalizer that raises `SystemExit` at exit stops no other one; PyPI's stops all of them."""
    out, _, _ = run("""
threadref.finalize(print, "first")
threadref.finalize(sys.exit)
threadref.finalize(print, "third")
""")
    assert out == ("third\nfirst\n" if threadref is ours else "third\n")


def test_errors_at_interpreter_exit(run: Program, threadref: ModuleType) -> None:
    """What a finalizer raises at exit goes to `threading.excepthook`; PyPI's: to `sys.excepthook`."""
    out, err, code = run("""
threading.excepthook = lambda args: print("threading", args.exc_type.__name__, args.thread.name)
sys.excepthook = lambda type, *_: print("sys", type.__name__)
threadref.finalize(lambda: 1 / 0)
""")
    expected = "threading ZeroDivisionError MainThread\n" if threadref is ours else "sys ZeroDivisionError\n"
    assert (out, err, code) == (expected, "", 0)


def test_after_the_interpreters_exit(program: Program, threadref: ModuleType) -> None:
    """What isn't called at exit is dead if it is main's, and can be called if a daemon's; PyPI's: the reverse."""
    out, err, code = program(
        "import atexit\natexit.register(lambda: print(main.alive, main(), daemon.alive, daemon()))\n"
        + IMPORT
        + """
def target():
    global daemon
    daemon = threadref.finalize(lambda: "called")
    attached.set()
    threading.Event().wait()
attached = threading.Event()
threading.Thread(target=target, daemon=True).start()
attached.wait()
main = threadref.finalize(lambda: "called")
main.atexit = daemon.atexit = False
""",
        threadref.__name__,
    )
    expected = "False None True called\n" if threadref is ours else "True None True None\n"
    assert (out, err, code) == (expected, "", 0)


def test_collector_at_interpreter_exit(run: Program, threadref: ModuleType) -> None:
    """The garbage collector stays on while finalizers are called at exit; PyPI's: it is off."""
    out, err, code = run("import gc; threadref.finalize(lambda: print(gc.isenabled()))")
    assert (out, err, code) == ("True\n" if threadref is ours else "False\n", "", 0)


@forks
def test_other_threads_of_a_forked_child(run: Program, threadref: ModuleType) -> None:
    """In a forked child nothing of the parent's other threads runs; PyPI's run there, and again in the parent."""
    out, err, code = run("""
warnings.simplefilter("ignore", DeprecationWarning)
def target():
    threadref.finalize(lambda: print("child" if os.getpid() != parent else "parent"))
    kept.append(threadref.ref(lambda _: print("child" if os.getpid() != parent else "parent")))
    attached.set()
    end.wait()
kept = []
parent = os.getpid()
attached, end = threading.Event(), threading.Event()
thread = threading.Thread(target=target)
thread.start()
attached.wait()
pid = os.fork()
if pid:
    assert os.waitpid(pid, 0)[1] == 0
    end.set()
    thread.join()
""")
    assert (err, code) == ("", 0)
    assert out.split() == [*(["child"] * 2 if threadref is pypi else []), "parent", "parent"]


def test_registering_after_the_main_threads_exit(program: Program, threadref: ModuleType) -> None:
    """To register for the main thread after its exit is a `RuntimeError`; PyPI's accepts it, and never calls it."""
    out, err, code = program(
        "import atexit\natexit.register(lambda: late())\n"
        + IMPORT
        + """
def late():
    for register in (threadref.ref, threadref.finalize):
        try:
            register(print)
            print("accepted")
        except RuntimeError as error:
            print("refused")
threadref.finalize(int)
""",
        threadref.__name__,
    )
    assert (out, err, code) == (("refused\n" if threadref is ours else "accepted\n") * 2, "", 0)


def test_what_a_finalizer_is_called_with(threadref: ModuleType) -> None:
    """A subclass's `__call__` gets `None` at the exit; PyPI's gets the weak reference that it is made of."""
    seen: list[Any] = []

    class Sub(threadref.finalize):  # type: ignore[name-defined,misc]
        def __call__(self, _: Any = None) -> Any:
            seen.append(_)
            return super().__call__(_)

    result_of(lambda: Sub(int) and None)
    assert [type(argument) for argument in seen] == [type(None) if threadref is ours else weakref.ref]


def test_finalizer_that_does_not_call_super(threadref: ModuleType) -> None:
    """A subclass's `__call__` that ignores `super()` leaves a dead finalizer; PyPI's is alive for ever."""

    class Sub(threadref.finalize):  # type: ignore[name-defined,misc]
        def __call__(self, _: Any = None) -> Any:
            return None

    finalizer = result_of(lambda: Sub(int))
    assert finalizer.alive is (threadref is pypi)
    weakref.finalize.__call__(finalizer)  # PyPI's would be called again when the tests end


def test_finalizer_that_a_hook_calls_early(threadref: ModuleType) -> None:
    """A subclass's `__call__` is called once, though a hook calls it early at the exit; PyPI's is called again."""
    calls: list[bool] = []

    class Sub(threadref.finalize):  # type: ignore[name-defined,misc]
        def __call__(self, _: Any = None) -> Any:
            calls.append(self.alive)
            return super().__call__(_)

    def body() -> None:
        older = Sub(int)
        threadref.finalize(older)

    result_of(body)
    assert calls == ([True] if threadref is ours else [True, False])


def test_second_init_of_a_reference(threadref: ModuleType) -> None:
    """`ref.__init__` may be called again in any thread; PyPI's fails in one that has registered nothing."""
    reference = result_of(threadref.ref)
    if threadref is ours:
        result_of(reference.__init__)
    else:
        with pytest.raises(AttributeError):
            result_of(reference.__init__)


def test_second_init_in_another_thread(threadref: ModuleType) -> None:
    """A finalizer that another thread initialises again stands in both threads; PyPI's in the second alone."""
    calls: list[str] = []

    def body() -> None:
        finalizer = threadref.finalize(calls.append, "first")
        result_of(lambda: finalizer.__init__(calls.append, "second"))

    result_of(body)
    assert calls == (["second", "first"] if threadref is ours else ["second"])


def test_second_init_in_the_same_thread(threadref: ModuleType) -> None:
    """A finalizer that is initialised again keeps its place and its `atexit`; PyPI's gets new ones."""
    calls: list[int] = []

    def body() -> None:
        finalizer = threadref.finalize(calls.append, 1)
        threadref.finalize(calls.append, 2)
        finalizer.atexit = False
        finalizer.__init__(calls.append, 3)
        calls.append(finalizer.atexit)

    result_of(body)
    assert calls == ([False, 2, 3] if threadref is ours else [True, 3, 2])


def test_bases_with_slots() -> None:
    """Ours have slots, so they can't be joined with another class that has some; PyPI's can."""

    class Other:
        __slots__ = ("label",)

    type("Fine", (pypi.finalize, Other), {})
    with pytest.raises(TypeError, match="conflict"):
        type("Wrong", (ours.finalize, Other), {})


def test_registry_of_weakref_finalize() -> None:
    """Ours aren't in the registry of `weakref.finalize`: its methods, called by that name, find nothing there."""

    def body(module: ModuleType) -> bool:
        finalizer = module.finalize(int)
        found = weakref.finalize.peek(finalizer) is not None
        finalizer.detach()
        return found

    assert result_of(lambda: body(pypi))
    assert not result_of(lambda: body(ours))


def test_names_of_the_module() -> None:
    """`from … import *` gives both classes; PyPI's gives `ref` alone. Both tell the version of the interface."""
    assert ours.__all__ == ("finalize", "ref")
    assert pypi.__all__ == ("ref",)
    assert ours.__version__ == pypi.__version__ == "1.1.5"
