"""The page of a timeline in a real browser: pointed at, zoomed, searched, driven by keys and by fingers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from timelines import HOSTILE, crowd, failed, never_ended, raised, thread, timeline

from threadhooks import _picture

if TYPE_CHECKING:
    from selenium.webdriver import ActionChains, Chrome, Keys
    from selenium.webdriver.remote.webelement import WebElement
    from selenium.webdriver.support.wait import WebDriverWait
else:
    ActionChains = pytest.importorskip("selenium.webdriver").ActionChains
    Keys = pytest.importorskip("selenium.webdriver").Keys
    WebDriverWait = pytest.importorskip("selenium.webdriver.support.wait").WebDriverWait


class Shown:
    """A page in the browser."""

    def __init__(self, browser: Chrome) -> None:
        self.driver = browser

    def get(self, name: str) -> WebElement:
        return self.driver.find_element("id", name)

    def js(self, source: str, *arguments: object) -> Any:
        return self.driver.execute_script(source, *arguments)

    def keys(self, *keys: str) -> None:
        self.get("scroller").send_keys(*keys)

    def text(self, name: str) -> str:
        return str(self.js("return document.getElementById(arguments[0]).textContent", name))

    def until(self, source: str, *arguments: object) -> None:
        """Wait for an expression to become true: what moves takes a moment."""
        WebDriverWait(self.driver, 10, 0.02).until(lambda _: self.js(f"return {source}", *arguments))

    def selected(self) -> Any:
        return self.js("return selected && selected.name")

    def view(self) -> tuple[float, float]:
        start, end = self.js("return [view.from, view.to]")
        return start, end

    def place(self, name: str) -> tuple[int, int]:
        """Where in the window the middle of a thread's life is drawn."""
        x, y = self.js(
            """const { begin, end, lane } = data.threads.find((one) => one.name === arguments[0]);
            const { left, top } = scroller.getBoundingClientRect();
            const x = left + (xOf(begin) + xOf(end)) / 2, y = top + lane.y + lane.height / 2 - scroller.scrollTop;
            return [Math.round(x), Math.round(y)]""",
            name,
        )
        return x, y

    def colour(self, name: str) -> list[int]:
        """What is drawn near the end of a thread's life, where no words are: red, green, blue, opacity."""
        x, y = self.js(
            """drawChart();
            const { end, lane } = data.threads.find((one) => one.name === arguments[0]);
            return [Math.min(xOf(end), width) - 16, lane.y + lane.height - 7 - scroller.scrollTop].map(Math.round)""",
            name,
        )
        copy = """const context = new OffscreenCanvas(1, 1).getContext("2d");
            context.drawImage(chart, -arguments[0], -arguments[1]);
            return [...context.getImageData(0, 0, 1, 1).data]"""
        found: list[int] = self.js(copy, x, y)
        return found

    def point(self, name: str) -> ActionChains:
        """The mouse on a thread, and what it is to do there."""
        actions = ActionChains(self.driver, duration=0)
        actions.w3c_actions.pointer_action.move_to_location(*self.place(name))
        return actions


@pytest.fixture
def show(browser: Chrome, tmp_path: Path) -> Iterator[Callable[..., Shown]]:
    """Open the page of a timeline, at a size and in the colours that are asked for."""

    def open_page(data: dict[str, Any], width: int = 1280, height: int = 800, dark: bool = False) -> Shown:
        path = tmp_path / "timeline.html"
        path.write_text(_picture.html(data), encoding="utf-8")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        calm = {"name": "prefers-reduced-motion", "value": "no-preference"}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme, calm]})
        browser.get(path.as_uri())
        shown = Shown(browser)
        shown.until("width > 0 && !waiting")
        return shown

    browser.get_log("browser")
    yield open_page
    complaints = browser.get_log("browser")
    browser.get("about:blank")
    assert not complaints, "the page has raised an error, or tried to fetch something"


@pytest.fixture
def small() -> dict[str, Any]:
    return timeline(
        thread(0),
        thread(1, "reader", exception=raised("KeyError", "'user'")),
        thread(2, "parser", parent=1, target="program.parse"),
        never_ended(3, "poller"),
        thread(4, "writer", started=4.0, run_ended=8.0, ended=8.5),
        never_ended(5, "heartbeat", daemon=True),
        thread(6, "native", ended=None, foreign=True, daemon=True, target=None, parent=None, started_at=None),
        hooks=(failed(4, 8.2),),
    )


