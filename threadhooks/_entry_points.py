"""Plugins that are found by their entry points, in the metadata of what is installed.

Guarantees:

- A plugin that fails to load, in whatever way, stops no other, and neither does metadata that can't be read. Only
  `KeyboardInterrupt` gets out.
- A failure is reported with the distribution and the file that it comes from. What fails again in the same way is not
  reported again.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from threading import get_ident
from typing import TYPE_CHECKING, Any

from ._fork import own_thread_only
from ._report import check_hook, report
from .plugins import Plugin

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

_GROUP = "threadhooks"

_loaded: dict[tuple[str, str], Plugin] = {}  # by name and value of the entry point
_reported: dict[tuple[str, str], object] = {}  # the sources of failures, and what they were
# By the same, with the ident of the thread that is loading it: neither its own code nor another thread begins, too.
_loading: dict[tuple[str, str], tuple[int, object]] = own_thread_only({}, lambda key, claim: claim[0])


class _Source:
    """Where a plugin comes from: what a report names as the hook that failed."""

    def __init__(self, distribution: Distribution, entry_point: EntryPoint | None = None) -> None:
        # Any of this may be missing from metadata that is broken, or of a kind of its own.
        self.name, self.file = "an unnamed distribution", "a file of it"
        with suppress(Exception):
            folder = getattr(distribution, "_path", None) or distribution.locate_file("")
            self.file = f"{folder}/entry_points.txt"
        with suppress(Exception):
            metadata: Any = distribution.metadata
            if metadata.get("Name"):
                self.name = f"{metadata['Name']} {metadata.get('Version')}"
        self.entry_point = entry_point

    def __repr__(self) -> str:
        what = f"the plugin {self.entry_point.name!r} ({self.entry_point.value})" if self.entry_point else "a plugin"
        return f"{what} of {self.name} (declared in {self.file}; repair or uninstall it)"

    def report(self, error: BaseException) -> None:
        """Report what it raised, unless that was done at an earlier call."""
        failure = repr(self), _text(error)
        token = object()
        if _reported.setdefault(failure, token) is token:
            report(error, self, threading.current_thread())


def _text(error: BaseException) -> str:
    """What tells one failure from another, at the next call as well: no address, though its repr raises."""
    try:
        return f"{type(error)} {error!r}"
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001
        return type.__repr__(type(error))


def load_plugins() -> list[Plugin]:
    """Load every entry point in the group ``threadhooks``, and return the plugins that this call has loaded.

    The entry point's object is called with a `Plugin` that has the entry point's name. If that call, or the import,
    raises, the error is reported to `threading.excepthook` with the name of the distribution, the plugin is closed, and
    the others are still loaded. The next call tries again, and reports only new failures. Only `KeyboardInterrupt` is
    raised. Plugins that an earlier call has loaded stay as they are while they are open. All this happens in the
    calling thread.
    """
    # Slow to import, and seldom needed.
    import re
    from importlib.metadata import distributions

    plugins = []
    seen: set[str] = set()
    for distribution in distributions():
        source = _Source(distribution)
        try:
            metadata: Any = distribution.metadata
            name = re.sub("[-_.]+", "-", metadata.get("Name") or "").lower()
            if name in seen:  # one that is further back in the path is hidden
                continue
            found = [entry_point for entry_point in distribution.entry_points if entry_point.group == _GROUP]
            if name:
                seen.add(name)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001
            source.report(error)
            continue
        for entry_point in found:
            plugin = _load(entry_point, _Source(distribution, entry_point))
            if plugin is not None:
                plugins.append(plugin)
    return plugins


def _load(entry_point: EntryPoint, source: _Source) -> Plugin | None:
    """Load one; `None` if that is done already, if it fails, or if it closes itself."""
    key = entry_point.name, entry_point.value
    claim = get_ident(), object()
    if _loading.setdefault(key, claim) is not claim:
        return None
    plugin = None
    try:
        known = _loaded.get(key)
        if known is not None and not known.closed:
            return None
        plugin = _loaded[key] = Plugin(entry_point.name)
        setup: Any = entry_point.load()
        check_hook(setup)
        setup(plugin)
    except BaseException as error:
        if plugin is not None:
            plugin.close()
        if isinstance(error, KeyboardInterrupt):
            raise
        if isinstance(error, SystemExit):  # of which threading.excepthook would say nothing
            error = ImportError(f"{entry_point.value} raised SystemExit: {error}").with_traceback(error.__traceback__)
        source.report(error)
        return None
    finally:
        _loading.pop(key, None)
    return plugin if not plugin.closed else None
