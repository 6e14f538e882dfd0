"""The documentation, built: without a warning, and its search finds what people look for."""

from __future__ import annotations

import functools
import http.server
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("furo")
pytest.importorskip("myst_parser")
pytest.importorskip("sphinx_copybutton")

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

# What people look for, and the page that tells them about it
SEARCHES = {
    "asyncio": "how-to/asyncio",
    "Flask": "how-to/flask",
    "FastAPI": "how-to/fastapi",
    "Celery": "how-to/celery",
    "Prometheus": "how-to/monitoring",
    "Qt": "how-to/qt",
    "timeline": "how-to/timeline",
    "pytest": "how-to/pytest",
    "leak": "how-to/leaked-threads",
    "connection": "how-to/connections",
    "fork": "how-to/processes",
}


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files, and tells nobody."""

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built pages; warnings are errors."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html"]
    result = subprocess.run(
        [*command, "-d", str(folder / "doctrees"), str(ROOT / "docs"), str(folder / "html")],
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert (result.stderr, result.returncode) == ("", 0)
    return folder / "html"


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Where the pages are served."""
    server = http.server.ThreadingHTTPServer(("localhost", 0), functools.partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://localhost:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_page_shows_the_version_and_its_headings(site: Path) -> None:
    """Each page says which version it describes; each that has sections lists them as "on this page"."""
    from importlib.metadata import version

    for name in ("index", "getting-started", "faq", "guarantees", "reference"):
        text = (site / f"{name}.html").read_text(encoding="utf-8")
        assert f"threadhooks {version('threadhooks')}" in text
        assert "On this page" in text
        assert "copybutton.js" in text


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
@pytest.mark.parametrize("word", SEARCHES)
def test_search_finds_the_page(word: str, address: str, tmp_path: Path) -> None:
    """Searching a word in the browser lists the page about it among the first five, with an excerpt."""
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    page = subprocess.run(
        [*command, "--virtual-time-budget=10000", "--dump-dom", f"{address}/search.html?q={word}"],
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    found = re.findall(r'<li class="kind-\w+"><a href="([^"#]+)\.html', page.partition('id="search-results"')[2])
    assert SEARCHES[word] in found[:5]
    assert '<p class="context">' in page
