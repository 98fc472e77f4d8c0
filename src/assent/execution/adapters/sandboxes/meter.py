"""What a run uses that no kernel limit bounds for a whole tree: memory, processor time, disk. Looked at, from above it.

Per-process limits do not bound a tree, so the process above it looks every `PERIOD_S`. While nothing stirs each look
comes twice as late as the one before, up to `IDLE_PERIOD_S`, and costs a few microseconds: the processor clocks of the
known processes stand still, to the nanosecond, so none of them can have started another, nor have taken memory or disk.
So a thousand idle programs cost next to nothing. The first look that finds something stirring is a whole one again.

- Memory is resident memory over all processes; over the limit it is counted again precisely (proportional set size, so
  that pages shared between forks count once). Memory in no process's pages is outside this sum: the filter closes the
  calls that make it (detached segments, message queues, memory files), scratch files count as disk, and what the kernel
  keeps for pipes and sockets is bounded by the number of descriptors alone; only a cgroup could bound it in bytes.
- Disk is what the private scratch folders hold (exactly: they are file systems of their own), and what the workspace
  grew by. Nobody keeps books on a folder, so that is found in two steps. The free space of its file system is one cheap
  look. Only when more of it is gone than the run may use are files looked at: those of the workspace that were changed
  since the start, and deleted ones that are still open. If these are too many or cannot be read, what the file system
  lost is taken for the run's: who hides files answers for the disk. Not seen are files that are deleted and only
  mapped; and space that others free at the same moment hides as much of the run's growth.

All of it is seen at looks only: a limit can be passed by what fits between two. What was seen at most is reported.
"""

from __future__ import annotations

import math
import os
import resource
import stat
import time
from collections.abc import Callable, Iterable

from .arrivals import Spec

PERIOD_S, IDLE_PERIOD_S = 0.1, 0.8
ENTRIES_MAX = 100_000
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_BLOCK_BYTES = 512
_SCHEDULED = 2  # the kind of a process's clock that counts every nanosecond it runs (CPUCLOCK_SCHED)
_CLOCK_SLACK_S = 0.05  # the kernel stamps files with a clock that may lag by a tick

Pids = Callable[[], list[str]]


class Meter:
    """Looks at one run. `pids` lists the processes of its tree, the one that looks left out."""

    def __init__(self, spec: Spec, pids: Pids) -> None:
        self._memory_bytes_max, self._cpu_s_max = spec["memory_bytes_max"], spec["cpu_s_max"]
        self._pids = pids
        self._disk = Disk(**spec["disk"])
        self._clocks: dict[str, float] = {}
        self._period_s = PERIOD_S
        self._next_s = time.monotonic() + PERIOD_S
        self.looks = self.processes = self.memory_bytes = self.disk_bytes = 0

    @property
    def wait_s(self) -> float:
        """Until the next look is due."""
        return max(0.0, self._next_s - time.monotonic())

    def look(self) -> str:
        """The limit that is passed, or `-`."""
        still = bool(self._clocks) and all(clock(pid) == before for pid, before in self._clocks.items())
        passed = "-" if still else self._look()
        self._period_s = min(2 * self._period_s, IDLE_PERIOD_S) if still else PERIOD_S
        self._next_s = time.monotonic() + self._period_s
        self.looks += 1
        return passed

    def _look(self) -> str:
        pids = self._pids()
        self._clocks = {pid: clock(pid) for pid in pids}  # before the rest is read: what stirs meanwhile has stirred
        used = [usage(pid) for pid in pids]
        memory_bytes, cpu_ticks = sum(one[0] for one in used), sum(one[1] for one in used)
        self.processes = max(self.processes, len(pids))
        self.memory_bytes = max(self.memory_bytes, memory_bytes)
        return self._passed(pids, memory_bytes, cpu_ticks)

    def _passed(self, pids: list[str], memory_bytes: int, cpu_ticks: int) -> str:
        gone = resource.getrusage(resource.RUSAGE_CHILDREN)
        if cpu_ticks / _TICKS_PER_S + gone.ru_utime + gone.ru_stime > self._cpu_s_max:
            return "cpu"
        if memory_bytes > self._memory_bytes_max and sum(map(_proportional, pids)) > self._memory_bytes_max:
            return "memory"
        grown = self._disk.grown(pids)
        self.disk_bytes = max(self.disk_bytes, grown)
        return "disk" if grown > self._disk.bytes_max else "-"