def test_hover_tells(show: Callable[..., Shown], small: dict[str, Any]) -> None:
    """The mouse on a life shows the thread's name, target, life, who started it and where, and what it raised."""
    page = show(small)
    page.point("reader").perform()
    page.until("!document.getElementById('tooltip').hidden")
    told = page.get("tooltip").text
    for words in (
        "reader",
        "program.work",
        "crashed · 500 ms",
        "by MainThread",
        "src/program.py:12 in main",
        "KeyError: 'user'",
    ):
        assert words in told
    page.point("writer").perform()
    page.until("document.getElementById('tooltip').textContent.includes('hook program.close failed')")
    page.point("poller").perform()
    page.until("document.getElementById('tooltip').textContent.includes('now at src/program.py:77 in wait_for_more')")


def test_a_click_selects(show: Callable[..., Shown], small: dict[str, Any]) -> None:
    """A click on a life shows all that is known of it beside the lanes; its parent there can be clicked, too."""
    page = show(small)
    page.point("parser").click().perform()
    assert page.selected() == "parser"
    for words in ("program.parse", "/src/program.py:12 in main", "Teardown", "500 ms"):
        assert words in page.get("panel").text
    page.get("panel").find_element("xpath", ".//button[text()='reader']").click()
    assert page.selected() == "reader"


def test_the_panel_lists_what_went_wrong(show: Callable[..., Shown], small: dict[str, Any]) -> None:
    """Without a selection the panel lists crashes, failed hooks, and all that never ended: leaks first."""
    page = show(small)
    told = page.get("panel").text
    for words in (
        "1 thread crashed",
        "KeyError: 'user'",
        "3 threads never ended",
        "poller",
        "heartbeat\ndaemon\nstarted at src/program.py:12 in main\nnow at src/program.py:77 in wait_for_more",
        "1 hook failed",
        "program.close of database",
    ):
        assert words in told
    assert told.index("poller") < told.index("heartbeat")
    assert page.get("figures").text.split("\n")[:4] == ["6", "threads besides main", "4", "at one time"]
    assert "Nothing to report" in show(timeline(thread(0), thread(1))).get("panel").text


def test_wheel_zooms(show: Callable[..., Shown], small: dict[str, Any]) -> None:
    """The wheel zooms around the mouse: what is under it stays there."""
    page = show(small)
    page.point("writer").perform()
    before = page.place("writer")
    wheel = {"type": "mouseWheel", "x": before[0], "y": before[1], "deltaX": 0, "deltaY": -240}
    page.driver.execute_cdp_cmd("Input.dispatchMouseEvent", wheel)
    page.until("view.to - view.from < 7")
    assert page.place("writer") == pytest.approx(before, abs=1)


def test_drag_pans(show: Callable[..., Shown], small: dict[str, Any]) -> None:
    """Dragging moves the time with the mouse, and selects nothing."""
    page = show(small)
    page.js("setView(3, 8)")
    x, y = page.place("writer")
    actions = page.point("writer").click_and_hold()
    actions.w3c_actions.pointer_action.move_to_location(x + 60, y).move_to_location(x + 120, y).release()
    actions.perform()
    assert page.place("writer")[0] == pytest.approx(x + 120, abs=2)
    assert page.selected() is None


def test_buttons_zoom(show: Callable[..., Shown], small: dict[str, Any]) -> None:
    """The buttons zoom in, out and back to everything."""
    page = show(small)
    page.get("zoom-in").click()
    page.until("Math.abs(view.to - view.from - 5) < 1e-6")
    page.get("zoom-out").click()
    page.until("view.to - view.from > 9.99")
    page.js("setView(1, 2)")
    page.get("zoom-all").click()
    page.until("view.from === 0 && view.to === 10")


def test_the_strip_chooses(show: Callable[..., Shown], small: dict[str, Any]) -> None:
    """Dragging over the strip above chooses the stretch of time that is shown; inside it, it moves."""
    page = show(small)

    def drag(start: float, end: float) -> None:
        x, y = (round(page.js("return overview.getBoundingClientRect()")[side]) for side in ("x", "y"))
        actions = ActionChains(page.driver, duration=0)
        pointer = actions.w3c_actions.pointer_action
        pointer.move_to_location(x + round(page.js("return overviewX(arguments[0])", start)), y + 20).pointer_down()
        pointer.move_to_location(x + round(page.js("return overviewX(arguments[0])", end)), y + 20).pointer_up()
        actions.perform()

    pixel = 10 / page.js("return plotWidth()")
    drag(2.0, 6.0)
    assert page.view() == pytest.approx((2.0, 6.0), abs=2 * pixel)
    drag(4.0, 5.0)
    assert page.view() == pytest.approx((3.0, 7.0), abs=4 * pixel)
    drag(7.0, 9.0)
    assert page.view() == pytest.approx((3.0, 9.0), abs=6 * pixel)


