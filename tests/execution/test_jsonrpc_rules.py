"""JSON-RPC without a stream: framing, messages and correlation, for whatever a peer may send."""

from __future__ import annotations

import contextlib
import itertools
import json
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from assent.execution import rpc_framing
from assent.execution.rpc_conversation import ASKED_MAX, TOLD_MAX, Conversation
from assent.execution.rpc_framing import HEADER_BYTES_MAX, NOISE_BYTES_MAX, NOISE_LINES_MAX, Framing, framing
from assent.execution.rpc_messages import (
    Answered,
    Asked,
    RpcError,
    Told,
    batch,
    notification,
    read,
    read_params,
    refusal,
    reply,
    request,
)
from assent.primitives.errors import Malformed

KINDS: tuple[Literal["newline", "content-length"], ...] = ("newline", "content-length")
MAX = 4_096


def made(kind: Literal["newline", "content-length"] = "newline") -> Framing:
    return framing(kind, message_bytes_max=MAX)


def fed(reader: Framing, data: bytes, cuts: list[int] | None = None) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts or []), len(data)]
    return [one for start, end in itertools.pairwise(edges) for one in reader.feed(data[start:end])]


def code_of(action) -> str:
    with pytest.raises(Malformed) as caught:
        action()
    return caught.value.code


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@given(
    texts=st.lists(st.text(max_size=40), max_size=5),
    cuts=st.lists(st.integers(min_value=0, max_value=10_000), max_size=12),
)
def test_framing_gives_back_each_message_wherever_the_stream_is_cut(kind, texts, cuts):
    messages = [notification("say", {"text": text}) for text in texts]
    stream = b"".join(made(kind).frame(one) for one in messages)
    assert fed(made(kind), stream, cuts) == messages


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@given(data=st.binary(max_size=400), cuts=st.lists(st.integers(min_value=0, max_value=400), max_size=6))
def test_framing_reads_alike_wherever_garbage_is_cut(kind, data, cuts):
    def all_of(pieces: list[int]) -> tuple[list[bytes], str]:
        found: list[bytes] = []
        reader = made(kind)
        edges = [0, *sorted(cut % (len(data) + 1) for cut in pieces), len(data)]
        try:
            for start, end in itertools.pairwise(edges):
                found.extend(reader.feed(data[start:end]))
        except Malformed as error:
            return found, error.code
        return found, ""

    assert all_of(cuts) == all_of([])


def test_lines_may_end_with_cr_lf_and_blank_ones_mean_nothing():
    assert fed(made(), b'\n\r\n  {"a":1}\r\n[2]\n \n') == [b'{"a":1}', b"[2]"]


