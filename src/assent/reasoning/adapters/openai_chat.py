"""OpenAI Chat Completions, and with it every server that is compatible: vLLM, llama.cpp, LM Studio, OpenRouter, …"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from assent.reasoning.calls import CALLS_KEPT_MAX, arguments_text, proposal
from assent.reasoning.failures import Fault
from assent.reasoning.faults import fault_of
from assent.reasoning.messages import (
    BrokenCall,
    CallDelta,
    Completion,
    Delta,
    Image,
    Message,
    ModelRequest,
    Stop,
    Text,
    TextDelta,
    ToolCall,
    ToolResult,
    Usage,
)
from assent.reasoning.ports import WireRequest
from assent.reasoning.streams import EVENTS, AnswerDecoder, AnswerError

NAME = "openai-chat"
_STOPS = {"length": Stop.CUT, "content_filter": Stop.FILTERED, "tool_calls": Stop.CALLS, "function_call": Stop.CALLS}


class OpenAiChat:
    """The wire format `openai-chat`."""

    name = NAME
    credential = ("authorization", "Bearer ")
    streamed = EVENTS

    def request(self, request: ModelRequest) -> WireRequest:
        """Spell a question."""
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [*_system(request), *(said for one in request.messages for said in _spelled(one))],
            "max_tokens": request.output_tokens_max,
            "stream": request.stream,
        }
        if request.stream:
            body["stream_options"] = {"include_usage": True}
        if request.temperature_milli is not None:
            body["temperature"] = request.temperature_milli / 1000
        if request.tools:
            body["tools"] = [
                {"type": "function", "function": {"name": t.name, "description": t.description, "parameters": t.schema}}
                for t in request.tools
            ]
        if request.output is not None:
            schema = {"name": "answer", "schema": request.output, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return WireRequest(
            path="/v1/chat/completions",
            headers=(("content-type", "application/json"),),
            body=msgspec.json.encode(body),
        )

    def decoder(self, *, content_type: str) -> AnswerDecoder:
        """A decoder for an answer of this content type."""
        return AnswerDecoder(_Reader(), content_type=content_type)

    def fault(self, *, status: int, headers: Mapping[str, str], body: bytes) -> Fault:
        """What an error status means."""
        return fault_of(wire=NAME, status=status, headers=headers, body=body)


def _system(request: ModelRequest) -> list[dict[str, Any]]:
    return [{"role": "system", "content": "\n\n".join(request.system)}] if request.system else []


def _spelled(message: Message) -> Iterator[dict[str, Any]]:
    """One message as the one or more that say it here: each result of a tool is a message of its own."""
    if message.role == "assistant":
        yield _assistant(message)
        return
    shown: list[dict[str, Any]] = []
    for part in message.parts:
        if isinstance(part, ToolResult):
            yield {"role": "tool", "tool_call_id": part.call, "content": part.text}
            shown += map(_content, part.images)
    shown += [_content(part) for part in message.parts if isinstance(part, Text | Image)]
    if len(shown) == 1 and shown[0]["type"] == "text":
        yield {"role": "user", "content": shown[0]["text"]}
    elif shown:
        yield {"role": "user", "content": shown}


def _assistant(message: Message) -> dict[str, Any]:
    text = "".join(part.text for part in message.parts if isinstance(part, Text))
    calls = [
        {"id": part.id, "type": "function", "function": {"name": part.name, "arguments": arguments_text(part)}}
        for part in message.parts
        if isinstance(part, ToolCall | BrokenCall)
    ]
    said: dict[str, Any] = {"role": "assistant", "content": text or None}
    return {**said, "tool_calls": calls} if calls else {**said, "content": text}


def _content(part: Text | Image) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    return {"type": "image_url", "image_url": {"url": f"data:{part.media_type};base64,{part.data}"}}


class _Reader:
    def __init__(self) -> None:
        self.done = False
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._calls: dict[int, dict[str, Any]] = {}
        self._stop = Stop.END
        self._usage = Usage()
        self._model = ""

    def event(self, name: str, value: dict[str, Any]) -> list[Delta]:  # noqa: ARG002 (the reader's)
        self._common(value)
        found: list[Delta] = []
        for choice in value.get("choices") or ():
            delta = choice.get("delta") or {}
            if delta.get("content"):
                self._text.append(delta["content"])
                found.append(TextDelta(text=delta["content"]))
            if delta.get("refusal"):
                self._refusal.append(delta["refusal"])
            for place, call in enumerate(delta.get("tool_calls") or ()):
                found += self._call(call.get("index", place), call)
            self._finish(choice)
        return found

    def whole(self, value: dict[str, Any]) -> None:
        self._common(value)
        choice = value["choices"][0]
        message = choice["message"]
        self._text.append(message.get("content") or "")
        self._refusal.append(message.get("refusal") or "")
        for index, call in enumerate(message.get("tool_calls") or ()):
            self._call(index, call)
        self._finish(choice)
        self.done = True

    def completion(self) -> Completion:
        text, refusal = "".join(self._text), "".join(self._refusal)
        calls = tuple(
            proposal(id_=call["id"] or f"call_{index}", name=call["name"], raw="".join(call["arguments"]))
            for index, call in sorted(self._calls.items())
        )
        words = (Text(text=text or refusal),) if text or refusal else ()
        stop = Stop.REFUSED if refusal else Stop.CALLS if calls and self._stop is Stop.END else self._stop
        return Completion(parts=(*words, *calls), stop=stop, usage=self._usage, model=self._model, wire=NAME)

    def _common(self, value: dict[str, Any]) -> None:
        if value.get("error"):
            error = value["error"]
            raise AnswerError(str(error.get("message", error) if isinstance(error, dict) else error))
        self._model = value.get("model") or self._model
        used = value.get("usage")
        if used:
            cached = (used.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
            self._usage = Usage(
                input_tokens=used.get("prompt_tokens") or 0,
                output_tokens=used.get("completion_tokens") or 0,
                cache_read_tokens=cached,
            )

    def _call(self, index: int, call: dict[str, Any]) -> list[Delta]:
        new = index not in self._calls
        if new and len(self._calls) >= CALLS_KEPT_MAX:
            return []
        kept = self._calls.setdefault(index, {"id": "", "name": "", "arguments": []})
        function = call.get("function") or {}
        kept["id"] = call.get("id") or kept["id"]
        kept["name"] = (kept["name"] + (function.get("name") or ""))[:200]
        given = function.get("arguments") or ""
        kept["arguments"].append(given if isinstance(given, str) else msgspec.json.encode(given).decode())
        return [CallDelta(index=index, name=kept["name"])] if new else []

    def _finish(self, choice: dict[str, Any]) -> None:
        reason = choice.get("finish_reason")
        if reason:
            self._stop = _STOPS.get(reason, Stop.END)
            self.done = True
