"""`assent chat`: talk to an agent. Words come as they are said, calls as they are decided; consent is asked here."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
from cyclopts import Parameter

from assent.execution.outcomes import StreamEvent
from assent.operations.runs.events import CallEnded, Decided, Proposal, RunEvent, Waiting, Words
from assent.operations.runs.views import RunView
from assent.primitives.errors import AssentError, Conflict, Malformed, NotFound, Refused
from assent.primitives.ids import EffectId, ReviewId
from assent.surfaces.cli.exits import Exit
from assent.surfaces.cli.lines import Lines
from assent.surfaces.cli.options import Common
from assent.surfaces.cli.paper import Paper, Part, Span, Tone
from assent.surfaces.cli.ports import Desk, House, Said
from assent.surfaces.cli.telling.calls import call_line, tell_call
from assent.surfaces.cli.telling.explaining import word_rows
from assent.surfaces.cli.telling.inboxes import tell_card, tell_inbox
from assent.surfaces.cli.telling.runs import tell_event, tell_runs

CHANNEL = "cli"
OF_RUN = {
    "finished": Exit.DONE, "failed": Exit.FAILED, "cancelled": Exit.FAILED, "waiting": Exit.WAITING,
    "paused": Exit.WAITING, "running": Exit.UNKNOWN,
}  # fmt: skip
ENDED = ("finished", "failed", "cancelled")
_HELP = (
    ("/new [NAME]", "go on in a new session"),
    ("/reset", "begin this session afresh; what was said stays on record"),
    ("/fork NAME", "go on in a session that begins with what was said here"),
    ("/compact", "sum up what was said, and go on from that"),
    ("/inbox", "what waits for a person"),
    ("/why [N]", "why the last call, or the N-th last, was decided as it was; or the call of an effect's id"),
    ("/agents", "the agents there are; `assent chat NAME` talks to another one"),
    ("/runs", "the runs of this session"),
    ("/quit", "end; what runs goes on from its record next time"),
)


async def chat(
    *message: str,
    agent: str = "",
    session: str = "",
    new: Annotated[bool, Parameter(negative="")] = False,
    only: tuple[str, ...] = (),
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said | None:
    """Talk to an agent. With a message, say it and get the answer; without, talk at the terminal.

    Example: assent chat "What is in notes.txt?" --agent helper

    Parameters
    ----------
    message
        What to say. Left out, lines are read until the end of input; so they are when it is the name of an agent only.
    agent
        Which agent (else: `[defaults] chat` of the settings, or the only one that can be talked to).
    session
        The name of the conversation (else: the agent's own).
    new
        Begin this session afresh.
    only
        What is asked for, such as `files.write path=reports/* x3`; may be given several times. What goes beyond takes a
        yes of its own.
    """
    desk.use(common)
    async with desk.open() as house:
        if not agent and len(message) == 1 and message[0] in house.runs.agents:
            agent, message = message[0], ()
        named = agent_named(house, agent or desk.place.chat_with)
        talk = Talk(desk, house, agent=named, session=session, only=only)
        await talk.begin(new=new)
        if message:
            return talk.said(await talk.say(" ".join(message)))
        return await talk.at_the_terminal()


def agent_named(house: House, name: str) -> str:
    """The agent that is meant."""
    known = sorted(house.runs.agents)
    if name and name not in known:
        raise NotFound("agent_not_found", f"there is no agent `{name[:80]}`", hint=_known(known))
    if not name and len(known) != 1:
        what = "there is no agent that can be talked to" if not known else "there are several agents"
        raise Malformed("agent_unnamed", what, hint=_known(known))
    return name or known[0]


def _known(known: list[str]) -> str:
    if known:
        return f"name one with --agent, or in `[defaults] chat`: {', '.join(known)}"
    return 'declare one in `assent.toml`: [agents.helper] with models = ["ollama:llama3"]'


class Talk:
    """One conversation at a desk."""

    def __init__(self, desk: Desk, house: House, *, agent: str, session: str, only: tuple[str, ...] = ()) -> None:
        self._desk = desk
        self._house = house
        self._tenant = desk.place.tenant
        self._person = desk.place.person
        self._agent = house.runs.agents[agent]
        self._name = session or agent
        self._only = only
        self._session = ""
        self._effects: list[str] = []
        self._proposed: tuple[int, int] = (0, 0)
        self._waits: Waiting | None = None
        self._lines = Lines()

    async def begin(self, *, new: bool = False) -> None:
        """Open the session, and afresh if that is wished."""
        self._session = await self._house.sessions.open(
            self._tenant, agent=self._agent.name, identity=self._person, channel=CHANNEL, name=self._name
        )
        if new:
            await self._house.sessions.reset(self._tenant, self._session, by=self._person)

    async def say(self, words: str) -> RunView:
        """Say something, and see it through as far as it goes here."""
        run = await self._house.runs.begin(
            self._tenant, self._agent, words, by=self._person, session=self._session, only=self._only
        )
        return await self.see(run)

    async def see(self, run: str) -> RunView:
        """Carry a run on, asking for consent and answers where a person sits."""
        while True:
            self._waits = None
            seen = await self._driven(run)
            self._desk.live_end()
            waits: Waiting | None = self._waits  # `_tell` has set it meanwhile
            if waits is None or not await self._answer(run, waits):
                if seen.state == "cancelled":
                    self._desk.note(f"run `{run}` was cancelled; what was under way was settled first")
                return seen

    async def _driven(self, run: str) -> RunView:
        """How a run stands when nobody works on it any more; who else does, if not we, is waited for."""
        told = False
        while True:
            try:
                return await self._house.runs.drive(self._tenant, run, tell=self._tell, by=self._person)
            except Conflict as conflict:
                seen = await self._house.runs.view(self._tenant, run)
                if seen.state in ENDED:
                    return seen
                if conflict.code != "journal_held":
                    raise
            if not told:
                self._desk.note(f"another process works on run `{run}`; its answer is shown when it is there")
            told = True
            await self._desk.pause()

    def said(self, seen: RunView) -> Said:
        """How it stands, as the command's answer."""

        def tell(paper: Paper) -> None:
            if seen.state not in ("finished", "failed"):
                paper.line(Span(seen.state, Tone.WAIT), f"  it waits for {seen.waits_for or 'somebody'}")
                paper.pairs([("run", seen.id), ("next", f"`assent runs resume {seen.id[-8:]}`")])

        return Said(document=msgspec.to_builtins(seen), tell=tell, exit=OF_RUN[seen.state])

    async def at_the_terminal(self) -> Said | None:
        """Talk until the end of input."""
        self._desk.say(self._welcome)
        for run in await self._house.runs.interrupted(self._tenant):
            if run.parent == self._session:
                self._desk.note(f"run `{run.id}` was interrupted, and goes on now")
                await self._interruptible(self.see(run.id))
        last: RunView | None = None
        while True:
            self._prompt("> ")
            line = await self._line()
            if line is None or line.strip() in ("/quit", "/exit"):
                break
            if line.strip():
                last = await self._taken(line.strip()) or last
        return self.said(last) if last is not None and self._desk.json else None

    async def _taken(self, line: str) -> RunView | None:
        """Do what a line says. What goes wrong is told, and the conversation goes on."""
        try:
            if line.startswith("/"):
                await self._command(*line[1:].split())
                return None
            return await self._interruptible(self.say(line))
        except AssentError as error:
            self._desk.note(str(error))
            return None

    async def _interruptible(self, work: Awaitable[RunView]) -> RunView | None:
        """Let Ctrl-C stop the run and not the conversation: what was under way is settled, and the run can go on."""
        loop, doing = asyncio.get_running_loop(), asyncio.ensure_future(work)  # noqa: TID251 (awaited below)
        loop.add_signal_handler(signal.SIGINT, doing.cancel)
        try:
            return await doing
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            self._desk.live_end()
            self._desk.note("interrupted; what was under way was settled. It goes on with `assent runs resume`")
            return None
        finally:
            loop.remove_signal_handler(signal.SIGINT)

    async def _command(self, name: str = "help", *words: str) -> None:
        known: dict[str, Callable[..., Awaitable[None]]] = {
            "new": self._new, "reset": self._reset, "fork": self._fork, "compact": self._compact,
            "inbox": self._inbox, "why": self._why, "runs": self._runs, "agents": self._agents, "help": self._help,
        }  # fmt: skip
        if name not in known:
            raise Malformed("usage", f"there is no `/{name[:40]}`", hint="see /help")
        await known[name](*words)

    async def _new(self, *words: str) -> None:
        self._name = words[0] if words else f"{self._agent.name}-{self._desk.now_ms():x}"
        await self.begin()
        self._desk.note(f"this is session `{self._session}`")

    async def _reset(self, *_: str) -> None:
        await self._house.sessions.reset(self._tenant, self._session, by=self._person)
        self._desk.note("the session begins afresh; what was said stays on record")

    async def _fork(self, *words: str) -> None:
        if not words:
            raise Malformed("usage", "/fork wants a name for the new session")
        self._session = await self._house.sessions.fork(
            self._tenant, self._session, identity=self._person, channel=CHANNEL, name=words[0]
        )
        self._desk.note(f"this is session `{self._session}`")

    async def _compact(self, *_: str) -> None:
        run = await self._house.runs.compact(self._tenant, self._session, self._agent, by=self._person)
        self._desk.note(f"summed up by run `{run}`; the whole conversation stays on record")

    async def _inbox(self, *_: str) -> None:
        await self._house.reviews.expire(self._tenant)
        found = await self._house.timelines.inbox(self._tenant)
        self._desk.say(lambda paper: tell_inbox(paper, found))

    async def _why(self, *words: str) -> None:
        word = words[0] if words else "1"
        effect = word
        if word.isdecimal():
            if not 0 < int(word) <= len(self._effects):
                told = f"only {len(self._effects)} calls were" if self._effects else "nothing was"
                raise Refused("nothing_decided", f"{told} decided in this conversation yet")
            effect = self._effects[-int(word)]
        found = await self._house.timelines.explain(self._tenant, EffectId(effect))

        def tell(paper: Paper) -> None:
            paper.pairs(
                [
                    ("call", call_line(found.effect.operation, found.intent.arguments if found.intent else {})),
                    ("stands", found.effect.state),
                    *word_rows(found),
                    ("because", found.reason),
                    ("rules", ", ".join(found.rules)),
                    ("policy", found.policy_revision),
                    ("effect", found.effect.id),
                ]
            )

        self._desk.say(tell)

    async def _runs(self, *_: str) -> None:
        found = await self._house.runs.newest(self._tenant, session=self._session)
        self._desk.say(lambda paper: tell_runs(paper, found))

    async def _agents(self, *_: str) -> None:
        rows: list[list[Part]] = [
            [Span(name, Tone.STRONG if name == self._agent.name else Tone.PLAIN), one.description]
            for name, one in sorted(self._house.runs.agents.items())
        ]
        self._desk.say(lambda paper: paper.table(rows, indent=2))

    async def _help(self, *_: str) -> None:
        self._desk.say(lambda paper: paper.table(_HELP, indent=2))

    def _welcome(self, paper: Paper) -> None:
        paper.line(Span(self._agent.name, Tone.STRONG), f"  {', '.join(self._agent.models)}  session {self._session}")
        paper.line(Span("/help says what else can be typed; Ctrl-C stops a run, Ctrl-D ends", Tone.QUIET))

    def _tell(self, event: RunEvent) -> None:
        match event:
            case Words(text=text):
                self._desk.live(StreamEvent(stream="stdout", data=text.encode()))
                return
            case Waiting():
                self._waits = event
            case Proposal(turn=turn, place=place):
                self._proposed = (turn, place)
            case Decided(effect=effect):
                self._effects.append(effect)
            case _:
                pass
        of = (getattr(event, "turn", 0), getattr(event, "place", 0))
        apart = isinstance(event, Decided | CallEnded) and of != self._proposed
        self._desk.live_end()
        self._desk.say(lambda paper: tell_event(paper, event, apart=apart))

    async def _answer(self, run: str, waits: Waiting) -> bool:
        """Ask whoever sits here; whether there was an answer."""
        if self._desk.json or not self._lines.at_terminal:
            return False
        if waits.reason == "review":
            return await self._consent(ReviewId(waits.of))
        if waits.reason == "person":
            self._prompt(f"{waits.question}\n? ")
            line = await self._line()
            if line:
                await self._house.runs.hear(self._tenant, run, line, by=self._person, answers=waits.of)
            return bool(line)
        return False

    async def _consent(self, id_: ReviewId) -> bool:
        review = await self._house.timelines.review(self._tenant, id_)
        about = await self._house.timelines.explain(self._tenant, review.effect)
        arguments = about.intent.arguments if about.intent else {}
        self._desk.say(lambda paper: tell_call(paper, about.effect.operation, arguments))
        self._desk.say(lambda paper: paper.pairs(word_rows(about)))
        while True:
            self._prompt(f"{review.question} [y]es, [n]o, [l]ater, [?]: ")
            word = ((await self._line()) or "l").strip().lower()
            if word in ("y", "yes"):
                await self._house.reviews.approve(self._tenant, id_, by=self._person, reason="in the conversation")
                return True
            if word in ("n", "no"):
                self._prompt("why? ")
                reason = (await self._line()) or "in the conversation"
                await self._house.reviews.deny(self._tenant, id_, by=self._person, reason=reason)
                return True
            if word in ("l", "later"):
                return False
            if word == "?":
                self._desk.say(lambda paper: tell_card(paper, about))

    async def _line(self) -> str | None:
        return await self._lines.next()

    def _prompt(self, text: str) -> None:
        if self._lines.at_terminal and not self._desk.json:
            self._desk.raw(text.encode())
