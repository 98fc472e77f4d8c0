"""The engine's traps, each shown to be there, and how the wrapper or the engine above it steps round it."""

from __future__ import annotations

import json
from typing import Any

import cedarpy
import pytest

from assent.ledger.operations import Facts
from assent.policy.cedar import Answer, Cedar, Judge, Question, Unreadable
from assent.policy.schema import SCHEMA
from assent.policy.world import World
from tests.policy.sample import CONTRACTS, PRINCIPALS, call, decide, engine

CEDAR = Cedar(SCHEMA)
WORLD = World(contracts=CONTRACTS, principals=PRINCIPALS)
ENTITIES = CEDAR.entities(WORLD.entities())
CONTEXT: dict[str, Any] = {
    "intent": "d", "on_behalf_of": [], "inside_workspace": True, "payload_bytes": 9, "integrity": 2,
    "authority_integrity": 2, "untrusted": [], "readers_permit": True, "beyond_mandate": False,
    "calls_in_run": 0, "calls_this_hour": 0, "calls_today": 0,
}  # fmt: skip
PERMIT = "permit(principal, action, resource);"
OVERFLOW = "forbid(principal, action, resource) when { context.payload_bytes * 4611686018427387904 > 3 };"


def judge(*rules: str, entities: cedarpy.Entities = ENTITIES) -> Judge:
    return CEDAR.judge({f"rule-{n}": CEDAR.read(text)[0] for n, text in enumerate(rules)}, entities)


def question(context: Any = None, **changed: Any) -> Question:
    text = context if isinstance(context, str) else json.dumps(CONTEXT if context is None else context)
    given: dict[str, Any] = {
        "principal": ("Agent", "writer"),
        "action": "read",
        "resource": "files.read",
        "context": text,
    }
    return Question(**{**given, **changed})


def test_judge_names_rules_by_the_ids_it_was_given():
    assert judge(PERMIT, PERMIT).ask(question()) == Answer(allowed=True, rules=("rule-0", "rule-1"))


def test_judge_fails_where_cedar_itself_allows_when_a_forbid_errors():
    bare = cedarpy.is_authorized(
        {
            "principal": 'Agent::"writer"',
            "action": 'Action::"read"',
            "resource": 'Operation::"files.read"',
            "context": CONTEXT,
        },
        PERMIT + OVERFLOW,
        "[]",
    )
    assert bare.allowed
    assert bare.diagnostics.errors
    answer = judge(PERMIT, OVERFLOW).ask(question())
    assert not answer.allowed
    assert "overflow" in answer.failed


@pytest.mark.parametrize(
    "context",
    [
        {},
        {k: v for k, v in CONTEXT.items() if k != "inside_workspace"},
        {**CONTEXT, "pth": "a"},
        {**CONTEXT, "payload_bytes": "9"},
        {**CONTEXT, "payload_bytes": 9.5},
        {**CONTEXT, "payload_bytes": 2**63},
        {**CONTEXT, "intent": None},
        {**CONTEXT, "intent": {"__entity": {"type": "Agent", "id": "writer"}}},
        {**CONTEXT, "host": {"__extn": {"fn": "ip", "arg": "127.0.0.1"}}},
        {**CONTEXT, "approval": {"intent": "d", "quorum": 1}},
        {**CONTEXT, "on_behalf_of": [1]},
        "null",
        "[]",
        "{",
        "",
        "[" * 10_000,
    ],
)
def test_judge_fails_when_the_context_does_not_fit_the_schema(context: Any):
    answer = judge(PERMIT).ask(question(context))
    assert not answer.allowed
    assert answer.failed


def test_judge_fails_when_the_action_is_unknown():
    assert judge(PERMIT).ask(question(action="shred")).failed


def test_judge_fails_when_a_name_is_not_valid_unicode():
    assert judge(PERMIT).ask(question(principal=("Agent", "\ud800"))).failed


def test_judge_answers_every_question_when_one_of_them_cannot_be_sent():
    answers = judge(PERMIT).ask_all([question(), question(resource="\ud800")])
    assert [bool(answer.failed) for answer in answers] == [True, True]


def test_judge_fails_when_the_binding_panics(monkeypatch: pytest.MonkeyPatch):
    class PanicException(BaseException):  # as the Rust bridge calls it, outside `Exception`
        pass

    def panic(*_: object) -> None:
        raise PanicException

    monkeypatch.setattr(cedarpy, "is_authorized_batch", panic)
    assert judge(PERMIT).ask(question()) == Answer(allowed=False, failed="the policy engine panicked")


def test_judge_lets_an_interrupt_through(monkeypatch: pytest.MonkeyPatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cedarpy, "is_authorized_batch", interrupt)
    with pytest.raises(KeyboardInterrupt):
        judge(PERMIT).ask(question())


def test_absent_entity_escapes_a_forbid_on_its_group_so_the_engine_never_asks_about_one():
    forbid = 'forbid(principal, action, resource in Connector::"files");'
    assert judge(PERMIT, forbid, entities=CEDAR.entities([])).ask(question()).allowed
    assert not judge(PERMIT, forbid).ask(question()).allowed

    text = f'@id("all") permit(principal is Agent, action, resource); @id("none") {forbid}'
    assert decide(engine(text), call("files.shred", facts=Facts())).code == "unknown_operation"
    assert decide(engine(text), call(principal="agent:stranger")).code == "unknown_principal"


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ('permit(principal, action, resource) when { context.path like "a" };', "optional attribute `path`"),
        ('permit(principal, action, resource) when { context.pth == "a" };', "attribute `pth` in context not found"),
        ('permit(principal, action, resource) when { context.payload_bytes > "a" };', "expected Long"),
        ('permit(principal, action == Action::"raed", resource);', "unrecognized action"),
        ("permit(principal is Robot, action, resource);", "unrecognized entity type"),
        ('permit(principal, action, resource in EffectClass::"raed");', "not declared"),
        ("permit(principal, action, resource) when { context.approval.quorum > 0 };", "optional attribute `approval`"),
    ],
)
def test_violations_tell_how_a_rule_breaks_the_schema(rule: str, complaint: str):
    found = CEDAR.violations(rule)
    assert any(complaint in text for text in found), found
    assert not any("policy0" in text for text in found)


def test_violations_are_none_when_a_rule_fits():
    assert (
        CEDAR.violations('permit(principal, action, resource) when { context has path && context.path == "a" };') == []
    )


def test_read_keeps_the_order_of_the_text_when_there_are_more_than_ten_rules():
    text = "".join(f'@id("r{number}") {PERMIT}' for number in range(12))
    assert [rule["annotations"]["id"] for rule in CEDAR.read(text)] == [f"r{number}" for number in range(12)]


def test_entities_refuses_what_does_not_fit_the_schema():
    with pytest.raises(Unreadable):
        CEDAR.entities([{"uid": {"type": "Robot", "id": "a"}, "attrs": {}, "parents": []}])


def test_carries_is_false_when_a_condition_nests_deeper_than_cedars_json():
    chain = "permit(principal, action, resource) when { " + "true && " * 200 + "true };"
    assert not CEDAR.carries(CEDAR.read(chain)[0])
    assert CEDAR.carries(CEDAR.read(PERMIT)[0])