class Disk:
    """What the files of a run grew by: `own` are file systems of the run alone, `folders` lie on the host's."""

    def __init__(self, *, folders: list[str], own: list[str], bytes_max: int) -> None:
        self._folders, self._own, self.bytes_max = folders, own, bytes_max
        self._began_s = time.time() - _CLOCK_SLACK_S
        self._systems = {os.stat(folder).st_dev: folder for folder in folders}
        self._free_bytes = self._free()
        self._cleared_bytes = 0

    def grown(self, pids: Iterable[str]) -> int:
        """The growth: in `own` exactly; in `folders` by what was found, once the whole could be too much."""
        own_bytes = sum(map(_used, self._own))
        lost = max(0, self._free_bytes - self._free()) if self._folders else 0
        if own_bytes + lost <= self.bytes_max:
            return own_bytes + lost
        if own_bytes <= self.bytes_max and lost <= self._cleared_bytes:
            return own_bytes
        found = self._found(pids)
        grown = own_bytes + (lost if found is None else min(found, lost))
        if grown <= self.bytes_max:
            self._cleared_bytes = lost + self.bytes_max // 4  # others took it: look again when still more is gone
        return grown

    def _found(self, pids: Iterable[str]) -> int | None:
        """What changed files hold, deleted ones that are open included; None when it cannot be told."""
        parts = [changed_bytes(folder, self._began_s) for folder in self._folders]
        parts.append(_deleted_bytes(pids, set(self._systems)))
        told = [part for part in parts if part is not None]
        return sum(told) if len(told) == len(parts) else None

    def _free(self) -> int:
        return sum(map(_free, self._systems.values()))


def changed_bytes(folder: str, since_s: float) -> int | None:
    """What the files below `folder` hold that were changed since; None: they are too many, or some cannot be read."""
    total, left, folders = 0, ENTRIES_MAX, [folder]
    links: set[int] = set()
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    left -= 1
                    if left < 0:
                        return None
                    if stat.S_ISDIR(found.st_mode):
                        folders.append(entry.path)
                    if found.st_ctime >= since_s and found.st_ino not in links:
                        total += found.st_blocks * _BLOCK_BYTES
                        if found.st_nlink > 1:
                            links.add(found.st_ino)
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return total


def clock(pid: str) -> float:
    """The processor time that a process itself has used, in nanoseconds; not a number when it is gone."""
    try:
        return time.clock_gettime_ns((~int(pid) << 3) | _SCHEDULED)
    except OSError:
        return math.nan


def usage(pid: str) -> tuple[int, int]:
    """Resident bytes and processor ticks (its waited-for children included) of one process."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            fields = file.read(1024).rpartition(b")")[2].split()
    except OSError:
        return 0, 0
    return int(fields[21]) * _PAGE_BYTES, sum(map(int, fields[11:15]))


def _deleted_bytes(pids: Iterable[str], devices: set[int]) -> int | None:
    """What open files hold that no folder lists any more."""
    held: dict[int, int] = {}
    for pid in pids:
        try:
            for name in os.listdir(f"/proc/{pid}/fd"):
                found = os.stat(f"/proc/{pid}/fd/{name}")
                if found.st_nlink == 0 and found.st_dev in devices and stat.S_ISREG(found.st_mode):
                    held[found.st_ino] = found.st_blocks * _BLOCK_BYTES
        except (FileNotFoundError, ProcessLookupError):
            continue
        except OSError:
            return None
    return sum(held.values())


def _proportional(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith(b"Pss:")), 0)
    except OSError:
        return usage(pid)[0]


def _free(folder: str) -> int:
    found = os.statvfs(folder)
    return found.f_bfree * found.f_frsize


def _used(folder: str) -> int:
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize
