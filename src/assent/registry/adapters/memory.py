"""The registry in memory: for one process, and as fast as it gets."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Sequence

from msgspec.structs import replace

from assent.primitives.errors import Conflict, Unavailable
from assent.primitives.ids import TenantId
from assent.primitives.leases import Fence
from assent.registry.agents import Change, Entry, Query, Schema, check_batch, fits, query_keys

Holds = Callable[[Fence], bool]


class MemoryRegistry:
    """Entries in dictionaries (`registry.ports.Registry`). `holds` says whether a node's lease still does."""

    def __init__(self, *, schema: Schema, holds: Holds) -> None:
        self._schema = schema
        self._holds = holds
        self._entries: dict[tuple[TenantId, str], Entry] = {}
        self._by: dict[tuple[TenantId, str], list[str]] = {}
        self._ids: dict[TenantId, list[str]] = {}
        self._gone: dict[tuple[TenantId, str], int] = {}
        self._revisions: dict[TenantId, int] = {}

    async def put(self, entries: Sequence[Entry], *, fence: Fence) -> int:
        self._must_hold(fence)
        check_batch(entries)
        for entry in entries:
            self._schema.check(entry)
            self._must_be_free(entry.tenant, entry.id, fence)
        revision = 0
        for entry in entries:
            revision = self._next(entry.tenant)
            self._take_out(entry.tenant, entry.id)
            self._write(replace(entry, owner=fence, revision=revision))
        return revision

    async def drop(self, tenant: TenantId, ids: Sequence[str], *, fence: Fence) -> int:
        self._must_hold(fence)
        there = [id_ for id_ in dict.fromkeys(ids) if (tenant, id_) in self._entries]
        for id_ in there:
            self._must_be_free(tenant, id_, fence)
        for id_ in there:
            self._take_out(tenant, id_)
            self._gone[tenant, id_] = self._next(tenant)
        return self._revisions.get(tenant, 0)

    async def get(self, tenant: TenantId, id_: str) -> Entry | None:
        found = self._entries.get((tenant, id_))
        return found if found is not None and self._holds(found.owner) else None

    async def find(self, tenant: TenantId, query: Query) -> list[Entry]:
        return self.find_now(tenant, query)

    def find_now(self, tenant: TenantId, query: Query) -> list[Entry]:
        """As `find`, for those who cannot wait."""
        self._schema.check_query(query)
        lists = [self._by.get((tenant, key), []) for key in query_keys(query)]
        ids = min(lists, key=len) if lists else self._ids.get(tenant, [])
        found: list[Entry] = []
        for place in range(bisect_right(ids, query.after) if query.after else 0, len(ids)):
            entry = self._entries[tenant, ids[place]]
            if fits(entry, query) and self._holds(entry.owner):
                found.append(entry)
                if len(found) == query.limit:
                    break
        return found

    async def changes(self, tenant: TenantId, *, after: int, limit: int) -> list[Change]:
        there = [one for (of, _), one in self._entries.items() if of == tenant and one.revision > after]
        found = [
            Change(revision=one.revision, id=one.id, entry=one if self._holds(one.owner) else None) for one in there
        ]
        found += [
            Change(revision=revision, id=id_, entry=None)
            for (of, id_), revision in self._gone.items()
            if of == tenant and revision > after
        ]
        return sorted(found, key=lambda change: change.revision)[:limit]

    def _write(self, entry: Entry) -> None:
        place = (entry.tenant, entry.id)
        self._entries[place] = entry
        self._gone.pop(place, None)
        insort(self._ids.setdefault(entry.tenant, []), entry.id)
        for key in self._schema.keys(entry):
            insort(self._by.setdefault((entry.tenant, key), []), entry.id)

    def _take_out(self, tenant: TenantId, id_: str) -> None:
        entry = self._entries.pop((tenant, id_), None)
        if entry is None:
            return
        _remove(self._ids[tenant], id_)
        for key in self._schema.keys(entry):
            same = self._by[tenant, key]
            _remove(same, id_)
            if not same:
                del self._by[tenant, key]

    def _next(self, tenant: TenantId) -> int:
        self._revisions[tenant] = self._revisions.get(tenant, 0) + 1
        return self._revisions[tenant]

    def _must_hold(self, fence: Fence) -> None:
        if not self._holds(fence):
            raise Unavailable("lease_lost", "this node's lease lapsed or was taken", hint="start again")

    def _must_be_free(self, tenant: TenantId, id_: str, fence: Fence) -> None:
        there = self._entries.get((tenant, id_))
        if there is not None and there.owner != fence and self._holds(there.owner):
            raise Conflict("entry_held", f"`{id_}` belongs to another node", hint="wait until it is gone")


def _remove(ids: list[str], id_: str) -> None:
    del ids[bisect_right(ids, id_) - 1]
