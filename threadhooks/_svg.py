"""A timeline as one still image, for documents: as wide as a page, and of a size that doesn't grow with the capture.

Where a group has more lanes or lives than can be told apart at that width, it is drawn as how many of it were alive;
when there are more rows than a page holds, the rest is counted, not drawn.
"""

from __future__ import annotations

import html
import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ._lanes import Lane, Thread, alive, begin, end, lanes, look, never_ended, state

WIDTH, GUTTER, EDGE = 960, 220, 24  # pixels: the image, the column of names, the margins
LEFT, RIGHT = GUTTER + EDGE, WIDTH - EDGE - 10
ROWS = 40  # as many are drawn
APART = (4, 100)  # lanes and lives of a group that are still drawn one by one

# The fill and the edge of each kind, on a light page and on a dark one: the colours of the page (page.css).
COLOURS = {
    "ended": ("#c9dafa", "#3b6fd8", "#27437d", "#7aa5f8"),
    "main": ("#dde1e8", "#465162", "#39414d", "#a7b2c2"),
    "daemon": ("#d3e8ea", "#2b7d87", "#1d464c", "#5fb9c4"),
    "foreign": ("#e6dcfa", "#7449c4", "#42306b", "#b596f5"),
    "crashed": ("#ffcfcb", "#cc1f2d", "#6e2028", "#ff7b7b"),
    "leaked": ("#ffdf9f", "#a85b00", "#644105", "#f2ab45"),
    "hook": ("#b01f91", "#b01f91", "#f07bd6", "#f07bd6"),
}
# Classes, not variables: not all that shows an image knows these.
STYLE = """
.tht text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;fill:#15181d}
.tht .small{font-size:10.5px}.tht .program{font:600 16px ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace}
.tht .quiet{font-size:11px;fill:#5a6472}.tht .main-name{font-weight:600}
.tht .end{text-anchor:end}.tht .mid{text-anchor:middle}
.tht .page{fill:#fff}.tht .mark{stroke:#fff}.tht .grid{stroke:#e2e5ea;fill:none}.tht .open{fill:none;stroke-width:2}
.tht .dashed{stroke-dasharray:4 3}
@media (prefers-color-scheme:dark){
.tht text{fill:#e8ebf0}.tht .quiet{fill:#98a2b0}.tht .page{fill:#111418}.tht .mark{stroke:#111418}
.tht .grid{stroke:#2a3039}
%s}"""


def svg(data: Mapping[str, Any]) -> str:
    """Return a timeline as an SVG document, which follows the reader's choice of light or dark."""
    drawing = _Drawing(data)
    drawing.head()
    drawing.body()
    drawing.legend()
    return drawing.document()


