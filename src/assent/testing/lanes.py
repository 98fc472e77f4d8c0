"""Lanes that do what a test tells them, and count what they did where a crash cannot reach it.

A `Journal` is the outside world in small: whatever a lane did to it stays done, also when the process is killed in the
next instruction. So "no second effect" is a count of its lines.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import msgspec

from assent.execution.attestations import Attestation, ConfinementClass
from assent.execution.orders import FileOrder, HttpOrder, Order, ProcessOrder, order_digest
from assent.execution.outcomes import Ending, Evidence, Outcome, StreamEvent
from assent.execution.ports import Lane, OnEvent, Steering
from assent.execution.steering import Capabilities, Input
from assent.primitives.clock import Clock


class Journal(Protocol):
    """Where a scripted lane leaves its marks."""

    def mark(self, line: str) -> None:
        """Add a line; it is there when this returns."""
        ...

    def lines(self) -> list[str]:
        """Every line, oldest first."""
        ...


class ListJournal:
    """A journal in memory, for tests that live in one process."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def mark(self, line: str) -> None:
        self._lines.append(line)

    def lines(self) -> list[str]:
        return list(self._lines)


class FileJournal:
    """A journal in a file that several processes may append to; one write a line, so lines never mix."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def mark(self, line: str) -> None:
        descriptor = os.open(self._path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        try:
            os.write(descriptor, f"{line}\n".encode())
        finally:
            os.close(descriptor)

    def lines(self) -> list[str]:
        return self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """Do it and say how it ended."""

    ending: Ending = Ending.SUCCEEDED
    code: str = "ok"
    message: str = ""
    value: dict[str, Any] = {}


class Hang(msgspec.Struct, frozen=True, kw_only=True):
    """Do it and never come back. `stops`: whether a cancellation is let through; if not, it answers UNKNOWN."""

    stops: bool = True


class Break(msgspec.Struct, frozen=True, kw_only=True):
    """Do it and raise, as no lane may."""

    error: Exception


Step: TypeAlias = Reply | Hang | Break


class ScriptedLane:
    """Plays one step for each order, the last step for all that follow.

    `carried` counts the orders it took, `started` is set whenever it has one, `on_mark` runs in the middle of each: the
    deed is in the journal, the answer is not given.
    """

    def __init__(
        self,
        name: str,
        *steps: Step,
        clock: Clock,
        journal: Journal | None = None,
        on_mark: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.capabilities = Capabilities()
        self.journal: Journal = journal or ListJournal()
        self.carried = 0
        self.closed = False
        self.started = asyncio.Event()
        self._steps: tuple[Step, ...] = steps or (Reply(),)
        self._clock = clock
        self._on_mark = on_mark

    async def carry(
        self, order: Order, *, floor: ConfinementClass, on_event: OnEvent, steering: Steering | None = None
    ) -> Outcome:
        """Leave a mark with the order's digest, then do as the script says."""
        step = self._steps[min(self.carried, len(self._steps) - 1)]
        self.carried += 1
        started_at_ms = self._clock.now_ms()
        self.journal.mark(f"{self.name} {order_digest(order)}")
        self._on_mark()
        self.started.set()
        match step:
            case Break(error=error):
                raise error
            case Hang(stops=stops):
                return await self._hang(started_at_ms, stops=stops)
            case Reply():
                return self._outcome(started_at_ms, step)

    async def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True

    async def _hang(self, started_at_ms: int, *, stops: bool) -> Outcome:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if stops:
                raise
        return self._outcome(started_at_ms, Reply(ending=Ending.UNKNOWN, code="stop_uncertain"))

    def _outcome(self, started_at_ms: int, reply: Reply) -> Outcome:
        evidence = Evidence(
            lane=self.name,
            attestation=Attestation(mechanism="script", builtin=True),
            started_at_ms=started_at_ms,
            ended_at_ms=self._clock.now_ms(),
        )
        return Outcome(
            ending=reply.ending, code=reply.code, message=reply.message, value=reply.value, evidence=evidence
        )


class EchoLane:
    """Gives back every input under the steering's credit, ends with its end, and fills nothing: a program in small.

    It begins by saying `ready`, and after `flood` (an input of just that word) it says `FLOOD_PIECES` pieces of
    `FLOOD_BYTES`.
    """

    FLOOD_PIECES, FLOOD_BYTES = 40, 65_536

    name = "echo"
    capabilities = Capabilities(words=("Input", "EndInput"), streams=True)

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self.running = 0

    async def carry(
        self,
        order: Order,
        *,
        floor: ConfinementClass,
        on_event: OnEvent,
        steering: Steering | None = None,
    ) -> Outcome:
        """See the class."""
        assert steering is not None, "somebody has to speak to it"
        started_at_ms, said = self._clock.now_ms(), 0
        self.running += 1
        try:
            await _say(steering, on_event, b"ready")
            while isinstance(word := await steering.word(), Input):
                pieces = [b"x" * self.FLOOD_BYTES] * self.FLOOD_PIECES if word.data == b"flood" else [word.data]
                for piece in pieces:
                    await _say(steering, on_event, piece)
                    said += len(piece)
        finally:
            self.running -= 1
        evidence = Evidence(
            lane=self.name,
            attestation=Attestation(mechanism="script", builtin=True),
            started_at_ms=started_at_ms,
            ended_at_ms=self._clock.now_ms(),
        )
        return Outcome(ending=Ending.SUCCEEDED, code="ok", value={"bytes": said}, evidence=evidence)

    async def close(self) -> None:
        """Nothing is held."""


async def _say(steering: Steering, on_event: OnEvent, data: bytes) -> None:
    await steering.room()
    on_event(StreamEvent(stream="stdout", data=data))


KINDS: dict[type, str] = {ProcessOrder: "process", HttpOrder: "http", FileOrder: "file"}


def scripted_lanes(
    steps: Iterable[Step] = (), *, clock: Clock, journal: Journal | None = None
) -> dict[type, ScriptedLane]:
    """One scripted lane for each kind of order, over one journal."""
    journal = journal or ListJournal()
    script = tuple(steps)
    return {kind: ScriptedLane(name, *script, clock=clock, journal=journal) for kind, name in KINDS.items()}


def as_lanes(lanes: dict[type, ScriptedLane]) -> dict[type, Lane]:
    """The same lanes, as what asks for `Lane`s takes them."""
    return dict(lanes)
