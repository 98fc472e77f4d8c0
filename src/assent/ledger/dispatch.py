"""Dispatch: carry a granted order and settle what came of it. The one place from which execution is reached.

Whoever calls has already committed the acceptance. From here on the effect is settled exactly once, whatever happens:
the lane answers, refuses, breaks, or is cancelled. If this process dies in between, the row stays `dispatched` under a
fence that will be taken away, and recovery calls it `unknown`.
"""

from __future__ import annotations

import asyncio

from assent.execution.attestations import Attestation
from assent.execution.carry import Executor
from assent.execution.grants import Grant
from assent.execution.orders import Order
from assent.execution.outcomes import Ending, Evidence, Outcome
from assent.execution.ports import OnEvent
from assent.ledger.commands import Settle, Settled
from assent.ledger.effects import EffectState, ended
from assent.ledger.entries import SALT_BYTES
from assent.ledger.ports import LedgerStore
from assent.ledger.receipts import receipt_draft
from assent.primitives.clock import Clock, Entropy
from assent.primitives.errors import Refused


class Dispatcher:
    """Carries granted orders and settles them."""

    def __init__(self, *, store: LedgerStore, executor: Executor, clock: Clock, entropy: Entropy) -> None:
        self._store = store
        self._executor = executor
        self._clock = clock
        self._entropy = entropy

    async def carry_out(
        self, *, grant: Grant, order: Order, seq: int, state: EffectState, on_event: OnEvent
    ) -> tuple[Outcome, Settled]:
        """Carry `order` and settle. `seq` is the log position of the dispatch, `state` is `dispatched`, or `unknown`
        when an unknown effect is sent again.

        Raises:
            Unavailable: the result could not be recorded; the effect will be found `unknown`.
        """
        started_at_ms = self._clock.now_ms()
        work = asyncio.create_task(self._carry(grant, order, started_at_ms, on_event))  # noqa: TID251 (awaited below)
        try:
            outcome = await asyncio.shield(work)
        except asyncio.CancelledError:
            work.cancel()
            await asyncio.wait([work])
            await self._settle_uncancelled(grant, work.result(), seq=seq, state=state)
            raise
        return outcome, await self._settle_uncancelled(grant, outcome, seq=seq, state=state)

    async def _carry(self, grant: Grant, order: Order, started_at_ms: int, on_event: OnEvent) -> Outcome:
        try:
            return await self._executor.carry(grant=grant, order=order, on_event=on_event)
        except Refused as refusal:
            return self._without_lane(started_at_ms, Ending.FAILED, refusal.code, str(refusal))
        except asyncio.CancelledError:
            return self._without_lane(started_at_ms, Ending.CANCELLED, "cancelled", "the caller gave up")
        except Exception as fault:  # noqa: BLE001 (a lane must not raise: whatever it did may have happened)
            return self._without_lane(started_at_ms, Ending.UNKNOWN, "lane_broken", type(fault).__name__)

    async def _settle_uncancelled(self, grant: Grant, outcome: Outcome, *, seq: int, state: EffectState) -> Settled:
        """Settle to the end even when the caller gives up meanwhile: what happened must be on record."""
        settling = asyncio.create_task(self._settle(grant, outcome, seq=seq, state=state))  # noqa: TID251 (awaited)
        try:
            return await asyncio.shield(settling)
        except asyncio.CancelledError:
            await asyncio.wait([settling])
            raise

    async def _settle(self, grant: Grant, outcome: Outcome, *, seq: int, state: EffectState) -> Settled:
        body = grant.body
        moves, after = ended(state, outcome.ending)
        entry = receipt_draft(
            effect=body.effect,
            before=seq,
            moves=[*moves],
            state=after,
            attempt=body.attempt,
            fence=body.fence,
            outcome=outcome,
            salt=self._entropy(SALT_BYTES),
        )
        settled: Settled = await self._store.apply(
            Settle(
                tenant=body.tenant,
                effect=body.effect,
                last_seq=seq,
                attempt=body.attempt,
                fence=body.fence,
                state=after,
                code=outcome.code,
                draft=entry,
            )
        )
        return settled

    def _without_lane(self, started_at_ms: int, ending: Ending, code: str, message: str) -> Outcome:
        evidence = Evidence(
            lane="none",
            attestation=Attestation(mechanism="none"),
            started_at_ms=started_at_ms,
            ended_at_ms=self._clock.now_ms(),
        )
        return Outcome(ending=ending, code=code, message=message, evidence=evidence)
