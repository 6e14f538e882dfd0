"""What the threads of a program did, and when: as a picture, or to be asked.

Guarantees:

- A `Timeline` sees every `threading.Thread` that is started while it is open, and every thread whose hooks run then. It
  sees all that `threading.enumerate()` has at its beginning, and the foreign ones that it has at its end.
- It keeps no thread, frame, exception, target or argument alive. Its memory is bounded by `limit` and by the number of
  threads that are alive; what is left out, it counts.
- Any number of them may be open at a time.

What it does not promise:

- A thread that is older than the capture, or foreign, and that has no hooks, ends unnoticed. If it is gone by the end
  of the capture, it is said to have ended then.
- A thread whose class does not let us put its `run` is seen only as long as it runs.
- What happens after `run()` in a thread without hooks, such as the destruction of thread-locals, does not count as its
  life: to wait for that would cost more than the rest of the capture.
- A forked child has a copy, which goes on there without the parent's other threads.
- On a free-threaded build, the line that a thread executes is known of the hundred newest threads only.
"""

from __future__ import annotations

import html
import os
import sys
import threading
from pathlib import Path
from time import perf_counter
from types import CodeType, TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from ._capture import Capture, LeftOut, Record
from ._saving import render, suffix
from ._summary import counts
from ._threads import ident_of, is_foreign
from ._whereabouts import Step, innermost, stacks

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ("Failure", "Life", "Place", "Raised", "Timeline")


class Place(NamedTuple):
    """A line of a program."""

    file: str
    """The path of its file, as the interpreter gives it."""
    line: int
    """Its number in the file. The first line is 1."""
    function: str
    """The qualified name of the function that it is in. On Python 3.10, only the name."""


class Raised(NamedTuple):
    """What `run()` raised."""

    type: str
    """The name of its class, with the module unless that is `builtins`."""
    message: str
    """Its message, at most 500 characters of it."""
    file: str
    """The file in which it was raised. If that is not known, this and `function` are empty, and `line` is 0."""
    line: int
    """The line that raised it."""
    function: str
    """The function that raised it."""


class Life(NamedTuple):
    """What is known about one thread. Times are in seconds since the capture began."""

    number: int
    """Its number in this capture, in the order in which threads were first seen. The main thread is 0."""
    name: str
    """Its name; the last one, if it was renamed."""
    target: str | None
    """The function that it runs, with its module, if that is known."""
    ident: int
    """Its `threading.get_ident()`, or 0 until it has one."""
    native_id: int | None
    """Its `threading.get_native_id()`, if that is known."""
    main: bool
    """Whether it is the main thread."""
    daemon: bool
    """Whether it is a daemon."""
    foreign: bool
    """Whether it was started by C code or `_thread`, not by `threading`."""
    started: float | None
    """When `start()` was called; for a foreign thread, when it was attached. `None` if that was before the capture."""
    run_ended: float | None
    """When its `run()` had returned or raised. `None` if it has not, or if that was not noticed."""
    ended: float | None
    """When its hooks, too, had run. `None` if it has not ended."""
    parent: int | None
    """The number of the thread that started it. `None` if that is not known, or was left out because of `limit`."""
    started_at: Place | None
    """The line that called `start()`; for a pool's worker, the line that made the pool start it."""
    now: Place | None
    """Its innermost line outside the standard library, now or when the capture ended."""
    exception: Raised | None
    """What `run()` raised. `SystemExit` does not count, because `threading` ignores it."""


class Failure(NamedTuple):
    """A hook that has failed."""

    thread: int | None
    """The number of the thread in which it failed. `None` if that thread was left out because of `limit`."""
    time: float
    """When it failed, in seconds since the capture began."""
    name: str
    """The name of the hook, with its module."""
    owner: str | None
    """The name of the plugin that it belongs to, if any."""
    error: str
    """The class of the exception that it raised, and its message."""


class _Seen(NamedTuple):
    duration: float
    lives: tuple[Life, ...]
    failures: tuple[Failure, ...]
    left_out: LeftOut = LeftOut(0, 0, 0, 0)


