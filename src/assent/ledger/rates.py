"""Rates: how often an asker was let do an operation, and how much of its budgets is gone, as rules see it. Pure.

A count is a budget like another (`budgets`): each call that is dispatched where a rule reads a count holds one call in
it, in the very transaction that dispatches it. The limit of that hold is not a limit that somebody wrote down: it is
the highest count at which the decision would have been the same. So what was decided outside the transaction still
holds inside it, or the call is decided again. A count begins when a rule first reads it.

How much of its budgets is gone is no count of its own: the budgets are there. Where a rule reads it, the same
transaction looks whether each of them is still at or below its *ceiling*, the most at which the decision is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from assent.ledger.budgets import AMOUNT_MAX, TOTAL_MAX, Hold, Unit, Window
from assent.ledger.intents import Intent

MOVED = "rate_moved"
"""The code of a conflict: more was let through or used meanwhile than a decision holds for."""
PREFIX = "rate:"

COUNTS: Final[Mapping[str, Window]] = {
    "calls_in_run": Window.ALL,
    "calls_this_hour": Window.HOUR,
    "calls_today": Window.DAY,
}
"""The attributes of a call that are counts, and for how long each is counted. Hours and days are those of UTC."""


BUDGET_USED = "budget_used"
"""The attribute of a call that is the share of its fullest budget that is gone before it, in percent."""

COUNTED: Final = (*COUNTS, BUDGET_USED)
"""The attributes of a call that are looked up, and only where a rule reads them."""


class Count(NamedTuple):
    """What is counted in which budget, and for how long: whose calls of which operation (in which run), or a limit."""

    scope: str
    window: Window
    unit: Unit = Unit.CALLS

    def hold(self, most: int | None) -> Hold:
        """One more call, as long as there were at most `most` before (None: however many)."""
        limit = AMOUNT_MAX if most is None else most + 1
        return Hold(scope=self.scope, unit=Unit.CALLS, window=self.window, amount=1, limit=limit)


class Ceiling(NamedTuple):
    """What a decision rests on: that no more than `most` of a budget was gone before."""

    of: Count
    most: int


def percent(used: int, limit: int) -> int:
    """How much of a limit is gone, in whole percent, rounded down. It can be more than 100."""
    return used * 100 // limit if limit else 100


def ceiling(count: Count, limit: int, most: int, *, own: int = 0) -> Ceiling:
    """How much of a limit may be gone while that is at most `most` percent of it, beside what the call holds itself."""
    return Ceiling(count, own + ((most + 1) * limit - 1) // 100 if limit else TOTAL_MAX)


def count_of(intent: Intent, name: str) -> Count | None:
    """What the attribute `name` of a call counts; None where there is nothing to count: a call without a run."""
    window = COUNTS[name]
    whose = f"{intent.principal} {intent.operation}"
    if window is not Window.ALL:
        return Count(f"{PREFIX}{whose}", window)
    return Count(f"{PREFIX}{whose} {intent.run}", window) if intent.run else None


def is_rate(scope: str) -> bool:
    """Whether a budget is a count that rules read."""
    return scope.startswith(PREFIX)
