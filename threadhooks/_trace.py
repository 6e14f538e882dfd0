"""A timeline in the Trace Event Format, which Perfetto, ``chrome://tracing`` and speedscope open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._lanes import alive, begin, end, state


def trace_events(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the object that makes a file of that format, as JSON: a track a thread, times in microseconds."""
    pid = data["pid"]
    duration = data["duration"]
    threads = {thread["number"]: thread for thread in data["threads"]}
    events: list[dict[str, Any]] = []

    def add(phase: str, name: str, number: int = 0, time: float | None = None, **fields: Any) -> None:
        # The system uses idents again, for the next thread and often at once; readers would draw both in one track. A
        # number is used once. Readers take the thread that has the id of the process for the main thread.
        event = {"ph": phase, "name": name, "pid": pid, "tid": pid + number, **fields}
        if time is not None:
            event["ts"] = _microseconds(time)
        events.append(event)

    add("M", "process_name", args={"name": data["program"]})
    for number, thread in threads.items():
        began, ended = begin(thread), end(thread, duration)
        add("M", "thread_name", number, args={"name": thread["name"]})
        add("M", "thread_sort_index", number, args={"sort_index": number})
        name = thread["target"] or thread["name"]
        add("X", name, number, began, cat="thread", dur=_between(began, ended), args=_details(thread))
        if thread["run_ended"] is not None and _between(thread["run_ended"], ended) > 0:
            teardown = _between(thread["run_ended"], ended)
            add("X", "thread teardown", number, thread["run_ended"], cat="teardown", dur=teardown)
        if thread["exception"]:
            moment = ended if thread["run_ended"] is None else thread["run_ended"]
            raised = "{type}: {message}".format_map(thread["exception"]).removesuffix(": ")
            add("i", raised, number, moment, cat="crash", s="t", args=dict(thread["exception"]))
        if thread["parent"] in threads and thread["started"] is not None:
            arrow = {"cat": "start", "id": number}
            add("s", "start", thread["parent"], began, **arrow)
            add("f", "start", number, began, bp="e", **arrow)
    for hook in data["hooks"]:
        failed = {"error": hook["error"], "owner": hook["owner"]}
        where = {"s": "p"} if hook["thread"] is None else {"s": "t"}  # of the process, if its thread was left out
        add("i", f"hook failed: {hook['name']}", hook["thread"] or 0, hook["time"], cat="hook", args=failed, **where)
    for time, count in alive(data["threads"]):
        add("C", "alive", 0, time, args={"threads": count})

    about = {key: data[key] for key in ("program", "python", "began", "duration", "limit", "left_out")}
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": about}


def _microseconds(seconds: float) -> int:
    # Whole ones: with fractions the teardown may end a rounding error later than the life that it is part of, and
    # Perfetto drops what overlaps without being nested.
    return round(seconds * 1e6)


def _between(begin: float, end: float) -> int:
    return _microseconds(end) - _microseconds(begin)


def _details(thread: Mapping[str, Any]) -> dict[str, Any]:
    details = {key: thread[key] for key in ("name", "target", "ident", "native_id", "daemon", "foreign")}
    for key in ("started_at", "now"):
        if place := thread[key]:
            details[key] = "{file}:{line} in {function}".format_map(place)
    details["state"] = state(thread)
    if thread["started"] is None:
        details["started"] = "before the capture"
    return details
