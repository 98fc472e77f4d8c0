"""Policies that somebody must have signed."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.surfaces.commandline import Cli


@pytest.fixture
def keys(home: Path, tmp_path: Path, cli: Cli) -> dict[str, Path]:
    """Two people's keys, of which both must sign."""
    found = {name: tmp_path / f"{name}.key" for name in ("ann", "ben")}
    public = [cli("policy", "sign", str(path), "--new", name, "--json").document["key"] for name, path in found.items()]
    (home / "policy" / "policy.sig").unlink()
    with (home / "assent.toml").open("a") as file:
        file.write(f'\n[policy]\nsigners = ["{public[0]}", "{public[1]}"]\nneeded = 2\n')
    return found


def code(cli: Cli, *words: str) -> str:
    return str(cli(*words, "--json").document["error"]["code"])


def test_policy_is_put_in_force_only_when_it_is_signed_by_enough(home: Path, keys: dict[str, Path], cli: Cli) -> None:
    assert code(cli, "policy", "activate") == "policy_unsigned"
    assert cli("policy", "sign", str(keys["ann"])).code == 0
    assert code(cli, "policy", "activate") == "policy_unsigned"
    assert cli("policy", "sign", str(keys["ann"]), "--json").document["signatures"] == 1
    activated = cli("policy", "activate", "--sign-key", str(keys["ben"]), "--json").document
    assert (activated["number"], activated["changed"]) == (2, True)
    assert cli("do", "files.list").code == 0
    assert cli("verify").code == 0
    assert cli("policy", "activate", "--json").document["changed"] is False


def test_policy_in_force_decides_nothing_when_it_lacks_signatures(home: Path, keys: dict[str, Path], cli: Cli) -> None:
    ran = cli("do", "files.list", "--json")
    assert (ran.code, ran.document["decision"]["code"]) == (3, "policy_unsigned")
    findings = {one["name"]: one for one in cli("doctor", "--json").document["findings"]}
    assert "it takes 2" in findings["policy"]["says"]


def test_signature_is_of_the_files_as_they_were(home: Path, keys: dict[str, Path], cli: Cli) -> None:
    for path in keys.values():
        assert cli("policy", "sign", str(path)).code == 0
    with (home / "policy" / "starter.cedar").open("a") as file:
        file.write("// one more line\n")
    assert code(cli, "policy", "activate") == "policy_unsigned"
    signatures = home / "policy" / "policy.sig"
    lines = signatures.read_text().splitlines()
    revision = cli("policy", "check", "--json").document["revision"]
    signatures.write_text("\n".join([lines[0], revision, *lines[2:]]) + "\n")
    assert code(cli, "policy", "activate") == "policy_unsigned"


def test_init_activates_nothing_that_nobody_signed(home: Path, keys: dict[str, Path], cli: Cli) -> None:
    for path in (home / ".assent").glob("assent.db*"):
        path.unlink()
    assert code(cli, "init", str(home)) == "policy_unsigned"


def test_verify_finds_a_signature_that_was_changed_in_the_database(home: Path, keys: dict[str, Path], cli: Cli) -> None:
    assert cli("policy", "sign", str(keys["ann"])).code == 0
    assert cli("policy", "activate", "--sign-key", str(keys["ben"])).code == 0
    with sqlite3.connect(home / ".assent" / "assent.db") as database:
        database.execute("UPDATE policy_revisions SET signatures = '' WHERE number = 2")
    database.close()
    assert cli("do", "files.list").code == 3
    ran = cli("verify")
    assert ran.code == 1
    assert "policy_revisions" in ran.out


def test_key_is_made_once_for_one_reader_outside_the_workspace(home: Path, tmp_path: Path, cli: Cli) -> None:
    path = tmp_path / "ann.key"
    assert cli("policy", "sign", str(path), "--new", "ann").code == 0
    assert path.stat().st_mode & 0o077 == 0
    assert path.read_text().split()[1] not in (home / "policy" / "policy.sig").read_text()
    assert code(cli, "policy", "sign", str(path), "--new", "ann") == "key_exists"
    assert code(cli, "policy", "sign", str(home / "workspace" / "a.key"), "--new", "ann") == "key_in_workspace"
    assert code(cli, "policy", "sign", str(tmp_path / "other.key"), "--new", "a b") == "verifier_key_malformed"
    path.chmod(0o644)
    assert code(cli, "policy", "sign", str(path)) == "key_unreadable"
    assert code(cli, "policy", "sign", str(home / "assent.toml")) == "key_unreadable"


@pytest.mark.parametrize("lines", ['signers = ["x"]', "needed = 2", "signers = []\nneeded = 1\nmore = 1"])
def test_settings_about_signers_are_judged(home: Path, cli: Cli, lines: str) -> None:
    with (home / "assent.toml").open("a") as file:
        file.write(f"\n[policy]\n{lines}\n")
    assert code(cli, "policy", "check") == "settings_invalid"
