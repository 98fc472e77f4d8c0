"""The readers of a SQLite file: a few connections that only read, each of whoever has taken it.

Handing a query to another thread takes some 100 microseconds, longer than most queries that find one row. Such a query
may be tried in the caller's own thread, an event loop's too: it is given up when it takes too many steps of SQLite's
machine, and is not begun when it would have to wait for a reader. Then it goes to another thread like any other.
"""

from __future__ import annotations

import asyncio
import itertools
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from assent.primitives.errors import Unavailable
from assent.storage.adapters.sqlite_faults import translated

READERS_MAX = 8
# Some 0.2 ms. SQLite counts the steps of a prepared statement over all of its runs, so a query is given up when it has
# taken between one and two times as many.
QUICK_STEPS_MAX = 5_000

Query = Callable[[sqlite3.Connection], Any]


class Readers:
    """At most `READERS_MAX` connections, made by `connect` when they are first needed."""

    def __init__(self, connect: Callable[[], sqlite3.Connection], *, path: Path) -> None:
        self._connect = connect
        self._path = path
        self._free: queue.SimpleQueue[sqlite3.Connection | None] = queue.SimpleQueue()
        self._made = 0
        self._lock = threading.Lock()
        self._is_open = False

    def open(self) -> None:
        """Let them be taken."""
        self._free = queue.SimpleQueue()
        self._is_open = True

    def close(self) -> None:
        """Wait for reads that run, and close every connection. Idempotent."""
        with self._lock:
            self._is_open = False
            while self._made:
                reader = self._free.get()
                if reader is not None:
                    reader.close()
                    self._made -= 1
            self._free.put(None)  # whoever still waits for a reader gets this, and passes it on

    async def read(self, query: Query) -> Any:
        """Run `query` in a transaction, off the event loop."""
        return await asyncio.to_thread(self.read_now, query)

    async def read_quick(self, query: Query) -> Any:
        """Run `query` in a transaction: in this thread when that is quick, and else off the event loop."""
        with translated(self._path):
            reader = self._at_once()
            if reader is not None:
                try:
                    with self._lent(reader), _limited(reader):
                        return query(reader)
                except sqlite3.OperationalError as error:
                    if error.sqlite_errorname != "SQLITE_INTERRUPT":
                        raise
        return await self.read(query)

    def read_now(self, query: Query) -> Any:
        """Run `query` in a transaction, in this thread."""
        with translated(self._path):
            reader = self._at_once() or self._usable(self._free.get())
            with self._lent(reader):
                return query(reader)

    @contextmanager
    def _lent(self, reader: sqlite3.Connection) -> Iterator[None]:
        """A reader in a transaction, given back afterwards."""
        try:
            reader.execute("BEGIN")
            try:
                yield
            finally:
                reader.rollback()
        finally:
            self._free.put(reader)

    def _at_once(self) -> sqlite3.Connection | None:
        """A reader, or None when all of them are taken."""
        with suppress(queue.Empty):
            return self._usable(self._free.get_nowait())
        with self._lock:
            if not self._is_open:
                raise Unavailable("database_closed", "the database is not open")
            if self._made == READERS_MAX:
                return None
            connection = self._connect()
            connection.execute("PRAGMA query_only=ON")
            self._made += 1
            return connection

    def _usable(self, reader: sqlite3.Connection | None) -> sqlite3.Connection:
        if reader is None:
            self._free.put(None)
            raise Unavailable("database_closed", "the database is closed")
        return reader


@contextmanager
def _limited(reader: sqlite3.Connection) -> Iterator[None]:
    """Have SQLite interrupt what takes too many steps."""
    looks = itertools.count()
    reader.set_progress_handler(lambda: next(looks) > 0, QUICK_STEPS_MAX)
    try:
        yield
    finally:
        reader.set_progress_handler(None, 0)
