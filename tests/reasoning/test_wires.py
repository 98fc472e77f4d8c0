"""Every wire format says the same and understands the same; whatever breaks is told by its name."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.bootstrap.models import wire_of
from assent.execution.outcomes import Ending
from assent.operations.models import COMPLETION, FAULT
from assent.primitives.errors import Malformed
from assent.reasoning.failures import FailureKind, Fault
from assent.reasoning.messages import (
    BrokenCall,
    Completion,
    Image,
    Message,
    Opaque,
    Stop,
    Text,
    TextDelta,
    ToolCall,
    ToolResult,
)
from assent.testing.models import Called, Failing, Reply, Seen
from assent.testing.models.replies import KEY
from assent.testing.models.speech import speak
from tests.reasoning.wire_world import WIRES, ask, question

JUNK = [
    b"null", b"{}", b"[]", b'data: {"choices":1}\n\n', b'data: {"type":"content_block_start"}\n\n', b'{"message":3}\n',
    b"data: [DONE]\n\n",
]  # fmt: skip
PIXEL = "iVBORw0KGgo="
CALLS = (Called(name="look", arguments={"at": "ü", "deep": {"a": [1, 2.5]}}), Called(name="go"))


def completed(wire: str, reply: Reply, **more: Any) -> Completion:
    outcome, _, _ = ask(wire, question(**more), reply)
    assert outcome.ending is Ending.SUCCEEDED, outcome
    return msgspec.convert(outcome.value[COMPLETION], Completion)


def fault(wire: str, reply: Reply, **more: Any) -> tuple[str, Fault]:
    outcome, _, _ = ask(wire, question(), reply, **more)
    assert outcome.ending is Ending.FAILED, outcome
    return outcome.code, msgspec.convert(outcome.value[FAULT], Fault)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("wire", WIRES)
def test_words_calls_and_usage_are_the_same_in_every_format(wire: str, stream: bool) -> None:
    said = completed(wire, Reply(text="to see", calls=CALLS, cached=4), stream=stream)
    assert (said.text, said.stop, said.model, said.wire) == ("to see", Stop.CALLS, "some", wire)
    calls = [part for part in said.parts if isinstance(part, ToolCall)]
    assert [(call.name, call.arguments) for call in calls] == [(one.name, one.arguments) for one in CALLS]
    assert len({call.id for call in calls}) == 2
    assert (said.usage.input_tokens, said.usage.output_tokens) == (11, 7)
    assert said.usage.cache_read_tokens == (0 if wire == "ollama" else 4)


@pytest.mark.parametrize("wire", WIRES)
def test_words_are_shown_while_they_come(wire: str) -> None:
    outcome, shown, _ = ask(wire, question(), Reply(text="one and two"))
    words = [one.text for one in shown if isinstance(one, TextDelta)]
    assert ("".join(words), len(words)) == ("one and two", 2)
    assert outcome.ending is Ending.SUCCEEDED


@pytest.mark.parametrize(
    ("stop", "found"), [("end", Stop.END), ("cut", Stop.CUT), ("refused", Stop.REFUSED), ("filtered", Stop.FILTERED)]
)
@pytest.mark.parametrize("wire", WIRES)
def test_ends_are_told_apart_as_far_as_the_format_does(wire: str, stop: Any, found: Stop) -> None:
    same = {
        ("anthropic", "filtered"): Stop.REFUSED, ("gemini", "refused"): Stop.FILTERED,
        ("ollama", "refused"): Stop.END, ("ollama", "filtered"): Stop.END,
    }  # fmt: skip
    assert completed(wire, Reply(text="well", stop=stop)).stop is same.get((wire, stop), found)


@pytest.mark.parametrize("wire", ["anthropic", "openai", "gemini"])
def test_what_only_the_provider_understands_goes_back_to_it_and_to_no_other(wire: str) -> None:
    said = completed(wire, Reply(text="so", thinking="hm", calls=CALLS[:1]))
    opaque = [part for part in said.parts if isinstance(part, Opaque)]
    assert opaque
    again = question(
        messages=(Message(role="user", parts=(Text(text="hi"),)), Message(role="assistant", parts=said.parts))
    )
    sealed = {"anthropic": "c2lnbmVk", "openai": "c2VhbGVk", "gemini": "c2lnbmVk"}[wire]
    for other in WIRES:
        assert (sealed.encode() in wire_of(other).request(again).body) == (other == wire)


@pytest.mark.parametrize("wire", WIRES)
def test_results_images_and_system_texts_reach_the_provider(wire: str) -> None:
    picture = Image(media_type="image/png", data=PIXEL)
    request = question(
        system=("be brief",),
        messages=(
            Message(role="user", parts=(Text(text="look"), picture)),
            Message(role="assistant", parts=(ToolCall(id="call_1", name="look", arguments={"at": "x"}),
                                             BrokenCall(id="call_2", name="look", raw="{", fault="it ends"))),
            Message(role="user", parts=(ToolResult(call="call_1", name="look", text="seen", images=(picture,)),
                                        ToolResult(call="call_2", name="look", text="no object", failed=True),
                                        Text(text="and now?"))),
        ),
        temperature_milli=500, output={"type": "object"},
    )  # fmt: skip
    outcome, _, server = ask(wire, request, Reply(text="ok"))
    assert outcome.ending is Ending.SUCCEEDED
    body = json.dumps(server.seen[0].body)
    assert all(one in body for one in ("be brief", "seen", "no object", "and now?", "0.5", '"look"'))
    assert body.count(PIXEL) == 2
    assert server.seen[0].authorised


@pytest.mark.parametrize("status", [429, 500, 503, 529])
@pytest.mark.parametrize("wire", WIRES)
def test_provider_that_is_busy_may_be_asked_later(wire: str, status: int) -> None:
    code, told = fault(wire, Reply(failing=Failing(status=status, retry_after="7")))
    assert (code, told.kind, told.retry_after_ms) == ("http_status", FailureKind.ADAPTER_UNAVAILABLE, 7_000)
    assert "too much just now" in told.message


@pytest.mark.parametrize("wire", WIRES)
def test_wrong_key_is_said_and_never_shown(wire: str) -> None:
    outcome, _, _ = ask(wire, question(), Reply(text="x"), key="a-key-that-is-wrong")
    told = msgspec.convert(outcome.value[FAULT], Fault)
    assert told.kind is FailureKind.ADAPTER_REJECTED
    assert "credential" in told.message
    assert b"a-key-that-is-wrong" not in msgspec.json.encode(outcome)
    assert outcome.evidence.facts["credentials"] == ["env:THE_KEY"]


@pytest.mark.parametrize("wire", WIRES)
def test_too_large_a_context_is_told_apart(wire: str) -> None:
    words = "This model's maximum context length is 10 tokens: the prompt is too long"
    _, told = fault(wire, Reply(failing=Failing(status=400, message=words)))
    assert told.kind is FailureKind.CONTEXT_TOO_LARGE


@pytest.mark.parametrize("wire", WIRES)
def test_too_large_a_context_is_told_apart_in_the_middle_of_an_answer_too(wire: str) -> None:
    words = "the request exceeds the available context size"
    code, told = fault(wire, Reply(text="half of an answer", failing=Failing(way="error_event", message=words)))
    assert (code, told.kind) == ("answer_error", FailureKind.CONTEXT_TOO_LARGE)
    assert words in told.message


@pytest.mark.parametrize(
    ("way", "codes"),
    [("cut", {"cut_short"}), ("garbage", {"answer_malformed", "answer_cut"}),
     ("broken_json", {"answer_malformed", "answer_cut"}), ("wrong_type", {"answer_malformed"}),
     ("error_event", {"answer_error"}), ("huge", {"answer_malformed", "answer_cut", "output_limit"})],
)  # fmt: skip
@pytest.mark.parametrize("wire", WIRES)
def test_answer_that_breaks_is_no_answer(wire: str, way: Any, codes: set[str]) -> None:
    code, told = fault(wire, Reply(text="half of an answer", failing=Failing(way=way)))
    assert code in codes
    assert told.kind is FailureKind.ADAPTER_UNAVAILABLE
    assert len(told.message) < 500


@pytest.mark.parametrize("wire", WIRES)
def test_answer_that_never_comes_ends_by_the_limit_and_did_no_harm(wire: str) -> None:
    code, told = fault(wire, Reply(failing=Failing(way="hang")), wall_ms=200)
    assert (code, told.kind) == ("wall_limit", FailureKind.ADAPTER_UNAVAILABLE)


@pytest.mark.parametrize("wire", WIRES)
def test_slow_answer_is_the_same_answer(wire: str) -> None:
    assert completed(wire, Reply(text="slow", failing=Failing(way="drip"))).text == "slow"


@pytest.mark.parametrize("wire", ["anthropic", "openai", "openai-chat"])
def test_arguments_that_break_off_are_a_broken_call(wire: str) -> None:
    said = completed(wire, Reply(calls=CALLS, failing=Failing(way="broken_arguments")))
    broken, whole = (part for part in said.parts if isinstance(part, ToolCall | BrokenCall))
    assert isinstance(broken, BrokenCall)
    assert isinstance(whole, ToolCall)
    assert broken.raw.startswith("{")


def stream_of(wire: str) -> tuple[str, bytes]:
    seen = Seen(wire=wire, model="some", path="", stream=True, authorised=True, headers={},
                body={"stream_options": {"include_usage": True}})  # fmt: skip
    spoken = speak(seen, Reply(text="grüße, 世界", calls=CALLS, cached=2), 1)
    return spoken.content_type, b"".join(spoken.pieces)


def decoded(wire: str, content_type: str, *pieces: bytes) -> Completion:
    decoder = wire_of(wire).decoder(content_type=content_type)
    for piece in pieces:
        decoder.feed(piece)
    return decoder.close()


@pytest.mark.parametrize("wire", WIRES)
@given(data=st.data())
def test_answer_is_the_same_however_its_bytes_are_cut(wire: str, data: st.DataObject) -> None:
    content_type, whole = stream_of(wire)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=20)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert decoded(wire, content_type, *pieces) == decoded(wire, content_type, whole)
    crlf = whole.replace(b"\n", b"\r\n")
    assert decoded(wire, content_type, crlf) == decoded(wire, content_type, whole)


@pytest.mark.parametrize("wire", WIRES)
@given(data=st.data())
def test_whatever_comes_is_an_answer_or_malformed(wire: str, data: st.DataObject) -> None:
    content_type, whole = stream_of(wire)
    at = data.draw(st.integers(0, len(whole)))
    junk = data.draw(st.one_of(st.binary(max_size=60), st.sampled_from(JUNK)))
    kind = data.draw(st.sampled_from([content_type, "application/json", "text/html", ""]))
    found, code = None, ""
    try:
        found = decoded(wire, kind, whole[:at], junk, whole[at:])
    except Malformed as malformed:
        code = malformed.code
    assert isinstance(found, Completion) or code in ("answer_cut", "answer_malformed", "answer_error")


@pytest.mark.parametrize("wire", WIRES)
def test_cut_stream_is_never_taken_for_a_whole_one(wire: str) -> None:
    content_type, whole = stream_of(wire)
    for size in range(0, len(whole) // 2, 7):
        with pytest.raises(Malformed):
            decoded(wire, content_type, whole[:size])


def test_key_stands_nowhere_in_a_question() -> None:
    for wire in WIRES:
        said = wire_of(wire).request(question())
        assert KEY.encode() not in said.body + repr(said.headers).encode()
