"""The context pack: exactly what a model is told in one turn, piece by piece, with where each piece comes from.

    sections (system policy, instructions, open questions, to-do list, skills, notes, memory) · tools · transcript

It is built from values alone, so the same state gives the same pack, and its hash is recorded with the call. What must
never be lost stands in sections, outside of the transcript: compaction shortens only what was said.

Trimming is by name and in a fixed order. Sections marked as needed stay whole; if they alone are too large there is no
pack. Of the others those of the lowest priority go first. Then large results of old calls are replaced by a word that
they were left out; the newest `WHOLE_MAX` messages stay whole. What was left out is told in `left_out`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

import msgspec

from assent.primitives.digests import Digest, digest
from assent.primitives.errors import Malformed
from assent.primitives.labels import Label, joined
from assent.reasoning.messages import Message, ModelRequest, Opaque, Text, Tool, ToolCall, ToolResult

BYTES_PER_TOKEN = 4
IMAGE_TOKENS = 1_600
MESSAGE_TOKENS = 8
WHOLE_MAX = 6
RESULT_KEPT_BYTES = 400


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="section"):
    """A named text that the model is told before the transcript."""

    name: str
    text: str


class Tools(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="tools"):
    """The manifest: the tools as they stood in this turn."""

    tools: tuple[Tool, ...]


class Said(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="said"):
    """One message of the transcript."""

    message: Message


class Piece(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One piece. `source` says where it comes from: `agent:…`, `effect:…`, `person:…`, `file:…`, `run:…`."""

    what: Section | Tools | Said
    source: str
    label: Label


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A section on offer. Of those that are not `needed` the ones of the lowest `priority` are left out first."""

    name: str
    text: str
    source: str
    label: Label
    needed: bool = False
    priority: int = 0


class Pack(msgspec.Struct, frozen=True, kw_only=True):
    """What the model is told. `digests` names the pieces in order, `hash` all of it; `label` is what joins them;
    `tokens` is an estimate; `left_out` says what did not fit and why."""

    pieces: tuple[Piece, ...]
    data: tuple[bytes, ...]
    digests: tuple[Digest, ...]
    hash: Digest
    label: Label
    tokens: int
    left_out: tuple[str, ...] = ()


Sized: TypeAlias = tuple[Piece, int]
_encoder = msgspec.json.Encoder(order="sorted")
_decoder = msgspec.json.Decoder(Piece)


def build_pack(
    *, sources: Sequence[Source], tools: Sequence[Tool], transcript: Sequence[Piece], tokens_max: int
) -> Pack:
    """Put together what fits into `tokens_max`.

    Raises:
        Malformed: `context_too_large`: what is needed does not fit, whatever is left out.
    """
    manifest = (
        [Piece(what=Tools(tools=tuple(tools)), source="assent", label=Label(integrity=joined(()).integrity))]
        if tools
        else []
    )
    left_out: list[str] = []
    room = tokens_max - sum(piece_tokens(one) for one in manifest)
    sections = _sections(sources, room, left_out)
    room -= sum(piece_tokens(one) for one in sections)
    said = _transcript(transcript, room, left_out)
    pieces = (*sections, *manifest, *said)
    tokens = sum(piece_tokens(one) for one in pieces)
    if tokens > tokens_max:
        raise Malformed(
            "context_too_large",
            f"what has to be told has about {tokens} tokens, and the limit is {tokens_max}",
            hint="compact the session, or raise the agent's `context_tokens_max`",
        )
    return packed(pieces, tokens=tokens, left_out=left_out)


def packed(pieces: Iterable[Piece], *, tokens: int, left_out: Sequence[str] = ()) -> Pack:
    """A pack of exactly these pieces."""
    pieces = tuple(pieces)
    data = tuple(_encoder.encode(one) for one in pieces)
    digests = tuple(digest(one) for one in data)
    return Pack(
        pieces=pieces,
        data=data,
        digests=digests,
        hash=digest("\n".join(digests).encode()),
        label=joined(one.label for one in pieces),
        tokens=tokens,
        left_out=tuple(left_out),
    )


def read_pieces(digests: Sequence[str], contents: Mapping[str, bytes]) -> tuple[Piece, ...]:
    """The pieces that a call names.

    Raises:
        Malformed: `context_missing`: a piece is no longer kept; `context_malformed`: one is not a piece.
    """
    missing = [one for one in digests if one not in contents]
    if missing:
        raise Malformed("context_missing", f"`{missing[0]}` and what the model was told are no longer kept")
    try:
        return tuple(_decoder.decode(contents[one]) for one in digests)
    except msgspec.MsgspecError as error:
        raise Malformed("context_malformed", f"a piece of the context cannot be read: {error}") from error


def spoken(pieces: Iterable[Piece], *, model: str) -> ModelRequest:
    """The question that these pieces are, without its settings."""
    system: list[str] = []
    messages: list[Message] = []
    tools: tuple[Tool, ...] = ()
    for piece in pieces:
        match piece.what:
            case Section(name=name, text=text):
                system.append(f"<{name}>\n{text}\n</{name}>")
            case Tools(tools=manifest):
                tools = manifest
            case Said(message=message):
                messages.append(message)
    return ModelRequest(model=model, system=tuple(system), messages=tuple(_merged(messages)), tools=tools)


def piece_tokens(piece: Piece) -> int:
    """About how many tokens a piece has. No provider's own count: that is known only afterwards, as usage."""
    match piece.what:
        case Section(text=text, name=name):
            return MESSAGE_TOKENS + _text_tokens(text) + _text_tokens(name)
        case Tools(tools=tools):
            return sum(MESSAGE_TOKENS + len(_encoder.encode(tool)) // BYTES_PER_TOKEN for tool in tools)
        case Said(message=message):
            return message_tokens(message)


def message_tokens(message: Message) -> int:
    """About how many tokens a message has."""
    return MESSAGE_TOKENS + sum(_part_tokens(part) for part in message.parts)


def _part_tokens(part: object) -> int:
    match part:
        case Text(text=text):
            return _text_tokens(text)
        case ToolResult(text=text, images=images):
            return MESSAGE_TOKENS + _text_tokens(text) + IMAGE_TOKENS * len(images)
        case ToolCall() | Opaque():
            return MESSAGE_TOKENS + len(_encoder.encode(part)) // BYTES_PER_TOKEN
        case _:
            return IMAGE_TOKENS


def _text_tokens(text: str) -> int:
    return len(text.encode(errors="replace")) // BYTES_PER_TOKEN + 1


def _sections(sources: Sequence[Source], room: int, left_out: list[str]) -> list[Piece]:
    """The needed sections, and of the others those that fit, the most important first; told in the given order."""
    pieces = {
        place: Piece(what=Section(name=one.name, text=one.text), source=one.source, label=one.label)
        for place, one in enumerate(sources)
        if one.text
    }
    kept = {place for place in pieces if sources[place].needed}
    room -= sum(piece_tokens(pieces[place]) for place in kept)
    wanted = sorted(pieces.keys() - kept, key=lambda place: (-sources[place].priority, place))
    for place in wanted:
        size = piece_tokens(pieces[place])
        if size <= room:
            kept.add(place)
            room -= size
        else:
            left_out.append(f"section `{sources[place].name}` from `{sources[place].source}`: about {size} tokens")
    return [pieces[place] for place in sorted(kept)]


def _transcript(transcript: Sequence[Piece], room: int, left_out: list[str]) -> list[Piece]:
    """The transcript; where it is too large, with the large results of old calls left out."""
    sized: list[Sized] = [(piece, piece_tokens(piece)) for piece in transcript]
    over = sum(size for _, size in sized) - room
    for place in range(max(0, len(sized) - WHOLE_MAX)):
        if over <= 0:
            break
        piece, size = sized[place]
        shorter = _shortened(piece)
        saved = size - piece_tokens(shorter)
        if saved > 0:
            sized[place] = (shorter, size - saved)
            left_out.append(f"results in `{piece.source}`: about {saved} tokens")
            over -= saved
    return [piece for piece, _ in sized]


def _shortened(piece: Piece) -> Piece:
    """A message whose long results are cut to their beginning, with a word that they were."""
    if not isinstance(piece.what, Said):
        return piece
    message = piece.what.message
    parts = tuple(_short(part) if isinstance(part, ToolResult) else part for part in message.parts)
    return msgspec.structs.replace(piece, what=Said(message=msgspec.structs.replace(message, parts=parts)))


def _short(result: ToolResult) -> ToolResult:
    if len(result.text) <= RESULT_KEPT_BYTES and not result.images:
        return result
    told = f"{result.text[:RESULT_KEPT_BYTES]}\n[{len(result.text)} characters in all; the rest was left out]"
    return msgspec.structs.replace(result, text=told, images=())


def _merged(messages: Iterable[Message]) -> list[Message]:
    """Neighbours of one role as one message: some providers take nothing else."""
    merged: list[Message] = []
    for message in messages:
        if merged and merged[-1].role == message.role:
            merged[-1] = Message(role=message.role, parts=(*merged[-1].parts, *message.parts))
        else:
            merged.append(message)
    return merged
