r"""Python values as JSON, inside the interpreter that made them. Bounded in size and depth; nothing is pickled.

Plain values stay plain: null, truth, text, numbers, lists and tuples, sets of keys and values. Data classes and named
tuples become objects of their fields, enumeration members their value, dates and times ISO 8601 text, decimals,
fractions, paths and UUIDs text. What JSON cannot say becomes an object with one key that begins with `$`:

    {"$float": "nan" | "inf" | "1e+300"}            {"$int": "123…"}         beyond what JSON readers agree on, as text
    {"$bytes": "base64"}                            {"$text": "a\udc80"}    text that is not Unicode, escaped
    {"$set": [...]}                                 {"$map": [[key, value], …]}   keys that are no text, or begin so
    {"$complex": [re, im]}                          {"$duration_s": 1.5}
    {"$cut": "depth"}                               below `DEPTH_MAX`
    {"$unserialisable": "module.Type", "repr": "…"} anything else; the text is cut, or left out when none is wanted

A value of the caller that looks like a marker cannot be mistaken for one: such an object becomes a `$map`.

Describing runs the caller's code (`__repr__`, `__iter__`), in the caller's own interpreter and inside its limits.
"""

from __future__ import annotations

import base64
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import ipaddress
import json
import math
import pathlib
import uuid
from collections.abc import Callable
from typing import Any

DEPTH_MAX = 48  # of the JSON; the record around it has a few levels more, and at most 64
REPR_CHARS_MAX = 200
_EXACT_BITS = 53  # integers beyond are not the same for every reader of JSON
_DIGIT_BITS_MAX = 14_000  # beyond, Python refuses to write an int out (4300 digits)

_encode = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"), check_circular=False).encode
_Handler = Callable[["Describer", Any, int], Any]


class TooLarge(Exception):
    """The value needs more bytes than it may have."""


