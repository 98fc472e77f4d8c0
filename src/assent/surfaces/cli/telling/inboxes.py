"""The inbox: what waits for a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from assent.ledger.reviews import Review
from assent.operations.briefings import Briefing
from assent.operations.policy_changes import Proposal
from assent.operations.timelines import Explanation, Inbox
from assent.surfaces.cli.paper import Paper, Part, Span, Tone
from assent.surfaces.cli.telling.budgets import tell_stops
from assent.surfaces.cli.telling.calls import call_line, short, tell_call, who
from assent.surfaces.cli.telling.explaining import word_rows
from assent.surfaces.cli.telling.replays import tell_backtest, tell_comparison

_MORE = "shows what it would change, and how its like ended"


def tell_inbox(paper: Paper, inbox: Inbox) -> None:
    """Reviews with the exact call each, what nobody can account for, what is approved and not carried out, and budgets
    that stand in the way."""
    if not (inbox.reviews or inbox.afterwards or inbox.unknown or inbox.granted or inbox.stops):
        paper.line("Nothing waits for you.")
        return
    for about in inbox.reviews:
        tell_card(paper, about, more=True)
        paper.gap()
    _tell_alike(paper, inbox.reviews)
    for about in inbox.afterwards:
        tell_card(paper, about)
        paper.gap()
    _tell_rest(paper, "Outcome unknown", inbox.unknown, "`assent recover` looks; `assent attest ID` settles", Tone.LOST)
    _tell_rest(paper, "Approved, not carried out", inbox.granted, "`assent approve ID` carries it out", Tone.WAIT)
    tell_stops(paper, inbox.stops)


def tell_card(paper: Paper, about: Explanation, *, more: bool = False) -> None:
    """All that a person must know to answer a review: the exact call, on whose word it stands, and which rules ask;
    and where there is `more`."""
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
        ("answered by", _seats(review)),
        ("expires" if not review.after else "answer by", paper.when(review.expires_at_ms)),
        ("answer", f"`assent approve {short(review.id)}` or `assent deny {short(review.id)} --reason …`"),
        (
            "more",
            f"`assent review {short(review.id)}` shows what it would change, and how its like ended" if more else "",
        ),
        ("review", Span(review.id, Tone.QUIET)),
    ]
    paper.pairs(rows)


def tell_briefing(paper: Paper, found: Briefing) -> None:
    """A card with what happened to its like, what would change, and what it would hold."""
    if found.about.review is None:
        return
    tell_card(paper, found.about)
    past = found.precedents
    rows: list[tuple[str, Part | list[Part]]] = []
    if past.last is not None:
        counts = f"{past.approved} approved, {past.denied} denied, {past.expired} expired"
        last = f"; the last {past.last.state}" + (f": {past.last.reason}" if past.last.reason else "")
        rows.append(("its like before", counts + last))
    if found.alike:
        rows.append(("like it", f"{len(found.alike)} more wait; `assent approve ID --alike` answers all of them"))
    rows.append(("would hold", ", ".join(f"{one.amount} {one.unit} of {one.scope}" for one in found.holds)))
    paper.pairs(rows)
    if found.change is not None:
        paper.gap()
        head = f"What would change in {found.change.path}"
        paper.line(Span(head, Tone.STRONG), f": {found.change.unknown}" if found.change.unknown else "")
        paper.block(found.change.diff or "nothing", lines_max=1_000)
    if found.proposal is not None:
        tell_proposal(paper, found.proposal)


def tell_proposal(paper: Paper, proposal: Proposal) -> None:
    """What a policy that is asked for would change."""
    paper.gap()
    paper.line(Span("What would change in the policy", Tone.STRONG), f": {proposal.over}" if proposal.over else "")
    paper.block(proposal.diff or "nothing", lines_max=10_000)
    if proposal.comparison is not None:
        paper.gap()
        tell_comparison(paper, proposal.comparison)
    if proposal.backtest is not None:
        paper.gap()
        tell_backtest(paper, proposal.backtest)


def _seats(review: Review) -> str:
    """Who has to be among those who answer, in words; empty when anybody may."""
    told = []
    for seat in review.demands.seats:
        roles = " or ".join((*seat.roles, *seat.escalate_to) if review.escalated else seat.roles)
        told.append(f"{seat.quorum} with the role {roles}")
    if review.demands.apart:
        told.append("nobody in whose name it is asked")
    if review.escalated:
        told.append("escalated, since nobody answered")
    return "; ".join(told)


def _tell_alike(paper: Paper, found: Sequence[Explanation]) -> None:
    """How many of the open reviews are like another, so that they can be answered together."""
    kinds = Counter(
        (one.effect.operation, one.review.requested_by, one.rules) for one in found if one.review is not None
    )
    for (operation, asker, _), count in kinds.items():
        if count > 1:
            told = f"{count} of these are alike ({operation} by {asker[0]}): `assent approve ID --alike` answers them"
            paper.line(Span(told, Tone.QUIET))
            paper.gap()


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
