"""The file, process and terminal lanes are `Lane`s. Every other lane's own file says the same of it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from assent.execution.adapters.artefacts import ArtefactFolder
from assent.execution.adapters.files import FileLane
from assent.execution.adapters.process import ProcessLane
from assent.execution.adapters.terminal import TerminalLane
from assent.execution.orders import FileOrder, HttpOrder, Limits, ProcessOrder, TerminalOrder
from assent.testing.clocks import SetClock
from assent.testing.conformance.lanes import LaneCase, LaneSuite
from tests.execution.lane_driver import RealClock
from tests.execution.lane_world import Place, processes_with

FOREIGN = HttpOrder(method="GET", url="http://127.0.0.1:1/", hosts=())
FLOOD_BYTES = 3_000_000
LIMITS = Limits(wall_ms=50_000, output_bytes_max=16_777_216, grace_ms=200)


class TestFileLane(LaneSuite):
    @pytest.fixture(autouse=True)
    def a_folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[LaneCase]:
        lane = FileLane(clock=SetClock())
        good = FileOrder(verb="append", workspace=str(self.folder), path="notes.txt", content=b"x")
        yield LaneCase(
            lane=lane,
            good=good,
            foreign=FOREIGN,
            malformed=FileOrder(verb="append", workspace=str(self.folder), path="../outside.txt", content=b"x"),
            deeds=lambda: sum(path.stat().st_size for path in self.folder.rglob("*.txt")),
            running=lambda: 0,
            unmet=None,
        )
        await lane.close()


class _Programs:
    """Programs in a workspace, and what is seen of them from outside."""

    def __init__(self, marker: str) -> None:
        self.marker = marker
        self.state = Path(tempfile.mkdtemp(prefix="assent-state-"))
        self.place = Place(os.geteuid())
        self.artefacts = ArtefactFolder(self.state / "artefacts", entropy=os.urandom)
        self.lane = ProcessLane(clock=RealClock(), state_dir=self.state / "sandbox", artefacts=self.artefacts)

    def order(self, program: str, *, stdin_open: bool = False) -> ProcessOrder:
        argv = ("sh", "-c", program, self.marker)
        return ProcessOrder(argv=argv, workspace=str(self.place.workspace), stdin_open=stdin_open, limits=LIMITS)

    def deeds(self) -> int:
        begun = self.place.workspace / "begun"
        return begun.stat().st_size if begun.exists() else 0

    def running(self) -> int:
        return len(processes_with(self.marker))

    def remove(self) -> None:
        shutil.rmtree(self.state)
        shutil.rmtree(self.place.folder)


GOOD = "echo x >> begun"
ENDLESS = "while :; do echo tick; sleep 0.05; done"
FLOOD = f"head -c {FLOOD_BYTES} /dev/zero | tr '\\0' x"


@pytest.fixture
def programs(marker: str) -> Iterator[_Programs]:
    made = _Programs(marker)
    yield made
    made.remove()


@pytest.mark.slow
class TestProcessLane(LaneSuite):
    @pytest.fixture(autouse=True)
    def some_programs(self, programs: _Programs) -> None:
        self.programs = programs

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[LaneCase]:
        order = self.programs.order
        yield LaneCase(
            lane=self.programs.lane,
            good=order(GOOD),
            foreign=FOREIGN,
            malformed=ProcessOrder(argv=(), workspace=str(self.programs.place.workspace)),
            endless=order(ENDLESS),
            flood=order(FLOOD),
            flood_bytes=FLOOD_BYTES,
            echo=order("cat", stdin_open=True),
            deeds=self.programs.deeds,
            running=self.programs.running,
        )
        await self.programs.lane.close()


@pytest.mark.slow
class TestTerminalLane(LaneSuite):
    @pytest.fixture(autouse=True)
    def some_programs(self, programs: _Programs) -> None:
        self.programs = programs

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[LaneCase]:
        process, artefacts = self.programs.lane, self.programs.artefacts

        def order(program: str) -> TerminalOrder:
            return TerminalOrder(process=self.programs.order(program))

        yield LaneCase(
            lane=TerminalLane(clock=RealClock(), process=process, artefacts=artefacts),
            good=order(GOOD),
            foreign=FOREIGN,
            malformed=TerminalOrder(process=ProcessOrder(argv=(), workspace=str(self.programs.place.workspace))),
            endless=order(ENDLESS),
            flood=order(FLOOD),
            flood_bytes=FLOOD_BYTES,
            echo=order("stty -echo; cat"),
            deeds=self.programs.deeds,
            running=self.programs.running,
        )
        await process.close()
