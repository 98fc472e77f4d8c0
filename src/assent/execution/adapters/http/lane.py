"""The http lane: one exchange, redirects and tries included, with every hop checked before a socket is opened.

What guards it: the URL is read once, by a strict grammar (`urls`, `hosts`); connections come only from a dialer that
checks the allow-list, every resolved address and the peer (`adapters.dialing`, `addresses`); the lane follows redirects
itself, so each hop passes the same checks, and credentials stay with the origin they were meant for. How an ending is
judged, and why a broken POST is UNKNOWN and not FAILED, is in `exchanges`; when it is tried again, in `retries`.

Details that are choices:
- the body is handed up as it arrives; while the asker takes nothing, the socket is not read, and the server waits;
- of a body beyond 1 MiB the value holds the head, the size and the artefact with the whole of it;
- `redirects_max=0` means that the 3xx answer itself is wanted: it is returned and not followed;
- when a limit ends the body the value holds status and headers only; the pieces that came went to `on_event`;
- a body that unpacks to more than `output_bytes_max` stops there, and so does one whose packed bytes, chunk framing or
  interim answers go beyond twice that and a fixed allowance, although they unpack to nothing;
- each try resolves names anew and is checked anew; names are pinned within one;
- cancelled while a request that changes things is under way, the lane answers UNKNOWN instead of letting the
  cancellation through: nobody else can say that something may have happened;
- the record holds hosts, addresses, sizes and digests, never a path, a query or a header value: those carry secrets.

A lane belongs to one event loop. httpcore2 is imported when the first order comes, not when Assent is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

from assent.execution import exchanges, headers
from assent.execution.adapters.http.journeys import Journey
from assent.execution.adapters.http.trips import OnHead, Trip
from assent.execution.adapters.http.uploads import UploadFile
from assent.execution.adapters.wires.plans import CONNECT_MS, RoadPlan
from assent.execution.adapters.wires.taking import Taker
from assent.execution.attestations import ConfinementClass
from assent.execution.bodies import Unpacker
from assent.execution.exchanges import Judgement
from assent.execution.hosts import allow_list
from assent.execution.orders import HttpOrder, Order
from assent.execution.outcomes import Ending, Outcome
from assent.execution.ports import Artefacts, OnEvent, Secrets, Steering
from assent.execution.retries import Backoff
from assent.execution.steering import Capabilities
from assent.execution.tls import TlsSettings
from assent.primitives.clock import Clock, Entropy
from assent.primitives.errors import InvariantBroken, NotFound, Refused, Unavailable
from assent.primitives.release import __version__

if TYPE_CHECKING:
    import ssl

    import httpcore2

    from assent.execution.adapters.dialing import Resolver
    from assent.execution.adapters.wires.roads import Roads, Way
    from assent.execution.adapters.wires.wire import Connections, Wire


class HttpLane:
    """Carries `HttpOrder`s. Only Assent's own code runs, so it meets every confinement floor.

    `artefacts` keep large bodies. `resolver` replaces the system's name service; `tls` is how TLS is judged and
    `tls_named` the settings that an order may name; `proxy` (`host:port`) is used for everything, or empty;
    `connect_ms` bounds look-up, connection and TLS handshake together. `entropy` spreads the waits between tries
    (None: not at all). `secrets` know what the handles of credentials name.

    Raises:
        Malformed: `proxy` is no `host:port` (`host_refused`, `port_refused`).
    """

    name = "http"
    capabilities = Capabilities(streams=True, summary="one HTTP exchange, redirects and tries included")

    def __init__(
        self,
        *,
        clock: Clock,
        entropy: Entropy | None = None,
        artefacts: Artefacts | None = None,
        resolver: Resolver | None = None,
        tls: TlsSettings | ssl.SSLContext | None = None,
        tls_named: Mapping[str, TlsSettings] | None = None,
        proxy: str = "",
        connect_ms: int = CONNECT_MS,
        backoff: Backoff | None = None,
        secrets: Secrets | None = None,
    ) -> None:
        self._clock, self._entropy, self._artefacts = clock, entropy, artefacts
        self._plan = RoadPlan(resolver=resolver, tls=tls, tls_named=tls_named, proxy=proxy, connect_ms=connect_ms)
        self._backoff = backoff or Backoff()
        self._secrets = secrets
        self._connections: Connections | None = None

    async def carry(
        self,
        order: Order,
        *,
        floor: ConfinementClass,  # noqa: ARG002 (it meets every floor)
        on_event: OnEvent,
        steering: Steering | None = None,
        on_head: OnHead | None = None,
    ) -> Outcome:
        """Carry one exchange to its end; see `Lane`. `on_event` gets the body in pieces of at most 64 KiB.

        `on_head` is told status and headers of each hop before its body comes: lanes that speak through HTTP must know
        in which language they are answered.
        """
        if not isinstance(order, HttpOrder):
            raise InvariantBroken("order_of_other_lane", f"the http lane got a `{type(order).__name__}`")
        journey = Journey(
            order,
            clock=self._clock,
            backoff=self._backoff,
            entropy=self._entropy,
            artefacts=self._artefacts,
            on_head=on_head,
        )
        try:
            judgement = await self._bounded(journey, Taker(on_event, steering))
            journey.arrived(judgement)
            return journey.outcome(judgement)
        finally:
            journey.taken.abandon()
            if journey.upload is not None:
                journey.upload.close()

    async def close(self) -> None:
        """Close the idle connections. Idempotent."""
        if self._connections is not None:
            await self._connections.close()

    async def _bounded(self, journey: Journey, taker: Taker) -> Judgement:
        wall_ms = journey.order.limits.wall_ms
        deadline = asyncio.timeout(wall_ms / 1000)
        try:
            async with deadline:
                return await self._tries(journey, taker)
        except asyncio.CancelledError:
            judgement = journey.trip.broken("cancelled", "the caller gave up")
            if judgement.ending is Ending.UNKNOWN:
                return judgement
            raise
        except TimeoutError:
            if not deadline.expired():
                raise
            return journey.trip.broken("wall_limit", f"no whole answer within {wall_ms} ms", limit="wall_ms")

    async def _tries(self, journey: Journey, taker: Taker) -> Judgement:
        while True:
            judgement = await self._one_try(journey, taker)
            waits_ms = journey.waits_ms(judgement)
            if waits_ms is None:
                return judgement
            journey.arrived(judgement, waits_ms=waits_ms)
            await asyncio.sleep(waits_ms / 1000)

    async def _one_try(self, journey: Journey, taker: Taker) -> Judgement:
        try:
            return await self._travel(journey, taker)
        except Refused as error:
            return journey.trip.refused(error)
        except Unavailable as error:
            return journey.trip.unavailable(error)

    async def _travel(self, journey: Journey, taker: Taker) -> Judgement:
        order = journey.order
        allowed = allow_list(order.hosts)
        trip = journey.begin()
        self._sign(journey, trip)
        if order.upload is not None:
            journey.upload = journey.upload or UploadFile(order.upload)
            await journey.upload.check()
        from assent.execution.adapters.dialing import Pins  # noqa: PLC0415 (loads anyio)
        from assent.execution.adapters.wires.roads import Way  # noqa: PLC0415 (as above)

        way = Way(allowed=allowed, pins=Pins(), tls=order.tls, tls_peer_sha256=order.tls_peer_sha256)
        while True:
            location = await self._exchange(journey, trip, way, taker)
            if location is None:
                return trip.answered()
            trip.follow(location, redirects_max=order.redirects_max)

    def _sign(self, journey: Journey, trip: Trip) -> None:
        """Put the order's credentials in, and look out for them in whatever comes back."""
        for credential in journey.order.credentials:
            if self._secrets is None:
                raise NotFound("credential_missing", f"nobody here knows the credential `{credential.handle}`")
            secret = self._secrets.reveal(credential.handle)
            journey.scrubber.know(secret)
            trip.sign(credential, secret)

    async def _exchange(self, journey: Journey, trip: Trip, way: Way, taker: Taker) -> bytes | None:
        """One hop. Returns where it redirects to, if it is to be followed; then its body was not read."""
        roads, connections = self._wiring()
        hop = trip.next_hop()
        share = (way.allowed, way.tls, way.tls_peer_sha256, trip.credentials(), trip.url.origin)
        wire = connections.take(share)
        hop.reused = wire is not None
        wire = wire or await roads.wire(way, trip.url, hop)
        wire.note(hop)
        limit = journey.order.limits.output_bytes_max
        wire.begin(body_bytes_max=limit)
        whole = False
        try:
            location = await self._speak(journey, trip, wire, taker)
            whole = location is None and not trip.put_off
            return location
        finally:
            trip.leave(wire)
            await (connections.give(share, wire) if whole else wire.close())

    async def _speak(self, journey: Journey, trip: Trip, wire: Wire, taker: Taker) -> bytes | None:
        order = journey.order
        body, size = _body(journey, trip)
        fields = headers.on_the_wire(
            trip.url, trip.fields, method=trip.method, body_bytes=size, agent=f"assent/{__version__}"
        )
        response = await wire.request(trip.url, method=trip.method, fields=fields, body=body)
        trip.note_head(response)
        if order.redirects_max > 0 and trip.status in exchanges.REDIRECTS:
            location = headers.field(trip.answer_fields, b"location")
            if location is not None:
                return location
        if not journey.puts_off():
            await _read_body(journey, wire, response, taker)
        return None

    def _wiring(self) -> tuple[Roads, Connections]:
        if self._connections is None:
            from assent.execution.adapters.wires.wire import Connections  # noqa: PLC0415 (loads httpcore2)

            self._connections = Connections()
        return self._plan.roads(), self._connections


