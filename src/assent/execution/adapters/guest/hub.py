"""The hub: lets guests in, hands them the tickets they claim, and carries what is said between them and the askers.

It decides nothing that matters. Who has a ticket is decided in the database; how an order ended stands there before
anybody is told. What goes through the hub's memory is live output and words, bounded by the credit an asker gives, so a
hub that is killed takes nothing with it but connections.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from assent.execution.adapters.guest.authority import Authority, who
from assent.execution.adapters.guest.session import News, Session
from assent.execution.adapters.guest.sockets import door, is_us
from assent.execution.adapters.guest.wire import HELLO_S, READ_AHEAD_BYTES, Lost, Peer
from assent.execution.guests import (
    FIRST_FRAME_BYTES_MAX,
    VERSION,
    Attend,
    Cancel,
    Ended,
    Enrol,
    Enrolled,
    FromAsker,
    FromNewcomer,
    Hello,
    Over,
    Refusal,
    TicketState,
    Waiting,
    Welcome,
    claimed_offers,
    signed_by,
    signed_offers,
)
from assent.execution.ports import Artefacts, GuestBook
from assent.primitives.errors import Refused, Unavailable
from assent.primitives.ids import GrantId

CONNECTIONS_MAX = 512
ANNOUNCED_MAX = 1_000
OnLate = Callable[[Ended], Awaitable[None]]
Tell = Callable[[News], None]


class Hub:
    """One hub an installation. `tell` hears of everything that happens; `on_late` of results that came late."""

    def __init__(
        self,
        *,
        book: GuestBook,
        authority: Authority,
        artefacts: Artefacts,
        lease_ms: int,
        tell: Tell,
        on_late: OnLate,
    ) -> None:
        self._book, self._authority, self._artefacts = book, authority, artefacts
        self._lease_ms, self._tell, self._on_late = lease_ms, tell, on_late
        self._sessions: dict[str, Session] = {}
        self._attending: dict[GrantId, Peer] = {}
        self._connections: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self, *, host: str, port: int, folder: Path) -> AsyncIterator[int]:
        """Listen for guests at `host` and `port`, and for askers in `folder`, until the block ends. Gives the port.

        Raises:
            Unavailable: `hub_running`, `address_taken`.
        """
        with door(folder) as unix:
            askers = await asyncio.start_unix_server(self._asker_came, sock=unix, limit=READ_AHEAD_BYTES)
            try:
                guests = await asyncio.start_server(
                    self._guest_came, host, port, ssl=self._authority.context(), ssl_handshake_timeout=HELLO_S,
                    limit=READ_AHEAD_BYTES,
                )  # fmt: skip
            except OSError as error:
                askers.close()
                told = (error.strerror or str(error)).lower()
                raise Unavailable("address_taken", f"`{host}:{port}` cannot be listened at: {told}") from error
            try:
                yield int(guests.sockets[0].getsockname()[1])
            finally:
                askers.close()
                guests.close()
                for task in self._connections:
                    task.cancel()
                if self._connections:
                    await asyncio.wait(self._connections)

    async def _guest_came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        await self._connected(peer, self._with_guest(peer))

    async def _asker_came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        await self._connected(peer, self._with_asker(peer, ours=is_us(writer)))

    async def _connected(self, peer: Peer, work: Awaitable[None]) -> None:
        """Serve one connection to its end. Whatever it does ends that connection and nothing else."""
        task = asyncio.current_task()
        assert task is not None, "a connection is served by a task"
        self._connections.add(task)
        try:
            if len(self._connections) <= CONNECTIONS_MAX:
                await work
        except (Lost, Unavailable) as fault:
            self._tell(News(what="connection_ended", why=str(fault)))
        except asyncio.CancelledError:
            pass  # the hub ends
        finally:
            if asyncio.iscoroutine(work):
                work.close()  # harmless after its end; needed when it never began
            self._connections.discard(task)
            with contextlib.suppress(asyncio.CancelledError):
                await peer.close()

    async def _with_guest(self, peer: Peer) -> None:
        first = await peer.receive(FromNewcomer, within_s=HELLO_S, bytes_max=FIRST_FRAME_BYTES_MAX)
        if first.version != VERSION:
            await peer.send(Refusal(why="version"))
        elif isinstance(first, Enrol):
            await self._enrol(peer, first)
        else:
            await self._serve(peer, first)

    async def _enrol(self, peer: Peer, enrol: Enrol) -> None:
        try:
            certificate, key = self._authority.admit(enrol.request, name=enrol.name[:63])
        except Refused:
            await peer.send(Refusal(why="request"))
            return
        admitted = await self._book.admit(name=enrol.name, secret=self._authority.digest(enrol.secret), key=key.hex())
        if not admitted:
            self._tell(News(what="invitation_refused", guest=enrol.name[:63]))
            await peer.send(Refusal(why="invitation"))
            return
        self._tell(News(what="joined", guest=enrol.name))
        authority = self._authority.certificate_der
        await peer.send(Enrolled(certificate=certificate, authority=authority, tickets=self._authority.tickets_key))

    async def _serve(self, peer: Peer, hello: Hello) -> None:
        name, key = who(peer.certificate) if peer.certificate else ("", b"")
        fence = await self._arrived(name, key, hello) if name else 0
        if not fence:
            self._tell(News(what="guest_refused", guest=name, why="it is not a guest, or not any more"))
            await peer.send(Refusal(why="stranger"))
            return
        session = Session(
            peer=peer, name=name, fence=fence, book=self._book, artefacts=self._artefacts, lease_ms=self._lease_ms,
            tell=self._tell, on_late=self._on_late, attending=self._attending,
        )  # fmt: skip
        older = self._sessions.get(name)
        self._sessions[name] = session
        if older is not None:
            older.cut()
        self._tell(News(what="serving", guest=name))
        try:
            await peer.send(Welcome(fence=fence, lease_ms=self._lease_ms))
            for tenant, ticket in await self._book.waiting(name, limit=ANNOUNCED_MAX):
                await peer.send(Waiting(tenant=tenant, ticket=ticket))
            await session.serve()
        finally:
            if self._sessions.get(name) is session:
                del self._sessions[name]
            await session.end()
            self._tell(News(what="left", guest=name))

    async def _arrived(self, name: str, key: bytes, hello: Hello) -> int:
        """The fence of a guest whose offers are its own; 0 when it is none, or they are none."""
        try:
            claimed_offers(hello.offers, trusted=False)
        except msgspec.DecodeError:
            return 0
        if not signed_by(key, signed_offers(hello.offers), hello.signature):
            return 0
        return await self._book.arrive(
            name=name,
            key=key.hex(),
            offers=hello.offers,
            signature=hello.signature,
            lanes=tuple(lane for lane in hello.lanes[:32] if lane.isidentifier()),
            ttl_ms=self._lease_ms,
        )

    async def _with_asker(self, peer: Peer, *, ours: bool) -> None:
        attend = await peer.receive(Attend, within_s=HELLO_S, bytes_max=FIRST_FRAME_BYTES_MAX)
        ticket = attend.ticket
        standing = await self._book.standing(attend.tenant, ticket) if ours else None
        if standing is None:
            await peer.send(Refusal(why="ticket"))
            return
        if standing.state is not TicketState.WAITING or ticket in self._attending:
            await peer.send(Over(ticket=ticket))
            return
        self._attending[ticket] = peer
        try:
            session = self._sessions.get(attend.guest)
            if session is not None:
                await session.announce(Waiting(tenant=attend.tenant, ticket=ticket))
            while True:
                word = await peer.receive(FromAsker, within_s=None)
                session = self._sessions.get(attend.guest)
                if session is not None and not isinstance(word, Attend):
                    await session.hand_on(ticket, word)
        finally:
            del self._attending[ticket]
            session = self._sessions.get(attend.guest)
            if session is not None:  # whoever attended is gone: nobody wants it any more
                with contextlib.suppress(Lost):
                    await session.hand_on(ticket, Cancel(ticket=ticket))
