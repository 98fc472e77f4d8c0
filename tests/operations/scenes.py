"""What the tests of this folder have in common: a node on a bench, over scripted lanes, verified at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from assent.execution.orders import FileOrder
from assent.ledger.effects import Effect
from assent.primitives.ids import EffectId, ReviewId
from assent.testing.benches import ACME, ANN, WORK_POLICY, Bench, BenchParts, opened_bench
from assent.testing.clocks import SetClock
from assent.testing.entropy import SeededEntropy
from assent.testing.lanes import Step, as_lanes, scripted_lanes
from assent.testing.ledgers import LedgerFolder

BOB, CYD = "person:bob", "person:cyd"
WRITE = {"path": "a.txt", "content": "hello"}
FORBID_DELETES = WORK_POLICY + '@id("never") forbid (principal, action, resource == Operation::"files.delete");\n'
TWO_MUST_AGREE = WORK_POLICY.replace('@quorum("1")', '@quorum("2")')

Body = Callable[[Bench], Awaitable[None]]


class Scene:
    """A folder, a clock and scripted lanes for one test."""

    def __init__(self, path: Path, *steps: Step, policy: str = WORK_POLICY) -> None:
        self.clock = SetClock()
        self.folder = LedgerFolder(path, clock=self.clock)
        self.lanes = scripted_lanes(steps, clock=self.clock)
        self.journal = self.lanes[FileOrder].journal
        self.parts = BenchParts(
            folder=self.folder, workspace=path / "workspace", lanes=as_lanes(self.lanes), policy=policy
        )
        self._seed = 0

    def run(self, body: Body) -> None:
        """Open a node, run `body`, close it, and verify all there is."""

        async def whole() -> None:
            async with opened_bench(self.parts, entropy=self.entropy()) as bench:
                await body(bench)

        asyncio.run(whole())
        report = self.folder.verify()
        assert report.ok, report.faults

    def entropy(self) -> SeededEntropy:
        """Entropy for one more node."""
        self._seed += 1
        return SeededEntropy(self._seed)

    @property
    def deeds(self) -> int:
        """How often a lane did something."""
        return len(self.journal.lines())


async def asked(bench: Bench) -> tuple[EffectId, ReviewId]:
    """A deletion that waits for a person."""
    answer = await bench.perform("files.delete", {"path": "a.txt"})
    assert answer.review is not None
    return answer.effect.id, answer.review.id


async def now(bench: Bench, effect: EffectId) -> Effect:
    """An effect as it stands."""
    found: Effect | None = await bench.store.effect(ACME, effect)
    assert found is not None
    return found


async def activated_elsewhere(scene: Scene, text: str) -> None:
    """Another node activates a policy, and ends."""
    async with opened_bench(scene.parts, entropy=scene.entropy()) as other:
        assert (await other.policies.activate(ACME, text, by=ANN)).changed
