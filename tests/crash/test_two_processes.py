"""Two processes on one database: they take turns, share keys, and a sleeper that was fenced out changes nothing."""

from __future__ import annotations

import asyncio
import signal
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from assent.bootstrap.system import SystemClock, SystemEntropy
from assent.ledger.budget_limits import Limit
from assent.ledger.budgets import Unit, Window
from assent.ledger.effects import Effect, EffectState
from assent.primitives.digests import digest
from assent.testing.benches import ACME, Bench, opened_bench
from assent.testing.lanes import Reply, as_lanes, scripted_lanes
from tests.crash.child import journal_of, parts_in
from tests.crash.worlds import child, words

WRITERS = 3
SHARED = 40
BUDGET = 100
SLEEPER_TTL_MS = 400


@pytest.mark.slow
def test_each_key_has_one_effect_when_several_processes_ask_for_the_same(tmp_path):
    told: list[list[str]] = []
    with ExitStack() as stack:
        writers = [
            stack.enter_context(child(tmp_path, does="shared", scripted=True, count=SHARED)) for _ in range(WRITERS)
        ]
        assert [words(w) for w in writers] == [["start"]] * WRITERS
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("go\n")
            writer.stdin.flush()
        for writer in writers:
            told += [words(writer) for _ in range(SHARED)]
            assert writer.wait(timeout=60) == 0
    by_key: dict[str, list[tuple[str, str]]] = {}
    for _, key, effect, fresh, _ in told:
        by_key.setdefault(key, []).append((effect, fresh))
    assert len(by_key) == SHARED
    for answers in by_key.values():
        assert len(answers) == WRITERS
        assert len({effect for effect, _ in answers}) == 1
        assert [fresh for _, fresh in answers].count("True") == 1
    assert len(journal_of(tmp_path).lines()) == SHARED
    report = parts_in(tmp_path, lanes={}, clock=SystemClock()).folder.verify()
    assert report.ok, report.faults


@pytest.mark.slow
@pytest.mark.parametrize("writers", [1, 16])
def test_budget_is_spent_to_its_last_call_and_never_beyond_when_several_processes_race(tmp_path, writers):
    limits = (
        Limit(scope="tenant", unit=Unit.CALLS, amount=BUDGET, window=Window.ALL),
        Limit(scope="agent:writer", unit=Unit.CALLS, amount=2 * BUDGET, window=Window.MONTH),
    )
    plan = {"does": "spend", "scripted": True, "writers": writers, "limits": msgspec.to_builtins(limits)}
    with ExitStack() as stack:
        spenders = [stack.enter_context(child(tmp_path, **plan)) for _ in range(WRITERS)]
        assert [words(one) for one in spenders] == [["start"]] * WRITERS
        for one in spenders:
            assert one.stdin is not None
            one.stdin.write("go\n")
            one.stdin.flush()
        told = [words(one) for one in spenders]
        assert [one.wait(timeout=60) for one in spenders] == [0] * WRITERS
    assert sum(int(count) for _, count in told) == BUDGET
    assert len(journal_of(tmp_path).lines()) == BUDGET

    async def look(bench: Bench) -> None:
        found = await bench.store.budgets(ACME, limit=9)
        assert {(one.scope, one.spent, one.held) for one in found} == {
            ("tenant", BUDGET, 0), ("agent:writer", BUDGET, 0),
        }  # fmt: skip
        (stopped,) = await bench.store.budgets(ACME, stopped=True, limit=9)
        assert stopped.stops == WRITERS * writers, "each of them was told once, and it is on record"

    async def run() -> None:
        async with bench_in(tmp_path) as bench:
            await look(bench)

    asyncio.run(run())
    report = parts_in(tmp_path, lanes={}, clock=SystemClock()).folder.verify()
    assert report.ok, report.faults


