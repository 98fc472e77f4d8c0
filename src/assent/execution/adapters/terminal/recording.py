"""One recording while it is made: bounded, and at fault when it cannot be written any more."""

from __future__ import annotations

import asyncio
import shlex

from assent.execution.orders import ProcessOrder, Pty
from assent.execution.ports import Artefacts
from assent.execution.steering import Input, Resize, Word
from assent.primitives.casts import Kind, Texts, write_event, write_header
from assent.primitives.clock import Clock
from assent.primitives.digests import Digest

RECORDING_BYTES_MAX = 268_435_456


class Recording:
    """Writes what is shown, what is resized and, when it is wanted, what is typed.

    Once it is at fault (`recording_limit`, `recording_failed`) `faulty` is set and nothing more is written: whoever
    runs the terminal must end it, for what is not recorded must not happen.

    Raises:
        OSError: it cannot be begun.
    """

    def __init__(
        self, artefacts: Artefacts, *, order: ProcessOrder, pty: Pty, typed: bool, clock: Clock, bytes_max: int
    ) -> None:
        self._clock, self._bytes_max, self._typed = clock, bytes_max, typed
        self._began_ns = clock.monotonic_ns()
        self._shown, self._heard = Texts(), Texts()
        self._bytes = 0
        self.fault, self.message = "", ""
        self.faulty = asyncio.Event()
        self._artefact = artefacts.begin()
        self._write(
            write_header(
                rows=pty.rows, columns=pty.columns, term=pty.term, command=shlex.join(order.argv),
                began_s=clock.now_ms() // 1000,
            )
        )  # fmt: skip

    def show(self, data: bytes) -> None:
        """The program wrote this."""
        self._event("o", self._shown.text(data))

    def hear(self, word: Word) -> None:
        """This was said to the program."""
        if isinstance(word, Resize):
            self._event("r", f"{word.columns}x{word.rows}")
        elif isinstance(word, Input) and self._typed:
            self._event("i", self._heard.text(word.data))

    async def keep(self) -> tuple[Digest, int] | None:
        """Make it durable; its digest and size, or None when that failed."""
        for kind, texts in (("o", self._shown), ("i", self._heard)):
            self._event(kind, texts.last())  # type: ignore[arg-type]
        try:
            return await asyncio.to_thread(self._artefact.keep)
        except OSError as error:
            self._artefact.abandon()
            self._fail(
                code="recording_failed", message=f"the recording could not be kept: {(error.strerror or '').lower()}"
            )
            return None

    def abandon(self) -> None:
        """Drop it: nothing of the terminal ran."""
        self._artefact.abandon()

    def _event(self, kind: Kind, text: str) -> None:
        if text and not self.fault:
            at_ms = (self._clock.monotonic_ns() - self._began_ns) // 1_000_000
            self._write(write_event(at_ms, kind, text))

    def _write(self, line: bytes) -> None:
        if self._bytes + len(line) > self._bytes_max:
            self._fail(code="recording_limit", message=f"the recording would be longer than {self._bytes_max} bytes")
            return
        try:
            self._artefact.write(line)
            self._bytes += len(line)
        except OSError as error:
            self._fail(
                code="recording_failed", message=f"the recording could not be written: {(error.strerror or '').lower()}"
            )

    def _fail(self, *, code: str, message: str) -> None:
        self.fault, self.message = self.fault or code, self.message or message
        self.faulty.set()


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
