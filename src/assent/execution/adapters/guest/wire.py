"""Frames on a stream: four bytes of length (big-endian), then one JSON object. Bounded in size and in time."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from typing import Any

import msgspec

from assent.execution.guests import FRAME_BYTES_MAX, Frame

HELLO_S = 10.0
SEND_S = 20.0
READ_AHEAD_BYTES = 262_144
_LENGTH = struct.Struct(">I")
_encoder = msgspec.json.Encoder()


class Lost(Exception):
    """The connection is over: ended, garbled, or too slow. The text says which."""


class Peer:
    """One connection. Several tasks may send; one receives."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @property
    def certificate(self) -> bytes:
        """The other side's certificate (DER), verified; empty when it showed none."""
        found = self._writer.get_extra_info("ssl_object")
        return (found.getpeercert(binary_form=True) or b"") if found is not None else b""

    def put(self, frame: Frame) -> None:
        """Send without waiting. For what is bounded otherwise."""
        data = _encoder.encode(frame)
        if len(data) > FRAME_BYTES_MAX:
            raise Lost("what was to be sent is too large")
        if not self._writer.is_closing():
            self._writer.write(_LENGTH.pack(len(data)) + data)

    async def send(self, frame: Frame) -> None:
        """Send, waiting while the other side is slow. Raises Lost, also when it takes nothing for `SEND_S`."""
        try:
            self.put(frame)
            async with asyncio.timeout(SEND_S):
                await self._writer.drain()
        except TimeoutError:
            self.cut()
            raise Lost("it takes nothing") from None
        except OSError as error:
            raise Lost(f"it is gone ({error})") from error

    async def receive(self, kind: Any, *, within_s: float | None, bytes_max: int = FRAME_BYTES_MAX) -> Any:
        """The next frame, one of `kind`. Raises Lost, also when none comes in time (None: whenever it comes)."""
        try:
            async with asyncio.timeout(within_s):
                size = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))[0]
                if size > bytes_max:
                    raise Lost(f"it announced a frame of {size} bytes")
                data = await self._reader.readexactly(size)
            return msgspec.json.decode(data, type=kind)
        except TimeoutError:
            raise Lost("it was silent for too long") from None
        except asyncio.IncompleteReadError:
            raise Lost("it ended") from None
        except (OSError, ssl.SSLError) as error:
            raise Lost(f"it is gone ({error})") from error
        except (msgspec.DecodeError, RecursionError) as error:
            raise Lost(f"it sent no frame that belongs here ({str(error)[:200]})") from error

    def cut(self) -> None:
        """End it at once. Idempotent."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """Send what is left, for a moment, and end. Idempotent."""
        self._writer.close()
        try:
            async with asyncio.timeout(2.0):
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            self.cut()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
