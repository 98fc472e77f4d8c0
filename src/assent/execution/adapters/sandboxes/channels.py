"""The supervisor's end of an interpreter's socket: frames in, in bounded number; requests out."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable

from assent.execution.adapters.sandboxes import frames

_WAITING_MAX = 8
_PAYLOAD_BYTES_MAX = 1_048_576  # an end with all its exceptions; pieces and items are far smaller
_UNREADABLE = frames.Frame(b"?", frames.NO_NONCE, b"")


class Channel:
    """Reads frames while it is `heard`, and stops reading while `_WAITING_MAX` of them wait to be taken."""

    def __init__(self, ours: socket.socket) -> None:
        ours.setblocking(False)
        self._socket, self._fd = ours, ours.fileno()
        self._buffer = bytearray()
        self._frames: deque[frames.Frame] = deque()
        self._on_news: Callable[[], None] | None = None
        self._reading = False
        self.closed = False

    async def send(self, kind: bytes, nonce: bytes, payload: bytes) -> None:
        """Send one frame. That nobody is there to read it shows as `closed`."""
        try:
            await asyncio.get_running_loop().sock_sendall(self._socket, frames.packed(kind, nonce, payload))
        except OSError:
            self._shut()

    def hear(self, on_news: Callable[[], None]) -> None:
        """Begin to read; `on_news` is called when there is a frame to take, or when the other side has closed."""
        self._on_news = on_news
        self._read_on()

    def rest(self) -> None:
        """Stop reading. Idempotent."""
        self._on_news = None
        self._stop()

    def take(self) -> frames.Frame | None:
        """The next frame, if one is there. One that cannot be read is of the kind `?`."""
        if not self._frames:
            return None
        frame = self._frames.popleft()
        if self._on_news is not None and len(self._frames) <= _WAITING_MAX // 2:
            self._read_on()
        return frame

    def read_to_the_end(self) -> None:
        """Whoever wrote is dead: what the socket still holds, which is bounded by its buffer."""
        self._stop()
        while not self.closed and self._read():
            pass

    def close(self) -> None:
        """Close it. Idempotent."""
        self._stop()
        self._socket.close()

    def _readable(self) -> None:
        self._read()
        if len(self._frames) > _WAITING_MAX:
            self._stop()

    def _read(self) -> bool:
        """Read one piece; whether there was one."""
        try:
            piece = self._socket.recv(frames.PIECE_BYTES_MAX)
        except BlockingIOError:
            return False
        except OSError:
            piece = b""
        if not piece:
            self._shut()
            return False
        self._buffer += piece
        try:
            while frame := frames.taken(self._buffer, payload_bytes_max=_PAYLOAD_BYTES_MAX):
                self._frames.append(frame)
        except frames.FrameBroken:
            self._buffer.clear()
            self._frames.append(_UNREADABLE)
        self._tell()
        return True

    def _shut(self) -> None:
        self._stop()
        self.closed = True
        self._tell()

    def _tell(self) -> None:
        if self._on_news is not None:
            self._on_news()

    def _read_on(self) -> None:
        if not (self._reading or self.closed):
            self._reading = True
            asyncio.get_running_loop().add_reader(self._fd, self._readable)

    def _stop(self) -> None:
        if self._reading:
            self._reading = False
            asyncio.get_running_loop().remove_reader(self._fd)
