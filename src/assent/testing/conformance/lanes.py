"""What every `Lane` must do. Subclass `LaneSuite`, implement `opened`, and pytest finds the rest.

    class TestMyLane(LaneSuite):
        @asynccontextmanager
        async def opened(self):
            lane = MyLane(...)
            yield LaneCase(lane=lane, good=..., foreign=..., malformed=..., endless=..., deeds=..., running=...)
            await lane.close()

The case says how this lane is made to succeed, to run for ever, to flood and to echo, and how to see from *outside*
what was begun (`deeds`) and what still runs (`running`). What a lane does not claim in its capabilities is not asked of
it; what it claims is.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import msgspec

from assent.execution.attestations import ConfinementClass
from assent.execution.orders import Limits, Order
from assent.execution.outcomes import Ending, Outcome, StreamEvent
from assent.execution.ports import Lane, OnEvent, Steering
from assent.execution.steering import EndInput, Input
from assent.primitives.errors import InvariantBroken
from assent.testing.steerings import HeldSteering

PIECE_BYTES_MAX = 131_072
HELD_BYTES_MAX = 1_048_576
PATIENCE_S = 60.0
_LOWEST = ConfinementClass.LOCAL_WEAK


class LaneCase(msgspec.Struct, frozen=True, kw_only=True):
    """One lane, and orders that bring out what it must do.

    `good` succeeds quickly; `foreign` is for another lane; `malformed` is one that no plan can be made of. `endless`
    gives some output and never ends; `flood` gives `flood_bytes` (more than `HELD_BYTES_MAX`) and then ends well;
    `echo` gives back every input and ends well with its end. `deeds` counts what was begun outside, `running` what is
    alive there. `unmet` is a floor that the lane cannot show here (None: it runs no foreign code and meets them all).
    """

    lane: Lane
    good: Order
    foreign: Order
    malformed: Order
    deeds: Callable[[], int]
    running: Callable[[], int]
    unmet: ConfinementClass | None = ConfinementClass.BUILTIN
    floor: ConfinementClass = _LOWEST
    endless: Order | None = None
    flood: Order | None = None
    flood_bytes: int = 0
    echo: Order | None = None


Body: TypeAlias = Callable[[LaneCase], Awaitable[None]]


class LaneSuite(ABC):
    """The whole suite."""

    @abstractmethod
    def opened(self) -> AbstractAsyncContextManager[LaneCase]:
        """A fresh case that lives for the length of the block."""

    def check(self, body: Body) -> None:
        """Run `body` against a fresh case, within `PATIENCE_S`."""

        async def run() -> None:
            async with self.opened() as case, asyncio.timeout(PATIENCE_S):
                await body(case)
                assert case.running() == 0, "something was left running"

        asyncio.run(run())

    # Endings and evidence

    def test_order_ends_with_evidence_when_it_is_carried(self) -> None:
        async def body(case: LaneCase) -> None:
            before = case.deeds()
            outcome = await _carry(case, case.good)
            assert (outcome.ending, outcome.code) == (Ending.SUCCEEDED, "ok"), outcome
            assert case.deeds() > before
            evidence = outcome.evidence
            assert evidence.lane == case.lane.name
            assert 0 < evidence.started_at_ms <= evidence.ended_at_ms
            assert evidence.limit == ""
            assert evidence.attestation.builtin or evidence.attestation.properties
            assert evidence.attestation.meets(case.floor)
            msgspec.json.encode(outcome)  # everything in it can be recorded

        self.check(body)

    def test_order_of_another_lane_is_a_bug(self) -> None:
        async def body(case: LaneCase) -> None:
            before = case.deeds()
            (raised,) = await asyncio.gather(_carry(case, case.foreign), return_exceptions=True)
            assert isinstance(raised, InvariantBroken), "it carried an order that was not its own"
            assert raised.code == "order_of_other_lane"
            assert case.deeds() == before

        self.check(body)

    def test_nothing_begins_when_the_order_is_malformed(self) -> None:
        async def body(case: LaneCase) -> None:
            before = case.deeds()
            outcome = await _carry(case, case.malformed)
            assert outcome.ending is Ending.FAILED, outcome
            assert outcome.code not in ("", "ok")
            assert outcome.message
            assert case.deeds() == before

        self.check(body)

    def test_nothing_begins_when_the_floor_is_not_met(self) -> None:
        async def body(case: LaneCase) -> None:
            if case.unmet is None:
                outcome = await _carry(case, case.good, floor=ConfinementClass.MICROVM)
                assert outcome.ending is Ending.SUCCEEDED, "a lane without foreign code meets every floor"
                assert outcome.evidence.attestation.builtin
                return
            before = case.deeds()
            outcome = await _carry(case, case.good, floor=case.unmet)
            assert (outcome.ending, outcome.code) == (Ending.FAILED, "confinement_unmet"), outcome
            assert case.unmet.value in outcome.message
            assert case.deeds() == before

        self.check(body)

    def test_orders_are_carried_side_by_side(self) -> None:
        async def body(case: LaneCase) -> None:
            outcomes = await asyncio.gather(*(_carry(case, case.good) for _ in range(4)))
            assert [one.ending for one in outcomes] == [Ending.SUCCEEDED] * 4, outcomes

        self.check(body)

    def test_lane_can_be_closed_twice_and_before_it_was_used(self) -> None:
        async def body(case: LaneCase) -> None:
            await case.lane.close()
            await case.lane.close()

        self.check(body)

    # Limits and cancelling

    def test_wall_limit_ends_an_endless_order_and_is_named(self) -> None:
        async def body(case: LaneCase) -> None:
            if case.endless is None:
                return
            outcome = await _carry(case, limited(case.endless, wall_ms=1_500, grace_ms=100))
            assert outcome.ending in (Ending.FAILED, Ending.UNKNOWN)
            assert outcome.code == "wall_limit", outcome
            assert outcome.evidence.limit.startswith("wall")

        self.check(body)

    def test_nothing_is_left_when_a_running_order_is_cancelled(self) -> None:
        async def body(case: LaneCase) -> None:
            if case.endless is None or not case.lane.capabilities.cancels:
                return
            steering = HeldSteering()
            work = asyncio.ensure_future(_carry(case, case.endless, steering=steering))
            await steering.piece.wait()
            work.cancel()
            (ended,) = await asyncio.gather(work, return_exceptions=True)
            assert isinstance(ended, Outcome | asyncio.CancelledError), ended
            if isinstance(ended, Outcome):
                assert ended.ending in (Ending.UNKNOWN, Ending.CANCELLED), ended
            assert case.running() == 0

        self.check(body)

    def test_output_limit_ends_a_flood_and_is_named(self) -> None:
        async def body(case: LaneCase) -> None:
            if case.flood is None:
                return
            outcome = await _carry(case, limited(case.flood, output_bytes_max=100_000))
            assert outcome.ending in (Ending.FAILED, Ending.UNKNOWN)
            assert outcome.code == "output_limit", outcome
            assert outcome.evidence.limit.startswith("output")

        self.check(body)

    # Streaming and words

    def test_output_comes_in_bounded_pieces_and_whole(self) -> None:
        async def body(case: LaneCase) -> None:
            if case.flood is None or not case.lane.capabilities.streams:
                return
            steering = HeldSteering()
            outcome = await _carry(case, case.flood, steering=steering)
            assert outcome.ending is Ending.SUCCEEDED, outcome
            assert max(len(event.data) for event in steering.heard) <= PIECE_BYTES_MAX
            assert sum(len(event.data) for event in steering.heard) >= case.flood_bytes

        self.check(body)

    def test_source_is_held_while_nobody_takes_its_output(self) -> None:
        async def body(case: LaneCase) -> None:
            if case.flood is None or not case.lane.capabilities.streams:
                return
            steering = HeldSteering()

            def first_then_no_more(event: StreamEvent) -> None:
                steering.hear(event)
                steering.take_no_more()

            work = asyncio.ensure_future(_carry(case, case.flood, steering=steering, on_event=first_then_no_more))
            await steering.piece.wait()
            for _ in range(50):  # whatever could still come without room has its chance
                await asyncio.sleep(0.01)
            assert len(steering.output) <= PIECE_BYTES_MAX
            assert not work.done()
            for _ in range(10_000):
                if work.done():
                    break
                steering.give_room()
                await asyncio.sleep(0.001)
            outcome = await work
            assert outcome.ending is Ending.SUCCEEDED, outcome
            assert len(steering.output) >= case.flood_bytes

        self.check(body)

    def test_input_reaches_it_and_its_end_ends_it(self) -> None:
        async def body(case: LaneCase) -> None:
            if "Input" not in case.lane.capabilities.words:
                assert case.echo is None, "a lane that takes input says so"
                return
            assert case.echo is not None, "a lane that claims input has a case for it"
            steering = HeldSteering(Input(data=b"first\n"))
            work = asyncio.ensure_future(_carry(case, case.echo, steering=steering))
            await _until(lambda: b"first" in steering.output, work)
            steering.say(Input(data=b"second\n"))
            await _until(lambda: b"second" in steering.output, work)
            steering.say(EndInput())
            outcome = await work
            assert outcome.ending is Ending.SUCCEEDED, outcome

        self.check(body)


def limited(order: Order, **limits: int) -> Order:
    """The same order with other limits, wherever it keeps them."""
    inner = getattr(order, "process", None)
    if inner is not None:
        return msgspec.structs.replace(order, process=limited(inner, **limits))
    held: Limits = order.limits
    return msgspec.structs.replace(order, limits=msgspec.structs.replace(held, **limits))


async def _carry(
    case: LaneCase,
    order: Order,
    *,
    floor: ConfinementClass | None = None,
    steering: HeldSteering | None = None,
    on_event: OnEvent | None = None,
) -> Outcome:
    given: Steering | None = steering
    hear = on_event or (steering.hear if steering is not None else _ignore)
    return await case.lane.carry(order, floor=floor or case.floor, on_event=hear, steering=given)


async def _until(reached: Callable[[], bool], work: asyncio.Future[Outcome]) -> None:
    while not reached():
        assert not work.done(), f"it ended too early: {work.result()}"
        await asyncio.sleep(0.005)


def _ignore(_: object) -> None:
    return None
