"""The weak references in a stack: they keep nothing alive, and unwind in their place.

A reference must not be kept alive by us: if its owner drops it, its callback is not called. So it can't be an entry of
the stack, which is a dict and holds its keys. Instead, a run of references with no other registration in between shares
one entry, a *segment*. The segment has an object of its own, an *anchor*, at which the references point, and from which
the interpreter knows them. As the thread's exit begins, the anchors of all segments die together; just before, each
segment asks for the references that are still there, and calls their callbacks when its turn in the stack comes.

Nobody who reads a reference can get hold of more than the anchor. The sentinel stays out of reach.

Assumption: `weakref.getweakrefs` lists references of a class of ours from the newest to the oldest.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from operator import length_hint
from typing import TYPE_CHECKING, Any
from weakref import getweakrefcount, getweakrefs

if TYPE_CHECKING:
    from ._stack import Stack


class Anchor:
    """What weak references to a thread point at. A thread has several; nobody can tell them apart."""

    __slots__ = ("__weakref__", "stack", "thread")

    def __init__(self, stack: Stack, thread: Any) -> None:
        self.stack = stack
        self.thread = thread

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Anchor) and self.stack is other.stack

    def __hash__(self) -> int:
        return hash(self.stack)


class _Segment:
    """The entry that calls the callbacks of the references to one anchor."""

    __slots__ = ("anchor", "failed", "refs", "stack")

    def __init__(self, stack: Stack, anchor: Anchor, failed: Callable[[BaseException, Any], object]) -> None:
        self.stack = stack
        self.failed = failed
        self.anchor: Anchor | None = anchor
        self.refs: Iterator[Any] = iter(())  # once they are dead: those that wait, newest first

    def __length_hint__(self) -> int:
        return length_hint(self.refs)

    def die(self) -> None:
        """Let the references die, all at once."""
        anchor = self.anchor
        if anchor is not None:
            self.refs = iter(getweakrefs(anchor))
            self.anchor = anchor.thread = None  # another thread may be looking at the anchor just now

    def __call__(self) -> None:
        """Call the callbacks, last in, first out; but what one of them registers comes before the next."""
        stack = self.stack
        stack.entries[self] = self  # below what will be registered
        stack.top = False  # until something is
        self.die()
        for ref in self.refs:
            try:
                callback = ref._thread_callback
                ref._thread_callback = None  # a dead reference keeps nothing alive
            except (AttributeError, TypeError):
                callback = _take_callback(ref)
            except Exception as error:  # noqa: BLE001 - what its class raises; or an exception from outside
                callback = _take_callback(ref)
                self.failed(error, callback or ref)
            if callback is not None:
                try:
                    callback(ref)
                except BaseException as error:  # noqa: BLE001
                    self.failed(error, callback)
                callback = None  # before the next one is taken: see Stack.unwind
                if stack.top is not False:
                    return  # type: ignore[unreachable]  # mypy doesn't see that the callback may have registered
        stack.segments.pop(self, None)
        stack.entries.pop(self, None)

    def hooks(self) -> list[Callable[..., Any]]:
        """The callbacks that wait, oldest first, taken from their references."""
        self.die()
        callbacks = [_take_callback(ref) for ref in self.refs]
        return [callback for callback in reversed(callbacks) if callback is not None]


def _take_callback(ref: Any) -> Any:
    # Not by what its class makes of attributes: that may forbid it, or raise.
    try:
        callback = object.__getattribute__(ref, "_thread_callback")
    except AttributeError:  # it was being made, by a thread that is not here after a fork
        return None
    object.__setattr__(ref, "_thread_callback", None)
    return callback


def open_segment(stack: Stack, thread: Any, failed: Callable[[BaseException, Any], object]) -> Anchor:
    """Return a new anchor, whose references unwind before all that is registered now.

    `thread` is what a reference to it returns; `failed` is told what a callback raises, and which one it was.
    """
    segments = stack.segments
    if len(segments) >= stack.purge_at:
        for segment in list(segments):
            # One that somebody else holds as well is about to get a reference.
            if (
                isinstance(segment, _Segment)
                and getweakrefcount(segment.anchor) == 0
                and sys.getrefcount(segment.anchor) <= 2
            ):
                segments.pop(segment, None)
                stack.entries.pop(segment, None)
        stack.purge_at = 2 * len(segments) + 8
    anchor = Anchor(stack, thread)
    segment = _Segment(stack, anchor, failed)
    segments[segment] = None
    stack.entries[segment] = segment
    stack.top = anchor
    return anchor
