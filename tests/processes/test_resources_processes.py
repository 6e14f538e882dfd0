"""Resources in forked children, and as the interpreter ends."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

import pytest
from support import forks

Using = Callable[..., "list[str]"]

# `finally` is also executed when a generator is destroyed: so that would be seen, too.
RESOURCE = """
import gc
plugin.close()

@threadhooks.per_thread
def resource(name="value"):
    pid = os.getpid()
    say("opened", name)
    try:
        yield pid
    finally:
        say("closed" if pid == os.getpid() else "closed of another process", name)

class Owner:
    @threadhooks.per_thread
    def resource(self):
        yield from resource.__wrapped__("the owner's")

owner = Owner()
"""


@pytest.fixture
def using(forking: Callable[..., Any]) -> Using:
    """Run a program that has a resource: what it said was done with it, in which process and thread."""

    def run(source: str, before: str = "") -> list[str]:
        out, err, code = forking(RESOURCE + textwrap.dedent(source), before=before)
        assert (err, code) == ("", 0)
        return str(out).replace("MainThread", "main").splitlines()

    return run


# Forked children


@forks
def test_a_child_opens_its_own(using: Using) -> None:
    """The child uses, closes early and closes at its end what it has opened; the parent's value is left alone."""
    assert using("""
        assert resource() == parent
        if fork():
            resource.close()  # it has none yet
            say("nothing was open")
            assert resource() == resource() == os.getpid()
            resource.close()
            assert resource() == os.getpid()
        else:
            assert resource() == parent
        """) == [
        "parent main: opened value",
        "child main: nothing was open",
        *["child main: opened value", "child main: closed value"] * 2,
        "parent main: closed value",
    ]


@forks
@pytest.mark.parametrize("end_of_child", ["sys.exit()", "os._exit(0)", "gc.collect()"])
def test_a_child_does_not_destroy_its_parents(end_of_child: str, using: Using) -> None:
    """However the child ends, no generator of its parent is closed or destroyed in it, whichever thread opened it."""
    assert using(f"""
        thread = started(lambda: resource("other's"))
        resource("main's")
        if fork():
            gc.collect()
            {end_of_child}
        else:
            end.set()
            thread.join()
        """) == [
        "parent other: opened other's",
        "parent main: opened main's",
        "parent other: closed other's",
        "parent main: closed main's",
    ]


@forks
def test_another_thread_than_the_main_one_forks(using: Using) -> None:
    """The child's only thread opens its own value and closes it as it ends; all others are left to the parent."""
    assert using("""
        def body():
            resource("forker's")
            fork(gc.collect)
            assert resource("forker's") == os.getpid()

        resource("main's")
        in_thread(body)
        """) == [
        "parent main: opened main's",
        "parent forks: opened forker's",
        "child forks: opened forker's",
        "child forks: closed forker's",
        "parent forks: closed forker's",
        "parent main: closed main's",
    ]


@forks
@pytest.mark.parametrize("used", [True, False], ids=["used in the child", "not used in the child"])
def test_an_instance_that_dies_in_the_child(used: bool, using: Using) -> None:
    """What the child has opened for the instance is closed in the child, and its parent's value is not."""
    said = using(f"""
        assert owner.resource() == parent
        if fork() and {used}:
            assert owner.resource() == os.getpid()
        del owner
        gc.collect()
        say("the owner is gone")
        """)
    assert said == [
        "parent main: opened the owner's",
        *["child main: opened the owner's", "child main: closed the owner's"] * used,
        "child main: the owner is gone",
        "parent main: closed the owner's",
        "parent main: the owner is gone",
    ]


@forks
def test_a_child_that_is_forked_in_a_hook(using: Using) -> None:
    """A cleanup that forks leaves in the child nothing of what waits to be closed in the parent."""
    assert using("""
        def body():
            resource()
            finalize(fork, resource)

        in_thread(body)
        """) == [
        "parent forks: opened value",
        "child forks: opened value",
        "child forks: closed value",
        "parent forks: closed value",
    ]


@forks
@pytest.mark.parametrize("anywhere", [False, True])
def test_a_child_that_closes_all(anywhere: bool, using: Using) -> None:
    """What it closes is its own; what its parent has opened, in whatever thread, is left alone."""

    def by(who: str, *events: str) -> list[str]:
        return [f"{who}: {event}" for event in events]

    opened, closed = ("opened value", "opened the owner's"), ("closed the owner's", "closed value")
    assert using(f"""
        def use():
            resource()
            owner.resource()

        def close_all():
            resource.close_all(anywhere={anywhere})
            owner.resource.close_all(anywhere={anywhere})
            say("closed all")

        thread = started(use)
        use()
        leave(lambda: (close_all(), use(), close_all()))
        end.set()
        thread.join()
        """) == [
        *by("parent other", *opened),
        *by("parent main", *opened),
        *by("child main", "closed all", *opened, *closed[::-1], "closed all"),
        *by("parent other", *closed),
        *by("parent main", *closed),
    ]


