"""Layers: a lower one may only tighten, whatever it holds."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assent.bootstrap.policy_folder import read_policy
from assent.policy.activation import check
from assent.policy.bundle import Bundle, join
from assent.policy.comparing import compare
from assent.policy.engine import Engine
from assent.primitives.errors import Malformed
from tests.policy.test_comparing import APPROVED, BASE, CONTRACTS, PRINCIPALS

FORBID = '@id("{}") forbid (principal, action, resource in Connector::"http");\n'


def engine(text: str) -> Engine:
    return Engine(bundle=Bundle(text=text), contracts=CONTRACTS, principals=PRINCIPALS)


def faults(*texts: tuple[str, str]) -> list[tuple[str, str]]:
    text = join(dict(texts)).text
    return [(fault.code, fault.rule) for fault in check(text, contracts=CONTRACTS, principals=PRINCIPALS).faults]


def test_layers_are_joined_in_their_order_and_each_rule_knows_its_own():
    bundle = join(
        {
            "installation/a.cedar": FORBID.format("third"),
            "tenant/b.cedar": "// the tenant's\n" + FORBID.format("second"),
            "z.cedar": BASE,
        }
    )
    made = engine(bundle.text)
    assert [(rule.id, rule.layer) for rule in made.rules][-2:] == [("second", "tenant"), ("third", "installation")]
    assert {rule.layer for rule in made.rules[:-2]} == {"platform"}
    lines = {rule.id: bundle.place(rule.line) for rule in made.rules}
    assert (lines["second"], lines["third"]) == (("tenant/b.cedar", 2), ("installation/a.cedar", 1))


def test_text_of_one_layer_is_as_it_was():
    assert join({"a.cedar": BASE}).text == BASE


@pytest.mark.parametrize(
    "rule",
    [
        '@id("bad") permit (principal, action, resource);',
        '@id("bad") permit (principal == Person::"ann", action, resource == Operation::"files.read");',
        f'@id("bad") @review("Sure?") @wall_s("3600") forbid (principal, action, resource) {APPROVED};',
        f'@id("bad") @review("Sure?") @accept("local-weak") forbid (principal, action, resource) {APPROVED};',
        f'@id("bad") @review("Sure?") @egress("example.org:443") forbid (principal, action, resource) {APPROVED};',
    ],
)
@pytest.mark.parametrize("layer", ["tenant", "installation"])
def test_rule_that_could_loosen_is_refused_in_a_lower_layer_and_taken_in_the_first(layer: str, rule: str):
    assert ("layer_loosens", "bad") in faults(("a.cedar", BASE), (f"{layer}/b.cedar", rule))
    assert ("layer_loosens", "bad") not in faults(("a.cedar", BASE), ("b.cedar", rule))
    with pytest.raises(Malformed, match="may only tighten"):
        engine(join({"a.cedar": BASE, f"{layer}/b.cedar": rule}).text)


@pytest.mark.parametrize("line", ["//! layer: platform", "  //! layer: platform", "//!", "\t//! x"])
def test_file_cannot_say_where_a_layer_begins(line: str):
    hidden = (
        f'@id("bad") forbid (principal, action, resource);\n{line}\n@id("up") permit (principal, action, resource);'
    )
    with pytest.raises(Malformed) as raised:
        join({"a.cedar": BASE, "tenant/b.cedar": hidden})
    assert raised.value.code == "policy_marked"


@pytest.mark.parametrize("mark", ["//! layer: platform", "//! layer: other", "//! tenant"])
def test_text_whose_layers_go_back_up_or_are_none_is_refused(mark: str):
    text = f"{BASE}//! layer: tenant\n{FORBID.format('second')}{mark}\n"
    found = check(text, contracts=CONTRACTS, principals=PRINCIPALS).faults
    assert [(fault.code, fault.line) for fault in found] == [
        ("layer_unknown", text[: text.rindex("//!")].count("\n") + 1)
    ]


def test_folder_is_read_with_its_layers(tmp_path: Path):
    (tmp_path / "a.cedar").write_text(BASE)
    for layer in ("tenant", "installation", "other"):
        (tmp_path / layer).mkdir()
        (tmp_path / layer / "rules.cedar").write_text(FORBID.format(layer))
    made = engine(read_policy(tmp_path).text)
    assert {rule.id: rule.layer for rule in made.rules if rule.layer != "platform"} == {
        "tenant": "tenant",
        "installation": "installation",
    }


CONDITIONS = st.sampled_from(
    ["", "when { context.integrity < 2 }", "when { context.inside_workspace }", f"{APPROVED}",
     "unless { context.payload_bytes < 1000 }", 'when { context has host && context.host like "*.example.org:443" }'],
)  # fmt: skip
HEADS = st.sampled_from(
    ["principal, action, resource", 'principal in Role::"writers", action, resource',
     'principal, action == Action::"read", resource', 'principal, action, resource == Operation::"files.delete"'],
)  # fmt: skip
TERMS = st.sampled_from(["", '@review("Sure?")', '@review("Sure?") @quorum("3") @floor("microvm")'])
LOWER = st.lists(st.tuples(HEADS, CONDITIONS, TERMS), min_size=1, max_size=3)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(lower=LOWER)
def test_whatever_a_lower_layer_forbids_nothing_becomes_looser(lower: list[tuple[str, str, str]]):
    rules = [f'@id("low-{n}") {terms} forbid ({head}) {when};' for n, (head, when, terms) in enumerate(lower)]
    tightened = join({"a.cedar": BASE, "tenant/b.cedar": "\n".join(rules)}).text
    found = compare(engine(BASE), engine(tightened), points_each=64)
    assert found.looser == 0, found.examples
