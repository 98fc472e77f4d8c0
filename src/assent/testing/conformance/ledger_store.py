"""What every `LedgerStore` must do. Subclass `LedgerStoreSuite`, implement `opened`, and pytest finds the rest.

    class TestMyLedger(LedgerStoreSuite):
        @contextmanager
        def opened(self, clock):
            with my_fresh_ledger(clock) as store:
                yield store

Each test opens a fresh store. Time is a `SetClock` that the store must use as the database's clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

from assent.execution.outcomes import Ending
from assent.ledger.commands import (
    Accept,
    Accepted,
    ActivatePolicy,
    Command,
    ExpireReviews,
    FenceOut,
    KeepCheckpoint,
    OpenLog,
    ReleaseLease,
    RenewLease,
    Settled,
    TakeLease,
)
from assent.ledger.decisions import Verdict
from assent.ledger.effects import Effect, EffectState, Move
from assent.ledger.ports import LedgerStore
from assent.ledger.reviews import ReviewState
from assent.primitives.digests import digest
from assent.primitives.errors import AssentError
from assent.primitives.ids import EffectId, ReviewId, TenantId
from assent.primitives.leases import SYSTEM
from assent.testing.calls import Scribe, intent_to
from assent.testing.clocks import SetClock
from assent.testing.entropy import SeededEntropy

ACME, GLOBEX = TenantId("acme"), TenantId("globex")
TTL_MS = 10_000
CALLERS = 64


class Desk:
    """A store with one node that holds its lease, and short words for what tests do."""

    def __init__(self, store: LedgerStore, clock: SetClock, seed: int = 0) -> None:
        self.store = store
        self.clock = clock
        self.scribe = Scribe(clock=clock, entropy=SeededEntropy(seed))

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
    ) -> Effect:
        """Accept a fresh wish and return its effect."""
        return await self.take(self.scribe.accept(intent_to(tenant, content=content, key=key, run=run), verdict))

    async def take(self, command: Accept) -> Effect:
        """Accept by this command and return the effect."""
        accepted: Accepted = await self.store.apply(command)
        return await self.find(command.tenant, accepted.effect)

    async def granted(self, tenant: TenantId = ACME) -> Effect:
        """An effect that somebody has approved."""
        effect = await self.accept(tenant, Verdict.REVIEW)
        await self.store.apply(self.scribe.answer(tenant, effect.review, by="person:bob"))
        return await self.find(tenant, effect.id)

    async def unknown(self, tenant: TenantId = ACME) -> Effect:
        """An effect that may have happened."""
        effect = await self.accept(tenant)
        await self.settle(effect, Ending.UNKNOWN)
        return await self.find(tenant, effect.id)

    async def settle(self, effect: Effect, ending: Ending = Ending.SUCCEEDED) -> Settled:
        """Settle the attempt that `effect` shows."""
        settled: Settled = await self.store.apply(
            self.scribe.settle(
                tenant=effect.tenant,
                effect=effect.id,
                seq=effect.last_seq,
                attempt=effect.attempt,
                before=effect.state,
                ending=ending,
            )
        )
        return settled

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


Body: TypeAlias = Callable[[Desk], Awaitable[None]]


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


class LedgerStoreSuite:
    """The suite. Every test opens a fresh store through `opened`."""

    def opened(self, clock: SetClock) -> AbstractContextManager[LedgerStore]:
        """A fresh, open store that lives for the length of the block."""
        raise NotImplementedError

    def check(self, body: Body) -> None:
        """Run `body` against a fresh store with one node."""
        clock = SetClock()

        async def run(store: LedgerStore) -> None:
            await body(await Desk(store, clock).start())

        with self.opened(clock) as store:
            asyncio.run(run(store))

    # Accepting

    def test_accept_records_the_effect_and_one_entry_when_allowed(self) -> None:
        async def body(desk: Desk) -> None:
            effect = await desk.accept(key="k", run="r")
            assert (effect.state, effect.attempt, effect.node) == ("dispatched", 1, desk.scribe.fence.node)
            assert (effect.first_seq, effect.last_seq, effect.key) == (0, 0, "k")
            (record,) = await desk.store.history(ACME, effect)
            assert record.type == "effect.accepted"
            assert record.payload is not None
            assert record.body["policy"] == ""

        self.check(body)

    def test_accept_gives_one_effect_when_many_callers_share_a_key(self) -> None:
        async def body(desk: Desk) -> None:
            intent = intent_to(ACME, key="order-7")
            results = await results_of(desk.store, [desk.scribe.accept(intent) for _ in range(CALLERS)])
            assert len({r.effect for r in results}) == 1
            assert sorted(r.fresh for r in results) == [False] * (CALLERS - 1) + [True]
            assert len({r.seq for r in results}) == 1
            assert await desk.size() == 1

        self.check(body)

    def test_accept_conflicts_when_a_key_comes_with_another_intent(self) -> None:
        async def body(desk: Desk) -> None:
            await desk.accept(key="k", content="one")
            other = desk.scribe.accept(intent_to(ACME, key="k", content="two"))
            assert await code_of(desk.store.apply(other)) == "key_conflict"
            assert await desk.store.effect(ACME, other.effect) is None
            assert await desk.size() == 1

        self.check(body)

    def test_accept_takes_a_key_again_when_another_tenant_has_it(self) -> None:
        async def body(desk: Desk) -> None:
            mine, theirs = await desk.accept(key="k"), await desk.accept(GLOBEX, key="k")
            assert mine.id != theirs.id
            assert await desk.store.effect_by_key(ACME, "k") == mine
            assert await desk.store.effect_by_key(GLOBEX, "k") == theirs

        self.check(body)

    def test_accept_keeps_neighbours_when_one_of_a_batch_is_refused(self) -> None:
        async def body(desk: Desk) -> None:
            await desk.accept(key="taken", content="first")
            good = [desk.scribe.accept(intent_to(ACME, key=f"k{i}")) for i in range(10)]
            clash = desk.scribe.accept(intent_to(ACME, key="taken", content="second"))
            stale = desk.scribe.accept(intent_to(ACME), revision="never-active")
            results = await results_of(desk.store, [*good[:5], clash, stale, *good[5:]])
            assert [getattr(r, "code", "") for r in results] == [""] * 5 + ["key_conflict", "policy_moved"] + [""] * 5
            assert await desk.size() == 11

        self.check(body)

    def test_accept_is_refused_when_the_policy_is_not_the_active_one(self) -> None:
        async def body(desk: Desk) -> None:
            command = desk.scribe.accept(intent_to(ACME), revision="sha256:other")
            assert await code_of(desk.store.apply(command)) == "policy_moved"
            assert await desk.size() == 0

        self.check(body)

    def test_accept_is_refused_when_the_lease_has_lapsed(self) -> None:
        async def body(desk: Desk) -> None:
            desk.clock.pass_ms(TTL_MS)
            assert await code_of(desk.accept()) == "lease_lost"
            assert await desk.store.apply(RenewLease(tenant=SYSTEM, fence=desk.scribe.fence, ttl_ms=TTL_MS))
            assert (await desk.accept()).state == "dispatched"

        self.check(body)

    # Settling

    def test_settle_applies_once_when_the_same_result_comes_twice(self) -> None:
        async def body(desk: Desk) -> None:
            effect = await desk.accept()
            first, second = await desk.settle(effect), await desk.settle(effect, Ending.FAILED)
            assert (first.applied, second.applied) == (True, False)
            assert (await desk.find(ACME, effect.id)).state == "succeeded"
            assert await desk.types(effect) == ["effect.accepted", "effect.settled", "effect.late_result"]

        self.check(body)

    def test_settle_applies_once_when_two_results_come_at_once(self) -> None:
        async def body(desk: Desk) -> None:
            effect = await desk.accept()
            again = [desk.settle(effect, ending) for ending in (Ending.SUCCEEDED, Ending.FAILED)]
            results = await asyncio.gather(*again)
            assert sorted(r.applied for r in results) == [False, True]
            assert (await desk.types(effect)).count("effect.settled") == 1

        self.check(body)

    def test_settle_is_late_when_the_node_was_fenced_out(self) -> None:
        async def body(desk: Desk) -> None:
            effect = await desk.accept()
            (lost,) = await desk.store.apply(FenceOut(tenant=SYSTEM, fence=desk.scribe.fence, dead=True))
            assert (lost.id, lost.state, lost.code) == (effect.id, "unknown", "node_lost")
            assert not (await desk.settle(effect)).applied
            now = await desk.find(ACME, effect.id)
            assert (now.state, now.code) == ("unknown", "node_lost")
            assert (await desk.types(effect))[-1] == "effect.late_result"

        self.check(body)

    def test_settle_applies_when_only_a_late_result_came_between(self) -> None:
        async def body(desk: Desk) -> None:
            first = await desk.unknown()
            seq = await desk.store.apply(desk.scribe.dispatch(first, again=True))
            late = desk.scribe.settle(tenant=ACME, effect=first.id, seq=first.first_seq, attempt=1)
            assert not (await desk.store.apply(late)).applied
            resent = desk.scribe.settle(tenant=ACME, effect=first.id, seq=seq, attempt=2, before=EffectState.UNKNOWN)
            assert (await desk.store.apply(resent)).applied
            assert (await desk.find(ACME, first.id)).state == "succeeded"

        self.check(body)

    def test_settle_of_a_lapsed_node_applies_when_nobody_took_its_fence(self) -> None:
        async def body(desk: Desk) -> None:
            effect = await desk.accept()
            desk.clock.pass_ms(TTL_MS * 2)
            assert (await desk.settle(effect)).applied

        self.check(body)

    # Unknown effects

    def test_judge_settles_counts_and_gives_up_when_an_effect_is_unknown(self) -> None:
        async def body(desk: Desk) -> None:
            effect = await desk.unknown()
            await desk.store.apply(desk.scribe.judge(effect, None))
            counted = await desk.find(ACME, effect.id)
            assert (counted.state, counted.observations) == ("unknown", 1)
            assert await code_of(desk.store.apply(desk.scribe.judge(effect, Move.SUCCEED))) == "effect_moved"
            await desk.store.apply(desk.scribe.judge(counted, Move.QUARANTINE))
            assert (await desk.find(ACME, effect.id)).state == "quarantined"

        self.check(body)

    def test_dispatch_again_makes_the_earlier_attempt_late_when_unknown(self) -> None:
        async def body(desk: Desk) -> None:
            effect = await desk.unknown()
            await desk.store.apply(desk.scribe.dispatch(effect, again=True))
            now = await desk.find(ACME, effect.id)
            assert (now.state, now.attempt) == ("unknown", 2)
            assert not (await desk.settle(effect)).applied

        self.check(body)

    # Reviews

    def test_review_grants_when_the_quorum_is_complete(self) -> None:
        async def body(desk: Desk) -> None:
            effect = await desk.take(desk.scribe.accept(intent_to(ACME), Verdict.REVIEW, quorum=2))
            answer = desk.scribe.answer
            first = await desk.store.apply(answer(ACME, effect.review, by="person:bob"))
            assert (first.state, first.approvers) == (ReviewState.OPEN, ("person:bob",))
            again = desk.store.apply(answer(ACME, effect.review, by="person:bob"))
            assert await code_of(again) == "review_answered"
            second = await desk.store.apply(answer(ACME, effect.review, by="person:cyd"))
            assert (second.state, second.approvers) == (ReviewState.APPROVED, ("person:bob", "person:cyd"))
            assert (await desk.find(ACME, effect.id)).state == "granted"

        self.check(body)

    def test_review_refuses_when_one_person_denies(self) -> None:
        async def body(desk: Desk) -> None:
            effect = await desk.take(desk.scribe.accept(intent_to(ACME), Verdict.REVIEW, quorum=2))
            await desk.store.apply(desk.scribe.answer(ACME, effect.review, by="person:bob"))
            denied = await desk.store.apply(desk.scribe.answer(ACME, effect.review, by="person:cyd", approve=False))
            assert denied.state is ReviewState.DENIED
            assert (await desk.find(ACME, effect.id)).state == "refused"
            late = desk.store.apply(desk.scribe.answer(ACME, effect.review, by="person:dan"))
            assert await code_of(late) == "review_answered"

        self.check(body)

    def test_review_may_not_be_answered_when_the_answerer_is_no_other_person(self) -> None:
        async def body(desk: Desk) -> None:
            command = desk.scribe.accept(intent_to(ACME, principal="person:ann"), Verdict.REVIEW, quorum=2)
            effect = await desk.take(command)
            strangers = ("person:ann", "agent:writer", "service:x", "person:ann ", " person:ann", "person:b person:c",
                         "person:", "person:b\n", "person:b\u00a0", "")  # fmt: skip
            for by in strangers:
                answer = desk.store.apply(desk.scribe.answer(ACME, effect.review, by=by))
                assert await code_of(answer) == "review_not_yours", by
            assert (await desk.find(ACME, effect.id)).state == "in_review"

        self.check(body)

    def test_review_is_consumed_once_when_two_dispatch(self) -> None:
        async def body(desk: Desk) -> None:
            effect = await desk.granted()
            results = await results_of(desk.store, [desk.scribe.dispatch(effect) for _ in range(2)])
            assert sorted(getattr(r, "code", "") for r in results) == ["", "effect_moved"]
            review = await desk.store.review(ACME, ReviewId(effect.review))
            assert review is not None
            assert review.state is ReviewState.CONSUMED

        self.check(body)

    def test_dispatch_is_refused_when_the_review_is_not_named(self) -> None:
        async def body(desk: Desk) -> None:
            effect, other = await desk.granted(), await desk.granted()
            command = desk.scribe.dispatch(effect)
            bare = type(command)(**{**_fields(command), "review": None})
            foreign = type(command)(**{**_fields(command), "review": ReviewId(other.review)})
            assert await code_of(desk.store.apply(bare)) == "effect_moved"
            assert await code_of(desk.store.apply(foreign)) == "effect_moved"
            assert (await desk.find(ACME, effect.id)).state == "granted"

        self.check(body)

    def test_review_expires_when_its_time_has_passed(self) -> None:
        async def body(desk: Desk) -> None:
            asked = await desk.accept(ACME, Verdict.REVIEW)
            granted = await desk.granted()
            desk.clock.pass_ms(60_000)
            await desk.store.apply(RenewLease(tenant=SYSTEM, fence=desk.scribe.fence, ttl_ms=TTL_MS))
            answer = desk.store.apply(desk.scribe.answer(ACME, asked.review, by="person:bob"))
            assert await code_of(answer) == "review_expired"
            assert await code_of(desk.store.apply(desk.scribe.dispatch(granted))) == "approval_gone"
            assert await desk.store.apply(ExpireReviews(tenant=ACME)) == 2
            states = {(await desk.find(ACME, e.id)).state for e in (asked, granted)}
            assert states == {EffectState.EXPIRED}
            assert await desk.store.apply(ExpireReviews(tenant=ACME)) == 0

        self.check(body)

    def test_withdraw_voids_the_approval_when_policy_says_no(self) -> None:
        async def body(desk: Desk) -> None:
            effect = await desk.granted()
            await desk.store.apply(desk.scribe.withdraw(effect))
            assert (await desk.find(ACME, effect.id)).state == "revoked"
            review = await desk.store.review(ACME, ReviewId(effect.review))
            assert review is not None
            assert review.state is ReviewState.VOID
            assert await code_of(desk.store.apply(desk.scribe.dispatch(effect))) == "effect_moved"

        self.check(body)

    # Policy and leases

    def test_policy_activates_once_when_two_looked_at_the_same_revision(self) -> None:
        async def body(desk: Desk) -> None:
            commands = [
                ActivatePolicy(tenant=ACME, revision=digest(t), text=t.decode(), by="person:ann", expected="")
                for t in (b"one", b"two")
            ]
            results = await results_of(desk.store, commands)
            assert [getattr(r, "code", r) for r in results] == [1, "policy_moved"]
            assert await desk.store.active_policy(ACME) == (digest(b"one"), 1, "one")
            assert await desk.store.active_policy(GLOBEX) is None

        self.check(body)

    def test_lease_cannot_be_renewed_or_taken_again_when_it_was_fenced_out(self) -> None:
        async def body(desk: Desk) -> None:
            fence = desk.scribe.fence
            assert await desk.store.apply(FenceOut(tenant=SYSTEM, fence=fence, dead=False)) == []
            assert await desk.store.apply(RenewLease(tenant=SYSTEM, fence=fence, ttl_ms=TTL_MS))
            await desk.store.apply(FenceOut(tenant=SYSTEM, fence=fence, dead=True))
            assert not await desk.store.apply(RenewLease(tenant=SYSTEM, fence=fence, ttl_ms=TTL_MS))
            taken = desk.store.apply(TakeLease(tenant=SYSTEM, fence=fence, ttl_ms=TTL_MS))
            assert await code_of(taken) == "lease_taken"
            assert await code_of(desk.accept()) == "lease_lost"
            assert await desk.store.leases() == []

        self.check(body)

    def test_lease_stays_when_it_is_released_with_unsettled_work(self) -> None:
        async def body(desk: Desk) -> None:
            effect = await desk.accept()
            await desk.store.apply(ReleaseLease(tenant=SYSTEM, fence=desk.scribe.fence))
            ((lease, lapsed),) = await desk.store.leases()
            assert (lease.holder, lapsed) == (desk.scribe.fence.node, False)
            await desk.settle(effect)
            await desk.store.apply(ReleaseLease(tenant=SYSTEM, fence=desk.scribe.fence))
            assert await desk.store.leases() == []

        self.check(body)

    # Reading

    def test_tenants_do_not_see_each_other_whatever_they_ask(self) -> None:
        async def body(desk: Desk) -> None:
            await desk.store.apply(OpenLog(tenant=GLOBEX))
            store, scribe = desk.store, desk.scribe
            sent, granted, unknown = await desk.accept(run="r", key="k"), await desk.granted(), await desk.unknown()
            asked = await desk.accept(ACME, Verdict.REVIEW)
            for effect in (sent, granted, unknown, asked):
                assert await store.effect(GLOBEX, effect.id) is None
                assert await store.history(GLOBEX, effect) == []
                assert not effect.review or await store.review(GLOBEX, ReviewId(effect.review)) is None
            assert await store.effect_by_key(GLOBEX, "k") is None
            assert await store.effects(GLOBEX, limit=100) == []
            assert await store.effects(GLOBEX, run="r", limit=100) == []
            assert await store.reviews(GLOBEX, states=tuple(ReviewState), limit=100) == []
            foreign = [_moved_to(GLOBEX, e) for e in (sent, granted, unknown, asked)]
            commands = {
                "settle": scribe.settle(tenant=GLOBEX, effect=sent.id, seq=sent.last_seq),
                "dispatch": scribe.dispatch(foreign[1]),
                "resend": scribe.dispatch(foreign[2], again=True),
                "judge": scribe.judge(foreign[2], Move.SUCCEED),
                "withdraw": scribe.withdraw(foreign[1]),
                "answer": scribe.answer(GLOBEX, asked.review, by="person:bob"),
            }
            found = {name: await code_of(store.apply(command)) for name, command in commands.items()}
            assert found == {n: "review_not_found" if n == "answer" else "effect_not_found" for n in commands}
            assert await store.apply(ExpireReviews(tenant=GLOBEX)) == 0
            assert await desk.size(GLOBEX) == 1
            for effect in (sent, granted, unknown, asked):
                assert await store.effect(ACME, effect.id) == effect

        self.check(body)

    def test_effects_are_listed_oldest_first_when_more_are_there_than_asked_for(self) -> None:
        async def body(desk: Desk) -> None:
            made = [await desk.accept(run="r" if i % 2 else "") for i in range(6)]
            await desk.settle(made[5])
            ids = [e.id for e in made]
            store = desk.store
            assert [e.id for e in await store.effects(ACME, limit=4)] == ids[2:]
            assert [e.id for e in await store.effects(ACME, run="r", limit=9)] == ids[1::2]
            open_ones = await store.effects(ACME, states=(EffectState.DISPATCHED,), run="r", limit=9)
            assert [e.id for e in open_ones] == [ids[1], ids[3]]
            done = await store.effects(ACME, states=(EffectState.SUCCEEDED, EffectState.FAILED), limit=9)
            assert [e.id for e in done] == [ids[5]]

        self.check(body)

    def test_records_are_paged_in_order_when_asked_after_a_place(self) -> None:
        async def body(desk: Desk) -> None:
            await desk.store.apply(OpenLog(tenant=ACME))
            await desk.store.apply(OpenLog(tenant=ACME))
            for _ in range(5):
                await desk.accept()
            page = await desk.store.records(ACME, after=2, limit=2)
            assert [r.seq for r in page] == [3, 4]
            assert (await desk.store.records(ACME, after=-1, limit=1))[0].type == "log.opened"
            assert await desk.size() == 6

        self.check(body)

    def test_checkpoint_is_a_signed_note_of_the_log_as_it_stands_when_kept(self) -> None:
        async def body(desk: Desk) -> None:
            await desk.accept()
            note = await desk.store.apply(KeepCheckpoint(tenant=ACME))
            assert note.splitlines()[0].endswith("/acme")
            assert note.splitlines()[1] == "1"
            assert await code_of(desk.store.apply(KeepCheckpoint(tenant=GLOBEX))) == "log_not_found"

        self.check(body)


def _fields(command: Command) -> dict[str, Any]:
    return {name: getattr(command, name) for name in command.__struct_fields__}


def _moved_to(tenant: TenantId, effect: Effect) -> Effect:
    """The effect as a thief would name it: another tenant's, under the thief's own."""
    return Effect(**{name: getattr(effect, name) for name in effect.__struct_fields__} | {"tenant": tenant})
