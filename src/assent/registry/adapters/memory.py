"""The registry in memory: for one process, and as fast as it gets."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from itertools import islice

from msgspec.structs import replace

from assent.primitives.errors import Conflict, Unavailable
from assent.primitives.ids import TenantId
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
from assent.registry.shelves import Shelf
from assent.registry.watching import POLL_S, Bell, watched

Holds = Callable[[Fence], bool]


class MemoryRegistry:
    """Entries in dictionaries (`registry.ports.Registry`). `holds` says whether a node's lease still does."""

    def __init__(
        self, *, schema: Schema, holds: Holds, revisions_kept: int = REVISIONS_KEPT, poll_s: float = POLL_S
    ) -> None:
        self._poll_s = poll_s
        self._schema = schema
        self._holds = holds
        self._kept = revisions_kept
        self._shelves: dict[TenantId, Shelf] = {}
        self._empty = Shelf(schema.keys)
        self._bell = Bell()

    async def put(self, entries: Sequence[Entry], *, fence: Fence) -> int:
        self._must_hold(fence)
        check_batch(entries)
        checked = [self._schema.check(entry) for entry in entries]
        shelf = self._shelf(entries[0].tenant)
        for entry in checked:
            self._must_be_free(shelf, entry.id, fence)
        for entry in checked:
            shelf.put(replace(entry, owner=fence, revision=shelf.revision + 1))
        return self._written(entries[0].tenant, shelf)

    async def drop(self, tenant: TenantId, ids: Sequence[str], *, fence: Fence) -> int:
        check_many(len(ids), most=BATCH_MAX)
        self._must_hold(fence)
        shelf = self._shelf(tenant)
        there = [id_ for id_ in dict.fromkeys(ids) if shelf.get(id_) is not None]
        for id_ in there:
            self._must_be_free(shelf, id_, fence)
        for id_ in there:
            shelf.drop(id_, revision=shelf.revision + 1)
        return self._written(tenant, shelf)

    async def sweep(self, tenant: TenantId, *, limit: int, fence: Fence) -> int:
        check_many(limit, most=BATCH_MAX)
        self._must_hold(fence)
        shelf = self._shelf(tenant)
        dead = (id_ for owner in shelf.owners if not self._holds(owner) for id_ in shelf.owned(owner))
        ids = list(islice(dead, limit))
        for id_ in ids:
            shelf.drop(id_, revision=shelf.revision + 1)
        self._written(tenant, shelf)
        return len(ids)

    async def get(self, tenant: TenantId, id_: str) -> Entry | None:
        found = self._read(tenant).get(id_)
        return found if found is not None and self._holds(found.owner) else None

    async def find(self, tenant: TenantId, query: Query) -> list[Entry]:
        return self.find_now(tenant, query)

    def find_now(self, tenant: TenantId, query: Query) -> list[Entry]:
        """As `find`, for those who cannot wait."""
        query = self._schema.check_query(query)
        return self._read(tenant).find(query, query_keys(query), self._holds)

    async def revision(self, tenant: TenantId) -> int:
        return self._read(tenant).revision

    async def changes(self, tenant: TenantId, *, after: int, limit: int) -> list[Change]:
        check_many(limit, most=FOUND_MAX)
        shelf = self._read(tenant)
        check_seen(after, floor=shelf.floor, revision=shelf.revision)
        return [
            one if one.entry is None or self._holds(one.entry.owner) else replace(one, entry=None)
            for one in shelf.changes(after, limit)
        ]

    def watch(self, tenant: TenantId, *, after: int) -> AsyncGenerator[Change]:
        return watched(self.changes, self._bell, tenant, after=after, poll_s=self._poll_s)

    def _read(self, tenant: TenantId) -> Shelf:
        return self._shelves.get(tenant, self._empty)

    def _shelf(self, tenant: TenantId) -> Shelf:
        shelf = self._shelves.get(tenant)
        if shelf is None:
            shelf = self._shelves[tenant] = Shelf(self._schema.keys)
        return shelf

    def _written(self, tenant: TenantId, shelf: Shelf) -> int:
        shelf.forget(shelf.revision - self._kept)
        self._bell.ring(tenant)
        return shelf.revision

    def _must_hold(self, fence: Fence) -> None:
        if not self._holds(fence):
            raise Unavailable("lease_lost", "this node's lease lapsed or was taken", hint="start again")

    def _must_be_free(self, shelf: Shelf, id_: str, fence: Fence) -> None:
        there = shelf.get(id_)
        if there is not None and there.owner != fence and self._holds(there.owner):
            raise Conflict("entry_held", f"`{id_}` belongs to another node", hint="wait until it is gone")
