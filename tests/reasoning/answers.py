"""Answers as the documentation of each provider shows them, and what they say in Assent's vocabulary."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from assent.bootstrap.models import wire_of
from assent.reasoning.messages import Completion, Delta, Opaque, Stop, Text, ToolCall, Usage

EVENTS, LINES, WHOLE = "text/event-stream; charset=utf-8", "application/x-ndjson", "application/json"
AT = {"at": "ü", "n": 1.5}


def event(value: Any, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


def line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


def decoded(wire: str, content_type: str, *pieces: bytes) -> tuple[Completion, list[Delta]]:
    decoder = wire_of(wire).decoder(content_type=content_type)
    shown = [delta for piece in pieces for delta in decoder.feed(piece)]
    return decoder.close(), shown


def completion(wire: str, content_type: str, *pieces: bytes) -> Completion:
    return decoded(wire, content_type, *pieces)[0]


# ---------------------------------------------------------------------------------------------------------- Anthropic


def anthropic() -> Iterator[bytes]:
    def delta(index: int, kind: str, **more: Any) -> bytes:
        value = {"type": "content_block_delta", "index": index, "delta": {"type": kind, **more}}
        return event(value, "content_block_delta")

    def start(index: int, **block: Any) -> bytes:
        return event({"type": "content_block_start", "index": index, "content_block": block}, "content_block_start")

    used = {"input_tokens": 5, "cache_creation_input_tokens": 2, "cache_read_input_tokens": 4, "output_tokens": 1}
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": "m-1",
        "stop_reason": None,
    }
    yield event({"type": "message_start", "message": {**message, "usage": used}}, "message_start")
    yield event({"type": "ping"}, "ping")
    yield start(0, type="thinking", thinking="", signature="")
    yield delta(0, "thinking_delta", thinking="h") + delta(0, "thinking_delta", thinking="m")
    yield delta(0, "signature_delta", signature="c2ln")
    yield start(1, type="text", text="") + delta(1, "text_delta", text="grü") + delta(1, "text_delta", text="ße")
    yield delta(1, "citations_delta", citation={}) + event({"type": "content_block_stop", "index": 1})
    yield start(2, type="server_tool_use", id="srv_1", name="web_search", input={})
    yield start(3, type="tool_use", id="toolu_1", name="look", input={}) + delta(3, "input_json_delta", partial_json="")
    yield delta(3, "input_json_delta", partial_json='{"at":"ü"') + delta(
        3, "input_json_delta", partial_json=',"n":1.5}'
    )
    yield start(4, type="tool_use", id="toolu_2", name="go", input={})
    yield event({"type": "something_new", "index": 4})
    ended = {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None}}
    yield event({**ended, "usage": {"output_tokens": 9, "input_tokens": None}}, "message_delta")
    yield event({"type": "message_stop"}, "message_stop")


# ------------------------------------------------------------------------------------------------------- OpenAI, chat


def openai_chat() -> Iterator[bytes]:
    def chunk(stop: str | None = None, **delta: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": stop, "logprobs": None}
        return event({"id": "c", "object": "chat.completion.chunk", "model": "m-1", "choices": [choice], "usage": None})

    def call(index: int, arguments: str, **more: Any) -> bytes:
        function = {"arguments": arguments} | ({"name": more.pop("name")} if "name" in more else {})
        return chunk(tool_calls=[{"index": index, "function": function, **more}])

    yield b": PROCESSING\n\n" + chunk(role="assistant", content="", refusal=None)
    yield chunk(reasoning_content="h", content=None) + chunk(reasoning_content="m")
    yield chunk(content="grü") + chunk(content="ße", obfuscation="xx")
    yield call(0, "", id="call_a", type="function", name="look") + call(0, '{"at":"ü"')
    yield call(1, "", id="call_b", type="function", name="go") + call(0, ',"n":1.5}') + call(1, "{}")
    yield event({"choices": [{"index": 1, "delta": {"content": "of another choice"}}]})
    yield chunk("tool_calls")
    details = {"cached_tokens": 4, "cache_write_tokens": 2, "audio_tokens": 0}
    used = {"prompt_tokens": 11, "completion_tokens": 9, "total_tokens": 20, "prompt_tokens_details": details}
    yield event({"id": "c", "model": "m-1", "choices": [], "usage": used}) + b"data: [DONE]\n\n"


# --------------------------------------------------------------------------------------------------- OpenAI, responses

REASONING = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "c2ln"}
RESPONSE: dict[str, Any] = {
    "id": "resp_1", "object": "response", "status": "completed", "model": "m-1", "error": None,
    "incomplete_details": None,
    "output": [
        {**REASONING, "status": "completed"},
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "phase": "commentary",
         "content": [{"type": "output_text", "text": "grüße", "annotations": []}]},
        {"type": "function_call", "id": "fc_1", "call_id": "call_a", "name": "look", "arguments": '{"at":"ü","n":1.5}'},
        {"type": "function_call", "id": "fc_2", "call_id": "call_b", "name": "go", "arguments": "{}"},
        {"type": "something_new"},
    ],
    "usage": {
        "input_tokens": 11, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2}, "output_tokens": 9,
        "output_tokens_details": {"reasoning_tokens": 1}, "total_tokens": 20,
    },
}  # fmt: skip


def openai() -> Iterator[bytes]:
    def said(kind: str, **more: Any) -> bytes:
        return event({"type": kind, "sequence_number": 1, **more}, kind)

    yield said("response.created", response={**RESPONSE, "status": "in_progress", "output": []})
    for index, item in enumerate(RESPONSE["output"]):
        yield said(
            "response.output_item.added", output_index=index, item={"type": item["type"], "name": item.get("name")}
        )
        if item["type"] == "message":
            for piece in ("grü", "ße"):
                yield said("response.output_text.delta", output_index=index, delta=piece)
        yield said("response.output_item.done", output_index=index, item=item)
    yield said("response.something.new")
    yield said("response.completed", response=RESPONSE)


# ------------------------------------------------------------------------------------------------------------- Gemini


def gemini_chunk(*parts: Any, **candidate: Any) -> bytes:
    used = {
        "promptTokenCount": 9, "toolUsePromptTokenCount": 2, "cachedContentTokenCount": 4, "candidatesTokenCount": 6,
        "thoughtsTokenCount": 3,
    }  # fmt: skip
    content = {"role": "model", "parts": list(parts)}
    return event({"candidates": [{"content": content, **candidate}], "usageMetadata": used, "modelVersion": "m-1"})


def gemini() -> Iterator[bytes]:
    yield gemini_chunk({"text": "let me think", "thought": True})
    yield gemini_chunk({"text": "grü"}) + gemini_chunk({"text": "ße"}, {"executableCode": {}})
    yield gemini_chunk({"functionCall": {"name": "look", "args": AT}, "thoughtSignature": "c2ln"})
    yield gemini_chunk({"functionCall": {"id": "fc_2", "name": "go"}})
    yield gemini_chunk({"text": ""}, finishReason="STOP", index=0)


# ------------------------------------------------------------------------------------------------------------- Ollama


def ollama() -> Iterator[bytes]:
    def message(**more: Any) -> bytes:
        return line({"model": "m-1", "message": {"role": "assistant", "content": "", **more}, "done": False})

    yield message(thinking="h") + message(thinking="m") + message(content="grü") + message(content="ße")
    yield message(tool_calls=[{"function": {"index": 0, "name": "look", "arguments": AT}}])
    yield message(tool_calls=[{"id": "call_b", "function": {"name": "go", "arguments": {}}}])
    yield line(
        {
            "model": "m-1", "message": {"role": "assistant", "content": ""}, "done": True, "done_reason": "stop",
            "total_duration": 1, "prompt_eval_count": 11, "eval_count": 9,
        }
    )  # fmt: skip


_STREAMS = {"anthropic": anthropic, "openai-chat": openai_chat, "openai": openai, "gemini": gemini, "ollama": ollama}
_KEPT: dict[str, list[dict[str, Any]]] = {
    "anthropic": [{"type": "thinking", "thinking": "hm", "signature": "c2ln"}],
    "openai-chat": [{"reasoning_content": "hm"}],
    "openai": [REASONING, {"phase": "commentary"}],
    "gemini": [{"thoughtSignature": "c2ln"}],
    "ollama": [{"thinking": "hm"}],
}
_IDS = {
    "anthropic": ("toolu_1", "toolu_2"), "gemini": ("call_0", "fc_2"), "ollama": ("call_0", "call_b"),
}  # fmt: skip


def stream(wire: str) -> tuple[str, bytes]:
    """Everything there is in one answer that comes bit by bit: thoughts, words, two calls, and things not known."""
    return LINES if wire == "ollama" else EVENTS, b"".join(_STREAMS[wire]())


def meant(wire: str) -> Completion:
    """What that answer says."""
    kept = [Opaque(wire=wire, data=data) for data in _KEPT[wire]]
    one, two = _IDS.get(wire, ("call_a", "call_b"))
    words = Text(text="grüße")
    first: tuple[Text | Opaque, ...] = (words, *kept) if wire == "gemini" else (*kept, words)
    calls = ToolCall(id=one, name="look", arguments=AT), ToolCall(id=two, name="go", arguments={})
    local = wire == "ollama"
    used = Usage(
        input_tokens=11, output_tokens=9, cache_read_tokens=0 if local else 4,
        cache_write_tokens=0 if local or wire == "gemini" else 2,
    )  # fmt: skip
    return Completion(parts=(*first, *calls), stop=Stop.CALLS, usage=used, model="m-1", wire=wire)