def test_keys(show: Callable[..., Shown], small: dict[str, Any]) -> None:
    """Tab leads to the lanes, arrows go through them; keys zoom, pan, and go to the parent and to what went wrong."""
    page = show(small)
    for _ in range(30):
        if page.js("return document.activeElement === scroller"):
            break
        ActionChains(page.driver, duration=0).send_keys(Keys.TAB).perform()
    page.keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert page.selected() == "parser"
    page.keys("p")
    assert page.selected() == "reader"
    page.keys(Keys.ARROW_UP)
    assert page.selected() == "MainThread"
    page.keys("!")
    assert page.selected() == "reader"
    page.keys("!")
    assert page.selected() == "poller"
    page.keys("!")
    assert page.selected() == "writer"
    page.keys(Keys.ENTER)
    page.until("Math.abs(view.to - view.from - 4.5 * 1.3) < 0.01")
    start = page.view()[0]
    page.keys(Keys.ARROW_RIGHT)
    page.until("view.from > arguments[0] + 0.5", start)
    page.keys("0")
    page.until("view.to === 10 && view.from === 0")
    page.keys("+")
    page.until("Math.abs(view.to - view.from - 6) < 0.01")
    page.keys("-")
    page.until("view.to - view.from > 9.99")
    page.keys(Keys.ESCAPE)
    assert page.selected() is None


