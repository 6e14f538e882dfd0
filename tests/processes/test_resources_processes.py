"""Resources in forked children, and as the interpreter ends."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

import pytest
from resourcing import said, text
from support import forks

Program = Callable[..., Any]

# Forked children


@forks
def test_a_child_opens_its_own(program: Program) -> None:
    """The child uses, closes early and closes at its end what it has opened; the parent's value is left alone."""
    assert said(
        program(
            text("""
            assert resource() == parent
            pid = os.fork()
            if pid:
                wait(pid)
                assert resource() == parent
                sys.exit()
            resource.close()  # it has none yet
            say("nothing was open")
            assert resource() == resource() == os.getpid()
            resource.close()
            assert resource() == os.getpid()
            """)
        )
    ) == [
        "parent MainThread: opened value",
        "child MainThread: nothing was open",
        "child MainThread: opened value",
        "child MainThread: closed value",
        "child MainThread: opened value",
        "child MainThread: closed value",
        "parent MainThread: closed value",
    ]


@forks
@pytest.mark.parametrize("ending", ["sys.exit()", "os._exit(0)", "gc.collect()"])
def test_a_child_does_not_destroy_its_parents(ending: str, program: Program) -> None:
    """However the child ends, no generator of its parent is closed or destroyed in it, whichever thread opened it."""
    assert said(
        program(
            text(f"""
            def other():
                resource("other's")
                ready.set()
                end.wait()

            ready, end = threading.Event(), threading.Event()
            thread = threading.Thread(target=other, name="other")
            thread.start()
            ready.wait()
            resource("main's")
            pid = os.fork()
            if pid == 0:
                gc.collect()
                {ending}
            else:
                wait(pid)
                end.set()
                thread.join()
            """)
        )
    ) == [
        "parent other: opened other's",
        "parent MainThread: opened main's",
        "parent other: closed other's",
        "parent MainThread: closed main's",
    ]


@forks
def test_another_thread_than_the_main_one_forks(program: Program) -> None:
    """The child's only thread opens its own value and closes it as it ends; all others are left to the parent."""
    assert said(
        program(
            text("""
            def forks():
                resource("forker's")
                pid = os.fork()
                if pid:
                    wait(pid)
                    assert resource("forker's") == parent
                else:
                    gc.collect()
                    assert resource("forker's") == os.getpid()

            resource("main's")
            run(forks, "forks")
            """)
        )
    ) == [
        "parent MainThread: opened main's",
        "parent forks: opened forker's",
        "child forks: opened forker's",
        "child forks: closed forker's",
        "parent forks: closed forker's",
        "parent MainThread: closed main's",
    ]


@forks
def test_a_child_has_its_own_value_for_an_instance(program: Program) -> None:
    """Methods, too; an instance that dies in the child closes what the child has opened, and not its parent's."""
    assert said(
        program(
            text("""
            owner = Owner()
            assert owner.resource() == parent
            pid = os.fork()
            if pid:
                wait(pid)
                del owner
                say("the owner is gone")
            else:
                assert owner.resource() == os.getpid()
                del owner
                say("the owner is gone")
                gc.collect()
            """)
        )
    ) == [
        "parent MainThread: opened the owner's",
        "child MainThread: opened the owner's",
        "child MainThread: closed the owner's",
        "child MainThread: the owner is gone",
        "parent MainThread: closed the owner's",
        "parent MainThread: the owner is gone",
    ]


@forks
def test_an_instance_that_dies_in_the_child_before_it_is_used_there(program: Program) -> None:
    """The parent's value for it is not closed in the child."""
    assert said(
        program(
            text("""
            owner = Owner()
            owner.resource()
            pid = os.fork()
            if pid:
                wait(pid)
            else:
                del owner
                gc.collect()
                say("the owner is gone")
            """)
        )
    ) == [
        "parent MainThread: opened the owner's",
        "child MainThread: the owner is gone",
        "parent MainThread: closed the owner's",
    ]


@forks
def test_a_child_that_is_forked_in_a_hook(program: Program) -> None:
    """A cleanup that forks leaves in the child nothing of what waits to be closed in the parent."""
    assert said(
        program(
            text("""
            plugin = threadhooks.Plugin("forks")

            def fork():
                pid = os.fork()
                if pid:
                    wait(pid)
                else:
                    assert resource() == os.getpid()
                    say("forked")

            def body():
                resource()
                plugin.register(fork)

            run(body, "thread")
            """)
        )
    ) == [
        "parent thread: opened value",
        "child thread: opened value",
        "child thread: forked",
        "child thread: closed value",
        "parent thread: closed value",
    ]


@forks
@pytest.mark.parametrize("anywhere", [False, True])
def test_a_child_that_closes_all(anywhere: bool, program: Program) -> None:
    """What it closes is its own; what its parent has opened, in whatever thread, is left alone."""
    assert said(
        program(
            text(f"""
            def use():
                resource("a function's")
                owner.resource()

            def close_all():
                resource.close_all(anywhere={anywhere})
                owner.resource.close_all(anywhere={anywhere})
                say("closed all")

            def other():
                use()
                ready.set()
                end.wait()

            owner = Owner()
            ready, end = threading.Event(), threading.Event()
            thread = threading.Thread(target=other, name="other")
            thread.start()
            ready.wait()
            use()
            pid = os.fork()
            if pid == 0:
                close_all()
                use()
                close_all()
                sys.exit()
            wait(pid)
            end.set()
            thread.join()
            """)
        )
    ) == [
        "parent other: opened a function's",
        "parent other: opened the owner's",
        "parent MainThread: opened a function's",
        "parent MainThread: opened the owner's",
        "child MainThread: closed all",
        "child MainThread: opened a function's",
        "child MainThread: opened the owner's",
        "child MainThread: closed a function's",
        "child MainThread: closed the owner's",
        "child MainThread: closed all",
        "parent other: closed the owner's",
        "parent other: closed a function's",
        "parent MainThread: closed the owner's",
        "parent MainThread: closed a function's",
    ]


