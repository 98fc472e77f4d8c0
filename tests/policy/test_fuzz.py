"""Whatever is written into a policy or asked of it: never a traceback, and never an allow that Cedar would not say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cedarpy
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import assent.policy.starter
from assent.ledger.decisions import Verdict
from assent.ledger.operations import Facts
from assent.policy.activation import Report, check
from assent.policy.approvals import Approval
from assent.policy.requests import context_of
from assent.policy.schema import SCHEMA
from assent.primitives.digests import Digest
from assent.primitives.errors import Malformed
from tests.policy.sample import ASK, CONTRACTS, DELETE, PRINCIPALS, READ_FILES, call, decide, engine

STARTER = (Path(assent.policy.starter.__path__[0]) / "starter.cedar").read_text(encoding="utf-8")
WISHES = (
    call(),
    call("files.delete"),
    call("shell.run", {"argv": ["ls"]}),
    call("http.get", {"url": "http://a.test/"}),
)

TOKENS = st.sampled_from(
    [
        '@id("a")',
        '@id("b")',
        '@review("?")',
        '@quorum("2")',
        "@floor",
        '@example("{}")',
        "permit",
        "forbid",
        "(",
        ")",
        "principal",
        "action",
        "resource",
        "context",
        ",",
        ";",
        "when",
        "unless",
        "{",
        "}",
        "==",
        "!=",
        "<",
        "&&",
        "||",
        "!",
        "in",
        "is",
        "has",
        "like",
        "if",
        "then",
        "else",
        ".",
        "[",
        "]",
        "+",
        "*",
        "-",
        "1",
        "9223372036854775807",
        '"a*"',
        '"',
        "Agent",
        '::"writer"',
        'Action::"read"',
        'Operation::"files.read"',
        "context.path",
        "context.payload_bytes",
        "context.approval.quorum",
        "context.intent",
        "?principal",
        "contains",
        "true",
        "//",
        "\n",
        "\r",
        "\u2028",
        "é",
        "\x00",
    ]
)
HEADS = st.sampled_from(["(principal, action, resource)", "(principal is Agent, action, resource)"])
ATOMS = st.sampled_from(
    [
        "context.inside_workspace",
        "context has path",
        "context has approval",
        'context has host && context.host like "a*"',
        "context.payload_bytes * 9007199254740993 > 1",
        "context.payload_bytes + 1 > 0",
        "principal is Agent",
        'resource in Connector::"files"',
        'context.on_behalf_of.contains("person:ann")',
        "1 > 2",
        'context.path == "a"',
        "context has approval && context.approval.quorum > 1",
        "context has approval && context.approval.intent == context.intent",
        'context.intent like "sha256:*"',
        "context has run",
    ]
)
CONDITIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["&&", "||", "=="]), inner).map(lambda t: f"({t[0]}) {t[1]} ({t[2]})"),
        inner.map(lambda text: f"!({text})"),
        st.tuples(inner, inner, inner).map(lambda t: f"if {t[0]} then {t[1]} else {t[2]}"),
    ),
    max_leaves=6,
)
LIKELY = st.lists(
    st.tuples(st.sampled_from(["permit", "permit", "forbid"]), HEADS, st.sampled_from(["when", "unless"]), CONDITIONS),
    min_size=1,
    max_size=4,
).map(lambda rules: "\n".join(f'@id("r{n}") {r[0]}{r[1]} {r[2]} {{ {r[3]} }};' for n, r in enumerate(rules)))


@st.composite
def mutilated(draw: st.DrawFn) -> str:
    """The starter policy with pieces cut out, repeated and put in."""
    text = STARTER
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 60)))
        text = text[:start] + draw(st.one_of(st.just(""), TOKENS, st.text(max_size=5))) + text[end:]
    return text


TEXTS = st.one_of(
    st.text(),
    st.lists(TOKENS, max_size=40).map(" ".join),
    st.lists(TOKENS, max_size=40).map("".join),
    LIKELY,
    mutilated(),
)


def allowed_by_cedar(text: str, wish: Any, approval: Approval | None) -> bool:
    """Cedar itself, over the whole text, with the schema and all entities; True only for a clean allow."""
    world = engine("").world
    name, offer = wish.intent.principal, world.offers[wish.intent.operation]
    entities = cedarpy.Entities.from_json_str(msgspec.json.encode(world.entities()).decode(), SCHEMA)
    request = {
        "principal": dict(zip(("type", "id"), world.uids[name], strict=True)),
        "action": {"type": "Action", "id": offer.action},
        "resource": {"type": "Operation", "id": offer.name},
        "context": context_of(wish.intent, wish.digest, wish.facts, approval),
    }
    answer = cedarpy.is_authorized(request, text, entities, SCHEMA)
    return answer.allowed and not answer.diagnostics.errors


@pytest.mark.slow
@given(text=TEXTS)
@settings(max_examples=400)
def test_any_text_is_checked_and_judged_without_a_traceback_and_never_allows_what_cedar_does_not(text: str):
    report = check(text, contracts=CONTRACTS, principals=PRINCIPALS)
    assert isinstance(report, Report)
    try:
        judge = engine(text)
    except Malformed:
        assert report.faults
        return
    for wish in WISHES:
        for approval in (None, wish.approved("person:ann", "person:ben")):
            decision = decide(judge, wish, approval)
            if decision.verdict is Verdict.ALLOW:
                assert allowed_by_cedar(text, wish, None) or allowed_by_cedar(text, wish, approval)
            if decision.verdict is Verdict.REVIEW:
                assert not allowed_by_cedar(text, wish, None)


ODD_TEXTS = st.text(st.characters(), max_size=12) | st.sampled_from(
    ["", "\ud800", "a\x00", "\u202e", '"}', "\\", "__entity", "a.test:80", "a" * 5_000, "person:ann", "files.read"]
)
ODD = st.one_of(ODD_TEXTS, st.none(), st.booleans(), st.integers(), st.floats(), st.binary(max_size=4), st.just({}))
FACTS = st.builds(
    Facts,
    path=ODD,
    inside_workspace=ODD,
    host=ODD,
    method=ODD,
    program=ODD,
    payload_bytes=st.one_of(st.integers(-(2**70), 2**70), ODD),
)


def clean(facts: Facts) -> bool:
    """Whether facts have the types they promise, and fit what Cedar can hold."""
    try:
        known = msgspec.convert(msgspec.structs.asdict(facts), Facts, strict=True)
    except msgspec.ValidationError:
        return False
    texts = known.path + known.host + known.method + known.program
    return texts.isprintable() and -(2**63) <= known.payload_bytes < 2**63


EVERYTHING = engine('@id("a") permit(principal is Agent, action, resource);')
STRICT = engine(READ_FILES + DELETE + ASK + STARTER.replace('@id("', '@id("s-'))


@pytest.mark.slow
@given(
    facts=FACTS,
    approval=st.none() | st.builds(Approval, intent=ODD, quorum=ODD, approvers=ODD | st.lists(ODD).map(tuple)),
)
@settings(max_examples=400)
def test_any_facts_and_approvals_are_judged_without_a_traceback(facts: Facts, approval: Approval | None):
    for wish in WISHES:
        odd = wish._replace(facts=facts)
        assert decide(STRICT, odd, approval).verdict in Verdict
        decision = decide(EVERYTHING, odd, approval)
        if decision.verdict is not Verdict.DENY:
            assert type(facts.inside_workspace) is bool
            assert type(facts.payload_bytes) is int
            assert all(type(text) is str for text in (facts.path, facts.host, facts.method, facts.program))
        elif clean(facts):
            assert decision.code != "policy_error"


@pytest.mark.slow
@given(
    changes=st.fixed_dictionaries(
        {
            "principal": ODD,
            "on_behalf_of": st.one_of(ODD, st.lists(ODD, max_size=3).map(tuple)),
            "operation": ODD,
            "contract": ODD,
            "run": ODD,
        }
    ),
    digest=ODD,
)
@settings(max_examples=400)
def test_any_intent_is_judged_without_a_traceback(changes: dict[str, Any], digest: Any):
    wish = call()
    for some in (*({name: value} for name, value in changes.items()), changes):
        intent = msgspec.structs.replace(wish.intent, **some)
        decision = EVERYTHING.decide(intent=intent, intent_digest=wish.digest, facts=wish.facts)
        if decision.verdict is Verdict.ALLOW:
            assert intent.principal == "agent:writer"
            assert intent.operation == "files.read"
            assert intent.contract == wish.intent.contract
    found = EVERYTHING.decide(intent=wish.intent, intent_digest=digest, facts=wish.facts)
    assert found.verdict in Verdict
    wrong = Approval(intent=Digest("sha256:" + "2" * 64), quorum=9, approvers=("person:ann",))
    delete = call("files.delete")
    assert (
        STRICT.decide(intent=delete.intent, intent_digest=delete.digest, facts=delete.facts, approval=wrong).verdict
        is not Verdict.ALLOW
    )
