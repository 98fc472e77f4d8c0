"""Server-sent events, decoded piece by piece as the WHATWG HTML standard says (section 9.2.6). Pure.

The rules, in the words of this module: a byte order mark at the very beginning is dropped; a line ends with CR LF, LF
or CR; an empty line hands up what has come together, if there is data; a line that begins with a colon is a comment;
any other line is a field and, after the first colon and one space, its value. `data` adds a line, `event` names the
type, `id` sets the last event id unless it has a NUL in it, `retry` sets the time to wait before reconnecting if it is
all digits; other fields mean nothing. What is unfinished at the end of a stream is dropped.

What the standard leaves open is bounded here: all that one event holds on to, an unfinished line included, is at most
`event_bytes_max`. A server that never sends a newline is stopped there.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator

import msgspec

ID_CHARS_MAX = 1_024
RETRY_MS_MAX = 86_400_000
_BOM = "\ufeff"


class ServerEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event: its type (`message` unless named), its data, and the last event id as it stands after it."""

    event: str
    data: str
    id: str


class TooLong(ValueError):
    """An event is longer than it may be; `part` says what of it: the event, or its id."""

    def __init__(self, part: str) -> None:
        super().__init__(f"the {part} is too long")
        self.part = part


class Decoder:
    """Decodes one connection's stream. `last_event_id` and `retry_ms` (-1: never said) are true after each `feed`.

    Bytes that are no UTF-8 become U+FFFD, as the standard has it.
    """

    def __init__(self, *, event_bytes_max: int, last_event_id: str = "") -> None:
        self._max = event_bytes_max
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._at_start, self._after_cr = True, False
        self._line: list[str] = []
        self._data: list[str] = []
        self._held = 0
        self._type = ""
        self._id = last_event_id
        self.last_event_id = last_event_id
        self.retry_ms = -1
        self.comments = 0

    def feed(self, piece: bytes) -> Iterator[ServerEvent]:
        """Take a piece; yield each event that is whole with it.

        Raises:
            TooLong: an event holds more than `event_bytes_max`, or its id is longer than 1024 characters.
        """
        text = self._utf8.decode(piece)
        if text and self._at_start:
            self._at_start = False
            text = text.removeprefix(_BOM)
        for part, ended in self._split(text):
            self._hold(part)
            if not ended:
                continue
            line = "".join(self._line)
            self._line.clear()
            event = self._take(line)
            if event is not None:
                yield event

    def _split(self, text: str) -> Iterator[tuple[str, bool]]:
        """The parts of `text`, and whether each is ended. An LF after a CR, also in the next piece, ends nothing."""
        if self._after_cr and text:
            text = text.removeprefix("\n")
            self._after_cr = False
        self._after_cr = self._after_cr or text.endswith("\r")
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        yield from ((line, True) for line in lines[:-1])
        if lines[-1]:
            yield lines[-1], False

    def _hold(self, part: str) -> None:
        self._held += len(part.encode("utf-8", "surrogatepass"))
        if self._held > self._max:
            raise TooLong("event")
        self._line.append(part)

    def _take(self, line: str) -> ServerEvent | None:
        if not line:
            return self._dispatch()
        if line.startswith(":"):
            self.comments += 1
            self._held -= len(line.encode())
            return None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            return None
        self._held -= len(line.encode())  # only what is kept counts against the bound
        self._field(name, value)
        return None

    def _field(self, name: str, value: str) -> None:
        if name == "event":
            self._held += len(value.encode()) - len(self._type.encode())
            self._type = value
        elif name == "id" and "\0" not in value:
            if len(value) > ID_CHARS_MAX:
                raise TooLong("event id")
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry_ms = RETRY_MS_MAX if len(value) > 8 else min(int(value), RETRY_MS_MAX)

    def _dispatch(self) -> ServerEvent | None:
        self.last_event_id = self._id
        data, name = self._data, self._type
        self._data, self._type, self._held = [], "", 0
        if not data:
            return None
        return ServerEvent(event=name or "message", data="\n".join(data), id=self.last_event_id)
