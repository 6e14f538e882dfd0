"""The campaign: make a hook run twice, late, in the wrong thread, in a forked child, or not at all.

    python -m tests.stress --exits 1000000

Threads end, a batch of them at a time, while others read their references, connect and disconnect receivers, close
their plugin, detach or call their finalizers, look at what is pending, collect garbage, and fork. Then whole
interpreters end with threads in all states. Every hook is counted twice: by itself (`Hook.runs`), and in a journal of
its thread; a hook that is not run must have been taken back, by somebody who says so. Prints a table of figures. The
exit status is 1 if one that should be zero isn't.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import platform
import select
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import get_native_id
from typing import Any

import threadhooks
from threadhooks import threadref

sys.path.insert(0, str(Path(__file__).parents[1]))  # for what tests share, however this is called
from progress import show

BATCH = 32  # threads that end at the same time
HOOKS = 4  # that each of them registers at first
failures: dict[str, list[str]] = {
    "twice": [],
    "after join()": [],
    "in the wrong thread": [],
    "in a forked child": [],
    "after it was taken back": [],
    "not at all": [],
    "counted otherwise by the journal": [],
    "exit not announced once": [],
    "reference not dead after join()": [],
    "error reported, or not reported": [],
    "forked child hung or crashed": [],
    "left behind": [],
    "wrong at interpreter shutdown": [],
}
PID = os.getpid()
# A free-threaded build's own locks may be held for ever in a child that is forked while threads end (L29).
MAY_FORK = hasattr(os, "fork") and not sysconfig.get_config_var("Py_GIL_DISABLED")
reported: list[BaseException | None] = []


class OnPurpose(Exception):
    """What failing hooks raise."""


class Home:
    """A thread, as we know it: the hooks that it should run, and its journal of those that it did run."""

    def __init__(self, batch: Batch, index: int) -> None:
        self.batch = batch
        self.index = index
        self.hooks: list[Hook] = []
        self.journal: list[int] = []
        self.announced: list[int] = []
        self.refs: list[threadref.ref] = []
        self.finalizers: list[tuple[Hook, threadref.finalize]] = []  # for others to take back
        self.leaving = False
        self.joined = False
        self.forks = False
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        self.native_id = get_native_id()
        homes[self.native_id] = self
        threadhooks.attach()
        first, stride = self.index, 1 + self.batch.number % 3
        chosen = (RECIPES[(first + step * stride) % len(RECIPES)] for step in range(HOOKS))
        for recipe in TO_FORK if self.forks else chosen:
            recipe(self)
        with self.batch.gate:  # until everybody is here
            pass
        if self.forks:
            fork(self)
        self.leaving = True

    def hook(self, kind: type[Hook] | None = None) -> Hook:
        hook = (kind or Hook)(self)
        self.hooks.append(hook)
        return hook


class Hook:
    """One hook, and where it was run: a native id for each time. To call it is to run it."""

    __slots__ = ("called_by", "home", "number", "runs", "taken")

    def __init__(self, home: Home) -> None:
        self.home = home
        self.number = len(home.hooks)
        self.runs: list[int] = []
        self.taken = False  # whoever takes it back says so
        self.called_by: int | None = None  # who calls a finalizer early, says so after it

    def __call__(self, *_: Any, **__: Any) -> bool:
        home = self.home
        if os.getpid() != PID:
            os.write(home.batch.pipe, b"o" if home.forks else b"x")
            return True
        self.runs.append(get_native_id())
        home.journal.append(self.number)
        # (Who calls a finalizer early, in a thread of its own, may do so when this one has ended meanwhile.)
        if home.joined and self.runs[-1] == home.native_id:
            failures["after join()"].append(repr(self))
        return True

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.number} of {len(self.home.hooks)}, thread {self.home.index}: {self.runs}"


class Failing(Hook):
    __slots__ = ()

    def __call__(self, *_: Any, **__: Any) -> bool:
        super().__call__()
        raise OnPurpose


class Registering(Hook):
    __slots__ = ()

    def __call__(self, *_: Any, **__: Any) -> bool:
        home = self.home
        if os.getpid() == PID:
            threadref.finalize(home.hook())
            steady.register(home.hook())
        return super().__call__()


class Closable(Hook):
    """A hook of the plugin that others close meanwhile."""

    __slots__ = ()

    def __call__(self, *_: Any, **__: Any) -> bool:
        if self.home.batch.closed:
            failures["after it was taken back"].append(repr(self))
        return super().__call__()


class Batch:
    """Threads that end together."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.pipe = -1  # where a forked child reports
        self.gate = threading.Lock()
        self.late = number % 4 >= 2  # do others come as the threads end, or earlier, as they register?
        self.plugin = threadhooks.Plugin(f"batch {number}")
        self.ended_before_close: list[Home] = []
        self.closed = False
        self.homes = [Home(self, index) for index in range(BATCH)]


