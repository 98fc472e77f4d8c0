"""MCP tool lists: an operation for each tool. Pure.

A tool's annotations (`readOnlyHint` and the like) are the server's word about itself. They are shown to the person who
admits it and decide nothing: every tool is irreversible until a person says otherwise. What a tool is called with is
checked against its input schema; each member of that is an argument.
"""

from __future__ import annotations

from typing import Any

from assent.execution.attestations import ConfinementClass
from assent.execution.mcp_tools import Tool, read_tool
from assent.ledger.connectors.families.documents import Pointers
from assent.ledger.connectors.families.entries import OPERATIONS_MAX, Draft, Entry, LeftOut, Source, argument
from assent.ledger.connectors.families.mcp_calls import McpRecipe, McpServer
from assent.ledger.connectors.families.names import argument_names, distinct, operation_name, told
from assent.ledger.connectors.families.openapi_parts import Left
from assent.ledger.connectors.families.reductions import reduce
from assent.ledger.contracts import Argument, EffectClass, Idempotency, OperationContract
from assent.primitives.canonical import Json
from assent.primitives.errors import Malformed

_HINTS = {
    "readOnlyHint": "that it only reads",
    "destructiveHint": "that it destroys",
    "idempotentHint": "that calling it twice does the same as once",
    "openWorldHint": "that it reaches beyond itself",
}


def read_mcp(tools: list[Json], *, name: str, source: Source, server: McpServer, only: str = "") -> Draft:
    """Make a connector called `name` of a tool list; its calls go to `server`.

    Raises:
        Malformed: `document_malformed`, `recipe_malformed`, `too_many_operations`.
    """
    server.check()
    found, left = _read(tools)
    found = {n: tool for n, tool in found.items() if only in n}
    if len(found) > OPERATIONS_MAX:
        raise Malformed(
            "too_many_operations", f"the server has {len(found)} tools, and a connector {OPERATIONS_MAX} operations",
            hint="name the part that is needed with --only",
        )  # fmt: skip
    names = distinct({n: operation_name(n) for n in found}, {})
    entries = []
    for own, tool in found.items():
        if own not in names:
            left.append(LeftOut(what=told(own), why="it cannot be told apart from another by an ASCII name"))
            continue
        try:
            entries.append(_entry(f"{name}.{names[own]}", tool, server))
        except Left as out:
            left.append(LeftOut(what=told(own), why=out.why))
    return Draft(name=name, family="mcp", source=source, entries=tuple(entries), left_out=tuple(left))


def _read(tools: list[Json]) -> tuple[dict[str, Tool], list[LeftOut]]:
    found: dict[str, Tool] = {}
    left: list[LeftOut] = []
    for value in tools:
        try:
            tool = read_tool(value)
        except Malformed as malformed:
            left.append(LeftOut(what="a tool", why=told(malformed.message)))
            continue
        if tool.name in found:
            raise Malformed("document_malformed", "the server lists two tools of one name")
        found[tool.name] = tool
    return found, left


def _entry(name: str, tool: Tool, server: McpServer) -> Entry:
    hints = [f"the server claims {words}" for words in claims(tool.definition)]
    arguments, members = _arguments(tool.definition, hints)
    contract = OperationContract(
        name=name,
        summary=_summary(tool),
        effect=EffectClass.IRREVERSIBLE,
        idempotency=Idempotency.NONE,
        arguments=tuple(arguments),
        floor=ConfinementClass.LOCAL_WEAK if server.url else ConfinementClass.NAMESPACED,
        reaches=server.reaches,
        foreign=True,
    )
    recipe = McpRecipe(server=server, tool=tool.name, admitted=tool.digest, members=members)
    described = told(tool.definition.get("description"), chars_max=1_000)
    return Entry(
        contract=contract,
        recipe=recipe,
        why="a tool may do anything; what its server says of it is a claim",
        hints=tuple(dict.fromkeys(hints)),
        answers={"about": described} if described else {},
    )


def _summary(tool: Tool) -> str:
    texts = (told(tool.definition.get("title")), told(tool.definition.get("description")), f"the tool `{tool.name}`")
    return next(text for text in texts if text)


def claims(definition: dict[str, Any]) -> list[str]:
    """What a server claims about a tool of its own, in words."""
    annotations = definition.get("annotations")
    annotations = annotations if isinstance(annotations, dict) else {}
    return [words if annotations[key] else f"not {words}" for key, words in _HINTS.items() if key in annotations]


def _arguments(definition: dict[str, Any], hints: list[str]) -> tuple[list[Argument], dict[str, str]]:
    schema = definition.get("inputSchema")
    schema = schema if isinstance(schema, dict) else {}
    pointers = Pointers(schema)
    root = pointers.resolved(schema)
    properties, required = root.get("properties"), root.get("required")
    properties = properties if isinstance(properties, dict) else {}
    needed = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
    names = argument_names(("input", wire) for wire in properties)
    arguments, members = [], {}
    for wire, value in properties.items():
        name = names.get(("input", wire), "")
        if not name:
            if wire in needed:
                raise Left(f"its argument {told(wire)!a} cannot be given")
            hints.append(f"the argument {told(wire)!a} is never sent")
            continue
        reduced = reduce(value, pointers)
        hints += [f"not checked of `{name}`: {what}" for what in reduced.unchecked]
        about = pointers.resolved(value).get("description")
        arguments.append(argument(name, reduced, about=about, required=wire in needed, authority=True))
        members[name] = wire
    missing = needed - set(properties)
    if missing:
        raise Left(f"it needs {told(min(missing))!a}, which it does not describe")
    return arguments, members
