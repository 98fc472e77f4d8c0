"""The function lane: calls that end well, raise, never end, flood, and are given up; and what is said of each."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from assent.execution.adapters.functions import CALLS_MAX, FunctionLane
from assent.execution.attestations import ConfinementClass
from assent.execution.functions import Callee
from assent.execution.orders import FunctionOrder, HttpOrder, Limits
from assent.execution.outcomes import Ending, Outcome
from assent.testing.conformance.lanes import LaneCase, LaneSuite
from tests.execution.lane_driver import RealClock

WEAK = ConfinementClass.LOCAL_WEAK


def order(**more: Any) -> FunctionOrder:
    limits = Limits(wall_ms=more.pop("wall_ms", 20_000), output_bytes_max=more.pop("output_bytes_max", 1_000))
    asked: dict[str, Any] = {"function": "t.f", "definition": "d", "limits": limits} | more
    return FunctionOrder(**asked)


async def carry(function: Callable[..., Any], what: FunctionOrder | None = None, floor: Any = WEAK) -> Outcome:
    lane = FunctionLane(clock=RealClock(), functions={"t.f": Callee(definition="d", call=function)})
    return await lane.carry(what or order(), floor=floor, on_event=lambda _: None)


def carried(function: Callable[..., Any], what: FunctionOrder | None = None, floor: Any = WEAK) -> Outcome:
    return asyncio.run(carry(function, what, floor))


class TestFunctionLane(LaneSuite):
    @asynccontextmanager
    async def opened(self) -> AsyncIterator[LaneCase]:
        done: list[int] = []
        lane = FunctionLane(clock=RealClock(), functions={"t.f": Callee(definition="d", call=lambda _: done.append(1))})
        yield LaneCase(
            lane=lane,
            good=order(),
            foreign=HttpOrder(method="GET", url="http://127.0.0.1:1/", hosts=()),
            malformed=order(arguments="["),
            deeds=lambda: len(done),
            running=lambda: len(lane._running),
        )
        await lane.close()


@dataclass
class Spot:
    x: int


async def later(given: dict[str, Any]) -> Any:
    await asyncio.sleep(0)
    return {"given": given, "spot": Spot(x=1), "bytes": b"a"}


def test_plain_and_waiting_functions_give_their_result():
    assert carried(lambda given: given["a"] + 1, order(arguments='{"a": 2}')).value == {"result": 3}
    found = carried(later, order(arguments='{"a": 2}'))
    assert found.value == {"result": {"given": {"a": 2}, "spot": {"x": 1}, "bytes": "YQ=="}}
    assert found.evidence.attestation.confinement is WEAK
    assert found.evidence.attestation.mechanism == "in-process"


def test_exception_is_told_by_type_and_message_only():
    def raises(_: dict[str, Any]) -> None:
        password = "hunter2"  # a local, which tracebacks of some tools show
        raise ValueError(f"no such city, {len(password)}")

    found = carried(raises)
    assert (found.ending, found.code, found.message) == (Ending.FAILED, "exception", "ValueError: no such city, 7")
    assert "hunter2" not in str(found)


@pytest.mark.parametrize("fault", [SystemExit(3), KeyboardInterrupt(), RecursionError(), GeneratorExit()])
def test_nothing_that_a_function_raises_ends_the_node(fault):
    def raises(_: dict[str, Any]) -> None:
        raise fault

    assert carried(raises).code == "exception"


def test_exception_that_cannot_be_told_is_told_by_its_type():
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    def raises(_: dict[str, Any]) -> None:
        raise Odd("\ud800")

    assert carried(raises).message.endswith("Odd")


def test_floor_is_refused_unless_nothing_more_is_asked():
    done: list[int] = []
    found = carried(lambda _: done.append(1), floor=ConfinementClass.CONFINED)
    assert (found.ending, found.code, done) == (Ending.FAILED, "confinement_unmet", [])


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ({"function": "t.g"}, "function_missing"),
        ({"definition": "e"}, "definition_changed"),
        ({"arguments": "[]"}, "order_malformed"),
        ({"arguments": '{"a": NaN}'}, "order_malformed"),
    ],
)
def test_nothing_runs_that_was_not_asked_for(what, code):
    done: list[int] = []
    assert carried(lambda _: done.append(1), order(**what)).code == code
    assert not done


def test_result_that_has_no_json_form_or_is_too_large_is_told_as_such():
    assert carried(lambda _: object()).value == {"result": None, "unserialisable": "object"}
    assert carried(lambda _: "\ud800").value["unserialisable"] == "str"
    assert carried(lambda _: float("nan")).value["result"] is None
    circle: list[Any] = []
    circle.append(circle)
    assert carried(lambda _: circle).value["unserialisable"] == "list"
    found = carried(lambda _: "x" * 2_000)
    assert (found.ending, found.evidence.limit, found.value["bytes"] > 2_000) == (
        Ending.SUCCEEDED, "output_bytes_max", True,
    )  # fmt: skip
    assert "what it did is done" in found.message


@pytest.mark.slow
def test_coroutine_out_of_time_is_cancelled_and_a_plain_function_is_unknown():
    ended: list[str] = []

    async def waits(_: dict[str, Any]) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cancelled")

    found = carried(waits, order(wall_ms=100))
    assert (found.ending, found.code, found.evidence.limit, ended) == (
        Ending.FAILED, "wall_limit", "wall_ms", ["cancelled"],
    )  # fmt: skip
    gate = threading.Event()
    found = carried(lambda _: gate.wait(60), order(wall_ms=100))
    gate.set()
    assert (found.ending, found.code) == (Ending.UNKNOWN, "wall_limit")
    assert "may still be running" in found.message


@pytest.mark.slow
def test_function_that_blocks_stalls_nobody_else():
    gate = threading.Event()

    async def blocks(_: dict[str, Any]) -> None:
        gate.wait(60)  # a coroutine that does not wait as coroutines do

    async def both() -> tuple[Outcome, float]:
        stuck = asyncio.ensure_future(carry(blocks))
        await asyncio.sleep(0.05)
        started = time.monotonic()
        await carry(lambda _: 1)
        spent = time.monotonic() - started
        gate.set()
        return await stuck, spent

    found, spent = asyncio.run(both())
    assert found.code == "ok"
    assert spent < 30


@pytest.mark.slow
def test_cancelled_call_goes_through_only_when_it_has_stopped():
    async def waits(_: dict[str, Any]) -> None:
        await asyncio.sleep(60)

    gate = threading.Event()

    def blocks(_: dict[str, Any]) -> str:
        gate.wait(60)
        return "done all the same"

    async def cancelled(function: Callable[..., Any], what: FunctionOrder) -> Any:
        work = asyncio.ensure_future(carry(function, what))
        await asyncio.sleep(0.05)
        work.cancel()
        asyncio.get_running_loop().call_later(0.05, gate.set)
        (found,) = await asyncio.gather(work, return_exceptions=True)
        return found

    assert isinstance(asyncio.run(cancelled(waits, order())), asyncio.CancelledError)
    assert asyncio.run(cancelled(blocks, order())).value == {"result": "done all the same"}
    gate.clear()
    forever = threading.Event()
    lost = asyncio.run(cancelled(lambda _: forever.wait(60), order(wall_ms=200)))
    forever.set()
    assert (lost.ending, lost.code) == (Ending.UNKNOWN, "cancelled")


@pytest.mark.slow
def test_calls_are_bounded():
    gate = threading.Event()
    lane = FunctionLane(clock=RealClock(), functions={"t.f": Callee(definition="d", call=lambda _: gate.wait(60))})

    async def flood() -> list[Outcome]:
        works = [
            asyncio.ensure_future(lane.carry(order(), floor=WEAK, on_event=lambda _: None)) for _ in range(CALLS_MAX)
        ]
        await asyncio.sleep(0)
        refused = await lane.carry(order(), floor=WEAK, on_event=lambda _: None)
        gate.set()
        return [*await asyncio.gather(*works), refused]

    *ran, refused = asyncio.run(flood())
    assert {one.code for one in ran} == {"ok"}
    assert refused.code == "functions_full"
