"""Verification of a log: a real ledger is filled, then judged from outside.

Measured     entries a second of the stand-alone verifier, as a program of its own, its start included; and of the full
             verification behind `assent verify`, which also folds the log into every row of the database.
Yardstick    a plain loop over the same rows that only hashes (SHA-256) and reads (json.loads) each entry.
Target       ≥ 50,000 entries/s, stand-alone. (Its ratio to the plain loop says what the rest of the checks cost.)
Repeat       python -m benchmarks.verify [--quick]
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from assent.bootstrap.system import SystemClock
from assent.ledger import verify_standalone
from assent.ledger.adapters.sqlite_verify import SqliteVerifier
from benchmarks.bare_ledger import BareLedger
from benchmarks.reporting import arguments, result, scratch

CALLERS = 256
RATE_MIN = 50_000


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__).parse_args()
    calls, rounds = (10_000, 1) if options.quick else (100_000, 3)
    print(__doc__)
    with scratch(options.folder) as folder:
        database, key = _fill(folder, calls)
        ways: dict[str, Callable[[], int]] = {
            "plain loop": lambda: _plain(database),
            "stand-alone verifier": lambda: _standalone(database, key),
            "full verification": lambda: _full(database, key),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, way in ways.items():
                began_s = time.perf_counter()
                entries = way()
                rates[name].append(entries / (time.perf_counter() - began_s))
    middle = {name: statistics.median(found) for name, found in rates.items()}
    for name, rate in middle.items():
        print(f"  {name:<24} {rate:>10,.0f} entries/s, {1e6 / rate:5.1f} μs an entry")
    plain, alone, full = middle.values()
    result("stand-alone verification of a log", alone, unit="entries/s", at_least=RATE_MIN)
    result("stand-alone verification, against the plain loop", alone / plain)
    result("full verification of log and rows, against the plain loop", full / plain)


def _fill(folder: Path, calls: int) -> tuple[Path, str]:
    """Let a real ledger write two entries for each of so many calls; its database and its public key."""
    ledger = BareLedger(folder)
    began_s = time.perf_counter()
    asyncio.run(_fill_by(ledger, calls))
    ledger.close()
    size, seconds = ledger.path.stat().st_size, time.perf_counter() - began_s
    print(f"  filled with {calls:,} calls in {seconds:.1f} s; {size / calls:,.0f} bytes a call on disk")
    return ledger.path, ledger.identity.signer.key.encode()


async def _fill_by(ledger: BareLedger, calls: int) -> None:
    await ledger.open()

    async def work(count: int) -> None:
        for _ in range(count):
            await ledger.call()

    async with asyncio.TaskGroup() as group:
        for caller in range(CALLERS):
            group.create_task(work(len(range(caller, calls, CALLERS))))


def _plain(database: Path) -> int:
    """Hash and read every entry."""
    connection = sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)
    count = 0
    for (entry,) in connection.execute("SELECT entry FROM log ORDER BY tenant, seq"):
        hashlib.sha256(entry).digest()
        json.loads(entry.decode())
        count += 1
    connection.close()
    return count


def _standalone(database: Path, key: str) -> int:
    command = [sys.executable, verify_standalone.__file__, str(database), "--key", key, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"the log does not verify: {done.stdout}{done.stderr}")
    return sum(int(tenant["size"]) for tenant in json.loads(done.stdout)["tenants"])


def _full(database: Path, key: str) -> int:
    report = SqliteVerifier(database, key=key, clock=SystemClock()).verify(None)
    if report.faults:
        sys.exit(f"the database does not verify: {report.faults[0]}")
    return report.entries


if __name__ == "__main__":
    main()
