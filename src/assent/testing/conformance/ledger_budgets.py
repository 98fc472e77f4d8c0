"""How a ledger's store holds, spends and releases what calls may use."""

from __future__ import annotations

import asyncio

from assent.execution.outcomes import Ending
from assent.ledger.budgets import Budget, Hold, Shortage, Unit, Window
from assent.ledger.commands import FenceOut, RenewLease
from assent.ledger.decisions import Verdict
from assent.ledger.effects import EffectState, Move
from assent.ledger.rates import Ceiling, Count
from assent.primitives.errors import Conflict
from assent.primitives.leases import SYSTEM
from assent.testing.calls import intent_to
from assent.testing.conformance.opening import OpensLedger
from assent.testing.desks import ACME, GLOBEX, TTL_MS, Desk, code_of, results_of

CALLERS = 64
DAY_MS = 86_400_000


def tokens(amount: int, limit: int = 10, *, scope: str = "tenant", window: Window = Window.ALL) -> Hold:
    """A hold of tokens."""
    return Hold(scope=scope, unit=Unit.TOKENS, window=window, amount=amount, limit=limit)


async def one(desk: Desk, scope: str = "tenant") -> tuple[int, int]:
    """What is spent and held of the one budget of a scope."""
    (found,) = await desk.store.budgets(ACME, scope=scope, limit=9)
    return found.spent, found.held


