from __future__ import annotations

from pathlib import Path

import pytest

from tests.surfaces.commandline import Cli

BROKEN = """
@id("second")
permit (principal, action == Action::"raed", resource);
"""


@pytest.fixture
def extra(home: Path) -> Path:
    """A second policy file, read after the starter."""
    return home / "policy" / "zz.cedar"


def test_starter_policy_passes_its_check_and_its_tests(home: Path, cli: Cli) -> None:
    assert cli("policy", "check").code == 0
    ran = cli("policy", "test", "--json")
    assert ran.code == 0
    assert len(ran.document["cases"]) > 20


def test_check_names_file_and_line_of_a_fault(home: Path, extra: Path, cli: Cli) -> None:
    extra.write_text(BROKEN)
    ran = cli("policy", "check")
    assert ran.code == 1
    assert "zz.cedar:2: rule `second`" in ran.out
    faults = cli("policy", "check", "--json").document["faults"]
    assert {(fault["file"], fault["line"]) for fault in faults} == {("zz.cedar", 2)}


def test_activate_puts_nothing_in_force_when_the_check_fails(home: Path, extra: Path, cli: Cli) -> None:
    extra.write_text(BROKEN)
    assert cli("policy", "activate").code == 1
    assert cli("policy", "show", "--json").document["number"] == 1
    assert cli("do", "files.list").code == 0


def test_changed_files_are_noted_until_they_are_in_force(home: Path, extra: Path, cli: Cli) -> None:
    extra.write_text(
        '@id("quiet")\n@reason("not now")\nforbid (principal, action, resource == Operation::"files.list");\n'
    )
    ran = cli("do", "files.list", "--json")
    assert ran.code == 0
    assert "run `assent policy activate`" in ran.err
    assert cli("doctor", "--json").document["findings"]
    activated = cli("policy", "activate")
    assert (activated.code, activated.err) == (0, "")
    assert "revision 2 is in force" in activated.out
    ran = cli("do", "files.list")
    assert (ran.code, ran.err) == (3, "")
    assert "not now" in ran.out
    again = cli("policy", "activate", "--json").document
    assert (again["number"], again["changed"]) == (2, False)


def test_simulate_tells_what_each_rule_makes_of_a_call_and_records_nothing(home: Path, cli: Cli) -> None:
    size = len(cli("timeline", "--json").document["moments"])
    ran = cli("policy", "simulate", "files.delete", "--path", "notes.txt")
    assert ran.code == 4
    assert "review:" in ran.out
    assert "starter.cedar:" in ran.out
    assert "files-delete-reviewed" in ran.out
    assert cli("policy", "simulate", "files.read", "--path", "a", "--json").code == 0
    assert cli("policy", "simulate", "files.read", "--path", "/etc/passwd").code == 3
    assert cli("policy", "simulate", "files.read", "--paht", "a").code == 2
    assert cli("policy", "simulate", "files.read").code == 3
    assert len(cli("timeline", "--json").document["moments"]) == size


SIMULATED = (
    ((), "allow", ""),
    (("--seen", "third_party"), "deny", "nobody-elses-place"),
    (("--seen", "third_party", "--vouched", "path=user"), "allow", ""),
    (("--only", "files.write path=reports/*"), "review", "mandate-kept"),
    (("--only", "files.write path=notes.*"), "allow", ""),
    (("--only", "files.write path=reports/*", "--approved", "1"), "allow", ""),
    (("--only", "files.write path=reports/*", "--approver", "agent:other"), "review", "mandate-kept"),
    (("--as", "person:nobody"), "deny", ""),
    (("--as", "agent:helper", "--for", "agent:helper"), "deny", ""),
)


@pytest.mark.parametrize(("words", "verdict", "rule"), SIMULATED)
def test_simulate_decides_as_is_supposed(
    extra: Path, cli: Cli, words: tuple[str, ...], verdict: str, rule: str
) -> None:
    extra.write_text(
        '@id("nobody-elses-place")\nforbid (principal, action == Action::"write", resource)\n'
        "when { context.authority_integrity < 1 };\n"
    )
    ran = cli("policy", "simulate", "files.write", "--path", "notes.txt", "--content", "x", *words, "--json")
    decision = ran.document["decision"]
    assert decision["verdict"] == verdict, decision["reason"]
    assert not rule or rule in decision["rules"]


