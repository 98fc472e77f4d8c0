"""A peer that is a program: confined, spoken with over its standard streams, and dead when the link is closed.

The program is a run of the process lane: its sandbox is attested before it starts, its limits hold, and its whole tree
ends with it. What it writes is taken apart as it comes; while unheard messages fill `HELD_BYTES_MAX` the lane stops
reading, so a flood waits in the pipe and not in memory. Its standard error is not part of the protocol: it is handed up
as it comes, and its last words are kept for the record.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any

import msgspec

from assent.execution.adapters.jsonrpc.links import Gone, Trace
from assent.execution.adapters.process import ProcessLane
from assent.execution.attestations import Attestation, ConfinementClass
from assent.execution.orders import Limits, ProcessOrder
from assent.execution.outcomes import Ending, Outcome, StreamEvent
from assent.execution.ports import OnEvent, Steering
from assent.execution.rpc_framing import Framing
from assent.execution.steering import EndInput, Input, Signal, Word
from assent.primitives.errors import Malformed

HELD_BYTES_MAX = 1_048_576
WORDS_MAX = 256
LAST_WORDS_BYTES = 4_096
_PIECE_BYTES = 65_536
_NO_ATTESTATION = Attestation(mechanism="none")
_NEVER_RAN = frozenset({"program_missing", "order_malformed", "sandbox_failed", "confinement_unmet"})
_LIMITS = frozenset({"wall_limit", "output_limit", "cpu_limit", "memory_limit", "disk_limit", "processes_limit"})


class ProgramLink:
    """One program as a peer (see `Link`). `order` says all of it, `stdin_open` included."""

    def __init__(self, *, lane: ProcessLane, order: ProcessOrder, floor: ConfinementClass, framing: Framing) -> None:
        self._lane, self._order, self._floor, self._framing = lane, order, floor, framing
        self._line = _Line()
        self._work: asyncio.Future[Outcome] | None = None
        self._ended: Outcome | None = None
        self._attestation = _NO_ATTESTATION
        self._begun = asyncio.Event()
        self._on_event: OnEvent = _unheard
        self._stderr = b""
        self._left_bytes = 0
        self._act = 0  # which of the words began what the order is about

    async def open(self) -> None:
        """See `Link.open`."""
        carry = self._lane.carry(
            self._order, floor=self._floor, on_event=self._hear, steering=self._line, on_attested=self._attested
        )
        self._work = asyncio.ensure_future(carry)  # noqa: TID251 (`close` awaits it)
        self._work.add_done_callback(self._over)
        await self._begun.wait()
        if self._work.done():
            raise self._gone()

    def begin(self, *, on_event: OnEvent, steering: Steering | None, bytes_max: int) -> None:
        """See `Link.begin`."""
        self._line.heed(steering)
        self._on_event, self._left_bytes, self._act = on_event, bytes_max, 0

    async def say(self, message: bytes, *, answered: bool, acts: bool = False) -> None:  # noqa: ARG002 (it all goes one way)
        """See `Link.say`."""
        data = self._framing.frame(message)
        if acts:
            self._act = self._line.said + 1
        for at in range(0, len(data), _PIECE_BYTES):
            await self._line.say(Input(data=data[at : at + _PIECE_BYTES]))

    @property
    def sent(self) -> bool:
        """See `Link.sent`: whether the lane has taken the first piece of it."""
        return 0 < self._act <= self._line.taken

    @property
    def alive(self) -> bool:
        """See `Link.alive`."""
        return self._work is not None and not self._line.over and self._line.fault is None

    async def hear(self) -> bytes:
        """See `Link.hear`."""
        message = await self._line.message()
        if message is not None:
            return message
        if self._line.fault is not None:
            raise self._line.fault
        raise self._gone()

    def poll(self) -> bytes | None:
        """See `Link.poll`."""
        return self._line.pop() if self._line.waiting else None

    async def rest(self) -> None:
        """See `Link.rest`: nothing of a program belongs to one message."""

    async def close(self, *, grace_ms: int) -> None:
        """See `Link.close`: the end of its input, SIGTERM, SIGKILL, and then the whole sandbox is taken away."""
        self._line.deaf = True
        self._line.heed(None)
        work = self._work
        if work is None:
            return
        try:
            await self._end_politely(work, grace_ms / 1000)
        finally:
            work.cancel()  # the lane's kill is sent before it first waits
        await asyncio.wait([work])
        self._on_event = _unheard

    async def _end_politely(self, work: asyncio.Future[Outcome], grace_s: float) -> None:
        steps: tuple[Word, ...] = (EndInput(), Signal(name="TERM"), Signal(name="KILL"))
        for word in steps:
            if work.done() or not self._line.offer(word):
                return
            await asyncio.wait([work], timeout=grace_s)

    def trace(self) -> Trace:
        """See `Link.trace`."""
        facts = {"stderr": self._stderr.decode(errors="replace"), "noise": self._framing.noise.decode(errors="replace")}
        peer = self._ended.evidence if self._ended is not None else None
        return Trace(
            attestation=self._attestation,
            facts={**facts, "program": (peer and peer.facts) or {"argv": list(self._order.argv)}},
            digests=peer.digests if peer else {},
        )

    def _attested(self, attestation: Attestation) -> None:
        self._attestation = attestation
        self._begun.set()

    def _hear(self, event: StreamEvent) -> None:
        if event.stream != "stdout":
            self._stderr = (self._stderr + event.data)[-LAST_WORDS_BYTES:]
            self._on_event(event)
        elif not self._line.deaf and self._line.fault is None:
            self._take(event.data)

    def _take(self, piece: bytes) -> None:
        self._left_bytes -= len(piece)
        if self._left_bytes < 0:
            self._line.fail(Malformed("output_limit", "the peer said more than one call may bring"))
            return
        try:
            for message in self._framing.feed(piece):
                self._line.put(message)
        except Malformed as error:
            self._line.fail(error)

    def _over(self, work: asyncio.Future[Outcome]) -> None:
        if not work.cancelled() and work.exception() is None:
            self._ended = work.result()
            self._attestation = self._ended.evidence.attestation
        self._line.over = True
        self._begun.set()
        self._line.wake()

    def _gone(self) -> Gone:
        """What the end of the program means to whoever waits for it."""
        ended = self._ended
        if ended is None:
            return Gone("peer_gone", "the program was stopped", ending=Ending.UNKNOWN)
        said = ended.message or "it ended by itself"
        if ended.code in _NEVER_RAN or not ended.evidence.facts:
            return Gone(ended.code, f"the peer did not start: {said}", ending=ended.ending)
        code = ended.code if ended.code in _LIMITS or ended.ending is Ending.UNKNOWN else "peer_gone"
        return Gone(code, f"the peer is gone: {said}", ending=Ending.UNKNOWN, limit=ended.evidence.limit)


class _Line:
    """Between one program and whoever speaks with it (`ports.Steering`)."""

    def __init__(self) -> None:
        self._words: asyncio.Queue[Word] = asyncio.Queue(WORDS_MAX)
        self._messages: deque[bytes] = deque()
        self._held_bytes = 0
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._asker: Steering | None = None
        self._heeding = asyncio.Event()  # set when somebody else is heeded
        self.said = self.taken = 0
        self.fault: Malformed | None = None
        self.over = self.deaf = False

    async def word(self) -> Word:
        word = await self._words.get()
        self.taken += 1
        return word

    def heed(self, asker: Steering | None) -> None:
        """From now on there is room only while this asker has some, too."""
        self._asker = asker
        self._heeding.set()
        self._heeding = asyncio.Event()
        self.wake()

    def has_room(self) -> bool:
        return self._room.is_set() and (self._asker is None or self._asker.has_room())

    async def room(self) -> None:
        while not self.has_room():
            await self._room.wait()
            if self._asker is not None and not self._asker.has_room():
                await _either(self._asker.room(), self._heeding.wait())

    async def say(self, word: Word) -> None:
        await self._words.put(word)
        self.said += 1

    def offer(self, word: Word) -> bool:
        """Say it if it can be taken at all."""
        try:
            self._words.put_nowait(word)
        except asyncio.QueueFull:
            return False
        return True

    def put(self, message: bytes) -> None:
        self._messages.append(message)
        self._held_bytes += len(message)
        self.wake()

    def fail(self, fault: Malformed) -> None:
        self.fault = fault
        self.wake()

    def wake(self) -> None:
        """Something has changed: whoever waits looks again."""
        self._changed.set()
        if self.deaf or self._held_bytes < HELD_BYTES_MAX:
            self._room.set()
        else:
            self._room.clear()

    async def message(self) -> bytes | None:
        """The next message; None when there is a fault, or the end."""
        while not self._messages:
            if self.fault is not None or self.over:
                return None
            self._changed.clear()
            await self._changed.wait()
        return self.pop()

    @property
    def waiting(self) -> bool:
        """Whether a message has come already."""
        return bool(self._messages)

    def pop(self) -> bytes:
        message = self._messages.popleft()
        self._held_bytes -= len(message)
        self.wake()
        return message


async def _either(*waits: Coroutine[Any, Any, object]) -> None:
    """Wait for the first of these."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]  # noqa: TID251 (none outlives this)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def _unheard(_event: StreamEvent) -> None:
    """Nobody listens between calls."""


def program_order(peer: ProcessOrder, limits: Limits) -> ProcessOrder:
    """`peer` as it is started to be spoken with, within `limits`."""
    return msgspec.structs.replace(peer, stdin_open=True, framing="raw", pty=None, limits=limits)
