"""What budgets mean, in dictionaries: a part of the reference that every store is compared with (`ledger_model`).

It counts on its own: nothing of `assent.ledger.budgets` but its names is used.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeAlias

from assent.ledger.budgets import Budget, Hold, Shortage, Unit, Window
from assent.ledger.commands import Settle
from assent.ledger.effects import EffectState
from assent.ledger.rates import Ceiling
from assent.primitives.clock import Clock
from assent.primitives.errors import Conflict, NotFound
from assent.primitives.ids import EffectId, TenantId

_Key: TypeAlias = tuple[TenantId, str, Unit, Window, int]
_Hold: TypeAlias = tuple[TenantId, EffectId]


class BudgetModel:
    """The reference of budgets."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.limits: dict[_Key, int] = {}
        self.spent: dict[_Key, int] = {}
        self.held: dict[_Hold, list[tuple[_Key, int]]] = {}
        self.stops: dict[_Key, list[tuple[EffectId, int]]] = {}

    def take(
        self, tenant: TenantId, effect: EffectId, holds: tuple[Hold, ...], ceilings: tuple[Ceiling, ...] = ()
    ) -> Shortage | None:
        """Take all, or nothing and say what the first lacks.

        Raises:
            Conflict: `rate_moved`: something is above its ceiling.
        """
        for (scope, window, unit), most in ceilings:
            key = (tenant, scope, unit, window, self._since(window))
            if self.spent.get(key, 0) + self._held_of(key) > most:
                raise Conflict("rate_moved", "more is used by now")
        for hold in holds:
            key = self._key(tenant, hold)
            spent, held = self.spent.get(key, 0), self._held_of(key)
            if spent + held + hold.amount > hold.limit:
                return Shortage(
                    scope=hold.scope, unit=hold.unit, window=hold.window, since_ms=key[4], limit=hold.limit,
                    spent=spent, held=held, asked=hold.amount,
                )  # fmt: skip
        for hold in holds:
            key = self._key(tenant, hold)
            self.limits[key] = hold.limit
            self.held.setdefault((tenant, effect), []).append((key, hold.amount))
        return None

    def stop(self, tenant: TenantId, effect: EffectId, why: Shortage) -> None:
        """An effect found no room."""
        key = (tenant, why.scope, why.unit, why.window, why.since_ms)
        self.limits[key] = why.limit
        self.stops.setdefault(key, []).append((effect, why.asked))

    def settle(self, command: Settle) -> None:
        """An attempt was settled."""
        if command.state is EffectState.UNKNOWN:
            return
        for key, amount in self.held.pop((command.tenant, command.effect), []):
            told = (command.used or {}).get(key[2])
            if told is None:
                told = amount
            self._spend(key, told if command.attempt == 1 else max(told, amount))

    def judge(self, tenant: TenantId, effect: EffectId, state: EffectState) -> None:
        """An unknown effect was judged."""
        if state is EffectState.UNKNOWN:
            return
        for key, amount in self.held.pop((tenant, effect), []):
            self._spend(key, 0 if state is EffectState.FAILED else amount)

    def dismiss(self, tenant: TenantId, effect: EffectId) -> None:
        """Somebody has seen it."""
        found = [key for key, stops in self.stops.items() if key[0] == tenant and stops[-1][0] == effect]
        if not found:
            raise NotFound("stop_not_found", "nothing stands in its way")
        for key in found:
            del self.stops[key]

    def current(self, tenant: TenantId) -> list[Budget]:
        """Every budget of the windows that run now, by scope, unit and window."""
        found = [self._shown(key) for key in self.limits if key[0] == tenant and key[4] == self._since(key[3])]
        return sorted(found, key=lambda one: (one.scope, one.unit, one.window))

    def _shown(self, key: _Key) -> Budget:
        stops = self.stops.get(key, [])
        effect, asked = stops[-1] if stops else ("", 0)
        return Budget(
            scope=key[1], unit=key[2], window=key[3], since_ms=key[4], limit=self.limits[key],
            spent=self.spent.get(key, 0), held=self._held_of(key), stops=len(stops), stopped=effect, asked=asked,
        )  # fmt: skip

    def _held_of(self, key: _Key) -> int:
        return sum(amount for holds in self.held.values() for held, amount in holds if held == key)

    def _spend(self, key: _Key, amount: int) -> None:
        self.spent[key] = self.spent.get(key, 0) + amount

    def _key(self, tenant: TenantId, hold: Hold) -> _Key:
        return tenant, hold.scope, hold.unit, hold.window, self._since(hold.window)

    def _since(self, window: Window) -> int:
        if window is Window.ALL:
            return 0
        now = datetime.fromtimestamp(self._clock.now_ms() // 1000, UTC)
        if window is Window.HOUR:
            return int(now.replace(minute=0, second=0).timestamp()) * 1000
        day = now.replace(hour=0, minute=0, second=0)
        began = day if window is Window.DAY else day.replace(day=1)
        return int(began.timestamp()) * 1000
