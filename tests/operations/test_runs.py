"""Runs on a whole node: what is asked, decided, done, waited for and resumed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from assent.ledger.budget_limits import Limit
from assent.ledger.budgets import Unit, Window
from assent.ledger.effects import EffectState
from assent.operations.runs.events import CallEnded, Decided, Proposal, RunEnded, RunEvent, Waiting
from assent.operations.scripts import Script, ScriptedModel
from assent.primitives.clock import Clock
from assent.primitives.ids import ReviewId
from assent.reasoning.agents import ResetPolicy
from tests.operations.agents_house import ANN, TENANT, agent, answered, house, line

pytestmark = pytest.mark.slow


def test_run_ends_with_the_models_words_when_it_proposes_nothing(tmp_path: Path) -> None:
    async def body() -> None:
        writer = agent()
        async with house(tmp_path, writer, lines=[line("four")]) as node:
            seen = await answered(node, "what is 2+2?", of=writer)
            assert (seen.state, seen.text, seen.turn) == ("finished", "four", 1)

    asyncio.run(body())


def test_proposals_are_done_and_told_to_the_model_when_policy_allows(tmp_path: Path) -> None:
    async def body() -> None:
        writer = agent("read", "write")
        script = [
            line("I write it", ("write", {"path": "a.txt", "content": "hello"})),
            line("", ("read", {"path": "a.txt"}), ("read", {"path": "missing.txt"})),
            line("done"),
        ]
        events: list[RunEvent] = []
        async with house(tmp_path, writer, lines=script) as node:
            seen = await answered(node, "write hello", of=writer, events=events)
            assert (seen.state, seen.text, seen.effects) == ("finished", "done", 6)
            assert (tmp_path / "workspace" / "a.txt").read_text() == "hello"
            ended = sorted((one for one in events if isinstance(one, CallEnded)), key=lambda one: (one.turn, one.place))
            assert [(one.tool, one.state) for one in ended] == [
                ("write", "succeeded"), ("read", "succeeded"), ("read", "failed"),
            ]  # fmt: skip
            assert ended[1].text == "hello"
            assert [type(one) for one in events if isinstance(one, Proposal | Decided)][:2] == [Proposal, Decided]

    asyncio.run(body())


def test_call_that_policy_refuses_is_told_as_refused_and_nothing_is_done(tmp_path: Path) -> None:
    async def body() -> None:
        writer = agent("write")
        script = [line("", ("write", {"path": "../out.txt", "content": "x"})), line("I may not")]
        async with house(tmp_path, writer, lines=script) as node:
            events: list[RunEvent] = []
            seen = await answered(node, "write outside", of=writer, events=events)
            (ended,) = [one for one in events if isinstance(one, CallEnded)]
            assert (seen.state, ended.state) == ("finished", "refused")
            assert "workspace" in ended.text
            assert not (tmp_path / "out.txt").exists()

    asyncio.run(body())


def test_run_waits_for_a_review_and_goes_on_when_it_is_answered(tmp_path: Path) -> None:
    async def body() -> None:
        writer = agent("files.delete")
        script = [line("", ("files_delete", {"path": "a.txt"})), line("gone")]
        (tmp_path / "workspace").mkdir()
        (tmp_path / "workspace" / "a.txt").write_text("x")
        events: list[RunEvent] = []
        async with house(tmp_path, writer, lines=script) as node:
            seen = await answered(node, "delete it", of=writer, events=events)
            assert seen.state == "waiting"
            (waits,) = [one for one in events if isinstance(one, Waiting)]
            assert waits.reason == "review"
            run = seen.id
        async with house(tmp_path, writer, lines=script) as node:
            await node.reviews.approve(TENANT, ReviewId(waits.of), by=ANN, reason="yes")
            seen = await node.runs.drive(TENANT, run)
            assert (seen.state, seen.text) == ("finished", "gone")
            assert not (tmp_path / "workspace" / "a.txt").exists()
            effects = await node.gate._store.effects(TENANT, run=run, limit=10)
            assert [one.state for one in effects] == [EffectState.SUCCEEDED] * 3

    asyncio.run(body())


def test_question_waits_for_the_persons_words_and_these_are_the_result(tmp_path: Path) -> None:
    async def body() -> None:
        writer = agent("ask_user")
        script = [line("", ("ask_user", {"question": "which?"})), line("blue it is")]
        events: list[RunEvent] = []
        async with house(tmp_path, writer, lines=script) as node:
            seen = await answered(node, "paint", of=writer, events=events)
            (waits,) = [one for one in events if isinstance(one, Waiting)]
            assert (seen.state, waits.reason, waits.question) == ("waiting", "person", "which?")
            await node.runs.hear(TENANT, seen.id, "blue", by=ANN, answers=waits.of)
            seen = await node.runs.drive(TENANT, seen.id, tell=events.append)
            assert (seen.state, seen.text) == ("finished", "blue it is")
            assert isinstance(events[-1], RunEnded)

    asyncio.run(body())


def test_delegated_work_is_a_run_of_its_own_with_no_more_than_may_be_passed_on(tmp_path: Path) -> None:
    async def body() -> None:
        reader = agent("read", "write", name="reader", models=("play2:it",))
        lead = agent("read", "delegate", name="lead", delegates=("reader",), delegated=("read",))
        other = ScriptedModel(
            "play2", Script(lines=(line("", ("write", {"path": "x", "content": "y"})), line("could not")))
        )
        script = [line("", ("delegate", {"agent": "reader", "task": "write x"})), line("it said so")]
        events: list[RunEvent] = []
        async with house(tmp_path, lead, reader, lines=script, others=[other]) as node:
            seen = await answered(node, "have it written", of=lead, events=events)
            assert (seen.state, seen.text) == ("finished", "it said so")
            assert not (tmp_path / "workspace" / "x").exists()
            child = await node.runs.story(TENANT, f"{seen.id}.1-0")
            assert [one.tool.name for one in child.begun.offers] == ["read"]
            assert child.begun.on_behalf_of == ("agent:lead", ANN)
            assert child.ended is not None
            assert child.ended.text == "could not"

    asyncio.run(body())


def test_sessions_hold_what_was_said_and_the_same_key_is_the_same_run(tmp_path: Path) -> None:
    async def body() -> None:
        writer = agent()
        async with house(tmp_path, writer, lines=[line("one"), line("two"), line("fresh")]) as node:
            session = await node.sessions.open(TENANT, agent="writer", identity=ANN, channel="cli", name="main")
            first = await node.runs.begin(TENANT, writer, "a", by=ANN, session=session, key="m1")
            again = await node.runs.begin(TENANT, writer, "a", by=ANN, session=session, key="m1")
            assert again == first
            assert (await node.runs.drive(TENANT, first)).text == "one"
            second = await answered(node, "b", of=writer, session=session)
            assert second.text == "two"
            assert (await node.sessions.view(TENANT, session)).messages == 4
            await node.sessions.reset(TENANT, session, by=ANN)
            third = await answered(node, "c", of=writer, session=session)
            assert third.text == "one"

    asyncio.run(body())


def test_record_of_runs_verifies(tmp_path: Path) -> None:
    async def body() -> None:
        writer = agent("read")
        async with house(tmp_path, writer, lines=[line("", ("read", {"path": "x"})), line("no")]) as node:
            await answered(node, "read x", of=writer)
            report = await node.verification.verify(TENANT)
            assert report.ok, report.faults

    asyncio.run(body())


def test_run_waits_for_its_budget_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    async def body() -> None:
        writer = agent("todo")
        script = [line("", ("todo", {"items": [{"text": "a"}]})), line("done")]
        few = Limit(scope="agent:writer", unit=Unit.CALLS, amount=2, window=Window.ALL)
        async with house(tmp_path, writer, lines=script, limits=(few,)) as node:
            events: list[RunEvent] = []
            seen = await answered(node, "work", of=writer, events=events)
            (waits,) = [one for one in events if isinstance(one, Waiting)]
            assert (seen.state, waits.reason) == ("waiting", "budget")
            assert (await node.runs.drive(TENANT, seen.id)).state == "waiting"
            assert len((await node.timelines.inbox(TENANT)).stops) == 1
        async with house(tmp_path, writer, lines=script) as node:
            seen = await node.runs.drive(TENANT, seen.id)
            assert (seen.state, seen.text) == ("finished", "done")

    asyncio.run(body())


@pytest.mark.parametrize(
    ("kind", "limit", "passes_ms", "messages"),
    [
        ("idle", 60, 61_000, 2),
        ("idle", 60, 30_000, 4),
        ("age", 60, 61_000, 2),
        ("messages", 2, 0, 2),
        ("messages", 3, 0, 4),
    ],
)
def test_session_begins_afresh_when_its_agent_says_so(
    tmp_path: Path, kind: Any, limit: int, passes_ms: int, messages: int
) -> None:
    async def body() -> None:
        writer = agent(reset=ResetPolicy(kind=kind, limit=limit))
        async with house(tmp_path, writer, lines=[line("one"), line("two")]) as node:
            session = await node.sessions.open(TENANT, agent="writer", identity=ANN, channel="cli", name="main")
            await answered(node, "a", of=writer, session=session)
            clock = node.runs._clock
            node.runs._clock = Later(clock, passes_ms)
            await answered(node, "b", of=writer, session=session)
            assert (await node.sessions.view(TENANT, session)).messages == messages

    asyncio.run(body())


class Later:
    """A clock that is ahead of another."""

    def __init__(self, clock: Clock, ahead_ms: int) -> None:
        self._clock, self._ahead_ms = clock, ahead_ms

    def now_ms(self) -> int:
        return self._clock.now_ms() + self._ahead_ms

    def monotonic_ns(self) -> int:
        return self._clock.monotonic_ns()
