"""Back-tests and coverage: recorded calls, decided again under another policy."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from assent.ledger.decisions import Verdict
from assent.ledger.provenance import TYPED
from assent.operations.backtests import BackTest, Period
from assent.operations.wishes import Wish
from assent.primitives.errors import Malformed, NotFound
from assent.primitives.ids import EffectId
from assent.testing.benches import ACME, ANN, WORK_POLICY, Bench, wish
from tests.operations.scenes import WRITE, Scene

READS_ONLY = WORK_POLICY + '@id("frozen") forbid (principal, action == Action::"write", resource);\n'
FREE_DELETES = (
    WORK_POLICY[: WORK_POLICY.index('@id("delete-asked")')] + WORK_POLICY[WORK_POLICY.index('@id("outside")') :]
)
ASKING = WORK_POLICY + (
    '@id("ask-reads") @review("Read this?") forbid (principal, action == Action::"read", resource)'
    " unless { context has approval && context.approval.intent == context.intent };\n"
)


def changed(found: BackTest) -> list[tuple[str, str, int]]:
    return [(one.before, one.after, one.calls) for one in found.changes]


async def some_calls(bench: Bench) -> None:
    for number in range(3):
        await bench.perform("files.write", WRITE | {"content": f"{number}"})
    await bench.perform("files.read", {"path": "a.txt"})
    await bench.perform("files.read", {"path": "../out.txt"})
    await bench.perform("files.delete", {"path": "a.txt"})
    await bench.gate.perform(wish("files.delete", {"path": "b.txt"}, principal=ANN))


def test_nothing_changes_under_the_policy_that_decided(tmp_path: Path) -> None:
    scene = Scene(tmp_path)

    async def body(bench: Bench) -> None:
        await some_calls(bench)
        size = await bench.store.size(ACME)
        found = await bench.backtests.run(ACME, WORK_POLICY)
        assert (found.calls, found.verdicts) == (7, {"allow": 4, "deny": 1, "review": 2})
        assert (found.changes, found.drift, found.left_out) == ((), (), ())
        assert found.revision == found.active
        assert await bench.store.size(ACME) == size

    scene.run(body)
    assert scene.deeds == 4


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (READS_ONLY, [("allow", "deny", 3)]),
        (FREE_DELETES, [("review", "allow", 2)]),
        (ASKING, [("allow", "review", 1)]),
        ('@id("none") forbid (principal, action, resource);', [("allow", "deny", 4), ("review", "deny", 2)]),
    ],
)
def test_verdicts_that_change_are_counted_with_whom_and_what_they_reach(tmp_path: Path, policy, expected) -> None:
    async def body(bench: Bench) -> None:
        await some_calls(bench)
        found = await bench.backtests.run(ACME, policy)
        assert changed(found) == expected
        assert found.drift == found.changes
        assert [one.loosens for one in found.changes] == [policy is FREE_DELETES] * len(expected)

    Scene(tmp_path).run(body)


AT_MOST_TWO = WORK_POLICY + (
    '@id("two") @reason("two an hour") forbid (principal, action == Action::"write", resource)'
    " when { context has calls_this_hour && context.calls_this_hour >= 2 };\n"
)


def test_rules_that_count_are_told_what_they_would_have_been_told(tmp_path: Path) -> None:
    scene = Scene(tmp_path)

    async def body(bench: Bench) -> None:
        for _ in range(2):
            for number in range(4):
                await bench.perform("files.write", WRITE | {"content": f"{number}"})
            for _ in range(HOUR_MS // 10_000):
                scene.clock.pass_ms(10_000)
                assert await bench.renew()
        found = await bench.backtests.run(ACME, AT_MOST_TWO, covering=True)
        assert changed(found) == [("allow", "deny", 4)]
        assert {one.rule: one.calls for one in found.coverage.rules}["two"] == 4
        await bench.policies.activate(ACME, AT_MOST_TWO, by=ANN)
        again = await bench.backtests.run(ACME, AT_MOST_TWO)
        assert (again.changes, [(one.before, one.after, one.calls) for one in again.drift]) == (
            (), [("allow", "deny", 4)]
        )  # fmt: skip
        looser = await bench.backtests.run(ACME, AT_MOST_TWO.replace(">= 2", ">= 3"))
        assert changed(looser) == [("deny", "allow", 2)]

    scene.run(body)


HOUR_MS = 3_600_000


def test_change_names_agents_people_operations_effects_and_examples(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        await some_calls(bench)
        (change,) = (await bench.backtests.run(ACME, FREE_DELETES)).changes
        assert (change.agents, change.people) == ({"agent:writer": 1}, {ANN: 2})
        assert (change.operations, change.effects) == ({"files.delete": 2}, {"irreversible": 2})
        assert [example.rules for example in change.examples] == [("work",)] * 2
        for example in change.examples:
            assert (await bench.timelines.explain(ACME, EffectId(example.effect))).effect.operation == "files.delete"

    Scene(tmp_path).run(body)


def test_revision_in_force_and_what_was_decided_then_are_told_apart(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        await some_calls(bench)
        await bench.policies.activate(ACME, READS_ONLY, by=ANN)
        again = await bench.backtests.run(ACME, READS_ONLY)
        assert changed(again) == []
        assert [(one.before, one.after, one.calls) for one in again.drift] == [("allow", "deny", 3)]
        back = await bench.backtests.run(ACME, WORK_POLICY)
        assert changed(back) == [("deny", "allow", 3)]
        assert back.drift == ()
        first = await bench.backtests.text_of(ACME, back.revision)
        assert first == WORK_POLICY
        with pytest.raises(NotFound):
            await bench.backtests.text_of(ACME, "sha256:none")

    Scene(tmp_path).run(body)


def test_period_and_operation_bound_what_is_decided_again(tmp_path: Path) -> None:
    scene = Scene(tmp_path)

    async def body(bench: Bench) -> None:
        await bench.perform("files.write", WRITE)
        scene.clock.pass_ms(1_000)
        noon_ms = scene.clock.now_ms()
        await bench.perform("files.read", {"path": "a.txt"})
        await bench.perform("files.list", {})

        async def count(**period: object) -> int:
            return (await bench.backtests.run(ACME, WORK_POLICY, period=Period(**period))).calls  # type: ignore[arg-type]

        assert await count() == 3
        assert (await count(since_ms=noon_ms), await count(until_ms=noon_ms)) == (2, 1)
        assert (await count(operation="files.read"), await count(operation="files")) == (1, 3)
        assert await count(operation="file") == 0

    scene.run(body)


def test_call_is_left_out_and_told_when_it_cannot_be_decided_again(tmp_path: Path) -> None:
    scene = Scene(tmp_path)

    async def body(bench: Bench) -> None:
        await bench.perform("files.write", WRITE)
        await bench.perform("files.read", {"path": "a.txt"})
        await bench.perform("files.read", {"nonsense": True})
        await bench.perform("gone.away", {})
        other = sqlite3.connect(scene.folder.database)
        other.execute("UPDATE log SET payload = NULL, salt = NULL WHERE seq = 2")
        other.commit()
        other.close()
        found = await bench.backtests.run(ACME, READS_ONLY)
        assert found.calls == 1
        assert {one.why: one.calls for one in found.left_out} == {
            "its payload was erased": 1,
            "policy was not asked then (`arguments_invalid`)": 1,
            "`gone.away` is not offered any more": 1,
        }

    asyncio_only(scene, body)


def asyncio_only(scene: Scene, body) -> None:
    """As `Scene.run`, for a record that the test has erased from."""
    from assent.testing.benches import opened_bench

    async def whole() -> None:
        async with opened_bench(scene.parts, entropy=scene.entropy()) as bench:
            await body(bench)

    asyncio.run(whole())


def test_recorded_provenance_decides_and_not_todays(tmp_path: Path) -> None:
    vouched = WORK_POLICY + '@id("vouched") forbid (principal, action, resource) unless { context.integrity >= 2 };\n'

    async def body(bench: Bench) -> None:
        await bench.perform("files.read", {"path": "a.txt"})
        typed = Wish(tenant=ACME, operation="files.read", arguments={"path": "a.txt"}, principal=ANN, provenance=TYPED)
        await bench.gate.perform(typed)
        found = await bench.backtests.run(ACME, vouched)
        assert changed(found) == [("allow", "deny", 1)]
        assert found.changes[0].agents == {"agent:writer": 1}

    Scene(tmp_path).run(body)


def test_policy_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    async def body(bench: Bench) -> None:
        with pytest.raises(Malformed):
            await bench.backtests.run(ACME, "permit (principal, action, resource);")

    Scene(tmp_path).run(body)


def test_coverage_counts_every_rule_that_applies_and_calls_that_none_does(tmp_path: Path) -> None:
    policy = WORK_POLICY.replace('@id("fetch")', '@id("fetch")') + (
        '@id("reads") permit (principal, action == Action::"read", resource);\n'
        '@id("idle") forbid (principal, action, resource) when { context.payload_bytes > 1000000 };\n'
    )

    async def body(bench: Bench) -> None:
        await some_calls(bench)
        found = await bench.backtests.run(ACME, policy, covering=True)
        hits = {one.rule: one.calls for one in found.coverage.rules}
        assert hits == {"work": 7, "run": 0, "fetch": 0, "delete-asked": 2, "outside": 1, "reads": 2, "idle": 0}
        assert found.coverage.idle == ("run", "fetch", "idle")
        bare = '@id("only") permit (principal, action == Action::"read", resource);'
        found = await bench.backtests.run(ACME, bare, covering=True)
        assert found.coverage.unmatched == {"files.write": 3, "files.delete": 2}

    Scene(tmp_path).run(body)


def test_many_pages_are_read_and_progress_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from assent.operations import backtests

    monkeypatch.setattr(backtests, "PAGE", 3)

    async def body(bench: Bench) -> None:
        await some_calls(bench)
        told: list[int] = []
        found = await bench.backtests.run(ACME, WORK_POLICY, tell=told.append)
        assert found.calls == 7
        assert told[-1] == 7
        assert len(told) > 3
        assert found.verdicts[Verdict.REVIEW] == 2

    Scene(tmp_path).run(body)
