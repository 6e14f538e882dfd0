"""The program of one round of the campaign: an interpreter that ends while threads do, in all states."""

from __future__ import annotations

import os
import sys
import threading
import time
from threading import get_native_id
from typing import Any

import threadhooks
from threadhooks import threadref


def end_interpreter(how: str, file: str) -> None:
    """Each hook tells it to stdout, and to a file."""
    journal = os.open(file, os.O_WRONLY | os.O_APPEND)
    go = threading.Event()

    def say(what: str, name: str) -> None:
        os.write(1, f"{what} {name}\n".encode())

    def hook(name: str, native_id: int, *_: Any) -> None:
        os.write(journal, f"{name}\n".encode())
        say("run" if get_native_id() == native_id else "elsewhere", name)

    def has_hooks(name: str) -> threadref.ref:
        here = get_native_id()
        plugin.register(hook, f"{name}-cleanup", here)
        threadref.finalize(hook, f"{name}-finalize", here)
        for kind in ("cleanup", "finalize", "ref"):
            say("must", f"{name}-{kind}")
        return threadref.ref(lambda _: hook(f"{name}-ref", here))

    def work(name: str) -> None:
        refs.append(has_hooks(name))
        go.wait()

    def ignore(thread: threading.Thread, **extra: Any) -> None: ...

    def disturb() -> None:
        plugin.register(hook, "daemon", 0)  # it never ends
        while True:
            for ref in list(refs):
                ref()
            threadhooks.thread_exited.disconnect(threadhooks.thread_exited.connect(ignore))
            plugin.pending()
            time.sleep(0)

    plugin = threadhooks.Plugin("end")
    refs = [has_hooks("main")]
    for _ in range(2):
        threading.Thread(target=disturb, daemon=True).start()
    for number in range(8):
        threading.Thread(target=work, args=(f"worker-{number}",)).start()
    while len(refs) < 9:
        time.sleep(0)
    go.set()
    if how == "exit":
        sys.exit()
    if how == "raise":
        sys.excepthook = lambda *_: None
        raise LookupError


if __name__ == "__main__":
    end_interpreter(*sys.argv[1:])
