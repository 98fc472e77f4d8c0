"""How fast recorded calls are decided again, against the bare engine.

The yardstick is `cedarpy.is_authorized` with everything prepared, as in `benchmarks.decision`: 100 rules, the request
as a dict, its context already JSON text. Ours reads each call from the database, decodes it, computes its facts and its
digest, decides it, and counts what changes; every call has a path of its own, so no decision is remembered. The policy
that is tried forbids a part of the calls, which are then decided by the revision in force too.

Both are measured in the time that this process had a core, which is pinned: others on the machine slow down neither.

    python -m benchmarks.backtest [--quick]
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from assent.bootstrap.system import SystemClock, SystemEntropy
from assent.testing.benches import ACME, BenchParts, opened_bench
from assent.testing.lanes import as_lanes, scripted_lanes
from assent.testing.ledgers import LedgerFolder
from benchmarks.decision import BATCH, PRINCIPALS, bare, call, policy
from benchmarks.reporting import arguments, result, scratch

CALLS, QUICK_CALLS, AT_ONCE, ROUNDS = 20_000, 2_000, 200, 5
PER_SECOND_MIN = 5_000
STRICTER = (
    '\n@id("frozen") forbid (principal, action, resource) when { context has path && context.path like "src/1*" };\n'
)


def cpu_us(work: Callable[[], object]) -> float:
    """Microseconds of a core per call, over one batch."""
    began_ns = time.process_time_ns()
    for _ in range(BATCH):
        work()
    return (time.process_time_ns() - began_ns) / 1000 / BATCH


async def measure(folder: Path, calls: int) -> None:
    """Record `calls` calls, and decide them again `ROUNDS` times, each time beside the yardstick."""
    clock, text = SystemClock(), policy(broad=False)
    parts = BenchParts(
        folder=LedgerFolder(folder, clock=clock), workspace=folder / "workspace",
        lanes=as_lanes(scripted_lanes(clock=clock)), policy=text, principals=PRINCIPALS, ttl_ms=3_600_000,
    )  # fmt: skip
    yardstick = bare(text, call("files.read"))
    async with opened_bench(parts, entropy=SystemEntropy()) as bench:
        for at in range(0, calls, AT_ONCE):
            await asyncio.gather(
                *(bench.perform("files.read", {"path": f"src/{n}.py"}) for n in range(at, at + AT_ONCE))
            )
        rates, ratios = [], []
        for _ in range(ROUNDS):
            gc.collect()
            yard_us = cpu_us(yardstick)
            began_ns = time.process_time_ns()
            found = await bench.backtests.run(ACME, text + STRICTER)
            took_s = (time.process_time_ns() - began_ns) / 1e9
            assert found.calls == calls, "every call is decided again"
            assert sum(one.calls for one in found.changes) > calls // 20, "some of them otherwise"
            rates.append(found.calls / took_s)
            ratios.append(1e6 / rates[-1] / yard_us)
            print(f"  {rates[-1]:>9,.0f} calls/s   yardstick {yard_us:6.1f} us   {ratios[-1]:.2f} × for a call")
        began_ns = time.process_time_ns()
        await bench.backtests.run(ACME, text, covering=True)
        print(f"  {calls * 1e9 / (time.process_time_ns() - began_ns):>9,.0f} calls/s with coverage")
    result("recorded calls decided again in a second", statistics.median(rates), unit="/s", at_least=PER_SECOND_MIN)
    result("one of them against the bare engine", statistics.median(ratios))


def main() -> None:
    """Print one line per figure."""
    options = arguments(__doc__).parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with scratch(options.folder) as folder:
        (folder / "workspace").mkdir()
        asyncio.run(measure(folder, QUICK_CALLS if options.quick else CALLS))


if __name__ == "__main__":
    main()
