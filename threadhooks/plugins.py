"""Plugins: each owns some receivers and cleanups, and can remove them all.

Guarantees:

- Once `Plugin.close` has returned, nothing of the plugin runs in any thread. If it was called in a hook, hooks that are
  running go on, and no other one begins.
- Cleanups of all plugins, and of `threadref`, unwind as one stack a thread: last in, first out.
- An error is reported with the name of the plugin whose hook it was.

What it does not promise:

- `close` waits for hooks of the plugin that are running in other threads, however long they take. If it is called in a
  hook, it does not wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import get_ident
from types import BuiltinMethodType, MethodType, TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ._attached import attached, warn_unless_early
from ._attachment import Attachment
from ._fork import own_thread_only
from ._report import check_hook, describe, report
from ._sentinel import attached_here, current
from ._signals import ReceiverT, ThreadSignal, thread_exited, thread_exiting, thread_started
from ._stack import unpack
from ._threads import ByThread

if TYPE_CHECKING:
    from typing_extensions import Self

    from ._stack import Stack, State

__all__ = ("Pending", "Plugin")

F = TypeVar("F", bound=Callable[..., Any])

_plugins: dict[str, Plugin] = {}  # those that are open, by name


class Pending(NamedTuple):
    """A cleanup that has not run yet."""

    func: Callable[..., Any]
    """The function to call, as it was passed to `Plugin.register`."""
    args: tuple[Any, ...]
    """Its positional arguments."""
    kwargs: dict[str, Any]
    """A copy of its keyword arguments."""


class _Hook:
    """A receiver or a cleanup of a plugin; a cleanup knows the others that the plugin has in the thread."""

    __slots__ = ("func", "mine", "plugin")

    def __init__(self, plugin: Plugin, func: Callable[..., Any], mine: _Mine | None = None) -> None:
        self.plugin = plugin
        self.func = func
        self.mine = mine

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        # First say that it runs, then look whether the plugin is closed; close() does the same the other way round. So
        # one of the two always sees the other, and neither has to hold a lock while the hook runs.
        plugin = self.plugin
        call = object()
        try:
            _running[call] = plugin, get_ident()
            return None if plugin._closed else self.func(*args, **kwargs)
        finally:
            # Written out: an exception from outside could come at the entry of a function of ours, and before this.
            _running.pop(call, None)
            if _waiting:
                _wake()
            self.forget()

    def forget(self) -> None:
        """It has run, or was removed: the plugin need not keep it any more."""
        if self.mine is not None:
            self.mine.forget(self)

    def __repr__(self) -> str:
        return f"{describe(self.func)} of plugin {self.plugin.name!r}"


class _Mine:
    """The cleanups that a plugin has in one thread. Without it, to find them would mean to look at everybody's."""

    __slots__ = ("by_func", "hooks")

    def __init__(self) -> None:
        self.hooks: dict[_Hook, Stack] = {}  # oldest first, with the stack in which each stands
        # By what identifies the function; made at the first `unregister`, since most plugins never call that.
        self.by_func: dict[object, dict[_Hook, None]] | None = None

    def find(self, func: Callable[..., Any]) -> list[tuple[_Hook, Stack]]:
        """The cleanups that call `func`, with their stacks."""
        if self.by_func is None:
            self.by_func = {}
            for hook in list(self.hooks):
                self.by_func.setdefault(_identity(hook.func), {})[hook] = None
        found = list(self.by_func.get(_identity(func), ()))
        return [(hook, stack) for hook in found if (stack := self.hooks.get(hook)) is not None]

    def forget(self, hook: _Hook) -> None:
        """It has run, or was taken back."""
        self.hooks.pop(hook, None)
        if self.by_func is not None:
            key = _identity(hook.func)
            same = self.by_func.get(key, {})
            same.pop(hook, None)
            if not same:
                self.by_func.pop(key, None)


def _identity(func: object) -> object:
    # Never by its hash, or by what it takes for its equal: its owner may change these. A bound method is a new
    # object at each access; it is the same if it is the same function of the same object.
    if type(func) is MethodType:
        return id(func.__func__), id(func.__self__)
    if type(func) is BuiltinMethodType:
        return id(func.__self__), func.__name__
    return id(func)


