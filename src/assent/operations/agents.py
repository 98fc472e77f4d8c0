"""Which agents are served, and by whom: what the registry holds, with the leases that it holds by."""

from __future__ import annotations

import msgspec

from assent.ledger.ports import LedgerStore
from assent.primitives.ids import NodeId, TenantId
from assent.primitives.leases import Fence
from assent.registry.agents import Health, Query
from assent.registry.fields import Value
from assent.registry.ports import Registry

SERVED_MAX = 1_000


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that a node answers for. `here`: that is this node; `until_ms`: when its lease ends unless renewed."""

    name: str
    node: NodeId
    here: bool
    until_ms: int
    health: Health
    capabilities: tuple[str, ...]
    fields: dict[str, Value]


class Agents:
    """The agents of all nodes on one store."""

    def __init__(self, *, store: LedgerStore, registry: Registry, node: NodeId) -> None:
        self._store = store
        self._registry = registry
        self._node = node

    async def served(self, tenant: TenantId) -> list[Served]:
        """The first `SERVED_MAX` agents that a node answers for, by name."""
        found = await self._registry.find(tenant, Query(limit=SERVED_MAX))
        leases = {Fence(node=one.holder, number=one.fence): one for one, _ in await self._store.leases()}
        return [
            Served(
                name=one.id, node=one.owner.node, here=one.owner.node == self._node,
                until_ms=leases[one.owner].expires_at_ms, health=one.health, capabilities=one.capabilities,
                fields=one.fields,
            )
            for one in found
            if one.owner in leases  # else its lease ended between the two looks
        ]  # fmt: skip
