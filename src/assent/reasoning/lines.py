"""Bytes cut into lines and events, whatever pieces they arrive in. Pure.

A piece may end anywhere: inside a character, between CR and LF, in the middle of a line. What is held back until the
rest comes is at most one line and one event, and so never more than the bytes that were fed: who feeds bounds those.
"""

from __future__ import annotations

import re

STRAY_BYTES_MAX = 65_536
"""How much is kept of what stands in a stream of events and is none."""
NAME_CHARACTERS_MAX = 80
_MARK = b"\xef\xbb\xbf"
_FIELDS = (b"", b"event", b"data", b"id", b"retry")


class LineCutter:
    """Lines that end in LF, and with `any_break` also in CR or CRLF."""

    def __init__(self, *, any_break: bool = False) -> None:
        self._break = re.compile(rb"\r\n|\r|\n") if any_break else re.compile(rb"\n")
        self._any_break = any_break
        self._held = bytearray()
        self._after_cr = False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are whole by now, without their ends."""
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        first, *others = self._break.split(data)
        self._held += first
        if not others:
            return []
        self._after_cr = self._any_break and data.endswith(b"\r")
        whole = [bytes(self._held), *others[:-1]]
        self._held = bytearray(others[-1])
        return whole

    def end(self) -> bytes:
        """What has come of a line that did not end."""
        held, self._held = bytes(self._held), bytearray()
        return held


class EventCutter:
    """Server-sent events (WHATWG HTML, section 9.2), of which only the name and the data are wanted."""

    def __init__(self) -> None:
        self._lines = LineCutter(any_break=True)
        self._begun = False
        self._name = ""
        self._data: list[bytes] = []
        self._stray = bytearray()

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """The events that are whole by now: name and data."""
        return [event for line in self._lines.feed(data) for event in self._line(line)]

    def end(self) -> bytes:
        """What stood in the stream and was no event: servers that fail in the middle may answer in plain JSON there.
        An event that was not ended by an empty line was cut and is not told."""
        self._keep_stray(self._lines.end())
        return bytes(self._stray)

    def _line(self, line: bytes) -> list[tuple[str, bytes]]:
        if not self._begun:
            self._begun = True
            line = line.removeprefix(_MARK)
        if not line:
            event = (self._name, b"\n".join(self._data))
            whole = bool(self._data)
            self._name, self._data = "", []
            return [event] if whole else []
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            self._name = value.decode(errors="replace")[:NAME_CHARACTERS_MAX]
        elif field == b"data":
            self._data.append(value)
        else:
            self._keep_stray(line)
        return []

    def _keep_stray(self, line: bytes) -> None:
        if line.partition(b":")[0] not in _FIELDS and len(self._stray) + len(line) < STRAY_BYTES_MAX:
            self._stray += line + b"\n"
