"""How each provider says a reply: whole, or as the events or lines of a stream. Written from their documentation, and
independent of the codecs in `assent.reasoning`: the official client libraries are the judges of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from assent.testing.models.replies import Called, Reply, Seen


class Spoken(NamedTuple):
    """An answer: its content type, and its body in pieces."""

    content_type: str
    pieces: list[bytes]


EVENTS = "text/event-stream; charset=utf-8"
PLAIN = "application/json"
NO_EVENT = ""


def speak(seen: Seen, reply: Reply, number: int) -> Spoken:
    """The answer to a question in its own wire format; `number` makes ids differ."""
    whole, stream = {
        "anthropic": (_anthropic, _anthropic_stream),
        "openai-chat": (_chat, _chat_stream),
        "openai": (_responses, _responses_stream),
        "gemini": (_gemini, _gemini_stream),
        "ollama": (_ollama, _ollama_stream),
    }[seen.wire]
    if not seen.stream:
        return Spoken(PLAIN, [json.dumps(whole(seen, reply, number)).encode()])
    kind = "application/x-ndjson" if seen.wire == "ollama" else EVENTS
    return Spoken(kind, list(stream(seen, reply, number)))


def error_body(wire: str, status: int, message: str) -> dict[str, Any]:
    """An error in the provider's shape."""
    if wire == "anthropic":
        kinds = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error", 529: "overloaded_error"}
        return {"type": "error", "error": {"type": kinds.get(status, "api_error"), "message": message}}
    if wire == "gemini":
        return {"error": {"code": status, "message": message, "status": "RESOURCE_EXHAUSTED"}}
    if wire == "ollama":
        return {"error": message}
    return {"error": {"message": message, "type": "server_error", "param": None, "code": None}}


def error_event(wire: str, message: str) -> bytes:
    """An error in the middle of a stream."""
    if wire == "anthropic":
        return _event(error_body(wire, 529, message), "error")
    if wire == "openai":
        return _event({"type": "error", "code": "server_error", "message": message, "sequence_number": 99}, "error")
    if wire == "ollama":
        return _line({"error": message})
    return _event(error_body(wire, 500, message))


def arguments_of(call: Called, *, broken: bool = False) -> str:
    """The arguments as text; `broken`: as much of it as makes no sense."""
    text = json.dumps(call.arguments)
    return text[: max(1, len(text) - 2)] if broken else text


def _breaks(reply: Reply, place: int) -> bool:
    return place == 0 and reply.failing is not None and reply.failing.way == "broken_arguments"


def _event(value: dict[str, Any], name: str = NO_EVENT) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(value)}\n\n".encode()


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _halves(text: str) -> list[str]:
    middle = len(text) // 2
    return [part for part in (text[:middle], text[middle:]) if part]


# ---------------------------------------------------------------------------------------------------------- Anthropic


def _anthropic_stop(reply: Reply) -> str:
    named = {"cut": "max_tokens", "refused": "refusal", "filtered": "refusal"}
    return named.get(reply.stop) or ("tool_use" if reply.calls else "end_turn")


def _anthropic_usage(reply: Reply, *, output: int) -> dict[str, Any]:
    return {
        "input_tokens": reply.input_tokens - reply.cached, "output_tokens": output,
        "cache_read_input_tokens": reply.cached, "cache_creation_input_tokens": 0,
    }  # fmt: skip


def _anthropic_blocks(reply: Reply, number: int) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if reply.thinking:
        blocks.append({"type": "thinking", "thinking": reply.thinking, "signature": "c2lnbmVk"})
    if reply.text:
        blocks.append({"type": "text", "text": reply.text})
    return blocks + [
        {"type": "tool_use", "id": f"toolu_{number}_{place}", "name": call.name, "input": call.arguments}
        for place, call in enumerate(reply.calls)
    ]


def _anthropic(seen: Seen, reply: Reply, number: int) -> dict[str, Any]:
    return {
        "id": f"msg_{number}", "type": "message", "role": "assistant", "model": seen.model,
        "content": _anthropic_blocks(reply, number), "stop_reason": _anthropic_stop(reply), "stop_sequence": None,
        "usage": _anthropic_usage(reply, output=reply.output_tokens),
    }  # fmt: skip


