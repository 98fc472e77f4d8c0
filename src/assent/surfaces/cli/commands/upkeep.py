"""`assent doctor`, `recover`, `attest`: what is wrong, and settling what nobody knows the end of."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import msgspec
from cyclopts import Parameter

from assent.ledger.effects import EffectState
from assent.operations.health import Finding, Grade
from assent.primitives.errors import Malformed
from assent.surfaces.cli.exits import OF_STATE, Exit
from assent.surfaces.cli.options import Common
from assent.surfaces.cli.paper import Paper
from assent.surfaces.cli.picking import pick_effect
from assent.surfaces.cli.ports import Desk, Said
from assent.surfaces.cli.telling.answers import tell_effects
from assent.surfaces.cli.telling.calls import state_span
from assent.surfaces.cli.telling.health import tell_finding, tell_sum


async def doctor(
    *,
    fresh: Annotated[bool, Parameter(negative="")] = False,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Look at everything this installation needs, and say how to mend what is wrong.

    Example: assent doctor --fresh

    Parameters
    ----------
    fresh
        Attack the sandbox again, even when the last result still holds.
    """
    desk.use(common)
    findings: list[Finding] = []
    async for finding in desk.examine(fresh=fresh):
        findings.append(finding)
        desk.say(partial(tell_finding, finding=finding))
    failed = any(finding.grade is Grade.FAIL for finding in findings)
    return Said(
        document={"ok": not failed, "findings": [msgspec.to_builtins(finding) for finding in findings]},
        tell=lambda paper: tell_sum(paper, findings),
        exit=Exit.FAILED if failed else Exit.DONE,
    )


async def recover(
    *,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Take over from nodes that are gone, and look at every effect whose outcome is unknown.

    An effect is never blindly repeated: it is observed, or sent again only where that changes nothing.

    Example: assent recover
    """
    desk.use(common)
    tenant = desk.place.tenant
    async with desk.open() as house:
        lost = await house.recovery.fence_out_the_dead()
        looked = await house.recovery.reconcile(tenant)
        left = await house.timelines.unknown(tenant)

    def tell(paper: Paper) -> None:
        if not looked and not left:
            paper.line("Nothing is unknown.")
            return
        paper.line(f"Looked at {len(looked)}.")
        tell_effects(paper, looked)
        if left:
            paper.line(
                f"{len(left)} still unknown; `assent attest ID --happened|--did-not-happen --reason …` settles one."
            )

    document = {
        name: [msgspec.to_builtins(e) for e in found]
        for name, found in (("lost", lost), ("looked", looked), ("left", left))
    }
    return Said(document=document, tell=tell, exit=Exit.UNKNOWN if left else Exit.DONE)


async def attest(
    effect: Annotated[str, Parameter(name="EFFECT")],
    /,
    *,
    happened: Annotated[bool, Parameter(negative="")] = False,
    did_not_happen: Annotated[bool, Parameter(negative="")] = False,
    reason: str,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Settle an unknown effect on your word: you looked, and you know.

    Example: assent attest 1f3a9c2e --happened --reason "the server has the report"

    Parameters
    ----------
    effect
        The effect's id, or any part of it that fits only one.
    happened
        It happened.
    did_not_happen
        It did not happen.
    reason
        How you know; it is recorded.
    """
    desk.use(common)
    if happened == did_not_happen:
        raise Malformed("usage", "say what you know", hint="give either --happened or --did-not-happen")
    place = desk.place
    async with desk.open() as house:
        id_ = await pick_effect(house.timelines, place.tenant, effect)
        settled = await house.recovery.attest(place.tenant, id_, happened=happened, by=place.person, reason=reason)

    def tell(paper: Paper) -> None:
        paper.line("Settled: ", state_span(settled.state), f"  {settled.operation}, on the word of {place.person}")
        paper.pairs([("effect", settled.id)])

    code = Exit.DONE if settled.state in (EffectState.SUCCEEDED, EffectState.FAILED) else OF_STATE[settled.state]
    return Said(document={"effect": msgspec.to_builtins(settled)}, tell=tell, exit=code)
