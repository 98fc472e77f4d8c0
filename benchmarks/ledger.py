"""The ledger alone: accept and settle, durably, with entry, chain, Merkle nodes and signed head; no policy, no lane.

Measured     the p50 of a lone caller; the calls a second of 64 callers; the flushes each call then costs.
Yardstick    SQLite with the same settings, the same payload (470 + 140 bytes) and one commit for each of two writes:
             for the lone caller inline, for 64 callers the faster of one locked connection and one connection a thread.
Target       lone p50 ≤ 3 × two bare commits; 64 callers ≥ 6 × the yardstick's rate, ≤ 0.1 flushes a call.
Repeat       python -m benchmarks.ledger [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks.bare_ledger import INTENT_BYTES, VALUE_BYTES, BareLedger
from benchmarks.bare_sqlite import BareSqlite
from benchmarks.flushes import CHECKPOINT_FLUSHES, checkpoints, traced, tracer
from benchmarks.reporting import arguments, result, row, scratch
from benchmarks.windows import Window, by_tasks, by_threads, in_turn, middle, ratio

CALLERS = 64


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--load", type=float, help=argparse.SUPPRESS)  # only run the load: what gets traced
    options = parser.parse_args()
    if options.load is not None:
        _load(options.folder, options.load)
        return
    rounds, seconds = (2, 0.3) if options.quick else (7, 1.0)
    print(__doc__)
    with scratch(options.folder) as folder:
        lone = _lone(folder, rounds=rounds, seconds=seconds / 2)
        crowd = _crowd(folder, rounds=rounds, seconds=seconds)
        flushes = _flushes(folder, seconds=2 * seconds)
    result("p50 of a lone caller's accept + settle, against two bare commits", lone, at_most=3)
    result(f"accept + settle by {CALLERS} callers, against one commit for each write", crowd, at_least=6)
    result(f"flushes for each call of {CALLERS} callers", flushes, unit="flushes/call", at_most=0.1)


def _lone(folder: Path, *, rounds: int, seconds: float) -> float:
    windows = _in_turn(folder / "lone", callers=1, rounds=rounds, seconds=seconds)
    return ratio(windows["ledger"], windows["bare, locked connection"], lambda w: w.p50_ms)


def _crowd(folder: Path, *, rounds: int, seconds: float) -> float:
    windows = _in_turn(folder / "crowd", callers=CALLERS, rounds=rounds, seconds=seconds)
    ours = windows.pop("ledger")
    faster = max(windows, key=lambda name: middle(windows[name], lambda w: w.rate))
    print(f"  the faster yardstick: {faster}")
    return ratio(ours, windows[faster], lambda w: w.rate)


def _in_turn(folder: Path, *, callers: int, rounds: int, seconds: float) -> dict[str, list[Window]]:
    folder.mkdir()
    print(f"  {callers} caller{'s' if callers > 1 else ''}, {rounds} rounds of {seconds:g} s each:")
    ledger = BareLedger(folder)
    intent, outcome = ledger.intent, b"y" * VALUE_BYTES
    assert len(intent) == INTENT_BYTES
    bare = {name: BareSqlite(folder / f"{name}.db", intent=intent, outcome=outcome) for name in ("locked", "own")}
    threads = partial(by_threads, callers=callers, seconds=seconds)
    with asyncio.Runner() as runner:
        runner.run(ledger.open())
        arms = {
            "ledger": lambda: runner.run(by_tasks(ledger.call, callers=callers, seconds=seconds)),
            "bare, locked connection": lambda: threads(bare["locked"].locked_call),
        }
        if callers > 1:
            arms["bare, connection a thread"] = lambda: threads(bare["own"].own_call)
        commits = ledger.book.commits
        windows = in_turn(arms, rounds=rounds)
    for name, found in windows.items():
        row(name, found)
    commits = ledger.book.commits - commits
    ledger.close()
    calls = sum(database.close() for database in bare.values())
    assert calls >= sum(w.calls for name, found in windows.items() if name != "ledger" for w in found)
    print(f"  the ledger's own commits: {commits:,}, in the warm-up round too")
    return windows


def _flushes(folder: Path, *, seconds: float) -> float:
    """Flushes for each call under load, counted in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.ledger", "--load", str(seconds), "--folder"]
    plain, watched = folder / "plain", folder / "watched"
    subprocess.run([*command, str(plain)], check=True)
    alone = _read(plain)
    print(f"  untraced: {alone.commits / alone.calls:.4f} commits/call, {alone.checkpoints} checkpoints")
    found = tracer()
    if found is None:
        print("  strace is not here: commits and checkpoints stand for flushes")
        return (alone.commits + CHECKPOINT_FLUSHES * alone.checkpoints) / alone.calls
    moments = traced([*command, str(watched)], tracer=found, trace=folder / "trace")
    seen = _read(watched)
    flushes = sum(seen.began_s <= moment <= seen.ended_s for moment in moments)
    print(
        f"  under strace: {flushes} flushes for {seen.calls:,} calls, {seen.commits / seen.calls:.4f} commits/call,"
        f" {flushes / seen.commits:.2f} flushes/commit"
    )
    # The tracer slows flushes, which makes groups larger: what a commit flushes is taken from it, groups are not.
    return flushes / seen.commits * alone.commits / alone.calls


class _Load(NamedTuple):
    """What a load came to, and when it was."""

    calls: int
    commits: int
    checkpoints: int
    began_s: float
    ended_s: float


def _load(folder: Path, seconds: float) -> None:
    folder.mkdir()
    ledger = BareLedger(folder)
    with asyncio.Runner() as runner:
        runner.run(ledger.open())
        commits, restarts, began_s = ledger.book.commits, checkpoints(ledger.path), time.time()
        window = runner.run(by_tasks(ledger.call, callers=CALLERS, seconds=seconds))
        load = _Load(
            window.calls,
            ledger.book.commits - commits,
            checkpoints(ledger.path) - restarts,
            began_s,
            time.time(),
        )
    ledger.close()
    (folder / "load.json").write_text(json.dumps(load))


def _read(folder: Path) -> _Load:
    return _Load(*json.loads((folder / "load.json").read_text()))


if __name__ == "__main__":
    main()
