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
from assent.ledger.commands import ReleaseLease, RenewLease, TakeLease
from assent.primitives.errors import Conflict, Unavailable
from assent.primitives.leases import SYSTEM, Fence
from assent.reasoning.agents import AgentDefinition, agent_faults
from assent.registry.adapters.memory import MemoryRegistry
from assent.registry.agents import Entry, Health, Query, fits
from assent.registry.ports import Registry
from assent.testing.clocks import SetClock
from assent.testing.conformance.registries import (
    ACME,
    GLOBEX,
    KEPT,
    MINE,
    OTHER,
    SCHEMA,
    TTL_MS,
    RegistryConformance,
    RegistryWorld,
    entry,
)
from assent.testing.ledgers import LedgerFolder

NEVER_S = 3_600.0


class Leases:
    """Leases as a node takes them, on a clock of their own."""

    def __init__(self) -> None:
        self.clock = SetClock()
        self._until = dict.fromkeys((MINE, OTHER), self.clock.now_ms() + TTL_MS)

    def holds(self, fence: Fence) -> bool:
        return self._until[fence] > self.clock.now_ms()

    def renew(self, fence: Fence) -> None:
        self._until[fence] = self.clock.now_ms() + TTL_MS

    def lapse(self, fence: Fence) -> None:
        self._until[fence] = 0


def in_memory() -> RegistryWorld:
    leases = Leases()
    registry = MemoryRegistry(schema=SCHEMA, holds=leases.holds, revisions_kept=KEPT, poll_s=NEVER_S)
    return RegistryWorld(registry, leases.lapse, asyncio.run, leases.clock.pass_ms, leases.renew)


def in_sqlite(store: SqliteLedger, clock: SetClock) -> RegistryWorld:
    def lapse(fence: Fence) -> None:
        asyncio.run(store.apply(ReleaseLease(tenant=SYSTEM, fence=fence)))

    def renew(fence: Fence) -> None:
        assert asyncio.run(store.apply(RenewLease(tenant=SYSTEM, fence=fence, ttl_ms=TTL_MS)))

    for fence in (MINE, OTHER):
        asyncio.run(store.apply(TakeLease(tenant=SYSTEM, fence=fence, ttl_ms=TTL_MS)))
    registry = SqliteRegistry(store, schema=SCHEMA, revisions_kept=KEPT, poll_s=NEVER_S)
    return RegistryWorld(registry, lapse, asyncio.run, clock.pass_ms, renew)


class TestMemoryRegistry(RegistryConformance):
    @pytest.fixture
    def world(self) -> RegistryWorld:
        return in_memory()


class TestSqliteRegistry(RegistryConformance):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[RegistryWorld]:
        clock = SetClock()
        with LedgerFolder(tmp_path, clock=clock).opened() as store:
            yield in_sqlite(store, clock)


IDS = st.sampled_from(["a", "b", "c", "d"])
TENANTS = st.sampled_from([ACME, GLOBEX])
FENCES = st.sampled_from([MINE, OTHER])
ENTRIES = st.builds(
    lambda id_, tenant, capabilities, health, floor, tools: entry(
        id_, *sorted(capabilities), tenant=tenant, health=health, tools=tuple(sorted(tools)),
        **({} if floor is None else {"floor": floor}),
    ),
    IDS, TENANTS, st.sets(st.sampled_from(["read", "write"])), st.sampled_from(Health), st.none() | st.integers(0, 2),
    st.sets(st.sampled_from(["a", "b"])),
)  # fmt: skip


QUERIES = st.builds(
    lambda capabilities, health, floor, tools, after, limit: Query(
        capabilities=tuple(sorted(capabilities)), health=health, after=after, limit=limit,
        fields={**({} if floor is None else {"floor": floor}), **({} if tools is None else {"tools": tools})},
    ),
    st.sets(st.sampled_from(["read", "write"])), st.none() | st.sampled_from(Health), st.none() | st.integers(0, 2),
    st.none() | st.sampled_from(["a", ("b",), ("a", "b")]), st.just("") | IDS, st.integers(1, 5),
)  # fmt: skip


