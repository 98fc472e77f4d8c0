"""RFC 8785 vectors, and the promises of `canonical` and `parse` as properties."""

from __future__ import annotations

import json
import math
import struct
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from enum import IntEnum, StrEnum
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.primitives.canonical import DEPTH_MAX, INTEGER_MAX, canonical, parse
from assent.primitives.errors import Malformed

# RFC 8785, appendix B: the bits of a double and its text.
APPENDIX_B = [
    ("0000000000000000", "0"),
    ("8000000000000000", "0"),
    ("0000000000000001", "5e-324"),
    ("8000000000000001", "-5e-324"),
    ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("ffefffffffffffff", "-1.7976931348623157e+308"),
    ("4340000000000000", "9007199254740992"),
    ("c340000000000000", "-9007199254740992"),
    ("4430000000000000", "295147905179352830000"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"),
    ("44b52d02c7e14af6", "1e+23"),
    ("44b52d02c7e14af7", "1.0000000000000001e+23"),
    ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef4f", "999999999999999900000"),
    ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
    ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"),
    ("41b3de4355555554", "333333333.33333325"),
    ("41b3de4355555555", "333333333.3333333"),
    ("41b3de4355555556", "333333333.3333334"),
    ("41b3de4355555557", "333333333.33333343"),
    ("becbf647612f3696", "-0.0000033333333333333333"),
    ("43143ff3c1cb0959", "1424953923781206.2"),
]
# Beside the RFC: at a power of two the double below is nearer than the one above, so the shortest digits may not be the
# nearest ones of that length.
POWERS_OF_TWO = [
    (2.0**-24, "5.960464477539063e-8"),
    (2.0**-44, "5.684341886080802e-14"),
    (2.0**70, "1.1805916207174113e+21"),
]

# RFC 8785, section 3.2.2 (input), 3.2.3 (order) and 3.2.4 (bytes).
SAMPLE = rb"""{
  "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
  "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
  "literals": [null, true, false]
}"""
SAMPLE_BYTES = bytes.fromhex("""
    7b 22 6c 69 74 65 72 61 6c 73 22 3a 5b 6e 75 6c 6c 2c 74 72 75 65 2c 66 61 6c 73 65 5d 2c 22 6e 75 6d 62 65 72 73
    22 3a 5b 33 33 33 33 33 33 33 33 33 2e 33 33 33 33 33 33 33 2c 31 65 2b 33 30 2c 34 2e 35 2c 30 2e 30 30 32 2c 31
    65 2d 32 37 5d 2c 22 73 74 72 69 6e 67 22 3a 22 e2 82 ac 24 5c 75 30 30 30 66 5c 6e 41 27 42 5c 22 5c 5c 5c 5c 5c
    22 2f 22 7d
""")
ORDER_SAMPLE = rb"""{
  "\u20ac": "Euro Sign", "\r": "Carriage Return", "\ufb33": "Hebrew Letter Dalet With Dagesh", "1": "One",
  "\ud83d\ude00": "Emoji: Grinning Face", "\u0080": "Control", "\u00f6": "Latin Small Letter O With Diaeresis"
}"""
ORDER = [
    "Carriage Return",
    "One",
    "Control",
    "Latin Small Letter O With Diaeresis",
    "Euro Sign",
    "Emoji: Grinning Face",
    "Hebrew Letter Dalet With Dagesh",
]


class Colour(StrEnum):
    RED = "red"


class Rank(IntEnum):
    FIRST = 1


class Text(str):
    __slots__ = ()


class Point(msgspec.Struct):
    x: int


WIDE = Context(prec=1200, Emax=MAX_EMAX, Emin=MIN_EMIN)  # every double has fewer decimal digits than this
texts = st.text(max_size=12)
integers = st.integers(min_value=-INTEGER_MAX, max_value=INTEGER_MAX)
floats = st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | integers | floats | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=20,
)


def double(bits: str) -> float:
    number: float = struct.unpack(">d", bytes.fromhex(bits))[0]
    return number


def refusal(value: object) -> Malformed:
    with pytest.raises(Malformed) as caught:
        canonical(value)
    return caught.value


def parse_refusal(data: bytes, **limits: int) -> Malformed:
    with pytest.raises(Malformed) as caught:
        parse(data, **limits)
    return caught.value


def nested(depth: int) -> Any:
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"k": value}
    return value


def has_unsafe_integer(value: Any) -> bool:
    """Whether a double somewhere in `value` would be spelled as an integer that a double need not hold."""
    if isinstance(value, float):
        return INTEGER_MAX < abs(value) < 1e21
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(has_unsafe_integer, inner))


