"""Group commit changes how much a commit costs, and nothing else."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assent.execution.outcomes import Ending
from assent.ledger.commands import Command, KeepCheckpoint, OpenLog
from assent.ledger.decisions import Verdict
from assent.ledger.effects import Effect
from assent.ledger.ports import LedgerStore
from assent.primitives.errors import InvariantBroken
from assent.primitives.leases import Fence
from assent.testing.calls import Scribe, intent_to
from assent.testing.desks import ACME, GLOBEX, Desk, results_of
from assent.testing.entropy import SeededEntropy
from assent.testing.ledgers import LedgerFolder

CALLERS = 64


class Commits:
    """Counts the transactions of a folder's ledger."""

    def __init__(self, folder: LedgerFolder) -> None:
        self.store = folder.ledger()
        self.count = 0
        inner = self.store._book.committed

        def committed() -> None:
            self.count += 1
            inner()

        self.store._book.committed = committed  # type: ignore[method-assign]
        self.store.open()


def test_callers_of_one_moment_share_one_commit_when_the_writer_is_free(tmp_path):
    folder = LedgerFolder(tmp_path)
    commits = Commits(folder)

    async def run() -> None:
        desk = await Desk(commits.store, folder.clock).start()
        before = commits.count
        results = await results_of(
            desk.store, [desk.scribe.accept(intent_to(ACME, content=str(i))) for i in range(CALLERS)]
        )
        assert {r.fresh for r in results} == {True}
        assert commits.count - before == 1

    try:
        asyncio.run(run())
    finally:
        commits.store.close()
    assert folder.verify().ok


def test_a_crowd_is_split_into_batches_when_it_is_larger_than_one(tmp_path, monkeypatch):
    monkeypatch.setattr("assent.storage.adapters.sqlite.BATCH_MAX", 16)
    folder = LedgerFolder(tmp_path)
    commits = Commits(folder)

    async def run() -> None:
        desk = await Desk(commits.store, folder.clock).start()
        before = commits.count
        await results_of(desk.store, [desk.scribe.accept(intent_to(ACME)) for _ in range(40)])
        assert commits.count - before == 3
        assert await desk.size() == 40

    try:
        asyncio.run(run())
    finally:
        commits.store.close()


# One drawn command: what it is, of which tenant, under which key and content, under an active policy or not, by a node
# that holds its lease or not.
drawn = st.tuples(
    st.sampled_from(["accept", "accept", "refuse", "review", "settle", "settle_other"]),
    st.sampled_from([ACME, GLOBEX]),
    st.sampled_from(["", "", "k1", "k2"]),
    st.sampled_from(["a", "b"]),
    st.sampled_from([True] * 6 + [False]),
    st.sampled_from([True] * 6 + [False]),
)


@pytest.mark.slow
@settings(max_examples=40)
@given(st.lists(drawn, min_size=1, max_size=14))
def test_commands_have_the_same_results_when_they_come_at_once_as_when_they_come_singly(tmp_path_factory, plan):
    together = outcome_of(tmp_path_factory.mktemp("together"), plan, at_once=True)
    singly = outcome_of(tmp_path_factory.mktemp("singly"), plan, at_once=False)
    assert together == singly


def outcome_of(path: Path, plan: list[Any], *, at_once: bool) -> Any:
    """Results and rows, without log positions: those may differ, as long as the log is whole."""
    folder = LedgerFolder(path)

    async def run(store: LedgerStore) -> Any:
        desk = await Desk(store, folder.clock).start()
        lost = Scribe(
            clock=folder.clock, entropy=SeededEntropy("lost"), fence=Fence(node=desk.scribe.ids.node(), number=1)
        )
        sent = [await desk.accept(tenant) for tenant in (ACME, GLOBEX) for _ in range(4)]
        commands = [_command(desk.scribe if choice[-1] else lost, sent, choice[:-1]) for choice in plan]
        if at_once:
            results = await results_of(store, commands)
        else:
            results = [(await results_of(store, [c]))[0] for c in commands]
        rows = [e for t in (ACME, GLOBEX) for e in await store.effects(t, limit=1_000)]
        sizes = [await desk.size(t) for t in (ACME, GLOBEX)]
        return [_told(r) for r in results], sorted(_row(e) for e in rows), sizes

    with folder.opened() as store:
        result = asyncio.run(run(store))
    report = folder.verify()
    assert report.ok, report.faults
    return result


def _command(scribe: Scribe, sent: list[Effect], choice: Any) -> Command:
    what, tenant, key, content, active = choice
    if what.startswith("settle"):
        mine = [e for e in sent if e.tenant == tenant]
        effect = mine[0] if what == "settle" else mine[len(content + key) % 4]
        return scribe.settle(
            tenant=tenant, effect=effect.id, seq=effect.last_seq,
            ending=Ending.SUCCEEDED if content == "a" else Ending.FAILED,
        )  # fmt: skip
    verdict = {"accept": Verdict.ALLOW, "refuse": Verdict.DENY, "review": Verdict.REVIEW}[what]
    return scribe.accept(intent_to(tenant, key=key, content=content), verdict, revision="" if active else "sha256:x")


