"""The tenant canary of the ledger: every read and every command of its port, with another tenant's ids."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from assent.ledger import commands
from assent.ledger.budgets import Hold, Unit, Window
from assent.ledger.decisions import Demands, Seat, Verdict
from assent.ledger.effects import Effect, EffectState, Move
from assent.ledger.journals import Note, content, note
from assent.ledger.rates import Count
from assent.ledger.reviews import ReviewState
from assent.primitives.digests import digest
from assent.primitives.ids import EffectId, ReviewId, TenantId
from assent.testing.benches import ANN
from assent.testing.calls import intent_to
from assent.testing.clocks import SetClock
from assent.testing.desks import ACME, GLOBEX, Desk
from assent.testing.ledgers import LedgerFolder
from tests.attacks.tenancy import (
    CANARY,
    Try,
    must_be_known,
    must_learn_nothing,
    rows_of,
)

COUNT = Count(f"rate:{CANARY}", Window.ALL)
OF_NO_TENANT = {
    "TakeLease": "nodes belong to no tenant",
    "RenewLease": "nodes belong to no tenant",
    "ReleaseLease": "nodes belong to no tenant",
    "FenceOut": "nodes belong to no tenant",
    "OpenLog": "it begins one's own log and names nothing",
}


class LedgerScene:
    """A ledger in which the owner has one thing of each kind for every command that may move it."""

    def __init__(self, folder: LedgerFolder, desk: Desk) -> None:
        self.store, self.desk, self._folder = desk.store, desk, folder
        self.ids: dict[str, str] = {}

    async def furnish(self) -> LedgerScene:
        desk, few = self.desk, (Hold(scope=CANARY, unit=Unit.CALLS, window=Window.ALL, amount=1, limit=1),)
        asked = await desk.take(
            desk.scribe.accept(
                intent_to(ACME, key=f"{CANARY}-key", run=f"{CANARY}-run", content=CANARY), Verdict.REVIEW
            )
        )
        demands = Demands(seats=(Seat(roles=("lead",), escalate_s=60, escalate_to=("boss",)),))
        escalated = await desk.accept(ACME, Verdict.REVIEW, demands=demands)
        due = Demands(seats=(Seat(roles=("lead",), escalate_s=1, escalate_to=("boss",)),))
        await desk.accept(ACME, Verdict.REVIEW, demands=due)
        expiring = await desk.take(desk.scribe.accept(intent_to(ACME), Verdict.REVIEW, ttl_s=1))
        self.ids = {
            "key": f"{CANARY}-key", "run": f"{CANARY}-run", "effect": asked.id, "review": asked.review,
            "escalated": escalated.review, "expiring": expiring.review,
            "dispatched": (await desk.accept(ACME)).id, "unknown": (await desk.unknown(ACME)).id,
            "granted": (await desk.granted(ACME)).id, "unwanted": (await desk.granted(ACME)).id,
            "settled": (await desk.accept(ACME, holds=(*few, COUNT.hold(9)))).id,
            "stopped": (await desk.stopped(ACME, holds=few)).id,
            "session": f"{CANARY}-session", "contents": digest(CANARY.encode()), "policy": digest(b"their policy"),
        }  # fmt: skip
        await desk.settle(await desk.find(ACME, EffectId(self.ids["settled"])))
        past = await desk.accept(ACME, Verdict.REVIEW)
        await self.store.apply(desk.scribe.answer(ACME, past.review, by="person:bob", approve=False))
        await desk.write(self.noted(self.ids["session"], -1), contents=(content(CANARY.encode()),))
        await self.store.apply(
            commands.ActivatePolicy(tenant=ACME, revision=digest(b"their policy"), text=CANARY, by=ANN, expected="")
        )
        own = await desk.accept(GLOBEX)
        await desk.settle(own)
        desk.clock.pass_ms(2_000)  # what may expire, would
        return self

    def revision(self, tenant: str) -> str:
        """The policy that is in force for a tenant: only the owner has one."""
        return self.ids["policy"] if tenant == ACME else ""

    async def size(self) -> int:
        return await self.desk.size(ACME)

    def rows(self) -> Any:
        return rows_of(self._folder.database, ACME)

    async def own_history(self, tenant: str) -> Any:
        """What is on record about the first effect of a tenant."""
        first = (await self.store.effects(TenantId(tenant), limit=99))[0]
        return await self.store.history(TenantId(tenant), first)

    async def effect(self, tenant: str, id_: str) -> Effect:
        """The owner's effect as `tenant` would name it; what never was looks like another."""
        found = await self.store.effect(ACME, EffectId(id_))
        found = found or await self.desk.find(ACME, EffectId(self.ids["granted"]))
        return msgspec.structs.replace(found, id=EffectId(id_), tenant=TenantId(tenant))

    def noted(self, id_: str, before: int) -> Note:
        body = {"who": CANARY} if before < 0 else {}
        return note(
            kind="session", id_=id_, before=before, state="open", owned=False, type_="session.opened", body=body
        )

    async def written(self, tenant: str, id_: str) -> Any:
        journal = await self.store.journal(ACME, "session", self.ids["session"])
        assert journal is not None
        return await self.desk.write(self.noted(id_, journal.last_seq), tenant=TenantId(tenant))

    async def dismissed(self, tenant: str, id_: str) -> Any:
        return await self.store.apply(self.desk.scribe.dismiss(await self.effect(tenant, id_)))


async def _done(scene: LedgerScene, tenant: str, id_: str, make: Any) -> Any:
    return await scene.store.apply(make(await scene.effect(tenant, id_)))


