"""Who a program is where ids cannot be mapped: the user Assent runs as, or, where that is root, the workspace's owner.

Never root: where Assent is root and the workspace is too, nothing runs. Without a user namespace the kernel's process
limit counts all tasks of the user, so the order's share is set on top of what runs already; it is not exact.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

from assent.execution.adapters.sandboxes.image import Workspace, resource_limits
from assent.execution.orders import ProcessOrder
from assent.primitives.errors import Unavailable

NOBODY = 65_534


class AsOwner:
    """What mechanisms have in common whose programs are an ordinary user of the host (half a `Mechanism`)."""

    @property
    def uid(self) -> int:
        """See `Mechanism.uid`; where Assent is root it is the workspace's owner, for trials `NOBODY`."""
        return os.geteuid() or NOBODY

    @property
    def alive(self) -> bool:
        """Nothing but the sandbox itself keeps a run alive: always."""
        return True


def owner(workspace: Workspace) -> tuple[int, int]:
    """The uid and gid a program in `workspace` gets.

    Raises:
        Unavailable: Assent is root and the workspace belongs to root.
    """
    if os.geteuid() != 0:
        return os.getuid(), os.getgid()
    if workspace.uid == 0 or workspace.gid == 0:
        raise Unavailable(
            "sandbox_failed", f"without id maps nothing runs as root, and `{workspace.path}` belongs to root",
            hint="give the workspace to an ordinary user",
        )  # fmt: skip
    return workspace.uid, workspace.gid


def limits_beside(order: ProcessOrder, uid: int) -> dict[str, int]:
    """The order's resource limits, its processes on top of those that `uid` has already."""
    return {**resource_limits(order.limits), "RLIMIT_NPROC": sum(_tasks_of(uid)) + order.limits.processes_max + 1}


def reaches(who: tuple[int, int], path: str) -> bool:
    """Whether that user, without further groups, may walk to `path` and read what it is (a folder: enter it)."""
    real = os.path.realpath(path)
    steps = [*reversed(Path(real).parents), Path(real)]
    try:
        return all(_opens(who, os.stat(step)) for step in steps)
    except OSError:
        return False


def interpreter_for(who: tuple[int, int]) -> str:
    """An interpreter which that user can start: this one, or the system's.

    Raises:
        Unavailable: neither can be reached.
    """
    for path in (sys.executable, "/usr/bin/python3"):
        if path and reaches(who, path):
            return path
    raise Unavailable(
        "sandbox_failed", f"the user `{who[0]}` can start neither `{sys.executable}` nor the system's python",
        hint="install Assent outside of a closed home, or run it as an ordinary user",
    )  # fmt: skip


def _opens(who: tuple[int, int], found: os.stat_result) -> bool:
    shift = 6 if found.st_uid == who[0] else 3 if found.st_gid == who[1] else 0
    needed = 5 if stat.S_ISREG(found.st_mode) else 1
    return found.st_mode >> shift & needed == needed


def _tasks_of(uid: int) -> Iterable[int]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat(f"/proc/{name}").st_uid == uid:
                    yield len(os.listdir(f"/proc/{name}/task"))
            except OSError:
                continue
