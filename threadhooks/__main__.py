"""``python -m threadhooks``: show what the threads of a program do, or what this package is for."""

from __future__ import annotations

import argparse
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    """Run the command that the command line names; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m threadhooks", description="See what the threads of a program do.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    demo = commands.add_parser("demo", help="show in fifteen seconds what this package is for")
    demo.description = "Run one program twice, without and with threadhooks, and show what becomes of its threads."
    run = commands.add_parser(
        "run",
        help="run a program, and sum up what its threads did",
        usage="%(prog)s [options] script.py [argument ...]\n       %(prog)s [options] -m module [argument ...]",
        description="Run a program unchanged. When it has ended, print to stderr how many threads it started, which of "
        "them crashed or never ended, and which hooks failed.",
        epilog="The exit status is the program's.",
    )
    run.add_argument("-m", dest="module", action="store_true", help="the program is a module, as for `python -m`")
    run.add_argument(
        "--timeline",
        type=_picture,
        metavar="FILE",
        help="draw the threads: .html is a page to explore, .svg an image, .json a trace for Perfetto",
    )
    run.add_argument(
        "--json",
        type=_file,
        metavar="FILE",
        help="write the summary and every thread as JSON to FILE (- is stdout), and nothing to stderr",
    )
    run.add_argument(
        "--limit",
        type=_positive,
        default=10_000,
        metavar="N",
        help="keep the first N threads that have ended, and only count the others (default: %(default)s)",
    )
    run.add_argument("program", help=argparse.SUPPRESS)
    run.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    # Each command is imported only when it is used: a program that we run should see as little as possible of us.
    if options.command == "run":
        from ._runner import run as run_program

        run_program(
            options.program,
            options.arguments,
            module=options.module,
            limit=options.limit,
            picture=options.timeline,
            json_to=options.json,
        )
        return 0
    if options.command == "demo":
        from ._demo import demo as show

        return show()
    parser.print_help()
    return 0


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _file(text: str) -> Path:
    path = Path(text)
    if text != "-" and not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {str(path.parent)!r}")
    return path


def _picture(text: str) -> Path:
    from ._saving import suffix

    path = _file(text)
    try:
        suffix(path)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return path


if __name__ == "__main__":
    raise SystemExit(main())
