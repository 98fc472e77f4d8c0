"""Placement: the first accepted class that some verified target holds, and a reason for every rung before it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from assent.execution.attestations import LADDER, NEEDS, Attestation, ConfinementClass, Known, Property, meets
from assent.execution.obligations import Obligations
from assent.execution.targets import LOCAL, Descriptor, Offer
from assent.policy.placement import place

NOW_MS = 1_000
CLASSES = [name for name in ConfinementClass if name is not ConfinementClass.BUILTIN]


def attested(name: ConfinementClass) -> Attestation:
    """An attestation of which exactly the needs of `name` were seen."""
    known = Known.ASSERTED if name is ConfinementClass.REMOTE_ASSERTED else Known.OBSERVED
    needs = NEEDS.get(name, frozenset({"limits"}))
    return Attestation(mechanism="x", properties={need: Property(value="x", known=known) for need in needs})


def target(name: str, *classes: ConfinementClass, load: int = 0, reason: str = "", expires_at_ms: int = NOW_MS + 1):
    offers = tuple(Offer(mechanism=one.value, works=True, attestation=attested(one)) for one in classes)
    return Descriptor(
        name=name, kind="local" if name == LOCAL else "guest", offers=offers, verified_at_ms=0,
        expires_at_ms=expires_at_ms, load=load, reason=reason,
    )  # fmt: skip


def test_preferred_class_wins_over_the_nearer_target():
    wanted = Obligations(
        floor=ConfinementClass.LOCAL_WEAK, accept=(ConfinementClass.MICROVM, ConfinementClass.NAMESPACED)
    )
    targets = [target(LOCAL, ConfinementClass.NAMESPACED), target("vm", ConfinementClass.MICROVM)]
    placement, rungs = place(wanted, asked="", targets=targets, now_ms=NOW_MS)
    assert placement is not None
    assert (placement.target, placement.floor) == ("vm", ConfinementClass.MICROVM)
    assert [(rung.target, rung.taken) for rung in rungs] == [(LOCAL, False), ("vm", True)]
    assert "namespaced" in rungs[0].reason


def test_this_machine_comes_first_and_then_the_idle_one():
    busy, idle = target("busy", ConfinementClass.NAMESPACED, load=5), target("idle", ConfinementClass.NAMESPACED)
    here = target(LOCAL, ConfinementClass.NAMESPACED, load=9)
    wanted = Obligations(accept=(ConfinementClass.NAMESPACED,))
    assert [place(wanted, asked="", targets=some, now_ms=NOW_MS)[1][-1].target for some in (
        [busy, idle, here], [busy, idle]
    )] == [LOCAL, "idle"]  # fmt: skip


def test_asked_target_is_the_only_one_that_will_do():
    wanted = Obligations(floor=ConfinementClass.LOCAL_WEAK, accept=(ConfinementClass.NAMESPACED,))
    targets = [target(LOCAL, ConfinementClass.NAMESPACED), target("far", ConfinementClass.REMOTE_ASSERTED)]
    for asked in ("far", "nowhere"):
        placement, rungs = place(wanted, asked=asked, targets=targets, now_ms=NOW_MS)
        assert placement is None
        assert [rung.target for rung in rungs] == [asked]


def test_target_is_passed_over_when_it_failed_or_went_stale():
    wanted = Obligations(accept=(ConfinementClass.NAMESPACED,))
    targets = [
        target("failed", ConfinementClass.NAMESPACED, reason="no answer"),
        target("stale", ConfinementClass.NAMESPACED, expires_at_ms=NOW_MS),
    ]
    placement, rungs = place(wanted, asked="", targets=targets, now_ms=NOW_MS)
    assert placement is None
    assert {rung.target: rung.reason for rung in rungs} == {
        "failed": "no answer", "stale": "what was found out about it is too old"
    }  # fmt: skip


TARGETS = st.lists(
    st.builds(
        target, st.sampled_from([LOCAL, "a", "b", "c"]), st.sampled_from(CLASSES), load=st.integers(0, 9),
        reason=st.sampled_from(["", "", "no answer"]), expires_at_ms=st.sampled_from([NOW_MS, NOW_MS + 1]),
    ),
    unique_by=lambda one: one.name,
)  # fmt: skip


@given(
    floor=st.sampled_from(LADDER[:-1]),
    accept=st.none() | st.lists(st.sampled_from(CLASSES), unique=True).map(tuple),
    asked=st.sampled_from(["", LOCAL, "a", "z"]),
    targets=TARGETS,
)
def test_placement_never_goes_below_the_floor_nor_to_what_nobody_accepted(floor, accept, asked, targets):
    placement, rungs = place(Obligations(floor=floor, accept=accept), asked=asked, targets=targets, now_ms=NOW_MS)
    assert all(rung.reason for rung in rungs if not rung.taken)
    assert [rung.taken for rung in rungs] == [False] * (len(rungs) - 1) + [placement is not None] * bool(rungs)
    if placement is None:
        return
    (chosen,) = [one for one in targets if one.name == placement.target]
    assert not chosen.reason
    assert chosen.expires_at_ms > NOW_MS
    assert not asked or chosen.name == asked
    assert placement.floor == floor if accept is None else placement.floor in accept
    assert placement.floor not in LADDER or meets(placement.floor, floor)
    assert any(meets(have, placement.floor) for have in chosen.held)
