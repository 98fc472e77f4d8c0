"""Moving bytes from one socket to another on the event loop, as fast as the slower side takes them.

A reader stays registered while bytes flow, and one callback receives and sends at once: two system calls for a piece,
no task switch. All pumps of a broker receive into one scratch buffer, since a callback runs alone; only what a slow
sink does not take is copied, and then the source is left alone until it is gone. So a pump holds at most one piece.

Tried beside it, between the same two processes: asyncio's streams move half as much for two to three times the
processor time; `splice(2)` moves about a quarter more for two thirds of it, and was left for what it costs besides: a
pipe for each direction, four more descriptors for each connection of each run.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

PIECE_BYTES = 262_144
Meter = Callable[[int], bool]


class Pump:
    """One direction. `meter` counts what the sink took and says whether more may follow.

    It is `done` at the source's end (`outcome` is `closed`), when a side breaks (`source` or `sink`), when the meter
    says no (`metered`), or when it is stopped (`stopped`). `moved_at` is the loop's time of the last bytes.
    """

    def __init__(self, source: socket.socket, sink: socket.socket, *, scratch: memoryview, meter: Meter) -> None:
        self._loop = asyncio.get_running_loop()
        self._source, self._sink, self._scratch, self._meter = source, sink, scratch, meter
        self._source_fd, self._sink_fd = source.fileno(), sink.fileno()  # the selector is quicker with numbers
        self._left = memoryview(b"")
        self.outcome = ""
        self.moved_at = self._loop.time()
        self.done: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(self._source_fd, self._readable)

    def stop(self) -> None:
        """Leave both sockets alone. Idempotent."""
        self._finish("stopped")

    def _readable(self) -> None:
        try:
            count = self._source.recv_into(self._scratch)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._finish("source")
            return
        if count == 0:
            self._finish("closed")
        else:
            self._hand_on(self._scratch[:count])

    def _writable(self) -> None:
        self._loop.remove_writer(self._sink_fd)
        left, self._left = self._left, memoryview(b"")
        self._loop.add_reader(self._source_fd, self._readable)
        self._hand_on(left)

    def _hand_on(self, piece: memoryview) -> None:
        try:
            taken = self._sink.send(piece)
        except (BlockingIOError, InterruptedError):
            taken = 0
        except OSError:
            self._finish("sink")
            return
        self.moved_at = self._loop.time()
        if not self._meter(taken):
            self._finish("metered")
        elif taken < len(piece):
            self._left = memoryview(bytes(piece[taken:]))
            self._loop.remove_reader(self._source_fd)
            self._loop.add_writer(self._sink_fd, self._writable)

    def _finish(self, outcome: str) -> None:
        if self.outcome:
            return
        self.outcome = outcome
        self._loop.remove_reader(self._source_fd)
        if self._left:
            self._loop.remove_writer(self._sink_fd)
            self._left = memoryview(b"")
        if not self.done.done():
            self.done.set_result(None)
