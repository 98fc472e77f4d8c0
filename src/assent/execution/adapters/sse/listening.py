"""One order's listening: what came over all its connections, what of it is kept, and how it is told at the end."""

from __future__ import annotations

from typing import Any

import msgspec

from assent.execution import headers
from assent.execution.events import ServerEvent
from assent.execution.exchanges import Hop, Judgement, concluded, reached
from assent.execution.orders import SseOrder
from assent.execution.outcomes import Evidence, Outcome
from assent.execution.ports import Artefacts
from assent.execution.spools import Transcript
from assent.execution.urls import Url, parse_url
from assent.primitives.clock import Clock
from assent.primitives.errors import Malformed, Unavailable

RECONNECTS_MAX = 1_000
RECONNECT_MS_MAX = 60_000
EVENT_BYTES_MAX = 16_777_216
_OWN = frozenset({"accept", "last-event-id", "cache-control"})


class Listening:
    """Every connection of one order. `status` and `fields` are those of the last answer."""

    def __init__(self, order: SseOrder, *, clock: Clock, artefacts: Artefacts | None) -> None:
        self.order = order
        self._clock = clock
        self._started_at_ms = clock.now_ms()
        self.hops: list[Hop] = []
        self.connections: list[dict[str, Any]] = []
        self.status = 0
        self.fields: list[tuple[bytes, bytes]] = []
        self.comments = 0
        self.last_event_id = order.last_event_id
        self.retry_ms = -1
        self.ended_by = ""
        self.transcript = Transcript(artefacts)

    @property
    def received(self) -> int:
        """How many events came."""
        return self.transcript.count

    def plan(self) -> tuple[Url, headers.Fields]:
        """Check the order whole, and make its first request.

        Raises:
            Malformed: `url_refused`, `host_refused`, `port_refused`, `header_refused`, `order_malformed`.
        """
        order = self.order
        for name, _ in order.headers:
            if name.lower() in _OWN:
                raise Malformed(
                    "header_refused", f"the header `{name.lower()}` belongs to the lane", hint="leave it out"
                )
        bounds = {
            "reconnects_max": (0, RECONNECTS_MAX), "events_max": (1, 2**31), "event_bytes_max": (1, EVENT_BYTES_MAX),
            "idle_ms": (1, 2**31), "listen_ms": (0, 2**31), "redirects_max": (0, 20),
        }  # fmt: skip
        for name, (least, most) in bounds.items():
            if not least <= getattr(order, name) <= most:
                raise Malformed("order_malformed", f"`{name}` is not {least} to {most}")
        fields = headers.check_fields(order.headers, idempotency_key="")
        self.event_id_field()
        return parse_url(order.url), fields

    def event_id_field(self) -> headers.Fields:
        """`Last-Event-ID`, if there is one.

        Raises:
            Malformed: no header can carry it (`event_id_refused`).
        """
        if not self.last_event_id:
            return ()
        field = (("Last-Event-ID", self.last_event_id.encode("utf-8", "replace").decode("latin-1")),)
        try:
            return headers.check_fields(field, idempotency_key="")
        except Malformed as error:
            raise Malformed("event_id_refused", "the last event id has characters that no header carries") from error

    def take(self, event: ServerEvent) -> bytes:
        """Keep an event; returns it as it is handed up: a JSON object of `data`, `event` and `id`.

        Raises:
            Unavailable: all events together are too much (`too_much`), or cannot be kept (`artefact_failed`).
        """
        line = msgspec.json.encode(event, order="sorted")
        limit = self.order.limits.output_bytes_max
        if self.transcript.lines.size + len(line) + 1 > limit:
            raise Unavailable("too_much", f"the events are longer than {limit} bytes together")
        try:
            self.transcript.add(line, msgspec.to_builtins(event))
        except OSError as error:
            raise Unavailable("artefact_failed", f"the events cannot be kept: {error.strerror or error}") from error
        return line

    def outcome(self, judgement: Judgement) -> Outcome:
        """The end of it all."""
        return concluded(judgement, value=self._value(), evidence=self._evidence(judgement))

    def _value(self) -> dict[str, Any]:
        if not (self.hops or self.ended_by):
            return {}  # nothing was begun
        return {
            "status": self.status, "comments": self.comments, "connections": len(self.connections),
            "last_event_id": self.last_event_id, "ended_by": self.ended_by,
        } | self.transcript.shown("events")  # fmt: skip

    def _evidence(self, judgement: Judgement) -> Evidence:
        facts: dict[str, Any] = {
            "hops": [msgspec.to_builtins(hop) for hop in self.hops], "connections": self.connections,
            "events": self.received, "ended_by": self.ended_by,
        }  # fmt: skip
        facts |= {name: sum(getattr(hop, name) for hop in self.hops) for name in ("bytes_in", "bytes_out")}
        return Evidence(
            lane="sse",
            attestation=reached("assent-sse", self.hops),
            started_at_ms=self._started_at_ms,
            ended_at_ms=self._clock.now_ms(),
            limit=judgement.limit,
            digests={"events": self.transcript.lines.digest},
            facts=facts,
        )
