"""The whole story of one effect: who, why, by which rules, where and how confined, what came back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assent.execution.attestations import Attestation, Known
from assent.execution.outcomes import Outcome
from assent.ledger.reviews import Review
from assent.operations.policies import RuleTexts
from assent.operations.timelines import Explanation
from assent.primitives.labels import Integrity
from assent.surfaces.cli.paper import Paper, Part, Span, Tone
from assent.surfaces.cli.telling.calls import state_span, tell_call, tell_outputs, value_rows, who
from assent.surfaces.cli.telling.records import tell_timeline

_KNOWN_TONES = {Known.OBSERVED: Tone.GOOD, Known.PROBED: Tone.GOOD, Known.ABSENT: Tone.BAD}


def tell_explanation(paper: Paper, found: Explanation, policies: Mapping[str, RuleTexts]) -> None:
    """Everything there is to say about one effect, in the order in which it came about."""
    effect = found.effect
    paper.line(
        Span(effect.operation, Tone.STRONG), ": ", state_span(effect.state),
        f" ({effect.code})" if effect.code and effect.code not in ("ok", "allowed") else "",
    )  # fmt: skip
    _tell_asked(paper, found)
    _tell_decided(paper, found, policies)
    if found.review is not None:
        _tell_review(paper, found.review, found)
    if found.outcome is not None:
        _tell_outcome(paper, found.outcome)
    paper.gap()
    paper.line(Span("In the log", Tone.STRONG))
    tell_timeline(paper, found.moments, whole=True)
    paper.gap()
    paper.pairs(
        [("effect", effect.id), ("run", effect.run), ("parent", effect.parent), ("intent", effect.intent)], indent=0
    )


def _tell_asked(paper: Paper, found: Explanation) -> None:
    paper.gap()
    accepted = found.moments[0] if found.moments else None
    at = f", {paper.when(accepted.at_ms)}" if accepted else ""
    if found.intent is None:
        principal = who(accepted.facts["principal"], accepted.facts["on_behalf_of"]) if accepted else "somebody"
        paper.line(Span("Asked", Tone.STRONG), f" by {principal}{at}; what exactly was erased")
        return
    intent = found.intent
    paper.line(Span("Asked", Tone.STRONG), f" by {who(intent.principal, intent.on_behalf_of)}{at}")
    tell_call(paper, intent.operation, intent.arguments)
    paper.pairs(word_rows(found))


def word_rows(found: Explanation) -> list[tuple[str, Part | list[Part]]]:
    """On whose word a call stands, where that is not a person's, and in what it goes beyond what was asked for."""
    known, intent = found.provenance, found.intent
    rows: list[tuple[str, Part | list[Part]]] = []
    if intent is not None:
        theirs = [name for name in intent.arguments if known.of(name).integrity is Integrity.THIRD_PARTY]
        rows.append(("third party", f"may have written: {', '.join(theirs)}" if theirs else ""))
        limited = [name for name in intent.arguments if known.of(name).readers is not None]
        rows.append(("readers", f"not everybody may read: {', '.join(limited)}" if limited else ""))
    rows.append(("beyond", Span(known.beyond, Tone.WAIT) if known.beyond else ""))
    return [row for row in rows if row[1]]


def _tell_decided(paper: Paper, found: Explanation, policies: Mapping[str, RuleTexts]) -> None:
    """Each decision with its rules: the one at acceptance, and, after a review, the one at dispatch."""
    told: set[str] = set()
    for moment in found.moments:
        if "rules" not in moment.facts:
            continue
        revision = str(moment.facts["policy"])
        policy = policies.get(revision)
        why = (
            (moment.detail or {}).get("reason", "")
            if moment.type == "effect.accepted"
            else "again, when it was dispatched"
        )
        number = f" by policy revision {policy.number}" if policy else ""
        paper.gap()
        paper.line(Span("Decided", Tone.STRONG), f"{number}: {why or 'the reason was erased'}")
        for rule in moment.facts["rules"]:
            if policy is None or rule in told or rule not in policy.rules:
                paper.line(f"rule {rule}", indent=4)
            else:
                paper.block(policy.rules[rule], indent=4)
            told.add(rule)
        paper.pairs([("revision", Span(revision, Tone.QUIET))], indent=4)


def _tell_review(paper: Paper, review: Review, found: Explanation) -> None:
    paper.gap()
    paper.line(Span("Review", Tone.STRONG), f": {review.question} ", Span(review.state, Tone.WAIT))
    rows: list[tuple[str, Part | list[Part]]] = []
    for moment in found.moments:
        if moment.type == "review.answered":
            reason = (moment.detail or {}).get("reason") or ""
            answer = "approved" if moment.facts["answer"] == "approve" else "denied"
            tone = Tone.GOOD if answer == "approved" else Tone.BAD
            said = f" by {moment.facts['by']}, {paper.when(moment.at_ms)}" + (f": {reason}" if reason else "")
            rows.append(("answer", [Span(answer, tone), said]))
    if review.quorum > 1:
        rows.append(("approvals", f"{len(review.approvers)} of {review.quorum}"))
    rows.append(("expires", paper.when(review.expires_at_ms)))
    rows.append(("review", Span(review.id, Tone.QUIET)))
    paper.pairs(rows)


def _tell_outcome(paper: Paper, outcome: Outcome) -> None:
    evidence = outcome.evidence
    spent_ms = evidence.ended_at_ms - evidence.started_at_ms
    paper.gap()
    paper.line(
        Span("Carried out", Tone.STRONG),
        f" by the {evidence.lane} lane, {paper.when(evidence.started_at_ms)}, {spent_ms} ms",
    )
    _tell_confinement(paper, evidence.attestation)
    _tell_egress(paper, evidence.facts.get("egress") or {})
    paper.gap()
    said = f": {outcome.message}" if outcome.message else ""
    paper.line(Span("Came back", Tone.STRONG), f": {outcome.ending} ({outcome.code}){said}")
    tell_outputs(paper, outcome.value)
    digests: list[tuple[str, Part | list[Part]]] = [
        (f"digest of {name}", Span(value, Tone.QUIET)) for name, value in evidence.digests.items()
    ]
    paper.pairs([*value_rows(outcome.value), *digests])


def _tell_confinement(paper: Paper, attestation: Attestation) -> None:
    paper.line(f"confinement {attestation.confinement}, by {attestation.mechanism}", indent=2)
    paper.table(
        [
            [name, Span(held.known, _KNOWN_TONES.get(held.known, Tone.WAIT)), held.value]
            for name, held in sorted(attestation.properties.items())
        ],
        indent=4,
        whole=True,
    )


def _tell_egress(paper: Paper, egress: Mapping[str, Any]) -> None:
    """Which hosts the program reached, or was kept from, through the egress broker."""
    contacts = egress.get("connections", ())
    if not contacts:
        return
    paper.line("reached", indent=2)
    paper.table([_contact(one) for one in contacts], indent=4, whole=True)
    if egress.get("left_out"):
        paper.line(f"and {egress['left_out']} more", indent=4)


def _contact(one: Mapping[str, Any]) -> list[Part]:
    allowed = one.get("verdict") == "allowed"
    moved = f"{one.get('bytes_out')} bytes out, {one.get('bytes_in')} in, {one.get('duration_ms')} ms"
    where = f"{one['host']}:{one.get('port')}" if one.get("host") else "no host"
    verdict = Span(str(one.get("verdict")), Tone.GOOD if allowed else Tone.BAD)
    said = f"{moved}, {one.get('ended')}" if allowed else str(one.get("reason"))
    return [where, verdict, str(one.get("address") or "-"), said]
