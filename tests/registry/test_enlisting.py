"""A node's agents in the registry: found from its opening on, taken over from the dead, left to the living."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from assent.bootstrap import enlisting
from assent.bootstrap import node as nodes
from assent.bootstrap.enlisting import AGENT_SCHEMA, Enlisting
from assent.bootstrap.node import LEASE_TTL_MS, Blueprint, open_node
from assent.ledger.adapters.sqlite_agents import SqliteRegistry
from assent.ledger.commands import RenewLease, TakeLease
from assent.primitives.leases import SYSTEM, Fence
from assent.reasoning.agents import AgentDefinition
from assent.registry.adapters.memory import MemoryRegistry
from assent.registry.agents import Entry, Health, Query
from assent.registry.fields import TEXT_BYTES_MAX
from assent.testing.clocks import SetClock
from assent.testing.conformance.registries import ACME, GLOBEX, MINE, OTHER
from assent.testing.ledgers import LedgerFolder

SHARED, OWN = (AgentDefinition(name=name, models=("play:it",)) for name in ("shared", "own"))


def well(_: AgentDefinition) -> Health:
    return Health.HEALTHY


def test_agents_of_two_nodes_are_found_where_they_are_and_are_taken_over_when_one_node_dies(tmp_path: Path) -> None:
    clock = SetClock()

    async def scene() -> None:
        with LedgerFolder(tmp_path, clock=clock).opened() as store:
            registry = SqliteRegistry(store, schema=AGENT_SCHEMA)

            async def owners() -> dict[str, Fence]:
                return {one.id: one.owner for one in await registry.find(ACME, Query())}

            for fence in (MINE, OTHER):
                await store.apply(TakeLease(tenant=SYSTEM, fence=fence, ttl_ms=LEASE_TTL_MS))
            first = Enlisting(registry, (SHARED,), tenants=(ACME, GLOBEX), fence=MINE, health=well)
            second = Enlisting(registry, (SHARED, OWN), tenants=(ACME, GLOBEX), fence=OTHER, health=well)
            assert (await first.enlist(), await second.enlist()) == (2, 2)
            assert await owners() == {"shared": MINE, "own": OTHER}
            assert await second.enlist() == 0, "nothing is written for what is there"
            clock.pass_ms(LEASE_TTL_MS - 1)
            assert await store.apply(RenewLease(tenant=SYSTEM, fence=OTHER, ttl_ms=LEASE_TTL_MS))
            assert await owners() == {"shared": MINE, "own": OTHER}
            clock.pass_ms(1)
            assert await owners() == {"own": OTHER}
            assert await second.enlist() == 2
            assert await owners() == {"shared": OTHER, "own": OTHER}
            assert await registry.get(GLOBEX, "shared") is not None

    asyncio.run(scene())


def test_agent_is_enlisted_here_when_another_node_was_quicker_with_one_of_the_batch(tmp_path: Path) -> None:
    async def scene() -> None:
        with LedgerFolder(tmp_path).opened() as store:
            for fence in (MINE, OTHER):
                await store.apply(TakeLease(tenant=SYSTEM, fence=fence, ttl_ms=LEASE_TTL_MS))

            class Late(SqliteRegistry):
                async def get(self, *_: object) -> None:
                    """What was there a moment ago: nothing."""

            registry = Late(store, schema=AGENT_SCHEMA)
            await Enlisting(registry, (SHARED,), tenants=(ACME,), fence=MINE, health=well).enlist()
            await Enlisting(registry, (SHARED, OWN), tenants=(ACME,), fence=OTHER, health=well).enlist()
            found = [(one.id, one.owner) for one in await registry.find(ACME, Query())]
            assert found == [("own", OTHER), ("shared", MINE)]

    asyncio.run(scene())


def test_agent_is_told_of_by_what_it_is_and_no_length_or_letter_keeps_it_away() -> None:
    agent = AgentDefinition(
        name="writer", models=("play:it", "other:x"), description="writes\0 " + "é" * 2_000,
        tools=("read", "read", "x" * 2_000), delegates=("helper",), capabilities=("write",),
        mandate=("files.write path=reports/*",),
    )  # fmt: skip
    registry = MemoryRegistry(schema=AGENT_SCHEMA, holds=lambda _: True)

    async def scene() -> list[Entry]:
        await Enlisting(registry, (agent,), tenants=(ACME,), fence=MINE, health=well).enlist()
        asked = Query(capabilities=("write",), fields={"models": "other:x", "tools": "read", "delegates": "helper"})
        return await registry.find(ACME, asked)

    (found,) = asyncio.run(scene())
    description = str(found.fields.pop("description"))
    assert description.startswith("writes éé")
    assert len(description.encode()) in range(TEXT_BYTES_MAX - 3, TEXT_BYTES_MAX + 1)
    assert found.fields == {
        "models": ("play:it", "other:x"), "tools": ("read",), "delegates": ("helper",),
        "mandate": ("files.write path=reports/*",),
    }  # fmt: skip


def test_agent_is_written_anew_when_it_is_otherwise_and_by_its_own_node_alone() -> None:
    registry = MemoryRegistry(schema=AGENT_SCHEMA, holds=lambda _: True)
    how = {"shared": Health.HEALTHY, "own": Health.HEALTHY}

    async def scene() -> None:
        mine, other = (
            Enlisting(registry, (SHARED, OWN), tenants=(ACME,), fence=fence, health=lambda one: how[one.name])
            for fence in (MINE, OTHER)
        )
        assert (await mine.enlist(), await other.enlist()) == (2, 0)
        how["own"] = Health.UNHEALTHY
        assert (await other.enlist(), await mine.enlist(), await mine.enlist()) == (0, 1, 0)
        assert [one.id for one in await registry.find(ACME, Query(health=Health.UNHEALTHY))] == ["own"]
        assert await registry.revision(ACME) == 3

    asyncio.run(scene())


def test_node_takes_its_agent_over_at_a_heartbeat_when_the_node_that_served_it_is_gone(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(nodes, "HEARTBEAT_S", 0.01)
    (tmp_path / "workspace").mkdir()
    blueprint = Blueprint(
        data=tmp_path / "data", workspace=tmp_path / "workspace", tenants=(ACME,), principals=(), agents=(SHARED,)
    )

    async def owner(node: nodes.Node) -> str:
        (told,) = await node.registry.changes(ACME, after=0, limit=2)
        return told.entry.owner.node if told.entry else ""

    async def scene() -> None:
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(open_node(blueprint))
            async with open_node(blueprint) as second:
                assert await owner(second) == first.id
                await stack.aclose()
                async with asyncio.timeout(10):
                    while await owner(second) != second.id:
                        pass

    asyncio.run(scene())


def test_sweep_stops_after_its_batches_and_goes_on_at_the_next_heartbeat(monkeypatch) -> None:
    monkeypatch.setattr(enlisting, "SWEPT_MAX", 2)
    monkeypatch.setattr(enlisting, "SWEEPS_MAX", 2)
    held = {MINE, OTHER}
    registry = MemoryRegistry(schema=AGENT_SCHEMA, holds=held.__contains__)

    async def scene() -> list[int]:
        agents = [AgentDefinition(name=f"a{n}", models=()) for n in range(7)]
        await Enlisting(registry, agents, tenants=(ACME, GLOBEX), fence=OTHER, health=well).enlist()
        sweeping = Enlisting(registry, (), tenants=(ACME,), fence=MINE, health=well)
        swept = [await sweeping.sweep()]
        held.discard(OTHER)
        return swept + [await sweeping.sweep() for _ in range(3)]

    assert asyncio.run(scene()) == [0, 4, 3, 0]
    assert asyncio.run(registry.revision(GLOBEX)) == 7, "that tenant is not this node's"


SERVES = """
import asyncio, sys
from pathlib import Path
from assent.bootstrap.node import Blueprint, open_node
from assent.reasoning.agents import AgentDefinition

