"""Ollama's own chat format: lines of JSON, and calls that have no ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    Stop,
    Text,
    TextDelta,
    ToolCall,
    ToolResult,
    Usage,
)
from assent.reasoning.ports import WireRequest
from assent.reasoning.streams import LINES, AnswerDecoder, AnswerError

NAME = "ollama"


class Ollama:
    """The wire format `ollama`."""

    name = NAME
    credential = ("authorization", "Bearer ")
    streamed = LINES

    def request(self, request: ModelRequest) -> WireRequest:
        """Spell a question."""
        system = [{"role": "system", "content": "\n\n".join(request.system)}] if request.system else []
        options: dict[str, Any] = {"num_predict": request.output_tokens_max}
        if request.temperature_milli is not None:
            options["temperature"] = request.temperature_milli / 1000
        body: dict[str, Any] = {
            "model": request.model,
            "messages": [*system, *(said for one in request.messages for said in _spelled(one))],
            "stream": request.stream,
            "options": options,
        }
        if request.tools:
            body["tools"] = [
                {"type": "function", "function": {"name": t.name, "description": t.description, "parameters": t.schema}}
                for t in request.tools
            ]
        if request.output is not None:
            body["format"] = request.output
        return WireRequest(
            path="/api/chat", headers=(("content-type", "application/json"),), body=msgspec.json.encode(body)
        )

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
            said: dict[str, Any] = {"role": "tool", "tool_name": part.name, "content": part.text}
            yield {**said, "images": [one.data for one in part.images]} if part.images else said
    text = "".join(part.text for part in message.parts if isinstance(part, Text))
    images = [part.data for part in message.parts if isinstance(part, Image)]
    calls = [
        {"function": {"name": part.name, "arguments": arguments_object(part)}}
        for part in message.parts
        if isinstance(part, ToolCall | BrokenCall)
    ]
    if text or images or calls:
        said = {"role": message.role, "content": text}
        said |= {"images": images} if images else {}
        yield said | ({"tool_calls": calls} if calls else {})


class _Reader:
    def __init__(self) -> None:
        self.done = False
        self._text: list[str] = []
        self._calls: list[tuple[str, object]] = []
        self._stop = Stop.END
        self._usage = Usage()
        self._model = ""

    def event(self, name: str, value: dict[str, Any]) -> list[Delta]:  # noqa: ARG002 (lines have no names)
        if value.get("error"):
            raise AnswerError(str(value["error"]))
        self._model = value.get("model") or self._model
        message = value.get("message") or {}
        found: list[Delta] = []
        if message.get("content"):
            self._text.append(message["content"])
            found.append(TextDelta(text=message["content"]))
        for call in message.get("tool_calls") or ():
            if len(self._calls) < CALLS_KEPT_MAX:
                function = call["function"]
                found.append(CallDelta(index=len(self._calls), name=function["name"]))
                self._calls.append((function["name"], function.get("arguments") or {}))
        if value.get("done"):
            self.done = True
            self._stop = Stop.CUT if value.get("done_reason") == "length" else Stop.END
            self._usage = Usage(
                input_tokens=value.get("prompt_eval_count") or 0, output_tokens=value.get("eval_count") or 0
            )
        return found

    def whole(self, value: dict[str, Any]) -> None:
        self.event("", value)

    def completion(self) -> Completion:
        text = "".join(self._text)
        calls = tuple(
            proposal(id_=f"call_{place}", name=name, raw=arguments)
            for place, (name, arguments) in enumerate(self._calls)
        )
        words = (Text(text=text),) if text else ()
        stop = Stop.CALLS if calls and self._stop is Stop.END else self._stop
        return Completion(parts=(*words, *calls), stop=stop, usage=self._usage, model=self._model, wire=NAME)
