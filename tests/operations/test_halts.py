"""Kill switches: what is halted is dispatched no more, from the next dispatch on, on every node of the database."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from assent.bootstrap.node import Node
from assent.operations.runs import host as hosting
from assent.operations.wishes import TYPED, Wish
from assent.primitives.errors import AssentError, Conflict
from assent.primitives.ids import EffectId, ReviewId, TenantId
from tests.operations.agents_house import ANN, TENANT, agent, answered, house, line

pytestmark = pytest.mark.slow

WRITER = agent("write", "files.delete")


def wish(operation: str = "files.write", *, by: str = "agent:writer", key: str = "", **arguments: Any) -> Wish:
    arguments = arguments or {"path": "a", "content": "x"}
    chain = () if by.startswith("person:") else (ANN,)
    return Wish(
        tenant=TENANT, operation=operation, arguments=arguments, principal=by, on_behalf_of=chain, key=key,
        provenance=TYPED,
    )  # fmt: skip


async def state_of(node: Node, wished: Wish) -> tuple[str, str]:
    effect = (await node.gate.perform(wished)).effect
    return effect.state, effect.code


@asynccontextmanager
async def two(folder: Path, *lines: Any) -> AsyncIterator[tuple[Node, Node]]:
    async with house(folder, WRITER, lines=lines) as one, house(folder, WRITER, lines=lines) as other:
        yield one, other


@pytest.mark.parametrize("scope", ["everything", "agent:writer", ANN, "connector:files"])
def test_nothing_of_a_halted_scope_is_dispatched_on_any_node_until_it_is_lifted(tmp_path: Path, scope: str) -> None:
    async def body() -> None:
        async with two(tmp_path) as (one, other):
            for node in (one, other):
                assert await state_of(node, wish()) == ("succeeded", "ok")
            await one.halts.halt(TENANT, scope, by=ANN, reason="it runs wild")
            for node in (one, other):
                assert await state_of(node, wish()) == ("refused", "halted")
                explained = await node.timelines.explain(TENANT, (await node.gate.perform(wish(key="k"))).effect.id)
                assert f"`{scope}` is halted" in explained.reason
            await other.halts.lift(TENANT, scope, by=ANN, reason="mended")
            for node in (one, other):
                assert await state_of(node, wish()) == ("succeeded", "ok")
            assert (await one.verification.verify(TENANT)).ok

    asyncio.run(body())


def test_others_go_on(tmp_path: Path) -> None:
    async def body() -> None:
        async with house(tmp_path, WRITER, agent(name="other")) as node:
            for scope in ("agent:other", "agent:writ", "connector:http", "person:bob"):
                await node.halts.halt(TENANT, scope, by=ANN, reason="")
            assert await state_of(node, wish()) == ("succeeded", "ok")
            assert await state_of(node, wish(by="agent:other")) == ("refused", "halted")
            assert [one.scope for one in await node.halts.standing(TENANT)] == [
                "agent:other", "agent:writ", "connector:http", "person:bob",
            ]  # fmt: skip

    asyncio.run(body())


def test_approved_call_waits_while_it_is_halted_and_is_carried_out_afterwards(tmp_path: Path) -> None:
    async def body() -> None:
        async with two(tmp_path) as (one, other):
            (tmp_path / "workspace" / "a").write_text("x")
            asked = await one.gate.perform(wish("files.delete", path="a", recursive=False))
            assert asked.review is not None
            await other.halts.halt(TENANT, "connector:files", by=ANN, reason="wait")
            await one.reviews.approve(TENANT, ReviewId(asked.review.id), by=ANN, reason="it may go")
            with pytest.raises(Conflict) as halted:
                await one.gate.release(TENANT, asked.effect.id)
            assert halted.value.code == "halted"
            assert (tmp_path / "workspace" / "a").exists()
            assert (await one.timelines.explain(TENANT, asked.effect.id)).effect.state == "granted"
            await one.halts.lift(TENANT, "connector:files", by=ANN, reason="go on")
            assert (await other.gate.release(TENANT, asked.effect.id)).effect.state == "succeeded"
            assert not (tmp_path / "workspace" / "a").exists()

    asyncio.run(body())


@pytest.mark.parametrize("scope", ["agent:writer", "connector:model"])
def test_run_waits_while_it_is_halted_and_the_host_goes_on_when_it_is_lifted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scope: str
) -> None:
    monkeypatch.setattr(hosting, "LOOK_S", 0.01)

    async def body() -> None:
        async with house(tmp_path, WRITER, lines=[line("done")]) as node:
            await node.halts.halt(TENANT, scope, by=ANN, reason="not now")
            seen = await answered(node, "hello", of=WRITER)
            assert (seen.state, seen.waits_for.split()[0]) == ("waiting", "halted")
            serving = asyncio.create_task(node.host.serve(lambda _: None))
            await asyncio.sleep(0.2)
            entries = await node.runs._store.notes(TENANT, "run", seen.id)
            assert [one.type for one in entries] == ["run.started", "run.waiting"], "nobody tries in vain"
            await node.halts.lift(TENANT, scope, by=ANN, reason="now")
            async with asyncio.timeout(20):
                while (await node.runs.view(TENANT, seen.id)).state != "finished":  # noqa: ASYNC110 (on record)
                    await asyncio.sleep(0.02)
            serving.cancel()
            await asyncio.wait([serving])

    asyncio.run(body())


def test_approved_call_of_a_run_waits_with_its_run(tmp_path: Path) -> None:
    async def body() -> None:
        script = [line("", ("files_delete", {"path": "a"})), line("gone")]
        async with house(tmp_path, WRITER, lines=script) as node:
            (tmp_path / "workspace" / "a").write_text("x")
            seen = await answered(node, "delete it", of=WRITER)
            (about,) = (await node.timelines.inbox(TENANT)).reviews
            assert about.review is not None
            await node.halts.halt(TENANT, "everything", by=ANN, reason="stop")
            await node.reviews.approve(TENANT, ReviewId(about.review.id), by=ANN, reason="it may go")
            again = await node.runs.drive(TENANT, seen.id)
            assert (again.state, again.waits_for.split()[0]) == ("waiting", "halted")
            await node.halts.lift(TENANT, "everything", by=ANN, reason="go")
            assert (await node.runs.drive(TENANT, seen.id)).state == "finished"
            assert not (tmp_path / "workspace" / "a").exists()

    asyncio.run(body())


async def approved_deletions(node: Node, folder: Path, count: int) -> list[EffectId]:
    """Calls that were approved, and wait to be carried out."""
    found = []
    for number in range(count):
        (folder / "workspace" / f"d{number}").write_text("x")
        asked = await node.gate.perform(wish("files.delete", path=f"d{number}", recursive=False))
        assert asked.review is not None
        await node.reviews.approve(TENANT, ReviewId(asked.review.id), by=ANN, reason="it may go")
        found.append(asked.effect.id)
    return found


async def call_until_halted(node: Node, name: str, at_work: asyncio.Event) -> None:
    """Write again and again until that is refused; `at_work` is set once something was written."""
    while (await state_of(node, wish(path=name, content="x"))) == ("succeeded", "ok"):
        at_work.set()


async def release_until_halted(node: Node, approved: list[EffectId]) -> None:
    for effect in approved:
        try:
            await node.gate.release(TENANT, effect)
        except Conflict as conflict:
            assert conflict.code == "halted"  # noqa: PT017 (it may as well have come first)


async def dispatches(node: Node) -> list[tuple[int, str]]:
    """Where the log holds the dispatch of a call, and of which node."""
    store = node.host._store
    records = await store.records_at(TENANT, range(await store.size(TENANT)))
    kinds = ("effect.accepted", "effect.dispatched", "effect.resent")
    found = [one for one in records.values() if one.type in kinds and one.body["state"] == "dispatched"]
    return [(one.seq, one.body["node"]) for one in found]


@pytest.mark.parametrize("scope", ["everything", "agent:writer", ANN, "connector:files"])
def test_log_holds_no_dispatch_after_the_halt_of_its_scope_when_two_nodes_race(tmp_path: Path, scope: str) -> None:
    """Each node has its own connection and writer thread. Whoever comes first, the order in the log is what counts."""

    async def body() -> None:
        async with two(tmp_path) as nodes:
            one, other = nodes
            for _ in range(3):
                approved = await approved_deletions(other, tmp_path, 4)
                size = await one.host._store.size(TENANT)
                at_work = [asyncio.Event() for _ in range(6)]
                async with asyncio.TaskGroup() as tasks, asyncio.timeout(60):
                    for number, event in enumerate(at_work):
                        tasks.create_task(call_until_halted(nodes[number % 2], f"w{number}", event))
                    await asyncio.gather(*(event.wait() for event in at_work))
                    tasks.create_task(release_until_halted(other, approved))
                    await one.halts.halt(TENANT, scope, by=ANN, reason="stop")
                journal = await one.host._store.journal(TENANT, "halt", scope)
                assert journal is not None
                assert await one.host._store.size(TENANT) > journal.last_seq + 1, "they were refused afterwards"
                found = [pair for pair in await dispatches(other) if pair[0] >= size]
                assert {node for _, node in found} == {node._fence.node for node in (one.gate, other.gate)}
                assert max(seq for seq, _ in found) < journal.last_seq
                await other.halts.lift(TENANT, scope, by=ANN, reason="go on")
            assert (await one.verification.verify(TENANT)).ok

    asyncio.run(body())


@pytest.mark.parametrize(
    ("scope", "by", "code"),
    [
        ("everything", "agent:writer", "not_a_person"),
        ("everything", "service:x", "not_a_person"),
        ("files", ANN, "scope_malformed"),
        ("agent:", ANN, "scope_malformed"),
        ("agent:a b", ANN, "scope_malformed"),
        ("connector:files.write", ANN, "scope_malformed"),
        ("", ANN, "scope_malformed"),
    ],
)
def test_halt_of_nothing_and_by_nobody_is_refused(tmp_path: Path, scope: str, by: str, code: str) -> None:
    async def body() -> None:
        async with house(tmp_path) as node:
            with pytest.raises(AssentError) as refused:
                await node.halts.halt(TENANT, scope, by=by, reason="x")
            assert refused.value.code == code
            assert not await node.halts.standing(TENANT)

    asyncio.run(body())


def test_halting_twice_lifting_twice_and_another_tenant(tmp_path: Path) -> None:
    async def body() -> None:
        async with two(tmp_path) as (one, other):
            with pytest.raises(Conflict) as absent:
                await one.halts.lift(TENANT, "everything", by=ANN, reason="x")
            assert absent.value.code == "halt_absent"
            await one.halts.halt(TENANT, "everything", by=ANN, reason="x")
            with pytest.raises(Conflict) as stands:
                await other.halts.halt(TENANT, "everything", by=ANN, reason="x")
            assert stands.value.code == "halt_stands"
            assert await other.halts.standing(TenantId("other")) == []

    asyncio.run(body())


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def change(database: Path, sql: str) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute(sql)
    connection.close()


def test_row_that_somebody_deletes_or_lifts_behind_our_back_is_found(tmp_path: Path) -> None:
    async def body(sql: str, folder: Path) -> None:
        async with house(folder, WRITER) as node:
            await node.halts.halt(TENANT, "everything", by=ANN, reason="x")
            assert (await node.verification.verify(TENANT)).ok
            change(folder / "data" / "assent.db", sql)
            assert not (await node.verification.verify(TENANT)).ok

    asyncio.run(body("DELETE FROM journals WHERE kind = 'halt'", made(tmp_path / "a")))
    asyncio.run(body("UPDATE journals SET state = 'lifted' WHERE kind = 'halt'", made(tmp_path / "b")))


WRITES_ON = """
import asyncio, sys
from pathlib import Path
from tests.operations.agents_house import house, agent
from tests.operations.test_halts import WRITER, wish
async def body():
    async with house(Path(sys.argv[1]), WRITER) as node:
        while True:
            effect = (await node.gate.perform(wish("files.append", path="log", content="x"))).effect
            print(effect.code, flush=True)
asyncio.run(body())
"""


def test_other_process_stops_within_the_next_dispatch(tmp_path: Path) -> None:
    async def body() -> None:
        async with house(tmp_path, WRITER) as node:
            root = str(Path(__file__).parents[2])
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", WRITES_ON, str(tmp_path), stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([root, str(Path(root) / "src")])},
            )  # fmt: skip
            assert process.stdout is not None
            try:
                async with asyncio.timeout(60):
                    assert (await process.stdout.readline()).strip() == b"ok"
                    await node.halts.halt(TENANT, "agent:writer", by=ANN, reason="stop")
                    while (await process.stdout.readline()).strip() != b"halted":
                        pass
                    written = (tmp_path / "workspace" / "log").read_text()
                    assert [(await process.stdout.readline()).strip() for _ in range(20)] == [b"halted"] * 20
                    assert (tmp_path / "workspace" / "log").read_text() == written
            finally:
                process.send_signal(signal.SIGKILL)
                await process.wait()

    asyncio.run(body())
