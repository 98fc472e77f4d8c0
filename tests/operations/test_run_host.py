"""The host: which runs it drives, that none can stall the others, and that it holds nothing that could be lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from assent.bootstrap.node import Node
from assent.ledger.commands import ReleaseLease
from assent.operations.runs import host as hosting
from assent.operations.runs.events import RunEvent, TurnBegan
from assent.operations.runs.waits import AGAIN_MS
from assent.operations.scripts import Script, ScriptedModel
from assent.primitives.errors import Unavailable
from assent.primitives.ids import ReviewId
from assent.primitives.leases import SYSTEM
from assent.testing.clocks import SetClock
from tests.operations.agents_house import ANN, FAILS, STARTER, TENANT, Spoken, agent, answered, house, line

pytestmark = pytest.mark.slow

WRITER = agent("write", "files.delete", "ask_user")
PATIENCE_S = 20.0


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosting, "LOOK_S", 0.01)
    monkeypatch.setattr(hosting, "BEAT_S", 0.01)
    monkeypatch.setattr(hosting, "HOLD_OFF_MS", 0)
    monkeypatch.setattr(hosting, "SWEEP_MS", 10)


@asynccontextmanager
async def hosted(node: Node, events: list[RunEvent] | None = None, **more: Any) -> AsyncIterator[None]:
    heard = events if events is not None else []
    serving = asyncio.create_task(node.host.serve(heard.append, **more))
    try:
        yield
    finally:
        serving.cancel()
        await asyncio.wait([serving])


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await true():  # noqa: ASYNC110 (what is waited for is on record, and nobody rings)
            await asyncio.sleep(0.01)


async def state_of(node: Node, run: str) -> str:
    return (await node.runs.view(TENANT, run)).state


async def all_are(node: Node, state: str, *runs: str) -> None:
    async def true() -> bool:
        return {await state_of(node, run) for run in runs} == {state}

    await until(true)


def test_host_carries_on_what_a_node_left_behind_that_is_gone(tmp_path: Path) -> None:
    async def body() -> None:
        script = [line("", ("write", {"path": "a.txt", "content": "x"})), line("done")]
        async with house(tmp_path, WRITER, lines=script) as first:
            run = await first.runs.begin(TENANT, WRITER, "write", by=ANN)
        async with house(tmp_path, WRITER, lines=script) as node, hosted(node):
            await all_are(node, "finished", run)
            assert (tmp_path / "workspace" / "a.txt").read_text() == "x"

    asyncio.run(body())


def test_host_leaves_alone_what_another_node_works_on_and_what_waits(tmp_path: Path) -> None:
    async def body() -> None:
        script = [line("", ("ask_user", {"question": "which?"})), line("so be it")]
        async with house(tmp_path, WRITER, lines=script) as other, house(tmp_path, WRITER, lines=script) as node:
            held = await other.runs.begin(TENANT, WRITER, "ask", by=ANN)
            waiting = (await answered(node, "ask", of=WRITER)).id
            undeclared = await node.runs.begin(TENANT, agent(name="stranger"), "hello", by=ANN)
            before = await node.runs.newest(TENANT)
            events: list[RunEvent] = []
            beats: list[int] = []
            async with hosted(node, events, beat=lambda runs: beats.append(len(runs))):
                await until(lambda: _at_least(beats, 20))
            assert not events
            assert set(beats) == {0}
            assert await node.runs.newest(TENANT) == before, "not even an entry is written about them"
            assert {await state_of(node, one) for one in (held, undeclared)} == {"running"}
            assert await state_of(node, waiting) == "waiting"

    asyncio.run(body())


def test_host_ends_a_review_that_nobody_answers_and_the_run_goes_on_without_it(tmp_path: Path) -> None:
    async def body() -> None:
        script = [line("", ("files_delete", {"path": "a.txt"})), line("then it stays")]
        (tmp_path / "workspace").mkdir()
        (tmp_path / "workspace" / "a.txt").write_text("x")
        hurried = STARTER.replace('@quorum("1")', '@quorum("1") @review_ttl_s("1")')
        async with house(tmp_path, WRITER, lines=script, policy=hurried) as node, hosted(node):
            run = await node.runs.begin(TENANT, WRITER, "delete it", by=ANN)
            await all_are(node, "finished", run)
            assert not (await node.timelines.inbox(TENANT)).reviews
            assert (tmp_path / "workspace" / "a.txt").exists()

    asyncio.run(body())


async def _at_least(found: list[int], count: int) -> bool:
    return len(found) >= count


def test_host_goes_on_when_somebody_has_answered_elsewhere(tmp_path: Path) -> None:
    async def body() -> None:
        script = [
            line("", ("files_delete", {"path": "a.txt"})), line("", ("ask_user", {"question": "and now?"})),
            line("bye"),
        ]  # fmt: skip
        async with house(tmp_path, WRITER, lines=script) as other, house(tmp_path, WRITER, lines=script) as node:
            (tmp_path / "workspace" / "a.txt").write_text("x")
            run = (await answered(other, "delete it", of=WRITER)).id
            async with hosted(node):
                (about,) = (await other.timelines.inbox(TENANT)).reviews
                assert about.review is not None
                await other.reviews.approve(TENANT, ReviewId(about.review.id), by=ANN, reason="it may go")

                async def asks() -> bool:
                    return "person" in (await other.runs.view(TENANT, run)).waits_for

                await until(asks)
                assert not (tmp_path / "workspace" / "a.txt").exists()
                question = (await other.runs.view(TENANT, run)).waits_for.split()[1]
                await other.runs.hear(TENANT, run, "nothing", by=ANN, answers=question)
                await all_are(node, "finished", run)
            assert (await node.verification.verify(TENANT)).ok

    asyncio.run(body())


def test_host_goes_on_with_who_handed_work_on_when_that_can_go_on(tmp_path: Path) -> None:
    async def body() -> None:
        deleter = agent("files.delete", name="deleter", models=("play2:it",))
        lead = agent("delegate", "files.delete", name="lead", delegates=("deleter",), delegated=("files.delete",))
        other = ScriptedModel("play2", Script(lines=(line("", ("files_delete", {"path": "a.txt"})), line("gone"))))
        script = [line("", ("delegate", {"agent": "deleter", "task": "delete it"})), line("so it is")]
        async with house(tmp_path, lead, deleter, lines=script, others=[other]) as node:
            (tmp_path / "workspace" / "a.txt").write_text("x")
            seen = await answered(node, "have it deleted", of=lead)
            async with hosted(node):
                (about,) = (await node.timelines.inbox(TENANT)).reviews
                assert about.review is not None
                await node.reviews.deny(TENANT, ReviewId(about.review.id), by=ANN, reason="it stays")
                await all_are(node, "finished", *(one.id for one in await node.runs.newest(TENANT)))
            assert (await node.runs.view(TENANT, seen.id)).text == "so it is"
            assert (tmp_path / "workspace" / "a.txt").exists()

    asyncio.run(body())


def test_host_asks_a_provider_again_after_a_while_and_not_before(tmp_path: Path) -> None:
    async def body() -> None:
        down = [True]
        clock = SetClock()

        def says(_: Any) -> Any:
            return line(f"{FAILS}adapter_unavailable") if down[0] else line("here I am")

        caller = agent(models=("far:it",))
        async with house(tmp_path, caller, others=[Spoken("far", says)]) as node:
            run = (await answered(node, "hello", of=caller)).id
            assert (await node.runs.view(TENANT, run)).waits_for.startswith("provider")
            now_ms = (await node.runs.newest(TENANT))[0].updated_at_ms
            clock.jump_ms(now_ms + AGAIN_MS["provider"] - 1 - clock.now_ms())
            node.host._waits._clock = clock
            down[0] = False
            beats: list[int] = []
            async with hosted(node, beat=lambda runs: beats.append(len(runs))):
                await until(lambda: _at_least(beats, 20))
                assert await state_of(node, run) == "waiting"
                clock.pass_ms(1)
                await all_are(node, "finished", run)

    asyncio.run(body())


def test_run_that_never_gets_an_answer_keeps_no_other_waiting(tmp_path: Path) -> None:
    async def body() -> None:
        stuck = agent(name="stuck", models=("play:it",))
        quick = agent(name="quick", models=("fast:it",))
        fast = ScriptedModel("fast", Script(lines=(line("done"),)))
        async with house(tmp_path, stuck, quick, lines=[line("never")], others=[fast]) as node:
            perform = node.gate.perform

            async def stalls(wish: Any, **more: Any) -> Any:
                if wish.operation == "model.play":
                    await asyncio.Event().wait()
                return await perform(wish, **more)

            node.gate.perform = stalls  # type: ignore[method-assign]
            never = [await node.runs.begin(TENANT, stuck, "hello", by=ANN) for _ in range(5)]
            well = [await node.runs.begin(TENANT, quick, "hello", by=ANN) for _ in range(20)]
            async with hosted(node):
                await all_are(node, "finished", *well)
                assert {await state_of(node, run) for run in never} == {"running"}

    asyncio.run(body())


def test_run_that_cannot_be_driven_is_paused_for_a_person_and_the_others_end(tmp_path: Path) -> None:
    async def body() -> None:
        async with house(tmp_path, WRITER, lines=[line("done")]) as node:
            drive = node.runs.drive
            broken = await node.runs.begin(TENANT, WRITER, "hello", by=ANN)
            well = [await node.runs.begin(TENANT, WRITER, "hello", by=ANN) for _ in range(3)]

            async def drives(tenant: Any, run: str, **more: Any) -> Any:
                if run == broken:
                    raise RuntimeError("a secret that nobody is to see")
                return await drive(tenant, run, **more)

            node.runs.drive = drives  # type: ignore[method-assign]
            faults: list[tuple[str, str]] = []
            async with hosted(node, fault=lambda run, why: faults.append((run, why))):
                await all_are(node, "paused", broken)
                await all_are(node, "finished", *well)
            assert [why for _, why in faults[:-1]] == ["RuntimeError"] * hosting.STRIKES_MAX
            assert faults[-1] == (broken, f"paused: it could not be driven {hosting.STRIKES_MAX} times")
            node.runs.drive = drive  # type: ignore[method-assign]
            assert (await drive(TENANT, broken, by=ANN)).state == "finished", "nothing of it was lost"

    asyncio.run(body())


def test_suspects_are_driven_one_at_a_time(tmp_path: Path) -> None:
    async def body() -> None:
        async with house(tmp_path, WRITER, lines=[line("done")]) as node:
            drive, at_once, most = node.runs.drive, [0], [0]
            runs = [await node.runs.begin(TENANT, WRITER, "hello", by=ANN) for _ in range(5)]

            async def drives(tenant: Any, run: str, **more: Any) -> Any:
                at_once[0] += 1
                most[0] = max(most[0], at_once[0])
                await asyncio.sleep(0)
                try:
                    return await drive(tenant, run, **more)
                finally:
                    at_once[0] -= 1

            node.runs.drive = drives  # type: ignore[method-assign]
            async with hosted(node, suspects=runs):
                await all_are(node, "finished", *runs)
            assert most == [1]

    asyncio.run(body())


def test_host_that_is_stopped_leaves_a_run_that_goes_on_from_its_record(tmp_path: Path) -> None:
    async def body() -> None:
        script = [line("", ("write", {"path": "a.txt", "content": "x"})), line("done")]
        async with house(tmp_path, WRITER, lines=script) as node:
            run = await node.runs.begin(TENANT, WRITER, "write", by=ANN)
            asked = asyncio.Event()

            def hears(event: RunEvent) -> None:
                if isinstance(event, TurnBegan) and event.turn == 2:
                    asked.set()

            serving = asyncio.create_task(node.host.serve(hears))
            await asyncio.wait_for(asked.wait(), PATIENCE_S)
            serving.cancel()
            await asyncio.wait([serving])
            assert serving.cancelled()
            async with hosted(node):
                await all_are(node, "finished", run)
            effects = await node.host._store.effects(TENANT, run=run, limit=99)
            assert sum(one.operation == "files.write" for one in effects) == 1

    asyncio.run(body())


def test_host_ends_when_its_node_is_taken_for_dead(tmp_path: Path) -> None:
    async def body() -> None:
        async with house(tmp_path, WRITER, lines=[line("done")]) as node:
            serving = asyncio.create_task(node.host.serve(lambda _: None))
            await node.host._store.apply(ReleaseLease(tenant=SYSTEM, fence=node.host._fence))
            with pytest.raises(Unavailable) as lost:
                await asyncio.wait_for(serving, PATIENCE_S)
            assert lost.value.code == "lease_lost"

    asyncio.run(body())


def test_host_sees_every_run_when_there_are_more_than_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosting, "PAGE", 3)

    async def body() -> None:
        script = [line("", ("ask_user", {"question": "which?"})), line("so be it")]
        async with house(tmp_path, WRITER, lines=script) as node:
            seen = [await answered(node, "ask", of=WRITER) for _ in range(8)]
            for one in seen:
                await node.runs.hear(TENANT, one.id, "that", by=ANN, answers=one.waits_for.split()[1])
            async with hosted(node):
                await all_are(node, "finished", *(one.id for one in seen))

    asyncio.run(body())
