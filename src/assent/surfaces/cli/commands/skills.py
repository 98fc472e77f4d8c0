"""`assent skills`: which skills agents are told of, who vouches for them, and which cannot be used."""

from __future__ import annotations

from typing import Annotated

import msgspec
from cyclopts import Parameter

from assent.surfaces.cli.options import Common
from assent.surfaces.cli.ports import Desk, Said
from assent.surfaces.cli.telling.skills import tell_skills


async def skills(*, common: Common | None = None, desk: Annotated[Desk, Parameter(parse=False)]) -> Said:
    """List the skills that agents are told of: beside the settings and in the workspace, with their digests.

    Example: assent skills
    """
    desk.use(common)
    async with desk.open() as house:
        found = await house.runs.skills()
    known = msgspec.to_builtins(found.skills)
    document = {"skills": known, "faults": [*found.faults]}
    return Said(document=document, tell=lambda paper: tell_skills(paper, known, found.faults))
