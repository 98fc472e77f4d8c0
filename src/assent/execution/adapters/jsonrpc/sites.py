"""A peer behind an HTTP address: each message is a POST, and its answer is the body, whole as JSON or as a stream.

Every exchange is an order of the http lane, with its allow-list, its checked addresses and its own record. Redirects
are not followed: what was meant for one address is not said to another. A stream (`text/event-stream`) ends when its
answer has come and `DRAIN_MS` have passed, whatever the server would like to add.
"""

from __future__ import annotations

import asyncio
from collections import deque

import msgspec

from assent.execution.adapters.http import HttpLane
from assent.execution.adapters.jsonrpc.links import Gone, Trace
from assent.execution.attestations import Attestation, ConfinementClass
from assent.execution.events import Decoder, TooLong
from assent.execution.exchanges import may_have_acted
from assent.execution.orders import HttpOrder
from assent.execution.outcomes import Ending, Evidence, Outcome, StreamEvent
from assent.execution.ports import OnEvent, Steering
from assent.execution.rpc_framing import too_long
from assent.execution.rpc_messages import Answered, read
from assent.primitives.errors import Malformed

JSON = "application/json"
EVENTS = "text/event-stream"
EXCHANGES_MAX = 16
DRAIN_MS = 250
_NO_ATTESTATION = Attestation(mechanism="none")


class SiteLink:
    """One address as a peer (see `Link`). `streams` says that it may answer with a stream of events.

    `fields` go out with every message besides the order's own headers; `seen` and `status` are the
    head of the last answer.
    """

    def __init__(
        self, *, lane: HttpLane, order: HttpOrder, floor: ConfinementClass, message_bytes_max: int, streams: bool
    ) -> None:
        self._lane, self._order, self._floor = lane, order, floor
        self._max, self._streams = message_bytes_max, streams
        self.fields: dict[str, str] = {}
        self.seen: dict[str, str] = {}
        self.status = 0
        self._messages: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._fault: Gone | Malformed | None = None
        self._over: Gone | None = None
        self._running: set[asyncio.Future[None]] = set()
        self._evidence: Evidence | None = None
        self._bytes_max = order.limits.output_bytes_max
        self._sent = False
        self._steering: Steering | None = None

    async def open(self) -> None:
        """See `Link.open`: a connection is made when something is said."""

    def begin(self, *, on_event: OnEvent, steering: Steering | None, bytes_max: int) -> None:  # noqa: ARG002 (there is nothing beside)
        """See `Link.begin`."""
        self._steering = steering
        self._bytes_max, self._sent = bytes_max, False

    async def say(self, message: bytes, *, answered: bool, acts: bool = False) -> None:
        """See `Link.say`."""
        if len(self._running) >= EXCHANGES_MAX:
            raise Malformed("asked_limit", f"more than {EXCHANGES_MAX} exchanges with one peer at a time")
        self._sent = self._sent or acts
        if answered:
            self._over = None
        exchange = _Exchange(self, answered=answered)
        work = asyncio.ensure_future(self._carry(self._request(message, acts=acts), exchange))  # noqa: TID251 (`close` awaits it)
        self._running.add(work)
        work.add_done_callback(self._running.discard)
        if not answered:
            await asyncio.wait([work])  # a notification is over when it was taken

    @property
    def sent(self) -> bool:
        """See `Link.sent`."""
        return self._sent

    @property
    def alive(self) -> bool:
        """See `Link.alive`."""
        return self._fault is None

    async def hear(self) -> bytes:
        """See `Link.hear`."""
        while not self._messages:
            fault = self._fault or self._over
            if fault is not None:
                raise fault
            self._changed.clear()
            await self._changed.wait()
        return self._messages.popleft()

    def poll(self) -> bytes | None:
        """See `Link.poll`."""
        return self._messages.popleft() if self._messages else None

    async def rest(self) -> None:
        """See `Link.rest`: streams whose answer has come are ended."""
        running = set(self._running)
        if running:
            await asyncio.wait(running, timeout=DRAIN_MS / 1000)
        await self._stop(running)

    async def close(self, *, grace_ms: int) -> None:  # noqa: ARG002 (nothing runs here that could end by itself)
        """See `Link.close`."""
        await self._stop(set(self._running))

    def trace(self) -> Trace:
        """See `Link.trace`: what is known of the last exchange."""
        if self._evidence is None:
            return Trace(attestation=_NO_ATTESTATION)
        return Trace(attestation=self._evidence.attestation, facts={"site": self._evidence.facts})

    async def _stop(self, running: set[asyncio.Future[None]]) -> None:
        for work in running:
            work.cancel()
        if running:
            await asyncio.wait(running)

    def _request(self, message: bytes, *, acts: bool) -> HttpOrder:
        accepted = f"{JSON}, {EVENTS}" if self._streams else JSON
        own = {"content-type": JSON, "accept": accepted, **self.fields}
        return msgspec.structs.replace(
            self._order,
            method="POST",
            body=message,
            headers=(*self._order.headers, *own.items()),
            redirects_max=0,
            retries_max=0,
            idempotency_key=self._order.idempotency_key if acts else "",
            limits=msgspec.structs.replace(self._order.limits, output_bytes_max=self._bytes_max),
        )

    async def _carry(self, order: HttpOrder, exchange: _Exchange) -> None:
        outcome = await self._lane.carry(
            order,
            floor=self._floor,
            on_event=exchange.hear,
            on_head=exchange.head,
            steering=self._steering,
        )
        self._evidence = outcome.evidence
        fault = exchange.end(outcome)
        if fault is not None:
            self.fail(fault)

    def put(self, message: bytes) -> None:
        """A message has come."""
        self._messages.append(message)
        self._changed.set()

    def over(self, message: str) -> None:
        """Nothing more comes for what was asked last."""
        self._over = Gone("no_answer", message, ending=Ending.UNKNOWN)
        self._changed.set()

    def fail(self, fault: Gone | Malformed) -> None:
        """Nothing more comes at all."""
        self._fault = self._fault or fault
        self._changed.set()

    @property
    def message_bytes_max(self) -> int:
        """What one message may have."""
        return self._max

    @property
    def streams(self) -> bool:
        """Whether the peer may answer with a stream."""
        return self._streams


