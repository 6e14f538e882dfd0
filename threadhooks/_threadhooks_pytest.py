"""The part of the pytest plugin that every start of pytest loads: options, ini settings and the marker.

The rest is `threadhooks.pytest_plugin`, which is loaded when it is asked for. Until then not even the package is
imported: that would delay pytest for people who don't use the plugin. A module in the
package cannot be imported without it, so an installation puts this file beside the package (see `pyproject.toml`).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options. (pytest calls this.)"""
    parser.getgroup("threadhooks").addoption(
        "--thread-leaks",
        choices=("error", "warn", "off"),
        help="what happens to a test that leaves threads behind, or during which a hook of threadhooks fails",
    )
    parser.addini("thread_leaks", "default of --thread-leaks: error, warn or off", default="off")
    parser.addini("thread_leaks_allow", "names of threads that may be left behind: one regex per line", type="linelist")
    parser.addini("thread_leaks_allow_daemons", "whether daemons may be left behind", type="bool", default=False)
    parser.addini("thread_leaks_grace", "how many seconds the threads of a test have to end, all together", default="1")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, and load the rest if the command line or the ini file asks for it."""
    config.addinivalue_line(
        "markers",
        "thread_leaks(mode=None, *, allow=(), allow_daemons=False): what happens if this test leaves threads behind: "
        "'error', 'warn' or 'off'; the names of threads that it may leave (one regex, or several), and whether it may "
        "leave daemons.",
    )
    mode = config.getoption("thread_leaks") or config.getini("thread_leaks")
    if mode != "off":
        _load(config, mode)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Load the rest if the marker of a test asks for it."""
    config = session.config
    if config.getoption("thread_leaks") != "off" and not config.pluginmanager.has_plugin("threadhooks-leaks"):
        for item in session.items:
            for marker in item.iter_markers("thread_leaks"):
                if marker.args or "mode" in marker.kwargs:
                    return _load(config, "off")
    return None


def _load(config: pytest.Config, mode: str) -> None:
    from threadhooks.pytest_plugin import ThreadLeaks

    config.pluginmanager.register(ThreadLeaks(config, mode), "threadhooks-leaks")
