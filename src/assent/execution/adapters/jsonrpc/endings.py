"""How an order that was spoken ended: one place that turns every way off the road into ending, code and sentence.

The question is that of `exchanges`: may whoever asked take it that nothing happened? FAILED says yes. So it is FAILED
while nothing that acts was said, and after an answer that says no; and UNKNOWN once something that acts may have
reached the peer and no answer settled it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from assent.execution.adapters.jsonrpc.links import Gone, Link, Trace
from assent.execution.orders import HttpOrder, Limits, ProcessOrder
from assent.execution.outcomes import Ending, Evidence, Outcome
from assent.execution.ports import Artefact, Artefacts
from assent.primitives.canonical import Json, canonical
from assent.primitives.digests import digest
from assent.primitives.errors import Malformed

INLINE_BYTES_MAX = 786_432
HEAD_BYTES = 1_024
THIRD_PARTY = {"integrity": "third_party"}
"""What a peer says is a stranger's word, whoever chose the peer: the label of every value of these lanes."""


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """How it ended, without the evidence."""

    ending: Ending
    code: str
    message: str = ""
    value: dict[str, Any] = {}
    limit: str = ""


class Doubt:
    """Whether something may have happened that no answer has settled."""

    def __init__(self) -> None:
        self.link: Link | None = None
        self._acting = self._acted = False

    def acting(self) -> None:
        """Something that changes the world is about to be said."""
        self._acting = True

    def settled(self, *, acted: bool) -> None:
        """An answer came; `acted`: it says that it was done."""
        self._acted = self._acted or (self._acting and acted)
        self._acting = False

    @property
    def ending(self) -> Ending:
        """The ending when it breaks off now."""
        under_way = self._acting and self.link is not None and self.link.sent
        return Ending.UNKNOWN if self._acted or under_way else Ending.FAILED


async def bounded(speak: Callable[[], Awaitable[Said]], *, limits: Limits, doubt: Doubt) -> Said:
    """Speak within the time there is, and say how it ended."""
    deadline = asyncio.timeout(limits.wall_ms / 1000)
    try:
        async with deadline:
            return await speak()
    except TimeoutError:
        if not deadline.expired():
            raise
        message = f"the peer gave no whole answer within {limits.wall_ms} ms"
        return Said(ending=doubt.ending, code="wall_limit", message=_doubted(message, doubt), limit="wall")
    except Gone as gone:
        ending = doubt.ending if gone.ending is Ending.UNKNOWN else gone.ending
        return Said(ending=ending, code=gone.code, message=gone.message, limit=gone.limit)
    except Malformed as fault:
        limit = fault.code.removesuffix("_limit") if fault.code.endswith("_limit") else ""
        return Said(ending=doubt.ending, code=fault.code, message=_doubted(str(fault), doubt), limit=limit)


def outcome(
    said: Said, trace: Trace, *, lane: str, started_at_ms: int, ended_at_ms: int, facts: dict[str, Any]
) -> Outcome:
    """The whole outcome: what was said, and what backs it."""
    evidence = Evidence(
        lane=lane,
        attestation=trace.attestation,
        started_at_ms=started_at_ms,
        ended_at_ms=ended_at_ms,
        limit=said.limit,
        digests=trace.digests,
        facts={**facts, **trace.facts, "label": THIRD_PARTY},
    )
    return Outcome(ending=said.ending, code=said.code, message=said.message, value=said.value, evidence=evidence)


def kept(value: Json, artefacts: Artefacts | None) -> Json:
    """`value` itself when it is small; else what names it: its artefact, its size and its beginning."""
    data = canonical(value)
    if len(data) <= INLINE_BYTES_MAX:
        return value
    return kept_bytes(data, artefacts)


def kept_bytes(data: bytes, artefacts: Artefacts | None) -> dict[str, Json]:
    """`data` as an artefact. Where none can be kept, its digest and beginning are all that remains."""
    named: dict[str, Json] = {"bytes": len(data), "head": data[:HEAD_BYTES].decode(errors="replace")}
    artefact: Artefact | None = None
    try:
        if artefacts is not None:
            artefact = artefacts.begin()
            artefact.write(data)
            return {**named, "artefact": artefact.keep()[0]}
    except OSError:
        if artefact is not None:
            artefact.abandon()
    return {**named, "digest": digest(data)}


def check_peer(peer: ProcessOrder | HttpOrder) -> None:
    """What a peer's order may say, besides what its own lane checks.

    Raises:
        Malformed: `order_malformed`.
    """
    if isinstance(peer, HttpOrder):
        if peer.method != "POST" or peer.body or peer.upload is not None:
            raise Malformed("order_malformed", "a peer behind an address is ordered as a POST with an empty body")
    elif peer.pty is not None or peer.stdin:
        raise Malformed("order_malformed", "a program that is spoken with has no terminal and no input of its own")


def _doubted(message: str, doubt: Doubt) -> str:
    return f"{message}; what was asked may have been done" if doubt.ending is Ending.UNKNOWN else message
