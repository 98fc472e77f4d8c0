"""Targets: verified before anything is placed on them, and chosen by what was found.

Whoever asks chooses, and records every rung that was considered; a target only ever carries or refuses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from assent.execution.obligations import Obligations
from assent.execution.orders import Order, runs_code
from assent.execution.ports import Lane, Target
from assent.execution.targets import LOCAL, Descriptor
from assent.ledger.decisions import Placement, Rung
from assent.policy.placement import place
from assent.primitives.clock import Clock


class Targets:
    """The targets of one node."""

    def __init__(self, *, targets: Iterable[Target], clock: Clock) -> None:
        self._targets = {target.name: target for target in targets}
        self._clock = clock

    async def describe(self, *, fresh: bool = False, beyond: bool = False) -> tuple[Descriptor, ...]:
        """What each target was found to be, this machine first (not at all: `beyond`); `fresh` finds out anew."""
        asked = [one for one in self._targets.values() if not (beyond and one.name == LOCAL)]
        return tuple(await asyncio.gather(*(one.describe(fresh=fresh) for one in asked)))

    def lanes(self) -> dict[str, dict[str, Lane]]:
        """The lanes of each target, by name."""
        return {name: dict(target.lanes()) for name, target in self._targets.items()}

    async def place(
        self, order: Order, obligations: Obligations, *, asked: str
    ) -> tuple[Placement | None, tuple[Rung, ...]]:
        """Where `order` runs, or None and why; see `assent.policy.placement`.

        Nothing is asked of a target when there is nothing to choose: the lane here reads its own sandbox in each run.
        """
        here = asked in ("", LOCAL)
        if here and (obligations.accept is None or not runs_code(order)):
            return Placement(target=LOCAL, floor=obligations.floor), ()
        asked_of = [one for one in self._targets.values() if asked in ("", one.name)]
        found = await asyncio.gather(*(_described(one, order) for one in asked_of))
        return place(obligations, asked=asked, targets=found, now_ms=self._clock.now_ms())


async def _described(target: Target, order: Order) -> Descriptor:
    """What `target` was found to be; one without a lane for `order` need not be asked."""
    if target.lane(order) is None:
        kind = type(order).__name__.removesuffix("Order").lower()
        return Descriptor(name=target.name, kind="local", reason=f"it has no lane for {kind} orders")
    return await target.describe()
