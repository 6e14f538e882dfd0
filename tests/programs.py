"""What programs begin with that fork, and programs whose end is looked at."""

from __future__ import annotations

# A plugin that tells of exits, and a `say` that tells in which thread it is called.
ENDS = """\
import atexit, os, signal, sys, threading, time, warnings
import threadhooks
from threadhooks import thread_exited
from threadhooks.threadref import finalize, ref

warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
plugin = threadhooks.Plugin("program")

def say(*words):
    print(f"{who()}{threading.current_thread().name}:", *words)

def who():
    return ""

class Loud:
    def __init__(self, name):
        self.name = name
    def __repr__(self):
        return self.name
    def accept(self, keyword):
        pass
    def __del__(self):
        say("destroyed", self.name)

@plugin.thread_exited
def exited(thread, **extra):
    say("exited", thread.name)

"""

# `fork(body)` runs something in a child and waits for it, so that the order of what both say is certain; it is true in
# the child. `leave(body)` runs something in a child that ends at once. `started(body)` is a thread that has executed
# something, and goes on until the parent sets `end`.
FORKS = """
parent = os.getpid()

def who():
    return "parent " if os.getpid() == parent else "child "

def wait(pid):
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        say("exit code of the child:", code)

def fork(body=lambda: None):
    pid = os.fork()
    if pid:
        wait(pid)
        return False
    body()
    return True

def leave(body):
    fork(lambda: (body(), os._exit(0)))

def started(body, name="other"):
    def run():
        body()
        ready.set()
        end.wait()

    ready = threading.Event()
    thread = threading.Thread(target=run, name=name)
    thread.start()
    ready.wait()
    return thread

def in_thread(body, name="forks"):
    thread = threading.Thread(target=body, name=name)
    thread.start()
    thread.join()

end = threading.Event()

"""
