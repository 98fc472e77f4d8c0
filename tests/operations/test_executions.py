"""Active executions: a governed call that is listened to, spoken to and stopped, and is on record whatever happens."""

from __future__ import annotations

import asyncio

import pytest

from assent.execution.orders import FileOrder
from assent.execution.steering import EndInput, Input
from assent.ledger.effects import EffectState
from assent.operations.executions import TAIL_BYTES, WORD_BYTES_MAX, WORDS_MAX, ExecutionState
from assent.primitives.errors import Conflict, NotFound, Refused
from assent.primitives.ids import ExecutionId, NodeId
from assent.primitives.leases import Fence
from assent.testing.benches import ACME, Bench, BenchParts, opened_bench, wish
from assent.testing.desks import GLOBEX
from assent.testing.entropy import SeededEntropy
from assent.testing.lanes import EchoLane
from tests.operations.scenes import WRITE, Scene

FLOOD = EchoLane.FLOOD_PIECES * EchoLane.FLOOD_BYTES


class Stage(Scene):
    """A scene whose files are echoed instead of written."""

    def __init__(self, path) -> None:
        super().__init__(path)
        self.echo = EchoLane(clock=self.clock)
        self.parts = BenchParts(
            folder=self.folder, workspace=path / "workspace", lanes={FileOrder: self.echo}, policy=self.parts.policy
        )


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)


def started(bench: Bench, **more):
    return bench.executions.start(wish("files.write", WRITE, **more))


async def heard(bench: Bench, id_: ExecutionId, until: bytes) -> bytes:
    """Take output until it holds `until`."""
    found = b""
    async for event in bench.executions.events(ACME, id_):
        found += event.data
        if until in found:
            break
    return found


def test_execution_is_spoken_to_and_settled_like_any_call(stage):
    async def body(bench: Bench) -> None:
        run = started(bench)
        assert await heard(bench, run.id, b"ready") == b"ready"
        assert bench.executions.status(ACME, run.id).state is ExecutionState.RUNNING
        bench.executions.say(ACME, run.id, Input(data=b"hello"), fence=run.fence)
        assert await heard(bench, run.id, b"hello") == b"hello"
        bench.executions.say(ACME, run.id, EndInput(), fence=run.fence)
        answer = await bench.executions.result(ACME, run.id)
        assert answer.effect.state is EffectState.SUCCEEDED
        assert answer.outcome is not None
        assert answer.outcome.value == {"bytes": 5}
        status = bench.executions.status(ACME, run.id)
        assert (status.state, status.input_open, status.answer) == (ExecutionState.ENDED, False, answer)
        assert (status.sequence, status.output_bytes) == (2, len(b"readyhello"))
        assert (await bench.store.effect(ACME, answer.effect.id)).state is EffectState.SUCCEEDED

    stage.run(body)


def test_output_is_held_while_nobody_takes_it_and_none_is_lost(stage):
    async def body(bench: Bench) -> None:
        run = started(bench)
        bench.executions.say(ACME, run.id, Input(data=b"flood"), fence=run.fence)
        for _ in range(10_000):
            if bench.executions.status(ACME, run.id).state is ExecutionState.HELD:
                break
            await asyncio.sleep(0.001)
        held = bench.executions.status(ACME, run.id)
        assert held.state is ExecutionState.HELD
        for _ in range(1_000):  # everything that could still come without a listener has its chance
            await asyncio.sleep(0)
        assert bench.executions.status(ACME, run.id) == held
        assert held.output_bytes <= TAIL_BYTES + EchoLane.FLOOD_BYTES
        bench.executions.say(ACME, run.id, EndInput(), fence=run.fence)
        found = [event async for event in bench.executions.events(ACME, run.id)]
        assert sum(len(event.data) for event in found) == FLOOD + len(b"ready")
        assert [event.sequence for event in found] == list(range(1, len(found) + 1))
        assert (await bench.executions.result(ACME, run.id)).effect.state is EffectState.SUCCEEDED

    stage.run(body)


def test_cancel_stops_it_and_is_on_record_and_twice_is_once(stage):
    async def body(bench: Bench) -> None:
        run = started(bench, key="once")
        await heard(bench, run.id, b"ready")
        for _ in range(2):
            status = await bench.executions.cancel(ACME, run.id, fence=run.fence)
            assert status.state is ExecutionState.ENDED
        assert stage.echo.running == 0
        assert (await bench.store.effect_by_key(ACME, "once")).state is EffectState.CANCELLED

    stage.run(body)


