"""Ollama's own chat format: lines of JSON, and calls that have no ids."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
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
from assent.reasoning.questions import JSON, check, parameters, spelled, spoken_name
from assent.reasoning.reading import Misread, count, mapping, mappings, text
from assent.reasoning.streams import LINES, AnswerDecoder, AnswerError

NAME = "ollama"
TOOL_NAMES = re.compile(r"[a-zA-Z0-9_.:-]{1,128}\Z")


class Ollama:
    """The wire format `ollama`."""

    name = NAME
    credential = ("authorization", "Bearer ")
    streamed = LINES

    def request(self, request: ModelRequest) -> WireRequest:
        """Spell a question. What does not fit is refused and not cut (`truncate`, `shift`): left to itself the server
        forgets the beginning, and so the system texts, and says nothing.

        Raises:
            Malformed: `request_unspeakable`.
        """
        check(request, names=TOOL_NAMES, milli_max=5_000)
        system = [{"role": "system", "content": "\n\n".join(request.system)}] if request.system else []
        options: dict[str, Any] = {"num_predict": request.output_tokens_max}
        if request.temperature_milli is not None:
            options["temperature"] = request.temperature_milli / 1000
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [*system, *(said for one in request.messages for said in _spelled(one))],
            "stream": request.stream,
            "options": options,
            "truncate": False,
            "shift": False,
        }
        if request.tools:
            body["tools"] = [
                {
                    "type": "function",
                    "function": {"name": t.name, "description": t.description, "parameters": parameters(t)},
                }
                for t in request.tools
            ]
        if request.output is not None:
            body["format"] = request.output
        return WireRequest(path="/api/chat", headers=(JSON,), body=spelled(body))

    def decoder(self, *, content_type: str) -> AnswerDecoder:
        """A decoder for an answer of this content type."""
        return AnswerDecoder(_Reader(), content_type=content_type)

    def fault(self, *, status: int, headers: Mapping[str, str], body: bytes) -> Fault:
        """What an error status means."""
        return fault_of(wire=NAME, status=status, headers=headers, body=body)


def _spelled(message: Message) -> Iterator[dict[str, Any]]:
    """One message as the one or more that say it here."""
    for part in message.parts:
        if isinstance(part, ToolResult):
            name = spoken_name(part.name, TOOL_NAMES)
            said: dict[str, Any] = {"role": "tool", "tool_name": name, "content": part.text}
            yield {**said, "images": [one.data for one in part.images]} if part.images else said
    said = {"role": message.role, "content": "".join(part.text for part in message.parts if isinstance(part, Text))}
    images = [part.data for part in message.parts if isinstance(part, Image)]
    calls = [
        {"function": {"name": spoken_name(part.name, TOOL_NAMES), "arguments": arguments_object(part)}}
        for part in message.parts
        if isinstance(part, ToolCall | BrokenCall)
    ]
    if not said["content"] and not images and not calls:
        return
    for part in message.parts:
        if isinstance(part, Opaque) and part.wire == NAME and "thinking" in part.data:
            said["thinking"] = part.data["thinking"]
    said |= {"images": images} if images else {}
    yield said | ({"tool_calls": calls} if calls else {})


class _Reader:
    def __init__(self) -> None:
        self.done = False
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._calls: list[ToolCall | BrokenCall] = []
        self._stop = Stop.END
        self._usage = Usage()
        self._model = ""

    def event(self, name: str, value: dict[str, Any]) -> list[Delta]:  # noqa: ARG002 (lines have no names)
        if value.get("error"):
            raise AnswerError(value)
        if self.done:
            return []
        self._model = text(value, "model") or self._model
        message = mapping(value, "message")
        self._thinking.append(text(message, "thinking"))
        words = text(message, "content")
        self._text.append(words)
        found: list[Delta] = [TextDelta(text=words)] if words else []
        for call in mappings(message, "tool_calls"):
            found += self._call(call)
        if value.get("done") is True:
            self._end(value)
        return found

    def whole(self, value: dict[str, Any]) -> None:
        if "message" not in value and "error" not in value:
            raise Misread("it holds no message")
        self.event("", value)

    def completion(self) -> Completion:
        words, thinking = "".join(self._text), "".join(self._thinking)
        parts: list[AnswerPart] = [opaque(NAME, {"thinking": thinking})] if thinking else []
        parts += [Text(text=words)] if words else []
        stop = Stop.CALLS if self._calls and self._stop is Stop.END else self._stop
        return Completion(
            parts=told_apart([*parts, *self._calls]), stop=stop, usage=self._usage, model=self._model, wire=NAME
        )

    def _call(self, call: dict[str, Any]) -> list[Delta]:
        if len(self._calls) >= CALLS_KEPT_MAX:
            return []
        function = mapping(call, "function")
        raw = function.get("arguments")
        made = proposal(id_=text(call, "id"), name=text(function, "name"), raw={} if raw is None else raw)
        self._calls.append(made)
        return [CallDelta(index=len(self._calls) - 1, name=made.name)]

    def _end(self, value: dict[str, Any]) -> None:
        self.done = True
        self._stop = Stop.CUT if text(value, "done_reason") == "length" else Stop.END
        self._usage = Usage(input_tokens=count(value, "prompt_eval_count"), output_tokens=count(value, "eval_count"))
