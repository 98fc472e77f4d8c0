"""The terminal's side of a desk: what goes to stdout and stderr, in which form, and when nobody reads any more."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Mapping
from typing import TextIO

import msgspec

from assent.primitives.errors import AssentError, Refused
from assent.surfaces.cli.escapes import Screen
from assent.surfaces.cli.paper import Paper
from assent.surfaces.cli.ports import Said

# What is not a terminal is for grep and files: lines are neither wrapped nor cut there.
COLUMNS_PLAIN = 100_000


class Stream:
    """A text stream that goes quiet when it cannot be written: the work goes on and is recorded. `fault` says why,
    unless its reader is simply gone."""

    def __init__(self, file: TextIO | None) -> None:
        self._file = file
        self._broken = file is None
        self.fault = ""

    @property
    def is_terminal(self) -> bool:
        """Whether a person looks at it."""
        return self._file is not None and self._file.isatty()

    @property
    def columns(self) -> int:
        """The terminal's width."""
        try:
            return (os.get_terminal_size(self._file.fileno()).columns if self._file else 0) or 80
        except OSError:
            return 80

    def write(self, text: str) -> None:
        """Write and flush."""
        self.write_bytes(text.encode(errors="backslashreplace"))

    def write_bytes(self, data: bytes) -> None:
        """Write bytes as they are, and flush."""
        if self._broken or self._file is None:
            return
        try:
            self._file.flush()
            self._file.buffer.write(data)
            self._file.buffer.flush()
        except OSError as error:
            self._broken = True
            if error.errno != errno.EPIPE:
                self.fault = (error.strerror or "no reason given").lower()
            # The interpreter flushes again at its end; that must not complain either.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._file.fileno())
            os.close(nowhere)


class Terminal:
    """Writes answers, notes and live output. One answer is given to a command, as text or as one JSON document."""

    def __init__(self, *, environment: Mapping[str, str], now_ms: Callable[[], int]) -> None:
        self.json = False
        self._out, self._err = Stream(sys.stdout), Stream(sys.stderr)
        self._environment = environment
        self._now_ms = now_ms
        self._screens: dict[str, Screen] = {}
        self._open_lines: dict[str, bool] = {}

    def answer(self, said: Said) -> None:
        """Give a command's answer."""
        if self.json:
            self._document(said.document)
        else:
            said.tell(self._paper(self._out))

    def refuse(self, error: AssentError) -> None:
        """Give an error as the answer."""
        if self.json:
            document = {"code": error.code, "message": error.message, "hint": error.hint}
            self._document({"error": document})
            return
        first, *rest = error.message.split("\n")
        paper = self._paper(self._err)
        paper.line(f"assent: {first}")
        for line in rest:
            paper.line(line.strip(), indent=2)
        if error.hint:
            paper.line(f"→ {error.hint}", indent=2)

    def say(self, tell: Callable[[Paper], None]) -> None:
        """Tell people something before the end."""
        if not self.json:
            tell(self._paper(self._out))

    def note(self, *sentences: str) -> None:
        """Mention something on stderr."""
        paper = self._paper(self._err)
        for sentence in sentences:
            paper.line(f"note: {sentence}")

    def live(self, stream: str, data: bytes) -> None:
        """Show a piece of a process's output. Other streams (a response's body) are told with the result."""
        if self.json or stream not in ("stdout", "stderr"):
            return
        screen = self._screens.setdefault(stream, Screen())
        self._show(stream, screen.show(data))

    def live_end(self) -> bool:
        """Show what is left, and end the line. Whether anything was shown."""
        for stream, screen in self._screens.items():
            self._show(stream, screen.end())
            if self._open_lines.get(stream):
                self._show(stream, "\n")
        return bool(self._open_lines)

    def confirm(self, question: str) -> bool:
        """Ask whoever sits here; anything but a yes is a no.

        Raises:
            Refused: `confirmation_needed`.
        """
        if self.json or sys.stdin is None or not sys.stdin.isatty() or not self._err.is_terminal:
            raise Refused("confirmation_needed", "nobody is here to confirm it", hint="look at it, then say --yes")
        self._err.write(f"{question} [y/N] ")
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    @property
    def fault(self) -> str:
        """Why the answer could not be given, or an empty string."""
        return self._out.fault

    def raw(self, data: bytes) -> None:
        """Write bytes to stdout as they are."""
        self._out.write_bytes(data)

    def _show(self, stream: str, text: str) -> None:
        if text:
            self._open_lines[stream] = not text.endswith("\n")
            (self._out if stream == "stdout" else self._err).write(text)

    def _document(self, document: object) -> None:
        """Plain ASCII: what stands in a document comes from anywhere, and terminals obey more than letters."""
        text = msgspec.json.format(msgspec.json.encode(document), indent=2).decode()
        self._out.write("".join(c if c < "\x7f" else _escaped(c) for c in text) + "\n")

    def _paper(self, stream: Stream) -> Paper:
        if not stream.is_terminal:
            return Paper(stream.write, colour=False, columns=COLUMNS_PLAIN, now_ms=self._now_ms())
        plain = bool(self._environment.get("NO_COLOR")) or self._environment.get("TERM", "dumb") == "dumb"
        return Paper(stream.write, colour=not plain, columns=stream.columns, now_ms=self._now_ms())


def _escaped(char: str) -> str:
    """A character as JSON escapes it: UTF-16 units."""
    units = char.encode("utf-16-be", errors="surrogatepass")
    return "".join(f"\\u{units[i] << 8 | units[i + 1]:04x}" for i in range(0, len(units), 2))
