"""The terminal lane: a confined program under a terminal of its own, spoken to by a person, and recorded whole.

It is carried by the process lane, with its confinement, its limits and its proof of death; what is added is the
recording, an asciicast whose digest stands in the evidence. What cannot be recorded does not go on: a recording that is
full or cannot be written ends the program (a hang-up, then the kill). A cancelled terminal keeps its recording too.

What is typed is recorded only when the order says so. What the program echoes is output, and so always recorded: a
program that asks for a password turns the echo off.

Codes: those of the process lane; `recording_limit`, `recording_failed`. Nothing ran for `recording_failed` before the
start.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from assent.execution.adapters.process import ProcessLane
from assent.execution.adapters.terminal.recording import RECORDING_BYTES_MAX, Recording
from assent.execution.attestations import Attestation, ConfinementClass
from assent.execution.orders import Order, ProcessOrder, Pty, TerminalOrder
from assent.execution.outcomes import Ending, Evidence, Outcome, StreamEvent
from assent.execution.ports import Artefacts, OnEvent, Steering
from assent.execution.steering import Capabilities, Signal, Word
from assent.primitives.clock import Clock
from assent.primitives.errors import InvariantBroken

NAME = "terminal"


class TerminalLane:
    """Carries `TerminalOrder`s on a process lane. It owns neither that nor the artefacts."""

    name = NAME
    capabilities = Capabilities(
        words=("Input", "EndInput", "Signal", "Resize"), streams=True, summary="a person's terminal, recorded"
    )

    def __init__(
        self,
        *,
        clock: Clock,
        process: ProcessLane,
        artefacts: Artefacts,
        recording_bytes_max: int = RECORDING_BYTES_MAX,
    ) -> None:
        self._clock, self._process, self._artefacts = clock, process, artefacts
        self._bytes_max = recording_bytes_max

    async def carry(
        self, order: Order, *, floor: ConfinementClass, on_event: OnEvent, steering: Steering | None = None
    ) -> Outcome:
        """Carry one terminal to its end.

        Raises:
            InvariantBroken: the order is not a `TerminalOrder`.
        """
        if not isinstance(order, TerminalOrder):
            raise InvariantBroken("order_of_other_lane", f"the terminal lane was given a `{type(order).__name__}`")
        pty = order.process.pty or Pty()
        process = msgspec.structs.replace(order.process, pty=pty, framing="raw", stdin_open=steering is not None)
        try:
            recording = Recording(
                self._artefacts, order=process, pty=pty, typed=order.record_input, clock=self._clock,
                bytes_max=self._bytes_max,
            )  # fmt: skip
        except OSError as error:
            return self._unbegun(f"the recording cannot be begun: {(error.strerror or str(error)).lower()}")
        return await _Session(self._process, self._clock, recording, steering).carry(process, floor, on_event)

    async def close(self) -> None:
        """Nothing is held between orders."""

    def _unbegun(self, message: str) -> Outcome:
        now_ms = self._clock.now_ms()
        evidence = Evidence(
            lane=NAME, attestation=Attestation(mechanism="none"), started_at_ms=now_ms, ended_at_ms=now_ms
        )
        return Outcome(ending=Ending.FAILED, code="recording_failed", message=message, evidence=evidence)


class _Session:
    """One terminal, and the steering of its program (`ports.Steering`): the asker's, seen by the recording."""

    def __init__(self, process: ProcessLane, clock: Clock, recording: Recording, steering: Steering | None) -> None:
        self._process, self._clock, self._recording, self._steering = process, clock, recording, steering
        self._last_words: list[Word] = [Signal(name="KILL"), Signal(name="HUP")]
        self._attestation: Attestation | None = None
        self._began_ms = clock.now_ms()

    async def carry(self, order: ProcessOrder, floor: ConfinementClass, on_event: OnEvent) -> Outcome:
        def show(event: StreamEvent) -> None:
            self._recording.show(event.data)
            on_event(event)

        try:
            outcome = await self._process.carry(
                order, floor=floor, on_event=show, steering=self, on_attested=self._attested
            )
        except asyncio.CancelledError:
            if self._attestation is None:
                self._recording.abandon()
                raise
            return self._recorded(self._cancelled(self._attestation), await self._recording.keep())
        if self._attestation is None:  # it did not come to run
            self._recording.abandon()
            return self._renamed(outcome)
        return self._recorded(outcome, await self._recording.keep())

    async def word(self) -> Word:
        """The asker's next word; once the recording is at fault, the end."""
        if self._last_words and self._recording.fault:
            return self._last_words.pop()
        said = await self._said()
        if said is None:
            return self._last_words.pop()
        self._recording.hear(said)
        return said

    def has_room(self) -> bool:
        """As the asker says."""
        return self._steering is None or self._steering.has_room()

    async def room(self) -> None:
        """As the asker says."""
        if self._steering is not None:
            await self._steering.room()

    async def _said(self) -> Word | None:
        """The asker's next word, or None when the recording is at fault before one comes."""
        if not self._last_words:
            await asyncio.Event().wait()  # all is said
        if self._steering is None:
            await self._recording.faulty.wait()
            return None
        async with asyncio.TaskGroup() as group:
            word = group.create_task(self._steering.word())
            fault = group.create_task(self._recording.faulty.wait())
            await asyncio.wait([word, fault], return_when=asyncio.FIRST_COMPLETED)
            fault.cancel()
            word.cancel()
        return None if self._recording.fault or word.cancelled() else word.result()

    def _attested(self, attestation: Attestation) -> None:
        self._attestation = attestation

    def _renamed(self, outcome: Outcome) -> Outcome:
        return msgspec.structs.replace(outcome, evidence=msgspec.structs.replace(outcome.evidence, lane=NAME))

    def _cancelled(self, attestation: Attestation) -> Outcome:
        evidence = Evidence(
            lane=NAME, attestation=attestation, started_at_ms=self._began_ms, ended_at_ms=self._clock.now_ms()
        )
        return Outcome(ending=Ending.CANCELLED, code="cancelled", message="the caller gave up", evidence=evidence)

    def _recorded(self, outcome: Outcome, kept: tuple[str, int] | None) -> Outcome:
        """The outcome with the recording in its evidence; where that is at fault, it is the news."""
        evidence = msgspec.structs.replace(outcome.evidence, lane=NAME)
        value: dict[str, Any] = dict(outcome.value)
        if kept is not None:
            value["recording"] = {"artefact": kept[0], "bytes": kept[1]}
            evidence = msgspec.structs.replace(evidence, digests={**evidence.digests, "recording": kept[0]})
        told = msgspec.structs.replace(outcome, value=value, evidence=evidence)
        fault = self._recording.fault
        if not fault or outcome.ending is Ending.UNKNOWN:
            return told
        limit = "recording" if fault == "recording_limit" else ""
        return msgspec.structs.replace(
            told, ending=Ending.FAILED, code=fault, message=self._recording.message,
            evidence=msgspec.structs.replace(evidence, limit=limit),
        )  # fmt: skip
