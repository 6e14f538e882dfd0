"""A conftest.py: early cleanups of the main thread run at the end of each test."""

import pytest

import threadhooks


@pytest.fixture(autouse=True)
def early_cleanups():
    with threadhooks.announced():
        yield
