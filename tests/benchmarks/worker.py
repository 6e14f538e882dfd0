"""The process that measures: see `measuring.working`."""

from __future__ import annotations

import gc
import os
import sys

# Each adds its rows.
from . import capturing, exiting, importing, leaving, parallel, registering, sending, using  # noqa: F401
from .measuring import ROWS, Sizes


def main(name: str, *sizes: str) -> None:
    (row,) = (row for row in ROWS if row.name == name)
    with row.sides(Sizes(*map(int, sizes))) as sides:
        for side in sys.stdin:
            gc.collect()  # no sample shall pay for another's garbage
            print(getattr(sides, side.strip())(), flush=True)
    os._exit(0)  # nobody needs to see ten thousand threads off


if __name__ == "__main__":
    main(*sys.argv[1:])
