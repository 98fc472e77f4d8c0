from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assent.reasoning.reading import COUNT_MAX, MARKS_MAX, Misread, count, mapping, mappings, read_object, text

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@pytest.mark.parametrize(
    "data",
    [b"", b"null", b"[]", b"1", b"{", b'{"a":1}x', b"\xff", b'{"a":"\\ud800"}', b"[" * 100_000, b'{"a":NaN}',
     b'{"a":' * 50_000, b"[" + b"1," * MARKS_MAX + b"1]", b'{"a":' + b"9" * 5_000 + b"}"],
)  # fmt: skip
def test_what_is_not_an_object_is_misread(data):
    with pytest.raises(Misread):
        read_object(data)


@settings(max_examples=50)
@given(value=ANYTHING)
def test_member_is_of_its_type_or_misread(value):
    there = {"it": value}
    for read, kind in ((text, str), (mapping, dict), (mappings, list)):
        try:
            found = read(there, "it")
        except Misread:
            assert not isinstance(value, kind) or (kind is list and any(not isinstance(one, dict) for one in value))
        else:
            assert found == value or (value is None and not found)
        assert not read({}, "it")
    assert 0 <= count(there, "it") <= COUNT_MAX


@pytest.mark.parametrize(("value", "found"), [(3, 3), (True, 0), (-1, 0), (1.5, 0), ("3", 0), (10**13, 0), (None, 0)])
def test_count_is_not_believed_when_it_cannot_be_one(value, found):
    assert count({"n": value}, "n") == found
