"""Budgets at the gate: what is held, what is used, what is stopped, and what a crash of anything leaves held."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from assent.execution.attestations import ConfinementClass
from assent.execution.obligations import Obligations
from assent.execution.orders import FileOrder, Order
from assent.execution.outcomes import Ending, Outcome
from assent.ledger.budget_limits import Limit
from assent.ledger.budgets import Budget, Hold, Unit, Window
from assent.ledger.connectors.unobserved import Unobserved
from assent.ledger.contracts import Argument, EffectClass, Idempotency, OperationContract
from assent.ledger.operations import Facts, Place
from assent.operations.wishes import Answer
from assent.primitives.errors import Malformed, Refused
from assent.testing.benches import ACME, ANN, WORK_POLICY, Bench, wish
from assent.testing.desks import code_of
from assent.testing.lanes import Break, Hang, Reply, Step
from tests.operations.scenes import BOB, WRITE, Scene, asked, now

POLICY = WORK_POLICY + '@id("ask") permit (principal, action, resource in Connector::"model");\n'


class Asking(Unobserved):
    """An operation that says what it may use and reads what it did use."""

    contract = OperationContract(
        name="model.ask",
        summary="ask",
        effect=EffectClass.READ,
        idempotency=Idempotency.NATURAL,
        arguments=(Argument(name="most", kind="integer", help="how much at most", required=True),),
        floor=ConfinementClass.LOCAL_WEAK,
    )

    def facts(self, arguments: dict[str, Any], place: Place) -> Facts:
        return Facts()

    def plan(self, arguments: dict[str, Any], place: Place, obligations: Obligations, key: str) -> Order:
        return FileOrder(verb="read", workspace=place.workspace, path="x", limits=obligations.limits)

    def estimate(self, arguments: dict[str, Any], place: Place) -> Mapping[str, int]:
        if arguments["most"] == 13:
            raise Malformed("arguments_invalid", "thirteen cannot be estimated")
        return {"tokens": arguments["most"], "micros": 10 * arguments["most"]}

    def usage(self, outcome: Outcome) -> Mapping[str, int]:
        if outcome.value.get("used") == "broken":
            raise RuntimeError("nobody can read this")
        return {"tokens": outcome.value["used"]} if "used" in outcome.value else {}


def scene(path: Path, *limits: Limit, steps: tuple[Step, ...] = ()) -> Scene:
    made = Scene(path, *steps, policy=POLICY)
    made.parts = replace(made.parts, limits=limits, operations=(*made.parts.operations, Asking()))
    return made


def limit(amount: int, unit: Unit = Unit.TOKENS, scope: str = "tenant", window: Window = Window.ALL) -> Limit:
    return Limit(scope=scope, unit=unit, amount=amount, window=window)


async def ask(bench: Bench, most: int, *, key: str = "", run: str = "") -> Answer:
    return await bench.perform("model.ask", {"most": most}, key=key, run=run)


async def counted(bench: Bench) -> dict[str, tuple[int, int]]:
    """What is spent and held, by scope and unit."""
    found: list[Budget] = await bench.store.budgets(ACME, limit=99)
    return {f"{one.scope} {one.unit}": (one.spent, one.held) for one in found}


# What is held, and what counts


def test_call_holds_what_it_may_use_and_is_settled_with_what_it_used(tmp_path):
    limits = (
        limit(10),
        limit(100, Unit.MICROS, "agent:writer"),
        limit(9, Unit.CALLS, "person:ann"),
        limit(9, scope="run:*"),
    )
    here = scene(tmp_path, *limits, steps=(Reply(value={"used": 3}),))

    async def body(bench: Bench) -> None:
        answer = await ask(bench, 4, run="r")
        assert await counted(bench) == {
            "tenant tokens": (3, 0), "agent:writer micros": (40, 0), "person:ann calls": (1, 0), "run:r tokens": (3, 0),
        }  # fmt: skip
        first, last = await bench.store.history(ACME, answer.effect)
        assert [(h["scope"], h["unit"], h["amount"], h["limit"]) for h in first.body["holds"]] == [
            ("tenant", "tokens", 4, 10), ("agent:writer", "micros", 40, 100), ("person:ann", "calls", 1, 9),
            ("run:r", "tokens", 4, 9),
        ]  # fmt: skip
        assert last.body["used"] == {"calls": 1, "tokens": 3}

    here.run(body)


def test_time_is_counted_by_the_clock_and_held_by_the_wall_limit(tmp_path):
    here = scene(tmp_path, limit(45_000, Unit.WALL_MS), steps=(Hang(),))

    async def body(bench: Bench) -> None:
        call = asyncio.ensure_future(bench.perform("files.write", WRITE, key="k"))
        await here.lanes[FileOrder].started.wait()
        assert await counted(bench) == {"tenant wall_ms": (0, 30_000)}
        assert (await bench.perform("files.write", WRITE)).effect.code == "budget_exhausted"
        here.clock.pass_ms(700)
        call.cancel()
        await asyncio.wait([call])
        assert await counted(bench) == {"tenant wall_ms": (700, 0)}

    here.run(body)


def test_entries_say_nothing_of_budgets_when_no_limit_meets_the_call(tmp_path):
    here = scene(tmp_path, limit(10), limit(10, Unit.CALLS, "agent:other"))

    async def body(bench: Bench) -> None:
        answer = await bench.perform("files.write", WRITE)
        for record in await bench.store.history(ACME, answer.effect):
            assert not {"holds", "used", "brought", "budget"} & record.body.keys()
        assert await bench.store.budgets(ACME, limit=9) == []

    here.run(body)


def test_call_of_a_schedule_counts_for_its_trigger(tmp_path):
    here = scene(tmp_path, limit(9, Unit.CALLS, "trigger:nightly"), limit(9, Unit.CALLS, "agent:*"))

    async def body(bench: Bench) -> None:
        asked_for = replace(wish("files.write", WRITE), on_behalf_of=("schedule:nightly",))
        assert (await bench.gate.perform(asked_for)).effect.state == "succeeded"
        assert await counted(bench) == {"agent:writer calls": (1, 0), "trigger:nightly calls": (1, 0)}

    here.run(body)


@pytest.mark.parametrize("value", [{}, {"used": "broken"}, {"used": -1}, {"used": 1.5}, {"used": True}])
@pytest.mark.parametrize("ending", [Ending.SUCCEEDED, Ending.FAILED, Ending.CANCELLED])
def test_whole_hold_counts_when_the_outcome_does_not_tell(tmp_path, value, ending):
    here = scene(tmp_path, limit(10), steps=(Reply(ending=ending, value=value),))

    async def body(bench: Bench) -> None:
        await ask(bench, 4)
        assert await counted(bench) == {"tenant tokens": (4, 0)}

    here.run(body)


def test_nothing_counts_when_the_order_was_refused_at_the_door(tmp_path, monkeypatch):
    here = scene(tmp_path, limit(10), limit(10, Unit.CALLS), limit(99_999, Unit.WALL_MS))

    async def body(bench: Bench) -> None:
        async def refuse(**_: Any) -> Outcome:
            raise Refused("target_missing", "there is no such target here")

        monkeypatch.setattr(bench.executor, "carry", refuse)
        answer = await ask(bench, 4)
        assert (answer.effect.state, answer.effect.code) == ("failed", "target_missing")
        assert set((await counted(bench)).values()) == {(0, 0)}

    here.run(body)


def test_nothing_counts_when_the_caller_gives_up_before_it_heard_of_the_dispatch(tmp_path, monkeypatch):
    here = scene(tmp_path, limit(10), limit(10, Unit.CALLS))

    async def body(bench: Bench) -> None:
        real = bench.gate._store.apply
        lost: list[asyncio.Task[Any]] = []

        async def answer_lost(command: Any) -> Any:
            result = await real(command)
            if lost:
                lost.pop().cancel()
                await asyncio.sleep(0)
            return result

        monkeypatch.setattr(bench.gate._store, "apply", answer_lost)
        call = asyncio.ensure_future(ask(bench, 4, key="k"))
        lost.append(call)
        await asyncio.wait([call])
        assert call.cancelled()
        effect = await bench.store.effect_by_key(ACME, "k")
        assert str(effect.state) == "cancelled"
        assert set((await counted(bench)).values()) == {(0, 0)}

    here.run(body)


def test_call_with_holds_costs_two_commits_like_any_other(tmp_path, monkeypatch):
    limits = (limit(10**6), limit(10**9, Unit.MICROS, "agent:writer"), limit(10**6, Unit.CALLS, "person:ann"))
    here = scene(tmp_path, *limits, steps=(Reply(value={"used": 3}),))

    async def body(bench: Bench) -> None:
        commits = itertools.count()
        writer: Any = bench.ledger._database._writer
        real = writer._committed
        monkeypatch.setattr(writer, "_committed", lambda: (next(commits), real()))
        answer = await ask(bench, 4)
        assert next(commits) == 2
        assert len((await bench.store.history(ACME, answer.effect))[0].body["holds"]) == 3

    here.run(body)


# What is stopped


def test_exhausted_budget_stops_the_call_with_a_refusal_on_record(tmp_path):
    here = scene(tmp_path, limit(10), steps=(Reply(value={"used": 8}),))

    async def body(bench: Bench) -> None:
        await ask(bench, 8)
        answer = await ask(bench, 3, key="k")
        assert (answer.effect.state, answer.effect.code, answer.outcome) == ("refused", "budget_exhausted", None)
        assert answer.decision is not None
        assert answer.decision.code == "budget_exhausted"
        assert answer.decision.reason == "`tenant` may use 10 tokens: 8 are used, and this call needs up to 3"
        (record,) = await bench.store.history(ACME, answer.effect)
        assert record.body["budget"] == {
            "scope": "tenant", "unit": "tokens", "window": "all", "since_ms": 0, "limit": 10, "spent": 8, "held": 0,
            "asked": 3,
        }  # fmt: skip
        assert (record.body["verdict"], record.body["rules"]) == ("deny", [])
        again = await ask(bench, 3, key="k")
        assert (again.fresh, again.effect) == (False, answer.effect)
        assert (await ask(bench, 2)).effect.state == "succeeded", "what fits is let through"

    here.run(body)
    assert here.deeds == 2


def test_exactly_as_many_calls_run_as_there_is_room_for_when_many_ask_at_once(tmp_path):
    here = scene(tmp_path, limit(30), steps=(Reply(value={"used": 4}),))

    async def body(bench: Bench) -> None:
        answers = await asyncio.gather(*(ask(bench, 4) for _ in range(40)))
        assert sum(a.effect.state == "succeeded" for a in answers) == 7
        assert {a.effect.code for a in answers} == {"ok", "budget_exhausted"}
        assert await counted(bench) == {"tenant tokens": (28, 0)}

    here.run(body)
    assert here.deeds == 7


def test_stop_waits_in_the_inbox_while_it_stands_and_goes_with_its_cause_or_when_it_was_seen(tmp_path):
    here = scene(tmp_path, limit(5, window=Window.DAY))

    async def body(bench: Bench) -> None:
        first, second = await ask(bench, 6), await ask(bench, 7)
        (stop,) = (await bench.timelines.inbox(ACME)).stops
        assert (stop.budget.stops, stop.budget.asked, stop.about.effect) == (2, 7, second.effect)
        assert await code_of(bench.budgets.dismiss(ACME, first.effect.id, by=ANN)) == "stop_not_found"
        assert await code_of(bench.budgets.dismiss(ACME, second.effect.id, by="agent:writer")) == "dismissal_not_yours"
        here.clock.jump_ms(86_400_000)
        assert (await bench.timelines.inbox(ACME)).stops == (), "a new day has room"
        here.clock.jump_ms(-86_400_000)
        assert (await bench.timelines.inbox(ACME)).stops == (stop,)
        await bench.budgets.dismiss(ACME, second.effect.id, by=ANN)
        assert (await bench.timelines.inbox(ACME)).stops == ()

    here.run(body)
    here.parts = replace(here.parts, limits=(limit(20, window=Window.DAY),))

    async def raised(bench: Bench) -> None:
        await ask(bench, 21)
        assert len((await bench.timelines.inbox(ACME)).stops) == 1

    here.run(raised)
    here.parts = replace(here.parts, limits=(limit(21, window=Window.DAY),))

    async def gone(bench: Bench) -> None:
        assert (await bench.timelines.inbox(ACME)).stops == ()

    here.run(gone)


def test_call_is_refused_when_its_operation_cannot_estimate_it(tmp_path):
    here = scene(tmp_path, limit(99))

    async def body(bench: Bench) -> None:
        assert (await ask(bench, 13)).effect.code == "arguments_invalid"
        assert (await ask(bench, -1)).effect.code == "arguments_invalid", "no amount"
        assert await counted(bench) == {}

    here.run(body)
    assert here.deeds == 0


# What the asker brings


def brought(most: int, amount: int = 4, scope: str = "run:r") -> Hold:
    return Hold(scope=scope, unit=Unit.TOKENS, window=Window.ALL, amount=amount, limit=most)


def test_asker_can_bring_holds_and_so_tighten_and_never_loosen(tmp_path):
    here = scene(tmp_path, limit(10), steps=(Reply(value={"used": 4}),))

    async def body(bench: Bench) -> None:
        own = replace(wish("model.ask", {"most": 4}), holds=(brought(5), brought(1_000, amount=1, scope="tenant")))
        assert (await bench.gate.perform(own)).effect.state == "succeeded"
        assert await counted(bench) == {"run:r tokens": (4, 0), "tenant tokens": (4, 0)}
        answer = await bench.gate.perform(own)
        assert answer.decision is not None
        assert "`run:r` may use 5 tokens" in answer.decision.reason
        loose = replace(own, holds=(brought(1_000, amount=1, scope="tenant"),), arguments={"most": 7})
        assert (await bench.gate.perform(loose)).effect.code == "budget_exhausted", "the limit of the settings holds"

    here.run(body)


@pytest.mark.parametrize(
    "holds",
    [
        (brought(5), brought(6)),
        (brought(5, amount=0),),
        (brought(5, scope="x"),),
        [brought(5)],
        (5,),
        (replace(brought(5), scope=5),),
    ],
)
def test_wish_is_malformed_and_leaves_nothing_when_its_holds_are_none(tmp_path, holds):
    here = scene(tmp_path)

    async def body(bench: Bench) -> None:
        with pytest.raises(Malformed):
            await bench.gate.perform(replace(wish("files.write", WRITE), holds=holds))
        assert await bench.store.effects(ACME, limit=9) == []

    here.run(body)


def test_what_was_brought_is_held_when_the_call_is_released_after_its_review(tmp_path):
    here = scene(tmp_path, limit(9, Unit.CALLS))

    async def body(bench: Bench) -> None:
        own = replace(wish("files.delete", {"path": "a.txt"}), holds=(brought(5),))
        waiting = await bench.gate.perform(own)
        assert waiting.review is not None
        assert await counted(bench) == {}
        await bench.reviews.approve(ACME, waiting.review.id, by=BOB)
        assert (await bench.gate.release(ACME, waiting.effect.id)).effect.state == "succeeded"
        assert await counted(bench) == {"run:r tokens": (4, 0), "tenant calls": (1, 0)}

    here.run(body)


def test_approved_call_keeps_its_approval_when_it_finds_no_room(tmp_path):
    here = scene(tmp_path, limit(0, Unit.CALLS))

    async def body(bench: Bench) -> None:
        effect, review = await asked(bench)
        await bench.reviews.approve(ACME, review, by=BOB)
        for stops in (1, 2):
            answer = await bench.gate.release(ACME, effect)
            assert answer.decision is not None
            assert (answer.effect.state, answer.decision.code) == ("granted", "budget_exhausted")
            (stop,) = (await bench.timelines.inbox(ACME)).stops
            assert (stop.budget.stops, stop.about.effect.id) == (stops, effect)

    here.run(body)
    assert here.deeds == 0
    here.parts = replace(here.parts, limits=(limit(1, Unit.CALLS),))

    async def later(bench: Bench) -> None:
        (waiting,) = (await bench.timelines.inbox(ACME)).granted
        assert (await bench.gate.release(ACME, waiting.effect.id)).effect.state == "succeeded"
        assert await counted(bench) == {"tenant calls": (1, 0)}
        assert (await bench.timelines.inbox(ACME)).stops == ()

    here.run(later)


# What nobody heard the end of


@pytest.mark.parametrize(("happened", "spent"), [(True, 4), (False, 0)])
def test_hold_of_an_unknown_call_stands_until_a_person_says_what_happened(tmp_path, happened, spent):
    here = scene(tmp_path, limit(10), steps=(Break(error=RuntimeError("lost")),))

    async def body(bench: Bench) -> None:
        answer = await ask(bench, 4)
        assert answer.effect.state == "unknown"
        assert await counted(bench) == {"tenant tokens": (0, 4)}
        await bench.recovery.attest(ACME, answer.effect.id, happened=happened, by=ANN, reason="I looked")
        assert await counted(bench) == {"tenant tokens": (spent, 0)}

    here.run(body)


def test_call_that_is_sent_again_uses_its_hold_even_when_nothing_else_is_left(tmp_path):
    here = scene(tmp_path, limit(4), steps=(Break(error=RuntimeError("lost")), Reply(value={"used": 1})))

    async def body(bench: Bench) -> None:
        answer = await ask(bench, 4)
        (after,) = await bench.recovery.reconcile(ACME)
        assert (after.state, after.attempt) == ("succeeded", 2)
        assert await counted(bench) == {"tenant tokens": (4, 0)}, "the first attempt may have used all of it"
        history = await bench.store.history(ACME, await now(bench, answer.effect.id))
        assert [record.type for record in history] == [
            "effect.accepted",
            "effect.settled",
            "effect.resent",
            "effect.settled",
        ]
        assert history[-1].body["used"] == {"tokens": 1}

    here.run(body)


def test_reconciler_may_look_when_every_budget_is_exhausted(tmp_path):
    here = scene(
        tmp_path, limit(1, Unit.CALLS), steps=(Break(error=RuntimeError("lost")), Reply(value={"exists": False}))
    )

    async def body(bench: Bench) -> None:
        await bench.perform("files.write", WRITE)
        assert (await bench.perform("files.list", {"path": "."})).effect.code == "budget_exhausted"
        (after,) = await bench.recovery.reconcile(ACME)
        assert (after.state, after.code) == ("failed", "not_happened")
        assert await counted(bench) == {"tenant calls": (0, 0)}

    here.run(body)
