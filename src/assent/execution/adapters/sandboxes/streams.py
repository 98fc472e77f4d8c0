"""The standard streams of a run, as the supervisor holds them.

Standard input is a sealed memory file: nothing has to be fed, so nothing can block. Where more may come while the
program runs it is a pipe, fed as the program takes it (`feeds.py`). Output arrives by two pipes, read in bounded pieces
on the event loop, digested and counted as it comes (`taps.py`). The cap is over both streams together; what lies beyond
it is neither kept nor digested.

With a terminal the three are one: see `terminals.py`.
"""

from __future__ import annotations

import fcntl
import os

from assent.execution.adapters.sandboxes.feeds import Feed
from assent.execution.adapters.sandboxes.keeping import Keeper
from assent.execution.adapters.sandboxes.taps import Tap
from assent.execution.adapters.sandboxes.terminals import Terminal
from assent.execution.framing import LineFramer
from assent.execution.orders import ProcessOrder, Pty
from assent.execution.ports import Artefacts
from assent.primitives.digests import Digest

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Streams:
    """The supervisor's taps and feed, and the three descriptors that go inside.

    `stays_open`: input may come after `stdin`, by the feed. `pty`: the three are one terminal, and what it shows is
    `stdout`. `line_bytes_max`: output is handed up in lines, of at most so many bytes.
    """

    def __init__(
        self,
        stdin: bytes,
        *,
        stays_open: bool = False,
        pty: Pty | None = None,
        line_bytes_max: int | None = None,
        artefacts: Artefacts | None = None,
    ) -> None:
        self.inner: list[int] = []
        self.taps: list[Tap] = []
        self.feed: Feed | None = None
        self.terminal: Terminal | None = None
        self.keepers: dict[str, Keeper] = {}
        self._artefacts, self._line_bytes_max = artefacts, line_bytes_max
        if pty is not None:
            self._open_terminal(pty, stdin, stays_open=stays_open)
        else:
            self._open_pipes(stdin, stays_open=stays_open)

    @classmethod
    def of(cls, order: ProcessOrder, *, spoken_to: bool = False, artefacts: Artefacts | None = None) -> Streams:
        """The streams that an order asks for; its input stays open only when somebody speaks to it."""
        return cls(
            order.stdin,
            stays_open=order.stdin_open and spoken_to,
            pty=order.pty,
            line_bytes_max=order.line_bytes_max if order.framing == "lines" else None,
            artefacts=artefacts,
        )

    @property
    def digests(self) -> dict[str, Digest]:
        """Of each stream, over everything that was written, up to the cap."""
        return {name: keeper.digest for name, keeper in self.keepers.items()}

    async def keep(self) -> None:
        """Make large outputs durable."""
        for keeper in self.keepers.values():
            await keeper.keep()

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
        if self.feed is not None:
            self.feed.close()
        if self.terminal is not None:
            self.terminal.close()
        for keeper in self.keepers.values():
            keeper.close()

    def _open_pipes(self, stdin: bytes, *, stays_open: bool) -> None:
        if stays_open:
            reading, writing = os.pipe2(os.O_CLOEXEC)
            self.inner.append(reading)
            self.feed = Feed(writing, begins=stdin)
        else:
            self.inner.append(sealed_memory(stdin) if stdin else os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        for name in ("stdout", "stderr"):
            reading, writing = os.pipe2(os.O_CLOEXEC)
            self.inner.append(writing)
            self._tap(name, reading)

    def _open_terminal(self, pty: Pty, stdin: bytes, *, stays_open: bool) -> None:
        self.terminal = terminal = Terminal(pty)
        self.inner += terminal.slaves
        self._tap("stdout", terminal.output())
        self.feed = Feed(terminal.input(), begins=stdin, ends=not stays_open, farewell=terminal.end_of_input)

    def _tap(self, name: str, fd: int) -> None:
        self.keepers[name] = keeper = Keeper(self._artefacts)
        lines = LineFramer(line_bytes_max=self._line_bytes_max) if self._line_bytes_max is not None else None
        self.taps.append(Tap(name, fd, keeper=keeper, framer=lines))


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
