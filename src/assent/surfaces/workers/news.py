"""What a watched worker says to who watches it: one JSON document a line."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from assent.operations.runs.events import RunEvent


class Beat(msgspec.Struct, frozen=True, kw_only=True, tag_field="what", tag="beat"):
    """The worker lives, and these runs are being driven."""

    runs: tuple[str, ...]


class Happened(msgspec.Struct, frozen=True, kw_only=True, tag_field="what", tag="event"):
    """Something happened in a run."""

    event: RunEvent


class Faulted(msgspec.Struct, frozen=True, kw_only=True, tag_field="what", tag="fault"):
    """A run could not be driven, or was paused because of that."""

    run: str
    why: str


News: TypeAlias = Beat | Happened | Faulted

_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[News] = msgspec.json.Decoder(News)


def news_line(news: News) -> bytes:
    """The line that says it."""
    return _encode(news) + b"\n"


def news_of(line: bytes) -> News | None:
    """What a line says, or None when it is none of these."""
    try:
        return _decoder.decode(line)
    except msgspec.DecodeError:
        return None
