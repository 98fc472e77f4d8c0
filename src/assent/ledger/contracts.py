"""Operation contracts: what a connector offers, declared so that policy can judge it and nobody has to guess."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

import msgspec

from assent.execution.attestations import ConfinementClass
from assent.ledger.schemas import read_schema
from assent.primitives.canonical import INTEGER_MAX, canonical
from assent.primitives.digests import Digest, digest
from assent.primitives.errors import Malformed
from assent.primitives.labels import Integrity, Label


class EffectClass(StrEnum):
    """What a call does to the world. What nobody classified counts as irreversible."""

    READ = "read"
    WRITE = "write"
    IRREVERSIBLE = "irreversible"


class Idempotency(StrEnum):
    """What sending a call twice does. NATURAL: the same as once. KEYED: the target drops a repeat of the same key.
    NONE: it happens twice."""

    NATURAL = "natural"
    KEYED = "keyed"
    NONE = "none"


ArgumentKind = Literal["text", "integer", "number", "boolean", "texts", "map", "json", "contents"]

_KINDS: dict[str, str] = {
    "text": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "texts": "a list of texts",
    "map": "a map of text to text",
    "json": "a JSON value",
    "contents": "a list of digests of kept pieces",
}
# What contracts did not have at first. Left out of the digest while empty, so that a contract which has no use for it
# keeps the digest under which it was approved.
_CAME_LATER = frozenset({"reaches", "definition", "foreign", "outputs", "tells"})
_ARGUMENT_CAME_LATER = frozenset({"schema"})


class Argument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One argument. `authority` marks those that say where or on whom the effect falls (path, host, program, …).

    `bytes_max` bounds the UTF-8 size of a text, of each text of a list or map, and the canonical bytes of a JSON value.
    `contents` are pieces that are kept once and named by digest; what they hold is in `Place.contents`.
    `schema` says more about the value, as the JSON text of a schema in the subset of `assent.ledger.schemas`; empty:
    nothing more is known. A JSON null is no value: it stands for an argument that is not given.
    """

    name: str
    kind: ArgumentKind
    help: str
    required: bool = False
    default: Any = None
    authority: bool = False
    bytes_max: int = 65_536
    schema: str = ""


OutputKind = Literal["id", "text"]
_POINTER = re.compile(r"(/(\*|([^~/*]|~[01])+))*\Z")


