"""What a confined Python call costs: fresh state, and a session that stays, against starting an interpreter unconfined.

Measured     the p50 from order to outcome of `1 + 1` through the python lane. Fresh: a sandbox (a spare, built after
             the last call) is read from outside, runs the source, and its end is proved. Session: one call of a worker
             that lives on.
Yardstick    fresh: a cold `python3 -c "1 + 1"` of the same interpreter, unconfined, with its output collected. Session:
             one byte to another process through a pipe and one byte back.
Target       fresh: ≤ 8 ms and ≤ 0.4 × the cold interpreter at p50; session: ≤ 0.5 ms over the pipe.
             For information: a fresh call without a spare, which pays for the building too.
Repeat       python -m benchmarks.python_lane [--quick]
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Self

from assent.bootstrap.system import SystemClock, SystemEntropy
from assent.execution.adapters.python import PythonLane
from assent.execution.attestations import ConfinementClass
from assent.execution.orders import PythonOrder
from assent.execution.outcomes import StreamEvent
from benchmarks.reporting import arguments, result

FRESH_MS_MAX, COLD_SHARE_MAX, OVER_PIPE_MS_MAX = 8.0, 0.4, 0.5
Run = Callable[[], Awaitable[object]]


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__).parse_args()
    print(__doc__)
    with tempfile.TemporaryDirectory(prefix="assent-bench-") as made:
        workspace = Path(made) / "workspace"
        workspace.mkdir()
        asyncio.run(_main(workspace, rounds=20 if options.quick else 150))


async def _main(workspace: Path, *, rounds: int) -> None:
    spared = PythonLane(clock=SystemClock(), entropy=SystemEntropy())
    bare = PythonLane(clock=SystemClock(), entropy=SystemEntropy(), spares_max=0)
    order = PythonOrder(source="1 + 1", workspace=str(workspace))
    kept = PythonOrder(source="1 + 1", workspace=str(workspace), session="bench")
    try:
        runs: dict[str, Run] = {
            "fresh, a spare was waiting": _carrying(spared, order),
            "cold interpreter": _cold,
            "fresh, built for the call": _carrying(bare, order),
        }
        taken = await _in_turn(runs, pause=spared.ready, rounds=rounds)
        with _Echo() as echo:
            small: dict[str, Run] = {"session": _carrying(spared, kept), "pipe": echo.round_trip}
            taken |= await _in_turn(small, pause=_at_once, rounds=10 * rounds)
    finally:
        await spared.close()
        await bare.close()
    p50 = {name: statistics.median(times) for name, times in taken.items()}
    for name, times in taken.items():
        print(f"  {name:<28} p50 {p50[name]:7.3f} ms  p90 {sorted(times)[len(times) * 9 // 10]:7.3f} ms")
    fresh, cold = p50["fresh, a spare was waiting"], p50["cold interpreter"]
    share = statistics.median(
        ours / theirs
        for ours, theirs in zip(taken["fresh, a spare was waiting"], taken["cold interpreter"], strict=True)
    )
    result("fresh jailed call, p50", fresh, unit="ms", at_most=FRESH_MS_MAX)
    result("fresh jailed call to a cold interpreter, p50 of the rounds", share, at_most=COLD_SHARE_MAX)
    built = p50["fresh, built for the call"] / cold
    result("fresh jailed call that was built for itself, to a cold interpreter", built)
    over = p50["session"] - p50["pipe"]
    result("session call over a bare pipe round trip, p50", over, unit="ms", at_most=OVER_PIPE_MS_MAX)


def _carrying(lane: PythonLane, order: PythonOrder) -> Run:
    async def run() -> None:
        outcome = await lane.carry(order, floor=ConfinementClass.NAMESPACED, on_event=_ignore)
        if outcome.value.get("result") != 2:
            raise RuntimeError(f"{outcome.code}: {outcome.message}")

    return run


async def _in_turn(runs: dict[str, Run], *, pause: Run, rounds: int) -> dict[str, list[float]]:
    """Each run once a round, with nothing else under way; the first round, in which things start, does not count."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            await pause()
            began_s = time.perf_counter()
            await run()
            taken[name].append(1e3 * (time.perf_counter() - began_s))
    return {name: times[1:] for name, times in taken.items()}


async def _cold() -> None:
    _run_cold()


def _run_cold() -> None:
    command = [sys.executable, "-c", "1 + 1"]
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)


async def _at_once() -> None:
    return None


class _Echo:
    """Another process that sends back every byte."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait()

    async def round_trip(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        os.write(self._process.stdin.fileno(), b"x")
        os.read(self._process.stdout.fileno(), 1)


def _ignore(_: StreamEvent) -> None:
    return None


if __name__ == "__main__":
    main()
