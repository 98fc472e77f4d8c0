"""Under every interleaving of calls that hold, use, are lost and are judged, nothing is overspent and nothing leaks."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assent.execution.outcomes import Ending
from assent.ledger.budgets import Hold, Shortage, Unit, Window
from assent.ledger.effects import Effect, EffectState, Move
from assent.testing.calls import intent_to
from assent.testing.desks import ACME, Desk
from assent.testing.ledgers import LedgerFolder

LIMITS = {"tenant": 30, "agent:writer": 20, "run:r": 12}

amounts = st.integers(1, 8)
scopes = st.sets(st.sampled_from(sorted(LIMITS)), min_size=1)
# A call that holds; or the nth that is still open: its end, and the part of its hold that it used (None: not told).
steps = st.lists(
    st.tuples(st.just("ask"), amounts, scopes)
    | st.tuples(st.sampled_from(Ending), st.integers(0, 9), st.none() | st.integers(0, 8))
    | st.tuples(
        st.sampled_from([Move.SUCCEED, Move.FAIL, Move.QUARANTINE, None, "again"]), st.integers(0, 9), st.none()
    ),
    min_size=15,
    max_size=60,
)


class Books:
    """What was asked, beside the store: amounts by open effect, and what each scope must have spent."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.open: dict[str, tuple[int, frozenset[str]]] = {}
        self.spent = dict.fromkeys(LIMITS, 0)

    async def ask(self, amount: int, scopes: set[str]) -> None:
        holds = tuple(
            Hold(scope=one, unit=Unit.TOKENS, window=Window.ALL, amount=amount, limit=LIMITS[one]) for one in scopes
        )
        command = self.desk.scribe.accept(intent_to(ACME), holds=holds)
        said = await self.desk.store.apply(command)
        room = all(self.gone(one) + amount <= LIMITS[one] for one in scopes)
        assert isinstance(said, Shortage) is not room
        if room:
            self.open[command.effect] = (amount, frozenset(scopes))

    async def end(self, ending: Ending, nth: int, used: int | None) -> None:
        effect = await self.nth(nth, EffectState.DISPATCHED, EffectState.UNKNOWN)
        if effect is None or (effect.state is EffectState.UNKNOWN and ending is Ending.CANCELLED):
            return
        amount, _ = self.open[effect.id]
        told = None if used is None else min(used, amount)
        settled = await self.desk.settle(effect, ending, used=None if told is None else {"tokens": told})
        if settled.applied and ending is not Ending.UNKNOWN:
            self.close(effect, amount if told is None or effect.attempt > 1 else told)

    async def judge(self, move: Move | str | None, nth: int) -> None:
        effect = await self.nth(nth, EffectState.UNKNOWN)
        if effect is None:
            return
        if move == "again":
            await self.desk.store.apply(self.desk.scribe.dispatch(effect, again=True))
            return
        assert not isinstance(move, str) or isinstance(move, Move)
        await self.desk.store.apply(self.desk.scribe.judge(effect, move))
        if move is not None:
            self.close(effect, 0 if move is Move.FAIL else self.open[effect.id][0])

    async def nth(self, nth: int, *states: EffectState) -> Effect | None:
        found = [one for one in await self.desk.store.effects(ACME, states=states, limit=99) if one.id in self.open]
        return found[nth % len(found)] if found else None

    def close(self, effect: Effect, spent: int) -> None:
        _, scopes = self.open.pop(effect.id)
        for one in scopes:
            self.spent[one] += spent

    def gone(self, scope: str) -> int:
        return self.spent[scope] + sum(amount for amount, scopes in self.open.values() if scope in scopes)

    async def compare(self) -> None:
        for budget in await self.desk.store.budgets(ACME, limit=9):
            assert budget.spent == self.spent[budget.scope]
            assert budget.spent + budget.held == self.gone(budget.scope)
            assert budget.spent + budget.held <= LIMITS[budget.scope], "overspent"


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(steps=steps)
def test_nothing_is_overspent_and_nothing_leaks_whatever_happens_in_whatever_order(steps):
    async def body(books: Books) -> None:
        for what, first, second in steps:
            if what == "ask":
                await books.ask(first, second)
            elif isinstance(what, Ending):
                await books.end(what, first, second)
            else:
                await books.judge(what, first)
            await books.compare()
        while books.open:
            await books.end(Ending.SUCCEEDED, 0, 1)
            await books.judge(Move.FAIL, 0)
        assert {budget.held for budget in await books.desk.store.budgets(ACME, limit=9)} <= {0}

    with tempfile.TemporaryDirectory() as name:
        folder = LedgerFolder(Path(name))
        with folder.opened() as store:
            asyncio.run(_run(body, store, folder))
        report = folder.verify()
        assert report.ok, report.faults


async def _run(body, store, folder):
    await body(Books(await Desk(store, folder.clock).start()))
