"""Schemas: what a value must be, in a bounded subset of JSON Schema that can be decided surely and fast. Pure.

    type enum const · properties required additionalProperties minProperties maxProperties · items minItems maxItems
    uniqueItems · minimum maximum exclusiveMinimum exclusiveMaximum multipleOf · minLength maxLength pattern ·
    anyOf oneOf allOf · $ref into the schema's own `$defs`

Every mistake in a value is named with its place, up to `FAULTS_MAX`. A keyword outside the subset is refused when a
schema is read: whoever admits somebody's schema first reduces it to this subset and says what was dropped
(`assent.ledger.connectors.families.reductions`). Looking at one value takes at most `STEPS_MAX` steps, so that neither
a schema that refers to itself nor a deep tree of alternatives can hold up a call; a value beyond that is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final

from assent.ledger.patterns import read_pattern
from assent.primitives.canonical import canonical, parse
from assent.primitives.errors import Malformed

SCHEMA_BYTES_MAX = 262_144
NODES_MAX = 4_000
FAULTS_MAX = 20
STEPS_MAX = 100_000
DEPTH_MAX = 200

TYPES: Final = ("null", "boolean", "integer", "number", "string", "array", "object")
_ALTERNATIVES = ("anyOf", "oneOf", "allOf")
_COUNTS = ("minProperties", "maxProperties", "minItems", "maxItems", "minLength", "maxLength")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
KEYWORDS: Final = frozenset(
    {"type", "enum", "const", "properties", "required", "additionalProperties", "items", "uniqueItems", "pattern",
     "$ref", "$defs", *_ALTERNATIVES, *_COUNTS, *_BOUNDS}
)  # fmt: skip
_WORDS = {"null": "null", "boolean": "true or false", "integer": "a whole number", "number": "a number",
          "string": "a text", "array": "a list", "object": "an object"}  # fmt: skip

Node = dict[str, Any] | bool


class Schema:
    """A schema that was checked whole.

    Raises:
        Malformed: `schema_malformed`: the text is no schema in the subset.
    """

    def __init__(self, text: str) -> None:
        try:
            root = parse(text.encode(), bytes_max=SCHEMA_BYTES_MAX)
        except Malformed as malformed:
            raise _malformed(str(malformed)) from malformed
        self._defs: dict[str, Node] = {}
        self._nodes = 0
        if isinstance(root, dict):
            defs = root.get("$defs", {})
            if not isinstance(defs, dict):
                raise _malformed("`$defs` is not an object")
            self._defs = {name: _node(found) for name, found in defs.items()}
        self._root = _node(root)
        self._check(self._root)
        for found in self._defs.values():
            self._check(found)

    def faults(self, value: object, *, name: str) -> list[str]:
        """What is wrong with `value`, each with its place, which begins with `name`; empty: nothing."""
        return _Look(self._defs).all(self._root, value, name)

    def _check(self, node: Node) -> None:
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise _malformed(f"it has more than {NODES_MAX} parts")
        if isinstance(node, bool):
            return
        unknown = node.keys() - KEYWORDS
        if unknown:
            raise _malformed(f"`{min(unknown)[:40]}` is not understood")
        for keyword, value in node.items():
            fault = _keyword_fault(keyword, value)
            if fault:
                raise _malformed(fault)
        if "$ref" in node and _named(node["$ref"]) not in self._defs:
            raise _malformed("a `$ref` leads nowhere")
        for inner in _inner(node):
            self._check(_node(inner))


@lru_cache(maxsize=1_024)
def read_schema(text: str) -> Schema:
    """The schema that `text` spells.

    Raises:
        Malformed: `schema_malformed`.
    """
    return Schema(text)


class _Look:
    """One look at one value: counts its steps, gathers its faults."""

    def __init__(self, defs: dict[str, Node]) -> None:
        self._defs = defs
        self._steps = 0
        self._over = False

    def all(self, node: Node, value: object, name: str) -> list[str]:
        faults: list[str] = []
        for fault in self._faults(node, value, name, 0):
            faults.append(fault)
            if len(faults) >= FAULTS_MAX:
                break
        return [f"`{name}` is too intricate to be checked against its schema"] if self._over else faults

    def _fits(self, node: Node, value: object, depth: int) -> bool:
        return next(self._faults(node, value, "", depth), None) is None

    def _faults(self, node: Node, value: object, place: str, depth: int) -> Iterator[str]:
        self._steps += 1
        if self._steps > STEPS_MAX or depth > DEPTH_MAX:
            self._over = True
            yield f"`{place}` is too intricate"
            return
        if isinstance(node, bool):
            if not node:
                yield f"`{place}` may not be there"
            return
        if "$ref" in node:
            yield from self._faults(self._defs[_named(node["$ref"])], value, place, depth + 1)
        fault = _plain_fault(node, value)
        if fault:
            yield f"`{place}` {fault}"
            return
        if isinstance(value, dict):
            yield from self._object(node, value, place, depth)
        elif isinstance(value, list):
            for index, item in enumerate(value if "items" in node else ()):
                yield from self._faults(node["items"], item, f"{place}[{index}]", depth + 1)
        yield from self._alternatives(node, value, place, depth)

    def _object(self, node: dict[str, Any], value: dict[str, Any], place: str, depth: int) -> Iterator[str]:
        known: dict[str, Node] = node.get("properties", {})
        for name in node.get("required", ()):
            if name not in value:
                yield f"`{_below(place, name)}` is missing"
        more: Node = node.get("additionalProperties", True)
        for name, found in value.items():
            if name in known:
                yield from self._faults(known[name], found, _below(place, name), depth + 1)
            elif more is False:
                yield f"`{_below(place, name)}` is not known"
            else:
                yield from self._faults(more, found, _below(place, name), depth + 1)

    def _alternatives(self, node: dict[str, Any], value: object, place: str, depth: int) -> Iterator[str]:
        for one in node.get("allOf", ()):
            yield from self._faults(one, value, place, depth + 1)
        if "anyOf" in node and not any(self._fits(one, value, depth + 1) for one in node["anyOf"]):
            yield f"`{place}` is none of what it may be"
        if "oneOf" in node:
            fitting = sum(self._fits(one, value, depth + 1) for one in node["oneOf"])
            if fitting != 1:
                yield f"`{place}` must be exactly one of what it may be, and is {fitting or 'none'}"


def kinds_of(value: object) -> tuple[str, ...]:
    """The types that `value` has: a whole number is a number too."""
    if value is None:
        return ("null",)
    if isinstance(value, bool):
        return ("boolean",)
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return ("integer", "number")
    if isinstance(value, float):
        return ("number",)
    return ("string",) if isinstance(value, str) else ("array",) if isinstance(value, list) else ("object",)


def _plain_fault(node: dict[str, Any], value: object) -> str:
    """What is wrong with `value` itself, without what is inside it."""
    if "type" in node:
        wanted = [node["type"]] if isinstance(node["type"], str) else node["type"]
        if not set(wanted) & set(kinds_of(value)):
            return f"must be {' or '.join(_WORDS[one] for one in wanted)}"
    if "enum" in node and not any(_same(value, one) for one in node["enum"]):
        return f"must be one of {_told(node['enum'])}"
    if "const" in node and not _same(value, node["const"]):
        return f"must be {_told([node['const']])}"
    if isinstance(value, str):
        return _text_fault(node, value)
    if isinstance(value, list):
        if node.get("uniqueItems") and len({canonical(item) for item in value}) < len(value):
            return "holds something twice"
        return _count_fault(node, len(value), "minItems", "maxItems", "items")
    if isinstance(value, dict):
        return _count_fault(node, len(value), "minProperties", "maxProperties", "properties")
    return _number_fault(node, value) if isinstance(value, int | float) and not isinstance(value, bool) else ""


def _text_fault(node: dict[str, Any], value: str) -> str:
    if "pattern" in node:
        try:
            fits = read_pattern(node["pattern"]).matches(value)
        except Malformed as malformed:
            return f"cannot be checked: {malformed}"
        if not fits:
            return f"does not match the pattern {node['pattern'][:80]!a}"
    return _count_fault(node, len(value), "minLength", "maxLength", "characters")


def _count_fault(node: dict[str, Any], count: int, least: str, most: str, what: str) -> str:
    if count < node.get(least, 0):
        return f"must have at least {node[least]} {what}, and has {count}"
    if count > node.get(most, count):
        return f"must have at most {node[most]} {what}, and has {count}"
    return ""


def _number_fault(node: dict[str, Any], value: float) -> str:
    tests: tuple[tuple[str, str, Callable[[float, float], bool]], ...] = (
        ("minimum", "at least", lambda v, b: v >= b),
        ("maximum", "at most", lambda v, b: v <= b),
        ("exclusiveMinimum", "more than", lambda v, b: v > b),
        ("exclusiveMaximum", "less than", lambda v, b: v < b),
        ("multipleOf", "a multiple of", _is_multiple),
    )
    for keyword, words, holds in tests:
        if keyword in node and not holds(value, node[keyword]):
            return f"must be {words} {node[keyword]}"
    return ""


def _is_multiple(value: float, of: float) -> bool:
    if isinstance(value, int) and isinstance(of, int):
        return value % of == 0
    times = value / of
    return math.isfinite(times) and abs(times - round(times)) < 1e-9


def _keyword_fault(keyword: str, value: object) -> str:
    if keyword == "pattern":
        return _pattern_fault(value)
    check = _CHECKS.get(keyword)
    return "" if check is None or check(value) else f"`{keyword}` does not hold what it should"


def _is_type(value: object) -> bool:
    names = value if isinstance(value, list) else [value]
    return bool(names) and all(isinstance(name, str) and name in TYPES for name in names)


def _is_full_list(value: object) -> bool:
    return isinstance(value, list) and bool(value)


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_bound(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_CHECKS: dict[str, Callable[[object], bool]] = {
    "type": _is_type,
    "enum": _is_full_list,
    "required": lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
    "uniqueItems": lambda value: isinstance(value, bool),
    "$ref": lambda value: isinstance(value, str) and value.startswith("#/$defs/"),
    "properties": lambda value: isinstance(value, dict),
    "$defs": lambda value: isinstance(value, dict),
    **dict.fromkeys(_ALTERNATIVES, _is_full_list),
    **dict.fromkeys(_COUNTS, _is_count),
    **dict.fromkeys(_BOUNDS, _is_bound),
    "multipleOf": lambda value: isinstance(value, int | float) and not isinstance(value, bool) and value > 0,
}


def _pattern_fault(value: object) -> str:
    if not isinstance(value, str):
        return "`pattern` is not a text"
    try:
        read_pattern(value)
    except Malformed as malformed:
        return str(malformed)
    return ""


def _inner(node: dict[str, Any]) -> Iterator[object]:
    yield from node.get("properties", {}).values()
    for keyword in ("items", "additionalProperties"):
        if keyword in node:
            yield node[keyword]
    for keyword in _ALTERNATIVES:
        yield from node.get(keyword, ())


def _node(found: object) -> Node:
    if not isinstance(found, dict | bool):
        raise _malformed("a part of it is neither an object nor true or false")
    return found


def _named(reference: str) -> str:
    return reference.removeprefix("#/$defs/")


def _below(place: str, name: str) -> str:
    return f"{place}.{ascii(name[:80])[1:-1]}"


def _same(one: object, other: object) -> bool:
    """Equal as JSON: 1 and 1.0 are, 1 and true are not."""
    try:
        return canonical(one) == canonical(other)
    except Malformed:
        return False


def _told(values: list[Any]) -> str:
    shown = ", ".join(f"`{canonical(value).decode()[:60]}`" for value in values[:10])
    return ascii(f"{shown}, …" if len(values) > 10 else shown)[1:-1]


def _malformed(why: str) -> Malformed:
    return Malformed("schema_malformed", f"this is no schema that can be used: {why}")
