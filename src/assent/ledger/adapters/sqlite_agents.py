"""The registry in SQLite, beside the ledger: entries are owned by leases of nodes, and those stand in the same file.

Finding is one query over a covering index. It is made in the caller's own thread while it turns out to be quick, as it
is for a few entries: handing it to another thread takes longer than that.
"""

# ruff: noqa: S608  # the SQL is put together from this module's own texts only; every value is bound

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Any

import msgspec

from assent.ledger.adapters.sqlite import SqliteLedger
from assent.ledger.agents import DropAgents, PutAgents, SweepAgents
from assent.primitives.errors import Conflict, Unavailable
from assent.primitives.ids import NodeId, TenantId
from assent.primitives.leases import Fence
from assent.registry.agents import (
    BATCH_MAX,
    FOUND_MAX,
    REVISIONS_KEPT,
    Change,
    Entry,
    Query,
    Schema,
    check_batch,
    check_many,
    check_seen,
    query_keys,
)
from assent.registry.watching import POLL_S, Bell, watched

_LEASED = (
    "EXISTS (SELECT 1 FROM leases l WHERE l.tenant = '' AND l.name = a.node AND l.holder = l.name"
    " AND l.fence = a.fence AND l.expires_at_ms > assent_now_ms())"
)
_HELD = (
    "SELECT 1 FROM leases WHERE tenant = '' AND name = ? AND holder = name AND fence = ?"
    " AND expires_at_ms > assent_now_ms()"
)
_UNKEY = "DELETE FROM agent_keys WHERE tenant = ? AND id = ? AND key IN (SELECT value FROM json_each(?))"
_OWNED = "FROM agents INDEXED BY agents_by_owner WHERE tenant = ? AND entry IS NOT NULL"
COUNTED_MAX = 1_000
FORGOTTEN_MAX = 2 * BATCH_MAX
_COLUMNS = "a.node, a.fence, a.revision, a.entry"
_decode = msgspec.json.Decoder(tuple[Entry, tuple[str, ...]]).decode
_encode = msgspec.json.Encoder(order="sorted").encode


class SqliteRegistry:
    """Entries in the ledger's file (`registry.ports.Registry`)."""

    def __init__(
        self,
        store: SqliteLedger,
        *,
        schema: Schema,
        revisions_kept: int = REVISIONS_KEPT,
        poll_s: float = POLL_S,
    ) -> None:
        self._store = store
        self._schema = schema
        self._kept = revisions_kept
        self._poll_s = poll_s
        self._bell = Bell()

    async def put(self, entries: Sequence[Entry], *, fence: Fence) -> int:
        check_batch(entries)
        checked = [self._schema.check(one) for one in entries]
        written = tuple((one, tuple(self._schema.keys(one))) for one in checked)
        command = PutAgents(tenant=entries[0].tenant, entries=written, fence=fence, kept=self._kept)
        revision: int = await self._store.apply(command)
        self._bell.ring(command.tenant)
        return revision

    async def drop(self, tenant: TenantId, ids: Sequence[str], *, fence: Fence) -> int:
        check_many(len(ids), most=BATCH_MAX)
        command = DropAgents(tenant=tenant, ids=tuple(ids), fence=fence, kept=self._kept)
        revision: int = await self._store.apply(command)
        self._bell.ring(command.tenant)
        return revision

    async def sweep(self, tenant: TenantId, *, limit: int, fence: Fence) -> int:
        check_many(limit, most=BATCH_MAX)
        if not await self._store.look(lambda c: (not _holds(c, fence)) or _left_behind(c, tenant, 1)):
            return 0  # nearly always; a commit is for when there is something
        swept: int = await self._store.apply(SweepAgents(tenant=tenant, limit=limit, fence=fence, kept=self._kept))
        self._bell.ring(tenant)
        return swept

    async def get(self, tenant: TenantId, id_: str) -> Entry | None:
        sql = f"SELECT {_COLUMNS} FROM agents a WHERE a.tenant = ? AND a.id = ? AND a.entry IS NOT NULL AND {_LEASED}"
        row = await self._store.look_quick(lambda c: c.execute(sql, (tenant, id_)).fetchone())
        return _entry(row) if row else None

    async def find(self, tenant: TenantId, query: Query) -> list[Entry]:
        query = self._schema.check_query(query)
        found: list[Entry] = await self._store.look_quick(lambda c: _found(c, tenant, query))
        return found

    def find_now(self, tenant: TenantId, query: Query) -> list[Entry]:
        """As `find`, for those who cannot wait: in the caller's thread."""
        query = self._schema.check_query(query)
        found: list[Entry] = self._store.look_now(lambda c: _found(c, tenant, query))
        return found

    async def revision(self, tenant: TenantId) -> int:
        revision, _ = await self._store.look(lambda c: _standing(c, tenant))
        return int(revision)

    async def changes(self, tenant: TenantId, *, after: int, limit: int) -> list[Change]:
        check_many(limit, most=FOUND_MAX)
        sql = (
            f"SELECT a.id, {_COLUMNS}, {_LEASED} FROM agents a WHERE a.tenant = ? AND a.revision > ?"
            " ORDER BY a.revision LIMIT ?"
        )
        (revision, floor), rows = await self._store.look(
            lambda c: (_standing(c, tenant), c.execute(sql, (tenant, after, limit)).fetchall())
        )
        check_seen(after, floor=floor, revision=revision)
        return [
            Change(revision=row[3], id=row[0], entry=_entry(row[1:5]) if row[4] is not None and row[5] else None)
            for row in rows
        ]

    def watch(self, tenant: TenantId, *, after: int) -> AsyncGenerator[Change]:
        return watched(self.changes, self._bell, tenant, after=after, poll_s=self._poll_s)


