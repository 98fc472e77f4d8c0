"""Questions to models: put together from the record, made to fit, and asked through the gate."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from msgspec.structs import replace

from assent.execution.outcomes import StreamEvent
from assent.execution.ports import OnEvent
from assent.ledger.effects import Effect
from assent.ledger.entries import SALT_BYTES
from assent.ledger.journals import Content, content
from assent.ledger.operations import Operation
from assent.ledger.ports import LedgerStore
from assent.ledger.provenance import OWN, Provenance
from assent.operations.gate import Gate
from assent.operations.models import CONNECTOR, ModelOperation
from assent.operations.runs import entries, steps
from assent.operations.runs.breakers import Breakers
from assent.operations.runs.entries import Compacted, Ended
from assent.operations.runs.events import ModelFailed, OnRunEvent, Shortened, TurnBegan, Words
from assent.operations.runs.flowing import may_hear
from assent.operations.runs.scribing import Commission, Scribe
from assent.operations.runs.shortening import cut_to_fit
from assent.operations.runs.states import RunMove
from assent.operations.runs.story import Attempt, Story, key_of_attempt, key_of_summary
from assent.operations.runs.transcript import named, pack_of, piece_bytes, room_of, transcript_of
from assent.operations.wishes import Wish
from assent.primitives.clock import Entropy
from assent.primitives.errors import Malformed
from assent.reasoning.context import Pack, Piece, piece_tokens, read_pieces
from assent.reasoning.failures import CLASS_OF, FailureKind, Fault, RetryClass, failure
from assent.reasoning.messages import TextDelta

Read = Callable[[Story, Effect], Awaitable[None]]
Write = Callable[..., Awaitable[None]]


class Told:
    """What a driver remembers of what it tells: the pieces it begins with, and which pieces are surely kept.

    `asking` is held from the last look at the run's journal until the question is on record. Whoever speaks to a run
    that is driven here holds it too: so words are on record either before a question, and told in it, or after it.
    """

    def __init__(self, prior: Sequence[Piece], kept: Sequence[str], asking: asyncio.Lock) -> None:
        self.prior = tuple(prior)
        self.kept = set(kept)
        self.asking = asking


class Held:
    """A lock that is given back once, by whoever is first to do so."""

    def __init__(self, lock: asyncio.Lock) -> None:
        self._lock = lock
        self._taken = False

    async def take(self) -> None:
        """Wait for it."""
        await self._lock.acquire()
        self._taken = True

    def give(self) -> None:
        """Give it back, unless that was done."""
        if self._taken:
            self._taken = False
            self._lock.release()


class Questions:
    """Asks for runs. `read` reads an effect back into the story, `write` writes a note of the run."""

    def __init__(
        self,
        *,
        store: LedgerStore,
        gate: Gate,
        operations: Mapping[str, Operation],
        entropy: Entropy,
        breakers: Breakers,
        read: Read,
        write: Write,
    ) -> None:
        self._store = store
        self._gate = gate
        self._operations = operations
        self._entropy = entropy
        self._breakers = breakers
        self._read = read
        self._write = write
        self._scribe = Scribe(gate=gate, store=store)

    async def begin(self, story: Story, asking: asyncio.Lock) -> Told:
        """What is told first.

        Raises:
            Malformed: `context_missing`: what was said before is no longer kept.
        """
        first = named(story, story.latest)
        prior = read_pieces(first, await self._store.contents(story.journal.tenant, first) if first else {})
        return Told(prior, first, asking)

    async def ask(self, story: Story, step: steps.Ask, told: Told, tell: OnRunEvent) -> steps.End | steps.Wait | None:
        """Ask a model, after making what it is told smaller where that is needed; or what is to be done instead.

        Raises:
            Unavailable: the database or this node's lease is not there.
        """
        pack = await self._fitting(story, step, told, tell)
        if not isinstance(pack, Pack):
            return pack
        if step.delay_ms:
            await asyncio.sleep(step.delay_ms / 1000)
        step = replace(step, model=self._breakers.chosen(step.model, story.begun.agent.models))
        heard = may_hear(pack.label, story.begun.on_behalf_of[-1])
        shown: list[str] = []
        operation = self._operations.get(_endpoint(step.model))
        live = operation.live() if isinstance(operation, ModelOperation) else None

        def show(event: StreamEvent) -> None:
            for delta in live.feed(event.data) if live else ():
                if isinstance(delta, TextDelta) and heard:
                    shown.append(delta.text)
                    tell(Words(run=story.journal.id, turn=step.turn, text=delta.text))

        effect = await self._ask(story, step, pack, told, show=show, tell=tell)
        if effect is None:  # somebody spoke to the run, or stopped it, just then: look again
            return None
        told.kept.update(pack.digests)
        await self._read(story, effect)
        self._note(story.attempts[step.turn][step.attempt], step.model)
        said = story.answer(step.turn)
        if said and said.text and not shown and heard:  # it came in one piece
            tell(Words(run=story.journal.id, turn=step.turn, text=said.text))
        _tell_fault(story, step, tell)
        return None

    async def _ask(
        self, story: Story, step: steps.Ask, pack: Pack, told: Told, *, show: OnEvent, tell: OnRunEvent
    ) -> Effect | None:
        """Ask; None when the run has moved on since the question was made."""
        run = story.journal.id
        held = Held(told.asking)
        await held.take()
        try:
            now = await self._store.journal(story.journal.tenant, "run", run)
            if now is None or now.last_seq != story.journal.last_seq:
                return None
            tell(
                TurnBegan(
                    run=run, turn=step.turn, model=step.model, tokens=pack.tokens, label=pack.label.integrity,
                    left_out=pack.left_out,
                )
            )  # fmt: skip
            wish = _question(story, step, pack, told)
            answer = await self._gate.perform(wish, on_event=show, on_accepted=lambda _: held.give())
            return answer.effect
        finally:
            held.give()

    def _note(self, attempt: Attempt, model: str) -> None:
        """Let the breakers know how it went."""
        if attempt.completion is not None:
            self._breakers.answered(model)
        elif attempt.fault is not None and attempt.fault.kind is FailureKind.ADAPTER_UNAVAILABLE:
            self._breakers.failed(model)

    async def _fitting(
        self, story: Story, step: steps.Ask, told: Told, tell: OnRunEvent
    ) -> Pack | steps.End | steps.Wait:
        """What is told, once it fits."""
        limit = story.begun.agent.context_tokens_max
        pack, fault = _pack(story, step, told)
        if pack is not None and not step.compact:
            return pack
        if any((one.turn, one.attempt) == (step.turn, step.attempt) for one in story.shorter):
            return pack or _too_large(fault)  # it was made smaller already
        if pack is not None:
            limit = pack.tokens // 2  # it is what we thought would fit, and the provider says that it does not
        instead = await self._shorten(story, step, told, limit, tell)
        if instead is not None:
            return instead
        pack, fault = _pack(story, step, told)
        return pack or _too_large(fault)

    async def _shorten(
        self, story: Story, step: steps.Ask, told: Told, limit: int, tell: OnRunEvent
    ) -> steps.End | steps.Wait | None:
        """Have what was said summed up, and tell that from now on; or what is to be done instead."""
        whole = transcript_of(
            story, prior=told.prior, base=story.base(step.turn, step.attempt), through=step.turn - 1
        )  # fmt: skip
        parts = cut_to_fit(whole, room=room_of(story, turn=step.turn, limit=limit))
        if parts is None:
            return _too_large(f"what was said cannot be told in {limit} tokens, and not be made shorter either")
        begun, run = story.begun, story.journal.id
        commission = Commission(
            tenant=story.journal.tenant,
            agent=begun.agent,
            on_behalf_of=begun.on_behalf_of,
            run=run,
            source=f"run:{run}/{step.turn}",
            key=lambda part, attempt: key_of_summary(run, step.turn, part, attempt),
            known={part: found for (turn, part), found in story.summaries.items() if turn == step.turn},
        )
        summary = await self._scribe.sum_up(commission, parts)
        if isinstance(summary, Fault):
            return _unsummed(summary, step)
        await self._tell_shorter(story, step, told, whole, (summary, *whole[len(whole) - parts.kept :]))
        sizes = [sum(piece_tokens(one) for one in pieces) for pieces in (whole, told.prior)]
        tell(Shortened(run=run, turn=step.turn, tokens_before=sizes[0], tokens=sizes[1]))
        return None

    async def _tell_shorter(
        self, story: Story, step: steps.Ask, told: Told, whole: Sequence[Piece], shorter: tuple[Piece, ...]
    ) -> None:
        """Write it down, keep all the pieces, and tell the shorter ones from now on."""
        originals = [content(data) for data in piece_bytes(whole)]
        pieces = [content(data) for data in piece_bytes(shorter)]
        payload = Compacted(
            through=step.turn - 1,
            pieces=tuple(one.digest for one in pieces),
            originals=tuple(one.digest for one in originals),
        )
        note = entries.compacted(story.journal, payload, salt=self._entropy(SALT_BYTES))
        await self._write(story, note, contents=(*originals, pieces[0]))
        story.note_shorter(payload)
        told.prior = shorter


def _pack(story: Story, step: steps.Ask, told: Told) -> tuple[Pack | None, str]:
    """What is told, or why it does not fit."""
    try:
        return pack_of(story, prior=told.prior, turn=step.turn, attempt=step.attempt), ""
    except Malformed as malformed:
        return None, malformed.message


def _question(story: Story, step: steps.Ask, pack: Pack, told: Told) -> Wish:
    agent, run = story.begun.agent, story.journal.id
    arguments: dict[str, object] = {
        "model": step.model.partition(":")[2],
        "pieces": [*pack.digests],
        "output_tokens_max": agent.output_tokens_max,
    }
    if agent.temperature_milli is not None:
        arguments["temperature_milli"] = agent.temperature_milli
    pairs = dict(zip(pack.digests, pack.data, strict=True))
    return Wish(
        tenant=story.journal.tenant,
        operation=_endpoint(step.model),
        arguments=arguments,
        principal=agent.principal,
        on_behalf_of=story.begun.on_behalf_of,
        run=run,
        key=key_of_attempt(run, step.turn, step.attempt),
        contents=tuple(Content(digest=name, data=data, kept=name in told.kept) for name, data in pairs.items()),
        provenance=Provenance(context=OWN.context, arguments={"pieces": pack.label}),
    )


def _endpoint(model: str) -> str:
    return f"{CONNECTOR}.{model.partition(':')[0]}"


def _tell_fault(story: Story, step: steps.Ask, tell: OnRunEvent) -> None:
    attempt = story.attempts[step.turn][step.attempt]
    if attempt.fault is None:
        return
    then = steps.next_step(story)
    delay_ms = then.delay_ms if isinstance(then, steps.Ask) else 0
    tell(
        ModelFailed(
            run=story.journal.id, turn=step.turn, model=step.model, message=attempt.fault.message,
            then=f"ask {then.model}" if isinstance(then, steps.Ask) else type(then).__name__.lower(),
            delay_ms=delay_ms,
        )
    )  # fmt: skip


def _too_large(message: str) -> steps.End:
    return steps.End(
        move=RunMove.FAIL, payload=Ended(failure=failure(FailureKind.CONTEXT_TOO_LARGE, message))
    )  # fmt: skip


def _unsummed(fault: Fault, step: steps.Ask) -> steps.End | steps.Wait:
    """What follows when nobody could sum it up: better times, or the end."""
    if CLASS_OF[fault.kind] is RetryClass.RETRYABLE:
        return steps.Wait(reason="provider", of=_endpoint(step.model), question=fault.message)
    return steps.End(move=RunMove.FAIL, payload=Ended(failure=failure(fault.kind, fault.message)))
