from __future__ import annotations

import pytest

from assent.policy.cedar import Cedar
from assent.policy.rules import Scope, read_rules
from assent.policy.schema import SCHEMA
from assent.policy.text import RULES_MAX, TEXT_BYTES_MAX

CEDAR = Cedar(SCHEMA)
GOOD = '@id("{}") permit(principal is Agent, action, resource);'


def codes(text: str) -> list[tuple[str, str, int]]:
    return [(fault.code, fault.rule, fault.line) for fault in read_rules(text, cedar=CEDAR).faults]


def test_read_rules_reads_name_scope_condition_and_place():
    (rule,) = read_rules(
        '// one\n  @id("a.b-c") @reason("why")\nforbid(principal is Agent in Role::"x", action in [Action::"read", '
        'Action::"write"], resource == Operation::"files.read") when { context has host } '
        "unless { context has approval };",
        cedar=CEDAR,
    ).rules
    assert (rule.id, rule.forbids, rule.asks, rule.line, rule.column) == ("a.b-c", True, True, 2, 3)
    assert rule.principal == Scope(op="is", kind="Agent", entities=(("Role", "x"),))
    assert rule.action == Scope(op="in", entities=(("Action", "read"), ("Action", "write")))
    assert rule.resource == Scope(op="==", entities=(("Operation", "files.read"),))
    assert rule.reads == {"host", "approval"}
    assert rule.terms.reason == "why"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("permit(principal is Agent, action, resource);", ("id_missing", "", 1)),
        ("@id permit(principal is Agent, action, resource);", ("id_malformed", "", 1)),
        ('@id("") permit(principal is Agent, action, resource);', ("id_malformed", "", 1)),
        ('@id("A b") permit(principal is Agent, action, resource);', ("id_malformed", "", 1)),
        ('@id("a\\u{202e}") permit(principal is Agent, action, resource);', ("id_malformed", "", 1)),
        (f'@id("{"a" * 65}") permit(principal is Agent, action, resource);', ("id_malformed", "", 1)),
        ('\n@id("a") permit(principal == ?principal, action, resource);', ("template", "a", 2)),
        ('@id("a") permit(principal is Agent in ?principal, action, resource);', ("template", "a", 1)),
        ('@id("a") permit(principal, action, resource) when { context.pth == "x" };', ("schema", "a", 1)),
        ('@id("a") @wal_s("3") permit(principal, action, resource);', ("annotation", "a", 1)),
        ('@id("a") @id("b") permit(principal, action, resource);', ("syntax", "", 1)),
        (
            '@id("a") permit(principal, action, resource) when { ' + "true && " * 100 + "true };",
            ("rule_too_large", "a", 1),
        ),
        ('@id("a") permit(principal, action, resource) when { ' + "(" * 5_000 + "true };", ("rule_too_large", "", 1)),
        ("permit", ("syntax", "", 1)),
        (";", ("syntax", "", 1)),
        ("\ud800", ("policy_too_large", "", 0)),
    ],
)
def test_read_rules_refuses_a_rule_with_its_place(text: str, fault: tuple[str, str, int]):
    assert fault in codes(text)
    assert not read_rules(text, cedar=CEDAR).rules


def test_read_rules_refuses_the_second_of_two_rules_with_one_name():
    assert codes(GOOD.format("a") + "\n" + GOOD.format("b") + "\n" + GOOD.format("a")) == [("id_taken", "a", 3)]


def test_read_rules_tells_every_mistake_and_keeps_the_good_rules():
    text = "\n".join([GOOD.format("a"), "permit(principal, acton, resource);", GOOD.format("b"), "permit"])
    reading = read_rules(text, cedar=CEDAR)
    assert [rule.id for rule in reading.rules] == ["a", "b"]
    assert [(fault.code, fault.line) for fault in reading.faults] == [("syntax", 2), ("syntax", 4)]


def test_read_rules_refuses_a_text_that_is_too_large():
    assert codes("//" + "x" * TEXT_BYTES_MAX) == [("policy_too_large", "", 0)]
    assert codes(";" * (RULES_MAX + 1)) == [("policy_too_large", "", 0)]
