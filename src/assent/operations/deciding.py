"""Deciding: what the policy of now says of a call, and whether a commit that failed means to ask it again."""

from __future__ import annotations

from typing import NamedTuple

from assent.ledger.budgets import Hold
from assent.ledger.decisions import Decision
from assent.ledger.rates import MOVED, Ceiling
from assent.operations.asking import Asked
from assent.operations.counting import Counting
from assent.operations.policies import Policies
from assent.operations.refusals import denied
from assent.policy.approvals import Approval
from assent.primitives.errors import AssentError, Conflict
from assent.primitives.ids import TenantId


class Decided(NamedTuple):
    """What policy says, and what has to be held, and below which ceilings, for it to stay so until it is committed."""

    decision: Decision
    holds: tuple[Hold, ...] = ()
    ceilings: tuple[Ceiling, ...] = ()


class Deciding:
    """Asks the engine of the tenant's active revision, with the counts that its rules read."""

    def __init__(self, *, policies: Policies, counting: Counting) -> None:
        self._policies = policies
        self._counting = counting

    async def decide(
        self, asked: Asked, approval: Approval | None, *, held: tuple[Hold, ...], brought: tuple[Hold, ...]
    ) -> Decided:
        """What policy says of a call that `held` something if it is sent again, and `brought` limits of its own."""
        engine = await self._policies.active(asked.intent.tenant)
        if engine is None:
            return Decided(await self._policies.refusal(asked.intent.tenant))
        if asked.fault:
            return Decided(denied("arguments_invalid", asked.fault, revision=engine.revision))
        seen = await self._counting.seen(engine, asked, held=held, brought=brought)
        said = engine.decide(intent=asked.intent, intent_digest=asked.digest, facts=seen.facts, approval=approval)
        return Decided(said, seen.holds, seen.ceilings)

    def again_or_raise(self, tenant: TenantId, conflict: Conflict) -> None:
        """When the policy, a count or a waiver moved under a decision, it is made again; any other conflict stands."""
        if conflict.code == "policy_moved":
            self._policies.forget(tenant)
        elif conflict.code not in ("journal_moved", MOVED):
            raise conflict

    async def unsettled(self, tenant: TenantId) -> AssentError:
        """Why a call could not be decided, however often that was tried."""
        return await self._policies.unsettled(tenant)
