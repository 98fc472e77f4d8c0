"""A file of the workspace as the body of a request: opened beneath it, measured once, read as it is sent.

Each name on the way is opened from the folder before it and never through a link, so there is no moment at which a path
that was judged could lead elsewhere. What is sent is what the open file held, to the size it had when it was opened: a
file that has become shorter breaks the request off, so that no server takes half of it for the whole.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncGenerator

from assent.execution.orders import Upload
from assent.execution.paths import parts_of
from assent.primitives.digests import Digest
from assent.primitives.errors import Refused, Unavailable

_PIECE_BYTES = 262_144
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # opening a pipe must not wait for its other end


class UploadFile:
    """An open file on its way. `close` it; it can be sent several times, and `sent` is the digest of the last time.

    Raises:
        Refused: there is no such file, a link is on the way, or it is no ordinary file (`upload_refused`,
            `outside_workspace`, `path_malformed`).
    """

    def __init__(self, upload: Upload) -> None:
        self._name = upload.path
        self._wanted = upload.sha256
        self._fd = _opened(upload)
        self.size = os.fstat(self._fd).st_size
        self.sent = Digest("")

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    async def check(self) -> None:
        """Read it through once where its content is known beforehand: by the order, or because it was sent before.

        Raises:
            Refused: it has another content (`upload_changed`).
        """
        if not self._wanted:
            return
        found = hashlib.sha256()
        async for piece in self._read():
            found.update(piece)
        if f"sha256:{found.hexdigest()}" != self._wanted:
            raise Refused("upload_changed", f"`{_shown(self._name)}` has another content than was asked for")

    async def pieces(self) -> AsyncGenerator[bytes]:
        """Its content, and from then on this content is wanted.

        Raises:
            Unavailable: it became shorter while it was read (`upload_changed`).
        """
        found = hashlib.sha256()
        async for piece in self._read():
            found.update(piece)
            yield piece
        self.sent = Digest(f"sha256:{found.hexdigest()}")
        self._wanted = self._wanted or self.sent

    async def _read(self) -> AsyncGenerator[bytes]:
        at = 0
        while at < self.size:
            piece = await asyncio.to_thread(os.pread, self._fd, min(_PIECE_BYTES, self.size - at), at)
            if not piece:
                raise Unavailable("upload_changed", f"`{_shown(self._name)}` became shorter while it was sent")
            at += len(piece)
            yield piece


def _opened(upload: Upload) -> int:
    parts = parts_of(upload.path)
    if not parts or not upload.workspace.startswith("/"):
        raise _refused(upload, "names no file")
    try:
        file = _walked(upload.workspace, parts)
    except OSError as error:
        raise _refused(upload, (error.strerror or "it cannot be opened").lower()) from error
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise _refused(upload, "it is no ordinary file")
    return file


def _walked(workspace: str, parts: tuple[str, ...]) -> int:
    here = os.open(workspace, _FOLDER)
    for name in parts[:-1]:
        try:
            there = os.open(name, _FOLDER, dir_fd=here)
        finally:
            os.close(here)
        here = there
    try:
        return os.open(parts[-1], _FILE, dir_fd=here)
    finally:
        os.close(here)


def _refused(upload: Upload, why: str) -> Refused:
    return Refused(
        "upload_refused",
        f"`{_shown(upload.path)}` cannot be sent: {why}",
        hint="name an ordinary file of the workspace",
    )


def _shown(path: str) -> str:
    return ascii(path[:80])[1:-1]
