"""Exact edits: where a text stands in another, and what comes nearest when it does not. Pure.

An edit that does not fit is the most frequent mistake of a model, and what helps is to see why: white space, the ends
of lines, or a line that has changed since it was read. So the answer names the nearest line, within bounds: what is
compared by likeness is at most `LINES_COMPARED_MAX` lines of `LINE_CHARACTERS_MAX` characters.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from heapq import nlargest

import msgspec

LINES_COMPARED_MAX = 5_000
LINE_CHARACTERS_MAX = 200
PLACES_TOLD_MAX = 20
_LOOKED_AT = 20
_LIKE = 0.6


class Nearest(msgspec.Struct, frozen=True, kw_only=True):
    """The line that comes nearest: its number, what it says, what was wanted there, and what keeps the two apart."""

    line: int
    text: str
    wanted: str
    why: str


def places(content: bytes, old: bytes) -> list[int]:
    """Where `old` begins in `content`, overlapping places too; no more than one beyond what is told."""
    found: list[int] = []
    at = content.find(old)
    while at >= 0 and len(found) <= PLACES_TOLD_MAX:
        found.append(at)
        at = content.find(old, at + 1)
    return found


def lines_at(content: bytes, at: Sequence[int]) -> list[int]:
    """The numbers of the lines in which these places stand; the first of them."""
    numbers, line, before = [], 1, 0
    for place in at[:PLACES_TOLD_MAX]:
        line += content.count(b"\n", before, place)
        before = place
        numbers.append(line)
    return numbers


def nearest(text: str, old: str) -> Nearest | None:
    """What comes nearest to `old` in a `text` that does not hold it; None when nothing does."""
    if "\r\n" in text and "\r" not in old and old.replace("\n", "\r\n") in text:
        line = text[: text.index(old.replace("\n", "\r\n"))].count("\n") + 1
        return Nearest(line=line, text="", wanted="", why="the lines of the file end in CR LF, those of `old` do not")
    wanted, lines = old.split("\n"), text.split("\n")
    skipped = next((at for at, one in enumerate(wanted) if one.strip()), None)
    if skipped is None:
        return None
    wanted = wanted[skipped : skipped + LINES_COMPARED_MAX]
    starts = [at for at, one in enumerate(lines) if one.strip() == wanted[0].strip()]
    if starts:
        return _where_it_parts(lines, wanted, starts)
    return _most_alike(lines, wanted[0])


def _where_it_parts(lines: Sequence[str], wanted: Sequence[str], starts: Sequence[int]) -> Nearest:
    """Where the longest run of lines that fit, white space aside, stops to fit."""
    start = max(starts[:_LOOKED_AT], key=lambda at: _alike(lines, wanted, at))
    fits = _alike(lines, wanted, start)
    if fits == len(wanted):
        at = next((at for at, one in enumerate(wanted) if lines[start + at] != one), 0)
        return _told(lines, start + at, wanted[at], "only white space differs")
    if start + fits >= len(lines):
        return _told(lines, len(lines) - 1, wanted[fits], "the file ends there")
    return _told(lines, start + fits, wanted[fits], "this line differs")


def _alike(lines: Sequence[str], wanted: Sequence[str], start: int) -> int:
    """How many of the wanted lines stand from `start` on, white space aside."""
    count = 0
    for one, other in zip(lines[start : start + len(wanted)], wanted, strict=False):
        if one.strip() != other.strip():
            break
        count += 1
    return count


def _most_alike(lines: Sequence[str], wanted: str) -> Nearest | None:
    matcher = SequenceMatcher(autojunk=False)
    matcher.set_seq2(wanted.strip()[:LINE_CHARACTERS_MAX])

    def roughly(at: int) -> float:
        matcher.set_seq1(lines[at].strip()[:LINE_CHARACTERS_MAX])
        return matcher.quick_ratio()

    def exactly(at: int) -> float:
        matcher.set_seq1(lines[at].strip()[:LINE_CHARACTERS_MAX])
        return matcher.ratio()

    some = nlargest(_LOOKED_AT, range(min(len(lines), LINES_COMPARED_MAX)), key=roughly)
    best = max(some, key=exactly)
    return _told(lines, best, wanted, "this line is the most alike") if exactly(best) >= _LIKE else None


def _told(lines: Sequence[str], at: int, wanted: str, why: str) -> Nearest:
    return Nearest(line=at + 1, text=lines[at][:LINE_CHARACTERS_MAX], wanted=wanted[:LINE_CHARACTERS_MAX], why=why)
