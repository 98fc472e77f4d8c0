from __future__ import annotations

import pytest

from assent.policy.activation import Report, check
from assent.policy.calls import GRID_MAX, Grid
from assent.policy.cedar import Cedar
from assent.policy.rules import read_rules
from assent.policy.schema import SCHEMA
from assent.policy.world import World
from assent.primitives.errors import Malformed
from tests.policy.sample import ASK, CONTRACTS, DELETE, PRINCIPALS, READ_FILES

ANY = "(principal, action, resource)"
FILES = '(principal, action, resource in Connector::"files")'
ASKED = "context has approval && context.approval"
STRANGERS = "!context.approval.approvers.containsAny(context.on_behalf_of)"
KEY = 'context has path && context.path like "*.key"'
HTTP = '(principal, action, resource in Connector::"http")'


def report(text: str) -> Report:
    return check(text, contracts=CONTRACTS, principals=PRINCIPALS)


def faults(text: str) -> list[str]:
    return [fault.code for fault in report(text).faults]


def warnings(text: str) -> list[str]:
    return [fault.code for fault in report(text).warnings]


def test_check_finds_a_call_for_every_good_rule():
    found = report(READ_FILES + DELETE + ASK)
    assert (found.faults, found.warnings) == ((), ())
    assert [(rule.rule, rule.effect, rule.line) for rule in found.rules] == [
        ("read", "permit", 1),
        ("delete", "permit", 2),
        ("ask", "forbid", 3),
    ]
    assert found.rules[2].example == "agent:writer for person:someone files.delete"


@pytest.mark.parametrize(
    "rule",
    [
        f"permit{FILES} when {{ context.payload_bytes > 5 && context.payload_bytes < 7 }};",
        f"permit{FILES} when {{ context.payload_bytes + 3 == 10 }};",
        f'permit{FILES} when {{ context has path && context.path like "src/*" && context.path like "*.py" }};',
        f'permit{FILES} when {{ context has path && context.path like "src/*" && !(context.path like "*.py") }};',
        f'permit{FILES} when {{ context has path && !(["a", "b"].contains(context.path)) }};',
        f'permit{HTTP} when {{ context has host && ["a:1", "b:2"].contains(context.host) && context.host != "a:1" }};',
        f'permit{HTTP} when {{ context has host && context.host like "*.a:1" }} when {{ context has method }};',
        f"permit{HTTP} unless {{ context has host }};",
        f"forbid{ANY} unless {{ context.inside_workspace }};",
        f'forbid{ANY} when {{ context has run && context.run == "run_1" }};',
        f'forbid{ANY} when {{ context.intent == "sha256:1" }};',
        f'permit{FILES} when {{ context.on_behalf_of.contains("person:ann") }};',
        f'permit{FILES} when {{ context.on_behalf_of.containsAll(["agent:lead", "schedule:nightly"]) }};',
        f'permit{FILES} when {{ context.on_behalf_of.containsAny(["service:build"]) }};',
        f"permit{FILES} when {{ context.on_behalf_of.isEmpty() }};",
        f'permit{FILES} when {{ principal in Role::"writers" }};',
        f'permit{FILES} when {{ principal == Person::"ben" }};',
        f'permit{FILES} when {{ principal is Agent && !(principal in Role::"owners") }};',
        f'permit{ANY} when {{ resource in [Operation::"files.read", Operation::"http.get"] }};',
        f'permit{ANY} when {{ resource == Operation::"http.delete" && context has host && context.host == "a:1" }};',
        f'permit{ANY} when {{ action == Action::"irreversible" && resource in Connector::"http" }};',
        f"permit{FILES} when {{ if context.inside_workspace then context.payload_bytes < 3 else false }};",
        'permit(principal in Role::"owners", action, resource);',
        'permit(principal == Agent::"writer", action in [Action::"write"], resource in Connector::"shell");',
        'permit(principal, action, resource is Operation in Connector::"shell") when { context has program };',
        f'@review("?") @quorum("2") forbid{FILES} unless {{ context has approval && context.approval.quorum >= 2 }};',
        f'@review("?") forbid{FILES} unless {{ {ASKED}.approvers.contains("person:boss") }};',
        f'@review("?") forbid{FILES} unless {{ {ASKED}.approvers.containsAny(context.on_behalf_of) }};',
        f'@review("?") forbid{FILES} unless {{ {ASKED}.quorum > 0 && {STRANGERS} }};',
        f'@review("?") forbid{FILES} when {{ {KEY} }} unless {{ context has approval }};',
    ],
)
def test_check_finds_a_call_when_there_is_one(rule: str):
    found = report(f'@id("a") {rule}')
    assert found.faults == ()
    assert found.rules[0].example


