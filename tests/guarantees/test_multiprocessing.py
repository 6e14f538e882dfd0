"""Children of multiprocessing and billiard run what they registered when they end in an ordinary way."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest
from support import forks

Run = Callable[..., Any]

SOURCE = """
import io, multiprocessing, os, sys, threading, warnings
import threadhooks

def say(*words):
    process = "parent" if os.environ["PARENT"] == str(os.getpid()) else "child"
    os.write(1, " ".join((process, threading.current_thread().name + ":", *words)).encode() + b"\\n")

@threadhooks.per_thread
def resource():
    yield os.getpid()
    say("closed")

def exiting(thread, **extra):
    say("exiting")

def exited(thread, **extra):
    say("exited")

def begin():
    # What a child does first, and what the main thread of the parent has done as well.
    threadhooks.thread_exiting.connect(exiting)  # a forked child has these from its parent
    threadhooks.thread_exited.connect(exited)
    mine = threadhooks.Plugin(f"of process {os.getpid()}")
    assert resource() == os.getpid()
    mine.register(say, "cleanup")
    mine.register_early(say, "early")
    return mine

def work(how):
    mine = begin()
    if how == "raises":
        sys.stderr = io.StringIO()
        raise LookupError
    if how == "exits":
        sys.exit(3)
    if how == "is terminated":
        os.kill(os.getpid(), 15)
        threading.Event().wait()
    if how == "ends at once":
        os._exit(4)
    if how == "starts a thread":
        stop, over = threading.Event(), threading.Event()
        mine.thread_exiting(lambda thread, **extra: stop.set())
        mine.thread_exited(lambda thread, **extra: thread is threading.main_thread() and over.set())
        threading.Thread(target=wait, args=(stop, over), name="worker").start()
    if how == "starts a child":
        run("fork", "returns")

def wait(stop, over):
    stop.wait()
    if sys.version_info < (3, 13):
        over.wait()
    threadhooks.attach()

def run(method, how):
    process = context(method).Process(target=work, args=(how,))
    process.start()
    process.join()
    say("exit code", str(process.exitcode))

def context(method):
    if method != "billiard":
        return multiprocessing.get_context(method)
    import billiard
    return billiard

if __name__ == "__main__":
    os.environ["PARENT"] = str(os.getpid())
    warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
    begin()
"""

END = """
    sys.stdout.flush()
    os._exit(0)  # its own hooks are no matter here
"""

MAIN = """
    run(*sys.argv[1:])
"""

CHILD = ["early", "exiting", "cleanup", "closed", "exited"]
METHODS = [pytest.param("fork", marks=forks), pytest.param("forkserver", marks=forks), "spawn"]


def of_child(events: list[str]) -> list[str]:
    return [f"child MainThread: {event}" for event in events]


@pytest.fixture(params=[*METHODS, pytest.param("billiard", marks=forks)])
def method(request: pytest.FixtureRequest) -> str:
    """How the child is started."""
    if request.param == "billiard":
        pytest.importorskip("billiard")
    return str(request.param)


@pytest.mark.parametrize(("how", "code"), [("returns", 0), ("raises", 1), ("exits", 3)])
def test_l11_a_process_that_ends(program: Run, method: str, how: str, code: int) -> None:
    """However its target ends, what the child registered runs: both moments, once; and nothing of its parent's."""
    out, err, _ = program(SOURCE + MAIN + END, method, how)
    assert out.splitlines() == [*of_child(CHILD), f"parent MainThread: exit code {code}"]
    assert err == ""


@pytest.mark.parametrize(("how", "code"), [("is terminated", -15), ("ends at once", 4)])
def test_l11_a_process_that_is_cut_short(program: Run, method: str, how: str, code: int) -> None:
    """`terminate` and `os._exit` run nothing."""
    assert program(SOURCE + MAIN + END, method, how) == (f"parent MainThread: exit code {code}\n", "", 0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "pool",
    [
        "context(method).Pool(1)",
        "__import__('concurrent.futures').futures.ProcessPoolExecutor(1, mp_context=context(method))",
    ],
    ids=["Pool", "ProcessPoolExecutor"],
)
def test_a_pool(program: Run, method: str, pool: str) -> None:
    """The worker of a pool that is closed and joined ends as other processes do: what its tasks registered runs."""
    out, _, code = program(
        SOURCE
        + f"""
    method = sys.argv[1]
    pool = {pool}
    list(pool.map(work, ["returns"]))
    if hasattr(pool, "shutdown"):
        pool.shutdown()
    else:
        pool.close()
        pool.join()
        pool = None
    import gc; gc.collect()  # or its semaphores would be found leaked
    say("joined")
"""
        + END,
        method,
    )
    assert out.splitlines() == [*of_child(CHILD), "parent MainThread: joined"]
    assert code == 0


