"""A timeline as a page and as an image: what stands where, and that nothing in a program breaks out of it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from importlib import resources
from typing import Any
from xml.etree import ElementTree

import pytest
from timelines import HOSTILE, crowd, failed, never_ended, raised, thread, timeline

from threadhooks import _picture, _svg

SVG = "{http://www.w3.org/2000/svg}"


class Page(HTMLParser):
    """What a browser would make of a page: its tags with attributes, and the text of each script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag, attrs = self.tags[-1] if self.tags else ("", {})
        key = attrs.get("id") or tag
        self.texts[key] = self.texts.get(key, "") + data

    @property
    def data(self) -> Any:
        return json.loads(self.texts["data"])


def hostile() -> dict[str, Any]:
    threads = [thread(number, name, target=name or None) for number, name in enumerate(HOSTILE, 1)]
    for number, name in enumerate(HOSTILE):
        threads[number]["exception"] = raised(name or "Error", name)
    hooks = tuple(failed(number, 1.0, name=name, owner=name, error=name) for number, name in enumerate(HOSTILE, 1))
    return timeline(thread(0), *threads, hooks=hooks, program=" ".join(HOSTILE[:-1]))


def texts(image: str) -> list[str]:
    return [found.text or "" for found in ElementTree.fromstring(image).iter(f"{SVG}text")]


# ---- The page ----


def test_the_page_has_all_data() -> None:
    """What was captured stands in the page, word for word, whatever the names are."""
    data = hostile()
    found = Page(_picture.html(data)).data
    own = {"state", "look"}
    assert [{key: value for key, value in one.items() if key not in own} for one in found["threads"]] == data["threads"]
    assert found["hooks"] == data["hooks"]
    assert found["program"] == data["program"]


def test_nothing_breaks_out_of_the_page() -> None:
    """Names that look like markup add no element to the page."""
    plain = Page(_picture.html(timeline(thread(0))))
    assert Page(_picture.html(hostile())).tags == plain.tags


def test_the_page_fetches_nothing() -> None:
    """The page names no other file: all it needs is in it, and its policy forbids the rest."""
    page = Page(_picture.html(timeline(thread(0))))
    assert not [value for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "action", "data")]
    assert not [tag for tag, _ in page.tags if tag in ("link", "iframe", "object", "embed", "base", "img")]
    policy = [attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy
    assert str(policy[0]).startswith("default-src 'none';")


@pytest.mark.parametrize("draw", [_picture.html, _picture.svg])
def test_the_same_data_makes_the_same_picture(draw: Any) -> None:
    """The same capture drawn twice gives the same text, so that a picture in a repository changes only when it must."""
    assert draw(crowd(500)) == draw(crowd(500))


@pytest.mark.parametrize("draw", [_picture.html, _picture.svg])
def test_the_data_is_left_as_it_was(draw: Any) -> None:
    """To draw a capture changes nothing in it."""
    data = crowd(50)
    draw(data)
    assert data == crowd(50)


@pytest.mark.parametrize("draw", [_picture.html, _picture.svg])
def test_a_picture_can_be_written_as_utf_8(draw: Any) -> None:
    """A name may have halves of characters in it, and the picture can be written all the same."""
    draw(hostile()).encode("utf-8")


@pytest.mark.parametrize("draw", [_picture.html, _picture.svg])
@pytest.mark.parametrize(
    "data",
    [
        timeline(),
        timeline(duration=0.0),
        timeline(thread(0)),
        timeline(thread(0), duration=0.0),
        timeline(thread(0), *(thread(number, started=1.0, run_ended=1.0, ended=1.0) for number in range(1, 30))),
        timeline(thread(3, parent=2)),
    ],
    ids=["nothing", "nothing in no time", "main thread", "main thread in no time", "lives of no length", "orphan"],
)
def test_small_captures(draw: Any, data: dict[str, Any]) -> None:
    """A capture with next to nothing in it makes a picture, too."""
    assert data["python"] in draw(data)


# ---- The image ----


def test_the_image_is_well_formed() -> None:
    """Whatever the names are, the image is well-formed XML, and no name has become an element of it."""
    plain = timeline(
        thread(0), *(thread(number, exception=raised()) for number in range(1, 3)), hooks=(failed(1, 1.0),)
    )
    allowed = {element.tag for element in ElementTree.fromstring(_picture.svg(plain)).iter()}
    found = {element.tag for element in ElementTree.fromstring(_picture.svg(hostile())).iter()}
    assert found - {f"{SVG}title"} <= allowed


def test_the_image_says_what_went_wrong() -> None:
    """Crashes, threads that never ended, failed hooks and what was left out are counted in words."""
    data = timeline(
        thread(0), thread(1, exception=raised()), never_ended(2), never_ended(3, daemon=True),
        hooks=(failed(1, 1.5),), left_out=7,
    )  # fmt: skip
    summary = texts(_picture.svg(data))[1]
    for words in ("3 threads besides main", "1 crashed", "2 never ended", "1 hook failed", "7 more threads left out"):
        assert words in summary


def test_ten_thousand_threads_in_an_image() -> None:
    """The image of 10,000 threads has a bounded size: a crowd is drawn as how many of it were alive."""
    image = _picture.svg(crowd(10_000))
    assert len(image) < 150_000
    assert "×9,998" in texts(image)  # noqa: RUF001


def test_what_is_not_drawn_is_counted() -> None:
    """Where there are more rows than an image holds, it says how many threads are missing, and what became of them."""
    letters = "abcdefghij"
    groups = [
        thread(100 + 10 * row + column, f"{letters[row]}{letters[column]}", parent=row + 1, target=None)
        for row in range(10)
        for column in range(6)
    ]
    groups[-1]["exception"] = raised()
    image = _picture.svg(
        timeline(thread(0), *(thread(row + 1, letters[row], target=None) for row in range(10)), *groups)
    )
    drawn = len(re.findall("<g><title>", image))
    assert drawn == _svg.ROWS
    assert f"{71 - drawn} more threads not drawn here, 1 crashed" in texts(image)


def test_page_and_image_have_the_same_colours() -> None:
    """A crash has the same red in the page and in the image, by day and by night; so has everything else its colour."""
    style = resources.files("threadhooks").joinpath("_page", "page.css").read_text(encoding="utf-8")
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w{6})", part)) for part in style.split(":root[data-theme")[:2])
    for kind, colours in _svg.COLOURS.items():
        fill = kind if kind in light else f"{kind}-edge"
        expected = (light[fill], light[f"{kind}-edge"], dark[fill], dark[f"{kind}-edge"])
        assert colours == expected, kind


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 µs"),
        (4.2e-5, "42 µs"),
        (0.0123, "12.3 ms"),
        (1.5, "1.5 s"),
        (125, "2 min 05 s"),
        (120, "2 min"),
        (7210, "2 h"),
        (3725, "1 h 02 min"),
    ],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    """A length of time has three digits at most and the unit that suits it."""
    assert _svg.in_words(seconds) == words


@pytest.mark.parametrize("duration", [1e-6, 3.3e-4, 0.05, 0.9, 7.0, 59.0, 90.0, 4000.0, 1e5, 3e6])
def test_ticks(duration: float) -> None:
    """A time axis has three to nine ticks, however long it is."""
    assert 3 <= duration / _svg.tick_step(duration) + 1 <= 9.01
