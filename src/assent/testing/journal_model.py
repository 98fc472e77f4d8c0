"""What a ledger's journals mean, in dictionaries. `LedgerModel` keeps the log and knows who lives."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from msgspec.structs import replace

from assent.ledger.commands import WriteNotes
from assent.ledger.journals import Journal, Note, Noted
from assent.primitives.clock import Clock
from assent.primitives.digests import digest
from assent.primitives.errors import Conflict
from assent.primitives.ids import TenantId

Name: TypeAlias = tuple[TenantId, str, str]
Log: TypeAlias = Callable[[TenantId, str, int], int]
Lives: TypeAlias = Callable[[str, int], bool]


class JournalModel:
    """Journals, what they were told, and the pieces that are kept for them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.journals: dict[Name, Journal] = {}
        self.keys: dict[tuple[Name, str], tuple[str, int]] = {}
        self.seqs: dict[Name, list[int]] = {}
        self.contents: dict[tuple[TenantId, str], bytes] = {}

    def write(self, c: WriteNotes, *, log: Log, lives: Lives) -> Noted:
        """Write all notes or none: what is refused is refused before anything is written."""
        there = [self._there(c.tenant, note) for note in c.notes]
        if there and all(seq is not None for seq in there):
            return Noted(seqs=tuple(seq for seq in there if seq is not None), fresh=False)
        names = [_name(c.tenant, note) for note in c.notes]
        assert len(set(names)) == len(names), "the model writes one note at a time into each journal"
        for note, seq in zip(c.notes, there, strict=True):
            self._must_stand(c, note, lives)
            if seq is not None:
                raise Conflict("journal_moved", "its key stands there, and what belongs to it does not")
        self.contents |= {(c.tenant, one.digest): one.data for one in c.contents if not one.kept}
        return Noted(seqs=tuple(self._write(c, note, log) for note in c.notes), fresh=True)

    def listed(self, tenant: TenantId, kind: str) -> list[Journal]:
        """All journals of a kind, oldest first."""
        found = [one for (of, what, _), one in self.journals.items() if (of, what) == (tenant, kind)]
        return sorted(found, key=lambda one: one.first_seq)

    def _there(self, tenant: TenantId, note: Note) -> int | None:
        words, seq = self.keys.get((_name(tenant, note), note.key), ("", None)) if note.key else ("", None)
        if seq is not None and words != _words(note):
            raise Conflict("journal_key_conflict", "its key stands there with other words")
        return seq

    def _must_stand(self, c: WriteNotes, note: Note, lives: Lives) -> None:
        stands = self.journals.get(_name(c.tenant, note))
        if (stands.last_seq if stands else -1) != max(note.before, -1):
            raise Conflict("journal_moved", "it stands elsewhere")
        mine = stands and (stands.node, stands.fence) == (c.fence.node, c.fence.number)
        if stands and stands.node and not mine and lives(stands.node, stands.fence):
            raise Conflict("journal_held", "somebody works on it")

    def _write(self, c: WriteNotes, note: Note, log: Log) -> int:
        name = _name(c.tenant, note)
        seq = log(c.tenant, note.draft.type, note.before)
        begun = Journal(
            tenant=c.tenant, kind=note.kind, id=note.id, state="", name=note.name, parent=note.parent, node="",
            fence=0, entries=0, first_seq=seq, last_seq=seq, updated_at_ms=0,
        )  # fmt: skip
        was = self.journals.get(name, begun)
        self.journals[name] = replace(
            was, state=note.state, node=c.fence.node if note.owned else "", fence=c.fence.number if note.owned else 0,
            entries=was.entries + 1, last_seq=seq, updated_at_ms=self._clock.now_ms(),
        )  # fmt: skip
        self.seqs.setdefault(name, []).append(seq)
        if note.key:
            self.keys[name, note.key] = (_words(note), seq)
        return seq


def _name(tenant: TenantId, note: Note) -> Name:
    return tenant, note.kind, note.id


def _words(note: Note) -> str:
    return digest(note.draft.payload or b"")
