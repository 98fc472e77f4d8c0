"""The parts of an OpenAPI operation: parameters, bodies, security. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from assent.ledger.connectors.families.documents import Pointers
from assent.ledger.connectors.families.http_calls import Form, Slot
from assent.ledger.connectors.families.names import told
from assent.primitives.canonical import Json

PARAMETERS_MAX = 64
ParameterPlace = Literal["path", "query", "header"]
_HOLE = re.compile(r"\{([^{}/]*)\}")
_PATH = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2}|\{[^{}/?#]+\})*\Z")
# Parameters of these names are ignored by OpenAPI itself: the media types and the security schemes say them.
_IGNORED = frozenset({"accept", "content-type", "authorization"})
# A header that turns the call into another one than policy judges.
_STEERING = frozenset(
    {"x-http-method", "x-http-method-override", "x-method-override", "x-original-url", "x-rewrite-url", "x-real-ip",
     "forwarded"}
)  # fmt: skip
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}\Z")
_PLACES: dict[str, ParameterPlace] = {"path": "path", "query": "query", "header": "header"}
_DEFAULT_STYLE = {"path": "simple", "query": "form", "header": "simple"}


class Left(Exception):
    """An operation is left out, and why."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Parameter(NamedTuple):
    """One parameter as the description has it."""

    place: ParameterPlace
    wire: str
    required: bool
    about: str
    schema: Json
    style: str
    explode: bool
    json: bool


def parameters_of(
    path: str, item: dict[str, Json], value: dict[str, Json], pointers: Pointers, hints: list[str]
) -> Iterator[Parameter]:
    """The parameters of an operation, its own before those of its path.

    Raises:
        Left: a part of the path has no parameter, or there are too many.
    """
    if not _PATH.match(path) or any(part in (".", "..") for part in path.split("/")):
        raise Left("its path is not one that can be sent")
    found: dict[tuple[str, str], Parameter] = {}
    for listed in (item.get("parameters"), value.get("parameters")):
        for raw in listed if isinstance(listed, list) else ():
            parameter = _parameter(pointers.resolved(raw), hints)
            if parameter is not None:
                found[parameter.place, parameter.wire] = parameter
    holes = _HOLE.findall(path)
    if len(set(holes)) < len(holes) or any(("path", hole) not in found for hole in holes):
        raise Left("a part of its path has no parameter")
    if len(found) > PARAMETERS_MAX:
        raise Left(f"it has more than {PARAMETERS_MAX} parameters")
    for parameter in found.values():
        if parameter.place != "path" or parameter.wire in holes:
            yield parameter


def _parameter(raw: dict[str, Json], hints: list[str]) -> Parameter | None:
    wire, place = raw.get("name"), _PLACES.get(str(raw.get("in")))
    required = raw.get("required") is True
    if not isinstance(wire, str) or not wire:
        raise Left("one of its parameters has no name")
    shown = ascii(told(wire))[1:-1]
    if raw.get("in") == "cookie":
        if required:
            raise Left(f"it needs the cookie `{shown}`")
        hints.append(f"the cookie `{shown}` is never sent")
        return None
    if place is None:
        raise Left(f"its parameter `{shown}` has no place")
    if place == "header" and (steers(wire) or not _TOKEN.match(wire)):
        if wire.lower() in _IGNORED:
            return None
        if required:
            raise Left(f"it needs the header `{shown}`, which is not sent")
        hints.append(f"the header `{shown}` is never sent")
        return None
    content = raw.get("content")
    json, schema = (True, json_content(content, None)[1]) if isinstance(content, dict) else (False, raw.get("schema"))
    style = raw.get("style")
    style = style if isinstance(style, str) else _DEFAULT_STYLE[place]
    explode = raw.get("explode")
    about = told(raw.get("description"))
    default = schema.get("default") if isinstance(schema, dict) else None
    if isinstance(default, str | int | float | bool):
        about = f"{about or 'not described'} (left out, the server takes {ascii(str(default)[:40])[1:-1]})"
    return Parameter(
        place=place,
        wire=wire,
        required=required or place == "path",
        about=about,
        schema=schema if schema is not None else True,
        style=style,
        explode=explode if isinstance(explode, bool) else style == "form",
        json=json,
    )


def steers(header: str) -> bool:
    """Whether a header belongs to the lane, or can turn a call into another one than policy judges."""
    name = header.lower()
    return name in _IGNORED or name in _STEERING or name.startswith("x-forwarded-")


def slot_of(parameter: Parameter, name: str, types: tuple[str, ...]) -> Slot | None:
    """Where the argument goes, or None when its way of writing is not supported."""
    form: Form = "plain"
    if parameter.json:
        if parameter.place != "query":
            return None
        form = "json"
    elif "object" in types or (not types and parameter.schema is not True):
        return None
    elif "array" in types:
        if parameter.style not in ("form", "simple"):
            return None
        form = "repeat" if parameter.place == "query" and parameter.explode else "comma"
    elif parameter.style not in ("form", "simple"):
        return None
    return Slot(argument=name, place=parameter.place, wire=parameter.wire, form=form)


def json_content(content: Json, pointers: Pointers | None) -> tuple[str, Json]:
    """The first JSON media type of `content` with its schema; empty when there is none."""
    for media, found in (content if isinstance(content, dict) else {}).items():
        essence = media.split(";")[0].strip().lower()
        if essence == "application/json" or (essence.endswith("+json") and _TOKEN.match(essence.replace("/", ""))):
            value = pointers.resolved(found) if pointers else found
            return essence, (value.get("schema", True) if isinstance(value, dict) else True)
    return "", True


def secrets_of(document: dict[str, Json], value: dict[str, Json], pointers: Pointers) -> tuple[str, ...]:
    """The credentials an operation cannot do without, in words; empty when it can be called without any."""
    required = value.get("security", document.get("security"))
    if not isinstance(required, list) or not required or any(one == {} for one in required):
        return ()
    components = document.get("components")
    schemes = components.get("securitySchemes") if isinstance(components, dict) else None
    first = required[0] if isinstance(required[0], dict) else {}
    return tuple(_scheme(name, schemes.get(name) if isinstance(schemes, dict) else None, pointers) for name in first)


def _scheme(name: str, found: Json, pointers: Pointers) -> str:
    scheme = pointers.resolved(found)
    shown = ascii(told(name, chars_max=40))[1:-1]
    kind = {"apiKey": "an API key", "http": "a credential", "oauth2": "an OAuth 2 token", "openIdConnect": "a token",
            "mutualTLS": "a client certificate"}.get(str(scheme.get("type")), "a credential")  # fmt: skip
    return f"{kind} (`{shown}`)"
