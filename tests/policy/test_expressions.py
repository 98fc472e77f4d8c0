from __future__ import annotations

import pytest

from assent.policy.cedar import Cedar
from assent.policy.expressions import Expression, constants, entities, has_arithmetic, literals, reads, variables
from assent.policy.schema import SCHEMA

CEDAR = Cedar(SCHEMA)


def condition(text: str) -> Expression:
    body: Expression = CEDAR.read(f"permit(principal, action, resource) when {{ {text} }};")[0]["conditions"][0]["body"]
    return body


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ('context has host && context.host == "a:1"', {"host"}),
        ("context has host", {"host"}),
        ("context.approval.quorum > 1", {"approval", "approval.quorum"}),
        ("context has approval.quorum", {"approval", "approval.quorum"}),
        ("context.approval.intent == context.intent", {"approval", "approval.intent"}),
        ("context.intent == context.approval.intent", {"approval", "approval.intent"}),
        ("context.approval.intent != context.intent", {"approval", "approval.intent", "intent"}),
        ('context.intent == "sha256:0"', {"intent"}),
        (
            'context.approval.intent == context.intent && context.intent like "sha256:*"',
            {"approval", "approval.intent", "intent"},
        ),
        ("context == {a: 1}", {"*"}),
        ("[context].contains({a: context.run})", {"*", "run"}),
        (
            'if context.inside_workspace then principal is Agent else resource in Connector::"files"',
            {"inside_workspace"},
        ),
        ('{"Var": "context"} == {"Var": "context"}', set()),
        ("principal has host", set()),
        ("true", set()),
    ],
)
def test_reads_names_exactly_the_attributes_a_condition_can_tell_apart(text: str, seen: set[str]):
    assert reads(condition(text)) == seen


def test_variables_finds_every_one_that_is_named():
    assert variables(condition('principal is Agent && context.intent == "a"')) == {"principal", "context"}
    assert variables(condition('"Var" == "context"')) == set()


@pytest.mark.parametrize("text", ["1 > 2", 'context has host || "a" like "b*"', "!([1].contains(2))", "true == true"])
def test_constants_finds_a_comparison_of_constants_anywhere(text: str):
    assert constants(condition(text))


@pytest.mark.parametrize("text", ["context.payload_bytes > 2", '["a"].contains(context.intent)', "principal is Agent"])
def test_constants_finds_nothing_when_every_comparison_has_a_variable(text: str):
    assert not constants(condition(text))


def test_has_arithmetic_finds_calculations_only():
    assert has_arithmetic(condition("context.payload_bytes + 1 > 2"))
    assert has_arithmetic(condition("-context.payload_bytes < 2"))
    assert not has_arithmetic(condition("context.payload_bytes > -2"))


def test_entities_names_those_of_one_type():
    found = condition('principal == Agent::"a" || principal in [Role::"b", Role::"c"]')
    assert entities(found, "Role") == {"b", "c"}
    assert entities(found, "Agent") == {"a"}


def test_literals_collects_what_each_attribute_is_compared_with():
    found = literals(
        (
            condition('["a:1", "b:2"].contains(context.host) && context.path like "src/*\\*"'),
            condition('context.payload_bytes + 7 < 9 && context.on_behalf_of.containsAny(["person:ann"])'),
        )
    )
    assert found["host"].texts == ("a:1", "b:2")
    assert found["path"].patterns == (("s", "r", "c", "/", None, "*"),)
    assert found["payload_bytes"].numbers == (7, 9)
    assert found["on_behalf_of"].texts == ("person:ann",)
