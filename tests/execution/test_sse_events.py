"""The decoder of server-sent events, against the standard's own rules and examples, whole and in any pieces."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.execution.events import Decoder, ServerEvent, TooLong


def decoded(data: bytes, *, size: int = 0, **more) -> tuple[list[ServerEvent], Decoder]:
    decoder = Decoder(event_bytes_max=more.pop("event_bytes_max", 10_000), **more)
    pieces = [data[at : at + size] for at in range(0, len(data), size)] if size else [data]
    return [event for piece in pieces for event in decoder.feed(piece)], decoder


def said(data: str, event: str = "message", id: str = "") -> ServerEvent:  # noqa: A002 (the field's name)
    return ServerEvent(event=event, data=data, id=id)


CASES = {
    b"data: YHOO\ndata: +2\ndata: 10\n\n": [said("YHOO\n+2\n10")],
    b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n": [
        said("first event", id="1"), said("second event"), said(" third event"),
    ],
    b"data\n\ndata\ndata\n\ndata:": [said(""), said("\n")],
    b"data:test\n\ndata: test\n\n": [said("test"), said("test")],
    b"\xef\xbb\xbfdata: a\n\n": [said("a")],
    b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n": [],
    b"data: a\r\ndata: b\r\n\r\n": [said("a\nb")],
    b"data: a\rdata: b\r\r": [said("a\nb")],
    b"data: a\r\n\ndata: b\n\r\n": [said("a"), said("b")],
    b"event: add\ndata: 1\n\nevent: add\n\ndata: 2\n\n": [said("1", event="add"), said("2")],
    b"id: 7\ndata: a\n\ndata: b\n\n": [said("a", id="7"), said("b", id="7")],
    b"id: 7\ndata: a\n\nid: 8\x009\ndata: b\n\n": [said("a", id="7"), said("b", id="7")],
    b"id: 7\n\ndata: b\n\n": [said("b", id="7")],
    b"Data: a\n data: b\nfoo: c\nfoo\n\n": [],
    b"data: a\ndata: unfinished": [],
    b"data: \xff\n\n": [said("\ufffd")],
    b"data: a:b: c\n\n": [said("a:b: c")],
    b"data: \xe2\x82\xac\n\n": [said("\u20ac")],
}  # fmt: skip


@pytest.mark.parametrize("data", CASES)
@pytest.mark.parametrize("size", [0, 1, 2, 3, 7])
def test_stream_becomes_the_events_of_the_standard_however_it_is_cut(data, size):
    assert decoded(data, size=size)[0] == CASES[data]


PARTS = [b"data: x", b"id: 3", b"\r", b"\n", b"\r\n", b":c", b"event: e", b"\xe2\x82", b"\xac"]


@given(st.lists(st.sampled_from(PARTS)), st.lists(st.integers(1, 9), min_size=1))
def test_events_are_the_same_when_the_stream_is_cut_elsewhere(parts, sizes):
    data, decoder, at = b"".join(parts), Decoder(event_bytes_max=10_000), 0
    found: list[ServerEvent] = []
    for number in range(len(data)):
        size = sizes[number % len(sizes)]
        found += decoder.feed(data[at : at + size])
        at += size
    whole, other = decoded(data)
    assert (found, decoder.last_event_id) == (whole, other.last_event_id)


@pytest.mark.parametrize(
    ("value", "retry_ms"),
    [
        (b"1500", 1500), (b" 1500", 1500), (b"1.5", -1), (b"-1", -1), (b"", -1), ("\u0663".encode(), -1),
        (b"9" * 99, 86_400_000),
    ],
)  # fmt: skip
def test_retry_is_taken_when_it_is_all_digits(value, retry_ms):
    assert decoded(b"retry:" + value + b"\n")[1].retry_ms == retry_ms


def test_last_event_id_is_that_of_the_last_event_handed_up():
    events, decoder = decoded(b"id: 1\ndata: a\n\nid: 2\ndata: unfinished\n", last_event_id="0")
    assert ([event.id for event in events], decoder.last_event_id) == (["1"], "1")
    assert decoded(b"data: a\n\n", last_event_id="0")[0] == [said("a", id="0")]


def test_comments_are_counted_and_hold_nothing():
    assert decoded(b": keep alive\n" * 10_000, event_bytes_max=100)[1].comments == 10_000


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 50 + b"\n", b"x" * 50, b": " + b"c" * 50])
def test_event_is_too_long_when_it_never_ends(piece):
    decoder = Decoder(event_bytes_max=1_000)
    with pytest.raises(TooLong, match="event is"):
        [*itertools.chain.from_iterable(decoder.feed(piece) for _ in range(1_000))]


def test_event_of_exactly_the_bound_is_whole():
    assert decoded(b"data:" + b"x" * 95 + b"\n\n", event_bytes_max=100)[0] == [said("x" * 95)]
    with pytest.raises(TooLong):
        decoded(b"data:" + b"x" * 96 + b"\n\n", event_bytes_max=100)


def test_id_is_too_long_when_it_would_not_fit_a_header():
    with pytest.raises(TooLong, match="id"):
        decoded(b"id: " + b"9" * 1_025 + b"\n")
