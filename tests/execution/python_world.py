"""A workspace and a python lane on a loop of their own, for tests that ask one thing after the other."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from assent.bootstrap.system import SystemClock, SystemEntropy
from assent.execution.adapters.artefacts import ArtefactFolder
from assent.execution.adapters.python import PythonLane
from assent.execution.attestations import ConfinementClass
from assent.execution.orders import Limits, PythonOrder
from assent.execution.outcomes import Outcome, StreamEvent
from assent.testing.steerings import HeldSteering

T = TypeVar("T")
QUICK = Limits(wall_ms=30_000, grace_ms=300)
PATIENCE_S = 120


class PythonWorld:
    def __init__(self, folder: Path, **options: Any) -> None:
        self.folder, self.workspace = folder, folder / "workspace"
        self.workspace.mkdir()
        self.artefacts = ArtefactFolder(folder / "artefacts", entropy=SystemEntropy())
        self.heard: list[StreamEvent] = []
        self._runner = asyncio.Runner()
        made = {"spares_max": 0, "artefacts": self.artefacts, **options}
        self.lane = PythonLane(clock=SystemClock(), entropy=SystemEntropy(), **made)

    def run(self, work: Awaitable[T]) -> T:
        async def patiently() -> T:
            async with asyncio.timeout(PATIENCE_S):
                return await work

        return self._runner.run(patiently())

    async def carry(
        self,
        source: str,
        *,
        floor: ConfinementClass = ConfinementClass.NAMESPACED,
        steering: HeldSteering | None = None,
        **fields: Any,
    ) -> Outcome:
        order = PythonOrder(source=source, workspace=str(self.workspace), **{"limits": QUICK, **fields})
        hear: Callable[[StreamEvent], None] = self.heard.append if steering is None else steering.hear
        return await self.lane.carry(order, floor=floor, on_event=hear, steering=steering)

    def one(self, source: str, **fields: Any) -> Outcome:
        return self.run(self.carry(source, **fields))

    def written(self, name: str) -> str:
        return (self.workspace / name).read_text()

    def close(self) -> None:
        self.run(self.lane.close())
        self._runner.close()
        shutil.rmtree(self.folder)


@contextmanager
def python_world(**options: Any) -> Iterator[PythonWorld]:
    world = PythonWorld(Path(tempfile.mkdtemp(prefix="assent-test-")).resolve(), **options)
    try:
        yield world
    finally:
        world.close()


def children_of(pid: int) -> list[int]:
    """Everything that runs below `pid`."""
    found = []
    for name in (path.name for path in Path("/proc").iterdir()):
        if name.isdigit():
            try:
                fields = Path("/proc", name, "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z" and int(fields[1]) == pid:
                found += [int(name), *children_of(int(name))]
    return found
