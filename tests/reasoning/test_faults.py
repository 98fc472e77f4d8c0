"""Errors as each provider spells them, and the few things they mean."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.bootstrap.models import wire_of
from assent.reasoning.failures import FailureKind, Fault
from assent.reasoning.faults import WORDS_CHARACTERS_MAX, one_line
from tests.reasoning.wire_world import WIRES

LATER, REJECTED = FailureKind.ADAPTER_UNAVAILABLE, FailureKind.ADAPTER_REJECTED
LARGE, FILTERED = FailureKind.CONTEXT_TOO_LARGE, FailureKind.PROVIDER_FILTERED
KEY = "sk-ant-api03-abcdefghijklmnop"

ANTHROPIC = {
    "prompt is too long: 210000 tokens > 200000 maximum": LARGE,
    "input length and `max_tokens` exceed context limit: 199759 + 8192 > 200000, decrease input length": LARGE,
    "Output blocked by content filtering policy": FILTERED,
    "messages: first message must use the user role": REJECTED,
}
OPENAI = {
    ("context_length_exceeded", "This model's maximum context length is 128000 tokens."): LARGE,
    ("context_length_exceeded", "Your input exceeds the context window of this model."): LARGE,
    ("content_policy_violation", "Your request was rejected by our safety system."): FILTERED,
    ("invalid_prompt", "Invalid prompt: your prompt was flagged as potentially violating our usage policy."): FILTERED,
    ("unsupported_parameter", "Unsupported parameter: 'max_tokens' is not supported with this model."): REJECTED,
}
COMPATIBLE = [
    ({"error": {"code": 400, "message": "the request exceeds the available context size, try increasing it",
                "type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 4}}, LARGE),
    ({"object": "error", "message": "This model's maximum context length is 4096 tokens.", "code": 400}, LARGE),
    ({"error": {"message": "The decoder prompt (length 5000) is longer than the maximum model length."}}, LARGE),
    ({"error": "The number of tokens to keep from the initial prompt is greater than the context length."}, LARGE),
    ({"error": {"code": 400, "message": "Provider returned error",
                "metadata": {"raw": '{"error":{"message":"prompt is too long: 9 tokens > 4 maximum"}}'}}}, LARGE),
    ({"detail": [{"loc": ["body", "tools"], "msg": "Extra inputs are not permitted"}]}, REJECTED),
]  # fmt: skip


def fault(wire: str, status: int, value: object = None, **headers: str) -> Fault:
    named = {name.replace("_", "-"): said for name, said in headers.items()}
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return wire_of(wire).fault(status=status, headers=named, body=body)


@pytest.mark.parametrize(("message", "kind"), ANTHROPIC.items())
def test_anthropic_tells_what_is_wrong_with_a_question(message, kind):
    told = fault("anthropic", 400, {"type": "error", "error": {"type": "invalid_request_error", "message": message}})
    assert told.kind is kind
    assert message[:40] in told.message


@pytest.mark.parametrize("wire", ["openai", "openai-chat"])
@pytest.mark.parametrize(("said", "kind"), OPENAI.items())
def test_openai_tells_what_is_wrong_with_a_question(wire, said, kind):
    code, message = said
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    assert fault(wire, 400, {"error": error}).kind is kind


@pytest.mark.parametrize(("value", "kind"), COMPATIBLE)
def test_compatible_servers_tell_what_is_wrong_in_shapes_of_their_own(value, kind):
    assert fault("openai-chat", 400, value).kind is kind


def test_gemini_tells_what_is_wrong_and_how_long_to_wait():
    large = "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."
    assert fault("gemini", 400, {"error": {"code": 400, "message": large, "status": "INVALID_ARGUMENT"}}).kind is LARGE
    retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.074824224s"}
    busy = {"code": 429, "message": "You exceeded your quota", "status": "RESOURCE_EXHAUSTED", "details": [{}, retry]}
    told = fault("gemini", 429, [{"error": busy}])
    assert (told.kind, told.retry_after_ms) == (LATER, 34_074)
    refused = fault("gemini", 400, {"error": {"code": 400, "message": f"API key not valid: {KEY}"}})
    assert refused.kind is REJECTED
    assert "credential" in refused.message
    assert KEY not in refused.message


def test_ollama_tells_what_is_wrong_even_in_a_text_within_a_text():
    inner = json.dumps({"error": {"code": 400, "message": "request (7189 tokens) exceeds the available context size"}})
    assert fault("ollama", 400, {"error": inner}).kind is LARGE
    missing = fault("ollama", 404, {"error": "model 'nope' not found, try pulling it first"})
    assert missing.kind is REJECTED
    assert "try pulling it first" in missing.message


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize(
    ("status", "kind", "hint"),
    [(408, LATER, ""), (409, LATER, ""), (429, LATER, ""), (500, LATER, ""), (502, LATER, ""), (503, LATER, ""),
     (504, LATER, ""), (529, LATER, ""), (401, REJECTED, "credential"), (402, REJECTED, "billing"),
     (403, REJECTED, "allowed"), (404, REJECTED, "model"), (413, LARGE, ""), (400, REJECTED, ""), (418, REJECTED, "")],
)  # fmt: skip
def test_status_alone_says_what_may_follow(wire, status, kind, hint):
    shapeless: list[object] = [
        {},
        [],
        None,
        "oops",
        b"",
        b"<html>",
        b"[" * 100_000,
        b"\xff",
        {"error": {"message": {}}},
    ]
    for value in shapeless:
        told = fault(wire, status, value)
        assert told.kind is kind
        assert str(status) in told.message
        assert hint in told.message
        assert told.retry_after_ms is None


@pytest.mark.parametrize(
    ("headers", "ms"),
    [
        ({"retry_after": "7"}, 7_000), ({"Retry_After": " 1.5 "}, 1_500), ({"retry_after_ms": "250"}, 250),
        ({"retry_after_ms": "250", "retry_after": "9"}, 250), ({"retry_after": "-1"}, None),
        ({"retry_after": "inf"}, None), ({"retry_after": "nan"}, None), ({"retry_after": "soon"}, None),
        ({"retry_after": "1" * 40}, None),
        ({"retry_after": "Tue, 14 Nov 2023 22:13:27 GMT", "date": "Tue, 14 Nov 2023 22:13:20 GMT"}, 7_000),
        ({"retry_after": "Tue, 14 Nov 2023 22:13:20 GMT", "date": "Tue, 14 Nov 2023 22:13:27 GMT"}, 0),
        ({"retry_after": "Tue, 14 Nov 2023 22:13:27 GMT"}, None),
    ],
)  # fmt: skip
def test_wait_is_read_from_whichever_header_names_it(headers, ms):
    assert fault("openai", 429, {}, **headers).retry_after_ms == ms
    assert fault("openai", 400, {}, **headers).retry_after_ms is None


@pytest.mark.parametrize("status", [400, 401, 403, 429])
def test_key_is_never_told_whatever_the_provider_repeats(status):
    told = fault("openai", status, {"error": {"message": f"Incorrect API key provided: {KEY}. You can find it there"}})
    assert KEY not in told.message
    assert "abcdef" not in told.message


@given(words=st.text(max_size=2_000))
def test_foreign_words_are_one_line_with_an_end(words):
    shown = one_line(words)
    assert shown.isprintable()
    assert len(shown) <= WORDS_CHARACTERS_MAX


@pytest.mark.parametrize("wire", WIRES)
@given(status=st.integers(300, 599), body=st.binary(max_size=200), after=st.text(max_size=20))
def test_every_error_is_some_fault(wire, status, body, after):
    told = fault(wire, status, body, retry_after=after)
    assert len(told.message) < 500
    assert told.message.isprintable()
