"""What is told while a run is driven: in which order, and of which run."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from assent.operations.conversing import Consent, Conversation, Pending
from assent.operations.runs.events import CallEnded, Decided, RunEvent, Waiting
from assent.operations.scripts import Script, ScriptedModel
from assent.primitives.ids import ReviewId
from tests.operations.agents_house import ANN, TENANT, agent, house, line

pytestmark = pytest.mark.slow


def test_decision_is_told_before_the_call_is_carried_out(tmp_path: Path) -> None:
    async def body() -> None:
        writer = agent("write")
        seen: list[tuple[str, bool]] = []

        def tell(event: RunEvent) -> None:
            if isinstance(event, Decided | CallEnded):
                seen.append((type(event).__name__, (tmp_path / "workspace" / "a.txt").exists()))

        script = [line("", ("write", {"path": "a.txt", "content": "x"})), line("done")]
        async with house(tmp_path, writer, lines=script) as node:
            run = await node.runs.begin(TENANT, writer, "write", by=ANN)
            await node.runs.drive(TENANT, run, tell=tell)
        assert seen == [("Decided", False), ("CallEnded", True)]

    asyncio.run(body())


@pytest.mark.parametrize(("consent", "state"), [(True, "succeeded"), (False, "refused")])
def test_end_of_a_call_is_told_when_it_waited_for_a_review(tmp_path: Path, consent: bool, state: str) -> None:
    async def body() -> None:
        writer = agent("files.delete")
        script = [line("", ("files_delete", {"path": "a.txt"})), line("so be it")]
        events: list[RunEvent] = []
        async with house(tmp_path, writer, lines=script) as node:
            (tmp_path / "workspace" / "a.txt").write_text("x")
            run = await node.runs.begin(TENANT, writer, "delete it", by=ANN)
            await node.runs.drive(TENANT, run, tell=events.append)
            (waits,) = [one for one in events if isinstance(one, Waiting)]
            assert not [one for one in events if isinstance(one, CallEnded)]
            answer = node.reviews.approve if consent else node.reviews.deny
            await answer(TENANT, ReviewId(waits.of), by=ANN, reason="so")
            await node.runs.drive(TENANT, run, tell=events.append)
            (ended,) = [one for one in events if isinstance(one, CallEnded)]
            assert (ended.state, ended.tool, ended.turn) == (state, "files_delete", 1)

    asyncio.run(body())


def test_consent_is_asked_for_runs_that_work_was_handed_to(tmp_path: Path) -> None:
    async def body() -> None:
        reader = agent("files.delete", name="reader", models=("play2:it",))
        lead = agent("delegate", "files.delete", name="lead", delegates=("reader",), delegated=("files.delete",))
        lines = (line("", ("files_delete", {"path": "a.txt"})), line("deleted"))
        other = ScriptedModel("play2", Script(lines=lines))
        script = [line("", ("delegate", {"agent": "reader", "task": "delete it"})), line("it is gone")]
        asked: list[Pending] = []

        async def consents(pending: Pending) -> Consent:
            asked.append(pending)
            return Consent(given=True, reason="looked at")

        async with house(tmp_path, lead, reader, lines=script, others=[other]) as node:
            (tmp_path / "workspace" / "a.txt").write_text("x")
            talk = Conversation(
                runs=node.runs, reviews=node.reviews, timelines=node.timelines, tenant=TENANT, person=ANN,
                on_review=consents,
            )  # fmt: skip
            run = await node.runs.begin(TENANT, lead, "have it deleted", by=ANN)
            assert (await talk.finish(run)).text == "it is gone"
            assert [one.operation for one in asked] == ["files.delete"]
            assert not (tmp_path / "workspace" / "a.txt").exists()
            about = await node.timelines.review(TENANT, ReviewId(asked[0].review))
            assert about.approvers == (ANN,)

    asyncio.run(body())
