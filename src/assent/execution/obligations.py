"""What must hold while an allowed effect is carried out. Pure values; every layer below may only tighten them."""

from __future__ import annotations

import msgspec

from assent.execution.attestations import ConfinementClass, tightest
from assent.execution.orders import Limits, Order

Accepted = tuple[ConfinementClass, ...] | None


class Obligations(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The confinement floor, the hosts that may be reached (`host:port`), and the limits.

    `accept` names the classes that will do, the preferred one first; None: whatever meets the floor. Classes beside the
    ladder (`wasm`, `remote-asserted`) will do only when they are named here.
    """

    floor: ConfinementClass = ConfinementClass.NAMESPACED
    accept: Accepted = None
    hosts: tuple[str, ...] = ()
    limits: Limits = Limits()

    def tightened(self, other: Obligations) -> Obligations:
        """Both sets together: the stricter floor, hosts in both, the smaller of each limit."""
        return Obligations(
            floor=tightest(self.floor, other.floor),
            accept=both(self.accept, other.accept),
            hosts=tuple(h for h in self.hosts if h in other.hosts),
            limits=Limits(**{name: min(getattr(self.limits, name), getattr(other.limits, name)) for name in _LIMITS}),
        )


def both(one: Accepted, other: Accepted) -> Accepted:
    """What both accept, in the order of the first; None accepts whatever the other does."""
    if one is None or other is None:
        return other if one is None else one
    return tuple(name for name in one if name in other)


_LIMITS = tuple(Limits.__struct_fields__)


def breach(order: Order, obligations: Obligations) -> str:
    """Name the first obligation that `order` would break, or return an empty string."""
    for name in _LIMITS:
        if getattr(order.limits, name) > getattr(obligations.limits, name):
            return name
    if not set(getattr(order, "hosts", ())) <= set(obligations.hosts):
        return "hosts"
    return ""
