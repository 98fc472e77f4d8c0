"""What the database says when the disk, the file or another process is in the way, and that work goes on afterwards."""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from assent.ledger.adapters.sqlite import SqliteLedger
from assent.primitives.errors import AssentError, InvariantBroken, Unavailable
from assent.testing.calls import intent_to
from assent.testing.desks import ACME, Desk, code_of, results_of
from assent.testing.entropy import SeededEntropy
from assent.testing.ledgers import DATABASE_NAME, LedgerFolder

BUSY_MS = 50
NOBODY = 65_534
BIG = "x" * 60_000
_SEEDS = itertools.count(100)


def work(store: SqliteLedger, folder: LedgerFolder, body: Callable[[Desk], Awaitable[None]], seed: int = 0) -> None:
    async def run() -> None:
        await body(await Desk(store, folder.clock, seed=seed).start())

    asyncio.run(run())


def populate(folder: LedgerFolder, count: int = 3) -> None:
    """Some acknowledged effects, and an orderly end."""

    async def body(desk: Desk) -> None:
        for _ in range(count):
            await desk.settle(await desk.accept())

    with folder.opened() as store:
        work(store, folder, body, seed=next(_SEEDS))


def error_of_opening(folder: LedgerFolder, **parts: Any) -> AssentError:
    with pytest.raises(AssentError) as raised, folder.opened(**parts):
        pass
    return raised.value


