"""The pytest plugin beside other plugins, whose threads are not leaks, and on the suite of a project that leaks."""

from __future__ import annotations

import re
import socket
import tarfile
from collections.abc import Callable

import pytest
from sdists import fetch
from suites import blamed, run_suite

pytest_plugins = ["pytester"]
Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Run a suite of tests with ``--thread-leaks=error`` and one more plugin, or skip where that is not installed."""

    def run(plugin: str, tests: str, *options: str, ini: str = "") -> pytest.RunResult:
        pytest.importorskip(plugin.partition(".")[0])
        return run_suite(pytester, tests, "--thread-leaks=error", "-p", plugin, *options, ini=ini)

    return run


def test_xdist(run: Run) -> None:
    """In the workers of xdist each test is blamed for its own, with the whole message; execnet's threads are not."""
    result = run(
        "xdist.plugin",
        """
        import logging

        @pytest.mark.parametrize("number", range(20))
        def test_good(number):
            logging.warning("in what thread soever")

        @pytest.mark.parametrize("number", range(4))
        def test_leaks(number):
            leave(f"left-{number}")
        """,
        "-n2",
    )
    assert blamed(result) == [f"test_leaks[{number}]" for number in range(4)]
    result.assert_outcomes(passed=24, errors=4)
    result.stdout.fnmatch_lines(["left a thread behind: left-3", "    started  test_it.py:* thread.start()"])


def test_reruns(run: Run) -> None:
    """With pytest-rerunfailures, a test that leaked is run again, and passes if it leaks no more."""
    result = run(
        "pytest_rerunfailures",
        """
        runs = []

        def test_once():
            runs.append(1)
            if len(runs) == 1:
                leave()

        def test_leaks():
            leave()
        """,
        "--reruns=2",
    )
    assert blamed(result) == ["test_leaks"]
    assert result.parseoutcomes()["rerun"] == 3


@pytest.mark.parametrize("option", ["timeout_func_only = false", "timeout_func_only = true"])
def test_timeout(run: Run, option: str) -> None:
    """The timer of pytest-timeout is no leak of a test."""
    result = run(
        "pytest_timeout",
        """
        def test_good():
            assert [t for t in threading.enumerate() if t.name.startswith("pytest_timeout")]

        def test_leaks():
            leave()
        """,
        "--timeout=60",
        "--timeout-method=thread",
        ini=option,
    )
    assert blamed(result) == ["test_leaks"]


def test_asyncio(run: Run) -> None:
    """With pytest-asyncio, the idle workers of a loop's executor may stay, busy ones may not, on loops of any scope."""
    result = run(
        "pytest_asyncio.plugin",
        """
        import asyncio, pytest_asyncio

        @pytest_asyncio.fixture(loop_scope="session", scope="session")
        async def server():
            await asyncio.to_thread(leave)
            yield

        @pytest.mark.asyncio(loop_scope="session")
        async def test_leaks_a_busy_worker():
            asyncio.get_running_loop().run_in_executor(None, for_ever.wait)

        async def test_good():
            await asyncio.to_thread(str)

        @pytest.mark.asyncio(loop_scope="session")
        async def test_good_on_the_loop_of_all(server):
            await asyncio.gather(*[asyncio.to_thread(str) for _ in range(20)])

        async def test_leaks_through_a_worker():
            await asyncio.to_thread(leave)

        @pytest.mark.asyncio(loop_scope="session")
        async def test_leaks_through_the_worker_of_another(server):
            await asyncio.to_thread(leave)

        @pytest.mark.asyncio(loop_scope="session")
        async def test_end():
            for_ever.set()
        """,
        ini="asyncio_mode = auto\nasyncio_default_fixture_loop_scope = function",
    )
    assert blamed(result) == [
        "test_leaks_a_busy_worker",
        "test_leaks_through_a_worker",
        "test_leaks_through_the_worker_of_another",
    ]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_anyio(run: Run, backend: str) -> None:
    """With anyio's plugin, the idle workers of anyio and trio may stay; a busy one may not, nor what one starts."""
    if backend == "trio":
        pytest.importorskip("trio")
    result = run(
        "anyio.pytest_plugin",
        f"""
        import anyio
        pytestmark = pytest.mark.anyio
        begun = threading.Event()

        def busy():
            begun.set()
            for_ever.wait()

        @pytest.fixture(scope="session")
        def anyio_backend():
            return "{backend}"

        @pytest.fixture(scope="session")
        async def server(anyio_backend):
            yield anyio

        async def test_leaks_a_busy_worker(server):
            with anyio.move_on_after(0.1):
                await anyio.to_thread.run_sync(busy, abandon_on_cancel=True)

        async def test_good(server):
            async with anyio.create_task_group() as group:
                for _ in range(5):
                    group.start_soon(anyio.to_thread.run_sync, str)

        async def test_leaks_through_a_worker(server):
            await anyio.to_thread.run_sync(leave)

        async def test_end(server):
            for_ever.set()
        """,
    )
    assert blamed(result) == ["test_leaks_a_busy_worker", "test_leaks_through_a_worker"]


# The tests of waitress 3.0.2 that start the threads of a server, and never stop them.
WAITRESS = [
    "TestUnixWSGIServer::test_creates_new_sockinfo",
    "TestWSGIServer::test_backward_compatibility",
    "TestWSGIServer::test_create_with_one_socket_handle_accept_noerror",
    "TestWSGIServer::test_create_with_one_socket_should_not_bind_socket",
    "TestWSGIServer::test_create_with_one_tcp_socket",
    "TestWSGIServer::test_ctor_makes_dispatcher",
]


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there, the tests are others")
def test_the_suite_of_waitress(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six of waitress' tests leak four threads each: these are blamed, and no other."""
    with tarfile.open(fetch("waitress", "3.0.2", pytester.path)) as archive:
        for member in archive:
            found = re.fullmatch(r"[^/]+/(?:src/(waitress/\w+\.py)|tests/(test_server\.py))", member.name)
            if found:
                member.name = found[1] or found[2]
                archive.extract(
                    member, pytester.path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {})
                )
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    options = ["-p", "threadhooks", "--thread-leaks=error", "-o", "thread_leaks_grace=0.2", "-p", "no:cacheprovider"]
    result = pytester.runpytest_subprocess(*options, "--import-mode=prepend", "test_server.py", timeout=90)
    assert sorted(re.findall(r"^ERROR test_server\.py::(\S+)", result.stdout.str(), re.MULTILINE)) == WAITRESS
    result.assert_outcomes(passed=31, errors=6)
    result.stdout.fnmatch_lines(
        [
            "left 4 threads behind: waitress-0, waitress-1, waitress-2, waitress-3",
            "  waitress-0, waitress-1, waitress-2, waitress-3 (daemons)",
            "    target   waitress.task.ThreadedTaskDispatcher.handler_thread",
            "    started  waitress/task.py:*  t.start()",
            "    now at   waitress/task.py:*  self.queue_cv.wait()",
        ]
    )
