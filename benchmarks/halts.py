"""The kill switch: what is still let happen after a person halted it, on the node itself and on others.

Measured     `here`: a node whose callers call back to back is halted by itself; by the log, how many calls were
             dispatched after the halt's entry, and how many that began after it had returned were let happen.
             `elsewhere`: nodes that are processes of their own call on one database, another process halts the agent,
             the connector or everything, in turn; by the log, how many calls were dispatched after the halt, and from
             when the halt returned, how long until each node had refused a call, and until the last was over that
             was under way. Every caller goes on calling, refused or not, until it is lifted.
Yardstick    an ordinary governed call of the same nodes in the same run.
Target       here within one decision: nothing is dispatched after the halt. Elsewhere the same, and each node refuses
             within 1 s of the halt's return, in the median over the rounds; so it does of the moment it was asked for.
Repeat       python -m benchmarks.halts [--quick] [--nodes N]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from assent.bootstrap.node import DATABASE_NAME, Node
from benchmarks.governed_node import AGENT, PERSON, TENANT, policy
from benchmarks.halted_node import Crowd, opened
from benchmarks.reporting import HERE, arguments, result, scratch

SCOPES = (AGENT, "connector:noop", "everything")
CALLERS = (1, 16)
WAIT_S = 60.0
MS_MAX = 1_000.0


class Round(NamedTuple):
    """One halt. Times run from when it had returned, `asked_ms` apart: that is how long it took itself."""

    scope: str
    asked_ms: float
    refused_ms: float
    """Until the last node had refused a call for the first time."""
    over_ms: float
    """Until the last call was over that was let happen."""
    call_ms: float
    late: int
    """Calls that were dispatched after the halt, by the log."""
    begun_late: int
    """Nodes that let a call happen which began after the halt had returned."""

    @property
    def whole_ms(self) -> float:
        """From when it was asked for until the last node refused."""
        return self.asked_ms + max(0.0, self.refused_ms)


class Peer:
    """A node in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process, errors: Path) -> None:
        self._process = process
        self._errors = errors

    @classmethod
    async def begun(cls, folder: Path, number: int, *, callers: int) -> Peer:
        """One that calls as soon as it can."""
        errors = folder / f"errors-{number}"
        with errors.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "benchmarks.halted_node", str(folder), str(callers), cwd=HERE.parent,
                stdout=subprocess.PIPE, stderr=file,
            )  # fmt: skip
        return cls(process, errors)

    async def until(self, state: str) -> dict[str, Any]:
        """What it says once it is in this state."""
        assert self._process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            while line := await self._process.stdout.readline():
                told: dict[str, Any] = json.loads(line)
                if told["state"] == state:
                    return told
        sys.exit(f"a node ended unexpectedly:\n{self._errors.read_text()}")

    async def end(self) -> None:
        """End it."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


def dispatched_between(folder: Path, first: int, last: int) -> int:
    """How many calls the log says were dispatched between two of its entries."""
    with closing(sqlite3.connect(folder / "data" / DATABASE_NAME)) as database:
        rows = database.execute("SELECT entry FROM log WHERE tenant = ? AND seq > ? AND seq < ?", (TENANT, first, last))
        entries = [json.loads(row[0]) for row in rows]
    dispatching = [e for e in entries if e["type"] in ("effect.accepted", "effect.dispatched", "effect.resent")]
    assert any(e["body"].get("code") == "halted" for e in dispatching), "somebody called while it was halted"
    return sum(e["body"]["state"] == "dispatched" for e in dispatching)


def place_of(folder: Path, scope: str) -> int:
    """Where the log says that a scope was halted or lifted last."""
    with closing(sqlite3.connect(folder / "data" / DATABASE_NAME)) as database:
        sql = "SELECT last_seq FROM journals WHERE tenant = ? AND kind = 'halt' AND id = ?"
        return int(database.execute(sql, (TENANT, scope)).fetchone()[0])


async def here(folder: Path, *, callers: int, rounds: int) -> list[Round]:
    """Rounds on one node, which halts itself."""
    found = []
    async with opened(folder) as node:
        await node.policies.activate(TENANT, policy(), by=PERSON)
        crowd = Crowd(node, callers=callers)
        calling = asyncio.ensure_future(crowd.call())
        try:
            for scope in _scopes(rounds):
                await asyncio.wait_for(crowd.running.wait(), WAIT_S)
                await _any_moment()
                found.append(await _round(folder, node, scope, [crowd]))
        finally:
            calling.cancel()
            await asyncio.wait([calling])
    return found


async def elsewhere(folder: Path, *, nodes: int, callers: int, rounds: int) -> list[Round]:
    """Rounds on nodes of their own, which this process halts."""
    found = []
    async with opened(folder) as node:
        await node.policies.activate(TENANT, policy(), by=PERSON)
        peers = [await Peer.begun(folder, number, callers=callers) for number in range(nodes)]
        try:
            for scope in _scopes(rounds):
                await asyncio.gather(*(peer.until("running") for peer in peers))
                await _any_moment()
                found.append(await _round(folder, node, scope, peers))
        finally:
            await asyncio.gather(*(peer.end() for peer in peers))
        verified = await node.verification.verify(TENANT)
        assert verified.ok, "the log of all of them is whole"
    return found


def _scopes(rounds: int) -> Iterator[str]:
    for _ in range(rounds):
        yield from SCOPES


async def _any_moment() -> None:
    """Halts come at any moment of a call."""
    await asyncio.sleep(random.uniform(0.1, 0.3))


async def _round(folder: Path, node: Node, scope: str, callers: Sequence[Peer | Crowd]) -> Round:
    """Halt, see everybody refused, look at the log, and lift."""
    asked_ns = time.monotonic_ns()
    await node.halts.halt(TENANT, scope, by=PERSON, reason="a benchmark")
    halted_ns = time.monotonic_ns()
    told = await asyncio.gather(*(_refused(one) for one in callers))
    halted_at = place_of(folder, scope)
    await node.halts.lift(TENANT, scope, by=PERSON, reason="a benchmark")
    return Round(
        scope=scope,
        asked_ms=(halted_ns - asked_ns) / 1e6,
        refused_ms=(max(one["first_refused_ns"] for one in told) - halted_ns) / 1e6,
        over_ms=(max(one["let_ended_ns"] for one in told) - halted_ns) / 1e6,
        call_ms=statistics.median(one["call_ms"] for one in told),
        late=dispatched_between(folder, halted_at, place_of(folder, scope)),
        begun_late=sum(one["let_began_ns"] > halted_ns for one in told),
    )


async def _refused(one: Peer | Crowd) -> dict[str, Any]:
    if isinstance(one, Peer):
        return await one.until("refused")
    await asyncio.wait_for(one.refused.wait(), WAIT_S)
    return {name: getattr(one, name) for name in ("first_refused_ns", "let_ended_ns", "let_began_ns", "call_ms")}


def _print_rounds(found: list[Round]) -> None:
    heads = ("the halt itself", "all refuse", "the last is over", "a call", "worst, asked to refused")
    print(f"  {'medians in ms':<27} {heads[0]:>16} {heads[1]:>12} {heads[2]:>18} {heads[3]:>8} {heads[4]:>25}")
    for scope in SCOPES:
        some = [one for one in found if one.scope == scope]
        asked, refused, over, call = (
            statistics.median(getattr(one, name) for one in some)
            for name in ("asked_ms", "refused_ms", "over_ms", "call_ms")
        )
        worst = max(one.whole_ms for one in some)
        print(f"  {scope:<27} {asked:>16.1f} {refused:>+12.1f} {over:>+18.1f} {call:>8.2f} {worst:>25.1f}")


def _conclude(name: str, found: list[Round]) -> None:
    _print_rounds(found)
    late, begun = sum(one.late for one in found), sum(one.begun_late for one in found)
    result(f"{name}: dispatched after the halt, in {len(found)} halts", late, unit="calls", at_most=0)
    result(f"{name}: let happen though begun after the halt returned", begun, unit="calls", at_most=0)


def _conclude_times(name: str, found: list[Round]) -> None:
    after, whole = [max(0.0, one.refused_ms) for one in found], [one.whole_ms for one in found]
    about = f"{name}: until each refuses"
    result(f"{about}, from the halt's return", statistics.median(after), unit="ms", at_most=MS_MAX)
    result(f"{about}, from when it was asked for", statistics.median(whole), unit="ms", at_most=MS_MAX)
    result(f"{about}, from when it was asked for, the worst of {len(found)} halts", max(whole), unit="ms")
    calls = [each / one.call_ms for each, one in zip(after, found, strict=True)]
    result(f"{about}, from the halt's return, in ordinary calls of these nodes", statistics.median(calls))


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--nodes", type=int, default=3, help="how many nodes are halted from another process (3)")
    options = parser.parse_args()
    print(__doc__)
    rounds = 1 if options.quick else 7
    for callers in CALLERS:
        _measure(options, callers=callers, rounds=rounds)


def _measure(options: argparse.Namespace, *, callers: int, rounds: int) -> None:
    crowd = "a caller" if callers == 1 else f"{callers} callers"
    with scratch(options.folder) as folder:
        name = f"here, {crowd}"
        _conclude(name, asyncio.run(here(folder, callers=callers, rounds=rounds)))
    with scratch(options.folder) as folder:
        name = f"{options.nodes} other nodes, {crowd} each"
        found = asyncio.run(elsewhere(folder, nodes=options.nodes, callers=callers, rounds=rounds))
        _conclude(name, found)
        _conclude_times(name, found)


if __name__ == "__main__":
    main()