# The calls of hooks that are being executed, with the plugin that owns the hook, and the ident of the thread.
_running: dict[object, tuple[Plugin, int]] = own_thread_only({}, lambda call, run: run[1])
# The locks on which threads wait in `close`, with the ident of the thread. Such a lock is free when there is news.
_waiting: dict[threading.Lock, int] = own_thread_only({}, lambda news, ident: ident)


def _wake() -> None:
    for news in list(_waiting):
        with suppress(RuntimeError):  # it is free already
            news.release()


class Plugin:
    """Owns receivers and cleanups under a `name`, which no other open plugin may have, and can remove them all.

    It holds its receivers strongly, until `close`. As a context manager, it closes itself.

    Raises `TypeError` for a name that is not a string, and `ValueError` for one that is empty or in use.
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"the name of a plugin must be a string, not {name!r}")
        name = str.__str__(name)  # a subclass of `str` may compare as it likes
        if not name:
            raise ValueError("the name of a plugin must not be empty")
        self._name = name
        self._key = object()  # what threads know it by: a subclass may compare as it likes, or not be hashable
        self._closed = False
        self._receivers: dict[_Hook, ThreadSignal] = {}
        if _plugins.setdefault(name, self) is not self:
            raise ValueError(f"there is an open plugin named {name!r} already")
        self._listed = [name]  # popping it frees the name, once: a later plugin may have it by then

    @property
    def name(self) -> str:
        """The name of the plugin."""
        return self._name

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def __repr__(self) -> str:
        return f"<Plugin {self._name!r}{' closed' if self._closed else ''}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def thread_started(self, receiver: ReceiverT) -> ReceiverT:
        """Decorator: connect `receiver` to the signal `thread_started`; return it.

        Raises `TypeError` if `receiver` is a coroutine or generator function, or if its signature shows that it can't
        be called with what the signal sends. Raises `RuntimeError` if the plugin is closed.
        """
        return self._connect(thread_started, receiver)

    def thread_exiting(self, receiver: ReceiverT) -> ReceiverT:
        """Decorator: connect `receiver` to the signal `thread_exiting`. Raises as `thread_started` does."""
        return self._connect(thread_exiting, receiver)

    def thread_exited(self, receiver: ReceiverT) -> ReceiverT:
        """Decorator: connect `receiver` to the signal `thread_exited`. Raises as `thread_started` does."""
        return self._connect(thread_exited, receiver)

    def _connect(self, signal: ThreadSignal, receiver: ReceiverT) -> ReceiverT:
        signal.check_receiver(receiver)
        self._check_open()
        hook = _Hook(self, receiver)
        self._receivers[hook] = signal
        signal.connect(hook, weak=False)
        if self._closed:  # meanwhile
            signal.disconnect(hook)
            self._receivers.pop(hook, None)
            self._check_open()
        return receiver

    def register(self, func: F, /, *args: Any, **kwargs: Any) -> F:
        """Call ``func(*args, **kwargs)`` when the current thread ends, in that thread. Used like `atexit.register`.

        Returns `func`, so that it works as a decorator. Thread-locals are gone when `func` is called: pass what it
        needs as arguments.

        Raises `TypeError` if `func` can't be called or is a coroutine or generator function, and `RuntimeError` if the
        plugin is closed or the exit of the thread has been announced.
        """
        return self._register(func, args, kwargs, False)

    def register_early(self, func: F, /, *args: Any, **kwargs: Any) -> F:
        """Like `register`, but call it as soon as `run()` has returned or raised: thread-locals are still there.

        That needs a thread that announces itself (see `install` and `announced`), or the main thread. In any other
        thread, `func` is called when the thread ends, and a `ResourceWarning` says so (``-X dev`` shows it).
        """
        return self._register(func, args, kwargs, True)

    def _register(self, func: F, args: tuple[Any, ...], kwargs: dict[str, Any], early: bool) -> F:
        check_hook(func)
        if self._closed:
            self._check_open()
        attachment = current()
        stack = attachment.early if early else attachment.late
        mine: _Mine = attachment.owned.get(self._key) or attachment.owned.setdefault(self._key, _Mine())
        hook = _Hook(self, func, mine)
        if early:
            warn_unless_early(attachment, hook)
        mine.hooks[hook] = stack
        if mine.by_func is not None:
            mine.by_func.setdefault(_identity(func), {})[hook] = None
        # Stack.add, written out: with the two tests above, which spare a call as well, it makes this a tenth faster.
        stack.entries[hook] = (hook, args, kwargs or None) if args or kwargs else hook
        stack.top = None
        if self._closed:  # meanwhile
            stack.take(hook)
            hook.forget()
            self._check_open()
        return func

    def unregister(self, func: Callable[..., Any]) -> None:
        """Remove every cleanup that the current thread has registered here as `func`.

        Functions are compared by identity; two bound methods are the same if their function and object are.
        """
        here = attached_here()
        mine: _Mine | None = here.owned.get(self._key) if here is not None else None
        if mine is not None:
            for hook, stack in mine.find(func):
                stack.take(hook)
                hook.forget()

    def pending(self) -> Mapping[threading.Thread, list[Pending]]:
        """Return the cleanups that have not run yet, by thread, in the order in which they would run.

        A snapshot: threads may come and go while it is made. Threads are told apart by identity.
        """
        found: ByThread[list[Pending]] = ByThread()
        for attachment in attached():
            thread = attachment.thread
            for hook, stack in self._hooks(attachment):
                state = stack.entries.get(hook)
                if state is not None and thread is not None:
                    _, args, kwargs = unpack(state)
                    found.put(thread, []).append(Pending(hook.func, args, dict(kwargs)))
        return found

    def _hooks(self, attachment: Attachment) -> list[tuple[_Hook, Stack]]:
        """This plugin's cleanups of a thread, with the stack in which each is, in the order in which they would run."""
        mine: _Mine | None = attachment.owned.get(self._key)
        hooks = list(mine.hooks.copy().items())[::-1] if mine is not None else []
        early = attachment.early
        return sorted(hooks, key=lambda hook: hook[1] is not early)  # which keeps the order otherwise

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError(f"plugin {self._name!r} is closed")

    def close(self, *, run: bool = False) -> None:
        """Remove every receiver and every cleanup, in every thread; wait for those that other threads are running.

        With `run`, the current thread's cleanups are called now, last in, first out. What they raise is reported as at
        the end of a thread. Closing a closed plugin only waits.

        May be called in a hook of this plugin or of any other. It does not wait then, because the hooks that it would
        wait for may be waiting for this one.
        """
        run = bool(run)  # which may raise
        self._closed = True
        for hook, signal in self._receivers.copy().items():
            signal.disconnect(hook)
        self._receivers.clear()
        here = attached_here()
        ident = get_ident()
        within_hook = (here is not None and here.busy) or any(thread == ident for _, thread in list(_running.values()))
        call = object()
        try:
            _running[call] = self, ident  # before any cleanup is taken: who closes at the same time waits for it
            to_run: list[tuple[_Hook, State]] = []
            for attachment in attached():
                for hook, stack in self._hooks(attachment):
                    state = stack.take(hook)
                    if state is not None and run and attachment is here:
                        to_run.append((hook, state))
                    hook.forget()
                attachment.owned.pop(self._key, None)
            for hook, state in to_run:
                _, args, kwargs = unpack(state)
                try:
                    hook.func(*args, **kwargs)
                except BaseException as error:  # noqa: BLE001
                    report(error, hook, threading.current_thread())
        finally:
            _running.pop(call, None)
            if _waiting:
                _wake()
        try:
            if not within_hook:
                self._wait()
        finally:
            with suppress(IndexError):  # it was closed before
                del _plugins[self._listed.pop()]

    def _wait(self) -> None:
        here = get_ident()
        news = threading.Lock()
        _waiting[news] = here
        try:
            while any(plugin is self and thread != here for plugin, thread in list(_running.values())):
                news.acquire(timeout=1)  # seconds: an exception from outside may have cost us the news
        finally:
            _waiting.pop(news, None)
