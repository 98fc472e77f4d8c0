"""A node's own agents in the registry: there from its opening until its lease ends.

Several nodes may serve an agent, and the entry belongs to one of them. When that one dies its entry is found no more,
so every other looks at each heartbeat: it takes over what it serves too, and takes out what nobody does. It also tells
how its own agents are since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from assent.execution.functions import Callee
from assent.operations.finding import AGENTS_FIND, told_agents
from assent.primitives.errors import Conflict
from assent.primitives.ids import TenantId
from assent.primitives.leases import Fence
from assent.reasoning.agents import AgentDefinition
from assent.registry.agents import BATCH_MAX, Entry, Health, Query, Schema
from assent.registry.fields import TEXTS_MAX, Field, Value, cut_text, text_fault
from assent.registry.ports import Registry

AGENT_SCHEMA = Schema(
    (
        Field(name="description"),
        Field(name="models", kind="texts", indexed=True),
        Field(name="tools", kind="texts", indexed=True),
        Field(name="delegates", kind="texts", indexed=True),
        Field(name="mandate", kind="texts"),
    )
)
"""What is told of a node's own agents: what they are, which models answer for them in which order, what they can use,
whom they hand work to, and what they are for."""
SWEPT_MAX = 250
SWEEPS_MAX = 160
"""How many batches of what the dead left are taken out at one heartbeat and tenant, and of how many entries: a batch is
one commit, for which others wait some 10 ms, and the next heartbeat goes on."""


class Enlisting:
    """Lets a node's agents be found, for as long as its lease holds."""

    def __init__(
        self,
        registry: Registry,
        agents: Sequence[AgentDefinition],
        *,
        tenants: Sequence[TenantId],
        fence: Fence,
        health: Callable[[AgentDefinition], Health],
    ) -> None:
        self._registry = registry
        self._tenants = tenants
        self._agents = [(one, _entry(one, tenant=tenant, fence=fence)) for tenant in tenants for one in agents]
        self._fence = fence
        self._health = health

    async def enlist(self) -> int:
        """Write the entries of agents that no node answers for, and of its own that are otherwise by now; how many
        there were.

        Raises:
            Unavailable: the database cannot be used, or this node's lease is over.
        """
        due = [one for agent, entry in self._agents if (one := await self._due(agent, entry)) is not None]
        for batch in _batches(due):
            await self._put(batch)
        return len(due)

    async def _due(self, agent: AgentDefinition, entry: Entry) -> Entry | None:
        """The entry as it is to be written, unless it stands so, or belongs to another node."""
        there, health = await self._registry.get(entry.tenant, entry.id), self._health(agent)
        if there is not None and (there.owner != self._fence or there.health is health):
            return None
        return replace(entry, health=health)

    async def sweep(self) -> int:
        """Take out what nodes left whose lease is over; how many entries there were. Raises as `enlist`."""
        return sum([await self._sweep(tenant) for tenant in self._tenants])

    async def _sweep(self, tenant: TenantId) -> int:
        swept = 0
        for _ in range(SWEEPS_MAX):
            found = await self._registry.sweep(tenant, limit=SWEPT_MAX, fence=self._fence)
            swept += found
            if found < SWEPT_MAX:
                break
        return swept

    async def _put(self, batch: list[Entry]) -> None:
        try:
            await self._registry.put(batch, fence=self._fence)
        except Conflict:  # another node was quicker with one of them: it is found there, and the rest is found here
            if len(batch) > 1:
                for entry in batch:
                    await self._put([entry])


def callees(registry: Registry) -> Mapping[str, Callee]:
    """What the function lane calls for `agents.find`."""

    async def find(said: dict[str, Any]) -> list[dict[str, Any]]:
        fields: dict[str, Value] = {"tools": tuple(said["tools"])} if said["tools"] else {}
        query = Query(capabilities=tuple(said["capabilities"]), fields=fields, limit=said["limit"])
        return told_agents(await registry.find(said["tenant"], query), delegates=frozenset(said["delegates"]))

    return {AGENTS_FIND.contract.name: Callee(definition=AGENTS_FIND.definition, call=find)}


def _batches(entries: list[Entry]) -> Iterator[list[Entry]]:
    """Entries that can be written together: of one tenant, and not too many."""
    for tenant in dict.fromkeys(one.tenant for one in entries):
        own = [one for one in entries if one.tenant == tenant]
        for start in range(0, len(own), BATCH_MAX):
            yield own[start : start + BATCH_MAX]


def _entry(agent: AgentDefinition, *, tenant: TenantId, fence: Fence) -> Entry:
    lists = {"models": agent.models, "tools": agent.tools, "delegates": agent.delegates, "mandate": agent.mandate}
    fields: dict[str, Value] = {name: _short(texts) for name, texts in lists.items()}
    return Entry(
        tenant=tenant, id=agent.name, owner=fence, capabilities=agent.capabilities,
        fields={**fields, "description": cut_text(agent.description)},
    )  # fmt: skip


def _short(texts: Sequence[str]) -> tuple[str, ...]:
    """As many as a field holds, each once. One that is too long is left out: half of a name is another name."""
    return tuple(dict.fromkeys(one for one in texts if not text_fault(one)))[:TEXTS_MAX]
