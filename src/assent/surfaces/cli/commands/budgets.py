"""`assent budgets`, `dismiss`: what is used of every limit, and having seen what one of them stopped."""

from __future__ import annotations

from typing import Annotated

import msgspec
from cyclopts import Parameter

from assent.surfaces.cli.options import Common
from assent.surfaces.cli.paper import Paper, Span, Tone
from assent.surfaces.cli.picking import pick_effect
from assent.surfaces.cli.ports import Desk, Said
from assent.surfaces.cli.telling.budgets import tell_budgets
from assent.surfaces.cli.telling.calls import call_line


async def budgets(
    scope: str = "",
    /,
    *,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """List budgets: what is used and held of every limit, in the day or month that runs now.

    Example: assent budgets agent:writer

    Parameters
    ----------
    scope
        Only scopes that begin so: `agent:`, `run:tidy-up`.
    """
    desk.use(common)
    tenant = desk.place.tenant
    async with desk.open() as house:
        found = await house.budgets.listed(tenant, scope)
    return Said(
        document={"budgets": msgspec.to_builtins(found)}, tell=lambda paper: tell_budgets(paper, found, scope=scope)
    )


async def dismiss(
    effect: Annotated[str, Parameter(name="EFFECT")],
    /,
    *,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Say that you have seen what a budget stopped. It leaves the inbox; the budget stays as it is.

    Example: assent dismiss 1f3a9c2e

    Parameters
    ----------
    effect
        The stopped effect's id, or any part of it that fits only one.
    """
    desk.use(common)
    place = desk.place
    async with desk.open() as house:
        id_ = await pick_effect(house.timelines, place.tenant, effect)
        await house.budgets.dismiss(place.tenant, id_, by=place.person)
        about = await house.timelines.explain(place.tenant, id_)

    def tell(paper: Paper) -> None:
        paper.line(
            Span("Seen:", Tone.STRONG),
            f" {call_line(about.effect.operation, about.intent.arguments if about.intent else {})}",
        )
        paper.pairs([("effect", Span(about.effect.id, Tone.QUIET))])

    return Said(document={"effect": msgspec.to_builtins(about.effect)}, tell=tell)
