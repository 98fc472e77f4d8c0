"""Bodies: unpacked under a cap, and shown as text where they are text. Pure.

A cap on what arrives is no cap on what it becomes: a megabyte of gzip holds a gigabyte. So unpacking stops at the cap
and zlib is never asked for more than one small piece. Only gzip, which the lane asks for, is unpacked; a body in
another coding, or in several, is handed on packed, and its `content-encoding` header says so.
"""

from __future__ import annotations

import base64
import codecs
import re
import zlib
from collections.abc import Iterator

_PIECE_BYTES = 65_536
_GZIP = zlib.MAX_WBITS | 16
_GZIP_FIRST = b"\x1f"  # one byte is enough to tell a member from padding, and may be all that has come
_CHARSET = re.compile(r"charset\s*=\s*\"?([A-Za-z0-9._-]+)")
_CHARSETS = frozenset({"utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", "latin1", "windows-1252"})


class Unpacker:
    """Unpacks one body piece by piece.

    `unpack` yields pieces of at most 64 KiB; the caller stops when it has enough, and nothing beyond the piece in hand
    has been unpacked by then. It raises ValueError when the body is not in the coding it claims. `complete` tells
    whether a packed body came to its proper end.
    """

    def __init__(self, coding: str) -> None:
        self._packed = coding.strip().lower() in {"gzip", "x-gzip"}
        self._inflate = zlib.decompressobj(_GZIP)
        self._started = False

    @property
    def complete(self) -> bool:
        """Whether nothing is missing at the end of what was unpacked so far."""
        return not self._packed or not self._started or self._inflate.eof

    def unpack(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` becomes."""
        if not self._packed:
            yield from (data[at : at + _PIECE_BYTES] for at in range(0, len(data), _PIECE_BYTES))
            return
        self._started = self._started or bool(data)
        while data:
            if self._inflate.eof:
                if not data.startswith(_GZIP_FIRST):
                    return  # padding after the last member, as gzip itself ignores it
                self._inflate = zlib.decompressobj(_GZIP)
            yield from self._member(data)
            data = self._inflate.unused_data

    def _member(self, data: bytes) -> Iterator[bytes]:
        full = False
        while (data or full) and not self._inflate.eof:
            try:
                piece = self._inflate.decompress(data, _PIECE_BYTES)
            except zlib.error as error:
                raise ValueError("the body is not in the coding it claims") from error
            data, full = self._inflate.unconsumed_tail, len(piece) == _PIECE_BYTES
            if piece:
                yield piece


def shown(data: bytes, *, content_type: str = "", cut: bool = False) -> str | dict[str, str]:
    """`data` as text where it is text, else as `{"base64": …}`.

    The charset is the one `content_type` names, if it is one of a few plain ones, or UTF-8; decoding is strict, but a
    character that is unfinished at the end of what was `cut` is left out. Text with a NUL counts as binary: databases
    and terminals do not take it.
    """
    named = _CHARSET.search(content_type.lower())
    charset = named[1] if named else "utf-8"
    if charset in _CHARSETS and b"\0" not in data:
        try:
            return codecs.getincrementaldecoder(charset)("strict").decode(data, final=not cut)
        except UnicodeDecodeError:
            pass
    return {"base64": base64.b64encode(data).decode("ascii")}
