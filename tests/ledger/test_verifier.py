"""The stand-alone verifier against real SQLite files: what a writer leaves passes, what an attacker leaves is named."""

from __future__ import annotations

import ast
import base64
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assent.ledger import verify_standalone as verifier
from assent.ledger.checkpoints import Checkpoint, Signer, VerifierKey, cosign, key_name, origin, sign
from assent.ledger.merkle import Frontier, leaf_hash
from assent.primitives.canonical import canonical
from assent.primitives.ids import TenantId

SCHEMA = """
CREATE TABLE log(tenant TEXT, seq INTEGER, entry BLOB, leaf BLOB, PRIMARY KEY(tenant, seq));
CREATE TABLE log_nodes(tenant TEXT, level INTEGER, idx INTEGER, hash BLOB, PRIMARY KEY(tenant, level, idx));
CREATE TABLE log_heads(tenant TEXT PRIMARY KEY, size INTEGER, note TEXT);
CREATE TABLE checkpoints(tenant TEXT, size INTEGER, note TEXT, PRIMARY KEY(tenant, size));
"""
LOG_ID = "example"
SIGNER = Signer(name=key_name(log_id=LOG_ID), seed=b"k" * 32)
THIEF = Signer(name=key_name(log_id=LOG_ID), seed=b"t" * 32)  # the right name, the wrong key
WITNESS = Signer(name="witness.example/w1", seed=b"w" * 32)
VKEY = SIGNER.key.encode()
SIZE = 23
CHECKPOINT_EVERY = 5
FILE = Path(verifier.__file__)


def body(number: int) -> dict[str, Any]:
    return {"effect": f"eff_{number:024d}", "answer": "allow", "note": 'quote " and , "type":"x" – é', "n": [number]}


def entry_bytes(*, tenant: str, seq: int, prev: bytes, content: dict[str, Any]) -> bytes:
    fields = {"at": 1_763_700_000_000 + seq, "body": content, "prev": prev.hex(), "seq": seq}
    return canonical({**fields, "tenant": tenant, "type": "effect.settled", "v": 1})


def note_for(frontier: Frontier, *, tenant: str, signer: Signer = SIGNER) -> str:
    line = origin(log_id=LOG_ID, tenant=TenantId(tenant))
    return sign(Checkpoint(origin=line, size=frontier.size, root=frontier.root()), signer)


def write_log(
    db: sqlite3.Connection, *, tenant: str, bodies: list[dict[str, Any]], signer: Signer | None = SIGNER
) -> None:
    """Write a tenant's log as the ledger does. Without a signer only what can be made without a key is written."""
    frontier, prev = Frontier(), bytes(32)
    for seq, content in enumerate(bodies):
        entry = entry_bytes(tenant=tenant, seq=seq, prev=prev, content=content)
        prev = leaf_hash(entry)
        db.execute("INSERT INTO log VALUES (?, ?, ?, ?)", (tenant, seq, entry, prev))
        nodes = [(tenant, *node) for node in frontier.append(prev)]
        db.executemany("INSERT INTO log_nodes VALUES (?, ?, ?, ?)", nodes)
        if signer and frontier.size % CHECKPOINT_EVERY == 0:
            row = (tenant, frontier.size, note_for(frontier, tenant=tenant, signer=signer))
            db.execute("INSERT INTO checkpoints VALUES (?, ?, ?)", row)
    if signer:
        head = (tenant, frontier.size, note_for(frontier, tenant=tenant, signer=signer))
        db.execute("INSERT OR REPLACE INTO log_heads VALUES (?, ?, ?)", head)


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of two tenants, `acme` and `zeta`, as a writer leaves it, in WAL mode like the real one."""
    path = tmp_path_factory.mktemp("log") / "log #1?.db"  # a name that has to be quoted in a file URI
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA journal_mode=WAL")
        db.executescript(SCHEMA)
        write_log(db, tenant="acme", bodies=[body(number) for number in range(SIZE)])
        write_log(db, tenant="zeta", bodies=[body(number) for number in range(8)])
    return path


@pytest.fixture
def database(pristine: Path, tmp_path: Path) -> Path:
    path = tmp_path / pristine.name
    shutil.copy(pristine, path)
    return path


def change(path: Path, *statements: tuple[str, tuple[object, ...]]) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        for sql, parameters in statements:
            assert db.execute(sql, parameters).rowcount > 0, sql


def stored(path: Path, sql: str, *parameters: object) -> Any:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql, parameters).fetchone()[0]


def ask(path: Path, *options: str, key: str = VKEY) -> tuple[int, dict[str, Any]]:
    """Run the verifier in a process of its own, without site packages: the pure Ed25519 and nothing of Assent."""
    command = [sys.executable, "-I", "-S", str(FILE), str(path), "--key", key, "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == "" or done.returncode == 2, done.stderr
    return done.returncode, json.loads(done.stdout) if done.stdout else {"error": done.stderr}


def judge(path: Path, capsys: pytest.CaptureFixture[str], *options: str, key: str = VKEY) -> dict[str, Any]:
    """Run the verifier in this process and return its answer, whose verdict must agree with its exit status."""
    capsys.readouterr()
    status = verifier.main([str(path), "--key", key, "--json", *options])
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert status == {"verified": 0, "tampered": 1}[report["verdict"]]
    assert (report["failure"] is None) == (status == 0)
    return report


def place(report: dict[str, Any]) -> tuple[str, str, int | None]:
    failure = report["failure"]
    return failure["table"], failure["tenant"], failure["seq"]


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def rewritten(path: Path, *, bodies: list[dict[str, Any]], signer: Signer | None = None) -> None:
    """Replace acme's entries, leaves and nodes by a consistent history, as somebody without the key can."""
    with closing(sqlite3.connect(path)) as db, db:
        for table in ("log", "log_nodes", *(("log_heads", "checkpoints") if signer else ())):
            db.execute(f"DELETE FROM {table} WHERE tenant = 'acme'")
        write_log(db, tenant="acme", bodies=bodies, signer=signer)


