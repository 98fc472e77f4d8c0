"""The one door to the outside: verify the grant, hand the order to its lane. Only the ledger may come here."""

from __future__ import annotations

from collections.abc import Iterable

from assent.execution.grants import Grant, GrantGate
from assent.execution.obligations import breach
from assent.execution.orders import Order, order_digest
from assent.execution.outcomes import Outcome
from assent.execution.ports import OnEvent, Steering, Target
from assent.primitives.clock import Clock
from assent.primitives.errors import InvariantBroken, Refused


class Executor:
    """Carries granted orders on the targets it was given: exactly on the one the grant names, and never on another."""

    def __init__(self, *, targets: Iterable[Target], gate: GrantGate, clock: Clock) -> None:
        self._targets = {target.name: target for target in targets}
        self._gate = gate
        self._clock = clock

    async def carry(
        self, *, grant: Grant, order: Order, on_event: OnEvent, steering: Steering | None = None
    ) -> Outcome:
        """Carry `order` under `grant` and say how it ended.

        Raises:
            Refused: the grant is not genuine, fresh, unused and for this order, the order breaks an obligation, or the
                target is not there or has no lane for it. Nothing was started.
            InvariantBroken: the lane raised a refusal, which no lane may: whatever it did may have happened.
        """
        body = self._gate.admit(grant, order=order_digest(order), now_ms=self._clock.now_ms())
        broken = breach(order, body.obligations)
        if broken:
            raise Refused("obligation_breached", f"the order goes beyond the granted `{broken}`")
        target = self._targets.get(body.target)
        if target is None:
            raise Refused("target_missing", f"there is no target `{body.target}` here")
        lane = target.lane(order, under=body)
        if lane is None:
            raise Refused("lane_missing", f"no lane of `{body.target}` carries a `{type(order).__name__}`")
        try:
            return await lane.carry(order, floor=body.obligations.floor, on_event=on_event, steering=steering)
        except Refused as fault:  # a lane must not raise; taken for our own refusal it would hide what was done
            raise InvariantBroken("lane_broken", f"the `{lane.name}` lane raised `{fault.code}`") from fault

    async def close(self) -> None:
        """Close every target."""
        for target in self._targets.values():
            await target.close()
