"""GraphQL schemas, by introspection: an operation for each field of the query and the mutation type. Pure.

A query changes nothing, by the specification; a mutation may change anything. What is selected of the answer is made
once, when the schema is admitted: scalars, and objects down to `DEPTH_MAX` levels whose fields need no arguments. An
argument is what the schema says, as JSON; input objects are checked member by member. Subscriptions are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from assent.execution.attestations import ConfinementClass
from assent.execution.urls import parse_url
from assent.ledger.connectors.families.documents import Pointers
from assent.ledger.connectors.families.entries import OPERATIONS_MAX, Draft, Entry, LeftOut, Source, argument
from assent.ledger.connectors.families.graphql_calls import GraphqlRecipe
from assent.ledger.connectors.families.names import argument_names, distinct, operation_name, told
from assent.ledger.connectors.families.openapi_parts import Left
from assent.ledger.connectors.families.reductions import reduce
from assent.ledger.connectors.families.servers import check_server
from assent.ledger.connectors.http import host_port
from assent.ledger.contracts import Argument, EffectClass, Idempotency, OperationContract
from assent.primitives.canonical import Json
from assent.primitives.errors import Malformed

DEPTH_MAX = 3
SELECTED_MAX = 200
TYPES_MAX = 5_000
WRAPPERS_MAX = 12
INTROSPECTION = """\
query IntrospectionQuery {
  __schema {
    queryType { name }
    mutationType { name }
    types {
      kind name description
      fields(includeDeprecated: true) {
        name description
        args { name description type { ...T } defaultValue }
        type { ...T }
      }
      inputFields { name description type { ...T } defaultValue }
      enumValues(includeDeprecated: true) { name }
    }
  }
}
fragment T on __Type {
  kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name
  ofType { kind name ofType { kind name ofType { kind name } } } } } } }
}
"""

_NAME = re.compile(r"[_A-Za-z][_0-9A-Za-z]{0,127}\Z")
_SCALARS: Mapping[str, dict[str, Any]] = {
    "String": {"type": "string"},
    "ID": {"type": ["string", "integer"]},
    "Int": {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
    "Float": {"type": "number"},
    "Boolean": {"type": "boolean"},
}
Kind = Literal["query", "mutation"]


def read_graphql(document: dict[str, Json], *, name: str, source: Source, url: str, only: str = "") -> Draft:
    """Make a connector called `name` of the result of an introspection; its calls go to `url`.

    Raises:
        Malformed: `document_malformed`, `server_refused`, `too_many_operations`.
    """
    schema = _Schema(document)
    endpoint = check_server(url, by_person=True)
    fields = [found for found in schema.roots() if not only or only in found[1]["name"]]
    if len(fields) > OPERATIONS_MAX:
        raise Malformed(
            "too_many_operations", f"the schema has {len(fields)} fields, and a connector {OPERATIONS_MAX} operations",
            hint="name the part that is needed with --only",
        )  # fmt: skip
    plain = {f"{kind} {field['name']}": operation_name(field["name"]) for kind, field in fields}
    names = distinct(plain, {label: operation_name(label.replace(" ", "_")) for label in plain})
    entries, left = [], []
    for kind, field in fields:
        label = f"{kind} {field['name']}"
        try:
            entries.append(_entry(f"{name}.{_told_apart(label, names)}", kind, field, endpoint, schema))
        except Left as out:
            left.append(LeftOut(what=told(label), why=out.why))
    return Draft(name=name, family="graphql", source=source, entries=tuple(entries), left_out=tuple(left))


def _told_apart(label: str, names: Mapping[str, str]) -> str:
    if label not in names:
        raise Left("it cannot be told apart from another by an ASCII name")
    return names[label]


class _Schema:
    """The types by name, bounded and checked."""

    def __init__(self, document: dict[str, Json]) -> None:
        data = document.get("data", document)
        schema = data.get("__schema") if isinstance(data, dict) else None
        types = schema.get("types") if isinstance(schema, dict) else None
        if not isinstance(schema, dict) or not isinstance(types, list) or len(types) > TYPES_MAX:
            raise Malformed("document_malformed", "this is not the result of a GraphQL introspection")
        self._schema = schema
        self.types: dict[str, dict[str, Any]] = {one["name"]: one for one in listed(schema, "types")}
        self.document: dict[str, Json] = {"definitions": {name: self._input(one) for name, one in self.types.items()}}

    def roots(self) -> Iterator[tuple[Kind, dict[str, Any]]]:
        """The fields of the query and mutation types."""
        kinds: tuple[Kind, ...] = ("query", "mutation")
        for kind in kinds:
            root = self._schema.get(f"{kind}Type")
            found = self.types.get(str(root.get("name"))) if isinstance(root, dict) else None
            yield from ((kind, field) for field in listed(found or {}, "fields") if not field["name"].startswith("__"))

    def _input(self, one: dict[str, Any]) -> dict[str, Any] | bool:
        """The JSON Schema of a named type that can be sent."""
        kind = one.get("kind")
        if kind == "ENUM":
            values = [value["name"] for value in listed(one, "enumValues")]
            return {"type": "string", "enum": values} if values else False
        if kind != "INPUT_OBJECT":
            return dict(_SCALARS.get(one["name"], {}))
        members = listed(one, "inputFields")
        return {
            "type": "object",
            "properties": {m["name"]: self._member(m.get("type")) for m in members},
            "required": [m["name"] for m in members if _required(m)],
            "additionalProperties": False,
        }

    def _member(self, type_: Any) -> dict[str, Any]:  # noqa: ANN401 (a stranger's JSON)
        found = self.schema_of(type_)
        return found if _is_required(type_) else _or_null(found)

    def schema_of(self, type_: Any, depth: int = 0) -> dict[str, Any]:  # noqa: ANN401 (a stranger's JSON)
        """The JSON Schema of a type as it is written at a field or an argument."""
        if not isinstance(type_, dict) or depth > WRAPPERS_MAX:
            return {}
        if type_.get("kind") == "NON_NULL":
            return self.schema_of(type_.get("ofType"), depth + 1)
        if type_.get("kind") == "LIST":
            inner = type_.get("ofType")
            items = self.schema_of(inner, depth + 1)
            return {"type": "array", "items": items if _is_required(inner) else _or_null(items)}
        name = str(type_.get("name"))
        return dict(_SCALARS[name]) if name in _SCALARS else {"$ref": f"#/definitions/{name}"}


def _entry(name: str, kind: Kind, field: dict[str, Any], url: str, schema: _Schema) -> Entry:
    hints: list[str] = []
    arguments, variables, declared = _arguments(field, schema, hints)
    selected = _selection(field.get("type"), schema, hints)
    head = f"({', '.join(f'${v}: {t}' for v, t in declared.items())})" if declared else ""
    call = f"({', '.join(f'{v}: ${v}' for v in declared)})" if declared else ""
    text = f"{kind}{head} {{ {field['name']}{call}{selected} }}"
    read = kind == "query"
    contract = OperationContract(
        name=name,
        summary=told(field.get("description")) or f"the {kind} `{field['name']}`",
        effect=EffectClass.READ if read else EffectClass.IRREVERSIBLE,
        idempotency=Idempotency.NATURAL if read else Idempotency.NONE,
        arguments=tuple(arguments),
        floor=ConfinementClass.LOCAL_WEAK,
        reaches=(host_port(parse_url(url)),),
        foreign=True,
    )
    why = "a query changes nothing (GraphQL, 6.2.1)" if read else "a mutation may change anything"
    recipe = GraphqlRecipe(url=url, kind=kind, field=field["name"], text=text, variables=variables)
    return Entry(contract=contract, recipe=recipe, why=why, hints=tuple(dict.fromkeys(hints)))


def _arguments(
    field: dict[str, Any], schema: _Schema, hints: list[str]
) -> tuple[list[Argument], dict[str, str], dict[str, str]]:
    """The arguments, the variable of each, and the written type of each variable."""
    args = listed(field, "args")
    names = argument_names(("argument", one["name"]) for one in args)
    arguments, variables, declared = [], {}, {}
    pointers = Pointers(schema.document)
    for one in args:
        wire, needed = one["name"], _required(one)
        name, written = names.get(("argument", wire), ""), _written(one.get("type"))
        if not name or not written:
            if needed:
                raise Left(f"its argument {wire!a} cannot be given")
            hints.append(f"the argument {wire!a} is never sent")
            continue
        reduced = reduce(schema.schema_of(one.get("type")), pointers)
        hints += [f"not checked of `{name}`: {what}" for what in reduced.unchecked]
        arguments.append(argument(name, reduced, about=one.get("description"), required=needed, authority=True))
        variables[name] = wire
        declared[wire] = written
    return arguments, variables, declared


def _selection(type_: Any, schema: _Schema, hints: list[str]) -> str:  # noqa: ANN401 (a stranger's JSON)
    budget = iter(range(SELECTED_MAX))
    found = _selected(_named(type_), schema, budget, 1)
    if found is None:
        raise Left("nothing of its answer can be selected without arguments")
    if next(budget, None) is None:
        hints.append(f"of its answer only {SELECTED_MAX} fields are selected")
    return found


def _selected(name: str, schema: _Schema, budget: Iterator[int], depth: int) -> str | None:
    """What is selected of a named type: empty for a scalar, None when nothing can be."""
    found = schema.types.get(name)
    kind = found.get("kind") if found else None
    if found is None or kind in ("SCALAR", "ENUM"):
        return "" if found is not None or name in _SCALARS else None
    if kind == "UNION":
        return " { __typename }"
    parts = []
    for field in listed(found, "fields"):
        if any(_required(one) for one in listed(field, "args")) or next(budget, None) is None:
            continue
        inner = _named(field.get("type"))
        composite = schema.types.get(inner, {}).get("kind") not in ("SCALAR", "ENUM", None)
        if composite and depth >= DEPTH_MAX:
            continue
        selected = _selected(inner, schema, budget, depth + 1)
        if selected is not None:
            parts.append(field["name"] + selected)
    return f" {{ {' '.join(parts)} }}" if parts else " { __typename }"


def listed(owner: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The named members of a list in a stranger's schema; those whose names are no names of GraphQL are left out."""
    found = owner.get(key)
    items = found if isinstance(found, list) else []
    return [one for one in items if isinstance(one, dict) and _is_name(one.get("name"))]