@contextmanager
def as_ordinary_user() -> Iterator[Path]:
    """A folder of an ordinary user's, with root's powers given up for the length of the block."""
    path = Path(tempfile.mkdtemp(prefix="assent-user-"))
    root = os.geteuid() == 0
    if root:
        os.chown(path, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield path
    finally:
        if root:
            os.seteuid(0)
        for inner in (path, *path.rglob("*")):
            inner.chmod(0o700)
        shutil.rmtree(path)


# Locked


def test_write_is_unavailable_while_another_process_holds_the_lock_and_works_afterwards(tmp_path):
    folder = LedgerFolder(tmp_path)

    async def body(desk: Desk) -> None:
        other = sqlite3.connect(folder.database, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        refused = await results_of(desk.store, [desk.scribe.accept(intent_to(ACME)) for _ in range(3)])
        assert {(type(r), r.code) for r in refused} == {(Unavailable, "database_locked")}
        assert await desk.size() == 0
        other.rollback()
        other.close()
        assert (await desk.accept()).first_seq == 0

    with folder.opened(busy_timeout_ms=BUSY_MS) as store:
        work(store, folder, body)
    assert folder.verify().ok


def test_opening_is_unavailable_while_another_process_holds_the_whole_file(tmp_path):
    folder = LedgerFolder(tmp_path)
    populate(folder)
    other = sqlite3.connect(folder.database, isolation_level=None)
    other.execute("PRAGMA locking_mode=EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    assert error_of_opening(folder, busy_timeout_ms=BUSY_MS).code == "database_locked"
    other.close()
    with folder.opened(busy_timeout_ms=BUSY_MS):
        pass


def test_readers_see_the_last_commit_while_another_process_writes(tmp_path):
    folder = LedgerFolder(tmp_path)
    populate(folder)

    async def body(desk: Desk) -> None:
        other = sqlite3.connect(folder.database, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM effects")
        assert len(await desk.store.effects(ACME, limit=9)) == 3
        other.rollback()
        other.close()

    with folder.opened() as store:
        work(store, folder, body)


# Full


@contextmanager
def small_disk() -> Iterator[Path]:
    """A file system of one megabyte."""
    path = Path(tempfile.mkdtemp(prefix="assent-small-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)
        path.rmdir()


async def _fill(desk: Desk) -> tuple[int, str]:
    """Accept until it is refused: how many were acknowledged, and the code."""
    for count in range(200):
        code = await code_of(desk.accept(content=BIG))
        if code:
            return count, code
    raise AssertionError("it never filled up")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root; the file size limit below does not")
def test_write_is_unavailable_when_the_disk_is_full_and_works_when_space_is_freed():
    with small_disk() as disk:
        folder = LedgerFolder(disk)
        ballast = disk / "ballast"
        ballast.write_bytes(b"x" * 300_000)

        async def body(desk: Desk) -> None:
            accepted, code = await _fill(desk)
            assert code == "disk_full"
            assert len(await desk.store.effects(ACME, limit=999)) == accepted
            again = await results_of(desk.store, [desk.scribe.accept(intent_to(ACME, content=BIG)) for _ in range(3)])
            assert {r.code for r in again} == {"disk_full"}
            ballast.unlink()
            assert (await desk.accept(content=BIG)).first_seq == accepted
            assert await desk.size() == accepted + 1

        with folder.opened() as store:
            work(store, folder, body)
        assert folder.verify().ok


def test_write_is_unavailable_when_the_file_may_not_grow_and_works_when_it_may(tmp_path):
    folder = LedgerFolder(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    async def body(desk: Desk) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
        try:
            accepted, code = await _fill(desk)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert code in ("disk_full", "disk_error")
        assert await desk.size() == accepted
        assert (await desk.accept(content=BIG)).first_seq == accepted

    with folder.opened() as store:
        work(store, folder, body)
    assert folder.verify().ok


def test_opening_is_unavailable_when_there_is_no_room_for_the_schema(tmp_path):
    folder = LedgerFolder(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    try:
        assert error_of_opening(folder).code in ("disk_full", "disk_error")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    populate(folder)
    assert folder.verify().ok


# Read-only, missing, damaged


def test_opening_says_read_only_when_the_file_may_not_be_written():
    with as_ordinary_user() as path:
        folder = LedgerFolder(path)
        populate(folder)
        folder.database.chmod(0o400)
        assert error_of_opening(folder).code == "database_read_only"
        for file in path.iterdir():  # SQLite made its `-wal` and `-shm` as read-only as the file itself
            file.chmod(0o600)
        populate(folder)
        assert folder.verify().ok


def test_opening_says_read_only_when_the_folder_may_not_be_written():
    with as_ordinary_user() as path:
        folder = LedgerFolder(path)
        populate(folder)
        path.chmod(0o500)
        error = error_of_opening(folder)
        assert error.code in ("database_read_only", "database_missing")
        assert "folder" in error.hint
        path.chmod(0o700)
        populate(folder)


def test_opening_says_missing_when_the_folder_is_not_there(tmp_path):
    error = error_of_opening(LedgerFolder(tmp_path / "nowhere"))
    assert (type(error), error.code) == (Unavailable, "database_missing")
    assert "folder" in error.hint


def test_opening_says_damaged_when_the_file_is_no_database(tmp_path):
    folder = LedgerFolder(tmp_path)
    text = b"this is a letter, not a database. " * 200
    folder.database.write_bytes(text)
    assert error_of_opening(folder).code == "database_damaged"
    assert folder.database.read_bytes() == text
    assert not folder.verify().ok


def test_opening_says_damaged_when_the_file_was_cut_short(tmp_path):
    folder = LedgerFolder(tmp_path)
    populate(folder, count=40)
    with folder.database.open("r+b") as file:
        file.truncate(folder.database.stat().st_size // 4096 // 3 * 4096)
    codes = _codes_of_use(folder)
    assert "database_damaged" in codes
    assert codes <= {"", "database_damaged", "log_broken", "database_error"}
    assert not folder.verify().ok


@pytest.mark.slow
def test_every_damaged_page_is_noticed_by_use_or_by_verification(tmp_path):
    folder = LedgerFolder(tmp_path / "whole")
    (tmp_path / "whole").mkdir()
    populate(folder, count=40)
    whole = folder.database.read_bytes()
    pages = len(whole) // 4096
    noise = SeededEntropy()
    assert pages > 15
    for page in range(pages):
        broken = LedgerFolder(tmp_path)
        broken.database.write_bytes(whole[: page * 4096] + noise(4096) + whole[(page + 1) * 4096 :])
        assert not broken.verify().ok, f"page {page} of {pages}"
        assert _codes_of_use(broken) <= {
            "",
            "database_damaged",
            "log_broken",
            "database_error",
            "row_taken",
            "lease_lost",
        }
        for file in tmp_path.glob(f"{DATABASE_NAME}*"):
            file.unlink()


def _codes_of_use(folder: LedgerFolder) -> set[str]:
    """The codes that opening, reading and writing give; nothing but our own errors may come out."""
    found: set[str] = set()

    async def body(store: SqliteLedger) -> None:
        desk = Desk(store, folder.clock, seed=7)
        found.add(await code_of(desk.start()))
        found.add(await code_of(store.effects(ACME, limit=1_000)))
        found.add(await code_of(store.records(ACME, after=-1, limit=1_000)))
        found.add(await code_of(desk.accept()))

    try:
        with folder.opened() as store:
            asyncio.run(body(store))
    except AssentError as error:
        found.add(error.code)
    return found


def test_writing_stops_when_rows_of_the_log_were_changed_behind_its_back(tmp_path):
    folder = LedgerFolder(tmp_path)
    populate(folder)
    other = sqlite3.connect(folder.database, isolation_level=None)
    other.execute("UPDATE log_nodes SET hash = randomblob(32) WHERE level = 1 AND idx = 2")
    other.close()

    async def body(desk: Desk) -> None:
        assert await code_of(desk.accept()) == "log_broken"

    with folder.opened() as store:
        work(store, folder, body)
        head = store._database.read_now(lambda c: c.execute("SELECT size FROM log_heads").fetchone())
    assert head == (6,)


# Schema


def test_opening_says_newer_when_a_later_release_wrote_the_file(tmp_path):
    folder = LedgerFolder(tmp_path)
    populate(folder)
    _sql(folder, "INSERT INTO schema_migrations VALUES (9999, 'later', 'sha256:x', 0)")
    error = error_of_opening(folder)
    assert (type(error), error.code) == (Unavailable, "database_newer")
    _sql(folder, "DELETE FROM schema_migrations WHERE number = 9999")
    populate(folder)


def test_opening_stops_when_a_migration_is_not_the_one_that_ran(tmp_path):
    folder = LedgerFolder(tmp_path)
    populate(folder)
    _sql(folder, "UPDATE schema_migrations SET digest = 'sha256:other'")
    error = error_of_opening(folder)
    assert (type(error), error.code) == (InvariantBroken, "migration_changed")


def test_a_refused_opening_leaves_nothing_locked(tmp_path):
    folder = LedgerFolder(tmp_path)
    populate(folder)
    _sql(folder, "UPDATE schema_migrations SET digest = 'sha256:other'")
    for _ in range(3):
        error_of_opening(folder)
    _sql(folder, "PRAGMA wal_checkpoint(TRUNCATE)")
    other = sqlite3.connect(folder.database, isolation_level=None, timeout=0)
    other.execute("PRAGMA locking_mode=EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    other.close()


def _sql(folder: LedgerFolder, statement: str) -> None:
    connection = sqlite3.connect(folder.database, isolation_level=None)
    connection.execute(statement)
    connection.close()


# Closed


def test_everything_is_unavailable_when_the_store_is_closed_or_not_yet_open(tmp_path):
    folder = LedgerFolder(tmp_path)
    store = folder.ledger()

    async def codes() -> set[str]:
        desk = Desk(store, folder.clock)
        asked = [store.apply(desk.scribe.accept(intent_to(ACME))), *(store.effects(ACME, limit=1) for _ in range(20))]
        return {await code_of(one) for one in asked}

    assert asyncio.run(codes()) == {"database_closed"}
    store.open()
    store.close()
    store.close()
    assert asyncio.run(codes()) == {"database_closed"}


def test_reads_that_run_are_answered_when_the_store_closes(tmp_path):
    folder = LedgerFolder(tmp_path)
    populate(folder, count=20)
    store = folder.ledger()
    store.open()

    async def run() -> list[Any]:
        reads = [asyncio.ensure_future(store.records(ACME, after=-1, limit=99)) for _ in range(30)]
        await asyncio.sleep(0)
        await asyncio.to_thread(store.close)
        async with asyncio.timeout(10):
            return await asyncio.gather(*reads, return_exceptions=True)

    results = asyncio.run(run())
    assert {len(r) if isinstance(r, list) else r.code for r in results} <= {40, "database_closed"}


def test_reading_recovers_when_readers_could_not_be_opened_for_a_while(tmp_path, monkeypatch):
    folder = LedgerFolder(tmp_path)
    populate(folder)

    async def body(desk: Desk) -> None:
        database = store._database
        real = database._readers._connect

        def fails(**_: Any) -> Any:
            raise sqlite3.OperationalError("no descriptors")

        monkeypatch.setattr(database._readers, "_connect", fails)
        codes = [await code_of(desk.store.effects(ACME, limit=9)) for _ in range(20)]
        assert set(codes) == {"database_error"}
        monkeypatch.setattr(database._readers, "_connect", real)
        async with asyncio.timeout(5):
            assert len(await desk.store.effects(ACME, limit=9)) == 3

    with folder.opened() as store:
        work(store, folder, body)
