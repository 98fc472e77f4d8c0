"""How a ledger's store keeps reviews, policy and leases."""

from __future__ import annotations

from msgspec.structs import replace

from assent.ledger.commands import (
    Accept,
    ActivatePolicy,
    EscalateReview,
    ExpireReviews,
    FenceOut,
    ReleaseLease,
    RenewLease,
    TakeLease,
)
from assent.ledger.decisions import Demands, Seat, Verdict
from assent.ledger.effects import EffectState
from assent.ledger.journals import note
from assent.ledger.reviews import ReviewState
from assent.primitives.digests import digest
from assent.primitives.ids import ReviewId
from assent.primitives.leases import SYSTEM
from assent.testing.calls import intent_to
from assent.testing.conformance.opening import OpensLedger
from assent.testing.desks import ACME, GLOBEX, TTL_MS, Desk, code_of, results_of


class LedgerReviewsSuite(OpensLedger):
    """Reviews, policy and leases."""

    # Reviews

    def test_review_grants_when_the_quorum_is_complete(self) -> None:
        async def body(desk: Desk) -> None:
            effect = await desk.take(desk.scribe.accept(intent_to(ACME), Verdict.REVIEW, quorum=2))
            answer = desk.scribe.answer
            first = await desk.store.apply(answer(ACME, effect.review, by="person:bob"))
            assert (first.state, first.approvers) == (ReviewState.OPEN, ("person:bob",))
            again = desk.store.apply(answer(ACME, effect.review, by="person:bob"))
            assert await code_of(again) == "review_answered"
            second = await desk.store.apply(answer(ACME, effect.review, by="person:cyd", after=("person:bob",)))
            assert (second.state, second.approvers) == (ReviewState.APPROVED, ("person:bob", "person:cyd"))
            assert (await desk.find(ACME, effect.id)).state == "granted"

        self.check(body)

    def test_yes_that_others_came_before_is_not_counted(self) -> None:
        async def body(desk: Desk) -> None:
            effect = await desk.take(desk.scribe.accept(intent_to(ACME), Verdict.REVIEW, quorum=2))
            answer = desk.scribe.answer
            await desk.store.apply(answer(ACME, effect.review, by="person:bob"))
            assert await code_of(desk.store.apply(answer(ACME, effect.review, by="person:cyd"))) == "review_moved"
            wanting = answer(ACME, effect.review, by="person:cyd", after=("person:bob",), completes=False)
            assert (await desk.store.apply(wanting)).state is ReviewState.OPEN
            assert (await desk.find(ACME, effect.id)).state == "in_review"
            alone = await desk.take(desk.scribe.accept(intent_to(ACME), Verdict.REVIEW, quorum=2))
            claimed = await desk.store.apply(answer(ACME, alone.review, by="person:bob", completes=True))
            assert claimed.state is ReviewState.OPEN  # never fewer than the quorum, whatever is claimed

        self.check(body)

    def test_place_is_taken_once(self) -> None:
        async def body(desk: Desk) -> None:
            effect = await desk.take(desk.scribe.accept(intent_to(ACME), Verdict.REVIEW, quorum=3))
            answer = desk.scribe.answer
            first = await desk.store.apply(answer(ACME, effect.review, by="person:bob", place_of="person:cyd"))
            assert (first.approvers, first.places) == (("person:bob",), ("person:cyd",))
            for by, place in (("person:cyd", ""), ("person:dan", "person:cyd"), ("person:dan", "person:bob")):
                again = answer(ACME, effect.review, by=by, place_of=place, after=("person:bob",))
                assert await code_of(desk.store.apply(again)) in ("review_answered", "review_not_yours")

        self.check(body)

    def test_open_review_is_escalated_once_by_a_person_or_when_it_is_time(self) -> None:
        async def body(desk: Desk) -> None:
            later = Demands(seats=(Seat(roles=("lead",), escalate_s=30, escalate_to=("cto",)),))
            effect = await desk.accept(verdict=Verdict.REVIEW, demands=later)
            other = await desk.accept(verdict=Verdict.REVIEW, demands=later)
            review = ReviewId(effect.review)
            assert (await desk.store.apply(EscalateReview(tenant=ACME, review=review, by="person:bob"))).escalated
            again = EscalateReview(tenant=ACME, review=review, by="person:bob")
            assert await code_of(desk.store.apply(again)) == "review_not_escalated"
            nobody = await desk.accept(verdict=Verdict.REVIEW)
            command = EscalateReview(tenant=ACME, review=ReviewId(nobody.review), by="person:bob")
            assert await code_of(desk.store.apply(command)) == "review_not_escalated"
            unknown = EscalateReview(tenant=ACME, review=ReviewId("rev_none"), by="person:bob")
            assert await code_of(desk.store.apply(unknown)) == "review_not_found"
            desk.clock.pass_ms(30_000)
            assert await desk.store.apply(ExpireReviews(tenant=ACME)) == 0
            found = await desk.store.review(ACME, ReviewId(other.review))
            assert found is not None
            assert (found.escalated, found.demands) == (True, later)

        self.check(body)

    def test_what_was_done_first_is_answered_when_it_is_over_and_nothing_moves(self) -> None:
        async def body(desk: Desk) -> None:
            effect = await desk.accept(after=True)
            assert effect.state == "dispatched"
            answer = desk.scribe.answer(ACME, effect.review, by="person:bob")
            assert await code_of(desk.store.apply(answer)) == "effect_moved"
            await desk.settle(effect)
            desk.clock.pass_ms(120_000)
            assert await desk.store.apply(ExpireReviews(tenant=ACME)) == 0
            answered = await desk.store.apply(answer)
            assert (answered.state, answered.after) == (ReviewState.APPROVED, True)
            assert (await desk.find(ACME, effect.id)).state == "succeeded"

        self.check(body)

    def test_notes_are_written_with_what_is_accepted_or_neither_is(self) -> None:
        async def body(desk: Desk) -> None:
            def noted(before: int) -> Accept:
                one = note(
                    kind="waiver", id_="w", before=before, state="standing", owned=False, type_="waiver.used", body={}
                )
                return desk.scribe.accept(intent_to(ACME), notes=(one,))

            await desk.take(noted(-1))
            journal = await desk.store.journal(ACME, "waiver", "w")
            assert journal is not None
            size = await desk.store.size(ACME)
            assert await code_of(desk.store.apply(noted(-1))) == "journal_moved"
            assert await desk.store.size(ACME) == size
            await desk.take(noted(journal.last_seq))

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
            bare = replace(command, review=None)
            foreign = replace(command, review=ReviewId(other.review))
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
            assert await desk.store.active_policy(ACME) == (digest(b"one"), 1, "one", ())
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
