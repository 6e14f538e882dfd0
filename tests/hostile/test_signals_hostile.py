"""Threads, receivers and exceptions that fight: they lie, refuse, or raise whatever they are asked."""

from __future__ import annotations

import copy
import functools
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from signalling import Receiver, Sender, Worker, heard
from support import run

import threadhooks
from threadhooks import Plugin, ThreadSignal, thread_exited, thread_exiting, thread_started
from threadhooks._report import describe, report

pytestmark = pytest.mark.usefixtures("disconnected")


class Wrath(BaseException):
    """What everything here raises."""


def rage(*_: object, **__: object) -> Any:
    raise Wrath


# Threads.


class Unequal(threading.Thread):
    """Can be told apart until it runs: `threading` itself asks for its hash to start it."""

    armed = False

    def run(self) -> None:
        self.armed = True
        super().run()

    def __eq__(self, other: object) -> bool:
        return rage() if self.armed else self is other  # type: ignore[no-any-return]

    def __hash__(self) -> int:
        return rage() if self.armed else 1  # type: ignore[no-any-return]


class Overridden(threading.Thread):
    is_alive = join = rage  # type: ignore[assignment]
    ident = native_id = property(rage)  # type: ignore[assignment]


class Guarded(threading.Thread):
    """Takes no attribute once it is made."""

    sealed = False

    def __init__(self, target: Callable[[], object]) -> None:
        super().__init__(target=target)
        self.mine: list[object] = []
        self.sealed = True

    def __setattr__(self, name: str, value: object) -> None:
        if self.sealed and not name.startswith("_"):
            raise AttributeError(name)
        if name == "_threadhooks_receivers":
            raise Wrath
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        raise Wrath


class Slotted(threading.Thread):
    __slots__ = ("slot",)


def start(thread: threading.Thread) -> None:
    """Run it to its end; its own methods may not serve."""
    ended = threading.Event()
    threadhooks.thread_exited.connect(lambda *_, **__: ended.set(), weak=False)
    threading.Thread.start(thread)
    assert ended.wait(30)
    threading.Thread.join(thread)


@pytest.mark.parametrize("kind", [Unequal, Overridden, Guarded, Slotted])
def test_threads_that_fight_are_senders_like_others(kind: Any) -> None:
    """They are connected to, told of, and forgotten; what their class makes of itself is never asked."""
    thread = kind(target=threadhooks.attach)
    receiver, other = Receiver("told"), Receiver()
    alive = weakref.ref(receiver)
    heard = receiver.heard
    for signal in (thread_started, thread_exiting, thread_exited):
        signal.connect(receiver, sender=thread, weak=False)
        signal.connect(other, sender=thread)
        signal.disconnect(other, sender=thread)
        assert signal.has_receivers_for(thread)
        assert list(signal.receivers_for(thread)) == [receiver]
    start(thread)
    assert heard == ["told"]
    assert other.heard == []
    thread_exited.connect(receiver, sender=thread, weak=False)
    assert not any("_threadhooks" in name for name in object.__getattribute__(thread, "__dict__"))
    del receiver
    gc.collect()
    assert alive() is None


