"""Rates: how often an asker was let do an operation, as rules see it. Pure.

A count is a budget like another (`budgets`): each call that is dispatched where a rule reads a count holds one call in
it, in the very transaction that dispatches it. The limit of that hold is not a limit that somebody wrote down: it is
the highest count at which the decision would have been the same. So what was decided outside the transaction still
holds inside it, or the call is decided again. A count begins when a rule first reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from assent.ledger.budgets import AMOUNT_MAX, Hold, Unit, Window
from assent.ledger.intents import Intent

MOVED = "rate_moved"
"""The code of a conflict: more calls were let through meanwhile than a decision holds for."""
PREFIX = "rate:"

COUNTS: Final[Mapping[str, Window]] = {
    "calls_in_run": Window.ALL,
    "calls_this_hour": Window.HOUR,
    "calls_today": Window.DAY,
}
"""The attributes of a call that are counts, and for how long each is counted. Hours and days are those of UTC."""


class Count(NamedTuple):
    """What is counted: whose calls of which operation (in which run), and for how long."""

    scope: str
    window: Window

    def hold(self, most: int | None) -> Hold:
        """One more call, as long as there were at most `most` before (None: however many)."""
        limit = AMOUNT_MAX if most is None else most + 1
        return Hold(scope=self.scope, unit=Unit.CALLS, window=self.window, amount=1, limit=limit)


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
