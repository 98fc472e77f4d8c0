"""What execution needs from outside itself: lanes for orders, targets for lanes, a place for large outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from assent.execution.attestations import ConfinementClass
from assent.execution.orders import Order
from assent.execution.outcomes import Outcome, StreamEvent
from assent.execution.steering import Capabilities, Word
from assent.execution.targets import Descriptor
from assent.primitives.digests import Digest

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

    def lane(self, order: Order) -> Lane | None:
        """The lane that carries `order` there, or None."""
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
