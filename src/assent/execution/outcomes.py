"""How a lane's work ended, and what backs that up. Pure values."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from assent.execution.attestations import Attestation
from assent.primitives.digests import Digest


class Ending(StrEnum):
    """How an attempt ended. UNKNOWN: the effect may have happened and the lane cannot tell."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


class StreamEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A bounded piece of live output (`stdout`, `stderr`, `body`), handed up while the lane runs."""

    stream: str
    data: bytes


class Evidence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What backs an outcome: where it ran, what was observed, digests of what came out.

    `facts` holds the lane's own small JSON facts: exit code, signal, pid, rusage; or host, address, status, byte
    counts; or path and file digests. Never a secret, never bulk output. `limit` names the limit that ended the run.
    """

    lane: str
    attestation: Attestation
    started_at_ms: int
    ended_at_ms: int
    limit: str = ""
    digests: dict[str, Digest] = {}
    facts: dict[str, Any] = {}


class Outcome(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`code` is a stable word (`ok`, `exit_nonzero`, `wall_limit`, `host_refused`, …), `message` is for people,
    `value` is the result as JSON values (what the caller asked for)."""

    ending: Ending
    code: str
    message: str = ""
    value: dict[str, Any] = {}
    evidence: Evidence
