"""What the registry needs from outside itself: a place for entries."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from assent.primitives.ids import TenantId
from assent.primitives.leases import Fence
from assent.registry.agents import Change, Entry, Query


class Registry(Protocol):
    """Entries of agents. What belongs to another tenant, or to a node whose lease is over, is not there.

    Raises, from every method:
        Unavailable: the database cannot be used.
    """

    async def put(self, entries: Sequence[Entry], *, fence: Fence) -> int:
        """Write entries, all or none; each is found by what it says now and by nothing it said before. The revision.

        Raises:
            Malformed: `entry_malformed`: one is not what the schema says; nothing was written.
            Conflict: `entry_held`: one belongs to another node whose lease holds; nothing was written.
            Unavailable: `lease_lost`: the writer's own lease is over; nothing was written.
        """
        ...

    async def drop(self, tenant: TenantId, ids: Sequence[str], *, fence: Fence) -> int:
        """Take entries of this node out; one that is not there is no fault. The revision.

        Raises as `put`, and Malformed: `query_malformed`: they are none, or more than `BATCH_MAX`.
        """
        ...

    async def get(self, tenant: TenantId, id_: str) -> Entry | None:
        """One entry, or None."""
        ...

    async def find(self, tenant: TenantId, query: Query) -> list[Entry]:
        """The entries that fit, by id. Takes time in what fits the rarest thing asked for, not in how many there are.

        Raises:
            Malformed: `query_malformed`.
        """
        ...

    async def sweep(self, tenant: TenantId, *, limit: int, fence: Fence) -> int:
        """Take out entries of nodes whose lease is over, at most `limit`; how many were. Each is a change.

        Raises:
            Malformed: `query_malformed`: `limit` is not 1 to `BATCH_MAX`.
            Unavailable: `lease_lost`: the sweeper's own lease is over; nothing was taken out.
        """
        ...

    async def revision(self, tenant: TenantId) -> int:
        """The revision of the last change; 0 when there was none. Who takes it, finds all entries and goes on with
        `changes` after it misses nothing: what changed meanwhile is told again."""
        ...

    async def changes(self, tenant: TenantId, *, after: int, limit: int) -> list[Change]:
        """What changed after a revision, in order, the newest change of each entry alone.

        An entry whose node's lease is over is told as gone. The end of a lease is no change and has no revision; it
        becomes one when the entry is swept.

        Raises:
            Malformed: `query_malformed`: `limit` is not 1 to `FOUND_MAX`.
            Conflict: `watch_lagged`: something that is gone since is forgotten, or the registry was never at this
                revision; everything must be read anew.
        """
        ...

    def watch(self, tenant: TenantId, *, after: int) -> AsyncGenerator[Change]:
        """Every change after a revision, for ever, as `changes` tells them: what this process writes at once, what
        another writes after a while. Somebody slow holds up nobody, and is told when he is too far behind. Close it
        when it is no longer needed (`contextlib.aclosing`).

        Raises:
            Conflict: `watch_lagged`, as `changes`.
            Unavailable: `watchers_full`: too many watch.
        """
        ...
