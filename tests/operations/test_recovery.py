"""Recovery: what nobody knows the end of is looked at, never blindly repeated, and not for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from assent.execution.orders import FileOrder
from assent.execution.outcomes import Ending
from assent.ledger.commands import FenceOut, Settle
from assent.ledger.effects import Effect, EffectState
from assent.primitives.digests import digest
from assent.primitives.errors import Malformed, Unavailable
from assent.primitives.leases import SYSTEM
from assent.testing.benches import ACME, ANN, WORK_POLICY, Bench, opened_bench
from assent.testing.desks import code_of
from assent.testing.lanes import Break, Hang, Reply
from tests.operations.scenes import BOB, WRITE, Scene, activated_elsewhere, now

LOST = Reply(ending=Ending.UNKNOWN, code="wire_lost")
THERE = Reply(value={"exists": True, "kind": "file", "sha256": digest(b"hello")})
GONE = Reply(value={"exists": False})
OTHER = Reply(value={"exists": True, "kind": "file", "sha256": digest(b"somebody else's")})
READ = {"path": "a.txt"}


async def lost(bench: Bench, operation: str = "files.write", arguments: dict[str, Any] | None = None) -> Effect:
    """An effect that may have happened."""
    answer = await bench.perform(operation, WRITE if arguments is None else arguments)
    assert answer.effect.state is EffectState.UNKNOWN
    return answer.effect


@pytest.mark.parametrize(
    ("seen", "state", "code"),
    [(THERE, "succeeded", "happened"), (GONE, "failed", "not_happened"), (OTHER, "unknown", "wire_lost"),
     (Reply(ending=Ending.FAILED, code="not_permitted"), "unknown", "wire_lost"), (LOST, "unknown", "wire_lost")],
)  # fmt: skip
def test_unknown_effect_is_settled_by_one_observation_when_it_tells(tmp_path, seen, state, code):
    scene = Scene(tmp_path, LOST, seen)

    async def body(bench: Bench) -> None:
        effect = await lost(bench)
        (after,) = await bench.recovery.reconcile(ACME)
        assert (after.id, after.state, after.code, after.observations) == (effect.id, state, code, 1)
        observations = [e for e in await bench.store.effects(ACME, limit=9) if e.parent == effect.id]
        assert [e.operation for e in observations] == ["files.stat"]
        if state != "unknown":
            assert await bench.recovery.reconcile(ACME) == []

    scene.run(body)
    assert scene.deeds == 2


def test_unknown_effect_is_quarantined_when_five_looks_were_unclear(tmp_path):
    scene = Scene(tmp_path, LOST, OTHER)

    async def body(bench: Bench) -> None:
        effect = await lost(bench)
        states = [(await bench.recovery.reconcile(ACME))[0].state for _ in range(5)]
        assert states == ["unknown"] * 4 + ["quarantined"]
        assert await bench.recovery.reconcile(ACME) == []
        assert (await now(bench, effect.id)).observations == 5
        assert [e.effect.id for e in (await bench.timelines.inbox(ACME)).unknown] == [effect.id]

    scene.run(body)
    assert scene.deeds == 6


def test_unknown_read_is_sent_again_under_a_new_attempt(tmp_path):
    scene = Scene(tmp_path, LOST, Reply(value={"text": "hello"}))

    async def body(bench: Bench) -> None:
        effect = await lost(bench, "files.read", READ)
        (after,) = await bench.recovery.reconcile(ACME)
        assert (after.id, after.state, after.attempt, after.observations) == (effect.id, "succeeded", 2, 0)
        assert [m.type for m in await bench.timelines.of_effect(ACME, effect.id)] == [
            "effect.accepted", "effect.settled", "effect.resent", "effect.settled",
        ]  # fmt: skip

    scene.run(body)
    assert scene.deeds == 2


def test_unknown_read_is_quarantined_when_every_repetition_is_lost_too(tmp_path):
    scene = Scene(tmp_path, LOST, Break(error=OSError("torn")), LOST)

    async def body(bench: Bench) -> None:
        await lost(bench, "files.read", READ)
        states = [(await bench.recovery.reconcile(ACME))[0].state for _ in range(5)]
        assert states == ["unknown"] * 4 + ["quarantined"]

    scene.run(body)
    assert scene.deeds == 6


def test_unknown_post_waits_for_a_person_and_is_never_repeated(tmp_path):
    scene = Scene(tmp_path, LOST)

    async def body(bench: Bench) -> None:
        effect = await lost(bench, "http.post", {"url": "http://127.0.0.1:9/x", "body": "pay"})
        for _ in range(7):
            assert await bench.recovery.reconcile(ACME) == [effect]
        assert [e.effect for e in (await bench.timelines.inbox(ACME)).unknown] == [effect]

    scene.run(body)
    assert scene.deeds == 1


@pytest.mark.parametrize(("happened", "state"), [(True, "succeeded"), (False, "failed")])
def test_person_settles_an_unknown_effect_once(tmp_path, happened, state):
    scene = Scene(tmp_path, LOST)

    async def body(bench: Bench) -> None:
        effect = await lost(bench)
        attest = bench.recovery.attest
        for by in ("agent:writer", "person:", "person:a b", "Person:bob"):
            assert await code_of(attest(ACME, effect.id, happened=happened, by=by, reason="")) == "attest_not_yours"
        for reason in ("r" * 2_001, "\ud800"):
            with pytest.raises(Malformed):
                await attest(ACME, effect.id, happened=happened, by=BOB, reason=reason)
        after = await attest(ACME, effect.id, happened=happened, by=BOB, reason="I looked")
        assert (after.state, after.code) == (state, "attested")
        assert await code_of(attest(ACME, effect.id, happened=True, by=BOB, reason="")) == "effect_settled"
        (moment,) = [m for m in await bench.timelines.of_effect(ACME, effect.id) if m.type == "effect.judged"]
        assert (moment.facts["by"], moment.detail) == (BOB, {"reason": "I looked"})

    scene.run(body)


def test_look_counts_as_unclear_when_policy_does_not_allow_it(tmp_path):
    scene = Scene(tmp_path, LOST)

    async def body(bench: Bench) -> None:
        await lost(bench)
        blind = WORK_POLICY + '@id("blind") forbid (principal, action == Action::"read", resource);\n'
        await bench.policies.activate(ACME, blind, by=ANN)
        states = [(await bench.recovery.reconcile(ACME))[0].state for _ in range(5)]
        assert states == ["unknown"] * 4 + ["quarantined"]

    scene.run(body)
    assert scene.deeds == 1


def test_look_is_made_under_the_policy_of_now_when_another_node_activated_one(tmp_path):
    scene = Scene(tmp_path, LOST, LOST, THERE)

    async def body(bench: Bench) -> None:
        written, read = await lost(bench), await lost(bench, "files.read", READ)
        await activated_elsewhere(scene, WORK_POLICY + "// nothing new\n")
        after = {e.id: e for e in await bench.recovery.reconcile(ACME)}
        assert (after[written.id].state, after[read.id].state) == ("succeeded", "succeeded")

    scene.run(body)


def test_repetition_is_made_under_the_policy_of_now_when_another_node_activated_one(tmp_path):
    scene = Scene(tmp_path, LOST, THERE)

    async def body(bench: Bench) -> None:
        await lost(bench, "files.read", READ)
        await activated_elsewhere(scene, WORK_POLICY + "// nothing new\n")
        (after,) = await bench.recovery.reconcile(ACME)
        assert (after.state, after.observations) == ("succeeded", 0)

    scene.run(body)


def test_reconciling_settles_each_effect_once_when_two_nodes_do_it_at_once(tmp_path):
    scene = Scene(tmp_path, LOST, LOST, LOST, THERE)

    async def body(bench: Bench) -> None:
        effects = [await lost(bench) for _ in range(2)] + [await lost(bench, "files.read", READ)]
        async with opened_bench(scene.parts, entropy=scene.entropy()) as other:
            for _ in range(3):
                await asyncio.gather(*(b.recovery.reconcile(ACME) for b in (bench, other, bench)))
        states = [await now(bench, e.id) for e in effects]
        assert {e.state for e in states} == {EffectState.SUCCEEDED}
        for effect in effects:
            types = [m.type for m in await bench.timelines.of_effect(ACME, effect.id)]
            assert types.count("effect.judged") + types.count("effect.resent") <= 3

    scene.run(body)


def test_reconciling_goes_on_when_one_effect_cannot_be_looked_at(tmp_path):
    scene = Scene(tmp_path, LOST, LOST, THERE)

    async def body(bench: Bench) -> None:
        first, second = await lost(bench), await lost(bench)
        operation = bench.recovery._operations["files.write"]
        real = operation.observation

        def observation(arguments: dict[str, Any]) -> dict[str, Any] | None:
            if asked_of.pop() == first.id:
                raise Malformed("arguments_invalid", "the contract has changed since")
            return real(arguments)

        asked_of = [second.id, first.id]
        operation.observation = observation  # type: ignore[method-assign]
        try:
            after = {e.id: e for e in await bench.recovery.reconcile(ACME)}
        finally:
            del operation.observation
        assert (after[first.id].state, after[first.id].observations) == ("unknown", 1)
        assert after[second.id].state is EffectState.SUCCEEDED

    scene.run(body)


def test_effects_are_kept_for_people_when_their_operation_is_no_longer_offered(tmp_path):
    scene = Scene(tmp_path, LOST)

    async def body(bench: Bench) -> None:
        await lost(bench)
        bench.recovery._operations = {}
        states = [(await bench.recovery.reconcile(ACME))[0].state for _ in range(5)]
        assert states[-1] == "quarantined"

    scene.run(body)


# Nodes that are gone


def test_effects_of_a_lapsed_node_become_unknown_once_and_are_settled_by_observation(tmp_path):
    scene = Scene(tmp_path, Hang(stops=True), THERE)

    async def body(bench: Bench) -> None:
        call = asyncio.ensure_future(bench.perform("files.write", WRITE, key="k"))
        await scene.lanes[FileOrder].started.wait()
        async with opened_bench(scene.parts, entropy=scene.entropy()) as other:
            assert await other.recovery.fence_out_the_dead() == []
            scene.clock.pass_ms(scene.parts.ttl_ms)
            await other.renew()
            (gone,) = await other.recovery.fence_out_the_dead()
            assert (gone.key, gone.state, gone.code) == ("k", "unknown", "node_lost")
            assert await other.recovery.fence_out_the_dead() == []
            (after,) = await other.recovery.reconcile(ACME)
            assert after.state is EffectState.SUCCEEDED
        call.cancel()
        await asyncio.wait([call])
        settled = await bench.store.effect_by_key(ACME, "k")
        assert settled.state is EffectState.SUCCEEDED
        types = [m.type for m in await bench.timelines.of_effect(ACME, settled.id)]
        assert types == ["effect.accepted", "effect.lost", "effect.judged", "effect.late_result"]

    scene.run(body)
    assert scene.deeds == 2


def test_result_of_a_repetition_counts_when_the_first_attempt_answers_late(tmp_path):
    scene = Scene(tmp_path, Hang(stops=True), Reply(value={"text": "new"}))

    async def body(bench: Bench) -> None:
        call = asyncio.ensure_future(bench.perform("files.read", READ, key="k"))
        await scene.lanes[FileOrder].started.wait()
        await bench.store.apply(FenceOut(tenant=SYSTEM, fence=bench.fence, dead=True))
        async with opened_bench(scene.parts, entropy=scene.entropy()) as other:
            real = other.dispatcher._executor.carry

            async def carry(**parts: Any) -> Any:
                call.cancel()
                await asyncio.wait([call])  # the first attempt tells its end while the second is under way
                return await real(**parts)

            other.dispatcher._executor.carry = carry  # type: ignore[method-assign]
            (after,) = await other.recovery.reconcile(ACME)
        assert (after.state, after.attempt) == ("succeeded", 2)
        types = [m.type for m in await bench.timelines.of_effect(ACME, after.id)]
        assert types[-3:] == ["effect.resent", "effect.late_result", "effect.settled"]

    scene.run(body)
    assert scene.deeds == 2


def test_observation_that_is_under_way_is_not_counted_twice(tmp_path):
    scene = Scene(tmp_path, LOST, Hang(stops=True), THERE)

    async def body(bench: Bench) -> None:
        effect = await lost(bench)
        slow = asyncio.ensure_future(bench.recovery.reconcile(ACME))
        scene.lanes[FileOrder].started.clear()
        await scene.lanes[FileOrder].started.wait()
        await bench.recovery.reconcile(ACME)
        assert (await now(bench, effect.id)).observations == 0
        slow.cancel()
        await asyncio.wait([slow])

    scene.run(body)


def test_result_that_could_not_be_recorded_is_found_unknown_by_the_next_node(tmp_path, monkeypatch):
    scene = Scene(tmp_path, Reply(), THERE)

    async def first(bench: Bench) -> None:
        real = bench.store.apply

        async def apply(command: Any) -> Any:
            if isinstance(command, Settle):
                raise Unavailable("disk_full", "no room for the receipt")
            return await real(command)

        monkeypatch.setattr(bench.dispatcher._store, "apply", apply)
        assert await code_of(bench.perform("files.write", WRITE, key="k")) == "disk_full"
        assert (await bench.store.effect_by_key(ACME, "k")).state is EffectState.DISPATCHED

    async def second(bench: Bench) -> None:
        assert await bench.recovery.reconcile(ACME) == []
        scene.clock.pass_ms(scene.parts.ttl_ms)
        await bench.renew()
        (lost_,) = await bench.recovery.fence_out_the_dead()
        assert lost_.key == "k"
        (after,) = await bench.recovery.reconcile(ACME)
        assert after.state is EffectState.SUCCEEDED

    scene.run(first)
    scene.run(second)
    assert scene.deeds == 2


def test_result_that_could_not_be_recorded_is_recorded_once_the_database_is_well_again(tmp_path, monkeypatch):
    scene = Scene(tmp_path, Reply(value={"bytes": 1}))

    async def body(bench: Bench) -> None:
        real, full = bench.store.apply, [True]

        async def apply(command: Any) -> Any:
            if isinstance(command, Settle) and full[0]:
                raise Unavailable("disk_full", "no room for the receipt")
            return await real(command)

        monkeypatch.setattr(bench.dispatcher._store, "apply", apply)
        assert await code_of(bench.perform("files.write", WRITE, key="k")) == "disk_full"
        with pytest.raises(Unavailable):
            await bench.gate.settle_owed()
        full[0] = False
        assert await bench.gate.settle_owed() == 1
        assert await bench.gate.settle_owed() == 0
        told = await bench.perform("files.write", WRITE, key="k")
        assert (told.fresh, told.effect.state) == (False, EffectState.SUCCEEDED)
        assert told.outcome is not None
        assert told.outcome.value == {"bytes": 1}

    scene.run(body)
    assert scene.deeds == 1


def test_repetition_that_is_under_way_is_left_alone_as_long_as_its_node_lives(tmp_path):
    scene = Scene(tmp_path, LOST, Hang(stops=True), Reply(value={"text": "hello"}))

    async def body(bench: Bench) -> None:
        effect = await lost(bench, "files.read", READ)
        scene.lanes[FileOrder].started.clear()
        slow = asyncio.ensure_future(bench.recovery.reconcile(ACME))
        await scene.lanes[FileOrder].started.wait()
        async with opened_bench(scene.parts, entropy=scene.entropy()) as other:
            (left,) = await other.recovery.reconcile(ACME)
            assert (left.id, left.state, left.attempt, left.observations) == (effect.id, "unknown", 2, 0)
            scene.clock.pass_ms(scene.parts.ttl_ms)
            await other.renew()
            await other.recovery.fence_out_the_dead()
            (after,) = await other.recovery.reconcile(ACME)
            assert (after.state, after.attempt) == ("succeeded", 3)
        slow.cancel()
        await asyncio.wait([slow])
        assert (await now(bench, effect.id)).state is EffectState.SUCCEEDED

    scene.run(body)
    assert scene.deeds == 3
