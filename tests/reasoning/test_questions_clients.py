"""The providers' own client libraries know every member of what they are asked, and its type."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from assent.bootstrap.models import wire_of
from tests.reasoning.test_questions import rich

with warnings.catch_warnings():  # what foreign libraries say about each other while they are imported
    warnings.simplefilter("ignore")
    from anthropic.types.message_create_params import MessageCreateParamsStreaming
    from google.genai import types as genai
    from ollama._types import ChatRequest
    from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming
    from openai.types.responses.response_create_params import ResponseCreateParamsStreaming
    from pydantic import TypeAdapter

pytestmark = pytest.mark.slow

TYPES: dict[str, Any] = {
    "anthropic": MessageCreateParamsStreaming,
    "openai": ResponseCreateParamsStreaming,
    "openai-chat": CompletionCreateParamsStreaming,
}
BEYOND = {"openai-chat": {"reasoning_content"}, "anthropic": {"temperature"}}
"""What other servers than the provider itself ask for, or only its earlier version takes."""


def body_of(wire: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(wire_of(wire).request(rich(wire)).body)
    return body


def forced(value: Any) -> Any:
    """A validated value, which may be lazy inside, with all of it validated."""
    if isinstance(value, dict):
        return {name: forced(one) for name, one in value.items()}
    return [forced(one) for one in value] if isinstance(value, list | tuple | Iterator) or is_lazy(value) else value


def is_lazy(value: Any) -> bool:
    return type(value).__name__ == "ValidatorIterator"


def without(value: Any, names: set[str]) -> Any:
    if isinstance(value, dict):
        return {name: without(one, names) for name, one in value.items() if name not in names}
    return [without(one, names) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("wire", TYPES)
def test_client_knows_every_member_of_the_question(wire):
    """Its types drop what they do not know, so nothing may be missing when they have read the question."""
    body = without(body_of(wire), BEYOND.get(wire, set()))
    assert forced(TypeAdapter(TYPES[wire]).validate_python(body)) == body


def test_gemini_client_knows_every_member_of_the_question():
    body = body_of("gemini")
    for content in (*body["contents"], body["systemInstruction"]):
        genai.Content.model_validate(content)
    for tool in body["tools"]:
        genai.Tool.model_validate(tool)
    genai.GenerationConfig.model_validate(body["generationConfig"])
    assert body.keys() == {"contents", "systemInstruction", "tools", "generationConfig"}


def test_ollama_client_knows_every_member_of_the_question():
    body = body_of("ollama")
    assert (body.pop("truncate"), body.pop("shift")) == (False, False)  # known to the server, and not to its client
    read = ChatRequest.model_validate(body).model_dump(exclude_none=True)
    for message, known in zip(body["messages"], read["messages"], strict=True):
        assert known.keys() == message.keys()
    assert read["format"] == body["format"]
    assert [tool["function"]["name"] for tool in read["tools"]] == ["look", "go"]
