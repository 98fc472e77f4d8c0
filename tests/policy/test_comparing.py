"""Comparing policies: what one lets happen more easily is found, and no call is found where none is."""

from __future__ import annotations

from importlib.resources import files

import pytest

from assent.bootstrap.offering import STANDARD
from assent.ledger.connectors import catalogue
from assent.policy.bundle import Bundle
from assent.policy.comparing import Comparison, compare
from assent.policy.engine import Engine
from assent.policy.principals import KnownPrincipal

CONTRACTS = {name: operation.contract for name, operation in catalogue(STANDARD).items()}
PRINCIPALS = (
    KnownPrincipal(name="agent:writer", roles=("writers",)),
    KnownPrincipal(name="agent:reader"),
    KnownPrincipal(name="person:ann", roles=("owners",)),
)
APPROVED = "unless { context has approval && context.approval.intent == context.intent }"
BASE = f"""
@id("work") @wall_s("20") @floor("namespaced") permit (principal, action, resource in Connector::"files")
when {{ context.inside_workspace && context.payload_bytes < 1000 }};
@id("fetch") permit (principal in Role::"writers", action, resource in Connector::"http")
when {{ context has host && context.host like "*.example.org:443" }};
@id("ask") @review("Delete this?") @quorum("2")
forbid (principal, action, resource == Operation::"files.delete") {APPROVED};
@id("vouched") forbid (principal, action == Action::"write", resource) when {{ context.integrity < 2 }};
"""


def compared(before: str, after: str) -> Comparison:
    made = [Engine(bundle=Bundle(text=text), contracts=CONTRACTS, principals=PRINCIPALS) for text in (before, after)]
    return compare(made[0], made[1])


def test_nothing_is_looser_when_both_are_the_same():
    found = compared(BASE, BASE)
    assert (found.looser, found.tighter, found.examples) == (0, 0, ())
    assert found.points > 300


@pytest.mark.parametrize(
    ("old", "new", "how"),
    [
        ("context.payload_bytes < 1000", "context.payload_bytes <= 1000", "deny becomes allow"),
        ("context.inside_workspace && ", "", "deny becomes allow"),
        ('in Role::"writers"', "", "deny becomes allow"),
        ('"*.example.org:443"', '"*example.org:443"', "deny becomes allow"),
        ("context.integrity < 2", "context.integrity < 1", "deny becomes allow"),
        (APPROVED, "when { !context.inside_workspace }", "review becomes allow"),
        ('@quorum("2")', '@quorum("1")', "1 people suffice where 2 had to approve"),
        ('@floor("namespaced")', '@accept("confined") @floor("confined")', "`confined` suffices"),
        ('@wall_s("20")', '@wall_s("21")', "the limit `wall_ms` is higher"),
        ("context.approval.intent == context.intent }", "context.approval.quorum >= 1 }", ""),
    ],
)
def test_call_is_found_that_the_second_lets_happen_more_easily(old: str, new: str, how: str):
    assert old in BASE
    changed = BASE.replace(old, new, 1)
    found = compared(BASE, changed)
    if not how:  # what a rule forgets to compare, the engine does
        assert not found.loosens
        return
    assert found.loosens
    assert any(how in one.how for one in found.examples), found.examples
    back = compared(changed, BASE)
    assert (back.looser, back.tighter > 0) == (0, True)


@pytest.mark.parametrize(
    "rule",
    [
        '@id("more") forbid (principal, action, resource in Connector::"http");',
        f'@id("more") @review("Sure?") forbid (principal, action, resource) {APPROVED};',
        '@id("more") forbid (principal == Agent::"writer", action, resource);',
    ],
)
def test_forbid_more_only_tightens(rule: str):
    found = compared(BASE, BASE + rule)
    assert (found.looser, found.tighter > 0) == (0, True)
    assert compared(BASE + rule, BASE).loosens


def test_role_that_only_a_rules_head_names_is_told_apart():
    narrow = BASE + '@id("own") permit (principal in Role::"owners", action, resource == Operation::"shell.run");'
    found = compared(BASE, narrow)
    assert {one.principal for one in found.examples} == {"person:ann"}


@pytest.mark.slow
def test_every_forbid_of_the_starter_is_missed_when_it_is_taken_away():
    text = (files("assent.policy.starter") / "starter.cedar").read_text(encoding="utf-8")
    # The starter asks before every irreversible operation that it permits; an installation's own permit does not.
    text += '@id("own") permit (principal, action, resource in Connector::"jsonrpc");'
    whole = Engine(bundle=Bundle(text=text), contracts=CONTRACTS, principals=PRINCIPALS)
    missed = []
    for rule in whole.rules:
        if rule.forbids:
            start = text.index(f'@id("{rule.id}")')
            without = text[:start] + text[text.index(";", text.index("forbid", start)) + 1 :]
            less = Engine(bundle=Bundle(text=without), contracts=CONTRACTS, principals=PRINCIPALS)
            if not compare(whole, less).loosens:
                missed.append(rule.id)
    assert missed == []
