"""The box: the tools an agent can be given, by the names that models know them by, and the operation each becomes.

A tool takes the arguments of its operation, unless it has a spelling of its own (`spellings`). Any operation can be a
tool: outside the box it is called like its operation, with `_` for every dot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from assent.ledger.contracts import Argument, OperationContract, Output
from assent.operations.spellings import SPELLINGS, Spelling, spelled
from assent.primitives.errors import Malformed
from assent.reasoning.messages import Tool

BOX: Mapping[str, str] = MappingProxyType(
    {
        "read": "files.read",
        "write": "files.write",
        "edit": "files.edit",
        "list": "files.list",
        "search": "files.search",
        "bash": "shell.run",
        "python": "python.run",
        "web_fetch": "http.get",
        "web_search": "http.search",
        "todo": "assistant.todo",
        "ask_user": "assistant.ask",
        "message": "assistant.message",
        "delegate": "assistant.delegate",
        "hand_off": "assistant.hand_off",
        "plan": "assistant.plan",
        "find_agents": "agents.find",
        "skill": "assistant.skill",
        "memory_search": "memory.search",
    }
)
SPELLED: Mapping[str, str] = MappingProxyType(
    {
        "bash": "bash-1",
        "python": "python-1",
        "web_fetch": "web-1",
        "skill": "skill-1",
        "memory_search": "memory-1",
        "find_agents": "agents-1",
    }
)
"""How tools in the box are spelled, where they have a spelling of their own."""
_NONE: Mapping[str, dict[str, Any]] = MappingProxyType({})
_TYPES: dict[str, dict[str, Any]] = {
    "text": {"type": "string"},
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "texts": {"type": "array", "items": {"type": "string"}},
    "map": {"type": "object", "additionalProperties": {"type": "string"}},
    "json": {},
}


class Offer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tool as a run was given it: what the model is told, the operation that a proposal becomes, how its arguments
    are spelled (empty: as the operation takes them), what is `given` to it by the run and not by the model, and on
    whose word the fields of its results stand."""

    tool: Tool
    operation: str
    spelling: str = ""
    given: dict[str, Any] = {}
    outputs: tuple[Output, ...] = ()

    def arguments_of(self, proposed: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of the operation that a proposal means. Raises Malformed: `arguments_invalid`."""
        return spelled(self.spelling, proposed, self.given)


def offers_of(
    names: Iterable[str],
    contracts: Mapping[str, OperationContract],
    *,
    spellings: Mapping[str, str] = SPELLED,
    given: Mapping[str, dict[str, Any]] = _NONE,
) -> tuple[Offer, ...]:
    """The tools that these names stand for; `spellings` say how tools in the box are spelled here, and `given` what the
    run adds to the calls of one.

    Raises:
        Malformed: `tool_unknown`: there is no such tool and no such operation.
    """
    found: dict[str, Offer] = {}
    for name in names:
        operation = BOX.get(name, name)
        contract = contracts.get(operation)
        if contract is None:
            raise _unknown(name, contracts)
        tool = name if name in BOX else operation.replace(".", "_")
        spelling = spellings.get(tool, "") if tool in BOX else ""
        found[tool] = Offer(
            tool=_tool(tool, contract, spelling), operation=operation, spelling=spelling, given=given.get(tool, {}),
            outputs=contract.outputs,
        )  # fmt: skip
    return tuple(found[name] for name in sorted(found))


def _unknown(name: str, contracts: Mapping[str, OperationContract]) -> Malformed:
    if name in BOX:
        return Malformed(
            "tool_unknown",
            f"the tool `{name}` is not there: nothing offers `{BOX[name]}` here",
            hint="see the reference of the tools for what it needs",
        )
    known = ", ".join(sorted(tool for tool, operation in BOX.items() if operation in contracts))
    return Malformed(
        "tool_unknown", f"there is no tool and no operation `{name[:80]}`", hint=f"tools in the box: {known}"
    )


def _tool(name: str, contract: OperationContract, spelling: str) -> Tool:
    told: Spelling | OperationContract = SPELLINGS[spelling] if spelling else contract
    shown = [argument for argument in told.arguments if argument.kind != "contents"]
    schema = {
        "type": "object",
        "properties": {argument.name: _schema(argument) for argument in shown},
        "required": [argument.name for argument in shown if argument.required],
        "additionalProperties": False,
    }
    return Tool(name=name, description=told.summary, schema=schema)


def _schema(argument: Argument) -> dict[str, Any]:
    own: dict[str, Any] = msgspec.json.decode(argument.schema) if argument.schema else _TYPES[argument.kind]
    return {**own, "description": argument.help}