def test_simulate_says_what_people_would_be_asked(home: Path, extra: Path, cli: Cli) -> None:
    extra.write_text(
        '@id("two-look")\n@review("Write this?")\n@quorum("2")\n@by("lead")\n@apart("chain")\n'
        'forbid (principal, action, resource == Operation::"files.write")\n'
        "unless { context has approval && context.approval.intent == context.intent };\n"
    )
    ran = cli("policy", "simulate", "files.write", "--path", "a", "--content", "x")
    assert ran.code == 4
    assert "Write this?" in ran.out
    assert "2 people, 2 with the role lead, nobody in whose name it is asked" in ran.out


def test_simulate_takes_the_files_or_a_revision(home: Path, extra: Path, cli: Cli) -> None:
    call = ("policy", "simulate", "files.list", "--path", ".")
    extra.write_text('@id("quiet")\nforbid (principal, action, resource == Operation::"files.list");\n')
    first = cli("policy", "show", "--json").document["revision"]
    assert (cli(*call).code, cli(*call, "--revision", "active").code) == (3, 0)
    assert cli("policy", "activate").code == 0
    assert (cli(*call, "--revision", "active").code, cli(*call, "--revision", first).code) == (3, 0)
    assert cli(*call, "--revision", "sha256:0", "--json").document["error"]["code"] == "revision_not_found"


@pytest.mark.parametrize(
    "words",
    [("--seen", "me"), ("--vouched", "path"), ("--vouched", "pth=user"), ("--approved", "-1"), ("--approved", "100"),
     ("--approved", "1", "--approved", "2"), ("--only", "§"), ("--emergency", "now"), ("--wait",), ("--raw",)],
)  # fmt: skip
def test_simulate_refuses_what_it_cannot_read(home: Path, cli: Cli, words: tuple[str, ...]) -> None:
    assert cli("policy", "simulate", "files.list", *words).code == 2


def test_policy_test_fails_with_the_case_named(home: Path, cli: Cli) -> None:
    (home / "policy" / "own_tests.toml").write_text(
        '[[case]]\nname = "nobody reads"\nprincipal = "agent:helper"\noperation = "files.read"\n'
        'arguments = { path = "a" }\nexpect = "deny"\n'
    )
    ran = cli("policy", "test")
    assert ran.code == 1
    assert "own_tests.toml: nobody reads" in ran.out


@pytest.mark.parametrize("text", ["[[case", "x = 1", "[[case]]\nname = 3\n"])
def test_policy_test_says_what_is_wrong_with_a_test_file(home: Path, cli: Cli, text: str) -> None:
    (home / "policy" / "own_tests.toml").write_text(text)
    ran = cli("policy", "test", "--json")
    assert (ran.code, ran.document["error"]["code"]) == (2, "cases_invalid")


def test_policy_test_says_when_there_are_no_tests(home: Path, cli: Cli) -> None:
    (home / "policy" / "starter_tests.toml").unlink()
    assert cli("policy", "test", "--json").document["error"]["code"] == "tests_missing"


def test_policy_commands_say_when_there_are_no_files(home: Path, cli: Cli) -> None:
    (home / "policy" / "starter.cedar").unlink()
    for words in (("check",), ("test",), ("activate",), ("simulate", "files.list")):
        ran = cli("policy", *words, "--json")
        assert (ran.code, ran.document["error"]["code"]) == (2, "policy_missing")
    assert cli("do", "files.list").code == 0  # what is in force stays in force


@pytest.mark.parametrize("data", [b"\xff\xfe", b'@id("x") permit (', b"permit\x00;"])
def test_policy_check_tells_of_files_that_are_no_policy(home: Path, extra: Path, cli: Cli, data: bytes) -> None:
    extra.write_bytes(data)
    ran = cli("policy", "check")
    assert ran.code in (1, 2)
    assert "zz.cedar" in ran.out + ran.err


