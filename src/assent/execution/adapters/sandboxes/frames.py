"""What a supervisor and an interpreter say to each other over their private socket: frames of bounded length.

    length of the payload (4 bytes) | nonce (16) | kind (1) | payload

The nonce is the supervisor's, new for every call, and comes back on everything that belongs to it: what an earlier call
left behind (a thread that still writes, a frame forged in advance) cannot be taken for this one's. Payloads are
JSON text, never pickles. Standard library only: the interpreter's side reads this module too.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

NONCE_BYTES = 16
PAYLOAD_BYTES_MAX = 8_388_608  # a call's source and arguments, escaped; what comes back is held to `PIECE_BYTES_MAX`
PIECE_BYTES_MAX = 65_536
NO_NONCE = bytes(NONCE_BYTES)

CALL, PING = b"C", b"P"  # from the supervisor
ITEM, PIECE, END, PONG = b"i", b"p", b"e", b"o"  # from the interpreter

_HEADER = struct.Struct(f">I{NONCE_BYTES}sc")
HEADER_BYTES = _HEADER.size


class Frame(NamedTuple):
    """One frame."""

    kind: bytes
    nonce: bytes
    payload: bytes


class FrameBroken(Exception):
    """The other side does not speak this protocol (any more)."""


def packed(kind: bytes, nonce: bytes, payload: bytes) -> bytes:
    """A frame as it is sent."""
    return _HEADER.pack(len(payload), nonce, kind) + payload


def taken(buffer: bytearray, *, payload_bytes_max: int) -> Frame | None:
    """Take the first whole frame out of `buffer`; None while there is none.

    Raises:
        FrameBroken: it announces more than `payload_bytes_max`.
    """
    if len(buffer) < HEADER_BYTES:
        return None
    length, nonce, kind = _HEADER.unpack_from(buffer)
    if length > payload_bytes_max:
        raise FrameBroken(f"a frame of {length} bytes")
    end = HEADER_BYTES + length
    if len(buffer) < end:
        return None
    payload = bytes(memoryview(buffer)[HEADER_BYTES:end])
    del buffer[:end]
    return Frame(kind, nonce, payload)
