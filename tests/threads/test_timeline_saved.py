"""What is made of a `Timeline`: a page, an image, a trace, plain values."""

from __future__ import annotations

import json
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from loops import Worker
from support import in_thread

import threadhooks
from threadhooks import Timeline
from threadhooks.timeline import Life


@pytest.fixture
def renderers(monkeypatch: pytest.MonkeyPatch) -> None:
    picture, trace = types.ModuleType("threadhooks._picture"), types.ModuleType("threadhooks._trace")
    picture.html = lambda data: f'<p title="html">{data["program"]} \ud800 {len(data["threads"])}'  # type: ignore[attr-defined]
    picture.svg = lambda data: f"svg {data['format']}"  # type: ignore[attr-defined]
    trace.trace_events = lambda data: {"traceEvents": [data["version"]]}  # type: ignore[attr-defined]
    for module in (picture, trace):
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(threadhooks, module.__name__.rpartition(".")[2], module, raising=False)


def test_save(renderers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The suffix says what is written: a page, an image, or a trace; during the block as after it."""
    monkeypatch.setattr(sys, "argv", ["/somewhere/shop.py", "--fast", "7"])
    with Timeline() as timeline:
        timeline.save(tmp_path / "page.HTML")
        timeline.save(str(tmp_path / "image.svg"))
    timeline.save(tmp_path / "trace.json")
    assert (tmp_path / "page.HTML").read_text(encoding="utf-8") == '<p title="html">shop.py --fast 7 ? 1'
    assert (tmp_path / "image.svg").read_text(encoding="utf-8") == "svg threadhooks-timeline"
    assert json.loads((tmp_path / "trace.json").read_text(encoding="utf-8")) == {"traceEvents": [1]}


@pytest.mark.parametrize("name", ["timeline.png", "timeline", ".html"])
def test_another_suffix(name: str, tmp_path: Path) -> None:
    """Another suffix is refused, and no file made."""
    with Timeline() as timeline:
        pass
    with pytest.raises(ValueError, match=r"\.html, \.svg or \.json"):
        timeline.save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_notebook_shows_it(renderers: None) -> None:
    """In a notebook it is the page, in a frame of its own."""
    with Timeline() as timeline:
        pass
    shown = timeline._repr_html_()
    assert shown.startswith('<iframe srcdoc="&lt;p title=&quot;html&quot;&gt;')
    assert shown.endswith("</iframe>")


def test_everything_as_a_dict() -> None:
    """`as_dict` gives plain values, which JSON can hold, and says what they are of."""
    worker = Worker().begin()
    with Timeline() as timeline:
        in_thread(int, "new")
    worker.end()
    data = json.loads(json.dumps(timeline.as_dict()))
    assert {key: data[key] for key in ("format", "version", "pid", "limit", "left_out")} == {
        "format": "threadhooks-timeline", "version": 1, "pid": os.getpid(), "limit": 10_000, "left_out": 0,
    }  # fmt: skip
    assert [thread["name"] for thread in data["threads"]] == ["MainThread", "worker", "new"]
    assert set(data["threads"][0]) == set(Life._fields)
    assert data["threads"][2]["started_at"]["file"].endswith("support.py")
    assert data["summary"] == {
        "started": 1, "older": 1, "ended": 1, "crashed": 0, "running": 1, "most_at_once": 2, "longest": 1,
        "hooks_failed": 0,
    }  # fmt: skip


def test_to_import_the_package_imports_none_of_it(program: Callable[..., Any]) -> None:
    """`import threadhooks` leaves it alone; whoever asks for `Timeline` imports it, but nothing that draws."""
    out, err, code = program(
        """
        import sys, threadhooks
        def ours(): return {name for name in sys.modules if name.startswith("threadhooks.")}
        before = ours()
        print("threadhooks.timeline" in before, threadhooks.Timeline.__name__, "threadhooks._picture" in ours())
        """
    )
    assert (out, err, code) == ("False Timeline False\n", "", 0)
