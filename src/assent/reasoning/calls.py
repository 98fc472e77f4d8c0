"""Proposals as providers spell them: arguments as text that is JSON, or ought to be. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import msgspec

from assent.primitives.canonical import canonical, parse
from assent.primitives.errors import Malformed
from assent.reasoning.messages import RAW_CHARACTERS_MAX, BrokenCall, Opaque, Text, ToolCall
from assent.reasoning.reading import Misread

CALLS_KEPT_MAX = 1_000
"""Of how many proposals in one answer a decoder takes note. What is beyond would never be looked at."""
RAW_BYTES_MAX = 2 * 1_048_576
NAME_CHARACTERS_MAX = 200
OPAQUE_BYTES_MAX = 4 * 1_048_576
_FAULT_CHARACTERS_MAX = 300

AnswerPart: TypeAlias = Text | ToolCall | BrokenCall | Opaque


def proposal(*, id_: str, name: str, raw: object) -> ToolCall | BrokenCall:
    """A proposal from its arguments: JSON text, or a value that was read already."""
    name = name[:NAME_CHARACTERS_MAX]
    try:
        text = raw if isinstance(raw, str) else msgspec.json.encode(raw).decode()
    except (ValueError, RecursionError):
        return BrokenCall(id=id_, name=name, raw="", fault="they nest too deep to be read")
    try:
        value: Any = parse(text.encode(), bytes_max=RAW_BYTES_MAX) if text.strip() else {}
    except (Malformed, UnicodeEncodeError) as error:
        return _broken(id_, name, text, str(error))
    if not isinstance(value, dict):
        return _broken(id_, name, text, "they are no object")
    return ToolCall(id=id_, name=name, arguments=value)


def opaque(wire: str, data: dict[str, Any]) -> Opaque:
    """What only its provider understands, as it came.

    Raises:
        Misread: it cannot be kept exactly, or it is too large to be kept.
    """
    try:
        size = len(canonical(data))
    except Malformed as malformed:
        raise Misread("what it holds for its provider alone has no exact spelling") from malformed
    if size > OPAQUE_BYTES_MAX:
        raise Misread(f"what it holds for its provider alone has more than {OPAQUE_BYTES_MAX} bytes")
    return Opaque(wire=wire, data=data)


def told_apart(parts: Iterable[AnswerPart]) -> tuple[AnswerPart, ...]:
    """The parts with an id for each proposal: one that is missing, too long or there already is made from its place."""
    seen: set[str] = set()
    found: list[AnswerPart] = []
    for part in parts:
        if not isinstance(part, ToolCall | BrokenCall):
            found.append(part)
            continue
        id_ = part.id if 0 < len(part.id) <= NAME_CHARACTERS_MAX and part.id not in seen else f"call_{len(seen)}"
        while id_ in seen:
            id_ = f"{id_}_"
        seen.add(id_)
        found.append(msgspec.structs.replace(part, id=id_))
    return tuple(found)


def arguments_text(call: ToolCall | BrokenCall) -> str:
    """The arguments as JSON text, for formats that want them so. Those of a broken call are not repeated."""
    return msgspec.json.encode(arguments_object(call), order="sorted").decode()


def arguments_object(call: ToolCall | BrokenCall) -> dict[str, Any]:
    """The arguments as an object."""
    return call.arguments if isinstance(call, ToolCall) else {}


def _broken(id_: str, name: str, text: str, fault: str) -> BrokenCall:
    return BrokenCall(id=id_, name=name, raw=text[:RAW_CHARACTERS_MAX], fault=fault[:_FAULT_CHARACTERS_MAX])
