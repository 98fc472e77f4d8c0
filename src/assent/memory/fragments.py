"""Fragments: pieces of text that can be recalled, each with where it comes from, who vouches for it, and its age. Pure.

What may be recalled is decided here, and by every adapter with the same rules: never across tenants, never to somebody
who is not among its readers, never after it expired or was revoked, never from a place that was not asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from assent.primitives.ids import TenantId
from assent.primitives.labels import Label

QUERY_CHARACTERS_MAX = 500
WORDS_MAX = 32
FRAGMENT_CHARACTERS_MAX = 2_000
FRAGMENTS_MAX = 20
_WORD = re.compile(r"\w+")
_GAP = re.compile(r"\n[ \t]*\n")


class Fragment(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One piece. `place` is where it stands, as a path: `notes/tea.md`; `source` says which piece of it.

    `recorded_at_ms` is when it was last known to be so. After `stale_at_ms` it may be out of date and is told as such,
    after `expires_at_ms` it is told no more (0: never).
    """

    tenant: TenantId
    place: str
    source: str
    text: str
    label: Label
    recorded_at_ms: int
    stale_at_ms: int = 0
    expires_at_ms: int = 0


class Question(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is looked for: by whom, in which places (globs, as in `matches`), and when."""

    tenant: TenantId
    reader: str
    query: str
    sources: tuple[str, ...]
    now_ms: int
    limit: int = 5


class Recalled(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fragment that fits, how well (more is better), and whether it may be out of date."""

    fragment: Fragment
    score: int
    stale: bool


def may_recall(fragment: Fragment, question: Question) -> bool:
    """Whether a fragment may be told to whoever asks."""
    readers = fragment.label.readers
    return (
        fragment.tenant == question.tenant
        and (readers is None or question.reader in readers)
        and not 0 < fragment.expires_at_ms <= question.now_ms
        and any(matches(glob, fragment.place) for glob in question.sources)
    )


def recalled(fragments: Iterable[Fragment], question: Question) -> tuple[Recalled, ...]:
    """The fragments that fit best and may be told: those with the most of the words that are looked for, and of equals
    the newest."""
    wanted = words_of(question.query)
    found = []
    for fragment in fragments:
        if may_recall(fragment, question):
            score = len(wanted & words_of(fragment.text, words_max=None))
            if score:
                stale = 0 < fragment.stale_at_ms <= question.now_ms
                found.append(Recalled(fragment=fragment, score=score, stale=stale))
    found.sort(key=lambda one: (-one.score, -one.fragment.recorded_at_ms, one.fragment.source))
    return tuple(found[: max(0, min(question.limit, FRAGMENTS_MAX))])


def words_of(text: str, *, words_max: int | None = WORDS_MAX) -> frozenset[str]:
    """The words of a text, large and small letters alike; the first `words_max` of them."""
    found = _WORD.findall(text.casefold() if words_max is None else text[:QUERY_CHARACTERS_MAX].casefold())
    return frozenset(found[:words_max])


def pieces_of(text: str) -> list[str]:
    """A longer text in pieces: its paragraphs, each with the heading it stands under, cut where they are too long."""
    pieces, heading = [], ""
    for paragraph in _GAP.split(text.replace("\r\n", "\n")):
        words = paragraph.strip()
        if words.startswith("#") and "\n" not in words:
            heading = words
            continue
        if words.startswith("#"):
            heading = words.partition("\n")[0]
        elif words and heading:
            words = f"{heading}\n{words}"
        if words:
            pieces.append(words[:FRAGMENT_CHARACTERS_MAX])
    return pieces


def matches(glob: str, place: str) -> bool:
    """Whether a path fits a glob: `*` and `?` within a name, `**` for any folders. Takes no time to speak of."""
    reached = {0}
    parts = glob.split("/")
    for name in [*place.split("/"), None]:
        reached = _beyond_any(reached, parts)
        if name is None:
            return len(parts) in reached
        reached = {at if parts[at] == "**" else at + 1 for at in reached if at < len(parts) and _fits(parts[at], name)}
    return False


def _beyond_any(reached: set[int], parts: list[str]) -> set[int]:
    """Where one can be without taking a name: `**` may stand for none."""
    found = set(reached)
    for at in range(len(parts)):
        if at in found and parts[at] == "**":
            found.add(at + 1)
    return found


def _fits(part: str, name: str) -> bool:
    """Whether a name fits a part of a glob. The last star takes what is needed: no other has to be tried again."""
    if part == "**":
        return True
    at = here = 0
    star, resume = -1, 0
    while here < len(name):
        if at < len(part) and part[at] == "*":
            star, resume, at = at, here, at + 1
        elif at < len(part) and part[at] in ("?", name[here]):
            at, here = at + 1, here + 1
        elif star >= 0:
            resume += 1
            at, here = star + 1, resume
        else:
            return False
    return all(char == "*" for char in part[at:])
