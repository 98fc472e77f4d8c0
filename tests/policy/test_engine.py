from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.execution.attestations import ConfinementClass
from assent.execution.obligations import Obligations
from assent.execution.orders import Limits
from assent.ledger.contracts import contract_digest
from assent.ledger.decisions import Decision, ReviewTerms, Verdict
from assent.ledger.operations import Facts
from assent.policy import engine as engine_module
from assent.policy.approvals import Approval
from assent.policy.bundle import Bundle
from assent.policy.cedar import Answer, Judge
from assent.policy.engine import Engine
from assent.policy.explain import Bearing
from assent.policy.principals import KnownPrincipal
from assent.policy.slices import Slice
from assent.primitives.digests import Digest
from assent.primitives.errors import Malformed
from tests.policy.sample import ASK, CONTRACTS, DELETE, PRINCIPALS, READ_FILES, Call, call, decide, engine

OTHER = Digest("sha256:" + "1" * 64)
HARD = '@id("hard") @reason("not there") forbid(principal, action, resource) unless { context.inside_workspace };\n'


def short(decision: Decision) -> tuple[str, str, tuple[str, ...]]:
    return decision.verdict.value, decision.code, decision.rules


# ------------------------------------------------------------------------------------------------------ verdicts


def test_decide_allows_what_a_permit_matches_and_says_so():
    decision = decide(engine(READ_FILES), call())
    assert short(decision) == ("allow", "allowed", ("read",))
    assert decision.reason == "rule `read` permits `files.read` for `agent:writer`"
    assert decision.policy_revision == Bundle(text=READ_FILES).revision
    assert decision.review is None


def test_decide_denies_what_no_rule_permits_and_says_what_it_would_take():
    decision = decide(engine(READ_FILES), call("files.write", {"path": "a", "content": "b"}))
    assert short(decision) == ("deny", "no_rule", ())
    assert 'permit(principal == Agent::"writer", action == Action::"write"' in decision.reason
    assert decision.obligations is None


def test_decide_names_the_permits_that_were_near_when_their_conditions_do_not_hold():
    text = '@id("tiny") permit(principal is Agent, action, resource) when { context.payload_bytes < 0 };'
    assert "rule `tiny` could, but not under these conditions" in decide(engine(text), call()).reason


def test_decide_denies_what_a_forbid_matches_with_its_reason():
    decision = decide(engine(READ_FILES + HARD), call(arguments={"path": "/etc/passwd"}))
    assert short(decision) == ("deny", "forbidden", ("hard",))
    assert decision.reason == "rule `hard` forbids `files.read` for `agent:writer`: not there"


def test_decide_denies_everything_when_there_are_no_rules():
    assert short(decide(engine(""), call())) == ("deny", "no_rule", ())


def test_decide_names_all_determining_rules_sorted():
    text = "".join(f'@id("{name}") permit(principal is Agent, action, resource);' for name in ("z", "a", "m"))
    decision = decide(engine(text), call())
    assert decision.rules == ("a", "m", "z")
    assert decision.reason.startswith("rules `a`, `m` and `z` permit")


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        (call("files.shred", facts=Facts()), "unknown_operation"),
        (call("", facts=Facts()), "unknown_operation"),
        (call(principal="agent:stranger"), "unknown_principal"),
        (call(principal="person:stranger"), "unknown_principal"),
        (call(principal="writer"), "principal_invalid"),
        (call(on_behalf_of=()), "principal_invalid"),
        (call(on_behalf_of=("agent:lead",)), "principal_invalid"),
    ],
)
def test_decide_denies_before_any_rule_is_asked(wish: Any, code: str):
    text = '@id("all") permit(principal, action, resource);'
    assert short(decide(engine(text), wish)) == ("deny", code, ())


def test_decide_denies_when_the_contract_is_not_the_one_asked_under():
    wish = call()
    wish = wish._replace(intent=msgspec.structs.replace(wish.intent, contract=OTHER))
    assert short(decide(engine(READ_FILES), wish)) == ("deny", "contract_changed", ())