MIXED: Mapping[str, Try] = {
    "one's own history": Try(lambda s, t, of: s.own_history(t), names=False),
    "one's own names": Try(lambda s, t, of: s.store.names(t, "_", limit=99), names=False),
    "a call under the owner's policy": Try(
        lambda s, t, of: s.store.apply(s.desk.scribe.accept(intent_to(t), Verdict.REVIEW, revision=of["policy"]))
    ),
}
"""Where two tenants have the same place in a log, or name the same thing: each is told its own."""
READS: Mapping[str, Try] = {
    "effect": Try(lambda s, t, of: s.store.effect(t, of["effect"])),
    "effect_by_key": Try(lambda s, t, of: s.store.effect_by_key(t, of["key"])),
    "effects": Try(lambda s, t, of: s.store.effects(t, run=of["run"], limit=99)),
    "review": Try(lambda s, t, of: s.store.review(t, of["review"])),
    "reviews": Try(lambda s, t, of: s.store.reviews(t, states=tuple(ReviewState), limit=99), names=False),
    "precedents": Try(lambda s, t, of: s.store.precedents(t, "files.write", "agent:writer", limit=99), names=False),
    "history": Try(lambda s, t, of: _history(s, t, of["effect"])),
    "histories": Try(lambda s, t, of: s.store.histories(t, of["run"], limit=99)),
    "budgets": Try(lambda s, t, of: s.store.budgets(t, limit=99), names=False),
    "counted": Try(lambda s, t, of: s.store.counted(t, [COUNT]), names=False),
    "journal": Try(lambda s, t, of: s.store.journal(t, "session", of["session"])),
    "journals": Try(lambda s, t, of: s.store.journals(t, "session", limit=99), names=False),
    "notes": Try(lambda s, t, of: s.store.notes(t, "session", of["session"])),
    "contents": Try(lambda s, t, of: s.store.contents(t, [of["contents"]])),
    "records": Try(lambda s, t, of: s.store.records(t, after=-1, limit=999), names=False),
    "records_at": Try(lambda s, t, of: s.store.records_at(t, range(999)), names=False),
    "size": Try(lambda s, t, of: s.store.size(t), names=False),
    "names": Try(lambda s, t, of: _names(s, t, of["run"], of["effect"], of["review"])),
    "policy_revision": Try(lambda s, t, of: s.store.policy_revision(t, of["policy"])),
    "active_policy": Try(lambda s, t, of: s.store.active_policy(t), names=False),
}
COMMANDS: Mapping[str, Try] = {
    "Accept": Try(
        lambda s, t, of: s.store.apply(
            s.desk.scribe.accept(
                intent_to(t, key=of["key"], run=of["run"], content=CANARY), Verdict.REVIEW, revision=s.revision(t)
            )
        ),
        names=False,
    ),
    "Dispatch": Try(
        lambda s, t, of: _done(s, t, of["granted"], lambda one: s.desk.scribe.dispatch(one, revision=s.revision(t)))
    ),
    "Settle": Try(
        lambda s, t, of: _done(
            s, t, of["dispatched"], lambda one: s.desk.scribe.settle(tenant=t, effect=one.id, seq=one.last_seq)
        )
    ),
    "Judge": Try(
        lambda s, t, of: _done(
            s, t, of["unknown"],
            lambda one: s.desk.scribe.judge(msgspec.structs.replace(one, state=EffectState.UNKNOWN), Move.SUCCEED),
        )
    ),
    "AnswerReview": Try(lambda s, t, of: s.store.apply(s.desk.scribe.answer(t, of["review"], by="person:bob"))),
    "EscalateReview": Try(
        lambda s, t, of: s.store.apply(
            commands.EscalateReview(tenant=t, review=ReviewId(of["escalated"]), by="person:bob")
        )
    ),
    "Withdraw": Try(lambda s, t, of: _done(s, t, of["unwanted"], s.desk.scribe.withdraw)),
    "DismissStop": Try(lambda s, t, of: s.dismissed(t, of["stopped"])),
    "WriteNotes": Try(lambda s, t, of: s.written(t, of["session"])),
    "ActivatePolicy": Try(
        lambda s, t, of: s.store.apply(
            commands.ActivatePolicy(tenant=t, revision=digest(b"mine"), text="mine", by=ANN, expected=of["policy"])
        )
    ),
    "ExpireReviews": Try(lambda s, t, of: s.store.apply(commands.ExpireReviews(tenant=t)), names=False),
    "KeepCheckpoint": Try(lambda s, t, of: s.store.apply(commands.KeepCheckpoint(tenant=t)), names=False),
}  # fmt: skip


async def _names(scene: LedgerScene, tenant: str, *parts: str) -> list[list[str]]:
    return [await scene.store.names(TenantId(tenant), part, limit=99) for part in parts]


async def _history(scene: LedgerScene, tenant: str, id_: str) -> Any:
    return await scene.store.history(TenantId(tenant), await scene.effect(tenant, id_))


def test_canary_knows_every_command():
    every = {one.__name__ for one in commands.Command.__subclasses__() if one.__module__ == commands.__name__}
    must_be_known(every, set(COMMANDS), OF_NO_TENANT)


@pytest.mark.slow
def test_nothing_of_a_tenant_is_told_to_another_by_the_ledger_and_nothing_of_it_changes(tmp_path):
    clock = SetClock()
    folder = LedgerFolder(tmp_path, clock=clock)

    async def body() -> None:
        with folder.opened() as store:
            scene = await LedgerScene(folder, await Desk(store, clock).start()).furnish()
            await must_learn_nothing(scene, {**READS, **MIXED, **COMMANDS}, owner=ACME, stranger=GLOBEX)

    asyncio.run(body())
    assert folder.verify().ok
