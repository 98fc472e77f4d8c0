"""Counting: how often an asker did something before, for rules that ask, and what keeps a decision true until then."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from assent.ledger.budgets import Hold
from assent.ledger.operations import Facts
from assent.ledger.ports import LedgerStore
from assent.ledger.rates import count_of, is_rate
from assent.operations.asking import Asked
from assent.policy.engine import Engine


class Counting:
    """Reads counts, for those calls only about which some rule reads one."""

    def __init__(self, store: LedgerStore) -> None:
        self._store = store

    async def seen(self, engine: Engine, asked: Asked, held: Iterable[Hold]) -> tuple[Facts, tuple[Hold, ...]]:
        """The facts with the counts that rules read of this call, and the holds under which they stay true.

        What is sent again is in the counts already if it `held` one: it was not before itself.
        """
        names = engine.counts(asked.intent.operation)
        if not names:
            return asked.facts, ()
        counts = {name: count for name in sorted(names) if (count := count_of(asked.intent, name)) is not None}
        own = {one.scope for one in held if is_rate(one.scope)}
        before = await self._store.counted(asked.intent.tenant, tuple(counts.values()))
        told = {
            name: max(0, number - (count.scope in own))
            for (name, count), number in zip(counts.items(), before, strict=True)
        }
        holds = [counts[name].hold(engine.highest(asked.intent.operation, name, told[name])) for name in counts]
        return replace(asked.facts, **told), tuple(holds)
