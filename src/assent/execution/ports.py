"""What execution needs from outside itself: a lane for each kind of order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from assent.execution.attestations import ConfinementClass
from assent.execution.orders import Order
from assent.execution.outcomes import Outcome, StreamEvent

OnEvent = Callable[[StreamEvent], None]


class Lane(Protocol):
    """A way to carry orders of one kind.

    A lane never raises for what the world does: every ending is an `Outcome`. It refuses (FAILED, code
    `confinement_unmet`) before anything starts when it cannot observe the floor for this run. When it is cancelled
    (`asyncio.CancelledError`) it stops the work and leaves no survivor; it lets the cancellation through only when the
    stop is certain, and otherwise returns the outcome as it is (UNKNOWN when the effect may have happened).
    """

    name: str

    async def carry(self, order: Order, *, floor: ConfinementClass, on_event: OnEvent) -> Outcome:
        """Carry one order to its end. `on_event` is called on the event loop with bounded pieces of output."""
        ...

    async def close(self) -> None:
        """Release what the lane holds. Idempotent."""
        ...
