"""Answers in one piece or in many, whole or broken: read for what they say, or refused by name. Nothing else."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assent.bootstrap.models import wire_of
from assent.primitives.canonical import canonical
from assent.reasoning.calls import CALLS_KEPT_MAX, OPAQUE_BYTES_MAX
from assent.reasoning.failures import FailureKind
from assent.reasoning.messages import (
    RAW_CHARACTERS_MAX,
    BrokenCall,
    CallDelta,
    Completion,
    Message,
    ModelRequest,
    Opaque,
    Stop,
    Text,
    TextDelta,
    ToolCall,
)
from assent.reasoning.ports import BrokenAnswer
from assent.reasoning.reading import MARKS_MAX
from assent.reasoning.streams import ANSWER_BYTES_MAX
from tests.reasoning.answers import (
    AT,
    EVENTS,
    LINES,
    REASONING,
    RESPONSE,
    WHOLE,
    completion,
    decoded,
    event,
    gemini_chunk,
    line,
    meant,
    stream,
)
from tests.reasoning.wire_world import WIRES

LATER, LARGE = FailureKind.ADAPTER_UNAVAILABLE, FailureKind.CONTEXT_TOO_LARGE
REJECTED, FILTERED = FailureKind.ADAPTER_REJECTED, FailureKind.PROVIDER_FILTERED


def broken(wire: str, content_type: str, *pieces: bytes) -> BrokenAnswer:
    with pytest.raises(BrokenAnswer) as raised:
        completion(wire, content_type, *pieces)
    assert len(raised.value.message) < 500
    assert raised.value.message.isprintable()
    return raised.value


def whole(wire: str, value: Any) -> Completion:
    return completion(wire, WHOLE, json.dumps(value).encode())


# ----------------------------------------------------------------------------------------------------- whole and cut up


@pytest.mark.parametrize("wire", WIRES)
def test_answer_is_read_for_all_it_says(wire):
    content_type, data = stream(wire)
    said, shown = decoded(wire, content_type, data)
    assert said == meant(wire)
    assert "".join(one.text for one in shown if isinstance(one, TextDelta)) == "grüße"
    assert [(one.index, one.name) for one in shown if isinstance(one, CallDelta)] == [(0, "look"), (1, "go")]


@pytest.mark.slow
@pytest.mark.parametrize("wire", WIRES)
def test_answer_is_the_same_at_every_cut(wire):
    content_type, data = stream(wire)
    for at in range(len(data) + 1):
        assert completion(wire, content_type, data[:at], data[at:]) == meant(wire)


@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("wire", WIRES)
def test_answer_is_the_same_byte_by_byte_and_with_any_ends_of_lines(wire, ends):
    content_type, data = stream(wire)
    if wire == "ollama" and ends == b"\r":
        ends = b"\r\n"
    data = data.replace(b"\n", ends)
    said, shown = decoded(wire, content_type, *(data[at : at + 1] for at in range(len(data))))
    assert said == meant(wire)
    assert shown == decoded(wire, content_type, data)[1]


@pytest.mark.slow
@pytest.mark.parametrize("wire", WIRES)
def test_answer_that_is_cut_off_is_no_answer(wire):
    content_type, data = stream(wire)
    # A server of this format may end without its mark, once it has said why the model stopped.
    needed = data.index(b'"finish_reason": "tool_calls"') if wire == "openai-chat" else len(data) - 2
    for at in range(needed):
        assert broken(wire, content_type, data[:at]).code in ("answer_cut", "answer_malformed")


def test_answers_in_one_piece_say_the_same():
    block = [
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"}, {"type": "text", "text": "grüße"},
        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": AT},
        {"type": "tool_use", "id": "toolu_2", "name": "go", "input": {}},
    ]  # fmt: skip
    used = {"input_tokens": 5, "cache_creation_input_tokens": 2, "cache_read_input_tokens": 4, "output_tokens": 9}
    message = {"type": "message", "model": "m-1", "content": block, "stop_reason": "tool_use", "usage": used}
    assert whole("anthropic", message) == meant("anthropic")
    calls = [
        {"id": id_, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for id_, name, arguments in (("call_a", "look", AT), ("call_b", "go", {}))
    ]
    said = {"role": "assistant", "content": "grüße", "reasoning_content": "hm", "tool_calls": calls}
    used = {"prompt_tokens": 11, "completion_tokens": 9}
    details = {"prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2}}
    choice = {"index": 0, "message": said, "finish_reason": "tool_calls"}
    assert whole("openai-chat", {"model": "m-1", "choices": [choice], "usage": used | details}) == meant("openai-chat")
    assert whole("openai", RESPONSE) == meant("openai")
    _, data = stream("gemini")
    chunks = [json.loads(one.removeprefix(b"data: ")) for one in data.split(b"\n\n") if one]
    parts = [part for one in chunks for part in one["candidates"][0]["content"]["parts"]]
    one = {**chunks[-1], "candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]}
    assert whole("gemini", one) == meant("gemini")
    answer = {"role": "assistant", "content": "grüße", "thinking": "hm", "tool_calls": [
        {"function": {"name": "look", "arguments": AT}}, {"id": "call_b", "function": {"name": "go"}},
    ]}  # fmt: skip
    end = {"model": "m-1", "done": True, "done_reason": "stop", "prompt_eval_count": 11, "eval_count": 9}
    assert whole("ollama", {**end, "message": answer}) == meant("ollama")


@pytest.mark.parametrize("wire", WIRES)
def test_what_was_kept_for_the_provider_goes_back_as_it_came(wire):
    said = completion(wire, *stream(wire))
    user = Message(role="user", parts=(Text(text="hi"),))
    request = ModelRequest(model="gemini-3-pro", messages=(user, Message(role="assistant", parts=said.parts)))
    body = json.loads(wire_of(wire).request(request).body)
    match wire:
        case "anthropic":
            assert body["messages"][1]["content"][0] == {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
        case "openai-chat":
            assert body["messages"][1]["reasoning_content"] == "hm"
        case "openai":
            assert body["input"][1] == REASONING
            assert (body["input"][2]["content"], body["input"][2]["phase"]) == ("grüße", "commentary")
        case "gemini":
            signatures = [part.get("thoughtSignature") for part in body["contents"][1]["parts"]]
            assert signatures == [None, "c2ln", None]
        case _:
            assert body["messages"][1]["thinking"] == "hm"


# -------------------------------------------------------------------------------------------------------------- endings


@pytest.mark.parametrize(
    ("reason", "stop"),
    [("end_turn", Stop.END), ("stop_sequence", Stop.END), ("max_tokens", Stop.CUT), ("refusal", Stop.REFUSED),
     ("model_context_window_exceeded", Stop.CUT), ("tool_use", Stop.CALLS), ("pause_turn", Stop.END), (None, Stop.END)],
)  # fmt: skip
def test_anthropic_says_why_it_stopped(reason, stop):
    assert whole("anthropic", {"content": [{"type": "text", "text": "x"}], "stop_reason": reason}).stop is stop


@pytest.mark.parametrize(
    ("reason", "stop"),
    [("stop", Stop.END), ("length", Stop.CUT), ("content_filter", Stop.FILTERED), ("tool_calls", Stop.CALLS),
     ("eos", Stop.END), ("model_length", Stop.CUT)],
)  # fmt: skip
def test_openai_chat_says_why_it_stopped(reason, stop):
    choice = {"index": 0, "delta": {"content": "x"}, "finish_reason": reason}
    assert completion("openai-chat", EVENTS, event({"choices": [choice]})).stop is stop


def test_openai_chat_refuses_in_words_of_their_own():
    pieces = [event({"choices": [{"index": 0, "delta": {"refusal": text}}]}) for text in ("I will", " not")]
    said = completion("openai-chat", EVENTS, *pieces, event({"choices": [{"delta": {}, "finish_reason": "stop"}]}))
    assert (said.stop, said.text) == (Stop.REFUSED, "I will not")


@pytest.mark.parametrize(
    ("more", "stop"),
    [
        ({}, Stop.CALLS), ({"output": RESPONSE["output"][:2]}, Stop.END),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, Stop.CUT),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, Stop.FILTERED),
        ({"status": "incomplete"}, Stop.CUT),
        ({"output": [{"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}]}, Stop.REFUSED),
    ],
)  # fmt: skip
def test_openai_responses_says_why_it_stopped(more, stop):
    assert whole("openai", {**RESPONSE, **more}).stop is stop
    kind = f"response.{more.get('status', 'completed')}"
    assert completion("openai", EVENTS, event({"type": kind, "response": {**RESPONSE, **more}})).stop is stop


@pytest.mark.parametrize(
    ("reason", "stop"),
    [("STOP", Stop.END), ("MAX_TOKENS", Stop.CUT), ("SAFETY", Stop.FILTERED), ("RECITATION", Stop.FILTERED),
     ("PROHIBITED_CONTENT", Stop.FILTERED), ("SPII", Stop.FILTERED), ("IMAGE_SAFETY", Stop.FILTERED),
     ("MALFORMED_FUNCTION_CALL", Stop.END), ("SOMETHING_NEW", Stop.END)],
)  # fmt: skip
def test_gemini_says_why_it_stopped(reason, stop):
    assert completion("gemini", EVENTS, gemini_chunk({"text": "x"}, finishReason=reason)).stop is stop


def test_gemini_blocks_a_question_without_a_candidate():
    said = completion("gemini", EVENTS, event({"promptFeedback": {"blockReason": "SAFETY"}}))
    assert (said.stop, said.parts) == (Stop.FILTERED, ())


@pytest.mark.parametrize(("reason", "stop"), [("stop", Stop.END), ("length", Stop.CUT), ("load", Stop.END)])
def test_ollama_says_why_it_stopped(reason, stop):
    assert whole("ollama", {"message": {"content": "x"}, "done": True, "done_reason": reason}).stop is stop


# ------------------------------------------------------------------------------------------------- errors in the middle

OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
WINDOW = {"type": "invalid_request_error", "code": "context_length_exceeded", "message": "Your input exceeds the …"}
KEEP = "The number of tokens to keep from the initial prompt is greater than the context length."
FAILED = {**RESPONSE, "status": "failed", "output": [], "error": {"code": "server_error", "message": "Oops"}}


@pytest.mark.parametrize(
    ("wire", "data", "kind", "words"),
    [
        ("anthropic", event(OVERLOADED, "error"), LATER, "Overloaded"),
        ("anthropic", event({"type": "error", "error": {"type": "authentication_error"}}), REJECTED, "authentication"),
        ("anthropic", b'{"type":"error","error":{"type":"api_error","message":"Oops"}}', LATER, "Oops"),
        ("openai-chat", event({"error": {"message": "Oops", "type": "server_error"}}), LATER, "Oops"),
        ("openai-chat", event({"error": {"message": KEEP}, "message": KEEP}, "error"), LARGE, "tokens to keep"),
        ("openai-chat", event({"object": "error", "message": "maximum context length", "code": 400}), LARGE, "context"),
        ("openai-chat", event({"choices": [{"delta": {}, "finish_reason": "error"}]}), LATER, "gave up"),
        ("openai-chat", event({"error": {"message": "It was flagged", "code": 403}}), FILTERED, "flagged"),
        ("openai", event({"type": "error", "code": "rate_limit_exceeded", "message": "Slow down"}), LATER, "Slow"),
        ("openai", event({"type": "error", "error": WINDOW, "message": ""}), LARGE, "Your input"),
        ("openai", event({"type": "response.failed", "response": FAILED}), LATER, "Oops"),
        ("openai", event({"type": "response.cancelled", "response": {"status": "cancelled"}}), LATER, "cancelled"),
        ("gemini", event({"error": {"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"}}), LATER, "Over"),
        ("gemini", b'[{\n  "error": {\n    "code": 503,\n    "message": "Overloaded"\n  }\n}\n]', LATER, "Over"),
        ("gemini", b'{\r\n"error": {"message": "input token count (9) exceeds the maximum"}}', LARGE, "input"),
        ("ollama", line({"error": "an error was encountered"}), LATER, "encountered"),
        ("ollama", line({"error": '{"error":{"message":"it exceeds the available context size"}}'}), LARGE, "size"),
    ],
)  # fmt: skip
def test_error_in_the_middle_is_told_with_what_may_follow(wire, data, kind, words):
    content_type, before = stream(wire)
    cut = before.rindex(b"\n\n", 0, len(before) // 2) + 2 if wire != "ollama" else before.index(b"\n") + 1
    found = broken(wire, content_type, before[:cut], data, b"\n")
    assert (found.code, found.kind) == ("answer_error", kind)
    assert words in found.message


@pytest.mark.parametrize("wire", WIRES)
def test_error_in_one_piece_is_told_whatever_its_status_was(wire):
    found = broken(wire, WHOLE, b'{"type":"error","error":{"message":"line one\\nline two"}}')
    assert found.code == "answer_error"
    assert "line one line two" in found.message


# ------------------------------------------------------------------------------------------- proposals and their quirks


def chat(*deltas: dict[str, Any], **more: Any) -> Completion:
    pieces = [event({"choices": [{"index": 0, "delta": delta}], **more}) for delta in deltas]
    return completion("openai-chat", EVENTS, *pieces, b"data: [DONE]\n\n")


def call(arguments: Any = None, **more: Any) -> dict[str, Any]:
    function = {"arguments": arguments} | ({"name": more.pop("name")} if "name" in more else {})
    return {"tool_calls": [{"function": function, **more}]}


def calls_of(said: Completion) -> list[tuple[str, str, Any]]:
    return [
        (part.id, part.name, part.arguments if isinstance(part, ToolCall) else part.raw)
        for part in said.parts
        if isinstance(part, ToolCall | BrokenCall)
    ]


def test_compatible_servers_count_calls_in_ways_of_their_own():
    all_zero = chat(call("{}", index=0, id="a", name="look"), call('{"n":1}', index=0, id="b", name="go"))
    assert calls_of(all_zero) == [("a", "look", {}), ("b", "go", {"n": 1})]
    uncounted = chat(call('{"n"', id="a", name="look"), call(":1}"))
    assert calls_of(uncounted) == [("a", "look", {"n": 1})]
    repeated = chat(call('{"n"', index=0, id="a", name="look"), call(":1}", index=0, id="a", name="look"))
    assert calls_of(repeated) == [("a", "look", {"n": 1})]
    unnamed = chat(call("{}", index=0, name="look"), call("{}", index=1, name="go"))
    assert calls_of(unnamed) == [("call_0", "look", {}), ("call_1", "go", {})]
    as_object = chat(call({"n": 1}, index=None, id="a", name="look"))
    assert calls_of(as_object) == [("a", "look", {"n": 1})]
    same = chat(call("{}", index=0, id="x", name="look"), call("{}", index=1, id="x", name="go"))
    assert len({id_ for id_, _, _ in calls_of(same)}) == 2


def test_compatible_servers_send_words_as_parts():
    said = chat({"content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": "so"}]}, {"content": None})
    assert said.text == "so"


def test_details_of_thoughts_come_in_pieces_and_go_back_whole():
    pieces = [
        {"type": "reasoning.text", "index": 0, "text": "h", "format": "x"},
        {"type": "reasoning.text", "index": 0, "text": "m"},
        {"type": "reasoning.text", "index": 0, "signature": "c2ln", "text": None},
        {"type": "reasoning.encrypted", "index": 1, "data": "abc"},
    ]  # fmt: skip
    said = chat(*({"reasoning_details": [one]} for one in pieces), {"content": "x"})
    kept = {"type": "reasoning.text", "index": 0, "text": "hm", "format": "x", "signature": "c2ln"}
    encrypted = {"type": "reasoning.encrypted", "index": 1, "data": "abc"}
    assert said.parts[0] == Opaque(wire="openai-chat", data={"reasoning_details": [kept, encrypted]})


def test_signature_of_a_call_goes_back_with_it_and_no_other():
    extra = {"google": {"thought_signature": "c2ln"}}
    said = chat(call("{}", index=0, id="a", name="look", extra_content=extra), call("{}", index=1, id="b", name="go"))
    user = Message(role="user", parts=(Text(text="hi"),))
    request = ModelRequest(model="some", messages=(user, Message(role="assistant", parts=said.parts)))
    calls = json.loads(wire_of("openai-chat").request(request).body)["messages"][1]["tool_calls"]
    assert [one.get("extra_content") for one in calls] == [extra, None]


def test_thoughts_that_are_empty_are_kept_where_they_were_sent():
    """Some servers want the member back even when there was nothing in it."""
    assert chat({"reasoning_content": ""}, call("{}", index=0, id="a", name="look")).parts[0] == Opaque(
        wire="openai-chat", data={"reasoning_content": ""}
    )
    assert not [part for part in chat({"content": "x"}).parts if isinstance(part, Opaque)]


def test_cached_tokens_are_found_where_other_servers_tell_them():
    used = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_cache_hit_tokens": 5, "prompt_cache_miss_tokens": 4}
    said = chat({"content": "x"}, usage=used)
    assert (said.usage.input_tokens, said.usage.cache_read_tokens) == (9, 5)


def test_signature_that_comes_alone_goes_back_alone():
    parts = [
        {"text": "hm", "thought": True, "thoughtSignature": "YQ=="}, {"text": "so", "thoughtSignature": "Yg=="},
        {"text": "", "thoughtSignature": "Yw=="},
    ]  # fmt: skip
    said = completion("gemini", EVENTS, *(gemini_chunk(part) for part in parts), gemini_chunk(finishReason="STOP"))
    assert said.text == "so"
    user = Message(role="user", parts=(Text(text="hi"),))
    request = ModelRequest(model="gemini-3-pro", messages=(user, Message(role="assistant", parts=said.parts)))
    assert json.loads(wire_of("gemini").request(request).body)["contents"][1]["parts"] == parts


def test_responses_that_do_not_repeat_at_the_end_are_read_from_what_came_before():
    _, data = stream("openai")
    silent = data.replace(
        json.dumps(RESPONSE, ensure_ascii=False).encode(), json.dumps({**RESPONSE, "output": []}).encode()
    )
    assert silent != data
    assert completion("openai", EVENTS, silent) == meant("openai")


@pytest.mark.parametrize("raw", ["{", "[]", '"x"', "1", '{"a":1}{', '{"a":1e999}', '{"n":' + "9" * 40 + "}", "{'a':1}"])
@pytest.mark.parametrize("wire", ["anthropic", "openai", "openai-chat"])
def test_arguments_that_are_no_object_are_a_broken_call(wire, raw):
    match wire:
        case "openai-chat":
            said = chat(call(raw, index=0, id="a", name="look"))
        case "openai":
            item = {"type": "function_call", "call_id": "a", "name": "look", "arguments": raw}
            said = whole("openai", {**RESPONSE, "output": [item]})
        case _:
            block = {"type": "tool_use", "id": "a", "name": "look", "input": {}}
            said = completion(
                "anthropic", EVENTS, event({"type": "message_start", "message": {}}),
                event({"type": "content_block_start", "index": 0, "content_block": block}),
                event({"type": "content_block_delta", "index": 0,
                       "delta": {"type": "input_json_delta", "partial_json": raw}}),
                event({"type": "message_stop"}),
            )  # fmt: skip
    (found,) = said.parts
    assert isinstance(found, BrokenCall)
    assert (found.id, found.name, found.raw) == ("a", "look", raw)
    assert found.fault


@pytest.mark.parametrize("arguments", [[1], "x", 3, True, {"n": 2**60}])
@pytest.mark.parametrize("wire", ["gemini", "ollama"])
def test_arguments_that_are_another_value_are_a_broken_call(wire, arguments):
    if wire == "ollama":
        message = {"tool_calls": [{"function": {"name": "look", "arguments": arguments}}]}
        said = whole("ollama", {"message": message, "done": True})
    else:
        said = completion(
            "gemini", EVENTS, gemini_chunk({"functionCall": {"name": "look", "args": arguments}}, finishReason="STOP")
        )
    (found,) = said.parts
    assert isinstance(found, BrokenCall)


def test_raw_arguments_are_kept_within_their_bound():
    (found,) = chat(call("{" * 100_000, index=0, id="a", name="look")).parts
    assert isinstance(found, BrokenCall)
    assert len(found.raw) == RAW_CHARACTERS_MAX


# --------------------------------------------------------------------------------------------------------- far too much


@pytest.mark.parametrize("content_type", [EVENTS, LINES, WHOLE, "text/html", ""])
@pytest.mark.parametrize("wire", WIRES)
def test_answer_larger_than_its_bound_is_refused_and_forgotten(wire, content_type):
    decoder = wire_of(wire).decoder(content_type=content_type)
    piece = b"x" * 1_048_576
    for _ in range(ANSWER_BYTES_MAX // len(piece) + 3):
        assert decoder.feed(piece) == []
    with pytest.raises(BrokenAnswer, match="larger than") as raised:
        decoder.close()
    assert raised.value.code == "answer_malformed"


@pytest.mark.parametrize(
    "text",
    [b"[" * 200_000, b'{"a":' * 200_000, b"{" + b'"a":1,' * (MARKS_MAX + 1) + b'"b":1}',
     b'{"choices":[' + b"{}," * 300_000, b'"\\ud800"', b"\xff\xfe", b"null", b"[]", b"0"],
)  # fmt: skip
@pytest.mark.parametrize("wire", WIRES)
def test_garbage_is_no_answer(wire, text):
    for content_type, data in ((EVENTS, b"data: " + text + b"\n\n"), (LINES, text + b"\n"), (WHOLE, text), ("", text)):
        assert broken(wire, content_type, data).code == "answer_malformed"


@pytest.mark.parametrize("content_type", [EVENTS, LINES, WHOLE, ""])
@pytest.mark.parametrize("wire", WIRES)
def test_nothing_is_no_answer(wire, content_type):
    assert broken(wire, content_type).code in ("answer_cut", "answer_malformed")
    assert broken(wire, content_type, b"data: [DONE]\n\n").code in ("answer_cut", "answer_malformed")


@pytest.mark.slow
def test_more_calls_than_anybody_looks_at_are_dropped():
    many = 50_000
    pieces = b"".join(
        event({"choices": [{"delta": call("{}", index=n, id=f"c{n}", name="go")}]}) for n in range(many)
    )  # fmt: skip
    said, shown = decoded("openai-chat", EVENTS, pieces, b"data: [DONE]\n\n")
    assert len(said.parts) == len(shown) == CALLS_KEPT_MAX
    chunk = gemini_chunk(*({"functionCall": {"name": "go"}} for _ in range(many)), finishReason="STOP")
    assert len(completion("gemini", EVENTS, chunk).parts) == CALLS_KEPT_MAX
    lines = [line({"message": {"tool_calls": [{"function": {"name": "go"}}]}}) for _ in range(many)]
    assert len(completion("ollama", LINES, *lines, line({"done": True})).parts) == CALLS_KEPT_MAX
    blocks = [
        event({"type": "content_block_start", "index": n, "content_block": {"type": "tool_use", "name": "go"}})
        for n in range(many)
    ]
    ends = event({"type": "message_start", "message": {}}), event({"type": "message_stop"})
    assert len(completion("anthropic", EVENTS, *blocks, *ends).parts) == CALLS_KEPT_MAX
    items = [{"type": "function_call", "call_id": f"c{n}", "name": "go", "arguments": ""} for n in range(many)]
    assert len(whole("openai", {**RESPONSE, "output": items}).parts) == 2 * CALLS_KEPT_MAX


def test_what_is_kept_for_a_provider_has_an_end():
    block = {"type": "redacted_thinking", "data": "x" * (OPAQUE_BYTES_MAX + 1)}
    data = json.dumps({"content": [block], "stop_reason": "end_turn"}).encode()
    assert broken("anthropic", WHOLE, data).code == "answer_malformed"


# ----------------------------------------------------------------------------------------------------------- any at all


def held(wire: str, content_type: str, *pieces: bytes) -> None:
    """It is an answer of the right types that can be put on record, or a broken one. `feed` raises nothing."""
    decoder = wire_of(wire).decoder(content_type=content_type)
    for piece in pieces:
        decoder.feed(piece)
    found, code = None, ""
    try:
        found = decoder.close()
    except BrokenAnswer as answer:
        code = answer.code
    if found is None:
        assert code in ("answer_cut", "answer_malformed", "answer_error")
    else:
        plain = msgspec.to_builtins(found)
        assert msgspec.convert(plain, Completion) == found
        canonical(plain)


LEAVES: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, -1, 1.5, 2**70, "", "x", "error", [], [None], [1], {}, {"error": "x"}, [{}], {"text": 1}]
)


def swapped(data: st.DataObject, value: Any) -> Any:
    """The value with one member somewhere in it swapped for something else."""
    if isinstance(value, dict) and value and data.draw(st.integers(0, 9)):
        name = data.draw(st.sampled_from(sorted(value)))
        return {**value, name: swapped(data, value[name])}
    if isinstance(value, list) and value and data.draw(st.integers(0, 9)):
        at = data.draw(st.integers(0, len(value) - 1))
        return [*value[:at], swapped(data, value[at]), *value[at + 1 :]]
    return data.draw(LEAVES)


@pytest.mark.slow
@pytest.mark.parametrize("wire", WIRES)
@settings(max_examples=300)
@given(data=st.data())
def test_answer_with_members_of_other_types_is_an_answer_or_broken(wire, data):
    content_type, text = stream(wire)
    between = b"\n" if wire == "ollama" else b"\n\n"
    pieces = text.split(between)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(pieces) - 1))
        head, brace, tail = pieces[at].partition(b"{")
        try:
            value = json.loads(brace + tail)
        except ValueError:
            continue
        pieces[at] = head + json.dumps(swapped(data, value)).encode()
    held(wire, content_type, between.join(pieces))


@pytest.mark.slow
@pytest.mark.parametrize("wire", WIRES)
@settings(max_examples=300)
@given(data=st.data())
def test_answer_in_one_piece_with_members_of_other_types_is_an_answer_or_broken(wire, data):
    block = [{"type": "tool_use", "id": "a", "name": "look", "input": AT}, {"type": "thinking", "thinking": "x"}]
    message = {"content": "x", "tool_calls": [{"id": "a", "function": {"name": "look", "arguments": "{}"}}]}
    candidate = {
        "content": {"parts": [{"functionCall": {"name": "go"}, "thoughtSignature": "x"}]},
        "finishReason": "STOP",
    }
    value: Any = {
        "anthropic": {"content": block, "stop_reason": "end_turn", "usage": {"input_tokens": 1}},
        "openai-chat": {"choices": [{"message": message}], "usage": {"prompt_tokens": 1}},
        "openai": RESPONSE,
        "gemini": {"candidates": [candidate], "usageMetadata": {"promptTokenCount": 1}},
        "ollama": {"message": {**message, "thinking": "x"}, "done": True, "eval_count": 1},
    }[wire]
    for _ in range(data.draw(st.integers(1, 3))):
        value = swapped(data, value)
    held(wire, WHOLE, json.dumps(value).encode())


@pytest.mark.slow
@pytest.mark.parametrize("wire", WIRES)
@settings(max_examples=200)
@given(data=st.data())
def test_answer_with_bytes_lost_or_added_is_an_answer_or_broken(wire, data):
    content_type, text = stream(wire)
    for _ in range(data.draw(st.integers(1, 4))):
        at, more = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, 30))
        text = text[:at] + data.draw(st.binary(max_size=8)) + text[at + more :]
    cut = data.draw(st.integers(0, len(text)))
    kind = data.draw(st.sampled_from([content_type, EVENTS, LINES, WHOLE, "text/html; x", ";", "\ud800"]))
    held(wire, kind, text[:cut], text[cut:])
