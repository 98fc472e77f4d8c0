"""Requests to a run that another process drives: its driver heeds them between two steps.

Only who works on a run may write its journal. So a request stands in a journal of its own, which anybody may write, and
which the log holds like every other: who asked for what, and when.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from assent.ledger.commands import WriteNotes
from assent.ledger.ports import LedgerStore
from assent.operations.runs import entries
from assent.primitives.ids import TenantId
from assent.primitives.leases import Fence

Asked: TypeAlias = Literal["pause", "cancel"]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a run, and by whom."""

    asked: Asked
    by: str


class Requests:
    """The requests of this node's tenants. Every dependency is given."""

    def __init__(self, *, store: LedgerStore, fence: Fence) -> None:
        self._store = store
        self._fence = fence

    async def make(self, tenant: TenantId, run: str, asked: Asked, *, by: str) -> None:
        """Write a request down. Raises Conflict: another was made at the same moment."""
        journal = await self._store.journal(tenant, "request", run)
        note = entries.requested(journal, run, asked=asked, by=by)
        await self._store.apply(WriteNotes(tenant=tenant, fence=self._fence, notes=(note,)))

    async def open(self, tenant: TenantId, run: str, *, since: int) -> Request | None:
        """What a run, or one that handed it its work, is asked to do. A pause that was asked for before log position
        `since` is over, because somebody had it go on; that it shall end stands until it has."""
        for id_ in line_of(run):
            journal = await self._store.journal(tenant, "request", id_)
            if journal is not None and (journal.state == "cancel" or journal.last_seq > since):
                (record,) = (await self._store.records_at(tenant, [journal.last_seq])).values()
                return Request(asked="cancel" if journal.state == "cancel" else "pause", by=record.body["by"])
        return None


def line_of(run: str) -> list[str]:
    """A run and those that handed it its work, nearest first: their ids are the beginnings of its own."""
    parts = run.split(".")
    return [".".join(parts[:count]) for count in range(len(parts), 0, -1)]
