"""A listener that counts who connects: how one sees that nobody was dialled."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def listening() -> Iterator[socket.socket]:
    """A listener on a free port of this machine that accepts nothing by itself: the kernel queues who connects."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)  # noqa: FBT003 (the standard library takes it by position)
        yield listener


def knocks(listener: socket.socket) -> int:
    """How many connections came since the last look."""
    count = 0
    while True:
        try:
            connection, _ = listener.accept()
        except BlockingIOError:
            return count
        connection.close()
        count += 1
