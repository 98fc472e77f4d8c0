"""The jsonrpc lane: calls to one peer, answered or not, and the peer gone afterwards.

Codes: `ok`, `rpc_error` (the peer answered with an error; it stands in the value), `peer_gone`, `no_answer`,
`wall_limit`, `order_malformed`; when the peer breaks the protocol `frame_malformed`, `message_malformed`,
`message_limit`, `noise_limit`, `output_limit`, `answer_unasked`, `answer_repeated`, `answer_mistyped`,
`answer_nameless`, `asked_limit`, `told_limit`, `batch_incomplete`, `content_type_refused`, `redirect_refused`; and
those of the process lane or the http lane when the peer cannot be had at all. What they mean for the effect is in
`endings`.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from assent.execution.adapters.http import HttpLane
from assent.execution.adapters.jsonrpc.answers import Answers
from assent.execution.adapters.jsonrpc.callers import Caller
from assent.execution.adapters.jsonrpc.endings import Doubt, Said, bounded, check_peer, outcome
from assent.execution.adapters.jsonrpc.links import Link, Trace
from assent.execution.adapters.jsonrpc.programs import ProgramLink, program_order
from assent.execution.adapters.jsonrpc.sites import SiteLink
from assent.execution.adapters.process import ProcessLane
from assent.execution.attestations import Attestation, ConfinementClass
from assent.execution.orders import HttpOrder, Order, ProcessOrder, RpcCall, RpcOrder
from assent.execution.outcomes import Ending, Outcome
from assent.execution.ports import Artefacts, OnEvent, Steering
from assent.execution.rpc_framing import framing
from assent.execution.rpc_messages import BATCH_MAX, METHOD_CHARACTERS_MAX, Answered, read_params
from assent.execution.steering import Capabilities
from assent.primitives.canonical import Json
from assent.primitives.clock import Clock, Entropy
from assent.primitives.errors import InvariantBroken, Malformed

_LEEWAY_MS = 2_000


class RpcLane:
    """Carries `RpcOrder`s, on top of the process lane and the http lane."""

    name = "jsonrpc"
    capabilities = Capabilities(streams=True, summary="JSON-RPC 2.0 calls to a confined program or an HTTP address")

    def __init__(
        self,
        *,
        clock: Clock,
        entropy: Entropy,
        process: ProcessLane,
        http: HttpLane,
        artefacts: Artefacts | None = None,
    ) -> None:
        self._clock, self._entropy, self._artefacts = clock, entropy, artefacts
        self._process, self._http = process, http

    async def carry(
        self, order: Order, *, floor: ConfinementClass, on_event: OnEvent, steering: Steering | None = None
    ) -> Outcome:
        """Carry one order to its end; see `Lane`. `on_event` gets what the program writes to standard error."""
        if not isinstance(order, RpcOrder):
            raise InvariantBroken("order_of_other_lane", f"the jsonrpc lane got a `{type(order).__name__}`")
        started_at_ms = self._clock.now_ms()
        run = _Run(order, entropy=self._entropy, artefacts=self._artefacts)
        said, trace = await self._spoken(run, floor, on_event, steering)
        facts = {"methods": [call.method for call in order.calls], **run.counts}
        now_ms = self._clock.now_ms()
        return outcome(said, trace, lane=self.name, started_at_ms=started_at_ms, ended_at_ms=now_ms, facts=facts)

    async def close(self) -> None:
        """Nothing is held: every peer ended with its order."""

    async def _spoken(
        self, run: _Run, floor: ConfinementClass, on_event: OnEvent, steering: Steering | None
    ) -> tuple[Said, Trace]:
        try:
            calls = run.plan()
        except Malformed as fault:
            failed = Said(ending=Ending.FAILED, code=fault.code, message=str(fault))
            return failed, Trace(attestation=Attestation(mechanism="none"))
        link = self._link(run.order, floor)
        grace_ms = run.order.limits.grace_ms
        try:
            said = await run.speak(link, calls, on_event=on_event, steering=steering)
        except BaseException as error:
            run.abandon()
            await run.give_up()
            await link.close(grace_ms=grace_ms)
            site_in_doubt = isinstance(link, SiteLink) and run.doubt.ending is Ending.UNKNOWN
            if isinstance(error, asyncio.CancelledError) and site_in_doubt:
                message = "the caller gave up; what was asked may have been done"
                return Said(ending=Ending.UNKNOWN, code="cancelled", message=message), link.trace()
            raise
        await run.give_up()
        await link.close(grace_ms=grace_ms)
        return said, link.trace()

    def _link(self, order: RpcOrder, floor: ConfinementClass) -> Link:
        peer, limits = order.peer, order.limits
        if isinstance(peer, ProcessOrder):
            lines = framing(order.framing, message_bytes_max=order.message_bytes_max)
            wall_ms = limits.wall_ms + 3 * limits.grace_ms + _LEEWAY_MS
            program = program_order(peer, msgspec.structs.replace(limits, wall_ms=wall_ms))
            return ProgramLink(lane=self._process, order=program, floor=floor, framing=lines)
        site = msgspec.structs.replace(peer, limits=limits)
        return SiteLink(
            lane=self._http, order=site, floor=floor, message_bytes_max=order.message_bytes_max, streams=False
        )


class _Run:
    """One order being spoken: which calls are answered, and how."""

    def __init__(self, order: RpcOrder, *, entropy: Entropy, artefacts: Artefacts | None) -> None:
        self.order = order
        self.doubt = Doubt()
        self._entropy = entropy
        self._caller: Caller | None = None
        self._answers = Answers(artefacts)

    @property
    def counts(self) -> dict[str, Any]:
        return self._caller.counts if self._caller is not None else {}

    def plan(self) -> list[Json]:
        """The parameters of every call.

        Raises:
            Malformed: `order_malformed`.
        """
        order = self.order
        check_peer(order.peer)
        if not 0 < len(order.calls) <= BATCH_MAX:
            raise Malformed("order_malformed", f"an order has 1 to {BATCH_MAX} calls")
        if isinstance(order.peer, HttpOrder) and order.framing != "newline":
            raise Malformed("order_malformed", "over HTTP there is no framing to choose")
        for call in order.calls:
            if not 0 < len(call.method) <= METHOD_CHARACTERS_MAX or call.method.startswith("rpc."):
                raise Malformed("order_malformed", f"`{ascii(call.method[:60])[1:-1]}` is not a method to call")
        return [read_params(call.params) for call in order.calls]

    async def speak(self, link: Link, calls: list[Json], *, on_event: OnEvent, steering: Steering | None) -> Said:
        self.doubt.link = link
        self._caller = caller = Caller(link, message_bytes_max=self.order.message_bytes_max, entropy=self._entropy)

        async def spoken() -> Said:
            link.begin(on_event=on_event, steering=steering, bytes_max=self.order.limits.output_bytes_max)
            caller.begin(steering)
            await link.open()
            return await (self._batch(caller, calls) if self.order.batch else self._in_order(caller, calls))

        said = await bounded(spoken, limits=self.order.limits, doubt=self.doubt)
        return msgspec.structs.replace(said, value=self._value())

    def abandon(self) -> None:
        """Nobody waits for the answers any more."""
        self._answers.abandon()

    async def give_up(self) -> None:
        """Tell the peer that nobody waits any more, where it knows how to be told."""
        caller, method = self._caller, self.order.cancel_method
        if caller is not None and method and isinstance(caller.link, ProgramLink):
            for id_ in sorted(caller.waiting):
                await caller.tell(method, {"id": id_})

    async def _in_order(self, caller: Caller, params: list[Json]) -> Said:
        for number, (call, given) in enumerate(zip(self.order.calls, params, strict=True), start=1):
            if not call.reads:
                self.doubt.acting()
            if call.notification:
                await caller.tell(call.method, given, acts=True)
                self.doubt.settled(acted=True)
                self._answers.add({"method": call.method})
                continue
            answer = await caller.call(call.method, given, acts=True)
            self.doubt.settled(acted=answer.error is None)
            self._answers.add(_shown(call, answer))
            if answer.error is not None:
                return self._refused(f"call {number} of {len(params)}, `{call.method}`, was answered with an error")
        return Said(ending=Ending.SUCCEEDED, code="ok")

    async def _batch(self, caller: Caller, params: list[Json]) -> Said:
        calls = self.order.calls
        if not all(call.reads for call in calls):
            self.doubt.acting()
        sent = [(call.method, given, call.notification) for call, given in zip(calls, params, strict=True)]
        answers = await caller.call_all(sent)
        acted = any(
            not call.reads and (answer is None or answer.error is None)
            for call, answer in zip(calls, answers, strict=True)
        )
        self.doubt.settled(acted=acted)
        for call, answer in zip(calls, answers, strict=True):
            self._answers.add(_shown(call, answer))
        wrong = sum(answer is not None and answer.error is not None for answer in answers)
        if wrong:
            return self._refused(f"{wrong} of the {len(calls)} calls were answered with an error")
        return Said(ending=Ending.SUCCEEDED, code="ok")

    def _refused(self, message: str) -> Said:
        if self.doubt.ending is Ending.UNKNOWN:
            message += "; others were carried out"
        return Said(ending=self.doubt.ending, code="rpc_error", message=message)

    def _value(self) -> dict[str, Any]:
        return {"answers": self._answers.value()} if self._answers else {}


def _shown(call: RpcCall, answer: Answered | None) -> dict[str, Json]:
    if answer is None:
        return {"method": call.method}
    if answer.error is None:
        return {"method": call.method, "result": answer.result}
    return {"method": call.method, "error": msgspec.to_builtins(answer.error)}
