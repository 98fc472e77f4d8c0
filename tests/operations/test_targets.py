"""Targets: asked only when there is a choice, and only those that could carry the order."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from assent.execution.attestations import Attestation, ConfinementClass, Known, Property
from assent.execution.grants import GrantBody
from assent.execution.obligations import Obligations
from assent.execution.orders import FileOrder, HttpOrder, Order, ProcessOrder, PythonOrder
from assent.execution.ports import Lane
from assent.execution.targets import Descriptor, Offer
from assent.operations.targets import Targets
from assent.testing.clocks import SetClock
from assent.testing.lanes import ScriptedLane

RUN = ProcessOrder(argv=("true",), workspace="/w")
REMOTE = Attestation(mechanism="x", properties={"host": Property(value="x", known=Known.ASSERTED)})
ANYWHERE = Obligations(floor=ConfinementClass.LOCAL_WEAK, accept=(ConfinementClass.REMOTE_ASSERTED,))


class CountedTarget:
    """A target that counts how often it is asked what it is."""

    def __init__(self, name: str, clock: SetClock, *kinds: type) -> None:
        self.name, self.asked = name, 0
        self._lanes = {kind: ScriptedLane(kind.__name__, clock=clock) for kind in kinds}
        self._clock = clock

    async def describe(self, *, fresh: bool = False) -> Descriptor:
        self.asked += 1
        offers = (Offer(mechanism="x", works=True, attestation=REMOTE),)
        return Descriptor(name=self.name, kind="ssh", offers=offers, expires_at_ms=self._clock.now_ms() + 1)

    def lane(self, order: Order, *, under: GrantBody | None = None) -> Lane | None:
        return self._lanes.get(type(order))

    def lanes(self) -> Mapping[str, Lane]:
        return {lane.name: lane for lane in self._lanes.values()}

    async def close(self) -> None: ...


def test_nothing_is_asked_of_any_target_when_there_is_nothing_to_choose():
    clock = SetClock()
    local, far = CountedTarget("local", clock, ProcessOrder), CountedTarget("far", clock, ProcessOrder)
    targets = Targets(targets=[local, far], clock=clock)
    harmless = (FileOrder(verb="read", workspace="/w", path="a"), HttpOrder(method="GET", url="http://a/", hosts=()))
    for order, obligations in ((RUN, Obligations()), *((order, ANYWHERE) for order in harmless)):
        placement, rungs = asyncio.run(targets.place(order, obligations, asked=""))
        assert placement is not None
        assert (placement.target, rungs) == ("local", ())
    assert (local.asked, far.asked) == (0, 0)


def test_target_without_a_lane_for_the_order_is_passed_over_with_that_reason():
    clock = SetClock()
    far, farther = CountedTarget("far", clock, HttpOrder), CountedTarget("farther", clock, ProcessOrder)
    targets = Targets(targets=[far, farther], clock=clock)
    placement, rungs = asyncio.run(targets.place(RUN, ANYWHERE, asked=""))
    assert placement is not None
    assert placement.target == "farther"
    assert rungs[0].reason == "it has no lane for process orders"
    assert far.asked == 0
    placement, rungs = asyncio.run(targets.place(PythonOrder(source="1", workspace="/w"), ANYWHERE, asked="far"))
    assert placement is None
    assert [rung.reason for rung in rungs] == ["it has no lane for python orders"]
