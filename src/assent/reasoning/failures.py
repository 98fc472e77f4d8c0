"""Failures of meaning are values: each kind has exactly one class, and the class says what may be done next."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

import msgspec

MESSAGE_CHARACTERS_MAX = 500


class RetryClass(StrEnum):
    """What may follow a failure: ask again, ask again after saying what was wrong, ask a person, or end."""

    RETRYABLE = "retryable"
    REPAIRABLE = "repairable"
    CLARIFICATION_REQUIRED = "clarification_required"
    TERMINAL = "terminal"


class FailureKind(StrEnum):
    """Every way in which a turn can fail to mean something."""

    INVALID_OUTPUT = "invalid_output"
    INSUFFICIENT_CONTEXT = "insufficient_context"
    CONTEXT_STALE = "context_stale"
    CONTEXT_TOO_LARGE = "context_too_large"
    TOOL_MISMATCH = "tool_mismatch"
    PROVIDER_REFUSAL = "provider_refusal"
    PROVIDER_FILTERED = "provider_filtered"
    LOOP_DETECTED = "loop_detected"
    BUDGET_EXHAUSTED = "budget_exhausted"
    ADAPTER_UNAVAILABLE = "adapter_unavailable"
    ADAPTER_REJECTED = "adapter_rejected"
    ANSWER_WITHHELD = "answer_withheld"


CLASS_OF: Mapping[FailureKind, RetryClass] = MappingProxyType(
    {
        FailureKind.INVALID_OUTPUT: RetryClass.REPAIRABLE,
        FailureKind.INSUFFICIENT_CONTEXT: RetryClass.CLARIFICATION_REQUIRED,
        FailureKind.CONTEXT_STALE: RetryClass.RETRYABLE,
        FailureKind.CONTEXT_TOO_LARGE: RetryClass.REPAIRABLE,
        FailureKind.TOOL_MISMATCH: RetryClass.REPAIRABLE,
        FailureKind.PROVIDER_REFUSAL: RetryClass.REPAIRABLE,
        FailureKind.PROVIDER_FILTERED: RetryClass.TERMINAL,
        FailureKind.LOOP_DETECTED: RetryClass.TERMINAL,
        FailureKind.BUDGET_EXHAUSTED: RetryClass.REPAIRABLE,
        FailureKind.ADAPTER_UNAVAILABLE: RetryClass.RETRYABLE,
        FailureKind.ADAPTER_REJECTED: RetryClass.TERMINAL,
        FailureKind.ANSWER_WITHHELD: RetryClass.TERMINAL,
    }
)


class Failure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A failure of meaning, as it is told and recorded. `message` is for people and is bounded."""

    kind: FailureKind
    message: str

    @property
    def retry(self) -> RetryClass:
        """What may follow."""
        return CLASS_OF[self.kind]


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider's error means. `retry_after_ms` is how long it asks us to wait (None: it does not say)."""

    kind: FailureKind
    message: str
    retry_after_ms: int | None = None


def failure(kind: FailureKind, message: str) -> Failure:
    """A failure whose message has an end."""
    return Failure(kind=kind, message=message[:MESSAGE_CHARACTERS_MAX])
