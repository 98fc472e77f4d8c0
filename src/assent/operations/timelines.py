"""Timelines: what happened, told from the log. Reads only; what was erased is told as erased."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from assent.execution.outcomes import Ending, Outcome
from assent.ledger.budget_limits import Limit
from assent.ledger.budgets import Budget
from assent.ledger.effects import Effect, EffectState
from assent.ledger.intents import Intent
from assent.ledger.ports import LedgerStore, Record
from assent.ledger.provenance import UNVOUCHED, Provenance
from assent.ledger.receipts import read_receipt
from assent.ledger.reviews import Review, ReviewState
from assent.operations.budgets import Limits
from assent.primitives.errors import NotFound
from assent.primitives.ids import EffectId, ReviewId, TenantId

INBOX_MAX = 500
PAGE_MAX = 1_000
NAMES_MAX = 20
GIVES_A_REASON = frozenset({
    "review.answered", "effect.judged", "halt.begun", "halt.lifted", "stand_in.named", "stand_in.ended",
    "waiver.signed", "waiver.revoked", "token.made", "token.revoked",
})  # fmt: skip
"""Entries whose payload is what somebody said, as it was said."""


class AcceptedPayload(msgspec.Struct, frozen=True, kw_only=True):
    """What the entry of an acceptance commits to: the call, on whose word it stands, and the decision's reason."""

    intent: dict[str, Any]
    reason: str
    provenance: Provenance = UNVOUCHED


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a timeline. `type` is the entry's, `facts` its body, `detail` its payload, if still there."""

    at_ms: int
    seq: int
    type: str
    effect: str
    facts: dict[str, Any]
    detail: dict[str, Any] | None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Everything there is to say about one effect. `intent` is None once erased; `policy_number` counts activations."""

    effect: Effect
    intent: Intent | None
    provenance: Provenance
    reason: str
    rules: tuple[str, ...]
    policy_revision: str
    review: Review | None
    outcome: Outcome | None
    moments: tuple[Moment, ...]


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """A budget that stands in the way: as it stands under the limit of today, and the last call that it stopped."""

    budget: Budget
    about: Explanation


class Inbox(msgspec.Struct, frozen=True, kw_only=True):
    """What waits for a person: calls with an open review, effects nobody can account for, what was approved and not
    carried out, and budgets that stand in the way."""

    reviews: tuple[Explanation, ...]
    unknown: tuple[Explanation, ...]
    granted: tuple[Explanation, ...]
    stops: tuple[Stop, ...] = ()
    afterwards: tuple[Explanation, ...] = ()


class Timelines:
    """Questions about the record."""

    def __init__(self, *, store: LedgerStore, limits: Iterable[Limit] = ()) -> None:
        self._store = store
        self._limits = Limits(limits)

    async def explain(self, tenant: TenantId, effect_id: EffectId) -> Explanation:
        """Who, on whose behalf, which rule, what approval, where it ran, what came back.

        Raises:
            NotFound: there is no such effect.
        """
        effect = await self._store.effect(tenant, effect_id)
        if effect is None:
            raise NotFound("effect_not_found", f"there is no effect `{effect_id}`", hint="see `assent timeline`")
        return await self._explain(effect)

    async def of_effect(self, tenant: TenantId, effect_id: EffectId) -> list[Moment]:
        """Every moment of one effect."""
        return list((await self.explain(tenant, effect_id)).moments)

    async def of_run(self, tenant: TenantId, run: str) -> list[Moment]:
        """Every moment of a run's effects, in the log's order."""
        effects = await self._store.effects(tenant, run=run, limit=PAGE_MAX)
        if not effects:
            raise NotFound("run_not_found", f"there is no run `{run}`", hint="see `assent timeline`")
        found = [m for effect in effects for m in moments(await self._store.history(tenant, effect))]
        return sorted(found, key=lambda moment: moment.seq)

    async def latest(self, tenant: TenantId, *, after: int = -1, limit: int = PAGE_MAX) -> list[Moment]:
        """Moments after a log position, in order."""
        return moments(await self._store.records(tenant, after=after, limit=limit))

    async def newest(self, tenant: TenantId, *, limit: int = PAGE_MAX) -> list[Moment]:
        """The last moments, in order."""
        return await self.latest(tenant, after=await self._store.size(tenant) - limit - 1, limit=limit)

    async def names(self, tenant: TenantId, part: str) -> list[str]:
        """Ids of effects and reviews, and names of runs, that contain `part`; at most `NAMES_MAX`."""
        return await self._store.names(tenant, part, limit=NAMES_MAX)

    async def review(self, tenant: TenantId, review_id: ReviewId) -> Review:
        """One review.

        Raises:
            NotFound: there is no such review.
        """
        review = await self._store.review(tenant, review_id)
        if review is None:
            raise NotFound("review_not_found", f"there is no review `{review_id}`", hint="see `assent inbox`")
        return review

    async def unknown(self, tenant: TenantId) -> list[Effect]:
        """Effects nobody can account for yet."""
        states = (EffectState.UNKNOWN, EffectState.QUARANTINED)
        return await self._store.effects(tenant, states=states, limit=INBOX_MAX)

    async def inbox(self, tenant: TenantId) -> Inbox:
        """What waits for a person."""
        reviews = await self._store.reviews(tenant, states=(ReviewState.OPEN,), limit=INBOX_MAX)
        asked = [await self.explain(tenant, review.effect) for review in reviews]
        after = {review.effect for review in reviews if review.after}
        stuck = await self._store.effects(
            tenant, states=(EffectState.UNKNOWN, EffectState.QUARANTINED), limit=INBOX_MAX
        )
        granted = await self._store.effects(tenant, states=(EffectState.GRANTED,), limit=INBOX_MAX)
        return Inbox(
            reviews=tuple(one for one in asked if one.effect.id not in after),
            afterwards=tuple(one for one in asked if one.effect.id in after),
            unknown=tuple([await self._explain(effect) for effect in stuck]),
            granted=tuple([await self._explain(effect) for effect in granted]),
            stops=tuple(await self._stops(tenant)),
        )

    async def _stops(self, tenant: TenantId) -> list[Stop]:
        """What budgets stopped and would stop now: not what a raised limit or a new window has let through, and not
        what somebody has dismissed."""
        found = await self._store.budgets(tenant, stopped=True, limit=INBOX_MAX)
        stops = [
            Stop(budget=self._limits.today(one), about=await self.explain(tenant, EffectId(one.stopped)))
            for one in found
            if self._limits.stops(one)
        ]
        return [one for one in stops if one.about.effect.state in (EffectState.REFUSED, EffectState.GRANTED)]

    async def _explain(self, effect: Effect) -> Explanation:
        history = await self._store.history(effect.tenant, effect)
        review = await self._store.review(effect.tenant, ReviewId(effect.review)) if effect.review else None
        ruled = [r for r in history if "rules" in r.body]
        return Explanation(
            effect=effect,
            intent=intent_of(history),
            provenance=provenance_of(history),
            reason=reason_of(history),
            rules=tuple(ruled[-1].body["rules"]) if ruled else (),
            policy_revision=ruled[-1].body["policy"] if ruled else "",
            review=review,
            outcome=outcome_of(history),
            moments=tuple(moments(history)),
        )


def moments(records: Sequence[Record]) -> list[Moment]:
    """Records as lines of a timeline."""
    return [
        Moment(
            at_ms=record.at,
            seq=record.seq,
            type=record.type,
            effect=record.body.get("effect", ""),
            facts=record.body,
            detail=_detail(record),
        )
        for record in records
    ]


def intent_of(history: Sequence[Record]) -> Intent | None:
    """The call an effect was accepted for, or None when it was erased."""
    payload = _accepted(history)
    return msgspec.convert(payload.intent, Intent) if payload else None


def provenance_of(history: Sequence[Record]) -> Provenance:
    """On whose word a call stands. Nobody's, where that was not written down or was erased."""
    payload = _accepted(history)
    return payload.provenance if payload else UNVOUCHED


def outcome_of(history: Sequence[Record]) -> Outcome | None:
    """The outcome of the last attempt that was settled, or None when none was (or its payload was erased)."""
    settled = [r for r in history if r.type == "effect.settled" and r.payload is not None]
    if not settled:
        return None
    record = settled[-1]
    assert record.payload is not None
    receipt = read_receipt(record.payload)
    return Outcome(
        ending=Ending(record.body["ending"]),
        code=record.body["code"],
        message=receipt.message,
        value=receipt.value,
        evidence=receipt.evidence,
    )


def _accepted(history: Sequence[Record]) -> AcceptedPayload | None:
    if not history or history[0].payload is None:
        return None
    return msgspec.json.decode(history[0].payload, type=AcceptedPayload)


def reason_of(history: Sequence[Record]) -> str:
    """Why an effect was decided as it was; empty once that is erased."""
    payload = _accepted(history)
    return payload.reason if payload else ""


def _detail(record: Record) -> dict[str, Any] | None:
    if record.payload is None:
        return None
    if record.type in GIVES_A_REASON:
        return {"reason": record.payload.decode()}
    found: dict[str, Any] = msgspec.json.decode(record.payload)
    return found
