"""The websocket lane: one connection (RFC 6455), messages both ways, and an end that says what is known.

The opening handshake is a GET, which changes nothing; until the first message leaves, whatever breaks is FAILED. From
then on only the server can say how it went: a close with 1000 or 1001 (or without a code) is its word that all is well,
another code its word that it is not, and an end without a word is UNKNOWN. So is a close of ours that it never answers,
unless what was wanted had come by then.

    dial ─► handshake ─┬─ hear: messages up, under credit; pings answered; limits ─┐
                       ├─ say: the order's messages, then the asker's              ├─► close handshake ─► judged
                       └─ beat: a ping every `ping_ms`, its pong within `pong_ms` ─┘

Details that are choices:
- no extensions are offered: a compressed bomb has no way in;
- while the asker takes nothing the socket is not read; the idle time stands still, and a pong that waits unread, or
  behind other things, is not missed;
- a message is text when what the asker gives is UTF-8, else binary; each is handed up whole, in parts of 64 KiB where
  it is larger (`part`, and `message` or `binary` at its end);
- a lost connection is made anew only while nothing was sent, since nobody could tell what would be said twice;
- redirects of the handshake are not followed.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from assent.execution.adapters.websocket.talks import LATER_CLOSES, Talk
from assent.execution.adapters.wires.plans import RoadPlan
from assent.execution.adapters.wires.taking import Taker
from assent.execution.attestations import ConfinementClass
from assent.execution.exchanges import Hop, Judgement
from assent.execution.hosts import allow_list
from assent.execution.orders import Order, WebSocketOrder
from assent.execution.outcomes import Ending, Outcome
from assent.execution.ports import Artefacts, OnEvent, Steering
from assent.execution.retries import TRY_LATER, Backoff
from assent.execution.steering import Capabilities
from assent.primitives.clock import Clock, Entropy
from assent.primitives.errors import InvariantBroken, Refused, Unavailable
from assent.primitives.release import __version__

if TYPE_CHECKING:
    from assent.execution.adapters.websocket.conversations import Conversation

CLOSE_MS = 2_000
RECONNECT_MS_MAX = 60_000
_LOST = frozenset({"unreachable", "connection_lost", "pong_missing", "idle_limit"})


class WebSocketLane:
    """Carries `WebSocketOrder`s. Only Assent's own code runs, so it meets every confinement floor.

    `roads` is how hosts are reached, `artefacts` keep what is too much for a value, `backoff` is how long is waited
    before a reconnection, spread by `entropy` (None: not at all), `close_ms` how long for the answer to a close.
    """

    name = "websocket"
    capabilities = Capabilities(words=("Input", "EndInput"), streams=True, summary="messages over a WebSocket")

    def __init__(
        self,
        *,
        clock: Clock,
        entropy: Entropy | None = None,
        artefacts: Artefacts | None = None,
        roads: RoadPlan | None = None,
        backoff: Backoff | None = None,
        close_ms: int = CLOSE_MS,
    ) -> None:
        self._clock, self._entropy, self._artefacts = clock, entropy, artefacts
        self._plan = roads or RoadPlan()
        self._backoff = backoff or Backoff(first_ms=1_000)
        self._close_ms = close_ms

    async def carry(
        self,
        order: Order,
        *,
        floor: ConfinementClass,  # noqa: ARG002 (it meets every floor)
        on_event: OnEvent,
        steering: Steering | None = None,
    ) -> Outcome:
        """Talk to the end; see `Lane`. `on_event` gets each message whole, in pieces of at most 64 KiB."""
        if not isinstance(order, WebSocketOrder):
            raise InvariantBroken("order_of_other_lane", f"the websocket lane got a `{type(order).__name__}`")
        talk = Talk(order, clock=self._clock, artefacts=self._artefacts)
        try:
            judgement = await self._bounded(talk, Taker(on_event, steering))
            judgement = await _kept(talk, judgement)
            return talk.outcome(judgement)
        finally:
            talk.heard.lines.abandon()

    async def close(self) -> None:
        """Nothing is held between orders."""

    async def _bounded(self, talk: Talk, taker: Taker) -> Judgement:
        wall_ms = talk.order.limits.wall_ms
        deadline = asyncio.timeout(wall_ms / 1000)
        try:
            async with deadline:
                return await self._connections(talk, taker)
        except asyncio.CancelledError:
            if not talk.sent:
                raise
            return talk.lost("cancelled", "the caller gave up")
        except TimeoutError:
            if not deadline.expired():
                raise
            return talk.lost("wall_limit", f"it was not over within {wall_ms} ms", limit="wall_ms")

    async def _connections(self, talk: Talk, taker: Taker) -> Judgement:
        number = 0
        while True:
            number += 1
            judgement = await self._connection(talk, taker, number)
            again = number <= talk.order.reconnects_max and _lost_for_nothing(talk, judgement)
            waits_ms = self._backoff.wait_ms(number, self._entropy(8) if self._entropy else b"") if again else 0
            waits_ms = min(waits_ms, RECONNECT_MS_MAX)
            talk.connections.append(
                {"attempt": number, "code": judgement.code, "received": talk.heard.count, "waits_ms": waits_ms}
            )
            if not again:
                return judgement
            await asyncio.sleep(waits_ms / 1000)

    async def _connection(self, talk: Talk, taker: Taker, number: int) -> Judgement:
        talk.ours = talk.theirs = None
        try:
            return await self._talk(talk, taker, number)
        except Refused as error:
            if talk.hops and talk.hops[-1].attempt == number and talk.hops[-1].verdict == "not reached":
                talk.hops[-1].verdict = error.code
            return Judgement(ending=Ending.FAILED, code=error.code, message=str(error))
        except Unavailable as error:
            if error.code == "unreachable":
                talk.hops[-1].verdict = error.code
            return broke(talk, error)

    async def _talk(self, talk: Talk, taker: Taker, number: int) -> Judgement:
        from assent.execution.adapters.dialing import Pins  # noqa: PLC0415 (loads anyio)
        from assent.execution.adapters.websocket.conversations import Conversation, idle  # noqa: PLC0415 (as above)
        from assent.execution.adapters.websocket.lines import Line  # noqa: PLC0415 (loads websockets)
        from assent.execution.adapters.wires.roads import Way  # noqa: PLC0415 (loads anyio)
        from assent.execution.adapters.wires.wire import FRAMING_BYTES, CountedStream  # noqa: PLC0415 (loads httpcore2)

        order = talk.order
        url, fields = talk.plan()
        way = Way(allowed=allow_list(order.hosts), pins=Pins(), tls=order.tls, tls_peer_sha256=order.tls_peer_sha256)
        hop = Hop(method="GET", scheme=url.scheme, host=url.host.text, port=url.port, attempt=number)
        talk.hops.append(hop)
        checked = await self._plan.roads().reach(way, url, hop)
        hop.verdict, hop.tls_peer_sha256 = "allowed", checked.tls_peer_sha256
        stream = CountedStream(checked)
        stream.begin(2 * order.limits.output_bytes_max + FRAMING_BYTES)
        line = Line(stream, url, subprotocols=order.subprotocols, message_bytes_max=order.message_bytes_max)
        try:
            async with idle(order.idle_ms):
                talk.subprotocol = await line.open(fields, agent=f"assent/{__version__}")
            return await self._until_over(talk, Conversation(talk, line, taker, close_ms=self._close_ms))
        finally:
            hop.status = line.status
            hop.bytes_in, hop.bytes_out = stream.bytes_in, stream.bytes_out
            talk.ours, talk.theirs = line.ours, line.theirs
            await checked.aclose()

    async def _until_over(self, talk: Talk, conversation: Conversation) -> Judgement:
        await conversation.held()
        talk.ours, talk.theirs = conversation.line.ours, conversation.line.theirs
        if talk.ended_by:
            return talk.left()
        return talk.closed() if talk.theirs is not None else talk.lost("connection_lost", "the connection broke")


def broke(talk: Talk, error: Unavailable) -> Judgement:
    """How it ended when something broke or was too much."""
    match error.code:
        case "too_much":
            return talk.lost("output_limit", str(error), limit="output_bytes_max")
        case "idle_limit":
            return talk.lost("idle_limit", str(error), limit="idle_ms")
        case "pong_missing":
            return talk.lost("pong_missing", str(error), limit="pong_ms")
        case "message_limit":
            return talk.lost("message_limit", str(error), limit="message_bytes_max")
        case "cut_short":
            return talk.lost("connection_lost", str(error))
        case _:
            return talk.lost(error.code, str(error))


def _lost_for_nothing(talk: Talk, judgement: Judgement) -> bool:
    """Whether the connection was lost, and nothing was said on it that would have to be said again."""
    said_later = {
        "closed": talk.theirs is not None and talk.theirs[0] in LATER_CLOSES,
        "http_status": talk.hops[-1].status in TRY_LATER if talk.hops else False,
    }
    return not talk.sent and (judgement.code in _LOST or said_later.get(judgement.code, False))


async def _kept(talk: Talk, judgement: Judgement) -> Judgement:
    try:
        await asyncio.to_thread(talk.heard.lines.finish)
    except OSError as error:
        return talk.lost("artefact_failed", f"the messages cannot be kept: {error.strerror or error}")
    return judgement
