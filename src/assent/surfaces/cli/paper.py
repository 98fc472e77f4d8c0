"""Paper: plain, aligned text for people. Everything written on it is made safe first; colour is an accent, never the
only carrier of a meaning."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

from assent.surfaces.cli.escapes import cells, cut, shown

GAP = "  "
COLUMNS_MIN = 40
BLOCK_LINES_MAX = 200


class Tone(StrEnum):
    """What a colour says, as the terminal's code for it."""

    PLAIN = ""
    GOOD = "32"  # green: done, allowed, held
    BAD = "31"  # red: refused, failed
    WAIT = "33"  # yellow: waits for people
    LOST = "35"  # magenta: nobody knows
    STRONG = "1"
    QUIET = "2"


class Span(NamedTuple):
    """Text with a tone."""

    text: str
    tone: Tone


Part = str | Span


class Paper:
    """Writes lines. `columns` is the width to keep to, `now_ms` what ages are told against."""

    def __init__(self, write: Callable[[str], None], *, colour: bool, columns: int, now_ms: int) -> None:
        self._write = write
        self._colour = colour
        self.columns = max(columns, COLUMNS_MIN)
        self._now_ms = now_ms

    def line(self, *parts: Part, indent: int = 0, hang: int = 2) -> None:
        """One line, wrapped at words; later lines hang deeper."""
        self._wrapped(parts, first=" " * indent, rest=" " * (indent + hang))

    def gap(self) -> None:
        """An empty line."""
        self._write("\n")

    def pairs(self, rows: Iterable[tuple[str, Part | Sequence[Part]]], *, indent: int = 2) -> None:
        """Labels and what they label, aligned. Rows without content are left out."""
        kept = [(label, [content] if isinstance(content, str | Span) else list(content)) for label, content in rows]
        kept = [(label, parts) for label, parts in kept if any(_text(part) for part in parts)]
        width = max((cells(label) for label, _ in kept), default=0)
        for label, parts in kept:
            head = " " * indent + label + " " * (width - cells(label)) + GAP
            self._wrapped(parts, first=head, rest=" " * cells(head))

    def table(self, rows: Iterable[Sequence[Part]], *, indent: int = 0, whole: bool = False) -> None:
        """Rows in columns. The last takes what is left of the width; it is cut there, or wrapped when `whole`."""
        lines = [[_safe(part) for part in row] for row in rows]
        if not lines:
            return
        widths = [max(cells(line[i].text) for line in lines) for i in range(len(lines[0]) - 1)]
        left = max(self.columns - indent - sum(widths) - len(GAP) * len(widths), 12)
        for line in lines:
            heads = [self._inked(s) + " " * (w - cells(s.text)) for s, w in zip(line, widths, strict=False)]
            head = " " * indent + "".join(cell + GAP for cell in heads)
            if whole:
                self._wrapped([line[-1]], first=head, rest=" " * (self.columns - left), inked=True)
            else:
                self._write((head + self._inked(Span(cut(line[-1].text, left), line[-1].tone))).rstrip() + "\n")

    def block(self, text: str, *, indent: int = 4, lines_max: int = BLOCK_LINES_MAX) -> None:
        """Foreign text of several lines, as it is but safe; a long one is cut, and says so."""
        lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
        for line in lines[:lines_max]:
            self._write((" " * indent + shown(line, keep="\t")).rstrip() + "\n")
        if len(lines) > lines_max:
            self.line(
                Span(f"… and {len(lines) - lines_max} more lines; --json has them all", Tone.QUIET), indent=indent
            )

    def clock(self, at_ms: int) -> str:
        """A local time: of the day for today, with the date before that."""
        at, today = time.localtime(at_ms / 1000), time.localtime(self._now_ms / 1000)
        if at[:3] == today[:3]:
            return time.strftime("%H:%M:%S", at)
        return time.strftime("%Y-%m-%d %H:%M" if at[0] != today[0] else "%b %d %H:%M", at)

    def when(self, at_ms: int) -> str:
        """A local time and how far away it is."""
        return f"{self.clock(at_ms)} ({age(at_ms - self._now_ms)})"

    def _wrapped(self, parts: Sequence[Part], *, first: str, rest: str, inked: bool = False) -> None:
        """Parts after `first`, later lines after `rest`. An `inked` first is as wide as `rest` (colours take none)."""
        line, used = first, cells(rest if inked else first)
        fresh = True
        for part in parts:
            span = _safe(part)
            for word in _words(span.text):
                if not fresh and used + cells(word.rstrip()) > self.columns and word.strip():
                    self._write(line.rstrip() + "\n")
                    line, used, fresh = rest, cells(rest), True
                    word = word.lstrip()  # noqa: PLW2901
                line += self._inked(Span(word, span.tone))
                used += cells(word)
                fresh = fresh and not word.strip()
        self._write(line.rstrip() + "\n")

    def _inked(self, span: Span) -> str:
        if not self._colour or not span.text.strip() or span.tone is Tone.PLAIN:
            return span.text
        return f"\x1b[{span.tone.value}m{span.text}\x1b[0m"


def age(distance_ms: int) -> str:
    """How far away a moment is, in one unit: `3 min ago`, `in 2 h`, `now`."""
    seconds = abs(distance_ms) // 1000
    if seconds < 2:
        return "now"
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        if seconds >= size:
            return f"{seconds // size} {unit} ago" if distance_ms < 0 else f"in {seconds // size} {unit}"
    return "now"


def _text(part: Part) -> str:
    return part if isinstance(part, str) else part.text


def _safe(part: Part) -> Span:
    if isinstance(part, str):
        return Span(shown(part), Tone.PLAIN)
    return Span(shown(part.text), part.tone)


def _words(text: str) -> list[str]:
    """Words with the spaces that follow them."""
    words = [word + " " for word in text.split(" ")]
    words[-1] = words[-1][:-1]
    return [word for word in words if word]
