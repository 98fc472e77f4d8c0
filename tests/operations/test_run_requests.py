"""Runs that somebody else speaks to, pauses or cancels while they are driven, here and in another process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from assent.bootstrap.node import Node
from assent.ledger.effects import EffectState
from assent.operations.runs import driver as driving
from assent.operations.runs import steps
from assent.operations.runs.events import Paused, RunEnded, RunEvent
from assent.operations.runs.requests import line_of
from assent.operations.scripts import Script, ScriptedModel
from assent.primitives.errors import Conflict
from assent.primitives.ids import ReviewId
from assent.reasoning.failures import FailureKind, Fault
from tests.operations.agents_house import ANN, TENANT, Spoken, agent, answered, house, line

pytestmark = pytest.mark.slow

WRITER = agent("write", "ask_user")
SCRIPT = [
    line("", ("write", {"path": "a.txt", "content": "x"})),
    line("", ("write", {"path": "b.txt", "content": "x"})),
    line("done"),
]


def before_turn(node: Node, turn: int, does: Callable[[], Awaitable[object]]) -> None:
    """Have something happen just before a model is asked for a turn, once."""
    driver = node.runs._driver
    take, left = driver._take, [does]

    async def taking(story: Any, step: Any, told: Any, tell: Any) -> None:
        if isinstance(step, steps.Ask) and step.turn == turn and left:
            await left.pop()()
        await take(story, step, told, tell)

    driver._take = taking  # type: ignore[method-assign]


@asynccontextmanager
async def two(folder: Path) -> AsyncIterator[tuple[Node, Node]]:
    """Two nodes on one database, as two processes are."""
    async with house(folder, WRITER, lines=SCRIPT) as one, house(folder, WRITER, lines=SCRIPT) as other:
        yield one, other


def test_run_pauses_between_two_steps_when_another_process_asks_for_it(tmp_path: Path) -> None:
    async def body() -> None:
        async with two(tmp_path) as (one, other):
            run = await one.runs.begin(TENANT, WRITER, "write", by=ANN)

            async def asks() -> None:
                with pytest.raises(Conflict) as held:
                    await other.runs.pause(TENANT, run, by=ANN)
                assert held.value.code == "journal_held"
                await other.runs.ask(TENANT, run, "pause", by=ANN)

            before_turn(one, 2, asks)
            events: list[RunEvent] = []
            assert (await one.runs.drive(TENANT, run, tell=events.append)).state == "paused"
            assert events[-1] == Paused(run=run)
            assert (tmp_path / "workspace" / "a.txt").exists()
            assert not (tmp_path / "workspace" / "b.txt").exists()
            assert (await other.runs.drive(TENANT, run)).state == "finished", "a request that was heeded is over"
            assert (await other.verification.verify(TENANT)).ok

    asyncio.run(body())


def test_run_ends_between_two_steps_when_another_process_asks_for_it(tmp_path: Path) -> None:
    async def body() -> None:
        async with two(tmp_path) as (one, other):
            run = await one.runs.begin(TENANT, WRITER, "write", by=ANN)
            before_turn(one, 2, lambda: other.runs.ask(TENANT, run, "cancel", by=ANN))
            events: list[RunEvent] = []
            assert (await one.runs.drive(TENANT, run, tell=events.append)).state == "cancelled"
            assert events[-1] == RunEnded(run=run, state="cancelled", text="")
            with pytest.raises(Conflict, match="cannot cancel"):
                await other.runs.ask(TENANT, run, "cancel", by=ANN)

    asyncio.run(body())


def test_wish_that_a_run_shall_end_stands_when_its_driver_was_gone_and_one_that_it_pause_does_not(
    tmp_path: Path,
) -> None:
    async def body() -> None:
        script = [line("", ("ask_user", {"question": "which?"})), line("well")]
        async with house(tmp_path, WRITER, lines=script) as node:
            ids = [(await answered(node, "ask", of=WRITER)).id for _ in range(2)]
            await node.runs.ask(TENANT, ids[0], "pause", by=ANN)
            await node.runs.ask(TENANT, ids[1], "cancel", by=ANN)
            assert [(await node.runs.drive(TENANT, run)).state for run in ids] == ["waiting", "cancelled"]

    asyncio.run(body())


@pytest.mark.parametrize(("does", "state"), [("pause", "paused"), ("cancel", "cancelled")])
def test_run_stops_before_the_next_call_when_this_process_stops_it(tmp_path: Path, does: str, state: str) -> None:
    async def body() -> None:
        async with house(tmp_path, WRITER, lines=SCRIPT) as node:
            run = await node.runs.begin(TENANT, WRITER, "write", by=ANN)
            before_turn(node, 2, lambda: getattr(node.runs, does)(TENANT, run, by=ANN))
            assert (await node.runs.drive(TENANT, run)).state == state
            assert not (tmp_path / "workspace" / "b.txt").exists()

    asyncio.run(body())


def test_words_are_told_with_the_next_turn_when_they_come_while_the_run_is_driven(tmp_path: Path) -> None:
    async def body() -> None:
        told: list[str] = []

        def says(request: Any) -> Any:
            told.append(" | ".join(getattr(p, "text", "") for m in request.messages for p in m.parts))
            return SCRIPT[len(told) - 1]

        hears = agent("write", models=("hears:it",))
        async with house(tmp_path, hears, others=[Spoken("hears", says)]) as node:
            run = await node.runs.begin(TENANT, hears, "write", by=ANN)
            before_turn(node, 2, lambda: node.runs.hear(TENANT, run, "and be quick", by=ANN))
            seen = await node.runs.drive(TENANT, run)
            assert (seen.state, seen.turn) == ("finished", 3)
            assert ["and be quick" in one for one in told] == [False, True, True]
            assert (await node.runs.retell(TENANT, run)).same

    asyncio.run(body())


def test_cancelled_run_takes_what_it_handed_on_and_what_it_asked_for_with_it(tmp_path: Path) -> None:
    async def body() -> None:
        reader = agent("files.delete", name="reader", models=("play2:it",))
        lead = agent("delegate", "files.delete", name="lead", delegates=("reader",), delegated=("files.delete",))
        other = ScriptedModel("play2", Script(lines=(line("", ("files_delete", {"path": "a.txt"})), line("so"))))
        script = [line("", ("delegate", {"agent": "reader", "task": "delete it"})), line("so it is")]
        async with house(tmp_path, lead, reader, lines=script, others=[other]) as node:
            (tmp_path / "workspace" / "a.txt").write_text("x")
            seen = await answered(node, "have it deleted", of=lead)
            assert seen.state == "waiting"
            (about,) = (await node.timelines.inbox(TENANT)).reviews
            await node.runs.cancel(TENANT, seen.id, by=ANN)
            assert [one.state for one in await node.runs.newest(TENANT)] == ["cancelled", "cancelled"]
            assert not (await node.timelines.inbox(TENANT)).reviews
            assert about.review is not None
            with pytest.raises(Conflict):
                await node.reviews.approve(TENANT, ReviewId(about.review.id), by=ANN, reason="yes")
            assert (tmp_path / "workspace" / "a.txt").exists()
            assert (await node.verification.verify(TENANT)).ok

    asyncio.run(body())


def test_call_that_was_approved_is_not_carried_out_any_more_when_its_run_is_cancelled(tmp_path: Path) -> None:
    async def body() -> None:
        deleter = agent("files.delete")
        async with house(tmp_path, deleter, lines=[line("", ("files_delete", {"path": "a.txt"})), line("so")]) as node:
            (tmp_path / "workspace" / "a.txt").write_text("x")
            seen = await answered(node, "delete it", of=deleter)
            (about,) = (await node.timelines.inbox(TENANT)).reviews
            assert about.review is not None
            await node.reviews.approve(TENANT, ReviewId(about.review.id), by=ANN, reason="it may go")
            await node.runs.cancel(TENANT, seen.id, by=ANN)
            with pytest.raises(Conflict):
                await node.gate.release(TENANT, about.effect.id)
            explained = await node.timelines.explain(TENANT, about.effect.id)
            assert (explained.effect.state, explained.effect.code) == ("revoked", "run_cancelled")
            assert (tmp_path / "workspace" / "a.txt").exists()
            assert (await node.verification.verify(TENANT)).ok

    asyncio.run(body())


def test_question_that_a_person_called_off_says_nothing_about_the_model(tmp_path: Path) -> None:
    async def body() -> None:
        chain = agent(models=("play:it", "second:it"))
        second = ScriptedModel("second", Script(lines=(line("from the second"),)))
        async with house(tmp_path, chain, lines=[line("from the first")], others=[second]) as node:
            seen = await answered(node, "hello", of=chain)
            story = await node.runs.story(TENANT, seen.id)
            (asked,) = story.attempts[1]
            fault = Fault(kind=FailureKind.ADAPTER_UNAVAILABLE, message="no")
            for state, model in ((EffectState.CANCELLED, "play:it"), (EffectState.FAILED, "second:it")):
                ended = replace(asked, effect=replace(asked.effect, state=state), completion=None, fault=fault)
                story.attempts[1] = [ended]
                step = steps.next_step(story)
                assert isinstance(step, steps.Ask)
                assert (step.model, step.attempt) == (model, 1)

    asyncio.run(body())


def test_line_of_a_run_names_those_that_handed_it_its_work() -> None:
    assert line_of("run_1.2-0.1-3") == ["run_1.2-0.1-3", "run_1.2-0", "run_1"]


def test_step_that_takes_its_time_is_broken_off_when_another_process_asks_for_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driving, "HEED_S", 0.05)

    async def body() -> None:
        runner = agent("shell.run")
        script = [line("", ("shell_run", {"argv": ["sleep", "25"]})), line("never said")]
        async with (
            house(tmp_path, runner, lines=script) as one,
            house(tmp_path, runner, lines=script) as other,
            asyncio.timeout(20),
        ):
            run = await one.runs.begin(TENANT, runner, "sleep", by=ANN)
            doing = asyncio.create_task(one.runs.drive(TENANT, run))
            open_ = (EffectState.DISPATCHED,)

            async def sleeps() -> bool:
                begun = await other.host._store.effects(TENANT, states=open_, run=run, limit=9)
                return any(one.operation == "shell.run" for one in begun)

            while not await sleeps():  # noqa: ASYNC110 (what is waited for is on record, and nobody rings)
                await asyncio.sleep(0.02)
            await other.runs.ask(TENANT, run, "cancel", by=ANN)
            assert (await doing).state == "cancelled"
            (effect,) = [
                e for e in await one.host._store.effects(TENANT, run=run, limit=9) if e.operation == "shell.run"
            ]
            assert effect.state in ("cancelled", "failed")
            assert (await one.verification.verify(TENANT)).ok

    asyncio.run(body())


def test_question_that_hangs_is_broken_off_when_this_process_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driving, "HEED_S", 0.05)

    async def body() -> None:
        async with house(tmp_path, WRITER, lines=[line("never said")]) as node, asyncio.timeout(20):
            perform, asked = node.gate.perform, asyncio.Event()

            async def hangs(wish: Any, **more: Any) -> Any:
                if wish.operation == "model.play":
                    asked.set()
                    await asyncio.Event().wait()
                return await perform(wish, **more)

            node.gate.perform = hangs  # type: ignore[method-assign]
            run = await node.runs.begin(TENANT, WRITER, "hello", by=ANN)
            doing = asyncio.create_task(node.runs.drive(TENANT, run))
            await asked.wait()
            await node.runs.cancel(TENANT, run, by=ANN)
            assert (await doing).state == "cancelled"

    asyncio.run(body())
