"""Gemini generateContent. Signatures of thoughts belong to the part they stand with, and go back with it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import groupby
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
    Stop,
    Text,
    TextDelta,
    ToolCall,
    ToolResult,
    Usage,
)
from assent.reasoning.ports import WireRequest
from assent.reasoning.questions import JSON, check, parameters, spelled, spoken_name, unspeakable
from assent.reasoning.reading import Misread, count, mapping, mappings, text
from assent.reasoning.streams import EVENTS, AnswerDecoder, AnswerError

NAME = "gemini"
TOOL_NAMES = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,127}\Z")
_MODEL = re.compile(r"(?:models/|(tunedModels/))?([a-zA-Z0-9._-]+)\Z")
_GENERATION = re.compile(r"gemini-(\d+)?")
_SIGNING_SINCE = 3
_SIGNATURE = "thoughtSignature"
_UNSIGNED = {_SIGNATURE: "skip_thought_signature_validator"}
"""What the provider's documentation asks for where a call was proposed by another model, so that nobody signed it."""
_FILTERED = re.compile(
    r"SAFETY|RECITATION|BLOCKLIST|PROHIBITED_CONTENT|SPII|LANGUAGE|OTHER|ESCALATION|MODEL_ARMOR|PUP_LIMITED_DISABLED"
    r"|IMAGE_(?:SAFETY|PROHIBITED_CONTENT|RECITATION|OTHER)"
)


class Gemini:
    """The wire format `gemini`."""

    name = NAME
    credential = ("x-goog-api-key", "")
    streamed = EVENTS

    def request(self, request: ModelRequest) -> WireRequest:
        """Spell a question. Raises Malformed: `request_unspeakable`."""
        check(request, names=TOOL_NAMES)
        named = _MODEL.match(request.model)
        if named is None:
            raise unspeakable(f"`{request.model[:80]!a}` cannot be the name of a model here")
        settings: dict[str, Any] = {"maxOutputTokens": request.output_tokens_max}
        if request.temperature_milli is not None:
            settings["temperature"] = request.temperature_milli / 1000
        if request.output is not None:
            settings |= {"responseMimeType": "application/json", "responseJsonSchema": request.output}
        signing = _signs(named[2])
        body: dict[str, Any] = {
            "contents": [said for one in request.messages if (said := _spelled(one, signing=signing))["parts"]],
            "generationConfig": settings,
        }
        if request.system:
            body["systemInstruction"] = {"parts": [{"text": words} for words in request.system]}
        if request.tools:
            declared = [
                {"name": t.name, "description": t.description, "parametersJsonSchema": parameters(t)}
                for t in request.tools
            ]
            body["tools"] = [{"functionDeclarations": declared}]
        verb = "streamGenerateContent?alt=sse" if request.stream else "generateContent"
        path = f"/v1beta/{named[1] or 'models/'}{named[2]}:{verb}"
        return WireRequest(path=path, headers=(JSON,), body=spelled(body))

    def decoder(self, *, content_type: str) -> AnswerDecoder:
        """A decoder for an answer of this content type."""
        return AnswerDecoder(_Reader(), content_type=content_type)

    def fault(self, *, status: int, headers: Mapping[str, str], body: bytes) -> Fault:
        """What an error status means."""
        return fault_of(wire=NAME, status=status, headers=headers, body=body)


def _signs(model: str) -> bool:
    """Whether the model takes back a call only with a signature."""
    found = _GENERATION.match(model)
    return found is not None and (found[1] is None or int(found[1][:9]) >= _SIGNING_SINCE)


def _spelled(message: Message, *, signing: bool) -> dict[str, Any]:
    if message.role == "assistant":
        return {"role": "model", "parts": _answer(message, signing=signing)}
    parts: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = []
    for part in message.parts:
        match part:
            case ToolResult():
                said = {"error" if part.failed else "output": part.text}
                name = spoken_name(part.name, TOOL_NAMES)
                parts.append({"functionResponse": {"id": part.call, "name": name, "response": said}})
                shown += map(_image, part.images)
            case Text(text=words):
                shown += [{"text": words}] if words else []
            case Image():
                shown.append(_image(part))
            case _:
                pass
    return {"role": "user", "parts": [*parts, *shown]}


