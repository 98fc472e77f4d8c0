"""A hub and guests in this process, over a real database and real TLS on loopback, with real sandboxes behind them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from assent.bootstrap.system import SystemClock, SystemEntropy
from assent.execution.adapters.artefacts import ArtefactFolder
from assent.execution.adapters.guest import Authority, GuestNode, GuestTarget, Hub, Membership, join
from assent.execution.adapters.guest.session import News
from assent.execution.adapters.guest.spent import Spent
from assent.execution.adapters.guest.work import Work
from assent.execution.adapters.local import LocalTarget
from assent.execution.adapters.process import ProcessLane
from assent.execution.attestations import ConfinementClass
from assent.execution.grants import GrantBody
from assent.execution.guests import Ended
from assent.execution.obligations import Obligations
from assent.execution.orders import Order, ProcessOrder, order_digest
from assent.execution.outcomes import Outcome
from assent.execution.ports import Lane, OnEvent, Steering
from assent.ledger.adapters.sqlite import SqliteLedger
from assent.ledger.adapters.sqlite_guests import SqliteGuests
from assent.ledger.commands import TakeLease
from assent.primitives.digests import Digest
from assent.primitives.ids import EffectId, IdSource, TenantId
from assent.primitives.leases import SYSTEM, Fence
from assent.testing.ledgers import LedgerFolder

ACME = TenantId("acme")
CLOCK, ENTROPY = SystemClock(), SystemEntropy()
LEASE_MS = 4_000


class House:
    """An asker's side with its hub. `news` and `late` is what the hub told; `heard` what guests did."""

    def __init__(self, folder: Path, store: SqliteLedger, port: int, sandbox: Path) -> None:
        self.folder, self.store, self.port, self.sandbox = folder, store, port, sandbox
        self.book = SqliteGuests(store)
        self.authority = Authority(folder / "keys", clock=CLOCK)
        self.ids = IdSource(CLOCK, ENTROPY)
        self.fence = Fence(node=self.ids.node(), number=1)
        self.heard: list[News] = []
        self.address = f"127.0.0.1:{port}"

    async def invited(self, name: str = "lab") -> str:
        """A token for `name`."""
        secret = ENTROPY(16).hex()
        digest = self.authority.digest(secret)
        assert await self.book.invite(name=name, secret=digest, ttl_ms=60_000, guests_max=8)
        return self.authority.token(name=name, secret=secret)

    async def joined(self, name: str = "lab") -> Membership:
        """A new member, with its folder."""
        return await join(self.folder / f"guest-{name}", hub=self.address, token=await self.invited(name))

    @asynccontextmanager
    async def serving(
        self, member: Membership, *, least: ConfinementClass = ConfinementClass.NAMESPACED, lane: Lane | None = None
    ) -> AsyncIterator[Work]:
        """A guest that serves for the length of the block."""
        home = self.folder / f"guest-{member.name}"
        (home / "workspace").mkdir(exist_ok=True)
        artefacts = ArtefactFolder(home / "artefacts", entropy=ENTROPY)
        process = ProcessLane(clock=CLOCK, state_dir=self.sandbox, artefacts=artefacts, mechanism="namespaces")
        target = LocalTarget(lanes={ProcessOrder: lane or process}, clock=CLOCK, probe=process.offers)
        spent = Spent(home / "spent", now_ms=CLOCK.now_ms())
        work = Work(
            membership=member, target=target, workspace=home / "workspace", least=least, spent=spent,
            artefact=artefacts.path, clock=CLOCK, tell=self.heard.append,
        )  # fmt: skip
        node = GuestNode(membership=member, target=target, work=work, clock=CLOCK, tell=self.heard.append)
        before = await self.book.guest(member.name)
        serving = asyncio.ensure_future(node.serve(hub=self.address))
        try:
            await self.until_alive(member.name, but=before.fence if before else 0)
            yield work
        finally:
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving
            await work.stop()
            await target.close()
            await process.close()
            spent.close()

    async def until_alive(self, name: str, *, but: int) -> None:
        """Wait until it serves under another fence than `but`."""
        async with asyncio.timeout(60):
            while not (guest := await self.book.guest(name)) or not guest.alive or guest.fence == but:  # noqa: ASYNC110 (a row)
                await asyncio.sleep(0.02)

    def target(self, name: str = "lab", *, trusted: bool = False) -> GuestTarget:
        """The guest as the asker has it."""
        return GuestTarget(
            name=name, trusted=trusted, book=self.book, sign=self.authority.sign_ticket, hub_folder=self.folder,
            clock=CLOCK,
        )  # fmt: skip

    def body(self, order: Order, name: str = "lab") -> GrantBody:
        """What a grant for `order` says."""
        now_ms = CLOCK.now_ms()
        return GrantBody(
            id=self.ids.grant(), tenant=ACME, effect=EffectId(self.ids.effect()), attempt=1, intent=Digest("x"),
            order=order_digest(order), policy_revision="r", target=name, obligations=Obligations(), fence=self.fence,
            issued_at_ms=now_ms, expires_at_ms=now_ms + 60_000,
        )  # fmt: skip

    async def carry(
        self, order: Order, *, floor: ConfinementClass = ConfinementClass.REMOTE_ASSERTED, trusted: bool = False,
        on_event: OnEvent = lambda _event: None, steering: Steering | None = None,
    ) -> Outcome:  # fmt: skip
        """Carry an order on the guest, as the executor would."""
        lane = self.target(trusted=trusted).lane(order, under=self.body(order))
        assert lane is not None
        return await lane.carry(order, floor=floor, on_event=on_event, steering=steering)


class GrantedLane:
    """A guest's lane for any number of orders: each is carried under a grant of its own."""

    def __init__(self, house: House, kind: str = "process") -> None:
        self._house = house
        self.name = kind
        self.capabilities = house.target().lanes()[kind].capabilities

    async def carry(
        self, order: Order, *, floor: ConfinementClass, on_event: OnEvent, steering: Steering | None = None
    ) -> Outcome:
        lane = self._house.target().lanes()[self.name]
        if isinstance(order, ProcessOrder):
            found = self._house.target().lane(order, under=self._house.body(order))
            assert found is not None
            lane = found
        return await lane.carry(order, floor=floor, on_event=on_event, steering=steering)

    async def close(self) -> None: ...


@asynccontextmanager
async def opened_house(folder: Path, *, sandbox: Path, lease_ms: int = LEASE_MS) -> AsyncIterator[House]:
    """A house with its hub."""
    async with AsyncExitStack() as stack:
        store = stack.enter_context(LedgerFolder(folder, clock=CLOCK).opened())
        told: list[News] = []

        async def late(_ended: Ended) -> None:
            told.append(News(what="late"))

        authority = Authority(folder / "keys", clock=CLOCK)
        hub = Hub(
            book=SqliteGuests(store), authority=authority, artefacts=ArtefactFolder(folder / "kept", entropy=ENTROPY),
            lease_ms=lease_ms, tell=told.append, on_late=late,
        )  # fmt: skip
        port = await stack.enter_async_context(hub.open(host="127.0.0.1", port=0, folder=folder))
        house = House(folder, store, port, sandbox)
        house.heard = told
        await store.apply(TakeLease(tenant=SYSTEM, fence=house.fence, ttl_ms=600_000))
        yield house