def reference(value: Any) -> str:
    """RFC 8785 in the most obvious words."""
    if isinstance(value, dict):
        order = sorted(value, key=lambda key: memoryview(key.encode("utf-16-le")).cast("H").tolist())
        return "{" + ",".join(f"{reference(key)}:{reference(value[key])}" for key in order) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(reference, value)) + "]"
    if isinstance(value, float):
        return ecmascript(value)
    return json.dumps(value, ensure_ascii=False)


def ecmascript(number: float) -> str:
    """ECMA-262 Number::toString: the fewest digits that read back, of these the closest, of two such the even one."""
    if number == 0:
        return "0"
    if number < 0:
        return "-" + ecmascript(-number)
    exact = Decimal(number)
    n = exact.adjusted() + 1
    fits: list[int] = []
    k = 0
    while not fits:
        k += 1
        below = int(exact.scaleb(k - n, WIDE))
        fits = [s for s in (below, below + 1) if float(f"{s}e{n - k}") == number]
    best = min(fits, key=lambda s: (abs(Decimal(s).scaleb(n - k, WIDE) - exact), s % 2))
    n += len(str(best)) - k  # a row of nines may round up to one digit more
    s = str(best)[:k]
    if k <= n <= 21:
        return s + "0" * (n - k)
    if 0 < n <= 21:
        return s[:n] + "." + s[n:]
    if -6 < n <= 0:
        return "0." + "0" * -n + s
    tail = f"e{'+' if n > 0 else '-'}{abs(n - 1)}"
    return s + tail if k == 1 else s[0] + "." + s[1:] + tail


@pytest.mark.parametrize(("bits", "text"), APPENDIX_B)
def test_canonical_spells_a_double_as_the_rfc_does_for_each_sample(bits: str, text: str) -> None:
    assert canonical(double(bits)).decode() == text
    assert canonical([{"n": double(bits)}]).decode() == f'[{{"n":{text}}}]'


@pytest.mark.parametrize(("number", "text"), POWERS_OF_TWO)
def test_canonical_takes_the_fewest_digits_when_a_double_is_a_power_of_two(number: float, text: str) -> None:
    assert canonical(number).decode() == text == ecmascript(number)


@pytest.mark.parametrize("bits", ["7fffffffffffffff", "7ff0000000000000", "fff0000000000000"])
def test_canonical_refuses_a_double_when_json_cannot_spell_it(bits: str) -> None:
    error = refusal({"a": [0, double(bits)]})
    assert error.code == "canonical_number"
    assert "`$.a[1]`" in error.message


def test_canonical_gives_the_rfc_bytes_when_given_the_rfc_sample() -> None:
    assert canonical(parse(SAMPLE)) == SAMPLE_BYTES


def test_canonical_orders_keys_by_utf16_when_given_the_rfc_sample() -> None:
    assert list(json.loads(canonical(parse(ORDER_SAMPLE))).values()) == ORDER


