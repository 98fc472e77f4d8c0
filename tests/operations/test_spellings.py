"""The box: which operation a tool becomes, with which arguments, and what the model is told it takes."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from assent.bootstrap.offering import STANDARD, spellings_here
from assent.ledger.connectors.searches import FilesSearch
from assent.ledger.contracts import read_arguments
from assent.operations.runs.events import CallEnded, Proposal, RunEvent
from assent.operations.spellings import SPELLINGS, spelled
from assent.operations.timelines import outcome_of
from assent.operations.toolbox import BOX, SPELLED, Offer, offers_of
from assent.operations.web_search import SearchEndpoint, WebSearch
from assent.primitives.errors import InvariantBroken, Malformed
from tests.operations.agents_house import TENANT, agent, answered, house, line

SEARCH = WebSearch(SearchEndpoint(url="https://example.org/?q={query}"))
CONTRACTS = {one.contract.name: one.contract for one in (*STANDARD, SEARCH)}


@pytest.mark.parametrize(
    ("spelling", "given", "meant"),
    [
        ("", {"path": "a"}, {"path": "a"}),
        ("bash-1", {"command": "ls | wc"}, {"argv": ["bash", "-c", "ls | wc"]}),
        ("sh-1", {"command": "ls", "cwd": "a", "timeout_s": 5}, {"argv": ["sh", "-c", "ls"], "cwd": "a", "wall_s": 5}),
        ("python-1", {"source": "1"}, {"source": "1"}),
        ("python-1", {"source": "1", "session": "s", "timeout_s": 9}, {"source": "1", "session": "s", "wall_s": 9}),
        ("web-1", {"url": "https://example.org/"}, {"url": "https://example.org/"}),
    ],
)
def test_spelling_means_these_arguments_of_the_operation(spelling, given, meant):
    assert spelled(spelling, given) == meant


@pytest.mark.parametrize(
    ("spelling", "given"),
    [
        ("bash-1", {}),
        ("bash-1", {"command": None}),
        ("bash-1", {"command": ["ls"]}),
        ("bash-1", {"command": "ls", "argv": ["ls"]}),
        ("bash-1", {"command": "x" * 70_000}),
        ("python-1", {"source": 1}),
        ("web-1", {"url": "https://example.org/", "headers": {"a": "b"}}),
    ],
)
def test_spelling_refuses_and_names_the_tool_when_the_arguments_are_not_its_own(spelling, given):
    with pytest.raises(Malformed) as refused:
        spelled(spelling, given)
    assert refused.value.code == "arguments_invalid"
    assert f"`{SPELLINGS[spelling].tool}`" in refused.value.message


def test_spelling_that_no_release_has_is_a_broken_record():
    with pytest.raises(InvariantBroken):
        spelled("bash-99", {})


@pytest.mark.parametrize("name", sorted(BOX))
def test_tool_of_the_box_offers_what_its_operation_takes(name):
    (offer,) = offers_of([name], CONTRACTS, given={"skill": {"skills": {"x": "sha256:0"}}})
    assert (offer.tool.name, offer.operation) == (name, BOX[name])
    properties, required = offer.tool.schema["properties"], offer.tool.schema["required"]
    sample: dict[str, Any] = {"string": "x", "integer": 1, "boolean": True, "array": [], "object": {}}
    given = {one: sample.get(properties[one].get("type", ""), "x") for one in required}
    read_arguments(CONTRACTS[offer.operation], offer.arguments_of(given))
    assert msgspec.json.decode(msgspec.json.encode(offer), type=Offer) == offer


def test_every_spelling_is_of_a_tool_in_the_box():
    assert {SPELLINGS[name].tool for name in SPELLED.values()} == set(SPELLED)
    assert set(SPELLED) <= set(BOX)
    assert set(spellings_here()) == set(SPELLED)
    assert set(spellings_here().values()) <= set(SPELLINGS)


@pytest.mark.slow
def test_bash_runs_one_command_and_what_it_cannot_take_is_told_and_not_asked_for(tmp_path: Path) -> None:
    async def body() -> None:
        worker = agent("bash", "edit", "web_fetch", "python")
        script = [
            line("", ("bash", {"command": "echo one; echo two >&2 | cat; exit 3"}), ("bash", {"cmd": "ls"})),
            line("", ("edit", {"path": "a.txt", "old": "x", "new": "y"}), ("python", {"source": "1 + 1"})),
            line("", ("edit", {"path": "a.txt", "old": "one", "new": "two"})),
            line("", ("edit", {"path": "a.txt", "old": "one", "new": "one"})),
            line("done"),
        ]
        events: list[RunEvent] = []
        async with house(tmp_path, worker, lines=script) as node:
            (tmp_path / "workspace" / "a.txt").write_text("one\n")
            seen = await answered(node, "work", of=worker, events=events)
            assert (seen.state, seen.text) == ("finished", "done")
            told = {(one.turn, one.place): one.text for one in events if isinstance(one, CallEnded)}
            assert told[1, 0] == "it failed (exit_nonzero): exit status 3\none\n[stderr]\ntwo"
            assert (1, 1) not in told
            assert "nearest" not in told[2, 0]
            assert told[2, 0].startswith("it failed (edit_no_match)")
            assert told[2, 1] == "[result] 2"
            assert told[3, 0] == "edited `a.txt`: replaced 1 (line 1)"
            assert told[4, 0].startswith("the call was not well-formed: ")
            assert [one.tool for one in events if isinstance(one, Proposal)].count("bash") == 1
            story = await node.runs.story(TENANT, seen.id)
            assert story.calls[1, 0].arguments["argv"] == ["bash", "-c", "echo one; echo two >&2 | cat; exit 3"]

    asyncio.run(body())


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["own", "ripgrep"])
def test_search_is_told_as_lines_of_files_by_either_engine(engine: str, tmp_path: Path) -> None:
    """ripgrep in its sandbox, with the workspace read-only: it stands in the workspace, since no system has it for
    certain."""
    place = tmp_path / "workspace"
    (place / "src").mkdir(parents=True)
    (place / "src" / "a.py").write_text("one\ndef two():\n    pass\n")
    (tmp_path / "secret").write_text("def secret")
    (place / "out").symlink_to("..")
    others: list[Any] = []
    if engine == "ripgrep":
        (place / ".tools").mkdir()
        shutil.copy(Path(sys.executable).with_name("rg"), place / ".tools" / "rg")
        others = [FilesSearch(ripgrep=str(place.resolve() / ".tools" / "rg"))]

    async def body() -> None:
        worker = agent("search")
        asked: list[dict[str, Any]] = [
            {"pattern": "^def", "context": 1},
            {"pattern": "def", "path": "out"},
            {"pattern": "(", "path": "src"},
        ]
        script = [line("", *(("search", one) for one in asked)), line("done")]
        events: list[RunEvent] = []
        async with house(tmp_path, worker, lines=script, others=others) as node:
            seen = await answered(node, "look", of=worker, events=events)
            assert seen.state == "finished"
            told = {one.place: one.text for one in events if isinstance(one, CallEnded)}
            assert told[0] == "src/a.py\n1- one\n2: def two():\n3-     pass"
            assert told[1].startswith("it failed (symlink_refused)")
            assert told[2].startswith("the call was not well-formed: the pattern cannot be used")
            story = await node.runs.story(TENANT, seen.id)
            effect = await node.gate._store.effect(TENANT, story.calls[1, 0].effect.id)
            assert effect is not None
            outcome = outcome_of(await node.gate._store.history(TENANT, effect))
            assert outcome is not None
            assert outcome.evidence.lane == ("process" if engine == "ripgrep" else "file")

    asyncio.run(body())


@pytest.mark.slow
def test_todo_list_stands_before_the_model_in_the_next_turn(tmp_path: Path) -> None:
    async def body() -> None:
        worker = agent("todo")
        script = [line("", ("todo", {"items": [{"text": "buy bread", "done": True}, {"text": "eat"}]})), line("done")]
        async with house(tmp_path, worker, lines=script) as node:
            seen = await answered(node, "work", of=worker)
            story = await node.runs.story(TENANT, seen.id)
            assert story.todo_before(99) == [{"text": "buy bread", "done": True}, {"text": "eat", "done": False}]

    asyncio.run(body())
