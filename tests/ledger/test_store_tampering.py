"""One changed byte in any row that speaks of the past is found, and named by its table and place."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from assent.execution.outcomes import Ending
from assent.ledger import verify_standalone
from assent.ledger.budgets import Hold, Unit, Window
from assent.ledger.commands import ActivatePolicy, KeepCheckpoint, OpenLog, WriteNotes
from assent.ledger.decisions import Verdict
from assent.ledger.effects import Move
from assent.ledger.entries import Entry
from assent.ledger.journals import Noted, content, note
from assent.ledger.ports import LedgerStore
from assent.ledger.verification import Fold, VerificationReport
from assent.primitives.digests import digest
from assent.primitives.ids import NodeId, TenantId
from assent.primitives.leases import Fence
from assent.testing.desks import ACME, GLOBEX, Desk, code_of
from assent.testing.ledgers import LedgerFolder

PROTECTED = (
    "effects", "reviews", "log", "log_nodes", "log_heads", "checkpoints", "policy_revisions", "policy_active",
    "journals", "journal_keys", "budgets", "budget_holds",
)  # fmt: skip
# `leases` say who may act now: no entry records a heartbeat, and a forged one can stop a node or let another take over,
# but it changes nothing that is recorded. `schema_migrations` is compared with the release at every opening.
# `guests` and `guest_tickets` are who may carry orders, and orders on their way: each ticket and each description has a
# signature of its own, which is checked where it is used, and what came of an order is an entry like any other.
# `agents`, `agent_keys` and `agent_registries` say who is there now, for as long as a lease holds: what they did
# is in the log.
# `contents` are pieces under their own digest, which is checked: one can be erased like a payload, and not changed.
EXEMPT = (
    "leases",
    "schema_migrations",
    "guests",
    "guest_tickets",
    "contents",
    "agents",
    "agent_keys",
    "agent_registries",
)


async def live(store: LedgerStore, folder: LedgerFolder) -> None:
    """A little of everything that leaves a row, for two tenants."""
    desk = await Desk(store, folder.clock).start()
    for tenant in (ACME, GLOBEX):
        await store.apply(OpenLog(tenant=tenant))
        await desk.settle(await desk.accept(tenant, key=f"key of {tenant}", run="run-1"))
        await desk.settle(await desk.accept(tenant), Ending.FAILED)
        await desk.accept(tenant, Verdict.DENY)
        await desk.accept(tenant, Verdict.REVIEW)
        await store.apply(desk.scribe.dispatch(await desk.granted(tenant)))
        await store.apply(desk.scribe.withdraw(await desk.granted(tenant)))
        await store.apply(desk.scribe.judge(await desk.unknown(tenant), None))
        await store.apply(desk.scribe.judge(await desk.unknown(tenant), Move.QUARANTINE))
        denied = await desk.accept(tenant, Verdict.REVIEW)
        await store.apply(desk.scribe.answer(tenant, denied.review, by="person:bob", approve=False))
        await keep_a_journal(store, tenant, desk)
        await spend(desk, tenant)
        for text, expected in (("permit one", ""), ("permit two", digest(b"permit one"))):
            revision = digest(text.encode())
            await store.apply(
                ActivatePolicy(tenant=tenant, revision=revision, text=text, by="person:ann", expected=expected)
            )
        await store.apply(KeepCheckpoint(tenant=tenant))


async def spend(desk: Desk, tenant: TenantId) -> None:
    """Holds that stand, that were spent, that found no room, and that were dismissed."""
    of_run = Hold(scope="run:r", unit=Unit.TOKENS, window=Window.ALL, amount=5, limit=10)
    of_all = Hold(scope="tenant", unit=Unit.MICROS, window=Window.MONTH, amount=50, limit=1_000)
    await desk.settle(await desk.accept(tenant, holds=(of_run, of_all)), used={"tokens": 2, "micros": 70})
    await desk.accept(tenant, holds=(of_run, of_all))
    await desk.unknown(tenant, holds=(of_all,))
    await desk.stopped(tenant, holds=(replace(of_run, amount=9),))
    seen = await desk.stopped(tenant, holds=(of_all, replace(of_run, scope="agent:writer", limit=4)))
    await desk.store.apply(desk.scribe.dismiss(seen))


async def keep_a_journal(store: LedgerStore, tenant: TenantId, desk: Desk) -> None:
    """A run that began, heard a word it may hear once, and ended."""
    before = -1
    for state, key, words in (
        ("running", "", b"begin"),
        ("running", f"word of {tenant}", b"hello"),
        ("ended", "", b""),
    ):
        written = note(
            kind="run", id_=f"run of {tenant}", before=before, state=state, owned=state == "running", type_="run.noted",
            body={}, salt=bytes(16), payload=words, name="writer", parent="session", key=key,
        )  # fmt: skip
        noted: Noted = await store.apply(
            WriteNotes(tenant=tenant, fence=desk.scribe.fence, notes=(written,), contents=(content(words),))
        )
        before = noted.seqs[-1]


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> LedgerFolder:
    folder = LedgerFolder(tmp_path_factory.mktemp("lived"))
    with folder.opened() as store:
        asyncio.run(live(store, folder))
    assert folder.verify().ok
    with contextlib.closing(sqlite3.connect(folder.database)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    return folder


@pytest.fixture
def copy(lived: LedgerFolder, tmp_path: Path) -> LedgerFolder:
    folder = LedgerFolder(tmp_path, clock=lived.clock)
    shutil.copy(lived.database, folder.database)
    return folder


def faults(folder: LedgerFolder) -> dict[str, set[str]]:
    """What the verification says: places by table."""
    report = folder.verify()
    found: dict[str, set[str]] = {}
    for fault in report.faults:
        found.setdefault(fault.table, set()).add(fault.place)
    return found


@contextlib.contextmanager
def tampered(folder: LedgerFolder) -> Iterator[sqlite3.Connection]:
    """A connection whose changes last for the block: what is verified inside is a committed file."""
    connection = sqlite3.connect(folder.database, isolation_level=None)
    connection.execute("PRAGMA synchronous=OFF")
    try:
        yield connection
    finally:
        connection.close()


def columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]


def flipped(value: Any) -> list[Any]:
    """The value with a byte changed: at the beginning, in the middle, at the end; a number with its last bit."""
    if value is None:
        return []
    if isinstance(value, int):
        return [value ^ 1]
    data = value if isinstance(value, bytes) else value.encode()
    if not data:
        return [b"x" if isinstance(value, bytes) else "x"]
    changed = [data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :] for i in sorted({0, len(data) // 2, len(data) - 1})]
    return changed if isinstance(value, bytes) else [c.decode() for c in changed]


def test_every_table_is_either_protected_or_exempt_for_a_reason(lived):
    with tampered(lived) as connection:
        rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        assert {row[0] for row in rows} == {*PROTECTED, *EXEMPT}
        counts = {t: connection.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in PROTECTED}
    assert all(count >= 2 for count in counts.values()), counts


@pytest.mark.slow
@pytest.mark.parametrize("table", PROTECTED)
def test_a_changed_byte_is_found_in_every_column_of_every_row(copy, table):
    tried = 0
    with tampered(copy) as connection:
        names = columns(connection, table)
        rowids = [row[0] for row in connection.execute(f"SELECT rowid FROM {table} WHERE tenant = ?", (ACME,))]
        for rowid in rowids:
            for name in names:
                (value,) = connection.execute(f"SELECT {name} FROM {table} WHERE rowid = ?", (rowid,)).fetchone()
                for other in flipped(value):
                    try:
                        connection.execute(f"UPDATE {table} SET {name} = ? WHERE rowid = ?", (other, rowid))
                    except sqlite3.IntegrityError:
                        continue  # another row stands there: SQLite itself refuses
                    tried += 1
                    found = faults(copy)
                    assert found, (table, rowid, name, value, other)
                    assert _names(found, table), (table, rowid, name, value, other, found)
                    connection.execute(f"UPDATE {table} SET {name} = ? WHERE rowid = ?", (value, rowid))
    assert tried >= len(rowids) * (len(names) - 2)
    assert copy.verify().ok


def _names(found: dict[str, set[str]], table: str) -> bool:
    """The table is named, or the log that it no longer agrees with."""
    logs = {"log", "log_nodes", "log_heads", "checkpoints"}
    return table in found or (table in logs and bool(logs & found.keys()))


@pytest.mark.slow
@pytest.mark.parametrize("table", PROTECTED)
def test_a_deleted_row_is_found_whichever_it_is(copy, table):
    with tampered(copy) as connection:
        names = ", ".join(columns(connection, table))
        for (rowid,) in connection.execute(f"SELECT rowid FROM {table}").fetchall():
            row = connection.execute(f"SELECT {names} FROM {table} WHERE rowid = ?", (rowid,)).fetchone()
            connection.execute(f"DELETE FROM {table} WHERE rowid = ?", (rowid,))
            found = faults(copy)
            if table == "checkpoints":
                # A kept head says nothing that the log does not: losing one loses a place to compare with, and the
                # copies kept elsewhere stay.
                assert found == {}
            else:
                assert _names(found, table), (row, found)
            marks = ",".join("?" * len(row))
            connection.execute(f"INSERT INTO {table} (rowid, {names}) VALUES (?, {marks})", (rowid, *row))
    assert copy.verify().ok


@pytest.mark.parametrize("table", [t for t in PROTECTED if t != "checkpoints"])
@pytest.mark.parametrize("tenant", [GLOBEX, "initech"])
def test_a_row_that_was_added_or_moved_is_found_in_whatever_tenant(copy, table, tenant):
    with tampered(copy) as connection:
        names = columns(connection, table)
        row = connection.execute(
            f"SELECT rowid, * FROM {table} WHERE tenant = ? ORDER BY rowid DESC", (ACME,)
        ).fetchone()
        values = dict(zip(names, row[1:], strict=True)) | {"tenant": tenant}
        marks = ",".join("?" * len(names))
        with contextlib.suppress(sqlite3.IntegrityError):
            connection.execute(f"INSERT INTO {table} VALUES ({marks})", tuple(values.values()))
            assert faults(copy), f"a copy of {table} was added to {tenant}"
            assert not copy.verify(tenant).ok
            connection.execute(f"DELETE FROM {table} WHERE rowid = last_insert_rowid()")
            assert copy.verify().ok
        with contextlib.suppress(sqlite3.IntegrityError):
            connection.execute(f"UPDATE {table} SET tenant = ? WHERE rowid = ?", (tenant, row[0]))
            assert faults(copy), f"a row of {table} was moved to {tenant}"
            assert not copy.verify(ACME).ok


@pytest.mark.parametrize(
    "damage",
    ["UPDATE budget_holds SET holds = 'x' WHERE tenant = ?", "UPDATE budgets SET held = 0 WHERE tenant = ?"],
)
def test_nothing_is_settled_on_top_of_budgets_that_were_damaged(copy, damage):
    async def settle(store: LedgerStore) -> str:
        (effect,) = [
            one for one in await store.effects(ACME, limit=99) if one.id in holding and one.state == "dispatched"
        ]
        desk = Desk(store, copy.clock)
        command = desk.scribe.settle(
            tenant=ACME,
            effect=effect.id,
            seq=effect.last_seq,
            fence=Fence(node=NodeId(effect.node), number=effect.fence),
        )
        refused = await code_of(store.apply(command))
        assert (await store.effect(ACME, effect.id)) == effect
        return refused

    with tampered(copy) as connection:
        holding = {row[0] for row in connection.execute("SELECT effect FROM budget_holds WHERE tenant = ?", (ACME,))}
        connection.execute(damage, (ACME,))
    with copy.opened() as store:
        assert asyncio.run(settle(store)) == "budget_broken"


@pytest.mark.parametrize("salt_too", [False, True])
def test_the_record_verifies_and_says_so_when_payloads_were_erased(copy, salt_too):
    with tampered(copy) as connection:
        what = "payload = NULL, salt = NULL" if salt_too else "payload = NULL"
        connection.execute(f"UPDATE log SET {what} WHERE payload IS NOT NULL AND seq % 2 = 0")
    report: VerificationReport = copy.verify()
    assert report.ok, report.faults
    assert any("erased" in notice for notice in report.notices)
    assert verify_standalone.main([str(copy.database), "--key", copy.key]) == 0
    with tampered(copy) as connection:
        connection.execute("UPDATE effects SET state = 'cancelled' WHERE tenant = ? AND state = 'failed'", (ACME,))
    assert not copy.verify().ok


def test_a_payload_that_was_put_where_none_belongs_is_found(copy):
    with tampered(copy) as connection:
        connection.execute("UPDATE log SET payload = x'7b7d' WHERE tenant = ? AND seq = 0", (ACME,))
    assert faults(copy) == {"log": {"seq 0"}}


def test_texts_that_are_no_texts_are_found_at_their_place(copy):
    with tampered(copy) as connection:
        (effect,) = connection.execute("SELECT id FROM effects WHERE tenant = ? LIMIT 1", (ACME,)).fetchone()
        connection.execute("UPDATE effects SET operation = CAST(x'ff00fe' AS TEXT) WHERE id = ?", (effect,))
        connection.execute("UPDATE reviews SET quorum = 'many' WHERE tenant = ?", (GLOBEX,))
        connection.execute("UPDATE policy_revisions SET text = x'00' WHERE tenant = ? AND number = 1", (ACME,))
    found = faults(copy)
    assert found["effects"] == {effect}
    assert len(found["reviews"]) == 4
    assert found["policy_revisions"] == {"1"}


def test_a_whole_tenant_that_was_removed_is_found_with_a_checkpoint_kept_elsewhere(copy, lived, tmp_path):
    kept = tmp_path / "kept.txt"
    kept.write_text("\n".join(lived.kept))
    assert copy.verify(trusted=str(kept)).ok
    with tampered(copy) as connection:
        for table in PROTECTED:
            connection.execute(f"DELETE FROM {table} WHERE tenant = ?", (GLOBEX,))
    assert copy.verify().ok
    assert not copy.verify(trusted=str(kept)).ok


# What the log's own key would sign, and the fold does not believe


def entry(kind: str, **body: Any) -> Entry:
    """An entry of a log that is whole, as far as hashes can tell."""
    return Entry(at=0, body={"effect": "eff_1", **body}, prev="", seq=1, tenant=ACME, type=kind, v=1)


ACCEPTED: dict[str, Any] = {
    "before": -1, "moves": ["grant", "dispatch"], "state": "dispatched", "operation": "o", "run": "",
    "key": "sha256:key",
    "parent": "", "code": "allowed", "review": "", "attempt": 1, "node": "n", "fence": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "body", "wrong"),
    [
        ("effect.settled", {"before": 0, "moves": ["succeed"], "state": "succeeded"}, ""),
        ("effect.settled", {"before": 5, "moves": ["succeed"], "state": "succeeded"}, "does not continue"),
        ("effect.settled", {"before": 0, "moves": ["quarantine"], "state": "quarantined"}, "no move"),
        ("effect.settled", {"before": 0, "moves": ["explode"], "state": "succeeded"}, "no move"),
        ("effect.settled", {"before": 0, "moves": ["succeed"], "state": "failed"}, "another state"),
        ("effect.settled", {"effect": "eff_2", "before": 0, "moves": [], "state": "succeeded"}, "never accepted"),
        ("effect.accepted", ACCEPTED, "accepted before"),
        ("effect.accepted", ACCEPTED | {"effect": "eff_2"}, "idempotency key"),
        ("effect.accepted", ACCEPTED | {"effect": "eff_2", "key": "sha256:other"}, ""),
    ],
)
def test_entries_that_do_not_follow_from_each_other_are_found(kind, body, wrong):
    fold = Fold()
    first = Entry(at=0, body={"effect": "eff_1", **ACCEPTED}, prev="", seq=0, tenant=ACME, type="effect.accepted", v=1)
    assert fold.add(first, None, None) == ""
    said = fold.add(entry(kind, **body), None, None)
    assert (wrong in said) if wrong else said == ""


def test_a_changed_piece_is_found_and_an_erased_one_is_not_held_against_anybody(copy):
    with tampered(copy) as connection:
        connection.execute("UPDATE contents SET data = ? WHERE tenant = ? AND data = ?", (b"hullo", ACME, b"hello"))
        assert set(faults(copy)) == {"contents"}
        connection.execute("DELETE FROM contents WHERE tenant = ?", (ACME,))
    assert faults(copy) == {}