def test_everything_that_runs_is_settled_when_the_node_closes(stage):
    async def whole() -> None:
        async with opened_bench(stage.parts, entropy=SeededEntropy(1)) as bench:
            for number in range(3):
                run = started(bench, key=f"k{number}")
                await heard(bench, run.id, b"ready")
        assert stage.echo.running == 0
        async with opened_bench(stage.parts, entropy=SeededEntropy(2)) as bench:
            found = [(await bench.store.effect_by_key(ACME, f"k{number}")).state for number in range(3)]
            assert found == [EffectState.CANCELLED] * 3

    asyncio.run(whole())


def test_same_key_is_carried_once_however_often_it_is_started(stage):
    async def body(bench: Bench) -> None:
        first = started(bench, key="once")
        await heard(bench, first.id, b"ready")
        second = started(bench, key="once")
        answer = await bench.executions.result(ACME, second.id)
        assert (answer.fresh, answer.effect.state) == (False, EffectState.DISPATCHED)
        assert stage.echo.running == 1
        bench.executions.say(ACME, first.id, EndInput(), fence=first.fence)
        assert (await bench.executions.result(ACME, first.id)).effect.id == answer.effect.id

    stage.run(body)


def test_word_is_refused_when_its_fence_is_of_another_life(stage):
    async def body(bench: Bench) -> None:
        run = started(bench)
        stale = (Fence(node=run.fence.node, number=run.fence.number + 1), Fence(node=NodeId("nod_other"), number=1))
        for fence in stale:
            with pytest.raises(Conflict, match="another life"):
                bench.executions.say(ACME, run.id, Input(data=b"x"), fence=fence)
            with pytest.raises(Conflict, match="another life"):
                await bench.executions.cancel(ACME, run.id, fence=fence)
        assert await heard(bench, run.id, b"ready") == b"ready"

    stage.run(body)


def test_execution_is_not_there_for_another_tenant(stage):
    async def body(bench: Bench) -> None:
        run = started(bench)
        for id_, tenant in ((run.id, GLOBEX), (ExecutionId("exe_0"), ACME)):
            with pytest.raises(NotFound):
                bench.executions.status(tenant, id_)
            with pytest.raises(NotFound):
                bench.executions.say(tenant, id_, EndInput(), fence=run.fence)
            with pytest.raises(NotFound):
                await bench.executions.result(tenant, id_)
            with pytest.raises(NotFound):
                await bench.executions.cancel(tenant, id_, fence=run.fence)
            with pytest.raises(NotFound):
                await anext(bench.executions.events(tenant, id_))

    stage.run(body)


def test_input_is_bounded_and_closed_input_stays_closed(stage):
    async def body(bench: Bench) -> None:
        run = started(bench)
        with pytest.raises(Refused, match="at most"):
            bench.executions.say(ACME, run.id, Input(data=b"x" * (WORD_BYTES_MAX + 1)), fence=run.fence)
        for _ in range(WORDS_MAX):
            bench.executions.say(ACME, run.id, Input(data=b"x"), fence=run.fence)
        with pytest.raises(Refused, match="wait to be taken"):
            bench.executions.say(ACME, run.id, Input(data=b"x"), fence=run.fence)
        await heard(bench, run.id, b"x" * 10)
        bench.executions.say(ACME, run.id, EndInput(), fence=run.fence)
        with pytest.raises(Conflict, match="no more input"):
            bench.executions.say(ACME, run.id, Input(data=b"x"), fence=run.fence)
        outcome = (await bench.executions.result(ACME, run.id)).outcome
        assert outcome is not None
        assert outcome.value == {"bytes": WORDS_MAX}
        with pytest.raises(Conflict, match="no more input"):
            bench.executions.say(ACME, run.id, Input(data=b"x"), fence=run.fence)

    stage.run(body)


def test_refused_call_ends_at_once_and_says_why(stage):
    async def body(bench: Bench) -> None:
        run = bench.executions.start(wish("files.write", {"path": "../out.txt", "content": "x"}))
        answer = await bench.executions.result(ACME, run.id)
        assert answer.effect.state is EffectState.REFUSED
        assert [event async for event in bench.executions.events(ACME, run.id)] == []
        assert bench.executions.status(ACME, run.id).state is ExecutionState.ENDED

    stage.run(body)
