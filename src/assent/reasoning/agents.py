"""Agents as they are defined: which models answer, what they are told, which tools they may propose. Pure values."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from assent.primitives.errors import Malformed
from assent.reasoning.endpoints import NAME, read_model_name
from assent.registry.agents import capability_faults

MODELS_MAX = 8
TOOLS_MAX = 128
INSTRUCTIONS_BYTES_MAX = 262_144

Reset: TypeAlias = Literal["manual", "age", "idle", "tokens", "messages"]


class ResetPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a session begins afresh by itself. `limit` counts seconds (age, idle), tokens or messages."""

    kind: Reset = "manual"
    limit: int = 0


class AgentDefinition(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One agent.

    `models` are `endpoint:model` texts in the order in which they are tried. `tools` are names of tools in the box or
    of operations. `delegates` are the agents it may hand work to, and `delegated` the tools it may let them use: what
    it may do itself and what it may pass on are two sets. `hands_to` are the agents that may take over from it.
    `context_tokens_max` is what it is told at most in a turn, `turns_max` how many turns a run has, `tokens_max` and
    `micros_max` (millionths of the currency unit) what a run may use up, `asks_max` how often people may be asked to
    approve something in a run and in those that it hands work to (0: no limit of its own). `mandate` is what it is for,
    in lines (none: not said).
    """

    name: str
    models: tuple[str, ...]
    instructions: str = ""
    description: str = ""
    tools: tuple[str, ...] = ()
    delegates: tuple[str, ...] = ()
    delegated: tuple[str, ...] = ()
    hands_to: tuple[str, ...] = ()
    memory: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    mandate: tuple[str, ...] = ()
    skills: bool = True
    workspace_notes: bool = True
    temperature_milli: int | None = None
    output_tokens_max: int = 4_096
    context_tokens_max: int = 100_000
    turns_max: int = 50
    tokens_max: int = 0
    micros_max: int = 0
    asks_max: int = 0
    reset: ResetPolicy = ResetPolicy()

    @property
    def principal(self) -> str:
        """As whom it asks."""
        return f"agent:{self.name}"


def agent_faults(agent: AgentDefinition) -> list[tuple[str, str]]:
    """Everything that is wrong with a definition: the field, and what is wrong with it."""
    faults: list[tuple[str, str]] = []
    if not NAME.match(agent.name):
        faults.append(
            ("name", f"`{agent.name[:80]}` is not a name: lower-case letters, digits and hyphens, at most 64")
        )
    if not 0 < len(agent.models) <= MODELS_MAX:
        faults.append(("models", f"an agent has 1 to {MODELS_MAX} models"))
    faults += [("models", f"`{one[:80]}` is not `endpoint:model`") for one in agent.models if not _is_model(one)]
    if len(agent.tools) > TOOLS_MAX:
        faults.append(("tools", f"an agent has at most {TOOLS_MAX} tools"))
    if len(agent.instructions.encode()) > INSTRUCTIONS_BYTES_MAX:
        faults.append(("instructions", f"they have at most {INSTRUCTIONS_BYTES_MAX} bytes"))
    faults += [("capabilities", fault) for fault in capability_faults(agent.capabilities)]
    faults += [
        (name, f"it is {least} to {most}") for name, least, most in _RANGES if not _within(agent, name, least, most)
    ]
    spread = [one for one in agent.delegated if one not in agent.tools]
    faults += [("delegated", f"`{one[:80]}` is not one of its own tools, so it cannot pass it on") for one in spread]
    if agent.reset.kind != "manual" and agent.reset.limit < 1:
        faults.append(("reset", f"a reset by {agent.reset.kind} needs a limit of at least 1"))
    return faults


def check_agent(agent: AgentDefinition) -> AgentDefinition:
    """Return `agent` when nothing is wrong with it.

    Raises:
        Malformed: `agent_malformed`, with everything that is wrong.
    """
    faults = agent_faults(agent)
    if faults:
        told = "; ".join(f"`{name}`: {fault}" for name, fault in faults)
        raise Malformed("agent_malformed", f"the agent `{agent.name[:80]}` is not well-formed: {told}")
    return agent


_RANGES = (
    ("output_tokens_max", 1, 1_000_000),
    ("context_tokens_max", 1_000, 10_000_000),
    ("turns_max", 1, 10_000),
    ("tokens_max", 0, 10**12),
    ("micros_max", 0, 10**12),
    ("asks_max", 0, 10_000),
)


def _within(agent: AgentDefinition, name: str, least: int, most: int) -> bool:
    value: int = getattr(agent, name)
    return least <= value <= most


def _is_model(text: str) -> bool:
    try:
        read_model_name(text)
    except Malformed:
        return False
    return True
