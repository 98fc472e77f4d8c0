"""JSON Schemas for the answers of models: what of one a provider can hold a model to. Pure.

A provider that constrains what a model may say knows a part of JSON Schema only, and refuses a question with more than
that. A schema is closed for it (an object has no members but the named ones, which is narrower, so that what fits it
fits the original too), and what it cannot enforce is left to be read: whoever asked checks the answer anyway.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

Schema: TypeAlias = dict[str, Any]

_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_MAPS = ("properties", "$defs", "definitions", "patternProperties")
_SINGLE = ("items", "additionalProperties", "not", "if", "then", "else")
_UNENFORCED = (
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern",
    "maxItems", "uniqueItems", "minProperties", "maxProperties", "default", "examples",
)  # fmt: skip

_STRICT = frozenset(
    {
        "type", "properties", "required", "additionalProperties", "enum", "const", "anyOf", "items", "description",
        "title", "$defs", "$ref", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "pattern",
        "format", "minItems", "maxItems",
    }
)  # fmt: skip


def closed(schema: Schema) -> Schema:
    """The schema with every object that names members closed to others."""
    return _changed(schema, _close)


def enforced(schema: Schema) -> Schema:
    """The closed schema, with the bounds that grammars do not express told in the descriptions instead."""
    return _changed(schema, lambda one: _told(_close(one)))


def is_strict(schema: Schema) -> bool:
    """Whether a provider that is strict takes it: it is an object, each object in it is closed and requires every one
    of its members, and nothing in it is beyond the part of JSON Schema that such providers know."""
    return schema.get("type") == "object" and all(map(_strict, _all(schema)))


def _all(schema: Schema) -> list[Schema]:
    """This schema and each one in it."""
    found: list[Schema] = []

    def keep(one: Schema) -> Schema:
        found.append(one)
        return one

    _changed(schema, keep)
    return found


def _changed(schema: Schema, change: Callable[[Schema], Schema]) -> Schema:
    """`change` done to this schema and to each one in it, the innermost first."""
    found = dict(schema)
    for name, value in schema.items():
        if name in _LISTS and isinstance(value, list):
            found[name] = [_changed(one, change) if isinstance(one, dict) else one for one in value]
        elif name in _MAPS and isinstance(value, dict):
            found[name] = {key: _changed(one, change) if isinstance(one, dict) else one for key, one in value.items()}
        elif name in _SINGLE and isinstance(value, dict):
            found[name] = _changed(value, change)
    return change(found)


def _close(schema: Schema) -> Schema:
    named = isinstance(schema.get("properties"), dict)
    return {**schema, "additionalProperties": False} if named and "additionalProperties" not in schema else schema


def _strict(schema: Schema) -> bool:
    if not _STRICT.issuperset(schema):
        return False
    if schema.get("type") != "object" and "properties" not in schema:
        return True
    members, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(members, dict) or not isinstance(required, list):
        return False
    return schema.get("additionalProperties") is False and all(name in required for name in members)


def _told(schema: Schema) -> Schema:
    out = {name: schema[name] for name in _UNENFORCED if name in schema}
    if schema.get("minItems", 0) not in (0, 1):
        out["minItems"] = schema["minItems"]
    if not out:
        return schema
    kept = {name: value for name, value in schema.items() if name not in out}
    said = ", ".join(f"{name}: {value}" for name, value in sorted(out.items()))
    return {**kept, "description": f"{schema.get('description', '')} ({said})".strip()}
