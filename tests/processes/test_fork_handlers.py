"""Handlers of `os.register_at_fork` that are older than ours, and so are called in a child before ours are."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import pytest
from support import forks

pytestmark = forks

BEFORE = """
import os, threading
os.register_at_fork(after_in_child=lambda: said.append(ask()))
"""

# Another thread has registered something of every kind, and is in a block of every kind: none of that is true in the
# child. Each call is made by the handler, and by nobody else, in a child of its own.
SOURCE = """
from threadhooks import announced, installed, thread_exiting, thread_started, threads

@threadhooks.per_thread
def resource():
    value = os.getpid()
    yield value
    closed.append(value)

def say(*words, **extra):
    return "called"

def body():
    resource()
    plugin.register(say)
    plugin.register_early(say)
    refs.append(ref())
    finalizers.append(finalize(say))
    with installed(), thread_exited.muted(), announced():
        ready.set()
        end.wait()

def heard(start):
    told = []
    def receiver(thread, info, **extra):
        told.append(info.native_id != main_before)
    with thread_started.connected_to(receiver), thread_exiting.connected_to(receiver):
        with thread_exited.connected_to(receiver):
            start()
    return told

def installs():
    with installed():
        in_thread(int)

refs, finalizers, closed, said, ready = [], [], [], [], threading.Event()
main = threading.main_thread()
main_before = threading.get_native_id()
other = threading.Thread(target=body)
other.start()
ready.wait()
own = sys.argv[1] == "attached"
if own:
    resource()
    plugin.register(print, "the forking thread's")

def answer():
    try:
        return eval(call)
    except Exception as error:
        return repr(error)

for call in sys.argv[2:]:
    ask = answer
    leave(lambda: print(repr(said[0])))
ask = bool
end.set()
plugin.close()
"""

ANSWERS = {
    "threadhooks.attach().native_id == threading.get_native_id()": True,
    "[info.thread for info in threads()] == [main] * own": True,
    "resource() == os.getpid()": True,
    "resource.close() or resource() == os.getpid()": True,
    "resource.close_all() or resource() == os.getpid()": True,
    "(resource.close() or resource.close_all() or resource.close_all(anywhere=True) or closed)": [],
    "plugin.register(print) and len(plugin.pending()[main]) == 1 + own": True,
    "plugin.register_early(print) and len(plugin.pending()[main]) == 1 + own": True,
    "plugin.unregister(print) or plugin.pending()": {},
    "list(plugin.pending()) == [main] * own": True,
    "plugin.close() or plugin.pending()": {},
    "threadhooks.load_plugins()": [],
    "refs[0]()": None,
    "ref()() is main": True,
    "finalize(int).alive": True,
    "finalizers[0]()": None,
    "(finalizers[0].alive, finalizers[0].atexit)": (False, False),
    "finalizers[0].peek()": None,
    "finalizers[0].detach()": None,
    "thread_exited.is_muted": False,
    "heard(lambda: thread_exited.send(main, info=threadhooks.attach()))": [True],
    "thread_exited.connect(say, sender=other) and len(list(thread_exited.receivers_for(other)))": 1,  # `exited`
    "heard(lambda: in_thread(int))": [],
    "heard(installs)": [True, True, True],
    "announced().__enter__().native_id == threading.get_native_id()": True,
}


@pytest.mark.parametrize("own", ["attached", "not attached"])
def test_every_public_call_sees_the_child(forking: Callable[..., Any], own: str) -> None:
    """Whatever such a handler asks first, it gets what is true in the child; whether the forking thread is attached."""
    out, err, code = forking(SOURCE, own, *ANSWERS, before=BEFORE)
    answers = dict(zip(ANSWERS, map(ast.literal_eval, out.splitlines())))
    assert answers == ANSWERS
    assert (err, code) == ("", 0)
