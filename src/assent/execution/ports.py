"""What execution needs from outside itself: lanes for orders, targets for lanes, a place for large outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from assent.execution.attestations import ConfinementClass
from assent.execution.grants import GrantBody
from assent.execution.guests import Guest, Standing, Ticket
from assent.execution.orders import Order
from assent.execution.outcomes import Outcome, StreamEvent
from assent.execution.secrets import Secret
from assent.execution.steering import Capabilities, Word
from assent.execution.targets import Descriptor
from assent.primitives.digests import Digest
from assent.primitives.ids import GrantId, TenantId

OnEvent = Callable[[StreamEvent], None]


class Steering(Protocol):
    """The asker's side of a running order: what it says to it, and how much of its output it takes.

    Output is given credit: a lane hands up a piece only while `has_room()`, and stops reading its source until `room()`
    returns. So a slow asker slows the program, and nothing piles up between them.
    """

    async def word(self) -> Word:
        """The next word. Waits for ever when none comes; a lane waits for it beside its work."""
        ...

    def has_room(self) -> bool:
        """Whether a piece of output may be handed up now."""
        ...

    async def room(self) -> None:
        """Wait until a piece may be handed up."""
        ...


class Lane(Protocol):
    """A way to carry orders of one kind: plan, prepare, attest, go, stream, evidence.

    In that order: it checks the order whole before it touches anything (`order_malformed`), builds what is needed
    while nothing of the order runs, reads what is true of what it built, and refuses (FAILED, `confinement_unmet`)
    unless that meets the floor. Only then does it go. What comes is handed up in bounded pieces under the steering's
    credit, and the outcome carries the evidence. A lane never raises for what the world does: every ending is an
    `Outcome`.

    When it is cancelled (`asyncio.CancelledError`) it stops the work and leaves no survivor; it lets the cancellation
    through only when the stop is certain, and otherwise returns the outcome as it is (UNKNOWN when the effect may have
    happened).
    """

    name: str
    capabilities: Capabilities

    async def carry(
        self, order: Order, *, floor: ConfinementClass, on_event: OnEvent, steering: Steering | None = None
    ) -> Outcome:
        """Carry one order to its end. `on_event` is called on the event loop with bounded pieces of output.

        Without `steering` nothing is said to it and its output is taken as fast as it comes.
        """
        ...

    async def close(self) -> None:
        """Release what the lane holds. Idempotent."""
        ...


class Target(Protocol):
    """Where lanes run: this machine, another one by SSH, or a guest node."""

    name: str

    async def describe(self, *, fresh: bool = False) -> Descriptor:
        """What it can be trusted with now, found out by trying; `fresh` asks again instead of remembering.

        Never raises for what the world does: a target that cannot be reached offers nothing, and says why.
        """
        ...

    def lane(self, order: Order, *, under: GrantBody | None = None) -> Lane | None:
        """The lane that carries `order` there, or None; a lane that hands orders on needs the grant it is `under`."""
        ...

    def lanes(self) -> Mapping[str, Lane]:
        """Every lane there, by name."""
        ...

    async def close(self) -> None:
        """Close every lane. Idempotent."""
        ...


class Artefact(Protocol):
    """One large output on its way to where it is kept."""

    def write(self, data: bytes) -> None:
        """Add a piece. Raises OSError when there is no room; what was written so far is dropped with `abandon`."""
        ...

    def keep(self) -> tuple[Digest, int]:
        """Make it durable under its digest; the digest and the size in bytes."""
        ...

    def abandon(self) -> None:
        """Drop it. Idempotent, and harmless after `keep`."""
        ...


class Artefacts(Protocol):
    """Where large outputs are kept, by their content."""

    def begin(self) -> Artefact:
        """Start one. Raises OSError when it cannot be written."""
        ...


class Secrets(Protocol):
    """Knows what handles name."""

    def reveal(self, handle: str) -> Secret:
        """The secret behind a handle, read now.

        Raises:
            NotFound: `credential_missing`: there is none.
            Refused: `credential_open`: others may read it.
            Malformed: `credential_unusable`: it cannot stand in a header.
        """
        ...


class GuestBook(Protocol):
    """Which guests there are, and the tickets on their way to them: rows in the database, compared on its clock.

    Every method raises Unavailable when the database cannot be used.
    """

    async def guest(self, name: str) -> Guest | None:
        """The guest called `name`, or None."""
        ...

    async def admit(self, *, name: str, secret: str, key: str) -> bool:
        """Let a newcomer in whose one-time secret has this digest; whether it was good. It is used up by that."""
        ...

    async def arrive(
        self, *, name: str, key: str, offers: bytes, signature: bytes, lanes: tuple[str, ...], ttl_ms: int
    ) -> int:
        """Give the guest a new fence and a lease, and lose what it had under the old ones. 0: it is not a guest."""
        ...

    async def beat(self, *, name: str, fence: int, ttl_ms: int) -> bool:
        """Renew the lease; whether it was still held. A lease that has lapsed is never renewed."""
        ...

    async def describe(self, *, name: str, fence: int, offers: bytes, signature: bytes) -> None:
        """Keep what the guest that has this fence found out about itself anew."""
        ...

    async def leave(self, *, name: str, fence: int) -> None:
        """End the lease, and lose what the guest had under it."""
        ...

    async def write(self, ticket: Ticket, *, data: bytes, signature: bytes) -> None:
        """Put a ticket where its guest may claim it. Raises InvariantBroken when its id was there before."""
        ...

    async def waiting(self, name: str, *, limit: int) -> list[tuple[TenantId, GrantId]]:
        """Tickets that wait for this guest, oldest first."""
        ...

    async def claim(self, tenant: TenantId, ticket: GrantId, *, guest: str, fence: int) -> tuple[bytes, bytes] | None:
        """The ticket and its signature for the one whose claim wins; None for every other.

        It wins when the guest still has its lease under `fence`, the asker has its own, and nobody claimed the ticket,
        withdrew it or let it expire.
        """
        ...

    async def end(
        self, tenant: TenantId, ticket: GrantId, *, guest: str, fence: int, outcome: bytes, signature: bytes
    ) -> bool | None:
        """Record how a claimed ticket ended: True. False: it came late, is kept beside the ticket and changes nothing.
        None: nothing new, or no such ticket."""
        ...

    async def standing(self, tenant: TenantId, ticket: GrantId) -> Standing | None:
        """How a ticket stands, or None when there is none."""
        ...

    async def forsake(self, tenant: TenantId, ticket: GrantId) -> Standing:
        """Wait no longer: what was not claimed is withdrawn, what has not ended is lost. How it stands then."""
        ...
