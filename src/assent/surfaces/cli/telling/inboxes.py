"""The inbox: what waits for a person."""

from __future__ import annotations

from assent.operations.timelines import Explanation, Inbox
from assent.surfaces.cli.paper import Paper, Part, Span, Tone
from assent.surfaces.cli.telling.budgets import tell_stops
from assent.surfaces.cli.telling.calls import call_line, short, tell_call, who
from assent.surfaces.cli.telling.explaining import word_rows


def tell_inbox(paper: Paper, inbox: Inbox) -> None:
    """Reviews with the exact call each, what nobody can account for, what is approved and not carried out, and budgets
    that stand in the way."""
    if not (inbox.reviews or inbox.unknown or inbox.granted or inbox.stops):
        paper.line("Nothing waits for you.")
        return
    for about in inbox.reviews:
        tell_card(paper, about)
        paper.gap()
    _tell_rest(paper, "Outcome unknown", inbox.unknown, "`assent recover` looks; `assent attest ID` settles", Tone.LOST)
    _tell_rest(paper, "Approved, not carried out", inbox.granted, "`assent approve ID` carries it out", Tone.WAIT)
    tell_stops(paper, inbox.stops)


def tell_card(paper: Paper, about: Explanation) -> None:
    """All that a person must know to answer a review: the exact call, on whose word it stands, and which rules ask."""
    review = about.review
    assert review is not None, "there is a card for a review"
    paper.line(Span(review.question, Tone.WAIT))
    if about.intent is not None:
        tell_call(paper, about.intent.operation, about.intent.arguments)
    rows: list[tuple[str, Part | list[Part]]] = [
        ("asked by", f"{who(review.requested_by[0], review.requested_by[1:])}, {paper.when(review.opened_at_ms)}"),
        *word_rows(about),
        ("because", about.reason),
    ]
    if review.quorum > 1:
        rows.append(("approvals", f"{len(review.approvers)} of {review.quorum}: {', '.join(review.approvers)}"))
    rows += [
        ("expires", paper.when(review.expires_at_ms)),
        ("answer", f"`assent approve {short(review.id)}` or `assent deny {short(review.id)} --reason …`"),
        ("review", Span(review.id, Tone.QUIET)),
    ]
    paper.pairs(rows)


def _tell_rest(paper: Paper, head: str, found: tuple[Explanation, ...], hint: str, tone: Tone) -> None:
    if not found:
        return
    paper.line(Span(f"{head} ({len(found)})", tone), f"  {hint}")
    paper.table(
        [
            [
                Span(short(about.effect.id), Tone.QUIET),
                paper.clock(about.moments[-1].at_ms) if about.moments else "",
                call_line(about.effect.operation, about.intent.arguments if about.intent else {}),
            ]
            for about in found
        ],
        indent=2,
    )
    paper.gap()
