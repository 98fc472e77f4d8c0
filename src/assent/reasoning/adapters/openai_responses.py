"""OpenAI Responses. Nothing is kept at the provider (`store: false`): every question holds the whole conversation."""

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
    Opaque,
    Stop,
    Text,
    TextDelta,
    ToolCall,
    ToolResult,
    Usage,
)
from assent.reasoning.ports import WireRequest
from assent.reasoning.streams import EVENTS, AnswerDecoder, AnswerError

NAME = "openai"


class OpenAiResponses:
    """The wire format `openai`."""

    name = NAME
    credential = ("authorization", "Bearer ")
    streamed = EVENTS

    def request(self, request: ModelRequest) -> WireRequest:
        """Spell a question."""
        body: dict[str, Any] = {
            "model": request.model,
            "input": [item for one in request.messages for item in _spelled(one)],
            "max_output_tokens": request.output_tokens_max,
            "store": False,
            "stream": request.stream,
        }
        if request.system:
            body["instructions"] = "\n\n".join(request.system)
        if request.temperature_milli is not None:
            body["temperature"] = request.temperature_milli / 1000
        if request.tools:
            body["tools"] = [
                {"type": "function", "name": t.name, "description": t.description, "parameters": t.schema,
                 "strict": False}
                for t in request.tools
            ]  # fmt: skip
        if request.output is not None:
            body["text"] = {
                "format": {"type": "json_schema", "name": "answer", "schema": request.output, "strict": True}
            }
        return WireRequest(
            path="/v1/responses", headers=(("content-type", "application/json"),), body=msgspec.json.encode(body)
        )

    def decoder(self, *, content_type: str) -> AnswerDecoder:
        """A decoder for an answer of this content type."""
        return AnswerDecoder(_Reader(), content_type=content_type)

    def fault(self, *, status: int, headers: Mapping[str, str], body: bytes) -> Fault:
        """What an error status means."""
        return fault_of(wire=NAME, status=status, headers=headers, body=body)


def _spelled(message: Message) -> Iterator[dict[str, Any]]:
    """One message as the items that say it here: words, calls and results are items of their own."""
    words: list[dict[str, Any]] = []
    kind = "output_text" if message.role == "assistant" else "input_text"
    for part in message.parts:
        match part:
            case Text(text=text):
                words += [{"type": kind, "text": text}] if text else []
                continue
            case Image():
                words.append(_image(part))
                continue
        if words:
            yield {"role": message.role, "content": words}
            words = []
        match part:
            case ToolCall() | BrokenCall():
                yield {
                    "type": "function_call", "call_id": part.id, "name": part.name, "arguments": arguments_text(part),
                }  # fmt: skip
            case ToolResult():
                yield {"type": "function_call_output", "call_id": part.call, "output": part.text}
                words += map(_image, part.images)
            case Opaque(wire=wire, data=data):
                if wire == NAME:
                    yield dict(data)
    if words:
        yield {"role": message.role, "content": words}


def _image(part: Image) -> dict[str, Any]:
    return {"type": "input_image", "image_url": f"data:{part.media_type};base64,{part.data}"}


class _Reader:
    def __init__(self) -> None:
        self.done = False
        self._answer: dict[str, Any] = {}
        self._calls = 0

    def event(self, name: str, value: dict[str, Any]) -> list[Delta]:  # noqa: ARG002 (the type stands in the data)
        match value.get("type"):
            case "response.output_text.delta" | "response.refusal.delta":
                return [TextDelta(text=value["delta"])]
            case "response.output_item.added" if value["item"].get("type") == "function_call":
                self._calls += 1
                return [CallDelta(index=self._calls - 1, name=str(value["item"].get("name", "")))]
            case "response.completed" | "response.incomplete" | "response.failed":
                self.whole(value["response"])
            case "error":
                raise AnswerError(str(value.get("message") or value.get("code")))
            case _:
                pass
        return []

    def whole(self, value: dict[str, Any]) -> None:
        if value.get("error"):
            raise AnswerError(str(value["error"].get("message")))
        if value.get("status") not in ("completed", "incomplete"):
            raise AnswerError(f"it is {value.get('status')}")
        self._answer = value
        self.done = True

    def completion(self) -> Completion:
        parts: list[Text | ToolCall | BrokenCall | Opaque] = []
        refused = False
        for item in self._answer["output"][: 2 * CALLS_KEPT_MAX]:
            match item.get("type"):
                case "message":
                    for content in item.get("content") or ():
                        refused = refused or content.get("type") == "refusal"
                        text = content.get("text") or content.get("refusal") or ""
                        parts += [Text(text=text)] if text else []
                case "function_call":
                    parts.append(proposal(id_=item["call_id"], name=item["name"], raw=item.get("arguments") or ""))
                case "reasoning" if item.get("encrypted_content"):
                    kept = {k: v for k, v in item.items() if k in ("type", "id", "summary", "encrypted_content")}
                    parts.append(Opaque(wire=NAME, data=kept))
                case _:
                    pass
        return Completion(
            parts=tuple(parts), stop=self._stop(parts, refused=refused), usage=_usage(self._answer.get("usage") or {}),
            model=self._answer.get("model") or "", wire=NAME,
        )  # fmt: skip

    def _stop(self, parts: list[Text | ToolCall | BrokenCall | Opaque], *, refused: bool) -> Stop:
        why = (self._answer.get("incomplete_details") or {}).get("reason")
        if why == "content_filter":
            return Stop.FILTERED
        if why:
            return Stop.CUT
        if refused:
            return Stop.REFUSED
        return Stop.CALLS if any(isinstance(part, ToolCall | BrokenCall) for part in parts) else Stop.END


def _usage(used: dict[str, Any]) -> Usage:
    return Usage(
        input_tokens=used.get("input_tokens") or 0,
        output_tokens=used.get("output_tokens") or 0,
        cache_read_tokens=(used.get("input_tokens_details") or {}).get("cached_tokens") or 0,
    )
