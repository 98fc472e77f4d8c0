"""A crowd of active executions on one node: programs that wait for what is said to them, each confined and watched.

Measured     1,000 confined programs (`cat`, input open) running at once through one process lane: the time until the
             last one runs, what they cost while nothing happens (processor time of everybody, memory of everybody as
             proportional set size), and whether each, spoken to at the end, gives back its own word.
Yardstick    the same programs bare, by asyncio's subprocess.
Target       not one lost. For information: starting, idling and memory, for each.
Repeat       python -m benchmarks.active [--quick] [--count N]
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path

from assent.bootstrap.descriptors import raise_open_files_limit
from assent.bootstrap.system import SystemClock
from assent.execution.adapters.process import ProcessLane
from assent.execution.attestations import ConfinementClass
from assent.execution.orders import Limits, ProcessOrder
from assent.execution.outcomes import Outcome, StreamEvent
from assent.execution.steering import EndInput, Input, Word
from benchmarks.reporting import arguments, result

PROGRAM = "cat"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__)
    parser.add_argument("--count", type=int, default=0, help="how many at once (else: 1000, or 100 with --quick)")
    options = parser.parse_args()
    print(__doc__)
    count = options.count or (100 if options.quick else 1000)
    raise_open_files_limit()
    with tempfile.TemporaryDirectory(prefix="assent-bench-") as made:
        asyncio.run(_main(Path(made), count=count, idle_s=3.0 if options.quick else 10.0))


class Asker:
    """Says one word when it is told to, and nothing more."""

    def __init__(self, text: bytes, begin: asyncio.Event) -> None:
        self._words: list[Word] = [EndInput(), Input(data=text)]
        self._begin = begin
        self.runs = asyncio.Event()

    async def word(self) -> Word:
        """The next word, once it is time."""
        self.runs.set()  # a lane listens as soon as its program runs
        await self._begin.wait()
        if not self._words:
            await asyncio.Event().wait()
        return self._words.pop()

    def has_room(self) -> bool:
        """Always."""
        return True

    async def room(self) -> None:
        """At once."""


async def _main(made: Path, *, count: int, idle_s: float) -> None:
    bare_s = await _bare(count)
    workspace = made / "workspace"
    workspace.mkdir()
    lane = ProcessLane(clock=SystemClock(), state_dir=made / "state")
    order = ProcessOrder(
        argv=(PROGRAM,), workspace=str(workspace), stdin_open=True, limits=Limits(wall_ms=600_000, grace_ms=500)
    )
    begin = asyncio.Event()
    try:
        await _carry(lane, ProcessOrder(argv=("true",), workspace=str(workspace)))
        empty_bytes = _memory_bytes()
        began_s = time.perf_counter()
        askers = [Asker(f"word {n}".encode(), begin) for n in range(count)]
        runs = [asyncio.ensure_future(_carry(lane, order, asker)) for asker in askers]
        await asyncio.gather(*(asker.runs.wait() for asker in askers))
        start_s = time.perf_counter() - began_s
        print(f"  {count} confined programs run at once, {len(_family())} processes in all")
        cpu_s, memory_bytes = await _idle(idle_s), _memory_bytes() - empty_bytes
        begin.set()
        began_s = time.perf_counter()
        outcomes = await asyncio.gather(*runs)
        end_s = time.perf_counter() - began_s
    finally:
        await lane.close()
    print(f"  spoken to and ended, all of them: {end_s:.2f} s")
    lost = sum(not _whole(outcome, n) for n, outcome in enumerate(outcomes))
    result(f"of {count} active executions lost", lost, unit="lost", at_most=0)
    result(f"starting {count}, each", 1e3 * start_s / count, unit="ms")
    result("the same programs started bare, each", 1e3 * bare_s / count, unit="ms")
    result(f"processor time of {count} idle ones and the node, in cores", cpu_s / idle_s, unit="cores")
    result(
        "memory of an idle one, its program and its share of the node included",
        memory_bytes / count / 2**20,
        unit="MiB",
    )


async def _carry(lane: ProcessLane, order: ProcessOrder, asker: Asker | None = None) -> Outcome:
    return await lane.carry(order, floor=ConfinementClass.NAMESPACED, on_event=_ignore, steering=asker)


def _whole(outcome: Outcome, number: int) -> bool:
    return outcome.code == "ok" and outcome.value["stdout"] == f"word {number}"


async def _bare(count: int) -> float:
    """The seconds to start as many bare, and that each gives back its word."""
    pipe = asyncio.subprocess.PIPE
    began_s = time.perf_counter()
    processes = [await asyncio.create_subprocess_exec(PROGRAM, stdin=pipe, stdout=pipe) for _ in range(count)]
    taken_s = time.perf_counter() - began_s
    for process in processes:
        await process.communicate(b"word")
    return taken_s


async def _idle(seconds: float) -> float:
    """The processor seconds that everybody together takes while nothing happens."""
    await asyncio.sleep(2.0)  # until looks come as late as they will
    before = _ticks()
    await asyncio.sleep(seconds)
    return (_ticks() - before) / TICKS_PER_S


def _family() -> list[int]:
    """This process and everything below it."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
            except OSError:
                continue
            parents[int(folder.name)] = int(fields[1])
    family, grown = {os.getpid()}, True
    while grown:
        below = {pid for pid, parent in parents.items() if parent in family} - family
        grown = bool(below)
        family |= below
    return sorted(family)


def _ticks() -> int:
    total = 0
    for pid in _family():
        try:
            total += sum(map(int, Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[11:13]))
        except OSError:
            continue
    return total


def _memory_bytes() -> int:
    """Proportional set size over the family; resident size where that cannot be read."""
    total = 0
    for pid in _family():
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
        except (OSError, StopIteration):
            continue
    return total


def _ignore(_: StreamEvent) -> None:
    return None


if __name__ == "__main__":
    main()
