"""A journey: all tries of one order, when there is another, and what the record says of them."""

from __future__ import annotations

from typing import Any

import msgspec

from assent.execution import headers, retries
from assent.execution.adapters.http.trips import OnHead, Trip
from assent.execution.adapters.http.uploads import UploadFile
from assent.execution.exchanges import Judgement, concluded, reached
from assent.execution.orders import HttpOrder
from assent.execution.outcomes import Ending, Evidence, Outcome
from assent.execution.ports import Artefacts
from assent.execution.retries import Backoff
from assent.execution.secrets import Scrubber
from assent.execution.spools import Spool
from assent.primitives.clock import Clock, Entropy
from assent.primitives.digests import digest

_SHOWN_CODES = frozenset({"ok", "http_status"})


class Journey:
    """Every try of one order, under one deadline.

    `taken` is the body that was handed up; once there is any, there is no further try: it could not be taken back.
    """

    def __init__(
        self,
        order: HttpOrder,
        *,
        clock: Clock,
        backoff: Backoff,
        entropy: Entropy | None,
        artefacts: Artefacts | None,
        on_head: OnHead | None,
    ) -> None:
        self.order = order
        self._on_head = on_head
        self._clock, self._backoff, self._entropy = clock, backoff, entropy
        self._started_at_ms, self._started_ns = clock.now_ms(), clock.monotonic_ns()
        self._tries: list[dict[str, Any]] = []
        self._hops: list[Any] = []
        self._acted = False
        self.upload: UploadFile | None = None
        self.taken = Spool(artefacts, kept_bytes_max=order.shown_bytes_max)
        self.trip = Trip(1, acted=False)
        self.scrubber = Scrubber()

    def begin(self) -> Trip:
        """Set out on the next try.

        Raises:
            Malformed: see `Trip.prepare`.
        """
        self.trip = Trip(len(self._tries) + 1, acted=self._acted, on_head=self._on_head)
        self.trip.prepare(self.order)
        return self.trip

    def arrived(self, judgement: Judgement, *, waits_ms: int = 0) -> None:
        """Write down how the try ended, and how long is waited for the next; once for each try."""
        trip = self.trip
        if trip.number <= len(self._tries):
            return  # it ended while it waited for the next
        self._acted = self._acted or judgement.ending is Ending.UNKNOWN
        self._hops += trip.hops
        page = {"attempt": trip.number, "ending": judgement.ending.value, "code": judgement.code}
        self._tries.append(page | {"status": trip.status, "waits_ms": waits_ms})

    def waits_ms(self, judgement: Judgement) -> int | None:
        """How long to wait before another try; None when there is none."""
        again = self.trip.put_off or judgement.code in retries.PASSING
        return self._wait() if again and not self.taken.size else None

    def puts_off(self) -> bool:
        """Whether the answer that has begun says "later", and there is a later: then its body is not read."""
        self.trip.put_off = self.trip.status in retries.TRY_LATER and self._wait() is not None
        return self.trip.put_off

    def _wait(self) -> int | None:
        trip = self.trip
        if trip.number > self.order.retries_max:
            return None
        named = headers.field(trip.answer_fields, b"retry-after")
        wait = retries.retry_after_ms(named, now_ms=self._clock.now_ms())
        if wait is None:
            wait = self._backoff.wait_ms(trip.number, self._entropy(8) if self._entropy else b"")
        elif wait > retries.RETRY_AFTER_MS_MAX:
            return None
        return wait if wait < self._left_ms() else None

    def _left_ms(self) -> int:
        return self.order.limits.wall_ms - (self._clock.monotonic_ns() - self._started_ns) // 1_000_000

    def outcome(self, judgement: Judgement) -> Outcome:
        """The end of it all."""
        judgement = msgspec.structs.replace(judgement, message=self.scrubber.text(judgement.message))
        return concluded(
            judgement, value=self._value(whole=judgement.code in _SHOWN_CODES), evidence=self._evidence(judgement)
        )

    def _value(self, *, whole: bool) -> dict[str, Any]:
        """What the caller gets; the body only when it is `whole`."""
        trip = self.trip
        if not trip.status:
            return {}
        fields = {name: self.scrubber.text(said) for name, said in headers.shown_fields(trip.answer_fields).items()}
        value: dict[str, Any] = {"status": trip.status, "headers": fields}
        if whole:
            value["body"] = self.taken.shown(content_type=fields.get("content-type", ""))
        return value

    def _evidence(self, judgement: Judgement) -> Evidence:
        digests = {"request_body": digest(self.order.body)}
        if self.upload is not None:
            digests = {"request_body": self.upload.sent} if self.upload.sent else {}
        if self.trip.status:
            digests["response_body"] = self.taken.digest
        return Evidence(
            lane="http",
            attestation=reached("assent-http", self._hops),
            started_at_ms=self._started_at_ms,
            ended_at_ms=self._clock.now_ms(),
            limit=judgement.limit,
            digests=digests,
            facts=self._facts(),
        )

    def _facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"hops": [msgspec.to_builtins(hop) for hop in self._hops], "attempts": self._tries}
        if self.order.credentials:
            facts["credentials"] = [one.handle for one in self.order.credentials]
        if self.upload is not None:
            facts["upload_bytes"] = self.upload.size
        if self._hops:
            last = facts["hops"][-1]
            names = ("host", "port", "address", "resolved", "tls_peer_sha256", "status")
            facts |= {name: last[name] for name in names}
            facts |= {name: sum(hop[name] for hop in facts["hops"]) for name in ("bytes_in", "bytes_out")}
        return facts
