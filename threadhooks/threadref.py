"""`ref` and `finalize` for the current thread: the interface of the package threadref 1.1.5, with its promises kept.

Keep a `ref`: if it is dropped, its callback is not called. A `finalize` keeps itself alive. Both may be made, read,
called and dropped in any thread, at any time, and are about the thread that made them.

The documentation lists how they differ from that package, and why.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ._attached import attached
from ._attachment import Attachment
from ._fork import check as check_process
from ._fork import unsettled
from ._references import open_segment
from ._report import describe
from ._sentinel import current
from ._shutdown import before_exit_of_main
from ._stack import pack, unpack
from ._threads import is_daemon

if TYPE_CHECKING:
    from typing_extensions import Self

    from ._stack import State

    _Finalize = weakref.finalize[..., Any]
else:
    _Finalize = weakref.finalize

__all__ = ("finalize", "ref")

__version__ = "1.1.5"  # of the interface: what a program that was written for PyPI's asks for

_dereference = weakref.ref.__call__
_new_reference = weakref.ref.__new__


class ref(weakref.ref[Any]):  # noqa: N801 - threadref's name, and weakref's
    """A weak reference to the current thread.

    `callback` is called as ``callback(ref)`` when the thread ends, in that thread, if the reference object still
    exists. What it raises goes to `threading.excepthook`. By then this reference is dead, and so is every other one
    that was made before the exit began.

    Raises `RuntimeError` once the exit of the thread has been announced.
    """

    __slots__ = ("_thread_callback",)

    _thread_callback: Callable[[ref], Any] | None

    def __new__(cls, callback: Callable[[ref], Any] | None = None) -> Self:
        attachment = current()
        stack = attachment.late
        self = _new_reference(cls, stack.top or open_segment(stack, attachment.thread, attachment.failed))
        if cls is ref:
            self._thread_callback = callback
        else:  # whatever the class makes of attributes
            object.__setattr__(self, "_thread_callback", callback)
        return self

    def __init__(self, callback: Callable[[ref], Any] | None = None) -> None:
        pass  # weakref.ref would take the callback for a referent

    def __call__(self) -> threading.Thread | None:
        """The thread, or `None` once its exit has begun."""
        if unsettled:
            check_process()
        anchor = _dereference(self)
        return None if anchor is None else anchor.thread

    @property
    def __callback__(self) -> Callable[[ref], Any] | None:  # type: ignore[override]
        """The callback, or `None` once the thread's exit has begun."""
        return None if self() is None else self._thread_callback

    def __repr__(self) -> str:
        thread = self()
        return f"<threadref {id(self)} {'dead' if thread is None else repr(thread)}>"


