"""SQLite's errors, translated into ours in one place."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from assent.primitives.errors import AssentError, InvariantBroken, Malformed, Unavailable


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Translate SQLite's errors into ours, once, with the next step."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _translate(error, path) from error
    except UnicodeEncodeError as error:
        raise Malformed("text_malformed", f"`{error.object[:60]!a}` is not valid Unicode") from error


_FAULTS: tuple[tuple[str, str, str, str], ...] = (
    (
        "SQLITE_BUSY",
        "database_locked",
        "is locked by another process",
        "wait for it, or stop the process that holds it",
    ),
    ("SQLITE_FULL", "disk_full", "cannot grow: the disk is full", "free some space; nothing half-written was kept"),
    (
        "SQLITE_READONLY",
        "database_read_only",
        "is read-only",
        "check the permissions of the file, of those beside it (`-wal`, `-shm`), and of the folder",
    ),
    ("SQLITE_NOTADB", "database_damaged", "is not a database", "restore it from a backup; it was left as it is"),
    ("SQLITE_CORRUPT", "database_damaged", "is damaged", "restore it from a backup; it was left as it is"),
    ("SQLITE_CANTOPEN", "database_missing", "cannot be opened", "check that the folder exists and may be written"),
    ("SQLITE_PERM", "database_read_only", "may not be opened", "check the permissions of the file and its folder"),
    ("SQLITE_IOERR", "disk_error", "could not be read or written", "check the disk; nothing half-written was kept"),
)


def _translate(error: sqlite3.DatabaseError, path: Path) -> AssentError:
    name = getattr(error, "sqlite_errorname", "") or ""
    for prefix, code, what, hint in _FAULTS:
        if name.startswith(prefix):
            return Unavailable(code, f"the database `{path}` {what}", hint=hint)
    return InvariantBroken(
        "database_error", f"the database `{path}` refused a statement ({name or 'no code'}: {error})"
    )
