"""Which models can be asked: the declared endpoints, and those that are known without a declaration."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, partial

from assent.bootstrap.settings_agents import ModelSettings
from assent.ledger.operations import Operation
from assent.operations.models import Endpoint, ModelOperation
from assent.operations.scripts import SCRIPT_BYTES_MAX, ScriptedModel, read_script
from assent.primitives.errors import Malformed, Unavailable
from assent.reasoning.endpoints import PROVIDERS
from assent.reasoning.ports import Wire

KNOWN = {
    name: Endpoint(name=name, url=one.url, credential=f"env:{one.key}" if one.key else "")
    for name, one in PROVIDERS.items()
}


def model_operations(declared: Iterable[ModelSettings]) -> tuple[Operation, ...]:
    """An operation for each endpoint.

    Raises:
        Malformed: `model_unusable`: an endpoint has no address, or its script is not one.
        Unavailable: `script_unreadable`.
    """
    found: dict[str, Operation] = {
        name: ModelOperation(endpoint, wire=partial(wire_of, PROVIDERS[name].wire)) for name, endpoint in KNOWN.items()
    }
    found |= {one.endpoint.name: _operation(one) for one in declared}
    return tuple(found.values())


@cache
def wire_of(name: str) -> Wire:
    """The codec of a wire format, loaded when it is wanted: nobody who speaks one loads the others."""
    match name:
        case "anthropic":
            from assent.reasoning.adapters.anthropic import Anthropic

            return Anthropic()
        case "openai":
            from assent.reasoning.adapters.openai_responses import OpenAiResponses

            return OpenAiResponses()
        case "gemini":
            from assent.reasoning.adapters.gemini import Gemini

            return Gemini()
        case "ollama":
            from assent.reasoning.adapters.ollama import Ollama

            return Ollama()
        case _:
            from assent.reasoning.adapters.openai_chat import OpenAiChat

            return OpenAiChat()


def _operation(declared: ModelSettings) -> Operation:
    endpoint = declared.endpoint
    if declared.script is not None:
        try:
            with declared.script.open("rb") as file:
                data = file.read(SCRIPT_BYTES_MAX + 1)
        except OSError as error:
            what = (error.strerror or "no reason given").lower()
            raise Unavailable("script_unreadable", f"the script `{declared.script}` cannot be read: {what}") from error
        return ScriptedModel(endpoint.name, read_script(data))
    known = KNOWN.get(endpoint.name) or KNOWN.get(declared.wire)
    if not endpoint.url and known is None:
        raise Malformed("model_unusable", f"the model `{endpoint.name}` has no `url`", hint="say where it is asked")
    url = endpoint.url or (known.url if known else "")
    credential = endpoint.credential or (known.credential if known and not endpoint.url else "")
    return ModelOperation(
        Endpoint(name=endpoint.name, url=url, credential=credential, summary=endpoint.summary, price=endpoint.price),
        wire=partial(wire_of, declared.wire),
    )
