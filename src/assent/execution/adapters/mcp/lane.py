"""The mcp lane: tools of MCP servers, called only as they were admitted.

    take a connection ─► greet ─► list the tools ─► the digest is the admitted one? ─► call ─► give the connection back
                       (once a connection)                 └── no: `definition_changed`, and nothing is called

A server that is a program runs as any program does, in a sandbox that is attested before it starts; the outcome of each
call carries the attestation of the sandbox that served it. A session keeps the connection for the next order of the
same peer; a call that ends in doubt, breaks the protocol or is cancelled ends the connection too, because only the
server's death proves that it does nothing more.

Codes: `ok`, `tool_error` (the tool itself says it failed), `rpc_error` (the server refuses the call),
`definition_changed`, `tool_missing`, `version_refused`, `tools_limit`, `tool_malformed`, `result_malformed`,
`input_required`, `sessions_limit`, `session_lost`, and those of the jsonrpc lane.
"""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import Any

import msgspec

from assent.execution.adapters.http import HttpLane
from assent.execution.adapters.jsonrpc.endings import Said, check_peer, outcome
from assent.execution.adapters.jsonrpc.links import Link, Trace
from assent.execution.adapters.jsonrpc.programs import ProgramLink, program_order
from assent.execution.adapters.mcp.clients import Client
from assent.execution.adapters.mcp.runs import Run
from assent.execution.adapters.mcp.sessions import IDLE_MS, SESSIONS_MAX, Sessions
from assent.execution.adapters.mcp.sites import McpSiteLink
from assent.execution.adapters.process import ProcessLane
from assent.execution.attestations import Attestation, ConfinementClass
from assent.execution.orders import Limits, McpOrder, Order, ProcessOrder
from assent.execution.outcomes import Ending, Outcome
from assent.execution.ports import Artefacts, OnEvent, Steering
from assent.execution.rpc_framing import framing
from assent.execution.rpc_messages import read_params
from assent.execution.steering import Capabilities
from assent.primitives.canonical import Json
from assent.primitives.clock import Clock, Entropy
from assent.primitives.digests import digest
from assent.primitives.errors import InvariantBroken, Malformed

SESSION_MS = 3_600_000
SESSION_BYTES_MAX = 268_435_456
SESSION_CPU_S_MAX = 3_600
_LEEWAY_MS = 2_000
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_SESSION_NAME = re.compile(r"[\x21-\x7e]{0,200}\Z")


