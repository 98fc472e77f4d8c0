"""What a ledger's store means, in dictionaries: the reference that every real one is compared with, step by step.

It has no transactions (a command changes nothing before its last check), no hashes and no SQL. An entry of its log is
(type, effect, before); a store agrees with it when every row, every such entry, every result and every error code is
the same.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, TypeAlias

from msgspec.structs import replace

from assent.ledger.budgets import Shortage
from assent.ledger.commands import (
    Accept,
    Accepted,
    ActivatePolicy,
    AnswerReview,
    Command,
    DismissStop,
    Dispatch,
    EscalateReview,
    ExpireReviews,
    FenceOut,
    Judge,
    OpenLog,
    ReleaseLease,
    RenewLease,
    Settle,
    Settled,
    TakeLease,
    Withdraw,
    WriteNotes,
)
from assent.ledger.effects import EFFECT, Effect, EffectState, Move
from assent.ledger.journals import Noted
from assent.ledger.reviews import REVIEW, Review, ReviewMove, ReviewState, is_among, may_not_answer
from assent.primitives.clock import Clock
from assent.primitives.errors import Conflict, NotFound, Refused, Unavailable
from assent.primitives.ids import EffectId, ReviewId, TenantId
from assent.primitives.leases import Fence, Lease
from assent.testing.budget_model import BudgetModel
from assent.testing.journal_model import JournalModel

Line: TypeAlias = tuple[str, str, int]


class LedgerModel:
    """The reference. `apply` has the results and raises the errors that `LedgerStore.apply` promises."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.effects: dict[tuple[TenantId, EffectId], Effect] = {}
        self.reviews: dict[tuple[TenantId, ReviewId], Review] = {}
        self.policies: dict[TenantId, list[str]] = defaultdict(list)
        self.leases: dict[str, Lease] = {}
        self.budgets = BudgetModel(clock)
        self.journals = JournalModel(clock)
        self.logs: dict[TenantId, list[Line]] = defaultdict(list)

    def apply(self, command: Command) -> Any:  # noqa: ANN401 (the port's: each command has its own result)
        """Apply one command."""
        return getattr(self, f"_{type(command).__name__.lower()}")(command)

    # Effects

    def _accept(self, c: Accept) -> Accepted | Shortage:
        self._must_hold(c.tenant, c.fence, c.decision.policy_revision)
        for old in self.effects.values():
            if c.intent.key and old.tenant == c.tenant and old.key == c.intent.key:
                if old.intent != c.intent_digest:
                    raise Conflict("key_conflict", "another call has the key")
                return Accepted(effect=old.id, seq=old.first_seq, fresh=False)
        lacking = self.budgets.take(c.tenant, c.effect, c.holds, c.ceilings)
        if lacking:
            return lacking
        if c.shortage:
            self.budgets.stop(c.tenant, c.effect, c.shortage)
        seq = self._log(c.tenant, "effect.accepted", c.effect, -1)
        sent = c.state is EffectState.DISPATCHED
        self.effects[c.tenant, c.effect] = Effect(
            tenant=c.tenant, id=c.effect, key=c.intent.key, intent=c.intent_digest, operation=c.intent.operation,
            run=c.intent.run, parent=c.parent, state=c.state, code=c.decision.code,
            review=c.review.id if c.review else "", attempt=int(sent), node=c.fence.node if sent else "",
            fence=c.fence.number if sent else 0, observations=0, first_seq=seq, last_seq=seq,
        )  # fmt: skip
        if c.review:
            self.reviews[c.tenant, c.review.id] = c.review
        return Accepted(effect=c.effect, seq=seq, fresh=True)

    def _dispatch(self, c: Dispatch) -> int | Shortage:
        self._must_hold(c.tenant, c.fence, c.policy_revision)
        was = EffectState.UNKNOWN if c.again else EffectState.GRANTED
        effect = self._standing(c.tenant, c.effect, c.last_seq, was)
        if not c.again:
            if (c.review or "") != effect.review:
                raise Conflict("effect_moved", "it waits for another review")
            review = self.reviews[c.tenant, ReviewId(effect.review)]
            if review.state is not ReviewState.APPROVED or review.expires_at_ms <= self._clock.now_ms():
                raise Conflict("approval_gone", "the approval is gone")
            lacking = self.budgets.take(c.tenant, c.effect, c.holds, c.ceilings)
            if lacking:
                self.budgets.stop(c.tenant, c.effect, lacking)
                self._move(effect, effect.state, effect.code, "effect.stopped")
                return lacking
            self.reviews[c.tenant, review.id] = replace(review, state=ReviewState.CONSUMED)
        else:
            self.budgets.take(c.tenant, c.effect, (), c.ceilings)
        state = was if c.again else EFFECT.after(was, Move.DISPATCH)
        name = "effect.resent" if c.again else "effect.dispatched"
        sent = replace(effect, attempt=c.attempt, node=c.fence.node, fence=c.fence.number)
        return self._move(sent, state, effect.code, name)

    def _settle(self, c: Settle) -> Settled:
        effect = self._find(c.tenant, c.effect)
        lease = self.leases.get(c.fence.node)
        held = lease is not None and lease.fence == c.fence.number
        mine = (effect.attempt, effect.node, effect.fence) == (c.attempt, c.fence.node, c.fence.number)
        pending = effect.state in (EffectState.DISPATCHED, EffectState.UNKNOWN) and self._pending(effect, c.last_seq)
        if held and mine and pending:
            self.budgets.settle(c)
            return Settled(seq=self._move(effect, c.state, c.code, "effect.settled"), applied=True)
        return Settled(seq=self._move(effect, effect.state, effect.code, "effect.late_result"), applied=False)

    def _judge(self, c: Judge) -> int:
        effect = self._standing(c.tenant, c.effect, c.last_seq, EffectState.UNKNOWN)
        self.budgets.judge(c.tenant, c.effect, c.state)
        return self._move(replace(effect, observations=c.observations), c.state, c.code, "effect.judged")

    def _withdraw(self, c: Withdraw) -> int:
        effect = self._standing(c.tenant, c.effect, c.last_seq, EffectState.GRANTED)
        ends = ReviewMove.EXPIRE if c.move is Move.EXPIRE else ReviewMove.VOID
        if c.review != effect.review:
            raise Conflict("effect_moved", "it waits for another review")
        review = self.reviews[c.tenant, c.review]
        self.reviews[c.tenant, c.review] = replace(review, state=REVIEW.after(review.state, ends))
        return self._move(effect, EFFECT.after(effect.state, c.move), c.code, "effect.withdrawn")

    def _dismissstop(self, c: DismissStop) -> int:
        self.budgets.dismiss(c.tenant, c.effect)
        return self._log(c.tenant, "budget.dismissed", "", -1)

    # Journals

    def _writenotes(self, c: WriteNotes) -> Noted:
        self._must_live(c.fence)
        return self.journals.write(
            c, log=lambda tenant, kind, before: self._log(tenant, kind, "", before), lives=self._lives
        )

    # Reviews

    def _answerreview(self, c: AnswerReview) -> Review:
        review = self.reviews.get((c.tenant, c.review))
        if review is None:
            raise NotFound("review_not_found", "no such review")
        if review.state is not ReviewState.OPEN:
            raise Conflict("review_answered", "it was answered")
        if self._clock.now_ms() >= review.expires_at_ms and not review.after:
            raise Refused("review_expired", "it has expired")
        if may_not_answer(review, c.by, place_of=c.place_of):
            raise Refused("review_not_yours", "not this one")
        if c.approve and is_among(c.by, (*review.approvers, *review.places)):
            raise Conflict("review_answered", "already by this one")
        if c.approve and c.counted != review.approvers:
            raise Conflict("review_moved", "others came first")
        effect = self._find(c.tenant, review.effect)
        if review.after:
            self._must_be_over(effect)
        answered, state, code = self._answered(review, c), effect.state, effect.code
        if answered.state is not ReviewState.OPEN and not review.after:
            state = EFFECT.after(state, Move.GRANT if c.approve else Move.REFUSE)
            code = code if c.approve else "denied_by_reviewer"
        self.reviews[c.tenant, c.review] = answered
        self._move(effect, state, code, "review.answered")
        return answered

    @staticmethod
    def _answered(review: Review, c: AnswerReview) -> Review:
        if not c.approve:
            return replace(review, reason=c.reason, state=ReviewState.DENIED)
        approvers = (*review.approvers, c.by)
        complete = c.completes and len(approvers) >= review.quorum
        return replace(
            review, reason=c.reason, approvers=approvers, places=(*review.places, c.place_of),
            state=ReviewState.APPROVED if complete else ReviewState.OPEN,
        )  # fmt: skip

    def _escalatereview(self, c: EscalateReview) -> Review:
        review = self.reviews.get((c.tenant, c.review))
        if review is None:
            raise NotFound("review_not_found", "no such review")
        if review.state is not ReviewState.OPEN:
            raise Conflict("review_answered", "it was answered")
        if not review.demands.escalate_s or review.escalated:
            raise Conflict("review_not_escalated", "nobody else is there")
        self._must_be_over(self._find(c.tenant, review.effect))
        return self._escalated(review)

    @staticmethod
    def _must_be_over(effect: Effect) -> None:
        if effect.state in (EffectState.DISPATCHED, EffectState.UNKNOWN):
            raise Conflict("effect_moved", "it is still under way")

    def _escalated(self, review: Review) -> Review:
        escalated = self.reviews[review.tenant, review.id] = replace(review, escalated=True)
        effect = self._find(review.tenant, review.effect)
        self._move(effect, effect.state, effect.code, "review.escalated")
        return escalated

    def _expirereviews(self, c: ExpireReviews) -> int:
        live = (ReviewState.OPEN, ReviewState.APPROVED)
        now_ms = self._clock.now_ms()
        mine = [r for (t, _), r in self.reviews.items() if t == c.tenant and not r.after]
        due = [r for r in mine if r.state in live and r.expires_at_ms <= now_ms]
        for review in sorted(due, key=lambda r: r.id):
            effect = self._find(c.tenant, review.effect)
            self.reviews[c.tenant, review.id] = replace(review, state=ReviewState.EXPIRED)
            self._move(effect, EFFECT.after(effect.state, Move.EXPIRE), "review_expired", "review.expired")
        self._escalate_due(c.tenant, now_ms)
        return len(due)

    def _escalate_due(self, tenant: TenantId, now_ms: int) -> None:
        open_ = [r for (t, _), r in self.reviews.items() if t == tenant and r.state is ReviewState.OPEN]
        for review in sorted(open_, key=lambda r: r.id):
            wait_s = review.demands.escalate_s
            if wait_s and not review.escalated and now_ms >= review.opened_at_ms + wait_s * 1_000:
                self._escalated(review)

    # Policy, leases, the log

    def _activatepolicy(self, c: ActivatePolicy) -> int:
        if self._active(c.tenant) != c.expected:
            raise Conflict("policy_moved", "another is active")
        self.policies[c.tenant].append(c.revision)
        self._log(c.tenant, "policy.activated", "", -1)
        return len(self.policies[c.tenant])

    def _takelease(self, c: TakeLease) -> Lease:
        if c.fence.node in self.leases:
            raise Conflict("lease_taken", "it has one")
        expires = self._clock.now_ms() + c.ttl_ms
        lease = Lease(name=c.fence.node, holder=c.fence.node, fence=c.fence.number, expires_at_ms=expires)
        self.leases[c.fence.node] = lease
        return lease

    def _renewlease(self, c: RenewLease) -> bool:
        lease = self._lease(c.fence)
        if lease:
            self.leases[lease.name] = replace(lease, expires_at_ms=self._clock.now_ms() + c.ttl_ms)
        return lease is not None

    def _releaselease(self, c: ReleaseLease) -> None:
        if self._lease(c.fence) and not self._unfinished(c.fence):
            del self.leases[c.fence.node]

    def _fenceout(self, c: FenceOut) -> list[Effect]:
        lease = self._lease(c.fence)
        if not lease or not (c.dead or lease.expires_at_ms <= self._clock.now_ms()):
            return []
        self.leases[lease.name] = Lease(name=lease.name, holder=Fence(node=c.fence.node, number=0).node,
                                        fence=lease.fence + 1, expires_at_ms=0)  # fmt: skip
        lost = self._unfinished(c.fence)
        for effect in lost:
            self._move(effect, EFFECT.after(effect.state, Move.LOSE), "node_lost", "effect.lost")
        return [self.effects[effect.tenant, effect.id] for effect in lost]

    def _openlog(self, c: OpenLog) -> None:
        if not self.logs[c.tenant]:
            self._log(c.tenant, "log.opened", "", -1)

    # What they share

    def _log(self, tenant: TenantId, kind: str, effect: str, before: int) -> int:
        self.logs[tenant].append((kind, effect, before))
        return len(self.logs[tenant]) - 1

    def _move(self, effect: Effect, state: EffectState, code: str, kind: str) -> int:
        seq = self._log(effect.tenant, kind, effect.id, effect.last_seq)
        self.effects[effect.tenant, effect.id] = replace(effect, state=state, code=code, last_seq=seq)
        return seq

    def _pending(self, effect: Effect, dispatched_at: int) -> bool:
        """Whether nothing but late results of earlier attempts came after the dispatch."""
        seq = effect.last_seq
        while seq > dispatched_at and self.logs[effect.tenant][seq][0] == "effect.late_result":
            seq = self.logs[effect.tenant][seq][2]
        return seq == dispatched_at

    def _find(self, tenant: TenantId, effect: EffectId) -> Effect:
        if (tenant, effect) not in self.effects:
            raise NotFound("effect_not_found", "no such effect")
        return self.effects[tenant, effect]

    def _standing(self, tenant: TenantId, effect: EffectId, last_seq: int, state: EffectState) -> Effect:
        found = self._find(tenant, effect)
        if found.state is not state or found.last_seq != last_seq:
            raise Conflict("effect_moved", "it has moved on")
        return found

    def _must_hold(self, tenant: TenantId, fence: Fence, revision: str) -> None:
        self._must_live(fence)
        if self._active(tenant) != revision:
            raise Conflict("policy_moved", "another is active")

    def _must_live(self, fence: Fence) -> None:
        if not self._lives(fence.node, fence.number):
            raise Unavailable("lease_lost", "it lapsed or was taken")

    def _lives(self, node: str, fence: int) -> bool:
        lease = self.leases.get(node)
        return lease is not None and lease.fence == fence and lease.expires_at_ms > self._clock.now_ms()

    def _lease(self, fence: Fence) -> Lease | None:
        lease = self.leases.get(fence.node)
        return lease if lease and lease.fence == fence.number else None

    def _active(self, tenant: TenantId) -> str:
        return self.policies[tenant][-1] if self.policies[tenant] else ""

    def _unfinished(self, fence: Fence) -> list[Effect]:
        found = [e for e in self.effects.values() if e.state is EffectState.DISPATCHED and e.node == fence.node]
        return sorted(found, key=lambda e: (e.tenant, e.first_seq))
