"""`assent halt`, `lift`, `halts`: stopping an agent, a connector or everything at once."""

from __future__ import annotations

from typing import Annotated

import msgspec
from cyclopts import Parameter

from assent.operations.halts import Halt
from assent.surfaces.cli.options import Common
from assent.surfaces.cli.paper import Paper, Part, Span, Tone
from assent.surfaces.cli.ports import Desk, Said

Scope = Annotated[str, Parameter(name="SCOPE")]
Own = Annotated[Desk, Parameter(parse=False)]


async def halt(scope: Scope = "everything", /, *, reason: str, common: Common | None = None, desk: Own) -> Said:
    """Stop an agent, a connector or everything at once, from the next dispatch on, on every node of this database.

    What runs already is not broken off. Nothing is lost: what was approved stays approved, and runs wait.

    Example: assent halt agent:helper --reason "it writes to the wrong folder"

    Parameters
    ----------
    scope
        `everything`, `agent:NAME`, `service:NAME`, `person:NAME` or `connector:NAME`.
    reason
        Why. It stands in the log.
    """
    desk.use(common)
    async with desk.open(drift=False) as house:
        made = await house.halts.halt(desk.place.tenant, scope, by=desk.place.person, reason=reason)

    def tell(paper: Paper) -> None:
        paper.line(Span("Halted", Tone.BAD), f"  {made.scope}")
        paper.line(f"`assent lift {made.scope} --reason …` lets it go on", indent=2)

    return Said(document={"halted": msgspec.to_builtins(made)}, tell=tell)


async def lift(scope: Scope = "everything", /, *, reason: str, common: Common | None = None, desk: Own) -> Said:
    """Let go on what was halted.

    Example: assent lift agent:helper --reason "mended"

    Parameters
    ----------
    scope
        What was halted, as `assent halts` lists it.
    reason
        Why. It stands in the log.
    """
    desk.use(common)
    async with desk.open(drift=False) as house:
        made = await house.halts.lift(desk.place.tenant, scope, by=desk.place.person, reason=reason)
    return Said(
        document={"lifted": msgspec.to_builtins(made)},
        tell=lambda paper: paper.line(Span("Lifted", Tone.GOOD), f"  {made.scope}"),
    )


async def halts(*, common: Common | None = None, desk: Own) -> Said:
    """List what is halted: by whom, since when, and why.

    Example: assent halts
    """
    desk.use(common)
    async with desk.open(drift=False) as house:
        found = await house.halts.standing(desk.place.tenant)
    return Said(document={"halts": msgspec.to_builtins(found)}, tell=lambda paper: _tell(paper, found))


def _tell(paper: Paper, found: list[Halt]) -> None:
    if not found:
        paper.line("Nothing is halted.")
        return
    rows: list[list[Part]] = [
        [Span(one.scope, Tone.BAD), f"by {one.by}", paper.when(one.since_ms), one.reason] for one in found
    ]
    paper.table(rows)
