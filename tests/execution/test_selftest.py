"""The self-test of a node and the ladder of mechanisms: what is proved, what is kept, what refuses."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from assent.execution.adapters.sandboxes import attacks, selftest
from assent.execution.adapters.sandboxes.attest import judged
from assent.execution.adapters.sandboxes.selection import WAYS
from assent.execution.attestations import Attestation, ConfinementClass, Known, Property
from tests.execution.lane_world import DAEMON, processes_with

EVERY_ATTACK = {attack.__name__ for attack in attacks.ATTACKS} | {"shared_memory_bomb"}
# Nothing of the host stands in these attacks' way, so without a sandbox they must win: else the probe proves nothing.
WON_WHEN_BARE = {
    "read_canary", "write_canary", "follow_link", "write_where_only_landlock_forbids", "connect_tcp", "send_udp",
    "connect_abstract", "connect_path", "read_environment_of_victim", "signal_victim", "make_set_user_id_file",
}  # fmt: skip


def test_every_attack_speaks_about_a_property_when_it_is_listed():
    assert set(selftest.PROPERTY_OF) == EVERY_ATTACK


@pytest.mark.slow
def test_sandbox_holds_against_every_attack_when_the_node_is_tested(lane):
    report = lane.ask(do="selftest", fresh=True)
    assert {probe["name"] for probe in report["probes"]} == EVERY_ATTACK
    assert [probe for probe in report["probes"] if not probe["held"]] == []
    assert report["held"]


@pytest.mark.slow
def test_run_that_may_reach_hosts_is_attacked_on_its_own_when_the_node_is_tested(lane):
    report = lane.ask(do="selftest")
    assert {probe["name"] for probe in report["with_hosts"]} == {one.__name__ for one in attacks.ATTACKS_WITH_HOSTS}
    assert [probe for probe in report["with_hosts"] if not probe["held"]] == []
    assert report["verdict"]["syscall-program with hosts"]


def test_attestation_counts_only_the_attacks_on_its_own_kind_of_run():
    def attested(*more: str) -> Attestation:
        known = {"landlock": Known.CONFIGURED, "network": Known.OBSERVED} | dict.fromkeys(more, Known.OBSERVED)
        return Attestation(mechanism="x", properties={n: Property(value="v", known=k) for n, k in known.items()})

    def known(attestation: Attestation, verdict: dict[str, bool]) -> list[str]:
        found = judged(attestation, verdict).properties
        return [found[name].known.value for name in ("landlock", "network")]

    plain, with_hosts = attested(), attested("egress")
    assert known(plain, {"landlock": True}) == ["probed", "observed"]
    assert known(with_hosts, {"landlock": True}) == ["configured", "observed"]
    assert known(with_hosts, {"landlock": True, "landlock with hosts": True}) == ["probed", "observed"]
    assert known(with_hosts, {"landlock": False, "landlock with hosts": True}) == ["absent", "observed"]
    assert known(with_hosts, {"network with hosts": False}) == ["configured", "absent"]
    assert known(plain, {"network with hosts": False, "landlock with hosts": True}) == ["configured", "observed"]


@pytest.mark.slow
def test_what_was_probed_stands_in_later_attestations_when_the_self_test_held(lane, place):
    lane.ask(do="selftest")
    properties = lane.run(place.order("true"))["evidence"]["attestation"]["properties"]
    assert properties["landlock"]["known"] == "probed"
    assert properties["syscall-program"]["known"] == "probed"
    assert properties["files"]["known"] == "observed"


@pytest.mark.slow
def test_result_is_kept_when_nothing_it_depends_on_changed(mortal_lane):
    first = mortal_lane.ask(do="selftest")
    assert mortal_lane.ask(do="selftest") == first
    kept = mortal_lane.state_dir / "selftest-assent-namespaces.json"
    stale = json.loads(kept.read_text())
    stale["key"] = "sha256:" + "0" * 64
    kept.write_text(json.dumps(stale))
    mortal_lane.ask(do="forget")
    assert mortal_lane.ask(do="selftest")["taken_at_ms"] > first["taken_at_ms"]


@pytest.mark.slow
def test_lane_refuses_when_the_kept_result_says_a_wall_is_broken(mortal_lane, place):
    mortal_lane.ask(do="selftest", mechanism="namespaces")
    mortal_lane.ask(do="forget")
    kept = mortal_lane.state_dir / "selftest-assent-namespaces.json"
    report = json.loads(kept.read_text())
    next(probe for probe in report["probes"] if probe["name"] == "read_canary")["held"] = False
    kept.write_text(json.dumps(report))
    outcome = mortal_lane.run(place.order("touch", "ran"), mechanism="namespaces")
    assert outcome["code"] == "confinement_unmet"
    assert "files" in outcome["message"]
    assert not (place.workspace / "ran").exists()


@pytest.mark.slow
def test_attacks_win_when_nothing_is_confined(lane):
    report = lane.ask(do="selftest", mechanism="local-weak")
    if "error" in report:  # run by root, the attacker is nobody, to whom root's interpreter may be closed: it says so
        assert lane.user == "root"
        assert "could not attack" in report["message"]
        return
    won = {probe["name"] for probe in report["probes"] if not probe["held"]}
    assert won >= WON_WHEN_BARE
    held = {probe["name"] for probe in report["probes"] if probe["held"]}
    # What even the weak one promises. Its process limit counts the user's other tasks too, so it is not exact.
    assert {"memory_bomb", "shared_memory_bomb", "leave_daemon"} <= held
    assert not report["held"]


@pytest.mark.slow
def test_ladder_tells_what_works_and_why_not_when_it_is_tried(lane):
    trials = {one["name"]: one for one in lane.ask(do="mechanisms")}
    assert list(trials) == list(WAYS)
    assert trials["confined"]["confinement"] == ConfinementClass.CONFINED
    assert trials["namespaces"]["confinement"] == ConfinementClass.NAMESPACED
    assert trials["local-weak"]["confinement"] == ConfinementClass.LOCAL_WEAK
    if lane.user == "root":
        assert not trials["bubblewrap"]["works"]
        assert "root" in trials["bubblewrap"]["reason"]
    elif shutil.which("bwrap"):
        assert trials["bubblewrap"]["confinement"] == ConfinementClass.NAMESPACED
    else:
        assert "install bubblewrap" in trials["bubblewrap"]["reason"]


@pytest.mark.slow
def test_bubblewrap_gives_the_same_proof_or_an_honest_no_when_it_is_forced(lane, place):
    outcome = lane.run(place.order("sh", "-c", "id -u; touch made"), mechanism="bubblewrap")
    if lane.user == "root" or not shutil.which("bwrap"):
        assert (outcome["code"], outcome["ending"]) == ("sandbox_failed", "failed")
        assert "bubblewrap" in outcome["message"]
        assert not (place.workspace / "made").exists()
        return
    assert (outcome["code"], outcome["class"]) == ("ok", "namespaced")
    assert outcome["evidence"]["attestation"]["mechanism"] == "bubblewrap"
    report = lane.ask(do="selftest", mechanism="bubblewrap")
    assert [probe for probe in report["probes"] if not probe["held"]] == []


@pytest.mark.slow
def test_weak_mechanism_leaves_nothing_when_its_program_left_a_daemon(lane, place, marker):
    if lane.user == "root":
        place.own(60_001)
    for order, options in (
        (place.python(DAEMON, marker), {}),
        (place.python(DAEMON + "import time; time.sleep(600)", marker, limits={"wall_ms": 400}), {}),
        (place.python(DAEMON + "import time; time.sleep(600)", marker), {"on_output": "cancel"}),
    ):
        answer = lane.carry(order, mechanism="local-weak", floor="local-weak", **options)
        assert processes_with(marker) == []
        assert answer["cancelled"] == [bool(options)]
        assert answer["classes"][0] in (None, "local-weak")


@pytest.mark.slow
@pytest.mark.parametrize("mechanism", ["bubblewrap", "local-weak"])
def test_fallback_carries_many_when_they_come_at_once_and_again(lane, place, mechanism):
    if lane.user == "root":
        place.own(60_001)
    for _ in range(2):
        orders = [place.order("echo", str(n)) for n in range(8)]
        outcomes = lane.carry(*orders, mechanism=mechanism, floor="local-weak")["outcomes"]
        if mechanism == "bubblewrap" and (lane.user == "root" or not shutil.which("bwrap")):
            assert {one["code"] for one in outcomes} == {"sandbox_failed"}
        else:
            assert [one["value"]["stdout"] for one in outcomes] == [f"{n}\n" for n in range(8)]
    assert lane.ask(do="forget")["children"] == []


def test_weak_mechanism_is_refused_when_the_floor_is_higher(lane, place):
    if lane.user == "root":
        place.own(60_001)
    outcome = lane.run(place.order("touch", "ran"), mechanism="local-weak", floor="confined")
    assert outcome["code"] == "confinement_unmet"
    assert not (place.workspace / "ran").exists()


def test_weak_mechanism_never_runs_as_root_when_the_workspace_is_roots(lane, place):
    if lane.user == "root":
        outcome = lane.run(place.order("id", "-u"), mechanism="local-weak", floor="local-weak")
        assert (outcome["code"], outcome["ending"]) == ("sandbox_failed", "failed")
        place.own(60_001)
    outcome = lane.run(place.order("id", "-u"), mechanism="local-weak", floor="local-weak")
    assert outcome["value"]["stdout"].strip() == str(60_001 if lane.user == "root" else lane.uid)
    assert os.geteuid() != 0 or outcome["value"]["stdout"].strip() != "0"
