"""`assent timeline`, `explain`, `verify`: what the record says, and whether it is whole."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from assent.operations.policies import RuleTexts
from assent.operations.timelines import Moment
from assent.primitives.errors import Malformed, NotFound
from assent.surfaces.cli.exits import Exit
from assent.surfaces.cli.options import Common
from assent.surfaces.cli.picking import pick_effect, pick_run
from assent.surfaces.cli.ports import Desk, House, Said
from assent.surfaces.cli.telling.explaining import tell_explanation
from assent.surfaces.cli.telling.health import tell_report
from assent.surfaces.cli.telling.records import tell_timeline

LIMIT = 50
LIMIT_MAX = 1_000


async def timeline(
    about: Annotated[str, Parameter(name="RUN|EFFECT")] = "",
    /,
    *,
    limit: int = LIMIT,
    follow: Annotated[bool, Parameter(negative="")] = False,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Tell what happened: everything lately, or one run, or one effect.

    Example: assent timeline --limit 20

    Parameters
    ----------
    about
        A run's name, or an effect's id or part of it. Left out: the newest entries of the log.
    limit
        At most this many entries, the newest (1 to 1000).
    follow
        Go on telling what happens, until Ctrl-C. Not with --json.
    """
    desk.use(common)
    if not 1 <= limit <= LIMIT_MAX:
        raise Malformed("usage", f"`--limit {limit}` is not between 1 and {LIMIT_MAX}", hint="write `--limit 50`")
    if follow and (desk.json or about):
        raise Malformed("usage", "`--follow` goes with neither --json nor a run or effect", hint="leave one out")
    tenant = desk.place.tenant
    async with desk.open() as house:
        if not about:
            moments = await house.timelines.newest(tenant, limit=limit)
        else:
            moments = (await _about(house, desk, about))[-limit:]
        if follow:
            await _follow(house, desk, moments)
    return Said(
        document={"moments": [msgspec.to_builtins(moment) for moment in moments]},
        tell=lambda paper: tell_timeline(paper, moments),
    )


async def explain(
    effect: Annotated[str, Parameter(name="EFFECT")],
    /,
    *,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Explain one effect: who asked, which rules decided, who approved, where it ran, what came back.

    Example: assent explain 1f3a9c2e

    Parameters
    ----------
    effect
        The effect's id, or any part of it that fits only one.
    """
    desk.use(common)
    tenant = desk.place.tenant
    async with desk.open() as house:
        found = await house.timelines.explain(tenant, await pick_effect(house.timelines, tenant, effect))
        policies: dict[str, RuleTexts] = {}
        for revision in {str(m.facts["policy"]) for m in found.moments if m.facts.get("policy")}:
            told = await house.policies.told(tenant, revision)
            if told is not None:
                policies[revision] = told
    document = msgspec.to_builtins(found) | {
        "policies": {
            revision: {
                "number": told.number,
                "rules": {r: told.rules[r] for r in _rules(found.moments) if r in told.rules},
            }
            for revision, told in policies.items()
        }
    }
    return Said(document=document, tell=lambda paper: tell_explanation(paper, found, policies))


async def verify(
    *,
    checkpoint: Path | None = None,
    all_: Annotated[bool, Parameter(name="--all", negative="")] = False,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Verify the record: every entry, signature, payload and row. Reads only.

    Example: assent verify --checkpoint /mnt/backup/checkpoints.txt

    Parameters
    ----------
    checkpoint
        A file of checkpoints kept elsewhere; only with one is a rolled-back database noticed.
    all_
        Every tenant in the database, not only this one.
    """
    desk.use(common)
    tenant = None if all_ else desk.place.tenant
    report = await desk.verification().verify(tenant, trusted=str(checkpoint) if checkpoint else "")

    document = msgspec.to_builtins(report) | {"ok": report.ok}
    return Said(
        document=document, tell=partial(tell_report, report=report), exit=Exit.DONE if report.ok else Exit.FAILED
    )


async def checkpoint(
    *,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Keep a signed checkpoint of the record as it is now, and print it.

    What is kept on another machine shows when somebody rolls this one back: `assent verify --checkpoint FILE`.

    Example: assent checkpoint >> /mnt/backup/checkpoints.txt
    """
    desk.use(common)
    async with desk.open() as house:
        note = await house.checkpoints.keep(desk.place.tenant)
    return Said(document={"checkpoint": note}, tell=lambda paper: paper.block(note, indent=0))


async def _about(house: House, desk: Desk, text: str) -> list[Moment]:
    tenant = desk.place.tenant
    try:
        return await house.timelines.of_run(tenant, text)
    except NotFound:
        run = await pick_run(house.timelines, tenant, text)
    if run:
        return await house.timelines.of_run(tenant, run)
    return await house.timelines.of_effect(tenant, await pick_effect(house.timelines, tenant, text))


async def _follow(house: House, desk: Desk, moments: list[Moment]) -> None:
    """Tell moments as they come; ends with Ctrl-C."""
    last = -1
    while True:
        if moments:
            last = moments[-1].seq
            desk.say(partial(tell_timeline, moments=moments))
        else:
            await desk.pause()
        moments = await house.timelines.latest(desk.place.tenant, after=last)


def _rules(moments: tuple[Moment, ...]) -> list[str]:
    return list(dict.fromkeys(rule for moment in moments for rule in moment.facts.get("rules") or []))
