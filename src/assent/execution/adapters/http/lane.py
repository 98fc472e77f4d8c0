"""The http lane: one exchange, redirects included, with every hop checked before a socket is opened.

What guards it: the URL is read once, by a strict grammar (`urls`, `hosts`); connections come only from a dialer that
checks the allow-list, every resolved address and the peer (`adapters.dialing`, `addresses`); the lane follows redirects
itself, so each hop passes the same checks, and credentials stay with the origin they were meant for. How an ending is
judged, and why a broken POST is UNKNOWN and not FAILED, is in `exchanges`.

Details that are choices:
- `redirects_max=0` means that the 3xx answer itself is wanted: it is returned and not followed;
- when a limit ends the body the value holds status and headers only; the pieces that came went to `on_event`;
- a body that unpacks to more than `output_bytes_max` stops there, and so does one whose packed bytes, chunk framing or
  interim answers go beyond twice that and a fixed allowance, although they unpack to nothing;
- cancelled while a request that changes things is under way, the lane answers UNKNOWN instead of letting the
  cancellation through: nobody else can say that something may have happened;
- the record holds hosts, addresses, sizes and digests, never a path, a query or a header value: those carry secrets.

A lane belongs to one event loop. httpcore2 is imported when the first order comes, not when Assent is.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import msgspec

import assent
from assent.execution import exchanges, headers
from assent.execution.adapters.http.trips import OnHead, Trip
from assent.execution.attestations import Attestation, ConfinementClass, Known, Property
from assent.execution.bodies import Unpacker
from assent.execution.exchanges import Hop, Judgement
from assent.execution.hosts import AllowList, allow_list
from assent.execution.orders import HttpOrder, Order
from assent.execution.outcomes import Ending, Evidence, Outcome, StreamEvent
from assent.execution.ports import OnEvent, Steering
from assent.execution.steering import Capabilities
from assent.primitives.clock import Clock
from assent.primitives.digests import digest
from assent.primitives.errors import InvariantBroken, Refused, Unavailable

if TYPE_CHECKING:
    import ssl

    import httpcore2

    from assent.execution.adapters.dialing import Dialer, Resolver
    from assent.execution.adapters.http.wire import Connections, Wire

_FRAMING_BYTES = 262_144


class HttpLane:
    """Carries `HttpOrder`s. Only Assent's own code runs, so it meets every confinement floor.

    `resolver` and `tls` replace the system's name service and trust store; `connect_ms` bounds look-up, connection and
    TLS handshake together.
    """

    name = "http"
    capabilities = Capabilities(streams=True, summary="one HTTP exchange, redirects included")

    def __init__(
        self,
        *,
        clock: Clock,
        resolver: Resolver | None = None,
        tls: ssl.SSLContext | None = None,
        connect_ms: int = 10_000,
    ) -> None:
        self._clock = clock
        self._resolver = resolver
        self._tls = tls
        self._connect_ms = connect_ms
        self._wires: tuple[Dialer, Connections] | None = None

    async def carry(
        self,
        order: Order,
        *,
        floor: ConfinementClass,  # noqa: ARG002 (it meets every floor)
        on_event: OnEvent,
        steering: Steering | None = None,  # noqa: ARG002 (nothing can be said to an exchange)
        on_head: OnHead | None = None,
    ) -> Outcome:
        """Carry one exchange to its end; see `Lane`. `on_event` gets the body in pieces of at most 64 KiB.

        `on_head` is told status and headers of each hop before its body comes: lanes that speak through HTTP must know
        in which language they are answered.
        """
        if not isinstance(order, HttpOrder):
            raise InvariantBroken("order_of_other_lane", f"the http lane got a `{type(order).__name__}`")
        started_at_ms = self._clock.now_ms()
        trip = Trip(on_head)
        judgement = await self._bounded(order, trip, on_event)
        evidence = _evidence(order, trip, judgement, started_at_ms=started_at_ms, ended_at_ms=self._clock.now_ms())
        return Outcome(
            ending=judgement.ending,
            code=judgement.code,
            message=judgement.message,
            value=trip.value(whole=judgement.code in {"ok", "http_status"}),
            evidence=evidence,
        )

    async def close(self) -> None:
        """Close the idle connections."""
        if self._wires is not None:
            await self._wires[1].close()

    async def _bounded(self, order: HttpOrder, trip: Trip, on_event: OnEvent) -> Judgement:
        deadline = asyncio.timeout(order.limits.wall_ms / 1000)
        try:
            async with deadline:
                return await self._travel(order, trip, on_event)
        except asyncio.CancelledError:
            judgement = trip.broken("cancelled", "the caller gave up")
            if judgement.ending is Ending.UNKNOWN:
                return judgement
            raise
        except TimeoutError:
            if not deadline.expired():
                raise
            return trip.broken("wall_limit", f"no whole answer within {order.limits.wall_ms} ms", limit="wall_ms")
        except Refused as error:
            return trip.refused(error)
        except Unavailable as error:
            return trip.unavailable(error)

    async def _travel(self, order: HttpOrder, trip: Trip, on_event: OnEvent) -> Judgement:
        allowed = allow_list(order.hosts)
        trip.prepare(order)
        while True:
            location = await self._exchange(order, allowed, trip, on_event)
            if location is None:
                return trip.answered()
            trip.follow(location, redirects_max=order.redirects_max)

    async def _exchange(self, order: HttpOrder, allowed: AllowList, trip: Trip, on_event: OnEvent) -> bytes | None:
        """One hop. Returns where it redirects to, if it is to be followed; then its body was not read."""
        dialer, connections = self._wiring()
        hop = trip.next_hop()
        share = (allowed, trip.credentials(), trip.url.origin)
        wire = connections.take(share)
        hop.reused = wire is not None
        wire = wire or await _reach(dialer, trip, allowed, hop)
        hop.verdict = "allowed"
        hop.address, hop.resolved, hop.tls_peer_sha256 = wire.address, wire.resolved, wire.tls_peer_sha256
        wire.begin(bytes_in_max=2 * order.limits.output_bytes_max + _FRAMING_BYTES)
        whole = False
        try:
            location = await self._speak(order, wire, trip, on_event)
            whole = location is None
            return location
        finally:
            trip.leave(wire)
            await (connections.give(share, wire) if whole else wire.close())

    async def _speak(self, order: HttpOrder, wire: Wire, trip: Trip, on_event: OnEvent) -> bytes | None:
        fields = headers.on_the_wire(
            trip.url, trip.fields, method=trip.method, body=trip.body, agent=f"assent/{assent.__version__}"
        )
        response = await wire.request(trip.url, method=trip.method, fields=fields, body=trip.body)
        trip.note_head(response)
        if order.redirects_max > 0 and trip.status in exchanges.REDIRECTS:
            location = headers.field(trip.answer_fields, b"location")
            if location is not None:
                return location
        await _read_body(order, wire, response, trip, on_event)
        return None

    def _wiring(self) -> tuple[Dialer, Connections]:
        if self._wires is None:
            from assent.execution.adapters.dialing import Dialer  # noqa: PLC0415 (loads anyio)
            from assent.execution.adapters.http.wire import Connections  # noqa: PLC0415 (loads httpcore2)

            dialer = Dialer(
                resolver=self._resolver, tls=self._tls, protocols=("http/1.1",), connect_ms=self._connect_ms
            )
            self._wires = dialer, Connections()
        return self._wires


async def _reach(dialer: Dialer, trip: Trip, allowed: AllowList, hop: Hop) -> Wire:
    from assent.execution.adapters.dialing import Goal, Pins  # noqa: PLC0415 (loads anyio)
    from assent.execution.adapters.http.wire import Wire  # noqa: PLC0415 (loads httpcore2)

    url = trip.url
    trip.pins = trip.pins or Pins()
    goal = Goal(host=url.host, port=url.port, allowed=allowed, note=hop, pins=trip.pins)
    return Wire(await dialer.dial(goal, secure=url.scheme == "https"), url=url)


async def _read_body(order: HttpOrder, wire: Wire, response: httpcore2.Response, trip: Trip, on_event: OnEvent) -> None:
    coding = headers.field(trip.answer_fields, b"content-encoding") or b""
    unpacker = Unpacker(coding.decode("latin-1"))
    try:
        async with contextlib.aclosing(wire.body(response)) as arriving:
            async for arrived in arriving:
                for piece in unpacker.unpack(arrived):
                    _keep(order, piece, trip, on_event)
    except ValueError as error:
        raise Unavailable("cut_short", str(error)) from error
    if not unpacker.complete:
        raise Unavailable("cut_short", "the packed body ends before its end")


def _keep(order: HttpOrder, piece: bytes, trip: Trip, on_event: OnEvent) -> None:
    room = order.limits.output_bytes_max - len(trip.received)
    taken = piece[:room]
    trip.received += taken
    if taken:
        on_event(StreamEvent(stream="body", data=taken))
    if len(piece) > room:
        raise Unavailable("too_much", f"the body is longer than {order.limits.output_bytes_max} bytes")


def _evidence(order: HttpOrder, trip: Trip, judgement: Judgement, *, started_at_ms: int, ended_at_ms: int) -> Evidence:
    digests = {"request_body": digest(order.body)}
    if trip.status:
        digests["response_body"] = digest(bytes(trip.received))
    dialled = ", ".join(hop.address for hop in trip.hops if hop.address) or "none"
    properties = {
        "egress": Property(value="allow-list by name and address, content not inspected", known=Known.OBSERVED),
        "addresses": Property(value=dialled, known=Known.OBSERVED),
    }
    return Evidence(
        lane=HttpLane.name,
        attestation=Attestation(mechanism="assent-http", properties=properties, builtin=True),
        started_at_ms=started_at_ms,
        ended_at_ms=ended_at_ms,
        limit=judgement.limit,
        digests=digests,
        facts=_facts(trip),
    )


def _facts(trip: Trip) -> dict[str, Any]:
    facts: dict[str, Any] = {"hops": [msgspec.to_builtins(hop) for hop in trip.hops]}
    if trip.hops:
        last = facts["hops"][-1]
        names = ("host", "port", "address", "resolved", "tls_peer_sha256", "status")
        facts |= {name: last[name] for name in names}
        facts |= {name: sum(hop[name] for hop in facts["hops"]) for name in ("bytes_in", "bytes_out")}
    return facts
