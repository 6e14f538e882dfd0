"""What the threads of a program have done, in numbers, and in a few lines."""

from __future__ import annotations

import os
import textwrap
from collections import Counter
from collections.abc import Iterator
from typing import Any

_MOST = 10  # lines of each kind


def counts(threads: list[dict[str, Any]], duration: float) -> dict[str, Any]:
    """Return how many threads have done what, without the main one."""
    others = [thread for thread in threads if not thread["main"]]
    ended = sum(thread["ended"] is not None for thread in others)
    longest = max(others, key=lambda thread: _length(thread, duration), default=None)
    return {
        "started": sum(thread["started"] is not None for thread in others),
        "older": sum(thread["started"] is None for thread in others),
        "ended": ended,
        "crashed": sum(thread["exception"] is not None for thread in others),
        "running": len(others) - ended,
        "most_at_once": _most_at_once(others),
        "longest": None if longest is None else longest["number"],
    }


def _length(thread: dict[str, Any], duration: float) -> float:
    end: float = duration if thread["ended"] is None else thread["ended"]
    return end - (thread["started"] or 0.0)


def _most_at_once(threads: list[dict[str, Any]]) -> int:
    changes = [(thread["started"] or 0.0, 1) for thread in threads]
    changes += [(thread["ended"], -1) for thread in threads if thread["ended"] is not None]
    most = now = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most


def summary(data: dict[str, Any], folder: str, width: int | None = None) -> str:
    """Return the lines for what `Timeline.as_dict` has returned. Files in `folder` are named relative to it.

    Lines that are longer than `width` go on in the next one, below what they tell.
    """
    lines = (line.rstrip() for line in _lines(data, folder))
    return "".join(f"{part}\n" for line in lines for part in (_wrapped(line, width) if width else [line]))


def _wrapped(line: str, width: int) -> list[str]:
    # No name or path is broken: it could be neither read nor copied.
    indent = " " * 24
    return textwrap.wrap(line, max(width, 60), subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _lines(data: dict[str, Any], folder: str) -> Iterator[str]:
    count = data["summary"]
    threads = {thread["number"]: thread for thread in data["threads"] if not thread["main"]}
    yield f"threadhooks: {data['program'] or 'this program'}, {_time(data['duration'])}"
    if not threads and not count["started"]:
        yield _line("started", "no thread")
    else:
        width = max(len(f"{count[key]:,}") for key in ("started", "ended", "crashed", "running", "most_at_once"))
        for label, key, more in (
            ("started", "started", f"and {count['older']:,} older or foreign" if count["older"] else ""),
            ("ended", "ended", f"{data['left_out']:,} left out, see --limit" if data["left_out"] else ""),
            ("crashed", "crashed", "of these" if count["crashed"] else ""),
            ("still running", "running", ""),
            ("most at one time", "most_at_once", "besides the main thread"),
        ):
            yield _line(label, f"{count[key]:>{width},}  {more}")
    if count["longest"] in threads:
        longest = threads[count["longest"]]
        yield _line("longest", f"{longest['name']}, {_time(_length(longest, data['duration']))}")
    yield from _several("crashed", [_crash(thread, folder) for thread in threads.values() if thread["exception"]])
    left = [thread for thread in threads.values() if thread["ended"] is None]
    left.sort(key=lambda thread: thread["daemon"] or thread["foreign"])  # those that nobody expects come first
    yield from _several("never ended", [_left(thread, folder) for thread in left])
    names = {thread["number"]: thread["name"] for thread in data["threads"]}
    yield from _several("hook failed", [_hook(hook, names) for hook in data["hooks"]])


def _line(label: str, text: str) -> str:
    return f"  {label:<16}  {text}"


def _several(label: str, items: list[tuple[str, str]]) -> Iterator[str]:
    """A line for each pair of what happened and of what is told of it; where the same happened often, the first one."""
    same = Counter(what for what, _ in items)
    first = dict(reversed(items))
    for what, count in list(same.items())[:_MOST]:
        head, *rest = first[what].split("\n")
        yield _line(label, head + (f" and {count - 1:,} more like it" if count > 1 else ""))
        yield from (_line("", f"  {line}") for line in rest)
    if len(same) > _MOST:
        yield _line("", f"... and {len(items) - sum(list(same.values())[:_MOST]):,} more")


def _crash(thread: dict[str, Any], folder: str) -> tuple[str, str]:
    raised = thread["exception"]
    text = f": {raised['type']}: {raised['message']}".removesuffix(": ").replace("\n", " ")
    if raised["file"]:
        text += f"\nraised at   {_place(raised, folder)}"
    return text, f"{thread['name']}{text}"


def _left(thread: dict[str, Any], folder: str) -> tuple[str, str]:
    lines = [" (foreign)" if thread["foreign"] else " (daemon)" if thread["daemon"] else ""]
    if thread["started_at"]:
        lines.append(f"started at  {_place(thread['started_at'], folder)}")
    if thread["now"]:
        lines.append(f"is now at   {_place(thread['now'], folder)}")
    text = "\n".join(lines)
    return text, f"{thread['name']}{text}"


def _hook(hook: dict[str, Any], names: dict[int, str]) -> tuple[str, str]:
    name = hook["name"] + (f" of plugin {hook['owner']!r}" if hook["owner"] else "")
    error = hook["error"].replace("\n", " ")
    return f"{name}: {error}", f"{name}, in {names.get(hook['thread'], 'a thread left out')}: {error}"


def _place(place: dict[str, Any], folder: str) -> str:
    file = place["file"]
    if file.startswith(folder + os.sep):
        file = os.path.relpath(file, folder)
    return f"{file}:{place['line']} in {place['function']}"


def _time(seconds: float) -> str:
    return f"{seconds:,.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
