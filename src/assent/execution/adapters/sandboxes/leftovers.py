"""A folder for what is written for sandboxes outside of them, gone with whoever made it.

It is locked (flock) for as long as its maker lives. Who makes the next one removes those that nobody holds any more, so
a killed node leaves nothing for long. A lock, unlike a process id, means the same in every process namespace.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_LOCK, _UNLOCKED = "held", "new"


class HeldFolder:
    """A folder of this process in the system's temporary one; others may pass through it and not look into it."""

    def __init__(self, prefix: str) -> None:
        _sweep(prefix)
        self.path = Path(tempfile.mkdtemp(prefix=prefix)).resolve()
        self._lock = os.open(self.path / _UNLOCKED, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        (self.path / _UNLOCKED).rename(self.path / _LOCK)  # nobody sees it before it is locked
        self.path.chmod(0o711)

    def within(self) -> Path:
        """A new folder in it that only this user can enter."""
        return Path(tempfile.mkdtemp(dir=self.path))

    def remove(self) -> None:
        """Remove it with all that is in it. Idempotent."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def _sweep(prefix: str) -> None:
    """Remove the folders of makers that are gone; what belongs to somebody else cannot be opened, and stays."""
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            lock = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.stat(path).st_uid == os.geteuid():
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(lock)
