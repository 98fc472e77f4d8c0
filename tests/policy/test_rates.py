"""How far a decision holds when a count moves: for every count up to there, the engine says the same."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.ledger.rates import COUNTS
from tests.policy.sample import READ_FILES, call, decide, engine

CONDITIONS = (
    "context.calls_this_hour >= 10",
    "10 > context.calls_this_hour",
    "context.calls_this_hour == 3 || context.calls_this_hour > 7",
    "[2, 5].contains(context.calls_this_hour)",
    "!(context.calls_this_hour != 4)",
    "context.calls_this_hour + 2 > 6",
    "context.calls_this_hour * 2 == context.payload_bytes",
    "context.calls_this_hour > context.calls_today",
    "if context.inside_workspace then context.calls_this_hour < 6 else true",
)
FORBID = '@id("no") forbid (principal, action, resource == Operation::"files.read") '
FORBID += "when {{ context has calls_this_hour && context has calls_today && ({}) }};\n"


TODAY = (
    '@id("no") forbid (principal, action, resource == Operation::"files.read") '
    "when { context has calls_today && context.calls_today > 1 };\n"
)


def rules(condition: str) -> str:
    return READ_FILES + FORBID.format(condition)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_every_count_up_to_the_highest_is_decided_alike(condition: str) -> None:
    judge, plain = engine(rules(condition)), call()

    def verdict(count: int) -> str:
        facts = msgspec.structs.replace(plain.facts, calls_this_hour=count, payload_bytes=6)
        return decide(judge, plain._replace(facts=facts)).verdict

    for count in range(15):
        highest = judge.highest("files.read", "calls_this_hour", count)
        for other in range(count, 20 if highest is None else highest + 1):
            assert verdict(other) == verdict(count), (count, other, highest)


@given(number=st.integers(0, 40), count=st.integers(0, 40))
def test_decision_holds_just_below_the_next_constant(number: int, count: int) -> None:
    judge = engine(rules(f"context.calls_this_hour >= {number}"))
    expected = None if count > number else count if count == number else number - 1
    assert judge.highest("files.read", "calls_this_hour", count) == expected


def test_only_counts_that_rules_of_the_operation_read_are_asked_for() -> None:
    judge = engine(READ_FILES + TODAY)
    assert judge.counts("files.read") == {"calls_today"}
    assert judge.counts("files.write") == judge.counts("files.nothing") == frozenset()
    assert engine(READ_FILES).counts("files.read") == frozenset()
    assert frozenset(COUNTS) > judge.counts("files.read")
