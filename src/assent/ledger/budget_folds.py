"""What a log says about budgets, recomputed entry by entry: what the tables of budgets and holds must say. Pure.

It also finds what no table shows: an entry that held more than its limit left room for.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec

from assent.ledger.budgets import (
    Budget,
    Hold,
    Shortage,
    Standing,
    Unit,
    Window,
    dismissed,
    ended,
    shortage,
    spent_when_judged,
    spent_when_settled,
    standing,
    stopped,
    taken,
)
from assent.ledger.effects import EffectState
from assent.ledger.entries import Entry
from assent.primitives.ids import EffectId

Key: TypeAlias = tuple[str, Unit, Window, int]


class BudgetFold:
    """Folds a tenant's entries, in order, into budgets and, by effect, the holds that stand."""

    def __init__(self) -> None:
        self.budgets: dict[Key, Budget] = {}
        self.holds: dict[str, tuple[Standing, ...]] = {}

    def add(self, entry: Entry) -> str:
        """Take in one entry. Returns what is wrong with it, or an empty string."""
        body = entry.body
        if "holds" in body:
            return self._take(body["effect"], msgspec.convert(body["holds"], list[Hold]), entry.at)
        if "budget" in body:
            self._stop(body["effect"], msgspec.convert(body["budget"], Shortage))
        elif entry.type == "budget.dismissed":
            self._dismiss(body)
        elif body.get("effect") in self.holds and entry.type in ("effect.settled", "effect.judged"):
            self._end(entry)
        return ""

    def _take(self, effect: str, holds: list[Hold], at_ms: int) -> str:
        wrong = ""
        self.holds[effect] = tuple(standing(hold, at_ms) for hold in holds)
        for hold, stands in zip(holds, self.holds[effect], strict=True):
            key = _key(stands)
            budget = self._budget(key)
            if shortage(budget, hold) is not None:
                wrong = f"it holds more of `{hold.scope}` than its limit left room for"
            self.budgets[key] = taken(budget, hold)
        return wrong

    def _end(self, entry: Entry) -> None:
        if entry.body["state"] == EffectState.UNKNOWN:
            return
        for hold in self.holds.pop(entry.body["effect"]):
            key = _key(hold)
            self.budgets[key] = ended(self.budgets[key], amount=hold.amount, spent=_spent(entry, hold))

    def _stop(self, effect: str, why: Shortage) -> None:
        key = (why.scope, why.unit, why.window, why.since_ms)
        self.budgets[key] = stopped(self._budget(key), why, EffectId(effect))

    def _dismiss(self, body: dict[str, Any]) -> None:
        for key, budget in self.budgets.items():
            if budget.stopped == body["stopped"]:
                self.budgets[key] = dismissed(budget)

    def _budget(self, key: Key) -> Budget:
        scope, unit, window, since_ms = key
        return self.budgets.get(key) or Budget(scope=scope, unit=unit, window=window, since_ms=since_ms)


def _key(hold: Standing) -> Key:
    return hold.scope, hold.unit, hold.window, hold.since_ms


def _spent(entry: Entry, hold: Standing) -> int:
    """How much of a hold counts as spent by what an entry says."""
    body = entry.body
    if entry.type == "effect.judged":
        return spent_when_judged(amount=hold.amount, state=EffectState(body["state"]))
    used = body.get("used") or {}
    return spent_when_settled(amount=hold.amount, used=used.get(hold.unit), attempt=body["attempt"])
