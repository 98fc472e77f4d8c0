"""Many rows in one statement.

`executemany` steps once a row, and Python's SQLite driver takes the interpreter's lock back after every step. One
statement with many rows steps once for all of them, so the event loop runs while SQLite works. Rows go in blocks of a
few fixed sizes, so that the prepared statements are few and are found again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain

BLOCKS = (64, 16, 4, 1)


class ManyRows:
    """A statement written as `before`, a list of rows of `columns` values each, and `after`."""

    def __init__(self, *, before: str, columns: int, after: str = "") -> None:
        row = f"({', '.join('?' * columns)})"
        self._sql = {block: f"{before} {', '.join([row] * block)} {after}" for block in BLOCKS}

    def run(self, connection: sqlite3.Connection, rows: Sequence[Sequence[object]]) -> int:
        """Run it for all `rows`, in order, and return how many rows of the table it changed."""
        changed = start = 0
        for block, sql in self._sql.items():
            while len(rows) - start >= block:
                values = list(chain.from_iterable(rows[start : start + block]))
                changed += connection.execute(sql, values).rowcount
                start += block
        return changed
