"""What a run arrives with inside: its specification, its gate, its standard streams; and the one way to give up."""

from __future__ import annotations

import marshal
import os
import socket
from typing import Any, NoReturn

Spec = dict[str, Any]


class Streams:
    """The descriptors a run arrives with: the gate, the three standard streams and mounts by position."""

    def __init__(self, fds: list[int]) -> None:
        self.gate = socket.socket(fileno=fds[1])
        self.standard = fds[2:5]
        self.mounts = fds[5:]
        self._spec = fds[0]

    def spec(self) -> Spec:
        """The specification, written by this interpreter's own supervisor into a memory file."""
        with open(self._spec, "rb") as file:
            file.seek(0)
            loaded: Spec = marshal.loads(file.read())  # noqa: S302 - from our own supervisor, over a private socket
            return loaded


def fail(gate: socket.socket, stage: str, error: BaseException) -> NoReturn:
    """Tell the supervisor what could not be built, and end."""
    try:
        gate.send(f"F {stage}: {error}"[:1000].encode(errors="replace"))
    finally:
        os._exit(125)
