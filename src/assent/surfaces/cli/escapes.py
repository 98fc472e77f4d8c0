r"""Foreign text made safe to show. File names, process output and answers of servers come from anywhere.

A terminal obeys what it is sent: escape sequences recolour, retitle, overwrite and on some terminals type. Invisible
and direction-changing characters make one text look like another (a path that reads backwards, two words that differ
in nothing one can see). So every character that has no plain appearance is written out as `\x1b` or `\u202e`; what is
left is printed as it is, in any script.
"""

from __future__ import annotations

import codecs
import unicodedata

# Control, format (bidirectional marks, zero-width joiners), surrogate, private use, unassigned; line, paragraph ends.
_UNSHOWN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_WIDE = frozenset({"W", "F"})


def shown(text: str, *, keep: str = "") -> str:
    """`text` with every character that could steer or deceive written out; those in `keep` stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep or unicodedata.category(c) not in _UNSHOWN else _written(c) for c in text)


def cells(text: str) -> int:
    """How many columns a shown text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in _WIDE else 1 for c in text)


def cut(text: str, columns: int) -> str:
    """A shown text of at most `columns` columns; an ellipsis says that something is missing."""
    if cells(text) <= columns:
        return text
    kept, used = "", 0
    for char in text:
        used += cells(char)
        if used > columns - 1:
            break
        kept += char
    return kept + "…"


class Screen:
    """Live output of a process, made safe piece by piece; pieces may end within a character."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="backslashreplace")
        self._held = ""

    def show(self, data: bytes) -> str:
        """What can be shown of `data` by now."""
        return self._safe(self._decoder.decode(data), ended=False)

    def end(self) -> str:
        """What is left."""
        return self._safe(self._decoder.decode(b"", final=True), ended=True)

    def _safe(self, text: str, *, ended: bool) -> str:
        """A carriage return before a line feed is how some programs end lines; any other would overwrite the line."""
        text = self._held + text
        self._held = "\r" if text.endswith("\r") and not ended else ""
        return shown(text.removesuffix(self._held).replace("\r\n", "\n"), keep="\n\t")


def _written(char: str) -> str:
    code = ord(char)
    if char in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[char]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