def _answer(message: Message, *, signing: bool) -> list[dict[str, Any]]:
    """The parts of an answer, each with its signature. Of several calls at once the first one carries it."""
    parts: list[dict[str, Any]] = []
    signature: dict[str, Any] = {}
    for part in message.parts:
        match part:
            case Opaque(wire=wire, data=data) if wire == NAME:
                parts += [dict(data)] if "text" in data else []
                signature = {} if "text" in data else dict(data)
            case Text(text=words) if words:
                parts.append({"text": words, **signature})
                signature = {}
            case ToolCall() | BrokenCall():
                first = not any("functionCall" in one for one in parts)
                unsigned = _UNSIGNED if signing and first else {}
                name = spoken_name(part.name, TOOL_NAMES)
                call = {"id": part.id, "name": name, "args": arguments_object(part)}
                parts.append({"functionCall": call, **(signature or unsigned)})
                signature = {}
            case _:
                pass
    return parts


def _image(part: Image) -> dict[str, Any]:
    return {"inlineData": {"mimeType": part.media_type, "data": part.data}}


class _Reader:
    def __init__(self) -> None:
        self.done = False
        self._parts: list[AnswerPart] = []
        self._calls = 0
        self._reason = ""
        self._blocked = False
        self._usage = Usage()
        self._model = ""

    def event(self, name: str, value: dict[str, Any]) -> list[Delta]:  # noqa: ARG002 (its events have no names)
        if value.get("error"):
            raise AnswerError(value)
        self._model = text(value, "modelVersion") or self._model
        if mapping(value, "promptFeedback").get("blockReason"):
            self._blocked = self.done = True
        self._count(mapping(value, "usageMetadata"))
        found: list[Delta] = []
        for candidate in mappings(value, "candidates")[:1]:
            for part in mappings(mapping(candidate, "content"), "parts"):
                found += self._part(part)
            self._reason = text(candidate, "finishReason") or self._reason
            self.done = self.done or bool(self._reason)
        return found

    def whole(self, value: dict[str, Any]) -> None:
        self.event("", value)
        if not self.done:
            raise Misread("it holds no candidate that is finished")

    def completion(self) -> Completion:
        if self._blocked or _FILTERED.fullmatch(self._reason):
            stop = Stop.FILTERED
        elif self._reason in ("MAX_TOKENS", "CONTINUATION"):
            stop = Stop.CUT
        else:
            stop = Stop.CALLS if self._calls else Stop.END
        return Completion(
            parts=told_apart(_joined(self._parts)), stop=stop, usage=self._usage, model=self._model, wire=NAME
        )

    def _part(self, part: dict[str, Any]) -> list[Delta]:
        """A signature stands before what it belongs to; with thoughts, or with nothing, it is a part of its own."""
        words, signature = text(part, "text"), text(part, _SIGNATURE)
        call = mapping(part, "functionCall") if part.get("functionCall") is not None else None
        thought = part.get("thought") is True
        if signature:
            alone: dict[str, Any] = {"text": words} | ({"thought": True} if thought else {})
            belongs = call is not None or (words and not thought)
            self._parts.append(opaque(NAME, {**({} if belongs else alone), _SIGNATURE: signature}))
        if call is not None:
            return self._call(call)
        if thought or not words:
            return []
        self._parts.append(Text(text=words))
        return [TextDelta(text=words)]

    def _call(self, call: dict[str, Any]) -> list[Delta]:
        if self._calls >= CALLS_KEPT_MAX:
            return []
        raw = call.get("args")
        made = proposal(id_=text(call, "id"), name=text(call, "name"), raw={} if raw is None else raw)
        self._parts.append(made)
        self._calls += 1
        return [CallDelta(index=self._calls - 1, name=made.name)]

    def _count(self, used: dict[str, Any]) -> None:
        if used:
            self._usage = Usage(
                input_tokens=count(used, "promptTokenCount") + count(used, "toolUsePromptTokenCount"),
                output_tokens=count(used, "candidatesTokenCount") + count(used, "thoughtsTokenCount"),
                cache_read_tokens=count(used, "cachedContentTokenCount"),
            )


def _joined(parts: list[AnswerPart]) -> Iterator[AnswerPart]:
    """Neighbouring words as one text."""
    for words, group in groupby(parts, key=lambda part: isinstance(part, Text)):
        if words:
            yield Text(text="".join(part.text for part in group if isinstance(part, Text)))
        else:
            yield from group
