"""Gemini generateContent. Signatures of thoughts belong to the part they stand with, and go back with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

import msgspec

from assent.primitives.errors import Malformed
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
    Stop,
    Text,
    TextDelta,
    ToolCall,
    ToolResult,
    Usage,
)
from assent.reasoning.ports import WireRequest
from assent.reasoning.streams import EVENTS, AnswerDecoder, AnswerError

NAME = "gemini"
_FILTERED = frozenset(
    {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY", "LANGUAGE", "OTHER"}
)
_MODEL_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_")


class Gemini:
    """The wire format `gemini`."""

    name = NAME
    credential = ("x-goog-api-key", "")
    streamed = EVENTS

    def request(self, request: ModelRequest) -> WireRequest:
        """Spell a question.

        Raises:
            Malformed: `request_unspeakable`: the model's name cannot stand in a path.
        """
        if not request.model or not _MODEL_SAFE.issuperset(request.model):
            raise Malformed("request_unspeakable", f"`{request.model[:80]!a}` cannot be the name of a model here")
        settings: dict[str, Any] = {"maxOutputTokens": request.output_tokens_max}
        if request.temperature_milli is not None:
            settings["temperature"] = request.temperature_milli / 1000
        if request.output is not None:
            settings |= {"responseMimeType": "application/json", "responseJsonSchema": request.output}
        body: dict[str, Any] = {
            "contents": [said for one in request.messages if (said := _spelled(one))["parts"]],
            "generationConfig": settings,
        }
        if request.system:
            body["systemInstruction"] = {"parts": [{"text": text} for text in request.system]}
        if request.tools:
            declared = [
                {"name": t.name, "description": t.description, "parametersJsonSchema": t.schema} for t in request.tools
            ]
            body["tools"] = [{"functionDeclarations": declared}]
        verb = "streamGenerateContent?alt=sse" if request.stream else "generateContent"
        return WireRequest(
            path=f"/v1beta/models/{request.model}:{verb}",
            headers=(("content-type", "application/json"),),
            body=msgspec.json.encode(body),
        )

    def decoder(self, *, content_type: str) -> AnswerDecoder:
        """A decoder for an answer of this content type."""
        return AnswerDecoder(_Reader(), content_type=content_type)

    def fault(self, *, status: int, headers: Mapping[str, str], body: bytes) -> Fault:
        """What an error status means."""
        return fault_of(wire=NAME, status=status, headers=headers, body=body)


def _spelled(message: Message) -> dict[str, Any]:
    parts: list[dict[str, Any]] = []
    signature: dict[str, Any] = {}
    for part in message.parts:
        match part:
            case Opaque(wire=wire, data=data):
                signature = dict(data) if wire == NAME else signature
                continue
            case Text(text=text):
                parts += [{"text": text, **signature}] if text else []
            case Image():
                parts.append(_image(part))
            case ToolCall() | BrokenCall():
                call = {"id": part.id, "name": part.name, "args": arguments_object(part)}
                parts.append({"functionCall": call, **signature})
            case ToolResult():
                said = {"error" if part.failed else "result": part.text}
                parts.append({"functionResponse": {"id": part.call, "name": part.name, "response": said}})
                parts += map(_image, part.images)
        signature = {}
    return {"role": "model" if message.role == "assistant" else "user", "parts": parts}


def _image(part: Image) -> dict[str, Any]:
    return {"inlineData": {"mimeType": part.media_type, "data": part.data}}


class _Reader:
    def __init__(self) -> None:
        self.done = False
        self._parts: list[Text | ToolCall | BrokenCall | Opaque] = []
        self._calls = 0
        self._reason = ""
        self._blocked = False
        self._usage = Usage()
        self._model = ""

    def event(self, name: str, value: dict[str, Any]) -> list[Delta]:  # noqa: ARG002 (its events have no names)
        if value.get("error"):
            raise AnswerError(str(value["error"].get("message")))
        self._model = value.get("modelVersion") or self._model
        if (value.get("promptFeedback") or {}).get("blockReason"):
            self._blocked = self.done = True
        self._count(value.get("usageMetadata") or {})
        found: list[Delta] = []
        for candidate in (value.get("candidates") or ())[:1]:
            for part in (candidate.get("content") or {}).get("parts") or ():
                found += self._part(part)
            if candidate.get("finishReason"):
                self._reason = candidate["finishReason"]
                self.done = True
        return found

    def whole(self, value: dict[str, Any]) -> None:
        self.event("", value)

    def completion(self) -> Completion:
        if self._blocked or self._reason in _FILTERED:
            stop = Stop.FILTERED
        elif self._reason == "MAX_TOKENS":
            stop = Stop.CUT
        else:
            stop = Stop.CALLS if self._calls else Stop.END
        return Completion(parts=tuple(_joined(self._parts)), stop=stop, usage=self._usage, model=self._model, wire=NAME)

    def _part(self, part: dict[str, Any]) -> list[Delta]:
        if part.get("thoughtSignature"):
            self._parts.append(Opaque(wire=NAME, data={"thoughtSignature": part["thoughtSignature"]}))
        if part.get("functionCall"):
            return self._call(part["functionCall"])
        if part.get("thought") or not part.get("text"):
            return []
        self._parts.append(Text(text=str(part["text"])))
        return [TextDelta(text=part["text"])]

    def _call(self, call: dict[str, Any]) -> list[Delta]:
        if self._calls >= CALLS_KEPT_MAX:
            return []
        id_ = call.get("id") or f"call_{self._calls}"
        self._parts.append(proposal(id_=id_, name=call["name"], raw=call.get("args") or {}))
        self._calls += 1
        return [CallDelta(index=self._calls - 1, name=call["name"])]

    def _count(self, used: dict[str, Any]) -> None:
        if used:
            self._usage = Usage(
                input_tokens=used.get("promptTokenCount") or 0,
                output_tokens=(used.get("candidatesTokenCount") or 0) + (used.get("thoughtsTokenCount") or 0),
                cache_read_tokens=used.get("cachedContentTokenCount") or 0,
            )


def _joined(parts: list[Text | ToolCall | BrokenCall | Opaque]) -> Iterator[Text | ToolCall | BrokenCall | Opaque]:
    """Neighbouring words as one text."""
    for words, group in groupby(parts, key=lambda part: isinstance(part, Text)):
        if words:
            yield Text(text="".join(part.text for part in group if isinstance(part, Text)))
        else:
            yield from group
