"""OpenAI Responses. Nothing is kept at the provider (`store: false`): every question holds the whole conversation.

Thoughts come encrypted, without being asked for, and go back as they came; so does the phase of a text (whether it is
said on the way or at the end), because models do worse without.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from assent.reasoning.calls import CALLS_KEPT_MAX, AnswerPart, arguments_text, opaque, proposal, told_apart
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
    Stop,
    Text,
    TextDelta,
    ToolCall,
    ToolResult,
    Usage,
)
from assent.reasoning.ports import WireRequest
from assent.reasoning.questions import JSON, check, parameters, prefix_key, spelled, spoken_id, spoken_name
from assent.reasoning.reading import Misread, count, mapping, mappings, text
from assent.reasoning.schemas import closed, is_strict
from assent.reasoning.streams import EVENTS, AnswerDecoder, AnswerError

NAME = "openai"
_REASONING = ("type", "id", "summary", "content", "encrypted_content")
_ENDED = ("completed", "incomplete")


class OpenAiResponses:
    """The wire format `openai`."""

    name = NAME
    credential = ("authorization", "Bearer ")
    streamed = EVENTS

    def request(self, request: ModelRequest) -> WireRequest:
        """Spell a question. Raises Malformed: `request_unspeakable`."""
        check(request)
        body: dict[str, Any] = {
            "model": request.model,
            "input": [item for one in request.messages for item in _spelled(one)],
            "max_output_tokens": request.output_tokens_max,
            "store": False,
            "stream": request.stream,
        }
        if request.system:
            body["instructions"] = "\n\n".join(request.system)
        if request.cache:
            body["prompt_cache_key"] = prefix_key(request)
        if request.temperature_milli is not None:
            body["temperature"] = request.temperature_milli / 1000
        if request.tools:
            body["tools"] = [
                {"type": "function", "name": t.name, "description": t.description, "parameters": parameters(t),
                 "strict": False}
                for t in request.tools
            ]  # fmt: skip
        if request.output is not None:
            schema = closed(request.output)
            form = {"type": "json_schema", "name": "answer", "schema": schema, "strict": is_strict(schema)}
            body["text"] = {"format": form}
        return WireRequest(path="/v1/responses", headers=(JSON,), body=spelled(body))

    def decoder(self, *, content_type: str) -> AnswerDecoder:
        """A decoder for an answer of this content type."""
        return AnswerDecoder(_Reader(), content_type=content_type)

    def fault(self, *, status: int, headers: Mapping[str, str], body: bytes) -> Fault:
        """What an error status means."""
        return fault_of(wire=NAME, status=status, headers=headers, body=body)


def _spelled(message: Message) -> Iterator[dict[str, Any]]:
    """One message as the items that say it here."""
    if message.role == "assistant":
        yield from _answer(message)
        return
    shown: list[dict[str, Any]] = []
    for part in message.parts:
        match part:
            case ToolResult():
                yield {"type": "function_call_output", "call_id": spoken_id(part.call), "output": _output(part)}
            case Text() | Image():
                shown += _content(part)
            case _:
                pass
    if shown:
        yield {"role": "user", "content": shown}


def _answer(message: Message) -> Iterator[dict[str, Any]]:
    """The items of an answer. A thought goes back only before what was thought up: alone it is refused."""
    thoughts: list[dict[str, Any]] = []
    phase: dict[str, Any] = {}
    for part in message.parts:
        match part:
            case Opaque(wire=wire, data=data) if wire == NAME:
                thoughts += [dict(data)] if data.get("type") == "reasoning" else []
                phase = {"phase": data["phase"]} if "phase" in data else phase
                continue
            case Text(text=words) if words:
                item: dict[str, Any] = {
                    "role": "assistant",
                    "content": words,
                    **phase,
                }
                phase = {}
            case ToolCall() | BrokenCall():
                name, id_ = spoken_name(part.name), spoken_id(part.id)
                item = {"type": "function_call", "call_id": id_, "name": name, "arguments": arguments_text(part)}
            case _:
                continue
        yield from thoughts
        yield item
        thoughts = []


def _output(part: ToolResult) -> str | list[dict[str, Any]]:
    """The result of a tool: a text, or a list where there are images with it."""
    shown: tuple[Text | Image, ...] = (Text(text=part.text), *part.images)
    return [content for one in shown for content in _content(one)] if part.images else part.text


def _content(part: Text | Image) -> list[dict[str, Any]]:
    if isinstance(part, Text):
        return [{"type": "input_text", "text": part.text}] if part.text else []
    return [{"type": "input_image", "detail": "auto", "image_url": f"data:{part.media_type};base64,{part.data}"}]


class _Reader:
    def __init__(self) -> None:
        self.done = False
        self._answer: dict[str, Any] = {}
        self._items: dict[int, dict[str, Any]] = {}
        self._calls = 0

    def event(self, name: str, value: dict[str, Any]) -> list[Delta]:  # noqa: ARG002 (the type stands in the data)
        if self.done:
            return []
        match value.get("type"):
            case "response.output_text.delta" | "response.refusal.delta":
                words = text(value, "delta")
                return [TextDelta(text=words)] if words else []
            case "response.output_item.added" if mapping(value, "item").get("type") == "function_call":
                self._calls += 1
                return [CallDelta(index=self._calls - 1, name=text(value["item"], "name"))]
            case "response.output_item.done" if len(self._items) < 2 * CALLS_KEPT_MAX:
                self._items[count(value, "output_index")] = mapping(value, "item")
            case "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled":
                self.whole(mapping(value, "response"))
            case "error":
                raise AnswerError(value)
            case _:
                pass
        return []

    def whole(self, value: dict[str, Any]) -> None:
        if value.get("error"):
            raise AnswerError(value)
        status = text(value, "status")
        if status not in _ENDED:
            raise AnswerError(f"its status is `{status[:40]}`") if status else Misread("it has no status")
        self._answer = value
        self.done = True

    def completion(self) -> Completion:
        parts: list[AnswerPart] = []
        refused = False
        # Some compatible servers do not repeat at the end what they sent before.
        items = mappings(self._answer, "output") or [item for _, item in sorted(self._items.items())]
        for item in items[: 2 * CALLS_KEPT_MAX]:
            match item.get("type"):
                case "message":
                    refused = refused or any(one.get("type") == "refusal" for one in mappings(item, "content"))
                    parts += _message(item)
                case "function_call":
                    raw = text(item, "arguments")
                    parts.append(proposal(id_=text(item, "call_id"), name=text(item, "name"), raw=raw))
                case "reasoning" if item.get("encrypted_content"):
                    parts.append(opaque(NAME, {name: item[name] for name in _REASONING if item.get(name) is not None}))
                case _:
                    pass
        return Completion(
            parts=told_apart(parts), stop=self._stop(parts, refused=refused),
            usage=_usage(mapping(self._answer, "usage")), model=text(self._answer, "model"), wire=NAME,
        )  # fmt: skip

    def _stop(self, parts: list[AnswerPart], *, refused: bool) -> Stop:
        why = text(mapping(self._answer, "incomplete_details"), "reason")
        if why == "content_filter":
            return Stop.FILTERED
        if why or self._answer["status"] == "incomplete":
            return Stop.CUT
        if refused:
            return Stop.REFUSED
        return Stop.CALLS if any(isinstance(part, ToolCall | BrokenCall) for part in parts) else Stop.END


def _message(item: dict[str, Any]) -> list[AnswerPart]:
    said = [text(one, "text") or text(one, "refusal") for one in mappings(item, "content")]
    words: list[AnswerPart] = [Text(text=one) for one in said if one]
    phase = text(item, "phase")
    return [opaque(NAME, {"phase": phase}), *words] if phase and words else words


def _usage(used: dict[str, Any]) -> Usage:
    details = mapping(used, "input_tokens_details")
    return Usage(
        input_tokens=count(used, "input_tokens"),
        output_tokens=count(used, "output_tokens"),
        cache_read_tokens=count(details, "cached_tokens"),
        cache_write_tokens=count(details, "cache_write_tokens"),
    )
