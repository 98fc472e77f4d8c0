"""`assent inbox`, `approve`, `deny`: what waits for a person, and the answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from assent.ledger.effects import EffectState
from assent.ledger.reviews import Review, ReviewState
from assent.operations.timelines import Explanation
from assent.operations.wishes import Answer
from assent.primitives.errors import Conflict, Malformed
from assent.primitives.ids import EffectId, ReviewId
from assent.surfaces.cli.exits import OF_STATE, Exit
from assent.surfaces.cli.options import Common
from assent.surfaces.cli.paper import Paper, Span, Tone
from assent.surfaces.cli.picking import pick_review
from assent.surfaces.cli.ports import Desk, House, Said
from assent.surfaces.cli.telling.answers import tell_answer
from assent.surfaces.cli.telling.calls import call_line, short
from assent.surfaces.cli.telling.inboxes import tell_briefing, tell_inbox


async def inbox(
    *,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Show what waits for a person: reviews with the exact call, unknown outcomes, approvals not carried out, and
    budgets that stand in the way.

    Example: assent inbox
    """
    desk.use(common)
    tenant = desk.place.tenant
    async with desk.open(credential=True) as house:
        await desk.caller(house)
        await house.reviews.expire(tenant)
        found = await house.timelines.inbox(tenant)
    return Said(document=msgspec.to_builtins(found), tell=lambda paper: tell_inbox(paper, found))


