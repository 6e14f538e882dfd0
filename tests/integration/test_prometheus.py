"""prometheus_client: how many threads there are."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support import LONG, in_thread

import threadhooks

prometheus_client = pytest.importorskip("prometheus_client")

RECIPE = "prometheus_threads"


def value(name: str) -> float:
    found = prometheus_client.REGISTRY.get_sample_value(name)
    assert found is not None
    return float(found)


@pytest.fixture
def before(recipe: ModuleType) -> dict[str, float]:
    names = ("app_threads", "app_threads_started_total", "app_threads_crashed_total", "app_thread_seconds_count")
    return {name: value(name) for name in names}


def since(before: dict[str, float]) -> dict[str, float]:
    """What has changed."""
    changes = {name: value(name) - old for name, old in before.items()}
    return {name: change for name, change in changes.items() if change}


def test_threads_that_come_and_go(before: dict[str, float]) -> None:
    """Three threads are counted while they run, and not when they have ended."""
    here, go_on = threading.Barrier(4), threading.Event()

    def work() -> None:
        here.wait(LONG)
        go_on.wait(LONG)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    here.wait(LONG)
    assert since(before) == {"app_threads": 3, "app_threads_started_total": 3}
    go_on.set()
    for thread in threads:
        thread.join(LONG)
    assert since(before) == {"app_threads_started_total": 3, "app_thread_seconds_count": 3}


def test_a_thread_that_crashes(before: dict[str, float], failures: list[Any]) -> None:
    """A crash is counted, and the thread is not alive any more."""
    in_thread(lambda: [][0])
    assert since(before) == {
        "app_threads_started_total": 1,
        "app_threads_crashed_total": 1,
        "app_thread_seconds_count": 1,
    }
    assert len(failures) == 1


def test_a_thread_older_than_install(before: dict[str, float]) -> None:
    """A thread that has not announced its start ends without having been counted as started; the gauge is right."""
    installed = threading.Event()

    def work() -> None:
        installed.wait(LONG)
        threadhooks.attach()

    threadhooks.uninstall()
    thread = threading.Thread(target=work)
    thread.start()
    threadhooks.install()
    ended: list[bool] = []
    with threadhooks.Plugin("test") as plugin:
        plugin.thread_exited(lambda thread, info, **extra: ended.append(info.announced))
        installed.set()
        thread.join(LONG)
    assert ended == [False]  # plus one and minus one would be at minus one
    assert since(before) == {}


def test_multiprocess_mode(program: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the multiprocess mode of prometheus_client a gauge with a function stays at zero; one that is set does not."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    assert (
        program(
            """
        from prometheus_client import CollectorRegistry, Gauge, multiprocess

        asked, told = Gauge("asked", "", multiprocess_mode="livesum"), Gauge("told", "", multiprocess_mode="livesum")
        asked.set_function(lambda: 5)
        told.set(5)
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        print(registry.get_sample_value("asked"), registry.get_sample_value("told"))
        """
        ).out
        == "0.0 5.0\n"
    )  # it leaves its files open, of which Python warns
