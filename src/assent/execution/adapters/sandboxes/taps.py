"""Output on its way up: read in bounded pieces, counted, kept, and handed up only while there is room for it.

    pipe ──read──► allowance ──► keeper          (digest, the head, an artefact: everything that is allowed)
                        └──────► framer ──► outlet ──► on_event        (under the asker's credit)

With a framer whole lines are handed up, without their ends. A tap reads nothing while the outlet has no room: the pipe
fills, and the program waits. So a slow asker slows the program, and what is held here is at most one piece (and one
unfinished line) for each stream, however long the asker sleeps.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

from assent.execution.adapters.sandboxes.gate import settle
from assent.execution.framing import LineFramer
from assent.execution.outcomes import StreamEvent
from assent.execution.ports import OnEvent, Steering

PIECE_BYTES = 65_536


class Sink(Protocol):
    """Takes everything of one stream that is allowed."""

    def write(self, data: bytes) -> None:
        """Take a piece."""
        ...


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


class Outlet:
    """Where output goes up: `on_event`, under the credit of the steering when there is one.

    Once it is `shut` nothing goes up any more; `withheld_bytes` counts what would have.
    """

    def __init__(self, on_event: OnEvent, steering: Steering | None) -> None:
        self._on_event, self._steering = on_event, steering
        self._shut = False
        self._waiting: list[Callable[[], None]] = []
        self._waiter: asyncio.Future[None] | None = None
        self.withheld_bytes = 0

    @property
    def has_room(self) -> bool:
        """Whether a piece may be handed up now."""
        return self._shut or self._steering is None or self._steering.has_room()

    def give(self, stream: str, data: bytes) -> None:
        """Hand a piece up."""
        if self._shut:
            self.withheld_bytes += len(data)
        else:
            self._on_event(StreamEvent(stream=stream, data=data))

    def when_room(self, resume: Callable[[], None]) -> None:
        """Call `resume` once there is room."""
        self._waiting.append(resume)
        if self._waiter is None and self._steering is not None:
            self._waiter = asyncio.ensure_future(self._steering.room())
            self._waiter.add_done_callback(self._resume)

    def shut(self) -> None:
        """Hand up nothing more. Idempotent."""
        self._shut = True
        if self._waiter is not None:
            self._waiter.cancel()

    def _resume(self, waited: asyncio.Future[None]) -> None:
        self._waiter = None
        waiting, self._waiting = self._waiting, []
        if not waited.cancelled() and waited.exception() is not None:
            self._shut = True  # a credit that broke gives none: what comes is kept, and counted as withheld
        for resume in waiting:
            resume()


class Tap:
    """Reads one descriptor until its end, in pieces, never blocking. It owns the descriptor."""

    def __init__(self, name: str, fd: int, *, keeper: Sink, framer: LineFramer | None = None) -> None:
        self.name = name
        self._fd = fd
        self._open, self._ended, self._reading, self._draining = True, False, False, False
        self._keeper = keeper
        self._framer = framer
        self._pieces: deque[bytes] = deque()
        os.set_blocking(fd, False)

    def attach(self, allowance: Allowance, outlet: Outlet, *, overrun: Callable[[], None]) -> None:
        """Begin reading on the running loop. `overrun` is told of a line that is too long."""
        self._allowance, self._outlet, self._overrun = allowance, outlet, overrun
        self._hand_up()

    async def drain(self) -> None:
        """Take what is left: the writers are dead, so this ends as soon as the outlet takes it all, or is shut."""
        self._draining = True
        self._pause()
        while self._pieces or not self._ended:
            while self._pieces:
                await self._room()
                self._outlet.give(self.name, self._pieces.popleft())
            if not self._ended and (self._allowance.left_bytes <= 0 or not self._read()):
                self._end()
        self.close()

    def close(self) -> None:
        """Stop reading and close the descriptor. Idempotent."""
        self._pause()
        if self._open:
            self._open = False
            os.close(self._fd)

    def _hand_up(self) -> None:
        if self._draining:
            return
        while self._pieces and self._outlet.has_room:
            self._outlet.give(self.name, self._pieces.popleft())
        if not self._outlet.has_room:
            self._pause()
            self._outlet.when_room(self._hand_up)
        elif self._open and not self._ended and not self._reading:
            self._reading = True
            asyncio.get_running_loop().add_reader(self._fd, self._readable)

    def _readable(self) -> None:
        self._read()
        self._hand_up()

    def _read(self) -> bool:
        """Take one piece if one is there."""
        try:
            piece = os.read(self._fd, PIECE_BYTES)
        except BlockingIOError:
            return False
        except OSError:  # EIO: nobody holds the other side of a terminal any more
            piece = b""
        if not piece:
            self._end()
            return False
        allowed = self._allowance.take(piece)
        if allowed:
            self._keeper.write(allowed)
            self._pieces.extend(self._framed(allowed))
        return True

    def _framed(self, piece: bytes) -> list[bytes]:
        if self._framer is None:
            return [piece]
        lines = self._framer.lines(piece)
        if self._framer.overrun:
            self._overrun()
        return lines

    def _end(self) -> None:
        """Nothing more comes. The descriptor stays open: closing it could hang up a terminal that still has a user."""
        self._pause()
        if not self._ended:
            self._ended = True
            self._pieces.extend(self._framer.last() if self._framer is not None else [])

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            asyncio.get_running_loop().remove_reader(self._fd)

    async def _room(self) -> None:
        if self._outlet.has_room:
            return
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._outlet.when_room(partial(settle, ready))
        await ready