def _anthropic_stream(seen: Seen, reply: Reply, number: int) -> Iterator[bytes]:
    message = _anthropic(seen, reply, number) | {"content": [], "stop_reason": None}
    message["usage"] = _anthropic_usage(reply, output=1)
    yield _event({"type": "message_start", "message": message}, "message_start")
    yield _event({"type": "ping"}, "ping")
    calls = 0
    for index, block in enumerate(_anthropic_blocks(reply, number)):
        kind = block["type"]
        empty: dict[str, dict[str, Any]] = {
            "text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}, "tool_use": {"input": {}},
        }  # fmt: skip
        start = {"type": "content_block_start", "index": index, "content_block": {**block, **empty[kind]}}
        yield _event(start, "content_block_start")
        deltas: list[dict[str, Any]] = []
        if kind == "text":
            deltas = [{"type": "text_delta", "text": part} for part in _halves(block["text"])]
        elif kind == "thinking":
            deltas = [{"type": "thinking_delta", "thinking": block["thinking"]}]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        else:
            text = arguments_of(reply.calls[calls], broken=_breaks(reply, calls))
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in ["", *_halves(text)]]
            calls += 1
        for delta in deltas:
            yield _event({"type": "content_block_delta", "index": index, "delta": delta}, "content_block_delta")
        yield _event({"type": "content_block_stop", "index": index}, "content_block_stop")
    ended = {"stop_reason": _anthropic_stop(reply), "stop_sequence": None}
    yield _event(
        {"type": "message_delta", "delta": ended, "usage": {"output_tokens": reply.output_tokens}}, "message_delta"
    )
    yield _event({"type": "message_stop"}, "message_stop")


# ----------------------------------------------------------------------------------------------------- OpenAI, chat


def _chat_stop(reply: Reply) -> str:
    named = {"cut": "length", "filtered": "content_filter", "refused": "stop"}
    return named.get(reply.stop) or ("tool_calls" if reply.calls else "stop")


def _chat_usage(reply: Reply) -> dict[str, Any]:
    return {
        "prompt_tokens": reply.input_tokens, "completion_tokens": reply.output_tokens,
        "total_tokens": reply.input_tokens + reply.output_tokens,
        "prompt_tokens_details": {"cached_tokens": reply.cached},
    }  # fmt: skip


def _chat_call(reply: Reply, number: int, place: int) -> dict[str, Any]:
    call = reply.calls[place]
    given = arguments_of(call, broken=_breaks(reply, place))
    return {"id": f"call_{number}_{place}", "type": "function", "function": {"name": call.name, "arguments": given}}


def _chat(seen: Seen, reply: Reply, number: int) -> dict[str, Any]:
    refused = reply.stop == "refused"
    message: dict[str, Any] = {
        "role": "assistant", "content": None if refused else reply.text or None,
        "refusal": reply.text if refused else None,
    }  # fmt: skip
    if reply.calls:
        message["tool_calls"] = [_chat_call(reply, number, place) for place in range(len(reply.calls))]
    choice = {"index": 0, "message": message, "finish_reason": _chat_stop(reply), "logprobs": None}
    return {
        "id": f"chatcmpl-{number}", "object": "chat.completion", "created": 1, "model": seen.model,
        "choices": [choice], "usage": _chat_usage(reply),
    }  # fmt: skip


