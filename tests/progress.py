"""How far a long command is, for who waits at a terminal."""

from __future__ import annotations

import sys


def show(text: str = "") -> None:
    """Say `text` on stderr in the place of what was said before, if that is a terminal; wipe it if there is none."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
        sys.stderr.flush()
