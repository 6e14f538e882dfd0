"""Where the failure of a hook goes, and what it says."""

from __future__ import annotations

import functools
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from announcing import fail
from support import in_thread

import threadhooks
from threadhooks import ThreadSignal, thread_exited

pytestmark = pytest.mark.usefixtures("disconnected")


def as_printed(args: threading.ExceptHookArgs) -> str:
    """What the default hook prints below the name of the thread."""
    assert args.exc_value is not None
    assert args.exc_traceback is args.exc_value.__traceback__ is not None
    return "".join(traceback.format_exception(args.exc_type, args.exc_value, args.exc_traceback))


def fails(sender: object, **extra: object) -> None:
    raise ValueError("on purpose")


class CallableThing:
    def __call__(self, sender: object, **extra: object) -> None:
        raise ValueError("on purpose")

    def method(self, sender: object, **extra: object) -> None:
        raise ValueError("on purpose")

    def __repr__(self) -> str:
        return "<the thing>"


thing = CallableThing()


# One receiver fails, the next one says so; in between, something is done to those who would tell.
FAILS = """
import sys, threading, threadhooks

def fails(thread, **extra):
    raise ValueError

def last(thread, **extra):
    print("last")

threadhooks.thread_exited.connect(fails)
threadhooks.thread_exited.connect(last)
thread = threading.Thread(target=threadhooks.attach)
{}
thread.start()
thread.join()
"""


@pytest.mark.parametrize(
    ("receiver", "name"),
    [
        (fails, f"{__name__}.fails"),
        (thing, "<the thing>"),
        (thing.method, f"{__name__}.CallableThing.method"),
        (functools.partial(thing), "functools.partial(<the thing>)"),
        (lambda thread, **extra: 1 / 0, f"{__name__}.<lambda>"),
    ],
)
def test_a_failure_is_reported_with_its_receiver(
    receiver: Callable[..., Any], name: str, reports: list[threading.ExceptHookArgs]
) -> None:
    """What a receiver raises goes to `threading.excepthook`, with the thread, and a note that names the receiver."""
    with thread_exited.connected_to(receiver):
        thread = in_thread(threadhooks.attach)
    (args,) = reports
    assert args.exc_type in (ValueError, ZeroDivisionError)
    assert f"raised by {name}, a hook of threadhooks\n" in as_printed(args)
    assert args.thread is thread


def test_one_error_raised_by_two(signal: ThreadSignal, reports: list[threading.ExceptHookArgs]) -> None:
    """One exception object that several receivers raise, again and again, names each of them once."""
    error = ValueError("shared")

    def one(sender: object) -> None:
        raise error

    def other(sender: object) -> None:
        raise error

    signal.connect(one)
    signal.connect(other)
    for _ in range(3):
        signal.send()
    assert len(reports) == 6
    notes = [note.rpartition(".")[2] for note in error.__notes__]
    assert notes == ["one, a hook of threadhooks", "other, a hook of threadhooks"]
    assert all(note in as_printed(reports[-1]) for note in notes)


@pytest.mark.parametrize(
    "statement",
    [
        "raise ValueError('on purpose')",
        "raise ValueError('on purpose') from None",
        "raise ValueError('on purpose') from KeyError('cause')",
        "try: {}['key']\n    except KeyError: raise ValueError('on purpose')",
        "try: {}['key']\n    except KeyError: raise ValueError('on purpose') from None",
        "error = ValueError('on purpose'); raise error from error",
        "first = ValueError('on purpose'); second = KeyError(); first.__context__ = second; "
        "second.__cause__ = first; raise first",
    ],
    ids=["plain", "from None", "from a cause", "in a context", "context hidden", "its own cause", "a circle"],
)
def test_what_the_default_hook_prints(program: Any, statement: str) -> None:
    """`threading`'s own hook prints which thread, which error, and which receiver, on every version."""
    out, err, code = program(
        "import threading, threadhooks\n"
        "@threadhooks.thread_exited.connect\n"
        "def receiver(thread, **extra):\n"
        f"    {statement}\n"
        "@threadhooks.thread_exited.connect\n"
        "def last(thread, **extra):\n"
        "    print(thread.name)\n"
        "thread = threading.Thread(target=threadhooks.attach, name='T-1')\n"
        "thread.start()\n"
        "thread.join()\n",
        timeout=20,
    )
    assert (out, code) == ("T-1\n", 0)
    assert err.count("Exception in thread T-1:\n") == 1
    assert "ValueError: on purpose\n" in err
    assert err.count("raised by __main__.receiver, a hook of threadhooks\n") == 1


@pytest.mark.parametrize("error", ["ZeroDivisionError", "SystemExit", "KeyboardInterrupt"])
def test_an_excepthook_that_raises(program: Any, error: str) -> None:
    """A `threading.excepthook` that raises is told on stderr, as by `threading`, and stops no receiver."""
    # By a `raise`, which notes what is being handled, as a generator's `throw` does not.
    hook = f"def fails_too(args): raise {error}('no')\nthreading.excepthook = fails_too"
    out, err, code = program(FAILS.format(hook))
    assert (out, code) == ("last\n", 0)
    assert err.startswith("Exception in threading.excepthook:\nTraceback (most recent call last):\n")
    assert err.endswith(f"{error}: no\n")
    assert "During handling" not in err


def test_an_excepthook_that_raises_what_can_not_be_changed(
    signal: ThreadSignal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the hook raises is told, though it refuses that we hide its context."""

    class Stubborn(Exception):
        def __setattr__(self, name: str, value: object) -> None:
            raise TypeError

    told: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: fail(Stubborn()))
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, traceback: told.append(kind))
    signal.connect(fails)
    assert signal.send() == []
    assert told == [Stubborn]


@pytest.mark.parametrize("spoil", ["sys.stderr = sys.excepthook = None", "sys.excepthook = None", "del sys.stderr"])
def test_no_reporter_is_left(program: Any, spoil: str) -> None:
    """Where nobody can be told, the next receiver is called all the same."""
    out, _, code = program(FAILS.format(f"threading.excepthook = 3; {spoil}"))
    assert (out, code) == ("last\n", 0)