class McpLane:
    """Carries `McpOrder`s, on top of the process lane and the http lane.

    `sessions_max` bounds the connections that are kept, `idle_ms` how long one waits for its next order, `session_ms`
    how long it lives. A program that serves a session writes `SESSION_BYTES_MAX` and takes `SESSION_CPU_S_MAX` of
    processor time in all its life; every order has its own wall time and output, and all other limits hold throughout.
    """

    name = "mcp"
    capabilities = Capabilities(streams=True, sessions=True, summary="tools of MCP servers, as they were admitted")

    def __init__(
        self,
        *,
        clock: Clock,
        entropy: Entropy,
        process: ProcessLane,
        http: HttpLane,
        artefacts: Artefacts | None = None,
        sessions_max: int = SESSIONS_MAX,
        idle_ms: int = IDLE_MS,
        session_ms: int = SESSION_MS,
    ) -> None:
        self._clock, self._entropy, self._artefacts = clock, entropy, artefacts
        self._process, self._http = process, http
        self._sessions = Sessions(sessions_max=sessions_max, idle_ms=idle_ms, life_ms=session_ms)
        self._session_ms = session_ms

    async def carry(
        self, order: Order, *, floor: ConfinementClass, on_event: OnEvent, steering: Steering | None = None
    ) -> Outcome:
        """Carry one order to its end; see `Lane`.

        `on_event` gets the server's progress (`progress`, JSON), its log lines (`log`) and what it writes to standard
        error (`stderr`).
        """
        if not isinstance(order, McpOrder):
            raise InvariantBroken("order_of_other_lane", f"the mcp lane got a `{type(order).__name__}`")
        started_at_ms = self._clock.now_ms()
        try:
            arguments = _plan(order)
        except Malformed as fault:
            said, trace = _refused(fault)
            facts: dict[str, Any] = {"verb": order.verb}
        else:
            run = Run(order, arguments, floor=floor, artefacts=self._artefacts)
            said, trace = await self._carried(run, on_event, steering)
            facts = run.facts
        now_ms = self._clock.now_ms()
        return outcome(said, trace, lane=self.name, started_at_ms=started_at_ms, ended_at_ms=now_ms, facts=facts)

    async def close(self) -> None:
        """Close every connection. Idempotent."""
        await self._sessions.close()

    async def _carried(self, run: Run, on_event: OnEvent, steering: Steering | None) -> tuple[Said, Trace]:
        """Carry it; once more, from the greeting on, when the connection of an earlier order is found gone."""
        said, trace = await self._once(run, on_event, steering)
        if run.is_stale(said):
            return await self._once(run, on_event, steering)
        return said, trace

    async def _once(self, run: Run, on_event: OnEvent, steering: Steering | None) -> tuple[Said, Trace]:
        order = run.order
        grace_ms = order.limits.grace_ms

        async def connected() -> None:
            make = partial(self._client, order, run.floor)
            run.held = await self._sessions.take(_key(order), make, for_ms=order.limits.wall_ms)

        try:
            said = await run.speak(connected, on_event=on_event, steering=steering)
        except BaseException as error:
            trace = await self._leave(run, keep=False, grace_ms=grace_ms)
            if isinstance(error, asyncio.CancelledError) and run.in_doubt_of_a_site:
                message = "the caller gave up; the tool may have been called"
                return Said(ending=Ending.UNKNOWN, code="cancelled", message=message), trace
            raise
        return said, await self._leave(run, keep=run.keeps(said), grace_ms=grace_ms)

    async def _leave(self, run: Run, *, keep: bool, grace_ms: int) -> Trace:
        held, run.held = run.held, None
        if held is None:
            return Trace(attestation=Attestation(mechanism="none"))
        if not keep:
            await held.client.give_up()
        await self._sessions.give(held, keep=keep, grace_ms=grace_ms)
        return held.client.link.trace()

    def _client(self, order: McpOrder, floor: ConfinementClass) -> Client:
        link = self._link(order, floor)
        return Client(link, message_bytes_max=order.message_bytes_max, clock=self._clock, entropy=self._entropy)

    def _link(self, order: McpOrder, floor: ConfinementClass) -> Link:
        peer, size = order.peer, order.message_bytes_max
        if isinstance(peer, ProcessOrder):
            program = program_order(peer, self._life(order))
            lines = framing("newline", message_bytes_max=size)
            return ProgramLink(lane=self._process, order=program, floor=floor, framing=lines)
        site = msgspec.structs.replace(peer, limits=order.limits)
        return McpSiteLink(lane=self._http, order=site, floor=floor, message_bytes_max=size)

    def _life(self, order: McpOrder) -> Limits:
        """The limits of the program that serves `order`: for this one alone, or for its session."""
        limits = order.limits
        if not order.session:
            return msgspec.structs.replace(limits, wall_ms=limits.wall_ms + 3 * limits.grace_ms + _LEEWAY_MS)
        return msgspec.structs.replace(
            limits,
            wall_ms=self._session_ms + _LEEWAY_MS,
            output_bytes_max=SESSION_BYTES_MAX,
            cpu_s_max=SESSION_CPU_S_MAX,
        )


def _plan(order: McpOrder) -> Json:
    """The arguments of the tool.

    Raises:
        Malformed: `order_malformed`.
    """
    check_peer(order.peer)
    if not _SESSION_NAME.match(order.session):
        raise Malformed("order_malformed", "a session has a name of visible ASCII characters, at most 200")
    if order.verb == "list":
        return None
    if not order.tool:
        raise Malformed("order_malformed", "the order names no tool")
    if not _DIGEST.match(order.definition):
        raise Malformed(
            "order_malformed",
            f"the tool `{ascii(order.tool[:60])[1:-1]}` was not admitted",
            hint="list the server's tools, look at this one, and give the digest of its definition",
        )
    arguments = read_params(order.arguments)
    if not isinstance(arguments, dict):
        raise Malformed("order_malformed", "the arguments of a tool are an object")
    return arguments


def _key(order: McpOrder) -> str:
    """What orders of one connection have in common; empty: the connection is for this order alone."""
    if not order.session:
        return ""
    limits = msgspec.structs.replace(order.limits, wall_ms=0, output_bytes_max=0, cpu_s_max=0)
    return digest(msgspec.json.encode((order.peer, order.session, limits, order.message_bytes_max)))


def _refused(fault: Malformed) -> tuple[Said, Trace]:
    said = Said(ending=Ending.FAILED, code=fault.code, message=str(fault))
    return said, Trace(attestation=Attestation(mechanism="none"))
