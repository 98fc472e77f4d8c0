"""Putting a whole file in place: filled beside the old one, safe on disk, and exchanged with it by one rename."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from assent.execution.adapters.files.beneath import Beneath, give, status
from assent.execution.adapters.files.trees import Tally
from assent.primitives.errors import Refused

_NEW_FILE_MODE = 0o666  # less the umask, as for every new file
_NAMES_TRIED_MAX = 100


def put(root: Beneath, folder: int, name: str, content: bytes, *, old: os.stat_result | None, tally: Tally) -> None:
    """Put `content` at `name`, atomically and on disk; mode and owner of the `old` file are kept.

    Raises:
        Stopped: it was time to, and nothing was changed.
        OSError: as the kernel says; `tally.landed` tells whether the change can be seen.
    """
    temporary, fd = _temporary(root, folder, mode=_NEW_FILE_MODE if old is None else 0o600)
    try:
        fill(fd, content)
        give(fd, old or os.fstat(folder))
        if old is not None:
            os.fchmod(fd, stat.S_IMODE(old.st_mode) & 0o777)
        os.fsync(fd)
        tally.check()
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        tally.landed = True
        os.fsync(folder)
        _same(fd, status(folder, name))
    except BaseException:
        if not tally.landed:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
        raise
    finally:
        os.close(fd)


def check_still(folder: int, name: str, seen: os.stat_result) -> None:
    """Accept a file that is as it was `seen`. Raises Refused: `file_changed`."""
    now = status(folder, name)
    if now is None or _stamp(now) != _stamp(seen):
        raise Refused("file_changed", "the file was changed at the same moment", hint="read it again")


def fill(fd: int, content: bytes) -> None:
    """Write all of it. Raises OSError."""
    left = memoryview(content)
    while left:
        left = left[os.write(fd, left) :]


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _temporary(root: Beneath, folder: int, *, mode: int) -> tuple[str, int]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    for number in range(_NAMES_TRIED_MAX):
        name = f".assent-{os.getpid()}-{number}.tmp"
        with suppress(FileExistsError):
            return name, root.child(folder, name, flags, mode=mode)
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def _same(fd: int, there: os.stat_result | None) -> None:
    mine = os.fstat(fd)
    if there is None or (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
        raise OSError(errno.ESTALE, "something else exchanged the file at the same moment")
