"""Standing in: a person names another who answers reviews in their place, for a while."""

from __future__ import annotations

import msgspec

from assent.ledger.commands import WriteNotes
from assent.ledger.entries import SALT_BYTES
from assent.ledger.journals import note
from assent.ledger.ports import LedgerStore
from assent.ledger.reviews import check_reason, is_among, is_person
from assent.primitives.clock import Clock, Entropy
from assent.primitives.errors import Conflict, Malformed, Refused
from assent.primitives.ids import TenantId
from assent.primitives.leases import Fence

STANDING, ENDED = "standing", "ended"
PLACES_MAX = 1_000
LONGEST_MS = 90 * 86_400_000


class StandIn(msgspec.Struct, frozen=True, kw_only=True):
    """`by` answers in the place of `of`, until then."""

    of: str
    by: str
    until_ms: int


class StandIns:
    """Who stands in for whom, among this node's tenants. Every dependency is given.

    It stands in a journal of the person whose place it is, so it is in the log. Who stands in has the say that the
    other's roles give, in this place only: they cannot pass it on, and it counts once for both.
    """

    def __init__(self, *, store: LedgerStore, fence: Fence, clock: Clock, entropy: Entropy) -> None:
        self._store = store
        self._fence = fence
        self._clock = clock
        self._entropy = entropy

    async def name(self, tenant: TenantId, *, of: str, by: str, until_ms: int, reason: str) -> StandIn:
        """Let `by` answer in the place of `of`. Who stood in before does no longer.

        Raises:
            Malformed: `reason_malformed`, `stand_in_too_long`.
            Refused: `not_a_person`.
        """
        left = until_ms - self._clock.now_ms()
        if not 0 < left <= LONGEST_MS:
            days = LONGEST_MS // 86_400_000
            raise Malformed("stand_in_too_long", f"somebody stands in from now on, for {days} days at most")
        if not is_person(by) or is_among(by, (of,)):
            raise Refused(
                "not_a_person", f"`{by[:80]}` cannot stand in for `{of}`", hint="name another person, as `person:NAME`"
            )
        await self._write(tenant, of, STANDING, {"by": of, "to": by, "until": until_ms}, reason)
        return StandIn(of=of, by=by, until_ms=until_ms)

    async def end(self, tenant: TenantId, *, of: str, reason: str) -> None:
        """Let nobody answer in the place of `of` any more.

        Raises:
            Conflict: `stand_in_absent`: nobody does.
        """
        if not any(one.of == of for one in await self.standing(tenant)):
            raise Conflict("stand_in_absent", f"nobody stands in for `{of}`", hint="see `assent stand-in`")
        await self._write(tenant, of, ENDED, {"by": of}, reason)

    async def standing(self, tenant: TenantId) -> list[StandIn]:
        """Everybody who stands in now, those who were named first at the front."""
        found = await self._store.journals(tenant, "stand_in", states=(STANDING,), limit=PLACES_MAX)
        records = await self._store.records_at(tenant, [one.last_seq for one in found])
        now_ms = self._clock.now_ms()
        said = [
            StandIn(of=one.id, by=body["to"], until_ms=body["until"])
            for one in found
            if (body := records[one.last_seq].body)
        ]
        return [one for one in said if one.until_ms > now_ms]

    async def _write(self, tenant: TenantId, of: str, state: str, body: dict[str, object], reason: str) -> None:
        check_reason(reason)
        if not is_person(of):
            raise Refused("not_a_person", f"`{of[:80]}` has no place to be taken: only people answer reviews")
        journal = await self._store.journal(tenant, "stand_in", of)
        written = note(
            kind="stand_in",
            id_=of,
            before=journal.last_seq if journal else -1,
            state=state,
            owned=False,
            type_="stand_in.named" if state == STANDING else "stand_in.ended",
            body=body,
            salt=self._entropy(SALT_BYTES),
            payload=reason.encode(),
            name=of,
        )
        await self._store.apply(WriteNotes(tenant=tenant, fence=self._fence, notes=(written,)))