class LedgerBudgetsSuite(OpensLedger):
    """Holds, what becomes of them, and what finds no room."""

    # Taking holds

    def test_hold_is_taken_with_the_dispatch_and_replaced_by_what_was_used(self) -> None:
        async def body(desk: Desk) -> None:
            effect = await desk.accept(holds=(tokens(4), tokens(4, 9, scope="run:r")))
            assert (await one(desk), await one(desk, "run:r")) == ((0, 4), (0, 4))
            await desk.settle(effect, used={"tokens": 3})
            assert (await one(desk), await one(desk, "run:r")) == ((3, 0), (3, 0))
            assert (await desk.types(effect)) == ["effect.accepted", "effect.settled"]

        self.check(body)

    def test_nothing_is_held_or_accepted_when_one_of_several_limits_leaves_no_room(self) -> None:
        async def body(desk: Desk) -> None:
            await desk.accept(holds=(tokens(8),))
            command = desk.scribe.accept(intent_to(ACME, key="k"), holds=(tokens(2, 5, scope="run:r"), tokens(3)))
            assert await desk.store.apply(command) == Shortage(
                scope="tenant", unit=Unit.TOKENS, window=Window.ALL, since_ms=0, limit=10, spent=0, held=8, asked=3
            )
            assert await desk.store.effect(ACME, command.effect) is None
            assert await desk.store.budgets(ACME, scope="run:", limit=9) == []
            assert await one(desk) == (0, 8)
            assert await desk.size() == 1

        self.check(body)

    def test_exactly_as_many_win_as_there_is_room_for_when_many_race(self) -> None:
        async def body(desk: Desk) -> None:
            commands = [desk.scribe.accept(intent_to(ACME), holds=(tokens(3, 20),)) for _ in range(CALLERS)]
            results = await results_of(desk.store, commands)
            assert sum(isinstance(result, Shortage) for result in results) == CALLERS - 6
            assert await one(desk) == (0, 18)
            assert await desk.size() == 6

        self.check(body)

    def test_neighbours_of_a_batch_are_kept_when_one_finds_no_room(self) -> None:
        async def body(desk: Desk) -> None:
            plain = [desk.scribe.accept(intent_to(ACME)) for _ in range(3)]
            held = [desk.scribe.accept(intent_to(ACME), holds=(tokens(n),)) for n in (6, 5, 4)]
            results = await results_of(desk.store, [plain[0], held[0], plain[1], held[1], plain[2], held[2]])
            assert [isinstance(result, Shortage) for result in results] == [False] * 3 + [True] + [False] * 2
            assert await one(desk) == (0, 10)

        self.check(body)

    def test_call_that_is_there_already_is_told_when_there_is_no_room_any_more(self) -> None:
        async def body(desk: Desk) -> None:
            effect = await desk.accept(key="k", holds=(tokens(10),))
            again = await desk.store.apply(desk.scribe.accept(intent_to(ACME, key="k"), holds=(tokens(10),)))
            assert (again.effect, again.fresh) == (effect.id, False)
            other = desk.scribe.accept(intent_to(ACME, key="k", content="other"), holds=(tokens(10),))
            assert await code_of(desk.store.apply(other)) == "key_conflict"

        self.check(body)

    def test_call_is_not_taken_above_the_ceiling_that_it_was_decided_under(self) -> None:
        async def body(desk: Desk) -> None:
            await desk.accept(holds=(tokens(6),))
            count = Count("tenant", Window.ALL, Unit.TOKENS)
            low, high = ((Ceiling(count, most),) for most in (5, 6))
            command = desk.scribe.accept(intent_to(ACME, key="k"), holds=(tokens(1),), ceilings=low)
            assert await code_of(desk.store.apply(command)) == "rate_moved"
            assert await desk.store.effect(ACME, command.effect) is None
            assert (await one(desk), await desk.store.counted(ACME, (count,))) == ((0, 6), [6])
            calls = [desk.scribe.accept(intent_to(ACME), holds=(tokens(1),), ceilings=high) for _ in range(3)]
            results = await results_of(desk.store, calls)
            assert [isinstance(result, Conflict) for result in results] == [False, True, True]
            waits = await desk.granted()
            assert await code_of(desk.store.apply(desk.scribe.dispatch(waits, ceilings=high))) == "rate_moved"
            assert (await desk.find(ACME, waits.id)) == waits
            assert await desk.store.counted(GLOBEX, (count,)) == [0]

        self.check(body)

    def test_nothing_is_held_when_a_call_is_refused_or_waits_or_is_withdrawn(self) -> None:
        async def body(desk: Desk) -> None:
            await desk.accept(verdict=Verdict.DENY, holds=(tokens(1),))
            await desk.accept(verdict=Verdict.REVIEW, holds=(tokens(1),))
            await desk.store.apply(desk.scribe.withdraw(await desk.granted()))
            assert await desk.store.budgets(ACME, limit=9) == []

        self.check(body)

    def test_limit_that_is_raised_leaves_room_at_once(self) -> None:
        async def body(desk: Desk) -> None:
            await desk.settle(await desk.accept(holds=(tokens(10),)))
            await desk.stopped(holds=(tokens(1),))
            await desk.accept(holds=(tokens(1, 11),))
            assert await one(desk) == (10, 1)

        self.check(body)

    # What becomes of them

    def test_whole_hold_counts_when_nobody_says_what_was_used(self) -> None:
        async def body(desk: Desk) -> None:
            for ending in (Ending.SUCCEEDED, Ending.FAILED, Ending.CANCELLED):
                await desk.settle(await desk.accept(holds=(tokens(2),)), ending)
            assert await one(desk) == (6, 0)
            await desk.settle(await desk.accept(holds=(tokens(4),)), Ending.FAILED, used={"tokens": 0})
            assert await one(desk) == (6, 0)

        self.check(body)

    def test_use_beyond_the_hold_is_counted_and_the_next_hold_is_refused(self) -> None:
        async def body(desk: Desk) -> None:
            await desk.settle(await desk.accept(holds=(tokens(1),)), used={"tokens": 12})
            assert await one(desk) == (12, 0)
            assert isinstance(await desk.store.apply(desk.scribe.accept(intent_to(ACME), holds=(tokens(1),))), Shortage)

        self.check(body)

    def test_each_hold_is_replaced_when_many_are_settled_at_once(self) -> None:
        async def body(desk: Desk) -> None:
            effects = [await desk.accept(holds=(tokens(2, 200), tokens(1, scope=f"run:{n}"))) for n in range(CALLERS)]
            plain = [await desk.accept() for _ in range(3)]
            await asyncio.gather(*(desk.settle(effect, used={"tokens": 1}) for effect in (*effects, *plain)))
            assert await one(desk) == (CALLERS, 0)
            runs = await desk.store.budgets(ACME, scope="run:", limit=CALLERS)
            assert {(budget.spent, budget.held) for budget in runs} == {(1, 0)}

        self.check(body)

    def test_hold_of_an_unknown_effect_stands_until_it_is_judged(self) -> None:
        async def body(desk: Desk) -> None:
            for moves, after in (
                ((Move.SUCCEED,), (2, 0)),
                ((Move.FAIL,), (2, 0)),
                ((None, Move.QUARANTINE), (4, 0)),
            ):
                effect = await desk.unknown(holds=(tokens(2),))
                for move in moves:
                    before = await one(desk)
                    assert before[1] == 2, "an unclear look changes nothing"
                    await desk.store.apply(desk.scribe.judge(effect, move))
                    effect = await desk.find(ACME, effect.id)
                assert await one(desk) == after

        self.check(body)

    def test_hold_stands_when_the_node_is_fenced_out_and_a_late_result_does_not_touch_it(self) -> None:
        async def body(desk: Desk) -> None:
            effect = await desk.accept(holds=(tokens(2),))
            await desk.store.apply(FenceOut(tenant=SYSTEM, fence=desk.scribe.fence, dead=True))
            assert await one(desk) == (0, 2)
            assert not (await desk.settle(effect, used={"tokens": 1})).applied
            assert await one(desk) == (0, 2)

        self.check(body)

    def test_attempt_sent_again_uses_the_hold_and_counts_at_least_all_of_it(self) -> None:
        async def body(desk: Desk) -> None:
            for used, after in ((1, 3), (7, 10)):
                effect = await desk.unknown(holds=(tokens(3),))
                await desk.store.apply(desk.scribe.dispatch(effect, again=True))
                assert (await one(desk))[1] == 3
                await desk.settle(await desk.find(ACME, effect.id), used={"tokens": used})
                assert await one(desk) == (after, 0), "nobody knows what the first attempt used"

        self.check(body)

    # After a review

    def test_approved_call_holds_when_it_is_dispatched(self) -> None:
        async def body(desk: Desk) -> None:
            effect = await desk.granted()
            await desk.store.apply(desk.scribe.dispatch(effect, holds=(tokens(4),)))
            assert await one(desk) == (0, 4)
            await desk.settle(await desk.find(ACME, effect.id), used={"tokens": 1})
            assert await one(desk) == (1, 0)

        self.check(body)

    def test_approved_call_stays_approved_when_it_finds_no_room_and_runs_when_there_is(self) -> None:
        async def body(desk: Desk) -> None:
            effect = await desk.granted()
            assert isinstance(await desk.store.apply(desk.scribe.dispatch(effect, holds=(tokens(11),))), Shortage)
            stopped = await desk.find(ACME, effect.id)
            assert (stopped.state, stopped.code) == (EffectState.GRANTED, effect.code)
            assert (await desk.types(stopped))[-1] == "effect.stopped"
            (found,) = await desk.store.budgets(ACME, stopped=True, limit=9)
            assert (found.stops, found.stopped, found.asked) == (1, effect.id, 11)
            await desk.store.apply(desk.scribe.dispatch(stopped, holds=(tokens(11, 20),)))
            assert (await desk.find(ACME, effect.id)).state is EffectState.DISPATCHED

        self.check(body)

    def test_stopped_call_leaves_nothing_when_it_has_moved_or_its_approval_is_gone(self) -> None:
        async def body(desk: Desk) -> None:
            stale = desk.scribe.dispatch(await desk.granted(), holds=(tokens(11),))
            gone = desk.scribe.dispatch(await desk.granted(), holds=(tokens(11),))
            await desk.store.apply(stale)
            assert await code_of(desk.store.apply(stale)) == "effect_moved"
            desk.clock.pass_ms(61_000)
            await desk.store.apply(RenewLease(tenant=SYSTEM, fence=desk.scribe.fence, ttl_ms=TTL_MS))
            size = await desk.size()
            assert await code_of(desk.store.apply(gone)) == "approval_gone"
            assert await desk.size() == size
            (found,) = await desk.store.budgets(ACME, limit=9)
            assert found.stops == 1

        self.check(body)

    # Windows, and what was stopped

    def test_window_ends_and_its_budget_is_whole_again_while_its_hold_stays_with_it(self) -> None:
        async def body(desk: Desk) -> None:
            held = await desk.accept(holds=(tokens(10, window=Window.DAY), tokens(1, 99, window=Window.ALL)))
            await desk.stopped(holds=(tokens(1, window=Window.DAY),))
            desk.clock.jump_ms(DAY_MS)
            await desk.settle(held, used={"tokens": 10})
            found = await desk.store.budgets(ACME, limit=9)
            assert [(b.window, b.spent, b.held) for b in found] == [("all", 10, 0)]
            assert await desk.store.budgets(ACME, stopped=True, limit=9) == []
            desk.clock.jump_ms(-DAY_MS)
            assert {b.window: b.spent for b in await desk.store.budgets(ACME, limit=9)} == {"all": 10, "day": 10}

        self.check(body)

    def test_stops_are_counted_until_they_are_dismissed(self) -> None:
        async def body(desk: Desk) -> None:
            await desk.stopped(holds=(tokens(11),))
            last = await desk.stopped(holds=(tokens(12),))
            (found,) = await desk.store.budgets(ACME, stopped=True, limit=9)
            assert (found.stops, found.stopped, found.asked, found.limit) == (2, last.id, 12, 10)
            await desk.store.apply(desk.scribe.dismiss(last))
            assert await desk.store.budgets(ACME, stopped=True, limit=9) == []
            assert await code_of(desk.store.apply(desk.scribe.dismiss(last))) == "stop_not_found"

        self.check(body)

    def test_budgets_of_one_tenant_are_not_seen_or_moved_by_another(self) -> None:
        async def body(desk: Desk) -> None:
            stopped = await desk.stopped(holds=(tokens(11),))
            await desk.accept(GLOBEX, holds=(tokens(10),))
            assert await one(desk) == (0, 0)
            (theirs,) = await desk.store.budgets(GLOBEX, limit=9)
            assert theirs == Budget(scope="tenant", unit=Unit.TOKENS, window=Window.ALL, since_ms=0, limit=10, held=10)
            thief = desk.scribe.dismiss(stopped)
            foreign = type(thief)(tenant=GLOBEX, effect=thief.effect, by=thief.by)
            assert await code_of(desk.store.apply(foreign)) == "stop_not_found"
            assert len(await desk.store.budgets(ACME, stopped=True, limit=9)) == 1

        self.check(body)

    def test_budgets_are_listed_by_scope_up_to_a_limit(self) -> None:
        async def body(desk: Desk) -> None:
            for run in ("run:a", "run:b", "run:c"):
                await desk.accept(holds=(tokens(1, scope=run), tokens(1, 99)))
            assert [b.scope for b in await desk.store.budgets(ACME, scope="run:", limit=9)] == [
                "run:a",
                "run:b",
                "run:c",
            ]
            assert [b.scope for b in await desk.store.budgets(ACME, limit=2)] == ["run:b", "run:c"]
            assert await desk.store.budgets(ACME, scope="run:%", limit=9) == []

        self.check(body)