def _chat_stream(seen: Seen, reply: Reply, number: int) -> Iterator[bytes]:
    def chunk(delta: dict[str, Any], stop: str | None = None) -> bytes:
        return _event(
            {
                "id": f"chatcmpl-{number}",
                "object": "chat.completion.chunk",
                "created": 1,
                "model": seen.model,
                "choices": [{"index": 0, "delta": delta, "finish_reason": stop, "logprobs": None}],
            }
        )

    yield b": a comment keeps the line open\n\n"
    yield chunk({"role": "assistant", "content": ""})
    field = "refusal" if reply.stop == "refused" else "content"
    for part in _halves(reply.text):
        yield chunk({field: part})
    for place in range(len(reply.calls)):
        call = _chat_call(reply, number, place)
        text = call["function"]["arguments"]
        begun = {**call, "index": place, "function": {"name": call["function"]["name"], "arguments": ""}}
        yield chunk({"tool_calls": [begun]})
        for part in _halves(text):
            yield chunk({"tool_calls": [{"index": place, "function": {"arguments": part}}]})
    yield chunk({}, _chat_stop(reply))
    if (seen.body.get("stream_options") or {}).get("include_usage"):
        yield _event(
            {
                "id": f"chatcmpl-{number}",
                "object": "chat.completion.chunk",
                "created": 1,
                "model": seen.model,
                "choices": [],
                "usage": _chat_usage(reply),
            }
        )
    yield b"data: [DONE]\n\n"


# ---------------------------------------------------------------------------------------------------- OpenAI, responses


def _responses_items(reply: Reply, number: int) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if reply.thinking:
        items.append({"type": "reasoning", "id": f"rs_{number}", "summary": [], "encrypted_content": "c2VhbGVk"})
    if reply.text:
        refused = reply.stop == "refused"
        content = (
            {"type": "refusal", "refusal": reply.text}
            if refused
            else {"type": "output_text", "text": reply.text, "annotations": [], "logprobs": []}
        )
        items.append(
            {"type": "message", "id": f"msg_{number}", "role": "assistant", "status": "completed", "content": [content]}
        )
    return items + [
        {"type": "function_call", "id": f"fc_{number}_{place}", "call_id": f"call_{number}_{place}", "name": call.name,
         "arguments": arguments_of(call, broken=_breaks(reply, place)), "status": "completed"}
        for place, call in enumerate(reply.calls)
    ]  # fmt: skip


def _responses(seen: Seen, reply: Reply, number: int) -> dict[str, Any]:
    why = {"cut": "max_output_tokens", "filtered": "content_filter"}.get(reply.stop)
    return {
        "id": f"resp_{number}", "object": "response", "created_at": 1, "model": seen.model,
        "status": "incomplete" if why else "completed", "incomplete_details": {"reason": why} if why else None,
        "error": None, "instructions": None, "metadata": {}, "output": _responses_items(reply, number),
        "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0,
        "usage": {
            "input_tokens": reply.input_tokens, "input_tokens_details": {"cached_tokens": reply.cached},
            "output_tokens": reply.output_tokens, "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": reply.input_tokens + reply.output_tokens,
        },
    }  # fmt: skip


