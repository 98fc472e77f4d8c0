"""`assent work` and what gives it work: runs that nobody has to sit beside."""

from __future__ import annotations

import asyncio
import faulthandler
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

from cyclopts import Parameter

from assent.operations.runs.events import Words
from assent.primitives.errors import Malformed
from assent.surfaces.cli.commands.agents import Id, only_run
from assent.surfaces.cli.commands.talking import CHANNEL, agent_named
from assent.surfaces.cli.exits import Exit
from assent.surfaces.cli.options import Common
from assent.surfaces.cli.paper import Paper, Span, Tone
from assent.surfaces.cli.ports import Desk, House, Said
from assent.surfaces.cli.telling.working import tell_news
from assent.surfaces.workers.news import Beat, Faulted, Happened, News, news_line
from assent.surfaces.workers.watch import Watch

Own = Annotated[Desk, Parameter(parse=False)]
Inner = Parameter(show=False, negative="")
_ASSENT = "from assent.surfaces.cli.main import main; main()"  # `assent`, wherever it is installed
_STOPPED = "Stopped. What was under way is settled, and every run goes on from its record."


async def work(
    *,
    alone: Annotated[bool, Parameter(negative="")] = False,
    watched: Annotated[bool, Inner] = False,
    suspect: Annotated[tuple[str, ...], Inner] = (),
    stuck: Annotated[tuple[str, ...], Inner] = (),
    common: Common | None = None,
    desk: Own,
) -> Said:
    """Carry on whatever runs can go on, until Ctrl-C. With --json, one document a line.

    It drives runs that were begun with `assent runs start`, those whose process is gone, and those that waited for an
    answer which somebody has given, many side by side. The work is done by a process of its own; one that dies or
    stands still is followed by another, and a run under which that happens twice is paused for a person to look at.

    Example: assent work

    Parameters
    ----------
    alone
        Do the work in this process, for a service manager that starts it again by itself.
    watched
        Say every half a second that this process lives, and end when nobody listens.
    suspect
        A run to be driven only while no other suspect is.
    stuck
        A run to be paused.
    """
    desk.use(common)
    with suppress(asyncio.CancelledError):  # a signal: that is how it ends
        if alone or watched:
            await _drive(desk, suspects=suspect, stuck=stuck, watched=watched)
        else:
            async with desk.open():
                pass  # what is wrong with the installation is said here, and not by every worker again
            code = await Watch(_command(desk), tell=lambda news: _tell(desk, news), note=desk.note).serve()
            return Said(document={"what": "stopped", "code": code}, tell=lambda _: None, exit=code or Exit.FAILED)
    return Said(document={"what": "stopped"}, tell=lambda paper: paper.line(_STOPPED))


async def _drive(desk: Desk, *, suspects: Sequence[str], stuck: Sequence[str], watched: bool) -> None:
    """Drive in this process."""

    def tell(news: News) -> None:
        if watched:
            desk.raw(news_line(news))
        else:
            _tell(desk, news)

    def fault(run: str, why: str) -> None:
        tell(Faulted(run=run, why=why))

    def beat(runs: Sequence[str]) -> None:
        if watched:
            tell(Beat(runs=tuple(runs)))

    faulthandler.register(signal.SIGUSR1, all_threads=True)
    async with desk.open() as house, asyncio.TaskGroup() as tasks:
        if watched:
            tasks.create_task(_while_somebody_listens())
        for run in stuck:
            await house.host.give_up(desk.place.tenant, run, "twice the worker stood still or died under it", fault)
        await house.host.serve(lambda event: tell(Happened(event=event)), beat=beat, fault=fault, suspects=suspects)


async def _while_somebody_listens() -> None:
    """Return never; end everything when the process that watches this one is gone."""
    loop, reader = asyncio.get_running_loop(), asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    signal.raise_signal(signal.SIGTERM)


def _command(desk: Desk) -> list[str]:
    folder = str(desk.place.file.parent)
    return [sys.executable, "-P", "-c", _ASSENT, "work", "--watched", "--folder", folder]


def _tell(desk: Desk, news: News) -> None:
    if isinstance(news, Happened) and isinstance(news.event, Words):
        return  # the words of many runs at once are nobody's to follow; each is told whole when it ends
    if desk.json:
        desk.raw(news_line(news))
    else:
        desk.say(lambda paper: tell_news(paper, news, now_ms=desk.now_ms()))


async def start_run(
    agent: Annotated[str, Parameter(name="AGENT")],
    /,
    *task: str,
    session: str = "",
    only: tuple[str, ...] = (),
    common: Common | None = None,
    desk: Own,
) -> Said:
    """Give an agent something to do, and leave it to `assent work`.

    Example: assent runs start helper "Sum up notes.txt in summary.txt"

    Parameters
    ----------
    agent
        Which agent.
    task
        What it is to do.
    session
        The name of the conversation it is said in (else: none, and it knows nothing of what was said before).
    only
        What is asked for, such as `files.write path=reports/* x3`; may be given several times. What goes beyond takes a
        yes of its own.
    """
    desk.use(common)
    words = " ".join(task).strip()
    if not words:
        raise Malformed("usage", "there is nothing to do", hint='say what: `assent runs start helper "…"`')
    async with desk.open() as house:
        known, tenant, by = house.runs.agents[agent_named(house, agent)], desk.place.tenant, desk.place.person
        place = ""
        if session:
            place = await house.sessions.open(tenant, agent=known.name, identity=by, channel=CHANNEL, name=session)
        run = await house.runs.begin(tenant, known, words, by=by, session=place, only=only)

    def tell(paper: Paper) -> None:
        paper.line(Span("begun", Tone.GOOD), f"  {run}")
        paper.line(f"`assent work` carries it on; see `assent runs show {run[-8:]}`", indent=2)

    return Said(document={"run": run}, tell=tell)


async def answer_run(id_: Id, /, *words: str, common: Common | None = None, desk: Own) -> Said:
    """Say something to a run: the answer to what it asked, or words that it is told with its next turn.

    Example: assent runs tell 1f3a9c2e "the second one"

    Parameters
    ----------
    id_
        The run: its id, or any part of it that fits only one.
    words
        What to say.
    """
    desk.use(common)
    said = " ".join(words).strip()
    if not said:
        raise Malformed("usage", "nothing was said", hint='say it: `assent runs tell 1f3a9c2e "…"`')
    async with desk.open() as house:
        run = await only_run(house, desk, id_)
        asked = await _heard(house, desk, run, said)
    told = "Answered." if asked else "It is told with the next turn."
    return Said(document={"run": run, "answers": asked}, tell=lambda paper: paper.line(told))


async def _heard(house: House, desk: Desk, run: str, said: str) -> str:
    """Say it; the call it answers, or nothing."""
    tenant = desk.place.tenant
    kind, _, of = (await house.runs.view(tenant, run)).waits_for.partition(" ")
    asked = of if kind == "person" else ""
    await house.runs.hear(tenant, run, said, by=desk.place.person, answers=asked)
    return asked