@pytest.mark.parametrize(
    "rule",
    [
        'permit(principal, action, resource == Operation::"files.raed");',
        'permit(principal, action, resource in Connector::"fiels");',
        'permit(principal, action == Action::"read", resource == Operation::"files.write");',
        'permit(principal == Agent::"wirter", action, resource);',
        'permit(principal in Role::"writer", action, resource);',
        'permit(principal is Service in Role::"writers", action, resource);',
        f"forbid{FILES} when {{ context has host }};",
        f"forbid{FILES} when {{ context.payload_bytes < 0 }};",
        f"forbid{FILES} when {{ context.payload_bytes > 5 && context.payload_bytes < 6 }};",
        f'forbid{FILES} when {{ context has path && context.path == "" }};',
        f'forbid{FILES} when {{ context has path && context.path == "a" && context.path == "b" }};',
        f'forbid{FILES} when {{ context.on_behalf_of.contains("ann") }};',
        f'forbid{FILES} when {{ context.on_behalf_of.containsAll(["person:ann", "person:ben"]) }};',
        f"forbid{FILES} when {{ principal is Person && !context.on_behalf_of.isEmpty() }};",
        f'forbid{FILES} when {{ principal in Role::"nobody" }};',
        f'forbid{ANY} when {{ resource == Operation::"no.such" }};',
        f'@review("?") forbid{FILES} when {{ context has approval && context.approval.intent != context.intent }};',
    ],
)
def test_check_refuses_a_rule_that_can_never_apply(rule: str):
    assert "never_applies" in faults(f'@id("a") {rule}')


@pytest.mark.parametrize("condition", ["1 > 2", "true", "2 > 1", 'context has run || "a" == "b"'])
def test_check_refuses_a_condition_that_decides_nothing(condition: str):
    assert "condition_constant" in faults(f'@id("a") permit{FILES} when {{ {condition} }};')


def test_check_says_that_a_rule_never_applies_when_its_condition_is_impossible():
    assert faults(f'@id("a") permit{FILES} when {{ 1 > 2 }};') == ["condition_constant", "never_applies"]


@pytest.mark.parametrize(
    "rule",
    [
        f"permit{ANY};",
        'permit(principal, action in Action::"call", resource);',
        f"permit{ANY} when {{ context.payload_bytes >= 0 }};",
        f"permit{ANY} when {{ context has host || !(context has host) }};",
    ],
)
def test_check_refuses_a_permit_of_everything_to_everybody(rule: str):
    assert faults(f'@id("a") {rule}') == ["permit_unconditional"]


def test_check_accepts_a_permit_that_names_one_thing():
    for rule in (
        "permit(principal is Person, action, resource);",
        'permit(principal, action == Action::"read", resource);',
    ):
        assert faults(f'@id("a") {rule}') == []


def test_check_accepts_a_forbid_of_everything_to_everybody():
    assert faults(f'@id("a") forbid{ANY};') == []


@pytest.mark.parametrize("effect", ["permit", "forbid"])
def test_check_refuses_a_rule_that_cannot_be_evaluated_for_some_call(effect: str):
    found = report(f'@id("a") {effect}{FILES} when {{ context.payload_bytes * 2000 < 7 }};')
    assert [fault.code for fault in found.faults] == ["rule_fails"]
    assert "overflow" in found.faults[0].message


def test_check_tries_a_rule_that_calculates_on_its_whole_grid_after_it_has_found_a_call():
    paths = ", ".join(f'"{number}"' for number in range(40))
    condition = f"[{paths}].contains(context.path) || context.payload_bytes * 2000 < 7"
    assert faults(f'@id("a") forbid{FILES} when {{ context has path && ({condition}) }};') == ["rule_fails"]


def test_check_refuses_a_permit_that_asks_for_an_approval():
    assert faults(f'@id("a") permit{FILES} when {{ context has approval }};') == ["permit_asks"]


@pytest.mark.parametrize(
    "condition",
    [
        "context.inside_workspace",
        "context has approval && context.approval.quorum >= 3",
        'context has approval && context.approval.approvers.contains("agent:boss")',
        'context has approval && context.approval.approvers.contains("boss")',
    ],
)
def test_check_refuses_a_review_whose_approval_lifts_nothing(condition: str):
    assert faults(f'@id("a") @review("?") @quorum("2") forbid{FILES} unless {{ {condition} }};') == [
        "review_not_lifted"
    ]


def test_check_warns_when_a_rule_asks_people_without_a_question():
    text = READ_FILES + f'@id("a") forbid{FILES} unless {{ context has approval }};'
    assert (faults(text), warnings(text)) == ([], ["question_missing"])


@pytest.mark.parametrize("text", ["", "// nothing", f'@id("a") forbid{ANY};'])
def test_check_warns_when_nothing_is_permitted(text: str):
    assert warnings(text) == ["policy_empty"]


