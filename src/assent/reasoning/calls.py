"""Proposals as providers spell them: arguments as text that is JSON, or ought to be."""

from __future__ import annotations

from typing import Any

import msgspec

from assent.primitives.canonical import parse
from assent.primitives.errors import Malformed
from assent.reasoning.messages import RAW_CHARACTERS_MAX, BrokenCall, ToolCall

CALLS_KEPT_MAX = 1_000
"""Of how many proposals in one answer a decoder takes note. What is beyond would never be looked at."""
RAW_BYTES_MAX = 2 * 1_048_576


def proposal(*, id_: str, name: str, raw: object) -> ToolCall | BrokenCall:
    """A proposal from its arguments: JSON text, or an object that was read already."""
    text = raw if isinstance(raw, str) else msgspec.json.encode(raw).decode()
    try:
        value: Any = parse(text.encode(), bytes_max=RAW_BYTES_MAX) if text.strip() else {}
    except (Malformed, UnicodeEncodeError) as error:
        return _broken(id_, name, text, str(error))
    if not isinstance(value, dict):
        return _broken(id_, name, text, "they are no object")
    return ToolCall(id=id_, name=name, arguments=value)


def arguments_text(call: ToolCall | BrokenCall) -> str:
    """The arguments as JSON text, for formats that want them so. Those of a broken call are not repeated."""
    return msgspec.json.encode(call.arguments, order="sorted").decode() if isinstance(call, ToolCall) else "{}"


def arguments_object(call: ToolCall | BrokenCall) -> dict[str, Any]:
    """The arguments as an object."""
    return call.arguments if isinstance(call, ToolCall) else {}


def _broken(id_: str, name: str, text: str, fault: str) -> BrokenCall:
    return BrokenCall(id=id_, name=name[:200], raw=text[:RAW_CHARACTERS_MAX], fault=fault[:300])