def _named(type_: Any) -> str:  # noqa: ANN401 (a stranger's JSON)
    for _ in range(WRAPPERS_MAX):
        if not isinstance(type_, dict):
            return ""
        if type_.get("kind") not in ("NON_NULL", "LIST"):
            return str(type_.get("name"))
        type_ = type_.get("ofType")
    return ""


def _written(type_: Any, depth: int = 0) -> str:  # noqa: ANN401 (a stranger's JSON)
    """A type as a document writes it, or empty: `[String!]!`."""
    if not isinstance(type_, dict) or depth > WRAPPERS_MAX:
        return ""
    inner = _written(type_.get("ofType"), depth + 1) if type_.get("kind") in ("NON_NULL", "LIST") else ""
    if type_.get("kind") == "NON_NULL":
        return f"{inner}!" if inner and not inner.endswith("!") else ""
    if type_.get("kind") == "LIST":
        return f"[{inner}]" if inner else ""
    name = type_.get("name")
    return name if isinstance(name, str) and _is_name(name) else ""


def _required(one: dict[str, Any]) -> bool:
    return _is_required(one.get("type")) and one.get("defaultValue") is None


def _is_required(type_: Any) -> bool:  # noqa: ANN401 (a stranger's JSON)
    return isinstance(type_, dict) and type_.get("kind") == "NON_NULL"


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]} if schema else {}


def _is_name(name: object) -> bool:
    return isinstance(name, str) and _NAME.match(name) is not None
