"""The Model Context Protocol, as far as a caller of tools needs it: what is asked, and how answers are read. Pure.

Two eras are spoken. Revisions up to 2025-11-25 begin with a handshake (`initialize`) that agrees on one revision for
the connection. From 2026-07-28 on there is none: every request carries its revision in `_meta`, and `server/discover`
tells what is spoken. The handshake is tried first, because it is what servers know; one that answers that there is no
such thing, or that it speaks newer revisions only, is asked the new way.

Nothing is offered to a server: no sampling, no roots, no elicitation. What it says in `instructions` is read by nobody.
"""

from __future__ import annotations

import base64
import re

import msgspec

from assent.execution.mcp_tools import TOOLS_MAX, Tool, read_tool
from assent.execution.rpc_messages import METHOD_NOT_FOUND, RpcError
from assent.primitives.canonical import Json
from assent.primitives.errors import Malformed

HANDSHAKE_VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
STATELESS_VERSIONS = ("2026-07-28",)
UNSUPPORTED_VERSION = -32022
WORDS_MAX = 200
CURSOR_CHARACTERS_MAX = 4_096

_META = "io.modelcontextprotocol/"
_SESSION = re.compile(r"[\x21-\x7e]{1,512}\Z")
_PLAIN = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?\Z")


class Greeting(msgspec.Struct, frozen=True, kw_only=True):
    """What was agreed at the beginning. `stateless`: each request says everything by itself."""

    version: str
    server: str = ""
    server_version: str = ""
    stateless: bool = False


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a tool list; `cursor` asks for the next, empty: there is none."""

    tools: tuple[Tool, ...]
    cursor: str


def initialize_params(client_version: str) -> dict[str, Json]:
    """What `initialize` is asked with."""
    return {"protocolVersion": HANDSHAKE_VERSIONS[0], "capabilities": {}, "clientInfo": _client(client_version)}


def read_greeting(result: object) -> Greeting:
    """The answer to `initialize`.

    Raises:
        Malformed: `version_refused`, `message_malformed`.
    """
    if not isinstance(result, dict) or not isinstance(result.get("protocolVersion"), str):
        raise _broken("the answer to `initialize` names no revision")
    version = result["protocolVersion"]
    if version not in HANDSHAKE_VERSIONS:
        raise _other(version)
    return _greeting(version, result.get("serverInfo"), stateless=False)


def is_stateless_only(error: RpcError) -> bool:
    """Whether the error of an answer to `initialize` says that the server may be one without handshakes."""
    return error.code in (METHOD_NOT_FOUND, UNSUPPORTED_VERSION)


def read_discovery(result: object) -> Greeting:
    """The answer to `server/discover`.

    Raises:
        Malformed: `version_refused`, `message_malformed`.
    """
    if not isinstance(result, dict) or not isinstance(result.get("supportedVersions"), list):
        raise _broken("the answer to `server/discover` names no revisions")
    spoken = result["supportedVersions"]
    version = next((one for one in STATELESS_VERSIONS if one in spoken), None)
    if version is None:
        raise _other(str(spoken))
    meta = result.get("_meta")
    return _greeting(version, meta.get(_META + "serverInfo") if isinstance(meta, dict) else None, stateless=True)


def envelope(params: dict[str, Json], version: str, client_version: str) -> dict[str, Json]:
    """`params` of a request of the stateless era."""
    meta = params.get("_meta")
    stamp: dict[str, Json] = {
        _META + "protocolVersion": version,
        _META + "clientInfo": _client(client_version),
        _META + "clientCapabilities": {},
    }
    return {**params, "_meta": {**(meta if isinstance(meta, dict) else {}), **stamp}}


def http_fields(greeting: Greeting, method: str, params: dict[str, Json]) -> dict[str, str]:
    """The headers that go with one request over HTTP."""
    fields = {"mcp-protocol-version": greeting.version}
    if greeting.stateless:
        fields["mcp-method"] = method
        name = params.get("name")
        if method == "tools/call" and isinstance(name, str):
            fields["mcp-name"] = _field(name)
    return fields


def read_session_id(text: str) -> str:
    """The session id of an HTTP server, or empty.

    Raises:
        Malformed: `message_malformed`.
    """
    if text and not _SESSION.match(text):
        raise _broken("the session id has characters that no header carries, or is too long")
    return text


def read_page(result: object) -> Page:
    """One answer to `tools/list`.

    Raises:
        Malformed: `message_malformed`, `tool_malformed`, `tools_limit`.
    """
    if not isinstance(result, dict) or not isinstance(result.get("tools"), list):
        raise _broken("the answer to `tools/list` holds no list of tools")
    if len(result["tools"]) > TOOLS_MAX:
        raise too_many()
    cursor = result.get("nextCursor")
    if not isinstance(cursor, str | None) or len(cursor or "") > CURSOR_CHARACTERS_MAX:
        raise _broken("the cursor of the tool list is no text, or too long")
    return Page(tools=tuple(read_tool(one) for one in result["tools"]), cursor=cursor or "")


def too_many() -> Malformed:
    """What is said of a tool list that does not end."""
    return Malformed("tools_limit", f"the server lists more than {TOOLS_MAX} tools, or too many pages of them")


def read_progress(params: object, token: int) -> dict[str, Json] | None:
    """What a progress notification says of the call with `token`; None: nothing that could be used."""
    if not isinstance(params, dict) or params.get("progressToken") != token:
        return None
    found: dict[str, Json] = {}
    for name in ("progress", "total"):
        value = params.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[name] = value
    message = params.get("message")
    if isinstance(message, str):
        found["message"] = message[:WORDS_MAX]
    return found if "progress" in found else None


def read_log(params: object) -> str:
    """What a logging notification says, in one line of bounded length."""
    if not isinstance(params, dict):
        return ""
    data = params.get("data")
    text = data if isinstance(data, str) else msgspec.json.encode(data).decode()
    return f"{str(params.get('level', ''))[:20]}: {' '.join(text.split())[:WORDS_MAX]}"


def _client(version: str) -> dict[str, Json]:
    return {"name": "assent", "version": version}


def _greeting(version: str, info: object, *, stateless: bool) -> Greeting:
    name, server_version = (info.get("name"), info.get("version")) if isinstance(info, dict) else ("", "")
    return Greeting(
        version=version,
        server=name[:WORDS_MAX] if isinstance(name, str) else "",
        server_version=server_version[:WORDS_MAX] if isinstance(server_version, str) else "",
        stateless=stateless,
    )


def _field(value: str) -> str:
    """A text as a header value: as it is where a header carries it, else in base64 between marks."""
    if _PLAIN.match(value) and not value.startswith("=?base64?"):
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode('ascii')}?="


def _other(version: str) -> Malformed:
    spoken = ", ".join((*STATELESS_VERSIONS, *HANDSHAKE_VERSIONS))
    return Malformed("version_refused", f"the server speaks `{ascii(version[:80])[1:-1]}`; known are {spoken}")


def _broken(message: str) -> Malformed:
    return Malformed("message_malformed", f"the server does not keep to the Model Context Protocol: {message}")