def test_canonical_escapes_only_what_the_rfc_escapes_for_every_low_character() -> None:
    short = {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
    for code in range(0x120):
        expected = short.get(code) or (f"\\u{code:04x}" if code < 0x20 else chr(code))
        assert canonical(chr(code)).decode() == f'"{expected}"'
        assert canonical({chr(code): 0.5}).decode() == f'{{"{expected}":0.5}}'
    assert canonical("/<>&\u2028\u2029\uffff\U0010ffff").decode() == '"/<>&\u2028\u2029\uffff\U0010ffff"'


@given(values)
def test_canonical_agrees_with_the_obvious_writer_for_any_value(value: Any) -> None:
    assert canonical(value).decode() == reference(value)


@given(st.integers(min_value=1, max_value=0x7FEF_FFFF_FFFF_FFFF))
def test_canonical_spells_a_double_as_ecmascript_does_for_any_bits(bits: int) -> None:
    number = double(f"{bits:016x}")
    assert canonical(number).decode() == ecmascript(number)


@given(floats)
def test_canonical_spells_a_double_so_that_it_reads_back_for_any_double(number: float) -> None:
    assert float(canonical(number)) == number


@given(values)
def test_canonical_keeps_the_value_when_python_reads_it_back(value: Any) -> None:
    # Every number as a double, as RFC 8785 means it: an integer read from `56651996555289570` would be another number.
    assert json.loads(canonical(value), parse_int=float) == value


@given(st.dictionaries(texts, st.none() | floats))
def test_canonical_orders_keys_by_utf16_code_units_for_any_keys(value: dict[str, Any]) -> None:
    order = [key for key, _ in json.loads(canonical(value), object_pairs_hook=list)]
    assert order == sorted(value, key=lambda key: memoryview(key.encode("utf-16-le")).cast("H").tolist())


@given(values)
def test_canonical_writes_the_same_bytes_when_keys_arrive_in_another_order(value: Any) -> None:
    def turned(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: turned(item[key]) for key in reversed(item)}
        return [turned(entry) for entry in item] if isinstance(item, list) else item

    assert canonical(turned(value)) == canonical(value)


def test_canonical_writes_tuples_and_text_enums_when_they_stand_for_lists_and_text() -> None:
    assert canonical({"a": (1, Colour.RED), Colour.RED: None}) == b'{"a":[1,"red"],"red":null}'
    assert canonical((Colour.RED, 1.5, {})) == b'["red",1.5,{}]'
    assert canonical(()) == b"[]"


@pytest.mark.parametrize("number", [INTEGER_MAX, -INTEGER_MAX, 0])
def test_canonical_accepts_an_integer_when_a_double_holds_it_exactly(number: int) -> None:
    assert canonical([number]) == b"[%d]" % number


@pytest.mark.parametrize("number", [INTEGER_MAX + 1, -INTEGER_MAX - 1, 10**4000])
def test_canonical_refuses_an_integer_when_a_double_may_not_hold_it(number: int) -> None:
    error = refusal({"a": [0, 1, 2, number]})
    assert error.code == "canonical_number"
    assert "`$.a[3]`" in error.message
    assert "as text" in error.hint


@pytest.mark.parametrize(
    "stranger",
    [b"bytes", bytearray(), {1}, frozenset(), 1j, object(), Rank.FIRST, Text("secret"), Point(x=1), range(2), Ellipsis],
)
def test_canonical_refuses_a_type_when_json_has_no_such_thing(stranger: object) -> None:
    error = refusal({"a": {"b c": stranger}})
    assert error.code == "canonical_type"
    assert '`$.a["b c"]`' in error.message
    assert type(stranger).__name__ in error.message
    assert "secret" not in str(error)


@pytest.mark.parametrize("key", [1, None, True, 1.5, ("a",), b"a", Text("a")])
def test_canonical_refuses_a_key_when_it_is_not_text(key: object) -> None:
    error = refusal({"a": [{key: 1}]})
    assert error.code == "canonical_key"
    assert "`$.a[0]`" in error.message


@pytest.mark.parametrize("value", ["\ud800", "a\udfffb", {"\udc00": 1}, [0.5, "\ude00"]])
def test_canonical_refuses_text_when_it_holds_half_a_surrogate_pair(value: object) -> None:
    error = refusal({"a": [value]})
    assert error.code == "canonical_text"
    assert "`$.a[0]" in error.message
    error.message.encode()  # the message itself must be writable anywhere


def test_canonical_accepts_nesting_when_it_is_at_the_limit() -> None:
    assert json.loads(canonical(nested(DEPTH_MAX))) == nested(DEPTH_MAX)
    assert canonical([nested(DEPTH_MAX - 1), 0.5]).endswith(b",0.5]")


@pytest.mark.parametrize("depth", [DEPTH_MAX + 1, 100_000])
def test_canonical_refuses_nesting_when_it_is_over_the_limit(depth: int) -> None:
    error = refusal(nested(depth))
    assert error.code == "canonical_depth"
    assert len(error.message) < 400


def test_canonical_refuses_a_value_when_it_contains_itself() -> None:
    loop: list[Any] = []
    loop.extend([loop, loop])
    assert refusal(loop).code == "canonical_depth"
    knot: dict[str, Any] = {}
    knot["k"] = knot
    assert refusal(knot).code == "canonical_depth"


def test_canonical_cuts_the_path_when_keys_are_long() -> None:
    assert len(refusal({"k" * 10_000: {"tail": object()}}).message) < 400


@given(values)
def test_parse_reads_back_the_same_bytes_for_any_canonical_text_it_accepts(value: Any) -> None:
    try:
        once = parse(json.dumps(value).encode())
    except Malformed:
        assert has_unsafe_integer(value)
        return
    assert not has_unsafe_integer(value)
    assert once == value
    assert canonical(parse(canonical(once))) == canonical(once) == canonical(value)


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:\\u0123e+-.dDnul ', max_size=40).map(str.encode))
def test_parse_gives_stable_bytes_or_a_refusal_for_any_input(data: bytes) -> None:
    try:
        value = parse(data)
    except Malformed:
        return
    assert canonical(parse(canonical(value))) == canonical(value)
    assert json.loads(data) == value


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b'{"a":1,"a":1}', "json_key_twice"),
        (b'[{"b":{"a":1,"\\u0061":2}}]', "json_key_twice"),
        (b"NaN", "canonical_number"),
        (b"[Infinity]", "canonical_number"),
        (b"-Infinity", "canonical_number"),
        (b"1e999", "canonical_number"),
        (b"-1e999", "canonical_number"),
        (b"9007199254740992", "canonical_number"),
        (b"-9007199254740992", "canonical_number"),
        (b"9007199254740992.0", "canonical_number"),
        (b"1e20", "canonical_number"),
        (b"9" * 5000, "canonical_number"),
        (b'"\\ud800"', "canonical_text"),
        (b'{"\\udc00x":1}', "canonical_text"),
        (b'"\xff"', "json_not_utf8"),
        (b'"\xed\xa0\x80"', "json_not_utf8"),
        (b"\xc0\x80", "json_not_utf8"),
        (b"", "json_syntax"),
        (b"\xef\xbb\xbf1", "json_syntax"),
        (b"{", "json_syntax"),
        (b"[1,]", "json_syntax"),
        (b"[1 2]", "json_syntax"),
        (b"{'a':1}", "json_syntax"),
        (b"{a:1}", "json_syntax"),
        (b"01", "json_syntax"),
        (b"+1", "json_syntax"),
        (b".5", "json_syntax"),
        (b"1.", "json_syntax"),
        (b"0x10", "json_syntax"),
        ("\u0661".encode(), "json_syntax"),
        (b"1 // no", "json_syntax"),
        (b'"a\nb"', "json_syntax"),
        (b'"\\x41"', "json_syntax"),
        (b"nul", "json_syntax"),
        (b"1\x00", "json_syntax"),
        ("1\u00a0".encode(), "json_syntax"),
    ],
)
def test_parse_refuses_text_when_it_is_not_strict_json(data: bytes, code: str) -> None:
    assert parse_refusal(data).code == code


