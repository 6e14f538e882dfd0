"""Every kind of hook, each registered by one function, for the tests of what all of them do."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any, NamedTuple

from support import in_thread

import threadhooks
from threadhooks import Plugin, ThreadSignal, thread_exited, thread_exiting, threadref

Hook = Callable[[], object]


class Kind(NamedTuple):
    """One kind of hook."""

    name: str
    add: Callable[[Plugin, Hook], object]
    """Registers a hook for the current thread. It is passed a plugin, which may own the hook. Keep what it returns."""
    receives: bool = False
    """Whether it is a receiver: those run in the order of connection."""
    early: bool = False
    """Whether it runs at the end of `run()`, so that the thread has to announce itself."""
    owned: bool = False
    """Whether the plugin keeps it until it is closed."""
    note: str = "hook"
    """What a report calls a hook whose name is "hook"."""


def named_as(hook: Hook, caller: Callable[..., Any]) -> Callable[..., Any]:
    """Give `caller` the name of the hook that it calls; its signature stays its own."""
    functools.update_wrapper(caller, hook, assigned=("__module__", "__qualname__"), updated=())
    del caller.__wrapped__  # type: ignore[attr-defined]
    return caller


def ref(plugin: Plugin, hook: Hook) -> object:
    return threadref.ref(named_as(hook, lambda _: hook()))


def per_thread(plugin: Plugin, hook: Hook) -> object:
    @threadhooks.per_thread
    def resource() -> Iterator[None]:
        yield
        hook()

    return resource()


def receiver(signal: ThreadSignal, plugin: Plugin, hook: Hook) -> None:
    receives = named_as(hook, lambda thread, **news: hook())
    signal.connect(receives, sender=threadhooks.attach().thread, weak=False)


def plugins_receiver(signal: str, plugin: Plugin, hook: Hook) -> None:
    getattr(plugin, signal)(named_as(hook, lambda thread, **news: hook()))
    threadhooks.attach()


def register(plugin: Plugin, hook: Hook) -> None:
    plugin.register(hook)


def register_early(plugin: Plugin, hook: Hook) -> None:
    plugin.register_early(hook)


CLEANUPS = [
    Kind("finalize", lambda plugin, hook: threadref.finalize(hook)),
    Kind("ref", ref),
    Kind("register", register, note="hook of plugin 'owner'"),
    Kind("register_early", register_early, note="hook of plugin 'owner'"),
    Kind("per_thread", per_thread, note="the closing of hooks.per_thread.<locals>.resource"),
]
KINDS = [
    *CLEANUPS,
    Kind("register_early at the end of run", register_early, early=True, note="hook of plugin 'owner'"),
    Kind("receiver of thread_exited", functools.partial(receiver, thread_exited), receives=True),
    Kind("receiver of thread_exiting", functools.partial(receiver, thread_exiting), receives=True, early=True),
    Kind("plugin.thread_exited", functools.partial(plugins_receiver, "thread_exited"), receives=True, owned=True,
         note="hook of plugin 'owner'"),
    Kind("plugin.thread_exiting", functools.partial(plugins_receiver, "thread_exiting"), receives=True, early=True,
         owned=True, note="hook of plugin 'owner'"),
]  # fmt: skip


def run_with(kind: Kind, *hooks: Hook, plugin: Plugin, then: Hook = lambda: None, **kwargs: Any) -> threading.Thread:
    """A thread that has registered `hooks`, in turn, has called `then`, and has ended."""
    return keep_and_run(kind, [], *hooks, plugin=plugin, then=then, **kwargs)


def keep_and_run(
    kind: Kind, kept: list[object], *hooks: Hook, plugin: Plugin, then: Hook = lambda: None, **kwargs: Any
) -> threading.Thread:
    """The same; what the registrations returned is in `kept`."""

    def body() -> None:
        kept.extend([kind.add(plugin, hook) for hook in hooks])
        then()

    with threadhooks.installed() if kind.early else nullcontext():
        return in_thread(body, **kwargs)
