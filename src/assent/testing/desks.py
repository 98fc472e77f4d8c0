"""A desk with a ledger's store on it: one node that holds its lease, and short words for what tests do with both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from assent.execution.outcomes import Ending
from assent.ledger.budgets import Hold, Shortage
from assent.ledger.commands import Accept, Accepted, Command, Settled, TakeLease, WriteNotes
from assent.ledger.decisions import ANYBODY, Demands, Verdict
from assent.ledger.effects import Effect
from assent.ledger.journals import Content, Note, Noted
from assent.ledger.ports import LedgerStore
from assent.primitives.clock import Clock
from assent.primitives.errors import AssentError
from assent.primitives.ids import EffectId, TenantId
from assent.primitives.leases import SYSTEM
from assent.testing.calls import Scribe, intent_to
from assent.testing.clocks import SetClock
from assent.testing.entropy import SeededEntropy

ACME, GLOBEX = TenantId("acme"), TenantId("globex")
TTL_MS = 10_000


class Desk:
    """A store with one node that holds its lease, and short words for what tests do."""

    def __init__(self, store: LedgerStore, clock: Clock, seed: int = 0) -> None:
        self.store = store
        self._clock = clock
        self.scribe = Scribe(clock=clock, entropy=SeededEntropy(seed))

    @property
    def clock(self) -> SetClock:
        """The store's clock, to be moved; it must be one that can."""
        assert isinstance(self._clock, SetClock), "this clock goes by itself"
        return self._clock

    async def start(self) -> Desk:
        """Take the lease."""
        await self.store.apply(TakeLease(tenant=SYSTEM, fence=self.scribe.fence, ttl_ms=TTL_MS))
        return self

    async def accept(
        self,
        tenant: TenantId = ACME,
        verdict: Verdict = Verdict.ALLOW,
        *,
        content: str = "x",
        key: str = "",
        run: str = "",
        holds: tuple[Hold, ...] = (),
        demands: Demands = ANYBODY,
        after: bool = False,
    ) -> Effect:
        """Accept a fresh wish and return its effect."""
        intent = intent_to(tenant, content=content, key=key, run=run)
        return await self.take(self.scribe.accept(intent, verdict, holds=holds, demands=demands, after=after))

    async def stopped(self, tenant: TenantId = ACME, *, holds: tuple[Hold, ...]) -> Effect:
        """An effect that was refused because its holds found no room."""
        command = self.scribe.accept(intent_to(tenant), holds=holds)
        lacking = await self.store.apply(command)
        assert isinstance(lacking, Shortage), "there was room"
        return await self.take(
            self.scribe.accept(command.intent, Verdict.DENY, effect=command.effect, shortage=lacking)
        )

    async def take(self, command: Accept) -> Effect:
        """Accept by this command and return the effect."""
        accepted: Accepted = await self.store.apply(command)
        return await self.find(command.tenant, accepted.effect)

    async def granted(self, tenant: TenantId = ACME) -> Effect:
        """An effect that somebody has approved."""
        effect = await self.accept(tenant, Verdict.REVIEW)
        await self.store.apply(self.scribe.answer(tenant, effect.review, by="person:bob"))
        return await self.find(tenant, effect.id)

    async def unknown(self, tenant: TenantId = ACME, *, holds: tuple[Hold, ...] = ()) -> Effect:
        """An effect that may have happened."""
        effect = await self.accept(tenant, holds=holds)
        await self.settle(effect, Ending.UNKNOWN)
        return await self.find(tenant, effect.id)

    async def settle(
        self, effect: Effect, ending: Ending = Ending.SUCCEEDED, *, used: Mapping[str, int] | None = None
    ) -> Settled:
        """Settle the attempt that `effect` shows."""
        settled: Settled = await self.store.apply(
            self.scribe.settle(
                tenant=effect.tenant,
                effect=effect.id,
                seq=effect.last_seq,
                attempt=effect.attempt,
                before=effect.state,
                ending=ending,
                used=used,
            )
        )
        return settled

    async def write(self, *notes: Note, tenant: TenantId = ACME, contents: tuple[Content, ...] = ()) -> Noted:
        """Write notes into journals, as this node."""
        noted: Noted = await self.store.apply(
            WriteNotes(tenant=tenant, fence=self.scribe.fence, notes=notes, contents=contents)
        )
        return noted

    async def find(self, tenant: TenantId, effect: EffectId) -> Effect:
        """The effect as it stands; it must be there."""
        found = await self.store.effect(tenant, effect)
        assert found is not None, f"effect {effect} is missing"
        return found

    async def size(self, tenant: TenantId = ACME) -> int:
        """How many entries the tenant's log has; they must run from 0 without a gap."""
        records = await self.store.records(tenant, after=-1, limit=100_000)
        assert [r.seq for r in records] == list(range(len(records)))
        return len(records)

    async def types(self, effect: Effect) -> list[str]:
        """The kinds of entries in an effect's history."""
        now = await self.find(effect.tenant, effect.id)
        return [record.type for record in await self.store.history(effect.tenant, now)]


async def code_of(doing: Awaitable[object]) -> str:
    """The code of the error that `doing` raises, or "" when it raises none."""
    try:
        await doing
    except AssentError as error:
        return error.code
    return ""


async def results_of(store: LedgerStore, commands: Sequence[Command]) -> list[Any]:
    """What each command results in when all are asked for at once; an error stands as itself."""
    return await asyncio.gather(*(store.apply(c) for c in commands), return_exceptions=True)
