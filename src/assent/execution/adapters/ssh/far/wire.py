"""Frames on the standard streams: one letter, a length of four bytes (big-endian), the payload."""

from __future__ import annotations

import json
import os
import select
import struct
import time
from typing import Any

HEADER = struct.Struct(">cI")
FRAME_BYTES_MAX = 2_097_152
PIECE_BYTES = 65_536


class Lost(Exception):
    """Nobody is there any more."""


class Wire:
    """Frames on the standard streams, never blocking: what cannot be written yet waits in `pending`."""

    def __init__(self) -> None:
        self.pending = bytearray()
        self._arrived = bytearray()
        self.heard_at = time.monotonic()
        for fd in (0, 1):
            os.set_blocking(fd, False)

    def say(self, letter: bytes, payload: bytes = b"") -> None:
        """Send a frame when there is room."""
        self.pending += HEADER.pack(letter, len(payload)) + payload

    def tell(self, letter: bytes, value: Any) -> None:
        """Send a value as JSON."""
        self.say(letter, json.dumps(value).encode())

    def write(self) -> None:
        """Write what can be written now. Raises Lost."""
        try:
            while self.pending:
                del self.pending[: os.write(1, self.pending[:PIECE_BYTES])]
        except BlockingIOError:
            pass
        except OSError as error:
            raise Lost from error

    def read(self) -> list[tuple[bytes, bytes]]:
        """Every whole frame that has arrived."""
        try:
            data = os.read(0, PIECE_BYTES)
        except BlockingIOError:
            return []
        if not data:
            raise Lost
        self.heard_at = time.monotonic()
        self._arrived += data
        found = []
        while len(self._arrived) >= HEADER.size:
            letter, size = HEADER.unpack_from(self._arrived)
            if size > FRAME_BYTES_MAX:
                raise Lost
            if len(self._arrived) < HEADER.size + size:
                break
            found.append((letter, bytes(self._arrived[HEADER.size : HEADER.size + size])))
            del self._arrived[: HEADER.size + size]
        return found

    def flush(self, seconds: float) -> None:
        """Write all that is pending, for at most that long."""
        end = time.monotonic() + seconds
        while self.pending and time.monotonic() < end:
            select.select([], [1], [], 0.2)
            self.write()
