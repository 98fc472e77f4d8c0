"""A guest as a target: what it is known to offer, and the lane that hands orders on to it.

The asker trusts the database and the guest's key, and neither the hub nor the connection: the ticket is a row before
anybody hears of it, the outcome is a row before it is believed, and its signature is checked here. Whatever ends the
waiting, the last step is the same: one command that withdraws a ticket nobody claimed and gives up one that has not
ended. Withdrawn: nothing ran. Given up: UNKNOWN (`guest_lost`), for good; the ticket is never written twice.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from assent.execution.adapters.guest.sockets import knock
from assent.execution.adapters.guest.wire import Lost, Peer
from assent.execution.attestations import Attestation, ConfinementClass
from assent.execution.grants import GrantBody
from assent.execution.guests import (
    TICKET_TTL_MS,
    Attend,
    Cancel,
    Credit,
    Guest,
    Over,
    Piece,
    Refusal,
    Standing,
    Started,
    Ticket,
    TicketState,
    ToAsker,
    claimed_offers,
    key_name,
    saying,
    signed_by,
    signed_offers,
    signed_outcome,
    vouched,
)
from assent.execution.orders import Order, ProcessOrder, PythonOrder, order_digest
from assent.execution.outcomes import Ending, Evidence, Outcome, StreamEvent
from assent.execution.ports import GuestBook, Lane, OnEvent, Steering
from assent.execution.steering import Capabilities
from assent.execution.targets import DESCRIPTOR_TTL_MS, Descriptor
from assent.primitives.clock import Clock
from assent.primitives.errors import InvariantBroken, Unavailable

T = TypeVar("T")
CARRIED: dict[type, str] = {ProcessOrder: "process", PythonOrder: "python"}
LOOK_S = 1.0
STOP_S = 20.0
CREDIT_STEP_BYTES = 65_536
_NOTHING = Attestation(mechanism="none")
_CAPABILITIES = Capabilities(
    words=("Input", "EndInput", "Signal", "Resize"), streams=True, summary="handed on to a guest node"
)
Sign = Callable[[bytes], bytes]


class GuestTarget:
    """One declared guest. See `Target`."""

    def __init__(
        self, *, name: str, trusted: bool, book: GuestBook, sign: Sign, hub_folder: Path, clock: Clock
    ) -> None:
        self.name = name
        self._trusted, self._book, self._sign, self._clock = trusted, book, sign, clock
        self._hub_folder = hub_folder

    async def describe(self, *, fresh: bool = False) -> Descriptor:  # noqa: ARG002 (a guest is read anew each time)
        """See `Target.describe`. What the guest said of itself, for as long as it beats."""
        try:
            guest = await self._book.guest(self.name)
        except Unavailable as fault:
            return Descriptor(name=self.name, kind="guest", reason=str(fault))
        why = _unusable(guest, self.name)
        if why or guest is None:
            return Descriptor(name=self.name, kind="guest", reason=why)
        return Descriptor(
            name=self.name,
            kind="guest",
            offers=claimed_offers(guest.offers, trusted=self._trusted),
            verified_at_ms=guest.described_at_ms,
            expires_at_ms=guest.described_at_ms + DESCRIPTOR_TTL_MS,
            load=guest.waiting + guest.running,
        )

    def lane(self, order: Order, *, under: GrantBody | None = None) -> Lane | None:
        """The lane that hands `order` on under its grant; without a grant it hands nothing on."""
        kind = CARRIED.get(type(order))
        return self._lane(kind, under) if kind else None

    def lanes(self) -> Mapping[str, Lane]:
        """What can be handed on."""
        return {kind: self._lane(kind, None) for kind in CARRIED.values()}

    async def close(self) -> None:
        """Nothing is held between carries."""

    def _lane(self, kind: str, body: GrantBody | None) -> GuestLane:
        return GuestLane(
            name=kind, guest=self.name, trusted=self._trusted, body=body, book=self._book, sign=self._sign,
            hub_folder=self._hub_folder, clock=self._clock,
        )  # fmt: skip


def _unusable(guest: Guest | None, name: str) -> str:
    if guest is None or guest.state != "joined":
        return f"nobody has joined as `{name}`; invite one with `assent node invite {name}`"
    if not guest.alive:
        return "it is not heard from; is `assent node serve` running here, and `assent node join` there?"
    key = bytes.fromhex(guest.key)
    if not signed_by(key, signed_offers(guest.offers), guest.signature):
        return f"what it offers is not signed by its key `{key_name(key)}`"
    return ""


class GuestLane:
    """Hands one granted order on to a guest, and waits for its end."""

    capabilities = _CAPABILITIES

    def __init__(
        self, *, name: str, guest: str, trusted: bool, body: GrantBody | None, book: GuestBook, sign: Sign,
        hub_folder: Path, clock: Clock,
    ) -> None:  # fmt: skip
        self.name = name
        self._guest, self._trusted, self._body, self._book = guest, trusted, body, book
        self._sign, self._hub_folder, self._clock = sign, hub_folder, clock
        self._started_ms = 0
        self._taken = 0
        self._went = asyncio.Event()

    async def carry(
        self, order: Order, *, floor: ConfinementClass, on_event: OnEvent, steering: Steering | None = None
    ) -> Outcome:
        """See `Lane.carry`. The guest refuses below the floor before it lets anything go.

        Raises:
            InvariantBroken: the order is of another kind.
        """
        if CARRIED.get(type(order)) != self.name:
            raise InvariantBroken("order_of_other_lane", f"the {self.name} lane was given a `{type(order).__name__}`")
        self._started_ms = self._clock.now_ms()
        try:
            ticket = await self._ticket(order, floor)
            peer = await knock(self._hub_folder)
        except (Lost, Unavailable) as fault:
            return self.failed("target_unusable", str(fault))
        try:
            await self._write(ticket)
            return await self._attended(peer, ticket, on_event, steering)
        except Unavailable as fault:
            return self.failed("target_unusable", str(fault))
        finally:
            peer.cut()

    async def close(self) -> None:
        """Nothing is held between carries."""

    async def _ticket(self, order: Order, floor: ConfinementClass) -> Ticket:
        body, now_ms = self._body, self._clock.now_ms()
        if body is None or body.order != order_digest(order):
            raise Unavailable("grant_missing", "a guest is handed nothing but what was granted")
        return Ticket(
            id=body.id, tenant=body.tenant, effect=body.effect, attempt=body.attempt, guest=self._guest, order=order,
            floor=floor, fence=body.fence, issued_at_ms=now_ms, expires_at_ms=now_ms + TICKET_TTL_MS,
        )  # fmt: skip

    async def _write(self, ticket: Ticket) -> None:
        data = msgspec.json.encode(ticket)
        await self._book.write(ticket, data=data, signature=self._sign(data))

    async def _attended(self, peer: Peer, ticket: Ticket, on_event: OnEvent, steering: Steering | None) -> Outcome:
        waiting = asyncio.ensure_future(self._wait(peer, ticket, on_event, steering))  # noqa: TID251 (awaited below)
        cancelled = False
        try:
            await asyncio.shield(waiting)
        except asyncio.CancelledError:
            cancelled = True
            await _certainly(self._ask_to_stop(peer, ticket, waiting))
        finally:
            waiting.cancel()
            await _certainly(asyncio.wait([waiting]))
        outcome = await _certainly(self._conclude(ticket))
        if cancelled and outcome.ending is not Ending.UNKNOWN and outcome.code in ("cancelled", "target_unusable"):
            raise asyncio.CancelledError
        return outcome

    async def _wait(self, peer: Peer, ticket: Ticket, on_event: OnEvent, steering: Steering | None) -> None:
        """Until nothing more can come: the hub says so, or it is gone, or the guest is, or nobody took the ticket."""
        works: list[Coroutine[Any, Any, None]] = [self._hear(peer, ticket, on_event, steering), self._look(ticket)]
        if steering is not None:
            works.append(self._speak(peer, ticket, steering))
        tasks = [asyncio.ensure_future(work) for work in works]  # noqa: TID251 (awaited below)
        try:
            await asyncio.wait(tasks[:2], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _hear(self, peer: Peer, ticket: Ticket, on_event: OnEvent, steering: Steering | None) -> None:
        with contextlib.suppress(Lost):
            await peer.send(Attend(tenant=ticket.tenant, ticket=ticket.id, guest=self._guest))
            while True:
                frame: Refusal | Started | Piece | Over = await peer.receive(ToAsker, within_s=None)
                if isinstance(frame, Piece):
                    await self._take(peer, frame, on_event, steering)
                elif isinstance(frame, Started):
                    self._went.set()
                else:
                    return

    async def _take(self, peer: Peer, piece: Piece, on_event: OnEvent, steering: Steering | None) -> None:
        if steering is not None and not steering.has_room():
            await steering.room()
        on_event(StreamEvent(stream=piece.stream, data=piece.data))
        self._taken += len(piece.data)
        if self._taken >= CREDIT_STEP_BYTES:
            await peer.send(Credit(ticket=piece.ticket, amount=self._taken))
            self._taken = 0

    async def _look(self, ticket: Ticket) -> None:
        """Look at the database, as long as the ticket stands open there and its guest has its lease."""
        while True:
            await asyncio.sleep(LOOK_S)
            with contextlib.suppress(Unavailable):
                standing = await self._book.standing(ticket.tenant, ticket.id)
                if standing is None or not _open(standing):
                    return
                if standing.state is TicketState.WAITING and self._clock.now_ms() >= ticket.expires_at_ms:
                    return

    async def _speak(self, peer: Peer, ticket: Ticket, steering: Steering) -> None:
        await self._went.wait()  # before that there is nobody to hear it
        with contextlib.suppress(Lost):
            while True:
                await peer.send(saying(ticket.id, await steering.word()))

    async def _ask_to_stop(self, peer: Peer, ticket: Ticket, waiting: asyncio.Future[None]) -> None:
        """Ask until it is over: a ticket may be claimed in this moment, and then the first word finds nobody."""
        with contextlib.suppress(Lost, TimeoutError, Unavailable):
            async with asyncio.timeout(STOP_S):
                while not waiting.done():
                    standing = await self._book.standing(ticket.tenant, ticket.id)
                    if standing is None or standing.state is not TicketState.CLAIMED:
                        return
                    await peer.send(Cancel(ticket=ticket.id))
                    await asyncio.wait([waiting], timeout=LOOK_S)

    async def _conclude(self, ticket: Ticket) -> Outcome:
        standing = await self._book.forsake(ticket.tenant, ticket.id)
        guest = await self._book.guest(self._guest)
        if standing.state is TicketState.WITHDRAWN:
            return self.failed("target_unusable", f"`{self._guest}` did not take it; nothing ran there")
        if standing.state is TicketState.ENDED and guest is not None:
            return self._told(ticket, standing, bytes.fromhex(guest.key))
        message = f"`{self._guest}` fell silent while it had the order; it is never sent again by itself"
        return self.failed("guest_lost", message, ending=Ending.UNKNOWN)

    def _told(self, ticket: Ticket, standing: Standing, key: bytes) -> Outcome:
        data = standing.outcome
        if not signed_by(key, signed_outcome(ticket.id, data), standing.signature):
            message = f"what came back is not signed by `{self._guest}`"
            return self.failed("guest_unproved", message, ending=Ending.UNKNOWN)
        try:
            outcome = msgspec.json.decode(data, type=Outcome)
        except msgspec.DecodeError:
            return self.failed("guest_unproved", "what came back is no outcome", ending=Ending.UNKNOWN)
        return vouched(
            outcome, guest=self._guest, key=key, signature=standing.signature, data=data, trusted=self._trusted,
            floor=ticket.floor,
        )  # fmt: skip

    def failed(self, code: str, message: str, *, ending: Ending = Ending.FAILED) -> Outcome:
        """An outcome of which the guest says nothing."""
        evidence = Evidence(
            lane=self.name, attestation=_NOTHING, started_at_ms=self._started_ms, ended_at_ms=self._clock.now_ms(),
            facts={"guest": self._guest},
        )  # fmt: skip
        return Outcome(ending=ending, code=code, message=message, evidence=evidence)


def _open(standing: Standing) -> bool:
    return standing.state is TicketState.WAITING or (standing.state is TicketState.CLAIMED and standing.alive)


async def _certainly(work: Coroutine[Any, Any, T]) -> T:
    """Do `work` to its end however often this is cancelled meanwhile."""
    doing = asyncio.ensure_future(work)  # noqa: TID251 (awaited in any case)
    while not doing.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([doing])
    return doing.result()
