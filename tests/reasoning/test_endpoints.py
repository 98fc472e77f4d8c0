"""How models are named, and the addresses where they are asked."""

from __future__ import annotations

import pytest

from assent.bootstrap.models import KNOWN, wire_of
from assent.execution.urls import parse_url
from assent.primitives.errors import Malformed
from assent.reasoning.endpoints import PROVIDERS, WIRES, ModelName, address, read_model_name


@pytest.mark.parametrize(
    ("text", "endpoint", "model"),
    [
        ("ollama:qwen3:8b", "ollama", "qwen3:8b"), ("openai:gpt-5.5", "openai", "gpt-5.5"),
        ("my-router:meta/llama-4", "my-router", "meta/llama-4"),
    ],
)  # fmt: skip
def test_model_is_named_by_its_endpoint_and_its_own_name(text, endpoint, model):
    assert read_model_name(text) == ModelName(endpoint=endpoint, model=model)


@pytest.mark.parametrize("text", ["", "gpt-5.5", ":gpt", "openai:", "Open AI:x", "-a:x", "a" * 65 + ":x"])
def test_other_names_are_malformed(text):
    with pytest.raises(Malformed, match="endpoint:model") as raised:
        read_model_name(text)
    assert raised.value.code == "model_malformed"


@pytest.mark.parametrize(
    ("base", "path", "whole"),
    [
        ("https://api.openai.com", "/v1/responses", "https://api.openai.com/v1/responses"),
        ("https://api.openai.com/", "/v1/responses", "https://api.openai.com/v1/responses"),
        ("https://openrouter.ai/api/v1", "/v1/chat/completions", "https://openrouter.ai/api/v1/chat/completions"),
        ("https://openrouter.ai/api/v1/", "/v1/chat/completions", "https://openrouter.ai/api/v1/chat/completions"),
        ("https://host/api/paas/v4", "/v1/chat/completions", "https://host/api/paas/v4/chat/completions"),
        ("https://host/v1", "/v1beta/models/m:generateContent", "https://host/v1/models/m:generateContent"),
        ("http://127.0.0.1:11434/v1", "/api/chat", "http://127.0.0.1:11434/v1/api/chat"),
        ("https://host/openai/v1?api-version=p", "/v1/responses", "https://host/openai/v1/responses?api-version=p"),
        ("https://host?a=b", "/v1beta/models/m:x?alt=sse", "https://host/v1beta/models/m:x?alt=sse&a=b"),
        ("https://host/v1x/deep", "/v1/messages", "https://host/v1x/deep/v1/messages"),
    ],
)  # fmt: skip
def test_version_is_said_once_in_an_address(base, path, whole):
    assert address(base, path) == whole


@pytest.mark.parametrize("name", PROVIDERS)
def test_known_provider_has_a_wire_format_and_an_address_that_can_be_dialled(name):
    provider = PROVIDERS[name]
    assert wire_of(provider.wire).name == provider.wire in WIRES
    assert parse_url(address(provider.url, "/x")).text == f"{provider.url}/x"
    assert KNOWN[name].credential == (f"env:{provider.key}" if provider.key else "")


def test_every_wire_format_has_a_codec_of_its_name():
    assert [wire_of(name).name for name in WIRES] == [*WIRES]
