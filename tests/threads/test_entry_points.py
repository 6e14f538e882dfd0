"""`load_plugins`: what is installed announces plugins, and one that fails stops no other."""

from __future__ import annotations

import importlib
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support import in_thread

import threadhooks
from threadhooks import Plugin, load_plugins

Reports = list[Any]  # of threading.excepthook


class Site:
    """A folder on `sys.path` in which distributions are installed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.loaded: list[Plugin] = []

    def load(self) -> list[Plugin]:
        """Load what is installed, until the end of the test."""
        loaded = load_plugins()
        self.loaded += loaded
        return loaded

    def install(self, distribution: str, entry_points: dict[str, str], **modules: str) -> None:
        folder = self.path / f"{distribution.replace('-', '_')}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = [f"{name} = {value}" for name, value in entry_points.items()]
        (folder / "entry_points.txt").write_text("\n".join(["[threadhooks]", *lines, ""]))
        for name, source in modules.items():
            (self.path / f"{name}.py").write_text(source)
        importlib.invalidate_caches()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = set(sys.modules)
    site = Site(tmp_path)
    yield site
    for plugin in site.loaded:
        plugin.close()
    for name in set(sys.modules) - modules:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


GOOD = """
ran = []
def setup(plugin):
    ran.append(plugin)
    plugin.thread_exited(lambda thread, **extra: ran.append(thread.name))
"""


def test_an_entry_point_gets_a_plugin_of_its_name(site: Site) -> None:
    """What a distribution declares in the group "threadhooks" is called with a plugin of the entry point's name."""
    site.install("thp-good", {"good plugin": "thp_good:setup"}, thp_good=GOOD)
    [plugin] = site.load()
    import thp_good  # type: ignore[import-not-found]

    assert (plugin.name, plugin.closed) == ("good plugin", False)
    assert thp_good.ran == [plugin]
    in_thread(threadhooks.attach, "heard of")
    assert thp_good.ran == [plugin, "heard of"]
    plugin.close()
    in_thread(threadhooks.attach)
    assert thp_good.ran == [plugin, "heard of"]


def test_no_entry_points() -> None:
    """Where no distribution declares any, nothing is loaded."""
    assert load_plugins() == []


class Failing(NamedTuple):
    """An entry point that fails: what it names, the code of the module there, and what is reported."""

    value: str
    code: str
    error: str

    @property
    def raises(self) -> bool:
        """Whether there is a line of it that raised."""
        return "raise" in self.code or "1 / 0" in self.code or "exit(" in self.code


FAILING = {
    "no module": Failing("thp_missing:setup", "", "ModuleNotFoundError: No module named 'thp_missing'"),
    "at the import": Failing("thp_bad:setup", "raise LookupError('at the import')", "LookupError: at the import"),
    "no attribute": Failing("thp_bad:setup", "", "AttributeError: module 'thp_bad' has no attribute 'setup'"),
    "raises": Failing("thp_bad:setup", "def setup(plugin): 1 / 0", "ZeroDivisionError: division by zero"),
    "exits": Failing(
        "thp_bad:setup",
        "import sys\ndef setup(plugin): sys.exit('no')",
        "ImportError: thp_bad:setup raised SystemExit: no",
    ),
    "cancelled": Failing(
        "thp_bad:setup", "import asyncio\ndef setup(plugin): raise asyncio.CancelledError('no')", "CancelledError: no"
    ),
    "an exception of its own": Failing(
        "thp_bad:setup", "class Own(BaseException): pass\ndef setup(plugin): raise Own('no')", "Own: no"
    ),
    "an exception that can't be printed": Failing(
        "thp_bad:setup",
        "class Own(BaseException):\n    def __repr__(self): raise Own\n    __str__ = __repr__\n"
        "def setup(plugin): raise Own",
        "Own: ?",
    ),
    "not callable": Failing("thp_bad:setup", "setup = 3", "TypeError: a hook must be callable, not 3"),
    "a coroutine function": Failing("thp_bad:setup", "async def setup(plugin): pass", "TypeError: thp_bad.setup is a"),
    "a generator function": Failing("thp_bad:setup", "def setup(plugin): yield", "TypeError: thp_bad.setup is a"),
}


@pytest.fixture(params=FAILING.values(), ids=FAILING)
def failing(request: pytest.FixtureRequest, site: Site) -> Failing:
    """Between two plugins that load, one that doesn't."""
    failing: Failing = request.param
    site.install("thp-a", {"first": "thp_good:setup"}, thp_good=GOOD)
    site.install("thp-bad", {"bad": failing.value}, thp_bad=failing.code)
    site.install("thp-c", {"last": "thp_good:setup"})
    return failing


