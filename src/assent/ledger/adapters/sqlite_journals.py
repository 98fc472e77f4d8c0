"""Journals in SQLite: every guard stands in the statement that writes."""

# ruff: noqa: S608  # the SQL is put together from this package's own texts only; every value is bound

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from assent.ledger.adapters.sqlite_log import LogBook
from assent.ledger.commands import WriteNotes
from assent.ledger.entries import Draft
from assent.ledger.journals import Content, Journal, JournalKind, Note, Noted
from assent.primitives.digests import digest
from assent.primitives.errors import Conflict, Unavailable
from assent.primitives.ids import TenantId
from assent.storage.adapters.sqlite_rows import ManyRows

_COLUMNS = "tenant, kind, id, state, name, parent, node, fence, entries, first_seq, last_seq, updated_at_ms"
_HELD = (
    "SELECT 1 FROM leases WHERE tenant = '' AND name = ? AND holder = name AND fence = ?"
    " AND expires_at_ms > assent_now_ms()"
)
# It is mine, or nobody's, or it belongs to somebody whose lease is over.
_FREE = (
    "(node = '' OR (node = ?1 AND fence = ?2) OR NOT EXISTS (SELECT 1 FROM leases WHERE leases.tenant = ''"
    " AND leases.name = journals.node AND leases.holder = leases.name AND leases.fence = journals.fence"
    " AND leases.expires_at_ms > assent_now_ms()))"
)
_CONTENTS = ManyRows(
    before="INSERT INTO contents (tenant, digest, data) VALUES", columns=3, after="ON CONFLICT DO NOTHING"
)


def keep_contents(connection: sqlite3.Connection, tenant: TenantId, contents: Iterable[Content]) -> None:
    """Keep pieces; one that is there already is the same piece."""
    rows = [(tenant, one.digest, one.data) for one in contents if not one.kept]
    if rows:
        _CONTENTS.run(connection, rows)


def write_notes(connection: sqlite3.Connection, book: LogBook, command: WriteNotes) -> Noted:
    """Write every note, or none."""
    if connection.execute(_HELD, (command.fence.node, command.fence.number)).fetchone() is None:
        raise Unavailable("lease_lost", "this node's lease lapsed or was taken", hint="start again")
    there = [_there(connection, command.tenant, note) for note in command.notes]
    if there and all(seq is not None for seq in there):
        return Noted(seqs=tuple(seq for seq in there if seq is not None), fresh=False)
    keep_contents(connection, command.tenant, command.contents)
    return Noted(seqs=tuple(_write(connection, book, command, note) for note in command.notes), fresh=True)


def find_journal(connection: sqlite3.Connection, tenant: TenantId, kind: JournalKind, id_: str) -> Journal | None:
    """The journal as it stands, or None."""
    sql = f"SELECT {_COLUMNS} FROM journals WHERE tenant = ? AND kind = ? AND id = ?"
    row = connection.execute(sql, (tenant, kind, id_)).fetchone()
    return _journal_of(row) if row else None


def select_journals(
    connection: sqlite3.Connection,
    tenant: TenantId,
    kind: JournalKind,
    *,
    states: Sequence[str],
    parent: str | None,
    before: int | None,
    limit: int,
) -> list[Journal]:
    """The newest `limit` journals of a kind, oldest first."""
    where = ["tenant = ? AND kind = ?"]
    values: list[str | int] = [tenant, kind]
    if states:
        where.append(f"state IN ({','.join('?' * len(states))})")
        values += states
    if parent is not None:
        where.append("parent = ?")
        values.append(parent)
    if before is not None:
        where.append("first_seq < ?")
        values.append(before)
    sql = f"SELECT {_COLUMNS} FROM journals WHERE {' AND '.join(where)} ORDER BY first_seq DESC LIMIT {int(limit)}"
    return [_journal_of(row) for row in connection.execute(sql, values).fetchall()][::-1]


def select_contents(connection: sqlite3.Connection, tenant: TenantId, digests: Iterable[str]) -> dict[str, bytes]:
    """The pieces under these digests that are there."""
    sql = "SELECT data FROM contents WHERE tenant = ? AND digest = ?"
    found = ((one, connection.execute(sql, (tenant, one)).fetchone()) for one in digests)
    return {one: bytes(row[0]) for one, row in found if row is not None}


def _there(connection: sqlite3.Connection, tenant: TenantId, note: Note) -> int | None:
    """Where the entry with this note's key stands, if it does."""
    if not note.key:
        return None
    sql = "SELECT seq, digest FROM journal_keys WHERE tenant = ? AND kind = ? AND journal = ? AND key = ?"
    row = connection.execute(sql, (tenant, note.kind, note.id, note.key)).fetchone()
    if row is None:
        return None
    if row[1] != _digest(note):
        raise Conflict(
            "journal_key_conflict", f"`{note.key[:80]}` stands in {note.kind} `{note.id[:80]}` with other words",
            hint="use a new key, or repeat it exactly",
        )  # fmt: skip
    return int(row[0])


def _write(connection: sqlite3.Connection, book: LogBook, command: WriteNotes, note: Note) -> int:
    fence = command.fence
    node, number = (fence.node, fence.number) if note.owned else ("", 0)
    seq = book.append(command.tenant, _placed(note, node=node, fence=number))
    if note.before < 0:
        changed = connection.execute(
            f"INSERT INTO journals ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1, ?, ?, assent_now_ms())"
            " ON CONFLICT DO NOTHING",
            (command.tenant, note.kind, note.id, note.state, note.name, note.parent, node, number, seq, seq),
        ).rowcount
    else:
        changed = connection.execute(
            "UPDATE journals SET state = ?3, node = ?4, fence = ?5, entries = entries + 1, last_seq = ?6,"
            " updated_at_ms = assent_now_ms() WHERE tenant = ?7 AND kind = ?8 AND id = ?9 AND last_seq = ?10"
            f" AND {_FREE}",
            (
                fence.node, fence.number, note.state, node, number, seq,
                command.tenant, note.kind, note.id, note.before,
            ),
        ).rowcount  # fmt: skip
    if changed != 1:
        raise _refused(connection, command, note)
    if note.key and not _keep_key(connection, command.tenant, note, seq):
        raise _moved(note)  # it stands there, and the notes that were to come with it do not
    return seq


def _keep_key(connection: sqlite3.Connection, tenant: TenantId, note: Note, seq: int) -> bool:
    """Keep the key of an entry, unless it stands in this journal."""
    kept = connection.execute(
        "INSERT INTO journal_keys (tenant, kind, journal, key, digest, seq) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO NOTHING",
        (tenant, note.kind, note.id, note.key, _digest(note), seq),
    )
    return kept.rowcount == 1


def _placed(note: Note, *, node: str, fence: int) -> Draft:
    return replace(note.draft, body={**note.draft.body, "node": node, "fence": fence})


def _refused(connection: sqlite3.Connection, command: WriteNotes, note: Note) -> Conflict:
    stands = find_journal(connection, command.tenant, note.kind, note.id)
    if stands is not None and stands.last_seq == note.before:
        return Conflict(
            "journal_held", f"another node works on {note.kind} `{note.id[:80]}`", hint="wait until it is done"
        )
    return _moved(note)


def _moved(note: Note) -> Conflict:
    return Conflict("journal_moved", f"{note.kind} `{note.id[:80]}` has moved on meanwhile", hint="look at it again")


def _digest(note: Note) -> str:
    return digest(note.draft.payload or b"")


def _journal_of(row: tuple[object, ...]) -> Journal:
    return Journal(**dict(zip(Journal.__struct_fields__, row, strict=True)))  # type: ignore[arg-type]
