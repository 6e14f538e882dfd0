"""Hooks for the lifecycle of threads: run your cleanup when a thread ends, once, in that thread."""

import typing as _typing

from . import threadref as threadref
from ._attached import threads as threads
from ._attachment import ThreadInfo as ThreadInfo
from ._entry_points import load_plugins as load_plugins
from ._sentinel import attach as attach
from ._signals import ThreadSignal as ThreadSignal
from ._signals import thread_exited as thread_exited
from ._signals import thread_exiting as thread_exiting
from ._signals import thread_started as thread_started
from .announce import announced as announced
from .announce import install as install
from .announce import installed as installed
from .announce import uninstall as uninstall
from .plugins import Plugin as Plugin
from .resources import PerThread as PerThread
from .resources import per_thread as per_thread

__all__ = (
    "PerThread",
    "Plugin",
    "ThreadInfo",
    "ThreadSignal",
    "Timeline",
    "announced",
    "attach",
    "install",
    "installed",
    "load_plugins",
    "per_thread",
    "thread_exited",
    "thread_exiting",
    "thread_started",
    "threadref",
    "threads",
    "uninstall",
)

if _typing.TYPE_CHECKING:
    from . import aio as aio
    from .timeline import Timeline as Timeline

    __version__: str
else:

    def __getattr__(name: str) -> object:
        if name == "aio":  # asyncio is slow to import, and most programs don't need it
            import importlib

            return importlib.import_module(f"{__name__}.aio")
        if name == "Timeline":  # nor does a program that captures no threads need what that takes
            from .timeline import Timeline

            return Timeline
        if name == "__version__":
            from importlib.metadata import version  # slow to import, too

            return version(__name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