def test_show_says_when_nothing_is_in_force(home: Path, cli: Cli) -> None:
    for path in (home / ".assent").glob("assent.db*"):
        path.unlink()
    ran = cli("policy", "show", "--json")
    assert (ran.code, ran.document["error"]["code"]) == (3, "policy_missing")
    ran = cli("do", "files.list", "--json")
    assert (ran.code, ran.document["decision"]["code"]) == (3, "policy_missing")


@pytest.mark.slow
def test_backtest_and_coverage_tell_what_the_files_make_of_recorded_calls(home: Path, extra: Path, cli: Cli) -> None:
    assert cli("do", "files.list").code == 0
    extra.write_text('@id("quiet") forbid (principal, action, resource == Operation::"files.list");\n')
    document = cli("policy", "backtest", "--json").document
    (change,) = document["changes"]
    assert (document["calls"], change["before"], change["after"], change["calls"]) == (1, "allow", "deny", 1)
    assert change["operations"] == {"files.list": 1}
    assert "allow → deny" in cli("policy", "backtest").out
    first = cli("policy", "show", "--json").document["revision"]
    assert "would change none" in cli("policy", "backtest", "--revision", first).out
    assert cli("policy", "backtest", "--until", "1h", "--json").document["calls"] == 0
    assert cli("policy", "backtest", "--since", "1h", "--operation", "files", "--json").document["calls"] == 1
    covered = cli("policy", "coverage", "--json").document
    assert "quiet" not in covered["idle"]
    assert "zz.cedar:1" in cli("policy", "coverage").out


@pytest.mark.parametrize("since", ["soon", "2026-13-01", "7", "-7d"])
def test_moment_that_is_none_is_refused(home: Path, cli: Cli, since: str) -> None:
    ran = cli("policy", "backtest", f"--since={since}")
    assert ran.code == 2
    assert "is no moment" in ran.err


@pytest.mark.slow
def test_activate_shows_what_loosens_and_refuses_it_when_only_tighter_may_be(home: Path, extra: Path, cli: Cli) -> None:
    extra.write_text('@id("talk") permit (principal, action, resource == Operation::"jsonrpc.call");\n')
    compared = cli("policy", "compare")
    assert compared.code == 1
    assert "deny becomes" in compared.out
    refused = cli("policy", "activate", "--tighter")
    assert refused.code == 3
    assert "nothing was activated" in refused.err
    assert cli("policy", "show", "--json").document["number"] == 1
    activated = cli("policy", "activate")
    assert activated.code == 0
    assert "Looser on" in activated.out
    extra.write_text('@id("hush") forbid (principal, action, resource == Operation::"jsonrpc.call");\n')
    assert "Nothing looser was found" in cli("policy", "compare").out
    assert cli("policy", "activate", "--tighter").code == 0


@pytest.mark.slow
def test_matrix_is_written_checked_and_noted_when_it_is_stale(home: Path, extra: Path, cli: Cli) -> None:
    assert cli("policy", "matrix", "--check").code == 1
    assert not (home / "policy" / "MATRIX.md").exists()
    assert cli("policy", "matrix", "--json").document["written"] is True
    page = (home / "policy" / "MATRIX.md").read_text()
    assert "review `files-delete-reviewed`" in page
    assert cli("policy", "matrix", "--check").code == 0
    assert cli("policy", "activate").err == ""
    extra.write_text('@id("quiet")\nforbid (principal, action, resource == Operation::"files.list");\n')
    ran = cli("policy", "matrix", "--check")
    assert ran.code == 1
    assert "deny `quiet`" in ran.out
    assert (home / "policy" / "MATRIX.md").read_text() == page
    assert "run `assent policy matrix`" in cli("policy", "activate").err
    assert cli("policy", "matrix").code == cli("policy", "matrix", "--check").code == 0


def test_matrix_needs_a_policy_that_can_be_used(home: Path, extra: Path, cli: Cli) -> None:
    extra.write_text(BROKEN)
    ran = cli("policy", "matrix", "--json")
    assert (ran.code, ran.document["error"]["code"]) == (2, "policy_invalid")
