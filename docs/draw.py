"""Draw a thread's life, as the first page and README show it: ``python docs/draw.py`` writes it to ``docs/_static``.

Four SVG files, wide for a screen and narrow for a phone, each for a light and for a dark page; the HTML that shows the
right one of them on a page of the documentation; and plain text for where a picture can't be shown.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

TITLE = "A thread's life"
SUMMARY = (
    "start() begins the thread, which sends thread_started before run(). At the end of run(), early cleanups run and "
    "thread_exiting is sent: thread-locals, context variables and current_thread() are all there. At thread teardown, "
    "cleanups run and thread_exited is sent: thread-locals are gone, current_thread() is right. Then join() returns."
)


class Moment(NamedTuple):
    """A stretch of a thread's life."""

    name: str
    where: str  # in which threads it comes
    cleanups: list[str]  # that run then, or are registered
    signal: str  # that is sent after them
    colour: str


MOMENTS = [
    Moment("before run()", "", [], "thread_started", "announced"),
    Moment("run()", "your code registers", ["per_thread", "register", "register_early", "threadref"], "", "code"),
    Moment("end of run()", "cleanups, last in, first out", ["register_early", "per_thread(early=True)"],
           "thread_exiting", "announced"),
    Moment("thread teardown", "cleanups, last in, first out", ["register", "per_thread", "threadref"],
           "thread_exited", "attached"),
]  # fmt: skip

# What is there, from the first moment to this one; and to which it is there on some versions alone
THERE = [
    ("current_thread()", 3, 3, ""),
    ("thread-locals", 2, 2, ""),
    ("context variables", 2, 3, "up to Python 3.13"),
]

LEGEND = [
    ("announced", "under install() or announced()"),
    ("attached", "any thread that registers or attaches"),
    ("there", "still there"),
]

PALETTES = {
    "light": {
        "text": "#1f2328", "muted": "#57606a", "line": "#8c959f", "on": "#ffffff",
        "announced": "#0550ae", "announced-fill": "#ddf4ff", "attached": "#953800", "attached-fill": "#fff1e5",
        "code": "#57606a", "code-fill": "#f6f8fa", "there-fill": "#dafbe1", "there": "#1a7f37",
    },
    "dark": {
        "text": "#e6edf3", "muted": "#9ea7b3", "line": "#6e7681", "on": "#0d1117",
        "announced": "#79c0ff", "announced-fill": "#0c2d6b", "attached": "#ffa657", "attached-fill": "#4a2208",
        "code": "#9ea7b3", "code-fill": "#21262d", "there-fill": "#0f3d1f", "there": "#56d364",
    },
}  # fmt: skip


@dataclass
class Drawing:
    """An SVG image of this size, to which shapes are added."""

    width: int
    height: int
    palette: dict[str, str]

    def __post_init__(self) -> None:
        self.shapes: list[str] = []

    def text(self, x: float, y: float, text: str, colour: str = "text", kind: str = "", anchor: str = "start") -> None:
        """Write one line; of the classes ``mono``, ``bold`` and ``small``, `kind` names those that apply."""
        css = f' class="{kind}"' if kind else ""
        self.shapes.append(
            f'<text x="{x:g}" y="{y:g}"{css} fill="{self.palette[colour]}" text-anchor="{anchor}">{escape(text)}</text>'
        )

    def upright(self, x: float, y: float, text: str, kind: str = "") -> None:
        """Write one line from the bottom up, starting there."""
        self.text(x, y, text, "text", kind)
        self.shapes[-1] = self.shapes[-1].replace("<text ", f'<text transform="rotate(-90 {x:g} {y:g})" ', 1)

    def box(self, x: float, y: float, w: float, h: float, fill: str, stroke: str = "", dashed: bool = False) -> None:
        """Draw a rectangle with round corners."""
        inside = self.palette[fill] if fill else "none"
        line = f' stroke="{self.palette[stroke]}"' if stroke else ""
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        self.shapes.append(
            f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="6" fill="{inside}"{line}{dash}/>'
        )

    def line(self, *points: float, dashed: bool = False, arrow: bool = False) -> None:
        """Draw a line through the points, given as x, y, x, y and so on."""
        path = "M" + "L".join(f"{x:g} {y:g}" for x, y in zip(points[::2], points[1::2], strict=True))
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        tip = ' marker-end="url(#tip)"' if arrow else ""
        colour = self.palette["line"]
        self.shapes.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5"{dash}{tip}/>')

    def moment(self, moment: Moment, x: float, y: float, w: float, h: float) -> None:
        """Draw one stretch of the life: its name, the cleanups, and below them the signal."""
        self.box(x, y, w, h, f"{moment.colour}-fill", moment.colour)
        self.text(x + 12, y + 23, moment.name, "text", "bold")
        if moment.where:
            self.text(x + 12, y + 43, moment.where, "muted", "small")
        for number, name in enumerate(moment.cleanups):
            self.text(x + 12, y + 64 + 19 * number, name, "text", "mono")
        if moment.signal:
            self.text(x + 12, y + h - 43, "signal", "muted", "small")
            self.box(x + 8, y + h - 36, w - 16, 28, moment.colour)
            self.text(x + w / 2, y + h - 17, moment.signal, "on", "mono bold", "middle")

    def svg(self) -> str:
        """The image, as the text of a file."""
        tip = f'<path d="M0 0L8 4L0 8z" fill="{self.palette["line"]}"/>'
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
                f'width="{self.width}" height="{self.height}" role="img" aria-labelledby="title summary">',
                f'<title id="title">{TITLE}</title>',
                f'<desc id="summary">{SUMMARY}</desc>',
                "<style>text{font:14px system-ui,sans-serif}.small{font-size:12.5px}.bold{font-weight:600}"
                ".mono{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:13px}</style>",
                '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
                f'orient="auto">{tip}</marker></defs>',
                *self.shapes,
                "</svg>\n",
            ]
        )


