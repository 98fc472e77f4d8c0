"""The gate: the one path of every effect.

    intent → decide → ACCEPT (commit) → dispatch → lane → SETTLE (commit)

Everything that wishes to act comes through `Gate.perform`: a typed command, a model's proposal, the reconciler's own
look at the world. A call that policy allows is accepted and dispatched in one commit and settled in a second. A call
that needs a person stops after the first; `Gate.release` decides again, with the approval and today's policy, and
consumes the approval in the commit that dispatches.

Decisions are made outside the transaction because they are pure; the transaction then holds only if the policy revision
they were made under is still the active one. When it is not, the gate decides again, a bounded number of times.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import msgspec

from assent.execution.orders import order_digest
from assent.execution.outcomes import StreamEvent
from assent.execution.ports import OnEvent, Steering
from assent.execution.secrets import Redactor
from assent.ledger.acceptances import acceptance, accepted_effect
from assent.ledger.budgets import Hold, Shortage
from assent.ledger.commands import Accept, Accepted, Dispatch, Withdraw
from assent.ledger.decisions import Decision, Verdict
from assent.ledger.dispatch import Dispatcher
from assent.ledger.effects import Effect, EffectState, Move, settled_effect
from assent.ledger.entries import SALT_BYTES
from assent.ledger.halts import scopes_of
from assent.ledger.intents import Intent
from assent.ledger.metering import meter_of
from assent.ledger.operations import Operation, Place, reading_of
from assent.ledger.ports import LedgerStore, Record
from assent.operations.asking import Asked, Asking
from assent.operations.budgeting import Budgeting, brought_by, held_by, is_look
from assent.operations.counting import Counting
from assent.operations.deciding import Deciding
from assent.operations.dispensations import Dispensation, Dispensations, Ready
from assent.operations.policies import Policies
from assent.operations.refusals import denied, exhausted, no_rung
from assent.operations.standing import Standing
from assent.operations.targets import Targets
from assent.operations.timelines import provenance_of
from assent.operations.waivers import Waivers
from assent.operations.wishes import Answer, Wish
from assent.policy.approvals import Approval
from assent.policy.grants import Mint
from assent.primitives.clock import Clock, Entropy
from assent.primitives.errors import Conflict, Malformed, Refused, Unavailable
from assent.primitives.ids import EffectId, IdSource, ReviewId, TenantId
from assent.primitives.leases import Fence

REDECISIONS_MAX = 32

OnAccepted: TypeAlias = Callable[[Answer], None]


def _ignore(_: StreamEvent) -> None:
    return None


def _unheard(_: Answer) -> None:
    return None


class Gate:
    """Performs intents. One gate a node; every dependency is given."""

    def __init__(
        self,
        *,
        store: LedgerStore,
        dispatcher: Dispatcher,
        policies: Policies,
        mint: Mint,
        targets: Targets,
        operations: Mapping[str, Operation],
        tenants: Collection[TenantId],
        place: Place,
        fence: Fence,
        ids: IdSource,
        clock: Clock,
        entropy: Entropy,
        budgeting: Budgeting | None = None,
        redactor: Redactor | None = None,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._asking = Asking(operations=operations, tenants=tenants, place=place, redactor=redactor)
        self._fence = fence
        self._ids = ids
        self._clock = clock
        self._entropy = entropy
        self._standing = Standing(store)
        self._budgeting = budgeting or Budgeting()
        self._deciding = Deciding(policies=policies, counting=Counting(store, self._budgeting))
        self._mint = mint
        self._targets = targets
        self.waivers = Waivers(store=store, fence=fence, clock=clock, entropy=entropy)
        self._dispensations = Dispensations(store=store, waivers=self.waivers, clock=clock)

    async def perform(
        self,
        wish: Wish,
        *,
        on_event: OnEvent = _ignore,
        on_accepted: OnAccepted = _unheard,
        steering: Steering | None = None,
    ) -> Answer:
        """Take one wish through the whole path and say what became of it. `on_accepted` hears the decision once it is
        on record and before anything is carried out; `steering` speaks to it while it runs.

        Raises:
            NotFound: this node does not serve the tenant; nothing was recorded.
            Malformed: the wish is not plain JSON, its key is too long, or it holds a credential; nothing was recorded.
            Conflict: `key_conflict`: the idempotency key belongs to another call.
            Unavailable: the database or this node's lease is not there; nothing was done.
        """
        asked = self._asking.ask(wish)
        for _ in range(REDECISIONS_MAX):
            try:
                return await self._decide_and_accept(wish, asked, on_event, on_accepted, steering)
            except Conflict as conflict:
                self._deciding.again_or_raise(wish.tenant, conflict)
        raise await self._deciding.unsettled(wish.tenant)

    async def release(
        self,
        tenant: TenantId,
        effect_id: EffectId,
        *,
        on_event: OnEvent = _ignore,
        steering: Steering | None = None,
    ) -> Answer:
        """Dispatch a granted effect: decide again, with its approval and the policy of now, and carry it out.

        Raises:
            NotFound: there is no such effect, or this node does not serve the tenant.
            Conflict: it is not waiting to be dispatched, somebody else was faster, its approval is gone, or what it
                falls under is `halted`.
        """
        self._asking.must_serve(tenant)
        effect, intent, review, history = await self._standing.granted(tenant, effect_id)
        approval = Approval(
            intent=review.intent, quorum=len(review.approvers), approvers=review.approvers, places=review.places,
            escalated=review.escalated,
        )  # fmt: skip
        asked = await self._read(intent, history)
        brought = None if is_look(effect.key) else brought_by(history)
        for _ in range(REDECISIONS_MAX):
            ready = await self._prepare(asked, approval, effect.id, key=effect.key, attempt=1, brought=brought)
            if ready.grant is None:
                return await self._withdraw(effect, ready.decision)
            try:
                seq = await self._dispatch(effect, asked, ready, review=review.id)
            except Conflict as conflict:
                self._deciding.again_or_raise(tenant, conflict)
            else:
                if isinstance(seq, Shortage):
                    return await self._standing.told(tenant, effect.id, exhausted(seq, ready.decision))
                dispatched = _at(effect, seq, attempt=1, state=EffectState.DISPATCHED)
                return await self._carry(dispatched, ready, on_event, steering)
        raise await self._deciding.unsettled(tenant)

    async def resend(self, effect: Effect, intent: Intent, *, on_event: OnEvent = _ignore) -> Answer:
        """Send an unknown effect again under a new attempt. The caller knows that its contract permits that.

        Raises:
            Refused: policy no longer allows it.
            Conflict: it has moved on meanwhile.
        """
        attempt = effect.attempt + 1
        history = await self._store.history(effect.tenant, effect)
        asked, held = await self._read(intent, history), held_by(history)
        for _ in range(REDECISIONS_MAX):
            ready = await self._prepare(asked, None, effect.id, key=effect.key, attempt=attempt, held=held)
            if ready.grant is None:
                raise Refused("resend_refused", f"policy no longer allows `{effect.id}`: {ready.decision.reason}")
            try:
                seq = await self._dispatch(effect, asked, ready, review=None)
            except Conflict as conflict:
                self._deciding.again_or_raise(effect.tenant, conflict)
            else:
                assert not isinstance(seq, Shortage), "what it held stands, so it asks for no more"
                return await self._carry(_at(effect, seq, attempt=attempt, state=effect.state), ready, on_event)
        raise await self._deciding.unsettled(effect.tenant)

    async def settle_owed(self) -> int:
        """Record results that the database could not take when they came; see `Dispatcher.settle_owed`."""
        return await self._dispatcher.settle_owed()

    async def _read(self, intent: Intent, history: Sequence[Record]) -> Asked:
        """A recorded intent with its provenance and the pieces that are kept for it."""
        named = self._asking.named(intent)
        contents = await self._store.contents(intent.tenant, named) if named else {}
        return self._asking.read(intent, contents=contents, provenance=provenance_of(history))

    async def _decide_and_accept(
        self, wish: Wish, asked: Asked, on_event: OnEvent, on_accepted: OnAccepted, steering: Steering | None
    ) -> Answer:
        effect_id = self._ids.effect()
        brought = None if is_look(wish.key) else wish.holds

        async def prepared(approval: Approval | None) -> Ready:
            return await self._prepare(asked, approval, effect_id, key=wish.key, attempt=1, brought=brought)

        ready, taken = await self._dispensations.lift(wish, asked, await prepared(None), effect_id, prepared)
        accept = self._acceptance(wish, asked, ready, effect_id, taken=taken)
        try:
            accepted: Accepted | Shortage = await self._commit(accept, ready)
        except Conflict as conflict:
            if conflict.code != "halted":
                raise
            ready = Ready(denied("halted", conflict.message, revision=ready.decision.policy_revision), None, None)
            accept = self._acceptance(wish, asked, ready, effect_id)
            accepted = await self._commit(accept, ready)
        if isinstance(accepted, Shortage):  # nothing was accepted; that it was asked and stopped is recorded instead
            ready = Ready(exhausted(accepted, ready.decision), None, None)
            accept = self._acceptance(wish, asked, ready, effect_id, shortage=accepted)
            accepted = await self._commit(accept, ready)
            assert isinstance(accepted, Accepted), "a refused call holds nothing"
        if not accepted.fresh:
            answer = await self._standing.told(wish.tenant, accepted.effect, None)
            return msgspec.structs.replace(answer, fresh=False)  # the key had it: nothing was done now
        effect = accepted_effect(accept, accepted.seq)
        answer = Answer(effect=effect, decision=ready.decision, review=accept.review)
        on_accepted(answer)
        if ready.grant is None:
            return answer
        return msgspec.structs.replace(await self._carry(effect, ready, on_event, steering), review=accept.review)

    def _acceptance(
        self,
        wish: Wish,
        asked: Asked,
        ready: Ready,
        effect: EffectId,
        *,
        shortage: Shortage | None = None,
        taken: Dispensation | None = None,
    ) -> Accept:
        after = taken.after if taken else None
        return acceptance(
            intent=asked.intent,
            data=asked.data,
            intent_digest=asked.digest,
            decision=ready.decision,
            effect=effect,
            grant=ready.grant,
            placement=ready.placement,
            fence=self._fence,
            parent=wish.parent,
            review=self._ids.review() if after or ready.decision.verdict is Verdict.REVIEW else None,
            salt=self._entropy(SALT_BYTES),
            now_ms=self._clock.now_ms(),
            contents=wish.contents,
            provenance=asked.provenance,
            holds=ready.holds if ready.grant else wish.holds,
            ceilings=ready.ceilings,
            shortage=shortage,
            waived=after,
            notes=taken.notes if taken else (),
        )

    async def _prepare(
        self,
        asked: Asked,
        approval: Approval | None,
        effect: EffectId,
        *,
        key: str,
        attempt: int,
        brought: tuple[Hold, ...] | None = None,
        held: tuple[Hold, ...] = (),
    ) -> Ready:
        """Decide and, when the answer is yes, make the exact order and the grant for it.

        What has to be held is what the limits ask for and what the asker `brought`. With None nothing is: the
        reconciler's looks are nobody's, and what is sent again has what it `held`.
        """
        decision, counts, ceilings = await self._deciding.decide(asked, approval, held=held, brought=brought or ())
        if decision.verdict is not Verdict.ALLOW or asked.operation is None or decision.obligations is None:
            return Ready(decision, None, None)
        try:
            order = asked.operation.plan(asked.arguments, asked.place, decision.obligations, key or effect)
            holds = () if brought is None else (*self._budgeting.holds(asked, order, brought), *counts)
        except Malformed as malformed:
            return Ready(denied("arguments_invalid", str(malformed), revision=decision.policy_revision), None, None)
        placement, rungs = await self._targets.place(order, decision.obligations, asked=asked.facts.target)
        if placement is None:
            return Ready(denied("target_unavailable", no_rung(rungs), revision=decision.policy_revision), None, None)
        grant = self._mint.mint(
            decision=decision,
            intent=asked.digest,
            order=order_digest(order),
            placement=placement,
            tenant=asked.intent.tenant,
            effect=effect,
            attempt=attempt,
            fence=self._fence,
            id=self._ids.grant(),
            now_ms=self._clock.now_ms(),
        )
        meter = meter_of(asked.operation, holds or held)
        return Ready(decision, order, grant, placement, reading_of(asked.operation), holds, ceilings, meter)

    async def _dispatch(self, effect: Effect, asked: Asked, ready: Ready, *, review: ReviewId | None) -> int | Shortage:
        assert ready.grant is not None, "nothing is dispatched without a grant"
        seq: int | Shortage = await self._commit(
            Dispatch(
                tenant=effect.tenant,
                effect=effect.id,
                last_seq=effect.last_seq,
                review=review,
                again=review is None,
                attempt=ready.grant.body.attempt,
                grant_id=ready.grant.body.id,
                policy_revision=ready.decision.policy_revision,
                rules=ready.decision.rules,
                fence=self._fence,
                placement=ready.placement,
                holds=ready.holds,
                ceilings=ready.ceilings,
                scopes=scopes_of(asked.intent),
            ),
            ready,
        )
        return seq

    async def _commit(self, command: Accept | Dispatch, ready: Ready) -> Any:  # noqa: ANN401 (as `LedgerStore.apply`)
        """Apply a command that may dispatch. A caller that gives up before the answer leaves no dispatch behind it."""
        try:
            return await self._store.apply(command)
        except asyncio.CancelledError:
            if ready.grant is not None:
                with suppress(Unavailable):  # then it will be found unknown
                    await self._dispatcher.abandon(ready.grant, ready.meter)
            raise

    async def _carry(self, effect: Effect, ready: Ready, on_event: OnEvent, steering: Steering | None = None) -> Answer:
        assert ready.grant is not None, "nothing is carried without a grant"
        assert ready.order is not None, "a grant is for an order"
        outcome, settled = await self._dispatcher.carry_out(
            grant=ready.grant,
            order=ready.order,
            seq=effect.last_seq,
            state=effect.state,
            on_event=on_event,
            steering=steering,
            read=ready.read,
            meter=ready.meter,
        )
        if settled.applied:
            after = settled_effect(effect, outcome, settled.seq)
        else:
            after = await self._standing.must_find(effect.tenant, effect.id)
        return Answer(effect=after, decision=ready.decision, outcome=outcome)

    async def _withdraw(self, effect: Effect, decision: Decision) -> Answer:
        await self._store.apply(_revoked(effect, decision))
        return await self._standing.told(effect.tenant, effect.id, decision)

    async def revoke(self, effect: Effect, *, code: str) -> None:
        """Withdraw a granted effect that nobody wants any more, with its approval.

        Raises:
            Conflict: `effect_moved`: it has begun, or is over.
        """
        await self._store.apply(_revoked(effect, denied(code, "nobody wants it any more")))


def _at(effect: Effect, seq: int, *, attempt: int, state: EffectState) -> Effect:
    return msgspec.structs.replace(effect, last_seq=seq, attempt=attempt, state=state)


def _revoked(effect: Effect, why: Decision) -> Withdraw:
    return Withdraw(
        tenant=effect.tenant, effect=effect.id, last_seq=effect.last_seq, review=ReviewId(effect.review),
        move=Move.REVOKE, code=why.code, policy_revision=why.policy_revision, rules=why.rules,
    )  # fmt: skip
