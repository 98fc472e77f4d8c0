"""Answers of the gate: done, failed, refused, waiting, unknown."""

from __future__ import annotations

from typing import Any

from assent.execution.outcomes import Outcome
from assent.ledger.effects import Effect, EffectState
from assent.operations.wishes import Answer
from assent.surfaces.cli.paper import Paper, Part, Span, Tone
from assent.surfaces.cli.telling.calls import short, tell_outputs, tone_of, value_rows

_HEADS: dict[EffectState, str] = {
    EffectState.REQUESTED: "Not decided yet",
    EffectState.REFUSED: "Refused",
    EffectState.IN_REVIEW: "Waiting for a person",
    EffectState.GRANTED: "Approved, not carried out yet",
    EffectState.EXPIRED: "Expired",
    EffectState.REVOKED: "Revoked",
    EffectState.DISPATCHED: "Under way elsewhere",
    EffectState.SUCCEEDED: "Done",
    EffectState.FAILED: "Failed",
    EffectState.CANCELLED: "Cancelled",
    EffectState.UNKNOWN: "Unknown",
    EffectState.QUARANTINED: "Quarantined",
}


def tell_answer(paper: Paper, answer: Answer, *, call: str, streamed: bool = False) -> None:
    """What became of a call: the sentence, what came back, what to do next."""
    effect = answer.effect
    paper.line(Span(f"{_HEADS[effect.state]}:", tone_of(effect.state)), " ", *_sentence(answer, call))
    if not answer.fresh:
        paper.line(Span("This key had the call already; nothing was done now.", Tone.QUIET), indent=2)
    if answer.outcome is not None:
        tell_outputs(paper, _unseen(answer.outcome.value, streamed=streamed))
    paper.pairs(_rows(answer))


def _unseen(value: dict[str, Any], *, streamed: bool) -> dict[str, Any]:
    """A result without what was shown while it came."""
    return {k: v for k, v in value.items() if not (streamed and k in ("stdout", "stderr"))}


def _sentence(answer: Answer, call: str) -> list[Part]:
    """What is to be said after the head."""
    state, outcome, decision = answer.effect.state, answer.outcome, answer.decision
    if state is EffectState.IN_REVIEW and answer.review is not None:
        return [answer.review.question]
    if outcome is not None:
        return [*_ended(outcome, call), Span(_spent(outcome), Tone.QUIET)]
    if decision is not None:
        return [decision.reason]
    return [call, *([f" ({answer.effect.code})"] if answer.effect.code else [])]


def _ended(outcome: Outcome, call: str) -> list[Part]:
    if outcome.code == "ok":
        return [call]
    return [f"{call}: {outcome.message or outcome.code}"]


def _spent(outcome: Outcome) -> str:
    evidence = outcome.evidence
    spent_ms = evidence.ended_at_ms - evidence.started_at_ms
    spent = f"{spent_ms} ms" if spent_ms < 1000 else f"{spent_ms / 1000:.1f} s"
    confinement = evidence.attestation.confinement
    return f"  {spent}" + ("" if evidence.attestation.builtin or evidence.lane == "none" else f", {confinement}")


def _rows(answer: Answer) -> list[tuple[str, Part | list[Part]]]:
    effect, decision, review = answer.effect, answer.decision, answer.review
    rows = value_rows(answer.outcome.value) if answer.outcome is not None else []
    if effect.state is EffectState.IN_REVIEW and review is not None:
        if decision is not None:
            rows.append(("because", decision.reason))
        if review.quorum > 1:
            rows.append(("approvals", f"{len(review.approvers)} of {review.quorum}"))
        rows.append(("review", review.id))
    if decision is not None and decision.rules and effect.state is not EffectState.SUCCEEDED:
        rows.append(("rules", ", ".join(decision.rules)))
    if review is not None and review.after:
        rows.append(("afterwards", f"somebody else looks at this: review {short(review.id)}"))
    rows.append(("effect", Span(effect.id, Tone.QUIET)))
    rows.append(("next", _next(answer)))
    return rows


def _next(answer: Answer) -> str:
    """What somebody can do now."""
    effect = answer.effect
    id_ = short(effect.id)
    if answer.decision is not None and answer.decision.code == "budget_exhausted":
        again = "ask again" if effect.state is EffectState.REFUSED else f"`assent approve {id_}`"
        return f"raise the limit in `[[budgets]]`, then {again}; `assent budgets` shows how they stand"
    match effect.state:
        case EffectState.IN_REVIEW:
            review = short(answer.review.id) if answer.review else id_
            return f"`assent approve {review}` or `assent deny {review} --reason …`"
        case EffectState.GRANTED:
            return f"`assent approve {id_}` carries it out"
        case EffectState.REFUSED | EffectState.REVOKED | EffectState.FAILED:
            return f"`assent explain {id_}`"
        case EffectState.UNKNOWN:
            return f"`assent recover` looks; `assent attest {id_} --happened|--did-not-happen --reason …` settles it"
        case EffectState.QUARANTINED:
            return f"`assent explain {id_}`, then look yourself"
        case _:
            return ""


def tell_effects(paper: Paper, effects: list[Effect]) -> None:
    """One line for each effect: how it stands, what it is, its id."""
    paper.table(
        [[Span(e.state, tone_of(e.state)), e.operation, e.code, Span(e.id, Tone.QUIET)] for e in effects], indent=2
    )
