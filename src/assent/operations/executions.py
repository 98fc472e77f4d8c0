"""Active executions: governed calls that can be listened to, spoken to and stopped while they run.

    start ──► gate.perform (decide, accept, dispatch) ──► lane ──► settle
      │                                                    ▲ │
      └── id ── input, end_input, signal, resize ──────────┘ │ output, under credit
                subscribe ◄──────────────────────────────────┘
                status, cancel, result

An execution is a call like any other: it is decided, recorded and settled by the gate, whatever its asker does. What is
kept here is only what is needed while it runs, and for a while after: the words that wait for the lane, and a bounded
tail of output. Only its tenant's asker, who holds its id, can speak to it, and each word names the fence it was told at
the start: a word that was meant for another life of this node is refused.

Output is bounded by credit. While nobody listens up to `TAIL_BYTES` are kept; a listener gives back room by taking
pieces. A lane hands up nothing more while there is no room, so a slow listener slows the program and loses nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from enum import StrEnum

import msgspec

from assent.execution.outcomes import StreamEvent
from assent.execution.steering import EndInput, Input, Word
from assent.operations.gate import Gate
from assent.operations.wishes import Answer, Wish
from assent.primitives.errors import Conflict, NotFound, Refused
from assent.primitives.ids import ExecutionId, IdSource, TenantId
from assent.primitives.leases import Fence

TAIL_BYTES = 262_144
WORDS_MAX = 256
WORD_BYTES_MAX = 1_048_576
EXECUTIONS_MAX = 4_096
ENDED_KEPT_MAX = 1_024


class ExecutionState(StrEnum):
    """Where an execution stands. HELD: nobody takes its output, so it waits."""

    STARTING = "starting"
    RUNNING = "running"
    HELD = "held"
    ENDED = "ended"


class ExecutionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an execution now. `output_bytes` counts all that came; `answer` is there once it has ended."""

    id: ExecutionId
    fence: Fence
    state: ExecutionState
    input_open: bool
    output_bytes: int
    sequence: int
    answer: Answer | None = None


class NumberedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of output and its place among all of them, from 1."""

    sequence: int
    stream: str
    data: bytes


class _Line:
    """Between one running order and its asker (`ports.Steering`)."""

    def __init__(self) -> None:
        self._words: asyncio.Queue[Word] = asyncio.Queue(WORDS_MAX)
        self._pieces: deque[NumberedEvent] = deque()
        self._held_bytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self._arrived = asyncio.Event()
        self.sequence = self.output_bytes = 0
        self.input_open = True
        self.over = False

    async def word(self) -> Word:
        return await self._words.get()

    def has_room(self) -> bool:
        return self._room.is_set()

    async def room(self) -> None:
        await self._room.wait()

    def say(self, word: Word) -> None:
        if self.over or (isinstance(word, Input | EndInput) and not self.input_open):
            raise Conflict("input_closed", "it takes no more input")
        if isinstance(word, Input) and len(word.data) > WORD_BYTES_MAX:
            raise Refused("input_too_large", f"one piece of input has at most {WORD_BYTES_MAX} bytes")
        try:
            self._words.put_nowait(word)
        except asyncio.QueueFull:
            raise Refused(
                "input_waiting", f"{WORDS_MAX} words wait to be taken already", hint="send the rest when some are taken"
            ) from None
        if isinstance(word, EndInput):
            self.input_open = False

    def hear(self, event: StreamEvent) -> None:
        self.sequence += 1
        self.output_bytes += len(event.data)
        self._pieces.append(NumberedEvent(sequence=self.sequence, stream=event.stream, data=event.data))
        self._held_bytes += len(event.data)
        if self._held_bytes >= TAIL_BYTES:
            self._room.clear()
        self._arrived.set()

    async def take(self) -> NumberedEvent | None:
        while not self._pieces:
            if self.over:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        piece = self._pieces.popleft()
        self._held_bytes -= len(piece.data)
        if self._held_bytes < TAIL_BYTES:
            self._room.set()
        return piece

    def end(self) -> None:
        self.over, self.input_open = True, False
        self._arrived.set()
        self._room.set()


class _Execution:
    def __init__(self, tenant: TenantId, fence: Fence) -> None:
        self.tenant, self.fence, self.line = tenant, fence, _Line()
        self.work: asyncio.Task[Answer]

    @property
    def ended(self) -> bool:
        return self.work.done()


class Executions:
    """The active executions of one node. Used inside `async with`: its end cancels what runs and waits for it."""

    def __init__(self, *, gate: Gate, ids: IdSource, fence: Fence) -> None:
        self._gate, self._ids, self._fence = gate, ids, fence
        self._all: dict[ExecutionId, _Execution] = {}

    def start(self, wish: Wish) -> ExecutionStatus:
        """Start a call and return at once. What becomes of it is on record, and told by `status` and `result`.

        Raises:
            Refused: `executions_full`.
        """
        self._forget_old()
        if sum(not one.ended for one in self._all.values()) >= EXECUTIONS_MAX:
            raise Refused("executions_full", f"{EXECUTIONS_MAX} executions run already", hint="end some, or wait")
        id_ = self._ids.execution()
        execution = _Execution(wish.tenant, self._fence)
        execution.work = asyncio.create_task(self._perform(wish, execution.line))  # noqa: TID251 (`close` awaits it)
        execution.work.add_done_callback(_noted)
        self._all[id_] = execution
        return self._status(id_, execution)

    async def events(self, tenant: TenantId, id_: ExecutionId) -> AsyncIterator[NumberedEvent]:
        """Take its output, from what is kept on, until it ends. Each piece goes to one listener."""
        line = self._find(tenant, id_).line
        while (piece := await line.take()) is not None:
            yield piece

    def say(self, tenant: TenantId, id_: ExecutionId, word: Word, *, fence: Fence) -> None:
        """Say a word to it.

        Raises:
            NotFound: there is no such execution here.
            Conflict: `fence_stale`, `input_closed`.
            Refused: `input_waiting`, `input_too_large`.
        """
        self._fenced(tenant, id_, fence).line.say(word)

    def status(self, tenant: TenantId, id_: ExecutionId) -> ExecutionStatus:
        """What is known of it now. Raises NotFound."""
        return self._status(id_, self._find(tenant, id_))

    async def result(self, tenant: TenantId, id_: ExecutionId) -> Answer:
        """Wait for its end. Raises NotFound, and whatever `Gate.perform` raises."""
        return await asyncio.shield(self._find(tenant, id_).work)

    async def cancel(self, tenant: TenantId, id_: ExecutionId, *, fence: Fence) -> ExecutionStatus:
        """Stop it and wait until its end is on record. Idempotent. Raises NotFound, Conflict (`fence_stale`)."""
        execution = self._fenced(tenant, id_, fence)
        execution.work.cancel()
        await asyncio.wait([execution.work])
        return self._status(id_, execution)

    async def close(self) -> None:
        """Cancel everything that runs, and wait until each end is on record."""
        works = [one.work for one in self._all.values() if not one.ended]
        for work in works:
            work.cancel()
        if works:
            await asyncio.wait(works)

    async def _perform(self, wish: Wish, line: _Line) -> Answer:
        try:
            return await self._gate.perform(wish, on_event=line.hear, steering=line)
        finally:
            line.end()

    def _status(self, id_: ExecutionId, execution: _Execution) -> ExecutionStatus:
        line, work = execution.line, execution.work
        if work.done():
            state = ExecutionState.ENDED
        elif not line.has_room():
            state = ExecutionState.HELD
        else:
            state = ExecutionState.RUNNING if line.sequence else ExecutionState.STARTING
        whole = work.done() and not work.cancelled() and work.exception() is None
        return ExecutionStatus(
            id=id_,
            fence=execution.fence,
            state=state,
            input_open=line.input_open,
            output_bytes=line.output_bytes,
            sequence=line.sequence,
            answer=work.result() if whole else None,
        )

    def _find(self, tenant: TenantId, id_: ExecutionId) -> _Execution:
        found = self._all.get(id_)
        if found is None or found.tenant != tenant:
            raise NotFound("execution_unknown", f"there is no execution `{id_[:80]}` here")
        return found

    def _fenced(self, tenant: TenantId, id_: ExecutionId, fence: Fence) -> _Execution:
        found = self._find(tenant, id_)
        if fence != found.fence:
            raise Conflict("fence_stale", "the word was meant for another life of this node")
        return found

    def _forget_old(self) -> None:
        ended = [id_ for id_, one in self._all.items() if one.ended]
        for id_ in ended[: max(0, len(ended) - ENDED_KEPT_MAX)]:
            del self._all[id_]


def _noted(work: asyncio.Task[Answer]) -> None:
    """An end that nobody asks about is no fault of the event loop's: it is on record."""
    if not work.cancelled():
        work.exception()
