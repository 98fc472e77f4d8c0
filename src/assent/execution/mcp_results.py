"""Results of MCP tools: read strictly, and taken apart into what is shown and what is kept beside it. Pure.

A result is a list of content blocks and perhaps a structured value. Text stays text. What is binary (images, audio,
the blobs of resources) is unpacked here and goes to an artefact: a record names it and never holds it.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from assent.primitives.canonical import Json
from assent.primitives.errors import Malformed

BLOCKS_MAX = 1_000
_LINK_MEMBERS = ("uri", "name", "title", "description", "mimeType", "size")


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """One content block: `shown`, and the bytes that are kept beside it, if there are any."""

    shown: dict[str, Json]
    data: bytes | None = None


class ToolResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a tool gave back. `failed`: the tool itself says that it did not work."""

    blocks: tuple[Block, ...]
    structured: Json = None
    failed: bool = False


def read_result(value: object) -> ToolResult:
    """The answer to `tools/call`.

    Raises:
        Malformed: `result_malformed`; `input_required`, the server wants answers before it goes on.
    """
    if not isinstance(value, dict):
        raise _broken("it is no object")
    kind = value.get("resultType", "complete")
    if kind == "input_required":
        raise Malformed("input_required", "the server wants to ask before it goes on, and nobody answers it here")
    content, failed = value.get("content", []), value.get("isError", False)
    if kind != "complete" or not isinstance(content, list) or not isinstance(failed, bool):
        raise _broken("its content is no list, or it is of a kind that is not known")
    if len(content) > BLOCKS_MAX:
        raise _broken(f"it has more than {BLOCKS_MAX} content blocks")
    return ToolResult(
        blocks=tuple(_block(one) for one in content), structured=value.get("structuredContent"), failed=failed
    )


def _block(value: object) -> Block:
    if not isinstance(value, dict):
        raise _broken("a content block is no object")
    kind = value.get("type")
    match kind:
        case "text":
            return Block(shown={"type": "text", "text": _text(value, "text")})
        case "image" | "audio":
            shown: dict[str, Json] = {"type": kind, "mime_type": _text(value, "mimeType")}
            return Block(shown=shown, data=_bytes(value, "data"))
        case "resource":
            return _resource(value.get("resource"))
        case "resource_link":
            return Block(shown={"type": kind, **{name: value[name] for name in _LINK_MEMBERS if name in value}})
        case _:
            raise _broken(f"a content block is of the kind `{ascii(str(kind)[:40])[1:-1]}`, which is not known")


def _resource(value: object) -> Block:
    if not isinstance(value, dict):
        raise _broken("a resource is no object")
    shown: dict[str, Json] = {"type": "resource", "uri": _text(value, "uri")}
    if isinstance(value.get("mimeType"), str):
        shown["mime_type"] = value["mimeType"]
    if "blob" in value:
        return Block(shown=shown, data=_bytes(value, "blob"))
    return Block(shown={**shown, "text": _text(value, "text")})


def _text(value: dict[str, Any], name: str) -> str:
    text = value.get(name)
    if not isinstance(text, str):
        raise _broken(f"a content block has no text as `{name}`")
    return text


def _bytes(value: dict[str, Any], name: str) -> bytes:
    try:
        return base64.b64decode(_text(value, name), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _broken(f"a content block has no base64 as `{name}`") from error


def _broken(message: str) -> Malformed:
    return Malformed("result_malformed", f"the result of the tool cannot be read: {message}")
