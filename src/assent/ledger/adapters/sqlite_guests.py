"""Guests and their tickets in SQLite. Whoever has a ticket, and whether, is decided in single statements: each compares
the guest's fence, its lease and the asker's on the database's clock, and changes the row only when all of them hold."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from assent.execution.guests import Guest, Standing, Ticket, TicketState
from assent.ledger.adapters.sqlite import SqliteLedger
from assent.ledger.guests import (
    AdmitGuest,
    ClaimTicket,
    DescribeGuest,
    EndTicket,
    ForsakeTicket,
    GuestArrives,
    GuestBeats,
    GuestLeaves,
    InviteGuest,
    RemoveGuest,
    WriteTicket,
)
from assent.primitives.ids import GrantId, TenantId
from assent.primitives.leases import SYSTEM

KEEP_MS = 7 * 86_400_000
LATE_BYTES_MAX = 65_536
_LEASED = (
    "EXISTS (SELECT 1 FROM guests g WHERE g.tenant = '' AND g.name = guest_tickets.guest AND g.state = 'joined'"
    " AND g.fence = :fence AND g.lease_expires_at_ms > assent_now_ms())"
)
_ASKED = (
    "EXISTS (SELECT 1 FROM leases l WHERE l.tenant = '' AND l.name = guest_tickets.node AND l.holder = l.name"
    " AND l.fence = guest_tickets.fence AND l.expires_at_ms > assent_now_ms())"
)


def _joined(*parts: str) -> str:
    return " ".join(parts)


_THIS = "WHERE tenant = :tenant AND id = :id AND guest = :guest"
_CLAIM = _joined(
    "UPDATE guest_tickets SET state = 'claimed', guest_fence = :fence", _THIS, "AND state = 'waiting'",
    "AND expires_at_ms > assent_now_ms() AND", _LEASED, "AND", _ASKED, "RETURNING ticket, signature",
)  # fmt: skip
_END = _joined(
    "UPDATE guest_tickets SET state = 'ended', outcome = :outcome, voucher = :voucher", _THIS,
    "AND state = 'claimed' AND guest_fence = :fence AND", _LEASED,
)  # fmt: skip
_END_LOST = _joined("UPDATE guest_tickets SET state = 'lost'", _THIS, "AND state = 'claimed'")
_END_LATE = _joined(
    "UPDATE guest_tickets SET late = :kept", _THIS, "AND (state = 'lost' OR state = 'withdrawn') AND late IS NULL"
)
_GUEST = (
    "SELECT name, state, state = 'joined' AND lease_expires_at_ms > assent_now_ms(), key, fence, offers, signature,"
    " lanes, described_at_ms, seen_at_ms,"
    " (SELECT count(*) FROM guest_tickets t WHERE t.guest = guests.name AND t.state = 'waiting'),"
    " (SELECT count(*) FROM guest_tickets t WHERE t.guest = guests.name AND t.state = 'claimed'),"
    " (SELECT count(*) FROM guest_tickets t WHERE t.guest = guests.name AND t.late IS NOT NULL)"
    " FROM guests WHERE tenant = ''"
)
_STANDING = (
    "SELECT state, (SELECT g.lease_expires_at_ms > assent_now_ms() FROM guests g WHERE g.tenant = ''"
    " AND g.name = guest_tickets.guest AND (g.fence = guest_fence OR guest_tickets.state = 'waiting')),"
    " outcome, voucher FROM guest_tickets WHERE tenant = ? AND id = ?"
)


def _invite(connection: sqlite3.Connection, command: InviteGuest) -> bool:
    others = connection.execute("SELECT count(*) FROM guests WHERE tenant = '' AND name <> ?", (command.name,))
    if others.fetchone()[0] >= command.guests_max:
        return False
    _lose(connection, command.name)
    connection.execute(
        "INSERT INTO guests VALUES ('', ?, 'invited', ?, assent_now_ms() + ?, '', 1, 0, 0, x'', x'', '', 0)"
        " ON CONFLICT (tenant, name) DO UPDATE SET state = 'invited', secret = excluded.secret, key = '',"
        " secret_expires_at_ms = excluded.secret_expires_at_ms, fence = fence + 1, lease_expires_at_ms = 0",
        (command.name, command.secret, command.ttl_ms),
    )
    return True


def _admit(connection: sqlite3.Connection, command: AdmitGuest) -> bool:
    sql = (
        "UPDATE guests SET state = 'joined', key = ?, secret = '', seen_at_ms = assent_now_ms() WHERE tenant = ''"
        " AND name = ? AND state = 'invited' AND secret <> '' AND secret = ? AND secret_expires_at_ms > assent_now_ms()"
    )
    return connection.execute(sql, (command.key, command.name, command.secret)).rowcount == 1


def _remove(connection: sqlite3.Connection, command: RemoveGuest) -> bool:
    _lose(connection, command.name)
    return connection.execute("DELETE FROM guests WHERE tenant = '' AND name = ?", (command.name,)).rowcount == 1


def _arrive(connection: sqlite3.Connection, command: GuestArrives) -> int:
    """The fence never repeats, also when a guest of the same name was removed: it grows from the clock."""
    row = connection.execute(
        "UPDATE guests SET fence = max(fence + 1, assent_now_ms()), lease_expires_at_ms = assent_now_ms() + ?,"
        " seen_at_ms = assent_now_ms(), offers = ?, signature = ?, lanes = ?, described_at_ms = assent_now_ms()"
        " WHERE tenant = '' AND name = ? AND key = ? AND key <> '' AND state = 'joined' RETURNING fence",
        (command.ttl_ms, command.offers, command.signature, command.lanes, command.name, command.key),
    ).fetchone()
    if row is None:
        return 0
    _lose(connection, command.name)
    return int(row[0])


def _beat(connection: sqlite3.Connection, command: GuestBeats) -> bool:
    sql = (
        "UPDATE guests SET lease_expires_at_ms = assent_now_ms() + ?, seen_at_ms = assent_now_ms() WHERE tenant = ''"
        " AND name = ? AND fence = ? AND state = 'joined' AND lease_expires_at_ms > assent_now_ms()"
    )
    return connection.execute(sql, (command.ttl_ms, command.name, command.fence)).rowcount == 1


def _describe(connection: sqlite3.Connection, command: DescribeGuest) -> None:
    connection.execute(
        "UPDATE guests SET offers = ?, signature = ?, described_at_ms = assent_now_ms() WHERE tenant = ''"
        " AND name = ? AND fence = ? AND state = 'joined'",
        (command.offers, command.signature, command.name, command.fence),
    )


def _leave(connection: sqlite3.Connection, command: GuestLeaves) -> None:
    connection.execute(
        "UPDATE guests SET lease_expires_at_ms = 0 WHERE tenant = '' AND name = ? AND fence = ?",
        (command.name, command.fence),
    )
    connection.execute(
        "UPDATE guest_tickets SET state = 'lost' WHERE guest = ? AND state = 'claimed' AND guest_fence = ?",
        (command.name, command.fence),
    )


def _write(connection: sqlite3.Connection, command: WriteTicket) -> None:
    one = command.ticket
    connection.execute(
        "DELETE FROM guest_tickets WHERE written_at_ms < assent_now_ms() - ? AND state <> 'claimed'",
        (command.keep_ms,),
    )
    connection.execute(
        "INSERT INTO guest_tickets VALUES (?, ?, ?, 'waiting', ?, ?, 0, assent_now_ms(), assent_now_ms() + ?, ?, ?,"
        " NULL, NULL, NULL)",
        (one.tenant, one.id, one.guest, one.fence.node, one.fence.number, one.expires_at_ms - one.issued_at_ms,
         command.data, command.signature),
    )  # fmt: skip


def _claim(connection: sqlite3.Connection, command: ClaimTicket) -> tuple[bytes, bytes] | None:
    values = {"fence": command.fence, "tenant": command.tenant, "id": command.ticket, "guest": command.guest}
    row = connection.execute(_CLAIM, values).fetchone()
    return (row[0], row[1]) if row else None


def _end(connection: sqlite3.Connection, command: EndTicket) -> bool | None:
    values = {
        "fence": command.fence, "tenant": command.tenant, "id": command.ticket, "guest": command.guest,
        "outcome": command.outcome, "voucher": command.signature, "kept": command.outcome[:LATE_BYTES_MAX],
    }  # fmt: skip
    if connection.execute(_END, values).rowcount == 1:
        return True
    connection.execute(_END_LOST, values)
    return False if connection.execute(_END_LATE, values).rowcount == 1 else None


def _forsake(connection: sqlite3.Connection, command: ForsakeTicket) -> Standing:
    this = (command.tenant, command.ticket)
    connection.execute(
        "UPDATE guest_tickets SET state = CASE state WHEN 'waiting' THEN 'withdrawn' ELSE 'lost' END"
        " WHERE tenant = ? AND id = ? AND (state = 'waiting' OR state = 'claimed')",
        this,
    )
    standing = _standing(connection, *this)
    connection.execute("UPDATE guest_tickets SET outcome = NULL WHERE tenant = ? AND id = ?", this)  # it is taken
    return standing or Standing(state=TicketState.WITHDRAWN)


def _lose(connection: sqlite3.Connection, guest: str) -> None:
    connection.execute("UPDATE guest_tickets SET state = 'lost' WHERE guest = ? AND state = 'claimed'", (guest,))


def _standing(connection: sqlite3.Connection, tenant: TenantId, ticket: GrantId) -> Standing | None:
    row = connection.execute(_STANDING, (tenant, ticket)).fetchone()
    if row is None:
        return None
    return Standing(state=TicketState(row[0]), alive=bool(row[1]), outcome=row[2] or b"", signature=row[3] or b"")


def _guest(row: tuple[Any, ...]) -> Guest:
    name, state, alive, key, fence, offers, signature, lanes, described, seen, waiting, running, late = row
    return Guest(
        name=name, state=state, alive=bool(alive), key=key, fence=fence, offers=offers, signature=signature,
        lanes=tuple(lanes.split()), described_at_ms=described, seen_at_ms=seen, waiting=waiting, running=running,
        late=late,
    )  # fmt: skip


APPLIES: dict[type, Callable[[sqlite3.Connection, Any], Any]] = {
    InviteGuest: _invite,
    AdmitGuest: _admit,
    RemoveGuest: _remove,
    GuestArrives: _arrive,
    GuestBeats: _beat,
    DescribeGuest: _describe,
    GuestLeaves: _leave,
    WriteTicket: _write,
    ClaimTicket: _claim,
    EndTicket: _end,
    ForsakeTicket: _forsake,
}


class SqliteGuests:
    """`GuestBook` on the ledger's database, and what people do with guests."""

    def __init__(self, store: SqliteLedger) -> None:
        self._store = store

    async def invite(self, *, name: str, secret: str, ttl_ms: int, guests_max: int) -> bool:
        """See `InviteGuest`."""
        command = InviteGuest(tenant=SYSTEM, name=name, secret=secret, ttl_ms=ttl_ms, guests_max=guests_max)
        return bool(await self._store.apply(command))

    async def remove(self, *, name: str) -> bool:
        """See `RemoveGuest`."""
        return bool(await self._store.apply(RemoveGuest(tenant=SYSTEM, name=name)))

    async def guests(self) -> list[Guest]:
        """Every guest, by name."""
        found: list[Guest] = await self._store.look(
            lambda c: [_guest(row) for row in c.execute(f"{_GUEST} ORDER BY name")]
        )
        return found

    async def guest(self, name: str) -> Guest | None:
        rows = await self._store.look(lambda c: c.execute(f"{_GUEST} AND name = ?", (name,)).fetchall())
        return _guest(rows[0]) if rows else None

    async def admit(self, *, name: str, secret: str, key: str) -> bool:
        return bool(await self._store.apply(AdmitGuest(tenant=SYSTEM, name=name, secret=secret, key=key)))

    async def arrive(
        self, *, name: str, key: str, offers: bytes, signature: bytes, lanes: tuple[str, ...], ttl_ms: int
    ) -> int:
        command = GuestArrives(
            tenant=SYSTEM, name=name, key=key, offers=offers, signature=signature, lanes=" ".join(lanes), ttl_ms=ttl_ms
        )
        return int(await self._store.apply(command))

    async def beat(self, *, name: str, fence: int, ttl_ms: int) -> bool:
        return bool(await self._store.apply(GuestBeats(tenant=SYSTEM, name=name, fence=fence, ttl_ms=ttl_ms)))

    async def describe(self, *, name: str, fence: int, offers: bytes, signature: bytes) -> None:
        command = DescribeGuest(tenant=SYSTEM, name=name, fence=fence, offers=offers, signature=signature)
        await self._store.apply(command)

    async def leave(self, *, name: str, fence: int) -> None:
        await self._store.apply(GuestLeaves(tenant=SYSTEM, name=name, fence=fence))

    async def write(self, ticket: Ticket, *, data: bytes, signature: bytes) -> None:
        command = WriteTicket(tenant=ticket.tenant, ticket=ticket, data=data, signature=signature, keep_ms=KEEP_MS)
        await self._store.apply(command)

    async def waiting(self, name: str, *, limit: int) -> list[tuple[TenantId, GrantId]]:
        sql = (
            "SELECT tenant, id FROM guest_tickets WHERE guest = ? AND state = 'waiting'"
            " AND expires_at_ms > assent_now_ms() ORDER BY written_at_ms LIMIT ?"
        )
        rows = await self._store.look(lambda c: c.execute(sql, (name, limit)).fetchall())
        return [(TenantId(tenant), GrantId(ticket)) for tenant, ticket in rows]

    async def claim(self, tenant: TenantId, ticket: GrantId, *, guest: str, fence: int) -> tuple[bytes, bytes] | None:
        won: tuple[bytes, bytes] | None = await self._store.apply(
            ClaimTicket(tenant=tenant, ticket=ticket, guest=guest, fence=fence)
        )
        return won

    async def end(
        self, tenant: TenantId, ticket: GrantId, *, guest: str, fence: int, outcome: bytes, signature: bytes
    ) -> bool | None:
        command = EndTicket(
            tenant=tenant, ticket=ticket, guest=guest, fence=fence, outcome=outcome, signature=signature
        )
        told: bool | None = await self._store.apply(command)
        return told

    async def ticket(self, tenant: TenantId, ticket: GrantId) -> bytes | None:
        """A ticket's bytes, as they were signed."""
        sql = "SELECT ticket FROM guest_tickets WHERE tenant = ? AND id = ?"
        row = await self._store.look(lambda c: c.execute(sql, (tenant, ticket)).fetchone())
        return row[0] if row else None

    async def standing(self, tenant: TenantId, ticket: GrantId) -> Standing | None:
        found: Standing | None = await self._store.look(lambda c: _standing(c, tenant, ticket))
        return found

    async def forsake(self, tenant: TenantId, ticket: GrantId) -> Standing:
        standing: Standing = await self._store.apply(ForsakeTicket(tenant=tenant, ticket=ticket))
        return standing
