"""The cleanups of one thread for one moment, and how they unwind. Plain data: no thread, no signal, no fork in here.

A stack is a dict. Its order of insertion gives last in, first out; unlike a list, it lets anybody take an entry out of
the middle. *Who pops an entry runs it*: popping is one atomic step, so however many compete for an entry (the end of
the thread, `detach()`, a plugin that is closed, a call by hand), exactly one of them gets it. There is no other
lock, so everything here may be called from a finalizer that interrupts the very same code in the same thread.

Guarantees:

- Each entry is run once at most, last in, first out. What is added while others run is run next.
- What an entry raises is passed on to `failed`, and the next one is run.
- If an exception arrives from outside (`PyThreadState_SetAsyncExc`, a failed allocation), `unwind` may be called again
  and goes on where it was. At most the hook that was just being run is lost.

Assumptions:

- One operation on a ``dict`` is atomic, with the GIL and without.
- Between the step of a ``for`` loop and a call in its body, the interpreter delivers no asynchronous exception: it does
  so at calls, at the entry of a function, and where a loop jumps back.

What it does not promise:

- Entries that add entries without an end are stopped: see `MOST_ADDED_MEANWHILE`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from operator import length_hint
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ._report import describe

# How many entries may be added during one unwinding, beyond those that were waiting, before we take it for a loop.
MOST_ADDED_MEANWHILE = 10_000

if TYPE_CHECKING:
    # What to call; with its arguments, if there are any. The bare function is by far the commonest case, and needs no
    # tuple: a quarter of the memory of a registration.
    State = Callable[[], Any] | tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any] | None]
    Failed = Callable[[BaseException, Callable[..., Any]], object]

    class Segment(Protocol):
        """An entry that stands for several hooks at once: see `_references`."""

        def __call__(self) -> None: ...
        def __length_hint__(self) -> int: ...
        def die(self) -> None:
            """Get ready to run: from now on the segment takes no more hooks."""

        def hooks(self) -> list[Callable[..., Any]]:
            """The hooks that wait in it, oldest first; it gives them away."""


_popitem: Callable[[dict[Any, State]], tuple[Any, State]] = dict.popitem


def pack(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> State:
    """What stands beside an entry that calls ``func(*args, **kwargs)``."""
    # A bare tuple would be taken for a function with its arguments, and a bare `None` for no entry at all.
    if args or kwargs or func is None or type(func) is tuple:  # type: ignore[comparison-overlap]
        return func, args, kwargs or None
    return func


def unpack(state: Any) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """The function that stands beside an entry, and its arguments."""
    if type(state) is tuple:
        func, args, kwargs = state
        return func, args, kwargs or {}
    return state, (), {}


class Stack:
    """The cleanups of one thread for one of its two moments."""

    __slots__ = ("entries", "purge_at", "segments", "top")

    def __init__(self) -> None:
        # What is called is the state beside an entry. The entry itself is what its owner takes it back by.
        self.entries: dict[Any, State] = {}
        # Those of the entries that stand for several hooks.
        self.segments: dict[Segment, None] = {}
        self.purge_at = 8  # how many segments there may be before empty ones are looked for
        # Where the newest hook is one that shares its entry with others, this is what the next may share. Who adds any
        # other entry sets it to None, so that the two kinds unwind in one order. False means, while a segment is being
        # run, that nothing was added since its last hook.
        self.top: Any | Literal[False] | None = None

    def add(self, entry: Any, state: State) -> None:
        """Put an entry on top. (To be fast, `threadref.finalize` and `Plugin.register` have this written out.)"""
        self.entries[entry] = state
        self.top = None

    def take(self, entry: Any) -> State | None:
        """Take an entry off, wherever it stands; `None` if somebody was faster. Who takes it may run it."""
        return self.entries.pop(entry, None)

    def let_references_die(self) -> None:
        """Close all segments at once: when the first hook runs, every weak reference to the thread is dead."""
        self.top = None
        for segment in list(self.segments):
            segment.die()

    def unwind(self, failed: Failed) -> None:
        """Run the entries, last in, first out, until there are no more.

        `failed` is called with whatever a hook raises and the hook. It must not raise.
        """
        entries = self.entries
        left = MOST_ADDED_MEANWHILE
        if self.segments:
            self.let_references_die()
            for segment in list(self.segments):
                entries.setdefault(segment, segment)  # an exception from outside may have cost us its place
                left += length_hint(segment)
        batch = len(entries)
        while batch:
            try:
                # The step of a `for` loop takes an entry off, since no exception from outside can come between that and
                # the call. It would lose a hook that has not begun. (Where there is one hook, as in most threads, the
                # tuple saves a microsecond.)
                for entry, state in map(_popitem, (entries,) if batch == 1 else repeat(entries, batch)):
                    try:
                        match state:  # which looks at a flag of the type: that is faster than to ask for the type
                            case [*_] if type(state) is tuple:
                                # No names for its parts: they would keep the arguments alive until the next hook ran.
                                state[0](*state[1], **(state[2] or {}))
                            case _:
                                state()  # type: ignore[operator]
                    except BaseException as error:  # noqa: BLE001 - one from outside can arrive here as well
                        if self.segments and entry in self.segments:
                            entries.setdefault(entry, entry)  # it may have been hit before it could put itself back
                        failed(error, unpack(state)[0])
                    # Now, before the next entry is taken: what the arguments do as they are destroyed, to throw an
                    # exception into this thread for instance, must hit nobody else's hook.
                    entry = state = None  # type: ignore[assignment]
            except KeyError:
                if entries:  # not that somebody else took the last one, but an exception from outside
                    raise
            batch = len(entries)
            if batch > left:
                if not left:
                    self._give_up(failed)
                    return
                batch = left
            left -= batch

    def run(self, entry: Any, failed: Failed) -> None:
        """Run one entry, unless somebody else has taken it."""
        state = self.take(entry)
        if state is None:
            return
        func, args, kwargs = unpack(state)
        try:
            func(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001
            failed(error, func)

    def _give_up(self, failed: Failed) -> None:
        """End a loop of hooks that add hooks: all that wait now are run, but not what these add."""
        for entry in reversed(list(self.entries)):
            self.run(entry, failed)
            while entry in self.segments and entry in self.entries:  # it has hooks that wait, too
                self.run(entry, failed)
        lost = self.hooks()
        self.clear()
        if lost:
            names = ", ".join({describe(hook): None for hook in lost[:-11:-1]})
            loop = RuntimeError(
                f"cleanups registered more cleanups without end, {MOST_ADDED_MEANWHILE} while they ran; "
                f"{len(lost)} were dropped, the last of them {names}"
            )
            failed(loop, lost[-1])

    def hooks(self) -> list[Callable[..., Any]]:
        """What would be called, newest last; for reports. Segments are emptied by it."""
        self.let_references_die()
        hooks: list[Callable[..., Any]] = []
        for entry in list(self.entries):
            state = self.entries.get(entry)
            if entry in self.segments:
                hooks += entry.hooks()
            elif state is not None:
                hooks.append(unpack(state)[0])
        return hooks

    def clear(self) -> None:
        """Drop everything, without running it."""
        if self.segments:
            self.let_references_die()
            self.segments.clear()
        self.entries.clear()
