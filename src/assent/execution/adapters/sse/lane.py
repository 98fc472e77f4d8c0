"""The sse lane: listens to server-sent events over as many connections as it takes, each one checked.

What the standard says (WHATWG HTML, section 9.2) is in `events`, and the life cycle here: an answer other than 200, or
of another type than `text/event-stream`, is the end; 204 is a good one; a stream that ends or breaks is asked for again
with `Last-Event-ID`, after the time that the server named or one that grows. Each connection resolves and checks its
hosts anew and has its own page in the evidence. Redirects are followed as the http lane does.

Details that are choices:
- statuses by which servers say "later" (429, 502, 503, 504) are a lost connection, not the end, while there are
  reconnections left;
- every event is handed up as one JSON object (`data`, `event`, `id`), the last ones stand in the value, and all of them
  in an artefact where there are more;
- while the asker takes nothing the socket is not read, and the idle time stands still;
- nothing is ever changed by listening, so whatever breaks is FAILED and never UNKNOWN.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import msgspec

from assent.execution import exchanges, headers, retries
from assent.execution.adapters.sse.listening import RECONNECT_MS_MAX, Listening
from assent.execution.adapters.wires.plans import RoadPlan
from assent.execution.adapters.wires.taking import Taker
from assent.execution.attestations import ConfinementClass
from assent.execution.bodies import Unpacker
from assent.execution.events import Decoder, TooLong
from assent.execution.exchanges import Hop, Judgement
from assent.execution.hosts import allow_list
from assent.execution.orders import Order, SseOrder
from assent.execution.outcomes import Ending, Outcome
from assent.execution.ports import Artefacts, OnEvent, Steering
from assent.execution.retries import Backoff
from assent.execution.steering import Capabilities
from assent.execution.urls import Url, redirect_target
from assent.primitives.clock import Clock, Entropy
from assent.primitives.errors import InvariantBroken, Refused, Unavailable
from assent.primitives.release import __version__

if TYPE_CHECKING:
    import httpcore2

    from assent.execution.adapters.wires.wire import Wire

_SLICE_BYTES = 8_192
_AGAIN = frozenset({429, 502, 503, 504})
_LOST = frozenset({"unreachable", "cut_short"})
_OWN_CODES = frozenset({"unreachable", "artefact_failed", "idle_limit", "event_limit"})
_LIMIT_OF = {"too_much": "output_bytes_max", "head_too_long": "head_bytes", "idle_limit": "idle_ms",
             "event_limit": "event_bytes_max"}  # fmt: skip
_WELL = Judgement(ending=Ending.SUCCEEDED, code="ok")


class SseLane:
    """Carries `SseOrder`s. Only Assent's own code runs, so it meets every confinement floor.

    `roads` is how hosts are reached, `artefacts` keep what is too much for a value, `backoff` is how long is waited
    before a reconnection when the server names no time, spread by `entropy` (None: not at all).
    """

    name = "sse"
    capabilities = Capabilities(words=("EndInput",), streams=True, summary="a stream of server-sent events")

    def __init__(
        self,
        *,
        clock: Clock,
        entropy: Entropy | None = None,
        artefacts: Artefacts | None = None,
        roads: RoadPlan | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        self._clock, self._entropy, self._artefacts = clock, entropy, artefacts
        self._plan = roads or RoadPlan()
        self._backoff = backoff or Backoff(first_ms=1_000)

    async def carry(
        self,
        order: Order,
        *,
        floor: ConfinementClass,  # noqa: ARG002 (it meets every floor)
        on_event: OnEvent,
        steering: Steering | None = None,
    ) -> Outcome:
        """Listen to the end; see `Lane`. `on_event` gets each event whole, in pieces of at most 64 KiB."""
        if not isinstance(order, SseOrder):
            raise InvariantBroken("order_of_other_lane", f"the sse lane got a `{type(order).__name__}`")
        listening = Listening(order, clock=self._clock, artefacts=self._artefacts)
        taker = Taker(on_event, steering)
        try:
            judgement = await self._bounded(listening, taker)
            judgement = await _kept(listening, judgement)
            return listening.outcome(judgement)
        finally:
            listening.transcript.lines.abandon()

    async def close(self) -> None:
        """Nothing is held between orders."""

    async def _bounded(self, listening: Listening, taker: Taker) -> Judgement:
        order = listening.order
        deadline = asyncio.timeout(order.limits.wall_ms / 1000)
        listen_s = order.listen_ms / 1000 if order.listen_ms else None
        try:
            async with deadline, asyncio.TaskGroup() as group:
                work = group.create_task(self._listen(listening, taker))
                enough = group.create_task(taker.input_ended())
                await asyncio.wait({work, enough}, timeout=listen_s, return_when=asyncio.FIRST_COMPLETED)
                if not work.done():
                    listening.ended_by = "asker" if enough.done() else "listen_ms"
                work.cancel()
                enough.cancel()
        except TimeoutError:
            if not deadline.expired():
                raise
            message = f"it was not over within {order.limits.wall_ms} ms"
            return failed("wall_limit", message, limit="wall_ms")
        return _WELL if work.cancelled() else work.result()

    async def _listen(self, listening: Listening, taker: Taker) -> Judgement:
        number = 0
        while True:
            number += 1
            judgement = await self._connection(listening, taker, number)
            waits_ms = self._waits_ms(listening, judgement, number)
            listening.connections.append(
                {"attempt": number, "code": judgement.code, "events": listening.received, "waits_ms": waits_ms or 0}
            )
            if waits_ms is None and number > 1 and _again(listening, judgement):
                return msgspec.structs.replace(judgement, limit="reconnects_max")
            if waits_ms is None:
                return judgement
            listening.ended_by = ""
            await asyncio.sleep(waits_ms / 1000)

    def _waits_ms(self, listening: Listening, judgement: Judgement, number: int) -> int | None:
        """How long to wait before the next connection; None: there is none."""
        if not _again(listening, judgement) or number > listening.order.reconnects_max:
            return None
        named = retries.retry_after_ms(headers.field(listening.fields, b"retry-after"), now_ms=self._clock.now_ms())
        if named is None and listening.retry_ms >= 0:
            named = listening.retry_ms
        if named is None:
            named = self._backoff.wait_ms(number, self._entropy(8) if self._entropy else b"")
        return min(named, RECONNECT_MS_MAX)

    async def _connection(self, listening: Listening, taker: Taker, number: int) -> Judgement:
        listening.fields = []
        listening.status = 0 if number == 1 else listening.status
        try:
            return await self._travel(listening, taker, number)
        except Refused as error:
            code = error.code
            here = [hop for hop in listening.hops if hop.attempt == number]
            if len(here) > 1 and code in {"host_refused", "address_refused"}:
                code = "redirect_refused"
            if here and not here[-1].status:
                here[-1].verdict = error.code
            return failed(code, str(error))
        except Unavailable as error:
            if error.code == "unreachable":
                listening.hops[-1].verdict = error.code
            code = error.code if error.code in _OWN_CODES else "cut_short"
            if error.code in {"too_much", "head_too_long"}:
                code = "output_limit"
            return failed(code, str(error), limit=_LIMIT_OF.get(error.code, ""))

    async def _travel(self, listening: Listening, taker: Taker, number: int) -> Judgement:
        """One connection, redirects included."""
        from assent.execution.adapters.dialing import Pins  # noqa: PLC0415 (loads anyio)
        from assent.execution.adapters.wires.roads import Way  # noqa: PLC0415 (as above)

        order = listening.order
        url, fields = listening.plan()
        way = Way(allowed=allow_list(order.hosts), pins=Pins(), tls=order.tls, tls_peer_sha256=order.tls_peer_sha256)
        for _ in range(order.redirects_max + 1):
            hop = Hop(method="GET", scheme=url.scheme, host=url.host.text, port=url.port, attempt=number)
            listening.hops.append(hop)
            wire = await self._plan.roads().wire(way, url, hop)
            wire.note(hop)
            try:
                found = await self._speak(listening, wire, url, fields, taker)
            finally:
                hop.bytes_in, hop.bytes_out = wire.counted()
                await wire.close()
            if isinstance(found, Judgement):
                return found
            target = _followed(url, found)
            fields = headers.after_redirect(fields, same_origin=target.origin == url.origin, keeps_body=True)
            url = target
        raise Refused("redirect_refused", f"more than {order.redirects_max} redirects", hint="raise `redirects_max`")

    async def _speak(
        self, listening: Listening, wire: Wire, url: Url, fields: headers.Fields, taker: Taker
    ) -> Judgement | bytes:
        """One hop. Returns how listening ended, or where the answer redirects to."""
        order = listening.order
        own = (("Accept", "text/event-stream"), ("Cache-Control", "no-store"), *listening.event_id_field())
        sent = headers.on_the_wire(url, (*own, *fields), method="GET", body_bytes=0, agent=f"assent/{__version__}")
        wire.begin(body_bytes_max=order.limits.output_bytes_max)
        async with _idle(order.idle_ms):
            response = await wire.request(url, method="GET", fields=sent)
        listening.hops[-1].status = listening.status = response.status
        listening.fields = response.headers
        location = headers.field(response.headers, b"location")
        if response.status in exchanges.REDIRECTS and location is not None:
            return location
        refused = _no_stream(response)
        if refused is not None:
            listening.ended_by = "no_content" if refused.ending is Ending.SUCCEEDED else ""
            return refused
        return await _hear(listening, wire, response, taker)


def _again(listening: Listening, judgement: Judgement) -> bool:
    """Whether a connection that ended like this is asked for again."""
    later = judgement.code == "http_status" and listening.status in _AGAIN
    return later or judgement.code in _LOST or listening.ended_by == "server"


async def _hear(listening: Listening, wire: Wire, response: httpcore2.Response, taker: Taker) -> Judgement:
    order = listening.order
    decoder = Decoder(event_bytes_max=order.event_bytes_max, last_event_id=listening.last_event_id)
    unpacker = Unpacker((headers.field(response.headers, b"content-encoding") or b"").decode("latin-1"))
    async with contextlib.aclosing(wire.body(response)) as arriving:
        while True:
            await taker.room()
            async with _idle(order.idle_ms):
                piece = await anext(arriving, None)
            if piece is None:
                listening.ended_by = "server"
                return _WELL
            if await _events(listening, decoder, unpacker, piece, taker):
                listening.ended_by = "events_max"
                return _WELL


async def _events(listening: Listening, decoder: Decoder, unpacker: Unpacker, piece: bytes, taker: Taker) -> bool:
    """Hand up the events in `piece`; whether these are enough."""
    comments = decoder.comments
    try:
        for plain in _slices(unpacker, piece):
            await asyncio.sleep(0)  # of tiny lines there are thousands in a piece: others on the loop get their turn
            for event in decoder.feed(plain):
                line = listening.take(event)
                listening.last_event_id = event.id
                await taker.hand_up_whole("event", line)
                if listening.received >= listening.order.events_max:
                    return True
    except TooLong as error:
        raise Unavailable("event_limit", f"{error}: more than {listening.order.event_bytes_max} bytes") from error
    except ValueError as error:
        raise Unavailable("cut_short", str(error)) from error
    finally:
        listening.comments += decoder.comments - comments
        listening.last_event_id = decoder.last_event_id
        listening.retry_ms = decoder.retry_ms if decoder.retry_ms >= 0 else listening.retry_ms
    return False


def _slices(unpacker: Unpacker, piece: bytes) -> Iterator[bytes]:
    for plain in unpacker.unpack(piece):
        yield from (plain[at : at + _SLICE_BYTES] for at in range(0, len(plain), _SLICE_BYTES))


async def _kept(listening: Listening, judgement: Judgement) -> Judgement:
    try:
        await asyncio.to_thread(listening.transcript.lines.finish)
    except OSError as error:
        return failed("artefact_failed", f"the events cannot be kept: {error.strerror or error}")
    return judgement


@contextlib.asynccontextmanager
async def _idle(idle_ms: int) -> AsyncIterator[None]:
    idle = asyncio.timeout(idle_ms / 1000)
    try:
        async with idle:
            yield
    except TimeoutError as error:
        if not idle.expired():
            raise
        raise Unavailable("idle_limit", f"nothing came for {idle_ms} ms") from error


def _no_stream(response: httpcore2.Response) -> Judgement | None:
    """How it ends when the answer is no stream of events."""
    if response.status == 204:
        return _WELL
    if response.status != 200:
        return failed("http_status", f"the server answered {response.status}")
    kind = (headers.field(response.headers, b"content-type") or b"").partition(b";")[0].strip().lower()
    if kind != b"text/event-stream":
        return failed("not_events", "the answer is no stream of events")
    return None


def _followed(url: Url, location: bytes) -> Url:
    try:
        return redirect_target(url, location)
    except Refused as error:
        raise Refused("redirect_refused", error.message, hint=error.hint) from error


def failed(code: str, message: str, *, limit: str = "") -> Judgement:
    """How it ended when it did not end well."""
    if code == "redirect_refused" and "more than" in message:
        limit = "redirects_max"
    return Judgement(ending=Ending.FAILED, code=code, message=message, limit=limit)
