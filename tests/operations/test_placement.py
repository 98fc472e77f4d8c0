"""Placement holds for any targets and any obligations: never below the floor, in the order that is preferred."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from assent.execution.attestations import (
    LADDER,
    NEEDS,
    Attestation,
    ConfinementClass,
    Known,
    Property,
    meets,
)
from assent.execution.obligations import Obligations
from assent.execution.targets import LOCAL, Descriptor, Offer
from assent.policy.placement import place

NOW_MS = 1_000


def attested(name: ConfinementClass) -> Attestation:
    """An attestation that is called `name`."""
    if name is ConfinementClass.BUILTIN:
        return Attestation(mechanism="m", builtin=True)
    if name is ConfinementClass.REMOTE_ASSERTED:
        return Attestation(mechanism="m", properties={"host": Property(value="x", known=Known.ASSERTED)})
    needs = NEEDS.get(name, frozenset({"user"}))
    return Attestation(mechanism="m", properties={one: Property(value="x", known=Known.OBSERVED) for one in needs})


classes = st.sampled_from([name for name in ConfinementClass if name is not ConfinementClass.BUILTIN])
descriptors = st.builds(
    Descriptor,
    name=st.sampled_from([LOCAL, "a", "b", "c"]),
    kind=st.just("guest"),
    offers=st.lists(
        st.builds(lambda c: Offer(mechanism="m", works=True, attestation=attested(c)), classes), max_size=2
    ).map(tuple),
    expires_at_ms=st.sampled_from([NOW_MS - 1, NOW_MS, NOW_MS + 1]),
    load=st.integers(0, 3),
    reason=st.sampled_from(["", "", "it is not there"]),
)
targets = st.lists(descriptors, max_size=4, unique_by=lambda one: one.name)
obligations = st.builds(
    Obligations,
    floor=st.sampled_from(LADDER[:-1]),
    accept=st.none() | st.lists(classes, max_size=4, unique=True).map(tuple),
)
asked = st.sampled_from(["", "", LOCAL, "a", "nobody"])


def placed(obligations, asked, targets):
    return place(obligations, asked=asked, targets=targets, now_ms=NOW_MS)


@given(obligations, asked, targets)
def test_nothing_is_placed_below_the_floor_or_on_a_class_that_is_not_accepted(obligations, asked, targets):
    placement, _ = placed(obligations, asked, targets)
    if placement is None:
        return
    (chosen,) = [one for one in targets if one.name == placement.target]
    assert any(meets(have, placement.floor) for have in chosen.held)
    if obligations.accept is None:
        assert placement.floor is obligations.floor
    else:
        assert placement.floor in obligations.accept
    if placement.floor in LADDER:
        assert meets(placement.floor, obligations.floor)


@given(obligations, asked, targets)
def test_what_is_stale_or_failed_or_not_asked_for_is_never_chosen(obligations, asked, targets):
    placement, _ = placed(obligations, asked, targets)
    if placement is not None:
        (chosen,) = [one for one in targets if one.name == placement.target]
        assert not chosen.reason
        assert chosen.expires_at_ms > NOW_MS
        assert asked in ("", chosen.name)


@given(obligations, asked, targets)
def test_every_rung_is_kept_with_its_reason_and_the_last_is_the_one_taken(obligations, asked, targets):
    placement, rungs = placed(obligations, asked, targets)
    assert [rung.taken for rung in rungs] == [False] * (len(rungs) - 1) + [placement is not None] * bool(rungs)
    assert all(rung.taken != bool(rung.reason) for rung in rungs)
    if placement is not None:
        assert placement.rungs == rungs
        assert (rungs[-1].target, rungs[-1].confinement) == (placement.target, placement.floor)


@given(obligations, targets)
def test_the_preferred_class_wins_over_the_nearer_target(obligations, targets):
    placement, rungs = placed(obligations, "", targets)
    order = [obligations.floor] if obligations.accept is None else list(obligations.accept)
    seen = [order.index(rung.confinement) for rung in rungs]
    assert seen == sorted(seen), "a class is left only when no target holds it"
    if placement is not None:
        for better in order[: order.index(placement.floor)]:
            usable = [one for one in targets if not one.reason and one.expires_at_ms > NOW_MS]
            allowed = better not in LADDER or meets(better, obligations.floor)
            assert not allowed or not any(meets(have, better) for one in usable for have in one.held)


@given(obligations, asked, targets)
def test_choice_does_not_depend_on_the_order_in_which_targets_are_given(obligations, asked, targets):
    assert placed(obligations, asked, targets) == placed(obligations, asked, targets[::-1])


@given(obligations, targets)
def test_of_equal_targets_this_machine_is_taken_and_then_the_idle_one(obligations, targets):
    placement, _ = placed(obligations, "", targets)
    if placement is None:
        return
    (chosen,) = [one for one in targets if one.name == placement.target]
    for other in targets:
        usable = not other.reason and other.expires_at_ms > NOW_MS
        if other is not chosen and usable and any(meets(have, placement.floor) for have in other.held):
            assert chosen.name == LOCAL or (other.name != LOCAL and other.load >= chosen.load)


def test_target_that_is_not_declared_is_a_rung_with_a_reason():
    placement, rungs = placed(Obligations(), "nobody", [])
    assert placement is None
    assert [(rung.target, rung.reason) for rung in rungs] == [("nobody", "no such target is declared")]
