"""Somebody's schema, reduced to the subset that `assent.ledger.schemas` decides, with all that was dropped. Pure.

Reducing may only make a schema take more, never less: what is dropped is left to the other side to check, and told.
So where a part that could not be kept stands in an exclusive choice, the choice becomes an inclusive one, and a
prohibition that depends on a dropped keyword goes with it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from assent.ledger.connectors.families.documents import Pointers
from assent.ledger.patterns import read_pattern
from assent.ledger.schemas import KEYWORDS, NODES_MAX, TYPES, kinds_of, read_schema
from assent.primitives.canonical import Json, canonical
from assent.primitives.errors import Malformed

NOTES_MAX = 8

_ANNOTATIONS = frozenset(
    {"title", "description", "default", "example", "examples", "deprecated", "readOnly", "writeOnly", "xml", "format",
     "externalDocs", "discriminator", "nullable", "$schema", "$id", "$comment", "$anchor", "id", "contentMediaType",
     "contentEncoding", "contentSchema", "definitions", "$defs", "components"}
)  # fmt: skip
_SINGLE = ("items", "additionalProperties")
_LISTS = ("anyOf", "oneOf", "allOf")
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")


class Reduced(msgspec.Struct, frozen=True, kw_only=True):
    """A schema in the subset: its text (empty: it says nothing), its types, and what it does not check any more."""

    text: str = ""
    types: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()


def reduce(schema: Json, pointers: Pointers, *, requests: bool = True) -> Reduced:
    """Reduce one schema. Never raises: what cannot be kept is not checked, and `unchecked` says so.

    `requests`: the value is sent and not received, so what is `readOnly` need not be there.
    """
    work = _Reducing(pointers, requests=requests)
    try:
        root = work.run(schema)
        text = canonical(root).decode()
        read_schema(text)
    except (Malformed, RecursionError) as error:
        why = error.code.replace("_", " ") if isinstance(error, Malformed) else "it nests too deeply"
        return Reduced(types=_types(pointers.resolved(schema)), unchecked=(f"anything ({why})",))
    types = _types(root if "type" in root or "enum" in root else work.target(root))
    return Reduced(text="" if root == {} else text, types=types, unchecked=tuple(sorted(work.dropped))[:NOTES_MAX])


def _types(node: dict[str, Json]) -> tuple[str, ...]:
    found = node.get("type")
    values = node.get("enum")
    if found is None and isinstance(values, list) and values:
        kinds = {kinds_of(value)[0] for value in values}
        return (kinds.pop(),) if len(kinds) == 1 else ()
    names = found if isinstance(found, list) else [found]
    return tuple(name for name in names if isinstance(name, str) and name in TYPES)


class _Reducing:
    """One reduction: definitions are gathered as references lead to them, each once."""

    def __init__(self, pointers: Pointers, *, requests: bool) -> None:
        self._pointers = pointers
        self._requests = requests
        self._names: dict[str, str] = {}
        self._defs: dict[str, Any] = {}
        self._todo: list[tuple[str, Json]] = []
        self._nodes = 0
        self.dropped: set[str] = set()

    def run(self, schema: Json) -> dict[str, Any]:
        root = self._node(schema)
        while self._todo:
            name, found = self._todo.pop()
            self._defs[name] = self._node(found)
        if root is True:
            return {}
        whole = {"allOf": [False]} if root is False else root
        assert isinstance(whole, dict), "a node is an object, true or false"
        return whole | ({"$defs": self._defs} if self._defs else {})

    def target(self, root: dict[str, Any]) -> dict[str, Any]:
        found = self._defs.get(str(root.get("$ref", "")).removeprefix("#/$defs/"), {})
        return found if isinstance(found, dict) else {}

    def _node(self, schema: Json) -> dict[str, Any] | bool:
        self._nodes += 1
        if self._nodes > NODES_MAX // 2:
            raise Malformed("schema_too_large", f"a schema has more than {NODES_MAX // 2} parts")
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            self.dropped.add("what is no schema")
            return True
        node: dict[str, Any] = {}
        for keyword, value in schema.items():
            self._keyword(node, schema, keyword, value)
        self._mend(node, schema)
        return node

    def _keyword(self, node: dict[str, Any], schema: dict[str, Json], keyword: str, value: Json) -> None:
        if keyword in _ANNOTATIONS or keyword.startswith("x-"):
            return
        if keyword == "$ref":
            self._reference(node, value)
        elif keyword == "properties" and isinstance(value, dict):
            node["properties"] = {name: self._node(found) for name, found in value.items()}
        elif keyword in _SINGLE and isinstance(value, dict | bool):
            node[keyword] = self._node(value)
        elif keyword in _LISTS and isinstance(value, list) and value:
            self._alternatives(node, keyword, value)
        elif keyword == "required" and isinstance(value, list):
            node["required"] = self._required(schema, value)
        elif keyword in KEYWORDS and self._plain(keyword, value):
            node[keyword] = int(value) if keyword in _COUNTS and isinstance(value, float) else value
        elif not (keyword.startswith("exclusive") and isinstance(value, bool)):
            self.dropped.add(f"`{keyword[:40]}`")

    def _reference(self, node: dict[str, Any], reference: Json) -> None:
        found = self._pointers.find(reference)
        if not isinstance(found, dict | bool):
            self.dropped.add("`$ref` that leads nowhere here")
            return
        key = str(reference)
        if key not in self._names:
            self._names[key] = f"d{len(self._names)}"
            self._todo.append((self._names[key], found))
        node["$ref"] = f"#/$defs/{self._names[key]}"

    def _alternatives(self, node: dict[str, Any], keyword: str, value: list[Json]) -> None:
        before, self.dropped = self.dropped, set()
        made = [self._node(one) for one in value]
        loosened, self.dropped = bool(self.dropped), before | self.dropped
        # What a reference leads to is reduced later and may be loosened too.
        loosened = loosened or any(isinstance(one, dict) and "$ref" in one for one in made)
        if keyword != "oneOf" or not loosened:
            node[keyword] = made
        elif "anyOf" in node:
            self.dropped.add("`oneOf`")
        else:
            node["anyOf"] = made

    def _required(self, schema: dict[str, Json], names: list[Json]) -> list[str]:
        known = schema.get("properties")
        known = known if isinstance(known, dict) else {}
        return [
            name
            for name in names
            if isinstance(name, str)
            and not (self._requests and self._pointers.resolved(known.get(name)).get("readOnly") is True)
        ]

    def _plain(self, keyword: str, value: Json) -> bool:
        """Whether a keyword without schemas in it can be kept."""
        match keyword:
            case "type":
                names = value if isinstance(value, list) else [value]
                return bool(names) and all(isinstance(name, str) and name in TYPES for name in names)
            case "pattern":
                return isinstance(value, str) and _is_pattern(value)
            case "enum":
                return isinstance(value, list) and bool(value)
            case "uniqueItems":
                return isinstance(value, bool)
            case "const":
                return True
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if keyword in _COUNTS:
            return number and isinstance(value, int | float) and value >= 0 and value == int(value)
        return (
            keyword in _NUMBERS
            and number
            and (keyword != "multipleOf" or (isinstance(value, int | float) and value > 0))
        )

    def _mend(self, node: dict[str, Any], schema: dict[str, Json]) -> None:
        """The older spellings, and what must go because something else was dropped."""
        for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
            if schema.get(exclusive) is True and bound in node:
                node[exclusive] = node.pop(bound)
        if schema.get("nullable") is True:
            if isinstance(node.get("type"), str):
                node["type"] = [node["type"], "null"]
            if "enum" in node and None not in node["enum"]:
                node["enum"] = [*node["enum"], None]
            if "$ref" in node or "allOf" in node:
                kept = dict(node)
                node.clear()
                node["anyOf"] = [kept, {"type": "null"}]
        if "patternProperties" in schema:
            node.pop("additionalProperties", None)
        if "prefixItems" in schema or isinstance(schema.get("items"), list):
            node.pop("items", None)


def _is_pattern(text: str) -> bool:
    try:
        read_pattern(text)
    except Malformed:
        return False
    return True
