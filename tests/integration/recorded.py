"""A real SQLite connection that knows its threads."""

from __future__ import annotations

import sqlite3
import threading
from typing import Any


class Connection(sqlite3.Connection):
    """A connection that knows which thread opened it, and which one closed it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.opened_by = threading.current_thread()
        self.closed_by: threading.Thread | None = None

    def close(self) -> None:
        super().close()  # which raises in any thread but the right one
        assert self.closed_by is None, "closed twice"
        self.closed_by = threading.current_thread()
