"""Canonical bytes: one value, one spelling (RFC 8785, the JSON Canonicalization Scheme), and its strict reader.

A digest, a signature or an approval binds bytes, so two parties must write the same value the same way. RFC 8785
fixes what JSON leaves open: no white space, keys in the order of their UTF-16 code units, the shortest escapes, and
numbers as ECMAScript prints an IEEE 754 double.

Rules of this module:

- What cannot be spelled exactly is refused with its path, never rounded, dropped or turned into text: NaN and
  infinities, integers beyond ±(2**53 - 1), half of a surrogate pair, keys that are not text, and every type but None,
  bool, int, float, str (or a StrEnum, as its text), list, tuple and dict.
- Two writers, one spelling. Nearly all values hold only ASCII keys and no floats; for those msgspec's sorted encoder
  already writes RFC 8785, so a cheap walk proves the value plain and hands it over (ASCII keys sort alike as code
  points, as UTF-8 and as UTF-16). Everything else, and everything wrong, takes the slow writer, which knows the path.
- `parse` reads text from strangers into values `canonical` accepts. It refuses what readers of JSON disagree about:
  repeated keys, numbers too large for a double, and integers a double cannot hold exactly, also when spelled as `1e20`,
  because their canonical spelling is an integer out of range. So `canonical(parse(x))` can always be parsed again, to
  the same bytes. The other way round there is one gap: a float made in Python between 2**53 and 1e21 has canonical
  bytes, as the RFC demands, that `parse` refuses.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NoReturn, TypeAlias

import msgspec

from assent.primitives.errors import Malformed

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

INTEGER_MAX: Final = 2**53 - 1
DEPTH_MAX: Final = 64
TEXT_BYTES_MAX: Final = 8 * 1024 * 1024

_PATH_CHARACTERS_MAX: Final = 200
_Trail: TypeAlias = "list[str | int]"
_encode = msgspec.json.Encoder(order="sorted").encode
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_NO_BRACKET = re.compile(rb"[^\[\]{}]+")


def canonical(value: object) -> bytes:
    """Return the RFC 8785 bytes of `value`.

    Raises:
        Malformed: something in `value` has no exact JSON spelling; the message names its path (`$.a[3]`).
    """
    if _plain((value,), DEPTH_MAX):
        try:
            return _encode(value)
        except UnicodeEncodeError:
            pass  # half a surrogate pair somewhere: the slow writer finds the place and names it
    out: list[bytes] = []
    _write(value, [], out)
    return b"".join(out)


def parse(data: bytes, *, bytes_max: int = TEXT_BYTES_MAX) -> Json:
    """Read JSON text from an untrusted source into a value that has canonical bytes.

    Raises:
        Malformed: the text is too long or too deep, is not UTF-8 or not JSON, repeats a key, or holds a number or a
            text that `canonical` would refuse.
    """
    if len(data) > bytes_max:
        raise Malformed("json_too_long", f"the text has {len(data)} bytes, the limit is {bytes_max}")
    if _too_deep(data):
        raise Malformed("json_too_deep", f"the text nests deeper than {DEPTH_MAX} levels")
    value = _decode(data)
    # Only an escape can smuggle in half a surrogate pair: raw UTF-8 cannot hold one.
    if b"\\u" in data or not _plain((value,), DEPTH_MAX):
        canonical(value)
    return value


def _plain(items: Iterable[object], room: int) -> bool:
    """Whether msgspec's sorted encoder spells `items` as RFC 8785 does; False also for all that must be refused."""
    for item in items:
        kind = type(item)
        if kind is str or item is None or kind is bool:
            continue
        if type(item) is int:
            if not -INTEGER_MAX <= item <= INTEGER_MAX:
                return False
        elif type(item) is dict:
            if not room or not _ascii(item) or not _plain(item.values(), room - 1):
                return False
        elif type(item) is list or type(item) is tuple:
            if not room or not _plain(item, room - 1):
                return False
        elif not isinstance(item, StrEnum):
            return False
    return True


def _ascii(keys: Iterable[object]) -> bool:
    for key in keys:  # noqa: SIM110  # the generator inside `all` would double the cost of the walk
        if type(key) is not str or not key.isascii():
            return False
    return True


def _write(value: object, trail: _Trail, out: list[bytes]) -> None:
    """Append the bytes of `value`, found at `trail`, to `out`; recursion ends at `DEPTH_MAX`, also for cycles."""
    if type(value) is dict:
        _write_object(value, trail, out)
    elif type(value) is list or type(value) is tuple:
        _write_array(value, trail, out)
    elif type(value) is str or isinstance(value, StrEnum):
        out.append(_text(value, trail))
    elif value is None or type(value) is bool:
        out.append(_encode(value))
    elif type(value) is int:
        out.append(_integer(value, trail))
    elif type(value) is float:
        out.append(_float(value, trail))
    else:
        name = type(value).__name__[:40]
        _refuse("canonical_type", f"a `{name}`", trail, hint="use none, booleans, numbers, text, lists or dicts")