@forks
def test_a_finalisers_value_is_left_to_the_parent_as_well(using: Using) -> None:
    """A value that a finaliser has opened in the midst of an opening is not found again, but is not the child's."""
    assert using("""
        class Farewell:
            def __del__(self):
                nested()

        @threadhooks.per_thread
        def nested():
            first = not opened
            opened.append(1)
            if first:
                Farewell()
            yield from resource.__wrapped__("the first" if first else "the finaliser's")

        opened = []
        nested()
        fork()
        """) == [
        "parent main: opened the finaliser's",
        "parent main: opened the first",
        "parent main: closed the first",
        "parent main: closed the finaliser's",
    ]


@forks
@pytest.mark.parametrize(
    "call",
    ["resource()", "resource.close()", "resource.close_all()", "resource.close_all(anywhere=True)"],
)
@pytest.mark.parametrize("of", ["", "owner."])
def test_a_handler_that_is_older_than_the_package(of: str, call: str, using: Using) -> None:
    """An `after_in_child` handler that runs before ours sees the child's world: it uses or closes nothing else."""
    name = "the owner's" if of else "value"
    in_child = [f"child main: opened {name}", "child main: handler"]
    assert using(
        f"""
        def handler():
            {of}{call}
            say("handler")
            assert {of}resource() == os.getpid()

        {of}resource()
        fork()
        """,
        before="import os\nos.register_at_fork(after_in_child=lambda: handler())\n",
    ) == [
        f"parent main: opened {name}",
        *(in_child if call == "resource()" else in_child[::-1]),
        f"child main: closed {name}",
        f"parent main: closed {name}",
    ]


# The end of the interpreter


def test_the_main_thread_closes_at_interpreter_exit(using: Using) -> None:
    """In the main thread, after the other threads have been joined, last in, first out, and before older handlers."""
    assert using(
        """
        resource("first")
        resource("second")
        threading.Thread(target=lambda: (resource("its own"), threading.main_thread().join()), name="thread").start()
        """,
        before="import atexit\natexit.register(lambda: print('an older handler'))\n",
    )[-4:] == [
        "parent thread: closed its own",
        "parent main: closed second",
        "parent main: closed first",
        "an older handler",
    ]


@pytest.mark.parametrize(
    ("end", "code", "last_line"), [("sys.exit(3)", 3, ""), ("raise KeyError('crash')", 1, "KeyError: 'crash'")]
)
def test_the_main_thread_closes_however_it_ends(
    end: str, code: int, last_line: str, ending: Callable[..., Any]
) -> None:
    """A program that exits or crashes closes the main thread's value: as usual, since it has not announced itself."""
    result = ending(f"""
        @threadhooks.per_thread
        def resource():
            try:
                yield
            except BaseException:
                print("rolled back")
            else:
                print("closed")

        plugin.close()
        resource()
        {end}
        """)
    assert (result.out, result.code, result.err.strip().rpartition("\n")[2]) == ("closed\n", code, last_line)


def test_a_daemon_keeps_its_value(using: Using) -> None:
    """One that still runs as the interpreter ends is not closed, nor is its generator destroyed, in whatever thread."""
    assert using("""
        def body():
            resource()
            owner.resource()
            ready.set()
            threading.Event().wait()

        ready = threading.Event()
        threading.Thread(target=body, daemon=True, name="daemon").start()
        ready.wait()
        resource("main's")
        """) == [
        "parent daemon: opened value",
        "parent daemon: opened the owner's",
        "parent main: opened main's",
        "parent main: closed main's",
    ]


@pytest.mark.parametrize("attached", [False, True])
def test_a_daemon_that_opens_it_as_the_interpreter_ends(attached: bool, using: Using) -> None:
    """What a daemon opens when the main thread's exit has been announced is kept as well."""
    assert using(
        f"""
        def body():
            {attached} and threadhooks.attach()
            ready.set()
            go_on.wait()
            resource()
            opened.set()
            threading.Event().wait()

        ready, go_on, opened = threading.Event(), threading.Event(), threading.Event()
        threading.Thread(target=body, daemon=True, name="daemon").start()
        ready.wait()
        """,
        before="""
        import atexit
        atexit.register(lambda: (go_on.set(), opened.wait(30)))  # an older handler: it is called after ours
        """,
    ) == ["parent daemon: opened value"]
