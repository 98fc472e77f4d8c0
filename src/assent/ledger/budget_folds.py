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
    Unit,
    Window,
    dismissed,
    ended,
    shortage,
    spent_when_judged,
    spent_when_settled,
    stopped,
    taken,
    window_start_ms,
)
from assent.ledger.effects import EffectState
from assent.ledger.entries import Entry
from assent.primitives.ids import EffectId

Key: TypeAlias = tuple[str, Unit, Window, int]
_HoldKey: TypeAlias = tuple[str, str, Unit, Window]


class FoldedHold(msgspec.Struct, frozen=True, kw_only=True):
    """What the entries read so far say about one hold that stands; the same fields as its row."""

    since_ms: int
    amount: int


class BudgetFold:
    """Folds a tenant's entries, in order, into budgets and the holds that stand."""

    def __init__(self) -> None:
        self.budgets: dict[Key, Budget] = {}
        self.holds: dict[_HoldKey, FoldedHold] = {}
        self._of: dict[str, list[_HoldKey]] = {}

    def add(self, entry: Entry) -> str:
        """Take in one entry. Returns what is wrong with it, or an empty string."""
        body = entry.body
        if "holds" in body:
            return self._take(body["effect"], msgspec.convert(body["holds"], list[Hold]), entry.at)
        if "budget" in body:
            self._stop(body["effect"], msgspec.convert(body["budget"], Shortage))
        elif entry.type == "budget.dismissed":
            self._dismiss(body)
        elif body.get("effect") in self._of and entry.type in ("effect.settled", "effect.judged"):
            self._end(entry)
        return ""

    def _take(self, effect: str, holds: list[Hold], at_ms: int) -> str:
        wrong = ""
        for hold in holds:
            key = (hold.scope, hold.unit, hold.window, window_start_ms(hold.window, at_ms))
            budget = self._budget(key)
            if shortage(budget, hold) is not None:
                wrong = f"it holds more of `{hold.scope}` than its limit left room for"
            self.budgets[key] = taken(budget, hold)
            held = (effect, hold.scope, hold.unit, hold.window)
            self.holds[held] = FoldedHold(since_ms=key[3], amount=hold.amount)
            self._of.setdefault(effect, []).append(held)
        return wrong

    def _end(self, entry: Entry) -> None:
        effect = entry.body["effect"]
        standing = []
        for held in self._of.pop(effect):
            hold = self.holds[held]
            spent = _spent(entry, held[2], hold.amount)
            if spent is None:
                standing.append(held)
                continue
            key = (held[1], held[2], held[3], hold.since_ms)
            self.budgets[key] = ended(self.budgets[key], amount=hold.amount, spent=spent)
            del self.holds[held]
        if standing:
            self._of[effect] = standing

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


def _spent(entry: Entry, unit: Unit, amount: int) -> int | None:
    """How much of a hold of `amount` counts as spent by what an entry says."""
    body, state = entry.body, EffectState(entry.body["state"])
    if entry.type == "effect.judged":
        return spent_when_judged(amount=amount, state=state)
    used = body.get("used") or {}
    return spent_when_settled(amount=amount, used=used.get(unit), attempt=body["attempt"], state=state)
