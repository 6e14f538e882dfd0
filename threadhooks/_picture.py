"""A timeline as a page to explore (`html`) and as an image for documents (`svg`).

The page is one file that fetches nothing: its parts, in the folder ``_page``, are put into one another here, with the
data as JSON. What the program called its threads, and what its exceptions said, may contain anything: it goes through
`_json` or `escape` before it becomes part of either.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any

from ._lanes import alive, lanes, look, state
from ._svg import escape
from ._svg import svg as svg


def html(data: Mapping[str, Any]) -> str:
    """Return the page that shows a timeline."""
    model = {
        **data,
        "threads": [{**thread, "state": state(thread), "look": look(thread)} for thread in data["threads"]],
        "lanes": [{**lane._asdict(), "threads": [thread["number"] for thread in lane.threads]} for lane in lanes(data)],
        "alive": alive(data["threads"]),
    }
    folder = resources.files("threadhooks").joinpath("_page")
    read = {name: folder.joinpath(name).read_text(encoding="utf-8") for name in PARTS}
    parts = {
        "TITLE": escape(f"Threads of {data['program'] or 'an interactive session'}"),
        "STYLE": read["page.css"],
        "DATA": _json(model),
        "SCRIPT": read["chart.js"] + read["page.js"],
    }
    # In one pass: what stands in the data must not be taken for the place of another part.
    return re.sub("@(TITLE|STYLE|DATA|SCRIPT)@", lambda match: parts[match[1]], read["page.html"])


PARTS = ("page.html", "page.css", "chart.js", "page.js")


def _json(value: object) -> str:
    # A <script> goes on to the next "</script", wherever that is, and "<!--" changes what the browser looks for.
    # All that is not ASCII is escaped as well: halves of surrogate pairs can't be written to a file.
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
