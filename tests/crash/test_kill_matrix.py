"""A run of ten steps is killed by SIGKILL at each place there is, while its provider fails in each way there is.

The places are counted first, by a run that nobody kills: both sides of each commit, the moment in which it is written
and not committed, and each event that whoever watches is told. For each, one process dies there and another goes on.
In the end the transcript is that of the undisturbed run, each deed was done once, no model was asked again for an
answer that is on record, and the record verifies.

All places of all failures are a long walk (`make kills`, or `ASSENT_KILLS=all`). Otherwise every `EVERY`-th place is
taken, beginning with another one each day; `ASSENT_KILLS=7` takes those of a day again, and a failure says which.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assent.operations.scripts import Line
from assent.testing.models import Called, Failing, ModelServer, Reply, Seen
from tests.crash.lives import ENDPOINTS
from tests.crash.run_child import LINES, WRITTEN
from tests.crash.seeds import SEED
from tests.crash.worlds import ROOT, SOURCES

pytestmark = pytest.mark.slow
EVERY = 16
AT_ONCE = 2
SIDES = ("before", "mid", "after", "told")
# Each way to fail in one of the wire formats, so that all of them are there.
FAILURES: dict[str, tuple[str, Failing | None]] = {
    "none": ("anthropic", None),
    "429": ("anthropic", Failing(status=429, retry_after="0")),
    "529": ("anthropic", Failing(status=529)),
    "500": ("openai", Failing(status=500)),
    "cut": ("gemini", Failing(way="cut")),
    "broken_json": ("openai-chat", Failing(way="broken_json")),
    "broken_arguments": ("openai", Failing(way="broken_arguments")),
    "wrong_type": ("ollama", Failing(way="wrong_type")),
    "drip": ("openai-chat", Failing(way="drip")),
}
LOST = "it happened; what came of it was lost"
_MODEL = {"assistant", "model", "function_call", "reasoning"}


def turn_of(body: dict[str, Any]) -> int:
    """How many answers of a model a question holds: what follows each other without a word between is one."""
    said = body.get("messages") or body.get("contents") or body.get("input") or []
    spoken = [bool({one.get("role"), one.get("type")} & _MODEL) for one in said]
    return sum(here and not before for before, here in zip([False, *spoken], spoken, strict=False))


class Provider:
    """Says the lines of the run, to each case anew, and fails at its first endpoint in every other turn."""

    def __init__(self, failing: Failing | None) -> None:
        self._failing = failing
        self.asked: dict[str, Counter[str]] = {}
        self.script: list[Reply] = []
        for number, one in enumerate(LINES):
            if failing and failing.way == "broken_arguments" and number % 2 == 0 and one.calls:
                self.script.append(_reply(one, failing))
            self.script.append(_reply(one, None))

    def says(self, seen: Seen, _: int) -> Reply:
        case, endpoint = seen.path.split("/")[1:3]
        turn = turn_of(seen.body)
        self.asked.setdefault(case, Counter())[f"{endpoint} {turn}"] += 1
        reply = self.script[turn]
        fails = self._failing and self._failing.way != "broken_arguments" and endpoint == "far" and turn % 2 == 0
        return Reply(text=reply.text, calls=reply.calls, failing=self._failing) if fails else reply


def _reply(line: Line, failing: Failing | None) -> Reply:
    calls = tuple(Called(name=one.name, arguments=one.arguments) for one in line.calls)
    return Reply(text=line.text, calls=calls, failing=failing)


class Warm:
    """A warm process, which leads one life after the other."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCES), str(ROOT)])}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.lives"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=ROOT, env=environment,
        )  # fmt: skip

    async def life(self, **plan: Any) -> dict[str, Any]:
        """One life; how it ended, and what it had said by then."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(plan) + "\n")
        self._process.stdin.flush()
        line = await asyncio.to_thread(self._process.stdout.readline)
        assert line, "the warm process is gone"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        self._process.communicate(timeout=60)


@pytest.fixture(scope="module")
def warm() -> Iterator[list[Warm]]:
    processes = [Warm() for _ in range(AT_ONCE)]
    yield processes
    for one in processes:
        one.close()


def chosen(places: dict[str, int]) -> Iterator[tuple[str, int]]:
    """The places to die at: all, or every `EVERY`-th of them."""
    every = [(side, at) for side in SIDES for at in range(1, places[side] + 1)]
    return iter(every if SEED == "all" else every[int(SEED) % EVERY :: EVERY])


def plain(words: list[list[str]]) -> list[list[str]]:
    """What was said, without the names that differ from run to run."""
    return [[who, re.sub(r"\b(eff|run)_[0-9a-z]+", r"\1", text)] for who, text in words]


def must_be_as_if_nobody_had(found: dict[str, Any], meant: dict[str, Any], folder: Path) -> None:
    assert (found["state"], found["text"]) == (meant["state"], meant["text"]), found
    assert (folder / "workspace" / "log.txt").read_text() == WRITTEN
    assert not (folder / "outside.txt").exists()
    for (who, said), (same, told) in zip(plain(found["words"]), plain(meant["words"]), strict=True):
        assert who == same
        for one, other in zip(said.splitlines(), told.splitlines(), strict=LOST not in said):
            assert one == other or LOST in one, "what was seen to have happened is told, and what it printed is not"
    assert found["same"]
    assert found["faults"] == []
    assert len(found["runs"]) == 1
    keys = [key for key, *_ in found["effects"]]
    assert len(set(keys)) == len(keys)


async def killed(warm: Warm, plan: dict[str, str], *, side: str, at: int) -> dict[str, Any]:
    """One process that dies at the place, and one that goes on."""
    first = await warm.life(**plan, side=side, at=at)
    assert first["ended"] == -signal.SIGKILL, first
    second = await warm.life(**plan, side="", at=0)
    assert second["ended"] == 0, second["report"]
    found: dict[str, Any] = second["found"]
    return found


@pytest.mark.parametrize("failure", FAILURES)
def test_run_ends_as_if_nobody_had_killed_it_wherever_it_is_killed(
    failure: str, tmp_path: Path, warm: list[Warm]
) -> None:
    wire, failing = FAILURES[failure]
    provider = Provider(failing)
    wrong: list[str] = []

    async def case(life: Warm, server: ModelServer, meant: dict[str, Any], side: str, at: int) -> None:
        name = f"{side}-{at}"
        folder = tmp_path / name
        folder.mkdir()
        try:
            plan = {"folder": str(folder), "url": f"{server.url}/{name}", "wire": wire}
            found = await killed(life, plan, side=side, at=at)
            must_be_as_if_nobody_had(found, meant, folder)
            more = provider.asked[name] - provider.asked["undisturbed"]
            less = provider.asked["undisturbed"] - provider.asked[name]
            assert more.total() <= 1, f"asked again: {more}"
            assert not less, f"never asked: {less}"
        except AssertionError as error:
            wrong.append(f"{failure}, {name}: {error}")
            print(wrong[-1], flush=True)
        else:
            shutil.rmtree(folder)

    async def body() -> None:
        async with ModelServer(provider.says, key="") as server:
            folder = tmp_path / "undisturbed"
            folder.mkdir()
            whole = await warm[0].life(folder=str(folder), url=f"{server.url}/undisturbed", wire=wire, side="", at=0)
            assert whole["ended"] == 0, whole["report"]
            meant = whole["found"]
            must_be_as_if_nobody_had(meant, meant, folder)
            assert meant["state"] == "finished"
            left = chosen(meant["places"])
            figures.update(meant["places"])

            async def walk(one: Warm) -> None:
                for side, at in left:
                    figures["killed"] += 1
                    await case(one, server, meant, side, at)

            await asyncio.gather(*map(walk, warm))

    figures: Counter[str] = Counter()
    asyncio.run(body())
    print(f"{failure}: {dict(figures)}, ASSENT_KILLS={SEED}", flush=True)
    assert not wrong, f"ASSENT_KILLS={SEED}: {len(wrong)} of {figures['killed']}\n" + "\n".join(wrong)
    assert set(ENDPOINTS) >= {one.split()[0] for one in provider.asked["undisturbed"]}
    assert figures["killed"] > 0