# What passes.


def test_verifier_passes_when_nothing_was_touched(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = judge(database, capsys)
    assert [(log["tenant"], log["size"]) for log in report["tenants"]] == [("acme", SIZE), ("zeta", 8)]
    root = base64.b64encode(bytes.fromhex(report["tenants"][0]["root"])).decode()
    assert root in stored(database, "SELECT note FROM log_heads WHERE tenant = 'acme'")


def test_verifier_needs_nothing_but_itself_when_run_in_an_empty_folder(pristine: Path, tmp_path: Path) -> None:
    copy = tmp_path / "verify.py"
    shutil.copy(FILE, copy)
    command = [sys.executable, "-I", "-S", str(copy), str(pristine), "--key", VKEY]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("VERIFIED\n")
    assert "tenant acme: 23 entries" in done.stdout
    assert "truncation to an older signed head" in done.stdout
    assert "only with a checkpoint kept elsewhere" in done.stdout


def test_verifier_imports_only_the_standard_library_when_read() -> None:
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(FILE.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or "."]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported - sys.stdlib_module_names == set()


def test_verifier_leaves_the_file_as_it_is_when_it_reads(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = database.read_bytes()
    judge(database, capsys)
    assert database.read_bytes() == before


def test_verifier_sees_one_snapshot_when_a_writer_is_at_work(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(sqlite3.connect(database, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM log_heads")
        assert judge(database, capsys)["verdict"] == "verified"
        writer.execute("ROLLBACK")


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 7, 8, 9, 40])
def test_verifier_passes_when_a_log_has_any_size(size: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(SCHEMA)
        write_log(db, tenant="acme", bodies=[body(number) for number in range(size)])
    assert judge(path, capsys)["tenants"][0]["size"] == size


def test_verifier_passes_when_no_tenant_has_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(SCHEMA)
    report = judge(path, capsys)
    assert report["tenants"] == []
    assert "the loss of a whole tenant" in report["warnings"][0]
    assert place(judge(path, capsys, "--tenant", "acme")) == ("log_heads", "acme", None)


def test_verifier_passes_when_witnesses_signed_too(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    note = stored(database, "SELECT note FROM log_heads WHERE tenant = 'acme'")
    change(database, ("UPDATE log_heads SET note = ? WHERE tenant = 'acme'", (cosign(note, WITNESS),)))
    assert judge(database, capsys)["verdict"] == "verified"
    assert judge(database, capsys, key=WITNESS.key.encode())["verdict"] == "tampered"


# The six attacks.


def test_verifier_names_the_entry_when_it_was_edited(database: Path) -> None:
    entry = stored(database, "SELECT entry FROM log WHERE tenant = 'acme' AND seq = 7")
    edited = entry.replace(b'"allow"', b'"deny!"')
    assert edited != entry
    change(database, ("UPDATE log SET entry = ? WHERE tenant = 'acme' AND seq = 7", (edited,)))
    status, report = ask(database)
    assert (status, place(report)) == (1, ("log", "acme", 7))
    assert "does not hash" in report["failure"]["reason"]


def test_verifier_names_the_next_link_when_an_edited_entry_got_its_own_hash(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = stored(database, "SELECT entry FROM log WHERE tenant = 'acme' AND seq = 7").replace(b"allow", b"deny!")
    change(
        database,
        ("UPDATE log SET entry = ?, leaf = ? WHERE tenant = 'acme' AND seq = 7", (entry, leaf_hash(entry))),
        ("DELETE FROM log_nodes WHERE tenant = 'acme'", ()),
    )
    assert place(judge(database, capsys)) == ("log_nodes", "acme", 1)
    with closing(sqlite3.connect(database)) as db, db:
        frontier = Frontier()
        for (leaf,) in db.execute("SELECT leaf FROM log WHERE tenant = 'acme' ORDER BY seq").fetchall():
            nodes = [("acme", *node) for node in frontier.append(leaf)]
            db.executemany("INSERT INTO log_nodes VALUES (?, ?, ?, ?)", nodes)
    report = judge(database, capsys)
    assert place(report) == ("log", "acme", 8)
    assert "does not continue" in report["failure"]["reason"]


@pytest.mark.parametrize("seq", [0, 7])
def test_verifier_names_the_gap_when_an_entry_was_deleted(seq: int, database: Path) -> None:
    change(database, ("DELETE FROM log WHERE tenant = 'acme' AND seq = ?", (seq,)))
    status, report = ask(database)
    assert (status, place(report)) == (1, ("log", "acme", seq))
    assert "missing" in report["failure"]["reason"]


def test_verifier_names_the_place_when_a_deleted_entry_was_closed_up(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(database, ("DELETE FROM log WHERE tenant = 'acme' AND seq = 7", ()))
    with closing(sqlite3.connect(database)) as db, db:
        for seq in range(8, SIZE):
            db.execute("UPDATE log SET seq = ? WHERE tenant = 'acme' AND seq = ?", (seq - 1, seq))
    report = judge(database, capsys)
    assert place(report) == ("log", "acme", 7)
    assert "written as number 8" in report["failure"]["reason"]


def test_verifier_names_the_first_of_two_when_entries_changed_places(database: Path) -> None:
    swap = "UPDATE log SET seq = ? WHERE tenant = 'acme' AND seq = ?"
    change(database, (swap, (-1, 4)), (swap, (4, 9)), (swap, (9, -1)))
    status, report = ask(database)
    assert (status, place(report)) == (1, ("log", "acme", 4))
    assert "written as number 9" in report["failure"]["reason"]


def test_verifier_names_the_missing_entry_when_the_tail_was_cut(database: Path) -> None:
    change(database, ("DELETE FROM log WHERE tenant = 'acme' AND seq >= 21", ()))
    status, report = ask(database)
    assert (status, place(report)) == (1, ("log", "acme", 21))
    assert "signed head covers 23" in report["failure"]["reason"]


def test_verifier_names_the_missing_entry_when_only_a_checkpoint_remembers_it(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older = stored(database, "SELECT note FROM checkpoints WHERE tenant = 'acme' AND size = 15")
    rewritten(database, bodies=[body(number) for number in range(15)])
    change(database, ("UPDATE log_heads SET size = 15, note = ? WHERE tenant = 'acme'", (older,)))
    report = judge(database, capsys)
    assert place(report) == ("log", "acme", 15)
    assert "checkpoint in checkpoints covers 20" in report["failure"]["reason"]


def test_verifier_finds_the_cut_only_with_a_trusted_checkpoint_when_an_older_head_was_put_back(
    database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept.txt"
    kept.write_text(stored(database, "SELECT note FROM log_heads WHERE tenant = 'acme'"), encoding="utf-8")
    older = stored(database, "SELECT note FROM checkpoints WHERE tenant = 'acme' AND size = 15")
    rewritten(database, bodies=[body(number) for number in range(15)])
    change(
        database,
        ("UPDATE log_heads SET size = 15, note = ? WHERE tenant = 'acme'", (older,)),
        ("DELETE FROM checkpoints WHERE tenant = 'acme' AND size > 15", ()),
    )
    blind = judge(database, capsys)
    assert blind["verdict"] == "verified"
    assert [warning for warning in blind["warnings"] if "older signed head" in warning]
    report = judge(database, capsys, "--checkpoint", str(kept))
    assert place(report) == ("log", "acme", 15)
    assert f"checkpoint in {kept} covers 23" in report["failure"]["reason"]


def test_verifier_names_the_checkpoint_when_all_was_rewritten_without_the_key(database: Path) -> None:
    rewritten(database, bodies=[body(number if number != 12 else 99) for number in range(SIZE)])
    status, report = ask(database)
    assert (status, place(report)) == (1, ("checkpoints", "acme", 15))
    assert "the first 10 do" in report["failure"]["reason"]


def test_verifier_names_the_head_when_all_was_rewritten_and_checkpoints_removed(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewritten(database, bodies=[body(number + 1) for number in range(SIZE)])
    change(database, ("DELETE FROM checkpoints WHERE tenant = 'acme'", ()))
    assert place(judge(database, capsys)) == ("log_heads", "acme", SIZE)


def test_verifier_names_the_signature_when_all_was_rewritten_with_another_key(database: Path) -> None:
    rewritten(database, bodies=[body(number + 1) for number in range(SIZE)], signer=THIEF)
    status, report = ask(database)
    assert (status, place(report)) == (1, ("checkpoints", "acme", 5))
    assert "not signed by" in report["failure"]["reason"]


def test_verifier_finds_a_rewrite_with_the_real_key_when_a_checkpoint_was_kept_elsewhere(
    database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept.txt"
    kept.write_text(stored(database, "SELECT note FROM checkpoints WHERE tenant = 'acme' AND size = 10"), "utf-8")
    rewritten(database, bodies=[body(number + 1) for number in range(SIZE)], signer=SIGNER)
    assert judge(database, capsys)["verdict"] == "verified"
    assert place(judge(database, capsys, "--checkpoint", str(kept))) == (str(kept), "acme", 10)


def test_verifier_names_the_head_when_the_tail_was_forged(database: Path) -> None:
    rewritten(database, bodies=[body(number if number < 21 else 99) for number in range(SIZE)])
    status, report = ask(database)
    assert (status, place(report)) == (1, ("log_heads", "acme", SIZE))
    assert "the first 20 do" in report["failure"]["reason"]


def test_verifier_names_the_entry_when_one_was_appended_without_the_key(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewritten(database, bodies=[body(number) for number in range(SIZE + 1)])
    report = judge(database, capsys)
    assert place(report) == ("log", "acme", SIZE)
    assert "not covered" in report["failure"]["reason"]


# Single bytes and rows.


@pytest.mark.parametrize(
    ("table", "column", "where", "seq"),
    [
        ("log", "entry", "seq = 3", 3),
        ("log", "leaf", "seq = 22", 22),
        ("log_nodes", "hash", "level = 1 AND idx = 2", 5),
        ("log_nodes", "hash", "level = 4 AND idx = 0", 15),
        ("log_heads", "note", "1", 23),
        ("checkpoints", "note", "size = 15", 15),
    ],
)
def test_verifier_names_the_row_when_one_byte_of_it_is_flipped(
    table: str, column: str, where: str, seq: int, database: Path
) -> None:
    condition = f"tenant = 'acme' AND {where}"
    value = stored(database, f"SELECT {column} FROM {table} WHERE {condition}")
    for at in (0, len(value) // 2, len(value) - 1):
        damaged = flipped(value, at) if isinstance(value, bytes) else flipped(value.encode(), at).decode("latin-1")
        change(database, (f"UPDATE {table} SET {column} = ? WHERE {condition}", (damaged,)))
        status, report = ask(database)
        assert (status, place(report)) == (1, (table, "acme", seq))


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.data())
def test_verifier_finds_the_change_when_any_cell_is_replaced(pristine: Path, data: st.DataObject) -> None:
    table = data.draw(st.sampled_from(verifier.TABLES))
    with closing(sqlite3.connect(f"{pristine.as_uri()}?mode=ro", uri=True)) as source:
        db = sqlite3.connect(":memory:", isolation_level=None)
        source.backup(db)
    with closing(db):
        rows = db.execute(f"SELECT rowid, * FROM {table}").fetchall()
        names = [column[1] for column in db.execute(f"PRAGMA table_info({table})")]
        row, column = data.draw(st.sampled_from(rows)), data.draw(st.integers(0, len(names) - 1))
        value = data.draw(replacement(row[column + 1]))
        update = f"UPDATE OR IGNORE {table} SET {names[column]} = ? WHERE rowid = ?"
        db.execute(update, (value, row[0]))
        if db.execute(f"SELECT * FROM {table} WHERE rowid = ?", (row[0],)).fetchone() == row[1:]:
            return  # the column's type, or a row that stands there already, undid the change
        with pytest.raises(verifier.Tampered):
            verifier.verify(db, verifier.read_key(VKEY), None, [])


def replacement(value: object) -> st.SearchStrategy[object]:
    strange: st.SearchStrategy[object] = st.sampled_from([None, 0, -1, 1 << 62, 0.5, "", "x", b"", b"\xff", "zeta"])
    if isinstance(value, bytes):
        whole = value
        return strange | st.integers(0, len(whole) - 1).map(lambda at: flipped(whole, at))
    if isinstance(value, int):
        return strange | st.integers(-3, 30)
    return strange | st.just(f"{value}\n") | st.just(str(value)[:-1])


@pytest.mark.parametrize("table", ["log_heads", "log_nodes", "checkpoints", "log"])
def test_verifier_fails_when_a_table_is_gone(table: str, database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with closing(sqlite3.connect(database)) as db:
        db.execute(f"DROP TABLE {table}")
    report = judge(database, capsys)
    assert report["failure"]["table"] == "database"
    assert table in report["failure"]["reason"]


def test_verifier_fails_when_a_node_is_gone_or_left_over(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    extra = ("INSERT INTO log_nodes VALUES ('acme', ?, ?, ?)", (9, 0, bytes(32)))
    change(database, extra)
    assert place(judge(database, capsys)) == ("log_nodes", "acme", None)
    change(database, ("DELETE FROM log_nodes WHERE tenant = 'acme' AND level IN (2, 9)", ()))
    assert place(judge(database, capsys)) == ("log_nodes", "acme", 3)


def test_verifier_fails_when_the_head_is_gone(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(database, ("DELETE FROM log_heads WHERE tenant = 'zeta'", ()))
    assert place(judge(database, capsys)) == ("log_heads", "zeta", None)
    assert judge(database, capsys, "--tenant", "acme")["verdict"] == "verified"


def test_verifier_fails_when_a_row_moved_to_another_tenant(database: Path) -> None:
    change(database, ("UPDATE log SET tenant = 'acme', seq = 23 WHERE tenant = 'zeta' AND seq = 7", ()))
    status, report = ask(database)
    assert (status, place(report)) == (1, ("log", "acme", 23))
    assert "written as number 7" in report["failure"]["reason"]


def test_verifier_fails_when_a_row_takes_the_place_of_another_tenants(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    take = "SELECT entry, leaf FROM log WHERE tenant = 'acme' AND seq = 0"
    change(database, (f"UPDATE log SET (entry, leaf) = ({take}) WHERE tenant = 'zeta' AND seq = 0", ()))
    report = judge(database, capsys)
    assert place(report) == ("log", "zeta", 0)
    assert "written for tenant 'acme'" in report["failure"]["reason"]


def test_verifier_fails_when_the_head_is_another_tenants(database: Path, capsys: pytest.CaptureFixture[str]) -> None:
    note = stored(database, "SELECT note FROM log_heads WHERE tenant = 'acme'")
    change(database, ("UPDATE log_heads SET size = 23, note = ? WHERE tenant = 'zeta'", (note,)))
    assert place(judge(database, capsys)) == ("log", "zeta", 8)
    change(database, ("UPDATE log_heads SET size = 8 WHERE tenant = 'zeta'", ()))
    assert "is about 23 entries of 'assent/example/acme'" in judge(database, capsys)["failure"]["reason"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "fields of version 1"),
        (b"[]", "fields of version 1"),
        (b"\xff", "fields of version 1"),
        (b"[" * 100_000, "fields of version 1"),
        (b'{"seq":0}', "fields of version 1"),
        (b'{"at":1,"body":{},"prev":"","seq":0,"tenant":"acme","type":"t","v":2}', "fields of version 1"),
        (b'{"at":1,"body":{},"prev":"","seq":0,"tenant":"acme","type":"t","v":1,"x":1}', "fields of version 1"),
        ("text", "not a blob"),
        (None, "not a blob"),
    ],
)
def test_verifier_fails_when_an_entry_is_not_one(
    content: object, reason: str, database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leaf = leaf_hash(content) if isinstance(content, bytes) else b""
    change(database, ("UPDATE log SET entry = ?, leaf = ? WHERE tenant = 'acme' AND seq = 0", (content, leaf)))
    report = judge(database, capsys)
    assert place(report) == ("log", "acme", 0)
    assert reason in report["failure"]["reason"]


# Keys, trusted checkpoints, and questions that cannot be asked.


def test_verifier_fails_when_the_key_is_another(database: Path) -> None:
    status, report = ask(database, key=THIEF.key.encode())
    assert (status, place(report)) == (1, ("checkpoints", "acme", 5))


def test_verifier_says_how_far_trust_reaches_when_checkpoints_were_kept(
    database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    select = "SELECT note FROM checkpoints WHERE tenant = ? AND size = ?"
    notes = [stored(database, select, *row) for row in (("acme", 20), ("zeta", 5), ("acme", 10))]
    notes.append(cosign(stored(database, "SELECT note FROM log_heads WHERE tenant = 'zeta'"), WITNESS))
    kept = tmp_path / "kept.txt"
    for glue in ("", "\n", "\n\n\n"):
        kept.write_text(glue.join(notes) + glue, encoding="utf-8")
        report = judge(database, capsys, "--checkpoint", str(kept))
        assert [log["trusted_size"] for log in report["tenants"]] == [20, 8]
        assert [warning for warning in report["warnings"] if "acme" in warning and "after entry 20" in warning]
        assert not [warning for warning in report["warnings"] if "zeta" in warning]


def test_verifier_misses_a_tenant_when_a_trusted_checkpoint_remembers_it(
    database: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept.txt"
    kept.write_text(stored(database, "SELECT note FROM log_heads WHERE tenant = 'zeta'"), encoding="utf-8")
    for table in verifier.TABLES:
        change(database, (f"DELETE FROM {table} WHERE tenant = 'zeta'", ()))
    assert judge(database, capsys)["verdict"] == "verified"
    assert place(judge(database, capsys, "--checkpoint", str(kept))) == ("log", "zeta", 0)


@pytest.mark.parametrize(
    ("line", "signer", "reason"),
    [
        ("assent/example/acme", THIEF, "not signed by"),
        ("assent/example/acme", SIGNER, "the first 20 entries do not hash to the signed root"),
        ("acme", SIGNER, "is about 20 entries of 'acme'"),
    ],
)
def test_verifier_fails_when_a_trusted_checkpoint_is_not_the_logs(
    line: str, signer: Signer, reason: str, database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = database.with_name("kept.txt")
    kept.write_text(sign(Checkpoint(origin=line, size=20, root=bytes(32)), signer), encoding="utf-8")
    report = judge(database, capsys, "--checkpoint", str(kept))
    assert place(report) == (str(kept), "acme", 20)
    assert reason in report["failure"]["reason"]


def test_verifier_fails_when_a_trusted_checkpoint_was_changed(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = database.with_name("kept.txt")
    note = stored(database, "SELECT note FROM checkpoints WHERE tenant = 'acme' AND size = 20")
    kept.write_text(note.replace("\n20\n", "\n19\n"), encoding="utf-8")
    report = judge(database, capsys, "--checkpoint", str(kept))
    assert place(report) == (str(kept), "acme", 19)
    assert "signature is false" in report["failure"]["reason"]


def test_verifier_fails_when_a_trusted_checkpoint_is_another_logs(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = database.with_name("kept.txt")
    kept.write_text(sign(Checkpoint(origin="assent/other/acme", size=20, root=bytes(32)), SIGNER), encoding="utf-8")
    assert place(judge(database, capsys, "--checkpoint", str(kept))) == ("log", "assent/other/acme", 0)


def bad_files() -> Iterator[tuple[str, str]]:
    note = note_for(Frontier(), tenant="acme")
    yield "", "holds no checkpoint"
    yield "\n\n", "holds no checkpoint"
    yield "hello\n", "does not begin a checkpoint"
    yield note + "\nhello\n", "does not begin a checkpoint"
    yield note.removesuffix("\n"), "does not begin a checkpoint"


@pytest.mark.parametrize(("content", "reason"), list(bad_files()))
def test_verifier_refuses_the_question_when_the_trusted_file_holds_something_else(
    content: str, reason: str, database: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.txt"
    kept.write_text(content, encoding="utf-8")
    status, answer = ask(database, "--checkpoint", str(kept))
    assert status == 2
    assert reason in answer["error"]


@pytest.mark.parametrize("key", ["", "x", "a+b", VKEY[:-4], VKEY.replace("example", "other"), "a+00000000+****"])
def test_verifier_refuses_the_question_when_the_key_is_none(
    key: str, database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        verifier.main([str(database), "--key", key])
    assert caught.value.code == 2
    assert "verifier key" in capsys.readouterr().err


def test_verifier_refuses_the_question_when_the_database_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        verifier.main([str(tmp_path / "none.db"), "--key", VKEY])
    assert caught.value.code == 2
    assert not list(tmp_path.iterdir())
    (tmp_path / "text.db").write_text("not a database, but long enough to be looked at")
    assert judge(tmp_path / "text.db", capsys)["failure"]["table"] == "database"


@pytest.mark.slow
def test_verifier_refuses_the_question_when_the_database_is_locked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.executescript(SCHEMA)
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SystemExit) as caught:
            verifier.main([str(path), "--key", VKEY])
    assert caught.value.code == 2
    assert "locked" in capsys.readouterr().err


def test_verifier_prints_one_plain_line_when_a_name_tries_to_write_its_own_verdict(
    database: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change(database, ("UPDATE log_heads SET tenant = ? WHERE tenant = 'zeta'", ("zeta\x1b[2K\r\nVERIFIED\n\u202e",)))
    assert verifier.main([str(database), "--key", VKEY]) == 1
    answer = capsys.readouterr().out
    assert answer.isascii()
    assert "\x1b" not in answer
    assert answer.splitlines()[-1] == "TAMPERED"
    assert "VERIFIED" not in answer.splitlines()


# The Ed25519 that the file carries: RFC 8032, section 7.1, and agreement with `cryptography`.

RFC_8032 = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        """e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155
           5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b""",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        """92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da
           085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00""",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        """6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac
           18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a""",
    ),
]


@pytest.mark.parametrize(("public", "text", "signature"), RFC_8032)
def test_ed25519_accepts_the_signature_when_the_rfc_says_so(public: str, text: str, signature: str) -> None:
    holds = verifier.ed25519_holds
    key, message, signed = bytes.fromhex(public), bytes.fromhex(text), bytes.fromhex(signature)
    assert holds(key, message, signed)
    assert not holds(key, message + b"x", signed)
    assert not holds(bytes.fromhex(RFC_8032[0][0])[::-1], message, signed)
    raised = int.from_bytes(signed[32:], "little") + verifier.ORDER
    assert not holds(key, message, signed[:32] + raised.to_bytes(32, "little"))  # a second spelling of the same number
    assert not any(holds(key, message, cut) for cut in (b"", signed[:63], signed + b"\0", bytes(64)))


@settings(max_examples=40, deadline=None)
@given(text=st.binary(max_size=80), at=st.integers(0, 95), by=st.integers(0, 255))
def test_ed25519_agrees_with_the_library_when_a_byte_of_key_or_signature_is_changed(
    text: bytes, at: int, by: int
) -> None:
    both = bytearray(SIGNER.key.public + SIGNER.sign(text).signature)
    both[at] ^= by
    public, signature = bytes(both[:32]), bytes(both[32:])
    library = VerifierKey(name=SIGNER.key.name, public=public).signed(text, signature)
    assert verifier.ed25519_holds(public, text, signature) == library == (by == 0)
