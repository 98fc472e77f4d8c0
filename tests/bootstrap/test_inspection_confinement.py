"""What the doctor says of confinement, for machines that can be made up and for this one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from assent.bootstrap.inspection_confinement import _class, confinement
from assent.bootstrap.system import SystemClock
from assent.execution.adapters.sandboxes.selection import WAYS
from assent.execution.attestations import NEEDS, Attestation, ConfinementClass, Known, Property
from assent.execution.targets import Offer
from assent.operations.health import Grade


def holding(mechanism: str, name: ConfinementClass) -> Offer:
    properties = {one: Property(value="x", known=Known.OBSERVED) for one in NEEDS[name]}
    return Offer(mechanism=mechanism, works=True, attestation=Attestation(mechanism=mechanism, properties=properties))


def failing(mechanism: str) -> Offer:
    return Offer(mechanism=mechanism, works=False, reason=f"why {mechanism} fails", fix=f"mend {mechanism}")


def test_class_is_in_order_when_something_holds_it():
    offers = [holding("namespaces", ConfinementClass.NAMESPACED), failing("bubblewrap")]
    found = _class(ConfinementClass.NAMESPACED, offers)
    assert (found.grade, found.says, found.fix) == (Grade.OK, "held by namespaces", "")
    assert found.facts == {"class": "namespaced", "held": "yes", "namespaces": "holds it",
                           "bubblewrap": "why bubblewrap fails"}  # fmt: skip


def test_class_that_is_missed_is_a_warning_with_each_reason_and_a_fix():
    offers = [failing("namespaces"), holding("confined", ConfinementClass.CONFINED), failing("bubblewrap")]
    found = _class(ConfinementClass.NAMESPACED, offers)
    assert found.grade is Grade.WARN
    assert "namespaces: why namespaces fails; bubblewrap: why bubblewrap fails" in found.says
    assert found.fix == "mend namespaces"
    assert _class(ConfinementClass.CONFINED, offers).grade is Grade.OK


def test_class_that_nothing_needs_is_no_warning_when_it_is_not_there():
    found = _class(ConfinementClass.MICROVM, [holding("namespaces", ConfinementClass.NAMESPACED), failing("microvm")])
    assert (found.grade, found.fix, found.facts["held"]) == (Grade.OK, "mend microvm", "no")
    assert "only where a rule asks for it" in found.says


def test_mechanism_that_works_and_holds_less_says_so():
    found = _class(ConfinementClass.CONTAINER, [holding("container", ConfinementClass.NAMESPACED)])
    assert "works, and is only `namespaced` here, not `container`" in found.says


@pytest.mark.slow
def test_every_class_is_told_once_when_this_machine_is_looked_at(tmp_path: Path):
    async def look():
        return [one async for one in confinement(tmp_path, clock=SystemClock(), fresh=False)]

    found = {one.name: one for one in asyncio.run(look())}
    classes = {one.facts["class"] for one in found.values() if "class" in one.facts}
    assert classes == {"local-weak", "confined", "namespaced", "container", "user-kernel", "microvm"}
    told = {name for one in found.values() if "class" in one.facts for name in one.facts if name in WAYS}
    assert told == set(WAYS)
    assert found["namespaced"].facts["held"] == "yes"
    assert found["self-test"].grade is Grade.OK
    assert found["microvm"].facts["held"] == "no"  # a guest is not booted for a look
    assert found["microvm"].fix
