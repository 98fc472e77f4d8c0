"""Sixteen writers, killed at places nobody chose, again and again: what was acknowledged is there, every time."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from assent.bootstrap.system import SystemClock, SystemEntropy
from assent.ledger import verify_standalone
from assent.ledger.effects import EffectState
from assent.testing.benches import ACME, opened_bench
from assent.testing.lanes import as_lanes, scripted_lanes
from tests.crash.child import journal_of, parts_in
from tests.crash.worlds import child, words

ROUNDS = 6


@pytest.mark.slow
def test_every_acknowledged_call_is_on_record_when_the_writer_is_killed_at_random(tmp_path):
    chance = random.Random(7)
    acknowledged: dict[str, str] = {}
    for number in range(ROUNDS):
        with child(tmp_path, does="many", scripted=True, prefix=f"round{number}") as process:
            for _ in range(chance.randrange(1, 400)):
                word = words(process)
                assert word[0] == "ack"
                acknowledged[word[1]] = word[2]
            process.kill()
            assert process.stdout is not None
            for line in process.stdout.read().splitlines():  # told before it died, and perhaps cut short
                word = line.split()
                if len(word) == 4:
                    acknowledged[word[1]] = word[2]
        asyncio.run(check(tmp_path, acknowledged))
        ledger = parts_in(tmp_path, lanes={}, clock=SystemClock()).folder
        report = ledger.verify()
        assert report.ok, report.faults
        assert verify_standalone.main([str(ledger.database), "--key", ledger.key]) == 0
    assert len(acknowledged) > ROUNDS * 16


async def check(folder: Path, acknowledged: dict[str, str]) -> None:
    """Compare the ledger with what callers were told and with what was done."""
    clock, journal = SystemClock(), journal_of(folder)
    parts = parts_in(folder, lanes=as_lanes(scripted_lanes(clock=clock, journal=journal)), clock=clock)
    async with opened_bench(parts, entropy=SystemEntropy()) as bench:
        effects = {e.key: e for e in await bench.store.effects(ACME, limit=1_000_000)}
        (calls,) = await bench.store.budgets(ACME, scope="tenant", limit=9)
    for key, effect in acknowledged.items():
        assert effects[key].id == effect
        assert effects[key].state is EffectState.SUCCEEDED
    states = {e.state for e in effects.values()}
    assert states <= {EffectState.SUCCEEDED, EffectState.UNKNOWN}
    deeds = len(journal.lines())
    succeeded = sum(e.state is EffectState.SUCCEEDED for e in effects.values())
    assert (calls.spent, calls.held) == (succeeded, len(effects) - succeeded), "what is not known to have ended is held"
    assert succeeded <= deeds <= len(effects), "each effect was done at most once, each receipt is for a deed"
