"""Receipts: the immutable record of how an attempt ended. A receipt is a log entry together with what it commits to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from assent.execution.outcomes import Evidence, Outcome
from assent.ledger.entries import Draft, draft
from assent.primitives.ids import EffectId
from assent.primitives.leases import Fence


class ReceiptPayload(msgspec.Struct, frozen=True, kw_only=True):
    """The erasable half: the message, the result's value, the evidence."""

    message: str
    value: dict[str, Any]
    evidence: Evidence


_encoder = msgspec.json.Encoder(order="sorted")
_decoder = msgspec.json.Decoder(ReceiptPayload)


def receipt_draft(
    *,
    effect: EffectId,
    before: int,
    moves: list[str],
    state: str,
    attempt: int,
    fence: Fence,
    outcome: Outcome,
    salt: bytes,
    used: Mapping[str, int] | None = None,
) -> Draft:
    """The entry that settles an attempt. Everything that is not personal stands in the body, for ever; `used` is what
    it used of the units it held."""
    evidence = outcome.evidence
    body = {
        "effect": effect, "before": before, "moves": moves, "state": state, "attempt": attempt,
        "node": fence.node, "fence": fence.number, "ending": outcome.ending, "code": outcome.code,
        "lane": evidence.lane, "mechanism": evidence.attestation.mechanism,
        "confinement": evidence.attestation.confinement, "limit": evidence.limit,
        "started_at": evidence.started_at_ms, "ended_at": evidence.ended_at_ms, "digests": evidence.digests,
    }  # fmt: skip
    if used is not None:
        body |= {"used": dict(used)}
    payload = _encoder.encode(ReceiptPayload(message=outcome.message, value=outcome.value, evidence=evidence))
    return draft("effect.settled", body, salt=salt, payload=payload)


def read_receipt(payload: bytes) -> ReceiptPayload:
    """Decode a receipt's payload."""
    return _decoder.decode(payload)
