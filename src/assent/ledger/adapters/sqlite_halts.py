"""Halts in SQLite: looked at in the transaction that dispatches."""

# ruff: noqa: S608  # the SQL is put together from this package's own texts only; every value is bound

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from assent.ledger.halts import HALTED
from assent.primitives.ids import TenantId

_ANY = "SELECT 1 FROM journals WHERE tenant = ? AND kind = 'halt' AND state = 'halted' LIMIT 1"


def has_halts(connection: sqlite3.Connection, tenant: TenantId) -> bool:
    """Whether anything of a tenant is halted."""
    return connection.execute(_ANY, (tenant,)).fetchone() is not None


def halted(connection: sqlite3.Connection, tenant: TenantId, scopes: Iterable[str]) -> str:
    """The scope by which a call with these is halted, or an empty string."""
    if not has_halts(connection, tenant):
        return ""
    names = tuple(scopes)
    sql = (
        f"SELECT id FROM journals WHERE tenant = ? AND kind = 'halt' AND id IN ({','.join('?' * len(names))})"
        " AND state = ? ORDER BY first_seq LIMIT 1"
    )
    row = connection.execute(sql, (tenant, *names, HALTED)).fetchone()
    return str(row[0]) if row else ""
