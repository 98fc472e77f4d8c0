"""The terminal lane: what is recorded, what ends when it cannot be, and what is left when it is given up."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from assent.execution.adapters.artefacts import ArtefactFolder
from assent.execution.adapters.process import ProcessLane
from assent.execution.adapters.terminal import TerminalLane
from assent.execution.attestations import ConfinementClass
from assent.execution.orders import HttpOrder, Limits, ProcessOrder, Pty, TerminalOrder
from assent.execution.outcomes import Ending
from assent.primitives.casts import read_cast
from assent.primitives.errors import InvariantBroken
from tests.execution.lane_driver import RealClock, Script
from tests.execution.lane_world import Place, processes_with


class World:
    """A terminal lane in this process, and a place to work in."""

    def __init__(self) -> None:
        self.state = Path(tempfile.mkdtemp(prefix="assent-state-"))
        self.place = Place(os.geteuid())
        self.artefacts = ArtefactFolder(self.state / "artefacts", entropy=os.urandom)

    def order(self, program: str, *, record_input: bool = False, wall_ms: int = 30_000) -> TerminalOrder:
        process = ProcessOrder(
            argv=("sh", "-c", program), workspace=str(self.place.workspace), pty=Pty(rows=20, columns=60),
            limits=Limits(wall_ms=wall_ms, output_bytes_max=100_000_000),
        )  # fmt: skip
        return TerminalOrder(process=process, record_input=record_input)

    def carried(self, order, *steps, artefacts=None, cancel_at=None, **options):
        """Carry it, and take `steps` meanwhile; cancelled when the output has `cancel_at`."""

        async def carry():
            artefacts_ = artefacts or self.artefacts
            process = ProcessLane(clock=RealClock(), state_dir=self.state / "sandbox", artefacts=artefacts_)
            lane = TerminalLane(clock=RealClock(), process=process, artefacts=artefacts_, **options)
            script = Script([list(one) for one in steps])
            try:
                work = asyncio.ensure_future(
                    lane.carry(order, floor=ConfinementClass.NAMESPACED, on_event=script.hear, steering=script)
                )
                if cancel_at is not None:
                    script.when(cancel_at, work.cancel)
                return await work
            finally:
                await process.close()

        return asyncio.run(carry())

    def events(self, outcome):
        """What was recorded."""
        path = self.artefacts.path(outcome.value["recording"]["artefact"])
        assert path.stat().st_size == outcome.value["recording"]["bytes"]
        header, events = read_cast(path.read_bytes().splitlines(keepends=True))
        return header, list(events)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    shutil.rmtree(made.state)
    shutil.rmtree(made.place.folder)


def test_lane_refuses_as_a_bug_when_the_order_is_another_lanes(world):
    with pytest.raises(InvariantBroken):
        world.carried(HttpOrder(method="GET", url="http://127.0.0.1/", hosts=()))


@pytest.mark.slow
@pytest.mark.parametrize("record_input", [False, True])
def test_session_is_recorded_whole_when_it_ends_by_itself(world, record_input):
    order = world.order("echo up; read line; echo got $line", record_input=record_input)
    outcome = world.carried(order, ["expect", "up"], ["resize", 40, 100], ["input", "héllo\n"])
    assert (outcome.ending, outcome.code, outcome.evidence.lane) == (Ending.SUCCEEDED, "ok", "terminal")
    header, events = world.events(outcome)
    assert (header.rows, header.columns, header.command) == (
        20, 60, "sh -c 'echo up; read line; echo got $line'",
    )  # fmt: skip
    shown = "".join(one.text for one in events if one.kind == "o")
    assert shown == outcome.value["stdout"] == "up\r\nhéllo\r\ngot héllo\r\n"
    assert [one.text for one in events if one.kind == "r"] == ["100x40"]
    assert [one.text for one in events if one.kind == "i"] == (["héllo\n"] if record_input else [])
    assert [one.at_ms for one in events] == sorted(one.at_ms for one in events)
    assert outcome.evidence.digests["recording"] == outcome.value["recording"]["artefact"]


@pytest.mark.slow
def test_program_is_ended_when_its_recording_is_full(world):
    marker = f"assent-marker-{os.getpid()}-full"
    order = world.order(f": {marker}; trap '' HUP; yes 0123456789")
    outcome = world.carried(order, recording_bytes_max=50_000)
    assert (outcome.ending, outcome.code, outcome.evidence.limit) == (Ending.FAILED, "recording_limit", "recording")
    assert outcome.value["recording"]["bytes"] <= 50_000
    world.events(outcome)
    assert not processes_with(marker)


class FullDisk:
    """A place for artefacts whose disk is full after some bytes."""

    def __init__(self, inner: ArtefactFolder, *, room_bytes: int) -> None:
        self._inner, self._room_bytes = inner, room_bytes

    def begin(self):
        if self._room_bytes == 0:
            raise OSError(28, "No space left on device")
        return _Filling(self._inner.begin(), self._room_bytes)


class _Filling:
    def __init__(self, artefact, room_bytes: int) -> None:
        self._artefact, self._room_bytes = artefact, room_bytes
        self.keep, self.abandon = artefact.keep, artefact.abandon

    def write(self, data: bytes) -> None:
        self._room_bytes -= len(data)
        if self._room_bytes < 0:
            raise OSError(28, "No space left on device")
        self._artefact.write(data)


@pytest.mark.slow
def test_program_is_ended_when_the_disk_of_the_recording_is_full(world):
    disk = FullDisk(world.artefacts, room_bytes=2_000)
    outcome = world.carried(world.order("yes 0123456789"), artefacts=disk)
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "recording_failed")
    assert "no space left on device" in outcome.message


def test_nothing_runs_when_the_recording_cannot_be_begun(world):
    outcome = world.carried(world.order("touch ran"), artefacts=FullDisk(world.artefacts, room_bytes=0))
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "recording_failed")
    assert not (world.place.workspace / "ran").exists()


@pytest.mark.slow
def test_recording_is_kept_and_nothing_survives_when_the_caller_gives_up(world):
    marker = f"assent-marker-{os.getpid()}-cancel"
    outcome = world.carried(world.order(f": {marker}; echo up; sleep 600"), cancel_at=b"up")
    assert (outcome.ending, outcome.code) == (Ending.CANCELLED, "cancelled")
    _, events = world.events(outcome)
    assert "".join(one.text for one in events).startswith("up")
    assert not processes_with(marker)


def test_no_recording_is_left_when_nothing_ran(world):
    order = world.order("true")
    outcome = world.carried(TerminalOrder(process=ProcessOrder(argv=("",), workspace=order.process.workspace)))
    assert (outcome.code, outcome.evidence.lane) == ("order_malformed", "terminal")
    assert not list((world.state / "artefacts").iterdir())
