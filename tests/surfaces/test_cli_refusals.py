"""Every command where something is missing or wrong: a sentence that says what to do, the right exit code, and never a
traceback (the `cli` fixture looks for one in whatever is written)."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from assent.storage.adapters.sqlite import SqliteDatabase
from assent.surfaces.cli.listing import COMMANDS
from tests.execution import ordinary_user
from tests.surfaces.commandline import Cli, Ran, environment

# Each command with words that would do. `FREE` need no installation, `TEXTUAL` no database.
WORDS: dict[str, tuple[str, ...]] = {
    "do": ("files.list",),
    "operations": (),
    "run-in": ("local", "true"),
    "lanes": (),
    "targets": (),
    "chat": ("hello",),
    "agents": (),
    "work": (),
    "skills": (),
    "sessions list": (),
    "sessions show": ("abcd1234",),
    "sessions reset": ("abcd1234",),
    "sessions fork": ("abcd1234", "other"),
    "runs start": ("helper", "hello"),
    "runs tell": ("abcd1234", "hello"),
    "runs list": (),
    "runs show": ("abcd1234",),
    "runs resume": ("abcd1234",),
    "runs pause": ("abcd1234",),
    "runs cancel": ("abcd1234",),
    "runs fork": ("abcd1234", "other"),
    "runs replay": ("abcd1234",),
    "halt": ("everything", "--reason", "no"),
    "lift": ("everything", "--reason", "yes"),
    "halts": (),
    "inbox": (),
    "approve": ("abcd1234",),
    "deny": ("abcd1234", "--reason", "no"),
    "review": ("abcd1234",),
    "escalate": ("abcd1234",),
    "stand-in": (),
    "waive": ("files.delete", "--for", "agent:helper", "--reason", "tidying"),
    "waivers list": (),
    "waivers sign": ("abcd1234", "--reason", "yes"),
    "waivers revoke": ("abcd1234", "--reason", "no"),
    "whoami": (),
    "tokens create": ("a job",),
    "tokens list": (),
    "tokens revoke": ("abcd1234", "--reason", "no"),
    "dismiss": ("abcd1234",),
    "budgets": (),
    "timeline": (),
    "explain": ("abcd1234",),
    "verify": (),
    "checkpoint": (),
    "doctor": (),
    "recover": (),
    "attest": ("abcd1234", "--happened", "--reason", "seen"),
    "node invite": ("lab",),
    "node list": (),
    "node remove": ("lab",),
    "node serve": (),
    "node join": (),
    "policy check": (),
    "policy test": (),
    "policy simulate": ("files.list",),
    "policy matrix": (),
    "policy backtest": (),
    "policy coverage": (),
    "policy compare": (),
    "policy sign": ("ann.key", "--new", "ann"),
    "policy propose": (),
    "policy activate": (),
    "policy show": (),
    "connect openapi": ("pets.json", "--name", "pets", "--yes"),
    "connect graphql": ("shop.json", "--name", "shop", "--server", "http://127.0.0.1:1/", "--yes"),
    "connect mcp": ("--name", "tools", "--url", "http://127.0.0.1:1/", "--yes"),
    "connect cli": ("git.toml", "--name", "git", "--yes"),
    "connect list": (),
    "connect show": ("pets",),
    "connect classify": ("pets.get", "read", "--reason", "looked"),
    "connect remove": ("pets", "--yes"),
}
FREE = {"operations", "node join"}
CONNECTING = {name for name in WORDS if name.startswith("connect ")}
TEXTUAL = {"policy check", "policy test", "policy simulate", "policy matrix", "policy sign", *CONNECTING}
SETTLED = [name for name in WORDS if name not in FREE]
STORED = [name for name in SETTLED if name not in TEXTUAL]


def words_of(name: str) -> tuple[str, ...]:
    return (*name.split(), *WORDS[name])


def test_every_command_is_among_these() -> None:
    # Whatever is wrong, a terminal first needs a terminal, and a recording a file: they have tests of their own.
    assert set(WORDS) | {"init", "demo", "terminal", "replay"} == {command.name for command in COMMANDS}


def refused(cli: Cli, name: str, *, code: int, error: str) -> Ran:
    """Run a command that cannot work, both ways, and compare the two answers."""
    told, written = cli(*words_of(name)), cli(*words_of(name), "--json")
    assert told.code == written.code == code
    if name == "doctor":
        assert [finding for finding in written.document["findings"] if finding["grade"] == "fail"]
        return written
    assert written.document["error"]["code"] == error
    assert written.document["error"]["hint"]
    first = written.document["error"]["message"].split("\n")[0]
    assert f"assent: {first}" in told.err
    assert "→" in told.err
    assert not told.out
    return written


@pytest.mark.parametrize("name", SETTLED)
def test_command_says_what_to_do_when_there_are_no_settings(
    cli: Cli, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ASSENT_FOLDER", raising=False)
    monkeypatch.chdir(tmp_path)
    refused(cli, name, code=1 if name == "doctor" else 2, error="settings_missing")


@pytest.mark.parametrize("name", SETTLED)
def test_command_says_what_to_do_when_the_named_folder_is_not_there(cli: Cli, name: str, home: Path) -> None:
    ran = cli(*words_of(name), "--folder", str(home / "nowhere"), "--json")
    assert ran.code == (1 if name == "doctor" else 2)
    assert "assent init" in ran.out


@pytest.mark.parametrize("name", SETTLED)
def test_command_tells_every_mistake_in_the_settings(cli: Cli, name: str, home: Path) -> None:
    (home / "assent.toml").write_text('[assent]\ntenant = "No"\n\nwork = "x"\n')
    ran = refused(cli, name, code=1 if name == "doctor" else 2, error="settings_invalid")
    assert "assent.toml:2" in ran.out
    assert "assent.toml:4" in ran.out


@pytest.mark.parametrize("name", SETTLED)
@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"[assent", b"\x1b[31m = 1"])
def test_command_refuses_settings_that_are_not_toml(cli: Cli, name: str, home: Path, data: bytes) -> None:
    (home / "assent.toml").write_bytes(data)
    refused(cli, name, code=1 if name == "doctor" else 2, error="settings_invalid")


@pytest.mark.parametrize("name", STORED)
def test_command_refuses_a_database_that_is_damaged(cli: Cli, name: str, home: Path) -> None:
    database = home / ".assent" / "assent.db"
    for left in database.parent.glob("assent.db*"):
        left.unlink()
    database.write_bytes(b"this is not a database at all" * 1000)
    if name == "verify":
        ran = cli("verify", "--json")
        assert (ran.code, ran.document["ok"]) == (1, False)
    else:
        refused(cli, name, code=1, error="database_damaged")
    assert database.read_bytes().startswith(b"this is not a database")


@pytest.mark.parametrize("name", [name for name in STORED if name != "verify"])
def test_command_refuses_a_database_of_a_newer_release(cli: Cli, name: str, home: Path) -> None:
    with closing(sqlite3.connect(home / ".assent" / "assent.db")) as connection, connection:
        connection.execute("INSERT INTO schema_migrations VALUES (9999, 'future', '', 0)")
    refused(cli, name, code=1, error="database_newer")


@pytest.mark.parametrize("name", [name for name in STORED if name != "verify"])
def test_command_says_that_another_process_holds_the_database(
    cli: Cli, name: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    defaults = SqliteDatabase.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "busy_timeout_ms", 20)
    with closing(sqlite3.connect(home / ".assent" / "assent.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        refused(cli, name, code=1, error="database_locked")
        other.execute("ROLLBACK")
    assert cli("do", "files.list").code == 0


def test_verify_reads_a_database_that_another_process_writes(cli: Cli, home: Path) -> None:
    with closing(sqlite3.connect(home / ".assent" / "assent.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert cli("verify").code == 0


@pytest.mark.parametrize("name", sorted(TEXTUAL - CONNECTING | {"connect list"}))
def test_command_that_needs_no_database_works_without_one(cli: Cli, name: str, home: Path) -> None:
    shutil.rmtree(home / ".assent")
    assert cli(*words_of(name)).code == 0
    assert not (home / ".assent").exists()


def test_verify_says_when_nothing_was_recorded(cli: Cli, home: Path) -> None:
    shutil.rmtree(home / ".assent")
    refused(cli, "verify", code=2, error="record_missing")


@pytest.fixture
def closed(home: Path) -> Iterator[Path]:
    """The installation where an ordinary user may read everything and write nothing."""
    with tempfile.TemporaryDirectory(prefix="assent-closed-") as made:
        folder = Path(made) / "home"
        shutil.copytree(home, folder)
        (Path(made) / "go.py").write_text("from assent.surfaces.cli.main import main; main()\n")
        for path in sorted(Path(made).rglob("*"), reverse=True):
            path.chmod(0o555 if path.is_dir() else 0o444)
        key = folder / ".assent" / "keys" / "log.key"
        if os.geteuid() == 0:
            os.chown(key, ordinary_user.ORDINARY_UID, -1)
        key.chmod(0o600)
        Path(made).chmod(0o755)
        yield folder
        for path in (Path(made), *Path(made).rglob("*")):
            if path.is_dir():
                path.chmod(0o755)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["do", "inbox", "doctor"])
def test_command_says_that_the_data_folder_is_read_only(closed: Path, name: str) -> None:
    words = [
        sys.executable,
        ordinary_user.__file__,
        str(closed.parent / "go.py"),
        *words_of(name),
        "--folder",
        str(closed),
    ]
    done = subprocess.run(words, check=False, capture_output=True, text=True, cwd="/", timeout=60, env=environment())
    assert done.returncode == 1, done.stderr
    assert "read-only" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(("mode", "name"), [(0o644, "do"), (0o640, "verify"), (0o604, "timeline"), (0o644, "doctor")])
def test_command_refuses_a_key_that_others_may_read(cli: Cli, home: Path, mode: int, name: str) -> None:
    key = home / ".assent" / "keys" / "log.key"
    key.chmod(mode)
    ran = cli(*words_of(name))
    if name == "verify":  # it needs the public half only
        assert ran.code == 0
    else:
        assert ran.code == 1
        assert "chmod 600" in ran.out + ran.err


def test_command_refuses_a_key_that_is_damaged(cli: Cli, home: Path) -> None:
    (home / ".assent" / "keys" / "log.key").write_bytes(b"\xff\xfe rubbish")
    refused(cli, "timeline", code=1, error="key_unreadable")


IDS = ["approve", "deny", "dismiss", "explain", "attest", "timeline"]
ARGUMENTS = {"deny": ("--reason", "no"), "attest": ("--happened", "--reason", "seen")}


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize(
    ("id_", "code"),
    [
        ("", 2),
        ("abc", 2),
        ("abcd1234", 3),
        ("eff_" + "0" * 28, 3),
        ("rev_" + "f" * 28, 3),
        ("x" * 5000, 2),
        ("%' OR 1=1", 3),
        ("\x1b[31mred", 3),
        ("日本語です", 3),
    ],
)
def test_id_that_names_nothing_is_refused(cli: Cli, home: Path, name: str, id_: str, code: int) -> None:
    if name == "timeline" and not id_:
        code = 0  # nothing named: the newest entries
    ran = cli(name, id_, *ARGUMENTS.get(name, ()), "--json")
    assert ran.code == code
    if code:
        assert ran.document["error"]["hint"]
    assert "\x1b" not in cli(name, id_, *ARGUMENTS.get(name, ())).err


@pytest.mark.parametrize("name", IDS)
def test_id_that_fits_several_is_refused_with_the_candidates(cli: Cli, home: Path, name: str) -> None:
    ids = []
    for path in ("a", "b"):
        answer = cli("do", "files.delete", "--path", path, "--json").document
        ids += [answer["effect"]["id"], answer["review"]["id"]]
    ran = cli(name, ids[0][4:9], *ARGUMENTS.get(name, ()), "--json")  # the time both were made
    assert (ran.code, ran.document["error"]["code"]) == (2, "id_ambiguous")
    assert sum(id_ in ran.document["error"]["message"] for id_ in ids) == 2


@pytest.mark.parametrize("name", IDS)
def test_id_of_another_tenant_is_not_found(cli: Cli, home: Path, name: str) -> None:
    answer = cli("do", "files.delete", "--path", "x", "--json").document
    settings = home / "assent.toml"
    settings.write_text(settings.read_text().replace('tenant = "local"', 'tenant = "other"'))
    for id_ in (answer["effect"]["id"], answer["review"]["id"]):
        ran = cli(name, id_, *ARGUMENTS.get(name, ()), "--json")
        assert (ran.code, ran.document["error"]["code"].endswith("not_found")) == (3, True)
    assert cli("inbox", "--json").document["reviews"] == []
    assert "files.delete" not in cli("timeline").out


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (("aprove", "x"), "`approve`"),
        (("policy", "chekc"), "`policy check`"),
        (("timeline", "--limt", "3"), "--limit"),
        (("do", "file.read"), "`files.read`"),
    ],
)
def test_misspelt_word_is_answered_with_the_nearest(cli: Cli, home: Path, words: tuple[str, ...], near: str) -> None:
    ran = cli(*words)
    assert ran.code == 2
    assert near in ran.err


@pytest.mark.parametrize(
    "words",
    [
        ("--nope",),
        ("--json", "inbox"),
        ("inbox", "extra"),
        ("approve",),
        ("explain", "a", "b"),
        ("do", "--wait", "x", "y"),
    ],
)
def test_words_nobody_takes_are_refused(cli: Cli, home: Path, words: tuple[str, ...]) -> None:
    ran = cli(*words, "--json")
    assert ran.code == 2
    assert ran.document["error"]["hint"].count("assent ") >= 1
