"""Where one message ends and the next begins on a stream: one a line, or after a header with its length. Pure.

Both readers take pieces that may be cut anywhere, hold one unfinished message at most, and stop at `message_bytes_max`:
a peer that never ends a line, or announces a gigabyte, is found out after that many bytes and not after all memory.

Newline framing is what MCP and many tools use. A line that does not begin like a JSON object or array cannot be meant
as a message: servers print banners and warnings beside the protocol. Such lines are noise, counted and kept in part for
the record, and too much of it ends the conversation. A line that does begin like one is a message or a fault: nothing
that might have been an answer is skipped.

Header framing is that of the Language Server Protocol (its base protocol, "Header Part"). The grammar is taken by the
letter, since two readings of one length are how messages are smuggled: fields end with CR LF, `Content-Length` stands
there once, in digits; `Content-Type` may stand beside it; nothing else may.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, Protocol

from assent.primitives.errors import Malformed

NOISE_LINES_MAX = 1_000
NOISE_BYTES_MAX = 65_536
NOISE_KEPT_BYTES = 1_024
HEADER_BYTES_MAX = 1_024
_BLANK = b" \t\r\n"
_LENGTH = re.compile(rb"[0-9]{1,15}\Z")
_TYPE = re.compile(rb"[\x20-\x7e]*\Z")
_END = b"\r\n\r\n"


class Framing(Protocol):
    """Takes a stream apart, and puts messages on one. `noise` is the beginning of what was no message."""

    noise: bytes

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Take a piece; yield each message that is whole with it.

        Raises:
            Malformed: `frame_malformed`, `message_limit`, `noise_limit`; nothing after it can be read.
        """
        ...

    def frame(self, message: bytes) -> bytes:
        """`message` as it goes on the stream; it has no raw line break in it."""
        ...


def framing(kind: Literal["newline", "content-length"], *, message_bytes_max: int) -> Framing:
    """The reader and writer for one connection."""
    return Lines(message_bytes_max) if kind == "newline" else Headed(message_bytes_max)


class Lines:
    """One message a line (see `Framing`)."""

    def __init__(self, message_bytes_max: int) -> None:
        self._max = message_bytes_max
        self._held = bytearray()
        self._searched = 0
        self._noise_lines = self._noise_bytes = 0
        self.noise = b""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """See `Framing.feed`."""
        self._held += piece
        while (end := self._held.find(b"\n", self._searched)) >= 0:
            line = bytes(self._held[:end]).strip(_BLANK)
            del self._held[: end + 1]
            self._searched = 0
            if len(line) > self._max:
                raise too_long(self._max)
            if line.startswith((b"{", b"[")):
                yield line
            elif line:
                self._note(line)
        self._searched = len(self._held)
        if len(self._held) > self._max:
            raise too_long(self._max)

    def frame(self, message: bytes) -> bytes:
        """See `Framing.frame`."""
        return message + b"\n"

    def _note(self, line: bytes) -> None:
        self._noise_lines += 1
        self._noise_bytes += len(line)
        if self._noise_lines > NOISE_LINES_MAX or self._noise_bytes > NOISE_BYTES_MAX:
            raise Malformed("noise_limit", "the peer prints too much beside the protocol")
        self.noise = (self.noise + line + b"\n")[:NOISE_KEPT_BYTES]


class Headed:
    """Each message after a header that says its length (see `Framing`)."""

    def __init__(self, message_bytes_max: int) -> None:
        self._max = message_bytes_max
        self._held = bytearray()
        self._length = -1  # of the body that comes, or -1 while its header is not whole
        self.noise = b""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """See `Framing.feed`."""
        self._held += piece
        while self._length >= 0 or self._begin():
            if len(self._held) < self._length:
                return
            body = bytes(self._held[: self._length])
            del self._held[: self._length]
            self._length = -1
            yield body

    def frame(self, message: bytes) -> bytes:
        """See `Framing.frame`."""
        return b"Content-Length: %d\r\n\r\n%s" % (len(message), message)

    def _begin(self) -> bool:
        """Whether a header is whole; then it was read."""
        end = self._held.find(_END, 0, HEADER_BYTES_MAX + len(_END))
        if end < 0:
            if len(self._held) > HEADER_BYTES_MAX:
                raise _broken("the header does not end")
            return False
        header = bytes(self._held[:end])
        del self._held[: end + len(_END)]
        self._length = _length(header)
        if self._length > self._max:
            raise too_long(self._max)
        return True


def too_long(bytes_max: int) -> Malformed:
    """What is said of a message that is longer than it may be."""
    return Malformed("message_limit", f"a message of the peer is longer than {bytes_max} bytes")


def _length(header: bytes) -> int:
    fields: dict[bytes, bytes] = {}
    for line in header.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        name = name.lower()
        if not colon or name in fields:
            raise _broken("a header field is no field, or stands there twice")
        fields[name] = value.strip(b" ")
    length = fields.pop(b"content-length", b"")
    if not _LENGTH.match(length):
        raise _broken("the header says no length, or none that can be one")
    if set(fields) - {b"content-type"} or not _TYPE.match(fields.get(b"content-type", b"")):
        raise _broken("the header has a field that the protocol does not know")
    return int(length)


def _broken(message: str) -> Malformed:
    return Malformed("frame_malformed", f"the peer does not keep the framing: {message}")
