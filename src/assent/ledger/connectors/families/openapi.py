"""OpenAPI 3.0 and 3.1: an operation for each method of each path. Pure.

What is certain by HTTP itself (RFC 9110): GET, HEAD and OPTIONS change nothing; PUT and DELETE sent twice do what they
do once. All else is irreversible and happens twice, unless the description declares an `Idempotency-Key` header. Calls
fall on one server, which is fixed when the description is admitted: what the description names, if that is one whole
public address; what the person names, else. A body is JSON or nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from assent.execution.attestations import ConfinementClass
from assent.execution.headers import is_secret
from assent.execution.urls import parse_url
from assent.ledger.connectors.families.documents import Pointers
from assent.ledger.connectors.families.entries import OPERATIONS_MAX, Draft, Entry, LeftOut, Source, argument
from assent.ledger.connectors.families.http_calls import HttpRecipe, Slot
from assent.ledger.connectors.families.names import argument_names, distinct, operation_name, told
from assent.ledger.connectors.families.openapi_parts import (
    Left,
    Parameter,
    json_content,
    parameters_of,
    secrets_of,
    slot_of,
)
from assent.ledger.connectors.families.reductions import reduce
from assent.ledger.connectors.families.servers import base_url
from assent.ledger.connectors.http import host_port
from assent.ledger.contracts import Argument, EffectClass, Idempotency, OperationContract
from assent.primitives.canonical import Json
from assent.primitives.errors import Malformed

METHODS = ("get", "head", "put", "post", "delete", "patch", "options")
_READS = frozenset({"get", "head", "options"})
_NATURAL = frozenset({"put", "delete"})
_KEY_HEADER = "idempotency-key"


class _Place:
    """One operation of the description and where it stands."""

    def __init__(self, path: str, method: str, item: dict[str, Json], value: dict[str, Json]) -> None:
        self.path, self.method, self.item, self.value = path, method, item, value

    @property
    def label(self) -> str:
        return f"{self.method.upper()} {self.path}"


def read_openapi(
    document: dict[str, Json], *, name: str, source: Source, server: str = "", fetched_from: str = "", only: str = ""
) -> Draft:
    """Make a connector called `name` of an OpenAPI description.

    `server` is the base URL a person chose; `fetched_from` is where the description came from, for relative servers;
    `only` keeps the operations whose name or path holds it.

    Raises:
        Malformed: `document_malformed`, `server_refused`, `too_many_operations`.
    """
    version = document.get("openapi")
    if not isinstance(version, str) or not version.startswith(("3.0", "3.1")):
        raise Malformed("document_malformed", "the description does not say that it is OpenAPI 3.0 or 3.1")
    pointers = Pointers(document)
    base = base_url(document.get("servers"), chosen=server, fetched_from=fetched_from)
    places = {place.label: place for place in _places(document, pointers)}
    names = _names(places)
    if only:
        places = {label: p for label, p in places.items() if only in label or only in names.get(label, "")}
    if len(places) > OPERATIONS_MAX:
        raise Malformed(
            "too_many_operations", f"the description has {len(places)} operations, and a connector {OPERATIONS_MAX}",
            hint="name the part that is needed with --only",
        )  # fmt: skip
    entries, left = [], []
    for label, place in places.items():
        if label not in names:
            left.append(LeftOut(what=told(label), why="it cannot be told apart from another by an ASCII name"))
            continue
        try:
            entries.append(_entry(f"{name}.{names[label]}", place, base, document, pointers))
        except Left as out:
            left.append(LeftOut(what=told(label), why=out.why))
    return Draft(name=name, family="openapi", source=source, entries=tuple(entries), left_out=tuple(left))


def title_of(document: dict[str, Json]) -> str:
    """What a description calls itself."""
    info = document.get("info")
    return told(info.get("title")) if isinstance(info, dict) else ""


def _places(document: dict[str, Json], pointers: Pointers) -> Iterator[_Place]:
    paths = document.get("paths")
    for path, found in (paths if isinstance(paths, dict) else {}).items():
        item = pointers.resolved(found)
        for method in METHODS:
            value = item.get(method)
            if isinstance(value, dict) and path.startswith("/"):
                yield _Place(path, method, item, value)


def _names(places: dict[str, _Place]) -> dict[str, str]:
    own: dict[str, str] = {}
    by_path: dict[str, str] = {}
    for label, place in places.items():
        by_path[label] = operation_name(f"{place.method}_{place.path}")
        id_ = place.value.get("operationId")
        own[label] = operation_name(id_ if isinstance(id_, str) else "", by_path[label])
    return distinct(own, by_path)


def _entry(name: str, place: _Place, base: str, document: dict[str, Json], pointers: Pointers) -> Entry:
    hints: list[str] = []
    parameters = list(parameters_of(place.path, place.item, place.value, pointers, hints))
    keyed = any(p.place == "header" and p.wire.lower() == _KEY_HEADER for p in parameters)
    parameters = [p for p in parameters if p.wire.lower() != _KEY_HEADER]
    slots, arguments = _arguments(parameters, pointers, hints)
    content_type = _add_body(slots, arguments, place, pointers, hints)
    needs = secrets_of(document, place.value, pointers)
    summary = told(place.value.get("summary")) or told(place.value.get("description")) or place.label
    if needs:
        summary = f"{summary} (needs {' and '.join(needs)}: refused, as no credential can be bound yet)"
    effect, why = _effect(place.method)
    contract = OperationContract(
        name=name,
        summary=summary,
        effect=effect,
        idempotency=_idempotency(place.method, keyed=keyed),
        arguments=tuple(arguments),
        floor=ConfinementClass.LOCAL_WEAK,
        reaches=(host_port(parse_url(base)),),
        foreign=True,
    )
    recipe = HttpRecipe(
        method=place.method.upper(), base=base, path=place.path, slots=tuple(slots), content_type=content_type,
        keyed=keyed, needs=needs,
    )  # fmt: skip
    return Entry(
        contract=contract, recipe=recipe, why=why, hints=tuple(dict.fromkeys(hints)), answers=_answers(place, pointers)
    )


def _effect(method: str) -> tuple[EffectClass, str]:
    if method in _READS:
        return EffectClass.READ, f"{method.upper()} changes nothing (RFC 9110)"
    return EffectClass.IRREVERSIBLE, f"{method.upper()} may change anything"


def _idempotency(method: str, *, keyed: bool) -> Idempotency:
    if method in _READS or method in _NATURAL:
        return Idempotency.NATURAL
    return Idempotency.KEYED if keyed else Idempotency.NONE


def _arguments(parameters: list[Parameter], pointers: Pointers, hints: list[str]) -> tuple[list[Slot], list[Argument]]:
    names = argument_names((p.place, p.wire) for p in parameters)
    slots: list[Slot] = []
    arguments: list[Argument] = []
    for parameter in parameters:
        name = names.get((parameter.place, parameter.wire), "")
        if parameter.place == "header" and is_secret(parameter.wire):
            name = ""
        if not name:
            if parameter.required:
                raise Left(f"its {parameter.place} parameter {told(parameter.wire)!a} cannot be an argument")
            hints.append(f"the {parameter.place} parameter {told(parameter.wire)!a} is never sent")
            continue
        reduced = reduce(parameter.schema, pointers)
        slot = slot_of(parameter, name, reduced.types)
        if slot is None:
            if parameter.required:
                raise Left(f"its {parameter.place} parameter `{name}` is written in a way that is not supported")
            hints.append(f"`{name}` is never sent: it is written in a way that is not supported")
            continue
        hints += [f"not checked of `{name}`: {what}" for what in reduced.unchecked]
        slots.append(slot)
        arguments.append(
            argument(
                name,
                reduced,
                about=parameter.about,
                required=parameter.required,
                authority=parameter.place != "query",
                bytes_max=4_096,
            )
        )
    return slots, arguments


def _add_body(slots: list[Slot], arguments: list[Argument], place: _Place, pointers: Pointers, hints: list[str]) -> str:
    """Add the argument for the body; its media type, or empty when there is none."""
    body: dict[str, Any] = pointers.resolved(place.value.get("requestBody"))
    if not body:
        return ""
    content_type, schema = json_content(body.get("content"), pointers)
    if not content_type:
        if body.get("required") is True:
            raise Left("its body is not JSON")
        hints.append("it is sent without a body: its body is not JSON")
        return ""
    taken = {one.name.lower() for one in arguments}
    name = next(name for name in ("body", "json_body", "whole_body", "request_body_json") if name not in taken)
    reduced = reduce(schema, pointers)
    hints += [f"not checked of `{name}`: {what}" for what in reduced.unchecked]
    made = argument(name, reduced, about=body.get("description") or "the body", required=body.get("required") is True)
    arguments.append(
        Argument(
            name=name, kind="json", help=made.help, required=made.required, bytes_max=1_048_576, schema=reduced.text
        )
    )
    slots.append(Slot(argument=name, place="body"))
    return content_type


def _answers(place: _Place, pointers: Pointers) -> dict[str, str]:
    responses = place.value.get("responses")
    found = {
        status[:8]: told(pointers.resolved(value).get("description"), chars_max=120) or "not described"
        for status, value in (responses if isinstance(responses, dict) else {}).items()
        if status.isascii() and not status.startswith("x-")
    }
    return dict(list(found.items())[:20])
