"""Reviews: people answer, and an approval sets the call in motion."""

from __future__ import annotations

from assent.execution.ports import OnEvent
from assent.ledger.commands import AnswerReview, ExpireReviews
from assent.ledger.entries import SALT_BYTES
from assent.ledger.ports import LedgerStore
from assent.ledger.reviews import Review, ReviewState, check_reason
from assent.operations.gate import Gate
from assent.operations.wishes import Answer
from assent.primitives.clock import Entropy
from assent.primitives.ids import ReviewId, TenantId


class Reviews:
    """Answers to reviews."""

    def __init__(self, *, store: LedgerStore, gate: Gate, entropy: Entropy) -> None:
        self._store = store
        self._gate = gate
        self._entropy = entropy

    async def approve(self, tenant: TenantId, review: ReviewId, *, by: str, reason: str = "") -> Review:
        """Approve. When the quorum is complete the effect is granted and may be released.

        Raises:
            NotFound, Conflict, Refused: see `LedgerStore.apply`.
        """
        return await self._answer(tenant, review, approve=True, by=by, reason=reason)

    async def deny(self, tenant: TenantId, review: ReviewId, *, by: str, reason: str) -> Review:
        """Deny. One no is enough; the effect is refused."""
        return await self._answer(tenant, review, approve=False, by=by, reason=reason)

    async def approve_and_run(
        self, tenant: TenantId, review: ReviewId, *, by: str, reason: str = "", on_event: OnEvent
    ) -> tuple[Review, Answer | None]:
        """Approve and, when that completes the quorum, carry the call out here and now."""
        answered = await self.approve(tenant, review, by=by, reason=reason)
        if answered.state is not ReviewState.APPROVED:
            return answered, None
        return answered, await self._gate.release(tenant, answered.effect, on_event=on_event)

    async def expire(self, tenant: TenantId) -> int:
        """Expire what nobody answered in time; how many."""
        count: int = await self._store.apply(ExpireReviews(tenant=tenant))
        return count

    async def _answer(self, tenant: TenantId, review: ReviewId, *, approve: bool, by: str, reason: str) -> Review:
        check_reason(reason)
        answered: Review = await self._store.apply(
            AnswerReview(
                tenant=tenant, review=review, approve=approve, by=by, reason=reason, salt=self._entropy(SALT_BYTES)
            )
        )
        return answered