class Registries(RuleBasedStateMachine):
    """Memory, SQLite and a dictionary, told the same. A watcher of each holds what it was told of `ACME`."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        clock = SetClock()
        self.opened = LedgerFolder(Path(self.folder.name), clock=clock).opened()
        self.worlds = [in_memory(), in_sqlite(self.opened.__enter__(), clock)]
        self.model: dict[tuple[Any, str], Entry] = {}
        self.until = {MINE: TTL_MS, OTHER: TTL_MS}
        self.now = 0
        self.watched = [Watcher(world.registry) for world in self.worlds]

    @property
    def held(self) -> set[Fence]:
        return {fence for fence, until in self.until.items() if until > self.now}

    def teardown(self) -> None:
        self.opened.__exit__(None, None, None)
        self.folder.cleanup()

    def both(self, call: Any) -> list[Any]:
        """Do it to both; what each refused it for, or what came of it."""
        results = []
        for world in self.worlds:
            try:
                results.append(asyncio.run(call(world.registry)))
            except (Conflict, Unavailable) as error:
                results.append(error.code)
        return results

    def same(self, call: Any, expected: str) -> Any:
        """Do it to both, and see that it is refused for `expected`, or that the same comes of it."""
        one, other = self.both(call)
        assert one == other
        assert isinstance(one, str) == bool(expected)
        assert not expected or one == expected
        return one

    def expected(self, places: list[tuple[Any, str]], fence: Fence) -> str:
        if fence not in self.held:
            return "lease_lost"
        taken = [self.model[place].owner for place in places if place in self.model]
        return "entry_held" if any(owner != fence and owner in self.held for owner in taken) else ""

    @rule(one=ENTRIES, fence=FENCES)
    def put(self, one: Entry, fence: Fence) -> None:
        expected = self.expected([(one.tenant, one.id)], fence)
        self.same(lambda registry: registry.put([one], fence=fence), expected)
        if not expected:
            self.model[one.tenant, one.id] = msgspec.structs.replace(one, owner=fence)

    @rule(id_=IDS, tenant=TENANTS, fence=FENCES)
    def drop(self, id_: str, tenant: Any, fence: Fence) -> None:
        expected = self.expected([(tenant, id_)], fence)
        self.same(lambda registry: registry.drop(tenant, [id_], fence=fence), expected)
        if not expected:
            self.model.pop((tenant, id_), None)

    @rule(fence=FENCES)
    def lapse(self, fence: Fence) -> None:
        if len(self.held) == 2:
            self.until[fence] = 0
            for world in self.worlds:
                world.lapse(fence)

    @rule(fence=FENCES, ms=st.sampled_from([1, TTL_MS // 2, TTL_MS - 1]))
    def time_passes_and_one_renews(self, fence: Fence, ms: int) -> None:
        if fence not in self.held:
            return
        self.until[fence] = self.now + TTL_MS
        self.now += ms
        for world in self.worlds:
            world.renew(fence)
            world.pass_ms(ms)

    @rule(tenant=TENANTS, fence=FENCES)
    def sweep(self, tenant: Any, fence: Fence) -> None:
        expected = "" if fence in self.held else "lease_lost"
        swept = self.same(lambda registry: registry.sweep(tenant, limit=100, fence=fence), expected)
        if not expected:
            dead = [at for at, one in self.model.items() if at[0] == tenant and one.owner not in self.held]
            assert swept == len(dead)
            for place in dead:
                del self.model[place]

    @rule(tenant=TENANTS, query=QUERIES)
    def find(self, tenant: Any, query: Query) -> None:
        expected = [
            one.id
            for (of, id_), one in sorted(self.model.items(), key=lambda pair: pair[0][1])
            if of == tenant and id_ > query.after and one.owner in self.held and fits(one, query)
        ][: query.limit]
        for world in self.worlds:
            assert [one.id for one in asyncio.run(world.registry.find(tenant, query))] == expected

    @rule(limit=st.integers(1, 3))
    def watchers_look(self, limit: int) -> None:
        first, second = self.watched
        assert asyncio.run(first.look(limit)) == asyncio.run(second.look(limit))
        for watcher in self.watched:
            there = {id_ for (of, id_), one in self.model.items() if of == ACME and one.owner in self.held}
            assert there <= watcher.known, "one was missed"
            assert watcher.known <= {id_ for of, id_ in self.model if of == ACME}, "a death that was swept was missed"

    @invariant()
    def every_one_is_there_for_itself(self) -> None:
        for (tenant, id_), one in self.model.items():
            for world in self.worlds:
                found = asyncio.run(world.registry.get(tenant, id_))
                assert (found is not None) == (one.owner in self.held)


class Watcher:
    """Somebody who holds what is told of a tenant's registry, and reads anew when too much was missed."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._after = 0
        self.known: set[str] = set()

    async def look(self, limit: int) -> list[tuple[int, str, bool]]:
        told: list[tuple[int, str, bool]] = []
        try:
            while changes := await self._registry.changes(ACME, after=self._after, limit=limit):
                for one in changes:
                    self._after = one.revision
                    (self.known.add if one.entry else self.known.discard)(one.id)
                    told.append((one.revision, one.id, one.entry is not None))
        except Conflict:
            self._after = await self._registry.revision(ACME)
            self.known = {one.id for one in await self._registry.find(ACME, Query())}
            told.append((self._after, "anew", True))
        return told


TestRegistriesAgree = Registries.TestCase
TestRegistriesAgree.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestRegistriesAgree.pytestmark = [pytest.mark.slow]  # type: ignore[attr-defined]


def test_registry_is_the_port(tmp_path: Path) -> None:
    found: Registry = in_memory().registry
    assert found is not None


def test_agent_with_capabilities_that_the_registry_refuses_is_malformed() -> None:
    faults = agent_faults(AgentDefinition(name="one", models=("a:b",), capabilities=("Read Files", "a", "a")))
    assert [field for field, _ in faults] == ["capabilities", "capabilities"]
