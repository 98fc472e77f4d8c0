"""The gate: what becomes of a wish, on every way through."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from assent.execution.orders import FileOrder
from assent.execution.outcomes import Ending
from assent.ledger import dispatch
from assent.ledger.commands import ActivatePolicy, ExpireReviews, FenceOut
from assent.ledger.effects import EffectState
from assent.ledger.reviews import ReviewState
from assent.operations import gate
from assent.primitives.digests import digest
from assent.primitives.errors import Conflict, Malformed, NotFound, Refused, Unavailable
from assent.primitives.ids import EffectId, TenantId
from assent.primitives.leases import SYSTEM
from assent.testing.benches import ACME, ANN, LEASE_TTL_MS, WORK_POLICY, Bench, wish
from assent.testing.desks import code_of
from assent.testing.lanes import Break, Hang, Reply
from tests.operations.scenes import (
    BOB,
    CYD,
    FORBID_DELETES,
    TWO_MUST_AGREE,
    WRITE,
    Scene,
    activated_elsewhere,
    asked,
)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


async def state_of(bench: Bench, effect: EffectId) -> str:
    found = await bench.store.effect(ACME, effect)
    return str(found.state)


# Allow, deny, review


def test_wish_is_carried_out_once_and_recorded_when_policy_allows(scene):
    async def body(bench: Bench) -> None:
        answer = await bench.perform("files.write", WRITE, key="k", run="r")
        assert (answer.effect.state, answer.effect.code, answer.fresh) == ("succeeded", "ok", True)
        assert answer.effect == await bench.store.effect(ACME, answer.effect.id)
        explained = await bench.timelines.explain(ACME, answer.effect.id)
        assert [m.type for m in explained.moments] == ["effect.accepted", "effect.settled"]
        assert explained.rules == ("work",)

    scene.run(body)
    assert scene.deeds == 1


def test_wish_is_refused_and_recorded_when_policy_forbids(scene):
    async def body(bench: Bench) -> None:
        answer = await bench.perform("files.write", {"path": "../outside.txt", "content": "x"})
        assert (answer.effect.state, answer.outcome, answer.review) == ("refused", None, None)
        assert answer.effect.code == "forbidden"
        assert (await bench.timelines.explain(ACME, answer.effect.id)).intent is not None

    scene.run(body)
    assert scene.deeds == 0


@pytest.mark.parametrize(
    ("operation", "arguments", "code"),
    [
        ("files.explode", {"path": "x"}, "unknown_operation"),
        ("", {}, "unknown_operation"),
        ("files.write\x00\n\u2028\U0001f600", {"a": [1, None, {"b": True}]}, "unknown_operation"),
        ("files.write", {}, "arguments_invalid"),
        ("files.write", {"path": 7, "content": None, "extra": [[]]}, "arguments_invalid"),
        ("files.write", {"path": "x\x00y", "content": "x"}, "arguments_invalid"),
        ("files.write", {"path": "", "content": "x"}, "arguments_invalid"),
        ("files.write", {"path": ".", "content": "x"}, "arguments_invalid"),
    ],
)
def test_wish_is_refused_and_recorded_when_it_is_garbage(scene, operation, arguments, code):
    async def body(bench: Bench) -> None:
        answer = await bench.perform(operation, arguments)
        assert (answer.effect.state, answer.effect.code) == ("refused", code)
        explained = await bench.timelines.explain(ACME, answer.effect.id)
        assert explained.intent is not None
        assert explained.intent.arguments == arguments

    scene.run(body)
    assert scene.deeds == 0


@pytest.mark.parametrize("principal", ["agent:stranger", "nobody", "person:ann ", "agent:writer\n"])
def test_wish_is_refused_when_nobody_known_asks(scene, principal):
    async def body(bench: Bench) -> None:
        answer = await bench.gate.perform(wish("files.write", WRITE, principal=principal))
        assert answer.effect.state is EffectState.REFUSED
        assert answer.effect.code in ("unknown_principal", "principal_invalid")

    scene.run(body)
    assert scene.deeds == 0


def test_wish_is_malformed_and_leaves_nothing_when_it_is_not_plain_json(scene):
    bad: list[dict[str, Any]] = [
        {"path": object()}, {"path": float("nan")}, {"path": "\ud800"}, {"n": 2**60}, {"\udfff": 1},
    ]  # fmt: skip

    async def body(bench: Bench) -> None:
        for arguments in bad:
            assert (await code_of(bench.perform("files.explode", arguments))).startswith("canonical_"), arguments
        assert await bench.store.effects(ACME, limit=9) == []

    scene.run(body)


@pytest.mark.parametrize("key", ["k" * 201, "\u00e9" * 101, "\ud800", "a\udcff"])
def test_wish_is_malformed_when_its_key_is_too_long_or_no_text(scene, key):
    async def body(bench: Bench) -> None:
        with pytest.raises(Malformed):
            await bench.perform("files.write", WRITE, key=key)
        assert await bench.store.effects(ACME, limit=9) == []

    scene.run(body)


def test_wish_is_malformed_when_its_key_is_the_reconcilers(scene):
    async def body(bench: Bench) -> None:
        assert await code_of(bench.perform("files.write", WRITE, key="observe/eff_1/1/1")) == "key_reserved"

    scene.run(body)
    assert scene.deeds == 0


@pytest.mark.parametrize("field", ["operation", "principal", "run"])
def test_wish_is_malformed_when_a_name_has_no_end(scene, field):
    async def body(bench: Bench) -> None:
        fields: dict[str, Any] = {"operation": "files.write", "principal": "agent:writer", "run": ""}
        fields[field] = "n" * 100_000
        operation = fields.pop("operation")
        with pytest.raises(Malformed):
            await bench.gate.perform(wish(operation, WRITE, **fields))
        assert await bench.store.effects(ACME, limit=9) == []

    scene.run(body)


def test_wish_is_refused_when_no_policy_is_active(tmp_path):
    scene = Scene(tmp_path, policy="")

    async def body(bench: Bench) -> None:
        answer = await bench.perform("files.write", WRITE)
        assert (answer.effect.state, answer.effect.code) == ("refused", "policy_missing")

    scene.run(body)
    assert scene.deeds == 0


def test_key_gives_the_same_effect_whatever_became_of_it(scene):
    async def body(bench: Bench) -> None:
        for operation, arguments, state in (
            ("files.write", WRITE, "succeeded"),
            ("files.delete", {"path": "a.txt"}, "in_review"),
            ("files.explode", {}, "refused"),
        ):
            first = await bench.perform(operation, arguments, key=operation)
            again = await bench.perform(operation, arguments, key=operation)
            assert (first.effect.state, again.effect) == (state, first.effect)
            assert (first.fresh, again.fresh) == (True, False)
            assert again.outcome == first.outcome
            assert (again.review and again.review.id) == (first.review and first.review.id)
            clash = bench.perform(operation, {"path": "other", "content": "x"}, key=operation)
            assert await code_of(clash) == "key_conflict"

    scene.run(body)
    assert scene.deeds == 1


def test_key_gives_one_effect_when_many_ask_at_once(scene):
    async def body(bench: Bench) -> None:
        answers = await asyncio.gather(*(bench.perform("files.write", WRITE, key="k") for _ in range(64)))
        assert len({a.effect.id for a in answers}) == 1
        assert sum(a.fresh for a in answers) == 1

    scene.run(body)
    assert scene.deeds == 1


# Reviews


def test_review_runs_the_call_once_when_somebody_approves(scene):
    async def body(bench: Bench) -> None:
        effect, review = await asked(bench)
        assert scene.deeds == 0
        answered, answer = await bench.reviews.approve_and_run(ACME, review, by=BOB, on_event=lambda _: None)
        assert answered.state is ReviewState.APPROVED
        assert answer is not None
        assert (answer.effect.id, answer.effect.state) == (effect, "succeeded")
        now = await bench.store.review(ACME, review)
        assert now.state is ReviewState.CONSUMED
        assert await code_of(bench.gate.release(ACME, effect)) == "effect_moved"
        assert [m.type for m in await bench.timelines.of_effect(ACME, effect)] == [
            "effect.accepted", "review.answered", "effect.dispatched", "effect.settled",
        ]  # fmt: skip

    scene.run(body)
    assert scene.deeds == 1


def test_review_may_be_answered_by_whom_the_agent_acts_for_and_not_by_itself(scene):
    async def body(bench: Bench) -> None:
        effect, review = await asked(bench)
        for by in ("agent:writer", "service:x", "person:", " person:bob"):
            assert await code_of(bench.reviews.approve(ACME, review, by=by)) == "review_not_yours"
        await bench.reviews.approve(ACME, review, by=ANN)
        assert await state_of(bench, effect) == "granted"

    scene.run(body)


def test_review_is_not_for_the_requester_when_a_person_asks(scene):
    async def body(bench: Bench) -> None:
        answer = await bench.gate.perform(wish("files.delete", {"path": "a.txt"}, principal=ANN))
        assert answer.review is not None
        assert await code_of(bench.reviews.approve(ACME, answer.review.id, by=ANN)) == "review_not_yours"
        assert await code_of(bench.reviews.deny(ACME, answer.review.id, by=ANN, reason="no")) == "review_not_yours"
        assert (await bench.reviews.approve(ACME, answer.review.id, by=BOB)).state is ReviewState.APPROVED

    scene.run(body)


def test_review_refuses_the_call_when_somebody_denies(scene):
    async def body(bench: Bench) -> None:
        effect, review = await asked(bench)
        denied = await bench.reviews.deny(ACME, review, by=BOB, reason="we need it")
        assert denied.state is ReviewState.DENIED
        assert await state_of(bench, effect) == "refused"
        assert await code_of(bench.reviews.approve(ACME, review, by=CYD)) == "review_answered"
        assert await code_of(bench.gate.release(ACME, effect)) == "effect_moved"

    scene.run(body)
    assert scene.deeds == 0


@pytest.mark.parametrize("reason", ["r" * 2_001, "\ud800"])
def test_review_answer_is_malformed_when_its_reason_is_too_long_or_no_text(scene, reason):
    async def body(bench: Bench) -> None:
        effect, review = await asked(bench)
        with pytest.raises(Malformed):
            await bench.reviews.approve(ACME, review, by=BOB, reason=reason)
        assert await state_of(bench, effect) == "in_review"

    scene.run(body)


def test_review_cannot_be_answered_or_used_when_its_time_has_passed(scene):
    async def body(bench: Bench) -> None:
        effect, review = await asked(bench)
        other, approved = await asked(bench)
        await bench.reviews.approve(ACME, approved, by=BOB)
        scene.clock.pass_ms(600_000)
        await bench.renew()
        assert await code_of(bench.reviews.approve(ACME, review, by=BOB)) == "review_expired"
        assert await code_of(bench.gate.release(ACME, other)) == "approval_gone"
        assert await bench.reviews.expire(ACME) == 2
        assert {await state_of(bench, e) for e in (effect, other)} == {"expired"}

    scene.run(body)
    assert scene.deeds == 0


def test_approval_is_consumed_once_when_two_release_at_once(scene):
    async def body(bench: Bench) -> None:
        effect, review = await asked(bench)
        await bench.reviews.approve(ACME, review, by=BOB)
        results = await asyncio.gather(*(bench.gate.release(ACME, effect) for _ in range(5)), return_exceptions=True)
        assert sorted(type(r).__name__ for r in results) == ["Answer"] + ["Conflict"] * 4

    scene.run(body)
    assert scene.deeds == 1


def test_approved_call_is_revoked_when_policy_was_tightened_since(scene):
    async def body(bench: Bench) -> None:
        effect, review = await asked(bench)
        await bench.reviews.approve(ACME, review, by=BOB)
        await bench.policies.activate(ACME, FORBID_DELETES, by=ANN)
        answer = await bench.gate.release(ACME, effect)
        assert (answer.effect.state, answer.effect.code) == ("revoked", "forbidden")
        assert answer.review is not None
        assert answer.review.state is ReviewState.VOID
        assert await code_of(bench.gate.release(ACME, effect)) == "effect_moved"

    scene.run(body)
    assert scene.deeds == 0


def test_approved_call_is_revoked_when_today_more_people_must_agree(scene):
    async def body(bench: Bench) -> None:
        effect, review = await asked(bench)
        await bench.reviews.approve(ACME, review, by=BOB)
        await bench.policies.activate(ACME, TWO_MUST_AGREE, by=ANN)
        answer = await bench.gate.release(ACME, effect)
        assert (answer.effect.state, answer.effect.code) == ("revoked", "needs_review")

    scene.run(body)
    assert scene.deeds == 0


def test_quorum_counts_each_person_once_when_two_must_agree(tmp_path):
    scene = Scene(tmp_path, policy=TWO_MUST_AGREE)

    async def body(bench: Bench) -> None:
        effect, review = await asked(bench)
        first, nothing = await bench.reviews.approve_and_run(ACME, review, by=BOB, on_event=lambda _: None)
        assert (first.state, nothing) == (ReviewState.OPEN, None)
        assert await code_of(bench.reviews.approve(ACME, review, by=BOB)) == "review_answered"
        assert await code_of(bench.reviews.approve(ACME, review, by="person:cyd person:dan")) == "review_not_yours"
        _, answer = await bench.reviews.approve_and_run(ACME, review, by=CYD, on_event=lambda _: None)
        assert answer is not None
        assert answer.effect.state is EffectState.SUCCEEDED
        assert await state_of(bench, effect) == "succeeded"

    scene.run(body)


# Policy that moves


def test_wish_is_decided_again_when_the_policy_moves_between_decision_and_acceptance(scene):
    async def body(bench: Bench) -> None:
        assert (await bench.perform("files.delete", {"path": "a"})).effect.state is EffectState.IN_REVIEW
        await activated_elsewhere(scene, FORBID_DELETES)
        answer = await bench.perform("files.delete", {"path": "b"})
        assert (answer.effect.state, answer.effect.code) == ("refused", "forbidden")

    scene.run(body)


def test_release_is_decided_again_when_another_node_activated_a_policy(scene):
    async def body(bench: Bench) -> None:
        effect, review = await asked(bench)
        other, other_review = await asked(bench)
        for each in (review, other_review):
            await bench.reviews.approve(ACME, each, by=BOB)
        await activated_elsewhere(scene, WORK_POLICY + "// nothing new\n")
        assert (await bench.gate.release(ACME, effect)).effect.state is EffectState.SUCCEEDED
        await activated_elsewhere(scene, FORBID_DELETES)
        assert (await bench.gate.release(ACME, other)).effect.state is EffectState.REVOKED

    scene.run(body)
    assert scene.deeds == 1


def test_wish_gives_up_with_a_word_when_the_policy_never_stands_still(scene):
    async def body(bench: Bench) -> None:
        real, count = bench.policies.active, 0

        async def active(tenant: TenantId) -> Any:
            nonlocal count
            engine = await real(tenant)
            count += 1
            await activated_elsewhere(scene, f"{WORK_POLICY}// {count}\n")
            return engine

        bench.policies.active = active  # type: ignore[method-assign]
        assert await code_of(bench.perform("files.write", WRITE)) == "policy_moved"
        assert 2 <= count <= gate.REDECISIONS_MAX
        assert await bench.store.effects(ACME, limit=9) == []

    scene.run(body)
    assert scene.deeds == 0


# Lanes that misbehave, callers that give up


def test_effect_is_unknown_when_the_lane_raises(tmp_path):
    scene = Scene(tmp_path, Break(error=OSError("torn")))

    async def body(bench: Bench) -> None:
        answer = await bench.perform("files.write", WRITE)
        assert (answer.effect.state, answer.effect.code) == ("unknown", "lane_broken")

    scene.run(body)
    assert scene.deeds == 1


def test_effect_is_unknown_when_the_lane_does_not_come_back_after_its_time(tmp_path, monkeypatch):
    monkeypatch.setattr(dispatch, "OVERTIME_S", -29.9)  # the order has 30 seconds
    scene = Scene(tmp_path, Hang())

    async def body(bench: Bench) -> None:
        answer = await bench.perform("files.write", WRITE)
        assert (answer.effect.state, answer.effect.code) == ("unknown", "lane_stuck")

    scene.run(body)
    assert scene.deeds == 1


def test_effect_is_unknown_when_the_lane_raises_what_only_the_executor_may(tmp_path):
    scene = Scene(tmp_path, Break(error=Refused("host_refused", "not a lane's to say once it has begun")))

    async def body(bench: Bench) -> None:
        answer = await bench.perform("files.write", WRITE)
        assert (answer.effect.state, answer.effect.code) == ("unknown", "lane_broken")

    scene.run(body)


@pytest.mark.parametrize(("stops", "state"), [(True, "cancelled"), (False, "unknown")])
def test_effect_is_settled_truly_when_its_caller_gives_up_while_the_lane_works(tmp_path, stops, state):
    scene = Scene(tmp_path, Hang(stops=stops))

    async def body(bench: Bench) -> None:
        call = asyncio.ensure_future(bench.perform("files.write", WRITE, key="k"))
        await scene.lanes[FileOrder].started.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        effect = await bench.store.effect_by_key(ACME, "k")
        assert str(effect.state) == state

    scene.run(body)


def test_effect_is_settled_when_its_caller_gives_up_twice(tmp_path, monkeypatch):
    scene = Scene(tmp_path, Hang(stops=True))

    async def body(bench: Bench) -> None:
        real, gate = bench.dispatcher._carried, asyncio.Event()

        async def slow(*parts: Any) -> Any:
            outcome = await real(*parts)
            await gate.wait()
            return outcome

        monkeypatch.setattr(bench.dispatcher, "_carried", slow)
        call = asyncio.ensure_future(bench.perform("files.write", WRITE, key="k"))
        await scene.lanes[FileOrder].started.wait()
        for _ in range(3):
            call.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await call
        effect = await bench.store.effect_by_key(ACME, "k")
        assert str(effect.state) == "cancelled"

    scene.run(body)


@pytest.mark.parametrize("turns", range(8))
def test_no_effect_stays_dispatched_when_its_caller_gives_up_at_any_moment(scene, turns):
    async def body(bench: Bench) -> None:
        await bench.perform("files.write", WRITE)
        for number in range(4):
            call = asyncio.ensure_future(bench.perform("files.write", WRITE, key=f"k{number}"))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            with suppress(asyncio.CancelledError):
                await call
        await _nothing_is_left_dispatched(bench, scene)

    scene.run(body)


def test_no_effect_stays_dispatched_when_its_caller_gives_up_as_the_commit_is_answered(scene, monkeypatch):
    """The worst moment: the acceptance is durable and its answer lost, so nobody else knows of the dispatch."""

    async def body(bench: Bench) -> None:
        await bench.perform("files.write", WRITE)
        real = bench.gate._store.apply
        lost: list[asyncio.Task[Any]] = []

        async def apply(command: Any) -> Any:
            result = await real(command)
            if lost and type(command).__name__ in ("Accept", "Dispatch"):
                lost.pop().cancel()
                await asyncio.sleep(0)
            return result

        monkeypatch.setattr(bench.gate._store, "apply", apply)
        call = asyncio.ensure_future(bench.perform("files.write", WRITE, key="k"))
        lost.append(call)
        with pytest.raises(asyncio.CancelledError):
            await call
        effect = await bench.store.effect_by_key(ACME, "k")
        assert str(effect.state) == "cancelled"
        waiting, review = await asked(bench)
        await bench.reviews.approve(ACME, review, by=BOB)
        release = asyncio.ensure_future(bench.gate.release(ACME, waiting))
        lost.append(release)
        with pytest.raises(asyncio.CancelledError):
            await release
        assert await state_of(bench, waiting) == "cancelled"

    scene.run(body)
    assert scene.deeds == 1


async def _nothing_is_left_dispatched(bench: Bench, scene: Scene) -> None:
    effects = await bench.store.effects(ACME, limit=99)
    assert {e.state for e in effects} <= {EffectState.SUCCEEDED, EffectState.CANCELLED}
    assert sum(e.state is EffectState.SUCCEEDED for e in effects) <= scene.deeds


def test_one_stuck_lane_does_not_keep_others_waiting(tmp_path):
    scene = Scene(tmp_path, Hang(), Reply())

    async def body(bench: Bench) -> None:
        stuck = asyncio.ensure_future(bench.perform("files.write", WRITE))
        await scene.lanes[FileOrder].started.wait()
        async with asyncio.timeout(10):
            answers = await asyncio.gather(*(bench.perform("files.write", WRITE) for _ in range(20)))
        assert {a.effect.state for a in answers} == {EffectState.SUCCEEDED}
        stuck.cancel()
        await asyncio.wait([stuck])

    scene.run(body)


# Leases


def test_nothing_is_accepted_when_the_lease_is_lost_and_work_goes_on_when_it_is_renewed(scene):
    async def body(bench: Bench) -> None:
        scene.clock.pass_ms(LEASE_TTL_MS)
        with pytest.raises(Unavailable) as refused:
            await bench.perform("files.write", WRITE)
        assert refused.value.code == "lease_lost"
        assert await bench.renew()
        assert (await bench.perform("files.write", WRITE)).effect.state is EffectState.SUCCEEDED

    scene.run(body)
    assert scene.deeds == 1


def test_a_node_that_was_fenced_out_ends_clearly_and_its_late_result_is_not_applied(tmp_path):
    scene = Scene(tmp_path, Hang(stops=True))

    async def body(bench: Bench) -> None:
        call = asyncio.ensure_future(bench.perform("files.write", WRITE, key="k"))
        await scene.lanes[FileOrder].started.wait()
        await bench.store.apply(FenceOut(tenant=SYSTEM, fence=bench.fence, dead=True))
        assert not await bench.renew()
        call.cancel()
        await asyncio.wait([call])
        effect = await bench.store.effect_by_key(ACME, "k")
        assert (effect.state, effect.code) == ("unknown", "node_lost")
        assert [m.type for m in await bench.timelines.of_effect(ACME, effect.id)][-1] == "effect.late_result"
        assert await code_of(bench.perform("files.write", WRITE)) == "lease_lost"
        assert await code_of(bench.store.apply(ExpireReviews(tenant=ACME))) == ""

    scene.run(body)


@pytest.mark.parametrize("jump_ms", [-86_400_000, -1_000, 1_000, 86_400_000])
def test_work_goes_on_after_a_heartbeat_when_the_clock_jumps(scene, jump_ms):
    async def body(bench: Bench) -> None:
        await bench.perform("files.write", WRITE)
        scene.clock.jump_ms(jump_ms)
        assert await bench.renew()
        answer = await bench.perform("files.write", WRITE)
        assert (answer.effect.state, answer.effect.code) == ("succeeded", "ok")

    scene.run(body)
    assert scene.deeds == 2


# Asking for what is not there


def test_release_and_explanations_say_not_found_when_the_tenant_is_another(scene):
    async def body(bench: Bench) -> None:
        effect, review = await asked(bench)
        stranger = TenantId("globex")
        with pytest.raises(NotFound):
            await bench.gate.release(stranger, effect)
        with pytest.raises(NotFound):
            await bench.timelines.explain(stranger, effect)
        with pytest.raises(NotFound):
            await bench.reviews.approve(stranger, review, by=BOB)
        with pytest.raises(NotFound):
            await bench.recovery.attest(stranger, effect, happened=True, by=BOB, reason="")
        assert await bench.timelines.latest(stranger) == []
        inbox = await bench.timelines.inbox(stranger)
        assert (inbox.reviews, inbox.unknown, inbox.granted) == ((), (), ())
        with pytest.raises(Conflict):
            await bench.gate.release(ACME, effect)

    scene.run(body)


def test_settled_calls_are_told_again_when_only_their_key_is_known(tmp_path):
    scene = Scene(tmp_path, Reply(ending=Ending.FAILED, code="no_space", message="full", value={"left": 0}))

    async def body(bench: Bench) -> None:
        await bench.perform("files.write", WRITE, key="k")
        again = await bench.perform("files.write", WRITE, key="k")
        assert again.outcome is not None
        assert (again.effect.state, again.outcome.code, again.outcome.value) == ("failed", "no_space", {"left": 0})

    scene.run(body)
    assert scene.deeds == 1


def test_policy_of_another_release_is_told_from_one_that_keeps_changing(scene):
    async def body(bench: Bench) -> None:
        found = await bench.policies.active_revision(ACME)
        assert found is not None
        text = f"{WORK_POLICY}// as another release read it\n"
        older = ActivatePolicy(
            tenant=ACME, revision=digest(b"other facts"), text=text, by=ANN,
            expected=found[0],
        )  # fmt: skip
        await bench.store.apply(older)
        bench.policies.forget(ACME)
        with pytest.raises(Refused) as refused:
            await bench.perform("files.write", WRITE)
        assert refused.value.code == "policy_outdated"
        assert await bench.store.effects(ACME, limit=9) == []
        assert (await bench.policies.activate(ACME, text, by=ANN)).changed
        assert (await bench.perform("files.write", WRITE)).effect.state is EffectState.SUCCEEDED

    scene.run(body)
    assert scene.deeds == 1