# ----------------------------------------------------------------------------------------------- failure of judgement


@pytest.mark.parametrize(
    "facts",
    [
        Facts(path="\ud800"),
        Facts(payload_bytes=2**63),
        Facts(payload_bytes="1"),  # type: ignore[arg-type]
        Facts(payload_bytes=1.0),  # type: ignore[arg-type]
        Facts(inside_workspace=1),  # type: ignore[arg-type]
        Facts(inside_workspace=None),  # type: ignore[arg-type]
        Facts(host={"__entity": {"type": "Agent", "id": "writer"}}),  # type: ignore[arg-type]
        Facts(program=object()),  # type: ignore[arg-type]
        Facts(host=b"169.254.169.254:80"),  # type: ignore[arg-type]
        None,
    ],
)
def test_decide_denies_when_facts_cannot_be_judged(facts: Any):
    wish = call()._replace(facts=facts)
    decision = decide(engine('@id("all") permit(principal is Agent, action, resource);'), wish)
    assert (decision.verdict, decision.code, decision.obligations) == (Verdict.DENY, "policy_error", None)


def test_decide_does_not_take_a_remembered_answer_for_facts_that_only_look_alike():
    judge = engine('@id("all") permit(principal is Agent, action, resource);')
    assert decide(judge, call(facts=Facts(inside_workspace=True, payload_bytes=1))).verdict is Verdict.ALLOW
    for facts in (Facts(inside_workspace=1, payload_bytes=1), Facts(payload_bytes=True), Facts(payload_bytes=1.0)):  # type: ignore[arg-type]
        assert decide(judge, call(facts=facts)).code == "policy_error"


def test_decide_denies_when_a_forbid_cannot_be_evaluated():
    text = (
        READ_FILES
        + '@id("f") forbid(principal, action, resource) when { context.payload_bytes * 4611686018427387904 > 3 };'
    )
    judge = engine(text)
    assert decide(judge, call(facts=Facts(path="a", payload_bytes=0))).verdict is Verdict.ALLOW
    decision = decide(judge, call(facts=Facts(path="a", payload_bytes=9)))
    assert short(decision) == ("deny", "policy_error", ())
    assert "overflow" in decision.reason


def test_decide_denies_when_a_rule_fails_only_once_an_approval_is_supposed():
    text = DELETE + (
        '@id("f") @review("?") forbid(principal, action, resource) unless '
        "{ context has approval && context.approval.quorum * 9223372036854775807 + 1 > 0 };"
    )
    wish = call("files.delete")
    assert decide(engine(text), wish).code == "policy_error"
    assert decide(engine(text), wish, wish.approved("person:ann")).code == "policy_error"


def test_decide_denies_when_the_judge_breaks(monkeypatch: pytest.MonkeyPatch):
    judge = engine(READ_FILES)
    wish = call()

    def broken(*_: object) -> None:
        raise RuntimeError("secret in the message")

    with monkeypatch.context() as patch:
        patch.setattr(Judge, "ask", broken)
        decision = decide(judge, wish)
    assert (decision.code, decision.reason) == ("policy_error", "the call could not be judged: RuntimeError")
    with monkeypatch.context() as patch:
        patch.setattr(Judge, "ask", lambda *_: Answer(allowed=True, failed="panicked"))
        assert decide(judge, wish).code == "policy_error"
    assert decide(judge, wish).verdict is Verdict.ALLOW  # a failure is not remembered


@pytest.mark.parametrize(
    "answer", [Answer(allowed=True, rules=("read",), failed="an error"), Answer(allowed=False, failed="x")]
)
def test_decide_denies_when_diagnostics_hold_an_error_whatever_the_answer(
    answer: Answer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Judge, "ask", lambda *_: answer)
    assert decide(engine(READ_FILES), call()).code == "policy_error"


@pytest.mark.parametrize("field", ["operation", "principal", "on_behalf_of", "contract", "run"])
@pytest.mark.parametrize("value", [None, 3, ["agent:writer"], {"a": 1}, "\ud800", b"agent:writer"])
def test_decide_never_raises_when_an_intent_holds_other_types(field: str, value: Any):
    wish = call()
    wish = wish._replace(intent=msgspec.structs.replace(wish.intent, **{field: value}))
    assert decide(engine(READ_FILES), wish).verdict is Verdict.DENY


