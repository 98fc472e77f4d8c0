"""Budgets as values: windows, what a call has to hold, and what counts as spent."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.ledger.budget_limits import Limit, by_scope, check_holds, check_scope, holds_for, joined, scopes_of
from assent.ledger.budgets import (
    AMOUNT_MAX,
    HOLDS_MAX,
    TOTAL_MAX,
    Budget,
    Hold,
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
from assent.ledger.intents import Intent
from assent.primitives.digests import Digest
from assent.primitives.errors import Malformed
from assent.primitives.ids import EffectId, TenantId

DAY_MS = 86_400_000


def intent(principal: str = "agent:writer", chain: tuple[str, ...] = ("person:ann",), run: str = "") -> Intent:
    return Intent(
        tenant=TenantId("acme"), operation="o", contract=Digest(""), arguments={}, principal=principal,
        on_behalf_of=chain, run=run,
    )  # fmt: skip


def limit(scope: str, amount: int, unit: Unit = Unit.TOKENS, window: Window = Window.ALL) -> Limit:
    return Limit(scope=scope, unit=unit, amount=amount, window=window)


def hold(scope: str = "tenant", amount: int = 1, most: int = 10, window: Window = Window.ALL) -> Hold:
    return Hold(scope=scope, unit=Unit.TOKENS, window=window, amount=amount, limit=most)


def budget(spent: int = 0, held: int = 0) -> Budget:
    return Budget(scope="tenant", unit=Unit.TOKENS, window=Window.ALL, since_ms=0, limit=10, spent=spent, held=held)


# Windows


@given(st.integers(-20_000 * DAY_MS, 200_000 * DAY_MS))
def test_window_begins_where_the_calendar_says(at_ms):
    at = datetime.fromordinal(719_163 + at_ms // DAY_MS)
    day = datetime(at.year, at.month, at.day, tzinfo=UTC)
    assert window_start_ms(Window.ALL, at_ms) == 0
    assert window_start_ms(Window.DAY, at_ms) == day.timestamp() * 1000
    assert window_start_ms(Window.MONTH, at_ms) == day.replace(day=1).timestamp() * 1000


# Which limits meet a call


def test_call_counts_for_everybody_in_its_chain_its_run_and_its_schedule():
    assert scopes_of(intent(run="r")) == ("tenant", "agent:writer", "person:ann", "run:r")
    chained = intent(principal="agent:sub", chain=("agent:writer", "agent:sub", "schedule:nightly"))
    assert scopes_of(chained) == ("tenant", "agent:sub", "agent:writer", "trigger:nightly")


def test_call_holds_for_each_limit_on_its_scopes_and_units_and_for_no_other():
    limits = by_scope([
        limit("tenant", 100), limit("tenant", 50, window=Window.DAY), limit("agent:writer", 30, Unit.MICROS),
        limit("agent:other", 1), limit("run:*", 20), limit("tenant", 9, Unit.WALL_MS),
    ])  # fmt: skip
    holds = holds_for(limits=limits, scopes=scopes_of(intent(run="r")), estimate={"tokens": 7, "micros": 3})
    assert [(one.scope, one.unit, one.window, one.amount, one.limit) for one in holds] == [
        ("tenant", "tokens", "all", 7, 100),
        ("tenant", "tokens", "day", 7, 50),
        ("agent:writer", "micros", "all", 3, 30),
        ("run:r", "tokens", "all", 7, 20),
    ]


def test_limit_that_names_a_scope_stands_in_for_the_one_on_every_name():
    limits = by_scope([limit("agent:*", 10), limit("agent:*", 5, window=Window.DAY), limit("agent:writer", 99)])
    holds = holds_for(limits=limits, scopes=["agent:writer", "agent:other"], estimate={"tokens": 1})
    assert [(one.scope, one.window, one.limit) for one in holds] == [
        ("agent:writer", "all", 99), ("agent:writer", "day", 5), ("agent:other", "all", 10), ("agent:other", "day", 5),
    ]  # fmt: skip


def test_estimate_of_nothing_holds_one_so_that_it_does_not_pass_an_empty_budget():
    (held,) = holds_for(limits=by_scope([limit("tenant", 10)]), scopes=["tenant"], estimate={"tokens": 0})
    assert held.amount == 1
    assert shortage(budget(spent=10), held) is not None


def test_holds_that_meet_in_one_limit_become_the_larger_against_the_smaller():
    more = (hold(amount=5, most=8), hold("run:r", 2))
    assert joined((hold(amount=3, most=20),), more) == (hold(amount=5, most=8), hold("run:r", 2))


@pytest.mark.parametrize(
    "bad",
    [
        (hold(), hold()),
        tuple(hold(f"run:{n}") for n in range(HOLDS_MAX + 1)),
        (hold(amount=0),),
        (hold(amount=AMOUNT_MAX + 1),),
        (hold(most=-1),),
        (hold(amount=True),),
        (hold(scope="run:*"),),
    ],
)
def test_holds_are_malformed_when_they_are_too_many_twice_or_no_amounts(bad):
    with pytest.raises(Malformed, match=r"holds each limit once|whole number|no scope"):
        check_holds(bad)


@pytest.mark.parametrize(
    "scope", ["", "tenants", "tenant:x", "agent", "agent:", "box:x", "run:" + "x" * 1_300, "run:\ud800"]
)
def test_scope_is_malformed_when_it_is_none(scope):
    with pytest.raises(Malformed):
        check_scope(scope, each=True)


# Arithmetic


@pytest.mark.parametrize(
    ("spent", "held", "asked", "fits"), [(0, 0, 10, True), (4, 5, 1, True), (4, 5, 2, False), (11, 0, 1, False)]
)
def test_hold_fits_exactly_up_to_the_limit(spent, held, asked, fits):
    found = shortage(budget(spent, held), hold(amount=asked))
    assert (found is None) is fits
    if found is not None:
        assert (found.limit, found.spent, found.held, found.asked) == (10, spent, held, asked)
        assert "`tenant` may use 10 tokens" in found.told


def test_hold_is_replaced_by_what_was_spent_and_total_stays_a_number_that_can_be_written():
    after = taken(budget(1, 2), hold(amount=4, most=9))
    assert (after.held, after.limit) == (6, 9)
    after = ended(after, amount=4, spent=7)
    assert (after.held, after.spent) == (2, 8)
    assert ended(budget(TOTAL_MAX - 1, 4), amount=4, spent=AMOUNT_MAX).spent == TOTAL_MAX


def test_stop_is_counted_until_it_is_dismissed():
    short = shortage(budget(9), hold(amount=5))
    assert short is not None
    once = stopped(budget(9), short, EffectId("eff_1"))
    twice = stopped(once, short, EffectId("eff_2"))
    assert (twice.stops, twice.stopped, twice.asked) == (2, "eff_2", 5)
    assert dismissed(twice) == budget(9)


@pytest.mark.parametrize(
    ("used", "attempt", "spent"),
    [
        (3, 1, 3),
        (30, 1, 30),
        (0, 1, 0),
        (None, 1, 10),
        (-1, 1, 10),
        ("3", 1, 10),
        (True, 1, 10),
        (3, 2, 10),
        (30, 2, 30),
    ],
)
def test_settled_hold_counts_what_was_used_or_all_of_it_when_nobody_can_say(used, attempt, spent):
    assert spent_when_settled(amount=10, used=used, attempt=attempt) == spent


@pytest.mark.parametrize(
    ("state", "spent"), [(EffectState.SUCCEEDED, 10), (EffectState.FAILED, 0), (EffectState.QUARANTINED, 10)]
)
def test_judged_hold_is_spent_unless_it_did_not_happen(state, spent):
    assert spent_when_judged(amount=10, state=state) == spent
