"""What is written down about each connection of a run: bounded in number, never in the sums."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

_REASON_CHARS_MAX = 300
_NOT_YET = "not reached"
ALLOWED = "allowed"


class EgressLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What bounds the broker of one run.

    `connections_max` at one time (more are answered 503: `connections_limit`); `head_bytes_max` and `head_ms` for a
    request's head (`head_limit`, `head_wait_limit`); `idle_ms` without a byte either way (`idle_limit`); `bytes_max`
    over all connections and both ways (`bytes_limit`); `records_max` contacts kept of those allowed, and as many of
    those refused, so that neither can push the other out.
    """

    connections_max: int = 64
    head_bytes_max: int = 16_384
    head_ms: int = 10_000
    idle_ms: int = 300_000
    bytes_max: int = 4_294_967_296
    records_max: int = 64


class Contact(msgspec.Struct, kw_only=True):
    """One connection onwards, or one that was refused, written down as it becomes known. A notebook page.

    `verdict` is `allowed` or the code of the refusal; `ended` how an allowed one ended: `closed`, `broken`, the name of
    a limit, or `run_ended`. Bytes are counted as they are handed on: out to the host, in to the program. Times are
    milliseconds; `at_ms` counts from the start of the broker.
    """

    kind: str
    host: str = ""
    port: int = 0
    address: str = ""
    verdict: str = _NOT_YET
    reason: str = ""
    ended: str = ""
    requests: int = 0
    bytes_out: int = 0
    bytes_in: int = 0
    at_ms: int = 0
    duration_ms: int = 0
    resolved: list[str] = []


class Contacts:
    """The pages of one run."""

    def __init__(self, limits: EgressLimits) -> None:
        self._limits = limits
        self._allowed: list[Contact] = []
        self._refused: list[Contact] = []
        self._verdicts: Counter[str] = Counter()
        self.bytes_out = 0
        self.bytes_in = 0

    def add(self, contact: Contact) -> None:
        """Take down a contact whose verdict is known; an allowed one may still be under way."""
        self._verdicts[contact.verdict] += 1
        contact.reason = contact.reason[:_REASON_CHARS_MAX]
        kept = self._allowed if contact.verdict == ALLOWED else self._refused
        if len(kept) < self._limits.records_max:
            kept.append(contact)

    def spend(self, *, bytes_out: int = 0, bytes_in: int = 0) -> bool:
        """Count bytes that were handed on; whether more may be."""
        self.bytes_out += bytes_out
        self.bytes_in += bytes_in
        return self.bytes_out + self.bytes_in < self._limits.bytes_max

    def facts(self) -> dict[str, Any]:
        """The record as small JSON values."""
        kept = sorted([*self._allowed, *self._refused], key=lambda contact: contact.at_ms)
        pages = [
            {name: value for name, value in msgspec.to_builtins(page).items() if name != "resolved"} for page in kept
        ]
        return {
            "connections": pages,
            "left_out": self._verdicts.total() - len(kept),
            "verdicts": dict(sorted(self._verdicts.items())),
            "bytes_out": self.bytes_out,
            "bytes_in": self.bytes_in,
        }