def _body(journey: Journey, trip: Trip) -> tuple[bytes | AsyncIterator[bytes], int]:
    """What is sent in this hop, and how much that is."""
    if not trip.has_body:
        return b"", 0
    if journey.upload is not None:
        return journey.upload.pieces(), journey.upload.size
    return journey.order.body, len(journey.order.body)


async def _read_body(journey: Journey, wire: Wire, response: httpcore2.Response, taker: Taker) -> None:
    coding = headers.field(journey.trip.answer_fields, b"content-encoding") or b""
    unpacker = Unpacker(coding.decode("latin-1"))
    try:
        async with contextlib.aclosing(wire.body(response)) as arriving:
            async for arrived in arriving:
                for piece in unpacker.unpack(arrived):
                    await _keep(journey, journey.scrubber.feed(piece), taker)
    except ValueError as error:
        raise Unavailable("cut_short", str(error)) from error
    if not unpacker.complete:
        raise Unavailable("cut_short", "the packed body ends before its end")
    await _keep(journey, journey.scrubber.end(), taker)
    await _finish(journey)


async def _keep(journey: Journey, piece: bytes, taker: Taker) -> None:
    limit = journey.order.limits.output_bytes_max
    taken = piece[: limit - journey.taken.size]
    if taken:
        await taker.hand_up("body", taken)
        try:
            journey.taken.add(taken)
        except OSError as error:
            raise _unkept(error) from error
    if len(piece) > len(taken):
        raise Unavailable("too_much", f"the body is longer than {limit} bytes")


async def _finish(journey: Journey) -> None:
    try:
        await asyncio.to_thread(journey.taken.finish)
    except OSError as error:
        raise _unkept(error) from error


def _unkept(error: OSError) -> Unavailable:
    return Unavailable("artefact_failed", f"the body cannot be kept: {(error.strerror or str(error)).lower()}")
