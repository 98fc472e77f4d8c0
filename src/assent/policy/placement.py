"""Placement: which of the targets an allowed order runs on. Pure.

Policy says which classes will do, in order. For each class in turn the targets are looked at, and the first that holds
it is taken; every rung that was passed over is kept with its reason. The choice is made once, before anything is
dispatched: what fails there afterwards is never tried again on a weaker rung.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from assent.execution.attestations import LADDER, ConfinementClass, meets
from assent.execution.obligations import Obligations
from assent.execution.targets import LOCAL, Descriptor
from assent.ledger.decisions import Placement, Rung


def place(
    obligations: Obligations, *, asked: str, targets: Iterable[Descriptor], now_ms: int
) -> tuple[Placement | None, tuple[Rung, ...]]:
    """The placement under `obligations`, or None; and the rungs that were considered.

    `asked` names the one target that will do; empty: any of them, this machine first, then whichever has least to do.
    """
    rungs: list[Rung] = []
    known = sorted(targets, key=lambda one: (one.name != LOCAL, one.load, one.name))
    if asked:
        known = [one for one in known if one.name == asked] or [
            Descriptor(name=asked, kind="guest", reason="no such target is declared")
        ]
    for floor in _floors(obligations):
        for target in known:
            reason = _against(target, floor, now_ms)
            rungs.append(Rung(target=target.name, confinement=floor, taken=not reason, reason=reason))
            if not reason:
                return Placement(target=target.name, floor=floor, rungs=tuple(rungs)), tuple(rungs)
    return None, tuple(rungs)


def _floors(obligations: Obligations) -> Iterator[ConfinementClass]:
    """The classes to look for, in order: those that are accepted, but for those below the floor."""
    if obligations.accept is None:
        yield obligations.floor
        return
    for name in obligations.accept:
        if name not in LADDER or meets(name, obligations.floor):
            yield name


def _against(target: Descriptor, floor: ConfinementClass, now_ms: int) -> str:
    """What stands against `floor` on `target`, or an empty string."""
    if target.reason:
        return target.reason
    if now_ms >= target.expires_at_ms:
        return "what was found out about it is too old"
    if any(meets(have, floor) for have in target.held):
        return ""
    return f"it holds {', '.join(target.held) or 'no class'}"