# What a thread does before it ends, to have hooks: each follows some of these.


def refer(home: Home) -> None:
    home.refs.append(threadref.ref(home.hook()))


def finalize(home: Home) -> None:
    threadref.finalize(home.hook())


def finalize_for_others(home: Home) -> None:
    hook = home.hook()
    home.finalizers.append((hook, threadref.finalize(hook)))


def register(home: Home) -> None:
    steady.register(home.hook())


def register_in_hook(home: Home) -> None:
    steady.register(home.hook(Registering))


def register_closable(home: Home) -> None:
    hook = home.hook(Closable)
    try:
        home.batch.plugin.register(hook)
    except RuntimeError:  # it was closed
        hook.taken = True


def register_and_take_back(home: Home) -> None:
    hook = home.hook()
    steady.register(hook)
    steady.unregister(hook)
    hook.taken = True


def fail(home: Home) -> None:
    steady.register(home.hook(Failing))


def connect(home: Home) -> None:
    threadhooks.thread_exited.connect(home.hook(), home.thread, weak=False)


def open_value(home: Home) -> None:
    value(home.hook())


def announce(home: Home) -> None:
    with threadhooks.announced():
        steady.register_early(home.hook())


RECIPES = (
    refer,
    finalize,
    finalize_for_others,
    register,
    register_closable,
    register_in_hook,
    connect,
    open_value,
    announce,
    register_and_take_back,
    refer,
    finalize_for_others,
    fail,
    register_closable,
)


# A forked child runs these once, since they are the forking thread's.
TO_FORK = (refer, finalize, register, connect, refer, fail)

# What others do to threads that end.


def meet(home: Home) -> None:
    """Return as the thread ends: at a moment of its exit that differs from thread to thread."""
    if home.batch.late:
        while not home.leaving:
            time.sleep(0)
        for _ in range(home.index * 8):
            pass


def dereference(batch: Batch) -> None:
    for home in batch.homes:
        for ref in home.refs:
            if ref() not in (None, home.thread):
                failures["reference not dead after join()"].append("it is another thread's")


def churn(batch: Batch) -> None:
    def strong(thread: threading.Thread, **extra: Any) -> None: ...

    def weak(thread: threading.Thread, **extra: Any) -> None: ...

    signal = threadhooks.thread_exited
    signal.connect(strong, weak=False)
    signal.connect(weak)
    del weak
    for home in batch.homes[::4]:
        signal.connect(strong, home.thread, weak=False)
    for home in batch.homes[::4]:
        signal.disconnect(strong, home.thread)
    signal.disconnect(strong)


def close(batch: Batch) -> None:
    meet(batch.homes[batch.number % BATCH])
    batch.ended_before_close = [home for home in batch.homes if home.joined]
    batch.plugin.close()
    batch.closed = True


def detach(batch: Batch) -> None:
    for home in batch.homes:
        meet(home)
        for hook, finalizer in home.finalizers:
            if finalizer.detach() is not None:
                hook.taken = True


def call_early(batch: Batch) -> None:
    for home in batch.homes:
        meet(home)
        for hook, finalizer in home.finalizers:
            if finalizer():
                hook.called_by = get_native_id()


def look(batch: Batch) -> None:
    steady.pending()
    gc.collect(0)


def fork(home: Home) -> None:
    """Fork, in a thread that is about to end; in the child it ends as well, and runs its own hooks alone."""
    read, write = os.pipe()
    home.batch.pipe = write
    child = os.fork()
    if child == 0:
        return
    os.close(write)
    said = b""
    while select.select([read], [], [], 60)[0]:
        more = os.read(read, 1000)
        if not more:
            break
        said += more
    else:
        failures["forked child hung or crashed"].append(f"it hangs, after {said!r}")
        os.kill(child, signal.SIGKILL)
    os.close(read)
    status = os.waitpid(child, 0)[1]
    if status not in (0, signal.SIGKILL):
        failures["forked child hung or crashed"].append(f"its status is {status}")
    if b"x" in said:
        failures["in a forked child"].append(f"{said.count(b'x')} of others")
    if said.count(b"o") != len(TO_FORK) and status == 0:
        failures["in a forked child"].append(f"{said.count(b'o')} of {len(TO_FORK)} of its own")


