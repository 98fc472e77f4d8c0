"""The registry in SQLite, beside the ledger: entries are owned by leases of nodes, and those stand in the same file.

Finding is one query over a covering index, made in the caller's own thread: it takes some tens of microseconds, and
handing it to another thread takes longer than that.
"""

# ruff: noqa: S608  # the SQL is put together from this module's own texts only; every value is bound

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from assent.ledger.adapters.sqlite import SqliteLedger
from assent.ledger.agents import DropAgents, PutAgents
from assent.primitives.errors import Conflict, Unavailable
from assent.primitives.ids import NodeId, TenantId
from assent.primitives.leases import Fence
from assent.registry.agents import Change, Entry, Query, Schema, check_batch, query_keys

_LEASED = (
    "EXISTS (SELECT 1 FROM leases l WHERE l.tenant = '' AND l.name = a.node AND l.holder = l.name"
    " AND l.fence = a.fence AND l.expires_at_ms > assent_now_ms())"
)
_HELD = (
    "SELECT 1 FROM leases WHERE tenant = '' AND name = ? AND holder = name AND fence = ?"
    " AND expires_at_ms > assent_now_ms()"
)
_UNKEY = "DELETE FROM agent_keys WHERE tenant = ? AND id = ? AND key IN (SELECT value FROM json_each(?))"
_COLUMNS = "a.node, a.fence, a.revision, a.entry"
_decode = msgspec.json.Decoder(tuple[Entry, tuple[str, ...]]).decode
_encode = msgspec.json.Encoder(order="sorted").encode


class SqliteRegistry:
    """Entries in the ledger's file (`registry.ports.Registry`)."""

    def __init__(self, store: SqliteLedger, *, schema: Schema) -> None:
        self._store = store
        self._schema = schema

    async def put(self, entries: Sequence[Entry], *, fence: Fence) -> int:
        check_batch(entries)
        written = tuple((self._schema.check(one), tuple(self._schema.keys(one))) for one in entries)
        revision: int = await self._store.apply(PutAgents(tenant=entries[0].tenant, entries=written, fence=fence))
        return revision

    async def drop(self, tenant: TenantId, ids: Sequence[str], *, fence: Fence) -> int:
        revision: int = await self._store.apply(DropAgents(tenant=tenant, ids=tuple(ids), fence=fence))
        return revision

    async def get(self, tenant: TenantId, id_: str) -> Entry | None:
        sql = f"SELECT {_COLUMNS} FROM agents a WHERE a.tenant = ? AND a.id = ? AND a.entry IS NOT NULL AND {_LEASED}"
        row = self._store.look_now(lambda c: c.execute(sql, (tenant, id_)).fetchone())
        return _entry(row) if row else None

    async def find(self, tenant: TenantId, query: Query) -> list[Entry]:
        return self.find_now(tenant, query)

    def find_now(self, tenant: TenantId, query: Query) -> list[Entry]:
        """As `find`, for those who cannot wait."""
        self._schema.check_query(query)
        keys = query_keys(query)
        if keys:
            found = self._store.look_now(lambda c: _by_keys(c, tenant, keys, query))
        else:
            sql = (
                f"SELECT {_COLUMNS} FROM agents a WHERE a.tenant = ? AND a.id > ? AND a.entry IS NOT NULL AND {_LEASED}"
                " ORDER BY a.id LIMIT ?"
            )
            found = self._store.look_now(lambda c: c.execute(sql, (tenant, query.after, query.limit)).fetchall())
        return [_entry(row) for row in found]

    async def changes(self, tenant: TenantId, *, after: int, limit: int) -> list[Change]:
        sql = (
            f"SELECT a.id, {_COLUMNS}, {_LEASED} FROM agents a WHERE a.tenant = ? AND a.revision > ?"
            " ORDER BY a.revision LIMIT ?"
        )
        rows = await self._store.look(lambda c: c.execute(sql, (tenant, after, limit)).fetchall())
        return [
            Change(revision=row[3], id=row[0], entry=_entry(row[1:5]) if row[4] is not None and row[5] else None)
            for row in rows
        ]


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
    sql = "SELECT count(*) FROM (SELECT 1 FROM agent_keys WHERE tenant = ? AND key = ? LIMIT 1000)"
    counts = {key: connection.execute(sql, (tenant, key)).fetchone()[0] for key in keys}
    return sorted(keys, key=counts.__getitem__)


def put_agents(connection: sqlite3.Connection, command: PutAgents) -> int:
    """Write entries, all or none."""
    _must_hold(connection, command.fence)
    revision = _revision(connection, command.tenant)
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
    return revision


def drop_agents(connection: sqlite3.Connection, command: DropAgents) -> int:
    """Take entries out; what is left says since when they are gone."""
    _must_hold(connection, command.fence)
    revision = _revision(connection, command.tenant)
    for id_ in command.ids:
        keys = _keys_of(connection, command.tenant, id_)
        if keys == "[]":
            continue
        _must_be_free(connection, command.tenant, id_, command.fence)
        connection.execute(_UNKEY, (command.tenant, id_, keys))
        revision += 1
        connection.execute(
            "UPDATE agents SET entry = NULL, revision = ? WHERE tenant = ? AND id = ?", (revision, command.tenant, id_)
        )
    return revision


def _keys_of(connection: sqlite3.Connection, tenant: TenantId, id_: str) -> str:
    """The keys that an entry is found by, as a JSON list: they stand beside it, so that none is looked for."""
    row = connection.execute(
        "SELECT entry ->> '$[1]' FROM agents WHERE tenant = ? AND id = ? AND entry IS NOT NULL", (tenant, id_)
    ).fetchone()
    return row[0] if row else "[]"


def _revision(connection: sqlite3.Connection, tenant: TenantId) -> int:
    row = connection.execute("SELECT max(revision) FROM agents WHERE tenant = ?", (tenant,)).fetchone()
    return int(row[0] or 0)


def _must_hold(connection: sqlite3.Connection, fence: Fence) -> None:
    if connection.execute(_HELD, (fence.node, fence.number)).fetchone() is None:
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


AGENT_APPLIES: dict[type, Callable[..., Any]] = {PutAgents: put_agents, DropAgents: drop_agents}
"""What applies the commands of this module; for `SqliteLedger`."""
