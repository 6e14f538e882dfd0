"""A few lines that tell what the threads of a program have done."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

_MOST = 10  # lines of each kind


def summary(data: dict[str, Any], folder: str) -> str:
    """Return the lines for what `Timeline.as_dict` has returned. Files in `folder` are named relative to it."""
    return "".join(f"{line.rstrip()}\n" for line in _lines(data, folder))


def _lines(data: dict[str, Any], folder: str) -> Iterator[str]:
    counts = data["summary"]
    threads = {thread["number"]: thread for thread in data["threads"] if not thread["main"]}
    yield f"threadhooks: {data['program'] or 'this program'}, {_time(data['duration'])}"
    if not threads and not counts["started"]:
        yield _line("started", "no thread")
    else:
        width = max(len(f"{counts[key]:,}") for key in ("started", "ended", "crashed", "running", "most_at_once"))
        for label, key, more in (
            ("started", "started", f"and {counts['older']:,} older or foreign" if counts["older"] else ""),
            ("ended", "ended", f"{data['left_out']:,} left out, see --limit" if data["left_out"] else ""),
            ("crashed", "crashed", ""),
            ("still running", "running", ""),
            ("most at one time", "most_at_once", "besides the main thread"),
        ):
            yield _line(label, f"{counts[key]:>{width},}  {more}")
    if counts["longest"] in threads:
        longest = threads[counts["longest"]]
        end = data["duration"] if longest["ended"] is None else longest["ended"]
        yield _line("longest", f"{longest['name']}, {_time(end - (longest['started'] or 0))}")
    yield from _several("crashed", [_crash(thread, folder) for thread in threads.values() if thread["exception"]])
    left = [_left(thread, folder) for thread in threads.values() if thread["ended"] is None]
    yield from _several("never ended", left)
    names = {thread["number"]: thread["name"] for thread in data["threads"]}
    yield from _several("hook failed", [_hook(hook, names) for hook in data["hooks"]])


def _line(label: str, text: str) -> str:
    return f"  {label:<16}  {text}"


def _several(label: str, items: list[tuple[str, str]]) -> Iterator[str]:
    """A line for each pair of a name and of what is said of it; of those of which the same is said, one."""
    same = Counter(text for _, text in items)
    first = {text: name for name, text in reversed(items)}
    for text, count in list(same.items())[:_MOST]:
        head, *rest = text.split("\n")
        yield _line(label, f"{first[text]}{head}" + (f" and {count - 1:,} more like it" if count > 1 else ""))
        yield from (_line("", f"  {line}") for line in rest)
    if len(same) > _MOST:
        yield _line("", f"... and {len(items) - sum(list(same.values())[:_MOST]):,} more")


def _crash(thread: dict[str, Any], folder: str) -> tuple[str, str]:
    raised = thread["exception"]
    text = f": {raised['type']}: {raised['message']}".removesuffix(": ").replace("\n", " ")
    return thread["name"], f"{text}\nraised at   {_place(raised, folder)}" if raised["file"] else text


def _left(thread: dict[str, Any], folder: str) -> tuple[str, str]:
    lines = [" (foreign)" if thread["foreign"] else " (daemon)" if thread["daemon"] else ""]
    if thread["started_at"]:
        lines.append(f"started at  {_place(thread['started_at'], folder)}")
    if thread["now"]:
        lines.append(f"is now at   {_place(thread['now'], folder)}")
    return thread["name"], "\n".join(lines)


def _hook(hook: dict[str, Any], names: dict[int, str]) -> tuple[str, str]:
    owner = f" of plugin {hook['owner']!r}" if hook["owner"] else ""
    error = hook["error"].replace("\n", " ")
    return f"{hook['name']}{owner}", f", in {names.get(hook['thread'], 'a thread left out')}: {error}"


def _place(place: dict[str, Any], folder: str) -> str:
    file = place["file"]
    if file.startswith(folder + os.sep):
        file = os.path.relpath(file, folder)
    return f"{file}:{place['line']} in {place['function']}"


def _time(seconds: float) -> str:
    return f"{seconds:,.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"
