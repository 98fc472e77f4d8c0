"""The process that dies. One JSON argument says in which folder it works, what it does and where it ends.

It prints a line for every call that was answered, as a caller that was told would know it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from assent.bootstrap.system import SystemClock, SystemEntropy
from assent.execution.adapters.files import FileLane
from assent.execution.adapters.http import HttpLane
from assent.execution.adapters.process import ProcessLane
from assent.execution.orders import FileOrder, HttpOrder, ProcessOrder
from assent.execution.ports import Lane
from assent.ledger.budget_limits import Limit
from assent.ledger.budgets import Unit, Window
from assent.operations.wishes import Answer
from assent.primitives.clock import Clock
from assent.primitives.errors import AssentError
from assent.testing.benches import WORK_POLICY, Bench, BenchParts, opened_bench
from assent.testing.faults import CrashPlan, CrashPoint
from assent.testing.lanes import FileJournal, ScriptedLane, as_lanes, scripted_lanes
from assent.testing.ledgers import LedgerFolder

TTL_MS = 60_000
# Every call holds, so that whatever dies dies with something held.
LIMITS = (
    Limit(scope="tenant", unit=Unit.CALLS, amount=1_000_000, window=Window.ALL),
    Limit(scope="agent:*", unit=Unit.WALL_MS, amount=10**12, window=Window.MONTH),
)


def parts_in(
    folder: Path,
    *,
    lanes: Mapping[type, Lane],
    clock: Clock,
    ttl_ms: int = TTL_MS,
    limits: tuple[Limit, ...] = LIMITS,
) -> BenchParts:
    """A bench over a folder: database, workspace, journal."""
    workspace = folder / "workspace"
    workspace.mkdir(exist_ok=True)
    ledger = LedgerFolder(folder, clock=clock)
    return BenchParts(folder=ledger, workspace=workspace, lanes=lanes, policy=WORK_POLICY, ttl_ms=ttl_ms, limits=limits)


def real_lanes(folder: Path, clock: Clock) -> dict[type, Lane]:
    """The lanes a node has."""
    return {
        ProcessOrder: ProcessLane(clock=clock, state_dir=folder / "sandbox"),
        HttpOrder: HttpLane(clock=clock),
        FileOrder: FileLane(clock=clock),
    }


def journal_of(folder: Path) -> FileJournal:
    """Where scripted lanes leave their marks."""
    return FileJournal(folder / "journal")


def say(*words: object) -> None:
    """Tell the parent."""
    print(*words, flush=True)


async def one_call(bench: Bench, plan: dict[str, Any]) -> None:
    """Ask for one thing, and say how it ended."""
    say("start")
    answer = await bench.perform(plan["operation"], plan["arguments"], key="the-key")
    say("done", answer.effect.state)


async def many_calls(bench: Bench, plan: dict[str, Any]) -> None:
    """Sixteen writers without an end; every answer is told."""

    async def write(writer: int) -> None:
        number = 0
        while True:
            key = f"{plan['prefix']}/{writer}/{number}"
            answer: Answer = await bench.perform("files.append", {"path": f"{writer}", "content": key}, key=key)
            say("ack", key, answer.effect.id, answer.effect.state)
            number += 1

    await asyncio.gather(*(write(writer) for writer in range(16)))


async def shared_calls(bench: Bench, plan: dict[str, Any]) -> None:
    """Ask for what others ask for too, under the same keys."""
    say("start")
    await asyncio.to_thread(sys.stdin.readline)
    for number in range(plan["count"]):
        key = f"shared/{number}"
        for attempt in range(50):
            with suppress(AssentError):
                answer = await bench.perform("files.append", {"path": "x", "content": key}, key=key)
                say("ack", key, answer.effect.id, answer.fresh, attempt)
                break


async def spending_calls(bench: Bench, plan: dict[str, Any]) -> None:
    """Spend of a budget that others spend of too, as fast as it goes, until it is gone."""
    say("start")
    await asyncio.to_thread(sys.stdin.readline)

    async def spend(writer: int) -> list[str]:
        told: list[str] = []
        while not told or told[-1] != "budget_exhausted":
            answer = await bench.perform("files.append", {"path": f"{writer}", "content": "x"})
            told.append(answer.effect.code)
        return told

    told = await asyncio.gather(*(spend(writer) for writer in range(plan["writers"])))
    say("spent", sum(codes.count("ok") for codes in told))


async def sleepy_call(bench: Bench, _: dict[str, Any]) -> None:
    """Be stopped in the middle of a call, wake up fenced out, and try everything that is no longer allowed."""
    lane = next(lane for kind, lane in bench.parts.lanes.items() if kind is FileOrder)
    assert isinstance(lane, ScriptedLane)

    async def until_told(*parts: Any, **more: Any) -> Any:
        outcome = await ScriptedLane.carry(lane, *parts, **more)
        say("deed")
        await asyncio.to_thread(sys.stdin.readline)
        return outcome

    lane.carry = until_told  # type: ignore[method-assign]
    await bench.renew()
    answer = await bench.perform("files.write", {"path": "a", "content": "x"}, key="sleepy")
    say("state", answer.effect.state)
    say("renewed", await bench.renew())
    try:
        await bench.perform("files.write", {"path": "b", "content": "x"}, key="after")
    except AssentError as error:
        say("refused", error.code)


async def main(plan: dict[str, Any]) -> None:
    """Open a node in the folder and do what the plan says."""
    folder, clock = Path(plan["folder"]), SystemClock()
    if plan.get("scripted"):
        lanes = as_lanes(scripted_lanes(clock=clock, journal=journal_of(folder)))
    else:
        lanes = real_lanes(folder, clock)
    point = plan.get("point")
    crash = CrashPlan(CrashPoint(point) if point else None, at=plan.get("at", 1))
    limits = msgspec.convert(plan["limits"], tuple[Limit, ...]) if "limits" in plan else LIMITS
    parts = parts_in(folder, lanes=lanes, clock=clock, ttl_ms=plan.get("ttl_ms", TTL_MS), limits=limits)
    async with opened_bench(parts, entropy=SystemEntropy(), plan=crash) as bench:
        does = {
            "one": one_call, "many": many_calls, "shared": shared_calls, "sleepy": sleepy_call, "spend": spending_calls,
        }  # fmt: skip
        await does[plan["does"]](bench, plan)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
