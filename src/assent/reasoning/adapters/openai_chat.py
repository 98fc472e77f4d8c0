"""OpenAI Chat Completions, and with it every server that is compatible: vLLM, llama.cpp, LM Studio, OpenRouter, …

Only what all of them know is asked for: `max_tokens` and not its newer name, no key for the cache. Of what they answer
beyond the format three things are kept for the next question, because models behind such servers think worse without
them, or refuse it: `reasoning_content` (DeepSeek and others), `reasoning_details` (OpenRouter) and the `extra_content`
of a call (Gemini's signatures).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

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
from assent.reasoning.questions import JSON, check, parameters, spelled, spoken_name
from assent.reasoning.reading import Misread, count, mapping, mappings, text
from assent.reasoning.schemas import closed, is_strict
from assent.reasoning.streams import EVENTS, AnswerDecoder, AnswerError

NAME = "openai-chat"
_THOUGHTS = "reasoning_content"
_DETAILS = "reasoning_details"
_EXTRA = "extra_content"
_GROWING = ("text", "summary", "data")
_STOPS = {
    "length": Stop.CUT,
    "model_length": Stop.CUT,
    "content_filter": Stop.FILTERED,
    "tool_calls": Stop.CALLS,
    "function_call": Stop.CALLS,
}


class OpenAiChat:
    """The wire format `openai-chat`."""

    name = NAME
    credential = ("authorization", "Bearer ")
    streamed = EVENTS

    def request(self, request: ModelRequest) -> WireRequest:
        """Spell a question. Raises Malformed: `request_unspeakable`."""
        check(request)
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
                {
                    "type": "function",
                    "function": {"name": t.name, "description": t.description, "parameters": parameters(t)},
                }
                for t in request.tools
            ]
        if request.output is not None:
            schema = closed(request.output)
            form = {"name": "answer", "schema": schema, "strict": is_strict(schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        return WireRequest(path="/v1/chat/completions", headers=(JSON,), body=spelled(body))

    def decoder(self, *, content_type: str) -> AnswerDecoder:
        """A decoder for an answer of this content type."""
        return AnswerDecoder(_Reader(), content_type=content_type, marked=True)

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
    words = "".join(part.text for part in message.parts if isinstance(part, Text))
    said: dict[str, Any] = {"role": "assistant", "content": words}
    calls: list[dict[str, Any]] = []
    extra: dict[str, Any] = {}
    for part in message.parts:
        match part:
            case Opaque(wire=wire, data=data) if wire == NAME:
                said |= {name: data[name] for name in (_THOUGHTS, _DETAILS) if name in data}
                extra = {_EXTRA: data[_EXTRA]} if _EXTRA in data else {}
            case ToolCall() | BrokenCall():
                function = {"name": spoken_name(part.name), "arguments": arguments_text(part)}
                calls.append({"id": part.id, "type": "function", "function": function, **extra})
                extra = {}
            case _:
                pass
    return {**said, "content": words or None, "tool_calls": calls} if calls else said


def _content(part: Text | Image) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    return {"type": "image_url", "image_url": {"url": f"data:{part.media_type};base64,{part.data}"}}


class _Call:
    """A proposal that is still coming."""

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.pieces: list[str] = []
        self.extra: dict[str, Any] = {}

    def add(self, call: dict[str, Any]) -> None:
        """Some more of it. A name is given once; servers that give it again and again mean the same one."""
        function = mapping(call, "function")
        name = text(function, "name")
        self.id = text(call, "id") or self.id
        self.name += name if name != self.name else ""
        self.extra = mapping(call, _EXTRA) or self.extra
        given = function.get("arguments")
        self.pieces.append(given if isinstance(given, str) else msgspec.json.encode(given).decode() if given else "")

    def parts(self) -> Iterator[AnswerPart]:
        """What goes back with it, and the proposal."""
        if self.extra:
            yield opaque(NAME, {_EXTRA: self.extra})
        yield proposal(id_=self.id, name=self.name, raw="".join(self.pieces))


class _Reader:
    def __init__(self) -> None:
        self.done = False
        self._answered = False
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._thoughts: list[str] = []
        self._details: list[dict[str, Any]] = []
        self._calls: list[_Call] = []
        self._open: dict[int, _Call] = {}
        self._stop = Stop.END
        self._usage = Usage()
        self._model = ""

    def event(self, name: str, value: dict[str, Any]) -> list[Delta]:  # noqa: ARG002 (its events have no names)
        self._common(value)
        found: list[Delta] = []
        for choice in mappings(value, "choices"):
            if not count(choice, "index"):
                found += self._add(mapping(choice, "delta"))
                self._finish(choice)
        return found

    def whole(self, value: dict[str, Any]) -> None:
        self._common(value)
        for choice in mappings(value, "choices")[:1]:
            self._add(mapping(choice, "message"))
            self._finish(choice)
        self.done = True

    def completion(self) -> Completion:
        if not self._answered:
            raise Misread("it holds no choice")
        words, refusal = "".join(self._text), "".join(self._refusal)
        parts: list[AnswerPart] = []
        if self._thoughts:
            parts.append(opaque(NAME, {_THOUGHTS: "".join(self._thoughts)}))
        if self._details:
            parts.append(opaque(NAME, {_DETAILS: _grown(self._details)}))
        parts += [Text(text=words or refusal)] if words or refusal else []
        parts += [part for call in self._calls for part in call.parts()]
        stop = Stop.CALLS if self._calls and self._stop is Stop.END else self._stop
        return Completion(
            parts=told_apart(parts),
            stop=Stop.REFUSED if refusal else stop,
            usage=self._usage,
            model=self._model,
            wire=NAME,
        )

    def _common(self, value: dict[str, Any]) -> None:
        if value.get("error") or value.get("object") == "error":
            raise AnswerError(value)
        self._model = text(value, "model") or self._model
        used = mapping(value, "usage")
        if used:
            details = mapping(used, "prompt_tokens_details")
            self._usage = Usage(
                input_tokens=count(used, "prompt_tokens"),
                output_tokens=count(used, "completion_tokens"),
                cache_read_tokens=count(details, "cached_tokens") or count(used, "prompt_cache_hit_tokens"),
                cache_write_tokens=count(details, "cache_write_tokens"),
            )

    def _add(self, delta: dict[str, Any]) -> list[Delta]:
        """Take a piece of the message, or all of it."""
        self._answered = True
        if delta.get(_THOUGHTS) is not None:
            self._thoughts.append(text(delta, _THOUGHTS))
        self._details += mappings(delta, _DETAILS)
        self._refusal.append(text(delta, "refusal"))
        words = _words(delta)
        self._text.append(words)
        found: list[Delta] = [TextDelta(text=words)] if words else []
        for place, call in enumerate(mappings(delta, "tool_calls")):
            found += self._add_call(count(call, "index") if call.get("index") is not None else place, call)
        return found

    def _add_call(self, index: int, call: dict[str, Any]) -> list[Delta]:
        """A piece of a proposal. Another id under the same index is another proposal: not every server counts."""
        kept, id_ = self._open.get(index), text(call, "id")
        if kept is not None and not (id_ and kept.id and id_ != kept.id):
            kept.add(call)
            return []
        self._open[index] = new = _Call()
        if len(self._calls) >= CALLS_KEPT_MAX:
            return []
        new.add(call)
        self._calls.append(new)
        return [CallDelta(index=len(self._calls) - 1, name=new.name)]

    def _finish(self, choice: dict[str, Any]) -> None:
        reason = text(choice, "finish_reason")
        if reason == "error":
            raise AnswerError(choice.get("error") or "the provider gave up")
        if reason:
            self._stop = _STOPS.get(reason, Stop.END)
            self.done = True


def _words(message: dict[str, Any]) -> str:
    """The words of a message, which some servers send as a list of parts."""
    if isinstance(message.get("content"), list):
        return "".join(text(part, "text") for part in mappings(message, "content") if part.get("type") == "text")
    return text(message, "content")


def _grown(details: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The details of a thought, whose texts come in pieces, as the whole ones that they are pieces of."""
    found: list[dict[str, Any]] = []
    pieces: list[dict[str, list[str]]] = []
    for one in details:
        if not found or any(one.get(name) != found[-1].get(name) for name in ("type", "index")):
            found.append({})
            pieces.append({})
        found[-1] |= {name: value for name, value in one.items() if value is not None}
        for name in _GROWING:
            if isinstance(one.get(name), str):
                pieces[-1].setdefault(name, []).append(one[name])
    return [
        whole | {name: "".join(texts) for name, texts in some.items()}
        for whole, some in zip(found, pieces, strict=True)
    ]
