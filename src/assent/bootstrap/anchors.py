"""Kept checkpoints, written where the database is not: a text file of signed notes that only grows.

A copy of this file on another machine is what catches somebody who rolls the whole folder back.
"""

from __future__ import annotations

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
                os.write(descriptor, "".join(note + "\n" for note in notes).encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            self.fault = f"{self.path}: {error.strerror}"
        else:
            self.fault = ""