def _found(connection: sqlite3.Connection, tenant: TenantId, query: Query) -> list[Entry]:
    keys = query_keys(query)
    return [_entry(row) for row in (_by_keys if keys else _by_id)(connection, tenant, keys, query)]


def _by_id(connection: sqlite3.Connection, tenant: TenantId, _: list[str], query: Query) -> list[Any]:
    sql = (
        f"SELECT {_COLUMNS} FROM agents a WHERE a.tenant = ? AND a.id > ? AND a.entry IS NOT NULL AND {_LEASED}"
        " ORDER BY a.id LIMIT ?"
    )
    return connection.execute(sql, (tenant, query.after, query.limit)).fetchall()


def _by_keys(connection: sqlite3.Connection, tenant: TenantId, keys: list[str], query: Query) -> list[Any]:
    """The entries that have every key. The rarest leads: of each key only as many are counted as it takes to know."""
    first, *others = _rarest_first(connection, tenant, keys)
    more = "".join(
        f" AND EXISTS (SELECT 1 FROM agent_keys k{n} WHERE k{n}.tenant = ?1 AND k{n}.key = ?{n + 5} AND k{n}.id = k.id)"
        for n in range(len(others))
    )
    sql = (
        f"SELECT {_COLUMNS} FROM agent_keys k JOIN agents a ON a.tenant = k.tenant AND a.id = k.id"
        f" WHERE k.tenant = ?1 AND k.key = ?2 AND k.id > ?3{more} AND {_LEASED} ORDER BY k.id LIMIT ?4"
    )
    return connection.execute(sql, (tenant, first, query.after, query.limit, *others)).fetchall()


def _rarest_first(connection: sqlite3.Connection, tenant: TenantId, keys: list[str]) -> list[str]:
    if len(keys) == 1:
        return keys
    sql = "SELECT count(*) FROM (SELECT 1 FROM agent_keys WHERE tenant = ? AND key = ? LIMIT ?)"
    counts = {key: connection.execute(sql, (tenant, key, COUNTED_MAX)).fetchone()[0] for key in keys}
    return sorted(keys, key=counts.__getitem__)


def put_agents(connection: sqlite3.Connection, command: PutAgents) -> int:
    """Write entries, all or none."""
    _must_hold(connection, command.fence)
    revision, floor = _standing(connection, command.tenant)
    for entry, keys in command.entries:
        _must_be_free(connection, command.tenant, entry.id, command.fence)
        keyed = _keys_of(connection, command.tenant, entry.id)
        connection.execute(_UNKEY, (command.tenant, entry.id, keyed))
        revision += 1
        connection.execute(
            "INSERT INTO agents (tenant, id, node, fence, revision, entry) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (tenant, id) DO UPDATE SET node = excluded.node, fence = excluded.fence,"
            " revision = excluded.revision, entry = excluded.entry",
            (command.tenant, entry.id, command.fence.node, command.fence.number, revision, _encode([entry, keys])),
        )
        connection.executemany(
            "INSERT INTO agent_keys (tenant, key, id) VALUES (?, ?, ?)",
            [(command.tenant, key, entry.id) for key in keys],
        )
    return _stand(connection, command, revision, floor)


def drop_agents(connection: sqlite3.Connection, command: DropAgents) -> int:
    """Take entries out; what is left says since when they are gone."""
    _must_hold(connection, command.fence)
    for id_ in command.ids:
        _must_be_free(connection, command.tenant, id_, command.fence)
    revision, floor = _standing(connection, command.tenant)
    for id_ in command.ids:
        revision = _take_out(connection, command.tenant, id_, revision)
    return _stand(connection, command, revision, floor)


def sweep_agents(connection: sqlite3.Connection, command: SweepAgents) -> int:
    """Take out what nodes left whose lease is over."""
    _must_hold(connection, command.fence)
    ids = _left_behind(connection, command.tenant, command.limit)
    revision, floor = _standing(connection, command.tenant)
    for id_ in ids:
        revision = _take_out(connection, command.tenant, id_, revision)
    _stand(connection, command, revision, floor)
    return len(ids)