def message(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except BaseException:
        return f"{type(error).__name__}: ?"


def test_one_that_fails_stops_no_other(site: Site, failing: Failing, reports: Reports) -> None:
    """However it fails, the others are loaded, and its name is free. The report names the plugin and what to do.

    A later call tries again. It reports only what is new, and loads what has come.
    """
    assert sorted(plugin.name for plugin in site.load()) == ["first", "last"]
    Plugin("bad").close()
    assert site.load() == []
    [report] = reports
    assert message(report.exc_value).startswith(failing.error)
    told = "".join(traceback.format_exception(report.exc_type, report.exc_value, report.exc_traceback))
    assert ("thp_bad.py" in told) == failing.raises
    assert report.thread is threading.current_thread()
    [note] = report.exc_value.__notes__
    assert note == (
        f"raised by the plugin 'bad' ({failing.value}) of thp-bad 1.0 (declared in "
        f"{site.path}/thp_bad-1.0.dist-info/entry_points.txt; "
        "repair or uninstall it), a hook of threadhooks"
    )
    (site.path / "thp_bad.py").write_text("def setup(plugin): raise LookupError('something else')")
    site.install("thp-new", {"new": "thp_new:setup"}, thp_new=GOOD)
    sys.modules.pop("thp_bad", None)
    assert [plugin.name for plugin in site.load()] == ["new"]
    assert [message(report.exc_value) for report in reports[1:]] == (
        ["LookupError: something else"] if failing.value.startswith("thp_bad") else []
    )


def test_what_a_failed_plugin_had_connected_is_taken_back(site: Site, reports: Reports) -> None:
    """It is closed: none of its receivers is called."""
    site.install(
        "thp-half",
        {"half": "thp_half:setup"},
        thp_half="ran = []\n"
        "def setup(plugin):\n"
        "    plugin.thread_exited(lambda thread, **extra: ran.append(thread))\n"
        "    raise ZeroDivisionError\n",
    )
    site.load()
    in_thread(threadhooks.attach)
    assert sys.modules["thp_half"].ran == []


def write_bytes(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def make_unreadable(folder: Path) -> None:
    (folder / "entry_points.txt").unlink()
    (folder / "entry_points.txt").symlink_to("entry_points.txt")


@pytest.mark.parametrize(
    "spoil",
    [
        write_bytes("entry_points.txt", b"[threadhooks]\n\xff = \xfe\n"),
        write_bytes("entry_points.txt", b"[threadhooks]\nneither name nor value\n"),
        write_bytes("METADATA", b"Name: \xff\n"),
        make_unreadable,
    ],
    ids=["undecodable entry points", "no entry points", "undecodable metadata", "unreadable"],
)
def test_broken_metadata_stops_no_other(site: Site, reports: Reports, spoil: Callable[[Path], object]) -> None:
    """A distribution whose metadata can't be read is reported once, with its folder; the others are loaded."""
    site.install("thp-broken", {"broken": "thp_missing:setup"})
    spoil(site.path / "thp_broken-1.0.dist-info")
    site.install("thp-a", {"first": "thp_good:setup"}, thp_good=GOOD)
    site.install("thp-z", {"last": "thp_good:setup"})
    assert sorted(plugin.name for plugin in site.load()) == ["first", "last"]
    assert site.load() == []
    [report] = reports
    assert f"{site.path}/thp_broken-1.0.dist-info/entry_points.txt" in report.exc_value.__notes__[0]


def test_the_first_distribution_of_a_name_hides_the_others(site: Site, reports: Reports, tmp_path: Path) -> None:
    """What is installed in two folders of the path is loaded from the first."""
    site.install("thp-twice", {"seen": "thp_good:setup"}, thp_good=GOOD)
    hidden = Site(tmp_path / "behind")
    hidden.path.mkdir()
    hidden.install("Thp.Twice", {"hidden": "thp_good:setup"})
    sys.path.append(str(hidden.path))
    assert [plugin.name for plugin in site.load()] == ["seen"]


def test_an_entry_point_whose_name_is_in_use(site: Site, reports: Reports) -> None:
    """Of two distributions that declare one name, one is loaded, and the other reported; both are there."""
    source = "calls = []\ndef setup(plugin): calls.append(plugin)\n"
    site.install("thp-one", {"same": "thp_one:setup"}, thp_one=source)
    site.install("thp-two", {"same": "thp_two:setup"}, thp_two=source)
    loaded = site.load()
    calls = [call for name in ("thp_one", "thp_two") if name in sys.modules for call in sys.modules[name].calls]
    assert calls == loaded
    assert [plugin.name for plugin in loaded] == ["same"]
    [report] = reports
    assert report.exc_type is ValueError
    assert "an open plugin named 'same' already" in message(report.exc_value)
    assert not loaded[0].closed


def test_loading_twice_loads_once(site: Site, reports: Reports) -> None:
    """What is loaded stays as it is; what was closed is loaded by the next call. Metadata need not have a name."""
    for name in ("one", "two"):
        site.install(f"thp-{name}", {name: "thp_good:setup"}, thp_good=GOOD)
        (site.path / f"thp_{name}-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\n")
    first, second = sorted(site.load(), key=lambda plugin: plugin.name)
    assert (first.name, second.name) == ("one", "two")
    assert site.load() == []
    assert not first.closed
    first.close()
    [again] = site.load()
    assert (again.name, again is first) == ("one", False)
    assert reports == []


def test_a_plugin_that_loads_plugins(site: Site, reports: Reports) -> None:
    """An entry point may call `load_plugins` itself: what is being loaded, is not loaded again."""
    source = "import threadhooks\ndef setup(plugin):\n    assert threadhooks.load_plugins() == []\n"
    site.install("thp-nest", {"nest": "thp_nest:setup"}, thp_nest=source)
    assert [plugin.name for plugin in site.load()] == ["nest"]
    assert reports == []


def test_a_plugin_that_closes_itself_is_not_loaded(site: Site, reports: Reports) -> None:
    """An entry point that closes its plugin declines: it is not among those that were loaded."""
    site.install("thp-shy", {"shy": "thp_shy:setup"}, thp_shy="def setup(plugin): plugin.close()\n")
    assert site.load() == []
    assert reports == []


def test_an_interrupt_while_loading(site: Site) -> None:
    """Control-C in an entry point gets through, and leaves no plugin half made."""
    site.install(
        "thp-slow",
        {"slow": "thp_slow:setup"},
        thp_slow="impatient = True\ndef setup(plugin):\n    if impatient:\n        raise KeyboardInterrupt\n",
    )
    with pytest.raises(KeyboardInterrupt):
        site.load()
    Plugin("slow").close()  # the name is free
    sys.modules["thp_slow"].impatient = False
    [plugin] = site.load()
    assert plugin.name == "slow"
