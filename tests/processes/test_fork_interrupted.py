"""An exception from outside in the middle of what a fork brings about."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import forks, not_traced

pytestmark = [forks, not_traced]

PROGRAM = """
import itertools, os, sys, threading, warnings
sys.path.insert(0, sys.argv[1])
from at_line import AtLine
import threadhooks
from threadhooks import announce

class Thrown(BaseException): ...

def throw():
    raise Thrown

class Goodbye:
    def __del__(self, pid=os.getpid(), getpid=os.getpid, write=os.write):
        if getpid() != pid:
            write(1, b"destroyed in the child\\n")

@threadhooks.per_thread
def value():
    yield os.getpid()

def other():
    plugin.register(id, Goodbye())
    value()
    ready.release()
    leave.wait()

def register():
    plugin.register(len, ())
    plugin.unregister(len)

def check():
    {"threads": threadhooks.threads, "attach": threadhooks.attach, "register": register}[sys.argv[2]]()
    here = threading.current_thread()
    assert [(info.thread, info.native_id) for info in threadhooks.threads()] == [(here, threading.get_native_id())]
    assert list(plugin.pending()) == [here], plugin.pending()
    assert value() == os.getpid(), "the parent's value"
    assert announce._lock is not lock, "the parent's lock"

def forks(number):
    parent, ran = os.getpid(), []

    def last():
        if os.getpid() != parent:
            if failures or ran != ["in the child", "before"]:
                os.write(1, f"{number}: {ran} {[args.exc_value for args in failures]}\\n".encode())
            os._exit(line.reached)

    plugin.register(last)
    plugin.register(ran.append, "before")
    value()
    line = AtLine(number, throw)
    try:
        sys.settrace(line)
        pid = os.fork()
    finally:
        sys.settrace(None)
    if pid:
        status.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        return
    try:
        check()
        plugin.register(ran.append, "in the child")
    except BaseException as error:
        os.write(1, f"{number}: {error!r}\\n".encode())

warnings.simplefilter("ignore")
failures, status = [], []
def reported(args):
    if args.exc_type is not Thrown:  # of which we may be told
        failures.append(args)

threading.excepthook = reported
sys.unraisablehook = lambda unraisable: None  # as which os.fork() reports what its handlers raise
lock, plugin = announce._lock, threadhooks.Plugin("plugin")
leave, ready = threading.Event(), threading.Semaphore(0)
others = [threading.Thread(target=other) for _ in range(2)]
for thread in others:
    thread.start()
    ready.acquire()
for number in itertools.count():
    thread = threading.Thread(target=forks, args=(number,))
    thread.start()
    thread.join()
    if status.pop() != 1:
        break
print(number > 50, failures)
leave.set()
"""


@pytest.mark.parametrize("first", ["threads", "attach", "register"])
def test_an_interruption_before_each_line_of_the_repair(program: Callable[..., Any], first: str) -> None:
    """Whichever line it hits, the child's next call into the package finds all put right."""
    tests = Path(__file__).parents[1]
    assert program(PROGRAM, str(tests), first) == ("True []\n", "", 0)