def test_a_thread_class_that_was_replaced(signal: ThreadSignal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a tool has put a subclass in the place of `threading.Thread`, older threads are threads all the same."""
    thread, worker = threading.Thread(), Worker()
    monkeypatch.setattr(threading, "Thread", Slotted)
    signal.connect(worker.told, sender=worker.thread, weak=False)
    signal.connect(rage, sender=thread)  # type: ignore[type-var]
    told: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.thread))
    signal.send(thread)
    assert told == [thread]
    alive = weakref.ref(worker)
    del worker
    gc.collect()
    assert alive() is None


def test_a_thread_that_was_not_made(signal: ThreadSignal) -> None:
    """A thread whose `__init__` was not called is a sender that was not started."""
    thread = threading.Thread.__new__(threading.Thread)
    signal.connect(receiver := Receiver(1), sender=thread)
    assert heard(signal, thread) == [1]
    signal.disconnect(receiver)
    assert heard(signal, thread) == []


class Copied(threading.Thread):
    """Can be copied deeply, which a thread can't be by itself: its locks are left out."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Copied:
        twin = Copied()
        attributes = {key: value for key, value in vars(self).items() if "receivers" in key}
        vars(twin).update(copy.deepcopy(attributes, memo))
        return twin


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copy_of_a_thread_is_another_thread(signal: ThreadSignal, duplicate: Callable[[Any], Any]) -> None:
    """What is connected to a thread is not connected to its copy, nor the other way round; each dies with its own."""
    thread = Copied()
    first, second = Receiver("thread"), Receiver("copy")
    alive = weakref.ref(second)
    signal.connect(first, sender=thread, weak=False)
    twin = duplicate(thread)
    assert not signal.has_receivers_for(twin)
    signal.forget(twin)
    signal.connect(second, sender=twin, weak=False)
    assert heard(signal, thread) == ["thread"]
    assert heard(signal, twin) == ["copy"]
    del twin, second
    gc.collect()
    assert alive() is None
    assert heard(signal, thread) == ["thread"]
    signal.disconnect(first)
    assert not signal.receivers


@pytest.mark.parametrize("kind", ["threading.Thread", "Sender"])
def test_the_end_of_the_interpreter_is_quiet(program: Any, kind: str) -> None:
    """Whatever is still connected as the interpreter ends goes without a word, in cycles and out of them."""
    assert program(f"""
        import threading, threadhooks

        class Sender: ...

        class Worker:
            def __init__(self, cycle):
                self.sender = {kind}()
                self.cycle = self if cycle else None
                for weak in (False, True):
                    receiver = self.told if cycle else told.append
                    if not (weak and not cycle):
                        threadhooks.thread_exited.receiver_connected.connect(receiver, sender=self.sender, weak=weak)

            def told(self, *args, **extra): ...

            def __del__(self):
                print("gone")

        told = []
        workers = [Worker(True), Worker(False)]
        threadhooks.workers = [Worker(True), Worker(False)]
        local = threading.local()
        local.workers = [Worker(True), Worker(False)]
        threading.Thread(target=threading.Event().wait, args=(9,), kwargs={{}}, daemon=True).start()
    """)[1:] == ("", 0)


# Senders and receivers of other kinds.


class Liar(Sender):
    """Says that it is a string, or a thread, or raises."""

    def __init__(self, claim: Any) -> None:
        self.claim = claim

    @property
    def __class__(self) -> Any:
        return self.claim if isinstance(self.claim, type) else self.claim()

    def __call__(self, sender: Any, **extra: Any) -> object:
        return "told"


class Text(str):
    __eq__ = __hash__ = rage  # type: ignore[assignment]


class Number(int):
    __eq__ = __hash__ = __int__ = rage  # type: ignore[assignment]


@pytest.mark.parametrize("claim", [str, int, threading.Thread, type(Receiver().method), rage])
def test_what_lies_about_its_class(signal: ThreadSignal, claim: Any, reports: list[Any]) -> None:
    """A sender, or a receiver, is what it is, and not what it says."""
    liar, receiver = Liar(claim), Receiver("told")
    signal.connect(receiver, sender=liar)
    signal.connect(liar, sender="x")  # type: ignore[type-var]
    assert heard(signal, liar) == ["told"]
    assert heard(signal, "x") == ["told"]
    signal.connect(Receiver().method, sender=liar, weak=False)
    signal.connect(rage, sender=liar)  # type: ignore[type-var]
    signal.send(liar)
    assert [args.thread for args in reports] == [None]
    reports.clear()  # their tracebacks have the sender
    del liar
    signal.disconnect(rage)
    gc.collect()
    assert not signal.receivers


@pytest.mark.parametrize(("mine", "plain"), [(Text("a"), "a"), (Number(7), 7)])
def test_strings_and_numbers_that_refuse_to_be_compared(signal: ThreadSignal, mine: Any, plain: Any) -> None:
    """A sender of a subclass of `str` or `int` has its value, whatever it does when it is compared."""
    signal.connect(receiver := Receiver("told"), sender=mine)
    assert heard(signal, plain) == heard(signal, mine) == ["told"]
    signal.disconnect(receiver, sender=plain)
    assert not signal.has_receivers_for(mine)


# What listens to connections.


@pytest.mark.parametrize("error", [ValueError, TypeError, Wrath])
def test_a_listener_that_raises_is_nobody_elses_business(error: type[BaseException], reports: list[Any]) -> None:
    """What a receiver of `receiver_connected` or `receiver_disconnected` raises is reported, and the rest goes on."""

    def spy(*_: object, **__: object) -> None:
        raise error

    def tell(of: object, **arguments: object) -> None:
        after.append(of)

    after: list[object] = []
    for about in (thread_exited.receiver_connected, thread_exited.receiver_disconnected):
        about.connect(spy)  # type: ignore[type-var]
        about.connect(tell)  # type: ignore[type-var]
    try:
        told: list[threading.Thread] = []
        plugin = Plugin("watched")
        plugin.thread_exited(lambda thread, **extra: told.append(thread))
        thread = run(threading.Thread(target=threadhooks.attach))
        plugin.close()
        Plugin("watched").close()  # its name is free
    finally:
        del thread_exited.__dict__["receiver_connected"], thread_exited.__dict__["receiver_disconnected"]
    assert told == [thread]
    assert after == [thread_exited] * 2
    assert [args.exc_type for args in reports] == [error] * 2
    assert "spy, a hook of threadhooks" in getattr(reports[0].exc_value, "__notes__", [""])[0]


# What is named and printed.


class Nameless:
    __repr__ = rage  # type: ignore[assignment]

    def __call__(self, *_: object, **__: object) -> Any:
        raise ValueError


class Unqualified(Nameless):
    def __getattr__(self, name: str) -> Any:
        raise Wrath


class Unplaced(Nameless):
    __module__ = property(rage)  # type: ignore[assignment]

    def __getattr__(self, name: str) -> str:
        return "name"


class Unprintable(Nameless):
    class Name(str):
        __format__ = __str__ = rage  # type: ignore[assignment]

    def __repr__(self) -> str:
        return self.Name("name")


@pytest.mark.parametrize("kind", [Nameless, Unqualified, Unplaced, Unprintable])
def test_hooks_that_refuse_to_be_named(kind: type, signal: ThreadSignal, reports: list[Any]) -> None:
    """They cost us their name, not the report, and the next receiver is called."""
    signal.connect(kind(), weak=False)  # type: ignore[type-var]
    signal.connect(functools.partial(kind()), weak=False)  # type: ignore[type-var]
    signal.connect(last := Receiver())
    signal.send()
    assert [args.exc_type for args in reports] == [ValueError] * 2
    assert "a hook of threadhooks" in getattr(reports[0].exc_value, "__notes__", [""])[0]
    assert len(last.heard) == 1
    assert type(describe(kind())) is str


def test_ctrl_c_gets_out_of_a_name_but_not_of_a_report(reports: list[Any]) -> None:
    """An interrupt that arrives while a hook is named is not swallowed, but where a report must not be lost."""

    class Interrupted:
        def __repr__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        describe(Interrupted())
    report(ValueError(), Interrupted(), None)
    assert [args.exc_type for args in reports] == [ValueError]


@pytest.mark.parametrize("kind", ["Refusing", "Misnoted", "Sealed"])
def test_exceptions_that_refuse_notes(kind: str, program: Any) -> None:
    """What can't be noted on an exception is printed below it, by the default hook."""
    source = """
        import threading, threadhooks

        class Wrath(BaseException): ...

        def rage(*_): raise Wrath

        class Refusing(ValueError):
            __notes__ = property(rage)
            add_note = rage

        class Sealed(ValueError):
            __setattr__ = rage

        class Misnoted(ValueError):
            __notes__ = (1, 2)

        def hook():
            raise KIND("refused")

        thread = threading.Thread(target=lambda: threadhooks.threadref.finalize(hook), name="T-1")
        thread.start()
        thread.join()
    """
    out, err, code = program(source.replace("KIND", kind))
    assert (out, code) == ("", 0)
    assert err.startswith("Exception in thread T-1:\n")
    assert err.count("raised by __main__.hook, a hook of threadhooks\n") == 1


# Reporters.


@pytest.mark.parametrize(
    "spoil",
    ["sys.stderr = None", "del sys.stderr", "sys.stderr = Closed()", "sys.stderr = Fails()"],
    ids=["none", "deleted", "closed", "fails"],
)
@pytest.mark.parametrize("error", ["ValueError", "SystemExit", "KeyboardInterrupt"])
def test_a_reporter_that_fails_without_stderr(program: Any, spoil: str, error: str) -> None:
    """Where `threading.excepthook` fails, `sys.excepthook` is told, whatever has become of `sys.stderr`."""
    assert program(f"""
        import io, sys, threading, threadhooks

        def Closed():
            stream = io.StringIO()
            stream.close()
            return stream

        class Fails:
            def write(self, text):
                raise SystemExit

        def bad(args):
            raise {error}("excepthook fails")

        told = []
        sys.excepthook = lambda kind, error, traceback: told.append(f"{{kind.__name__}}: {{error}}")
        threading.excepthook = bad
        stderr = sys.stderr
        plugin = threadhooks.Plugin("p")
        thread = threading.Thread(target=lambda: plugin.register(lambda: 1 / 0))
        {spoil}
        thread.start()
        thread.join()
        sys.stderr = stderr
        print(told)
    """) == (f"['{error}: excepthook fails']\n", "", 0)


@pytest.mark.parametrize("stderr", ["sys.stderr", "None"])
def test_where_there_is_no_excepthook(program: Any, stderr: str) -> None:
    """Where somebody has set `threading.excepthook` to `None`, `threading`'s own is used, as `threading` does."""
    out, err, code = program(f"""
        import sys, threading, threadhooks
        thread = threading.Thread(target=lambda: threadhooks.threadref.finalize(lambda: 1 / 0), name="T-1")
        threading.excepthook, sys.stderr = None, {stderr}
        thread.start()
        thread.join()
        print("goes on")
    """)
    assert (out, code) == ("goes on\n", 0)
    assert "Exception in thread T-1:" in err  # to the stderr of the time when the thread was made
    assert "ZeroDivisionError" in err