# ---------------------------------------------------------------------------------------------------------- approvals


def test_decide_asks_people_when_only_an_approval_is_missing():
    decision = decide(engine(DELETE + ASK), call("files.delete"))
    assert short(decision) == ("review", "needs_review", ("ask",))
    assert decision.review == ReviewTerms(question="Delete it?", quorum=1, ttl_s=86_400)
    assert decision.obligations is not None
    assert decision.reason == "rule `ask` wants `files.delete` for `agent:writer` to be approved first"


def test_decide_allows_when_people_have_approved_this_call():
    wish = call("files.delete")
    decision = decide(engine(DELETE + ASK), wish, wish.approved("person:ann"))
    assert short(decision) == ("allow", "allowed", ("delete",))
    assert "1 person approved it as rule `ask` asked" in decision.reason


def test_decide_denies_when_nothing_permits_the_call_even_if_approved():
    wish = call("files.delete")
    for approval in (None, wish.approved("person:ann")):
        assert short(decide(engine(ASK), wish, approval)) == ("deny", "forbidden", ("ask",))


@pytest.mark.parametrize(
    "condition", ["context has approval && context.approval.intent == context.intent", "context has approval"]
)
def test_decide_takes_no_approval_of_another_call_even_when_the_rule_forgets_to_compare(condition: str):
    text = DELETE + f'@id("ask") @review("?") forbid(principal, action, resource) unless {{ {condition} }};'
    wish = call("files.delete")
    other = call("files.delete", {"path": "b.txt"})
    assert decide(engine(text), wish, wish.approved("person:ann")).verdict is Verdict.ALLOW
    for digest in (other.digest, OTHER, Digest("")):
        assert decide(engine(text), wish, wish.approved("person:ann", digest=digest)).verdict is Verdict.REVIEW


def test_decide_lets_no_approval_lift_a_second_forbid():
    wish = call("files.delete", {"path": "/etc/passwd"})
    for approval in (None, wish.approved("person:ann", "person:ben")):
        decision = decide(engine(DELETE + ASK + HARD), wish, approval)
        assert short(decision) == ("deny", "forbidden", ("ask", "hard"))
        assert decision.reason == "rule `hard` forbids `files.delete` for `agent:writer`: not there"


@pytest.mark.parametrize(
    ("people", "quorum", "verdict"),
    [
        ((), 0, "review"),
        ((), 5, "review"),
        (("person:ann",), 1, "review"),
        (("person:ann",), 9, "review"),
        (("person:ann", "person:ann"), 2, "review"),
        (("person:ann", "agent:reviewer"), 2, "review"),
        (("agent:a", "service:b"), 2, "review"),
        (("person:ann", "person:ben"), 1, "review"),
        (("person:ann", "person:ben"), 2, "allow"),
        (("person:ann", "person:ben", "person:cy"), 3, "allow"),
    ],
)
def test_decide_counts_people_once_and_nobody_else(people: tuple[str, ...], quorum: int, verdict: str):
    text = DELETE + ASK.replace('@review("Delete it?")', '@review("?") @quorum("2")')
    wish = call("files.delete")
    decision = decide(engine(text), wish, wish.approved(*people, quorum=quorum))
    assert decision.verdict == verdict
    if verdict == "review":
        assert "of 2 approvals are there" in decision.reason


def test_decide_asks_for_the_quorum_that_a_rule_counts_to_when_its_annotation_says_so():
    counting = (
        '@id("ask") @review("?") @quorum("2") forbid(principal, action, resource) '
        "unless { context has approval && context.approval.quorum >= 2 };"
    )
    wish = call("files.delete")
    assert decide(engine(DELETE + counting), wish).verdict is Verdict.REVIEW
    assert decide(engine(DELETE + counting), wish, wish.approved("person:ann")).verdict is Verdict.REVIEW
    assert decide(engine(DELETE + counting), wish, wish.approved("person:ann", "person:ben")).verdict is Verdict.ALLOW


