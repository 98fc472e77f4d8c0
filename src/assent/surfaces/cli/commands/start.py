"""`assent init`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from assent.surfaces.cli.options import Common
from assent.surfaces.cli.paper import Paper, Span, Tone
from assent.surfaces.cli.ports import Desk, Said


async def init(
    folder: Path = Path(),
    /,
    *,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Make a new installation: settings, starter policy, workspace.

    What exists is left as it is. The starter policy is activated, so that `assent do` works at once.

    Example: assent init my-project

    Parameters
    ----------
    folder
        Where to make it; here, when not given.
    """
    desk.use(common)
    made = desk.found(folder)
    place = desk.place
    text = desk.policy_text()
    async with desk.open(drift=False) as house:
        active = await house.policies.active_revision(place.tenant)
        number, changed = (active[1], False) if active else (0, True)
        if changed:
            done = await house.policies.activate(
                place.tenant, text.text, by=place.person, signatures=desk.policy_signatures()
            )
            number = done.number
    home = place.file.parent

    def tell(paper: Paper) -> None:
        paper.line(Span("Ready", Tone.GOOD), f" in {home}")
        paper.table([["made" if one.made else "was there", _near(one.path, home)] for one in made], indent=2)
        paper.line(f"policy revision {number} {'activated' if changed else 'was active already'}", indent=2)
        paper.gap()
        paper.line("Next:")
        cd = "" if folder.resolve() == Path.cwd() else f"cd {shlex.quote(str(folder))} && "
        paper.pairs(
            [
                ("try", f'{cd}assent do files.write --path hello.txt --content "Hello"'),
                ("", "assent do files.delete --path hello.txt"),
                ("answer", "assent inbox"),
                ("look", "assent timeline"),
            ]
        )

    document = {
        "folder": str(home),
        "paths": [{"path": str(one.path), "made": one.made} for one in made],
        "policy": {"number": number, "activated": changed},
    }
    return Said(document=document, tell=tell)


def _near(path: Path, home: Path) -> str:
    return str(path.relative_to(home)) if path.is_relative_to(home) else str(path)
