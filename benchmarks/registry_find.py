"""Finding agents among many: by id, capability, health and declared indexes, against a linear scan in the same run.

A registry in memory and one in SQLite are filled with the same entries, in random order: each has one of a thousand
teams, a load, two of a hundred tools and the capability `common`, and a few of them `rare`. Shown is the p50 of one
find in the caller's own thread, and how many times as long a scan takes: a loop over a list of the same entries. The
targets are, in memory, 5 us for one entry and 1 us more for each other, and 100 us for one entry in SQLite, awaited.

Then a node dies that held 80,000 entries, and the same is found behind them: before they are swept, and after it.

    python -m benchmarks.registry_find [--quick]
"""

from __future__ import annotations

import asyncio
import random
import resource
import statistics
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from assent.bootstrap.system import SystemClock
from assent.ledger.adapters.sqlite import SqliteLedger
from assent.ledger.adapters.sqlite_agents import SqliteRegistry
from assent.ledger.commands import ReleaseLease, TakeLease
from assent.primitives.ids import NodeId, TenantId
from assent.primitives.leases import SYSTEM, Fence
from assent.registry.adapters.memory import MemoryRegistry
from assent.registry.agents import BATCH_MAX, Entry, Health, Query, Schema, fits
from assent.registry.fields import Field
from assent.testing.ledgers import LedgerFolder
from benchmarks.reporting import arguments, result, scratch

MANY, QUICK = 1_000_000, 50_000
DEAD, DEAD_QUICK = 80_000, 20_000
FINDS = 2_000
MEMORY_US, FOUND_US, SQLITE_US = 5.0, 1.0, 100.0
TENANT = TenantId("bench")
FENCE, GONE = (Fence(node=NodeId(name), number=1) for name in ("nod_bench", "nod_gone"))
TEAMS, TOOLS = 1_000, 100
SCHEMA = Schema(
    (
        Field(name="team", indexed=True),
        Field(name="load", kind="number", indexed=True),
        Field(name="tools", kind="texts", indexed=True),
    )
)
QUERIES = {
    "one of a team": Query(fields={"team": "team-7"}, limit=1),
    "10 of a team": Query(fields={"team": "team-7"}, limit=10),
    "10 by the capability of all": Query(capabilities=("common",), limit=10),
    "10 from the middle, by the capability of all": Query(capabilities=("common",), after="agent-0025000", limit=10),
    "10 by a rare capability and that of all": Query(capabilities=("common", "rare"), limit=10),
    "10 by health": Query(health=Health.DEGRADED, limit=10),
    "10 by a number": Query(fields={"load": 2.5}, limit=10),
    "10 by one of the tools": Query(fields={"tools": "tool-5"}, limit=10),
    "100 of a team": Query(fields={"team": "team-7"}, limit=100),
}
Registry: TypeAlias = MemoryRegistry | SqliteRegistry


def entry(number: int, *, prefix: str = "agent") -> Entry:
    """One of many."""
    return Entry(
        tenant=TENANT, id=f"{prefix}-{number:07}", owner=FENCE,
        capabilities=("common", "rare") if number % 10_000 == 0 else ("common",),
        health=Health.DEGRADED if number % 50 == 0 else Health.HEALTHY,
        fields={
            "team": f"team-{number % TEAMS}", "load": number % 1_000 / 2,
            "tools": (f"tool-{number % TOOLS}", f"tool-{(number + 1) % TOOLS}"),
        },
    )  # fmt: skip


def p50_us(find: Callable[[], object], *, times: int = FINDS) -> float:
    """The median time of one find, in microseconds."""
    spent = []
    for _ in range(times):
        started = time.perf_counter_ns()
        find()
        spent.append(time.perf_counter_ns() - started)
    return statistics.median(spent) / 1_000


async def awaited_us(find: Callable[[], Coroutine[Any, Any, object]]) -> float:
    """The median time of one find that is awaited, in microseconds."""
    spent = []
    for _ in range(FINDS):
        started = time.perf_counter_ns()
        await find()
        spent.append(time.perf_counter_ns() - started)
    return statistics.median(spent) / 1_000


def filled(registry: Registry, entries: list[Entry], *, fence: Fence = FENCE) -> float:
    """Put all of them in; how many microseconds each took."""

    async def put() -> None:
        for start in range(0, len(entries), BATCH_MAX):
            await registry.put(entries[start : start + BATCH_MAX], fence=fence)

    started = time.perf_counter()
    asyncio.run(put())
    return (time.perf_counter() - started) * 1e6 / len(entries)


