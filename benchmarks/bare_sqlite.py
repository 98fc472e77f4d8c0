"""The yardstick of the ledger: SQLite as a developer would use it, one commit for each of two writes of a call.

The same settings as the ledger's (WAL, synchronous=FULL), an ordinary rowid table, the same bytes to keep: the call's
canonical intent with its idempotency key, then its outcome. No log, no hashes, no signature, no guard.
"""

from __future__ import annotations

import itertools
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

_SCHEMA = "CREATE TABLE IF NOT EXISTS calls (id INTEGER PRIMARY KEY, key TEXT UNIQUE, intent BLOB, outcome BLOB)"
_ACCEPT = "INSERT INTO calls (id, key, intent) VALUES (?, ?, ?)"
_SETTLE = "UPDATE calls SET outcome = ? WHERE id = ?"


class BareSqlite:
    """One file, ready for calls by one of two plans. Close it to check that every call is really there."""

    def __init__(self, path: Path, *, intent: bytes, outcome: bytes) -> None:
        self._path = path
        self._intent = intent
        self._outcome = outcome
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._own = threading.local()
        self._shared = self._connect()
        self._shared.execute(_SCHEMA)

    def locked_call(self) -> None:
        """One connection for all threads, behind a lock that is held for one transaction."""
        number = next(self._numbers)
        with self._lock:
            _commit(self._shared, _ACCEPT, (number, f"call-{number}", self._intent))
        with self._lock:
            _commit(self._shared, _SETTLE, (self._outcome, number))

    def own_call(self) -> None:
        """A connection for each thread; SQLite makes the writers wait for each other."""
        connection: sqlite3.Connection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = self._connect()
        number = next(self._numbers)
        _commit(connection, _ACCEPT, (number, f"call-{number}", self._intent))
        _commit(connection, _SETTLE, (self._outcome, number))

    def close(self) -> int:
        """Close it and return how many calls are settled in it."""
        (settled,) = self._shared.execute("SELECT count(*) FROM calls WHERE outcome IS NOT NULL").fetchone()
        self._shared.close()
        return int(settled)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=60)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        return connection


def _commit(connection: sqlite3.Connection, sql: str, values: tuple[object, ...]) -> None:
    execute: Callable[..., object] = connection.execute
    execute("BEGIN IMMEDIATE")
    execute(sql, values)
    execute("COMMIT")
