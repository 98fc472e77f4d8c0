"""Agents and models in `assent.toml`.

[models.NAME]   an endpoint: which wire format it speaks, where it is, the handle of its key
[agents.NAME]   one with `models` is an agent that can be talked to; without, it is only somebody who may ask
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import structs

from assent.bootstrap.settings_text import Document, near
from assent.operations.model_costs import Price
from assent.operations.models import Endpoint
from assent.policy.mandates import read_mandate
from assent.primitives.errors import Malformed
from assent.reasoning import endpoints
from assent.reasoning.agents import AgentDefinition, ResetPolicy, agent_faults

MODEL_KEYS = ("wire", "url", "key", "script", "about", "input_micros", "output_micros")
PRICE_MAX = 10**12
AGENT_KEYS = (
    "description", "roles", "models", "instructions", "instructions_file", "tools", "delegates", "delegated", "memory",
    "hands_to", "capabilities", "mandate", "skills", "workspace_notes", "temperature_milli", "output_tokens_max",
    "context_tokens_max",
    "turns_max", "tokens_max", "micros_max", "asks_max", "reset", "reset_limit",
)  # fmt: skip
WIRES = (*endpoints.WIRES, "scripted")
RESETS = ("manual", "age", "idle", "tokens", "messages")
INSTRUCTIONS_BYTES_MAX = 262_144


class ModelSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint as it is declared. `script` is the file that a scripted one plays."""

    endpoint: Endpoint
    wire: str
    script: Path | None = None


def read_models(document: Document, *, home: Path) -> tuple[ModelSettings, ...]:
    """The declared endpoints; what is wrong with them is added to the document's faults."""
    return tuple(_model(document, name, home) for name in document.tables(("models",)))


def read_agents(document: Document, *, models: tuple[ModelSettings, ...], home: Path) -> tuple[AgentDefinition, ...]:
    """The agents that can be talked to; what is wrong with them is added to the document's faults."""
    named = [name for name in document.tables(("agents",)) if document.has(("agents", name, "models"))]
    found = tuple(_agent(document, name, home) for name in named)
    known = {one.endpoint.name for one in models} | endpoints.PROVIDERS.keys()
    for agent in found:
        for model in agent.models:
            endpoint = model.partition(":")[0]
            if endpoint not in known:
                told = f"`{endpoint}` is not a declared model{near(endpoint, sorted(known))}"
                document.fault(("agents", agent.name, "models"), told)
        names = [one.name for one in found]
        for field, others in (("delegates", agent.delegates), ("hands_to", agent.hands_to)):
            for other in others:
                if other not in names:
                    message = f"`{other}` is not an agent that can be talked to{near(other, names)}"
                    document.fault(("agents", agent.name, field), message)
    return found


def _model(document: Document, name: str, home: Path) -> ModelSettings:
    key = ("models", name)
    document.only(key, MODEL_KEYS)
    wire = document.text((*key, "wire"), default=name if name in WIRES else "openai-chat")
    if wire not in WIRES:
        document.fault((*key, "wire"), f"`{wire}` is not a wire format{near(wire, WIRES)}")
    script = document.text((*key, "script"), default="")
    if (wire == "scripted") != bool(script):
        document.fault(key, "a scripted model, and no other, has a `script`: the file it plays")
    endpoint = Endpoint(
        name=name,
        url=document.text((*key, "url"), default=""),
        credential=document.text((*key, "key"), default=""),
        summary=document.text((*key, "about"), default=""),
        price=_price(document, key),
    )
    return ModelSettings(endpoint=endpoint, wire=wire, script=home / script if script else None)


def _price(document: Document, key: tuple[str, str]) -> Price | None:
    """What a million tokens cost; None when the file does not say. Half a price would make the other half free."""
    named = [name for name in ("input_micros", "output_micros") if document.has((*key, name))]
    if len(named) == 1:
        document.fault((*key, named[0]), "a price has both an `input_micros` and an `output_micros`")
    price = {
        name: document.number((*key, name), default=0, least=0, most=PRICE_MAX)
        for name in ("input_micros", "output_micros")
    }
    return Price(**price) if named else None


def _agent(document: Document, name: str, home: Path) -> AgentDefinition:
    key = ("agents", name)
    kind = document.text((*key, "reset"), default="manual")
    if kind not in RESETS:
        document.fault((*key, "reset"), f"`{kind}` is not a way to reset{near(kind, RESETS)}")
        kind = "manual"
    fresh = AgentDefinition(name=name, models=())
    numbers = {
        field: document.number((*key, field), default=getattr(fresh, field), least=0, most=10**12)
        for field in ("output_tokens_max", "context_tokens_max", "turns_max", "tokens_max", "micros_max", "asks_max")
    }
    texts = {
        field: document.texts((*key, field))
        for field in ("models", "tools", "delegates", "delegated", "hands_to", "memory", "capabilities", "mandate")
    }
    flags = {field: document.flag((*key, field), default=True) for field in ("skills", "workspace_notes")}
    temperature = document.number((*key, "temperature_milli"), default=-1, least=0, most=5_000)
    agent = structs.replace(
        fresh,
        description=document.text((*key, "description"), default=""),
        instructions=_instructions(document, key, home),
        temperature_milli=None if temperature < 0 else temperature,
        reset=ResetPolicy(
            kind=kind,  # type: ignore[arg-type] # it was looked up above
            limit=document.number((*key, "reset_limit"), default=0, least=0, most=10**12),
        ),
        **texts,
        **numbers,
        **flags,
    )
    try:
        read_mandate(agent.mandate, by=agent.principal)
    except Malformed as malformed:
        document.fault((*key, "mandate"), str(malformed))
    for field, fault in agent_faults(agent):
        document.fault((*key, field), f"`{field}`: {fault}")
    return agent


def _instructions(document: Document, key: tuple[str, str], home: Path) -> str:
    text = document.text((*key, "instructions"), default="")
    file = document.text((*key, "instructions_file"), default="")
    if not file:
        return text
    if text:
        document.fault((*key, "instructions_file"), "`instructions` and `instructions_file` are both given")
    try:
        with (home / file).open("rb") as opened:
            data = opened.read(INSTRUCTIONS_BYTES_MAX + 1)
        return data.decode()
    except (OSError, ValueError) as error:
        what = getattr(error, "strerror", "") or "it is not UTF-8 text"
        document.fault((*key, "instructions_file"), f"`{file}` cannot be read: {what.lower()}")
        return text