def scanned(entries: list[Entry], query: Query) -> list[Entry]:
    """The same, without an index."""
    return [one for one in entries if fits(one, query)][: query.limit]


def measured(name: str, registry: Registry, entries: list[Entry]) -> None:
    """Every kind of find on one registry."""
    for what, query in QUERIES.items():
        expected = sorted(one.id for one in entries if one.id > query.after and fits(one, query))[: query.limit]
        assert [one.id for one in registry.find_now(TENANT, query)] == expected
        scan = p50_us(partial(scanned, entries, query), times=3)
        found = p50_us(partial(registry.find_now, TENANT, query))
        print(f"{name:7} {what:44} {found:8.1f} us   a scan takes {scan / found:10,.0f} ×")
        if name == "memory":
            about = f"memory: {what}, of {len(entries):,}"
            result(about, found, unit="us", at_most=MEMORY_US + FOUND_US * (len(expected) - 1))
    one = entries[len(entries) // 2].id
    print(f"{name:7} {'one by its id':44} {asyncio.run(awaited_us(lambda: registry.get(TENANT, one))):8.1f} us")


def behind_the_dead(name: str, registry: Registry, die: Callable[[], None], *, count: int) -> None:
    """Find behind what a dead node left, before it is swept and after it."""
    query = Query(capabilities=("common",), limit=1)
    filled(registry, [entry(number, prefix="a-dead") for number in range(count)], fence=GONE)
    die()
    before = p50_us(partial(registry.find_now, TENANT, query), times=5)

    async def sweep() -> int:
        swept = 0
        while found := await registry.sweep(TENANT, limit=BATCH_MAX, fence=FENCE):
            swept += found
        return swept

    started = time.perf_counter()
    swept = asyncio.run(sweep())
    spent = (time.perf_counter() - started) * 1e6 / count
    assert swept == count
    after = p50_us(partial(registry.find_now, TENANT, query))
    print(f"{name:7} behind {count:,} dead: {before:,.0f} us; swept in {spent:.1f} us an entry; then {after:.1f} us")
    limit = MEMORY_US if name == "memory" else SQLITE_US
    result(f"{name}: one by a capability, where {count:,} dead were swept", after, unit="us", at_most=limit)


def in_memory(entries: list[Entry], *, dead: int) -> None:
    """Everything about the registry in memory."""
    held = {FENCE, GONE}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    registry = MemoryRegistry(schema=SCHEMA, holds=held.__contains__)
    each = filled(registry, entries)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    count = len(entries)
    print(f"memory: {count:,} entries in random order, {each:.1f} us and {grown * 1024 / count:,.0f} bytes an entry")
    measured("memory", registry, entries)
    behind_the_dead("memory", registry, lambda: held.discard(GONE), count=dead)


def in_sqlite(store: SqliteLedger, entries: list[Entry], *, dead: int) -> None:
    """Everything about the registry in SQLite."""
    for fence in (FENCE, GONE):
        asyncio.run(store.apply(TakeLease(tenant=SYSTEM, fence=fence, ttl_ms=86_400_000)))
    registry = SqliteRegistry(store, schema=SCHEMA)
    each, count = filled(registry, entries), len(entries)
    print(f"sqlite: {count:,} entries in random order, {each:.1f} us an entry")
    measured("sqlite", registry, entries)
    query = QUERIES["one of a team"]
    found = asyncio.run(awaited_us(lambda: registry.find(TENANT, query)))
    result(f"sqlite: one of a team, of {count:,}, awaited", found, unit="us", at_most=SQLITE_US)
    release = ReleaseLease(tenant=SYSTEM, fence=GONE)
    behind_the_dead("sqlite", registry, lambda: asyncio.run(store.apply(release)), count=dead)


def main() -> None:
    """Print one line for each kind of find."""
    parser = arguments(__doc__)
    given = parser.parse_args()
    count, dead = (QUICK, DEAD_QUICK) if given.quick else (MANY, DEAD)
    entries = [entry(number) for number in range(count)]
    random.Random(7).shuffle(entries)
    with scratch(given.folder) as folder:
        in_memory(entries, dead=dead)
        with LedgerFolder(Path(folder), clock=SystemClock()).opened() as store:
            in_sqlite(store, entries, dead=dead)


if __name__ == "__main__":
    main()
