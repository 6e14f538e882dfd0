"""Test suites that are run by a pytest of their own, with the plugin."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Callable

import pytest

Run = Callable[..., pytest.RunResult]  # the fixture `run`

# What the suites begin with: threads that stay until the process ends.
HEAD = """
import threading
import pytest
import threadhooks

for_ever = threading.Event()

def leave(name="left", **kwargs):
    thread = threading.Thread(target=for_ever.wait, name=name, daemon=True, **kwargs)
    thread.start()
    return thread

"""


def run_suite(pytester: pytest.Pytester, tests: str, *options: str, ini: str = "") -> pytest.RunResult:
    """Run `tests`, in a new process where warnings are errors, with no other plugin than `options` name."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PYTEST_XDIST")]:  # is not for that one
            patch.delenv(name)
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        patch.setenv("COLUMNS", "200")
        if "thread_leaks_grace" not in ini:
            ini = f"thread_leaks_grace = 0.3\n{ini}"
        pytester.makeini(f"[pytest]\n{ini}")
        pytester.makepyfile(test_it=HEAD + textwrap.dedent(tests))
        always = ("-p", "threadhooks", "-W", "error", "-p", "no:cacheprovider")
        return pytester.runpytest_subprocess(*always, *options, timeout=90)


def blamed(result: pytest.RunResult) -> list[str]:
    """The tests of which the summary says that there was an error, sorted."""
    return sorted(re.findall(r"^ERROR test_it\.py::(\S+) - ", result.stdout.str(), re.MULTILINE))