def test_check_only_warns_when_a_general_rule_is_about_a_class_of_which_nothing_is_declared():
    reading = {name: contract for name, contract in CONTRACTS.items() if name == "files.read"}
    text = READ_FILES + '@id("a") forbid(principal, action == Action::"irreversible", resource);'
    found = check(text, contracts=reading, principals=PRINCIPALS)
    assert ([f.code for f in found.faults], [f.code for f in found.warnings]) == ([], ["nothing_declared"])
    assert check(READ_FILES + DELETE, contracts=reading, principals=PRINCIPALS).faults[0].code == "never_applies"


def test_check_supposes_a_principal_of_a_kind_of_which_none_is_declared():
    text = '@id("a") permit(principal is Agent, action, resource);'
    assert check(text, contracts=CONTRACTS, principals=()).faults == ()


EXAMPLE = (
    '{{\\"principal\\":\\"agent:writer\\",\\"on_behalf_of\\":[\\"person:ann\\"],'
    '\\"operation\\":\\"files.read\\",\\"facts\\":{{\\"path\\":\\"{}\\"}}}}'
)
HIDDEN = 'when { context has path && context.path like "a*" && context.path like "*b*" && context.path like "*c" };'


def test_check_takes_the_example_when_the_search_finds_no_call():
    assert faults(f'@id("a") permit{FILES} {HIDDEN}') == ["never_applies"]
    found = report(f'@id("a") @example("{EXAMPLE.format("abc")}") permit{FILES} {HIDDEN}')
    assert found.faults == ()
    assert found.rules[0].example == "agent:writer for person:ann files.read path='abc'"


def test_check_takes_an_approved_example_with_the_quorum_of_the_rule():
    example = '{\\"principal\\":\\"person:ann\\",\\"operation\\":\\"files.read\\",\\"approved\\":true}'
    rule = f"forbid{FILES} when {{ context has approval && context.approval.quorum == 2 }};"
    assert faults(f'@id("a") @review("?") @quorum("2") @example("{example}") {rule}') == ["review_not_lifted"]
    assert faults(f'@id("a") @example("{example}") {rule}') == ["example"]


@pytest.mark.parametrize(
    "example",
    [
        "no json",
        "[]",
        "{}",
        EXAMPLE.format("xyz"),
        EXAMPLE.format("abc").replace("files.read", "files.reed"),
        EXAMPLE.format("abc").replace("agent:writer", "agent:wirter"),
        EXAMPLE.format("abc").replace("person:ann", "agent:ann"),
        EXAMPLE.format("abc").replace("path", "paht"),
        EXAMPLE.format("\\\\ud800"),
    ],
)
def test_check_refuses_an_example_to_which_the_rule_does_not_apply(example: str):
    assert faults(f'@id("a") @example("{example}") permit{FILES} {HIDDEN}') == ["example"]


def test_check_tells_all_faults_together_in_the_order_of_the_text():
    text = "\n".join(
        [
            READ_FILES.strip(),
            f"permit{FILES};",
            f'@id("b") permit{FILES} when {{ 1 > 2 }};',
            f'@id("c") permit{FILES} when {{ context.pth == "a" }};',
            f'@id("d") @wal("3") permit{FILES};',
            f'@id("read") permit{FILES};',
            "permit(",
        ]
    )
    found = report(text)
    assert [(fault.line, fault.code) for fault in found.faults] == [
        (2, "id_missing"),
        (3, "condition_constant"),
        (3, "never_applies"),
        (4, "schema"),
        (5, "annotation"),
        (6, "id_taken"),
        (7, "syntax"),
    ]
    assert str(found.faults[3]) == "line 4, column 1: rule `c`: attribute `pth` in context not found"


def test_check_raises_only_when_a_declaration_is_malformed():
    with pytest.raises(Malformed):
        check(READ_FILES, contracts={"x": CONTRACTS["files.read"]}, principals=PRINCIPALS)


def test_grid_is_bounded_and_repeats_nothing_when_a_condition_looks_at_everything():
    names = ("path", "host", "method", "program", "run")
    any_of = {name: ", ".join(f'"{name}{n}"' for n in range(9)) for name in names}
    texts = " || ".join(f"(context has {n} && [{any_of[n]}].contains(context.{n}))" for n in names)
    rule = read_rules(f'@id("a") forbid{ANY} when {{ {texts} }};', cedar=Cedar(SCHEMA)).rules[0]
    grid = Grid(rule, World(contracts=CONTRACTS, principals=PRINCIPALS))
    assert grid.size > 10 * GRID_MAX
    calls = list(grid)
    assert GRID_MAX // 4 < len(calls) <= GRID_MAX
    assert len(set(calls)) == len(calls)
    assert {call.facts.path for call in calls} >= {f"path{n}" for n in range(9)} | {""}
