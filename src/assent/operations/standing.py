"""Standing: how one effect stands by the record, told as an answer. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from assent.ledger.decisions import Decision
from assent.ledger.effects import Effect, EffectState
from assent.ledger.intents import Intent, intent_bytes, intent_digest
from assent.ledger.ports import LedgerStore, Record
from assent.ledger.reviews import Review
from assent.operations.timelines import intent_of, outcome_of
from assent.operations.wishes import Answer
from assent.primitives.errors import Conflict, InvariantBroken, NotFound, Refused
from assent.primitives.ids import EffectId, ReviewId, TenantId


class Granted(NamedTuple):
    """An effect that somebody approved, with the very call it was approved for."""

    effect: Effect
    intent: Intent
    review: Review
    history: Sequence[Record]


class Standing:
    """Reads how effects stand."""

    def __init__(self, store: LedgerStore) -> None:
        self._store = store

    async def must_find(self, tenant: TenantId, effect_id: EffectId) -> Effect:
        """The effect as it stands.

        Raises:
            NotFound: there is none.
        """
        effect = await self._store.effect(tenant, effect_id)
        if effect is None:
            raise NotFound("effect_not_found", f"there is no effect `{effect_id}`", hint="see `assent timeline`")
        return effect

    async def told(self, tenant: TenantId, effect_id: EffectId, decision: Decision | None) -> Answer:
        """The effect with its review and the outcome of its last attempt, as an answer.

        Raises:
            NotFound: there is none.
        """
        effect = await self.must_find(tenant, effect_id)
        review = await self._store.review(tenant, ReviewId(effect.review)) if effect.review else None
        outcome = outcome_of(await self._store.history(tenant, effect)) if effect.attempt else None
        return Answer(effect=effect, decision=decision, outcome=outcome, review=review)

    async def granted(self, tenant: TenantId, effect_id: EffectId) -> Granted:
        """An effect that waits to be dispatched.

        Raises:
            NotFound: there is none.
            Conflict: `effect_moved`: it does not wait.
            Refused: `intent_erased`: its call is not there any more.
            InvariantBroken: `intent_changed`: the recorded call is not the one that was approved.
        """
        effect = await self.must_find(tenant, effect_id)
        if effect.state is not EffectState.GRANTED:
            raise Conflict("effect_moved", f"effect `{effect_id}` is {effect.state}, not waiting to be dispatched")
        review = await self._store.review(tenant, ReviewId(effect.review))
        history = await self._store.history(tenant, effect)
        intent = intent_of(history)
        if review is None or intent is None:
            raise Refused("intent_erased", f"the call of effect `{effect_id}` is no longer there to be carried out")
        if intent_digest(intent_bytes(intent)) != effect.intent or review.intent != effect.intent:
            raise InvariantBroken(
                "intent_changed", f"the recorded call of effect `{effect_id}` is not what was approved"
            )
        return Granted(effect, intent, review, history)
