"""What is recorded when an intent is accepted: the moves a decision makes, the entry, the review it opens. Pure."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from assent.execution.grants import Grant
from assent.ledger.budgets import Hold, Shortage
from assent.ledger.commands import Accept
from assent.ledger.decisions import Decision, Placement, ReviewTerms, Verdict
from assent.ledger.effects import EFFECT, Effect, EffectState, Move
from assent.ledger.entries import draft
from assent.ledger.intents import Intent
from assent.ledger.journals import Content, Note
from assent.ledger.provenance import UNVOUCHED, Provenance
from assent.ledger.rates import Ceiling
from assent.ledger.reviews import Review, ReviewState, review_terms
from assent.primitives.digests import Digest, digest
from assent.primitives.ids import EffectId, ReviewId
from assent.primitives.leases import Fence

_encode = msgspec.json.Encoder(order="sorted").encode
_MOVES: dict[Verdict, tuple[Move, ...]] = {
    Verdict.ALLOW: (Move.GRANT, Move.DISPATCH),
    Verdict.DENY: (Move.REFUSE,),
    Verdict.REVIEW: (Move.REVIEW,),
}


def acceptance(
    *,
    intent: Intent,
    data: bytes,
    intent_digest: Digest,
    decision: Decision,
    effect: EffectId,
    grant: Grant | None,
    fence: Fence,
    parent: str,
    review: ReviewId | None,
    salt: bytes,
    now_ms: int,
    placement: Placement | None = None,
    contents: tuple[Content, ...] = (),
    holds: tuple[Hold, ...] = (),
    ceilings: tuple[Ceiling, ...] = (),
    shortage: Shortage | None = None,
    provenance: Provenance = UNVOUCHED,
    waived: ReviewTerms | None = None,
    notes: tuple[Note, ...] = (),
) -> Accept:
    """The command that accepts `intent` (its canonical bytes are `data`) with its decision, in one commit.

    `holds` are taken when it is dispatched at once, if no budget is above its ceiling; with a review they are what the
    asker brought, kept for then. With
    `waived` the review is opened all the same, on these terms, for people to look at what was done. `notes` say in
    their journals what it takes from there.
    """
    moves = _MOVES[decision.verdict]
    state = EFFECT.fold(moves)
    body = {
        "effect": effect, "before": -1, "moves": [*moves], "state": state, "operation": intent.operation,
        "contract": intent.contract, "principal": intent.principal, "on_behalf_of": [*intent.on_behalf_of],
        "run": intent.run, "key": _key_digest(intent.key), "parent": parent, "verdict": decision.verdict,
        "code": decision.code, "rules": [*decision.rules], "policy": decision.policy_revision,
        "review": review or "",
    }  # fmt: skip
    asked = _review(intent, intent_digest, waived or decision.review, effect=effect, review=review, now_ms=now_ms)
    if asked is not None:
        asked = replace(asked, after=waived is not None)
        body |= {"review_terms": review_terms(asked)}
        body |= _listed("brought", holds) if waived is None else {}
    if notes:
        body |= {"takes": [f"{one.kind}:{one.id}" for one in notes]}
    if shortage is not None:
        body |= {"budget": msgspec.to_builtins(shortage)}
    if grant is not None:
        body |= {
            "attempt": grant.body.attempt, "grant": grant.body.id, "node": fence.node, "fence": fence.number,
            "floor": grant.body.obligations.floor, "hosts": [*grant.body.obligations.hosts],
            **placed(placement), **held(holds),
        }  # fmt: skip
    return Accept(
        tenant=intent.tenant,
        effect=effect,
        intent=intent,
        intent_digest=intent_digest,
        decision=decision,
        state=state,
        fence=fence,
        parent=parent,
        review=asked,
        draft=draft("effect.accepted", body, salt=salt, payload=_payload(data, decision.reason, provenance)),
        contents=contents,
        holds=holds if grant is not None else (),
        ceilings=ceilings if grant is not None else (),
        shortage=shortage,
        notes=notes,
    )


def held(holds: tuple[Hold, ...]) -> dict[str, Any]:
    """What an entry says of the holds that are taken with it."""
    return _listed("holds", holds)


def placed(placement: Placement | None) -> dict[str, Any]:
    """What an entry says of a placement that was a choice: the target, and the rungs that were considered."""
    if placement is None or not placement.rungs:
        return {}
    return {"target": placement.target, "rungs": [msgspec.to_builtins(rung) for rung in placement.rungs]}


def accepted_effect(accept: Accept, seq: int) -> Effect:
    """The effect as `accept` left it at log position `seq`."""
    dispatched = accept.state is EffectState.DISPATCHED
    return Effect(
        tenant=accept.tenant,
        id=accept.effect,
        key=accept.intent.key,
        intent=accept.intent_digest,
        operation=accept.intent.operation,
        run=accept.intent.run,
        parent=accept.parent,
        state=accept.state,
        code=accept.decision.code,
        review=accept.review.id if accept.review else "",
        attempt=1 if dispatched else 0,
        node=accept.fence.node if dispatched else "",
        fence=accept.fence.number if dispatched else 0,
        observations=0,
        first_seq=seq,
        last_seq=seq,
    )


def _listed(name: str, holds: tuple[Hold, ...]) -> dict[str, Any]:
    return {name: [msgspec.to_builtins(hold) for hold in holds]} if holds else {}


def _key_digest(key: str) -> str:
    """Keys may name people or orders, and entries are for ever: only their digest stands there."""
    return digest(key.encode()) if key else ""


def _payload(data: bytes, reason: str, provenance: Provenance) -> bytes:
    """`{"intent":…,"provenance":…,"reason":…}` around the canonical intent, without encoding it a second time."""
    return b'{"intent":%b,"provenance":%b,"reason":%b}' % (data, _encode(provenance), _encode(reason))


def _review(
    intent: Intent,
    intent_digest: Digest,
    terms: ReviewTerms | None,
    *,
    effect: EffectId,
    review: ReviewId | None,
    now_ms: int,
) -> Review | None:
    if review is None or terms is None:
        return None
    return Review(
        tenant=intent.tenant,
        id=review,
        effect=effect,
        intent=intent_digest,
        state=ReviewState.OPEN,
        question=terms.question,
        quorum=terms.quorum,
        requested_by=(intent.principal, *intent.on_behalf_of),
        opened_at_ms=now_ms,
        expires_at_ms=now_ms + terms.ttl_s * 1000,
        demands=terms.demands,
    )
