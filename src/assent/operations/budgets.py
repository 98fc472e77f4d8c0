"""Budgets, as people ask about them: what is gone, what stands in the way, and that somebody has seen it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from assent.ledger.budget_limits import EACH, Limit, by_scope, limits_on
from assent.ledger.budgets import Budget, Shortage, window_start_ms
from assent.ledger.commands import DismissStop
from assent.ledger.ports import LedgerStore
from assent.ledger.reviews import is_person
from assent.primitives.clock import Clock
from assent.primitives.errors import Refused
from assent.primitives.ids import EffectId, TenantId

LISTED_MAX = 500


class Limits:
    """The limits of an installation, asked about one budget at a time."""

    def __init__(self, limits: Iterable[Limit] = ()) -> None:
        self.all = tuple(limits)
        self._by_scope = by_scope(self.all)

    def today(self, budget: Budget) -> Budget:
        """The budget under the limit of today: that of the settings, else the one it was last held against."""
        for one in limits_on(self._by_scope, budget.scope):
            if (one.unit, one.window) == (budget.unit, budget.window):
                return msgspec.structs.replace(budget, limit=one.amount)
        return budget

    def stops(self, budget: Budget) -> bool:
        """Whether what found no room in the budget would find none now either."""
        now = self.today(budget)
        return now.stops > 0 and now.spent + now.held + now.asked > now.limit


class Budgets:
    """Questions about budgets."""

    def __init__(self, *, store: LedgerStore, limits: Iterable[Limit], clock: Clock) -> None:
        self._store = store
        self._limits = Limits(limits)
        self._clock = clock

    async def listed(self, tenant: TenantId, scope: str = "") -> list[Budget]:
        """How every limit stands in the window that runs now, for scopes that begin with `scope`; at most the newest
        `LISTED_MAX` that something was held of. A limit on every name stands last, as `*`."""
        found = await self._store.budgets(tenant, scope=scope, limit=LISTED_MAX)
        begun = {(one.scope, one.unit, one.window) for one in found}
        fresh = [
            Budget(
                scope=one.scope, unit=one.unit, window=one.window, limit=one.amount,
                since_ms=window_start_ms(one.window, self._clock.now_ms()),
            )
            for one in self._limits.all
            if one.scope.startswith(scope) and (one.scope, one.unit, one.window) not in begun
        ]  # fmt: skip
        every = [*(self._limits.today(one) for one in found), *fresh]
        return sorted(every, key=lambda one: (one.scope.endswith(EACH), one.scope, one.unit, one.window))

    async def dismiss(self, tenant: TenantId, effect: EffectId, *, by: str) -> None:
        """Take note that a person has seen what stopped `effect`; it does not wait in the inbox any more.

        Raises:
            NotFound: `stop_not_found`: no budget says that it stopped it.
            Refused: `dismissal_not_yours`: only people see to it.
        """
        if not is_person(by):
            raise Refused(
                "dismissal_not_yours", f"only people dismiss what a budget stopped, and `{by[:80]!a}` is not a person"
            )
        await self._store.apply(DismissStop(tenant=tenant, effect=effect, by=by))


def shortage_told(facts: Mapping[str, Any]) -> str:
    """What an entry says of the limit that left no room, in one sentence."""
    return msgspec.convert(facts["budget"], Shortage).told