@pytest.mark.slow
def test_sleeper_past_its_lease_is_fenced_out_and_its_late_result_is_not_applied(tmp_path):
    with child(tmp_path, does="sleepy", scripted=True, ttl_ms=SLEEPER_TTL_MS) as sleeper:
        assert words(sleeper) == ["deed"]
        sleeper.send_signal(signal.SIGSTOP)
        asyncio.run(take_over(tmp_path))
        sleeper.send_signal(signal.SIGCONT)
        assert sleeper.stdin is not None
        sleeper.stdin.write("go\n")
        sleeper.stdin.flush()
        assert words(sleeper) == ["state", "succeeded"], "it hears what the record says, not what it did"
        assert words(sleeper) == ["renewed", "False"]
        assert words(sleeper) == ["refused", "lease_lost"]
        assert sleeper.wait(timeout=30) == 0
    asyncio.run(look_back(tmp_path))


async def take_over(folder: Path) -> None:
    """Wait until the sleeper's lease has lapsed, fence it out, and settle what it had begun."""
    async with bench_in(folder) as bench:
        for _ in range(3_000):
            if all(lapsed for lease, lapsed in await bench.store.leases() if lease.holder != bench.fence.node):
                break
            await asyncio.sleep(0.01)
        await bench.recovery.fence_out_the_dead()
        lost = await bench.store.effect_by_key(ACME, "sleepy")
        assert (lost.state, lost.code) == ("unknown", "node_lost")
        (after,) = await bench.recovery.reconcile(ACME)
        assert after.state is EffectState.SUCCEEDED


async def look_back(folder: Path) -> None:
    """What the record says in the end."""
    async with bench_in(folder) as bench:
        effect: Effect | None = await bench.store.effect_by_key(ACME, "sleepy")
        assert effect is not None
        types = [m.type for m in await bench.timelines.of_effect(ACME, effect.id)]
        assert types == ["effect.accepted", "effect.lost", "effect.judged", "effect.late_result"]
        assert (effect.state, effect.code) == ("succeeded", "happened")
        assert await bench.store.effect_by_key(ACME, "after") is None
    report = parts_in(folder, lanes={}, clock=SystemClock()).folder.verify()
    assert report.ok, report.faults


def bench_in(folder: Path):
    """A second node over the same database; its scripted look says that the file is there."""
    clock = SystemClock()
    seen = Reply(value={"exists": True, "kind": "file", "sha256": digest(b"x")})
    lanes = as_lanes(scripted_lanes([seen], clock=clock, journal=journal_of(folder)))
    return opened_bench(parts_in(folder, lanes=lanes, clock=clock), entropy=SystemEntropy())


@pytest.mark.slow
def test_both_processes_recover_what_a_third_left_behind_and_each_effect_is_settled_once(tmp_path):
    with child(tmp_path, does="many", scripted=True, prefix="dead", point="after_lane", at=40) as process:
        while words(process):
            pass
        assert process.wait(timeout=30) == -signal.SIGKILL

    async def recover(bench: Bench) -> None:
        await bench.recovery.fence_out_the_dead()
        for _ in range(5):
            await bench.recovery.reconcile(ACME)

    async def both() -> list[Effect]:
        async with bench_in(tmp_path) as one, bench_in(tmp_path) as two:
            await asyncio.gather(recover(one), recover(two))
            await recover(one)  # looks that one of them left to the other are made now
            found: list[Effect] = await one.store.effects(ACME, limit=10_000)
            for effect in found:
                types = [m.type for m in await one.timelines.of_effect(ACME, effect.id)]
                assert types.count("effect.lost") <= 1
            return found

    effects = asyncio.run(both())
    lost = [e for e in effects if e.state is EffectState.QUARANTINED]
    assert lost, "appends that were under way cannot be told from others' and wait for a person"
    assert {e.state for e in effects} <= {EffectState.SUCCEEDED, EffectState.QUARANTINED}
    assert all(e.observations == 5 for e in lost)
    report = parts_in(tmp_path, lanes={}, clock=SystemClock()).folder.verify()
    assert report.ok, report.faults
