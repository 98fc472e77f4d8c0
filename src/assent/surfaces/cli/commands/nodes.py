"""`assent node …`: other machines that carry orders for this one. Invite them, let them in, serve as one."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from assent.execution.attestations import LADDER, ConfinementClass
from assent.primitives.errors import Malformed
from assent.surfaces.cli.options import Common
from assent.surfaces.cli.paper import Paper, Span, Tone
from assent.surfaces.cli.ports import Desk, Said
from assent.surfaces.cli.telling.nodes import tell_guests, tell_news

HOME = Path("assent-guest")


async def invite(
    name: Annotated[str, Parameter(name="NAME")],
    /,
    *,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Invite another machine to carry orders, under the name of a target that the settings declare.

    The token lets one machine in, once. Whoever had the name before is out from now on.

    Example: assent node invite lab

    Parameters
    ----------
    name
        The name, as in `[targets.NAME]` with `kind = "guest"`.
    """
    desk.use(common)
    async with desk.open() as house:
        made = await house.guests.invite(name)
    command = f"assent node join --hub {made.hub} --token {made.token}"

    def tell(paper: Paper) -> None:
        paper.line(Span("Invited", Tone.GOOD), f"  {name}, until {paper.when(made.expires_at_ms)}")
        paper.line("On the other machine, with an address that reaches this one:", indent=2)
        paper.block(command)
        paper.line("Here, as long as it is to be let in and to serve:", indent=2)
        paper.block("assent node serve")

    return Said(document={"invitation": msgspec.to_builtins(made), "command": shlex.split(command)}, tell=tell)


async def list_guests(
    *,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """List the machines that were invited or have joined: whether they are heard from, and what they have.

    Example: assent node list
    """
    desk.use(common)
    async with desk.open() as house:
        guests = await house.guests.all()
    shown = ("name", "state", "alive", "key", "lanes", "described_at_ms", "seen_at_ms", "waiting", "running", "late")
    document = [{field: getattr(one, field) for field in shown} for one in guests]
    return Said(document={"guests": document}, tell=lambda paper: tell_guests(paper, guests))


async def remove(
    name: Annotated[str, Parameter(name="NAME")],
    /,
    *,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Turn a machine out: its certificate lets it in no more, and what it was carrying is lost.

    Example: assent node remove lab

    Parameters
    ----------
    name
        The guest's name.
    """
    desk.use(common)
    async with desk.open() as house:
        await house.guests.remove(name)
    return Said(document={"removed": name}, tell=lambda paper: paper.line(Span("Removed", Tone.GOOD), f"  {name}"))


async def serve(
    *,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Let guests in and hand them their orders, until Ctrl-C. With --json, one document a line.

    Where it listens is in the settings: `[hub] listen`.

    Example: assent node serve
    """
    desk.use(common)
    told = partial(_tell, desk)
    with suppress(asyncio.CancelledError):  # a signal: that is how it ends
        async with desk.open_hub(told) as address:
            told({"what": "listening", "address": address})
            await asyncio.Event().wait()
    return Said(document={"what": "stopped"}, tell=lambda paper: paper.line("Stopped."))


async def join(
    *,
    hub: str = "",
    token: str = "",
    home: Path = HOME,
    floor: str = ConfinementClass.NAMESPACED.value,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """Carry orders for another machine, until Ctrl-C. With --json, one document a line.

    The first time with the invitation's token, which is used up by that; later without.

    Example: assent node join --hub 192.0.2.1:7743 --token assent-guest.lab.…

    Parameters
    ----------
    hub
        The address of the machine that invites, as `host:port`; later only if it has moved.
    token
        The invitation.
    home
        The folder of this guest: its key, its workspace, what it has used up.
    floor
        The least confinement in which anything is carried here, whatever is asked.
    """
    desk.use(common)
    if floor not in LADDER:
        raise Malformed("usage", f"`{floor[:40]}` is no floor", hint=f"one of {', '.join(LADDER[:-1])}")
    folder, told = _whole(home), partial(_tell, desk)
    if token:
        name = await desk.join_hub(folder, hub=hub, token=token)
        told({"what": "joined", "guest": name})
    with suppress(asyncio.CancelledError):  # a signal: that is how it ends
        await desk.serve_as_guest(folder, hub=hub, least=ConfinementClass(floor), tell=told)
    return Said(document={"what": "stopped"}, tell=lambda paper: paper.line("Stopped."))


def _whole(home: Path) -> Path:
    """The folder itself, without links on the way: its workspace is shown to what runs here."""
    return home.resolve()


def _tell(desk: Desk, news: Mapping[str, str]) -> None:
    if desk.json:
        desk.raw(msgspec.json.encode({name: text for name, text in news.items() if text}) + b"\n")
    else:
        desk.say(partial(tell_news, news=news))
