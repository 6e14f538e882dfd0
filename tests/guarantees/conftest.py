"""What the tests of promises and of limits share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from threadhooks import Plugin


@pytest.fixture
def plugin() -> Iterator[Plugin]:
    with Plugin("guarantees") as plugin:
        yield plugin
