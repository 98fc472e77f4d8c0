"""Lines in bytes that arrive in pieces: the same lines however they are cut, and never a line without bound."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.execution.framing import LineFramer

# Mostly ends of lines, so that every way to cut them is met.
CONTENT = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"bc", b"\xff", b""]), max_size=30).map(b"".join)


def framed(pieces, *, line_bytes_max=1000):
    framer = LineFramer(line_bytes_max=line_bytes_max)
    found = [line for piece in pieces for line in framer.lines(piece)]
    return found + framer.last(), framer.overrun


def reference(content):
    """Lines by the definition, of the whole at once."""
    lines = re.split(rb"\r\n|\r|\n", content)
    return lines if lines[-1] else lines[:-1]


@given(CONTENT, st.data())
def test_lines_are_the_same_when_the_bytes_are_cut_anywhere(content, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=10)))
    pieces = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    assert framed(pieces) == (reference(content), False)


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ([b"a\r", b"\nb"], [b"a", b"b"]),
        ([b"10%\r20%\r", b"30%\n"], [b"10%", b"20%", b"30%"]),
        ([b"a\r", b"", b"\n", b"\n"], [b"a", b""]),
        ([b"\r\r\n\n"], [b"", b"", b""]),
        ([b"", b""], []),
    ],
)
def test_ends_of_lines_are_found_when_they_are_of_every_kind(pieces, lines):
    assert framed(pieces) == (lines, False)


def test_line_is_told_at_once_when_it_ends_with_cr():
    assert LineFramer(line_bytes_max=10).lines(b"50%\r") == [b"50%"]


@given(CONTENT, st.integers(1, 5), st.data())
def test_framer_stops_at_the_same_line_when_one_is_too_long(content, line_bytes_max, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=10)))
    pieces = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    expected = reference(content)
    long = next((n for n, line in enumerate(expected) if len(line) > line_bytes_max), None)
    assert framed(pieces, line_bytes_max=line_bytes_max) == (expected[:long], long is not None)


def test_memory_is_bounded_when_a_line_never_ends():
    framer = LineFramer(line_bytes_max=100_000)
    for _ in range(100):
        framer.lines(b"x" * 65_536)
    assert framer.overrun
    assert framer.last() == []