def test_what_a_screen_reader_is_told(show: Callable[..., Shown], small: dict[str, Any]) -> None:
    """The lanes are a list box whose current option says what the sighted see; so does a live region."""
    page = show(small)
    page.keys(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    assert page.get("scroller").get_attribute("aria-activedescendant") == "current"
    told = "reader, crashed, lived 500 ms, raised KeyError: 'user', started by MainThread, lane 2 of 7"
    assert page.text("current") == page.text("live") == told
    roles = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    named = {(node["role"]["value"], node.get("name", {}).get("value", "")) for node in roles if not node["ignored"]}
    assert ("listbox", "Threads, in lanes") in named
    assert ("option", told) in named
    assert not [role for role, name in named if role in ("button", "searchbox") and not re.search("[A-Za-z]", name)]


def test_search(show: Callable[..., Shown], small: dict[str, Any]) -> None:
    """A search counts what it finds, goes from match to match and round, and fades the rest."""
    page = show(small)
    page.keys("/")
    query = page.get("query")
    assert page.js("return document.activeElement.id") == "query"
    before = {name: page.colour(name) for name in ("poller", "MainThread")}
    query.send_keys("ER")
    assert page.text("count") == "4"
    assert page.colour("poller") == before["poller"]
    assert page.colour("MainThread")[3] < before["MainThread"][3]
    query.send_keys(Keys.ENTER)
    assert (page.text("count"), page.selected()) == ("1 of 4", "reader")
    query.send_keys(Keys.ENTER, Keys.ENTER, Keys.ENTER)
    assert (page.text("count"), page.selected()) == ("4 of 4", "writer")
    query.send_keys(Keys.ENTER)
    assert page.selected() == "reader"
    page.get("previous").click()
    assert page.selected() == "writer"
    query.clear()
    query.send_keys("no such thread")
    assert page.text("count") == "none"
    assert not page.get("next").is_enabled()
    query.send_keys(Keys.ESCAPE)
    assert page.js("return [matches, document.activeElement.id]") == [None, "scroller"]


def test_the_table(show: Callable[..., Shown], small: dict[str, Any]) -> None:
    """The same threads stand in a table, which is sorted by a click on a heading and leads back to the lanes."""
    page = show(small)
    page.get("show-table").click()
    first = "return [...document.querySelectorAll('#table tbody tr')].map((row) => row.cells[1].textContent)"
    assert page.js(first) == [one["name"] for one in small["threads"]]
    for _ in range(2):
        page.get("table").find_element("xpath", ".//th//button[starts-with(., 'Life')]").click()
    assert page.js(first)[:3] == ["MainThread", "poller", "heartbeat"]
    sorted_by = page.get("table").find_element("css selector", "th[aria-sort]")
    assert (sorted_by.text, sorted_by.get_attribute("aria-sort")) == ("Life ↓", "descending")
    page.get("table").find_element("xpath", ".//button[text()='poller']").click()
    assert page.get("timeline").is_displayed()
    assert page.selected() == "poller"


def test_ten_thousand_threads(show: Callable[..., Shown]) -> None:
    """Ten thousand threads are drawn in less time than the eye needs, near and far, and each can be found."""
    page = show(crowd(10_000))
    frame = """const [share] = arguments, began = performance.now(), middle = duration * 0.4;
        view.from = middle - share * middle; view.to = middle + share * middle;
        for (let count = 0; count < 10; count++) { drawOverview(); drawAxis(); drawChart(); }
        return (performance.now() - began) / 10"""
    for share in (1, 0.2, 0.001):
        assert page.js(frame, share) < 100, "milliseconds a frame"  # it takes 3 to 8; a busy machine must not fail
    page.js("setView(0, duration)")
    page.get("query").send_keys("request-7777", Keys.ENTER)
    assert page.selected() == "request-7777"
    page.keys(Keys.ENTER)
    page.until("view.to - view.from < 1")
    page.point("request-7777").perform()
    page.until("document.getElementById('tooltip').textContent.includes('request-7777')")
    page.get("query").send_keys(Keys.ESCAPE)
    page.get("show-table").click()
    assert "9,800 are not shown" in page.get("table").text


def test_nothing_is_run_or_lost(show: Callable[..., Shown]) -> None:
    """Names that look like markup are shown as they are, wherever they appear; nothing in them is run."""
    threads = [
        thread(number, name, exception=raised(name or "Error", name), target=name or None)
        for number, name in enumerate(HOSTILE, 1)
    ]
    hooks = tuple(failed(number, 1.0, name=name, owner=name, error=name) for number, name in enumerate(HOSTILE, 1))
    data = timeline(thread(0), *threads, hooks=hooks, program=HOSTILE[0])
    page = show(data)
    assert page.driver.title == f"Threads of {HOSTILE[0]}"
    assert page.text("program") == HOSTILE[0]
    for number in range(1, len(HOSTILE) + 1):
        page.js("select(byNumber.get(arguments[0]), true); hover(selected)", number)
    page.get("show-table").click()
    assert page.js("return document.querySelectorAll('img, iframe, main script').length") == 0
    assert page.driver.title == f"Threads of {HOSTILE[0]}"
    assert json.loads(page.js("return JSON.stringify(data.threads.map((one) => one.name))"))[1:5] == list(HOSTILE[:4])


@pytest.mark.parametrize("dark", [False, True])
def test_colours_follow_the_reader(show: Callable[..., Shown], small: dict[str, Any], dark: bool) -> None:
    """The page is as light or dark as the reader's system, until the button is pressed."""
    page = show(small, dark=dark)
    background = "return getComputedStyle(document.body).backgroundColor"
    expected = {False: "rgb(255, 255, 255)", True: "rgb(17, 20, 24)"}
    assert page.js(background) == expected[dark]
    page.get("theme").click()
    assert page.js(background) == expected[not dark]


def luminance(colour: str) -> float:
    """How light a colour is, as WCAG 2 defines it."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_contrast(show: Callable[..., Shown], small: dict[str, Any], dark: bool) -> None:
    """Words have a contrast of 4.5 to what they stand on, and edges of 3, by day and by night (WCAG AA)."""
    colours = show(small, dark=dark).js("return colours")
    for look in ("ended", "main", "daemon", "foreign", "crashed", "leaked"):
        assert contrast(colours["ink"], colours[look]) >= 4.5, look
        assert contrast(colours[f"{look}-text"], colours["raised"]) >= 4.5, look
        assert contrast(colours[f"{look}-edge"], colours["page"]) >= 3, look
    assert contrast(colours["hook-text"], colours["raised"]) >= 4.5
    assert contrast(colours["muted"], colours["raised"]) >= 4.5


def test_a_phone(show: Callable[..., Shown], small: dict[str, Any]) -> None:
    """On a phone nothing sticks out, and details slide over the lanes without covering the thread they are about."""
    page = show(small, width=390, height=844)
    assert page.js("return document.documentElement.scrollWidth") == 390
    page.js("nextFinding('leaked')")
    assert page.selected() == "poller"
    page.until("document.getElementById('panel').classList.contains('open')")
    top = page.js("return document.getElementById('panel').getBoundingClientRect().top")
    assert page.place("poller")[1] < top
    page.driver.find_element("css selector", "[aria-label='Close details']").click()
    assert not page.get("panel").is_displayed()
    page = show(timeline(thread(0), *(thread(n, chr(96 + n) * 3, target=None) for n in range(1, 18))), 390, 844)
    page.js("select(lanes[lanes.length - 1].threads[0], true)")
    assert page.place("qqq")[1] < page.js("return document.getElementById('panel').getBoundingClientRect().top")


@pytest.mark.parametrize(("width", "height"), [(390, 844), (860, 520), (1280, 800)], ids=["phone", "notebook", "desk"])
def test_lanes_that_do_not_fit_scroll(show: Callable[..., Shown], width: int, height: int) -> None:
    """However many lanes there are, the page stays as high as its window: the lanes scroll in it, above the legend."""
    page = show(crowd(2000, duration=10.0), width=width, height=height)
    assert page.js("return [document.documentElement.scrollWidth, document.documentElement.scrollHeight]") == [
        width,
        height,
    ]
    assert page.js("return document.getElementById('legend').getBoundingClientRect().bottom") <= height
    page.keys(Keys.END)
    assert page.js("return scroller.scrollTop") > 0
    last = page.js("return selected.lane.y + selected.lane.height - scroller.scrollTop")
    assert last <= page.js("return height - covered")


def test_fingers(show: Callable[..., Shown], small: dict[str, Any]) -> None:
    """Two fingers zoom, one pans, and a tap selects."""
    page = show(small, width=390, height=844)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        at = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        page.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    y = page.place("writer")[1]
    touch("touchStart", (150, y), (230, y))
    for spread in range(10, 101, 10):
        touch("touchMove", (150 - spread, y), (230 + spread, y))
    touch("touchEnd")
    page.until("view.to - view.from < 4")
    start, end = page.view()
    touch("touchStart", (200, y))
    for moved in range(10, 81, 10):
        touch("touchMove", (200 + moved, y))
    touch("touchEnd")
    page.until("view.from < arguments[0] - 0.3", start)
    assert page.selected() is None
    page.js("showAll()")
    page.until("view.to === 10 && view.from === 0")
    x, y = page.place("writer")
    touch("touchStart", (x, y))
    touch("touchEnd")
    page.until("selected && selected.name === 'writer'")
    assert end > start


def test_no_motion_for_those_who_want_none(show: Callable[..., Shown], small: dict[str, Any]) -> None:
    """Where the reader's system asks for less motion, a zoom is there at once."""
    page = show(small)
    calm = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": calm})
    assert page.js("zoom(0.5); return view.to - view.from") == pytest.approx(5)


@pytest.mark.parametrize(
    "data", [timeline(), timeline(duration=0.0), timeline(thread(0))], ids=["nothing", "no time", "one"]
)
def test_small_captures_in_the_browser(show: Callable[..., Shown], data: dict[str, Any]) -> None:
    """A capture with nothing in it, or with the main thread only, is a page that answers to keys without an error."""
    page = show(data)
    page.keys(
        Keys.ARROW_DOWN, Keys.ARROW_UP, Keys.HOME, Keys.END, "+", "-", "0", "!", "n", "p", Keys.ENTER, Keys.ESCAPE
    )
    page.get("show-table").click()
    assert page.js("return lanes.length") == len(data["threads"])


def test_what_was_left_out_is_said(show: Callable[..., Shown]) -> None:
    """A capture that reached its limit says above the lanes how many threads are missing, and how many crashed."""
    page = show(timeline(thread(0), thread(1), left_out=1204, limit=1, summary={"crashed": 3}))
    told = page.get("left-out").text
    assert told.startswith("1,204 more threads are not shown: of those that ended, the capture has kept 1.")
    assert told.endswith("Of those that are missing, 3 crashed.")


def test_a_hook_of_a_thread_that_was_left_out(show: Callable[..., Shown]) -> None:
    """A hook that failed in a thread that isn't in the picture is listed all the same."""
    page = show(timeline(thread(0), hooks=(failed(1, 2.0, thread=None),)))
    assert "a thread that was left out" in page.get("panel").text
