"""Assent for one person and one program: an installation found or made, a model found, an agent that answers.

The installation is the one around the working folder (or `folder`, or `ASSENT_FOLDER`). Where there is none, one is
made for the person, in the folder that their system keeps for such data, with the starter policy in force.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from assent.bootstrap.environment import environment
from assent.bootstrap.founding import found
from assent.bootstrap.models import KNOWN
from assent.bootstrap.node import Node, open_node
from assent.bootstrap.policy_folder import read_policy
from assent.bootstrap.policy_signing import read_signatures
from assent.bootstrap.settings import Settings, blueprint, find_settings, os_login, read_settings
from assent.bootstrap.settings_agents import ModelSettings
from assent.operations.functions import offered
from assent.operations.models import Endpoint
from assent.primitives.errors import Malformed
from assent.reasoning.agents import AgentDefinition, check_agent

MODEL_VARIABLE = "ASSENT_MODEL"
URL_VARIABLE = "ASSENT_MODEL_URL"
KEY_VARIABLE = "ASSENT_MODEL_KEY"
# What answers where only a key was found. Providers rename; `ASSENT_MODEL` names another.
_BY_KEY = (
    ("ANTHROPIC_API_KEY", "anthropic:claude-sonnet-5-5"),
    ("OPENAI_API_KEY", "openai:gpt-5.5"),
    ("GEMINI_API_KEY", "gemini:gemini-flash-latest"),
)


class Personal(msgspec.Struct, frozen=True, kw_only=True):
    """An open installation, and the agent that answers in it."""

    node: Node
    settings: Settings
    agent: AgentDefinition


@asynccontextmanager
async def open_personal(
    definition: Mapping[str, Any],
    *,
    others: Sequence[Mapping[str, Any]] = (),
    functions: Sequence[Callable[..., Any]] = (),
    folder: Path | None = None,
) -> AsyncIterator[Personal]:
    """Open the installation for an agent of this definition (the fields of `AgentDefinition`).

    Raises:
        Malformed: `model_missing`: no model is known; `agent_malformed`; settings with mistakes.
        Unavailable: the database, its key or the folder cannot be used.
    """
    settings = _settings(folder)
    models, declared = _models(tuple(definition.get("models", ())), settings)
    tools = tuple(one.operation.contract.name for one in offered(functions))
    agent = check_agent(_definition({**definition, "models": models}, more_tools=tools))
    rest = tuple(check_agent(_definition({"models": models, **one})) for one in others)
    settings = msgspec.structs.replace(settings, models=(*settings.models, *declared))
    plan = blueprint(settings)
    mine = {one.name: one for one in (*plan.agents, *rest, agent)}
    plan = msgspec.structs.replace(plan, agents=tuple(mine.values()), functions=tuple(functions))
    async with open_node(plan) as node:
        if await node.policies.active_revision(settings.tenant) is None:
            written = read_policy(settings.policy)
            signatures = read_signatures(settings.policy, written.revision)
            await node.policies.activate(settings.tenant, written.text, by=settings.person, signatures=signatures)
        yield Personal(node=node, settings=settings, agent=agent)


def own_folder(variables: Mapping[str, str]) -> Path:
    """Where a person's own installation is, where none is named (XDG Base Directory Specification)."""
    data = variables.get("XDG_DATA_HOME", "")
    return (Path(data) if data.startswith("/") else Path.home() / ".local" / "share") / "assent"


def _settings(folder: Path | None) -> Settings:
    try:
        file = find_settings(Path.cwd(), folder=folder, environment=environment())
    except Malformed as malformed:
        if folder is not None or malformed.code != "settings_missing":
            raise
        own = own_folder(environment())
        found(own)
        file = find_settings(own, folder=own, environment={})
    return read_settings(file, login=os_login())


def _definition(fields: Mapping[str, Any], *, more_tools: tuple[str, ...] = ()) -> AgentDefinition:
    tools = tuple(dict.fromkeys((*fields.get("tools", ()), *more_tools)))
    try:
        return msgspec.convert({**fields, "tools": tools}, AgentDefinition)
    except msgspec.ValidationError as error:
        raise Malformed("agent_malformed", f"the agent is not well-formed: {error}") from error


def _models(named: tuple[str, ...], settings: Settings) -> tuple[tuple[str, ...], tuple[ModelSettings, ...]]:
    """The models to ask, and endpoints to declare for them."""
    variables = environment()
    wanted = named or ((variables[MODEL_VARIABLE],) if variables.get(MODEL_VARIABLE) else ())
    declared = {one.endpoint.name for one in settings.models} | KNOWN.keys()
    if variables.get(URL_VARIABLE):
        key = f"env:{KEY_VARIABLE}" if variables.get(KEY_VARIABLE) else ""
        endpoint = Endpoint(name="compatible", url=variables[URL_VARIABLE], credential=key)
        models = tuple(one if one.partition(":")[0] in declared else f"compatible:{one}" for one in wanted)
        if models:
            return models, (ModelSettings(endpoint=endpoint, wire="openai-chat"),)
    if wanted:
        return wanted, ()
    agents = [agent.models for agent in settings.agents]
    by_key = [(model,) for name, model in _BY_KEY if variables.get(name)]
    if by_key or agents:
        return (by_key or agents)[0], ()
    raise Malformed("model_missing", "no model is known that could answer", hint=FOUR_WAYS)


FOUR_WAYS = (
    "there are four ways to get one: "
    "(1) set the key of a provider: ANTHROPIC_API_KEY, OPENAI_API_KEY or GEMINI_API_KEY; "
    "(2) run Ollama and set ASSENT_MODEL=ollama:NAME; "
    "(3) use any OpenAI-compatible server: ASSENT_MODEL_URL=http://127.0.0.1:8000 and ASSENT_MODEL=NAME; "
    '(4) name one: `model="endpoint:name"` here, or an agent with `models` in `assent.toml`'
)