@forks
def test_a_finalisers_value_is_left_to_the_parent_as_well(program: Program) -> None:
    """A value that a finaliser has opened in the midst of an opening is not found again, but is not the child's."""
    assert said(
        program(
            text("""
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
            pid = os.fork()
            if pid:
                wait(pid)
            """)
        )
    ) == [
        "parent MainThread: opened the finaliser's",
        "parent MainThread: opened the first",
        "parent MainThread: closed the first",
        "parent MainThread: closed the finaliser's",
    ]


@forks
@pytest.mark.parametrize(
    "call",
    ["resource()", "resource.close()", "resource.close_all()", "resource.close_all(anywhere=True)"],
)
@pytest.mark.parametrize("of", ["", "owner."])
def test_a_handler_that_is_older_than_the_package(of: str, call: str, program: Program) -> None:
    """An `after_in_child` handler that runs before ours sees the child's world: it uses or closes nothing else."""
    name = "the owner's" if of else "value"
    opened = call == "resource()"
    assert said(
        program(
            "import os\nos.register_at_fork(after_in_child=lambda: handler())\n"
            + text(f"""
            def handler():
                {of}{call}
                say("handler")
                assert {of}resource() == os.getpid()

            owner = Owner()
            {of}resource()
            pid = os.fork()
            if pid:
                wait(pid)
            """)
        )
    ) == [
        f"parent MainThread: opened {name}",
        *([f"child MainThread: opened {name}"] if opened else []),
        "child MainThread: handler",
        *([] if opened else [f"child MainThread: opened {name}"]),
        f"child MainThread: closed {name}",
        f"parent MainThread: closed {name}",
    ]


# The end of the interpreter


def test_the_main_thread_closes_at_interpreter_exit(program: Program) -> None:
    """In the main thread, after the other threads have been joined, last in, first out, and before older handlers."""
    assert program(
        """
        import atexit, threading
        atexit.register(lambda: print("an older handler"))
        import threadhooks

        @threadhooks.per_thread
        def resource(name):
            yield
            print(threading.current_thread().name, "closes", name)

        def body():
            resource("its own")
            threading.main_thread().join()

        resource("first")
        resource("second")
        threading.Thread(target=body, name="thread").start()
        """
    ) == (
        "thread closes its own\nMainThread closes second\nMainThread closes first\nan older handler\n",
        "",
        0,
    )


@pytest.mark.parametrize(
    ("ending", "code", "last_line"),
    [("sys.exit(3)", 3, ""), ("raise KeyError('crash')", 1, "KeyError: 'crash'")],
)
def test_the_main_thread_closes_however_it_ends(ending: str, code: int, last_line: str, program: Program) -> None:
    """A program that exits or crashes closes the main thread's value: as usual, since it has not announced itself."""
    result = program(
        f"""
        import sys, threadhooks

        @threadhooks.per_thread
        def resource():
            try:
                yield
            except BaseException:
                print("rolled back")
            else:
                print("closed")

        resource()
        {ending}
        """
    )
    assert (result.out, result.code, result.err.strip().rpartition("\n")[2]) == ("closed\n", code, last_line)


def test_a_daemon_keeps_its_value(program: Program) -> None:
    """One that still runs as the interpreter ends is not closed, nor is its generator destroyed, in whatever thread."""
    assert said(
        program(
            text("""
            def body():
                resource()
                owner.resource()
                ready.set()
                threading.Event().wait()

            owner = Owner()
            ready = threading.Event()
            threading.Thread(target=body, daemon=True, name="daemon").start()
            ready.wait()
            resource("main's")
            """)
        )
    ) == [
        "parent daemon: opened value",
        "parent daemon: opened the owner's",
        "parent MainThread: opened main's",
        "parent MainThread: closed main's",
    ]


@pytest.mark.parametrize("attached", [False, True])
def test_a_daemon_that_opens_it_as_the_interpreter_ends(attached: bool, program: Program) -> None:
    """What a daemon opens when the main thread's exit has been announced is kept as well."""
    late = """
    import atexit
    atexit.register(lambda: (go_on.set(), opened.wait(30)))  # an older handler: it is called after ours
    """
    assert said(
        program(
            textwrap.dedent(late)
            + text(f"""
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
            """)
        )
    ) == ["parent daemon: opened value"]


def test_a_daemon_that_ends_before_closes_its_value(program: Program) -> None:
    """A daemon is a thread like others as long as it ends before the interpreter does."""
    assert said(
        program(
            text("""
            thread = threading.Thread(target=resource, daemon=True, name="daemon")
            thread.start()
            thread.join()
            say("joined")
            """)
        )
    ) == ["parent daemon: opened value", "parent daemon: closed value", "parent MainThread: joined"]
