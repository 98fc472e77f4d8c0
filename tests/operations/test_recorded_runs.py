"""What releases recorded about runs is told for ever as they told it; what a newer one recorded is not guessed at."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from assent.bootstrap.node import Node
from assent.operations.runs import entries
from assent.operations.runs import host as hosting
from assent.operations.runs.steps import Ask, next_step
from assent.operations.runs.story import tell_story
from assent.primitives.errors import Refused
from tests.operations.agents_house import ANN, TENANT, agent, house, line
from tests.operations.recorded import FOLDER, SCENES, History, read, told

FILES = sorted(FOLDER.glob("*.json"))
CHANGED = "a change of how runs are told is a new flag in `entries.FLAGS`: what is on record must be told as it was"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_history_is_told_as_the_release_told_it_that_recorded_it(path: Path) -> None:
    history = read(path)
    again = asyncio.run(told(history))
    assert again.keys() == history.told.keys()
    for run, then in history.told.items():
        now = again[run]
        for what, value in then.items():
            said = now[what]
            if what == "view":  # a later release may tell more of a run, and nothing otherwise
                said = {name: said[name] for name in value}
            assert said == value, f"{run}, {what}: {CHANGED}"
        assert all(turn["same"] for turn in now["retold"]["turns"]), f"{run}: {CHANGED}"


def test_every_scene_was_recorded_and_every_state_is_among_them() -> None:
    assert {path.stem for path in FILES} >= SCENES.keys()
    states = {one["view"]["state"] for path in FILES for one in read(path).told.values()}
    assert states >= {"finished", "failed", "waiting", "cancelled"}
    assert {flag for path in FILES for flag in flags_of(read(path))} == set(entries.FLAGS)


def flags_of(history: History) -> list[str]:
    return [flag for notes in history.notes.values() for flag in notes[0].body["flags"]]


def test_history_that_a_newer_release_recorded_is_refused_and_not_guessed_at() -> None:
    history = read(FOLDER / "answer-only.json")
    (journal,) = history.journals
    first, *rest = history.notes[journal.id]
    newer = replace(first, body={**first.body, "flags": [*first.body["flags"], "dreams-7"]}, payload=b'{"dreams": 1}')
    with pytest.raises(Refused) as refused:
        tell_story(journal, [newer, *rest], history.effects[journal.id])
    assert refused.value.code == "run_newer"
    assert "dreams-7" in refused.value.message


def test_model_that_fails_after_the_resume_is_not_asked_once_more_unless_the_run_was_begun_before_that() -> None:
    history = read(FOLDER / "dies-as-a-model-fails-and-goes-on-elsewhere.json")
    (journal,) = history.journals
    began, resumed, _ = history.notes[journal.id]
    failed = history.effects[journal.id][:1]
    then = replace(journal, state="running")
    before = replace(began, body={**began.body, "flags": ["turns-1"]})
    asked = [next_step(tell_story(then, [one, resumed], failed)) for one in (began, before)]
    assert asked == [Ask(turn=1, attempt=1, model="play:it"), Ask(turn=1, attempt=1, model="far:it")]


@pytest.mark.slow
def test_run_of_a_newer_release_is_listed_and_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosting, "LOOK_S", 0.01)

    async def begun(node: Node) -> str:
        with monkeypatch.context() as patched:
            patched.setattr(entries, "FLAGS", ("turns-1", "dreams-7"))
            return await node.runs.begin(TENANT, agent(), "dream", by=ANN)

    async def body() -> None:
        async with house(tmp_path, agent(), lines=[line("done")]) as node:
            newer = await begun(node)
            mine = await node.runs.begin(TENANT, agent(), "hello", by=ANN)
            faults: list[tuple[str, str]] = []
            serving = asyncio.create_task(
                node.host.serve(lambda _: None, fault=lambda run, why: faults.append((run, why)))
            )
            async with asyncio.timeout(20):
                while (await node.runs.view(TENANT, mine)).state != "finished":  # noqa: ASYNC110 (on record)
                    await asyncio.sleep(0.02)
                await asyncio.sleep(0.2)
            serving.cancel()
            await asyncio.wait([serving])
            assert [run for run, _ in faults] == [newer], "it is told once, and not at every look"
            states: dict[str, Any] = {one.id: (one.state, one.task) for one in await node.runs.newest(TENANT)}
            assert states[newer] == ("running", "(begun by a newer release)")
            for ask in (node.runs.view, node.runs.drive, node.runs.retell):
                with pytest.raises(Refused) as refused:
                    await ask(TENANT, newer)
                assert refused.value.code == "run_newer"

    asyncio.run(body())


def test_file_of_a_history_holds_nothing_but_what_is_told_from() -> None:
    for path in FILES:
        assert msgspec.json.decode(path.read_bytes()).keys() == {"journals", "notes", "effects", "contents", "told"}
