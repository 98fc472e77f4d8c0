"""A new user's first minutes, as processes of their own on a new folder."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.surfaces.commandline import Cli, command, environment, process

pytestmark = pytest.mark.slow


def test_first_minutes_of_a_new_user(tmp_path: Path) -> None:
    made = process("init", "project", cwd=tmp_path)
    assert made.code == 0
    assert "Ready" in made.out
    assert not made.err
    home = tmp_path / "project"

    wrote = process("do", "files.write", "--path", "notes.txt", "--content", "hello\nthere", cwd=home)
    assert wrote.code == 0
    assert (home / "workspace" / "notes.txt").read_text() == "hello\nthere"

    read = process("do", "files.read", "--path", "notes.txt", cwd=home)
    assert read.code == 0
    assert "  hello\n  there\n" in read.out

    asked = process("do", "files.delete", "--path", "notes.txt", cwd=home)
    assert asked.code == 4
    assert "Waiting for a person" in asked.out
    assert (home / "workspace" / "notes.txt").exists()

    (asked_about,) = process("inbox", "--json", cwd=home).document["reviews"]
    id_ = asked_about["review"]["id"]
    inbox = process("inbox", cwd=home).out
    assert "notes.txt" in inbox
    assert id_ in inbox

    denied = process("deny", id_[-8:], "--reason", "still needed", cwd=home)
    assert denied.code == 0
    assert (home / "workspace" / "notes.txt").exists()
    assert "Nothing waits" in process("inbox", cwd=home).out

    again = process("do", "files.delete", "--path", "notes.txt", "--json", cwd=home).document
    approved = process("approve", again["review"]["id"], "--reason", "not needed any more", cwd=home)
    assert approved.code == 0
    assert not (home / "workspace" / "notes.txt").exists()

    explained = process("explain", again["effect"]["id"][-10:], cwd=home).out
    for told in (
        "agent:helper for person:",
        "files-delete-reviewed",
        "forbid (",
        "not needed any more",
        "policy revision 1",
    ):
        assert told in explained
    timeline = process("timeline", cwd=home).out
    for told in ("allowed", "denied", "still needed", "approved", "succeeded"):
        assert told in timeline

    verified = process("verify", cwd=home)
    assert (verified.code, "The record is whole" in verified.out) == (0, True)
    assert "agent:helper" in (home / "assent.toml").read_text()


def test_doctor_finds_a_new_installation_in_order_and_says_how_it_looked(home: Path, cli: Cli) -> None:
    ran = cli("doctor", "--json")
    found = {finding["name"]: finding for finding in ran.document["findings"]}
    assert {
        "python",
        "kernel",
        "clock",
        "settings",
        "workspace",
        "data",
        "disk",
        "key",
        "record",
        "policy",
        "nodes",
    } <= set(found)
    assert ran.document["ok"] is (ran.code == 0)
    assert ran.code == 0 or found["self-test"]["grade"] == "fail"
    assert all(finding["fix"] for finding in found.values() if finding["grade"] == "fail")


def test_program_output_streams_and_its_exit_is_told(home: Path) -> None:
    ran = process("do", "shell.run", "--", "sh", "-c", "echo out; echo err >&2; exit 3", cwd=home)
    assert ran.code == 1
    assert ran.out.startswith("out\nFailed: shell.run")
    assert ran.err == "err\n"
    ran = process("do", "shell.run", "--json", "--", "sh", "-c", "echo out; exit 3", cwd=home)
    assert ran.code == 1
    assert ran.document["outcome"]["value"]["stdout"] == "out\n"


def test_output_of_a_program_arrives_while_it_runs(home: Path) -> None:
    fifo = home / "workspace" / "go"
    words = command(
        "do", "shell.run", "--", "sh", "-c", "echo ready; while ! test -e go; do sleep 0.05; done; echo gone"
    )
    with subprocess.Popen(words, cwd=home, stdout=subprocess.PIPE, env=environment()) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        fifo.touch()
        rest = running.stdout.read()
    assert rest.startswith(b"gone\nDone:")
    assert running.returncode == 0


def test_waiting_call_runs_when_somebody_approves(home: Path) -> None:
    (home / "workspace" / "old.txt").write_text("old")
    words = command("do", "files.delete", "--path", "old.txt", "--wait")
    with subprocess.Popen(words, cwd=home, stdout=subprocess.PIPE, env=environment()) as running:
        assert running.stdout is not None
        assert running.stdout.readline().startswith(b"Waiting for a person")
        (asked,) = process("inbox", "--json", cwd=home).document["reviews"]
        assert process("approve", asked["review"]["id"], "--no-run", cwd=home).code == 0
        rest = running.stdout.read().decode()
    assert running.returncode == 0
    assert "Done: files.delete" in rest
    assert not (home / "workspace" / "old.txt").exists()


def test_waiting_call_ends_refused_when_somebody_denies(home: Path) -> None:
    words = command("do", "files.delete", "--path", "old.txt", "--wait", "--json")
    with subprocess.Popen(words, cwd=home, stdout=subprocess.PIPE, env=environment()) as running:
        reviews: list[dict[str, dict[str, str]]] = []
        while not reviews and running.poll() is None:
            reviews = process("inbox", "--json", cwd=home).document["reviews"]
        assert process("deny", reviews[0]["review"]["id"], "--reason", "no", cwd=home).code == 0
        out, _ = running.communicate()
    assert running.returncode == 3
    assert json.loads(out)["effect"]["state"] == "refused"


def test_verify_fails_and_says_where_when_a_byte_was_changed(home: Path, cli: Cli) -> None:
    cli("do", "files.write", "--path", "a", "--content", "SENTINEL-CONTENT")
    database = home / ".assent" / "assent.db"
    assert cli("verify", "--json").document["ok"] is True
    data = database.read_bytes()
    assert data.count(b"SENTINEL-CONTENT") == 1
    database.write_bytes(data.replace(b"SENTINEL-CONTENT", b"SENTINEL-CONTENU"))
    ran = cli("verify")
    assert ran.code == 1
    assert "does not verify" in ran.out
    report = cli("verify", "--json").document
    assert report["ok"] is False
    assert report["faults"][0]["table"] == "log"
    doctor = cli("doctor", "--json")
    assert doctor.code == 1
    assert {f["name"]: f["grade"] for f in doctor.document["findings"]}["record"] == "fail"


def test_verify_says_when_it_cannot_read_what_to_verify_against(home: Path, cli: Cli) -> None:
    for name, data in (("none.txt", None), ("bad.txt", b"\xff rubbish")):
        if data is not None:
            (home / name).write_bytes(data)
        ran = cli("verify", "--checkpoint", str(home / name), "--json")
        assert (ran.code, ran.document["error"]["code"]) == (2, "checkpoint_malformed")


def test_verify_notices_a_database_that_was_rolled_back_when_it_has_a_checkpoint(home: Path, cli: Cli) -> None:
    database, kept = home / ".assent" / "assent.db", home / "kept.txt"
    before = database.read_bytes()
    (home / "workspace" / "x").touch()
    review = cli("do", "files.delete", "--path", "x", "--json").document["review"]["id"]
    assert cli("approve", review).code == 0  # an approval that is used keeps a checkpoint
    kept.write_text((home / ".assent" / "checkpoints.txt").read_text())
    assert cli("verify", "--checkpoint", str(kept)).code == 0
    database.write_bytes(before)
    for left in database.parent.glob("assent.db-*"):
        left.unlink()
    assert cli("verify").code == 0
    assert cli("verify", "--checkpoint", str(kept)).code == 1