def test_parse_names_the_place_when_a_number_is_too_large() -> None:
    assert "`$.a[1]`" in parse_refusal(b'{"a":[0,12345678901234567890]}').message
    assert "`$.a[1]`" in parse_refusal(b'{"a":[0,1e400]}').message


def test_parse_keeps_whole_values_when_numbers_fit() -> None:
    text = b' {"b" : [1, -0, 1.0, 1e2, 2.5, 1e21, 9007199254740991], "a":"\\ud83d\\ude00"} '
    assert canonical(parse(text)) == '{"a":"😀","b":[1,0,1,100,2.5,1e+21,9007199254740991]}'.encode()
    assert math.isclose(json.loads(canonical(parse(b"1e-7"))), 1e-7)


def test_parse_refuses_text_when_it_is_longer_than_the_limit() -> None:
    assert parse(b"[1]", bytes_max=3) == [1]
    assert parse_refusal(b"[12]", bytes_max=3).code == "json_too_long"


@pytest.mark.parametrize("brackets", [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"]}":', b"}]")])
def test_parse_refuses_nesting_when_it_is_over_the_limit(brackets: tuple[bytes, bytes]) -> None:
    opening, closing = brackets
    fits = DEPTH_MAX // (opening.count(b"[") + opening.count(b"{"))
    assert parse(opening * fits + b"1" + closing * fits) is not None
    assert parse_refusal(opening * (fits + 1) + b"1" + closing * (fits + 1)).code == "json_too_deep"
    assert parse_refusal(opening * 200_000).code == "json_too_deep"


def test_parse_counts_no_brackets_when_they_stand_inside_text() -> None:
    text = '[["' + '[{\\"' * 500 + '"],[' + "[]," * 500 + "[]]]"
    assert parse(text.encode()) == json.loads(text)


def test_parse_answers_quickly_when_a_string_never_ends() -> None:
    # Quadratic scanning would need minutes for this; the answer is what is tested, the suite's time-out is the alarm.
    assert parse_refusal(b"[" * 65 + b'"' + b'\\"' * 1_000_000).code == "json_too_deep"
    assert parse_refusal(b'"' + b'[\\"' * 500_000).code == "json_syntax"
