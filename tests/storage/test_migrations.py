"""The schema comes into being once, whoever opens first, and an opened file is left as it is."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from assent.primitives.errors import InvariantBroken
from assent.storage.migrations import Migration, migrations
from assent.testing.ledgers import LedgerFolder

TABLES = {
    "leases", "log", "log_nodes", "log_heads", "checkpoints", "effects", "reviews", "policy_revisions", "policy_active",
    "guests", "guest_tickets", "journals", "journal_keys", "contents",
    "agents", "agent_keys", "agent_registries", "budgets", "budget_holds", "schema_migrations",
}  # fmt: skip
OPENERS = 4
ROUNDS = 8


def schema(path: Path) -> list[tuple[str, str]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name").fetchall()
    finally:
        connection.close()


def ran(path: Path) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT * FROM schema_migrations ORDER BY number").fetchall()
    finally:
        connection.close()


def test_migrations_are_numbered_from_one_without_a_gap():
    assert [step.number for step in migrations()] == list(range(1, len(migrations()) + 1))


def test_opening_makes_every_table_when_the_folder_is_empty(tmp_path):
    folder = LedgerFolder(tmp_path)
    with folder.opened():
        pass
    made = {name for name, sql in schema(folder.database) if sql.startswith("CREATE TABLE")}
    assert made == TABLES
    assert [row[0] for row in ran(folder.database)] == [step.number for step in migrations()]
    mode = sqlite3.connect(folder.database)
    assert mode.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    mode.close()


def test_every_commit_is_flushed_before_it_is_answered(tmp_path):
    """A kill cannot show this, only a power cut could; so the setting itself is looked at."""
    with LedgerFolder(tmp_path).opened() as store:
        writer = store._database._writer
        assert writer is not None
        synchronous = writer._connection.execute("PRAGMA synchronous").fetchone()
    assert synchronous == (2,), "FULL"


def test_opening_again_changes_nothing_when_the_schema_is_there(tmp_path):
    folder = LedgerFolder(tmp_path)
    with folder.opened():
        before = schema(folder.database), ran(folder.database)
    folder.clock.pass_ms(1_000)  # type: ignore[attr-defined]
    for _ in range(3):
        with folder.opened():
            pass
    assert (schema(folder.database), ran(folder.database)) == before


def test_a_migration_that_fails_leaves_nothing_behind_and_runs_when_it_is_mended(tmp_path, monkeypatch):
    folder = LedgerFolder(tmp_path)
    with folder.opened():
        before = schema(folder.database), ran(folder.database)
    known = migrations()
    broken = Migration(number=len(known) + 1, name="broken", sql="CREATE TABLE half (x);\nCREATE TABLE half (x);\n")
    monkeypatch.setattr("assent.storage.adapters.sqlite.migrations", lambda: (*known, broken))
    with pytest.raises(InvariantBroken, match="half"), folder.opened():
        pass
    assert (schema(folder.database), ran(folder.database)) == before
    mended = Migration(
        number=broken.number, name="mended", sql="-- one; with a semicolon in a comment\nCREATE TABLE half (x);\n"
    )
    monkeypatch.setattr("assent.storage.adapters.sqlite.migrations", lambda: (*known, mended))
    with folder.opened():
        assert "half" in dict(schema(folder.database))
    assert ran(folder.database)[-1][:2] == (broken.number, "mended")


# One process: for every folder named on standard input, open a ledger there and say what came of it.
OPENER = """
import pathlib, sys
from assent.testing.ledgers import LedgerFolder
print("ready", flush=True)
for line in sys.stdin:
    try:
        with LedgerFolder(pathlib.Path(line.strip())).opened():
            print("opened", flush=True)
    except Exception as error:
        print(repr(error), flush=True)
"""


@pytest.mark.slow
def test_opening_succeeds_for_all_when_several_processes_find_an_empty_folder(tmp_path):
    with ExitStack() as stack:
        start = [sys.executable, "-c", OPENER]
        openers = [
            stack.enter_context(subprocess.Popen(start, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(OPENERS)
        ]
        assert [_line(opener) for opener in openers] == ["ready"] * OPENERS
        for number in range(ROUNDS):
            path = tmp_path / str(number)
            path.mkdir()
            for opener in openers:
                assert opener.stdin is not None
                opener.stdin.write(f"{path}\n")
            for opener in openers:
                assert opener.stdin is not None
                opener.stdin.flush()
            assert [_line(opener) for opener in openers] == ["opened"] * OPENERS
            assert len(ran(path / "assent.db")) == len(migrations())


def _line(opener: subprocess.Popen[str]) -> str:
    assert opener.stdout is not None
    return opener.stdout.readline().strip()