# The campaign.

homes: dict[int, Home] = {}  # the threads that have not been accounted for, by native id
steady = threadhooks.Plugin("steady")


@steady.thread_exited
def exited(thread: threading.Thread, info: threadhooks.ThreadInfo, **extra: Any) -> None:
    home = homes.get(info.native_id)
    if home is not None and home.thread is thread:
        home.announced.append(get_native_id())


@threadhooks.per_thread
def value(hook: Hook) -> Iterator[None]:
    yield
    hook()


def jobs(number: int) -> Iterator[Callable[[Batch], None]]:
    """What is done to this batch meanwhile."""
    yield dereference
    yield churn
    if number % 2:
        yield close
    yield (detach, call_early, look)[number % 3]


def run_batch(number: int, pool: ThreadPoolExecutor, figures: Counter[str]) -> None:
    batch = Batch(number)
    batch.homes[0].forks = number % 64 == 0 and MAY_FORK
    futures = [] if batch.late else [pool.submit(job, batch) for job in jobs(number)]
    with batch.gate:
        for home in batch.homes:
            home.thread.start()
        futures += [pool.submit(job, batch) for job in jobs(number) if batch.late]
    for home in batch.homes:
        home.thread.join()
        home.joined = True
    for future in futures:
        future.result()
    account(batch, figures)


def account(batch: Batch, figures: Counter[str]) -> None:
    """Compare what the hooks say with what the journals say, and with what should be."""
    on_purpose = 0
    for home in batch.homes:
        journal = Counter(home.journal)
        for hook in home.hooks:
            runs = len(hook.runs)
            if not runs and isinstance(hook, Closable) and batch.closed and home not in batch.ended_before_close:
                hook.taken = True
            if runs > 1:
                failures["twice"].append(repr(hook))
            elif runs and hook.taken:
                failures["after it was taken back"].append(repr(hook))
            elif runs and hook.runs[0] != (hook.called_by or home.native_id):
                failures["in the wrong thread"].append(repr(hook))
            elif not runs and not hook.taken:
                failures["not at all"].append(repr(hook))
            if journal.pop(hook.number, 0) != runs:
                failures["counted otherwise by the journal"].append(repr(hook))
            on_purpose += runs * isinstance(hook, Failing)
            figures["taken back"] += hook.taken
        if journal:
            failures["counted otherwise by the journal"].append(f"{journal} has no hooks")
        if home.announced != [home.native_id]:
            failures["exit not announced once"].append(f"{home.native_id}: {home.announced}")
        if any(ref() is not None for ref in home.refs):
            failures["reference not dead after join()"].append(f"{home.native_id}")
        figures["exits"] += 1
        figures["hooks"] += len(home.hooks)
        figures["run, say the hooks"] += sum(len(hook.runs) for hook in home.hooks)
        figures["run, say the journals"] += len(home.journal)
        figures["forks"] += home.forks
        del homes[home.native_id], home.hooks[:], home.finalizers[:]  # ties no cycles
    batch.plugin.close()
    unexpected = [error for error in reported if not isinstance(error, OnPurpose)]
    if unexpected or len(reported) != on_purpose:
        failures["error reported, or not reported"].append(f"{unexpected}, {len(reported)} of {on_purpose}")
    reported.clear()


# Whole interpreters that end.


def shutdown_round(number: int, figures: Counter[str]) -> None:
    how = ("return", "exit", "raise")[number % 3]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "journal")
        file.touch()
        command = [sys.executable, str(Path(__file__).with_name("ending.py")), how, str(file)]
        try:
            done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            failures["wrong at interpreter shutdown"].append(f"{how}: it hangs")
            return
        journal = Counter(file.read_text(encoding="utf-8").split())
    said = Counter(done.stdout.splitlines())
    must = {line.split()[1] for line in said if line.startswith("must ")}
    run = Counter({line.split()[1]: count for line, count in said.items() if not line.startswith("must ")})
    wrong = said - Counter([f"{what} {name}" for name in must for what in ("must", "run")])
    lost = must - set(run & journal)
    if wrong or lost or len(must) != 27 or journal != run or done.stderr or done.returncode != (how == "raise"):
        failures["wrong at interpreter shutdown"].append(
            f"{how}: status {done.returncode}, lost {lost}, {wrong}, journal {journal - run}, {done.stderr}"
        )
    figures["shutdowns"] += 1
    figures["hooks at shutdown"] += len(must)


