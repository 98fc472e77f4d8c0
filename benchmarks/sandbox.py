"""What confinement costs: `/bin/true` through the process lane against the same program started bare.

Measured     the p50 from order to outcome of a confined run: a sandbox built, read from outside (the attestation),
             started, watched, its end proved and all its output collected; and the reading alone.
Yardstick    the same program, bare, with its output collected: the faster of `subprocess.run` and asyncio's subprocess.
Target       ≤ 8 ms over a bare subprocess at p50. For information: posix_spawn with waitpid and no output at all (the
             least there is), bubblewrap through the same lane, and by itself.
Repeat       python -m benchmarks.sandbox [--quick]
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from assent.bootstrap.system import SystemClock
from assent.execution.adapters.process.lane import ProcessLane
from assent.execution.adapters.sandboxes.image import Image
from assent.execution.adapters.sandboxes.namespaces import Namespaces
from assent.execution.adapters.sandboxes.owners import NOBODY
from assent.execution.adapters.sandboxes.selection import MechanismName
from assent.execution.adapters.sandboxes.streams import Streams
from assent.execution.adapters.sandboxes.supervision import kill_and_prove
from assent.execution.attestations import ConfinementClass
from assent.execution.orders import ProcessOrder
from assent.execution.outcomes import Ending, StreamEvent
from benchmarks.reporting import arguments, result

PROGRAM = "/bin/true"
OVER_MS_MAX = 8.0
_AFTERWARDS = ("lane, confined", "lane, container")
Run = Callable[[], Awaitable[object]]


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__).parse_args()
    print(__doc__)
    # A workspace of its own below /tmp, because other folders may not be visible to a confined user.
    with tempfile.TemporaryDirectory(prefix="assent-bench-") as made:
        asyncio.run(_main(Path(made), rounds=20 if options.quick else 150))


async def _main(made: Path, *, rounds: int) -> None:
    workspace = made / "workspace"
    workspace.mkdir()
    if os.geteuid() == 0:
        os.chmod(made, 0o711)  # noqa: PTH101 - our own fresh folder, before anything is measured
        os.chown(workspace, NOBODY, NOBODY)
    order = ProcessOrder(argv=(PROGRAM,), workspace=str(workspace))
    lanes = {name: _lane(made, name) for name in _mechanisms()}
    runs: dict[str, Run] = {"bare, subprocess.run": _run, "bare, asyncio": _asyncio, "posix_spawn": _posix_spawn}
    carried = {f"lane, {name}": _carrying(lane, order) for name, lane in lanes.items()}
    runs |= {name: run for name, run in carried.items() if name not in _AFTERWARDS}
    if shutil.which("bwrap"):
        runs["bwrap by itself"] = _bwrap
    try:
        taken = await _in_turn(runs, rounds=rounds)
        # Apart: what they clean up after their end would be counted against whoever comes next.
        taken |= await _in_turn({name: carried[name] for name in carried if name in _AFTERWARDS}, rounds=rounds // 4)
    finally:
        for lane in lanes.values():
            await lane.close()
    for name, times in taken.items():
        print(f"  {name:<24} p50 {statistics.median(times):7.2f} ms  p90 {_p90(times):7.2f} ms")
    read_ms = await _attesting(order, rounds=rounds)
    print(f"  {'the attestation alone':<24} p50 {read_ms:7.2f} ms")
    bare = min(statistics.median(taken[name]) for name in taken if name.startswith("bare"))
    for name in (f"lane, {name}" for name in lanes):
        over = statistics.median(taken[name]) - bare
        limit = OVER_MS_MAX if name == "lane, namespaces" else None
        result(f"{name}: {PROGRAM} over the faster bare subprocess, p50", over, unit="ms", at_most=limit)


def _mechanisms() -> list[MechanismName]:
    # As root the lane does not use bubblewrap, and these others run as the workspace's owner.
    found: list[MechanismName] = ["namespaces", "confined"]
    if shutil.which("bwrap") and os.geteuid():
        found.append("bubblewrap")
    if shutil.which("runc"):
        found.append("container")
    return found


def _lane(made: Path, mechanism: MechanismName) -> ProcessLane:
    return ProcessLane(clock=SystemClock(), state_dir=made / mechanism, mechanism=mechanism)


def _carrying(lane: ProcessLane, order: ProcessOrder) -> Run:
    async def run() -> None:
        outcome = await lane.carry(order, floor=ConfinementClass.CONFINED, on_event=_ignore)
        if outcome.ending is not Ending.SUCCEEDED:
            raise RuntimeError(f"{outcome.code}: {outcome.message}")

    return run


async def _in_turn(runs: dict[str, Run], *, rounds: int) -> dict[str, list[float]]:
    """Each run once a round; the first round, in which mechanisms are chosen, does not count."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            began_s = time.perf_counter()
            await run()
            taken[name].append(1e3 * (time.perf_counter() - began_s))
    return {name: times[1:] for name, times in taken.items()}


async def _run() -> None:
    _run_and_collect()


def _run_and_collect() -> None:
    subprocess.run([PROGRAM], stdin=subprocess.DEVNULL, capture_output=True, check=True)


async def _asyncio() -> None:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(PROGRAM, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe)
    await process.communicate()
    assert process.returncode == 0


async def _posix_spawn() -> None:
    _spawn_and_wait()


def _spawn_and_wait() -> None:
    _, status = os.waitpid(os.posix_spawn(PROGRAM, [PROGRAM], {}), 0)
    assert status == 0


async def _bwrap() -> None:
    """A sandbox of the same namespaces with the same system folder, without filter, limits, attestation or watching."""
    shown = ("--ro-bind", "/usr", "/usr", "--ro-bind", "/lib", "/lib", "--ro-bind-try", "/lib64", "/lib64")
    own = ("--ro-bind", "/bin", "/bin", "--proc", "/proc", "--dev", "/dev")
    process = await asyncio.create_subprocess_exec("bwrap", "--unshare-all", "--die-with-parent", *shown, *own, PROGRAM)
    assert await process.wait() == 0


async def _attesting(order: ProcessOrder, *, rounds: int) -> float:
    """The p50 of reading one waiting sandbox from outside."""
    mechanism = Namespaces(image=Image())
    streams = Streams(b"")
    taken = []
    try:
        launch = await mechanism.launch(order, streams)
        try:
            for _ in range(rounds):
                began_s = time.perf_counter()
                attestation = mechanism.attest(launch, order)
                taken.append(1e3 * (time.perf_counter() - began_s))
                assert attestation.confinement is not ConfinementClass.LOCAL_WEAK
        finally:
            await kill_and_prove(launch)
            launch.close()
    finally:
        streams.close()
        await mechanism.close()
    return statistics.median(taken)


def _p90(times: list[float]) -> float:
    return sorted(times)[len(times) * 9 // 10]


def _ignore(_: StreamEvent) -> None:
    return None


if __name__ == "__main__":
    main()