def _responses_stream(seen: Seen, reply: Reply, number: int) -> Iterator[bytes]:
    whole = _responses(seen, reply, number)
    place = 0

    def event(kind: str, **fields: object) -> bytes:
        nonlocal place
        place += 1
        return _event({"type": kind, "sequence_number": place - 1, **fields}, kind)

    begun = {**whole, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    yield event("response.created", response=begun)
    for index, item in enumerate(whole["output"]):
        shell = {**item, "status": "in_progress"}
        shell |= {"content": []} if item["type"] == "message" else {}
        shell |= {"arguments": ""} if item["type"] == "function_call" else {}
        yield event("response.output_item.added", output_index=index, item=shell)
        where = {"item_id": item["id"], "output_index": index}
        if item["type"] == "function_call":
            for part in _halves(item["arguments"]):
                yield event("response.function_call_arguments.delta", delta=part, **where)
            yield event(
                "response.function_call_arguments.done", arguments=item["arguments"], name=item["name"], **where
            )
        for content in item.get("content", ()):
            kind = "output_text" if content["type"] == "output_text" else "refusal"
            text = content.get("text") or content.get("refusal")
            empty = {**content, ("text" if kind == "output_text" else "refusal"): ""}
            yield event("response.content_part.added", content_index=0, part=empty, **where)
            more: dict[str, object] = {"logprobs": []} if kind == "output_text" else {}
            for part in _halves(text):
                yield event(f"response.{kind}.delta", content_index=0, delta=part, **where, **more)
            named = {"text": text} if kind == "output_text" else {"refusal": text}
            yield event(f"response.{kind}.done", content_index=0, **where, **named, **more)
            yield event("response.content_part.done", content_index=0, part=content, **where)
        yield event("response.output_item.done", output_index=index, item=item)
    yield event(f"response.{whole['status']}", response=whole)


# ------------------------------------------------------------------------------------------------------------- Gemini


def _gemini_parts(reply: Reply) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [{"text": reply.thinking, "thought": True}] if reply.thinking else []
    parts += [{"text": reply.text}] if reply.text else []
    signed = {"thoughtSignature": "c2lnbmVk"} if reply.thinking else {}
    return parts + [{"functionCall": {"name": c.name, "args": c.arguments}, **signed} for c in reply.calls]


def _gemini_answer(seen: Seen, reply: Reply, parts: list[dict[str, Any]], *, last: bool) -> dict[str, Any]:
    stop = {"cut": "MAX_TOKENS", "filtered": "SAFETY", "refused": "SAFETY"}.get(reply.stop, "STOP")
    candidate: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": parts}}
    if last:
        candidate["finishReason"] = stop
    return {
        "candidates": [candidate], "modelVersion": seen.model,
        "usageMetadata": {
            "promptTokenCount": reply.input_tokens, "candidatesTokenCount": reply.output_tokens,
            "cachedContentTokenCount": reply.cached, "totalTokenCount": reply.input_tokens + reply.output_tokens,
        },
    }  # fmt: skip


def _gemini(seen: Seen, reply: Reply, number: int) -> dict[str, Any]:  # noqa: ARG001 (as the others)
    return _gemini_answer(seen, reply, _gemini_parts(reply), last=True)


def _gemini_stream(seen: Seen, reply: Reply, number: int) -> Iterator[bytes]:  # noqa: ARG001 (as the others)
    for part in _gemini_parts(reply):
        for half in [{**part, "text": text} for text in _halves(part["text"])] if "text" in part else [part]:
            yield _event(_gemini_answer(seen, reply, [half], last=False))
    yield _event(_gemini_answer(seen, reply, [{"text": ""}], last=True))


# ------------------------------------------------------------------------------------------------------------- Ollama


def _ollama_end(reply: Reply) -> dict[str, Any]:
    return {
        "done": True, "done_reason": "length" if reply.stop == "cut" else "stop", "total_duration": 1,
        "load_duration": 1, "prompt_eval_count": reply.input_tokens, "prompt_eval_duration": 1,
        "eval_count": reply.output_tokens, "eval_duration": 1,
    }  # fmt: skip


def _ollama_calls(reply: Reply) -> list[dict[str, Any]]:
    return [{"function": {"name": call.name, "arguments": call.arguments}} for call in reply.calls]


def _ollama(seen: Seen, reply: Reply, number: int) -> dict[str, Any]:  # noqa: ARG001 (as the others)
    message: dict[str, Any] = {"role": "assistant", "content": reply.text}
    message |= {"thinking": reply.thinking} if reply.thinking else {}
    message |= {"tool_calls": _ollama_calls(reply)} if reply.calls else {}
    return {"model": seen.model, "created_at": "2026-01-01T00:00:00Z", "message": message, **_ollama_end(reply)}


def _ollama_stream(seen: Seen, reply: Reply, number: int) -> Iterator[bytes]:  # noqa: ARG001 (as the others)
    head = {"model": seen.model, "created_at": "2026-01-01T00:00:00Z"}
    for part in _halves(reply.text):
        yield _line({**head, "message": {"role": "assistant", "content": part}, "done": False})
    for call in _ollama_calls(reply):
        message = {"role": "assistant", "content": "", "tool_calls": [call]}
        yield _line({**head, "message": message, "done": False})
    yield _line({**head, "message": {"role": "assistant", "content": ""}, **_ollama_end(reply)})
