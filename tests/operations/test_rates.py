"""Rules that count: at most so many calls an hour, however many are made at once, by however many nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from assent.ledger.budget_limits import Limit
from assent.ledger.budgets import Hold, Unit, Window
from assent.ledger.intents import Intent
from assent.operations.wishes import Answer
from assent.primitives.ids import ReviewId
from assent.testing.benches import ACME, WORK_POLICY, Bench, opened_bench, wish
from assent.testing.lanes import Break, Reply
from tests.operations.scenes import CYD, WRITE, Scene, asked

LOST = Break(error=OSError("torn"))
HOUR_MS, DAY_MS = 3_600_000, 86_400_000


def at_most(count: int, name: str = "calls_this_hour", operation: str = "files.write") -> str:
    return (
        f'@id("at-most") @reason("that is enough") forbid (principal, action, resource == Operation::"{operation}")\n'
        f"when {{ context has {name} && context.{name} >= {count} }};\n"
    )


ASKED_FROM_TWO = (
    '@id("ask") @review("Go on?") forbid (principal, action, resource == Operation::"files.write")\n'
    "when { context has calls_today && context.calls_today >= 2 }\n"
    "unless { context has approval && context.approval.intent == context.intent };\n"
)


async def writes(bench: Bench, count: int, *, run: str = "") -> list[Answer]:
    return await asyncio.gather(*(bench.perform("files.write", WRITE, run=run) for _ in range(count)))


def verdicts(answers: list[Answer]) -> dict[str, int]:
    found = [f"{one.effect.state} {','.join(one.decision.rules if one.decision else ())}" for one in answers]
    return {name: found.count(name) for name in sorted(set(found))}


async def counts(bench: Bench) -> dict[str, int]:
    return {f"{one.scope} {one.window}": one.spent + one.held for one in await bench.store.budgets(
        ACME, scope="rate:", limit=99)}  # fmt: skip


def test_exactly_as_many_calls_get_through_as_a_rule_says_when_all_are_made_at_once(tmp_path: Path) -> None:
    here = Scene(tmp_path, policy=WORK_POLICY + at_most(10))

    async def body(bench: Bench) -> None:
        assert verdicts(await writes(bench, 60)) == {"refused at-most": 50, "succeeded work": 10}
        assert here.deeds == 10
        assert await counts(bench) == {"rate:agent:writer files.write hour": 10}

    here.run(body)


def test_exactly_as_many_get_through_by_two_nodes_of_one_database(tmp_path: Path) -> None:
    here = Scene(tmp_path, policy=WORK_POLICY + at_most(10))

    async def body(bench: Bench) -> None:
        async with opened_bench(here.parts, entropy=here.entropy()) as other:
            both = await asyncio.gather(writes(bench, 20), writes(other, 20))
        assert verdicts([*both[0], *both[1]]) == {"refused at-most": 30, "succeeded work": 10}

    here.run(body)


@pytest.mark.parametrize(("name", "again_ms"), [("calls_this_hour", HOUR_MS), ("calls_today", DAY_MS)])
def test_count_begins_anew_with_its_window(tmp_path: Path, name: str, again_ms: int) -> None:
    here = Scene(tmp_path, policy=WORK_POLICY + at_most(1, name))

    async def body(bench: Bench) -> None:
        assert verdicts(await writes(bench, 2)) == {"refused at-most": 1, "succeeded work": 1}
        for _ in range(again_ms // 10_000):
            here.clock.pass_ms(10_000)
            assert await bench.renew()
        assert verdicts(await writes(bench, 2)) == {"refused at-most": 1, "succeeded work": 1}

    here.run(body)


def test_calls_of_a_run_are_counted_run_by_run_and_none_without_one(tmp_path: Path) -> None:
    here = Scene(tmp_path, policy=WORK_POLICY + at_most(2, "calls_in_run"))

    async def body(bench: Bench) -> None:
        for run in ("one", "two"):
            assert verdicts(await writes(bench, 3, run=run)) == {"refused at-most": 1, "succeeded work": 2}
        assert verdicts(await writes(bench, 3)) == {"succeeded work": 3}

    here.run(body)


def test_only_calls_that_were_let_through_are_counted_and_only_of_that_operation(tmp_path: Path) -> None:
    here = Scene(tmp_path, Reply(), policy=WORK_POLICY + at_most(2))

    async def body(bench: Bench) -> None:
        for _ in range(3):
            assert (await bench.perform("files.write", {"path": "../x", "content": ""})).effect.state == "refused"
            assert (await bench.perform("files.list", {"path": "."})).effect.state == "succeeded"
        assert verdicts(await writes(bench, 3)) == {"refused at-most": 1, "succeeded work": 2}

    here.run(body)


def test_nothing_is_counted_where_no_rule_reads_a_count(tmp_path: Path) -> None:
    here = Scene(tmp_path, policy=WORK_POLICY + at_most(2, operation="files.append"))

    async def body(bench: Bench) -> None:
        answer = (await writes(bench, 1))[0]
        assert await counts(bench) == {}
        (first, *_) = await bench.store.history(ACME, answer.effect)
        assert "holds" not in first.body

    here.run(body)


def test_people_are_asked_from_a_count_on_and_what_they_allow_counts_too(tmp_path: Path) -> None:
    here = Scene(tmp_path, policy=WORK_POLICY + ASKED_FROM_TWO)

    async def body(bench: Bench) -> None:
        answers = await writes(bench, 4)
        assert verdicts(answers) == {"in_review ask": 2, "succeeded work": 2}
        for answer in answers:
            if answer.review is not None:
                await bench.reviews.approve(ACME, answer.review.id, by=CYD)
                assert (await bench.gate.release(ACME, answer.effect.id)).effect.state == "succeeded"
        assert await counts(bench) == {"rate:agent:writer files.write day": 4}

    here.run(body)


def test_approved_call_is_decided_again_when_another_was_counted_first(tmp_path: Path) -> None:
    here = Scene(tmp_path, policy=WORK_POLICY + at_most(1, "calls_today", "files.delete"))

    async def body(bench: Bench) -> None:
        waiting = [await asked(bench) for _ in range(3)]
        for _, review in waiting:
            await bench.reviews.approve(ACME, review, by=CYD)
        released = await asyncio.gather(*(bench.gate.release(ACME, effect) for effect, _ in waiting))
        assert sorted(one.effect.state for one in released) == ["revoked", "revoked", "succeeded"]
        assert here.deeds == 1

    here.run(body)


def test_count_that_is_compared_with_another_fact_is_held_to_exactly(tmp_path: Path) -> None:
    rule = (
        '@id("sizes") forbid (principal, action, resource == Operation::"files.write")\n'
        "when { context has calls_this_hour && context.calls_this_hour >= context.payload_bytes };\n"
    )
    here = Scene(tmp_path, policy=WORK_POLICY + rule)

    async def body(bench: Bench) -> None:
        assert verdicts(await writes(bench, 9)) == {"refused sizes": 4, "succeeded work": 5}

    here.run(body)


def test_call_is_not_stopped_by_itself_when_it_is_sent_again(tmp_path: Path) -> None:
    here = Scene(tmp_path, LOST, Reply(), policy=WORK_POLICY + at_most(1))

    async def body(bench: Bench) -> None:
        answer = (await writes(bench, 1))[0]
        assert answer.effect.state == "unknown"
        assert verdicts(await writes(bench, 1)) == {"refused at-most": 1}
        (first, *_) = await bench.store.history(ACME, answer.effect)
        intent = msgspec.convert(msgspec.json.decode(first.payload)["intent"], Intent)
        again = await bench.gate.resend(answer.effect, intent)
        assert again.effect.state == "succeeded"
        assert await counts(bench) == {"rate:agent:writer files.write hour": 1}

    here.run(body)


# How much of its budgets is gone


ASKS = ' @review("Go on?")'


def from_on(percent: int, more: str = "") -> str:
    return (
        f'@id("nearly") @reason("most of the budget is used"){ASKS if more else ""}\n'
        'forbid (principal, action, resource == Operation::"files.write")\n'
        f"when {{ context has budget_used && context.budget_used >= {percent} }}{more};\n"
    )


ASKED = " unless { context has approval && context.approval.intent == context.intent }"
TEN_CALLS = Limit(scope="agent:writer", unit=Unit.CALLS, amount=10, window=Window.DAY)


def limited(path: Path, rule: str, *limits: Limit, steps: Sequence[Break | Reply] = ()) -> Scene:
    here = Scene(path, *steps, policy=WORK_POLICY + rule)
    here.parts = msgspec.structs.replace(here.parts, limits=limits)
    return here


def test_people_are_asked_once_most_of_a_budget_is_used_however_many_calls_are_made_at_once(tmp_path: Path) -> None:
    here = limited(tmp_path, from_on(80, ASKED), TEN_CALLS, Limit(scope="tenant", unit=Unit.CALLS, amount=1_000))

    async def body(bench: Bench) -> None:
        async with opened_bench(here.parts, entropy=here.entropy()) as other:
            answers = [one for some in await asyncio.gather(writes(bench, 10), writes(other, 10)) for one in some]
        assert verdicts(answers) == {"in_review nearly": 12, "succeeded work": 8}
        assert here.deeds == 8
        waits = next(one.effect for one in answers if one.review)
        await bench.reviews.approve(ACME, ReviewId(waits.review), by=CYD)
        assert (await bench.gate.release(ACME, waits.id)).effect.state == "succeeded"

    here.run(body)


def test_budget_that_is_renewed_and_one_that_is_lifted_are_seen_at_once(tmp_path: Path) -> None:
    here = limited(tmp_path, from_on(50), TEN_CALLS)

    async def body(bench: Bench) -> None:
        assert verdicts(await writes(bench, 6)) == {"refused nearly": 1, "succeeded work": 5}
        for _ in range(DAY_MS // 10_000):
            here.clock.pass_ms(10_000)
            assert await bench.renew()
        assert verdicts(await writes(bench, 1)) == {"succeeded work": 1}

    here.run(body)


def test_budget_of_what_a_call_does_not_use_is_nothing_to_it(
    tmp_path: Path,
) -> None:
    here = limited(tmp_path, from_on(1), Limit(scope="agent:writer", unit=Unit.TOKENS, amount=1))

    async def body(bench: Bench) -> None:
        assert verdicts(await writes(bench, 3)) == {"succeeded work": 3}  # writing uses no tokens

    here.run(body)


def test_what_an_asker_brings_is_a_budget_of_its_own(tmp_path: Path) -> None:
    here = limited(tmp_path, from_on(50))
    own = Hold(scope="run:r1", unit=Unit.CALLS, window=Window.ALL, amount=1, limit=4)

    async def body(bench: Bench) -> None:
        one = msgspec.structs.replace(wish("files.write", WRITE, run="r1"), holds=(own,))
        answers = [await bench.gate.perform(one) for _ in range(3)]
        assert verdicts(answers) == {"refused nearly": 1, "succeeded work": 2}

    here.run(body)


def test_what_a_call_holds_itself_was_not_used_before_it_when_it_is_sent_again(tmp_path: Path) -> None:
    here = limited(tmp_path, from_on(50), msgspec.structs.replace(TEN_CALLS, amount=2), steps=(LOST, Reply()))

    async def body(bench: Bench) -> None:
        (answer,) = await writes(bench, 1)
        assert answer.effect.state == "unknown"
        records = await bench.store.history(ACME, answer.effect)
        intent = msgspec.json.decode(records[0].payload or b"")["intent"]
        again = await bench.gate.resend(answer.effect, msgspec.convert(intent, Intent))
        assert again.effect.state == "succeeded"
        assert verdicts(await writes(bench, 1)) == {"refused nearly": 1}

    here.run(body)
