"""Windows: short stretches of load, taken in turn (A B A B …) so that a busy machine slows both sides alike.

Standard library only, because the yardsticks' own environments import it too.
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple


class Window(NamedTuple):
    """What one stretch of load came to. `cpu_us` is user and system time of the whole process, for each call."""

    calls: int
    seconds: float
    p50_ms: float
    p99_ms: float
    cpu_us: float

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.calls / self.seconds


class _Stretch:
    """A stretch that is under way: until when it lasts, and how long each call took."""

    def __init__(self, seconds: float) -> None:
        self._cpu_s = time.process_time()
        self._began_s = time.perf_counter()
        self.ends_s = self._began_s + seconds
        self.taken_s: list[float] = []

    def window(self) -> Window:
        seconds, cpu_s = time.perf_counter() - self._began_s, time.process_time() - self._cpu_s
        taken, calls = sorted(self.taken_s), len(self.taken_s)
        return Window(
            calls=calls,
            seconds=seconds,
            p50_ms=1e3 * taken[calls // 2],
            p99_ms=1e3 * taken[min(calls - 1, calls * 99 // 100)],
            cpu_us=1e6 * cpu_s / calls,
        )


def by_threads(call: Callable[[], object], *, callers: int, seconds: float) -> Window:
    """Load from threads, each calling again as soon as it is answered. Every caller finishes what it began."""
    stretch = _Stretch(seconds)
    faults: list[BaseException] = []

    def work() -> None:
        try:
            while (began_s := time.perf_counter()) < stretch.ends_s:
                call()
                stretch.taken_s.append(time.perf_counter() - began_s)
        except BaseException as fault:  # noqa: BLE001 (carried over to the main thread)
            faults.append(fault)

    threads = [threading.Thread(target=work) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
    return stretch.window()


async def by_tasks(call: Callable[[], Awaitable[object]], *, callers: int, seconds: float) -> Window:
    """The same load from tasks of this event loop."""
    stretch = _Stretch(seconds)

    async def work() -> None:
        while (began_s := time.perf_counter()) < stretch.ends_s:
            await call()
            stretch.taken_s.append(time.perf_counter() - began_s)

    async with asyncio.TaskGroup() as group:
        for _ in range(callers):
            group.create_task(work())
    return stretch.window()


def in_turn(arms: Mapping[str, Callable[[], Window]], *, rounds: int) -> dict[str, list[Window]]:
    """Let each arm have a window, `rounds` times over; the first round warms up and does not count."""
    found: dict[str, list[Window]] = {name: [] for name in arms}
    for _ in range(rounds + 1):
        for name, arm in arms.items():
            found[name].append(arm())
    return {name: windows[1:] for name, windows in found.items()}


def middle(windows: list[Window], figure: Callable[[Window], float]) -> float:
    """The median of one figure."""
    return statistics.median(map(figure, windows))


def ratio(ours: list[Window], theirs: list[Window], figure: Callable[[Window], float]) -> float:
    """The median, over the rounds, of ours to theirs: both sides of each round saw the same machine."""
    return statistics.median(figure(a) / figure(b) for a, b in zip(ours, theirs, strict=True))
