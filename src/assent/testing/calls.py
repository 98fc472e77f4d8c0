"""Makes valid commands for a ledger's store, as the gate and the dispatcher do, without policy, lanes or people.

A `Scribe` is one node's hand: it has ids, entropy, a clock and a fence, and writes what it is asked to write. Whether
the store takes it is what tests are about.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assent.execution.attestations import Attestation
from assent.execution.grants import Grant
from assent.execution.obligations import Obligations
from assent.execution.orders import FileOrder, order_digest
from assent.execution.outcomes import Ending, Evidence, Outcome
from assent.execution.seals import SealKey
from assent.ledger.acceptances import acceptance
from assent.ledger.budgets import Hold, Shortage
from assent.ledger.commands import Accept, AnswerReview, DismissStop, Dispatch, Judge, Settle, Withdraw
from assent.ledger.decisions import ANYBODY, Decision, Demands, ReviewTerms, Verdict
from assent.ledger.effects import EFFECT, MOVE_OF_ENDING, Effect, EffectState, Move
from assent.ledger.entries import SALT_BYTES, draft
from assent.ledger.intents import Intent, intent_bytes, intent_digest
from assent.ledger.journals import Note
from assent.ledger.rates import Ceiling
from assent.ledger.receipts import receipt_draft
from assent.policy.grants import Mint
from assent.primitives.clock import Clock, Entropy
from assent.primitives.digests import Digest, digest
from assent.primitives.ids import EffectId, IdSource, ReviewId, TenantId
from assent.primitives.leases import Fence

CODES: dict[Verdict, str] = {Verdict.ALLOW: "allowed", Verdict.DENY: "no_rule", Verdict.REVIEW: "needs_review"}


def intent_to(
    tenant: TenantId, *, content: str = "x", key: str = "", run: str = "", principal: str = "agent:writer"
) -> Intent:
    """A wish to write `content` to a file."""
    return Intent(
        tenant=tenant,
        operation="files.write",
        contract=digest(b"contract"),
        arguments={"path": "note.txt", "content": content},
        principal=principal,
        on_behalf_of=("person:ann",) if not principal.startswith("person:") else (),
        run=run,
        key=key,
    )


class Scribe:
    """Writes commands for one node."""

    def __init__(self, *, clock: Clock, entropy: Entropy, fence: Fence | None = None) -> None:
        self.ids = IdSource(clock, entropy)
        self.fence = fence or Fence(node=self.ids.node(), number=1)
        self._clock = clock
        self._entropy = entropy
        self._mint = Mint(SealKey(entropy(32)))

    def accept(
        self,
        intent: Intent,
        verdict: Verdict = Verdict.ALLOW,
        *,
        revision: str = "",
        quorum: int = 1,
        ttl_s: int = 60,
        effect: EffectId | None = None,
        holds: tuple[Hold, ...] = (),
        ceilings: tuple[Ceiling, ...] = (),
        shortage: Shortage | None = None,
        demands: Demands = ANYBODY,
        after: bool = False,
        notes: tuple[Note, ...] = (),
    ) -> Accept:
        """The command that accepts `intent` with the verdict given; what is allowed may be looked at `after`."""
        effect = effect or self.ids.effect()
        data = intent_bytes(intent)
        bound = intent_digest(data)
        terms = ReviewTerms(question="may it?", quorum=quorum, ttl_s=ttl_s, demands=demands)
        asks = verdict is Verdict.REVIEW
        decision = Decision(
            verdict=verdict,
            code=CODES[verdict],
            reason="a test says so",
            policy_revision=revision,
            rules=("rule-1",),
            obligations=Obligations(),
            review=terms if asks else None,
        )
        return acceptance(
            intent=intent,
            data=data,
            intent_digest=bound,
            decision=decision,
            effect=effect,
            grant=self._grant(decision, bound, intent.tenant, effect) if verdict is Verdict.ALLOW else None,
            fence=self.fence,
            parent="",
            review=self.ids.review() if asks or after else None,
            salt=self._entropy(SALT_BYTES),
            now_ms=self._clock.now_ms(),
            holds=holds,
            ceilings=ceilings,
            shortage=shortage,
            waived=terms if after else None,
            notes=notes,
        )

    def dispatch(
        self,
        effect: Effect,
        *,
        again: bool = False,
        revision: str = "",
        holds: tuple[Hold, ...] = (),
        ceilings: tuple[Ceiling, ...] = (),
    ) -> Dispatch:
        """Dispatch a granted effect with its review, or send an unknown one again."""
        return Dispatch(
            tenant=effect.tenant,
            effect=effect.id,
            last_seq=effect.last_seq,
            review=None if again or not effect.review else ReviewId(effect.review),
            again=again,
            attempt=effect.attempt + 1,
            grant_id=self.ids.grant(),
            policy_revision=revision,
            rules=("rule-2",),
            fence=self.fence,
            holds=holds,
            ceilings=ceilings,
        )

    def settle(
        self,
        *,
        tenant: TenantId,
        effect: EffectId,
        seq: int,
        attempt: int = 1,
        ending: Ending = Ending.SUCCEEDED,
        before: EffectState = EffectState.DISPATCHED,
        value: dict[str, Any] | None = None,
        fence: Fence | None = None,
        used: Mapping[str, int] | None = None,
    ) -> Settle:
        """The command that settles the attempt dispatched at `seq`."""
        fence = fence or self.fence
        move = MOVE_OF_ENDING[ending]
        moves = (move,) if EFFECT.allows(before, move) else ()
        state = EFFECT.after(before, move) if moves else before
        outcome = self.outcome(ending, value or {})
        return Settle(
            tenant=tenant,
            effect=effect,
            last_seq=seq,
            attempt=attempt,
            fence=fence,
            state=state,
            code=outcome.code,
            draft=receipt_draft(
                effect=effect,
                before=seq,
                moves=[*moves],
                state=state,
                attempt=attempt,
                fence=fence,
                outcome=outcome,
                salt=self._entropy(SALT_BYTES),
                used=used,
            ),
            used=used,
        )

    def outcome(self, ending: Ending, value: dict[str, Any]) -> Outcome:
        """What a lane would say."""
        now_ms = self._clock.now_ms()
        evidence = Evidence(
            lane="file",
            attestation=Attestation(mechanism="script", builtin=True),
            started_at_ms=now_ms,
            ended_at_ms=now_ms,
        )
        return Outcome(ending=ending, code=f"was_{ending}", value=value, evidence=evidence)

    def judge(self, effect: Effect, move: Move | None) -> Judge:
        """Move an unknown effect, or count an unclear look at it (no move)."""
        state = EFFECT.after(effect.state, move) if move else effect.state
        observations = effect.observations + 1
        code = f"judged_{move}" if move else effect.code
        body = {
            "effect": effect.id, "before": effect.last_seq, "moves": [move] if move else [], "state": state,
            "code": code, "by": "reconciler", "observations": observations,
        }  # fmt: skip
        return Judge(
            tenant=effect.tenant,
            effect=effect.id,
            last_seq=effect.last_seq,
            state=state,
            code=code,
            observations=observations,
            draft=draft("effect.judged", body, salt=self._entropy(SALT_BYTES), payload=b"seen"),
        )

    def answer(
        self,
        tenant: TenantId,
        review: str,
        *,
        by: str,
        approve: bool = True,
        after: tuple[str, ...] = (),
        completes: bool = True,
        place_of: str = "",
    ) -> AnswerReview:
        """A person's answer, after those who approved already."""
        return AnswerReview(
            tenant=tenant,
            review=ReviewId(review),
            approve=approve,
            by=by,
            reason="because",
            salt=self._entropy(SALT_BYTES),
            place_of=place_of,
            counted=after,
            completes=completes,
        )

    def withdraw(self, effect: Effect, move: Move = Move.REVOKE) -> Withdraw:
        """End a granted effect."""
        return Withdraw(
            tenant=effect.tenant,
            effect=effect.id,
            last_seq=effect.last_seq,
            review=ReviewId(effect.review),
            move=move,
            code=f"ended_by_{move}",
            policy_revision="",
            rules=(),
        )

    def dismiss(self, effect: Effect) -> DismissStop:
        """Take note that a person has seen what stopped it."""
        return DismissStop(tenant=effect.tenant, effect=effect.id, by="person:ann")

    def _grant(self, decision: Decision, bound: Digest, tenant: TenantId, effect: EffectId) -> Grant:
        order = FileOrder(verb="write", workspace="/workspace", path="note.txt", content=b"x")
        return self._mint.mint(
            decision=decision,
            intent=bound,
            order=order_digest(order),
            tenant=tenant,
            effect=effect,
            attempt=1,
            fence=self.fence,
            id=self.ids.grant(),
            now_ms=self._clock.now_ms(),
        )
