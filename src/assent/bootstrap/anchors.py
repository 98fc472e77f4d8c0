"""Kept checkpoints, written where the database is not: a text file of signed notes that only grows.

A copy of this file on another machine is what catches somebody who rolls the whole folder back.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class AnchorFile:
    """Appends signed notes, separated by an empty line, and flushes them. `fault` holds the last failure, or ""."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fault = ""

    def keep(self, notes: list[str]) -> None:
        """Append notes. A failure is remembered, not raised: the log itself is durable already."""
        try:
            descriptor = os.open(self.path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                _append_whole(descriptor, "".join(note + "\n" for note in notes).encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            self.fault = f"{self.path}: {error.strerror}"
        else:
            self.fault = ""


def _append_whole(descriptor: int, data: bytes) -> None:
    """Append all of `data` or nothing: half a note would make the whole file unreadable."""
    size = os.fstat(descriptor).st_size
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        raise
