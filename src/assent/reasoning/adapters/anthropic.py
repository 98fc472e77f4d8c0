"""Anthropic Messages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from assent.reasoning.calls import CALLS_KEPT_MAX, AnswerPart, arguments_object, opaque, proposal, told_apart
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
from assent.reasoning.questions import JSON, check, parameters, spelled, spoken_id, spoken_name
from assent.reasoning.reading import Misread, count, mapping, mappings, text
from assent.reasoning.schemas import enforced
from assent.reasoning.streams import EVENTS, AnswerDecoder, AnswerError

NAME = "anthropic"
VERSION = "2026-10-21"
VERSION_WITH_TEMPERATURE = "2023-06-01"
"""The last version in which a question may name a temperature; the newer models refuse one even so."""
TOOL_NAMES = re.compile(r"[a-zA-Z0-9_-]{1,128}\Z")
_CACHED: dict[str, Any] = {"cache_control": {"type": "ephemeral"}}
_THINKING = ("thinking", "redacted_thinking")
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
        """Spell a question. What stays the same is marked for the provider's cache: tools, system, transcript.

        Raises:
            Malformed: `request_unspeakable`.
        """
        check(request, names=TOOL_NAMES, milli_max=1_000)
        body: dict[str, Any] = {
            "model": request.model,
            "max_tokens": request.output_tokens_max,
            "messages": [said for one in request.messages if (said := _spelled(one))["content"]],
            "stream": request.stream,
        }
        if any(map(str.strip, request.system)):
            body["system"] = [{"type": "text", "text": words} for words in request.system if words.strip()]
        if request.tools:
            body["tools"] = [
                {"name": tool.name, "description": tool.description, "input_schema": parameters(tool)}
                for tool in request.tools
            ]
        version = VERSION
        if request.temperature_milli is not None:
            body["temperature"] = request.temperature_milli / 1000
            version = VERSION_WITH_TEMPERATURE
        if request.output is not None:
            body["output_config"] = {"format": {"type": "json_schema", "schema": enforced(request.output)}}
        if request.cache:
            _mark(body)
        return WireRequest(path="/v1/messages", headers=(JSON, ("anthropic-version", version)), body=spelled(body))

    def decoder(self, *, content_type: str) -> AnswerDecoder:
        """A decoder for an answer of this content type."""
        return AnswerDecoder(_Reader(), content_type=content_type)

    def fault(self, *, status: int, headers: Mapping[str, str], body: bytes) -> Fault:
        """What an error status means."""
        return fault_of(wire=NAME, status=status, headers=headers, body=body)


def _mark(body: dict[str, Any]) -> None:
    """Set a cache breakpoint behind the tools, behind the system texts and behind the last message; and behind what was
    the last message before, because from one breakpoint the provider looks back over a few blocks only."""
    for name in ("tools", "system"):
        if body.get(name):
            body[name][-1] |= _CACHED
    users = [message for message in body["messages"] if message["role"] == "user"]
    for message in users[-2:]:
        message["content"][-1] |= _CACHED


def _spelled(message: Message) -> dict[str, Any]:
    """One message. Results of tools have to come first."""
    parts = sorted(message.parts, key=lambda part: not isinstance(part, ToolResult))
    return {"role": message.role, "content": [block for part in parts if (block := _block(part)) is not None]}


def _block(part: Part) -> dict[str, Any] | None:
    match part:
        case Text(text=words):
            return {"type": "text", "text": words} if words.strip() else None
        case Image(media_type=media_type, data=data):
            return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}
        case ToolCall() | BrokenCall():
            call = {"id": spoken_id(part.id), "name": spoken_name(part.name, TOOL_NAMES)}
            return {"type": "tool_use", "input": arguments_object(part), **call}
        case ToolResult():
            return _result(part)
        case Opaque(wire=wire, data=data):
            return dict(data) if wire == NAME and data.get("type") in _THINKING else None


def _result(part: ToolResult) -> dict[str, Any]:
    told: tuple[Part, ...] = (Text(text=part.text), *part.images)
    shown = [block for one in told if (block := _block(one)) is not None]
    said = {"type": "tool_result", "tool_use_id": spoken_id(part.call), "content": shown}
    return {**said, "is_error": True} if part.failed else said


class _Block:
    """A block of the answer that is still coming: what it began with, and what deltas add to its members."""

    def __init__(self, begun: dict[str, Any]) -> None:
        self._begun = begun
        self._grown: dict[str, list[str]] = {}

    def add(self, delta: dict[str, Any]) -> str:
        """Some more of it; the words that can be shown."""
        name = _GROWS.get(text(delta, "type"))
        if name is None:
            return ""
        piece = text(delta, name)
        self._grown.setdefault(name, []).append(piece)
        return piece if name == "text" else ""

    def parts(self) -> list[AnswerPart]:
        """What it came to."""
        grown = {name: "".join(pieces) for name, pieces in self._grown.items()}
        block = self._begun | {name: text(self._begun, name) + more for name, more in grown.items()}
        match block["type"]:
            case "text":
                words = text(block, "text")
                return [Text(text=words)] if words else []
            case "tool_use":
                raw = text(block, "partial_json") or block.get("input") or {}
                return [proposal(id_=text(block, "id"), name=text(block, "name"), raw=raw)]
            case _:
                return [opaque(NAME, block)]


class _Reader:
    def __init__(self) -> None:
        self.done = False
        self._begun = False
        self._blocks: dict[int, _Block] = {}
        self._calls = 0
        self._stop = Stop.END
        self._used: dict[str, int] = {}
        self._model = ""

    def event(self, name: str, value: dict[str, Any]) -> list[Delta]:  # noqa: ARG002 (the type stands in the data)
        if self.done:
            return []
        match value.get("type"):
            case "message_start":
                self._begin(mapping(value, "message"))
            case "content_block_start":
                return self._open(_index(value), mapping(value, "content_block"))
            case "content_block_delta":
                block = self._blocks.get(_index(value))
                words = block.add(mapping(value, "delta")) if block else ""
                return [TextDelta(text=words)] if words else []
            case "message_delta":
                self._end(mapping(value, "delta"), mapping(value, "usage"))
            case "message_stop":
                self.done = True
            case "error":
                raise AnswerError(value)
            case _:
                pass
        return []

    def whole(self, value: dict[str, Any]) -> None:
        if value.get("type") == "error":
            raise AnswerError(value)
        if not isinstance(value.get("content"), list):
            raise Misread("it holds no content")
        self._begin(value)
        for index, block in enumerate(mappings(value, "content")):
            self._open(index, block)
        self._end(value, {})
        self.done = True

    def completion(self) -> Completion:
        if not self._begun:
            raise Misread("it has no beginning")
        read, written = self._used.get("cache_read_input_tokens", 0), self._used.get("cache_creation_input_tokens", 0)
        return Completion(
            parts=told_apart(part for _, block in sorted(self._blocks.items()) for part in block.parts()),
            stop=self._stop,
            usage=Usage(
                input_tokens=self._used.get("input_tokens", 0) + read + written,
                output_tokens=self._used.get("output_tokens", 0),
                cache_read_tokens=read,
                cache_write_tokens=written,
            ),
            model=self._model,
            wire=NAME,
        )

    def _begin(self, message: dict[str, Any]) -> None:
        self._begun = True
        self._model = text(message, "model")
        self._count(mapping(message, "usage"))

    def _open(self, index: int, block: dict[str, Any]) -> list[Delta]:
        kind = text(block, "type")
        if kind not in ("text", "tool_use", *_THINKING) or len(self._blocks) >= CALLS_KEPT_MAX:
            return []
        self._blocks[index] = _Block(block)
        if kind == "tool_use":
            self._calls += 1
            return [CallDelta(index=self._calls - 1, name=text(block, "name"))]
        words = text(block, "text") if kind == "text" else ""
        return [TextDelta(text=words)] if words else []

    def _end(self, delta: dict[str, Any], used: dict[str, Any]) -> None:
        self._stop = _STOPS.get(text(delta, "stop_reason"), self._stop)
        self._count(used)

    def _count(self, used: dict[str, Any]) -> None:
        """Counts are running totals; one that is not told again stays."""
        self._used |= {name: count(used, name) for name, value in used.items() if isinstance(value, int)}


def _index(value: dict[str, Any]) -> int:
    index = value.get("index")
    if not isinstance(index, int):
        raise Misread("`index` is of the wrong type")
    return index
