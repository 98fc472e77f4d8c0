"""Finding agents among many: by id, by capability and by a declared index, against a linear scan in the same run.

A registry in memory and one in SQLite are filled with the same entries: each has one of a thousand teams, the
capability `common`, and a few of them `rare`. Shown is the p50 of one find, and how many times a scan of all entries
takes. The scan is what it would be without an index: a loop over a list of the same entries.

    python -m benchmarks.registry_find [--quick]
"""

from __future__ import annotations

import asyncio
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from assent.bootstrap.system import SystemClock
from assent.ledger.adapters.sqlite import SqliteLedger
from assent.ledger.adapters.sqlite_agents import SqliteRegistry
from assent.ledger.commands import TakeLease
from assent.primitives.ids import NodeId, TenantId
from assent.primitives.leases import SYSTEM, Fence
from assent.registry.adapters.memory import MemoryRegistry
from assent.registry.agents import BATCH_MAX, Entry, Query, Schema, fits
from assent.registry.fields import Field
from assent.testing.ledgers import LedgerFolder
from benchmarks.reporting import arguments, result, scratch

MANY, QUICK = 1_000_000, 50_000
FINDS = 2_000
TENANT = TenantId("bench")
FENCE = Fence(node=NodeId("nod_bench"), number=1)
SCHEMA = Schema((Field(name="team", indexed=True),))
TEAMS = 1_000


def entry(number: int) -> Entry:
    """One of many."""
    capabilities = ("common", "rare") if number % 10_000 == 0 else ("common",)
    return Entry(
        tenant=TENANT, id=f"agent-{number:07}", owner=FENCE, capabilities=capabilities,
        fields={"team": f"team-{number % TEAMS}"},
    )  # fmt: skip


def p50_us(find: Callable[[], object], *, times: int = FINDS) -> float:
    """The median time of one find, in microseconds."""
    spent = []
    for _ in range(times):
        started = time.perf_counter_ns()
        find()
        spent.append(time.perf_counter_ns() - started)
    return statistics.median(spent) / 1_000


def filled(registry: MemoryRegistry | SqliteRegistry, entries: list[Entry]) -> None:
    """Put all of them in."""

    async def put() -> None:
        for start in range(0, len(entries), BATCH_MAX):
            await registry.put(entries[start : start + BATCH_MAX], fence=FENCE)

    asyncio.run(put())


def scanned(entries: list[Entry], query: Query) -> list[Entry]:
    """The same, without an index."""
    return [one for one in entries if fits(one, query)][: query.limit]


def measured(name: str, registry: MemoryRegistry | SqliteRegistry, entries: list[Entry], *, limit_us: float) -> None:
    """Every kind of find on one registry."""
    queries = {
        "a team, k = 1": Query(fields={"team": "team-7"}, limit=1),
        "a team, k = 10": Query(fields={"team": "team-7"}, limit=10),
        "a capability of all, k = 10": Query(capabilities=("common",), limit=10),
        "a rare and a common one, k = 10": Query(capabilities=("common", "rare"), limit=10),
        "a team, k = 100": Query(fields={"team": "team-7"}, limit=100),
    }
    for what, query in queries.items():
        scan = p50_us(partial(scanned, entries, query), times=3)
        found = p50_us(partial(registry.find_now, TENANT, query))
        k = query.limit
        print(f"{name:7} {what:34} {found:9.1f} us  {found / k:7.2f} us an entry   a scan {scan / found:10,.0f} ×")
        if k == 1:
            result(f"{name}: find one of {len(entries):,} by an index", found, unit="us", at_most=limit_us)
    got = p50_us(lambda: registry.find_now(TENANT, Query(limit=1)))
    print(f"{name:7} {'any one, k = 1':34} {got:9.1f} us")


def main() -> None:
    """Print one line for each kind of find."""
    parser = arguments(__doc__)
    given = parser.parse_args()
    count = QUICK if given.quick else MANY
    entries = [entry(number) for number in range(count)]
    with scratch(given.folder) as folder:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        memory = MemoryRegistry(schema=SCHEMA, holds=lambda fence: fence == FENCE)
        filled(memory, entries)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(f"memory: {grown * 1024 / count:,.0f} bytes an entry, {count:,} entries")
        measured("memory", memory, entries, limit_us=5.0 + 1.0)
        del memory
        with LedgerFolder(Path(folder), clock=SystemClock()).opened() as store:
            asyncio.run(_leased(store))
            registry = SqliteRegistry(store, schema=SCHEMA)
            filled(registry, entries)
            measured("sqlite", registry, entries, limit_us=100.0)


async def _leased(store: SqliteLedger) -> None:
    await store.apply(TakeLease(tenant=SYSTEM, fence=FENCE, ttl_ms=86_400_000))


if __name__ == "__main__":
    main()