class _Exchange:
    """One POST and what comes back for it."""

    def __init__(self, link: SiteLink, *, answered: bool) -> None:
        self._link, self._answered = link, answered
        self._status = 0
        self._kind = ""
        self._body = bytearray()
        self._events: Decoder | None = None
        self._broken = False

    def head(self, status: int, fields: dict[str, str]) -> None:
        self._status = status
        self._kind = fields.get("content-type", "").partition(";")[0].strip().lower()
        self._link.seen, self._link.status = fields, status
        if self._kind == EVENTS and self._link.streams and status < 300:
            self._events = Decoder(event_bytes_max=self._link.message_bytes_max)

    def hear(self, event: StreamEvent) -> None:
        if self._broken:
            return
        try:
            self._take(event.data)
        except Malformed as error:
            self._broken = True
            self._link.fail(error)

    def end(self, outcome: Outcome) -> Gone | Malformed | None:
        """What the end of the exchange means, if it is not simply over."""
        if self._broken:
            return None
        fault = self._fault(outcome)
        if self._kind == JSON and self._body and (fault is None or self._tells_an_error()):
            self._link.put(bytes(self._body))
        if fault is not None or not self._answered:
            return fault if self._answered or fault is None else _of_notification(fault)
        self._link.over("the peer's answer ended without the answer")
        return None

    def _take(self, piece: bytes) -> None:
        if self._events is not None:
            try:
                for event in self._events.feed(piece):
                    if event.event == "message" and event.data:
                        self._link.put(event.data.encode())
            except TooLong as error:
                raise too_long(self._link.message_bytes_max) from error
            return
        if self._kind != JSON:
            return  # said in `end`: its status counts first
        self._body += piece
        if len(self._body) > self._link.message_bytes_max:
            raise too_long(self._link.message_bytes_max)

    def _tells_an_error(self) -> bool:
        """Whether a body that came with an error status is an answer of the protocol that says so too."""
        try:
            messages = read(bytes(self._body), bytes_max=self._link.message_bytes_max)
        except Malformed:
            return False
        return all(isinstance(one, Answered) and one.error is not None and type(one.id) is not str for one in messages)

    def _fault(self, outcome: Outcome) -> Gone | Malformed | None:
        if outcome.ending is not Ending.SUCCEEDED:
            limit = outcome.evidence.limit
            return Gone(outcome.code, outcome.message or "the exchange failed", ending=outcome.ending, limit=limit)
        if 300 <= self._status < 400:
            ending = Ending.UNKNOWN if may_have_acted("POST", self._status) else Ending.FAILED
            return Gone("redirect_refused", f"the peer answered {self._status}, and is not followed", ending=ending)
        if self._answered and self._kind != JSON and self._events is None:
            shown = ascii(self._kind[:60])[1:-1]
            return Malformed("content_type_refused", f"the peer answered with `{shown}` and status {self._status}")
        return None


def _of_notification(fault: Gone | Malformed) -> Gone | Malformed | None:
    """A notification that was not taken: only a peer that is not there any more matters."""
    return fault if isinstance(fault, Gone) and fault.code != "http_status" else None
