"""Entries of agents, what is declared about their fields, and how they are asked for. Pure values.

An entry belongs to a node for as long as that node's lease holds: when the lease is over nobody finds it any more, and
nobody has to clear it away for that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from assent.primitives.errors import Conflict, Malformed
from assent.primitives.ids import TenantId
from assent.primitives.leases import Fence
from assent.registry.fields import Field, Value, asked_fault, exact, field_faults, field_keys, text_fault, value_fits

CAPABILITIES_MAX = 32
FOUND_MAX = 10_000
BATCH_MAX = 1_000
REVISIONS_KEPT = 100_000
"""For how many changes of a tenant what is gone is told of as gone."""
KEYS_ASKED_MAX = 64
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,126}[a-z0-9])?\Z")


class Health(StrEnum):
    """How an agent is."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One agent. `owner` is the node that answers for it; `revision` counts changes of the tenant's registry."""

    tenant: TenantId
    id: str
    owner: Fence
    capabilities: tuple[str, ...] = ()
    health: Health = Health.HEALTHY
    fields: dict[str, Value] = {}
    revision: int = 0


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked for: entries with all of these. Nothing given asks for every one; `after` is the id that the page
    before ended with."""

    capabilities: tuple[str, ...] = ()
    health: Health | None = None
    fields: dict[str, Value] = {}
    after: str = ""
    limit: int = 100


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One change: the entry as it is since, or None when it is gone."""

    revision: int
    id: str
    entry: Entry | None


class Schema:
    """What is declared about the fields of entries."""

    def __init__(self, fields: tuple[Field, ...] = ()) -> None:
        self.fields = {field.name: field for field in fields}
        self.indexed = frozenset(field.name for field in fields if field.indexed)
        self._has_numbers = any(field.kind == "number" for field in fields)

    def check(self, entry: Entry) -> Entry:
        """Return the entry when nothing is wrong with it, with every number as the float it is.

        Raises:
            Malformed: `entry_malformed`, with everything that is wrong.
        """
        named = _NAME.match(entry.id)
        faults = [] if named else ["the id holds something else than lower-case letters, digits and `._-`"]
        faults += capability_faults(entry.capabilities) + field_faults(entry.fields, self.fields)
        if faults:
            raise Malformed("entry_malformed", f"the entry `{entry.id[:80]!a}` is not well-formed: {'; '.join(faults)}")
        return replace(entry, fields=exact(entry.fields, self.fields)) if self._has_numbers else entry

    def check_query(self, query: Query) -> Query:
        """Return the query when it can be answered through indexes, with every number as the float it is.

        Raises:
            Malformed: `query_malformed`: it asks for a field without an index, for what no entry can have, by more than
                `KEYS_ASKED_MAX` things, or for more than `FOUND_MAX` entries.
        """
        for name, value in query.fields.items():
            if name not in self.indexed:
                known = ", ".join(sorted(self.indexed)) or "none"
                raise Malformed("query_malformed", f"`{name[:80]!a}` has no index; there are: {known}")
            if fault := asked_fault(value, self.fields[name]):
                raise Malformed("query_malformed", f"`{name}` {fault}")
        if any(map(text_fault, (query.after, *query.capabilities, *_texts(query.fields)))):
            raise Malformed("query_malformed", "what is asked for is no text that an entry can have")
        if len(query_keys(query)) > KEYS_ASKED_MAX:
            raise Malformed("query_malformed", f"at most {KEYS_ASKED_MAX} things are asked for at once")
        check_many(query.limit, most=FOUND_MAX)
        return replace(query, fields=exact(query.fields, self.fields)) if query.fields else query

    def keys(self, entry: Entry) -> list[str]:
        """What the entry is found by."""
        found = [capability_key(one) for one in entry.capabilities]
        found.append(health_key(entry.health))
        for name, value in entry.fields.items():
            if name in self.indexed:
                found += field_keys(name, value)
        return found


def capability_faults(capabilities: Sequence[str]) -> list[str]:
    """Everything that is wrong with the capabilities of one agent."""
    faults = [f"`{one[:80]!a}` is not a capability" for one in capabilities if not _NAME.match(one)]
    if len(set(capabilities)) < len(capabilities):
        faults.append("a capability stands twice")
    if len(capabilities) > CAPABILITIES_MAX:
        faults.append(f"there are more than {CAPABILITIES_MAX} capabilities")
    return faults


def capability_key(name: str) -> str:
    """What entries with a capability are found by."""
    return f"c:{name}"


def health_key(health: Health) -> str:
    """What entries of a health are found by."""
    return f"h:{health.value}"


def query_keys(query: Query) -> list[str]:
    """Everything an entry must be found by to be an answer."""
    keys = [capability_key(one) for one in query.capabilities]
    keys += [health_key(query.health)] if query.health is not None else []
    return keys + [key for name in sorted(query.fields) for key in field_keys(name, query.fields[name])]


def fits(entry: Entry, query: Query) -> bool:
    """Whether an entry has everything that is asked for."""
    return (
        (query.health is None or entry.health is query.health)
        and all(one in entry.capabilities for one in query.capabilities)
        and all(value_fits(entry.fields.get(name), value) for name, value in query.fields.items())
    )


def check_batch(entries: Sequence[Entry]) -> None:
    """Check that entries can be written together.

    Raises:
        Malformed: `entry_malformed`: they are none, too many, of several tenants, or one stands twice.
    """
    if not 0 < len(entries) <= BATCH_MAX:
        raise Malformed("entry_malformed", f"1 to {BATCH_MAX} entries are written at once, and not {len(entries)}")
    if len({entry.tenant for entry in entries}) > 1 or len({entry.id for entry in entries}) < len(entries):
        raise Malformed("entry_malformed", "entries that are written at once have one tenant, and ids that differ")


def check_many(count: int, *, most: int) -> None:
    """Check how many are asked for, or taken out, at once.

    Raises:
        Malformed: `query_malformed`.
    """
    if not 0 < count <= most:
        raise Malformed("query_malformed", f"1 to {most} are asked for, or taken out, at once, and not {count}")


def check_seen(after: int, *, floor: int, revision: int) -> None:
    """Check that everything that changed after a revision can be told.

    Raises:
        Conflict: `watch_lagged`: some of it is forgotten, or it is a revision of a registry that was another.
    """
    if not floor <= after <= revision:
        raise Conflict(
            "watch_lagged",
            f"not all that changed after revision {after} can be told: it can from {floor} to {revision}",
            hint="take the revision as it is now, find everything anew, and go on from that revision",
        )


def _texts(fields: Mapping[str, Value]) -> Iterator[str]:
    for value in fields.values():
        if isinstance(value, str | tuple):
            yield from value if isinstance(value, tuple) else (value,)
