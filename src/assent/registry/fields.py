"""What is known of an agent beside its name: fields that are declared, with values of five kinds. Pure values.

A `number` is a float or an integer, and `1` and `1.0` are the same number. `texts` are found by each of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

FIELDS_MAX = 32
TEXT_BYTES_MAX = 1_024
TEXTS_MAX = 128
INTEGER_MAX = 2**63 - 1
EXACT_MAX = 2**53
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")

Value: TypeAlias = str | int | bool | float | tuple[str, ...]
Kind: TypeAlias = Literal["text", "integer", "boolean", "number", "texts"]
_TYPES: dict[Kind, type] = {"text": str, "integer": int, "boolean": bool, "number": float, "texts": tuple}


class Field(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A declared field of entries. What is `indexed` can be asked for."""

    name: str
    kind: Kind = "text"
    required: bool = False
    indexed: bool = False


def field_faults(values: Mapping[str, Value], declared: Mapping[str, Field]) -> list[str]:
    """Everything that is wrong with the fields of one entry."""
    faults = [f"it has more than {FIELDS_MAX} fields"] if len(values) > FIELDS_MAX else []
    for name, value in values.items():
        field = declared.get(name)
        if field is None:
            faults.append(f"`{name[:80]!a}` is not declared")
        elif fault := _value_fault(value, field.kind):
            faults.append(f"`{name}` {fault}")
    return faults + [
        f"`{name}` is missing" for name, field in declared.items() if field.required and name not in values
    ]


def asked_fault(value: Value, field: Field) -> str:
    """Why no entry can be asked for by a value, or nothing. One of another kind than the field's finds nothing."""
    if isinstance(value, tuple) and field.kind != "texts":
        return f"is of kind {field.kind}, and is asked for by one value"
    if isinstance(value, tuple):
        return "" if 0 < len(value) <= TEXTS_MAX else f"is asked for by 1 to {TEXTS_MAX} texts"
    if isinstance(value, int) and not -INTEGER_MAX <= value <= INTEGER_MAX:
        return f"is beyond {INTEGER_MAX}"
    return ""


def exact(values: Mapping[str, Value], declared: Mapping[str, Field]) -> dict[str, Value]:
    """The values with every number as the float it is; `-0.0` is `0.0`."""
    return {
        name: _number(value) if name in declared and declared[name].kind == "number" else value
        for name, value in values.items()
    }


def field_keys(name: str, value: Value) -> list[str]:
    """What entries with a value in an indexed field are found by. `1`, `true`, `1.0` and `"1"` differ."""
    if isinstance(value, tuple):
        return [key for one in value for key in field_keys(name, one)]
    return [f"f:{name}:{type(value).__name__}:{value}"]


def value_fits(there: Value | None, asked: Value) -> bool:
    """Whether a value is what is asked for: the same, or texts among which all of it is."""
    if isinstance(there, tuple):
        return all(one in there for one in asked) if isinstance(asked, tuple) else asked in there
    return type(there) is type(asked) and there == asked


def text_fault(text: str) -> str:
    """What is wrong with a text, or nothing. Not every store finds what holds a NUL or half of a surrogate pair."""
    if len(text.encode(errors="replace")) > TEXT_BYTES_MAX:
        return f"has more than {TEXT_BYTES_MAX} bytes"
    return "holds a NUL or half of a surrogate pair" if _UNSTORABLE.search(text) else ""


def cut_text(text: str) -> str:
    """As much of a text as a field can hold."""
    return _UNSTORABLE.sub("", text).encode()[:TEXT_BYTES_MAX].decode(errors="ignore")


def _value_fault(value: Value, kind: Kind) -> str:
    if kind == "number" and type(value) in (int, float):
        return "" if _is_exact(value) else f"is no finite number, or an integer beyond {EXACT_MAX}"
    if type(value) is not _TYPES[kind]:
        return f"must be of kind {kind}"
    if isinstance(value, str):
        return text_fault(value)
    if isinstance(value, tuple):
        return _texts_fault(value)
    return "" if -INTEGER_MAX <= value <= INTEGER_MAX else f"is beyond {INTEGER_MAX}"


def _texts_fault(texts: tuple[str, ...]) -> str:
    if len(texts) > TEXTS_MAX:
        return f"has more than {TEXTS_MAX} texts"
    if not all(type(one) is str for one in texts):
        return "must be of kind texts"
    if len(set(texts)) < len(texts):
        return "has a text twice"
    return next((f"has a text that {fault}" for one in texts if (fault := text_fault(one))), "")


def _is_exact(value: Value) -> bool:
    if isinstance(value, int):
        return -EXACT_MAX <= value <= EXACT_MAX
    return isinstance(value, float) and math.isfinite(value)


def _number(value: Value) -> Value:
    return float(value) + 0.0 if type(value) in (int, float) and not isinstance(value, str | tuple) else value