class finalize(_Finalize):  # noqa: N801
    """Call ``function(*args, **kwargs)`` when the current thread ends, in that thread.

    What it raises goes to `threading.excepthook`. If the thread is a daemon that is still running when the interpreter
    ends, the main thread makes the call at `atexit`, unless the attribute `atexit` was set to false.

    Raises `RuntimeError` once the exit of the thread has been announced.
    """

    # As in weakref.finalize, the state is elsewhere: in the thread's stack. Who takes it from there runs it.
    __slots__ = ("_thread_atexit", "_thread_attachment")

    _thread_attachment: Attachment | _Derived

    def __init__(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> None:
        attachment = current()
        if type(self) is not finalize:
            _add_derived(self, attachment, pack(function, args, kwargs))
            return
        self._thread_attachment = attachment
        # Written out: a call of Stack.add would make a registration a tenth slower, and one of pack() another.
        stack = attachment.late
        if args or kwargs or function is None or type(function) is tuple:  # type: ignore[comparison-overlap]
            stack.entries[self] = pack(function, args, kwargs)
        else:  # the commonest case: it needs no tuple
            stack.entries[self] = function
        stack.top = None

    def __call__(self, _: Any = None) -> Any:
        """Call the function now, in the calling thread, and return what it returns; `None` if this is dead."""
        if unsettled:
            check_process()
        try:
            state = self._thread_attachment.late.entries.pop(self, None)
        except AttributeError:  # never initialised, or a copy
            return None
        match state:  # as in Stack.unwind
            case [*_] if type(state) is tuple:
                function, args, kwargs = _unpack(state) if type(state[0]) is _Derived else state
                return function(*args, **kwargs) if kwargs else function(*args)
        return None if state is None else state()  # type: ignore[operator]

    def detach(self) -> tuple[threading.Thread, Callable[..., Any], tuple[Any, ...], dict[str, Any]] | None:
        """Take the call back. Returns ``(thread, function, args, kwargs)``, or `None` if this is dead."""
        if unsettled:
            check_process()
        try:
            attachment = self._thread_attachment
            thread, state = attachment.thread, attachment.late.entries.pop(self, None)
        except AttributeError:  # never initialised, or a copy
            return None
        if state is None:
            return None
        if type(state) is not tuple:  # as _unpack() does, which would be slower
            return thread, state, (), {}  # type: ignore[return-value]  # it was alive
        return thread, *_unpack(state)  # type: ignore[return-value]

    def peek(self) -> tuple[threading.Thread, Callable[..., Any], tuple[Any, ...], dict[str, Any]] | None:
        """Return what `detach` would return, without detaching."""
        if unsettled:
            check_process()
        try:
            attachment = self._thread_attachment
            thread, state = attachment.thread, attachment.late.entries.get(self)
        except AttributeError:
            return None
        return None if state is None else (thread, *_unpack(state))  # type: ignore[return-value]  # it is alive

    @property
    def alive(self) -> bool:
        """Whether the function has not been called yet, and will be."""
        if unsettled:
            check_process()
        try:
            return self in self._thread_attachment.late.entries
        except AttributeError:
            return False

    @property
    def atexit(self) -> bool:
        """Whether to call it when the interpreter ends, for a daemon or the main thread. False once it is dead."""
        if not self.alive:
            return False
        try:
            return _get_atexit(self)
        except AttributeError:
            return True

    @atexit.setter
    def atexit(self, value: bool) -> None:
        if self.alive:
            self._thread_atexit = bool(value)

    def __repr__(self) -> str:
        state = self.peek()
        return f"<threadfinalize {id(self)} {'dead' if state is None else repr(state[0])}>"

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # A copy is dead: one registration is called once. What a subclass has added is copied.
        reduced: Any = super().__reduce_ex__(max(protocol, 2))
        make, args, state, *rest = reduced
        if isinstance(state, tuple):
            slots = {name: value for name, value in state[1].items() if name not in finalize.__slots__}
            state = (state[0], slots) if slots else state[0]
        return make, args, state, *rest


class _Derived:
    """The entry of a finalizer of a derived class; and to the finalizer, what the attachment is to others.

    Such a class may compare and hash its finalizers as it likes, so that these themselves would be taken for one
    another, or not be found again. It may also have a `__call__`, now or later: that is called when the thread ends,
    and finds the finalizer alive, as in threadref.
    """

    __slots__ = ("attachment", "function")

    def __init__(self, attachment: Attachment) -> None:
        self.attachment = attachment
        self.function: object = None

    # What the methods of `finalize` look for: they need not ask which kind they have, which would slow down each call.

    @property
    def thread(self) -> threading.Thread | None:
        return self.attachment.thread

    @property
    def late(self) -> Self:
        return self

    @property
    def entries(self) -> Self:
        return self

    def pop(self, _: finalize, default: None) -> State | None:
        return self.attachment.late.take(self)

    def get(self, _: finalize) -> State | None:
        return self.attachment.late.entries.get(self)

    def __contains__(self, _: finalize) -> bool:
        return self in self.attachment.late.entries

    def __call__(self, finalizer: finalize, state: State) -> None:
        entries = self.attachment.late.entries
        entries[self] = state
        try:
            finalizer(None)
        finally:
            entries.pop(self, None)  # even if it has not called ours

    def __repr__(self) -> str:
        return describe(self.function)


_attachment: Any = vars(finalize)["_thread_attachment"]  # the slot, whatever a class makes of attributes


def _add_derived(finalizer: finalize, attachment: Attachment, state: State) -> None:
    try:
        entry = _attachment.__get__(finalizer)
    except AttributeError:
        entry = None
    if type(entry) is not _Derived or entry.attachment is not attachment:  # or else it is initialised once more
        entry = _Derived(attachment)
        _attachment.__set__(finalizer, entry)
    entry.function = unpack(state)[0]
    attachment.late.add(entry, (entry, (finalizer, state), None))


def _unpack(state: Any) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    function, args, kwargs = unpack(state)
    return unpack(args[1]) if type(function) is _Derived else (function, args, kwargs)


_get_atexit: Callable[[finalize], bool] = vars(finalize)["_thread_atexit"].__get__  # not a subclass's __getattr__


@before_exit_of_main
def _finalize_at_exit() -> None:
    # weakref.finalize's contract: at exit, what is left is called by the main thread. The main thread's own cleanups,
    # the oldest as a rule, come last.
    main = threading.main_thread()
    for attachment in reversed(attached()):
        thread, stack = attachment.thread, attachment.late
        if thread is None or not (thread is main or is_daemon(thread)):
            continue  # it is not a daemon: it runs them itself, as soon as it ends
        for entry in reversed(list(stack.entries)):
            state = stack.entries.get(entry)
            finalizer = state[1][0] if type(state) is tuple and state[0] is entry else entry
            if issubclass(type(finalizer), finalize):
                try:
                    wanted = finalizer.atexit
                except BaseException as error:  # noqa: BLE001 - a subclass may have it answer what it likes
                    attachment.failed(error, finalizer)
                    wanted = True
                if not wanted:
                    if thread is main:
                        stack.take(entry)
                elif thread is not main:
                    stack.run(entry, attachment.failed)
