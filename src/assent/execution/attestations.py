"""What is known about the confinement of a run, and how it is known. Pure values and the rule that names a class.

A class is derived, never claimed: it is the strongest one whose required properties are all *observed* or *probed*.
`builtin` is for lanes in which nothing but Assent's own code runs (files, http): no foreign code, nothing to confine.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Known(StrEnum):
    """How a property is known, strongest first."""

    OBSERVED = "observed"  # the supervisor read it for this run
    PROBED = "probed"  # a negative test from inside, by the self-test of this node
    CONFIGURED = "configured"  # set, not tested
    ASSERTED = "asserted"  # somebody else says so
    ABSENT = "absent"  # not there


class ConfinementClass(StrEnum):
    """Labels for property vectors, weakest first; `builtin` runs no foreign code and meets every floor."""

    LOCAL_WEAK = "local-weak"
    CONFINED = "confined"
    NAMESPACED = "namespaced"
    BUILTIN = "builtin"


_RANK = {name: rank for rank, name in enumerate(ConfinementClass)}

CONFINED_NEEDS = frozenset({"no-new-privileges", "syscall-filter", "files", "network", "limits", "environment", "user"})
NAMESPACED_NEEDS = CONFINED_NEEDS | frozenset(
    {"user-namespace", "process-namespace", "mount-namespace", "network-namespace", "ipc-namespace", "private-root",
     "capabilities", "tree-death"}
)  # fmt: skip


class Property(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One property: its value in words (`none`, `pid:[4026532444]`, `uid 61000`) and how it is known."""

    value: str
    known: Known


class Attestation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The property vector of one run, the mechanism that made it, and the class that follows."""

    mechanism: str
    properties: dict[str, Property] = {}
    builtin: bool = False

    @property
    def confinement(self) -> ConfinementClass:
        """The strongest class whose properties were all observed or probed."""
        if self.builtin:
            return ConfinementClass.BUILTIN
        held = {name for name, p in self.properties.items() if p.known in (Known.OBSERVED, Known.PROBED)}
        if held >= NAMESPACED_NEEDS:
            return ConfinementClass.NAMESPACED
        if held >= CONFINED_NEEDS:
            return ConfinementClass.CONFINED
        return ConfinementClass.LOCAL_WEAK


def meets(have: ConfinementClass, floor: ConfinementClass) -> bool:
    """Whether a target of class `have` may carry an order whose floor is `floor`."""
    return _RANK[have] >= _RANK[floor]


def tightest(*floors: ConfinementClass) -> ConfinementClass:
    """The strictest of several floors."""
    return max(floors, key=_RANK.__getitem__)
