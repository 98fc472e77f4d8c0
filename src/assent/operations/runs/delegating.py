"""Work that a run hands on: a run of its own, with no more than may be passed on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from assent.ledger.journals import Note
from assent.ledger.ports import LedgerStore
from assent.operations.runs import entries, steps
from assent.operations.runs.entries import Ended, Started
from assent.operations.runs.flowing import mandates_of
from assent.operations.runs.states import ALIVE, RunMove
from assent.operations.runs.story import Story
from assent.operations.runs.surroundings import Around, harmless
from assent.operations.toolbox import Offer
from assent.policy.mandates import Mandate, read_mandate
from assent.primitives.ids import TenantId
from assent.primitives.labels import Label, joined
from assent.reasoning.agents import AgentDefinition
from assent.reasoning.context import Source
from assent.reasoning.failures import FailureKind, failure
from assent.reasoning.messages import Message, Text

CHILDREN_MAX = 1_000


class Delegating:
    """Begins and meets the runs that calls begin. `tell` tells the story of a run."""

    def __init__(
        self,
        *,
        store: LedgerStore,
        agents: Mapping[str, AgentDefinition],
        around: Callable[[AgentDefinition], Awaitable[Around]],
        offers: Callable[[AgentDefinition, Around], tuple[Offer, ...]],
        tell: Callable[[TenantId, str], Awaitable[Story]],
        salt: Callable[[], bytes],
    ) -> None:
        self._store = store
        self._agents = agents
        self._around = around
        self._offers = offers
        self._tell = tell
        self._salt = salt

    async def begin(self, story: Story, step: steps.Attend) -> Note | str:
        """The note that begins a child; or why there is none. A child uses no tool that its parent may not pass on."""
        parent, name = story.begun, str(step.call.arguments.get("agent", ""))
        agent = self._agents.get(name)
        if agent is None or steps.refused(parent, step.call):
            return steps.refused(parent, step.call) or steps.nobody(parent, step.call)
        if step.call.effect.operation == steps.HAND_OFF:
            return await self._taking_over(story, step, agent)
        run, chain = story.journal.id, (*parent.ancestors, parent.agent.name)
        narrowed = tuple(tool for tool in agent.tools if tool in parent.agent.delegated)
        child = msgspec.structs.replace(
            agent, tools=narrowed, delegated=tuple(tool for tool in agent.delegated if tool in narrowed)
        )
        around = await self._around(child)
        mandates, owners = _binding(story, step)
        task = Message(role="user", parts=(Text(text=str(step.call.arguments.get("task", ""))),))
        begun = Started(
            agent=child, offers=self._offers(child, around), sections=around.sections, prior=(), task=task,
            on_behalf_of=(parent.agent.principal, *parent.on_behalf_of), by=parent.agent.principal,
            depth=parent.depth + 1, ancestors=chain, task_label=step.call.provenance.of("task"),
            mandates=(*mandates, *purpose_of(child)), mandated_by=owners, asks_left=story.asks_left,
        )  # fmt: skip
        return entries.started(child_id(run, step.turn, step.place), begun, parent=run, salt=self._salt())

    async def _taking_over(self, story: Story, step: steps.Attend, agent: AgentDefinition) -> Note:
        """The note that begins the run of who takes over: with its own tools, on behalf of who handed over too, and
        with what the person said, as the person said it. What is said to it besides is a model's, and told as that."""
        run, parent = story.journal.id, story.begun
        around = await self._around(agent)
        mandates, owners = _binding(story, step)
        note = str(step.call.arguments.get("note", ""))
        handed = Source(
            name="handed_over", text=harmless(f"`{parent.agent.name}` handed this conversation over to you. {note}"),
            source=f"agent:{parent.agent.name}", label=joined((Label(), step.call.provenance.of("note"))), priority=30,
        )  # fmt: skip
        begun = Started(
            agent=agent, offers=self._offers(agent, around), sections=(handed, *around.sections), prior=parent.prior,
            task=parent.task, by=parent.by, on_behalf_of=(parent.agent.principal, *parent.on_behalf_of),
            depth=parent.depth + 1, ancestors=(*parent.ancestors, parent.agent.name), todo=parent.todo,
            task_label=parent.task_label, mandates=(*mandates, *purpose_of(agent)), mandated_by=owners,
            asks_left=story.asks_left,
        )  # fmt: skip
        return entries.started(child_id(run, step.turn, step.place), begun, parent=run, salt=self._salt())

    async def meet(self, story: Story) -> None:
        """Note how the children of a run stand, and which never began: if it has gone on since, it was told why."""
        for (turn, place), call in story.calls.items():
            if call.effect.operation in steps.HANDS_ON and not call.failed:
                id_ = child_id(story.journal.id, turn, place)
                child = await self._store.journal(story.journal.tenant, "run", id_)
                if child is not None:
                    story.note_child(call.effect.id, await self._tell(child.tenant, id_))
                elif turn < story.turn:
                    why = steps.refused(story.begun, call) or steps.nobody(story.begun, call)
                    story.children[call.effect.id] = Ended(failure=failure(FailureKind.TOOL_MISMATCH, why))

    async def ends_of(self, tenant: TenantId, run: str) -> list[Note]:
        """The notes that end whatever a cancelled run had handed on and is not over."""
        alive = tuple(str(state) for state in ALIVE)
        notes: list[Note] = []
        for child in await self._store.journals(tenant, "run", states=alive, parent=run, limit=CHILDREN_MAX):
            notes.append(entries.ended(child, RunMove.CANCEL, Ended(), by=run, salt=self._salt()))
            notes += await self.ends_of(tenant, child.id)
        return notes


def _binding(story: Story, step: steps.Attend) -> tuple[tuple[Mandate, ...], tuple[str, ...]]:
    """What binds who works for a run: all that binds the run, a plan that was confirmed too; and whose each is."""
    held = mandates_of(story, step.turn)
    return tuple(mandate for mandate, _ in held), tuple(owner for _, owner in held)


def purpose_of(agent: AgentDefinition) -> tuple[Mandate, ...]:
    """What an agent is for, if that was said. Raises Malformed: `mandate_malformed`."""
    return (read_mandate(agent.mandate, by=f"the purpose of `{agent.name}`"),) if agent.mandate else ()


def asked_for(lines: Sequence[str]) -> tuple[Mandate, ...]:
    """What a request is for, if that was said. Raises Malformed: `mandate_malformed`."""
    return (read_mandate(lines, by="the request"),) if lines else ()


def child_id(run: str, turn: int, place: int) -> str:
    """The id of the run that a call begins: the same whenever it is looked for."""
    return f"{run}.{turn}-{place}"
