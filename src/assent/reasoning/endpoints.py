"""Where models are asked: the providers that need no declaration, how a model is named, and what address that makes.

A model is named `endpoint:model`. The endpoint is a provider below or one that was declared; what stands behind the
first colon is the provider's own name of the model, and may hold colons itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from assent.primitives.errors import Malformed

NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?\Z")
WIRES = ("anthropic", "openai", "openai-chat", "gemini", "ollama")
"""The wire formats: `openai` is Responses, `openai-chat` is what every compatible server speaks."""
_VERSION = re.compile(r"/v[0-9]+[a-z0-9]*\Z")


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """A provider whose address is known. `key` is the environment variable where its key is looked for (empty: it wants
    none)."""

    wire: str
    url: str
    key: str = ""


PROVIDERS: Mapping[str, Provider] = MappingProxyType(
    {
        "anthropic": Provider(wire="anthropic", url="https://api.anthropic.com", key="ANTHROPIC_API_KEY"),
        "openai": Provider(wire="openai", url="https://api.openai.com", key="OPENAI_API_KEY"),
        "gemini": Provider(wire="gemini", url="https://generativelanguage.googleapis.com", key="GEMINI_API_KEY"),
        "ollama": Provider(wire="ollama", url="http://127.0.0.1:11434"),
    }
)


class ModelName(msgspec.Struct, frozen=True, kw_only=True):
    """A model at an endpoint."""

    endpoint: str
    model: str


def read_model_name(text: str) -> ModelName:
    """Read `endpoint:model`.

    Raises:
        Malformed: `model_malformed`.
    """
    endpoint, _, model = text.partition(":")
    if not model or not NAME.match(endpoint):
        raise Malformed("model_malformed", f"`{text[:80]!a}` is not `endpoint:model`", hint="such as `ollama:qwen3:8b`")
    return ModelName(endpoint=endpoint, model=model)


def address(base: str, path: str) -> str:
    """The address of `path` (which begins with `/`) at an endpoint.

    Many servers name themselves with the version in their URL (`https://host/api/v1`), which wire formats begin with:
    it is not said twice, and the server's own one counts. A query of the base stays the query.
    """
    root, mark, query = base.partition("?")
    root = root.rstrip("/")
    if _VERSION.search(root):
        path = re.sub(r"^/v[0-9]+[a-z0-9]*(?=/)", "", path)
    joint = "&" if "?" in path else "?"
    return f"{root}{path}{joint}{query}" if mark and query else root + path