def _left_behind(connection: sqlite3.Connection, tenant: TenantId, limit: int) -> list[str]:
    """Ids of entries that no node holds."""
    sql = f"SELECT id {_OWNED} AND node = ? AND fence = ? ORDER BY id LIMIT ?"
    found: list[str] = []
    for owner in _owners(connection, tenant):
        if len(found) == limit:
            break
        if not _holds(connection, owner):
            left = connection.execute(sql, (tenant, owner.node, owner.number, limit - len(found)))
            found += [id_ for (id_,) in left]
    return found


def _owners(connection: sqlite3.Connection, tenant: TenantId) -> Iterator[Fence]:
    """Whose entries there are: one step in the index for each. SQLite compares `(node, fence) > (?, ?)` row by row."""
    same = f"SELECT node, fence {_OWNED} AND node = ? AND fence > ? ORDER BY fence LIMIT 1"
    next_ = f"SELECT node, fence {_OWNED} AND node > ? ORDER BY node, fence LIMIT 1"
    row: tuple[str, int] | None = ("", 0)
    while row is not None:
        found = connection.execute(same, (tenant, *row)).fetchone()
        row = found or connection.execute(next_, (tenant, row[0])).fetchone()
        if row is not None:
            yield Fence(node=NodeId(row[0]), number=row[1])


def _take_out(connection: sqlite3.Connection, tenant: TenantId, id_: str, revision: int) -> int:
    """Take an entry out, if it is there, under the next revision; the revision since."""
    keys = _keys_of(connection, tenant, id_)
    if keys == "[]":
        return revision
    connection.execute(_UNKEY, (tenant, id_, keys))
    connection.execute(
        "UPDATE agents SET entry = NULL, revision = ? WHERE tenant = ? AND id = ?", (revision + 1, tenant, id_)
    )
    return revision + 1


def _keys_of(connection: sqlite3.Connection, tenant: TenantId, id_: str) -> str:
    """The keys that an entry is found by, as a JSON list: they stand beside it, so that none is looked for."""
    row = connection.execute(
        "SELECT entry ->> '$[1]' FROM agents WHERE tenant = ? AND id = ? AND entry IS NOT NULL", (tenant, id_)
    ).fetchone()
    return row[0] if row else "[]"


def _standing(connection: sqlite3.Connection, tenant: TenantId) -> tuple[int, int]:
    """The last revision, and the floor below which changes are no longer all there."""
    row = connection.execute("SELECT revision, floor FROM agent_registries WHERE tenant = ?", (tenant,)).fetchone()
    return (row[0], row[1]) if row else (0, 0)


def _stand(
    connection: sqlite3.Connection, command: PutAgents | DropAgents | SweepAgents, revision: int, floor: int
) -> int:
    """Keep the revision, and forget what is gone for too long; never more at once than two batches can leave."""
    tenant = command.tenant
    gone = _forgotten(connection, tenant, revision - command.kept)
    connection.executemany("DELETE FROM agents WHERE tenant = ? AND id = ?", [(tenant, id_) for id_, _ in gone])
    connection.execute(
        "INSERT INTO agent_registries (tenant, revision, floor) VALUES (?, ?, ?)"
        " ON CONFLICT (tenant) DO UPDATE SET revision = excluded.revision, floor = excluded.floor",
        (tenant, revision, gone[-1][1] if gone else floor),
    )
    return revision


def _forgotten(connection: sqlite3.Connection, tenant: TenantId, horizon: int) -> list[tuple[str, int]]:
    """What is gone since the revision `horizon` or longer, with since when."""
    sql = (
        "SELECT id, revision FROM agents WHERE tenant = ? AND entry IS NULL AND revision <= ? ORDER BY revision LIMIT ?"
    )
    return connection.execute(sql, (tenant, horizon, FORGOTTEN_MAX)).fetchall()


def _holds(connection: sqlite3.Connection, fence: Fence) -> bool:
    return connection.execute(_HELD, (fence.node, fence.number)).fetchone() is not None


def _must_hold(connection: sqlite3.Connection, fence: Fence) -> None:
    if not _holds(connection, fence):
        raise Unavailable("lease_lost", "this node's lease lapsed or was taken", hint="start again")


def _must_be_free(connection: sqlite3.Connection, tenant: TenantId, id_: str, fence: Fence) -> None:
    sql = (
        "SELECT 1 FROM agents a WHERE a.tenant = ? AND a.id = ? AND (a.node <> ? OR a.fence <> ?)"
        f" AND a.entry IS NOT NULL AND {_LEASED}"
    )
    if connection.execute(sql, (tenant, id_, fence.node, fence.number)).fetchone() is not None:
        raise Conflict("entry_held", f"`{id_}` belongs to another node", hint="wait until it is gone")


def _entry(row: Sequence[Any]) -> Entry:
    node, fence, revision, data = row
    entry = _decode(data)[0]
    return msgspec.structs.replace(entry, owner=Fence(node=NodeId(node), number=fence), revision=revision)


AGENT_APPLIES: dict[type, Callable[..., Any]] = {
    PutAgents: put_agents,
    DropAgents: drop_agents,
    SweepAgents: sweep_agents,
}
"""What applies the commands of this module; for `SqliteLedger`."""
