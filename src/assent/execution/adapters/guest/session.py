"""One guest's connection, as the hub has it: its lease, its claims, and what it says about its tickets."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping

import msgspec

from assent.execution.adapters.guest.wire import Lost, Peer
from assent.execution.guests import (
    CREDIT_BYTES,
    FIRST_FRAME_BYTES_MAX,
    PIECE_BYTES_MAX,
    Beat,
    Cancel,
    Claim,
    Copy,
    Credit,
    Ended,
    FromGuest,
    Given,
    Offers,
    Over,
    Piece,
    Recorded,
    Refusal,
    Say,
    Started,
    Waiting,
)
from assent.execution.ports import Artefact, Artefacts, GuestBook
from assent.primitives.ids import GrantId

OVERDRAFT_BYTES = 4 * PIECE_BYTES_MAX  # what a guest's lane may have read already when its credit ran out


class News(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened at a hub or a guest, for whoever watches."""

    what: str
    guest: str = ""
    ticket: str = ""
    why: str = ""


class Session:
    """A guest under one fence. `attending` are the askers by ticket, shared with the hub."""

    def __init__(
        self,
        *,
        peer: Peer,
        name: str,
        fence: int,
        book: GuestBook,
        artefacts: Artefacts,
        lease_ms: int,
        tell: Callable[[News], None],
        on_late: Callable[[Ended], Awaitable[None]],
        attending: MutableMapping[GrantId, Peer],
    ) -> None:
        self._peer, self._name, self._fence, self._book = peer, name, fence, book
        self._artefacts, self._lease_ms, self._tell, self._on_late = artefacts, lease_ms, tell, on_late
        self._attending = attending
        self._credit: dict[GrantId, int] = {}  # of the tickets this session has: what may still be handed up
        self._copies: dict[GrantId, Artefact] = {}

    def cut(self) -> None:
        """Another connection of the same guest took its place."""
        self._peer.cut()

    async def serve(self) -> None:
        """Until it ends. Raises Lost."""
        while True:
            frame = await self._peer.receive(FromGuest, within_s=self._lease_ms / 1000)
            match frame:
                case Beat():
                    await self._beat(frame)
                case Offers():
                    await self._offers(frame)
                case Claim():
                    await self._claim(frame)
                case Started() | Piece():
                    self._hand_up(frame)
                case Copy():
                    await self._copy(frame)
                case Ended():
                    await self._ended(frame)

    async def end(self) -> None:
        """The lease is over, and with it whatever the guest still had."""
        for copy in self._copies.values():
            copy.abandon()
        await self._book.leave(name=self._name, fence=self._fence)
        for ticket in self._credit:
            self._over(ticket)

    async def announce(self, waiting: Waiting) -> None:
        """Tell the guest that there is something to claim."""
        await self._peer.send(waiting)

    async def hand_on(self, ticket: GrantId, frame: Say | Credit | Cancel) -> None:
        """Hand an asker's word on to the guest, if this session has the ticket."""
        if ticket in self._credit and frame.ticket == ticket:
            if isinstance(frame, Credit):
                self._credit[ticket] += max(0, frame.amount)
            await self._peer.send(frame)

    async def _beat(self, beat: Beat) -> None:
        if not await self._book.beat(name=self._name, fence=self._fence, ttl_ms=self._lease_ms):
            await self._peer.send(Refusal(why="lease"))
            raise Lost("its lease was lost")
        await self._peer.send(beat)

    async def _offers(self, frame: Offers) -> None:
        """The asker checks the signature; here only the room they take is bounded."""
        if len(frame.offers) > FIRST_FRAME_BYTES_MAX:
            raise Lost("its offers are too large")
        await self._book.describe(name=self._name, fence=self._fence, offers=frame.offers, signature=frame.signature)

    async def _claim(self, claim: Claim) -> None:
        won = await self._book.claim(claim.tenant, claim.ticket, guest=self._name, fence=self._fence)
        if won is None:
            await self._peer.send(Over(ticket=claim.ticket))
            return
        self._credit[claim.ticket] = CREDIT_BYTES
        self._tell(News(what="claimed", guest=self._name, ticket=claim.ticket))
        await self._peer.send(Given(data=won[0], signature=won[1]))

    def _hand_up(self, frame: Started | Piece) -> None:
        """Not waited for: what an asker was not asked for credit ends the session, so this cannot pile up."""
        if frame.ticket not in self._credit:
            return
        if isinstance(frame, Piece):
            self._credit[frame.ticket] -= len(frame.data)
            if len(frame.data) > PIECE_BYTES_MAX or self._credit[frame.ticket] < -OVERDRAFT_BYTES:
                raise Lost("it sent more output than there was credit for")
        asker = self._attending.get(frame.ticket)
        if asker is not None:
            asker.put(frame)

    async def _copy(self, frame: Copy) -> None:
        if frame.ticket not in self._credit:
            return
        try:
            copy = self._copies.get(frame.ticket) or self._artefacts.begin()
            self._copies[frame.ticket] = copy
            copy.write(frame.data)
            if frame.last:
                del self._copies[frame.ticket]
                kept, _ = await asyncio.to_thread(copy.keep)
                if kept != frame.digest:
                    raise Lost("it sent an artefact under another digest than its own")
        except OSError as error:
            raise Lost(f"an artefact could not be kept: {error.strerror}") from error

    async def _ended(self, frame: Ended) -> None:
        applied = await self._book.end(
            frame.tenant,
            frame.ticket,
            guest=self._name,
            fence=self._fence,
            outcome=frame.outcome,
            signature=frame.signature,
        )
        mine = self._credit.pop(frame.ticket, None) is not None
        if applied is False:
            await self._on_late(frame)
        self._tell(News(what="ended" if applied else "came_late", guest=self._name, ticket=frame.ticket))
        if mine or applied:  # what another guest has is not over because this one says so
            self._over(frame.ticket)
        await self._peer.send(Recorded(ticket=frame.ticket, applied=bool(applied)))

    def _over(self, ticket: GrantId) -> None:
        asker = self._attending.get(ticket)
        if asker is not None:
            asker.put(Over(ticket=ticket))
