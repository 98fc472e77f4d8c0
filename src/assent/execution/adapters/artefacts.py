"""Large outputs as files named by their digest: written beside their place, flushed, then linked into it.

artefacts/ab/cdef…      the content whose SHA-256 is abcdef…
artefacts/.part-…       one that is being written, or was when a process died; swept when the folder is opened
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path

from assent.primitives.clock import Entropy
from assent.primitives.digests import Digest

_PART = ".part-"
_STALE_S = 86_400


class ArtefactFolder:
    """Keeps artefacts beneath `folder` (see `ports.Artefacts`)."""

    def __init__(self, folder: Path, *, entropy: Entropy) -> None:
        self._folder = folder
        self._entropy = entropy

    def begin(self) -> ArtefactFile:
        """See `Artefacts.begin`."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return ArtefactFile(self._folder, self._folder / f"{_PART}{self._entropy(12).hex()}")

    def path(self, digest: Digest) -> Path:
        """Where the artefact with `digest` is, if it is kept."""
        name = digest.removeprefix("sha256:")
        return self._folder / name[:2] / name[2:]

    def sweep(self) -> int:
        """Remove what processes that died left unfinished for a day; how many files that were."""
        count = 0
        stale_before_s = time.time() - _STALE_S  # noqa: TID251 (compared with the file system's own times)
        for part in self._folder.glob(f"{_PART}*"):
            with contextlib.suppress(OSError):
                if part.stat().st_mtime < stale_before_s:
                    part.unlink()
                    count += 1
        return count


class ArtefactFile:
    """One artefact being written (see `ports.Artefact`)."""

    def __init__(self, folder: Path, part: Path) -> None:
        self._folder = folder
        self._part = part
        self._fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes) -> None:
        """See `Artefact.write`."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self._digest.update(data)
        self._size += len(data)

    def keep(self) -> tuple[Digest, int]:
        """See `Artefact.keep`."""
        os.fsync(self._fd)
        name = self._digest.hexdigest()
        place = self._folder / name[:2] / name[2:]
        place.parent.mkdir(exist_ok=True, mode=0o700)
        os.rename(self._part, place)  # the same content may be there already: it is the same
        for folder in (place.parent, self._folder):
            _flush(folder)
        self._close()
        return Digest(f"sha256:{name}"), self._size

    def abandon(self) -> None:
        """See `Artefact.abandon`."""
        if self._fd >= 0:
            self._close()
            with contextlib.suppress(FileNotFoundError):
                self._part.unlink()

    def _close(self) -> None:
        os.close(self._fd)
        self._fd = -1


def _flush(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
