"""What every wire format asks of a question before it is spelled, and the bytes it becomes. Pure.

The same question is always the same bytes (members are sorted), so what is repeated is found in a provider's cache.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, TypeAlias, assert_never

import msgspec

from assent.primitives.canonical import canonical
from assent.primitives.digests import digest
from assent.primitives.errors import Malformed
from assent.reasoning.messages import (
    BrokenCall,
    Image,
    Message,
    ModelRequest,
    Opaque,
    Part,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)

Names: TypeAlias = re.Pattern[str]

PLAIN_NAMES: Names = re.compile(r"[a-zA-Z0-9_-]{1,64}\Z")
MODEL_CHARACTERS_MAX = 256
TEMPERATURE_MILLI_MAX = 2_000
NAME_CHARACTERS_MAX = 64
JSON = ("content-type", "application/json")
_UNPLAIN = re.compile(r"[^a-zA-Z0-9_-]")


def check(request: ModelRequest, *, names: Names = PLAIN_NAMES, milli_max: int = TEMPERATURE_MILLI_MAX) -> None:
    """See that a question can be said at all. `names` are those a tool may have, `milli_max` the highest temperature.

    Raises:
        Malformed: `request_unspeakable`, and why.
    """
    if not request.model.isprintable() or not 0 < len(request.model) <= MODEL_CHARACTERS_MAX:
        raise unspeakable(f"`{request.model[:80]!a}` is not the name of a model")
    if not request.messages:
        raise unspeakable("it holds no message")
    if request.output_tokens_max < 1:
        raise unspeakable(f"an answer of {request.output_tokens_max} tokens is none")
    if request.temperature_milli is not None and not 0 <= request.temperature_milli <= milli_max:
        raise unspeakable(f"the temperature is 0 to {milli_max} thousandths, not {request.temperature_milli}")
    for tool in request.tools:
        _check_tool(tool, names)
    if len({tool.name for tool in request.tools}) < len(request.tools):
        raise unspeakable("two tools have the same name")
    for message in request.messages:
        for part in message.parts:
            _check_part(message, part)
    if request.output is not None:
        _exact(request.output, "the schema of its answer")


def spelled(body: dict[str, Any]) -> bytes:
    """The bytes of a body that holds what `check` has seen.

    Raises:
        Malformed: `request_unspeakable`: a text is not well-formed Unicode.
    """
    try:
        return msgspec.json.encode(body, order="sorted")
    except (TypeError, ValueError, RecursionError) as error:
        raise unspeakable("something in it cannot be written as JSON") from error


def parameters(tool: Tool) -> dict[str, Any]:
    """The schema of a tool's arguments. Not every provider takes an object that does not say that it has no members."""
    return {"properties": {}, **tool.schema}


def spoken_name(name: str, names: Names = PLAIN_NAMES) -> str:
    """The name of a call that was proposed before. A model may have made it up, and no format takes every name back."""
    return name if names.match(name) else ("_" + _UNPLAIN.sub("_", name))[:NAME_CHARACTERS_MAX]


def spoken_id(id_: str) -> str:
    """The id of a call, for formats that take only plain ones: another format may have made it. Two stay two."""
    return id_ if PLAIN_NAMES.match(id_) else "call_" + digest(id_.encode(errors="replace"))[-32:]


def prefix_key(request: ModelRequest) -> str:
    """The same for all questions that begin alike, so that a provider can lead them to one cache."""
    same = [request.model, request.system, [(tool.name, tool.description, tool.schema) for tool in request.tools]]
    return digest(spelled({"same": same}))[-32:]


def unspeakable(why: str) -> Malformed:
    """The question cannot be asked in this wire format."""
    return Malformed("request_unspeakable", f"the question cannot be asked: {why}")


def _check_tool(tool: Tool, names: Names) -> None:
    if not names.match(tool.name):
        raise unspeakable(f"`{tool.name[:80]!a}` cannot be the name of a tool here")
    if tool.schema.get("type") != "object":
        raise unspeakable(f"the schema of the tool `{tool.name}` is not of the type `object`")
    _exact(tool.schema, f"the schema of the tool `{tool.name}`")


def _check_part(message: Message, part: Part) -> None:
    match part:
        case Text() | Opaque():
            theirs = True
        case ToolCall() | BrokenCall():
            theirs = message.role == "assistant"
        case Image() | ToolResult():
            theirs = message.role == "user"
        case _:
            assert_never(part)
    if not theirs:
        raise unspeakable(f"a message of the {message.role} holds a part of the kind `{type(part).__name__}`")
    if isinstance(part, ToolCall):
        _exact(part.arguments, "the arguments of a call")
    if isinstance(part, Opaque):
        _exact(part.data, "what it holds for its provider alone")
    for image in (part,) if isinstance(part, Image) else part.images if isinstance(part, ToolResult) else ():
        _check_image(image)


def _check_image(image: Image) -> None:
    try:
        whole = bool(base64.b64decode(image.data, validate=True))
    except (binascii.Error, ValueError):
        whole = False
    if not whole:
        raise unspeakable("the data of an image is not base64")


def _exact(value: dict[str, Any], what: str) -> None:
    try:
        canonical(value)
    except Malformed as malformed:
        raise unspeakable(f"{what}: {malformed.message}") from malformed
