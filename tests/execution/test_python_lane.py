"""The python lane from outside: what a call gives back, what it can reach, and what is left of it afterwards."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from assent.bootstrap.system import SystemClock, SystemEntropy
from assent.execution.adapters.python import PythonLane
from assent.execution.attestations import ConfinementClass, Known
from assent.execution.orders import Limits, PythonOrder
from assent.execution.outcomes import Ending, Outcome, StreamEvent
from assent.testing.steerings import HeldSteering

QUICK = Limits(wall_ms=20_000)


class World:
    """A workspace, and a lane for as long as a body runs."""

    def __init__(self, folder: Path) -> None:
        self.workspace = folder / "workspace"
        self.workspace.mkdir()
        self.heard: list[StreamEvent] = []
        self.lane: PythonLane

    def run(self, body: Callable[[], Awaitable[None]], **options: Any) -> None:
        async def main() -> None:
            self.lane = PythonLane(clock=SystemClock(), entropy=SystemEntropy(), spares_max=0, **options)
            try:
                async with asyncio.timeout(120):
                    await body()
            finally:
                await self.lane.close()

        asyncio.run(main())

    async def carry(
        self,
        source: str,
        *,
        floor: ConfinementClass = ConfinementClass.NAMESPACED,
        steering: HeldSteering | None = None,
        **fields: Any,
    ) -> Outcome:
        order = PythonOrder(source=source, workspace=str(self.workspace), **{"limits": QUICK, **fields})
        hear = self.heard.append if steering is None else steering.hear
        return await self.lane.carry(order, floor=floor, on_event=hear, steering=steering)

    def one(self, source: str, *, lane: dict[str, Any] | None = None, **fields: Any) -> Outcome:
        """The outcome of one call of a lane of its own."""
        found: list[Outcome] = []

        async def body() -> None:
            found.append(await self.carry(source, **fields))

        self.run(body, **(lane or {}))
        return found[0]


@pytest.fixture
def world() -> Iterator[World]:
    folder = Path(tempfile.mkdtemp(prefix="assent-test-")).resolve()
    yield World(folder)
    shutil.rmtree(folder)


@pytest.mark.slow
def test_last_expression_is_the_result_when_the_source_has_run(world):
    outcome = world.one("x = 20\nprint('counting')\nx * 2 + 2")
    assert (outcome.ending, outcome.code) == (Ending.SUCCEEDED, "ok")
    assert outcome.value["result"] == 42
    assert outcome.value["stdout"] == "counting\n"
    assert outcome.evidence.attestation.confinement is ConfinementClass.NAMESPACED
    assert outcome.evidence.facts["program"] == "python"


@pytest.mark.slow
def test_nothing_runs_when_the_floor_is_not_met(world):
    outcome = world.one("open('trace', 'w').close()", floor=ConfinementClass.MICROVM)
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "confinement_unmet")
    assert list(world.workspace.iterdir()) == []


@pytest.mark.slow
def test_session_keeps_its_state_between_calls_and_says_which_call_it_was(world):
    async def body() -> None:
        first = await world.carry("count = 1", session="s")
        second = await world.carry("count += 1; count", session="s")
        assert (first.code, second.code) == ("ok", "ok")
        assert second.value["result"] == 2
        assert second.value["session"]["call"] == 2

    world.run(body)


@pytest.mark.slow
def test_attestation_says_what_warm_calls_share(world):
    properties = world.one("1").evidence.attestation.properties
    assert properties["own-layout"].known is Known.ABSENT
    assert "shared" in properties["own-layout"].value
