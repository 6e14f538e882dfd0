"""Memory stays flat, however many threads have come and gone.

    python -m tests.stress.memory --threads 1000000

Every thread registers cleanups, from its body and from a hook, logs from a hook, has a hook that fails, resolves
references, connects a receiver to itself, and opens a resource. After a warm-up, three figures are taken again and
again: the resident size, the objects that the collector knows, and the blocks that are allocated. A leak of one object
a thread shows in the last two within a few hundred threads. A figure grows if the least of its later samples is above
the greatest of the early ones by more than is allowed. The resident size of the free-threaded build comes and goes by
megabytes, so that a short run may end on a crest: if that alone grew, all is measured again, and what leaks grows each
time. Exit status 1 if something grew.
"""

from __future__ import annotations

import argparse
import gc
import io
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import threadhooks
from threadhooks import threadref

sys.path.insert(0, str(Path(__file__).parents[1]))  # for what tests share, however this is called
from progress import show

SAMPLES = 24
ATTEMPTS = 4
BATCH = 16
ALLOWED = {"resident bytes": 1 << 20, "objects": 20, "allocated blocks": 200}


def sample() -> dict[str, int]:
    for _ in range(3):
        gc.collect()
    resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGESIZE")
    return {
        "resident bytes": resident,
        "objects": len(gc.get_objects()),
        "allocated blocks": sys.getallocatedblocks(),
    }


# A few releases of logging (3.13.5 is one) write to a thread-local for each record. In a late hook this re-creates the
# thread state that was cleared, and so costs 3 objects a thread, whoever runs the hook. There, our hooks don't log.
LOGGING_USES_A_THREAD_LOCAL = hasattr(logging.Logger, "_tls")

logger = logging.getLogger("memory")
logger.propagate = False
logger.setLevel(logging.INFO)
output = io.StringIO()
handler = logging.StreamHandler(output)
handler.setFormatter(logging.Formatter("%(threadName)s %(message)s"))
logger.addHandler(handler)
plugin = threadhooks.Plugin("memory")
refs: dict[int, threadref.ref] = {}  # the newest of each place in a batch: others resolve them


def log(text: str) -> None:
    if not LOGGING_USES_A_THREAD_LOCAL:
        logger.info(text)


@threadhooks.per_thread
def resource() -> Iterator[list[int]]:
    yield [0]


@plugin.thread_exited
def exited(thread: threading.Thread, info: threadhooks.ThreadInfo, **extra: Any) -> None:
    log(f"{info.name} exited, says {threading.current_thread().name}")


def fail() -> None:
    raise ValueError("on purpose")


def register() -> None:
    threadref.finalize(log, "registered in a hook")
    plugin.register(str)


def resolve() -> None:
    for ref in list(refs.values()):
        ref()


def hear(thread: threading.Thread, **extra: Any) -> None: ...


def work(place: int) -> None:
    refs[place] = threadref.ref(lambda _: None)
    plugin.register(register)
    plugin.register(fail)
    plugin.register_early(resolve)
    threadref.finalize(resolve)
    threadref.finalize(fail).detach()
    threadhooks.thread_exited.connect(hear, threading.current_thread())
    resource()[0] += 1
    resolve()


def run(threads: int, progress: str = "warming up: {:,} threads have ended", before: int = 0) -> None:
    for ended in range(0, threads, BATCH):
        show(progress.format(before + ended))
        batch = [threading.Thread(target=work, args=(place,)) for place in range(BATCH)]
        for thread in batch:
            thread.start()
        for thread in batch:
            thread.join()
        output.seek(0)
        output.truncate()


def measure(chunk: int) -> list[str]:
    """Let threads come and go, print the figures, and return the names of those that grew."""
    samples = []
    for number in range(SAMPLES):
        run(chunk, f"{{:,}} of {SAMPLES * chunk:,} threads have ended", number * chunk)
        samples.append(sample())
    show()
    grown = []
    for name, allowed in ALLOWED.items():
        values = [taken[name] for taken in samples]
        early, late = max(values[: SAMPLES // 3]), min(values[-SAMPLES // 3 :])
        if late - early > allowed:
            grown.append(name)
        print(f"{name:>20} {early:>14,} {late:>14,} {late - early:>+12,}{' GROWS' if name in grown else ''}")
    return grown


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.stress.memory", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--threads", type=int, default=20_000, help="how many come and go (%(default)s)")
    threads: int = parser.parse_args().threads
    reports: list[int] = [0]

    def count(args: threading.ExceptHookArgs) -> None:
        reports[0] += 1

    threading.excepthook = count
    chunk = max(BATCH, threads // SAMPLES // BATCH * BATCH)
    print(f"{sys.version.split(' (')[0]}: {chunk * SAMPLES:,} threads")
    if LOGGING_USES_A_THREAD_LOCAL:
        print("without hooks that log: this version of logging leaks there")
    try:
        return attempts(chunk, reports)
    except KeyboardInterrupt:
        show()
        print("interrupted: what is not printed above, was not measured to its end", file=sys.stderr)
        return 130


def attempts(chunk: int, reports: list[int]) -> int:
    """Measure until it is clear whether something grows; return the exit status."""
    with threadhooks.installed():
        run(max(chunk, 2000))
        reports[0] = 0
        for attempt in range(1, ATTEMPTS + 1):
            grown = measure(chunk)
            if reports[0] < attempt * chunk * SAMPLES:
                print(f"only {reports[0]:,} of the failing hooks were reported")
                return 1
            if grown != ["resident bytes"]:
                return int(bool(grown))
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
