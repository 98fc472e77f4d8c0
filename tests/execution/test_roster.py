"""Which mechanism an order gets: the cheapest whose class meets its floor, or none and why."""

from __future__ import annotations

import pytest

from assent.execution.adapters.sandboxes import remedies, selection
from assent.execution.attestations import ConfinementClass
from tests.components import need
from tests.execution.lane_world import eventually, processes_with

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("floor", "mechanism"),
    [("local-weak", "assent-namespaces"), ("confined", "assent-namespaces"), ("namespaced", "assent-namespaces"),
     ("container", "container")],
)  # fmt: skip
def test_order_gets_the_cheapest_mechanism_when_its_floor_is(lane, place, floor, mechanism):
    need("runc")
    if lane.user == "root":
        place.own(60_001)
    outcome = lane.run(place.order("echo", "x"), floor=floor)
    assert (outcome["code"], outcome["evidence"]["attestation"]["mechanism"]) == ("ok", mechanism)


@pytest.mark.parametrize("floor", ["builtin", "wasm", "remote-asserted"])
def test_nothing_starts_when_no_mechanism_meets_the_floor(lane, place, floor):
    outcome = lane.run(place.order("touch", "ran"), floor=floor)
    assert (outcome["code"], outcome["ending"]) == ("confinement_unmet", "failed")
    assert f"`{floor}`" in outcome["message"]
    assert outcome["evidence"]["attestation"]["mechanism"] == "none"
    assert not (place.workspace / "ran").exists()


def test_reason_is_told_when_the_one_way_to_a_floor_is_not_there(lane, place):
    outcome = lane.run(place.order("touch", "ran"), floor="user-kernel", mechanism="user-kernel")
    assert (outcome["code"], outcome["ending"]) == ("sandbox_failed", "failed")
    assert "`runsc`" in outcome["message"]
    assert not (place.workspace / "ran").exists()


def test_failure_is_not_carried_elsewhere_when_the_chosen_mechanism_breaks(mortal_lane, place):
    order = place.order("sh", "-c", "echo up; sleep 5")
    answer = mortal_lane.carry(order, on_output="kill_spawner")
    assert answer["outcomes"][0]["code"] == "spawner_lost"
    assert answer["outcomes"][0]["evidence"]["attestation"]["mechanism"] == "assent-namespaces"
    assert eventually(lambda: processes_with("echo up") == [])


def test_every_way_says_what_it_reaches_when_it_is_listed():
    reached = [way.reaches for way in selection.WAYS.values()]
    assert reached[-1] is ConfinementClass.LOCAL_WEAK
    assert set(reached) >= {ConfinementClass.CONFINED, ConfinementClass.NAMESPACED, ConfinementClass.CONTAINER,
                            ConfinementClass.USER_KERNEL}  # fmt: skip


@pytest.mark.parametrize("sign", remedies.SIGNS, ids=lambda sign: sign.path.rpartition("/")[2])
def test_setting_is_named_with_its_remedy_when_it_forbids_namespaces(tmp_path, sign):
    place = tmp_path / sign.path.lstrip("/")
    place.parent.mkdir(parents=True)
    place.write_text(f"{sign.value}\n")
    reason, fix = remedies.explained("namespaces", "clone: Operation not permitted", "", root=tmp_path)
    assert sign.reason in reason
    assert fix == sign.fix
    assert remedies.explained("confined", "x", "y", root=tmp_path) == ("x", "y")
    place.write_text("7\n")
    assert remedies.explained("namespaces", "x", "", root=tmp_path) == ("x", "")


def test_container_around_is_named_when_namespaces_fail_in_one(tmp_path):
    (tmp_path / ".dockerenv").touch()
    reason, fix = remedies.explained("namespaces", "clone: Operation not permitted", "", root=tmp_path)
    assert "this is a container" in reason
    assert "`confined`" in fix
