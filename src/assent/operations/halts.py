"""Halts: stopping an agent, a connector or everything at once, and letting it go on. Only people do either."""

from __future__ import annotations

import msgspec

from assent.ledger.commands import WriteNotes
from assent.ledger.entries import SALT_BYTES
from assent.ledger.halts import HALTED, LIFTED, REASON_CHARACTERS_MAX, check_scope, halt_note
from assent.ledger.ports import LedgerStore
from assent.ledger.reviews import check_reason, is_person
from assent.primitives.clock import Entropy
from assent.primitives.errors import Conflict, Refused
from assent.primitives.ids import TenantId
from assent.primitives.leases import Fence

HALTS_MAX = 1_000


class Halt(msgspec.Struct, frozen=True, kw_only=True):
    """What is halted: by whom, since when, and why (empty once that is erased)."""

    scope: str
    by: str
    reason: str
    since_ms: int


class Halts:
    """The halts of this node's tenants. Every dependency is given."""

    def __init__(self, *, store: LedgerStore, fence: Fence, entropy: Entropy) -> None:
        self._store = store
        self._fence = fence
        self._entropy = entropy

    async def halt(self, tenant: TenantId, scope: str, *, by: str, reason: str) -> Halt:
        """Let nothing of `scope` be dispatched any more, from the next dispatch on, on every node.

        Raises:
            Malformed: `scope_malformed`, `reason_malformed`.
            Refused: `not_a_person`.
            Conflict: `halt_stands`: it is halted already.
        """
        return await self._write(tenant, scope, HALTED, by=by, reason=reason)

    async def lift(self, tenant: TenantId, scope: str, *, by: str, reason: str) -> Halt:
        """Let it go on.

        Raises:
            Malformed: `scope_malformed`, `reason_malformed`.
            Refused: `not_a_person`.
            Conflict: `halt_absent`: it is not halted.
        """
        return await self._write(tenant, scope, LIFTED, by=by, reason=reason)

    async def standing(self, tenant: TenantId) -> list[Halt]:
        """Everything that is halted, oldest first."""
        found = await self._store.journals(tenant, "halt", states=(HALTED,), limit=HALTS_MAX)
        records = await self._store.records_at(tenant, [one.last_seq for one in found])
        return [
            Halt(
                scope=one.id, by=records[one.last_seq].body["by"],
                reason=(records[one.last_seq].payload or b"").decode(errors="replace"), since_ms=one.updated_at_ms,
            )
            for one in found
        ]  # fmt: skip

    async def _write(self, tenant: TenantId, scope: str, state: str, *, by: str, reason: str) -> Halt:
        check_scope(scope)
        check_reason(reason)
        if not is_person(by):
            raise Refused("not_a_person", f"`{by}` may not do that: only people halt and lift")
        journal = await self._store.journal(tenant, "halt", scope)
        if (journal.state if journal else LIFTED) == state:
            if state == HALTED:
                raise Conflict("halt_stands", f"`{scope}` is halted already", hint="see `assent halts`")
            raise Conflict("halt_absent", f"`{scope}` is not halted", hint="see `assent halts`")
        told = reason[:REASON_CHARACTERS_MAX]
        note = halt_note(journal, scope, state=state, by=by, reason=told, salt=self._entropy(SALT_BYTES))
        await self._store.apply(WriteNotes(tenant=tenant, fence=self._fence, notes=(note,)))
        written = await self._store.journal(tenant, "halt", scope)
        assert written is not None, "it was just written"
        return Halt(scope=scope, by=by, reason=told, since_ms=written.updated_at_ms)