def draw_wide(palette: dict[str, str]) -> Drawing:
    """Time goes from left to right; what is there is drawn below, as bars."""
    drawing = Drawing(776, 400, palette)
    lefts, rights = (4, 152, 312, 546), (142, 302, 536, 772)
    top, height = 66, 176
    drawing.text(4, 20, "start()", "text", "mono bold")
    drawing.line(28, 28, 28, top - 4, arrow=True)
    drawing.line(70, 15, 560, 15, dashed=True)
    drawing.text(572, 20, "join()", "text", "mono bold")
    drawing.text(626, 20, "waits, and returns", "muted")
    drawing.line(760, top - 4, 760, 30, arrow=True)
    for moment, left, right in zip(MOMENTS, lefts, rights, strict=True):
        drawing.moment(moment, left, top, right - left, height)
    y = top + height + 14
    for name, last, perhaps, when in THERE:
        drawing.box(4, y, rights[last] - 4, 26, "there-fill", "there")
        drawing.text(16, y + 18, name, "text", "mono" if name.endswith(")") else "")
        if perhaps > last:
            drawing.box(lefts[perhaps], y, rights[perhaps] - lefts[perhaps], 26, "", "there", dashed=True)
            drawing.text(lefts[perhaps] + 12, y + 18, when, "muted")
        elif last < len(MOMENTS) - 1:
            drawing.text(lefts[last + 1] + 12, y + 18, "gone", "muted")
        y += 32
    draw_legend(drawing, [(4, y + 4), (312, y + 4), (664, y + 4)])
    return drawing


def draw_narrow(palette: dict[str, str]) -> Drawing:
    """Time goes down; what is there is drawn beside, as bars."""
    drawing = Drawing(360, 776, palette)
    left, width = 4, 228
    bars = [248 + 38 * number for number in range(len(THERE))]
    tops, heights = (44, 146, 304, 472), (86, 142, 152, 168)
    drawing.text(left, 20, "start()", "text", "mono bold")
    drawing.line(28, 27, 28, 40, arrow=True)
    for moment, top, height in zip(MOMENTS, tops, heights, strict=True):
        drawing.moment(moment, left, top, width, height)
    bottoms = [top + height for top, height in zip(tops, heights, strict=True)]
    drawing.line(28, bottoms[-1] + 2, 28, bottoms[-1] + 18, arrow=True)
    drawing.text(left, bottoms[-1] + 36, "join()", "text", "mono bold")
    drawing.text(left + 54, bottoms[-1] + 36, "returns", "muted")
    for x, (name, last, perhaps, when) in zip(bars, THERE, strict=True):
        drawing.box(x, tops[0], 30, bottoms[last] - tops[0], "there-fill", "there")
        drawing.upright(x + 20, tops[0] + 8 + 8.2 * len(name), name, "mono" if name.endswith(")") else "")
        if perhaps > last:
            drawing.box(x, tops[perhaps], 30, heights[perhaps], "", "there", dashed=True)
            drawing.upright(x + 20, tops[perhaps] + 8 + 7.7 * len(when), when)
        elif last < len(MOMENTS) - 1:
            drawing.upright(x + 20, tops[last + 1] + 44, "gone")
    draw_legend(drawing, [(4, bottoms[-1] + 58), (4, bottoms[-1] + 84), (4, bottoms[-1] + 110)])
    return drawing


def draw_legend(drawing: Drawing, places: list[tuple[float, float]]) -> None:
    """Say which colour is for which threads."""
    for (colour, text), (x, y) in zip(LEGEND, places, strict=True):
        drawing.box(x, y, 16, 16, f"{colour}-fill", colour)
        drawing.text(x + 24, y + 13, text, "muted", "small")


def draw_text() -> str:
    """The same as plain text, 74 columns wide."""
    lines = ["start()", "  |"]
    for moment in MOMENTS:
        threads = {"announced": "under install() or announced()", "attached": "every attached thread"}
        lines.append(f"  +- {moment.name:<18}{threads.get(moment.colour, '')}".rstrip())
        if moment.cleanups:
            lines.append(f"  |    {moment.where}:")
            lines.append(f"  |      {', '.join(moment.cleanups)}")
        if moment.signal:
            lines.append(f"  |    signal {moment.signal}")
        there = [name for name, last, _, _ in THERE if MOMENTS.index(moment) <= last]
        partly = [f"{name} ({when})" for name, last, perhaps, when in THERE if last < MOMENTS.index(moment) <= perhaps]
        if moment.colour != "code":
            lines.append(f"  |    there: {', '.join(there + partly)}")
        lines.append("  |")
    return "\n".join([*lines, "join() returns", ""])


def draw_html() -> str:
    """What shows the right file: site.css and Furo's classes hide the others."""
    lines = ['<div class="life">']
    for shape in ("wide", "narrow"):
        images = [
            f'<img class="only-{theme}" src="_static/life-{shape}-{theme}.svg" alt="{TITLE}: {SUMMARY}">'
            for theme in PALETTES
        ]
        lines.append(f'<div class="{shape}">{"".join(images)}</div>')
    return "\n".join([*lines, "</div>\n"])


def draw_all() -> dict[str, str]:
    """The text of each file, by its name."""
    files = {"life.txt": draw_text(), "life.html": draw_html()}
    for shape, draw in (("wide", draw_wide), ("narrow", draw_narrow)):
        for theme, palette in PALETTES.items():
            files[f"life-{shape}-{theme}.svg"] = draw(palette).svg()
    return files


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=Path(__file__).parent / "_static", help="the folder to write to")
    folder = parser.parse_args().to
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in draw_all().items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
