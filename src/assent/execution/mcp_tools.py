"""Tools of MCP servers: how a definition is read, bounded and hashed. Pure.

A tool's definition is text that a stranger wrote for a model to believe. A person admits it once, as it stood then; the
digest is what was admitted, and a server that later says anything else about the tool is not called before somebody
has looked again. So the digest covers the whole definition: name, title, description, both schemas, annotations, icons,
and whatever members later revisions of the protocol add. Two things are left out, because neither a model nor a person
is shown them: `_meta`, which the protocol keeps for machinery and may change with every listing, and members that are
null, which mean the same as none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from assent.primitives.canonical import canonical
from assent.primitives.digests import Digest, digest
from assent.primitives.errors import Malformed

TOOLS_MAX = 1_000
PAGES_MAX = 100
DEFINITION_BYTES_MAX = 262_144
NAME_CHARACTERS_MAX = 128


class Tool(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One tool as its server defines it: `definition` is the object as it came, `digest` what it is admitted by."""

    name: str
    definition: dict[str, Any]
    digest: Digest


def definition_digest(tool: Mapping[str, Any]) -> Digest:
    """The digest of a tool's definition: of its RFC 8785 bytes, without `_meta` and without null members.

    Raises:
        Malformed: `tool_malformed`, it has no usable name, is too large, or has no exact JSON spelling.
    """
    name = tool.get("name")
    if not isinstance(name, str) or not 0 < len(name) <= NAME_CHARACTERS_MAX or not name.isprintable():
        raise _unusable(f"a tool needs a printable name of 1 to {NAME_CHARACTERS_MAX} characters")
    for member in ("inputSchema", "outputSchema", "annotations"):
        if not isinstance(tool.get(member), dict | None):
            raise _unusable(f"`{member}` of the tool `{name}` is not an object")
    seen = {key: value for key, value in tool.items() if key != "_meta" and value is not None}
    try:
        text = canonical(seen)
    except Malformed as error:
        raise _unusable(f"the tool `{name}` has no exact spelling: {error.message}") from error
    if len(text) > DEFINITION_BYTES_MAX:
        raise _unusable(f"the definition of `{name}` has {len(text)} bytes, the limit is {DEFINITION_BYTES_MAX}")
    return digest(text)


def read_tool(value: object) -> Tool:
    """One entry of a tool list.

    Raises:
        Malformed: `tool_malformed`.
    """
    if not isinstance(value, dict):
        raise _unusable("an entry of the tool list is not an object")
    found = definition_digest(value)
    return Tool(name=value["name"], definition=value, digest=found)


def _unusable(message: str) -> Malformed:
    return Malformed("tool_malformed", message, hint="the server's tool list cannot be used as it is")
