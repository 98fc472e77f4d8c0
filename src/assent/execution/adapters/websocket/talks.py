"""One order's talk: what was said and heard over its connections, how it is judged, and how it is told."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

import msgspec

from assent.execution import headers
from assent.execution.bodies import shown
from assent.execution.exchanges import Hop, Judgement, concluded, reached
from assent.execution.orders import Message, WebSocketOrder
from assent.execution.outcomes import Ending, Evidence, Outcome
from assent.execution.ports import Artefacts
from assent.execution.spools import Transcript
from assent.execution.urls import Url, parse_websocket_url
from assent.primitives.clock import Clock
from assent.primitives.digests import Digest
from assent.primitives.errors import Malformed, Unavailable

MESSAGE_BYTES_MAX = 67_108_864
RECONNECTS_MAX = 1_000
GOOD_CLOSES = frozenset({1000, 1001, 1005})
LATER_CLOSES = frozenset({1012, 1013})
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}\Z")

Closes = tuple[int, str] | None


class Talk:
    """Everything of one order.

    `sent` counts a message from the moment a byte of it may have left, `sent_whole` once all of it has.
    """

    def __init__(self, order: WebSocketOrder, *, clock: Clock, artefacts: Artefacts | None) -> None:
        self.order = order
        self._clock = clock
        self._started_at_ms = clock.now_ms()
        self._said = hashlib.sha256()
        self.hops: list[Hop] = []
        self.connections: list[dict[str, Any]] = []
        self.heard = Transcript(artefacts)
        self.heard_bytes = self.sent = self.sent_whole = self.unheeded = 0
        self.subprotocol = self.ended_by = ""
        self.ours: Closes = None
        self.theirs: Closes = None

    def plan(self) -> tuple[Url, headers.Fields]:
        """Check the order whole.

        Raises:
            Malformed: `url_refused`, `host_refused`, `port_refused`, `header_refused`, `order_malformed`.
        """
        order = self.order
        bounds = {
            "reconnects_max": (0, RECONNECTS_MAX), "messages_max": (1, 2**31), "listen_ms": (0, 2**31),
            "message_bytes_max": (1, MESSAGE_BYTES_MAX), "ping_ms": (1, 2**31), "pong_ms": (1, 2**31),
            "idle_ms": (1, 2**31),
        }  # fmt: skip
        for name, (least, most) in bounds.items():
            if not least <= getattr(order, name) <= most:
                raise Malformed("order_malformed", f"`{name}` is not {least} to {most}")
        if len(set(order.subprotocols)) < len(order.subprotocols) or not all(map(_TOKEN.match, order.subprotocols)):
            raise Malformed("order_malformed", "a subprotocol is no token, or stands twice")
        for message in order.messages:
            if message.kind == "text" and not is_text(message.data):
                raise Malformed("order_malformed", "a text message is not UTF-8", hint="send it as `binary`")
        for name, _ in order.headers:
            if name.lower().startswith("sec-websocket-"):
                raise Malformed("header_refused", f"the header `{name.lower()}` belongs to the lane")
        return parse_websocket_url(order.url), headers.check_fields(order.headers, idempotency_key="")

    def says(self, message: Message) -> None:
        """Write down that `message` is being sent."""
        self.sent += 1
        self._said.update(msgspec.json.encode(message, order="sorted") + b"\n")

    def hears(self, message: Message) -> None:
        """Write down a message that came.

        Raises:
            Unavailable: all of them together are too much (`too_much`), or cannot be kept (`artefact_failed`).
        """
        self.heard_bytes += len(message.data)
        limit = self.order.limits.output_bytes_max
        if self.heard_bytes > limit:
            raise Unavailable("too_much", f"the messages are longer than {limit} bytes together")
        item = (
            shown(message.data)
            if message.kind == "text"
            else {"base64": base64.b64encode(message.data).decode("ascii")}
        )
        try:
            self.heard.add(msgspec.json.encode(item), item)
        except OSError as error:
            raise Unavailable("artefact_failed", f"the messages cannot be kept: {error.strerror or error}") from error

    def lost(self, code: str, message: str, *, limit: str = "") -> Judgement:
        """It ended without a word of the server: UNKNOWN once something was sent."""
        ending = Ending.UNKNOWN if self.sent else Ending.FAILED
        if self.sent:
            message += "; what was sent may have been acted upon"
        return Judgement(ending=ending, code=code, message=message, limit=limit)

    def closed(self) -> Judgement:
        """The server closed it, by a code."""
        code = self.theirs[0] if self.theirs is not None else 1006
        unsaid = len(self.order.messages) - self.sent_whole
        if code in GOOD_CLOSES and unsaid <= 0:
            return Judgement(ending=Ending.SUCCEEDED, code="ok")
        if code in GOOD_CLOSES:
            return self.lost("closed", f"the server closed before {unsaid} of the messages were sent")
        return Judgement(ending=Ending.FAILED, code="closed", message=f"the server closed with {code}")

    def left(self) -> Judgement:
        """This side closed it. Without an answer, nobody knows how far the server got with what it was sent."""
        if self.theirs is not None or self.ended_by == "messages_max" or not self.sent:
            return Judgement(ending=Ending.SUCCEEDED, code="ok")
        return self.lost("close_unanswered", "the server did not answer the close")

    def outcome(self, judgement: Judgement) -> Outcome:
        """The end of it all."""
        return concluded(judgement, value=self._value(), evidence=self._evidence(judgement))

    def _value(self) -> dict[str, Any]:
        if not self.hops:
            return {}  # nothing was begun
        closes = {"ours": self.ours, "theirs": self.theirs}
        return {
            "sent": self.sent, "subprotocol": self.subprotocol, "ended_by": self.ended_by,
            "close": {side: {"code": one[0], "reason": one[1]} for side, one in closes.items() if one is not None},
        } | self.heard.shown("messages")  # fmt: skip

    def _evidence(self, judgement: Judgement) -> Evidence:
        facts: dict[str, Any] = {
            "hops": [msgspec.to_builtins(hop) for hop in self.hops], "connections": self.connections,
            "sent": self.sent, "received": self.heard.count, "unheeded": self.unheeded, "ended_by": self.ended_by,
            "close_ours": self.ours[0] if self.ours else 0, "close_theirs": self.theirs[0] if self.theirs else 0,
        }  # fmt: skip
        facts |= {name: sum(getattr(hop, name) for hop in self.hops) for name in ("bytes_in", "bytes_out")}
        return Evidence(
            lane="websocket",
            attestation=reached("assent-websocket", self.hops),
            started_at_ms=self._started_at_ms,
            ended_at_ms=self._clock.now_ms(),
            limit=judgement.limit,
            digests={"received": self.heard.lines.digest, "sent": Digest(f"sha256:{self._said.hexdigest()}")},
            facts=facts,
        )


def is_text(data: bytes) -> bool:
    """Whether `data` is UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
