"""Lines and events are the same wherever the bytes were cut."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from assent.reasoning.lines import STRAY_BYTES_MAX, EventCutter, LineCutter

STREAM = (
    b'\xef\xbb\xbf: hello\r\nevent: one\r\ndata: {"a":\r\ndata: 1}\r\n\r\ndata:two\r\rid: 7\nretry: 3\n'
    b"data: gr\xc3\xbc\xc3\x9fe\n\nevent: never told\n\ndata\n\ndata: cut"
)
EVENTS = [("one", b'{"a":\n1}'), ("", b"two"), ("", "grüße".encode()), ("", b"")]


def events(*pieces: bytes) -> list[tuple[str, bytes]]:
    cutter = EventCutter()
    return [event for piece in pieces for event in cutter.feed(piece)]


def lines(*pieces: bytes, any_break: bool) -> list[bytes]:
    cutter = LineCutter(any_break=any_break)
    return [line for piece in pieces for line in cutter.feed(piece)] + [cutter.end()]


def cut(data: bytes, at: set[int]) -> list[bytes]:
    return [data[a:b] for a, b in itertools.pairwise([0, *sorted(at), len(data)])]


def test_events_are_told_by_the_standard_when_they_come_at_once():
    assert events(STREAM) == EVENTS


def test_events_are_the_same_at_every_cut():
    for at in range(len(STREAM) + 1):
        assert events(STREAM[:at], STREAM[at:]) == EVENTS
        assert events(STREAM[:at], b"", STREAM[at : at + 1], STREAM[at + 1 :]) == EVENTS
    assert events(*(STREAM[at : at + 1] for at in range(len(STREAM)))) == EVENTS


@settings(max_examples=50)
@given(
    data=st.lists(st.sampled_from([b"a", b"\n", b"\r", b"\r\n", b"\xff"])).map(b"".join),
    cuts=st.sets(st.integers(0, 40)),
)
def test_lines_are_those_of_the_whole_text_however_it_is_cut(data: bytes, cuts: set[int]):
    pieces = cut(data, {at for at in cuts if at <= len(data)})
    assert lines(*pieces, any_break=True) == lines(data, any_break=True)
    assert lines(data, any_break=True) == data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    assert lines(*pieces, any_break=False) == data.split(b"\n")


def test_what_is_no_event_is_kept_within_its_bound():
    cutter = EventCutter()
    cutter.feed(b': fine\ndata: fine\n\n{\n  "error": {"message": "no"}\n}')
    assert cutter.end() == b'{\n  "error": {"message": "no"}\n}\n'
    cutter.feed(b"stray\n" * STRAY_BYTES_MAX)
    assert len(cutter.end()) < STRAY_BYTES_MAX


def test_long_line_costs_no_more_than_its_bytes_when_it_comes_one_by_one():
    cutter = LineCutter(any_break=True)
    for _ in range(200_000):
        assert not cutter.feed(b"x")
    assert cutter.feed(b"\n") == [b"x" * 200_000]
