"""Each command on good input: what it answers people, what it answers programs, how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from assent.surfaces.cli.exits import Exit
from assent.surfaces.cli.listing import COMMANDS, GROUPS
from tests.surfaces.commandline import Cli


def test_init_leaves_what_exists_and_says_so(home: Path, cli: Cli) -> None:
    before = {path: path.read_bytes() for path in home.rglob("*") if path.suffix in {".toml", ".cedar"}}
    ran = cli("init", str(home), "--json")
    assert ran.code == 0
    assert not any(path["made"] for path in ran.document["paths"])
    assert ran.document["policy"] == {"number": 1, "activated": False}
    assert {path: path.read_bytes() for path in before} == before


def test_init_keeps_rules_that_are_there(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "policy").mkdir()
    rule = '@id("mine")\npermit (principal, action == Action::"read", resource in Connector::"files");\n'
    (tmp_path / "policy" / "mine.cedar").write_text(rule)
    assert cli("init", str(tmp_path)).code == 0
    assert sorted(path.name for path in (tmp_path / "policy").iterdir()) == ["mine.cedar"]
    assert cli("policy", "show", "--folder", str(tmp_path), "--json").document["text"] == rule


def test_init_leaves_the_data_folder_out_of_version_control(home: Path) -> None:
    assert (home / ".assent" / ".gitignore").read_text().endswith("*\n")


@pytest.mark.parametrize("place", ["file", "closed/by/file"])
def test_init_says_where_it_cannot_make_anything(tmp_path: Path, cli: Cli, place: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "closed").write_text("")
    ran = cli("init", str(tmp_path / place))
    assert ran.code == 1
    assert "cannot be made" in ran.err


def test_operations_are_listed_with_their_contracts(cli: Cli) -> None:
    listed = {one["name"] for one in cli("operations", "--json").document["operations"]}
    assert {"files.read", "shell.run", "http.post"} <= listed
    assert "files.delete" in cli("operations").out


@pytest.mark.parametrize("words", [("do", "--help"), ("do", "-h"), ("do",), ("policy", "simulate", "--help")])
def test_help_on_do_lists_the_operations(cli: Cli, words: tuple[str, ...]) -> None:
    ran = cli(*words)
    assert ran.code == 0
    assert "files.read" in ran.out
    assert ("--wait" if words[0] == "do" else "--seen") in ran.out


def test_help_on_an_operation_shows_its_contract(cli: Cli) -> None:
    ran = cli("do", "files.write", "--help")
    assert ran.code == 0
    for told in ("--path TEXT *", "--content TEXT", "required", "files.stat", "local-weak", "write"):
        assert told in ran.out


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_every_command_has_help_with_an_example(cli: Cli, command: str) -> None:
    ran = cli(*command.split(), "--help")
    assert ran.code == 0
    assert f"assent {command}" in ran.out
    assert "Example" in ran.out
    assert "--json" in ran.out


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("policy",), ("policy", "--help")])
def test_overview_lists_every_command_and_exit_code(cli: Cli, words: tuple[str, ...]) -> None:
    ran = cli(*words)
    assert ran.code == 0
    for group in GROUPS:
        assert f"\n{group}\n" in ran.out
    for command in COMMANDS:
        assert f"  {command.name} " in ran.out
    for code in Exit:
        assert f"\n  {int(code)} " in ran.out


def test_do_is_done_once_for_one_key(home: Path, cli: Cli) -> None:
    words = ("do", "files.append", "--path", "log", "--content", "x", "--key", "once", "--json")
    first, second = cli(*words).document, cli(*words).document
    assert first["effect"]["id"] == second["effect"]["id"]
    assert (first["fresh"], second["fresh"]) == (True, False)
    assert (home / "workspace" / "log").read_text() == "x"
    other = cli("do", "files.append", "--path", "log", "--content", "y", "--key", "once", "--json")
    assert (other.code, other.document["error"]["code"]) == (3, "key_conflict")


def test_do_takes_arguments_as_json_and_from_a_file(home: Path, cli: Cli) -> None:
    (home / "call.json").write_text(json.dumps({"path": "b.txt", "content": "from a file\n"}))
    assert cli("do", "files.write", "--arguments", '{"path": "a.txt", "content": "inline"}').code == 0
    assert cli("do", "files.write", "--arguments", "@call.json").code == 0
    assert (home / "workspace" / "a.txt").read_text() == "inline"
    assert (home / "workspace" / "b.txt").read_text() == "from a file\n"
    assert cli("do", "files.write", "--arguments", "@nowhere.json").code == 2


def test_do_is_refused_with_the_rule_named(home: Path, cli: Cli) -> None:
    ran = cli("do", "files.read", "--path", "/etc/passwd")
    assert ran.code == 3
    assert "Refused" in ran.out
    assert "workspace-only" in ran.out
    assert cli("do", "files.read", "--path", "/etc/passwd", "--json").document["decision"]["rules"] == [
        "workspace-only"
    ]


def test_do_records_and_refuses_arguments_that_do_not_fit(home: Path, cli: Cli) -> None:
    ran = cli("do", "files.read", "--json")
    assert (ran.code, ran.document["decision"]["code"]) == (3, "arguments_invalid")
    assert ran.document["effect"]["state"] == "refused"


@pytest.mark.parametrize(
    ("name", "code", "told"),
    [
        ("person:somebody", 3, "cannot ask as"),
        ("agent:stranger", 3, "not declared"),
        ("agent:helpr", 3, "did you mean `agent:helper`?"),
        ("", 0, ""),
        ("agent:helper", 0, ""),
    ],
)
def test_do_asks_only_as_oneself_or_as_what_is_declared(home: Path, cli: Cli, name: str, code: int, told: str) -> None:
    ran = cli("do", "files.list", "--as", name)
    assert ran.code == code
    assert told in ran.err


def test_do_as_oneself_acts_for_nobody_else(home: Path, cli: Cli) -> None:
    me = cli("timeline", "--json").document["moments"][-1]["facts"]["by"]
    ran = cli("do", "files.list", "--as", me, "--json")
    assert ran.code == 0
    found = cli("explain", ran.document["effect"]["id"], "--json").document
    assert (found["intent"]["principal"], found["intent"]["on_behalf_of"]) == (me, [])


def test_requester_may_not_approve_their_own_call(home: Path, cli: Cli) -> None:
    me = cli("timeline", "--json").document["moments"][-1]["facts"]["by"]
    asked = cli("do", "files.delete", "--path", "x", "--as", me, "--json").document
    ran = cli("approve", asked["review"]["id"], "--json")
    assert (ran.code, ran.document["error"]["code"]) == (3, "review_not_yours")


def test_approval_is_given_first_and_used_later(waiting: Callable[[], str], cli: Cli) -> None:
    review = waiting()
    first = cli("approve", review, "--no-run")
    assert (first.code, "Not carried out yet" in first.out) == (0, True)
    assert "Approved, not carried out" in cli("inbox").out
    assert cli("approve", review).code == 0
    assert cli("approve", review, "--json").document["error"]["code"] == "review_answered"


def test_answers_name_the_effect_as_well_as_the_review(waiting: Callable[[], str], cli: Cli) -> None:
    waiting()
    effect = cli("inbox", "--json").document["reviews"][0]["effect"]["id"]
    assert cli("deny", effect[-12:], "--reason", "no").code == 0
    assert cli("timeline", effect).out.count("denied") == 1


def test_deny_needs_a_reason(waiting: Callable[[], str], cli: Cli) -> None:
    ran = cli("deny", waiting())
    assert ran.code == 2
    assert "reason" in ran.err


def test_timeline_tells_a_run_by_its_name_or_part_of_it(home: Path, cli: Cli) -> None:
    for run in ("r1", "nightly-build", "nightly-tests"):
        assert cli("do", "files.list", "--run", run).code == 0
    assert len(cli("timeline", "r1", "--json").document["moments"]) == 2
    assert len(cli("timeline", "nightly-b", "--json").document["moments"]) == 2
    assert cli("timeline", "nightly").code == 3


def test_timeline_shows_the_newest_entries(home: Path, cli: Cli) -> None:
    cli("do", "files.list")
    seqs = [moment["seq"] for moment in cli("timeline", "--limit", "2", "--json").document["moments"]]
    assert seqs == sorted(seqs)
    assert len(seqs) == 2
    assert cli("timeline", "--json").document["moments"][-1]["seq"] == seqs[-1]


@pytest.mark.parametrize("words", [("--limit", "0"), ("--limit", "1001"), ("--limit", "x"), ("--follow", "--json")])
def test_timeline_refuses_what_it_cannot_show(home: Path, cli: Cli, words: tuple[str, ...]) -> None:
    assert cli("timeline", *words).code == 2


def test_recover_has_nothing_to_do_when_nothing_is_unknown(home: Path, cli: Cli) -> None:
    ran = cli("recover")
    assert (ran.code, ran.out) == (0, "Nothing is unknown.\n")
    assert cli("recover", "--json").document == {"lost": [], "looked": [], "left": []}


@pytest.mark.parametrize("words", [(), ("--happened", "--did-not-happen")])
def test_attest_wants_one_word(home: Path, cli: Cli, words: tuple[str, ...]) -> None:
    ran = cli("attest", "abcd1234", *words, "--reason", "x")
    assert ran.code == 2
    assert "either --happened or --did-not-happen" in ran.err


def test_attest_settles_only_what_is_unknown(home: Path, cli: Cli) -> None:
    effect = cli("do", "files.list", "--json").document["effect"]["id"]
    ran = cli("attest", effect, "--happened", "--reason", "x", "--json")
    assert (ran.code, ran.document["error"]["code"]) == (3, "effect_settled")


def test_settings_are_found_above_and_by_variable_and_by_option(
    home: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(home / "policy")
    assert cli("do", "files.list").code == 0
    monkeypatch.chdir(tmp_path)
    assert cli("do", "files.list").code == 2
    assert cli("do", "files.list", "--folder", str(home)).code == 0
    assert cli("timeline", "--folder", str(home / "assent.toml")).code == 0
    monkeypatch.setenv("ASSENT_FOLDER", str(home))
    assert cli("do", "files.list").code == 0
