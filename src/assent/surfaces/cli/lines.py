"""Lines that somebody types, read without holding the event loop: what runs beside them goes on."""

from __future__ import annotations

import asyncio
import os
import sys

LINE_BYTES_MAX = 1_048_576


class Lines:
    """Reads lines from standard input, in whichever way it can be waited for."""

    def __init__(self) -> None:
        try:
            self._descriptor = sys.stdin.fileno() if sys.stdin is not None else -1
        except (OSError, ValueError):  # something stands in for it that is no file
            self._descriptor = -1
        self._rest = b""
        self._over = self._descriptor < 0

    @property
    def at_terminal(self) -> bool:
        """Whether a person types them."""
        return self._descriptor >= 0 and os.isatty(self._descriptor)

    async def next(self) -> str | None:
        """The next line without its end; None when there are no more."""
        while b"\n" not in self._rest and not self._over and len(self._rest) < LINE_BYTES_MAX:
            piece = await self._piece()
            self._over = not piece
            self._rest += piece
        if not self._rest and self._over:
            return None
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode(errors="replace").rstrip("\r")

    async def _piece(self) -> bytes:
        loop = asyncio.get_running_loop()
        ready = loop.create_future()

        def come() -> None:
            if not ready.done():
                ready.set_result(None)

        try:
            loop.add_reader(self._descriptor, come)
        except (PermissionError, NotImplementedError):  # a plain file is always ready, and cannot be waited for
            return os.read(self._descriptor, 65_536)
        try:
            await ready
        finally:
            loop.remove_reader(self._descriptor)
        return os.read(self._descriptor, 65_536)
