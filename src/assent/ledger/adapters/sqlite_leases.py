"""Node leases in SQLite. They belong to no tenant: their rows stand under the empty one, which no tenant can have."""

from __future__ import annotations

import sqlite3

from assent.ledger.adapters.sqlite_effects import find_effect
from assent.ledger.adapters.sqlite_log import LogBook
from assent.ledger.adapters.sqlite_reviews import unfinished_on
from assent.ledger.commands import FenceOut, ReleaseLease, RenewLease, TakeLease
from assent.ledger.effects import EFFECT, Effect, Move
from assent.ledger.entries import draft
from assent.primitives.errors import Conflict
from assent.primitives.ids import EffectId, NodeId, TenantId
from assent.primitives.leases import Lease


def take_lease(connection: sqlite3.Connection, command: TakeLease) -> Lease:
    """Take a lease nobody has had: a node's name is its own id, so no two nodes compete for one."""
    name, number = command.fence.node, command.fence.number
    changed = connection.execute(
        "INSERT INTO leases (tenant, name, holder, fence, expires_at_ms)"
        " VALUES ('', ?, ?, ?, assent_now_ms() + ?) ON CONFLICT (tenant, name) DO NOTHING",
        (name, name, number, command.ttl_ms),
    ).rowcount
    if changed != 1:
        raise Conflict("lease_taken", f"node `{name}` already has a lease")
    expires = connection.execute("SELECT assent_now_ms() + ?", (command.ttl_ms,)).fetchone()[0]
    return Lease(name=name, holder=name, fence=number, expires_at_ms=expires)


def renew_lease(connection: sqlite3.Connection, command: RenewLease) -> bool:
    """Extend it unless somebody moved the fence."""
    sql = (
        "UPDATE leases SET expires_at_ms = assent_now_ms() + ? WHERE tenant = '' AND name = ? AND holder = name"
        " AND fence = ?"
    )
    values = (command.ttl_ms, command.fence.node, command.fence.number)
    return connection.execute(sql, values).rowcount == 1


def release_lease(connection: sqlite3.Connection, command: ReleaseLease) -> None:
    """Delete it, unless somebody moved the fence or work is still unsettled under it (then it lapses in its time)."""
    if not unfinished_on(connection, command.fence.node):
        sql = "DELETE FROM leases WHERE tenant = '' AND name = ? AND fence = ?"
        connection.execute(sql, (command.fence.node, command.fence.number))


def fence_out(connection: sqlite3.Connection, book: LogBook, command: FenceOut) -> list[Effect]:
    """Move the fence, and in the same transaction call unknown whatever the node had dispatched and not settled.

    The row stays behind without a holder, so a node that was only asleep can neither renew its lease nor take it again.
    """
    node, number = command.fence.node, command.fence.number
    changed = connection.execute(
        "UPDATE leases SET fence = fence + 1, holder = '', expires_at_ms = 0"
        " WHERE tenant = '' AND name = ? AND fence = ? AND (expires_at_ms <= assent_now_ms() OR ?)",
        (node, number, command.dead),
    ).rowcount
    if changed != 1:
        return []
    return [_lose(connection, book, tenant, effect) for tenant, effect in unfinished_on(connection, node)]


def read_leases(connection: sqlite3.Connection) -> list[tuple[Lease, bool]]:
    """Every held lease and whether it has lapsed."""
    rows = connection.execute(
        "SELECT name, holder, fence, expires_at_ms, expires_at_ms <= assent_now_ms() FROM leases"
        " WHERE tenant = '' AND holder <> ''"
    ).fetchall()
    return [
        (Lease(name=name, holder=NodeId(holder), fence=fence, expires_at_ms=expires), bool(lapsed))
        for name, holder, fence, expires, lapsed in rows
    ]


def _lose(connection: sqlite3.Connection, book: LogBook, tenant: TenantId, effect_id: EffectId) -> Effect:
    effect = find_effect(connection, tenant, effect_id)
    assert effect is not None, "read in this transaction"
    state = EFFECT.after(effect.state, Move.LOSE)
    body = {
        "effect": effect.id, "before": effect.last_seq, "moves": [Move.LOSE], "state": state, "code": "node_lost",
        "attempt": effect.attempt, "node": effect.node, "fence": effect.fence,
    }  # fmt: skip
    seq = book.append(tenant, draft("effect.lost", body))
    connection.execute(
        "UPDATE effects SET state = ?, code = 'node_lost', last_seq = ? WHERE tenant = ? AND id = ?",
        (state, seq, tenant, effect.id),
    )
    found = find_effect(connection, tenant, effect_id)
    assert found is not None
    return found
