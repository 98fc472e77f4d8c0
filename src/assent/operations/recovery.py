"""Recovery: what to do about effects nobody knows the end of.

First, nodes that are gone are fenced out; in that commit, whatever they had dispatched becomes *unknown*. Then each
unknown effect is looked at, never blindly repeated:

- its contract names an observer: the observation is performed as an effect of its own, through the same gate, and the
  connector's pure judgement settles the unknown one;
- it has no observer and doing it again changes nothing (a read, or an idempotent call): it is sent again, as a new
  attempt under a new fence;
- otherwise only a person can say: it stays in the inbox until someone attests what happened.

After `OBSERVATIONS_MAX` unclear looks it is quarantined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from assent.ledger.commands import FenceOut, Judge
from assent.ledger.contracts import EffectClass, Idempotency
from assent.ledger.effects import EFFECT, Effect, EffectState, Move
from assent.ledger.entries import SALT_BYTES, draft
from assent.ledger.intents import Intent
from assent.ledger.operations import Judgement, Operation
from assent.ledger.ports import LedgerStore, Record
from assent.ledger.provenance import OWN
from assent.ledger.reviews import check_reason, is_person
from assent.operations.gate import Gate
from assent.operations.timelines import intent_of
from assent.operations.wishes import OBSERVATION_KEYS, Wish
from assent.primitives.clock import Entropy
from assent.primitives.errors import Conflict, Malformed, NotFound, Refused
from assent.primitives.ids import EffectId, NodeId, TenantId
from assent.primitives.leases import SYSTEM, Fence

OBSERVATIONS_MAX = 5
UNKNOWN_MAX = 1_000

_MOVE_OF: dict[Judgement, Move] = {Judgement.HAPPENED: Move.SUCCEED, Judgement.NOT_HAPPENED: Move.FAIL}


class Liveness(Protocol):
    """Knows whether the process of a node on this machine is surely gone."""

    def is_dead(self, node: NodeId) -> bool:
        """Whether it is surely gone; False when nobody can say."""
        ...

    def forget(self, node: NodeId) -> None:
        """Drop what was kept about a node that was fenced out."""
        ...


class Recovery:
    """Fences out dead nodes and settles unknown effects."""

    def __init__(
        self,
        *,
        store: LedgerStore,
        gate: Gate,
        operations: Mapping[str, Operation],
        liveness: Liveness,
        node: NodeId,
        entropy: Entropy,
    ) -> None:
        self._store = store
        self._gate = gate
        self._operations = operations
        self._liveness = liveness
        self._node = node
        self._entropy = entropy

    async def fence_out_the_dead(self) -> list[Effect]:
        """Take the fences of nodes that lapsed or died; the effects that became unknown by it."""
        lost: list[Effect] = []
        for lease, lapsed in await self._store.leases():
            if lease.holder == self._node:
                continue
            dead = self._liveness.is_dead(lease.holder)
            if lapsed or dead:
                fence = Fence(node=lease.holder, number=lease.fence)
                lost += await self._store.apply(FenceOut(tenant=SYSTEM, fence=fence, dead=dead))
                self._liveness.forget(lease.holder)
        return lost

    async def reconcile(self, tenant: TenantId) -> list[Effect]:
        """Look once at every unknown effect that a look can settle; how each stands afterwards."""
        unknown = await self._store.effects(tenant, states=(EffectState.UNKNOWN,), limit=UNKNOWN_MAX)
        return [await self._look_unless_moved(effect) for effect in unknown]

    async def attest(self, tenant: TenantId, effect_id: EffectId, *, happened: bool, by: str, reason: str) -> Effect:
        """Settle an unknown effect on a person's word.

        Raises:
            NotFound: there is no such effect.
            Conflict: it is not unknown.
            Refused: only people attest.
            Malformed: the reason is too long.
        """
        effect = await self._must_find(tenant, effect_id)
        if effect.state is not EffectState.UNKNOWN:
            raise Conflict("effect_settled", f"effect `{effect_id}` is {effect.state}, not unknown")
        if not is_person(by):
            raise Refused("attest_not_yours", f"only people attest what happened, and `{by[:80]!a}` is not a person")
        check_reason(reason)
        move = Move.SUCCEED if happened else Move.FAIL
        return await self._judge(effect, move, code="attested", by=by, reason=reason)

    async def look(self, effect: Effect) -> Effect:
        """Look once at one unknown effect, if a look can settle it; how it stands afterwards."""
        return await self._look_unless_moved(effect)

    async def _look_unless_moved(self, effect: Effect) -> Effect:
        try:
            return await self._look(effect)
        except Conflict:  # another node settled it meanwhile
            return await self._must_find(effect.tenant, effect.id)

    async def _look(self, effect: Effect) -> Effect:
        history = await self._store.history(effect.tenant, effect)
        if await self._is_under_way(effect, history):
            return effect
        try:
            return await self._look_at(effect, intent_of(history))
        except Malformed as fault:
            return await self._unclear(effect, str(fault))

    async def _is_under_way(self, effect: Effect, history: Sequence[Record]) -> bool:
        """Whether it was sent again, and the node that did so lives and has not yet told how that ended."""
        last = [record.type for record in history if record.type != "effect.late_result"][-1:]
        if last != ["effect.resent"]:
            return False
        return any(lease.holder == effect.node and not lapsed for lease, lapsed in await self._store.leases())

    async def _look_at(self, effect: Effect, intent: Intent | None) -> Effect:
        operation = self._operations.get(effect.operation)
        if operation is None or intent is None:
            return await self._unclear(effect, "the operation or its call is no longer there to look with")
        if operation.contract.observer:
            return await self._observe(effect, intent, operation)
        if _repeatable(operation):
            return await self._resend(effect, intent)
        return effect

    async def _observe(self, effect: Effect, intent: Intent, operation: Operation) -> Effect:
        arguments = operation.observation(intent.arguments)
        if arguments is None:
            return await self._unclear(effect, "this call leaves nothing to observe")
        wish = Wish(
            tenant=effect.tenant,
            operation=operation.contract.observer,
            arguments=arguments,
            principal=intent.principal,
            on_behalf_of=intent.on_behalf_of,
            run=effect.run,
            key=f"{OBSERVATION_KEYS}{effect.id}/{effect.attempt}/{effect.observations + 1}",
            parent=effect.id,
            provenance=OWN,
        )
        seen = await self._gate.perform(wish)
        if seen.effect.state is EffectState.DISPATCHED:
            return effect  # somebody is looking right now
        if seen.effect.code == "halted":
            return effect  # nobody may look now, and that says nothing
        if seen.outcome is None:
            return await self._unclear(effect, f"the observation `{seen.effect.id}` is {seen.effect.state}")
        judgement = operation.judge(intent.arguments, seen.outcome.code, seen.outcome.value)
        if judgement is Judgement.UNCLEAR:
            return await self._unclear(effect, f"the observation `{seen.effect.id}` does not tell")
        reason = f"observed by `{seen.effect.id}`"
        return await self._judge(effect, _MOVE_OF[judgement], code=judgement, by=seen.effect.id, reason=reason)

    async def _resend(self, effect: Effect, intent: Intent) -> Effect:
        try:
            answer = await self._gate.resend(effect, intent)
        except Conflict:
            raise
        except Refused as refusal:
            return await self._unclear(effect, str(refusal))
        if answer.effect.state is EffectState.UNKNOWN:
            return await self._unclear(answer.effect, "sent again, and the outcome is still unknown")
        return answer.effect

    async def _unclear(self, effect: Effect, reason: str) -> Effect:
        if effect.observations + 1 >= OBSERVATIONS_MAX:
            return await self._judge(effect, Move.QUARANTINE, code="unclear", by="reconciler", reason=reason)
        return await self._judge(effect, None, code=effect.code, by="reconciler", reason=reason)

    async def _judge(self, effect: Effect, move: Move | None, *, code: str, by: str, reason: str) -> Effect:
        state = EFFECT.after(effect.state, move) if move else effect.state
        observations = effect.observations + 1
        body = {
            "effect": effect.id, "before": effect.last_seq, "moves": [move] if move else [], "state": state,
            "code": code, "by": by, "observations": observations,
        }  # fmt: skip
        await self._store.apply(
            Judge(
                tenant=effect.tenant,
                effect=effect.id,
                last_seq=effect.last_seq,
                state=state,
                code=code,
                observations=observations,
                draft=draft("effect.judged", body, salt=self._entropy(SALT_BYTES), payload=_told(reason)),
            )
        )
        return await self._must_find(effect.tenant, effect.id)

    async def _must_find(self, tenant: TenantId, effect_id: EffectId) -> Effect:
        effect = await self._store.effect(tenant, effect_id)
        if effect is None:
            raise NotFound("effect_not_found", f"there is no effect `{effect_id}`", hint="see `assent timeline`")
        return effect


def _repeatable(operation: Operation) -> bool:
    contract = operation.contract
    return contract.effect is EffectClass.READ or contract.idempotency is not Idempotency.NONE


def _told(reason: str) -> bytes:
    return reason.encode()