def campaign(exits: int, seconds: float, figures: Counter[str]) -> None:
    excepthook, threading.excepthook = threading.excepthook, lambda args: reported.append(args.exc_value)
    switch_interval = sys.getswitchinterval()
    deadline = time.monotonic() + seconds
    try:
        with ThreadPoolExecutor(4) as pool:
            for number in itertools.count():
                if figures["exits"] >= exits or time.monotonic() > deadline:
                    break
                show(f"{figures['exits']:,} of {exits:,} threads have ended")
                sys.setswitchinterval((1e-6, 1e-4, 5e-3)[number // 8 % 3])
                run_batch(number, pool, figures)
    finally:
        for thread in threading.enumerate():  # after Ctrl-C, some of a batch are there
            if thread is not threading.main_thread():
                with suppress(RuntimeError):  # it came within start()
                    thread.join(60)
        threading.excepthook = excepthook
        sys.setswitchinterval(switch_interval)
    for number in range(3 + figures["exits"] // 20_000):
        show(f"interpreters end: {number} have")
        shutdown_round(number, figures)
    left = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    if left or steady.pending() or len(threadhooks.thread_exited.receivers) != 1:
        failures["left behind"].append(f"{left}, {steady.pending()}, {threadhooks.thread_exited.receivers}")


def together(processes: int, options: argparse.Namespace, figures: Counter[str]) -> None:
    """The same in several processes at a time, since one can't use two cores while there is a GIL; their sums."""
    arguments = ["--exits", str(options.exits // processes), "--seconds", str(options.seconds), "--json", "--quiet"]
    command = [sys.executable, __file__, *arguments]
    children = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")
        for _ in range(processes)
    ]
    interrupted = False
    for number, child in enumerate(children):
        try:
            show(f"{number} of {processes} processes have ended")
            said, complaint = child.communicate()
        except KeyboardInterrupt:
            interrupted = True
            for other in children:
                other.send_signal(signal.SIGINT)  # a terminal has sent it to them as well
            try:
                said, complaint = child.communicate(timeout=10)
            except subprocess.TimeoutExpired:  # it came in a finaliser, which drops it
                child.kill()
                said, complaint = child.communicate()
        if not interrupted:  # or else it may be that it was interrupted before it could expect that
            sys.stderr.write(complaint)
        nothing = {"figures": {}, "failures": {"left behind": int(not interrupted)}}
        result = json.loads(said) if said else nothing
        figures.update(result["figures"])
        for way, count in result["failures"].items():
            failures[way] += ["see above"] * count
    if interrupted:
        raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--exits", type=int, default=20_000, help="how many threads end (%(default)s)")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after that long in any case")
    parser.add_argument("--processes", type=int, default=1, help="that share the work (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    options = parser.parse_args()
    # From 3.12 on, os.fork() warns of threads: they are why we fork.
    warnings.filterwarnings("ignore", "This process", DeprecationWarning)
    if options.quiet:
        sys.stderr.isatty = lambda: False  # type: ignore[method-assign]
    began = time.monotonic()
    figures: Counter[str] = Counter(dict.fromkeys(("exits", "hooks", "run, say the hooks"), 0))
    interrupted = False
    try:
        if options.processes > 1:
            together(options.processes, options, figures)
        else:
            campaign(options.exits, options.seconds, figures)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what comes now, is quick
        interrupted = True
    took = time.monotonic() - began
    show()
    failed = sum(map(len, failures.values()))
    python = f"{platform.python_implementation()} {platform.python_version()}"
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        python += " free-threaded"
    if options.json:
        ways = {way: len(cases) for way, cases in failures.items()}
        print(json.dumps({"python": python, "seconds": round(took, 1), "figures": figures, "failures": ways}, indent=2))
    else:
        print(f"{python}: {took:.1f} seconds, {figures['exits'] / took:,.0f} exits a second")
        for name, count in figures.items():
            print(f"{name:>40} {count:>12,}")
        for way, cases in failures.items():
            print(f"{way:>40} {len(cases):>12,}")
    for way, cases in failures.items():
        for case in cases[:3]:
            print(f"{way}: {case}", file=sys.stderr)
    if interrupted:
        print(f"interrupted after {figures['exits']:,} of {options.exits:,} threads", file=sys.stderr)
        return 130
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
