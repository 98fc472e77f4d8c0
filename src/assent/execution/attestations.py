"""What is known about the confinement of a run, and how it is known. Pure values and the rule that names a class.

A class is derived, never claimed: a run has every class whose required properties are all *observed* or *probed*, and
is called by the strongest of them. Properties that somebody else vouches for are *asserted* and never count for a class
but `remote-asserted`.

The classes up to `microvm` are a ladder: each meets the floors below it. `wasm` and `remote-asserted` stand beside it:
they meet no floor but their own name, so a policy must accept them in so many words. `builtin` is for lanes in which
nothing but Assent's own code runs (files, http): no foreign code, nothing to confine; it meets every floor.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Known(StrEnum):
    """How a property is known, strongest first."""

    OBSERVED = "observed"  # the supervisor read it for this run
    PROBED = "probed"  # a negative test from inside: by this node's self-test, or in this run before the program
    CONFIGURED = "configured"  # set, not tested
    ASSERTED = "asserted"  # somebody else says so
    ABSENT = "absent"  # not there


class ConfinementClass(StrEnum):
    """Labels for property vectors: the ladder, weakest first, then what stands beside it."""

    LOCAL_WEAK = "local-weak"  # P0: runs as you
    CONFINED = "confined"  # P1: held by Landlock and the filter, no namespaces
    NAMESPACED = "namespaced"  # P2: namespaces and a private root
    CONTAINER = "container"  # P2c: an OCI runtime's container, read back
    USER_KERNEL = "user-kernel"  # P3: a user-space kernel of its own (gVisor)
    MICROVM = "microvm"  # P4: a virtual machine that has booted
    WASM = "wasm"  # W: language isolation, inside a process of another class
    REMOTE_ASSERTED = "remote-asserted"  # R: another machine says so
    BUILTIN = "builtin"  # no foreign code runs; meets every floor


LADDER = (
    ConfinementClass.LOCAL_WEAK, ConfinementClass.CONFINED, ConfinementClass.NAMESPACED, ConfinementClass.CONTAINER,
    ConfinementClass.USER_KERNEL, ConfinementClass.MICROVM, ConfinementClass.BUILTIN,
)  # fmt: skip
_RANK = {name: rank for rank, name in enumerate(LADDER)}

CONFINED_NEEDS = frozenset(
    {"no-new-privileges", "syscall-filter", "files", "network", "other-processes", "limits", "environment", "user"}
)
NAMESPACED_NEEDS = CONFINED_NEEDS | frozenset(
    {"user-namespace", "process-namespace", "mount-namespace", "network-namespace", "ipc-namespace", "private-root",
     "capabilities", "tree-death"}
)  # fmt: skip
CONTAINER_NEEDS = NAMESPACED_NEEDS | frozenset({"runtime-state", "image"})
USER_KERNEL_NEEDS = frozenset({"sentry", "files", "network", "limits", "environment", "tree-death"})
MICROVM_NEEDS = frozenset({"guest-kernel", "guest-boot", "monitor", "files", "network", "limits", "tree-death"})
WASM_NEEDS = frozenset({"engine", "imports", "fuel", "engine-memory"})
NEEDS: dict[ConfinementClass, frozenset[str]] = {
    ConfinementClass.CONFINED: CONFINED_NEEDS,
    ConfinementClass.NAMESPACED: NAMESPACED_NEEDS,
    ConfinementClass.CONTAINER: CONTAINER_NEEDS,
    ConfinementClass.USER_KERNEL: USER_KERNEL_NEEDS,
    ConfinementClass.MICROVM: MICROVM_NEEDS,
    ConfinementClass.WASM: WASM_NEEDS,
}


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
    def held(self) -> tuple[ConfinementClass, ...]:
        """Every class whose properties were all observed or probed, in the order of the classes.

        Where everything is asserted, that is all that is held: `remote-asserted`.
        """
        if self.builtin:
            return (ConfinementClass.BUILTIN,)
        known = {name for name, p in self.properties.items() if p.known in (Known.OBSERVED, Known.PROBED)}
        if not known and any(p.known is Known.ASSERTED for p in self.properties.values()):
            return (ConfinementClass.REMOTE_ASSERTED,)
        return (ConfinementClass.LOCAL_WEAK, *(name for name, needs in NEEDS.items() if known >= needs))

    @property
    def confinement(self) -> ConfinementClass:
        """The class this is called by: the last of those that are held."""
        return self.held[-1]

    def meets(self, floor: ConfinementClass) -> bool:
        """Whether a run attested like this may carry an order whose floor is `floor`."""
        return any(meets(have, floor) for have in self.held)


def meets(have: ConfinementClass, floor: ConfinementClass) -> bool:
    """Whether `have` is `floor` or stands above it on the ladder; `builtin` meets everything."""
    if have in (floor, ConfinementClass.BUILTIN):
        return True
    return have in _RANK and floor in _RANK and _RANK[have] >= _RANK[floor]


def tightest(*floors: ConfinementClass) -> ConfinementClass:
    """The strictest of several floors.

    Raises:
        ValueError: one of them is not on the ladder: what stands beside it is neither weaker nor stronger.
    """
    return max(floors, key=LADDER.index)
