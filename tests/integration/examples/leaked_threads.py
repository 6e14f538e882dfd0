"""A conftest.py: a test that leaves a thread behind fails."""

import threading

import pytest

import threadhooks

GRACE = 1  # seconds for each thread


@pytest.fixture(autouse=True)
def no_leaked_threads():
    before = set(threading.enumerate())
    started = []

    def remember(thread, **extra):
        started.append(thread)

    with threadhooks.installed(), threadhooks.thread_started.connected_to(remember):
        yield
        for thread in started:
            thread.join(GRACE)
    # A thread that has only just been started may not have announced itself yet.
    leaked = [thread for thread in {*started, *threading.enumerate()} - before if thread.is_alive()]
    assert not leaked, f"threads that the test has left behind: {leaked}"


@pytest.fixture(autouse=True)
def early_clean_ups():
    """Tests run in the main thread, which ends last: what is registered as early is run at the end of each test."""
    with threadhooks.announced():
        yield
