"""The hub's door for askers on this machine: a Unix socket in the data folder, for this user alone.

The path of a Unix socket is short by law of the kernel; a folder's need not be. So the folder is opened, and the
socket is named through the descriptor.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from assent.execution.adapters.guest.wire import READ_AHEAD_BYTES, Lost, Peer
from assent.primitives.errors import Unavailable

SOCKET_NAME = "hub.sock"
CONNECT_S = 5.0


@contextmanager
def door(folder: Path) -> Iterator[socket.socket]:
    """A listening socket in `folder`, held by one process at a time.

    Raises:
        Unavailable: `hub_running`: another process has it.
    """
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    lock = os.open(folder / ".hub.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable("hub_running", f"a hub of `{folder}` runs already", hint="one is enough") from None
        (folder / SOCKET_NAME).unlink(missing_ok=True)  # left by a hub that was killed
        before = os.umask(0o177)
        try:
            listening.bind(f"/proc/self/fd/{held}/{SOCKET_NAME}")
        finally:
            os.umask(before)
        try:
            yield listening
        finally:
            (folder / SOCKET_NAME).unlink(missing_ok=True)
    finally:
        listening.close()
        os.close(lock)
        os.close(held)


async def knock(folder: Path) -> Peer:
    """A connection to the hub of `folder`. Raises Lost: none runs."""
    try:
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Lost(f"no hub ({error.strerror})") from error
    try:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_unix_connection(
                f"/proc/self/fd/{held}/{SOCKET_NAME}", limit=READ_AHEAD_BYTES
            )
    except TimeoutError:
        raise Lost("the hub does not answer") from None
    except OSError as error:
        raise Lost(f"no hub runs here ({error.strerror})") from error
    finally:
        os.close(held)
    return Peer(reader, writer)


def is_us(writer: asyncio.StreamWriter) -> bool:
    """Whether the process on the other side runs as this user, or as root."""
    with contextlib.suppress(OSError):
        credentials = writer.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return struct.unpack("3i", credentials)[1] in (0, os.getuid())
    return False
