"""`assent agents`, `assent sessions …`, `assent runs …`: look at agents' work, and carry it on."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from cyclopts import Parameter

from assent.operations.agents import Served
from assent.operations.runs.views import RunView
from assent.primitives.errors import Conflict, Malformed, NotFound
from assent.surfaces.cli.commands.talking import CHANNEL, OF_RUN, Talk, agent_named
from assent.surfaces.cli.exits import Exit
from assent.surfaces.cli.options import Common
from assent.surfaces.cli.paper import Paper
from assent.surfaces.cli.ports import Desk, House, Said
from assent.surfaces.cli.telling.budgets import tell_budgets
from assent.surfaces.cli.telling.runs import (
    tell_agents,
    tell_retold,
    tell_run,
    tell_runs,
    tell_sessions,
)

PART_MIN = 4
RUNS_SHOWN = 10
Name = Annotated[str, Parameter(name="NAME")]
Id = Annotated[str, Parameter(name="ID")]
Own = Annotated[Desk, Parameter(parse=False)]


async def agents(name: Name = "", /, *, common: Common | None = None, desk: Own) -> Said:
    """List the agents that can be talked to: their models, their tools, whom they hand work to, and who serves them.

    With a name: that one, with its instructions, its mandate, what is used of its budgets, and its newest runs.

    An agent is served while a process of this installation that has it is alive: how it is, and until when that is sure
    without another sign of life, comes from the registry. This command itself does not count.

    Example: assent agents

    Parameters
    ----------
    name
        One agent.
    """
    desk.use(common)
    if name:
        return await _one(desk, name)
    async with desk.open() as house:
        known = house.runs.agents
        served = {one.name: one for one in await house.agents.served(desk.place.tenant) if not one.here}
    found = [{**msgspec.to_builtins(known[name]), "served": _served(served.get(name))} for name in sorted(known)]
    others = [{"name": one.name, "served": _served(one)} for one in served.values() if one.name not in known]
    now_ms = desk.now_ms()
    return Said(
        document={"agents": found, "others": others}, tell=lambda paper: tell_agents(paper, found, others, now_ms)
    )


async def _one(desk: Desk, name: str) -> Said:
    """Everything about one agent."""
    tenant = desk.place.tenant
    async with desk.open() as house:
        known = msgspec.to_builtins(house.runs.agents[agent_named(house, name)])
        served = {one.name: one for one in await house.agents.served(tenant) if not one.here}
        budgets = await house.budgets.listed(tenant, f"agent:{name}")
        runs = [run for run in await house.runs.newest(tenant) if run.agent == name][-RUNS_SHOWN:]
    known["served"] = _served(served.get(name))
    now_ms = desk.now_ms()

    def tell(paper: Paper) -> None:
        tell_agents(paper, [known], (), now_ms)
        paper.pairs(
            [
                ("passes on", ", ".join(known["delegated"])),
                ("memory", ", ".join(known["memory"])),
                ("mandate", ", ".join(known["mandate"])),
                ("turns", f"at most {known['turns_max']}"),
                ("asks", f"at most {known['asks_max']}" if known["asks_max"] else ""),
            ]
        )
        if known["instructions"]:
            paper.gap()
            paper.block(known["instructions"], indent=2)
        if budgets:
            paper.gap()
            tell_budgets(paper, budgets, scope=f"agent:{name}")
        paper.gap()
        tell_runs(paper, runs)

    document = {"agent": known, "budgets": msgspec.to_builtins(budgets), "runs": msgspec.to_builtins(runs)}
    return Said(document=document, tell=tell)


def _served(one: Served | None) -> dict[str, Any] | None:
    return None if one is None else {"node": one.node, "health": one.health.value, "lease_until_ms": one.until_ms}


async def list_sessions(*, common: Common | None = None, desk: Own) -> Said:
    """List the conversations.

    Example: assent sessions list
    """
    desk.use(common)
    async with desk.open() as house:
        found = await house.sessions.newest(desk.place.tenant)
    return Said(document={"sessions": msgspec.to_builtins(found)}, tell=lambda paper: tell_sessions(paper, found))


async def show_session(id_: Id, /, *, common: Common | None = None, desk: Own) -> Said:
    """Show a conversation and its runs.

    Example: assent sessions show main

    Parameters
    ----------
    id_
        The session: its id, or any part of it that fits only one.
    """
    desk.use(common)
    async with desk.open() as house:
        session = await _session(house, desk, id_)
        seen = await house.sessions.view(desk.place.tenant, session)
        runs = await house.runs.newest(desk.place.tenant, session=session)
    document = {"session": msgspec.to_builtins(seen), "runs": msgspec.to_builtins(runs)}

    def tell(paper: Any) -> None:  # noqa: ANN401 (the paper)
        tell_sessions(paper, [seen])
        tell_runs(paper, runs)

    return Said(document=document, tell=tell)


async def reset_session(id_: Id, /, *, common: Common | None = None, desk: Own) -> Said:
    """Begin a conversation afresh. What was said stays on record.

    Example: assent sessions reset main

    Parameters
    ----------
    id_
        The session: its id, or any part of it that fits only one.
    """
    desk.use(common)
    async with desk.open() as house:
        session = await _session(house, desk, id_)
        await house.sessions.reset(desk.place.tenant, session, by=desk.place.person)
    return Said(document={"session": session}, tell=lambda paper: paper.line(f"`{session}` begins afresh."))


async def fork_session(id_: Id, name: str, /, *, common: Common | None = None, desk: Own) -> Said:
    """Begin a conversation with what another holds.

    Example: assent sessions fork main attempt

    Parameters
    ----------
    id_
        The session: its id, or any part of it that fits only one.
    name
        The name of the new one.
    """
    desk.use(common)
    async with desk.open() as house:
        session = await _session(house, desk, id_)
        new = await house.sessions.fork(
            desk.place.tenant, session, identity=desk.place.person, channel=CHANNEL, name=name
        )
    return Said(
        document={"session": new}, tell=lambda paper: paper.line(f"`{new}` begins with what `{session}` holds.")
    )


async def list_runs(*, common: Common | None = None, desk: Own) -> Said:
    """List the runs of agents: how each stands, and what it was to do.

    Example: assent runs list
    """
    desk.use(common)
    async with desk.open() as house:
        found = await house.runs.newest(desk.place.tenant)
    return Said(document={"runs": msgspec.to_builtins(found)}, tell=lambda paper: tell_runs(paper, found))


async def show_run(id_: Id, /, *, common: Common | None = None, desk: Own) -> Said:
    """Show a run: how it stands, and turn by turn which model was asked, what was said, proposed and decided.

    Example: assent runs show 1f3a9c2e

    Parameters
    ----------
    id_
        The run: its id, or any part of it that fits only one.
    """
    desk.use(common)
    async with desk.open() as house:
        run = await only_run(house, desk, id_)
        seen, turns = await house.runs.turns(desk.place.tenant, run)
    document = {"run": msgspec.to_builtins(seen), "turns": msgspec.to_builtins(turns)}
    return Said(document=document, tell=lambda paper: tell_run(paper, seen, turns))


async def resume_run(id_: Id, /, *, common: Common | None = None, desk: Own) -> Said:
    """Carry a run on from its record, asking for consent here where a person sits.

    Example: assent runs resume 1f3a9c2e

    Parameters
    ----------
    id_
        The run: its id, or any part of it that fits only one.
    """
    desk.use(common)
    async with desk.open() as house:
        run = await only_run(house, desk, id_)
        story = await house.runs.view(desk.place.tenant, run)
        if story.agent not in house.runs.agents:
            raise NotFound("agent_not_found", f"the agent `{story.agent}` of this run is no longer declared")
        talk = Talk(desk, house, agent=story.agent, session="")
        return talk.said(await talk.see(run))


async def pause_run(id_: Id, /, *, common: Common | None = None, desk: Own) -> Said:
    """Stop a run until it is resumed. One that another process drives stops between two of its steps.

    Example: assent runs pause 1f3a9c2e

    Parameters
    ----------
    id_
        The run: its id, or any part of it that fits only one.
    """
    desk.use(common)
    async with desk.open() as house:
        run = await only_run(house, desk, id_)
        return await _stopped(house, desk, run, "pause")


async def cancel_run(id_: Id, /, *, common: Common | None = None, desk: Own) -> Said:
    """End a run for good. What it did stays on record. One that another process drives is ended within a moment: what
    is under way is broken off, and settled.

    Example: assent runs cancel 1f3a9c2e

    Parameters
    ----------
    id_
        The run: its id, or any part of it that fits only one.
    """
    desk.use(common)
    async with desk.open() as house:
        run = await only_run(house, desk, id_)
        return await _stopped(house, desk, run, "cancel")


async def fork_run(id_: Id, name: str, /, *, turn: int | None = None, common: Common | None = None, desk: Own) -> Said:
    """Begin a conversation with what was said in a run.

    Example: assent runs fork 1f3a9c2e attempt --turn 3

    Parameters
    ----------
    id_
        The run: its id, or any part of it that fits only one.
    name
        The name of the new session.
    turn
        The last turn that it begins with (else: all of them).
    """
    desk.use(common)
    async with desk.open() as house:
        run = await only_run(house, desk, id_)
        last = turn if turn is not None else (await house.runs.view(desk.place.tenant, run)).turn
        new = await house.runs.fork(
            desk.place.tenant, run, turn=last, identity=desk.place.person, channel=CHANNEL, name=name
        )
    return Said(document={"session": new}, tell=lambda paper: paper.line(f"`{new}` begins with turns 1 to {last}."))


async def replay_run(id_: Id, /, *, common: Common | None = None, desk: Own) -> Said:
    """Tell a run again from the record alone, and compare with what its models were told.

    Example: assent runs replay 1f3a9c2e

    Parameters
    ----------
    id_
        The run: its id, or any part of it that fits only one.
    """
    desk.use(common)
    async with desk.open() as house:
        told = await house.runs.retell(desk.place.tenant, await only_run(house, desk, id_))
    return Said(
        document={**msgspec.to_builtins(told), "same": told.same},
        tell=lambda paper: tell_retold(paper, told),
        exit=Exit.DONE if told.same else Exit.FAILED,
    )


async def _stopped(house: House, desk: Desk, run: str, how: Literal["pause", "cancel"]) -> Said:
    """Stop a run, or ask whoever drives it to."""
    tenant, by = desk.place.tenant, desk.place.person
    stop = house.runs.pause if how == "pause" else house.runs.cancel
    try:
        return _moved(await stop(tenant, run, by=by))
    except Conflict as conflict:
        if conflict.code != "journal_held":
            raise
    await house.runs.ask(tenant, run, how, by=by)
    heeds = "heeds it between two steps" if how == "pause" else "breaks off what is under way"
    seen = await house.runs.view(tenant, run)
    return Said(
        document=msgspec.to_builtins(seen),
        tell=lambda paper: paper.line(f"Asked: another process drives `{run}`, and {heeds}."),
        exit=Exit.WAITING,
    )


def _moved(seen: RunView) -> Said:
    return Said(
        document=msgspec.to_builtins(seen),
        tell=lambda paper: paper.line(f"`{seen.id}` is {seen.state}."),
        exit=Exit.DONE if seen.state in ("paused", "cancelled") else OF_RUN[seen.state],
    )


async def only_run(house: House, desk: Desk, text: str) -> str:
    """The id of the run that `text` names. Raises Malformed, NotFound."""
    return _only(await house.runs.ids(desk.place.tenant), text, "run")


async def _session(house: House, desk: Desk, text: str) -> str:
    return _only(await house.sessions.ids(desk.place.tenant), text, "session")


def _only(ids: list[str], text: str, kind: str) -> str:
    """The one id that `text` names.

    Raises:
        Malformed: `id_too_short`, `id_ambiguous`.
        NotFound: `run_not_found`, `session_not_found`.
    """
    if text in ids:
        return text
    if len(text) < PART_MIN:
        raise Malformed(
            "id_too_short", f"`{text}` is too short to name a {kind}", hint=f"give at least {PART_MIN} characters"
        )
    found = [one for one in ids if text in one]
    if len(found) > 1:
        shown = ", ".join(found[:5])
        raise Malformed("id_ambiguous", f"`{text[:80]}` fits {len(found)} {kind}s: {shown}", hint="give more of it")
    if not found:
        raise NotFound(f"{kind}_not_found", f"there is no {kind} `{text[:80]}`", hint=f"see `assent {kind}s list`")
    return found[0]
