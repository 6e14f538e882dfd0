"""`python -m threadhooks demo`, the program that README invites to."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import pytest

COMMAND = [sys.executable, "-W", "error", "-m", "threadhooks", "demo"]


def run(**environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONIOENCODING": "utf-8", **environment}
    return subprocess.run(COMMAND, capture_output=True, encoding="utf-8", timeout=60, env=env)


def on_a_terminal(columns: int, **environment: str) -> str:
    """What it prints on a terminal of that width."""
    pty: Any = pytest.importorskip("pty")
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {**os.environ, "PYTHONIOENCODING": "utf-8", "TERM": "xterm", **environment}
    env.pop("COLUMNS", None)
    with subprocess.Popen(COMMAND, stdout=theirs, stderr=theirs, stdin=subprocess.DEVNULL, env=env) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                more = os.read(ours, 10_000)
            except OSError:  # Linux's way to say that it is closed
                break
            if not more:
                break
            said += more
        process.wait(60)
    os.close(ours)
    return said.decode("utf-8").replace("\r\n", "\n")


def test_it_shows_what_it_promises() -> None:
    """In plain Python connections stay open; with us each is closed in its own thread. That is the verdict."""
    done = run()
    assert (done.stderr, done.returncode) == ("", 0)
    plain, _, ours = done.stdout.partition("With threadhooks")
    for number in range(1, 5):
        assert re.search(f"worker-{number} .* ✓✗·  *connection left open\n", plain)
        assert re.search(f"worker-{number} .* ✓✗✓  *closed in worker-{number}\n", ours)
    assert "4 connections are left open" in plain
    assert "Dummy-" in plain
    assert "Dummy-" not in ours
    said = " ".join(ours.split())
    assert "OSError: the audit log is full, raised by threadhooks._demo.write_audit_entry of plugin 'audit'" in said
    assert done.stdout.splitlines()[-1] == (
        "Every connection was closed in its own thread, and the failure stopped nothing."
    )


def test_the_failure_is_labelled() -> None:
    """Before anything is shown, it is said that one cleanup fails on purpose; the legends repeat it."""
    out = run().stdout
    assert "fails on purpose" in " ".join(out.partition("In plain Python")[0].split())
    assert out.count("failed, on purpose") == 2


def test_it_is_plain_in_a_file() -> None:
    """Where it is not a terminal, there are no colours; where that has only ASCII, there is only ASCII."""
    assert "\033" not in run().stdout
    assert run(PYTHONIOENCODING="ascii").stdout.isascii()


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_it_is_as_wide_as_the_terminal(columns: int) -> None:
    """On a terminal it has colours, and lines that fill its width and no more."""
    said = on_a_terminal(columns)
    assert "\033[32m" in said
    widths = [len(re.sub(r"\033\[\d+m", "", line)) for line in said.splitlines()]
    assert columns - 10 <= max(widths) <= columns


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour(environment: dict[str, str]) -> None:
    """Who wants no colours gets none."""
    said = on_a_terminal(80, **environment)
    assert "\033" not in said
    assert "closed in worker-4" in said


def test_a_closed_pipe_ends_it_quietly() -> None:
    """If nobody reads on, it ends, and says nothing on stderr."""
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 1
