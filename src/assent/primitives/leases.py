"""Leases and fences. A lease is a time-bounded claim; its fence is a number that only grows.

Whoever lets a lease lapse may be fenced out: the next holder gets a higher fence, and every write that carries the old
one is refused in the same statement that would have made it. The comparison is made in SQL, against the database's
clock; these values only carry what was granted.
"""

from __future__ import annotations

import msgspec

from assent.primitives.ids import NodeId, TenantId

# Leases belong to nodes, which serve every tenant; their rows stand under a tenant no one can have.
SYSTEM = TenantId("")


class Lease(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A claim of `holder` on `name` under `fence`, good until `expires_at_ms` on the database's clock."""

    name: str
    holder: NodeId
    fence: int
    expires_at_ms: int


class Fence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a write proves: that `node` still holds its lease under `number`."""

    node: NodeId
    number: int