async def approve(
    *ids: Annotated[str, Parameter(name="ID")],
    reason: str = "",
    alike: Annotated[bool, Parameter(negative="")] = False,
    run: Annotated[bool, Parameter(negative="--no-run", name="--run")] = True,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Approve reviews; when that completes one, its call is carried out here and now.

    An approval counts for exactly the call shown in the inbox. It is decided again, by today's policy, when it runs.

    Example: assent approve 1f3a9c2e --reason "checked with ann"

    Parameters
    ----------
    ids
        The reviews, or the effects they are about: their ids, or any part of one that fits only one.
    reason
        Why; it is recorded.
    alike
        Also every open review that is like it: the same operation and asker, stopped by the same rules. Each is shown.
    run
        With --no-run, only answer: whoever asked carries the call out (`assent do … --wait` does).
    """
    desk.use(common)
    if not ids:
        raise Malformed("usage", "there is no id", hint="`assent inbox` shows them")
    async with desk.open(credential=True) as house:
        me = (await desk.caller(house)).answering()
        picked = await _picked(house, desk, ids, alike=alike)
        said = [await _approve(house, desk, review_id, by=me, reason=reason, run=run) for review_id in picked]
    return said[0] if len(said) == 1 else _joined(said)


async def show_review(
    id_: Annotated[str, Parameter(name="ID")],
    /,
    *,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Show one review whole: the call, what it would change, what it would cost, how its like ended before.

    What would change is looked up by a read in your name: policy decides whether you may see it, and it is recorded.

    Example: assent review 1f3a9c2e

    Parameters
    ----------
    id_
        The review, or the effect it is about: its id, or any part of it that fits only one.
    """
    desk.use(common)
    place = desk.place
    async with desk.open() as house:
        review_id = await pick_review(house.timelines, place.tenant, id_)
        found = await house.briefings.of(place.tenant, review_id, by=place.person)
    return Said(document=msgspec.to_builtins(found), tell=lambda paper: tell_briefing(paper, found))


async def escalate(
    id_: Annotated[str, Parameter(name="ID")],
    /,
    *,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Put a review before those it goes to when nobody answers (`@escalate_to` of its rule), now rather than then.

    Example: assent escalate 1f3a9c2e

    Parameters
    ----------
    id_
        The review, or the effect it is about: its id, or any part of it that fits only one.
    """
    desk.use(common)
    place = desk.place
    async with desk.open() as house:
        review_id = await pick_review(house.timelines, place.tenant, id_)
        review = await house.reviews.escalate(place.tenant, review_id, by=place.person)
    to = sorted({role for seat in review.demands.seats for role in seat.escalate_to})
    return Said(
        document={"review": msgspec.to_builtins(review)},
        tell=lambda paper: paper.line(Span("Escalated", Tone.WAIT), f"  to whoever has the role {', '.join(to)}"),
    )


async def deny(
    id_: Annotated[str, Parameter(name="ID")],
    /,
    *,
    reason: str,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Deny a review; one no is enough, and the call is refused.

    Example: assent deny 1f3a9c2e --reason "wrong server"

    Parameters
    ----------
    id_
        The review, or the effect it is about: its id, or any part of it that fits only one.
    reason
        Why; it is recorded, and whoever asked is told.
    """
    desk.use(common)
    place = desk.place
    async with desk.open(credential=True) as house:
        me = (await desk.caller(house)).answering()
        review_id = await pick_review(house.timelines, place.tenant, id_)
        review = await house.reviews.deny(place.tenant, review_id, by=me, reason=reason)
        about = await house.timelines.explain(place.tenant, review.effect)

    def tell(paper: Paper) -> None:
        paper.line(Span("Found wrong:" if review.after else "Denied:", Tone.BAD), f" {_call(about)}")
        paper.pairs([("reason", reason), ("effect", Span(review.effect, Tone.QUIET))])

    return Said(
        document={"review": msgspec.to_builtins(review), "effect": msgspec.to_builtins(about.effect)}, tell=tell
    )


async def _picked(house: House, desk: Desk, ids: Sequence[str], *, alike: bool) -> list[ReviewId]:
    tenant = desk.place.tenant
    picked = list(dict.fromkeys([await pick_review(house.timelines, tenant, one) for one in ids]))
    if alike:
        for one in tuple(picked):
            about = await house.timelines.explain(tenant, (await house.timelines.review(tenant, one)).effect)
            picked += [other.id for other in await house.briefings.alike(tenant, about)]
    return list(dict.fromkeys(picked))


async def _approve(house: House, desk: Desk, review_id: ReviewId, *, by: str, reason: str, run: bool) -> Said:
    place = desk.place
    review = await house.timelines.review(place.tenant, review_id)
    if review.state is not ReviewState.APPROVED:
        review = await house.reviews.approve(place.tenant, review_id, by=by, reason=reason)
    answer = None
    if run and review.state is ReviewState.APPROVED and not review.after:
        answer = await _release(house, desk, review.effect)
    about = await house.timelines.explain(place.tenant, review.effect)
    return _approved(review, answer, about, streamed=desk.live_end())


def _joined(said: Sequence[Said]) -> Said:
    """Several answers as one: it went as well as the worst of them."""

    def tell(paper: Paper) -> None:
        for one in said:
            one.tell(paper)

    return Said(document={"answers": [one.document for one in said]}, tell=tell, exit=max(one.exit for one in said))


async def _release(house: House, desk: Desk, effect: EffectId) -> Answer:
    """Carry an approved call out, unless whoever asked is doing so already: then tell how that ended."""
    tenant = desk.place.tenant
    try:
        return await house.gate.release(tenant, effect, on_event=desk.live)
    except Conflict as conflict:
        if conflict.code != "effect_moved":
            raise
    found = await house.timelines.explain(tenant, effect)
    while found.effect.state is EffectState.DISPATCHED:
        await desk.pause()
        found = await house.timelines.explain(tenant, effect)
    return Answer(effect=found.effect, decision=None, outcome=found.outcome, review=found.review)


def _approved(review: Review, answer: Answer | None, about: Explanation, *, streamed: bool) -> Said:
    document: dict[str, Any] = {"review": msgspec.to_builtins(review), "effect": msgspec.to_builtins(about.effect)}
    if answer is not None:
        document |= msgspec.to_builtins(answer) | {"review": document["review"]}
        return Said(
            document=document,
            tell=lambda paper: tell_answer(paper, answer, call=_call(about), streamed=streamed),
            exit=OF_STATE[answer.effect.state],
        )
    complete = review.state is ReviewState.APPROVED

    def tell(paper: Paper) -> None:
        paper.line(Span("Found right:" if review.after else "Approved:", Tone.GOOD), f" {_call(about)}")
        if complete and review.after:
            paper.line("It was done already; that it was looked at is on record.", indent=2)
        elif complete:
            paper.line(f"Not carried out yet; `assent approve {short(review.id)}` does it.", indent=2)
        else:
            paper.line(f"{len(review.approvers)} of {review.quorum} approvals; {_wanted(review)} too.", indent=2)

    return Said(document=document, tell=tell, exit=Exit.DONE if complete else Exit.WAITING)


def _wanted(review: Review) -> str:
    """Who else has to approve."""
    roles = sorted({role for seat in review.demands.seats for role in seat.roles})
    return f"somebody with the role {' or '.join(roles)} must approve" if roles else "somebody else must approve"


def _call(about: Explanation) -> str:
    return call_line(about.effect.operation, about.intent.arguments if about.intent else {})