@forks
def test_a_pool_of_billiard(program: Run) -> None:
    """The workers of billiard's pool end by `os._exit`: what their main threads registered does not run."""
    pytest.importorskip("billiard")
    out, _, code = program(
        SOURCE
        + """
    pool = context("billiard").Pool(1)
    pool.map(work, ["returns"])
    pool.close()
    pool.join()
    say("joined")
"""
        + END
    )
    assert (out, code) == ("parent MainThread: joined\n", 0)


@pytest.mark.parametrize("method", METHODS[:2])
def test_a_child_that_has_started_a_thread(program: Run, method: str) -> None:
    """The main thread's early moment can stop the thread; up to 3.12, the child joins it after the late one."""
    out, err, _ = program(SOURCE + MAIN + END, method, "starts a thread")
    worker = ["child worker: exited"]
    main = of_child(CHILD[2:])
    rest = main + worker if sys.version_info < (3, 13) else worker + main
    assert out.splitlines() == [*of_child(CHILD[:2]), *rest, "parent MainThread: exit code 0"]
    assert err == ""


@forks
def test_a_child_of_a_child(program: Run) -> None:
    """Each process runs its own."""
    out, err, _ = program(SOURCE + MAIN + END, "fork", "starts a child")
    code = "child MainThread: exit code 0"
    assert out.splitlines() == [*of_child(CHILD), code, *of_child(CHILD), "parent" + code[5:]]
    assert err == ""


@forks
@pytest.mark.parametrize("register", ["register_early", "register"])
def test_a_child_that_a_hook_of_the_main_thread_starts(program: Run, register: str) -> None:
    """Whatever moment of its parent's it was started in, it has both of its own."""
    out, err, _ = program(
        SOURCE
        + f"""
    plugin = threadhooks.Plugin("starts")
    plugin.{register}(run, "fork", "returns")
"""
    )
    lines = out.splitlines()
    if (3, 12) <= sys.version_info < (3, 12, 3):
        assert "can't fork at interpreter shutdown" in err
    else:
        assert [line for line in lines if line.startswith("child")] == of_child(CHILD)
        assert err == ""
    assert [line for line in lines if line.startswith("parent") and "code" not in line] == [
        f"parent MainThread: {event}" for event in CHILD
    ]


@forks
def test_a_child_of_a_main_thread_that_has_announced_its_end(program: Run) -> None:
    """A block of `announced()` in the parent is no matter to the child: there the end is still to be announced."""
    out, err, _ = program(
        SOURCE
        + """
    with threadhooks.announced():
        pass
    run("fork", "returns")
"""
        + END
    )
    parent = [f"parent MainThread: {event}" for event in ("early", "exiting", "exit code 0")]
    assert out.splitlines() == [*parent[:2], *of_child(CHILD), parent[2]]
    assert err == ""


@forks
def test_a_child_that_a_thread_starts(program: Run) -> None:
    """A thread that forks becomes the main thread of the child; nothing that it has registered runs there."""
    out, err, _ = program(
        SOURCE
        + """
    def body():
        mine = threadhooks.Plugin("of the thread")
        mine.register(say, "of the thread")
        mine.register_early(say, "early of the thread")
        run("fork", "returns")
        mine.close()
    thread = threading.Thread(target=body, name="MainThread")
    thread.start()
    thread.join()
"""
        + END
    )
    lines = out.splitlines()
    assert lines[: len(CHILD)] == of_child(CHILD)
    assert lines[len(CHILD) :] == ["parent MainThread: exit code 0", "parent MainThread: exited"]
    assert err == ""


@forks
@pytest.mark.skipif((3, 12) <= sys.version_info < (3, 12, 3), reason="there, nothing can be forked at shutdown")
def test_a_child_that_is_started_after_the_exit_of_the_main_thread(program: Run) -> None:
    """The main thread of the parent can register nothing any more; that of the child can, and has both its moments."""
    assert program(
        """
        import atexit, multiprocessing

        def late():
            try:
                threadhooks.attach()
            except RuntimeError:
                print("refused", flush=True)
            process = multiprocessing.get_context("fork").Process(target=work)
            process.start()
            process.join()
            print(process.exitcode)

        def work():
            mine = threadhooks.Plugin("of the child")
            mine.register(print, "cleanup", flush=True)
            mine.register_early(print, "early", flush=True)

        atexit.register(late)  # before the import: so it is called after our own handler
        import threadhooks
        """
    ) == ("refused\nearly\ncleanup\n0\n", "", 0)


@forks
def test_a_child_that_imports_the_package(program: Run) -> None:
    """A child may be the first to import the package."""
    assert program(
        """
        import multiprocessing

        def work():
            import threadhooks
            mine = threadhooks.Plugin("of the child")
            mine.register(print, "cleanup", flush=True)
            mine.register_early(print, "early", flush=True)

        process = multiprocessing.get_context("fork").Process(target=work)
        process.start()
        process.join()
        print(process.exitcode)
        """
    ) == ("early\ncleanup\n0\n", "", 0)