class Output(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of a field of the results: on whose word it stands, and who may read it.

    `field` is a JSON pointer in which `*` stands for every item and every member (`/bills/*/payee`; empty: all of it).
    An `id` names one thing, so a call that names the same thing is known to mean it; any other `text` is only carried
    by a handle. What no output speaks of is a third party's. `readers` are the people and hosts (`person:…`, `host:…`)
    that may see it, `workspace` for whoever reads files there (None: whoever the tenant lets).

    Raises:
        Malformed: `output_malformed`.
    """

    field: str = ""
    kind: OutputKind = "text"
    integrity: Integrity = Integrity.THIRD_PARTY
    readers: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Check the pointer."""
        if not _POINTER.match(self.field):
            raise Malformed(
                "output_malformed", f"`{self.field[:80]}` is not a pointer to a field", hint="write `/items/*/id`"
            )

    @property
    def label(self) -> Label:
        """What a value in this field is labelled."""
        return Label(integrity=self.integrity, readers=self.readers)


class OperationContract(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one operation takes, does, may reach and needs.

    `hosts` names the argument that carries the target address; `reaches` are the hosts (`host:port`) it reaches
    whatever the arguments say; both are empty when it reaches none. `floor` is the weakest confinement it may run
    under. `observer` names the read operation by which an unknown outcome of this one can be settled. `outputs` say on
    whose word the fields of its results stand. With `tells` its arguments are told to the person for whom it is done.

    For operations that were made from somebody's description: `definition` is the digest of all that was made of it,
    so that an approval of one definition never runs under another; and `foreign` says that the summary and the help are
    a third party's words, to be shown as such and followed by nobody.
    """

    name: str
    summary: str
    effect: EffectClass
    idempotency: Idempotency
    arguments: tuple[Argument, ...]
    floor: ConfinementClass
    hosts: str = ""
    observer: str = ""
    reaches: tuple[str, ...] = ()
    definition: str = ""
    foreign: bool = False
    outputs: tuple[Output, ...] = ()
    tells: bool = False

    @property
    def reaches_hosts(self) -> bool:
        """Whether a call of it falls on a host."""
        return bool(self.hosts or self.reaches)

    @property
    def connector(self) -> str:
        """The name before the first dot."""
        return self.name.partition(".")[0]


def contract_digest(contract: OperationContract) -> Digest:
    """The digest an intent carries, so that an approval for one contract never runs under another."""
    fields = _without(msgspec.to_builtins(contract), _CAME_LATER)
    fields["arguments"] = [_without(argument, _ARGUMENT_CAME_LATER) for argument in fields["arguments"]]
    return digest(msgspec.json.encode(fields, order="sorted"))


def read_arguments(contract: OperationContract, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Check `raw` against the contract and fill in defaults.

    Raises:
        Malformed: `arguments_invalid`, naming every argument that is unknown, missing or of the wrong kind.
    """
    return fit_arguments(contract.name, contract.arguments, raw)


def fit_arguments(name: str, arguments: tuple[Argument, ...], raw: Mapping[str, Any]) -> dict[str, Any]:
    """As `read_arguments`, for whatever is called `name` and takes these arguments. Raises Malformed."""
    known = {a.name: a for a in arguments}
    faults = [f"`{given}` is not an argument" for given in raw if given not in known]
    found: dict[str, Any] = {}
    for argument in arguments:
        value = raw.get(argument.name, argument.default)
        if value is None:
            if argument.required:
                faults.append(f"`{argument.name}` is missing")
            continue
        fault = _fault(argument, value)
        if fault:
            faults.append(fault)
        found[argument.name] = value
    if faults:
        raise Malformed(
            "arguments_invalid",
            f"`{name}` cannot take these arguments: {', '.join(faults)}",
            hint=f"it takes {_usage(arguments)}",
        )
    return found


def _without(fields: dict[str, Any], later: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value or name not in later}


def _usage(arguments: tuple[Argument, ...]) -> str:
    return ", ".join(f"{a.name} ({_KINDS[a.kind]}{', required' if a.required else ''})" for a in arguments)


def _fault(argument: Argument, value: object) -> str:
    texts = _texts(argument.kind, value)
    if texts is None:
        return f"`{argument.name}` must be {_KINDS[argument.kind]}"
    for text in texts:
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            return f"`{argument.name}` is not valid Unicode"
        if size > argument.bytes_max:
            return f"`{argument.name}` is larger than {argument.bytes_max} bytes"
    if argument.kind == "json":
        fault = _json_fault(argument, value)
        if fault:
            return fault
    return ", ".join(read_schema(argument.schema).faults(value, name=argument.name)) if argument.schema else ""


def _json_fault(argument: Argument, value: object) -> str:
    try:
        size = len(canonical(value))
    except Malformed as malformed:
        return f"`{argument.name}` is not a JSON value: {malformed}"
    return f"`{argument.name}` is larger than {argument.bytes_max} bytes" if size > argument.bytes_max else ""


def _texts(kind: ArgumentKind, value: object) -> list[str] | None:
    """The texts inside `value` when it is of `kind`, otherwise None."""
    match kind:
        case "text":
            return [value] if isinstance(value, str) else None
        case "integer":
            return [] if type(value) is int and abs(value) <= INTEGER_MAX else None
        case "number":
            return [] if _is_number(value) else None
        case "boolean":
            return [] if isinstance(value, bool) else None
        case "texts" | "contents":
            return list(value) if isinstance(value, list) and all(isinstance(v, str) for v in value) else None
        case "map":
            texts = [x for kv in value.items() for x in kv] if isinstance(value, dict) else None
            return texts if texts is not None and all(isinstance(x, str) for x in texts) else None
        case "json":
            return []


def _is_number(value: object) -> bool:
    if type(value) is int:
        return abs(value) <= INTEGER_MAX
    return isinstance(value, float) and math.isfinite(value)
