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
from assent.execution.ports import Artefacts
from assent.primitives.digests import Digest

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Streams:
    """The supervisor's taps and feed, and the three descriptors that go inside.

    `stays_open`: input may come after `stdin`, by the feed.
    """

    def __init__(self, stdin: bytes, *, stays_open: bool = False, artefacts: Artefacts | None = None) -> None:
        self.inner: list[int] = []
        self.taps: list[Tap] = []
        self.feed: Feed | None = None
        self.keepers: dict[str, Keeper] = {}
        if stays_open:
            reading, writing = os.pipe2(os.O_CLOEXEC)
            self.inner.append(reading)
            self.feed = Feed(writing, begins=stdin)
        else:
            self.inner.append(sealed_memory(stdin) if stdin else os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        for name in ("stdout", "stderr"):
            reading, writing = os.pipe2(os.O_CLOEXEC)
            self.inner.append(writing)
            self._tap(name, reading, artefacts)

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
        for keeper in self.keepers.values():
            keeper.close()

    def _tap(self, name: str, fd: int, artefacts: Artefacts | None) -> None:
        self.keepers[name] = keeper = Keeper(artefacts)
        self.taps.append(Tap(name, fd, keeper=keeper))


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
