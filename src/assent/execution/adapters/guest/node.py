"""A guest node: keeps a connection to its hub, claims what it has room for, and stops everything when it falls silent.

A guest holds its lease by its own clock as well: from the moment the last answered beat was sent. When that is over, or
the connection is, its runs are stopped before anything else, because the hub's side has given them up. Then it connects
again, waits a little longer each time, and tells what it still owes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable

import msgspec

from assent.execution.adapters.guest.membership import Membership, refused
from assent.execution.adapters.guest.session import News
from assent.execution.adapters.guest.wire import HELLO_S, Lost, Peer
from assent.execution.adapters.guest.work import Work
from assent.execution.guests import (
    VERSION,
    Beat,
    Claim,
    Ended,
    Frame,
    FromHub,
    Given,
    Hello,
    Offers,
    Over,
    Recorded,
    Refusal,
    Waiting,
    Welcome,
    signed_offers,
)
from assent.execution.ports import Target
from assent.execution.targets import DESCRIPTOR_TTL_MS
from assent.primitives.clock import Clock
from assent.primitives.ids import GrantId

SLOTS = 4
WAITING_MAX = 1_000
PAUSE_S, PAUSE_MAX_S = 0.5, 15.0
BEATS_PER_LEASE = 4
OFFERS_S = DESCRIPTOR_TTL_MS / 1000 / 2
FINAL = ("version", "stranger")


class GuestNode:
    """Serves one hub until it is told that it is no guest of it."""

    def __init__(
        self, *, membership: Membership, target: Target, work: Work, clock: Clock, tell: Callable[[News], None]
    ) -> None:
        self._membership, self._target, self._work = membership, target, work
        self._clock, self._tell = clock, tell

    async def serve(self, *, hub: str) -> None:
        """Serve for ever.

        Raises:
            Refused: the hub says that it knows no such guest, or speaks another version.
        """
        pause_s = PAUSE_S
        while True:
            try:
                peer = await self._membership.connect(hub)
                try:
                    await self._served(peer)
                finally:
                    peer.cut()
                    await self._work.stop()
            except Lost as lost:
                self._tell(News(what="connection_lost", why=str(lost)))
            except _Served as served:
                self._tell(News(what="connection_lost", why=str(served)))
                pause_s = PAUSE_S
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, PAUSE_MAX_S)

    async def _served(self, peer: Peer) -> None:
        """One connection, from hello to its end. Raises Lost, _Served (it was welcome), Refused."""
        found = await self._offers()
        hello = Hello(
            version=VERSION, offers=found.offers, signature=found.signature,
            lanes=tuple(self._target.lanes()), slots=SLOTS,
        )  # fmt: skip
        await peer.send(hello)
        asked_ns = self._clock.monotonic_ns()
        answer: Welcome | Refusal = await peer.receive(Welcome | Refusal, within_s=HELLO_S)
        if isinstance(answer, Refusal):
            _refused(answer)
        assert isinstance(answer, Welcome)
        self._tell(News(what="serving", guest=self._membership.name))
        connection = _Connection(peer, self._work, self._clock, lease_ms=answer.lease_ms, since_ns=asked_ns)
        try:
            await connection.serve(lambda: self._offers(fresh=True))
        except Lost as lost:
            raise _Served(str(lost)) from lost

    async def _offers(self, *, fresh: bool = False) -> Offers:
        """What this guest finds of itself."""
        offers = msgspec.json.encode((await self._target.describe(fresh=fresh)).offers)
        return Offers(offers=offers, signature=self._membership.sign(signed_offers(offers)))


class _Served(Exception):
    """The connection ended after it was welcome."""


class _Connection:
    def __init__(self, peer: Peer, work: Work, clock: Clock, *, lease_ms: int, since_ns: int) -> None:
        self._peer, self._work, self._clock = peer, work, clock
        self._lease_ns = lease_ms * 1_000_000
        self._held_since_ns = since_ns
        self._beaten_ns: deque[int] = deque()
        self._waiting: deque[Claim] = deque(maxlen=WAITING_MAX)
        self._claimed: set[GrantId] = set()

    async def serve(self, offers: Callable[[], Awaitable[Offers]]) -> None:
        """Raises Lost."""
        for owed in self._work.owed:
            await self._peer.send(owed)
        beating = asyncio.ensure_future(self._beat())  # noqa: TID251 (awaited below)
        hearing = asyncio.ensure_future(self._hear())  # noqa: TID251 (awaited below)
        offering = asyncio.ensure_future(self._offer(offers))  # noqa: TID251 (awaited below)
        both = (beating, hearing, offering)
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            ended = await asyncio.gather(*both, return_exceptions=True)
        for fault in ended:
            if isinstance(fault, Exception):
                raise fault

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._lease_ns / 1e9 / BEATS_PER_LEASE)
            now_ns = self._clock.monotonic_ns()
            if now_ns - self._held_since_ns > self._lease_ns:
                raise Lost("the lease is over: the hub did not answer in time, or this guest was asleep")
            self._beaten_ns.append(now_ns)
            await self._peer.send(Beat())

    async def _offer(self, offers: Callable[[], Awaitable[Offers]]) -> None:
        while True:
            await asyncio.sleep(OFFERS_S)
            await self._peer.send(await offers())

    async def _hear(self) -> None:
        while True:
            frame = await self._peer.receive(FromHub, within_s=None)
            match frame:
                case Beat():
                    self._held_since_ns = self._beaten_ns.popleft() if self._beaten_ns else self._held_since_ns
                case Waiting():
                    self._waiting.append(Claim(tenant=frame.tenant, ticket=frame.ticket))
                case Given():
                    self._given(frame)
                case Over():
                    self._claimed.discard(frame.ticket)
                case Recorded():
                    self._work.recorded(frame.ticket)
                case Refusal():
                    _refused(frame)
                case _:
                    self._work.hear(frame)
            self._claim()

    def _given(self, given: Given) -> None:
        self._claimed.clear()
        if self._clock.monotonic_ns() - self._held_since_ns > self._lease_ns:
            raise Lost("the lease was over when the ticket came")
        if not self._work.take(given, self):
            raise Lost("it gave a ticket that is not signed by our hub")

    def put(self, frame: Frame) -> None:
        """See `Link.put`."""
        with contextlib.suppress(Lost):  # what could not be said is over with the connection
            self._peer.put(frame)

    async def send(self, frame: Frame) -> None:
        """See `Link.send`."""
        with contextlib.suppress(Lost):
            await self._peer.send(frame)

    def ended(self, frame: Ended) -> None:
        """See `Link.ended`."""
        self.put(frame)
        self._claim()

    def _claim(self) -> None:
        """Claim the next one when there is room for it; one claim at a time is open."""
        if self._waiting and not self._claimed and self._work.running < SLOTS:
            claim = self._waiting.popleft()
            self._claimed.add(claim.ticket)
            self.put(claim)


def _refused(refusal: Refusal) -> None:
    """Raises Refused when asking again would get the same answer, else Lost."""
    if refusal.why in FINAL:
        raise refused(refusal)
    raise Lost("the hub says that the lease is over")
