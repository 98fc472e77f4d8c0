"""Operation contracts: what a connector offers, declared so that policy can judge it and nobody has to guess."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal

import msgspec

from assent.execution.attestations import ConfinementClass
from assent.primitives.digests import Digest, digest
from assent.primitives.errors import Malformed


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


ArgumentKind = Literal["text", "integer", "boolean", "texts", "map"]

_KINDS: dict[str, str] = {
    "text": "a text",
    "integer": "a whole number",
    "boolean": "true or false",
    "texts": "a list of texts",
    "map": "a map of text to text",
}


class Argument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One argument. `authority` marks those that say where or on whom the effect falls (path, host, program, …).

    `bytes_max` bounds the UTF-8 size of a text, or of each text of a list or map.
    """

    name: str
    kind: ArgumentKind
    help: str
    required: bool = False
    default: Any = None
    authority: bool = False
    bytes_max: int = 65_536


class OperationContract(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one operation takes, does, may reach and needs.

    `hosts` names the argument that carries the target address, or is empty when the operation reaches no host. `floor`
    is the weakest confinement it may run under. `observer` names the read operation by which an unknown outcome of this
    one can be settled.
    """

    name: str
    summary: str
    effect: EffectClass
    idempotency: Idempotency
    arguments: tuple[Argument, ...]
    floor: ConfinementClass
    hosts: str = ""
    observer: str = ""

    @property
    def connector(self) -> str:
        """The name before the first dot."""
        return self.name.partition(".")[0]


def contract_digest(contract: OperationContract) -> Digest:
    """The digest an intent carries, so that an approval for one contract never runs under another."""
    return digest(msgspec.json.encode(contract, order="sorted"))


def read_arguments(contract: OperationContract, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Check `raw` against the contract and fill in defaults.

    Raises:
        Malformed: `arguments_invalid`, naming every argument that is unknown, missing or of the wrong kind.
    """
    known = {a.name: a for a in contract.arguments}
    faults = [f"`{name}` is not an argument" for name in raw if name not in known]
    found: dict[str, Any] = {}
    for argument in contract.arguments:
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
            f"`{contract.name}` cannot take these arguments: {', '.join(faults)}",
            hint=f"it takes {_usage(contract)}",
        )
    return found


def _usage(contract: OperationContract) -> str:
    return ", ".join(f"{a.name} ({_KINDS[a.kind]}{', required' if a.required else ''})" for a in contract.arguments)


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
    return ""


def _texts(kind: ArgumentKind, value: object) -> list[str] | None:
    """The texts inside `value` when it is of `kind`, otherwise None."""
    match kind:
        case "text":
            return [value] if isinstance(value, str) else None
        case "integer":
            return [] if type(value) is int and abs(value) <= 2**53 - 1 else None
        case "boolean":
            return [] if isinstance(value, bool) else None
        case "texts":
            return list(value) if isinstance(value, list) and all(isinstance(v, str) for v in value) else None
        case "map":
            texts = [x for kv in value.items() for x in kv] if isinstance(value, dict) else None
            return texts if texts is not None and all(isinstance(x, str) for x in texts) else None