@pytest.mark.parametrize(
    ("condition", "approvers", "verdict"),
    [
        ('context.approval.approvers.contains("person:ben")', ("person:ann",), "review"),
        ('context.approval.approvers.contains("person:ben")', ("person:ben",), "allow"),
        ("!context.approval.approvers.containsAny(context.on_behalf_of)", ("person:ann",), "review"),
        ("!context.approval.approvers.containsAny(context.on_behalf_of)", ("person:ben",), "allow"),
    ],
)
def test_decide_asks_again_when_the_wrong_people_approved(condition: str, approvers: tuple[str, ...], verdict: str):
    unless = f"unless {{ context has approval && {condition} }}"
    text = DELETE + f'@id("ask") @review("?") forbid(principal, action, resource) {unless};'
    wish = call("files.delete")
    assert decide(engine(text), wish).verdict is Verdict.REVIEW
    assert decide(engine(text), wish, wish.approved(*approvers)).verdict == verdict


def test_decide_joins_the_terms_of_all_rules_that_ask():
    text = DELETE + "".join(
        f'@id("{name}") @review("{name}?") @quorum("{quorum}") @review_ttl_s("{ttl}") '
        "forbid(principal, action, resource) unless { context has approval };"
        for name, quorum, ttl in (("b", 1, 60), ("a", 2, 90))
    )
    assert decide(engine(text), call("files.delete")).review == ReviewTerms(question="a? b?", quorum=2, ttl_s=60)


def test_decide_ignores_an_approval_that_nobody_asked_for():
    wish = call()
    decision = decide(engine(READ_FILES), wish, wish.approved("person:ann"))
    assert decision == decide(engine(READ_FILES), wish)


# -------------------------------------------------------------------------------------------------------- obligations


def test_decide_tightens_by_every_permit_that_matches():
    text = (
        '@id("a") @wall_s("20") @memory_mb("64") permit(principal is Agent, action, resource);'
        '@id("b") @wall_s("10") @output_kb("1") permit(principal is Agent, action, resource);'
        '@id("c") @wall_s("1") permit(principal is Person, action, resource);'
    )
    decision = decide(engine(text), call())
    expected = msgspec.structs.replace(
        Limits(), wall_ms=10_000, memory_bytes_max=64 * 1_048_576, output_bytes_max=1_024
    )
    assert decision.obligations == Obligations(limits=expected)


def test_decide_keeps_the_floor_of_the_contract_and_the_limits_no_rule_names():
    text = '@id("a") @floor("local-weak") @processes("9999") permit(principal is Agent, action, resource);'
    defaults = Obligations(floor=ConfinementClass.LOCAL_WEAK, limits=msgspec.structs.replace(Limits(), wall_ms=5_000))
    asked = call("shell.run", {"argv": ["ls"]})
    contract = msgspec.structs.replace(CONTRACTS["shell.run"], floor=ConfinementClass.CONTAINER)
    demanding = {**CONTRACTS, "shell.run": contract}
    judge = Engine(bundle=Bundle(text=text), contracts=demanding, principals=PRINCIPALS, defaults=defaults)
    intent = msgspec.structs.replace(asked.intent, contract=contract_digest(contract))
    found = judge.decide(intent=intent, intent_digest=asked.digest, facts=asked.facts).obligations
    limits = msgspec.structs.replace(defaults.limits, processes_max=9_999)
    assert found == Obligations(floor=ConfinementClass.CONTAINER, limits=limits)


