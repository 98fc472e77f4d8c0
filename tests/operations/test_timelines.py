"""What is told of the record, also of what was erased from it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from assent.execution.outcomes import Ending
from assent.testing.benches import ACME, Bench
from assent.testing.desks import code_of
from assent.testing.lanes import Reply
from tests.operations.scenes import BOB, WRITE, Scene, asked


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def erase(scene: Scene) -> None:
    """Every payload goes, with the salt that made its commitment meaningful."""
    with closing(sqlite3.connect(scene.folder.database, isolation_level=None)) as connection:
        connection.execute("UPDATE log SET payload = NULL, salt = NULL")


def test_run_is_told_in_the_order_of_the_log_when_its_effects_are_interleaved(scene):
    async def body(bench: Bench) -> None:
        for _ in range(3):
            await bench.perform("files.write", WRITE, run="r")
            await bench.perform("files.read", {"path": "a.txt"}, run="other")
        moments = await bench.timelines.of_run(ACME, "r")
        assert [m.seq for m in moments] == sorted(m.seq for m in moments)
        assert [m.type for m in moments] == ["effect.accepted", "effect.settled"] * 3
        assert await code_of(bench.timelines.of_run(ACME, "nothing")) == "run_not_found"

    scene.run(body)


def test_newest_moments_are_told_in_order_when_there_are_more(scene):
    async def body(bench: Bench) -> None:
        for _ in range(5):
            await bench.perform("files.write", WRITE)
        everything = await bench.timelines.latest(ACME)
        assert [m.seq for m in everything] == list(range(len(everything)))
        assert await bench.timelines.newest(ACME, limit=4) == everything[-4:]
        assert await bench.timelines.newest(ACME, limit=400) == everything

    scene.run(body)


def test_explanation_names_who_decided_what_came_back_and_who_approved(scene):
    async def body(bench: Bench) -> None:
        effect, review = await asked(bench)
        await bench.reviews.approve_and_run(ACME, review, by=BOB, reason="go", on_event=lambda _: None)
        told = await bench.timelines.explain(ACME, effect)
        assert told.intent is not None
        assert told.outcome is not None
        assert told.review is not None
        assert (told.intent.principal, told.intent.on_behalf_of) == ("agent:writer", ("person:ann",))
        assert (told.review.approvers, told.review.reason) == ((BOB,), "go")
        assert told.outcome.code == "ok"
        assert told.rules == ("work",)
        answered = next(m for m in told.moments if m.type == "review.answered")
        assert (answered.facts["by"], answered.detail) == (BOB, {"reason": "go"})

    scene.run(body)


def test_record_is_told_as_erased_when_its_payloads_are_gone(tmp_path):
    scene = Scene(tmp_path, Reply(), Reply(ending=Ending.UNKNOWN, code="wire_lost"), Reply())

    async def body(bench: Bench) -> None:
        first = await bench.perform("files.write", WRITE, key="k")
        lost = await bench.perform("files.write", WRITE)
        waiting, review = await asked(bench)
        await bench.reviews.approve(ACME, review, by=BOB)
        erase(scene)
        told = await bench.timelines.explain(ACME, first.effect.id)
        assert (told.intent, told.outcome, told.reason) == (None, None, "")
        assert [m.detail for m in told.moments] == [None, None]
        inbox = await bench.timelines.inbox(ACME)
        assert [e.effect.id for e in inbox.granted] == [waiting]
        assert await code_of(bench.gate.release(ACME, waiting)) == "intent_erased"
        (after,) = await bench.recovery.reconcile(ACME)
        assert (after.id, after.state, after.observations) == (lost.effect.id, "unknown", 1)
        again = await bench.perform("files.write", WRITE, key="k")
        assert (again.fresh, again.effect, again.outcome) == (False, first.effect, None)

    scene.run(body)
    assert scene.deeds == 2
