"""How often people are asked: a bound of a run and of everybody who works for it, however the work is handed on."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from assent.bootstrap.node import Node
from assent.operations.runs.entries import Started
from assent.operations.runs.story import Asks, Story, tell_story
from assent.operations.runs.views import RunView
from assent.operations.scripts import Script, ScriptedModel
from assent.primitives.ids import ReviewId
from tests.operations.agents_house import ANN, TENANT, agent, answered, house, line
from tests.operations.recorded import FOLDER, read

slow = pytest.mark.slow


def deletes(*paths: str) -> Any:
    """A line that proposes what a person has to be asked for, once for each path."""
    return line("", *[("files_delete", {"path": path}) for path in paths])


def delegates(*names: str) -> Any:
    return line("", *[("delegate", {"agent": name, "task": f"tidy up, {name}"}) for name in names])


def worker(name: str, *lines: Any, below: tuple[str, ...] = (), **more: Any) -> tuple[Any, Any]:
    """An agent that deletes and hands on, and the model that plays it."""
    tools = ("files.delete", *["delegate"] * bool(below))
    passed = ("files.delete", *["delegate"] * bool(below))
    who = agent(*tools, name=name, models=(f"m-{name}:it",), delegates=below, delegated=passed, **more)
    return who, ScriptedModel(f"m-{name}", Script(lines=lines))


async def denied_throughout(node: Node, seen: RunView) -> RunView:
    """Say no to whatever is asked until the run is over."""
    while seen.state == "waiting":
        first = (await node.timelines.inbox(TENANT)).reviews[0].review
        assert first is not None
        await node.reviews.deny(TENANT, ReviewId(first.id), by=ANN, reason="keep it")
        seen = await node.runs.drive(TENANT, seen.id)
    return seen


async def told_by_agent(node: Node) -> dict[str, tuple[int, dict[str, int]]]:
    """For each agent: how often people were asked in its run and below it, and what came of its own deletions."""
    found = {}
    for one in await node.runs.newest(TENANT):
        story = await node.runs.story(TENANT, one.id)
        codes = Counter(c.effect.code for c in story.calls.values() if c.effect.operation == "files.delete")
        found[one.agent] = (story.asks, dict(codes))
    return found


async def tidied(folder: Path, *workers: tuple[Any, Any]) -> dict[str, tuple[int, dict[str, int]]]:
    """What came of the work of the first, which hands it on to the others."""
    async with house(folder, *[who for who, _ in workers], others=[play for _, play in workers]) as node:
        seen = await denied_throughout(node, await answered(node, "tidy up", of=workers[0][0]))
        assert seen.state == "finished"
        found = await told_by_agent(node)
        assert seen.asks == found[workers[0][0].name][0]
        in_all = sum(codes.get("denied_by_reviewer", 0) for _, codes in found.values())
        assert seen.asks == in_all, "what people were asked is counted once, by whomever it was asked"
        assert (await node.runs.retell(TENANT, seen.id)).same
        return found


@slow
def test_people_are_asked_no_more_often_because_the_work_is_handed_on(tmp_path: Path) -> None:
    lead = worker("lead", deletes("a"), delegates("helper"), deletes("b"), line("so"), below=("helper",), asks_max=3)
    helper = worker("helper", deletes("c", "d", "e"), line("done"))
    assert asyncio.run(tidied(tmp_path, lead, helper)) == {
        "lead": (3, {"denied_by_reviewer": 1, "asks_exhausted": 1}),
        "helper": (2, {"denied_by_reviewer": 2, "asks_exhausted": 1}),
    }


@slow
def test_who_is_handed_work_keeps_its_own_bound_and_leaves_the_rest(tmp_path: Path) -> None:
    lead = worker("lead", delegates("helper"), deletes("a", "b", "c"), line("so"), below=("helper",), asks_max=3)
    helper = worker("helper", deletes("d", "e"), line("done"), asks_max=1)
    assert asyncio.run(tidied(tmp_path, lead, helper)) == {
        "lead": (3, {"denied_by_reviewer": 2, "asks_exhausted": 1}),
        "helper": (1, {"denied_by_reviewer": 1, "asks_exhausted": 1}),
    }


@slow
def test_one_after_the_other_gets_what_the_one_before_has_left(tmp_path: Path) -> None:
    script = [delegates("one"), delegates("two"), line("so")]
    lead = worker("lead", *script, below=("one", "two"), asks_max=3)
    others = [worker(name, deletes("a", "b"), line("done")) for name in ("one", "two")]
    assert asyncio.run(tidied(tmp_path, lead, *others)) == {
        "lead": (3, {}),
        "one": (2, {"denied_by_reviewer": 2}),
        "two": (1, {"denied_by_reviewer": 1, "asks_exhausted": 1}),
    }


@slow
@pytest.mark.parametrize(("each", "second"), [(0, 0), (1, 1)])
def test_those_who_work_beside_each_other_share_one_bound(tmp_path: Path, each: int, second: int) -> None:
    lead = worker("lead", delegates("one", "two"), line("so"), below=("one", "two"), asks_max=2)
    others = [worker(name, deletes("a", "b"), line("done"), asks_max=each) for name in ("one", "two")]
    found = asyncio.run(tidied(tmp_path, lead, *others))
    assert [found[name][0] for name in ("lead", "one", "two")] == [2, 2 - second, second]


@slow
def test_bound_reaches_through_everybody_between(tmp_path: Path) -> None:
    top = worker("top", deletes("a"), delegates("middle"), deletes("b", "c"), line("so"), below=("middle",), asks_max=4)
    middle = worker("middle", delegates("bottom"), deletes("d"), line("so"), below=("bottom",), asks_max=2)
    bottom = worker("bottom", deletes("e", "f", "g"), line("done"), asks_max=9)
    assert asyncio.run(tidied(tmp_path, top, middle, bottom)) == {
        "top": (4, {"denied_by_reviewer": 2, "asks_exhausted": 1}),
        "middle": (2, {"asks_exhausted": 1}),
        "bottom": (2, {"denied_by_reviewer": 2, "asks_exhausted": 1}),
    }


@slow
def test_without_a_bound_they_are_counted_all_the_same(tmp_path: Path) -> None:
    lead = worker("lead", deletes("a"), delegates("helper"), line("so"), below=("helper",))
    helper = worker("helper", deletes("b", "c"), line("done"))
    found = asyncio.run(tidied(tmp_path, lead, helper))
    assert (found["lead"][0], found["helper"][0]) == (3, 2)


@slow
def test_who_takes_over_asks_no_more_often_than_was_left(tmp_path: Path) -> None:
    async def body() -> None:
        over = line("", ("hand_off", {"agent": "billing", "note": "go on"}))
        front = agent("files.delete", name="front", hands_to=("billing",), asks_max=2)
        billing, plays = worker("billing", deletes("b", "c"), line("done"))
        async with house(tmp_path, front, billing, lines=[deletes("a"), over], others=[plays]) as node:
            seen = await denied_throughout(node, await answered(node, "tidy up", of=front))
            assert (seen.state, seen.asks) == ("finished", 2)
            found = await told_by_agent(node)
            assert found["billing"] == (1, {"denied_by_reviewer": 1, "asks_exhausted": 1})

    asyncio.run(body())


@slow
def test_count_and_bound_hold_when_every_step_is_driven_by_another_process(tmp_path: Path) -> None:
    lead, lead_plays = worker(
        "lead", deletes("a"), delegates("helper"), deletes("b"), line("so"), below=("helper",), asks_max=3
    )
    helper, helper_plays = worker("helper", deletes("c"), deletes("d"), deletes("e"), line("done"))

    async def process(run: str, *, says_no: bool) -> RunView:
        async with house(tmp_path, lead, helper, others=[lead_plays, helper_plays]) as node:
            run = run or await node.runs.begin(TENANT, lead, "tidy up", by=ANN)
            if says_no:
                first = (await node.timelines.inbox(TENANT)).reviews[0].review
                assert first is not None
                await node.reviews.deny(TENANT, ReviewId(first.id), by=ANN, reason="keep it")
            seen = await node.runs.drive(TENANT, run)
            assert seen == await node.runs.view(TENANT, run), "what is on record is what was seen"
            return seen

    seen = asyncio.run(process("", says_no=False))
    counts = [seen.asks]
    while seen.state == "waiting":
        seen = asyncio.run(process(seen.id, says_no=True))
        counts.append(seen.asks)
    assert (seen.state, counts) == ("finished", [1, 2, 3, 3])


@slow
def test_what_was_asked_for_a_run_that_was_cancelled_was_asked(tmp_path: Path) -> None:
    async def body() -> None:
        lead, plays = worker("lead", delegates("helper"), deletes("a", "b"), line("so"), below=("helper",), asks_max=2)
        helper, helper_plays = worker("helper", deletes("c"), line("done"))
        async with house(tmp_path, lead, helper, others=[plays, helper_plays]) as node:
            seen = await answered(node, "tidy up", of=lead)
            await node.runs.cancel(TENANT, (await node.runs.newest(TENANT))[-1].id, by=ANN)
            seen = await denied_throughout(node, await node.runs.drive(TENANT, seen.id))
            assert (seen.state, seen.asks) == ("finished", 2)
            assert (await told_by_agent(node))["lead"][1] == {"denied_by_reviewer": 1, "asks_exhausted": 1}

    asyncio.run(body())


def test_call_that_was_lost_and_had_to_be_approved_once_more_counts_twice() -> None:
    history = read(FOLDER / "reviews-approved-and-denied.json")
    (journal,) = history.journals
    pairs = history.effects[journal.id]
    effect, records = next(pair for pair in pairs if pair[0].review)
    again = replace(effect, id="eff_again", key=f"{effect.key}~1", review="rev_again")
    told = tell_story(journal, history.notes[journal.id], [*pairs, (again, records)])
    assert (told.asks, len(told.calls)) == (3, 2)


def story(*, asks_max: int, asks_left: int | None = None, reviews: set[str], below: dict[str, Asks]) -> Story:
    """As much of a story as is counted from."""
    nothing: Any = None
    begun = Started(
        agent=agent(asks_max=asks_max), offers=(), on_behalf_of=(ANN,), prior=(), task=nothing, by=ANN,
        asks_left=asks_left,
    )  # fmt: skip
    return Story(journal=nothing, begun=begun, flags=(), reviews=reviews, asks_below=below)


def test_what_somebody_who_still_works_may_ask_is_not_given_away_twice() -> None:
    alive, over = Asks(made=1, taken=3), Asks(made=2, taken=2)
    busy = story(asks_max=7, reviews={"rev_1"}, below={"a": alive, "b": over})
    assert (busy.asks, busy.asks_left) == (4, 1)


@pytest.mark.parametrize(
    ("asks_max", "asks_left", "bound", "left"),
    [(0, None, None, None), (0, 0, 0, 0), (2, None, 2, 1), (2, 0, 0, 0), (2, 9, 2, 1), (0, 5, 5, 4)],
)
def test_smaller_of_two_bounds_holds_and_none_left_is_not_no_limit(
    asks_max: int, asks_left: int | None, bound: int | None, left: int | None
) -> None:
    found = story(asks_max=asks_max, asks_left=asks_left, reviews={"rev_1"}, below={})
    assert (found.asks_max, found.asks_left) == (bound, left)