@pytest.mark.parametrize(
    ("rules", "floor", "accept"),
    [
        ("", ConfinementClass.NAMESPACED, None),
        ('@accept("confined")', ConfinementClass.LOCAL_WEAK, ["confined"]),
        ('@accept("microvm remote-asserted")', ConfinementClass.LOCAL_WEAK, ["microvm", "remote-asserted"]),
        ('@accept("confined container") @floor("container")', ConfinementClass.CONTAINER, ["confined", "container"]),
    ],
)
def test_decide_goes_below_the_default_floor_only_where_a_rule_accepts_that_by_name(
    rules: str, floor: ConfinementClass, accept: list[str] | None
):
    text = f'@id("a") {rules} permit(principal is Agent, action, resource);'
    found = decide(engine(text), call("shell.run", {"argv": ["ls"]})).obligations
    assert found is not None
    assert found.floor is floor
    assert found.accept == (None if accept is None else tuple(map(ConfinementClass, accept)))


def test_decide_accepts_only_what_every_permit_that_names_classes_accepts():
    text = (
        '@id("a") @accept("confined namespaced") permit(principal is Agent, action, resource);'
        '@id("b") @accept("namespaced microvm") permit(principal, action, resource);'
        '@id("c") permit(principal, action, resource);'
    )
    found = decide(engine(text), call("shell.run", {"argv": ["ls"]})).obligations
    assert found is not None
    assert found.accept == (ConfinementClass.NAMESPACED,)


def test_decide_lets_a_program_reach_only_the_hosts_that_every_rule_admits_that_names_any():
    text = (
        '@id("a") @egress("api.example.org:443 *.example.net:443") permit(principal is Agent, action, resource);'
        '@id("b") @egress("a.example.net:443 api.example.org:80") permit(principal, action, resource);'
        '@id("c") permit(principal, action, resource);'
    )
    found = decide(engine(text), call("shell.run", {"argv": ["ls"]})).obligations
    assert found is not None
    assert found.hosts == ("a.example.net:443",)


def test_decide_lets_a_program_reach_nothing_when_no_rule_names_a_host():
    text = '@id("a") permit(principal is Agent, action, resource);'
    found = decide(engine(text), call("shell.run", {"argv": ["ls"]})).obligations
    assert found is not None
    assert found.hosts == ()


def test_decide_adds_nothing_to_the_host_of_a_call_when_a_rule_names_others():
    text = '@id("a") @egress("other.test:443") permit(principal is Agent, action, resource);'
    found = decide(engine(text), call("http.get", {"url": "https://api.example.org/"})).obligations
    assert found is not None
    assert found.hosts == ("api.example.org:443",)


def test_decide_holds_a_floor_that_a_rule_raises():
    text = '@id("a") @floor("builtin") permit(principal is Agent, action, resource);'
    found = decide(engine(text), call()).obligations
    assert found is not None
    assert found.floor is ConfinementClass.BUILTIN


def test_decide_holds_the_terms_of_a_lifted_rule_before_and_after_the_approval():
    text = DELETE + ASK.replace("@review", '@wall_s("2") @review')
    wish = call("files.delete")
    before, after = (decide(engine(text), wish, a).obligations for a in (None, wish.approved("person:ann")))
    assert before == after == Obligations(limits=msgspec.structs.replace(Limits(), wall_ms=2_000))


def test_decide_opens_exactly_the_host_that_was_judged():
    text = '@id("a") permit(principal is Agent, action, resource);'
    wish = call("http.get", {"url": "https://Example.org/a?b"})
    decision = decide(engine(text), wish)
    assert decision.obligations is not None
    assert decision.obligations.hosts == ("example.org:443",)
    assert decide(engine(text), call()).obligations == Obligations(hosts=())


# ------------------------------------------------------------------------------------------------------ cache, slices


def with_intent(wish: Call, **changes: Any) -> Call:
    return wish._replace(intent=msgspec.structs.replace(wish.intent, **changes))


