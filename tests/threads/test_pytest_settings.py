"""How the pytest plugin is asked for, and what options, settings and markers allow."""

from __future__ import annotations

import importlib.metadata

import pytest
from suites import Run, blamed

pytest_plugins = ["pytester"]


ASKED = """
    import sys

    def test_leaks():
        leave()

    def test_that_is_not_changed():
        assert ("threadhooks.pytest_plugin" in sys.modules) is False
        assert not hasattr(threading.Thread.start, "__wrapped__")
"""


@pytest.mark.parametrize(
    ("options", "ini"), [(["-q"], ""), (["-q"], "thread_leaks = off"), (["--thread-leaks=off"], "thread_leaks = error")]
)
def test_silent_until_asked(run: Run, options: list[str], ini: str) -> None:
    """Nobody who has not asked for it is told anything; nor is anything loaded, or done to threads."""
    result = run(ASKED, *options, ini=ini)
    result.assert_outcomes(passed=2)
    assert "left" not in result.stdout.str()


def test_not_even_the_package_is_imported(pytester: pytest.Pytester) -> None:
    """Until somebody asks for it, the plugin does not import `threadhooks`, which takes its time."""
    pytester.makepyfile(
        """
        import sys
        def test_it():
            assert "_threadhooks_pytest" in sys.modules
            assert "threadhooks" not in sys.modules and "blinker" not in sys.modules
        """
    )
    pytester.runpytest_subprocess("-p", "threadhooks", "-p", "no:asyncio").assert_outcomes(passed=1)


def test_it_is_found_by_its_entry_point() -> None:
    """The installed distribution tells pytest of the plugin."""
    (found,) = (point for point in importlib.metadata.entry_points(group="pytest11") if point.name == "threadhooks")
    assert found.dist is not None
    assert found.dist.name == "threadhooks"


def test_warnings(run: Run) -> None:
    """With ``warn``, from the ini file too, a leak is a `ThreadLeakWarning`, which can be ignored or be an error."""
    suite = "def test_leaks(): leave()"
    result = run(suite, "-W", "default", ini="thread_leaks = warn")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*ThreadLeakWarning: left a thread behind: left", "*target   threading.Event.wait"])
    result = run(suite, "--thread-leaks=warn", "-W", "ignore:left a thread behind")
    result.assert_outcomes(passed=1)
    result = run(suite, "--thread-leaks=warn")  # and -W error
    result.assert_outcomes(passed=1, errors=1)


def test_what_the_ini_file_allows(run: Run) -> None:
    """Names that begin as an expression says, and daemons, may stay; the ini file tells how long threads have."""
    suite = """
        class Stay(threading.Thread):
            pass

        def test_pool():
            leave("pool/1")
            leave("idle")

        def test_leaks_another_name():
            leave("another pool/1")

        def test_leaks_no_daemon():
            thread = leave("working")
            thread._daemonic = False

        def test_end():
            for thread in threading.enumerate():
                thread._daemonic = True
    """
    allow = "thread_leaks = error\nthread_leaks_allow =\n    pool/\\d+\n    idle\n"
    result = run(suite, "-q", ini=allow)
    assert blamed(result) == ["test_leaks_another_name", "test_leaks_no_daemon"]
    result = run(suite, "-q", ini=f"{allow}thread_leaks_allow_daemons = true")
    assert blamed(result) == ["test_leaks_no_daemon"]


def test_what_the_marker_allows(run: Run) -> None:
    """Names and daemons that the markers of a test, its class and its module allow add up; the closest mode holds."""
    result = run("""
        pytestmark = pytest.mark.thread_leaks(allow="module")

        @pytest.mark.thread_leaks("off")
        class TestClass:
            def test_off(self):
                leave()

            @pytest.mark.thread_leaks("error", allow=["one", r"two-\\d"])
            def test_names(self):
                leave("one")
                leave("two-2")
                leave("module")

            @pytest.mark.thread_leaks(mode="error")
            def test_leaks(self):
                leave("one")

        @pytest.mark.thread_leaks(allow_daemons=True)
        def test_daemons():
            leave()

        def test_leaks():
            leave()

        @pytest.mark.thread_leaks(alow="one")
        def test_misspelt():
            pass

        @pytest.mark.thread_leaks("eror")
        def test_misspelt_too():
            pass
    """)
    assert blamed(result) == ["TestClass::test_leaks", "test_leaks", "test_misspelt", "test_misspelt_too"]
    result.stdout.fnmatch_lines_random(
        [
            "*TypeError: thread_leaks() got an unexpected keyword argument 'alow'*",
            "*ValueError: the mode must be 'error', 'warn' or 'off', not 'eror'",
        ]
    )


def test_a_marker_asks_for_its_test(run: Run) -> None:
    """A test whose marker says ``error`` is checked though nobody has asked for the others; not against ``off``."""
    suite = """
        def test_other():
            leave()

        @pytest.mark.thread_leaks("error")
        def test_leaks():
            leave()
    """
    assert blamed(run(suite, "-q")) == ["test_leaks"]
    assert blamed(run(suite, "--thread-leaks=off")) == []


@pytest.mark.parametrize(
    ("ini", "said"),
    [
        ("thread_leaks = yes", "the mode must be 'error', 'warn' or 'off', not 'yes'"),
        ("thread_leaks = error\nthread_leaks_grace = long", "could not convert string to float: 'long'"),
        ("thread_leaks = error\nthread_leaks_allow = (", "missing ), unterminated subpattern*"),
    ],
)
def test_settings_that_make_no_sense(run: Run, ini: str, said: str) -> None:
    """They are refused as pytest starts, with what is wrong."""
    result = run("def test_it(): pass", "-q", ini=ini)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: thread_leaks: {said}"])
