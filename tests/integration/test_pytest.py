"""pytest and pytest-xdist, where warnings are errors: test suites that use hooks; and what the page on pytest shows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent / "examples"
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "pytest.md"


@pytest.fixture(params=["plain", "xdist"])
def suite(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., str]:
    """Run a suite of tests with ``-W error``, in one process or in two; return what pytest wrote."""
    if request.param == "xdist":
        pytest.importorskip("xdist")

    def run(tests: str, *, conftest: bool = False) -> str:
        (tmp_path / "test_it.py").write_text(textwrap.dedent(tests))
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        if conftest:
            shutil.copy(EXAMPLES / "early_cleanups.py", tmp_path / "conftest.py")
        options = ["-p", "xdist.plugin", "-n", "2"] if request.param == "xdist" else []
        # The options, and the xdist worker, of the pytest that runs this test are not for that one.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": "200"}
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", "-ra", *options],
            cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=90,
        )  # fmt: skip
        return done.stdout + done.stderr

    return run


def test_hooks(suite: Callable[..., str], tmp_path: Path) -> None:
    """Each hook of each thread runs once, and those of the main thread when its process ends; without a warning."""
    out = suite("""
        import os, threading, pytest, threadhooks
        from concurrent.futures import ThreadPoolExecutor

        @threadhooks.per_thread
        def value():
            write("opened")
            yield
            write("closed")

        def write(what):
            with open("log", "a") as log:
                print(what, os.getpid(), threading.current_thread().name, file=log)

        @pytest.mark.parametrize("number", range(20))
        def test_pool(number):
            value()
            with ThreadPoolExecutor(4, f"worker-{number}") as pool:
                for future in [pool.submit(value) for _ in range(20)]:
                    future.result()

        def test_daemons():
            threads = [threading.Thread(target=value, name=f"daemon-{n}", daemon=True) for n in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    """)
    assert "21 passed" in out
    assert "warning" not in out.lower()
    log = [line.split(maxsplit=1) for line in (tmp_path / "log").read_text().splitlines()]
    opened = sorted(who for what, who in log if what == "opened")
    closed = sorted(who for what, who in log if what == "closed")
    assert opened == closed
    assert len(set(opened)) == len(opened) > 40
    assert any("MainThread" in who for who in closed)


def test_a_failing_hook(suite: Callable[..., str]) -> None:
    """With warnings as errors, a hook that raises fails the test that it ran in, and is named."""
    out = suite("""
        import threading, threadhooks

        plugin = threadhooks.Plugin("suspect")

        def hook():
            raise LookupError("the hook's own error")

        def test_it():
            thread = threading.Thread(target=plugin.register, args=(hook,))
            thread.start()
            thread.join()

        def test_another():
            pass
    """)
    assert "1 failed, 1 passed" in out
    assert "the hook's own error" in out
    if sys.version_info >= (3, 11):
        assert "test_it.hook of plugin 'suspect', a hook of threadhooks" in out


def test_early_cleanups(suite: Callable[..., str]) -> None:
    """With the fixture, the main thread's early cleanups and early resources are closed at the end of each test."""
    out = suite("""
        import pytest, threadhooks

        @threadhooks.per_thread(early=True)
        def value():
            open_values.append(1)
            yield
            open_values.pop()

        open_values = []

        @pytest.mark.parametrize("number", range(4))
        def test_it(number):
            assert not open_values
            value()
            value()
            assert len(open_values) == 1
    """, conftest=True)  # fmt: skip
    assert "4 passed" in out


def test_the_page(tmp_path: Path) -> None:
    """pytest, with the plugin, says of the example what the page shows."""
    shutil.copy(EXAMPLES / "downloads.py", tmp_path)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "COLUMNS": "80"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "threadhooks", "--thread-leaks=error", "downloads.py"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=90,
    )  # fmt: skip
    shown = re.search(r"^```text\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert shown is not None
    assert shown[1] in done.stdout
    assert "2 passed, 1 error" in done.stdout