@pytest.mark.parametrize(
    ("condition", "other"),
    [
        (f'context.intent == "{OTHER}"', call()._replace(digest=OTHER)),
        ('context has run && context.run == "run_b"', with_intent(call(), run="run_b")),
        ('context.on_behalf_of.contains("person:ben")', with_intent(call(), on_behalf_of=("person:ben",))),
        ("principal is Service", with_intent(call(), principal="service:build")),
        ('resource == Operation::"files.stat"', call("files.stat")._replace(digest=call().digest)),
        ("!context.inside_workspace", call(facts=Facts(path="a.txt", inside_workspace=False))),
        ("context.payload_bytes > 3", call(facts=Facts(path="a.txt", payload_bytes=4))),
        ('context has path && context.path like "*.key"', call(facts=Facts(path="my.key"))),
        ("!(context has path)", call(facts=Facts())),
        ('context has host && context.host == "a:1"', call(facts=Facts(path="a.txt", host="a:1"))),
        ('context has method && context.method == "GET"', call(facts=Facts(path="a.txt", method="GET"))),
        ('context has program && context.program == "ls"', call(facts=Facts(path="a.txt", program="ls"))),
    ],
)
def test_cache_tells_calls_apart_when_only_one_thing_differs_that_a_rule_looks_at(condition: str, other: Call):
    judge = engine(READ_FILES + f'@id("no") forbid(principal, action, resource) when {{ {condition} }};')
    for _ in range(2):
        assert decide(judge, call()).rules == ("read",)
        assert decide(judge, other).rules == ("no",)


def test_cache_answers_without_asking_when_only_the_digest_and_the_run_differ(monkeypatch: pytest.MonkeyPatch):
    judge = engine(DELETE + ASK)
    first = decide(judge, call("files.delete", run="run_a"))
    monkeypatch.setattr(Judge, "ask", lambda *_: pytest.fail("the judge was asked again"))
    assert decide(judge, call("files.delete", run="run_b")) is first


def test_cache_stays_bounded_and_changes_nothing_when_it_overflows(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine_module, "CACHE_MAX", 3)
    judge = engine(READ_FILES)
    wishes = [call(arguments={"path": f"{n}.txt"}) for n in range(8)]
    first = [decide(judge, wish) for wish in wishes]
    assert [decide(judge, wish) for wish in wishes] == first
    assert len(judge._cache) <= 3


def test_approved_calls_are_not_remembered():
    judge = engine(DELETE + ASK)
    wish = call("files.delete")
    assert decide(judge, wish, wish.approved("person:ann")).verdict is Verdict.ALLOW
    assert decide(judge, wish).verdict is Verdict.REVIEW


PRINCIPAL_SCOPES = (
    "principal",
    "principal is Agent",
    "principal is Person",
    'principal in Role::"writers"',
    'principal == Agent::"writer"',
    'principal is Agent in Role::"owners"',
    'principal == Person::"ann"',
)
ACTION_SCOPES = (
    "action",
    'action == Action::"read"',
    'action in Action::"call"',
    'action == Action::"irreversible"',
    'action in [Action::"write", Action::"irreversible"]',
)
RESOURCE_SCOPES = (
    "resource",
    'resource in Connector::"files"',
    'resource == Operation::"files.delete"',
    'resource in EffectClass::"read"',
    "resource is Operation",
    'resource is Operation in Connector::"http"',
    'resource == Operation::"no.such"',
)
CONDITIONS = (
    "",
    "when { context.inside_workspace }",
    "unless { context has approval }",
    'when { action == Action::"write" }',
    'when { resource in Connector::"shell" }',
    "unless { context.payload_bytes < 3 }",
)
RULE_PARTS = st.tuples(
    st.sampled_from(("permit", "permit", "forbid")),
    st.sampled_from(PRINCIPAL_SCOPES),
    st.sampled_from(ACTION_SCOPES),
    st.sampled_from(RESOURCE_SCOPES),
    st.sampled_from(CONDITIONS),
)
WISHES = (
    call(),
    call("files.delete", principal="person:ann"),
    call("files.write", {"path": "../a", "content": "12345"}),
    call("shell.run", {"argv": ["ls"]}, principal="service:build"),
    call("http.get", {"url": "http://a.test/"}),
    call("http.post", {"url": "http://a.test/", "body": "12345"}, principal="person:ben"),
)


