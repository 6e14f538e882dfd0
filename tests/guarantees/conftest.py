"""What the tests of the guarantees share."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from threadhooks import Plugin


@pytest.fixture
def heard(plugin: Plugin) -> list[threading.Thread]:
    """The threads whose `thread_exited` the plugin was told of."""
    heard: list[threading.Thread] = []

    def exited(thread: threading.Thread, **extra: Any) -> None:
        heard.append(thread)

    plugin.thread_exited(exited)
    return heard
