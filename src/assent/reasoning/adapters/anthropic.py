"""Anthropic Messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from assent.reasoning.calls import CALLS_KEPT_MAX, arguments_object, proposal
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
    Opaque,
    Part,
    Stop,
    Text,
    TextDelta,
    ToolCall,
    ToolResult,
    Usage,
)
from assent.reasoning.ports import WireRequest
from assent.reasoning.streams import EVENTS, AnswerDecoder, AnswerError

NAME = "anthropic"
VERSION = "2023-06-01"
_CACHED: dict[str, Any] = {"cache_control": {"type": "ephemeral"}}
_THINKING = frozenset({"thinking", "redacted_thinking"})
_GROWS = {
    "text_delta": "text",
    "input_json_delta": "partial_json",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
}
_STOPS = {
    "max_tokens": Stop.CUT,
    "model_context_window_exceeded": Stop.CUT,
    "tool_use": Stop.CALLS,
    "refusal": Stop.REFUSED,
}


class Anthropic:
    """The wire format `anthropic`."""

    name = NAME
    credential = ("x-api-key", "")
    streamed = EVENTS

    def request(self, request: ModelRequest) -> WireRequest:
        """Spell a question. What stays the same is marked for the provider's cache: tools, system, transcript."""
        messages = [said for one in request.messages if (said := _spelled(one))["content"]]
        body: dict[str, Any] = {
            "model": request.model,
            "max_tokens": request.output_tokens_max,
            "messages": messages,
            "stream": request.stream,
        }
        if request.system:
            body["system"] = [{"type": "text", "text": text} for text in request.system]
        if request.tools:
            body["tools"] = [
                {"name": tool.name, "description": tool.description, "input_schema": tool.schema}
                for tool in request.tools
            ]
        if request.temperature_milli is not None:
            body["temperature"] = request.temperature_milli / 1000
        if request.output is not None:
            body["output_config"] = {"format": {"type": "json_schema", "schema": request.output}}
        if request.cache:
            _mark(body)
        headers = (("content-type", "application/json"), ("anthropic-version", VERSION))
        return WireRequest(path="/v1/messages", headers=headers, body=msgspec.json.encode(body))

    def decoder(self, *, content_type: str) -> AnswerDecoder:
        """A decoder for an answer of this content type."""
        return AnswerDecoder(_Reader(), content_type=content_type)

    def fault(self, *, status: int, headers: Mapping[str, str], body: bytes) -> Fault:
        """What an error status means."""
        return fault_of(wire=NAME, status=status, headers=headers, body=body)


def _mark(body: dict[str, Any]) -> None:
    """Set a cache breakpoint behind the tools, behind the system texts and behind the last message."""
    for name in ("tools", "system"):
        if body.get(name):
            body[name][-1] |= _CACHED
    if body["messages"]:
        last = body["messages"][-1]["content"][-1]
        if last["type"] not in _THINKING:
            last |= _CACHED


def _spelled(message: Message) -> dict[str, Any]:
    """One message. Results of tools have to come first."""
    parts = sorted(message.parts, key=lambda part: not isinstance(part, ToolResult))
    return {"role": message.role, "content": [block for part in parts if (block := _block(part)) is not None]}


def _block(part: Part) -> dict[str, Any] | None:
    match part:
        case Text(text=text):
            return {"type": "text", "text": text} if text.strip() else None
        case Image(media_type=media_type, data=data):
            return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}
        case ToolCall() | BrokenCall():
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": arguments_object(part)}
        case ToolResult():
            return _result(part)
        case Opaque(wire=wire, data=data):
            return dict(data) if wire == NAME else None


def _result(part: ToolResult) -> dict[str, Any]:
    told: tuple[Part, ...] = (Text(text=part.text), *part.images)
    shown = [block for one in told if (block := _block(one)) is not None]
    said = {"type": "tool_result", "tool_use_id": part.call, "content": shown}
    return {**said, "is_error": True} if part.failed else said


class _Reader:
    def __init__(self) -> None:
        self.done = False
        self._blocks: dict[int, dict[str, Any]] = {}
        # What deltas add, by block and field: joined once at the end, however many there are.
        self._grown: dict[int, dict[str, list[str]]] = {}
        self._stop = Stop.END
        self._used: dict[str, Any] = {}
        self._model = ""

    def event(self, name: str, value: dict[str, Any]) -> list[Delta]:  # noqa: ARG002 (the type stands in the data)
        match value.get("type"):
            case "message_start":
                self._begin(value["message"])
            case "content_block_start":
                return self._open(value["index"], value["content_block"])
            case "content_block_delta":
                return self._add(value["index"], value["delta"])
            case "message_delta":
                self._end(value["delta"], value.get("usage"))
            case "message_stop":
                self.done = True
            case "error":
                raise AnswerError(str(value["error"].get("message") or value["error"].get("type")))
            case _:
                pass
        return []

    def whole(self, value: dict[str, Any]) -> None:
        if value.get("type") == "error":
            raise AnswerError(str(value["error"].get("message")))
        self._begin(value)
        for index, block in enumerate(value["content"]):
            self._open(index, block)
        self._end(value, value.get("usage"))
        self.done = True

    def completion(self) -> Completion:
        used = {name: count for name, count in self._used.items() if isinstance(count, int)}
        read, written = used.get("cache_read_input_tokens", 0), used.get("cache_creation_input_tokens", 0)
        return Completion(
            parts=tuple(_part(block) for block in self._whole_blocks() if block.get("text") != ""),
            stop=self._stop,
            usage=Usage(
                input_tokens=used.get("input_tokens", 0) + read + written,
                output_tokens=used.get("output_tokens", 0),
                cache_read_tokens=read,
                cache_write_tokens=written,
            ),
            model=self._model,
            wire=NAME,
        )

    def _whole_blocks(self) -> list[dict[str, Any]]:
        found = []
        for index, block in sorted(self._blocks.items()):
            grown = {field: "".join(pieces) for field, pieces in self._grown[index].items()}
            found.append(block | {field: str(block.get(field) or "") + more for field, more in grown.items()})
        return found

    def _begin(self, message: dict[str, Any]) -> None:
        self._model = message.get("model") or ""
        self._used |= message.get("usage") or {}

    def _open(self, index: int, block: dict[str, Any]) -> list[Delta]:
        kind = block.get("type")
        if kind not in ("text", "tool_use", *_THINKING) or len(self._blocks) >= CALLS_KEPT_MAX:
            return []
        self._blocks[index] = dict(block)
        self._grown[index] = {}
        if kind == "tool_use":
            return [CallDelta(index=index, name=str(block.get("name", "")))]
        return [TextDelta(text=block["text"])] if kind == "text" and block.get("text") else []

    def _add(self, index: int, delta: dict[str, Any]) -> list[Delta]:
        grown = self._grown.get(index)
        field = _GROWS.get(delta.get("type") or "")
        if grown is None or field is None:
            return []
        grown.setdefault(field, []).append(str(delta[field]))
        return [TextDelta(text=delta["text"])] if field == "text" else []

    def _end(self, delta: dict[str, Any], used: dict[str, Any] | None) -> None:
        self._stop = _STOPS.get(delta.get("stop_reason") or "", self._stop)
        self._used |= used or {}


def _part(block: dict[str, Any]) -> Text | ToolCall | BrokenCall | Opaque:
    if block["type"] == "text":
        return Text(text=block["text"])
    if block["type"] == "tool_use":
        raw = block.get("partial_json") or block.get("input") or {}
        return proposal(id_=str(block["id"]), name=str(block["name"]), raw=raw)
    return Opaque(wire=NAME, data=block)
