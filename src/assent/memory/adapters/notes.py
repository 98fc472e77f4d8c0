"""Memory in declared files: the paragraphs of notes that a person or a program keeps, read anew for every question.

Who reads the files is given, so this knows no disk. What stands in a file is a third party's word: whoever can write
there may have written it. It has no readers and no expiry of its own; after half a year it counts as stale.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

import msgspec

from assent.memory.fragments import Fragment, Question, Recalled, pieces_of, recalled
from assent.primitives.ids import TenantId
from assent.primitives.labels import Label

STALE_MS = 180 * 24 * 3_600_000


class NoteFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of notes: its path, its text, and when it was last changed."""

    path: str
    text: str
    modified_ms: int


ReadNotes = Callable[[Sequence[str]], Iterable[NoteFile]]


class DeclaredNotes:
    """Recalls from files of these `tenants`. `read` gives those that fit any of the globs, or raises Unavailable."""

    def __init__(self, read: ReadNotes, *, tenants: Collection[TenantId]) -> None:
        self._read = read
        self._tenants = frozenset(tenants)

    async def recall(self, question: Question) -> tuple[Recalled, ...]:
        if question.tenant not in self._tenants:
            return ()
        fragments = [
            Fragment(
                tenant=question.tenant,
                place=file.path,
                source=f"file:{file.path}#{number}",
                text=text,
                label=Label(),
                recorded_at_ms=file.modified_ms,
                stale_at_ms=file.modified_ms + STALE_MS,
            )
            for file in self._read(question.sources)
            for number, text in enumerate(pieces_of(file.text), 1)
        ]
        return recalled(fragments, question)
