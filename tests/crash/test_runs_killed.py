"""A run of ten steps is killed by SIGKILL again and again, on either side of its commits, and goes on each time.

One life of the process follows the other, each dead after some commits, from one to seven; together the chains of lives
end at every kind of commit there is: a question, an answer, a call, its receipt, a look at what is unknown, a note.
Whatever the place: in the end the transcript is that of an undisturbed run, each deed was done once, no model was
asked twice for an answer that is on record, and the record verifies.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from assent.ledger.effects import EffectState
from assent.primitives.ids import EffectId
from tests.crash.run_child import LINES, WRITER, WRITTEN
from tests.crash.worlds import ROOT, SOURCES
from tests.operations.agents_house import ANN, TENANT, house

pytestmark = pytest.mark.slow
LIVES_MAX = 80
LENGTHS = (2, 5, 3, 7, 4, 8, 6)


def life(folder: Path, run: str, *, before: bool, at: int) -> list[dict[str, Any]]:
    """One process; what it said before its end."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCES), str(ROOT)])}
    plan = {"folder": str(folder), "run": run, "before": before, "at": at}
    done = subprocess.run(
        [sys.executable, "-m", "tests.crash.run_child", json.dumps(plan)],
        capture_output=True, text=True, env=environment, cwd=ROOT, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return [json.loads(one) for one in done.stdout.splitlines()]


def in_house(folder: Path, body: Any) -> Any:
    async def whole() -> Any:
        async with house(folder, WRITER, lines=LINES) as node:
            return await body(node)

    return asyncio.run(whole())


def settled_by_a_person(folder: Path, effect: str) -> None:
    """Somebody looks whether it happened, as only a person can, and says so."""
    lines = (folder / "workspace" / "log.txt").read_text().splitlines()

    async def body(node: Any) -> None:
        about = await node.timelines.explain(TENANT, EffectId(effect))
        word = "two" if "two" in about.intent.arguments["argv"][2] else "four"
        await node.recovery.attest(TENANT, EffectId(effect), happened=word in lines, by=ANN, reason="looked")

    in_house(folder, body)


def told(folder: Path, run: str) -> tuple[Any, list[Any], Any]:
    async def body(node: Any) -> tuple[Any, list[Any], Any]:
        retold = await node.runs.retell(TENANT, run)
        report = await node.verification.verify(TENANT)
        return retold, await node.gate._store.effects(TENANT, run=run, limit=1_000), report

    found: tuple[Any, list[Any], Any] = in_house(folder, body)
    return found


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What is said in a run that nobody kills."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (*_, last) = life(folder, "", before=False, at=0)
    assert (last["state"], (folder / "workspace" / "log.txt").read_text()) == ("finished", WRITTEN)
    return list(told(folder, last["run"])[0].words)


@pytest.mark.parametrize(("before", "start"), [(False, 0), (False, 3), (True, 1)])
def test_run_that_is_killed_again_and_again_ends_as_if_nobody_had(
    before: bool, start: int, tmp_path: Path, undisturbed: list[Any]
) -> None:
    run, state, lives, asked = "", "", 0, 0
    while state != "finished":
        lives += 1
        assert lives < LIVES_MAX
        # The first commit of a life says that the run is resumed. Lives that always died as a question was sent again
        # would never hear the answer, so their lengths differ.
        said = life(tmp_path, run, before=before, at=LENGTHS[(start + lives) % len(LENGTHS)])
        run = said[-1]["run"] if said else run
        state = said[-1].get("state", "") if said else ""
        if state == "waiting":
            asked += 1
            settled_by_a_person(tmp_path, said[-1]["waits_for"].split()[1])
    retold, effects, report = told(tmp_path, run)
    assert len(retold.words) == len(undisturbed)
    for (who, said), (same, meant) in zip(retold.words, undisturbed, strict=True):
        assert who == same
        for one, other in zip(said.splitlines(), meant.splitlines(), strict=False):
            assert one == other or "it happened; what came of it was lost" in one
    assert retold.same
    assert (tmp_path / "workspace" / "log.txt").read_text() == WRITTEN
    assert not (tmp_path / "outside.txt").exists()
    assert len({one.key for one in effects}) == len(effects)
    answers = [one for one in effects if one.operation == "model.play" and one.state is EffectState.SUCCEEDED]
    assert len(answers) == len(LINES)
    assert lives > len(LINES) // 2
    assert asked <= 2
    assert report.ok, report.faults


def test_second_driver_of_a_run_is_told_so_and_nothing_is_doubled(tmp_path: Path) -> None:
    async def body() -> None:
        async with house(tmp_path, WRITER, lines=LINES) as one, house(tmp_path, WRITER, lines=LINES) as other:
            run = await one.runs.begin(TENANT, WRITER, "work", by=ANN)
            ended = await asyncio.gather(
                one.runs.drive(TENANT, run), other.runs.drive(TENANT, run), return_exceptions=True
            )
            codes = [getattr(end, "code", getattr(end, "state", "")) for end in ended]
            assert sorted(codes) == ["finished", "journal_held"]
            assert (tmp_path / "workspace" / "log.txt").read_text() == WRITTEN

    asyncio.run(body())