class _Drawing:
    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data
        self.program = data["program"] or "an interactive session"
        self.threads: Sequence[Thread] = data["threads"]
        self.duration = max(float(data["duration"]), 1e-6)
        self.alive = alive(self.threads)
        self.hooks: dict[int, list[Mapping[str, Any]]] = {}
        for hook in data["hooks"]:
            self.hooks.setdefault(hook["thread"], []).append(hook)
        self.parts: list[str] = []
        self.marks: dict[tuple[str, int, int], str] = {}  # one for those that would cover each other
        self.y = 0.0  # the next free line

    def x(self, time: float) -> float:
        return round(LEFT + min(max(time / self.duration, 0.0), 1.0) * (RIGHT - LEFT), 1)

    def add(self, part: str) -> None:
        self.parts.append(part)

    def text(self, x: float, y: float, words: str, kind: str = "") -> None:
        self.add(f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(words)}</text>')

    def head(self) -> None:
        self.text(EDGE, 34, short(self.program, 90), "program")
        most = max((count for _, count in self.alive), default=0)
        hooks, left_out = len(self.data["hooks"]), self.data["left_out"]
        facts = [
            counted(sum(not thread["main"] for thread in self.threads), "thread") + " besides main",
            f"{self.data.get('summary', {}).get('most_at_once', most):,} at one time",
            *trouble(self.threads),
            *([f"{counted(hooks, 'hook')} failed"] if hooks else []),
            *([f"{counted(left_out, 'more thread')} left out"] if left_out else []),
            f"{in_words(self.duration)} of Python {self.data['python']}",
        ]
        self.text(EDGE, 54, " · ".join(facts), "quiet")
        self.text(EDGE, 92, "Alive")
        self.text(EDGE, 108, f"at most {most:,}", "quiet")
        self.add(f'<path class="ended ended-line" d="{self.area(self.alive, 72, 112)}"/>')
        self.y = 140
        step = tick_step(self.duration)
        for index in range(int(self.duration / step + 1e-9) + 1):
            self.text(self.x(index * step), 130, in_words(index * step) if index else "0", "quiet mid")

    def area(self, steps: Iterable[tuple[float, int]], top: float, base: float) -> str:
        """The path of how many were alive. Of what happens within a pixel the most is drawn."""
        steps = list(steps)
        most = max((count for _, count in steps), default=0) or 1

        def y(count: int) -> str:
            return f"{base - (base - top) * count / most:g}"

        path, last = f"M{LEFT},{base:g}", 0
        for column, within in itertools.groupby(steps, key=lambda step: round(self.x(step[0]))):
            counts = [count for _, count in within]
            peak = max(last, *counts)
            last = counts[-1]
            path += f"H{column}V{y(peak)}" + (f"H{column + 1}V{y(last)}" if last != peak else "")
        return f"{path}H{RIGHT}V{base:g}Z"

    def body(self) -> None:
        rows = 0
        left_out: list[Thread] = []
        for group in grouped(lanes(self.data)):
            apart = len(group) <= APART[0] and group[0].size <= APART[1]
            rows += len(group) if apart else 2
            if rows > ROWS:
                left_out += (thread for lane in group for thread in lane.threads)
            elif apart:
                for lane in group:
                    self.lane(lane)
            else:
                self.band(group)
        if left_out:
            words = ", ".join([f"{counted(len(left_out), 'more thread')} not drawn here", *trouble(left_out)])
            self.text(EDGE, self.y + 16, words, "quiet")
            self.y += 24
        if not self.threads:
            self.text(WIDTH / 2, self.y + 20, "No thread was seen.", "quiet mid")
            self.y += 32

    def name(self, lane: Lane, y: float) -> None:
        indent = EDGE + 14 * min(lane.depth, 6)
        single = lane.threads[0] if lane.size == 1 else None
        kinds = [kind for kind in ("foreign", "daemon") if single and single[kind]]
        tag = kinds[0] if kinds else "" if single else f"\N{MULTIPLICATION SIGN}{lane.size:,}"
        # An image can't measure text: 6.6 pixels a letter is an estimate on the safe side.
        label = short(lane.label, int((GUTTER - indent - 7 * len(tag) - 8) / 6.6))
        self.text(indent, y, label, "main-name" if single and single["main"] else "")
        self.text(GUTTER, y, tag, "quiet end")

    def lane(self, lane: Lane) -> None:
        y = self.y + 4
        if lane.label is not None:
            self.name(lane, y + 11)
        for thread in lane.threads:
            left, right = self.x(begin(thread)), self.x(end(thread, self.duration))
            kind, width = look(thread), max(right - left, 1.5)
            life = in_words(end(thread, self.duration) - begin(thread))
            words = f"{short(thread['name'], 200)}: {state(thread)}, {life}"
            box = f'x="{left:g}" y="{y:g}" height="14"'
            self.add(f'<g><title>{escape(words)}</title><rect class="{kind}" {box} width="{width:g}"/>')
            if kind == "foreign":
                self.add(
                    f'<path class="dashed foreign-line" fill="none" d="M{left:g},{y:g}h{width:g}m0,14h-{width:g}"/>'
                )
            if thread["started"] is not None:
                self.add(f'<rect class="{kind}-edge" {box} width="{min(3.0, width):g}"/>')
            self.add("</g>")
            if lane.size == 1:
                self.words(thread, left, left + width, y + 11)
            self.mark(thread, y + 7)
        self.y += 22

    def words(self, thread: Thread, left: float, right: float, y: float) -> None:
        """How long it lived, and what came between: in its life if that has room, beside it otherwise."""
        words = "" if thread["main"] else in_words(end(thread, self.duration) - begin(thread))
        if thread["exception"]:
            words += f" · {thread['exception']['type']}"
        elif never_ended(thread):
            words += " · never ended"
        needed = 6.2 * len(words) + 8
        beside = 13 if thread["exception"] or thread["ended"] is None else 6
        if needed <= right - left - 8:
            self.text(left + 8, y, words, "small")
        elif right + beside + needed < WIDTH - 8:
            self.text(right + beside, y, words, "small")
        elif left - needed > LEFT:
            self.text(left - 6, y, words, "small end")

    def band(self, group: Sequence[Lane]) -> None:
        threads = sorted((thread for lane in group for thread in lane.threads), key=begin)
        steps = alive(threads)
        self.name(group[0], self.y + 15)
        most = max((count for _, count in steps), default=0)
        self.text(EDGE + 14 * min(group[0].depth, 6), self.y + 31, f"at most {most:,} at one time", "quiet")
        kinds = [look(thread) for thread in threads]
        usual = max(("ended", "daemon", "foreign"), key=kinds.count)
        self.add(f'<path class="{usual} {usual}-line" d="{self.area(steps, self.y + 4, self.y + 38)}"/>')
        for thread in threads:
            self.mark(thread, self.y + 30)
        self.y += 46

    def mark(self, thread: Thread, y: float) -> None:
        right = self.x(end(thread, self.duration))
        kind = look(thread)
        if thread["ended"] is None:
            self.marked("open", right, y, _arrows(right + 1, y, kind, twice=not thread["main"]))
        if thread["exception"]:
            self.marked("crashed", right, y, _cross(right, y))
        for hook in self.hooks.get(thread["number"], ()):
            x = self.x(hook["time"])
            x -= 14 if thread["exception"] and abs(x - right) < 12 else 0
            self.marked("hook", x, y, _diamond(x, y))

    def marked(self, kind: str, x: float, y: float, part: str) -> None:
        self.marks.setdefault((kind, round(x / 8), round(y)), part)

    def legend(self) -> None:
        kinds = {look(thread) for thread in self.threads}
        x, y = EDGE + 0.0, self.y + 26
        for kind, words in (
            ("main", "main"), ("ended", "ended"), ("daemon", "daemon"), ("foreign", "foreign"),
            ("crashed", "crashed"), ("leaked", "never ended"),
        ):  # fmt: skip
            if kind not in kinds:
                continue
            self.add(f'<rect class="{kind}" x="{x:g}" y="{y - 10:g}" width="22" height="12"/>')
            self.add(f'<rect class="{kind}-edge" x="{x:g}" y="{y - 10:g}" width="3" height="12"/>')
            if kind == "crashed":
                self.marks["legend", 0, 0] = _cross(x + 22, y - 4)
            if kind == "leaked":
                self.marks["legend", 1, 0] = _arrows(x + 22, y - 4, kind, twice=True)
            x += 38
            self.text(x, y, words, "quiet")
            x += 7 * len(words) + 22
        if self.data["hooks"]:
            self.marks["legend", 2, 0] = _diamond(x + 6, y - 4)
            self.text(x + 18, y, "hook failed", "quiet")
        self.y = y + 18

    def document(self) -> str:
        height = self.y
        step = tick_step(self.duration)
        grid = "".join(
            f"M{self.x(index * step):g},134V{height - 50:g}" for index in range(int(self.duration / step + 1e-9) + 1)
        )
        style = "".join(_rules(light=True)) + STYLE % "".join(_rules(light=False))
        title = escape(f"Threads of {self.program}")
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="tht" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" '
            f'height="{height:g}" role="img" aria-label="{title}"><title>{title}</title><style>{style}</style>'
            f'<rect class="page" width="{WIDTH}" height="{height:g}" rx="8"/><path class="grid" d="{grid}"/>'
            f"{''.join(self.parts)}{''.join(self.marks.values())}</svg>\n"
        )


