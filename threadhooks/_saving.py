"""What a timeline is saved as. A program that only counts threads imports nothing that draws."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def suffix(path: Path) -> str:
    """Return the suffix of a file that a timeline can be saved as; raise `ValueError` for another."""
    if path.suffix.lower() not in (".html", ".svg", ".json"):
        raise ValueError(f"a timeline can be saved as .html, .svg or .json, not as {path.name!r}")
    return path.suffix.lower()


def render(form: str, data: dict[str, Any]) -> str:
    """Return the text of the file that has the suffix `form`."""
    if form == ".json":
        from ._trace import trace_events

        return json.dumps(trace_events(data))
    from ._picture import html, svg

    return html(data) if form == ".html" else svg(data)
