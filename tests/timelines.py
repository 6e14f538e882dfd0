"""Timelines as plain data, for the tests of what draws them."""

from __future__ import annotations

from typing import Any


def thread(number: int, name: str | None = None, **fields: Any) -> dict[str, Any]:
    """A thread that started at its number, in seconds, and lived for half a second; the main thread is number 0."""
    main = number == 0
    return {
        "number": number,
        "name": name or ("MainThread" if main else f"worker-{number}"),
        "target": None if main else "program.work",
        "ident": 140_000_000_000 + number % 3,  # they are used again
        "native_id": 1000 + number,
        "main": main,
        "daemon": False,
        "foreign": False,
        "started": None if main else float(number),
        "run_ended": None if main else number + 0.4,
        "ended": None if main else number + 0.5,
        "parent": None if main else 0,
        "started_at": None if main else {"file": "/src/program.py", "line": 12, "function": "main"},
        "now": None,
        "exception": None,
        **fields,
    }


def never_ended(number: int, name: str | None = None, **fields: Any) -> dict[str, Any]:
    """A thread that still ran when the capture ended."""
    now = {"file": "/src/program.py", "line": 77, "function": "wait_for_more"}
    return thread(number, name, **{"run_ended": None, "ended": None, "now": now, **fields})


def raised(kind: str = "ValueError", message: str = "no such file") -> dict[str, Any]:
    """What a thread that crashed has in its field `exception`."""
    return {"type": kind, "message": message, "file": "/src/program.py", "line": 31, "function": "work"}


def failed(number: int, time: float, **fields: Any) -> dict[str, Any]:
    """A hook that failed in the thread of that number."""
    hook = {"name": "program.close", "owner": "database", "error": "OSError: it is closed already"}
    return {"thread": number, "time": time, **hook, **fields}


def timeline(*threads: dict[str, Any], hooks: tuple[dict[str, Any], ...] = (), **fields: Any) -> dict[str, Any]:
    """A capture of ten seconds."""
    return {
        "format": "threadhooks-timeline",
        "version": 1,
        "program": "program.py --fast",
        "python": "3.13.0",
        "pid": 4711,
        "began": 1_700_000_000.0,
        "duration": 10.0,
        "limit": None,
        "left_out": 0,
        "threads": list(threads),
        "hooks": list(hooks),
        **fields,
    }


def crowd(count: int, duration: float = 60.0) -> dict[str, Any]:
    """A server's capture: so many short lives, a few of which crash, leak or have a hook that fails."""
    server = thread(1, "server", started=0.1, run_ended=duration - 0.2, ended=duration - 0.1)
    threads = [thread(0), server]
    hooks = []
    for number in range(2, count):
        began = 0.2 + (duration - 2) * number / count
        life = 0.002 + (number * 7919 % 997) / 2000  # up to half a second, without a pattern
        ended = began + life
        request = thread(number, f"request-{number}", parent=1, started=began, run_ended=ended - 0.001, ended=ended)
        if number % 997 == 0:
            request["exception"] = raised()
        if number % 3989 == 0:
            request.update(run_ended=None, ended=None, exception=None)
        if number % 2503 == 0:
            hooks.append(failed(number, ended))
        threads.append(request)
    return timeline(*threads, hooks=tuple(hooks), duration=duration)


# Names that break out of what they are put into, or can't be written
HOSTILE = (
    "</script><img src=x onerror=\"document.title='broken out'\">",
    "<!--<script>",
    "]]></title></svg><script>document.title='broken out'</script>",
    "&amp; \"quoted\" 'twice'",
    "\ud800 half of a pair",
    "\x00\x01\x1b[31m\ufffe control",
    "@DATA@ @SCRIPT@ \\1 %s {}",
    "\u2028 \u202e \U0001f9f5",
    "",
    "x" * 5000,
)