def grouped(found: Iterable[Lane]) -> Iterator[list[Lane]]:
    """Lanes of one group together."""
    group: list[Lane] = []
    for lane in found:
        if lane.label is not None and group:
            yield group
            group = []
        group.append(lane)
    if group:
        yield group


def _rules(*, light: bool) -> Iterator[str]:
    for kind, colours in COLOURS.items():
        fill, edge = colours[:2] if light else colours[2:]
        yield f".tht .{kind}{{fill:{fill}}}.tht .{kind}-edge{{fill:{edge}}}"
        yield f".tht .{kind}-line{{stroke:{edge}}}"


def _cross(x: float, y: float) -> str:
    return (
        f'<circle class="crashed-edge mark" cx="{x:g}" cy="{y:g}" r="6.5"/>'
        f'<path class="mark" stroke-width="1.7" d="M{x - 2.7:g},{y - 2.7:g}l5.4,5.4m0,-5.4l-5.4,5.4"/>'
    )


def _diamond(x: float, y: float) -> str:
    return (
        f'<path class="hook mark" d="M{x:g},{y - 7:g}l7,7l-7,7l-7,-7z"/>'
        f'<path class="mark" stroke-width="1.5" d="M{x:g},{y - 3:g}v3.6m0,1.8v.6"/>'
    )


def _arrows(x: float, y: float, kind: str, *, twice: bool) -> str:
    """Where the end would be; twice, unless it is the main thread."""
    second = "m4.5,-10l5,5l-5,5" if twice else ""
    return f'<path class="open {kind}-line" d="M{x:g},{y - 5:g}l5,5l-5,5{second}"/>'


def tick_step(duration: float) -> float:
    """A round number of seconds that goes into `duration` four to nine times or so."""
    least = duration / 8
    rounded = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
    if least > 1:
        return next((float(step) for step in rounded if step >= least), math.ceil(least / 86400) * 86400.0)
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * 0.999)


def in_words(seconds: float) -> str:
    """A length of time, to three digits."""
    for below, unit, factor in ((0.9995e-3, "µs", 1e6), (0.9995, "ms", 1e3), (59.95, "s", 1.0)):
        if seconds < below:
            return f"{seconds * factor:.3g} {unit}"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s" if rest else f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest:02} min" if rest else f"{hours} h"


def trouble(threads: Iterable[Thread]) -> list[str]:
    """How many crashed, and how many never ended: what isn't zero."""
    threads = list(threads)
    crashed = sum(state(thread) == "crashed" for thread in threads)
    left = sum(never_ended(thread) for thread in threads)
    return [f"{count:,} {words}" for count, words in ((crashed, "crashed"), (left, "never ended")) if count]


def short(text: object, letters: int) -> str:
    """Text of no more letters than that."""
    words = str(text)
    return words if len(words) <= letters else words[: letters - 1] + "…"


def counted(number: int, thing: str) -> str:
    """A number of things."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def escape(text: str) -> str:
    """Text for markup. What XML can't have in any form is replaced: control characters, halves of surrogate pairs."""
    return html.escape(re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text))