def _write_object(value: dict[object, object], trail: _Trail, out: list[bytes]) -> None:
    _enter(trail)
    separator = b"{"
    for key in sorted(_keys(value, trail), key=_utf16):
        trail.append(key)
        out += (separator, _text(key, trail), b":")
        _write(value[key], trail, out)
        trail.pop()
        separator = b","
    out.append(b"}" if value else b"{}")


def _write_array(value: list[object] | tuple[object, ...], trail: _Trail, out: list[bytes]) -> None:
    _enter(trail)
    separator = b"["
    for index, item in enumerate(value):
        trail.append(index)
        out.append(separator)
        _write(item, trail, out)
        trail.pop()
        separator = b","
    out.append(b"]" if value else b"[]")


def _enter(trail: _Trail) -> None:
    if len(trail) >= DEPTH_MAX:
        _refuse("canonical_depth", f"nesting deeper than {DEPTH_MAX} levels", trail)


def _keys(value: dict[object, object], trail: _Trail) -> list[str]:
    keys: list[str] = []
    for key in value:
        if type(key) is not str and not isinstance(key, StrEnum):
            _refuse("canonical_key", f"a key of type `{type(key).__name__[:40]}`", trail, hint="keys must be text")
        keys.append(key)
    return keys


def _utf16(key: str) -> bytes:
    """Sort key: big-endian UTF-16 compares as its code units do; half a pair passes here and is refused as text."""
    return key.encode("utf-16-be", "surrogatepass")


def _text(value: str, trail: _Trail) -> bytes:
    try:
        return _encode(value)
    except UnicodeEncodeError:
        _refuse("canonical_text", "half of a surrogate pair", trail, hint="send well-formed Unicode")


def _integer(value: int, trail: _Trail) -> bytes:
    if not -INTEGER_MAX <= value <= INTEGER_MAX:
        _refuse("canonical_number", f"an integer beyond ±{INTEGER_MAX}", trail, hint="send it as text")
    return b"%d" % value


def _float(value: float, trail: _Trail) -> bytes:
    """The spelling of ECMAScript's Number::toString (ECMA-262, radix 10)."""
    if not math.isfinite(value):
        _refuse("canonical_number", f"`{value}`, which JSON cannot spell", trail)
    if value == 0:
        return b"0"  # also for minus zero
    sign = "-" if value < 0 else ""
    # `repr` gives the shortest digits that read back to the same double, as ECMAScript asks; only the layout differs.
    mantissa, _, exponent = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    point = int(exponent or 0) + len(digits) - len(fraction)
    return (sign + _layout(digits.rstrip("0"), point)).encode()


def _layout(digits: str, point: int) -> str:
    """Lay out the number 0.`digits` times ten to the power of `point`."""
    if len(digits) <= point <= 21:
        return digits.ljust(point, "0")
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{digits[0]}{fraction}e{point - 1:+d}"


def _refuse(code: str, what: str, trail: _Trail, *, hint: str = "") -> NoReturn:
    raise Malformed(code, f"`{_path(trail)}` holds {what}", hint=hint)


def _path(trail: _Trail) -> str:
    """The place in the words of JSONPath, cut in the middle when long."""
    path = "$" + "".join(map(_step, trail))
    if len(path) > _PATH_CHARACTERS_MAX:
        half = _PATH_CHARACTERS_MAX // 2
        path = f"{path[:half]}…{path[-half:]}"
    return path


def _step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if _NAME.match(step) else f"[{json.dumps(step)}]"


def _decode(data: bytes) -> Json:
    try:
        value: Json = json.loads(data.decode(), object_pairs_hook=_unique, parse_float=_wide, parse_constant=_constant)
    except UnicodeDecodeError as error:
        raise Malformed("json_not_utf8", f"the text is not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise Malformed("json_syntax", f"the text is not JSON at character {error.pos}") from error
    except ValueError as error:  # the interpreter refuses integers of thousands of digits
        raise Malformed("canonical_number", f"an integer is beyond ±{INTEGER_MAX}", hint="send it as text") from error
    return value


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise Malformed("json_key_twice", f"an object holds the key {json.dumps(twice[:80])} twice")
    return members


def _wide(text: str) -> float | int:
    """Read a number with a fraction or exponent; as an integer where its canonical spelling would be one too large,
    so that it is refused like one."""
    value = float(text)
    return int(value) if INTEGER_MAX < abs(value) < 1e21 else value


def _constant(name: str) -> NoReturn:
    raise Malformed("canonical_number", f"the text holds `{name}`, which is not JSON")


def _too_deep(data: bytes) -> bool:
    """Whether brackets outside strings nest too deep, asked before the recursive decoder sees them."""
    if data.count(b"[") + data.count(b"{") <= DEPTH_MAX:
        return False
    depth = 0
    for bracket in _NO_BRACKET.sub(b"", _STRING.sub(b"", data)):
        depth += 1 if bracket in b"[{" else -1
        if depth > DEPTH_MAX:
            return True
    return False
