"""The tenant canary: every method of every port that takes a tenant, tried with another tenant's ids.

Use cases are tried in `test_tenant_use_cases`, on a whole node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from assent.bootstrap.remembering import WorkspaceNotes
from assent.execution.attestations import ConfinementClass
from assent.execution.guests import Ticket
from assent.execution.orders import ProcessOrder
from assent.ledger import commands
from assent.ledger.adapters.sqlite_agents import SqliteRegistry
from assent.ledger.adapters.sqlite_guests import SqliteGuests
from assent.memory.adapters.memory import InProcessMemory
from assent.memory.adapters.notes import DeclaredNotes
from assent.memory.fragments import Fragment, Question
from assent.memory.ports import Memory
from assent.primitives.ids import EffectId, GrantId, TenantId
from assent.primitives.labels import Label
from assent.primitives.leases import SYSTEM, Fence
from assent.registry.adapters.memory import MemoryRegistry
from assent.registry.agents import Entry, Query
from assent.registry.ports import Registry
from assent.testing.clocks import SetClock
from assent.testing.conformance.registries import MINE, OTHER, SCHEMA
from assent.testing.desks import ACME, GLOBEX
from assent.testing.ledgers import LedgerFolder
from tests.attacks.tenancy import (
    CANARY,
    Try,
    first_of,
    must_be_known,
    must_learn_nothing,
    rows_of,
    taking_a_tenant,
)
from tests.attacks.test_tenant_ledger import READS

EXEMPT = {
    "LedgerStore.apply": "every command is tried by itself, in `test_tenant_ledger`",
    "Target.lane": "the grant that it is given was sealed for one tenant, and is verified before anything is carried",
}


class RegistryScene:
    """A registry in which the owner has agents, one of them of a node that is dead."""

    def __init__(self, registry: Registry, lapse: Callable[[Fence], Awaitable[Any]]) -> None:
        self.registry, self._lapse = registry, lapse
        self.ids = {one: f"{CANARY}-{one}" for one in ("agent", "unwanted", "orphan")}
        self.here = ""

    async def furnish(self) -> RegistryScene:
        await self.registry.put([self.entry(ACME, self.ids[one]) for one in ("agent", "unwanted")], fence=MINE)
        await self.registry.put([self.entry(ACME, self.ids["orphan"], owner=OTHER)], fence=OTHER)
        await self._lapse(OTHER)
        await self.size()
        return self

    def entry(self, tenant: TenantId, id_: str, *, owner: Fence = MINE, team: str = CANARY) -> Entry:
        return Entry(tenant=tenant, id=id_, owner=owner, capabilities=(team,), fields={"team": team})

    async def own(self, tenant: TenantId) -> int:
        return await self.registry.put([self.entry(tenant, "own", team="own")], fence=MINE)

    async def drop_namesake(self, tenant: TenantId, id_: str) -> int:
        """Put an entry of the same id that is found by the same, and take it out again."""
        await self.registry.put([self.entry(tenant, id_)], fence=MINE)
        return await self.registry.drop(tenant, [id_], fence=MINE)

    async def size(self) -> int:
        all_ = await self.registry.find(ACME, Query())
        self.here = repr([all_, await self.registry.find(ACME, Query(fields={"team": CANARY}))])
        return await self.registry.revision(ACME)

    def rows(self) -> Any:
        return self.here  # as `size` has just found it


REGISTRY: Mapping[str, Try] = {
    "get": Try(lambda s, t, of: s.registry.get(t, of["agent"])),
    "find": Try(lambda s, t, of: s.registry.find(t, Query(fields={"team": CANARY})), names=False),
    "changes": Try(lambda s, t, of: s.registry.changes(t, after=0, limit=9), names=False),
    "revision": Try(lambda s, t, of: s.registry.revision(t), names=False),
    "drop": Try(lambda s, t, of: s.registry.drop(t, [of["unwanted"]], fence=MINE)),
    "sweep": Try(lambda s, t, of: s.registry.sweep(t, limit=9, fence=MINE), names=False),
    "put": Try(lambda s, t, of: s.own(t), names=False),
    "watch": Try(lambda s, t, of: first_of(s.registry.watch(t, after=0)), names=False),  # the stranger: of its own
}


NAMESAKES: Mapping[str, Try] = {
    "drop what is called the same": Try(lambda s, t, of: s.drop_namesake(t, of["agent"]), names=False),
}


class GuestScene:
    """A book with tickets of the owner's, for a guest that works for both tenants."""

    def __init__(self, folder: LedgerFolder, book: SqliteGuests, clock: SetClock) -> None:
        self.book, self._folder, self._clock = book, folder, clock
        self.ids = {one: f"gra_{number:027x}0" for number, one in enumerate(("waiting", "claimed", "unwanted", "new"))}
        self.fence = 0

    async def furnish(self) -> GuestScene:
        assert await self.book.invite(name="lab", secret="secret", ttl_ms=1_000, guests_max=8)
        assert await self.book.admit(name="lab", secret="secret", key="key")
        self.fence = await self.book.arrive(
            name="lab", key="key", offers=b"[]", signature=b"", lanes=("process",), ttl_ms=60_000
        )
        for one in ("waiting", "claimed", "unwanted"):
            await self.write(ACME, self.ids[one])
        assert await self.claim(ACME, self.ids["claimed"])
        return self

    async def write(self, tenant: TenantId, id_: str) -> None:
        now_ms = self._clock.now_ms()
        ticket = Ticket(
            id=GrantId(id_), tenant=tenant, effect=EffectId("eff_" + "0" * 28), attempt=1, guest="lab",
            order=ProcessOrder(argv=("true",), workspace="/w"), floor=ConfinementClass.NAMESPACED, fence=MINE,
            issued_at_ms=now_ms, expires_at_ms=now_ms + 30_000,
        )  # fmt: skip
        await self.book.write(ticket, data=CANARY.encode(), signature=b"signed")

    async def claim(self, tenant: TenantId, id_: str) -> Any:
        return await self.book.claim(tenant, GrantId(id_), guest="lab", fence=self.fence)

    async def end(self, tenant: TenantId, id_: str) -> Any:
        return await self.book.end(
            tenant, GrantId(id_), guest="lab", fence=self.fence, outcome=b"done", signature=b"signed"
        )

    async def size(self) -> int:
        tickets = self.rows()["guest_tickets"]
        return len(tickets) + sum("withdrawn" in one for one in tickets)

    def rows(self) -> Any:
        return rows_of(self._folder.database, ACME)


