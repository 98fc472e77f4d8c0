"""Metering: what a call may use, said beforehand, and what it did use, read from how it ended. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple, Protocol, TypeGuard, runtime_checkable

from assent.execution.orders import Order
from assent.execution.outcomes import Ending, Outcome
from assent.ledger.budgets import AMOUNT_MAX, Hold, Unit
from assent.ledger.operations import Operation, Place
from assent.primitives.errors import Malformed


@runtime_checkable
class Meters(Protocol):
    """An operation whose calls use more than time: tokens, money. Pure.

    Every amount is a whole number by its unit (`assent.ledger.budgets.Unit`). Calls and time need not be said.
    """

    def estimate(self, arguments: dict[str, Any], place: Place) -> Mapping[str, int | None]:
        """The most that a call may use. A limit on a unit that is left out does not meet this operation; one that it
        uses, and nobody can say how much of (None), is refused wherever a limit on it holds.

        Raises:
            Malformed: these arguments cannot be estimated; the call is refused.
        """
        ...

    def usage(self, outcome: Outcome) -> Mapping[str, int]:
        """What the call used, as far as its outcome tells, however it ended. Of a unit that is left out the whole hold
        counts; zero says that nothing was sent."""
        ...


class Meter(NamedTuple):
    """Reads what a call used of the units it holds; without units there is nothing to read."""

    units: frozenset[Unit] = frozenset()
    usage: Callable[[Outcome], Mapping[str, int]] = lambda _: {}

    @property
    def nothing(self) -> dict[str, int] | None:
        """What a call used that surely never began."""
        return dict.fromkeys(sorted(self.units), 0) if self.units else None

    def read(self, outcome: Outcome) -> dict[str, int] | None:
        """What the call used, by unit; None when it holds nothing. A reading that breaks says nothing, and then the
        whole of what is held counts."""
        if not self.units:
            return None
        if outcome.evidence.lane == "none" and outcome.ending is Ending.FAILED:
            return self.nothing  # it was refused at the door: no lane ever had it
        told: dict[Unit, object] = {Unit.CALLS: 1, Unit.WALL_MS: max(0, _wall_ms(outcome))}
        return {
            unit.value: min(amount, AMOUNT_MAX)
            for unit, amount in sorted((told | self._told(outcome)).items())
            if unit in self.units and type(amount) is int and amount >= 0
        }

    def _told(self, outcome: Outcome) -> dict[Unit, object]:
        try:
            return {Unit(unit): amount for unit, amount in self.usage(outcome).items()}
        except Exception:  # noqa: BLE001 (an answer comes from anywhere; whatever it holds must not lose the receipt)
            return {}


NO_METER = Meter()


def meter_of(operation: Operation, holds: Iterable[Hold]) -> Meter:
    """What reads the use of a call of `operation` that holds so."""
    units = frozenset(hold.unit for hold in holds)
    if not units:
        return NO_METER
    return Meter(units, operation.usage) if _meters(operation) else Meter(units)


def estimate_of(operation: Operation, arguments: dict[str, Any], place: Place, order: Order) -> dict[str, int | None]:
    """The most that a call may use, by unit: itself, its wall limit, and what the operation says.

    Raises:
        Malformed: the operation cannot estimate these arguments, or estimates what is no amount.
    """
    said: Mapping[str, int | None] = operation.estimate(arguments, place) if _meters(operation) else {}
    if any(type(one) is not int or not 0 <= one <= AMOUNT_MAX for one in said.values() if one is not None):
        raise Malformed("budget_malformed", f"`{operation.contract.name}` estimates what is no amount")
    return {Unit.CALLS.value: 1, Unit.WALL_MS.value: order.limits.wall_ms, **said}


def units_of(operation: Operation, arguments: dict[str, Any], place: Place) -> frozenset[str]:
    """The units that a call may use anything of."""
    try:
        said = operation.estimate(arguments, place) if _meters(operation) else {}
    except Malformed:  # it will be refused for that where it is planned
        said = {}
    return frozenset((Unit.CALLS, Unit.WALL_MS, *said))


def _meters(operation: object) -> TypeGuard[Meters]:
    kind: type = type(operation)
    return _is_metered(kind)


@cache
def _is_metered(kind: type) -> bool:
    """Asked at every call, and slow to find out: each class of operations is looked at once."""
    return issubclass(kind, Meters)


def _wall_ms(outcome: Outcome) -> int:
    return outcome.evidence.ended_at_ms - outcome.evidence.started_at_ms
