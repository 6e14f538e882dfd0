"""The command: measures every row, and prints the table."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .measuring import Result, Sizes, compare
from .worker import ROWS

sys.path.insert(0, str(Path(__file__).parents[1]))  # for what tests share, whatever the name of this package is
from progress import show

HEAD = ("what", "compared with", "target", "ratio", "quartiles", "reached", "ours", "theirs")


def cells(result: Result) -> tuple[str, ...]:
    sign = {"speed": "as fast", "cost": "the cost", "throughput": "the throughput"}[result.kind]
    low, high = result.quartiles
    return (
        result.what, result.peer, result.target, f"{result.ratio:.2f} times {sign}", f"{low:.2f} to {high:.2f}",
        {True: "yes", False: "NO", None: ""}[result.reached],
        f"{result.ours:,.4g} {result.unit}", f"{result.theirs:,.4g} {result.unit}",
    )  # fmt: skip


def line(texts: tuple[str, ...]) -> str:
    return f"| {' | '.join(texts)} |"


def about(sizes: Sizes) -> dict[str, Any]:
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    return {
        "python": platform.python_version(),
        "free_threaded": not gil,
        "platform": platform.platform(),
        "versions": {name: version(name) for name in ("threadhooks", "threadref", "blinker")},
        "sizes": sizes._asdict(),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    usual = Sizes()
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--only", metavar="NAME", help="measure only the rows whose name begins so")
    parser.add_argument("--rounds", type=int, default=usual.rounds, help="how often, %(default)s times as a rule")
    parser.add_argument("--batch", type=int, default=usual.batch, help="how many registrations in one sample")
    parser.add_argument("--attached", type=int, default=usual.attached, help="how many threads make a crowd")
    options = parser.parse_args(argv)
    sizes = Sizes(options.rounds, options.batch, options.attached)
    rows = [row for row in ROWS if row.name.startswith(options.only or "")]
    if not rows or min(sizes) < 1:
        parser.error("nothing to measure; the rows are " + ", ".join(row.name for row in ROWS))

    results = []
    facts = about(sizes)
    if not options.json:
        python = f"Python {facts['python']}{' free-threaded' if facts['free_threaded'] else ''}"
        print(python, facts["platform"], *map(" ".join, facts["versions"].items()), f"{sizes.rounds} rounds", sep=", ")
        print()
        print(line(HEAD), line(("---",) * len(HEAD)), sep="\n")
    status = 0
    try:
        for number, row in enumerate(rows, 1):
            said = f"row {number} of {len(rows)}, {row.name}: round {{}} of {sizes.rounds}"
            result = compare(row, sizes, lambda rounds, said=said: show(said.format(rounds)))  # type: ignore[misc]
            show()
            results.append(result)
            if not options.json:
                print(line(cells(result)), flush=True)
    except KeyboardInterrupt:
        show()
        print(f"interrupted: {len(results)} of {len(rows)} rows are measured", file=sys.stderr)
        status = 130
    if options.json:
        print(json.dumps({**facts, "rows": [result._asdict() for result in results]}, indent=2, ensure_ascii=False))
    return status


if __name__ == "__main__":
    raise SystemExit(main())
