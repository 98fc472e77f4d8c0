"""The tickets a guest has used, written down before anything of them runs: a file that survives the guest."""

from __future__ import annotations

import os
from pathlib import Path

from assent.execution.adapters.guest.authority import keep
from assent.primitives.ids import GrantId

KEEP_MS = 7 * 86_400_000  # far longer than any ticket is good for, should the clock be set back


class Spent:
    """Used tickets in `path`, one line each: the id, and when it expired. Raises OSError when it cannot be used."""

    def __init__(self, path: Path, *, now_ms: int) -> None:
        self._ids: set[str] = set()
        lines = []
        for line in path.read_text(encoding="ascii", errors="replace").splitlines() if path.exists() else []:
            id_, _, expires = line.partition(" ")
            if expires.isdigit() and int(expires) > now_ms - KEEP_MS:
                lines.append(line)
                self._ids.add(id_)
        keep(path, "".join(f"{line}\n" for line in lines).encode())
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)

    def __contains__(self, ticket: GrantId) -> bool:
        return ticket in self._ids

    def add(self, ticket: GrantId, *, expires_at_ms: int) -> None:
        """It is on the disk when this returns."""
        self._ids.add(ticket)
        os.write(self._fd, f"{ticket} {expires_at_ms}\n".encode())
        os.fsync(self._fd)

    def close(self) -> None:
        """Nothing more is added. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
