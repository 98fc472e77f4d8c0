"""Dispensations: what may let a call happen at once that people would be asked about. Nothing is decided here.

There are two: people waived the question for calls of its kind beforehand, or the person who asks takes it on
themselves, in an emergency, and is looked at afterwards. Both are put before policy as an approval of a kind of its
own, and lift only rules that say so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeAlias

from msgspec.structs import replace

from assent.execution.grants import Grant
from assent.execution.orders import Order
from assent.ledger.budgets import Hold
from assent.ledger.decisions import Decision, Placement, ReviewTerms
from assent.ledger.journals import Note
from assent.ledger.metering import NO_METER, Meter
from assent.ledger.operations import Reading, as_it_is
from assent.ledger.ports import LedgerStore
from assent.ledger.rates import Ceiling
from assent.ledger.reviews import ReviewState, is_among
from assent.operations.asking import Asked
from assent.operations.refusals import unasked
from assent.operations.waivers import Waivers
from assent.operations.wishes import Wish
from assent.policy.approvals import Approval, Emergency
from assent.primitives.clock import Clock
from assent.primitives.ids import EffectId

OPEN_MAX = 1_000
Prepare: TypeAlias = Callable[[Approval], Awaitable["Ready"]]
"""Decides a call again, as if it had an approval, and makes its order when the answer is yes."""


class Ready(NamedTuple):
    """A decision and, when it allows, the exact order with its grant."""

    decision: Decision
    order: Order | None
    grant: Grant | None
    placement: Placement | None = None
    read: Reading = as_it_is
    holds: tuple[Hold, ...] = ()
    ceilings: tuple[Ceiling, ...] = ()
    meter: Meter = NO_METER

    def because(self, reason: str) -> Ready:
        """The same, for another reason."""
        return self._replace(decision=replace(self.decision, reason=reason))


class Dispensation(NamedTuple):
    """One of them: the approval that policy is asked with, why it should count, on which terms the call is looked at
    afterwards (None: on none), and what it takes from journals."""

    approval: Approval
    reason: str
    after: ReviewTerms | None = None
    notes: tuple[Note, ...] = ()


class Dispensations:
    """Finds what may be put before policy for a call. Every dependency is given."""

    def __init__(self, *, store: LedgerStore, waivers: Waivers, clock: Clock) -> None:
        self._store = store
        self._waivers = waivers
        self._clock = clock

    async def lift(
        self, wish: Wish, asked: Asked, ready: Ready, effect: EffectId, prepare: Prepare
    ) -> tuple[Ready, Dispensation | None]:
        """Have it decided again with what may lift the question, if anything may: what is allowed then is carried
        out."""
        terms = ready.decision.review
        if terms is None:
            return ready, None
        for one in await self.of(wish, asked, terms, effect):
            again = await prepare(one.approval)
            if again.grant is not None:
                return again.because(one.reason), one
        if wish.emergency:
            told = f"{ready.decision.reason}; you may not do this first, whatever the emergency"
            ready = ready.because(told)
        if not wish.may_ask:
            ready = Ready(unasked(ready.decision), None, None)
        return ready, None

    async def of(self, wish: Wish, asked: Asked, terms: ReviewTerms, effect: EffectId) -> list[Dispensation]:
        """What may lift the question with these terms, the first to be tried first."""
        if wish.emergency:
            return await self._emergency(wish.emergency, asked, terms)
        if not terms.waivable_s:
            return []
        return [
            Dispensation(
                approval=waiver.approval(asked.digest),
                reason=f"{', '.join(waiver.signers)} waived the question for calls of this kind (`{waiver.id}`)",
                notes=(self._waivers.use(waiver, effect),),
            )
            for waiver in await self._waivers.fitting(asked.intent)
        ]

    async def _emergency(self, reason: str, asked: Asked, terms: ReviewTerms) -> list[Dispensation]:
        """Not while something else that they did first has waited too long to be looked at."""
        principal, now_ms = asked.intent.principal, self._clock.now_ms()
        open_ = await self._store.reviews(asked.intent.tenant, states=(ReviewState.OPEN,), limit=OPEN_MAX)
        if any(
            one.after and is_among(principal, one.requested_by[:1]) and one.expires_at_ms <= now_ms for one in open_
        ):
            return []
        return [
            Dispensation(
                approval=Emergency(intent=asked.digest, quorum=terms.quorum, approvers=()),
                reason=f"`{principal}` did this first, in an emergency, to be looked at afterwards: {reason}",
                after=replace(terms, question=f"This was done first, in an emergency ({reason}). Was it right?"),
            )
        ]
