"""A node is killed by SIGKILL at every place between a wish and its receipt, on every kind of lane.

Whatever the place: what was answered is on record, nothing is done twice, an effect is *unknown* exactly where nobody
can know, and recovery settles it by observation, once.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assent.bootstrap.system import SystemClock, SystemEntropy
from assent.ledger import verify_standalone
from assent.ledger.effects import Effect, EffectState
from assent.testing.benches import ACME, ANN, Bench, opened_bench
from assent.testing.faults import CrashPoint
from tests.crash.child import parts_in, real_lanes
from tests.crash.worlds import Remembering, child, words

P = CrashPoint
NOTHING_HAPPENED = (P.BEFORE_ACCEPT, P.MID_ACCEPT)
ACCEPTED_ONLY = (P.AFTER_ACCEPT, P.BEFORE_LANE)
DONE_AND_NOT_SETTLED = (P.MID_LANE, P.AFTER_LANE, P.MID_SETTLE)

KEY = "the-key"


@pytest.fixture
def server() -> Iterator[Remembering]:
    with Remembering() as world:
        yield world


class World:
    """One kind of call, and how often it was done."""

    def __init__(self, folder: Path, server: Remembering) -> None:
        self.folder = folder
        self.server = server
        self.out = folder / "workspace" / "out.txt"

    def plan(self, kind: str) -> dict[str, Any]:
        plans: dict[str, dict[str, Any]] = {
            "files.write": {"path": "out.txt", "content": "once\n"},
            "files.append": {"path": "out.txt", "content": "once\n"},
            "shell.run": {"argv": ["sh", "-c", f"echo once >> out.txt; echo said; sleep 300; : {self.folder.name}"]},
            "http.put": {"url": self.server.url, "body": "once"},
            "http.post": {"url": self.server.url, "body": "once"},
        }
        return plans[kind]

    def deeds(self, kind: str) -> int:
        if kind.startswith("http."):
            return len(self.server.requests)
        return self.out.read_text().count("once") if self.out.exists() else 0


def killed_at(world: World, kind: str, point: CrashPoint) -> None:
    """Run one call in a process of its own, and see it die at the place."""
    arguments = world.plan(kind)
    at_once = kind == "shell.run" and point is not P.MID_LANE
    if at_once:
        arguments = {"argv": [*arguments["argv"][:2], "echo once >> out.txt; echo said"]}
    with child(world.folder, does="one", point=point, operation=kind, arguments=arguments) as process:
        if kind.startswith("http.") and point is P.MID_LANE:
            world.server.on_request = process.kill  # in the middle of the exchange: counted, not yet answered
        assert words(process) == ["start"]
        assert words(process) == []
        assert process.wait(timeout=30) == -signal.SIGKILL
        world.server.on_request = lambda: None


def reopened(world: World, body: Any) -> Any:
    """A new node in the same folder, which fences the dead one out when it opens."""

    async def run() -> Any:
        clock = SystemClock()
        parts = parts_in(world.folder, lanes=real_lanes(world.folder, clock), clock=clock)
        async with opened_bench(parts, entropy=SystemEntropy()) as bench:
            return await body(bench)

    result = asyncio.run(run())
    clock = SystemClock()
    ledger = parts_in(world.folder, lanes={}, clock=clock).folder
    report = ledger.verify()
    assert report.ok, report.faults
    assert verify_standalone.main([str(ledger.database), "--key", ledger.key]) == 0
    return result


CALLS = ("files.write", "http.put", "http.post", "shell.run")
CASES = [
    pytest.param(kind, point, id=f"{kind}-{point}")
    for kind in CALLS
    for point in CrashPoint
    if (kind, point) != ("files.write", P.MID_LANE)  # it has no middle: it is in place by one rename
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "point"), CASES)
def test_killed_node_leaves_a_true_record_and_no_second_effect(tmp_path, server, kind, point):
    world = World(tmp_path, server)
    killed_at(world, kind, point)
    expected = 0 if point in (*NOTHING_HAPPENED, *ACCEPTED_ONLY) else 1
    assert world.deeds(kind) == expected
    left = parts_in(tmp_path, lanes={}, clock=SystemClock()).folder.verify()
    assert left.ok, "what the dead process left, its write-ahead log included, is whole as it is"

    async def found(bench: Bench) -> None:
        effect = await bench.store.effect_by_key(ACME, KEY)
        if point in NOTHING_HAPPENED:
            assert effect is None
            assert await bench.store.budgets(ACME, limit=9) == []
            return
        await holds_are(bench, standing=point is not P.AFTER_SETTLE)
        if point is P.AFTER_SETTLE:
            assert effect.state is EffectState.SUCCEEDED
        else:
            assert (effect.state, effect.code) == ("unknown", "node_lost")
        settled = await settle(bench, effect, kind, done=expected == 1)
        assert await bench.recovery.reconcile(ACME) == []
        again = await bench.perform(kind, call_again(world, kind, point), key=KEY)
        assert (again.fresh, again.effect) == (False, settled)
        types = [m.type for m in await bench.timelines.of_effect(ACME, effect.id)]
        ends = [t for t in types if t in ("effect.settled", "effect.judged")]
        assert len(ends) == 1, types
        await holds_are(bench, standing=False)
        (calls,) = await bench.store.budgets(ACME, scope="tenant", limit=9)
        assert calls.spent == (settled.state is EffectState.SUCCEEDED)

    reopened(world, found)
    assert world.deeds(kind) == expected
    assert not survivors(world)


async def holds_are(bench: Bench, *, standing: bool) -> None:
    """What the dead node held stands exactly as long as nobody knows what became of it."""
    held = {budget.scope: budget.held for budget in await bench.store.budgets(ACME, limit=9)}
    assert held.keys() == {"tenant", "agent:writer"}
    assert {scope for scope, amount in held.items() if amount} == (set(held) if standing else set())
    assert held["tenant"] == standing


def call_again(world: World, kind: str, point: CrashPoint) -> dict[str, Any]:
    """The very same call: a program that was cut short in the test of the middle is another one than the rest."""
    arguments = world.plan(kind)
    if kind == "shell.run" and point is not P.MID_LANE:
        return {"argv": [*arguments["argv"][:2], "echo once >> out.txt; echo said"]}
    return arguments


async def settle(bench: Bench, effect: Effect, kind: str, *, done: bool) -> Effect:
    """Recovery: by observation where there is one, else by a person's word."""
    if effect.state is EffectState.SUCCEEDED:
        return effect
    (after,) = await bench.recovery.reconcile(ACME)
    if kind in ("files.write", "http.put"):
        assert (after.state, after.code) == (("succeeded", "happened") if done else ("failed", "not_happened"))
        return after
    assert after == effect, "what cannot be observed waits for a person"
    return await bench.recovery.attest(ACME, effect.id, happened=done, by=ANN, reason="I looked")


def survivors(world: World) -> list[str]:
    """Programs of the dead node that still run, once the kernel had its time to end them."""
    found: list[str] = []
    for _ in range(500):
        found = [line for line in _command_lines() if f": {world.folder.name}" in line]
        if not found:
            break
        threading.Event().wait(0.01)
    return found


def _command_lines() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
