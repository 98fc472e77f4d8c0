"""Both registries pass one suite, and agree with a plain dictionary whatever is done to them."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from assent.ledger.adapters.sqlite import SqliteLedger
from assent.ledger.adapters.sqlite_agents import SqliteRegistry
from assent.ledger.commands import ReleaseLease, TakeLease
from assent.primitives.errors import Conflict, Unavailable
from assent.primitives.leases import SYSTEM, Fence
from assent.reasoning.agents import AgentDefinition, agent_faults
from assent.registry.adapters.memory import MemoryRegistry
from assent.registry.agents import Entry, Health, Query, Schema, fits
from assent.registry.ports import Registry
from assent.testing.conformance.registries import (
    ACME,
    GLOBEX,
    MINE,
    OTHER,
    SCHEMA,
    RegistryConformance,
    RegistryWorld,
    entry,
)
from assent.testing.ledgers import LedgerFolder


def in_memory(schema: Schema = SCHEMA) -> RegistryWorld:
    held = {MINE, OTHER}
    return RegistryWorld(MemoryRegistry(schema=schema, holds=held.__contains__), held.discard, asyncio.run)


def in_sqlite(store: SqliteLedger) -> RegistryWorld:
    def lapse(fence: Fence) -> None:
        asyncio.run(store.apply(ReleaseLease(tenant=SYSTEM, fence=fence)))

    for fence in (MINE, OTHER):
        asyncio.run(store.apply(TakeLease(tenant=SYSTEM, fence=fence, ttl_ms=60_000)))
    return RegistryWorld(SqliteRegistry(store, schema=SCHEMA), lapse, asyncio.run)


class TestMemoryRegistry(RegistryConformance):
    @pytest.fixture
    def world(self) -> RegistryWorld:
        return in_memory()


class TestSqliteRegistry(RegistryConformance):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[RegistryWorld]:
        with LedgerFolder(tmp_path).opened() as store:
            yield in_sqlite(store)


IDS = st.sampled_from(["a", "b", "c", "d"])
TENANTS = st.sampled_from([ACME, GLOBEX])
FENCES = st.sampled_from([MINE, OTHER])
ENTRIES = st.builds(
    lambda id_, tenant, capabilities, health, floor: entry(
        id_, *sorted(capabilities), tenant=tenant, health=health, **({} if floor is None else {"floor": floor})
    ),
    IDS, TENANTS, st.sets(st.sampled_from(["read", "write"])), st.sampled_from(Health), st.none() | st.integers(0, 2),
)  # fmt: skip


QUERIES = st.builds(
    lambda capabilities, health, floor, after, limit: Query(
        capabilities=tuple(sorted(capabilities)), health=health, after=after, limit=limit,
        fields={} if floor is None else {"floor": floor},
    ),
    st.sets(st.sampled_from(["read", "write"])), st.none() | st.sampled_from(Health), st.none() | st.integers(0, 2),
    st.just("") | IDS, st.integers(1, 5),
)  # fmt: skip


class Registries(RuleBasedStateMachine):
    """Memory, SQLite and a dictionary, told the same."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.opened = LedgerFolder(Path(self.folder.name)).opened()
        self.worlds = [in_memory(), in_sqlite(self.opened.__enter__())]
        self.model: dict[tuple[Any, str], Entry] = {}
        self.held = {MINE, OTHER}

    def teardown(self) -> None:
        self.opened.__exit__(None, None, None)
        self.folder.cleanup()

    def both(self, call: Any) -> list[str]:
        """Do it to both; what each refused it for."""
        codes = []
        for world in self.worlds:
            try:
                asyncio.run(call(world.registry))
                codes.append("")
            except (Conflict, Unavailable) as error:
                codes.append(error.code)
        return codes

    def expected(self, places: list[tuple[Any, str]], fence: Fence) -> str:
        if fence not in self.held:
            return "lease_lost"
        taken = [self.model[place].owner for place in places if place in self.model]
        return "entry_held" if any(owner != fence and owner in self.held for owner in taken) else ""

    @rule(one=ENTRIES, fence=FENCES)
    def put(self, one: Entry, fence: Fence) -> None:
        expected = self.expected([(one.tenant, one.id)], fence)
        assert self.both(lambda registry: registry.put([one], fence=fence)) == [expected] * 2
        if not expected:
            self.model[one.tenant, one.id] = msgspec.structs.replace(one, owner=fence)

    @rule(id_=IDS, tenant=TENANTS, fence=FENCES)
    def drop(self, id_: str, tenant: Any, fence: Fence) -> None:
        expected = self.expected([(tenant, id_)], fence)
        assert self.both(lambda registry: registry.drop(tenant, [id_], fence=fence)) == [expected] * 2
        if not expected:
            self.model.pop((tenant, id_), None)

    @rule(fence=FENCES)
    def lapse(self, fence: Fence) -> None:
        if len(self.held) == 2:
            self.held.discard(fence)
            for world in self.worlds:
                world.lapse(fence)

    @rule(tenant=TENANTS, query=QUERIES)
    def find(self, tenant: Any, query: Query) -> None:
        expected = [
            one.id
            for (of, id_), one in sorted(self.model.items(), key=lambda pair: pair[0][1])
            if of == tenant and id_ > query.after and one.owner in self.held and fits(one, query)
        ][: query.limit]
        for world in self.worlds:
            assert [one.id for one in asyncio.run(world.registry.find(tenant, query))] == expected

    @invariant()
    def every_one_is_there_for_itself(self) -> None:
        for (tenant, id_), one in self.model.items():
            for world in self.worlds:
                found = asyncio.run(world.registry.get(tenant, id_))
                assert (found is not None) == (one.owner in self.held)


TestRegistriesAgree = Registries.TestCase
TestRegistriesAgree.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestRegistriesAgree.pytestmark = [pytest.mark.slow]  # type: ignore[attr-defined]


def test_registry_is_the_port(tmp_path: Path) -> None:
    found: Registry = in_memory().registry
    assert found is not None


def test_agent_with_capabilities_that_the_registry_refuses_is_malformed() -> None:
    faults = agent_faults(AgentDefinition(name="one", models=("a:b",), capabilities=("Read Files", "a", "a")))
    assert [field for field, _ in faults] == ["capabilities", "capabilities"]