GUESTS: Mapping[str, Try] = {
    "standing": Try(lambda s, t, of: s.book.standing(t, of["waiting"])),
    "claim": Try(lambda s, t, of: s.claim(t, of["waiting"])),
    "end": Try(lambda s, t, of: s.end(t, of["claimed"])),
    "forsake": Try(lambda s, t, of: s.book.forsake(t, of["unwanted"])),
    "write": Try(lambda s, t, of: s.write(t, of["new" if t == ACME else "waiting"])),
}


class MemoryScene:
    """Something that remembers for the owner alone."""

    ids: Mapping[str, str] = {}

    def __init__(self, memory: Memory) -> None:
        self.memory = memory

    async def recall(self, tenant: TenantId) -> Any:
        return await self.memory.recall(
            Question(tenant=tenant, reader="", query="tea", sources=("**",), now_ms=1_800_000_000_000)
        )

    async def size(self) -> int:
        return 0

    def rows(self) -> Any:
        return None


MEMORY: Mapping[str, Try] = {"recall": Try(lambda s, t, of: s.recall(t), names=False)}
TRIED = {"LedgerStore": READS, "Registry": REGISTRY, "GuestBook": GUESTS, "Memory": MEMORY}


@pytest.mark.slow
def test_canary_knows_every_method_of_every_port():
    found = taking_a_tenant(where=lambda module: module.endswith(".ports"))
    must_be_known(found, {f"{port}.{name}" for port, tries in TRIED.items() for name in tries}, EXEMPT)


def test_canary_says_which_method_it_does_not_know():
    with pytest.raises(AssertionError, match=r"does not know \['Runs.new'\]"):
        must_be_known({"Runs.old", "Runs.new", "Pure.rule"}, {"Runs.old"}, {"Pure": "it decides nothing"})
    with pytest.raises(AssertionError, match="take no tenant"):
        must_be_known({"Runs.old"}, {"Runs.old", "Runs.gone"}, {})


def test_nothing_of_a_tenant_is_told_to_another_by_a_registry_in_memory():
    async def body() -> None:
        holding = {MINE, OTHER}

        async def lapse(fence: Fence) -> None:
            holding.discard(fence)

        registry = MemoryRegistry(schema=SCHEMA, holds=holding.__contains__)
        await must_learn_nothing(
            await RegistryScene(registry, lapse).furnish(), {**REGISTRY, **NAMESAKES}, owner=ACME, stranger=GLOBEX
        )

    asyncio.run(body())


@pytest.mark.slow
def test_nothing_of_a_tenant_is_told_to_another_by_a_registry_in_a_database(tmp_path):
    async def body() -> None:
        with LedgerFolder(tmp_path).opened() as store:
            for fence in (MINE, OTHER):
                await store.apply(commands.TakeLease(tenant=SYSTEM, fence=fence, ttl_ms=60_000))
            scene = RegistryScene(
                SqliteRegistry(store, schema=SCHEMA),
                lambda fence: store.apply(commands.ReleaseLease(tenant=SYSTEM, fence=fence)),
            )
            await must_learn_nothing(await scene.furnish(), {**REGISTRY, **NAMESAKES}, owner=ACME, stranger=GLOBEX)

    asyncio.run(body())


@pytest.mark.slow
def test_nothing_of_a_tenant_is_told_to_another_by_the_book_of_guests_and_no_ticket_moves(tmp_path):
    clock = SetClock()
    folder = LedgerFolder(tmp_path, clock=clock)

    async def body() -> None:
        with folder.opened() as store:
            await store.apply(commands.TakeLease(tenant=SYSTEM, fence=MINE, ttl_ms=60_000))
            scene = await GuestScene(folder, SqliteGuests(store), clock).furnish()
            await must_learn_nothing(scene, GUESTS, owner=ACME, stranger=GLOBEX)

    asyncio.run(body())


def test_nothing_that_is_remembered_for_a_tenant_is_recalled_for_another(tmp_path):
    kept = InProcessMemory()
    kept.keep(
        Fragment(tenant=ACME, place="tea.md", source="one", text=f"tea {CANARY}", label=Label(), recorded_at_ms=1)
    )
    (tmp_path / "tea.md").write_text(f"tea {CANARY}")
    for memory in (kept, DeclaredNotes(WorkspaceNotes(tmp_path), tenants=[ACME])):
        asyncio.run(must_learn_nothing(MemoryScene(memory), MEMORY, owner=ACME, stranger=GLOBEX))
