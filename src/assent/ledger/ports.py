"""What the ledger needs from outside itself."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, Protocol

from assent.ledger.budgets import Budget
from assent.ledger.commands import Command
from assent.ledger.effects import Effect, EffectState
from assent.ledger.entries import Entry
from assent.ledger.journals import Journal, JournalKind
from assent.ledger.rates import Count
from assent.ledger.reviews import Review, ReviewState
from assent.primitives.digests import Digest
from assent.primitives.ids import EffectId, ReviewId, TenantId
from assent.primitives.leases import Lease


class Record(Entry, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An entry with the payload it commits to (None: it has none, or it was erased)."""

    payload: bytes | None


class ActivePolicy(NamedTuple):
    """The policy in force; `number` counts activations, `signatures` are lines of `policy_signatures`."""

    revision: Digest
    number: int
    text: str
    signatures: tuple[str, ...] = ()


class LedgerStore(Protocol):
    """Durable rows. What belongs to a tenant is asked for by tenant; a foreign id answers as an absent one does.

    Raises, from every method:
        Unavailable: the database is locked, full, read-only, damaged or closed. Nothing was half-written.
    """

    async def apply(self, command: Command) -> Any:  # noqa: ANN401 (each command names its result)
        """Apply one command durably. What each command results in stands in `commands`.

        Commands of one caller take effect in the order in which they were asked for. A caller that is cancelled while
        it waits has still asked: its command takes effect, or not, as if it were there to be told.

        Raises:
            Conflict: `key_conflict` (another intent has the key), `effect_moved`, `review_answered`, `policy_moved`,
                `journal_moved` (it stands elsewhere by now), `journal_held` (another node works on it),
                `journal_key_conflict` (its key stands there with other words).
            NotFound: the effect, the review or the stop is not there.
            Refused: `review_not_yours`, `review_expired`.
            Unavailable: `lease_lost`: this node's lease lapsed or was taken.
        """
        ...

    async def effect(self, tenant: TenantId, effect: EffectId) -> Effect | None:
        """One effect, or None."""
        ...

    async def effect_by_key(self, tenant: TenantId, key: str) -> Effect | None:
        """The effect that has the idempotency key, or None."""
        ...

    async def effects(
        self, tenant: TenantId, *, states: tuple[EffectState, ...] = (), run: str = "", limit: int
    ) -> list[Effect]:
        """Effects in the order they were accepted, oldest first; the newest `limit` of them."""
        ...

    async def review(self, tenant: TenantId, review: ReviewId) -> Review | None:
        """One review, or None."""
        ...

    async def reviews(self, tenant: TenantId, *, states: tuple[ReviewState, ...], limit: int) -> list[Review]:
        """Reviews in any of `states`, oldest first."""
        ...

    async def precedents(self, tenant: TenantId, operation: str, principal: str, *, limit: int) -> list[Review]:
        """Reviews that are over, of calls of `operation` that `principal` asked for, newest first."""
        ...

    async def history(self, tenant: TenantId, effect: Effect) -> list[Record]:
        """Every entry about one effect, oldest first."""
        ...

    async def histories(self, tenant: TenantId, run: str, *, limit: int) -> list[tuple[Effect, list[Record]]]:
        """A run's effects in the order they were accepted, the newest `limit` of them, each with its history."""
        ...

    async def budgets(self, tenant: TenantId, *, scope: str = "", stopped: bool = False, limit: int) -> list[Budget]:
        """What is gone of limits in the windows that run now on the database's clock, for scopes that begin with
        `scope`, or only where something was `stopped` that nobody dismissed; the newest `limit`, by scope, unit and
        window."""
        ...

    async def counted(self, tenant: TenantId, counts: Sequence[Count]) -> list[int]:
        """How much each of `counts` holds in the window that runs now on the database's clock: what is spent and what
        calls under way hold."""
        ...

    async def journal(self, tenant: TenantId, kind: JournalKind, id_: str) -> Journal | None:
        """One journal, or None."""
        ...

    async def journals(
        self,
        tenant: TenantId,
        kind: JournalKind,
        *,
        states: tuple[str, ...] = (),
        parent: str | None = None,
        before: int | None = None,
        limit: int,
    ) -> list[Journal]:
        """Journals in any of `states` (none: in every one) that belong to `parent` (None: whatever they belong to) and
        began before log position `before` (None: whenever), oldest first; the newest `limit` of them."""
        ...

    async def notes(self, tenant: TenantId, kind: JournalKind, id_: str) -> list[Record]:
        """Every entry of one journal, oldest first; none when there is no such journal."""
        ...

    async def contents(self, tenant: TenantId, digests: Collection[str]) -> dict[str, bytes]:
        """The pieces that are kept under these digests; one that is not there is left out."""
        ...

    async def records(self, tenant: TenantId, *, after: int, limit: int) -> list[Record]:
        """Entries with seq > `after`, in order."""
        ...

    async def records_at(self, tenant: TenantId, seqs: Collection[int]) -> dict[int, Record]:
        """The entries at these positions, by position; one that is not there is left out."""
        ...

    async def size(self, tenant: TenantId) -> int:
        """How many entries the tenant's log has."""
        ...

    async def names(self, tenant: TenantId, part: str, *, limit: int) -> list[str]:
        """Ids of effects and reviews, and names of runs, that contain `part`."""
        ...

    async def policy_revision(self, tenant: TenantId, revision: str) -> tuple[int, str] | None:
        """Number and text of a revision that is or was active; the last number, if it was activated more than once."""
        ...

    async def active_policy(self, tenant: TenantId) -> ActivePolicy | None:
        """The active policy."""
        ...

    async def leases(self) -> list[tuple[Lease, bool]]:
        """Every node's lease, and whether it has lapsed on the database's clock."""
        ...
