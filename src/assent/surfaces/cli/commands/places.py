"""`assent lanes`, `targets`, `run-in`: where things run, what carries them there, and running something there."""

from __future__ import annotations

from typing import Annotated

import msgspec
from cyclopts import Parameter

from assent.operations.wishes import TYPED, Wish
from assent.surfaces.cli.exits import OF_STATE
from assent.surfaces.cli.options import Common
from assent.surfaces.cli.ports import Desk, Said
from assent.surfaces.cli.telling.answers import tell_answer
from assent.surfaces.cli.telling.calls import call_line
from assent.surfaces.cli.telling.places import tell_lanes, tell_targets


async def lanes(
    *,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Show the lanes of every target: what each carries, and what can be said to it while it runs.

    Example: assent lanes --json
    """
    desk.use(common)
    async with desk.open() as house:
        found = {
            target: {name: lane.capabilities for name, lane in sorted(there.items())}
            for target, there in house.targets.lanes().items()
        }
    return Said(document={"targets": msgspec.to_builtins(found)}, tell=lambda paper: tell_lanes(paper, found))


async def targets(
    *,
    fresh: Annotated[bool, Parameter(negative="")] = False,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Show where orders can run: the classes of each target, each property and how it is known, and why not more.

    Every mechanism is tried by building a sandbox and reading it.

    Example: assent targets --fresh

    Parameters
    ----------
    fresh
        Attack the sandboxes again, even when the last result still holds.
    """
    desk.use(common)
    async with desk.open() as house:
        found = await house.targets.describe(fresh=fresh)
    return Said(
        document={"targets": [{**msgspec.to_builtins(one), "held": [*one.held]} for one in found]},
        tell=lambda paper: tell_targets(paper, found),
    )


async def run_in(
    target: Annotated[str, Parameter(name="TARGET")],
    /,
    *argv: Annotated[str, Parameter(name="ARGV")],
    cwd: str = ".",
    asker: Annotated[str, Parameter(name="--as")] = "",
    key: str = "",
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Run one program on one target, and show its output while it runs. It is a call of `shell.run` like any other.

    Example: assent run-in local -- python3 -c "print(2 + 2)"

    Parameters
    ----------
    target
        Where, as `assent targets` names it. It runs there or not at all.
    argv
        The program and its arguments, exactly; no shell reads them.
    cwd
        The folder to run in, relative to the workspace.
    asker
        Ask as a declared agent or service on your behalf, or as yourself (else: defaults.as).
    key
        Idempotency key: the same call with the same key is done once.
    """
    desk.use(common)
    principal, on_behalf_of = desk.place.asking(asker)
    arguments = {"argv": [*argv], "cwd": cwd, "target": target}
    wish = Wish(
        tenant=desk.place.tenant,
        operation="shell.run",
        arguments=arguments,
        principal=principal,
        on_behalf_of=on_behalf_of,
        key=key,
        provenance=TYPED,
    )
    async with desk.open() as house:
        answer = await house.gate.perform(wish, on_event=desk.live)
    streamed = desk.live_end()
    line = call_line("shell.run", arguments)
    return Said(
        document=msgspec.to_builtins(answer),
        tell=lambda paper: tell_answer(paper, answer, call=line, streamed=streamed),
        exit=OF_STATE[answer.effect.state],
    )
