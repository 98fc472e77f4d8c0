"""Lines, found in bytes that arrive in pieces. Pure.

A line ends at LF, at CRLF or at a lone CR (a progress bar's). However the bytes are cut into pieces, the lines are the
same; and no line waits for the byte after it: at a CR the line is told at once, and an LF that follows belongs to it.

A line without an end is bounded: once it is longer than `line_bytes_max`, the framer says so and takes nothing more.
"""

from __future__ import annotations

import re

_ENDS = re.compile(rb"\r\n|\r|\n")


class LineFramer:
    """Cuts one stream into lines, told without their ends. A last line without an end is told by `last`."""

    def __init__(self, *, line_bytes_max: int) -> None:
        self._bytes_max = line_bytes_max
        self._partial = bytearray()
        self._after_cr = False
        self.overrun = False

    def lines(self, piece: bytes) -> list[bytes]:
        """The lines that end in `piece`. Sets `overrun` at a line that is too long, and from then on tells nothing."""
        if self.overrun or not piece:
            return []
        begin = 1 if self._after_cr and piece.startswith(b"\n") else 0
        self._after_cr = piece.endswith(b"\r")
        found: list[bytes] = []
        for end in _ENDS.finditer(piece, begin):
            self._partial += piece[begin : end.start()]
            begin = end.end()
            if self._too_long():
                return found
            found.append(bytes(self._partial))
            self._partial.clear()
        self._partial += piece[begin:]
        self._too_long()
        return found

    def last(self) -> list[bytes]:
        """What is left at the end of the stream: a line without an end, if there is one."""
        left, self._partial = bytes(self._partial), bytearray()
        return [left] if left else []

    def _too_long(self) -> bool:
        if len(self._partial) > self._bytes_max:
            self.overrun = True
            self._partial.clear()
        return self.overrun