def _told(result: Any) -> Any:
    if isinstance(result, Exception):
        return type(result).__name__, getattr(result, "code", "")
    return getattr(result, "fresh", None), getattr(result, "applied", None), getattr(result, "effect", "")


def _row(effect: Any) -> Any:
    return tuple(str(getattr(effect, n)) for n in effect.__struct_fields__ if n not in ("first_seq", "last_seq"))


def test_neighbours_are_kept_when_a_command_is_one_nobody_knows(tmp_path):
    class Nonsense(Command, frozen=True, kw_only=True):
        """No store knows this."""

    async def body(desk: Desk) -> None:
        commands = [desk.scribe.accept(intent_to(ACME)), Nonsense(tenant=ACME), desk.scribe.accept(intent_to(ACME))]
        first, broken, last = await results_of(desk.store, commands)
        assert (first.fresh, last.fresh) == (True, True)
        assert isinstance(broken, KeyError)
        assert await desk.size() == 2

    run_with_desk(tmp_path, body)


def test_a_second_row_under_one_id_is_an_error_of_that_command_when_ids_collide(tmp_path):
    async def body(desk: Desk) -> None:
        effect = await desk.accept()
        twin = desk.scribe.accept(intent_to(ACME, content="other"), effect=effect.id)
        others = [desk.scribe.accept(intent_to(ACME)) for _ in range(2)]
        first, collided, last = await results_of(desk.store, [others[0], twin, others[1]])
        assert (first.fresh, last.fresh) == (True, True)
        assert isinstance(collided, InvariantBroken)
        assert collided.code == "row_taken"
        assert await desk.find(ACME, effect.id) == effect
        assert await desk.size() == 3

    run_with_desk(tmp_path, body)


def test_what_is_committed_is_answered_once_when_the_keeper_of_checkpoints_breaks(tmp_path, monkeypatch):
    reported: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", reported.append)

    def keep(_: list[str]) -> None:
        raise RuntimeError("the keeper broke")

    async def body(desk: Desk) -> None:
        accept = desk.scribe.accept(intent_to(ACME))
        accepted, note, other = await results_of(
            desk.store, [accept, KeepCheckpoint(tenant=ACME), desk.scribe.accept(intent_to(ACME))]
        )
        assert (accepted.fresh, other.fresh) == (True, True)
        assert note.splitlines()[1] == "2"
        assert await desk.size() == 2
        await desk.accept()

    run_with_desk(tmp_path, body, keep=keep)
    assert [str(report.exc_value) for report in reported] == ["the keeper broke"]


def test_a_log_is_opened_once_when_two_open_it_in_one_moment(tmp_path):
    async def body(desk: Desk) -> None:
        opening = OpenLog(tenant=ACME)
        await results_of(desk.store, [opening, desk.scribe.accept(intent_to(ACME)), opening])
        await results_of(desk.store, [desk.scribe.accept(intent_to(GLOBEX)), OpenLog(tenant=GLOBEX)])
        types = [r.type for t in (ACME, GLOBEX) for r in await desk.store.records(t, after=-1, limit=9)]
        assert types == ["log.opened", "effect.accepted", "effect.accepted"]

    run_with_desk(tmp_path, body)


def test_a_caller_that_gave_up_leaves_its_command_durable_and_its_neighbours_answered(tmp_path):
    async def body(desk: Desk) -> None:
        commands = [desk.scribe.accept(intent_to(ACME)) for _ in range(3)]
        tasks = [asyncio.ensure_future(desk.store.apply(c)) for c in commands]
        await asyncio.sleep(0)
        tasks[1].cancel()
        results: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
        first, gone, last = results
        assert isinstance(gone, asyncio.CancelledError)
        assert (first.fresh, last.fresh) == (True, True)
        await desk.accept()
        assert await desk.store.effect(ACME, commands[1].effect) is not None

    run_with_desk(tmp_path, body)


