"""What of a JSON Schema a provider can hold a model to."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from assent.reasoning.schemas import closed, enforced, is_strict

ITEM = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1, "description": "how many"}}}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "list": {"type": "array", "items": ITEM, "minItems": 2}, "either": {"anyOf": [ITEM, {"type": "null"}]},
    },
    "required": ["list", "either"],
    "$defs": {"one": ITEM},
}  # fmt: skip


def test_schema_is_closed_everywhere_and_the_original_stays_as_it_is():
    before = copy.deepcopy(SCHEMA)
    found = closed(SCHEMA)
    assert before == SCHEMA
    for one in (
        found, found["properties"]["list"]["items"], found["properties"]["either"]["anyOf"][0], found["$defs"]["one"],
    ):  # fmt: skip
        assert one["additionalProperties"] is False
    assert closed(found) == found


def test_schema_that_says_itself_what_else_there_may_be_is_believed():
    there = {"type": "object", "properties": {}, "additionalProperties": {"type": "string"}}
    assert closed(there) == there
    assert closed({"type": "object"}) == {"type": "object"}


def test_what_no_grammar_enforces_is_told_in_words():
    found = enforced(SCHEMA)
    listed = found["properties"]["list"]
    assert listed["description"] == "(minItems: 2)"
    assert "minItems" not in listed
    assert listed["items"]["properties"]["n"] == {"type": "integer", "description": "how many (minimum: 1)"}
    assert enforced({"type": "array", "minItems": 1}) == {"type": "array", "minItems": 1}


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (closed({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}), True),
        (closed({"type": "object", "properties": {"a": {"type": "string"}}}), False),
        ({"type": "object", "properties": {}, "additionalProperties": False}, True),
        ({"type": "object"}, False),
        ({"type": "array", "items": {"type": "string"}}, False),
        (closed(SCHEMA), False),
        ({"type": "object", "properties": 3, "required": [], "additionalProperties": False}, False),
        ({"type": "object", "properties": {}, "required": {}, "additionalProperties": False}, False),
        ({"type": "object", "properties": {}, "additionalProperties": False, "allOf": []}, False),
    ],
)
def test_schema_is_strict_only_when_every_object_requires_all_it_has(schema, strict):
    assert is_strict(schema) is strict
