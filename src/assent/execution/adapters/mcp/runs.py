"""One order on its way through one connection: what is asked, and how each way off the road is called."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from assent.execution.adapters.jsonrpc.endings import Doubt, Said, bounded, kept, kept_bytes
from assent.execution.adapters.mcp.clients import Answer, Client
from assent.execution.adapters.mcp.sessions import Held
from assent.execution.adapters.mcp.sites import McpSiteLink
from assent.execution.attestations import ConfinementClass
from assent.execution.mcp_results import Block, ToolResult
from assent.execution.mcp_tools import Tool
from assent.execution.orders import McpOrder
from assent.execution.outcomes import Ending
from assent.execution.ports import Artefacts, OnEvent, Steering
from assent.primitives.canonical import Json

_HEAVY = 65_536
_HEALTHY = frozenset({"ok", "tool_error", "rpc_error", "definition_changed", "tool_missing"})
"""How an order may end without casting doubt on the connection."""


class Run:
    """One order. `held` is the connection while it has one."""

    def __init__(
        self, order: McpOrder, arguments: Json, *, floor: ConfinementClass, artefacts: Artefacts | None
    ) -> None:
        self.order, self.floor = order, floor
        self.held: Held | None = None
        self._arguments, self._artefacts = arguments, artefacts
        self._doubt = Doubt()
        self.facts: dict[str, Any] = {"verb": order.verb}
        if order.verb == "call":
            self.facts |= {"tool": order.tool, "admitted": order.definition}

    @property
    def in_doubt_of_a_site(self) -> bool:
        """Whether a server that cannot be killed may have done what was asked."""
        return isinstance(self._doubt.link, McpSiteLink) and self._doubt.ending is Ending.UNKNOWN

    async def speak(
        self, connected: Callable[[], Awaitable[None]], *, on_event: OnEvent, steering: Steering | None
    ) -> Said:
        """Take a connection, and speak."""

        async def spoken() -> Said:
            await connected()
            assert self.held is not None
            client = self.held.client
            self._doubt.link = client.link
            client.begin_order(on_event=on_event, steering=steering, bytes_max=self.order.limits.output_bytes_max)
            try:
                return await self._with(client)
            except Answer as answer:
                return self._answered(answer)

        said = await bounded(spoken, limits=self.order.limits, doubt=self._doubt)
        if self.held is not None:
            self._note(self.held)
        return said

    def is_stale(self, said: Said) -> bool:
        """Whether the connection was from an earlier order, and was found gone before anything was done with it."""
        reused = self.facts.get("earlier_orders", 0) > 0
        return reused and said.ending is Ending.FAILED and said.code in ("session_lost", "peer_gone")

    def keeps(self, said: Said) -> bool:
        """Whether the connection may serve the next order."""
        return said.code in _HEALTHY and self.held is not None and self.held.client.greeting is not None

    async def _with(self, client: Client) -> Said:
        if client.greeting is None:
            await client.link.open()
            await client.greet()
        elif not client.link.trace().attestation.meets(self.floor):
            have = client.link.trace().attestation.confinement.value
            message = f"the floor is `{self.floor.value}`, the server of this session runs in `{have}`"
            return Said(ending=Ending.FAILED, code="confinement_unmet", message=message)
        else:
            await client.see_that_it_is_there()
        tools = await client.tools()
        return self._listed(tools) if self.order.verb == "list" else await self._call(client, tools)

    def _listed(self, tools: dict[str, Tool]) -> Said:
        shown: Json = [one.definition for one in tools.values()]
        digests = {name: one.digest for name, one in tools.items()}
        value = {"tools": kept(shown, self._artefacts), "digests": digests}
        return Said(ending=Ending.SUCCEEDED, code="ok", value=value)

    async def _call(self, client: Client, tools: dict[str, Tool]) -> Said:
        order = self.order
        tool = tools.get(order.tool)
        if tool is None:
            return Said(ending=Ending.FAILED, code="tool_missing", message=f"the server has no tool `{order.tool}`")
        if tool.digest != order.definition:
            return self._changed(tool)
        result = await client.call_tool(order.tool, self._arguments, doubt=self._doubt, reads=order.reads)
        value = await asyncio.to_thread(self._value, result) if _is_heavy(result) else self._value(result)
        if result.failed:
            message = f"the tool `{order.tool}` says that it failed"
            return Said(ending=Ending.FAILED, code="tool_error", message=message, value=value)
        return Said(ending=Ending.SUCCEEDED, code="ok", value=value)

    def _changed(self, tool: Tool) -> Said:
        message = (
            f"the server defines `{tool.name}` otherwise than it was admitted; look at what it says now, "
            "and admit it again if it will do"
        )
        value: dict[str, Any] = {
            "admitted": self.order.definition,
            "found": tool.digest,
            "definition": kept(tool.definition, self._artefacts),
        }
        return Said(ending=Ending.FAILED, code="definition_changed", message=message, value=value)

    def _value(self, result: ToolResult) -> dict[str, Any]:
        value: dict[str, Any] = {"content": kept([self._shown(block) for block in result.blocks], self._artefacts)}
        if result.structured is not None:
            value["structured"] = kept(result.structured, self._artefacts)
        return value

    def _shown(self, block: Block) -> Json:
        if block.data is None:
            return block.shown
        named = kept_bytes(block.data, self._artefacts)
        return {**block.shown, **{name: value for name, value in named.items() if name != "head"}}

    def _answered(self, answer: Answer) -> Said:
        message = f"the server answered `{answer.method}` with an error: {answer.error.message[:200]}"
        value = {"error": msgspec.to_builtins(answer.error)}
        return Said(ending=self._doubt.ending, code="rpc_error", message=message, value=value)

    def _note(self, held: Held) -> None:
        client = held.client
        if client.greeting is not None:
            greeting = client.greeting
            self.facts |= {
                "server": greeting.server,
                "server_version": greeting.server_version,
                "revision": greeting.version,
            }
        self.facts |= {"earlier_orders": held.orders, "log": list(client.log), **client.counts}


def _is_heavy(result: ToolResult) -> bool:
    """Whether something of it will be written to a disk, which takes its time."""
    return any(block.data is not None or len(str(block.shown.get("text", ""))) > _HEAVY for block in result.blocks)