@pytest.mark.slow
def test_two_event_loops_write_through_one_store_without_losing_an_answer(tmp_path):
    folder = LedgerFolder(tmp_path)
    answers: dict[int, list[Any]] = {}

    def work(store: LedgerStore, number: int) -> None:
        async def run() -> list[Any]:
            desk = await Desk(store, folder.clock, seed=number).start()
            rounds = [
                await results_of(store, [desk.scribe.accept(intent_to(ACME)) for _ in range(20)]) for _ in range(10)
            ]
            return [result for results in rounds for result in results]

        answers[number] = asyncio.run(run())

    with folder.opened() as store:
        threads = [threading.Thread(target=work, args=(store, n)) for n in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    seqs = sorted(r.seq for results in answers.values() for r in results)
    assert seqs == list(range(400))
    assert folder.verify().ok


def test_a_wish_is_refused_when_too_many_wait(tmp_path, monkeypatch):
    monkeypatch.setattr("assent.storage.adapters.sqlite.QUEUE_MAX", 8)

    async def body(desk: Desk) -> None:
        results = await results_of(desk.store, [desk.scribe.accept(intent_to(ACME)) for _ in range(20)])
        assert [getattr(r, "code", "") for r in results] == [""] * 8 + ["queue_full"] * 12
        assert (await desk.accept()).state == "dispatched"

    run_with_desk(tmp_path, body)


def test_nobody_waits_for_ever_when_the_store_closes_in_the_same_moment(tmp_path):
    folder = LedgerFolder(tmp_path)
    store = folder.ledger()
    store.open()

    async def run() -> list[Any]:
        desk = await Desk(store, folder.clock).start()
        tasks = [asyncio.ensure_future(store.apply(desk.scribe.accept(intent_to(ACME)))) for _ in range(3)]
        await asyncio.sleep(0)
        store.close()
        late = asyncio.ensure_future(store.apply(desk.scribe.accept(intent_to(ACME))))
        async with asyncio.timeout(5):
            return await asyncio.gather(*tasks, late, return_exceptions=True)

    results = asyncio.run(run())
    assert [getattr(r, "code", "") for r in results] == ["database_closed"] * 4
    store.close()


def test_a_lone_writer_and_a_crowd_make_the_same_log_when_another_process_writes_between(tmp_path):
    folder = LedgerFolder(tmp_path)

    async def run(mine: LedgerStore, theirs: LedgerStore) -> None:
        desks = [await Desk(store, folder.clock, seed=n).start() for n, store in enumerate((mine, theirs))]
        for round_ in range(4):
            for desk in desks:
                count = 1 + 7 * (round_ % 2)
                results = await results_of(desk.store, [desk.scribe.accept(intent_to(ACME)) for _ in range(count)])
                assert {r.fresh for r in results} == {True}
        assert await desks[0].size() == 36

    with folder.opened() as mine, folder.opened() as theirs:
        asyncio.run(run(mine, theirs))
    assert folder.verify().ok


def test_checkpoints_are_kept_once_for_each_thousand_when_a_log_grows(tmp_path, monkeypatch):
    monkeypatch.setattr("assent.ledger.adapters.sqlite_log.KEEP_EVERY", 8)
    folder = LedgerFolder(tmp_path)

    async def grow(store: LedgerStore, seed: int, count: int) -> None:
        desk = await Desk(store, folder.clock, seed=seed).start()
        for _ in range(count):
            await desk.accept()

    with folder.opened() as store:
        asyncio.run(grow(store, 1, 20))
    with folder.opened() as store:
        asyncio.run(grow(store, 2, 6))
    assert [note.splitlines()[1] for note in folder.kept] == ["8", "16", "24"]
    trusted = tmp_path / "kept.txt"
    trusted.write_text("\n".join(folder.kept))
    report = folder.verify(trusted=str(trusted))
    assert (report.ok, report.checkpoints) == (True, 3)


def run_with_desk(path: Path, body: Any, **parts: Any) -> None:
    folder = LedgerFolder(path)
    store = folder.ledger(**parts)
    store.open()

    async def run() -> None:
        await body(await Desk(store, folder.clock).start())

    try:
        asyncio.run(run())
    finally:
        store.close()
    report = folder.verify()
    assert report.ok, report.faults


def test_commands_are_what_the_fast_path_takes(tmp_path):
    """A guard for this module: the batches above must reach both paths."""
    folder = LedgerFolder(tmp_path)
    taken: list[tuple[int, bool]] = []

    async def body(desk: Desk) -> None:
        store: Any = desk.store
        inner = store._in_bulk

        def in_bulk(connection, commands):
            results = inner(connection, commands)
            taken.append((len(commands), results is not None))
            return results

        store._in_bulk = in_bulk
        effects = [await desk.accept() for _ in range(3)]
        settles = [desk.scribe.settle(tenant=ACME, effect=e.id, seq=e.last_seq) for e in effects]
        await results_of(desk.store, [*settles, desk.scribe.accept(intent_to(ACME))])
        await results_of(desk.store, settles)

    with folder.opened() as store:

        async def run() -> None:
            await body(await Desk(store, folder.clock).start())

        asyncio.run(run())
    assert taken == [(4, True), (3, False)]
    assert folder.verify().ok


async def _call(desk: Desk) -> None:
    await desk.settle(await desk.accept())


@pytest.mark.slow
def test_verification_passes_while_others_write(tmp_path):
    folder = LedgerFolder(tmp_path)

    async def run(store: LedgerStore) -> None:
        desk = await Desk(store, folder.clock).start()
        sizes = []
        for _ in range(6):
            writing = asyncio.gather(*(_call(desk) for _ in range(8)))
            report = await asyncio.to_thread(folder.verify)
            assert report.ok, report.faults
            sizes.append(report.entries)
            await writing
        assert sizes == sorted(sizes)

    with folder.opened() as store:
        asyncio.run(run(store))
    assert folder.verify().entries == 96
