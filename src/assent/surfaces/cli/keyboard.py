"""The operator's own terminal, lent to a program for a while: keys go in, the screen comes out, and it is given back.

    keys ──► words (bounded) ──► the program's terminal ──► output (bounded) ──► screen

It is a steering (`execution.ports.Steering`): raw as soon as the program listens, and not before, so that Ctrl-C ends a
call that still waits for its sandbox. From then on every key is the program's. It is given back as it was found however
the block ends; output that the terminal does not take holds the program and never this process.
"""

from __future__ import annotations

import asyncio
import os
import signal
import termios
import tty
from collections import deque
from types import TracebackType
from typing import Self

from assent.execution.outcomes import StreamEvent
from assent.execution.steering import EndInput, Input, Resize, Word
from assent.primitives.errors import Malformed

WORDS_MAX = 64
PIECE_BYTES = 4_096
PENDING_BYTES_MAX = 65_536
FLUSH_WAIT_S = 2.0


class Keyboard:
    """Used inside `with`, on the running loop. `fd` is a terminal; another terminal description is opened for it.

    Raises:
        Malformed: `not_a_terminal`.
    """

    def __init__(self, fd: int) -> None:
        if not os.isatty(fd):
            raise Malformed(
                "not_a_terminal", "standard input is no terminal",
                hint="call it from one, or use `assent do shell.run` for a program that nobody speaks to",
            )  # fmt: skip
        self._fd = os.open(os.ttyname(fd), os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._before = termios.tcgetattr(self._fd)
        self._loop = asyncio.get_running_loop()
        self._words: deque[Word] = deque()
        self._arrived, self._room, self._shown = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._room.set()
        self._shown.set()
        self._pending = bytearray()
        self._raw = self._reading = self._writing = False

    @property
    def size(self) -> tuple[int, int]:
        """Its rows and columns now."""
        columns, rows = os.get_terminal_size(self._fd)
        return rows or 24, columns or 80

    def __enter__(self) -> Self:
        self._loop.add_signal_handler(signal.SIGWINCH, self._resized)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pause()
        self._loop.remove_signal_handler(signal.SIGWINCH)
        if self._writing:
            self._loop.remove_writer(self._fd)
        if self._raw:
            termios.tcsetattr(self._fd, termios.TCSANOW, self._before)
        os.close(self._fd)

    def hear(self, event: StreamEvent) -> None:
        """Show output."""
        self._pending += event.data
        self._write()

    async def word(self) -> Word:
        """The next of what is typed, and each new size."""
        if not self._raw:
            tty.setraw(self._fd, termios.TCSANOW)
            self._raw = True
            self._resized()  # it may have changed since the order was made
        self._read_on()
        while not self._words:
            self._arrived.clear()
            await self._arrived.wait()
        return self._words.popleft()

    def has_room(self) -> bool:
        """Whether the terminal takes output as it comes."""
        return self._room.is_set()

    async def room(self) -> None:
        """Wait until it does."""
        await self._room.wait()

    async def flush(self) -> None:
        """Wait until everything is shown, but not for ever: the terminal may be stopped (Ctrl-S)."""
        try:
            async with asyncio.timeout(FLUSH_WAIT_S):
                await self._shown.wait()
        except TimeoutError:
            return

    def _read_on(self) -> None:
        if not self._reading and len(self._words) < WORDS_MAX:
            self._reading = True
            self._loop.add_reader(self._fd, self._typed)

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._fd)

    def _typed(self) -> None:
        try:
            data = os.read(self._fd, PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError:  # it was hung up
            data = b""
        self._say(Input(data=data) if data else EndInput())
        if not data or len(self._words) >= WORDS_MAX:
            self._pause()

    def _resized(self) -> None:
        rows, columns = self.size
        self._words = deque(word for word in self._words if not isinstance(word, Resize))
        self._say(Resize(rows=rows, columns=columns))

    def _say(self, word: Word) -> None:
        self._words.append(word)
        self._arrived.set()

    def _write(self) -> None:
        try:
            while self._pending:
                written = os.write(self._fd, self._pending[:PENDING_BYTES_MAX])
                del self._pending[:written]
        except BlockingIOError:
            pass
        except OSError:  # nobody looks any more; the program goes on and is recorded
            self._pending.clear()
        self._watch(wanted=bool(self._pending))
        _hold(self._shown, not self._pending)
        _hold(self._room, len(self._pending) < PENDING_BYTES_MAX)

    def _watch(self, *, wanted: bool) -> None:
        if wanted and not self._writing:
            self._loop.add_writer(self._fd, self._write)
        elif not wanted and self._writing:
            self._loop.remove_writer(self._fd)
        self._writing = wanted


def _hold(event: asyncio.Event, state: bool) -> None:
    if state:
        event.set()
    else:
        event.clear()
