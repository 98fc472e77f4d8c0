"""This host and the processes on it: what it is, what was started here, and the end of all of that."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import select
import signal
import time
from typing import Any

VERSION = 1
DEATH_S = 10.0
_SET_SUBREAPER = 36


def become_reaper() -> None:
    """From now on whatever loses its parent below this process becomes its child."""
    ctypes.CDLL(None).prctl(_SET_SUBREAPER, 1, 0, 0, 0)


def descendants() -> list[int]:
    """Everything this process started, at any depth; zombies are dead."""
    children: dict[int, list[int]] = {}
    dead: set[int] = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                with open(f"/proc/{name}/stat", "rb") as file:
                    state, parent = file.read().rpartition(b")")[2].split()[:2]
                children.setdefault(int(parent), []).append(int(name))
                if state in (b"Z", b"X"):
                    dead.add(int(name))
    found, look = [], [os.getpid()]
    while look:
        for pid in children.get(look.pop(), ()):
            look.append(pid)
            if pid not in dead:
                found.append(pid)
    return found


def kill_tree() -> bool:
    """Kill everything below this process; whether nothing is left. Stopped first, so that nobody can start another."""
    end = time.monotonic() + DEATH_S
    while True:
        found = descendants()
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in found:
                with contextlib.suppress(OSError):
                    os.kill(pid, number)
        if not found:
            return True
        if time.monotonic() > end:
            return False
        select.select([], [], [], 0.002)


def host_facts() -> dict[str, Any]:
    """What this host is."""
    return {
        "version": VERSION, "system": platform.system(), "release": platform.release(), "machine": platform.machine(),
        "node": platform.node(), "python": platform.python_version(), "uid": os.getuid(), "gid": os.getgid(),
        "proc": os.path.exists("/proc/self/stat"),
    }  # fmt: skip


def limits_of(spec: dict[str, Any]) -> dict[str, int]:
    """Resource limits by name. The number of processes is counted for the whole account: what runs already is added."""
    own = sum(_owner(name) == os.getuid() for name in os.listdir("/proc") if name.isdigit())
    limits = spec["limits"]
    return {
        "RLIMIT_CORE": 0, "RLIMIT_CPU": limits["cpu_s_max"], "RLIMIT_FSIZE": limits["file_bytes_max"],
        "RLIMIT_DATA": limits["memory_bytes_max"], "RLIMIT_NOFILE": limits["open_files_max"],
        "RLIMIT_NPROC": limits["processes_max"] + own,
    }  # fmt: skip


def _owner(name: str) -> int:
    try:
        return os.stat(f"/proc/{name}").st_uid
    except OSError:
        return -1


def name_of(number: int) -> str:
    """A signal's name."""
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"SIG{number}"
