"""Reviews: people answer, and an approval sets the call in motion."""

from __future__ import annotations

from typing import NamedTuple

from assent.execution.ports import OnEvent
from assent.ledger.commands import AnswerReview, EscalateReview, ExpireReviews
from assent.ledger.entries import SALT_BYTES
from assent.ledger.ports import LedgerStore
from assent.ledger.reviews import (
    Review,
    ReviewState,
    Voice,
    check_reason,
    completes,
    has_a_say,
    is_person,
    may_not_answer,
)
from assent.operations.gate import Gate
from assent.operations.policies import Policies
from assent.operations.standing_in import StandIns
from assent.operations.wishes import Answer
from assent.policy.engine import Engine
from assent.primitives.clock import Clock, Entropy
from assent.primitives.errors import Conflict, NotFound, Refused
from assent.primitives.ids import ReviewId, TenantId
from assent.primitives.leases import Fence

TRIES = 8


class _Say(NamedTuple):
    """What somebody's yes is worth: in whose place it is said, and whether nothing is missing then."""

    place_of: str
    completes: bool


class Reviews:
    """Answers to reviews. Who has which role, and who stands in for whom, is looked up when an answer comes."""

    def __init__(
        self, *, store: LedgerStore, gate: Gate, policies: Policies, fence: Fence, clock: Clock, entropy: Entropy
    ) -> None:
        self._store = store
        self._gate = gate
        self._policies = policies
        self.stand_ins = StandIns(store=store, fence=fence, clock=clock, entropy=entropy)
        self._entropy = entropy

    async def approve(self, tenant: TenantId, review: ReviewId, *, by: str, reason: str = "") -> Review:
        """Approve. When nothing is missing any more the effect is granted and may be released.

        Raises:
            NotFound, Conflict, Refused: see `LedgerStore.apply`.
        """
        check_reason(reason)
        for _ in range(TRIES):
            found = await self._find(tenant, review)
            say = await self._say(found, by)
            try:
                answered: Review = await self._store.apply(
                    AnswerReview(
                        tenant=tenant, review=review, approve=True, by=by, reason=reason,
                        salt=self._entropy(SALT_BYTES), place_of=say.place_of, counted=found.approvers,
                        completes=say.completes,
                    )
                )  # fmt: skip
            except Conflict as conflict:
                if conflict.code != "review_moved":
                    raise
            else:
                return answered
        raise Conflict("review_moved", f"others keep answering `{review}` at the same moment", hint="answer again")

    async def deny(self, tenant: TenantId, review: ReviewId, *, by: str, reason: str) -> Review:
        """Deny. One no is enough, whatever roles are asked for; the effect is refused."""
        check_reason(reason)
        answered: Review = await self._store.apply(
            AnswerReview(
                tenant=tenant, review=review, approve=False, by=by, reason=reason, salt=self._entropy(SALT_BYTES)
            )
        )
        return answered

    async def escalate(self, tenant: TenantId, review: ReviewId, *, by: str) -> Review:
        """Put an open review before those whom it goes to when nobody answers, now rather than then.

        Raises:
            NotFound, Conflict: `review_not_escalated`: it goes to nobody else.
            Refused: `not_a_person`.
        """
        if not is_person(by):
            raise Refused("not_a_person", f"`{by[:80]}` may not do that: only people escalate")
        escalated: Review = await self._store.apply(EscalateReview(tenant=tenant, review=review, by=by))
        return escalated

    async def approve_and_run(
        self, tenant: TenantId, review: ReviewId, *, by: str, reason: str = "", on_event: OnEvent
    ) -> tuple[Review, Answer | None]:
        """Approve and, when that completes it, carry the call out here and now."""
        answered = await self.approve(tenant, review, by=by, reason=reason)
        if answered.state is not ReviewState.APPROVED or answered.after:
            return answered, None
        return answered, await self._gate.release(tenant, answered.effect, on_event=on_event)

    async def expire(self, tenant: TenantId) -> int:
        """Expire what nobody answered in time, and escalate what has waited long enough; how many expired."""
        count: int = await self._store.apply(ExpireReviews(tenant=tenant))
        return count

    async def _find(self, tenant: TenantId, review: ReviewId) -> Review:
        found = await self._store.review(tenant, review)
        if found is None:
            raise NotFound("review_not_found", f"there is no review `{review}`", hint="see `assent inbox`")
        return found

    async def _say(self, review: Review, by: str) -> _Say:
        """What the yes of `by` is worth: in their own place when that helps, else in one that they stand in for.

        Raises:
            Refused: `review_not_yours`: they have no say here.
        """
        why = may_not_answer(review, by)
        if why:
            raise Refused("review_not_yours", why, hint="somebody else has to answer")
        engine = await self._policies.active(review.tenant)
        places = [one.of for one in await self.stand_ins.standing(review.tenant) if one.by == by]
        says = []
        for place in ("", *places):
            if place and may_not_answer(review, by, place_of=place):
                continue
            roles = _roles(engine, place or by)
            if has_a_say(review.demands, review.quorum, roles, escalated=review.escalated):
                voices = [
                    Voice(name, _roles(engine, of or name))
                    for name, of in zip(review.approvers, review.places, strict=True)
                ]
                voices.append(Voice(by, roles))
                whole = completes(review.demands, review.quorum, voices, escalated=review.escalated)
                says.append(_Say(place, whole))
        if says:
            return next((say for say in says if say.completes), says[0])
        wanted = sorted({role for seat in review.demands.seats for role in seat.roles})
        told = " or ".join(f"`{role}`" for role in wanted)
        raise Refused(
            "review_not_yours", f"this is for somebody with the role {told}, which `{by}` has not",
            hint="roles are declared in `assent.toml`; `assent stand-in` lets one person answer for another",
        )  # fmt: skip


def _roles(engine: Engine | None, name: str) -> frozenset[str]:
    return engine.roles_of(name) if engine is not None else frozenset()