class Describer:
    """Describes one value. `bytes_max` bounds the JSON text; `reprs`: whether markers say what the value looks like."""

    def __init__(self, *, bytes_max: int, reprs: bool = True) -> None:
        self._left = bytes_max
        self._reprs = reprs

    def text(self, value: Any) -> bytes:
        """The JSON text.

        Raises:
            TooLarge: it would be longer than `bytes_max`.
        """
        text: bytes = _encode(self.described(value, 0)).encode("ascii")
        if self._left < 0:
            raise TooLarge
        return text

    def described(self, value: Any, depth: int) -> Any:
        if value is None or value is True or value is False:
            return self.spent(5, value)
        if depth > DEPTH_MAX:
            return self.spent(16, {"$cut": "depth"})
        for kind, handler in _HANDLERS:
            if isinstance(value, kind):
                return handler(self, value, depth)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self.object_of(
                [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)], depth
            )
        return self.foreign(value, depth)

    def spent(self, bytes_: int, value: Any) -> Any:
        self._left -= bytes_
        if self._left < 0:
            raise TooLarge
        return value

    def integer(self, value: int, _depth: int) -> Any:
        bits = value.bit_length()
        if bits <= _EXACT_BITS:
            return self.spent(bits // 3 + 2, int(value))
        if bits > _DIGIT_BITS_MAX:
            return self.spent(40, {"$int": f"an integer of {bits} bits"})
        return self.spent(bits // 3 + 12, {"$int": int.__repr__(value)})

    def real(self, value: float, _depth: int) -> Any:
        if math.isfinite(value) and (abs(value) < 2**_EXACT_BITS or not value.is_integer()):
            return self.spent(24, float(value))
        return self.spent(18, {"$float": float.__repr__(value)})

    def text_of(self, value: str, _depth: int) -> Any:
        plain = str.__str__(value)
        self.spent(len(plain) + 3, None)
        if plain.isascii():
            return plain
        try:
            plain.encode()
        except UnicodeEncodeError:
            escaped = plain.encode("utf-8", "backslashreplace").decode()
            return self.spent(len(escaped) + 12, {"$text": escaped})
        return self.spent(5 * len(plain), plain)  # escaped, every character has six bytes or twelve

    def bytes_of(self, value: bytes | bytearray | memoryview, _depth: int) -> Any:
        self.spent(memoryview(value).nbytes * 4 // 3 + 16, None)
        return {"$bytes": base64.b64encode(bytes(value)).decode("ascii")}

    def list_of(self, value: Any, depth: int) -> Any:
        self.spent(2, None)
        return [self.described(one, depth + 1) for one in value]

    def set_of(self, value: Any, depth: int) -> Any:
        self.spent(12, None)
        return {"$set": self.list_of(value, depth + 1)}

    def named_tuple_or_list(self, value: Any, depth: int) -> Any:
        fields = getattr(type(value), "_fields", None)
        if isinstance(fields, tuple) and len(fields) == len(value):
            return self.object_of(list(zip(fields, value, strict=True)), depth)
        return self.list_of(value, depth)

    def mapping(self, value: Any, depth: int) -> Any:
        return self.object_of(list(value.items()), depth)

    def object_of(self, pairs: list[tuple[Any, Any]], depth: int) -> Any:
        self.spent(2, None)
        if all(type(key) is str and not key.startswith("$") and _whole(key) for key, _ in pairs):
            return {self.described(key, depth): self.described(one, depth + 1) for key, one in pairs}
        self.spent(10, None)
        return {"$map": [[self.described(key, depth + 3), self.described(one, depth + 3)] for key, one in pairs]}

    def foreign(self, value: Any, depth: int) -> Any:
        listed = getattr(value, "tolist", None)
        if type(value).__module__.partition(".")[0] == "numpy" and listed is not None:
            self.spent(getattr(value, "nbytes", 0) // 8, None)  # before it is written out
            return self.described(listed(), depth)
        marker = {"$unserialisable": type_name(type(value))}
        if self._reprs:
            marker["repr"] = looks(value)
        return self.spent(24 + sum(6 * len(text) for text in marker.values()), marker)


def type_name(kind: type) -> str:
    """A class's name for people, with its module where that says something."""
    module = getattr(kind, "__module__", "")
    name = str(getattr(kind, "__qualname__", "?"))[:REPR_CHARS_MAX]
    full = name if module in ("builtins", "__main__") or not isinstance(module, str) else f"{module}.{name}"
    return _escaped(full)


def looks(value: Any) -> str:
    """What a value looks like, cut; what cannot be shown says so."""
    try:
        return _escaped(repr(value)[:REPR_CHARS_MAX])
    except Exception:  # noqa: BLE001 - anybody's `__repr__`
        return "(its `__repr__` fails)"


def _escaped(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _whole(text: str) -> bool:
    return _escaped(text) == text


def _as_text(describer: Describer, value: Any, depth: int) -> Any:
    return describer.described(str(value), depth)


_HANDLERS: tuple[tuple[type | tuple[type, ...], _Handler], ...] = (
    (enum.Enum, lambda d, value, depth: d.described(value.value, depth + 1)),  # before int and str
    (str, Describer.text_of),
    (int, Describer.integer),
    (float, Describer.real),
    (dict, Describer.mapping),
    (tuple, Describer.named_tuple_or_list),
    ((list, collections.deque, range), Describer.list_of),
    ((type({}.keys()), type({}.values())), Describer.list_of),
    ((set, frozenset), Describer.set_of),
    ((bytes, bytearray, memoryview), Describer.bytes_of),
    (complex, lambda d, value, depth: {"$complex": [d.described(value.real, depth), d.described(value.imag, depth)]}),
    (dt.timedelta, lambda d, value, depth: {"$duration_s": d.described(value.total_seconds(), depth)}),
    (
        (dt.date, dt.time),
        lambda d, value, depth: d.described(value.isoformat(), depth),
    ),
    (
        (decimal.Decimal, fractions.Fraction, pathlib.PurePath, uuid.UUID),
        _as_text,
    ),
    ((ipaddress.IPv4Address, ipaddress.IPv6Address), _as_text),
)
