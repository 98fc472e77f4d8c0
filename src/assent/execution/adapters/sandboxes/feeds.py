"""Input on its way in: written without ever blocking, as the program takes it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

WAITING_BYTES_MAX = 262_144
_PIECE_BYTES = 65_536


class Feed:
    """Writes one descriptor, in order, as far as the other side takes it. It owns the descriptor.

    At most `WAITING_BYTES_MAX` and one word wait here; `room` tells when more may come. What is written to a program
    that reads no more is dropped and counted in `dropped_bytes`. `farewell` says what is still written at the end (a
    terminal's end-of-file character); a pipe is closed. `ends`: with what it begins with it ends.
    """

    def __init__(
        self, fd: int, *, begins: bytes = b"", ends: bool = False, farewell: Callable[[bytes], bytes] | None = None
    ) -> None:
        self._fd = fd
        self._farewell, self._ends = farewell, ends
        self._waiting = bytearray(begins)
        self._last = begins[-1:]
        self._open, self._ending, self._writing = True, False, False
        self._has_room = asyncio.Event()
        self._has_room.set()
        self.dropped_bytes = 0
        os.set_blocking(fd, False)

    def start(self) -> None:
        """Begin writing on the running loop."""
        if self._ends:
            self.end()
        else:
            self._write()

    def write(self, data: bytes) -> None:
        """Write `data` after what waits already."""
        if not self._open or self._ending:
            self.dropped_bytes += len(data)
            return
        self._waiting += data
        self._last = data[-1:] or self._last
        self._write()

    async def room(self) -> None:
        """Wait until more may come."""
        await self._has_room.wait()

    def end(self) -> None:
        """No more input comes after what waits. Idempotent."""
        if self._open and not self._ending:
            self._ending = True
            if self._farewell is not None:
                self._waiting += self._farewell(self._last)
            self._write()

    def close(self) -> None:
        """Stop writing and close the descriptor. Idempotent."""
        self._pause()
        if self._open:
            self._open = False
            self.dropped_bytes += len(self._waiting)
            self._waiting.clear()
            os.close(self._fd)
        self._has_room.set()

    def _write(self) -> None:
        try:
            while self._waiting:
                written = os.write(self._fd, self._waiting[:_PIECE_BYTES])
                del self._waiting[:written]
        except BlockingIOError:
            pass
        except OSError:  # the program takes no more
            self.close()
            return
        if self._waiting:
            self._wait()
        else:
            self._pause()
            if self._ending and self._farewell is None:
                self.close()
        if len(self._waiting) < WAITING_BYTES_MAX:
            self._has_room.set()
        else:
            self._has_room.clear()

    def _wait(self) -> None:
        if not self._writing:
            self._writing = True
            asyncio.get_running_loop().add_writer(self._fd, self._write)

    def _pause(self) -> None:
        if self._writing:
            self._writing = False
            asyncio.get_running_loop().remove_writer(self._fd)
