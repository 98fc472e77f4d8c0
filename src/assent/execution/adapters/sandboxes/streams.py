"""The standard streams of a run, as the supervisor holds them.

Standard input is a sealed memory file: nothing has to be fed, so nothing can block. Output arrives by two pipes, read
in bounded pieces on the event loop, digested and counted as it comes. The cap is over both streams together; what
lies beyond it is neither kept nor digested.
"""

from __future__ import annotations

import asyncio
import base64
import fcntl
import hashlib
import os
from collections.abc import Callable
from typing import Any

from assent.execution.outcomes import StreamEvent
from assent.execution.ports import OnEvent
from assent.primitives.digests import Digest

PIECE_BYTES = 65_536
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Allowance:
    """How many bytes of output are still allowed over all streams."""

    def __init__(self, *, bytes_max: int, exceeded: Callable[[], None]) -> None:
        self.left_bytes = bytes_max
        self._exceeded = exceeded

    def take(self, piece: bytes) -> bytes:
        """The part of `piece` that is still allowed; tells when there was more."""
        allowed = piece[: self.left_bytes]
        self.left_bytes -= len(allowed)
        if len(allowed) < len(piece):
            self._exceeded()
        return allowed


class Tap:
    """Reads one pipe until its end, in pieces, never blocking."""

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self._fd = fd
        self._open = True
        self._kept = bytearray()
        self._digest = hashlib.sha256()
        os.set_blocking(fd, False)

    def attach(self, allowance: Allowance, on_event: OnEvent) -> None:
        """Begin reading on the running loop."""
        self._allowance, self._on_event = allowance, on_event
        asyncio.get_running_loop().add_reader(self._fd, self._read)

    def drain(self) -> None:
        """Read what is left in the pipe; the writers are dead, so this ends."""
        while self._open and self._allowance.left_bytes > 0 and self._read():
            pass
        self.close()

    def close(self) -> None:
        """Stop reading and close the pipe. Idempotent."""
        if self._open:
            self._open = False
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)

    @property
    def digest(self) -> Digest:
        """Over everything that was written, up to the cap."""
        return Digest("sha256:" + self._digest.hexdigest())

    @property
    def value(self) -> Any:
        """Text when it is UTF-8, else `{"base64": …}`."""
        try:
            return self._kept.decode()
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(self._kept).decode("ascii")}

    def _read(self) -> bool:
        try:
            piece = os.read(self._fd, PIECE_BYTES)
        except BlockingIOError:
            return False
        if not piece:
            self.close()
            return False
        allowed = self._allowance.take(piece)
        if allowed:
            self._kept += allowed
            self._digest.update(allowed)
            self._on_event(StreamEvent(stream=self.name, data=allowed))
        return True


class Streams:
    """The supervisor's taps and the three descriptors that go inside."""

    def __init__(self, stdin: bytes) -> None:
        self.inner = [sealed_memory(stdin) if stdin else os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)]
        self.taps: list[Tap] = []
        for name in ("stdout", "stderr"):
            reading, writing = os.pipe2(os.O_CLOEXEC)
            self.inner.append(writing)
            self.taps.append(Tap(name, reading))

    def handed_over(self) -> None:
        """Close our copies of the inner ends. Idempotent."""
        for fd in self.inner:
            os.close(fd)
        self.inner = []

    def close(self) -> None:
        """Close everything. Idempotent."""
        self.handed_over()
        for tap in self.taps:
            tap.close()


def sealed_memory(content: bytes) -> int:
    """A read-only descriptor of a memory file that nobody can change any more."""
    fd = os.memfd_create("assent", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(content)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(fd)
