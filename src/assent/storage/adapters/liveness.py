"""Proof that a process on this machine is gone: the file lock it held for all its life can be taken by somebody else.

A lease that lapsed only says that a node is late. The lock says more: the kernel gives it back in the moment the last
process that held it ends, SIGKILL included, so recovery need not wait for the lease.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from assent.primitives.ids import NodeId


class Liveness:
    """Lock files of nodes in one folder, one file a node."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: int | None = None

    def hold(self, node: NodeId) -> None:
        """Hold this node's lock until `release` or the end of the process."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._held = os.open(self._path(node), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def release(self, node: NodeId) -> None:
        """Give the lock back and remove its file. Idempotent."""
        if self._held is not None:
            self._path(node).unlink(missing_ok=True)
            os.close(self._held)
            self._held = None

    def is_dead(self, node: NodeId) -> bool:
        """Whether the node's process is surely gone. A node without a lock file ended in order, or is not of here."""
        try:
            probe = os.open(self._path(node), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(probe)
        return True

    def forget(self, node: NodeId) -> None:
        """Remove a dead node's file, once it was fenced out."""
        self._path(node).unlink(missing_ok=True)

    def _path(self, node: NodeId) -> Path:
        return self._folder / f"{node}.lock"
