"""Schemas and patterns: what they decide, against other deciders, and that nothing a stranger writes holds them up."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.ledger.connectors.families.documents import Pointers
from assent.ledger.connectors.families.reductions import reduce
from assent.ledger.patterns import Pattern
from assent.ledger.schemas import FAULTS_MAX, Schema
from assent.primitives.errors import Malformed

ATOMS = st.sampled_from(["a", "b", "[ab]", "[^a]", ".", r"\d", r"\w", "(a|b)", "(?:ab)", "^", "$", "", r"\.", "[a-c]"])
REPEATS = st.sampled_from(["", "*", "+", "?", "{2}", "{0,2}", "{1,}", "*?", "+?"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text("ab1", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


PARTS = st.builds(lambda atom, more: atom + (more if atom not in ("^", "$", "") else ""), ATOMS, REPEATS)
PATTERNS = st.lists(st.lists(PARTS, min_size=1, max_size=4).map("".join), min_size=1, max_size=2).map("|".join)


@given(PATTERNS, st.text("abc1.", max_size=8))
def test_pattern_matches_as_the_standard_library_does(pattern, text):
    assert Pattern(pattern).matches(text) is (re.search(pattern, text, re.ASCII) is not None)


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+$", "(a|a)*$", "(a*)*b", "(.*)(.*)(.*)(.*)x$", "(a?){30}a{30}$", "([a-z]+)*1", "(x+x+)+y", "a*a*a*a*a*b"],
)
def test_pattern_that_makes_backtrackers_think_for_years_is_decided(pattern):
    assert Pattern(pattern).matches("a" * 2_000 + "!") in (True, False)


@pytest.mark.parametrize(
    "pattern",
    ["(", ")", "[", "[b-a]", "a{2,1}", "*", "a**", "(?=a)", "(?<!a)", r"\1", r"\b", r"\p{L}", "\\", r"\x1", "[a-\\d]",
     "a{1001}", "(a{500}){500}", "x" * 1_001, "(" * 60],
)  # fmt: skip
def test_pattern_outside_the_grammar_is_refused(pattern):
    with pytest.raises(Malformed) as refused:
        Pattern(pattern)
    assert refused.value.code == "pattern_refused"


def test_text_that_is_too_long_for_a_pattern_is_refused_and_not_waited_for():
    with pytest.raises(Malformed):
        Pattern("a?" * 300).matches("a" * 100_000)
    long = Schema('{"pattern":"' + "a?" * 300 + '"}').faults("a" * 100_000, name="x")
    assert "too long" in long[0]


@given(st.text())
def test_whatever_is_read_as_a_pattern_is_one_or_is_refused(text):
    with suppress(Malformed):
        assert Pattern(text).matches(text) in (True, False)


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "integer"}, [1, -2, 3.0], [1.5, "1", True, None, []]),
        ({"type": ["string", "null"]}, ["", None], [0, False, []]),
        ({"enum": [1, "a", None]}, [1, 1.0, "a", None], [True, "1", 2]),
        ({"const": {"a": [1]}}, [{"a": [1]}], [{"a": [1, 2]}, {}]),
        ({"minimum": 1, "exclusiveMaximum": 3}, [1, 2.9, "text"], [0, 3]),
        ({"multipleOf": 0.1}, [0.3, 1], [0.35]),
        ({"minLength": 2, "maxLength": 3}, ["ab", "äöü"], ["a", "abcd"]),
        ({"items": {"type": "string"}, "minItems": 1, "uniqueItems": True}, [["a"], ["a", "b"]], [[], ["a", "a"], [1]]),
        ({"properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False},
         [{"a": ""}], [{}, {"a": 1}, {"a": "", "b": 1}]),
        ({"additionalProperties": {"type": "integer"}}, [{}, {"x": 1}], [{"x": ""}]),
        ({"anyOf": [{"type": "string"}, {"minimum": 5}]}, ["a", 5, []], [4]),
        ({"oneOf": [{"type": "integer"}, {"minimum": 5}]}, [3, 5.5], [6]),
        ({"allOf": [{"minimum": 1}, {"maximum": 2}]}, [1], [0, 3]),
        ({"$ref": "#/$defs/n", "$defs": {"n": {"properties": {"n": {"$ref": "#/$defs/n"}}, "required": ["v"]}}},
         [{"v": 1}, {"v": 1, "n": {"v": 2}}], [{}, {"v": 1, "n": {}}]),
        (True, [1, None], []),
        ({"allOf": [False]}, [], [1, None]),
    ],
)  # fmt: skip
def test_schema_decides_as_the_specification_says(schema, good, bad):
    found = Schema(json.dumps(schema))
    assert [value for value in good if found.faults(value, name="x")] == []
    assert [value for value in bad if not found.faults(value, name="x")] == []


def test_every_mistake_is_named_up_to_a_bound():
    schema = Schema('{"properties":{"a":{"type":"string"}},"additionalProperties":false,"required":["b","c"]}')
    assert schema.faults({"a": 1, "x\x1b": 2}, name="body") == [
        "`body.b` is missing", "`body.c` is missing", "`body.a` must be a text", "`body.x\\x1b` is not known",
    ]  # fmt: skip
    assert len(schema.faults({f"x{n}": n for n in range(100)}, name="body")) == FAULTS_MAX


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
        {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}] * 20}}},
        {"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}] * 50}, "b": {
            "allOf": [{"$ref": "#/$defs/c"}] * 50}, "c": {"allOf": [{"$ref": "#/$defs/d"}] * 50}, "d": {
            "allOf": [{"minimum": 0}] * 50}}},
    ],
)  # fmt: skip
def test_schema_that_never_ends_refuses_the_value(schema):
    (fault,) = Schema(json.dumps(schema)).faults(1, name="x")
    assert "too intricate" in fault


@pytest.mark.parametrize(
    "schema",
    [3, [], {"not": {}}, {"type": "text"}, {"type": []}, {"enum": []}, {"pattern": "("}, {"minLength": -1},
     {"minimum": "1"}, {"properties": []}, {"properties": {"a": 3}}, {"$ref": "#/$defs/x"}, {"$ref": "http://x/"},
     {"multipleOf": 0}, {"items": [{}]}, {"anyOf": {}}, {"$defs": 3}, {"required": "a"}, {"uniqueItems": 1}],
)  # fmt: skip
def test_schema_outside_the_subset_is_refused(schema):
    with pytest.raises(Malformed) as refused:
        Schema(json.dumps(schema))
    assert refused.value.code == "schema_malformed"


@given(JSON)
def test_whatever_a_stranger_calls_a_schema_is_reduced_to_one(value):
    reduced = reduce(value, Pointers({"a": value}))
    if reduced.text:
        Schema(reduced.text)


@given(JSON, JSON)
def test_value_that_is_its_own_constant_fits(value, other):
    schema = Schema(json.dumps({"const": value}))
    assert not schema.faults(value, name="x")
    assert bool(schema.faults(other, name="x")) is (json.dumps(value) != json.dumps(other)) or value == other


@pytest.mark.parametrize(
    ("schema", "takes", "refuses", "unchecked"),
    [
        ({"type": "string", "nullable": True, "enum": ["a"]}, ["a", None], ["b", 1], ()),
        ({"minimum": 1, "exclusiveMinimum": True}, [2], [1], ()),
        ({"type": "string", "not": {"const": "a"}}, ["a"], [1], ("`not`",)),
        ({"oneOf": [{"type": "integer", "not": {}}, {"type": "integer"}]}, [1], ["a"], ("`not`",)),
        ({"additionalProperties": False, "patternProperties": {"x": {}}}, [{"x": 1}], [], ("`patternProperties`",)),
        ({"items": False, "prefixItems": [{}]}, [[1, 2]], [], ("`prefixItems`",)),
        ({"pattern": "(?=a)"}, ["b"], [], ("`pattern`",)),
        ({"$ref": "https://example.org/x"}, [1], [], ("`$ref` that leads nowhere here",)),
        ({"$ref": "#/a/b~1c"}, ["x"], [1], ()),
        ({"type": "object", "required": ["id"], "properties": {"id": {"readOnly": True}}}, [{}], [1], ()),
        ({"nullable": True, "$ref": "#/a/b~1c"}, ["x", None], [1], ()),
    ],
)  # fmt: skip
def test_reducing_takes_more_and_never_less(schema, takes, refuses, unchecked):
    reduced = reduce(schema, Pointers({"a": {"b/c": {"type": "string"}}}))
    found = Schema(reduced.text or "true")
    assert reduced.unchecked == unchecked
    assert [value for value in takes if found.faults(value, name="x")] == []
    assert [value for value in refuses if not found.faults(value, name="x")] == []


def test_schema_that_is_too_large_is_not_checked_and_says_so():
    wide = {"type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(5_000)}}
    deep: dict[str, Any] = {}
    for _ in range(300):
        deep = {"items": deep}
    schemas: list[Any] = [wide, deep]
    for schema in schemas:
        reduced = reduce(schema, Pointers({}))
        assert not reduced.text
        assert "anything" in reduced.unchecked[0]
