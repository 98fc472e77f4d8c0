"""Recordings of terminals in the asciicast v2 format (asciinema.org): written line by line, read back with care. Pure.

The first line is a header, each further line one event: `[seconds, "o", text]` for output, `"i"` for what was typed,
`"r"` for a new size as `COLUMNSxROWS`. Times count from the start. Bytes that are no UTF-8 are recorded as U+FFFD,
because the format knows only text.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import msgspec

from assent.primitives.errors import Malformed

Kind = Literal["o", "i", "r"]
LINE_BYTES_MAX = 4_194_304
_VERSION = 2
# What a terminal answers, as if it were typed, or what reaches beyond its screen: the answer-back character, requests
# for reports and attributes, and the strings of operating system, device and application commands.
_REACHING = re.compile(
    r"\x05|\x1b\[[?>=!]?[0-9;]*(?:\$p|[cnqx])|\x1b[\]P^_X](?:(?!\x1b\\|\x07).)*(?:\x1b\\|\x07)", re.DOTALL
)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-9;?>=!$]*|[\]P^_X](?:(?!\x1b\\|\x07).)*)?\Z", re.DOTALL)
_UNFINISHED_MAX = 8_192


class CastEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event: when, in milliseconds from the start, of which kind, and its text."""

    at_ms: int
    kind: Kind
    text: str


class CastHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What a recording says of itself."""

    columns: int
    rows: int
    began_s: int = 0
    command: str = ""


def write_header(*, rows: int, columns: int, term: str, command: str, began_s: int) -> bytes:
    """The first line."""
    return _line(
        {
            "version": _VERSION, "width": columns, "height": rows, "timestamp": began_s, "command": command,
            "env": {"TERM": term},
        }
    )  # fmt: skip


def write_event(at_ms: int, kind: Kind, text: str) -> bytes:
    """One line for one event."""
    quoted = msgspec.json.encode(text).decode()
    return f'[{at_ms // 1000}.{at_ms % 1000:03d}, "{kind}", {quoted}]\n'.encode()


class Texts:
    """Turns pieces of bytes into text; a character that is cut by the end of a piece comes with the next."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def text(self, piece: bytes) -> str:
        """The text that is whole by now."""
        return self._decoder.decode(piece)

    def last(self) -> str:
        """What is left at the end."""
        return self._decoder.decode(b"", final=True)


def read_cast(lines: Iterable[bytes]) -> tuple[CastHeader, Iterator[CastEvent]]:
    """The header, and the events as they are asked for. Events of other kinds are passed over.

    Raises:
        Malformed: `recording_malformed`; for a broken event, when it is come to.
    """
    source = iter(lines)
    header = _decoded(next(source, b""), number=1)
    if not isinstance(header, dict) or header.get("version") != _VERSION:
        raise _malformed(1, "it is no asciicast v2 header")
    size = [header.get(name) for name in ("width", "height")]
    if not all(isinstance(one, int) and one > 0 for one in size):
        raise _malformed(1, "it names no size")
    command, began_s = header.get("command"), header.get("timestamp")
    return CastHeader(
        columns=header["width"],
        rows=header["height"],
        began_s=began_s if isinstance(began_s, int) else 0,
        command=command if isinstance(command, str) else "",
    ), _events(source)


class Calm:
    """Output without what would reach beyond the screen, or make the terminal answer as if somebody typed."""

    def __init__(self) -> None:
        self._held = ""

    def text(self, piece: str) -> str:
        """What may be shown of it; a sequence that is cut by its end comes with the next."""
        whole = self._held + piece
        unfinished = _UNFINISHED.search(whole)
        self._held = unfinished[0] if unfinished and len(unfinished[0]) <= _UNFINISHED_MAX else ""
        return _REACHING.sub("", whole[: len(whole) - len(unfinished[0])] if unfinished else whole)


def _events(lines: Iterator[bytes]) -> Iterator[CastEvent]:
    for number, line in enumerate(lines, start=2):
        if not line.strip():
            continue
        event = _decoded(line, number=number)
        if (
            not isinstance(event, list)
            or len(event) != 3
            or isinstance(event[0], bool)
            or not isinstance(event[0], int | float)
        ):
            raise _malformed(number, "it is no event")
        if event[1] in ("o", "i", "r") and isinstance(event[2], str):
            yield CastEvent(at_ms=int(1000 * event[0]), kind=event[1], text=event[2])


def _decoded(line: bytes, *, number: int) -> object:
    if len(line) > LINE_BYTES_MAX:
        raise _malformed(number, "it is too long")
    try:
        found: object = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(number, "it is no JSON") from error
    return found


def _malformed(number: int, why: str) -> Malformed:
    return Malformed(
        "recording_malformed", f"line {number} is not of a recording: {why}", hint="name an asciicast file"
    )


def _line(value: dict[str, Any]) -> bytes:
    return msgspec.json.encode(value) + b"\n"
