"""JSON from strangers: read with bounds, and each member only as the type that it ought to have. Pure.

What is not known is passed over; what is known and of another type is no answer in this format. An absent member and
`null` are the same thing to every provider, and so they are here.
"""

from __future__ import annotations

from typing import Any

import msgspec

MARKS_MAX = 500_000
"""How many brackets, braces and commas a text may hold: each costs far more memory than the byte it is written with."""
COUNT_MAX = 10**12


class Misread(Exception):
    """It is not what its format says."""


def read_json(data: bytes) -> Any:  # noqa: ANN401 (JSON)
    """JSON.

    Raises:
        Misread: it is none, or too much of it.
    """
    if sum(data.count(mark) for mark in (b"[", b"{", b",")) > MARKS_MAX:
        raise Misread(f"it holds more than {MARKS_MAX} values")
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Misread("it is not JSON") from error


def read_object(data: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        Misread: it is something else.
    """
    value = read_json(data)
    if not isinstance(value, dict):
        raise Misread("it is not a JSON object")
    return value


def text(value: dict[str, Any], name: str) -> str:
    """A text, empty when there is none.

    Raises:
        Misread: it is something else.
    """
    return _as(str, value, name) or ""


def mapping(value: dict[str, Any], name: str) -> dict[str, Any]:
    """An object, empty when there is none.

    Raises:
        Misread: it is something else.
    """
    return _as(dict, value, name) or {}


def mappings(value: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """A list of objects, empty when there is none.

    Raises:
        Misread: it is something else.
    """
    found = _as(list, value, name) or []
    if not all(isinstance(one, dict) for one in found):
        raise Misread(f"`{name}` holds something that is not an object")
    return found


def count(value: dict[str, Any], name: str) -> int:
    """How many there are of something. A number that cannot be one is not believed: 0."""
    found = value.get(name)
    return found if isinstance(found, int) and not isinstance(found, bool) and 0 <= found <= COUNT_MAX else 0


def _as(kind: type, value: dict[str, Any], name: str) -> Any:  # noqa: ANN401 (JSON)
    found = value.get(name)
    if found is not None and not isinstance(found, kind):
        raise Misread(f"`{name}` is of the wrong type")
    return found
