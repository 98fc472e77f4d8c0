"""The driver: carries a run on from where its record ends until it is over or waits for somebody else.

Nothing is kept here that the record does not hold. Each step is found from the story, done through the gate, and read
back from the record into the story; a driver that dies at any point is followed by one that reads the same record.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from msgspec.structs import replace

from assent.ledger.commands import WriteNotes
from assent.ledger.contracts import EffectClass
from assent.ledger.effects import Effect, EffectState
from assent.ledger.entries import SALT_BYTES
from assent.ledger.journals import Content, Note, Noted
from assent.ledger.operations import Operation
from assent.ledger.ports import LedgerStore
from assent.ledger.provenance import Provenance
from assent.operations.gate import Gate
from assent.operations.recovery import Recovery
from assent.operations.runs import entries, steps
from assent.operations.runs.breakers import Breakers
from assent.operations.runs.entries import Ended
from assent.operations.runs.events import (
    CallEnded,
    Decided,
    OnRunEvent,
    Paused,
    Proposal,
    RunEnded,
    Waiting,
)
from assent.operations.runs.flowing import flow_of, provenance_of, taken_of, withheld
from assent.operations.runs.questions import Questions, Told
from assent.operations.runs.requests import Requests
from assent.operations.runs.states import ALIVE, RunMove, RunState
from assent.operations.runs.story import Story, key_of_call, place_of
from assent.operations.runs.transcript import result_text
from assent.operations.wishes import Answer, Wish
from assent.policy.flow import Flow
from assent.primitives.clock import Clock, Entropy
from assent.primitives.errors import Conflict, NotFound, Unavailable
from assent.primitives.ids import TenantId
from assent.primitives.leases import Fence
from assent.reasoning.failures import FailureKind, failure
from assent.reasoning.messages import ToolCall

HEED_S = 1.0
"""How often it is looked whether a run was ended while one of its steps takes its time."""
MOVED_MAX = 4
"""How often an end is written anew because its session moved on."""

Attend = Callable[[Story, steps.Attend, OnRunEvent], Awaitable[Ended | None]]
Finish = Callable[[Story, RunMove, Ended, str], Awaitable[Iterable[Note]]]
Tell = Callable[[TenantId, str], Awaitable[Story]]


class Driver:
    """Drives one run at a time for each caller; every dependency is given.

    `tell` tells the story of a run; `attend` sees to a run that was begun for a call, and gives its end, or None while
    there is none; `also` gives what is to be written together with a run's end.
    """

    def __init__(
        self,
        *,
        store: LedgerStore,
        gate: Gate,
        recovery: Recovery,
        operations: Mapping[str, Operation],
        fence: Fence,
        clock: Clock,
        entropy: Entropy,
        breakers: Breakers,
        requests: Requests,
        tell: Tell,
        attend: Attend,
        also: Finish,
    ) -> None:
        self._store = store
        self._gate = gate
        self._recovery = recovery
        self._operations = operations
        self._fence = fence
        self._clock = clock
        self._entropy = entropy
        self._requests = requests
        self._tell = tell
        self._attend = attend
        self._also = also
        self._asking: dict[str, asyncio.Lock] = {}
        self._questions = Questions(
            store=store, gate=gate, operations=operations, entropy=entropy, breakers=breakers, read=self._read,
            write=self.write,
        )  # fmt: skip

    async def drive(self, story: Story, tell: OnRunEvent, *, since: int) -> Story:
        """Go on until the run is over or waits. What came of its calls after log position `since` is told first.

        Raises:
            Conflict: another node works on it.
            Unavailable: the database or this node's lease is not there; the run goes on from its record.
        """
        run, asking, moved = story.journal.id, asyncio.Lock(), 0
        told, begun = await self._questions.begin(story, asking), story.journal.last_seq
        for (turn, place), call in sorted(story.calls.items()):
            if turn == story.turn and call.effect.last_seq > since:
                self._tell_end(story, turn, place, story.tool_of(turn, place), tell)
        self._asking[run] = asking
        try:
            while RunState((story := await self._heeding(story, begun, tell)).journal.state) is RunState.RUNNING:
                try:
                    await self._watched(story, self._take(story, steps.next_step(story), told, tell), since=begun)
                except Conflict as conflict:  # somebody spoke to it, or stopped it, just then: look again
                    moved += 1
                    if conflict.code != "journal_moved" or moved > MOVED_MAX:
                        raise
        finally:
            self._asking.pop(run, None)
        return story

    @asynccontextmanager
    async def speaking(self, run: str) -> AsyncIterator[None]:
        """Speak to a run: not between the last look at what was said and the question that tells it."""
        async with self._asking.get(run, asyncio.Lock()):
            yield

    async def _watched(self, story: Story, step: Coroutine[Any, Any, None], *, since: int) -> None:
        """Do a step to its end, unless the run is ended meanwhile: then it is broken off, and what was under way is
        settled first."""
        doing = asyncio.create_task(step)  # noqa: TID251 (awaited in any case)
        broken_off = False
        try:
            while not doing.done():
                await asyncio.wait([doing], timeout=HEED_S)
                if not doing.done() and await self._is_over(story, since):
                    broken_off = doing.cancel()
                    await asyncio.wait([doing])
        except asyncio.CancelledError:
            doing.cancel()
            await asyncio.wait([doing])
            raise
        if not (broken_off and doing.cancelled()):
            doing.result()  # a step that gave itself up ends the driving too, or it would be taken again for ever

    async def _is_over(self, story: Story, since: int) -> bool:
        """Whether somebody has ended the run, or asked for that."""
        tenant, run = story.journal.tenant, story.journal.id
        with suppress(Unavailable):  # a locked database is no reason to break anything off
            now = await self._store.journal(tenant, "run", run)
            request = await self._requests.open(tenant, run, since=since)
            return (
                now is None or RunState(now.state) not in ALIVE or (request is not None and request.asked == "cancel")
            )
        return False

    async def _take(self, story: Story, step: steps.Step, told: Told, tell: OnRunEvent) -> None:
        match step:
            case steps.Ask():
                await self._ask(story, step, told, tell)
            case steps.Perform():
                await self._perform(story, step, told, tell)
            case steps.Settle():
                await self._settle(story, step, tell)
            case steps.Attend():
                await self._see_to(story, step, tell)
            case steps.Wait():
                await self._wait(story, step, tell)
            case steps.End(move=RunMove.FINISH) if why := withheld(story, prior=told.prior):
                hidden = Ended(failure=failure(FailureKind.ANSWER_WITHHELD, why))
                await self.end(story, RunMove.FAIL, hidden, by="assent", tell=tell)
            case steps.End():
                readers = flow_of(story, prior=told.prior, turn=story.turn + 1).context.readers
                payload = step.payload if readers is None else replace(step.payload, readers=readers)
                await self.end(story, step.move, payload, by="assent", tell=tell)

    async def _heeding(self, story: Story, since: int, tell: OnRunEvent) -> Story:
        """The story between two steps: with what was said to the run meanwhile, and stopped if that was asked for."""
        tenant, run = story.journal.tenant, story.journal.id
        if await self._moved(story):
            story = await self._tell(tenant, run)
            self._tell_stop(story, tell)
        if RunState(story.journal.state) is not RunState.RUNNING:
            return story
        if (story.journal.node, story.journal.fence) != (self._fence.node, self._fence.number):
            raise Conflict("journal_held", f"another node works on run `{run}`", hint="wait until it is done")
        request = await self._requests.open(tenant, run, since=since)
        if request is not None and request.asked == "cancel":
            await self.end(story, RunMove.CANCEL, Ended(), by=request.by, tell=tell)
        elif request is not None:
            await self.write(story, entries.paused(story.journal, by=request.by))
            self._tell_stop(story, tell)
        return story

    def _tell_stop(self, story: Story, tell: OnRunEvent) -> None:
        """Tell that somebody else stopped it."""
        run, state = story.journal.id, RunState(story.journal.state)
        if state is RunState.PAUSED:
            tell(Paused(run=run))
        elif state not in ALIVE:
            tell(RunEnded(run=run, state=state, text=""))

    async def end(self, story: Story, move: RunMove, payload: Ended, *, by: str, tell: OnRunEvent) -> None:
        """Write how a run ends, together with what belongs to that."""
        for last in (*[False] * (MOVED_MAX - 1), True):
            note = entries.ended(story.journal, move, payload, by=by, salt=self._entropy(SALT_BYTES))
            try:
                await self.write(story, note, *await self._also(story, move, payload, by))
                break
            except Conflict as conflict:  # the session was spoken in meanwhile; if the run itself moved, that stands
                if last or conflict.code != "journal_moved" or await self._moved(story):
                    raise
        story.ended = payload
        failed = payload.failure
        tell(
            RunEnded(
                run=story.journal.id,
                state=story.journal.state,
                text=payload.text,
                failure=f"{failed.kind}: {failed.message}" if failed else "",
            )
        )

    async def _moved(self, story: Story) -> bool:
        now = await self._store.journal(story.journal.tenant, "run", story.journal.id)
        return now is None or now.last_seq != story.journal.last_seq

    async def write(self, story: Story, note: Note, *others: Note, contents: tuple[Content, ...] = ()) -> None:
        """Write a note of the run, and others in the same commit, and see the run as it stands afterwards."""
        tenant = story.journal.tenant
        command = WriteNotes(tenant=tenant, fence=self._fence, notes=(note, *others), contents=contents)
        _: Noted = await self._store.apply(command)
        journal = await self._store.journal(tenant, "run", story.journal.id)
        assert journal is not None, "it was just written"
        story.journal = journal

    async def _ask(self, story: Story, step: steps.Ask, told: Told, tell: OnRunEvent) -> None:
        instead = await self._questions.ask(story, step, told, tell)
        match instead:
            case steps.End():
                await self.end(story, instead.move, instead.payload, by="assent", tell=tell)
            case steps.Wait():
                await self._wait(story, instead, tell)
            case None:
                pass

    def _wish(
        self, story: Story, operation: str, arguments: Mapping[str, object], provenance: Provenance, key: str
    ) -> Wish:
        return Wish(
            tenant=story.journal.tenant,
            operation=operation,
            arguments=arguments,
            principal=story.begun.agent.principal,
            on_behalf_of=story.begun.on_behalf_of,
            run=story.journal.id,
            key=key,
            provenance=provenance,
        )

    async def _perform(self, story: Story, step: steps.Perform, told: Told, tell: OnRunEvent) -> None:
        """Ask for the proposals in their order; neighbours that only read are asked for side by side."""
        flow = flow_of(story, prior=told.prior, turn=step.turn)
        for group in _groups(step.calls, reads=lambda call: self._reads(story.begun.offer_of(call.name).operation)):
            try:
                async with asyncio.TaskGroup() as tasks:
                    for number, (place, call) in enumerate(group):
                        before = [one for _, one in group[:number]]
                        tasks.create_task(self._call(story, flow, step.turn, place, call, before=before, tell=tell))
            except ExceptionGroup as several:
                raise several.exceptions[0] from several

    async def _call(
        self,
        story: Story,
        flow: Flow,
        turn: int,
        place: int,
        call: ToolCall,
        *,
        before: Sequence[ToolCall],
        tell: OnRunEvent,
    ) -> None:
        run, tool = story.journal.id, call.name
        operation = story.begun.offer_of(tool).operation
        known = self._operations.get(operation)
        arguments, provenance = provenance_of(
            story, flow, turn=turn, call=call, contract=known.contract if known else None, before=before,
            now_ms=self._clock.now_ms(),
        )  # fmt: skip
        tell(Proposal(run=run, turn=turn, place=place, tool=tool, operation=operation, arguments=call.arguments))
        attempt = story.tries.get((turn, place), -1) + 1
        wish = self._wish(story, operation, arguments, provenance, key_of_call(run, turn, place, attempt))
        if not provenance.beyond:  # a person who lets it go beyond lets just this call
            wish = replace(wish, holds=taken_of(story, turn, operation, arguments))
        left = story.asks_left
        if left is not None and len(before) >= left:  # each of those beside it might ask, too
            wish = replace(wish, may_ask=False)
        answer = await self._gate.perform(wish, on_accepted=lambda made: tell(_decided(made, run, turn, place, tool)))
        await self._read(story, answer.effect)
        self._tell_end(story, turn, place, tool, tell)

    def _tell_end(self, story: Story, turn: int, place: int, tool: str, tell: OnRunEvent) -> None:
        """Tell what came of a call, once nothing more can."""
        record = story.calls[turn, place]
        if record.over:
            text, _ = result_text(story, record)
            effect = record.effect
            tell(
                CallEnded(
                    run=story.journal.id, turn=turn, place=place, tool=tool, effect=effect.id, state=effect.state,
                    code=effect.code, text=text,
                )
            )  # fmt: skip

    async def _settle(self, story: Story, step: steps.Settle, tell: OnRunEvent) -> None:
        """See how an open effect stands by now; carry out what was approved, look at what is unknown, and where a look
        does not tell, wait for a person."""
        open_ = step.attempt.effect if step.attempt else step.call.effect if step.call else None
        assert open_ is not None, "there is something to settle"
        effect = await self._must_find(story.journal.tenant, open_)
        try:
            if effect.state is EffectState.GRANTED:
                await self._gate.release(effect.tenant, effect.id)
            elif effect.state is EffectState.UNKNOWN:
                effect = await self._recovery.look(effect)
        except Conflict as conflict:  # somebody was faster, and how it stands is read below; or it is halted
            if conflict.code == steps.HALTED:
                await self._wait(story, steps.Wait(reason="halted", of=effect.id, question=conflict.message), tell)
                return
        await self._read(story, effect)
        turn, place, _ = place_of(effect.key, story.journal.id) or (0, None, 0)
        if place is not None:
            self._tell_end(story, turn, place, story.tool_of(turn, place), tell)
        if effect.state is EffectState.DISPATCHED and not await self._recovery.fence_out_the_dead():
            await self._wait(story, steps.Wait(reason="unknown", of=effect.id), tell)  # somebody who lives has it
        if effect.state is EffectState.UNKNOWN:
            await self._wait(story, steps.Wait(reason="unknown", of=effect.id), tell)

    async def _see_to(self, story: Story, step: steps.Attend, tell: OnRunEvent) -> None:
        end = await self._attend(story, step, tell)
        if end is None:
            await self._wait(story, steps.Wait(reason="child", of=step.call.effect.id), tell)
        else:
            story.children[step.call.effect.id] = end

    async def _wait(self, story: Story, step: steps.Wait, tell: OnRunEvent) -> None:
        await self.write(story, entries.waiting(story.journal, reason=step.reason, of=step.of))
        story.waits_for = f"{step.reason} {step.of}"
        tell(Waiting(run=story.journal.id, reason=step.reason, of=step.of, question=step.question))

    async def _read(self, story: Story, effect: Effect) -> None:
        """Read an effect back from the record: what goes on is what is written."""
        found = await self._must_find(effect.tenant, effect)
        story.note_effect(found, await self._store.history(found.tenant, found))

    async def _must_find(self, tenant: TenantId, effect: Effect) -> Effect:
        found = await self._store.effect(tenant, effect.id)
        if found is None:
            raise NotFound("effect_not_found", f"there is no effect `{effect.id}`", hint="see `assent timeline`")
        return found

    def _reads(self, operation: str) -> bool:
        known = self._operations.get(operation)
        return known is not None and known.contract.effect is EffectClass.READ


def _decided(answer: Answer, run: str, turn: int, place: int, tool: str) -> Decided:
    decision = answer.decision
    assert decision is not None, "what was just accepted was just decided"
    return Decided(
        run=run, turn=turn, place=place, tool=tool, effect=answer.effect.id, verdict=decision.verdict,
        rules=decision.rules, reason=decision.reason,
    )  # fmt: skip


def _groups(
    calls: Iterable[tuple[int, ToolCall]], *, reads: Callable[[ToolCall], bool]
) -> list[list[tuple[int, ToolCall]]]:
    groups: list[list[tuple[int, ToolCall]]] = []
    together = False
    for place, call in calls:
        if together and reads(call):
            groups[-1].append((place, call))
        else:
            groups.append([(place, call)])
        together = reads(call)
    return groups