@pytest.mark.slow
@given(parts=st.lists(RULE_PARTS, max_size=6))
def test_slices_and_cache_change_no_decision(parts: list[tuple[str, ...]]):
    text = "\n".join(f'@id("r{n}") {p[0]}({p[1]}, {p[2]}, {p[3]}) {p[4]};' for n, p in enumerate(parts))
    sliced, whole = engine(text), engine(text)
    entities = whole._cedar.entities(whole.world.entities())
    judge = whole._cedar.judge({rule.id: rule.body for rule in whole.rules}, entities)
    for name in whole._slices:
        whole._slices[name] = Slice(rules=whole.rules, making=lambda _: judge)
    for wish in WISHES:
        for approval in (None, wish.approved("person:ann")):
            found, expected = decide(sliced, wish, approval), decide(whole, wish, approval)
            assert short(found) == short(expected)
            assert found.obligations == expected.obligations
            assert decide(sliced, wish, approval) == found


# ------------------------------------------------------------------------------------------------ making, explaining


def test_engine_refuses_a_policy_and_names_every_fault():
    with pytest.raises(Malformed) as caught:
        engine("permit(principal, action, resource);\n" + READ_FILES + READ_FILES)
    assert caught.value.code == "policy_invalid"
    assert "line 1, column 1: the rule has no name" in str(caught.value)
    assert "rule `read`: the name is taken by the rule in line 2" in str(caught.value)


def test_engine_refuses_principals_and_contracts_that_are_badly_declared():
    bundle = Bundle(text=READ_FILES)
    for principals in ((KnownPrincipal(name="writer"),), (*PRINCIPALS, PRINCIPALS[0])):
        with pytest.raises(Malformed):
            Engine(bundle=bundle, contracts=CONTRACTS, principals=principals)
    with pytest.raises(Malformed) as caught:
        Engine(bundle=bundle, contracts={"files.reed": CONTRACTS["files.read"]}, principals=PRINCIPALS)
    assert caught.value.code == "contract_misnamed"


def test_revision_is_the_bundles():
    assert engine(READ_FILES).revision == Bundle(text=READ_FILES).revision


def test_explain_says_of_every_rule_what_it_makes_of_the_call():
    text = (
        READ_FILES
        + DELETE
        + ASK
        + HARD
        + ('@id("odd") forbid(principal, action, resource) when { context.payload_bytes * 4611686018427387904 > 3 };')
    )
    judge = engine(text)

    def bearings(wish: Any, approval: Approval | None = None) -> list[str]:
        found = judge.explain(intent=wish.intent, intent_digest=wish.digest, facts=wish.facts, approval=approval)
        assert found.decision == decide(judge, wish, approval)
        return [line.bearing.value for line in found.rules]

    matched, false, out, failed = Bearing
    wish = call("files.delete")
    assert bearings(call()) == [matched, out, out, false, false]
    assert bearings(wish) == [out, matched, matched, false, false]
    assert bearings(wish, wish.approved("person:ann")) == [out, matched, false, false, false]
    assert bearings(wish, wish.approved("person:ann", digest=OTHER)) == [out, matched, matched, false, false]
    assert bearings(call("files.delete", {"path": "/a"})) == [out, matched, matched, matched, false]
    assert bearings(call(facts=Facts(path="a", payload_bytes=9))) == [matched, out, out, false, failed]
    assert bearings(call("files.shred", facts=Facts())) == []
    assert bearings(call(principal="agent:stranger")) == []


def test_explain_never_raises_when_the_call_cannot_be_judged():
    wish = call()._replace(facts=Facts(path="\ud800"))
    found = engine(READ_FILES).explain(intent=wish.intent, intent_digest=wish.digest, facts=wish.facts)
    assert found.decision.code == "policy_error"
    assert found.rules == ()


def test_verdicts_carry_what_they_promise():
    judge = engine(READ_FILES + DELETE + ASK + HARD)
    for operation, path in itertools.product(("files.read", "files.delete", "files.stat"), ("a", "/a")):
        decision = decide(judge, call(operation, {"path": path}))
        assert (decision.obligations is not None) == (decision.verdict is not Verdict.DENY)
        assert (decision.review is not None) == (decision.verdict is Verdict.REVIEW)
        assert decision.rules
        assert decision.reason
