"""One client of the broker: the program's connection, read head by head, and what it is answered."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from functools import partial

from assent.execution.adapters.egress.records import EgressLimits
from assent.primitives.errors import Refused, Unavailable

ESTABLISHED = b"HTTP/1.1 200 Connection Established\r\n\r\n"
_PIECE_BYTES = 65_536
_LINGER_S = 1.0
_LINGER_BYTES_MAX = 1_048_576
_AT_ONCE = struct.pack("ii", 1, 0)  # what is still to be sent is dropped, and the other side told by a reset
_REASONS = {400: "Bad Request", 403: "Forbidden", 408: "Request Timeout", 431: "Request Header Fields Too Large",
            502: "Bad Gateway", 503: "Service Unavailable"}  # fmt: skip
_STATUS_OF = {
    "host_refused": 403, "address_refused": 403, "port_refused": 403, "bytes_limit": 403, "unreachable": 502,
    "head_limit": 431, "head_wait_limit": 408, "connections_limit": 503,
}  # fmt: skip


class Client:
    """The program's side of a connection, with what was read of it and not yet used.

    `whole`: what the program was to get, it got; otherwise the connection ends with a reset, so that a piece of an
    answer cannot be taken for all of it.
    """

    def __init__(self, bare: socket.socket, limits: EgressLimits) -> None:
        self._loop = asyncio.get_running_loop()
        self._limits = limits
        self.bare, self._fd = bare, bare.fileno()  # the selector is quicker with numbers
        self.unread = bytearray()
        self.whole = False

    def close(self) -> None:
        """End the connection. Idempotent."""
        with contextlib.suppress(OSError):
            if not self.whole:
                self.bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        self.bare.close()

    async def speaks(self, within_s: float, *, quick: Callable[[], bool] = lambda: False) -> bool:
        """Whether the program says something more, its end included, within `within_s` seconds. Takes nothing of it.

        `quick` is asked first, on the loop itself: what it has served at once needs no task to wake up for.
        """
        if self.unread:
            return True
        heard: asyncio.Future[bool] = self._loop.create_future()

        def readable() -> None:
            if not quick():
                _settle(heard, spoke=True)

        self._loop.add_reader(self._fd, readable)
        timer = self._loop.call_later(within_s, partial(_settle, heard, spoke=False))
        try:
            return await heard
        finally:
            timer.cancel()
            self._loop.remove_reader(self._fd)

    async def head(self) -> bytes | None:
        """The next request's head, without its empty line; None when the program has ended the connection before one.

        Raises:
            Refused: it is too long (`head_limit`) or did not come whole in time (`head_wait_limit`).
        """
        head = self.head_now()
        if head is not None:
            return head
        try:
            async with asyncio.timeout(self._limits.head_ms / 1000):
                return await self._whole_head()
        except TimeoutError as error:
            raise Refused("head_wait_limit", f"no whole request within {self._limits.head_ms} ms") from error

    def head_now(self) -> bytes | None:
        """The next request's head if it is here already: most are, and need no timer.

        Raises:
            Refused: it is too long (`head_limit`).
            OSError: the connection broke.
        """
        with contextlib.suppress(BlockingIOError):
            self.unread += self.bare.recv(_PIECE_BYTES)
        return self._cut_head() if b"\r\n\r\n" in self.unread else None

    def put_back(self, head: bytes) -> None:
        """Give back a head that was taken, to be taken again."""
        self.unread[:0] = head + b"\r\n\r\n"

    async def some(self) -> bytes:
        """Whatever comes next of a body; empty at the end."""
        if not self.unread:
            return await self._loop.sock_recv(self.bare, _PIECE_BYTES)
        data = bytes(self.unread)
        self.unread.clear()
        return data

    async def refuse(self, code: str, message: str) -> None:
        """Answer no, in words that whoever looks at the program's output understands, and end the connection.

        The end is said before it is made: what the program still sends is read for a moment, or the kernel would take
        the answer back with a reset.
        """
        status = _STATUS_OF.get(code, 400)
        body = f"egress refused ({code}): {message}\n".encode(errors="replace")
        head = (
            f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                await self._loop.sock_sendall(self.bare, head.encode() + body)
                self.bare.shutdown(socket.SHUT_WR)
                self.whole = True
                left = _LINGER_BYTES_MAX
                while left > 0 and (data := await self._loop.sock_recv(self.bare, _PIECE_BYTES)):
                    left -= len(data)

    async def _whole_head(self) -> bytes | None:
        while b"\r\n\r\n" not in self.unread and len(self.unread) <= self._limits.head_bytes_max:
            data = await self._loop.sock_recv(self.bare, _PIECE_BYTES)
            if not data:
                return None
            self.unread += data
        return self._cut_head()

    def _cut_head(self) -> bytes:
        longest, end = self._limits.head_bytes_max, self.unread.find(b"\r\n\r\n")
        if not 0 <= end <= longest:
            raise Refused("head_limit", f"the head is longer than {longest} bytes")
        head = bytes(self.unread[:end])
        del self.unread[: end + 4]
        return head


def _settle(heard: asyncio.Future[bool], *, spoke: bool) -> None:
    if not heard.done():
        heard.set_result(spoke)


def refusal(error: Refused | Unavailable) -> tuple[str, str]:
    """The code and the words for a refusal, without control characters."""
    return error.code, "".join(one if one.isprintable() else "?" for one in str(error))
