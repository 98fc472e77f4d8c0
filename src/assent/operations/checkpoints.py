"""Checkpoints: signed heads of the log that are kept for ever, so that they can also be kept elsewhere."""

from __future__ import annotations

from assent.ledger.commands import KeepCheckpoint
from assent.ledger.ports import LedgerStore
from assent.primitives.ids import TenantId


class Checkpoints:
    """Keeps checkpoints when somebody asks; the ledger keeps others by itself."""

    def __init__(self, *, store: LedgerStore) -> None:
        self._store = store

    async def keep(self, tenant: TenantId) -> str:
        """Keep the head of the log as it is now and return its signed note (C2SP `tlog-checkpoint`)."""
        note: str = await self._store.apply(KeepCheckpoint(tenant=tenant))
        return note
