"""Tickets in the database: one claim wins, a lapsed lease loses, and what comes late changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from assent.execution.attestations import ConfinementClass
from assent.execution.guests import Ticket, TicketState
from assent.execution.orders import ProcessOrder
from assent.ledger.adapters.sqlite_guests import KEEP_MS, SqliteGuests
from assent.ledger.commands import FenceOut, ReleaseLease, TakeLease
from assent.primitives.errors import InvariantBroken
from assent.primitives.ids import EffectId, GrantId, NodeId, TenantId
from assent.primitives.leases import SYSTEM, Fence
from assent.testing.clocks import SetClock
from assent.testing.ledgers import LedgerFolder

ACME = TenantId("acme")
ASKER = Fence(node=NodeId("nod_" + "a" * 28), number=1)
TTL_MS, LEASE_MS = 30_000, 10_000


class Desk:
    """A database with an asker that has its lease, and guests."""

    def __init__(self, folder: LedgerFolder, book: SqliteGuests) -> None:
        self.folder, self.book = folder, book
        assert isinstance(folder.clock, SetClock)
        self.clock = folder.clock

    async def joined(self, name: str = "lab") -> int:
        assert await self.book.invite(name=name, secret="s" + name, ttl_ms=1_000, guests_max=8)
        assert await self.book.admit(name=name, secret="s" + name, key="k" + name)
        return await self.arrive(name)

    async def arrive(self, name: str = "lab", key: str = "") -> int:
        return await self.book.arrive(
            name=name, key=key or "k" + name, offers=b"[]", signature=b"", lanes=("process",), ttl_ms=LEASE_MS
        )

    async def written(self, number: int = 1, guest: str = "lab") -> GrantId:
        now_ms = self.clock.now_ms()
        ticket = Ticket(
            id=GrantId(f"gra_{number:028x}"), tenant=ACME, effect=EffectId("eff_" + "0" * 28), attempt=1, guest=guest,
            order=ProcessOrder(argv=("true",), workspace="/w"), floor=ConfinementClass.NAMESPACED, fence=ASKER,
            issued_at_ms=now_ms, expires_at_ms=now_ms + TTL_MS,
        )  # fmt: skip
        await self.book.write(ticket, data=b"ticket", signature=b"signed")
        return ticket.id

    async def claim(self, ticket: GrantId, fence: int, guest: str = "lab") -> bool:
        return await self.book.claim(ACME, ticket, guest=guest, fence=fence) is not None

    async def end(self, ticket: GrantId, fence: int, guest: str = "lab", outcome: bytes = b"done") -> bool | None:
        return await self.book.end(ACME, ticket, guest=guest, fence=fence, outcome=outcome, signature=b"v")

    async def state(self, ticket: GrantId) -> TicketState:
        standing = await self.book.standing(ACME, ticket)
        assert standing is not None
        return standing.state


Body = Callable[[Desk], Awaitable[None]]


@pytest.fixture
def on_desk(tmp_path: Path) -> Callable[[Body], None]:
    def run(body: Body) -> None:
        async def whole() -> None:
            folder = LedgerFolder(tmp_path)
            with folder.opened() as store:
                await store.apply(TakeLease(tenant=SYSTEM, fence=ASKER, ttl_ms=600_000))
                await body(Desk(folder, SqliteGuests(store)))

        asyncio.run(whole())

    return run


def test_one_of_many_claims_wins_when_they_come_at_once(on_desk):
    async def body(desk: Desk) -> None:
        fence = await desk.joined()
        with desk.folder.opened() as other:  # another process with the same file
            for number in range(1, 9):
                ticket = await desk.written(number)
                again = SqliteGuests(other)
                claims = [desk.claim(ticket, fence) for _ in range(4)]
                claims += [_claimed(again, ticket, fence) for _ in range(4)]
                assert sorted(await asyncio.gather(*claims)) == [False] * 7 + [True]

    on_desk(body)


def test_claim_fails_for_whoever_has_no_right_to_it(on_desk):
    async def body(desk: Desk) -> None:
        fence, other = await desk.joined(), await desk.joined("other")
        ticket = await desk.written()
        assert not await desk.claim(ticket, other, guest="other"), "made out to another"
        assert not await desk.claim(ticket, fence + 1), "a fence that nobody has"
        assert not await desk.claim(ticket, fence - 1), "an old fence"
        assert await desk.book.claim(TenantId("foreign"), ticket, guest="lab", fence=fence) is None
        assert await desk.claim(ticket, fence)

    on_desk(body)


def test_claim_fails_when_the_older_of_two_connections_makes_it(on_desk):
    async def body(desk: Desk) -> None:
        older = await desk.joined()
        newer = await desk.arrive()
        ticket = await desk.written()
        assert newer > older
        assert not await desk.claim(ticket, older)
        assert await desk.claim(ticket, newer)

    on_desk(body)


def test_claim_fails_when_the_ticket_is_too_old(on_desk):
    async def body(desk: Desk) -> None:
        fence = await desk.joined()
        ticket = await desk.written()
        for _ in range(TTL_MS // (LEASE_MS // 2)):
            desk.clock.pass_ms(LEASE_MS // 2)
            assert await desk.book.beat(name="lab", fence=fence, ttl_ms=LEASE_MS)
        assert not await desk.claim(ticket, fence)
        assert (await desk.book.forsake(ACME, ticket)).state is TicketState.WITHDRAWN

    on_desk(body)


def test_claim_fails_when_the_asker_is_gone(on_desk):
    async def body(desk: Desk) -> None:
        fence = await desk.joined()
        ticket = await desk.written()
        await desk.book._store.apply(ReleaseLease(tenant=SYSTEM, fence=ASKER))
        assert not await desk.claim(ticket, fence)

    on_desk(body)


def test_claim_fails_when_the_asker_was_fenced_out(on_desk):
    async def body(desk: Desk) -> None:
        fence = await desk.joined()
        ticket = await desk.written()
        await desk.book._store.apply(FenceOut(tenant=SYSTEM, fence=ASKER, dead=True))
        assert not await desk.claim(ticket, fence)

    on_desk(body)


def test_claim_fails_when_the_asker_has_withdrawn(on_desk):
    async def body(desk: Desk) -> None:
        fence = await desk.joined()
        ticket = await desk.written()
        assert (await desk.book.forsake(ACME, ticket)).state is TicketState.WITHDRAWN
        assert not await desk.claim(ticket, fence)

    on_desk(body)


def test_lease_that_lapsed_is_never_renewed_and_loses_what_it_had(on_desk):
    async def body(desk: Desk) -> None:
        fence = await desk.joined()
        ticket = await desk.written()
        assert await desk.claim(ticket, fence)
        desk.clock.pass_ms(LEASE_MS)
        assert not await desk.book.beat(name="lab", fence=fence, ttl_ms=LEASE_MS)
        assert not await desk.claim(await desk.written(2), fence)
        assert await desk.end(ticket, fence) is False, "late"
        assert await desk.end(ticket, fence) is None, "known already"
        assert (await desk.book.forsake(ACME, ticket)).state is TicketState.LOST

    on_desk(body)


def test_late_result_changes_nothing_when_the_asker_has_given_up(on_desk):
    async def body(desk: Desk) -> None:
        fence = await desk.joined()
        ticket = await desk.written()
        assert await desk.claim(ticket, fence)
        given_up = await desk.book.forsake(ACME, ticket)
        assert (given_up.state, given_up.outcome) == (TicketState.LOST, b"")
        assert await desk.end(ticket, fence) is False
        assert (await desk.book.forsake(ACME, ticket)).outcome == b""
        (guest,) = await desk.book.guests()
        assert guest.late == 1

    on_desk(body)


def test_result_stands_when_it_came_before_the_asker_gave_up(on_desk):
    async def body(desk: Desk) -> None:
        fence = await desk.joined()
        ticket = await desk.written()
        assert await desk.claim(ticket, fence)
        assert await desk.end(ticket, fence) is True
        assert await desk.end(ticket, fence, outcome=b"otherwise") is None
        standing = await desk.book.forsake(ACME, ticket)
        assert (standing.state, standing.outcome, standing.signature) == (TicketState.ENDED, b"done", b"v")

    on_desk(body)


@pytest.mark.parametrize("how", ["arrives", "leaves", "is removed", "is replaced"])
def test_guest_loses_what_it_had_when_it_arrives_again_or_is_gone(on_desk, how):
    async def body(desk: Desk) -> None:
        fence = await desk.joined()
        ticket = await desk.written()
        assert await desk.claim(ticket, fence)
        if how == "arrives":
            await desk.arrive()
        elif how == "leaves":
            await desk.book.leave(name="lab", fence=fence)
        elif how == "is removed":
            assert await desk.book.remove(name="lab")
        else:
            assert await desk.book.invite(name="lab", secret="new", ttl_ms=1_000, guests_max=8)
        assert await desk.state(ticket) is TicketState.LOST
        assert await desk.end(ticket, fence) is False

    on_desk(body)


def test_fence_never_repeats_when_a_guest_of_the_same_name_comes_later(on_desk):
    async def body(desk: Desk) -> None:
        first = await desk.joined()
        await desk.book.remove(name="lab")
        assert not await desk.arrive(), "it is no guest"
        desk.clock.pass_ms(1)
        assert await desk.joined() > first

    on_desk(body)


def test_invitation_is_good_once_in_time_and_for_its_name(on_desk):
    async def body(desk: Desk) -> None:
        book = desk.book
        assert await book.invite(name="lab", secret="one", ttl_ms=1_000, guests_max=8)
        assert not await book.admit(name="lab", secret="other", key="k")
        assert not await book.admit(name="other", secret="one", key="k")
        assert not await book.admit(name="lab", secret="", key="k")
        assert await book.admit(name="lab", secret="one", key="k")
        assert not await book.admit(name="lab", secret="one", key="thief"), "used"
        assert await book.invite(name="lab", secret="two", ttl_ms=1_000, guests_max=8)
        desk.clock.pass_ms(1_000)
        assert not await book.admit(name="lab", secret="two", key="k"), "too old"
        assert not await desk.arrive(key="k"), "the old key went with the new invitation"
        assert not await book.invite(name="more", secret="x", ttl_ms=1_000, guests_max=1)

    on_desk(body)


def test_ticket_is_written_once_and_forgotten_long_after(on_desk):
    async def body(desk: Desk) -> None:
        ticket = await desk.written()
        with pytest.raises(InvariantBroken, match="stand twice"):
            await desk.written()
        desk.clock.pass_ms(KEEP_MS + 1)
        await desk.written(2)
        assert await desk.book.standing(ACME, ticket) is None

    on_desk(body)


async def _claimed(book: SqliteGuests, ticket: GrantId, fence: int) -> bool:
    return await book.claim(ACME, ticket, guest="lab", fence=fence) is not None