class Timeline:
    """Capture what the threads of this process do, for the length of a ``with`` block.

    Every `threading.Thread` that is started during the block announces itself, as under `install`. Of the threads that
    have ended, the first `limit` are kept, or all of them if it is `None`. Later ones are shown while they run, and
    only counted after that, in `left_out`.

    Raises `TypeError` if `limit` is not an integer, and `ValueError` if it is less than 1. A second ``with`` block
    raises `RuntimeError`.
    """

    def __init__(self, *, limit: int | None = 10_000) -> None:
        if limit is not None:
            if not isinstance(limit, int):
                raise TypeError(f"limit must be an integer or None, not {limit!r}")
            if limit < 1:
                raise ValueError(f"limit must be at least 1, not {limit}")
        self._limit = limit
        self._program = ""
        self._capture = Capture(sys.maxsize if limit is None else limit)
        self._numbered = 1  # the main thread's number is 0
        self._entered = False
        self._final: _Seen | None = None

    def __enter__(self) -> Self:
        if self._entered:
            raise RuntimeError("a Timeline captures only once: make another one")
        self._entered = True
        if sys.argv:
            self._program = " ".join([os.path.basename(sys.argv[0]), *sys.argv[1:]])
        self._capture.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        with self._capture.looking:  # or else another thread would look at what is emptied here
            if self._final is not None:
                return
            final = self._look()  # before we stop: a thread that ends after that is noted by nobody
            self._capture.stop()
            self._final = final
            self._capture.live, self._capture.ended, self._capture.failures = {}, [], []

    def __repr__(self) -> str:
        state = "not begun" if not self._entered else "open" if self._final is None else "ended"
        return f"<Timeline of {len(self.threads)} threads, {state}>"

    @property
    def threads(self) -> tuple[Life, ...]:
        """The threads, in the order in which they were first seen. During the block, as they are now."""
        return self._seen().lives

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The hooks that have failed, oldest first; at most `limit` of them."""
        return self._seen().failures

    @property
    def left_out(self) -> int:
        """How many threads that have ended are missing from `threads`, because of `limit`."""
        return self._capture.left_out.threads if self._final is None else self._final.left_out.threads

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain dicts and lists, for `json` or a table. `save` makes its files from this.

        ``threads`` and ``hooks`` have what `threads` and `failures` have. ``summary`` counts all threads except the
        main one, including those that were left out.
        """
        seen = self._seen()
        capture = self._capture
        threads = [_as_dict(life) for life in seen.lives]
        summary = counts(threads, seen.duration)
        summary["started"] += seen.left_out.threads
        summary["ended"] += seen.left_out.threads
        summary["crashed"] += seen.left_out.crashed
        summary["most_at_once"] = max(summary["most_at_once"], seen.left_out.most_at_once)
        summary["hooks_failed"] = len(seen.failures) + seen.left_out.failures
        return {
            "format": "threadhooks-timeline",
            "version": 1,
            "program": self._program,
            "python": sys.version.split()[0].rstrip("+"),
            "pid": os.getpid(),
            "began": capture.began,
            "duration": seen.duration,
            "limit": self._limit,
            "left_out": seen.left_out.threads,
            "summary": summary,
            "threads": threads,
            "hooks": [failure._asdict() for failure in seen.failures],
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the capture to `path`. The suffix says what it becomes: a page, an image for documents, or a trace.

        ``.html`` is one file that needs no others, ``.svg`` is an image, and ``.json`` is in the Trace Event Format,
        which Perfetto opens. Raises `ValueError` for any other suffix, and `OSError` if the file can't be written.
        """
        path = Path(path)
        form = suffix(path)
        # Half of a surrogate pair, in a name for instance, has no encoding.
        path.write_text(render(form, self.as_dict()), encoding="utf-8", errors="replace")

    def _repr_html_(self) -> str:
        # In a frame of its own, since the page's styles and scripts must not meet the notebook's.
        page = html.escape(render(".html", self.as_dict()))
        return f'<iframe srcdoc="{page}" title="Timeline of threads" style="width:100%;height:520px;border:0"></iframe>'

    def _seen(self) -> _Seen:
        with self._capture.looking:
            return self._final or (self._look() if self._entered else _Seen(0.0, (), ()))

    def _look(self) -> _Seen:  # by one thread at a time: it gives numbers
        capture = self._capture
        capture.meet(foreign=True)
        with capture.lock:  # so that each thread that ends just now is in one of these
            live, ended = list(capture.live.items()), list(capture.ended)
            failed, left_out = list(capture.failures), capture.left_out
        alive = {id(thread): thread for thread in threading.enumerate()}
        now = perf_counter()
        records, ends, places = _sort_out(live, ended, alive, stacks(set(sys._current_frames())), now)
        main = capture.live.get(id(threading.main_thread()))
        records.sort(key=lambda record: (record.number is None, record.number, record.started or 0.0))
        for record in records:
            if record.number is None:
                record.number = 0 if record is main else self._numbered
                self._numbered += record is not main
        records.sort(key=lambda record: record.number or 0)
        numbers = {record: record.number for record in records}
        lines: dict[tuple[CodeType, int], Place] = {}
        lives = []
        for record in records:
            started_at = None
            if record.code is not None:
                key = record.code, record.lasti
                started_at = lines.get(key) or lines.setdefault(key, _place(*key))
            lives.append(
                Life(
                    number=record.number or 0,
                    name=record.name,
                    target=None if record.target is None else ".".join(str(part) for part in record.target if part),
                    ident=record.ident,
                    native_id=record.native_id,
                    main=record is main,
                    daemon=record.daemon,
                    foreign=record.foreign,
                    started=self._since(record.started),
                    run_ended=self._since(record.run_ended),
                    ended=self._since(ends.get(record)),
                    parent=None if record.parent is None else numbers.get(record.parent),
                    started_at=started_at,
                    now=places.get(record),
                    exception=None if record.exception is None else _raised(*record.exception),
                )
            )
        failures = (
            Failure(None if record is None else numbers.get(record), when - capture.zero, name, owner, error)
            for record, when, name, owner, error in failed
        )
        return _Seen(now - capture.zero, tuple(lives), tuple(failures), left_out)

    def _since(self, moment: float | None) -> float | None:
        return None if moment is None else max(0.0, moment - self._capture.zero)


def _sort_out(
    live: list[tuple[int, Record]],
    ended: list[Record],
    alive: dict[int, threading.Thread],
    steps: dict[int, list[Step]],
    now: float,
) -> tuple[list[Record], dict[Record, float | None], dict[Record, Place | None]]:
    """The records of the threads that were there; when those that have ended did; and where the others are."""
    ends: dict[Record, float | None] = {record: record.ended for record in ended}
    places: dict[Record, Place | None] = {}
    for key, record in live:
        thread = alive.get(key)
        if is_foreign(thread) and ident_of(thread) not in steps:
            thread = None  # up to 3.12, threading.enumerate() has it for ever
        if record.ended is not None:  # just now
            ends[record] = record.ended
        elif thread is not None:
            record.describe(thread)
            places[record] = _here(steps.get(record.ident))
        elif record.run_ended is not None:  # its hooks are being run, or it could not be attached
            executed = steps.get(record.ident)
            if executed is None:
                ends[record] = record.run_ended
            else:
                places[record] = _here(executed)
        elif record.started is None:  # it has ended unnoticed
            ends[record] = now
        # Or else it could not be started, or is just about to be.
    return list({**ends, **places}), ends, places


def _as_dict(life: Life) -> dict[str, Any]:
    parts = life._asdict()
    return {key: value._asdict() if isinstance(value, (Place, Raised)) else value for key, value in parts.items()}


def _place(code: CodeType, lasti: int) -> Place:
    line = next((line for start, end, line in code.co_lines() if start <= lasti < end and line), code.co_firstlineno)
    return Place(code.co_filename, line, getattr(code, "co_qualname", code.co_name))


def _here(steps: list[Step] | None) -> Place | None:
    """The innermost line outside the standard library, since what waits there does so for somebody."""
    if not steps:
        return None
    step = innermost(steps, sys.stdlib_module_names)
    return Place(step.file, step.line, step.function)


def _raised(name: str, message: str, code: CodeType | None, lasti: int) -> Raised:
    return Raised(name, message, *(_place(code, lasti) if code is not None else ("", 0, "")))
