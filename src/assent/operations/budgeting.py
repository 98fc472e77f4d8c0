"""Budgeting: which holds a call has to take, from the limits of this installation and what its asker brings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from assent.execution.orders import Order
from assent.ledger.budget_limits import Limit, by_scope, holds_for, joined, limits_on, scopes_of
from assent.ledger.budgets import Hold
from assent.ledger.metering import estimate_of, units_of
from assent.ledger.ports import Record
from assent.ledger.rates import Count
from assent.operations.asking import Asked
from assent.operations.wishes import OBSERVATION_KEYS


class Budgeting:
    """Turns calls into holds. The limits are those of the settings; nothing that is asked can leave one out."""

    def __init__(self, limits: Iterable[Limit] = ()) -> None:
        self._limits = by_scope(limits)

    def holds(self, asked: Asked, order: Order, brought: tuple[Hold, ...]) -> tuple[Hold, ...]:
        """What `asked` has to hold to be carried out as `order`, with what it brought.

        Raises:
            Malformed: its operation cannot estimate it, or it would hold too much at once.
        """
        if asked.operation is None or not self._limits:
            return brought
        estimate = estimate_of(asked.operation, asked.arguments, asked.place, order)
        return joined(holds_for(limits=self._limits, scopes=scopes_of(asked.intent), estimate=estimate), brought)

    def limits(self, asked: Asked, brought: Iterable[Hold]) -> dict[Count, int]:
        """The limits that `asked` falls under, by what counts against them: those of its scopes on what it may use, and
        those that it brought."""
        found: dict[Count, int] = {}
        if asked.operation is None:
            return found
        units = units_of(asked.operation, asked.arguments, asked.place)
        for scope in scopes_of(asked.intent):
            met = (one for one in limits_on(self._limits, scope) if one.unit in units)
            found |= {Count(scope, one.window, one.unit): one.amount for one in met}
        for one in brought:
            count = Count(one.scope, one.window, one.unit)
            found[count] = min(one.limit, found.get(count, one.limit))
        return found


def is_look(key: str) -> bool:
    """Whether a call with this key is the reconciler's look, which holds nothing."""
    return key.startswith(OBSERVATION_KEYS)


def brought_by(history: Sequence[Record]) -> tuple[Hold, ...]:
    """What the asker of a call that waited for a review brought."""
    return _read(history[:1], "brought")


def held_by(history: Sequence[Record]) -> tuple[Hold, ...]:
    """What was held when an effect was dispatched."""
    return _read(history, "holds")


def _read(records: Sequence[Record], name: str) -> tuple[Hold, ...]:
    return tuple(msgspec.convert(one, Hold) for record in records for one in record.body.get(name, ()))
