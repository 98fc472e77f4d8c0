"""Counting: what was before a call, for rules that ask, and what keeps a decision true until it is committed.

How often its asker did this, and how much of its budgets is gone: neither is looked up where no rule reads it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from assent.ledger.budgets import Hold, window_start_ms
from assent.ledger.decisions import Decision, Verdict
from assent.ledger.operations import Facts
from assent.ledger.ports import LedgerStore
from assent.ledger.rates import BUDGET_USED, COUNTS, Ceiling, Count, ceiling, count_of, percent
from assent.operations.asking import Asked
from assent.operations.budgeting import Budgeting
from assent.policy.engine import Engine


class Seen(NamedTuple):
    """The facts with what was looked up; the holds and ceilings under which a decision by them stays true."""

    facts: Facts
    holds: tuple[Hold, ...] = ()
    ceilings: tuple[Ceiling, ...] = ()


class Counting:
    """Looks up what rules read of a call, and nothing for other calls."""

    def __init__(self, store: LedgerStore, budgeting: Budgeting) -> None:
        self._store = store
        self._budgeting = budgeting

    async def seen(self, engine: Engine, asked: Asked, *, held: Sequence[Hold], brought: Iterable[Hold]) -> Seen:
        """What rules read of this call. What is sent again is in the budgets already with what it `held`, and was not
        before itself."""
        names = engine.counts(asked.intent.operation)
        if not names:
            return Seen(asked.facts)
        found = {name: count_of(asked.intent, name) for name in sorted(names & COUNTS.keys())}
        counts = {name: count for name, count in found.items() if count is not None}
        limits = self._budgeting.limits(asked, brought) if BUDGET_USED in names else {}
        every = (*counts.values(), *limits)
        own = {Count(one.scope, one.window, one.unit): one.amount for one in held}
        stands = await self._store.counted(asked.intent.tenant, every)
        used = {count: max(0, number - own.get(count, 0)) for count, number in zip(every, stands, strict=True)}
        told = {name: used[count] for name, count in counts.items()}
        if limits:
            told[BUDGET_USED] = max(percent(used[count], limit) for count, limit in limits.items())
        most = {name: engine.highest(asked.intent.operation, name, number) for name, number in told.items()}
        return Seen(
            replace(asked.facts, **told),
            tuple(count.hold(most[name]) for name, count in counts.items()),
            _ceilings(limits, most.get(BUDGET_USED), own),
        )


class Replayed:
    """What rules that count are told of calls that are decided again one after the other: how often the like was let
    through before in this replay. What people were asked about counts as let through; budgets count as untouched."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._before: Counter[tuple[Count, int]] = Counter()

    def seen(self, asked: Asked, at_ms: int) -> Asked:
        """The call as it is decided at that moment."""
        told = {name: self._before[place] for name, place in self._places(asked, at_ms).items()}
        return asked._replace(facts=replace(asked.facts, **told)) if told else asked

    def take(self, asked: Asked, at_ms: int, decision: Decision) -> None:
        """It was decided so."""
        if decision.verdict is not Verdict.DENY and (places := self._places(asked, at_ms)):
            self._before.update(places.values())

    def _places(self, asked: Asked, at_ms: int) -> dict[str, tuple[Count, int]]:
        read = self._engine.counts(asked.intent.operation)
        if not read:
            return {}
        names = read & COUNTS.keys()
        counts = ((name, count_of(asked.intent, name)) for name in sorted(names))
        return {name: (count, window_start_ms(count.window, at_ms)) for name, count in counts if count is not None}


def _ceilings(limits: Mapping[Count, int], most: int | None, own: Mapping[Count, int]) -> tuple[Ceiling, ...]:
    """How full each budget may be, with what a call held already, for rules to say the same."""
    if most is None:
        return ()
    return tuple(ceiling(count, limit, most, own=own.get(count, 0)) for count, limit in limits.items())
