"""What goes to a model and what comes back, in one vocabulary for every provider. Pure values.

Providers differ in spelling and in order; a codec (`assent.reasoning.adapters`) translates. What only one provider
understands and wants to see again, such as the signature of its own thinking, travels as `Opaque` and is shown to no
other.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal, TypeAlias

import msgspec


class Text(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="text"):
    """Words."""

    text: str


class Image(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="image"):
    """A picture as base64. Never a URL: whoever fetches one reaches a host that policy did not see."""

    media_type: Literal["image/png", "image/jpeg", "image/gif", "image/webp"]
    data: str


class ToolCall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="tool_call"):
    """What the model proposes to do. `id` is the provider's, or made up from the position where it gives none."""

    id: str
    name: str
    arguments: dict[str, Any]


class BrokenCall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="broken_call"):
    """A proposal whose arguments are not a JSON object. `raw` is what came, cut to `RAW_CHARACTERS_MAX`."""

    id: str
    name: str
    raw: str
    fault: str


class ToolResult(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="tool_result"):
    """What came of the call with this id, as the model is told. `failed`: it was refused, or it did not work."""

    call: str
    name: str
    text: str
    failed: bool = False
    images: tuple[Image, ...] = ()


class Opaque(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="opaque"):
    """Something that only the provider's wire format `wire` understands, to be given back to it unchanged."""

    wire: str
    data: dict[str, Any]


Part: TypeAlias = Text | Image | ToolCall | BrokenCall | ToolResult | Opaque
Role: TypeAlias = Literal["user", "assistant"]
RAW_CHARACTERS_MAX = 4_096


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One turn of one side. Results of tools stand in a `user` message, as the world's answer to the model."""

    role: Role
    parts: tuple[Part, ...]


class Tool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tool as the model is told of it. `schema` is a JSON Schema of type `object`."""

    name: str
    description: str
    schema: dict[str, Any]


class ModelRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One question to a model. `model` is the provider's name for it.

    `output` is a JSON Schema that the answer must fit (None: free text). `temperature_milli` is the temperature in
    thousandths (None: the provider's own). `cache`: what is the same every time may be cached by the provider.
    """

    model: str
    system: tuple[str, ...] = ()
    messages: tuple[Message, ...] = ()
    tools: tuple[Tool, ...] = ()
    output_tokens_max: int = 4_096
    temperature_milli: int | None = None
    output: dict[str, Any] | None = None
    cache: bool = True
    stream: bool = True


class Usage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Tokens, as the provider counted them. `input_tokens` is all that was read, what came from its cache included."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0


class Stop(StrEnum):
    """Why the model stopped. CUT: the output limit. REFUSED: the model declined. FILTERED: its provider held it."""

    END = "end"
    CALLS = "calls"
    CUT = "cut"
    REFUSED = "refused"
    FILTERED = "filtered"


class Completion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One whole answer of a model, with nothing interpreted. `model` is what the provider says answered."""

    parts: tuple[Text | ToolCall | BrokenCall | Opaque, ...]
    stop: Stop
    usage: Usage = Usage()
    model: str = ""
    wire: str = ""

    @property
    def text(self) -> str:
        """All its words."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


class TextDelta(msgspec.Struct, frozen=True, kw_only=True):
    """Some more words of an answer that is still coming."""

    text: str


class CallDelta(msgspec.Struct, frozen=True, kw_only=True):
    """A proposal begins; its arguments are known when the answer is whole."""

    index: int
    name: str


Delta: TypeAlias = TextDelta | CallDelta
