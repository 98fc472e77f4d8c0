"""How a ledger's store accepts, settles and judges effects."""

from __future__ import annotations

import asyncio

from assent.execution.outcomes import Ending
from assent.ledger.commands import (
    FenceOut,
    RenewLease,
)
from assent.ledger.effects import EffectState, Move
from assent.primitives.leases import SYSTEM
from assent.testing.calls import intent_to
from assent.testing.conformance.opening import OpensLedger
from assent.testing.desks import ACME, GLOBEX, TTL_MS, Desk, code_of, results_of

CALLERS = 64


class LedgerEffectsSuite(OpensLedger):
    """Accepting, settling, unknown effects."""

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

    def test_settle_of_a_repetition_is_late_when_its_node_was_fenced_out(self) -> None:
        async def body(desk: Desk) -> None:
            effect = await desk.unknown()
            seq = await desk.store.apply(desk.scribe.dispatch(effect, again=True))
            await desk.store.apply(FenceOut(tenant=SYSTEM, fence=desk.scribe.fence, dead=True))
            resent = desk.scribe.settle(tenant=ACME, effect=effect.id, seq=seq, attempt=2, before=EffectState.UNKNOWN)
            assert not (await desk.store.apply(resent)).applied
            assert (await desk.find(ACME, effect.id)).state == "unknown"

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
