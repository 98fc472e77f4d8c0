"""Which database libraries this process uses, for people who look after it."""

from __future__ import annotations

import sqlite3


def sqlite_version() -> str:
    """The release of SQLite that is linked in."""
    return sqlite3.sqlite_version
