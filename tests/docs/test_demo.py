"""`python -m threadhooks demo`, the program that README invites to."""

from __future__ import annotations

import re
import subprocess
import sys


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "threadhooks", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_every_connection_is_closed_in_its_own_thread() -> None:
    """It says what each thread does, as it does it, reports the hook that fails, and ends with what it has shown."""
    done = run("demo")
    assert (done.stderr, done.returncode) == ("", 0)
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    for worker in ("worker_0", "worker_1", "worker_2", "worker_3"):
        said = [text.split()[0] for who, text in lines if who == worker]
        assert said == ["started", "opened", "closed", "signed", "reported", "exited"]
        assert ["MainThread", f"the connection of {worker} was closed in {worker}"] in lines
    assert lines[-1] == ["MainThread", "every connection was closed in its own thread"]


def test_the_report_names_the_hook_and_its_plugin() -> None:
    """The hook that fails on purpose is named, with the plugin that it belongs to."""
    reports = re.findall(r"reported +(.*)", run("demo").stdout)
    assert len(reports) == 4
    assert all("OSError: the audit log is full" in text and "of plugin 'audit'" in text for text in reports)


def test_without_a_command_it_says_what_there_is() -> None:
    """Called without a command, it names the one that there is, and fails."""
    done = run()
    assert done.returncode == 2
    assert "demo" in done.stderr
