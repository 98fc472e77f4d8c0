"""Runs: begin one, carry it on, look at it, pause, cancel, speak to it, fork it, and tell it again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from assent.ledger.commands import AnswerReview, WriteNotes
from assent.ledger.contracts import OperationContract
from assent.ledger.effects import EffectState
from assent.ledger.entries import SALT_BYTES
from assent.ledger.journals import Content, Journal, Note, content
from assent.ledger.operations import Operation
from assent.ledger.ports import LedgerStore
from assent.operations.gate import Gate
from assent.operations.recovery import Recovery
from assent.operations.runs import entries, steps
from assent.operations.runs.breakers import Breakers
from assent.operations.runs.delegating import Delegating, asked_for, child_id, purpose_of
from assent.operations.runs.driver import Driver
from assent.operations.runs.entries import Ended, Exchange, Started
from assent.operations.runs.events import OnRunEvent, RunEvent
from assent.operations.runs.redacting import Redact, Redacted, redacted_sections, redacted_words
from assent.operations.runs.requests import Asked, Requests
from assent.operations.runs.retelling import Retelling
from assent.operations.runs.sessions import Sessions
from assent.operations.runs.states import ALIVE, RUN, RunMove, RunState
from assent.operations.runs.story import Story, tell_story
from assent.operations.runs.summing_up import SummingUp
from assent.operations.runs.surroundings import Around, Nothing, Surroundings
from assent.operations.runs.transcript import heard_of, piece_bytes, transcript_of
from assent.operations.runs.views import Retold, RunLine, RunView, TurnView, line_of, turns_of, view
from assent.operations.toolbox import SPELLED, Offer, offers_of
from assent.primitives.clock import Clock, Entropy
from assent.primitives.errors import Conflict, NotFound, Refused
from assent.primitives.ids import IdSource, ReviewId, TenantId
from assent.primitives.leases import Fence
from assent.reasoning.agents import AgentDefinition, check_agent
from assent.reasoning.context import Source
from assent.reasoning.failures import FailureKind, failure
from assent.reasoning.messages import Message
from assent.registry.agents import Health

RUNS_MAX = 1_000
EFFECTS_MAX = 100_000


_NOTHING = Nothing()


def _unheard(_: RunEvent) -> None:
    return None


class Runs:
    """The runs of this node's tenants. Every dependency is given."""

    def __init__(
        self,
        *,
        store: LedgerStore,
        gate: Gate,
        recovery: Recovery,
        sessions: Sessions,
        operations: Mapping[str, Operation],
        agents: Mapping[str, AgentDefinition],
        fence: Fence,
        ids: IdSource,
        clock: Clock,
        entropy: Entropy,
        spellings: Mapping[str, str] = SPELLED,
        surroundings: Surroundings = _NOTHING,
        redact: Redact = str,
    ) -> None:
        self._store = store
        self._gate = gate
        self._clock = clock
        self._sessions = sessions
        self._contracts: Mapping[str, OperationContract] = {n: o.contract for n, o in operations.items()}
        self.agents = agents
        self._fence = fence
        self._ids = ids
        self._spellings = spellings
        self._surroundings = Redacted(surroundings, redact)
        self._redact = redact
        self._entropy = entropy
        self._requests = Requests(store=store, fence=fence)
        self._retelling = Retelling(store=store)
        self._summing_up = SummingUp(store=store, gate=gate, sessions=sessions, ids=ids)
        self._delegating = Delegating(
            store=store, agents=agents, around=self._surroundings.around, offers=self._offers, tell=self.story,
            salt=self._salt,
        )  # fmt: skip
        self._breakers = Breakers(clock=clock)
        self._driver = Driver(
            store=store, gate=gate, recovery=recovery, operations=operations, fence=fence, clock=clock,
            entropy=entropy, breakers=self._breakers, requests=self._requests, tell=self.story,
            attend=self._attend, also=self._also,
        )  # fmt: skip

    async def begin(
        self,
        tenant: TenantId,
        agent: AgentDefinition,
        task: str | Message,
        *,
        by: str,
        session: str = "",
        key: str = "",
        sections: Sequence[Source] = (),
        only: Sequence[str] = (),
    ) -> str:
        """Begin a run that answers `task` for the person `by`; its id. In a session the same `key` is the same run.
        `only` says what is asked for, in lines of a mandate: whatever goes beyond takes a yes of its own.

        Raises:
            Malformed: `agent_malformed`, `mandate_malformed`, `tool_unknown`.
            NotFound: there is no such session.
        """
        if session:
            agent = await self._talked_to(tenant, session, agent)
        check_agent(agent)
        around = await self._surroundings.around(agent)
        words = redacted_words(task, self._redact)
        holds = Exchange(pieces=())
        journal = None
        if session:
            known = await self._sessions.run_of(tenant, session, key) if key else None
            if known:
                return known
            await self._sessions.renew(tenant, session, policy=agent.reset, now_ms=self._clock.now_ms())
            await self._summing_up.if_large(tenant, session, agent, by=by)
            journal, holds = await self._sessions.now(tenant, session)
        told = (*redacted_sections(sections, self._redact), *around.sections)
        begun = Started(
            agent=agent, offers=self._offers(agent, around), on_behalf_of=(by,), prior=holds.pieces, task=words,
            by=by, sections=told, session=session, todo=holds.todo,
            mandates=(*purpose_of(agent), *asked_for(only)),
        )  # fmt: skip
        id_ = self._ids.run()
        also = [self._sessions.asked(journal, holds, run=id_, key=key or id_, words=words)] if journal else []
        await self._write(tenant, entries.started(id_, begun, parent=session, salt=self._salt()), *also)
        return id_

    async def drive(self, tenant: TenantId, run: str, *, tell: OnRunEvent = _unheard, by: str = "assent") -> RunView:
        """Carry a run on until it is over or waits. One that waits or is paused is resumed first.

        Raises:
            NotFound: there is no such run.
            Conflict: another node works on it.
            Unavailable: the database or this node's lease is not there; the run goes on from its record.
        """
        story = await self.story(tenant, run)
        state, since = RunState(story.journal.state), story.journal.last_seq
        if state in ALIVE and (state is not RunState.RUNNING or not self._is_mine(story.journal)):
            await self._driver.write(story, entries.resumed(story.journal, by=by))
            story = await self.story(tenant, run)
        return view(await self._driver.drive(story, tell, since=since))

    async def hear(self, tenant: TenantId, run: str, text: str, *, by: str, answers: str = "", key: str = "") -> None:
        """Say something to a run: an answer to what it asked (`answers`), or words it is told with its next turn.

        Raises:
            NotFound: there is no such run.
            Conflict: it is over, or another node works on it.
        """
        async with self._driver.speaking(run):
            story = await self.story(tenant, run)
            self._must_live(story.journal)
            if answers and not any(call.effect.id == answers for call in story.calls.values()):
                raise NotFound("effect_not_found", f"run `{run}` asked nothing as `{answers[:80]}`")
            words = heard_of(self._redact(text), by=by, after=story.turn, answers=answers)
            owned = story.journal.node == self._fence.node
            note = entries.heard(story.journal, words, key=key, salt=self._salt(), owned=owned)
            await self._driver.write(story, note)

    async def pause(self, tenant: TenantId, run: str, *, by: str) -> RunView:
        """Stop it until it is resumed. Raises NotFound; Conflict: `run_moved`, `journal_held` (then `ask` for it)."""
        story = await self.story(tenant, run)
        self._must_allow(story.journal, RunMove.PAUSE)
        await self._driver.write(story, entries.paused(story.journal, by=by))
        return view(story)

    async def cancel(self, tenant: TenantId, run: str, *, by: str, tell: OnRunEvent = _unheard) -> RunView:
        """End it for good, with what it handed on, and call off what it asked people for.

        Raises:
            NotFound: there is no such run.
            Conflict: `run_moved`: it is over; `journal_held`: another process drives it (then `ask` for it).
        """
        story = await self.story(tenant, run)
        self._must_allow(story.journal, RunMove.CANCEL)
        await self._driver.end(story, RunMove.CANCEL, Ended(), by=by, tell=tell)
        return view(story)

    async def ask(self, tenant: TenantId, run: str, asked: Asked, *, by: str) -> None:
        """Ask a run that another process drives to pause or to end.

        Its driver pauses between two steps; when it is to end, what is under way is broken off.

        Raises:
            NotFound: there is no such run.
            Conflict: `run_moved`: it is over.
        """
        story = await self.story(tenant, run)
        self._must_allow(story.journal, RunMove(asked))
        await self._requests.make(tenant, run, asked, by=by)

    async def compact(self, tenant: TenantId, session: str, agent: AgentDefinition, *, by: str) -> str:
        """Sum up what a session holds, and go on from that; see `SummingUp.session`."""
        return await self._summing_up.session(tenant, session, agent, by=by)

    async def fork(self, tenant: TenantId, run: str, *, turn: int, identity: str, channel: str, name: str) -> str:
        """A new session that holds what was said in a run up to and with `turn`; its id.

        Raises:
            NotFound: there is no such run, or it had no such turn.
            Conflict: `session_exists`: a session of this key is there already.
        """
        story = await self.story(tenant, run)
        if not 0 < turn <= story.turn:
            raise NotFound("turn_not_found", f"run `{run}` has {story.turn} turns", hint="name one of them")
        base = story.base(turn + 1)
        prior = await self._retelling.begins(story, base)
        said = [content(one) for one in piece_bytes(transcript_of(story, prior=prior, base=base, through=turn))]
        await self._keep(tenant, said)
        exchange = Exchange(pieces=tuple(one.digest for one in said), todo=tuple(story.todo_before(turn + 1)))
        return await self._sessions.begin(
            tenant, exchange, agent=story.begun.agent.name, identity=identity, channel=channel, name=name, forked=run
        )

    async def retell(self, tenant: TenantId, run: str) -> Retold:
        """Tell a run again from its record, without a model, and compare with what its models were told.

        Raises:
            NotFound: there is no such run.
        """
        return await self._retelling.retell(await self.story(tenant, run))

    async def turns(self, tenant: TenantId, run: str) -> tuple[RunView, tuple[TurnView, ...]]:
        """A run, and its turns: what was asked, said, proposed, decided. Raises NotFound."""
        story = await self.story(tenant, run)
        return view(story), turns_of(story)

    async def story(self, tenant: TenantId, run: str) -> Story:
        """A run as its record tells it.

        Raises:
            NotFound: there is no such run.
        """
        journal = await self._store.journal(tenant, "run", run)
        if journal is None:
            raise NotFound("run_not_found", f"there is no run `{run[:80]}`", hint="see `assent runs list`")
        notes = await self._store.notes(tenant, "run", run)
        story = tell_story(journal, notes, await self._store.histories(tenant, run, limit=EFFECTS_MAX))
        await self._delegating.meet(story)
        return story

    async def view(self, tenant: TenantId, run: str) -> RunView:
        """One run as it is shown. Raises NotFound."""
        return view(await self.story(tenant, run))

    async def ids(self, tenant: TenantId) -> list[str]:
        """The ids of the newest runs."""
        return [one.id for one in await self._store.journals(tenant, "run", limit=RUNS_MAX)]

    async def newest(
        self, tenant: TenantId, *, states: Sequence[str] = (), session: str | None = None, limit: int = RUNS_MAX
    ) -> list[RunLine]:
        """The newest runs, oldest first; each from its row, its first entry, and its last where it waits."""
        found = await self._store.journals(
            tenant, "run", states=tuple(states), parent=session, limit=min(limit, RUNS_MAX)
        )
        wanted = {one.first_seq for one in found} | {one.last_seq for one in found if one.state == RunState.WAITING}
        records = await self._store.records_at(tenant, wanted)
        return [line_of(one, records) for one in found]

    async def interrupted(self, tenant: TenantId) -> list[Journal]:
        """Runs that nobody works on although they could go on: their node is gone."""
        found = await self._store.journals(tenant, "run", states=(RunState.RUNNING,), limit=RUNS_MAX)
        alive = {(lease.holder, lease.fence) for lease, lapsed in await self._store.leases() if not lapsed}
        return [one for one in found if (one.node, one.fence) not in alive]

    async def _attend(self, story: Story, step: steps.Attend, tell: OnRunEvent) -> Ended | None:
        """Begin the run of a call that hands work on, if it is not there yet, and carry it on."""
        tenant, id_ = story.journal.tenant, child_id(story.journal.id, step.turn, step.place)
        if await self._store.journal(tenant, "run", id_) is None:
            begun = await self._delegating.begin(story, step)
            if isinstance(begun, str):
                return Ended(failure=failure(FailureKind.TOOL_MISMATCH, begun))
            await self._write(tenant, begun)
        await self.drive(tenant, id_, tell=tell, by=story.journal.id)
        story.note_child(step.call.effect.id, await self.story(tenant, id_))
        return story.children.get(step.call.effect.id)

    async def _also(self, story: Story, move: RunMove, end: Ended, by: str) -> Iterable[Note]:
        """What is written together with the end of a run: the reply in its session; that its children end with it."""
        tenant, run = story.journal.tenant, story.journal.id
        if move is RunMove.CANCEL:
            children = await self._delegating.ends_of(tenant, run)
            for id_ in (run, *(note.id for note in children)):
                await self._call_off(tenant, id_, by)
            return children
        return [await self._reply(story, end)] if story.begun.session else []

    async def _reply(self, story: Story, end: Ended) -> Note:
        """What a session is told by a run that ends: what others said in it meanwhile stays."""
        spoke = await self._taker(story)
        tenant, base, asked = story.journal.tenant, spoke.latest, spoke.begun.prior
        journal, holds = await self._sessions.now(tenant, story.begun.session)
        before = holds.pieces
        if base is not None and before[: len(asked)] == asked:
            before = (*base.pieces, *before[len(asked) :])
        else:
            base = None  # the session was reset or summed up meanwhile: it is told this run as it was
        prior = await self._retelling.begins(spoke, base)
        said = [content(one) for one in piece_bytes(transcript_of(spoke, prior=prior, base=base)[len(prior) :])]
        await self._keep(tenant, said)
        todo = spoke.todo_before(spoke.turn + 1)
        exchange = Exchange(
            pieces=(*before, *(one.digest for one in said)),
            text=end.text or (end.failure.message if end.failure else ""),
            todo=() if all(one.get("done") for one in todo) else tuple(todo),
            agent=holds.agent if spoke is story else spoke.begun.agent.name,
        )
        key = f"reply/{story.journal.id}"
        return entries.replied(journal, exchange, run=story.journal.id, final=True, key=key, salt=self._salt())

    async def _talked_to(self, tenant: TenantId, session: str, agent: AgentDefinition) -> AgentDefinition:
        """Who answers in a session now: `agent`, or who took over from it and is still declared."""
        _, holds = await self._sessions.now(tenant, session)
        return self.agents.get(holds.agent, agent)

    async def _taker(self, story: Story) -> Story:
        """The run of who spoke last: of who took over, however often it was handed on, or this one."""
        for (turn, place), call in sorted(story.calls.items()):
            if turn == story.turn and steps.taken_over(story, call) is not None:
                return await self._taker(
                    await self.story(story.journal.tenant, child_id(story.journal.id, turn, place))
                )
        return story

    async def _call_off(self, tenant: TenantId, run: str, by: str) -> None:
        """Nobody is to say yes any more to what a cancelled run asked for, nor to carry out what somebody did."""
        reason = f"run {run} was cancelled"
        for effect in await self._store.effects(tenant, states=(EffectState.IN_REVIEW,), run=run, limit=EFFECTS_MAX):
            answer = AnswerReview(
                tenant=tenant, review=ReviewId(effect.review), approve=False, by=by, reason=reason, salt=self._salt()
            )
            with suppress(Conflict, Refused):  # it was answered meanwhile, or is somebody else's to answer
                await self._store.apply(answer)
        for effect in await self._store.effects(tenant, states=(EffectState.GRANTED,), run=run, limit=EFFECTS_MAX):
            with suppress(Conflict):  # somebody carries it out already
                await self._gate.revoke(effect, code="run_cancelled")

    def health(self, agent: AgentDefinition) -> Health:
        """How an agent is here: whether the endpoints of its models answer this process."""
        return self._breakers.health(agent.models)

    async def skills(self) -> Around:
        """The skills there are now, for an agent that is told of them."""
        return await self._surroundings.around(AgentDefinition(name="any", models=(), workspace_notes=False))

    def _offers(self, agent: AgentDefinition, around: Around) -> tuple[Offer, ...]:
        """The tools of an agent; one that is told of skills can read them, and one with memory can search it."""
        given: dict[str, dict[str, Any]] = {
            "skill": {"skills": {one.name: str(one.digest) for one in around.skills}},
            "memory_search": {"sources": [*agent.memory]},
            "find_agents": {"delegates": [*agent.delegates]},
        }
        more = (
            ["hand_off"] * bool(agent.hands_to)
            + ["skill"] * bool(around.skills)
            + ["memory_search"] * bool(agent.memory)
        )
        return offers_of([*agent.tools, *more], self._contracts, spellings=self._spellings, given=given)

    async def _keep(self, tenant: TenantId, contents: Sequence[Content]) -> None:
        await self._store.apply(WriteNotes(tenant=tenant, fence=self._fence, notes=(), contents=tuple(contents)))

    async def _write(self, tenant: TenantId, *notes: Note) -> None:
        await self._store.apply(WriteNotes(tenant=tenant, fence=self._fence, notes=notes))

    def _is_mine(self, journal: Journal) -> bool:
        return (journal.node, journal.fence) == (self._fence.node, self._fence.number)

    def _must_live(self, journal: Journal) -> None:
        if RunState(journal.state) not in ALIVE:
            raise Conflict("run_over", f"run `{journal.id}` is {journal.state}", hint="begin a new one, or fork it")

    def _must_allow(self, journal: Journal, move: RunMove) -> None:
        if not RUN.allows(RunState(journal.state), move):
            raise Conflict("run_moved", f"run `{journal.id}` is {journal.state}: it cannot {move}")

    def _salt(self) -> bytes:
        return self._entropy(SALT_BYTES)
