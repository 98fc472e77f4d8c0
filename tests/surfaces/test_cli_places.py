"""Lanes, targets and run-in, on a real node: what they show is what was found, and what is named is where it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.surfaces.commandline import Cli


@pytest.mark.slow
def test_lanes_shows_what_each_carries_and_can_be_told(home: Path, cli: Cli):
    ran = cli("lanes", "--json")
    assert ran.code == 0
    lanes = ran.document["targets"]["local"]
    assert {"process", "http", "file"} <= lanes.keys()
    assert lanes["process"]["streams"]
    told = cli("lanes").out
    assert all(name in told for name in lanes)


@pytest.mark.slow
def test_targets_shows_every_mechanism_with_its_properties_or_why_not(home: Path, cli: Cli):
    (local,) = [one for one in cli("targets", "--json").document["targets"] if one["name"] == "local"]
    assert local["held"]
    for offer in local["offers"]:
        assert offer["works"] == (offer["attestation"] is not None)
        assert offer["works"] or offer["reason"]
    working = [offer for offer in local["offers"] if offer["works"]]
    assert all(
        one["known"] and one["value"] for offer in working for one in offer["attestation"]["properties"].values()
    )
    told = cli("targets").out
    assert all(name in told for name in local["held"])


@pytest.mark.slow
def test_run_in_runs_there_and_shows_its_output(home: Path, cli: Cli):
    ran = cli("run-in", "local", "--", "python3", "-c", "print(6 * 7)")
    assert (ran.code, ran.out.splitlines()[0]) == (0, "42")
    assert "namespaced" in ran.out


@pytest.mark.slow
def test_run_in_ends_with_the_code_of_what_became_of_it(home: Path, cli: Cli):
    assert cli("run-in", "local", "--", "false").code == 1
    refused = cli("run-in", "local", "--cwd", "../..", "--json", "--", "true")
    assert refused.code == 3


@pytest.mark.slow
def test_run_in_runs_nowhere_else_when_the_target_is_not_there(home: Path, cli: Cli):
    ran = cli("run-in", "nowhere", "--json", "--", "touch", "made")
    assert ran.code == 3
    assert ran.document["effect"]["code"] == "target_unavailable"
    assert "`nowhere`" in ran.document["decision"]["reason"]
    assert ran.document["outcome"] is None


@pytest.mark.parametrize("words", [("run-in",), ("run-in", "local"), ("run-in", "local", "--")])
def test_run_in_says_what_is_missing(home: Path, cli: Cli, words: tuple[str, ...]):
    ran = cli(*words)
    assert ran.code in (2, 3)
    assert ran.err or ran.out


@pytest.mark.slow
def test_doctor_says_of_every_declared_target_what_it_holds_or_why_not(home: Path, cli: Cli):
    with (home / "assent.toml").open("a") as settings:
        settings.write('\n[targets.lab]\nkind = "guest"\n')
    found = {one["name"]: one for one in cli("doctor", "--json").document["findings"]}
    assert found["lab"]["grade"] == "warn"
    assert "nobody has joined" in found["lab"]["says"]
    assert found["lab"]["fix"]
    assert "local" not in found