async def serve(folder):
    shared = AgentDefinition(name="shared", models=("play:it",))
    blueprint = Blueprint(
        data=folder / "data", workspace=folder / "workspace", tenants=("acme",), principals=(), agents=(shared,)
    )
    async with open_node(blueprint) as node:
        print(node.id, flush=True)
        await asyncio.Event().wait()

asyncio.run(serve(Path(sys.argv[1])))
"""


@pytest.mark.slow
def test_agent_of_a_killed_process_is_taken_over_at_once_when_a_node_opens_on_the_same_machine(tmp_path: Path) -> None:
    (tmp_path / "workspace").mkdir()
    blueprint = Blueprint(
        data=tmp_path / "data", workspace=tmp_path / "workspace", tenants=(ACME,), principals=(), agents=(SHARED,)
    )

    async def owner() -> tuple[str, str]:
        async with open_node(blueprint) as node:
            found = await node.registry.get(ACME, "shared")
            return (found.owner.node if found else "", node.id)

    with subprocess.Popen([sys.executable, "-c", SERVES, str(tmp_path)], stdout=subprocess.PIPE, text=True) as serving:
        try:
            assert serving.stdout is not None
            name = serving.stdout.readline().strip()
            assert asyncio.run(owner())[0] == name
        finally:
            serving.kill()
    served, mine = asyncio.run(owner())
    assert served == mine