def test_line_without_end_is_refused_at_the_limit_and_holds_no_more():
    reader = framing("newline", message_bytes_max=1_000_000)
    piece = b'{"x":"' + b"x" * 65_530
    for _ in range(1_000_000 // len(piece)):
        assert not list(reader.feed(piece))
    assert code_of(lambda: list(reader.feed(piece))) == "message_limit"


def test_noise_beside_the_protocol_is_kept_in_part_and_ended_when_too_much():
    reader = made()
    assert fed(reader, b'Server started on stdio\nwarning: x\n{"a":1}\n') == [b'{"a":1}']
    assert reader.noise == b"Server started on stdio\nwarning: x\n"
    assert code_of(lambda: fed(made(), b"x\n" * (NOISE_LINES_MAX + 1))) == "noise_limit"
    assert code_of(lambda: fed(made(), (b"x" * 1_000 + b"\n") * (NOISE_BYTES_MAX // 1_000 + 1))) == "noise_limit"
    fed(reader, b"y" * 3_000 + b"\n")
    assert len(reader.noise) == rpc_framing.NOISE_KEPT_BYTES


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: -1", b"Content-Length: +1", b"Content-Length: 0x1", b"Content-Length: 1_0",
        b"Content-Length:",
        b"Content-Length: 1 1", b"Content-Length: 1\r\nContent-Length: 1", b"content-length: 1\r\nContent-Length: 2",
        b"Content-Length: 1\r\nX: 1", b"X: 1", b"Content-Length 1", b"Content-Length: \xb2", b"Content-Length: 1\nX: 2",
        b"Content-Length: 9999999999999999", b"Content-Length: 1\r\nContent-Type: \x00", b" Content-Length: 1", b"",
        b"Content-Length: 1\r\n Content-Type: a", b"Content-Length : 1", b"Content-Length: 1\t",
    ],
)  # fmt: skip
def test_header_is_refused_when_it_is_not_the_grammar_to_the_letter(head):
    assert code_of(lambda: fed(made("content-length"), head + b"\r\n\r\n{}")) == "frame_malformed"


def test_header_is_refused_when_it_does_not_end_or_announces_too_much():
    assert code_of(lambda: fed(made("content-length"), b"a" * (HEADER_BYTES_MAX + 1))) == "frame_malformed"
    assert code_of(lambda: fed(made("content-length"), b"Content-Length: 99999999999\r\n\r\n")) == "message_limit"
    whole = b"CONTENT-LENGTH: 2\r\nContent-Type: application/vscode-jsonrpc; charset=utf-8\r\n\r\n{}"
    assert fed(made("content-length"), whole) == [b"{}"]


@pytest.mark.parametrize(
    "text",
    [
        "", "nonsense", "{}", "[]", "1", "null", '"x"', "[[]]", "[1]", '{"jsonrpc":"1.0","id":1,"result":1}',
        '{"jsonrpc":2.0,"id":1,"result":1}', '{"id":1,"result":1}', '{"jsonrpc":"2.0","id":1}',
        '{"jsonrpc":"2.0","id":1,"result":1,"error":null}', '{"jsonrpc":"2.0","result":1}',
        '{"jsonrpc":"2.0","id":true,"result":1}', '{"jsonrpc":"2.0","id":1.5,"result":1}',
        '{"jsonrpc":"2.0","id":[1],"result":1}', '{"jsonrpc":"2.0","id":1,"error":"no"}',
        '{"jsonrpc":"2.0","id":1,"error":{"code":"1","message":"m"}}', '{"jsonrpc":"2.0","id":1,"error":{"code":1}}',
        '{"jsonrpc":"2.0","id":1,"error":{"code":true,"message":"m"}}', '{"jsonrpc":"2.0","id":1,"method":7}',
        '{"jsonrpc":"2.0","id":1,"method":"m","params":"p"}', '{"jsonrpc":"2.0","id":1,"result":NaN}',
        '{"jsonrpc":"2.0","id":1,"result":Infinity}', '{"jsonrpc":"2.0","id":1,"id":2,"result":1}',
        '{"jsonrpc":"2.0","id":1,"result":1e999}', '{"jsonrpc":"2.0","id":1,"result":123456789012345678901234567890}',
        '{"jsonrpc":"2.0","id":1,"result":"\\ud800"}',
        '{"jsonrpc":"2.0","id":1,"result":' + "[" * 200 + "]" * 200 + "}",
        '{"jsonrpc":"2.0","id":1,"result":{"a":1,"a":2}}', "[" + '{"jsonrpc":"2.0","method":"m"},' * 1_000 + "{}]",
    ],
)  # fmt: skip
def test_message_is_refused_when_it_has_no_one_meaning(text):
    assert code_of(lambda: read(text.encode(), bytes_max=1_000_000)) == "message_malformed"


def test_messages_are_read_as_what_they_are():
    def one(value: Any) -> Any:
        return read(json.dumps({"jsonrpc": "2.0", **value}).encode(), bytes_max=MAX)[0]

    assert one({"id": 1, "result": None}) == Answered(id=1)
    assert one({"id": None, "error": {"code": -32700, "message": "m", "data": [1]}}) == Answered(
        id=None, error=RpcError(code=-32700, message="m", data=[1])
    )
    assert one({"id": "a", "method": "ping"}) == Asked(id="a", method="ping")
    assert one({"method": "note", "params": {"x": 1}}) == Told(method="note", params={"x": 1})


@given(
    method=st.text(min_size=1, max_size=20),
    params=st.none() | st.dictionaries(st.text(max_size=5), st.integers(-5, 5), max_size=3),
    id_=st.integers(1, 2**53 - 1),
)
def test_what_is_written_is_read_back(method, params, id_):
    frames = (request(id_, method, params), notification(method, params))
    assert read(batch(frames), bytes_max=MAX) == (
        Asked(id=id_, method=method, params=params),
        Told(method=method, params=params),
    )
    assert read(reply(id_, params), bytes_max=MAX) == (Answered(id=id_, result=params),)
    assert read(refusal("x", -1, "no"), bytes_max=MAX) == (Answered(id="x", error=RpcError(code=-1, message="no")),)
    assert not any(b"\n" in frame for frame in frames)


@pytest.mark.parametrize("text", ["1", "null", '"x"', "{", '{"a":1,"a":2}', "[NaN]", "\ud800"])
def test_parameters_are_refused_when_they_are_no_object_or_array(text):
    assert code_of(lambda: read_params(text)) == "order_malformed"


def test_parameters_may_be_absent_an_object_or_an_array():
    assert [read_params(text) for text in ("", "[]", '{"a":1}')] == [None, [], {"a": 1}]


def counting():
    """Entropy that counts: 1, 2, 3, …"""
    numbers = itertools.count(1)
    return lambda count: next(numbers).to_bytes(count)


def test_ids_cannot_be_foretold_and_are_never_used_twice():
    draws = iter([b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\7", b"\0\0\0\7", b"\x80\0\0\7", b"\0\0\0\x08"])
    talk = Conversation(entropy=lambda _count: next(draws))
    assert (talk.ask(), talk.ask()) == (2**31 - 1, 7)
    talk.take(Answered(id=7, result=1))
    assert talk.ask() == 8


@pytest.mark.parametrize(
    ("id_", "code"),
    [(2, "answer_unasked"), (0, "answer_unasked"), (-1, "answer_unasked"), ("1", "answer_mistyped"),
     (None, "answer_nameless")],
)  # fmt: skip
def test_answer_settles_nothing_when_its_id_is_not_the_calls(id_, code):
    talk = Conversation(entropy=counting())
    assert talk.ask() == 1
    assert code_of(lambda: talk.take(Answered(id=id_, result=1))) == code
    assert talk.waiting == {1}


def test_answer_is_a_fault_when_it_comes_twice_and_none_when_the_call_was_given_up():
    talk = Conversation(entropy=counting())
    first, second = talk.ask(), talk.ask()
    assert talk.take(Answered(id=first, result=1)) == Answered(id=first, result=1)
    assert code_of(lambda: talk.take(Answered(id=first, result=2))) == "answer_repeated"
    talk.abandon(second)
    assert talk.take(Answered(id=second, result=1)) is None
    assert code_of(lambda: talk.take(Answered(id=second, result=1))) == "answer_repeated"


def test_unread_request_falls_on_all_that_wait_and_only_as_the_protocol_says():
    error = RpcError(code=-32700, message="parse error")
    talk = Conversation(entropy=counting())
    assert code_of(lambda: talk.take(Answered(id=None, error=error))) == "answer_nameless"
    talk.ask()
    talk.ask()
    other = RpcError(code=-32000, message="no")
    assert code_of(lambda: talk.take(Answered(id=None, error=other))) == "answer_nameless"
    assert talk.take(Answered(id=None, error=error)) == Answered(id=None, error=error)
    assert not talk.waiting


def test_peers_own_messages_are_bounded_and_counted_anew_by_begin():
    talk = Conversation(entropy=counting())
    for _ in range(2):
        for number in range(ASKED_MAX):
            talk.take(Asked(id=number, method="m"))
        assert code_of(lambda: talk.take(Asked(id=1, method="m"))) == "asked_limit"
        for _ in range(TOLD_MAX):
            talk.take(Told(method="m"))
        assert code_of(lambda: talk.take(Told(method="m"))) == "told_limit"
        talk.begin()


class Correlating(RuleBasedStateMachine):
    """Whatever answers come in whatever order: each call is settled at most once, and only by its own id."""

    def __init__(self) -> None:
        super().__init__()
        self.talk = Conversation(entropy=counting())
        self.asked: set[int] = set()
        self.settled: list[int] = []

    @rule()
    def ask(self) -> None:
        self.asked.add(self.talk.ask())

    @rule(id_=st.integers(-2, 8) | st.sampled_from(["1", "2", ""]) | st.none())
    def answer(self, id_: Any) -> None:
        with contextlib.suppress(Malformed):
            if self.talk.take(Answered(id=id_, result=0)) is not None:
                assert type(id_) is int
                self.settled.append(id_)

    @rule(id_=st.integers(1, 8))
    def abandon(self, id_: int) -> None:
        if id_ in self.talk.waiting:
            self.talk.abandon(id_)

    @invariant()
    def each_call_is_settled_at_most_once(self) -> None:
        assert len(set(self.settled)) == len(self.settled)
        assert set(self.settled) <= self.asked
        assert not self.talk.waiting & set(self.settled)


TestCorrelating = pytest.mark.slow(Correlating.TestCase)
