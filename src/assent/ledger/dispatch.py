"""Dispatch: carry a granted order and settle what came of it. The one place from which execution is reached.

Whoever calls has already committed the acceptance. From here on the effect is settled exactly once, whatever happens:
the lane answers, refuses, breaks, or is cancelled. If this process dies in between, the row stays `dispatched` under a
fence that will be taken away, and recovery calls it `unknown`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from assent.execution.attestations import Attestation
from assent.execution.carry import Executor
from assent.execution.grants import Grant
from assent.execution.orders import Order
from assent.execution.outcomes import Ending, Evidence, Outcome
from assent.execution.ports import OnEvent, Steering
from assent.execution.secrets import Redactor
from assent.ledger.commands import OpenLog, Settle, Settled
from assent.ledger.effects import EffectState, ended
from assent.ledger.entries import SALT_BYTES
from assent.ledger.metering import NO_METER, Meter
from assent.ledger.operations import Reading, as_it_is
from assent.ledger.ports import LedgerStore
from assent.ledger.receipts import receipt_draft
from assent.primitives.clock import Clock, Entropy
from assent.primitives.errors import Refused, Unavailable

T = TypeVar("T")
OWED_MAX = 1_000
OVERTIME_S = 120.0
"""How long after its order's time limit a lane that is not back is taken for stuck. What it does to get ready and to
clean up has limits of its own, which end before."""


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Do `work` to its end, however often the caller is cancelled meanwhile: what happened must be on record.

    Raises:
        asyncio.CancelledError: afterwards, when the caller was cancelled.
    """
    doing = asyncio.create_task(work)  # noqa: TID251 (awaited in any case)
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        while not doing.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([doing])
        if not doing.cancelled():
            doing.exception()  # the caller is gone: nobody else will ask for it
        raise


class Dispatcher:
    """Carries granted orders and settles them. What comes back is recorded without the secrets `redactor` knows."""

    def __init__(
        self,
        *,
        store: LedgerStore,
        executor: Executor,
        clock: Clock,
        entropy: Entropy,
        redactor: Redactor | None = None,
    ) -> None:
        self._redactor = redactor or Redactor()
        self._store = store
        self._executor = executor
        self._clock = clock
        self._entropy = entropy
        self._owed: list[Settle] = []

    async def carry_out(
        self,
        *,
        grant: Grant,
        order: Order,
        seq: int,
        state: EffectState,
        on_event: OnEvent,
        steering: Steering | None = None,
        read: Reading = as_it_is,
        meter: Meter = NO_METER,
    ) -> tuple[Outcome, Settled]:
        """Carry `order` and settle. `seq` is the log position of the dispatch, `state` is `dispatched`, or `unknown`
        when an unknown effect is sent again; `read` says what the operation makes of a success, `meter` what the call
        used of what it holds.

        Raises:
            Unavailable: the result could not be recorded now. `settle_owed` records it when the database is well
                again; if this node ends before, the effect will be found `unknown`.
        """
        started_at_ms = self._clock.now_ms()
        carry = partial(self._executor.carry, grant=grant, order=order, on_event=on_event, steering=steering)
        carried = self._carried(carry, started_at_ms, read, order.limits.wall_ms / 1_000 + OVERTIME_S)
        work = asyncio.create_task(carried)  # noqa: TID251 (awaited below)
        try:
            outcome = await asyncio.shield(work)
        except asyncio.CancelledError:
            work.cancel()
            await to_the_end(self._settle_after(work, grant, meter, seq=seq, state=state))
            raise
        return outcome, await to_the_end(self._settle(grant, outcome, meter.read(outcome), seq=seq, state=state))

    async def abandon(self, grant: Grant, meter: Meter = NO_METER) -> None:
        """Settle as cancelled, if it was committed, a dispatch whose caller gave up before it heard the answer.

        Raises:
            Unavailable: it could not be recorded; the effect will be found `unknown`.
        """
        await to_the_end(self._abandon(grant, meter))

    async def settle_owed(self) -> int:
        """Record what could not be recorded when it happened; how many results that were.

        Raises:
            Unavailable: the database is still not well; what is owed stays owed.
        """
        count = 0
        while self._owed:
            command = self._owed.pop(0)
            try:
                await self._store.apply(command)
            except Unavailable:
                self._owed.insert(0, command)
                raise
            count += 1
        return count

    async def _abandon(self, grant: Grant, meter: Meter) -> None:
        body = grant.body
        # Commands take effect in the order in which they were asked for: after this one it stands or never will.
        await self._store.apply(OpenLog(tenant=body.tenant))
        effect = await self._store.effect(body.tenant, body.effect)
        if effect is not None and (effect.attempt, effect.node) == (body.attempt, body.fence.node):
            outcome = self._without_lane(
                self._clock.now_ms(), Ending.CANCELLED, "cancelled", "the caller gave up before anything began"
            )
            await self._settle(grant, outcome, meter.nothing, seq=effect.last_seq, state=effect.state)

    async def _carried(
        self, carry: Callable[[], Coroutine[Any, Any, Outcome]], started_at_ms: int, read: Reading, patience_s: float
    ) -> Outcome:
        deadline = asyncio.timeout(patience_s)
        try:
            async with deadline:
                return self._redactor.outcome(read(await carry()))
        except Refused as refusal:
            return self._without_lane(started_at_ms, Ending.FAILED, refusal.code, str(refusal))
        except asyncio.CancelledError:
            return self._without_lane(started_at_ms, Ending.CANCELLED, "cancelled", "the caller gave up")
        except Exception as fault:  # noqa: BLE001 (a lane must not raise: whatever it did may have happened)
            if deadline.expired():
                return self._without_lane(started_at_ms, Ending.UNKNOWN, "lane_stuck", "the lane did not come back")
            return self._without_lane(started_at_ms, Ending.UNKNOWN, "lane_broken", type(fault).__name__)

    async def _settle_after(
        self, work: asyncio.Task[Outcome], grant: Grant, meter: Meter, *, seq: int, state: EffectState
    ) -> Settled:
        """Settle when the lane has stopped, however long that takes."""
        await asyncio.wait([work])
        outcome = work.result()
        return await self._settle(grant, outcome, meter.read(outcome), seq=seq, state=state)

    async def _settle(
        self, grant: Grant, outcome: Outcome, used: Mapping[str, int] | None, *, seq: int, state: EffectState
    ) -> Settled:
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
            used=used,
        )
        command = Settle(
            tenant=body.tenant,
            effect=body.effect,
            last_seq=seq,
            attempt=body.attempt,
            fence=body.fence,
            state=after,
            code=outcome.code,
            draft=entry,
            used=used,
        )
        try:
            settled: Settled = await self._store.apply(command)
        except Unavailable:
            if len(self._owed) < OWED_MAX:
                self._owed.append(command)
            raise
        return settled

    def _without_lane(self, started_at_ms: int, ending: Ending, code: str, message: str) -> Outcome:
        evidence = Evidence(
            lane="none",
            attestation=Attestation(mechanism="none"),
            started_at_ms=started_at_ms,
            ended_at_ms=self._clock.now_ms(),
        )
        return Outcome(ending=ending, code=code, message=message, evidence=evidence)
