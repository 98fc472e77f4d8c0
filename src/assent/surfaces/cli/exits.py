"""Exit codes: what a script can tell from how `assent` ended. This is the one place that says so."""

from __future__ import annotations

from enum import IntEnum

from assent.ledger.effects import EffectState
from assent.primitives.errors import AssentError, Malformed, Refused


class Exit(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    WAITING = 4
    UNKNOWN = 5
    INTERRUPTED = 130
    TERMINATED = 143


MEANINGS: dict[Exit, str] = {
    Exit.DONE: "it was done",
    Exit.FAILED: "it was tried and failed, or a check found a fault",
    Exit.USAGE: "the words could not be read: arguments, settings or ids; nothing was done",
    Exit.REFUSED: "the answer is no: policy, a reviewer, or a fact that stands against it",
    Exit.WAITING: "it waits for people to answer a review",
    Exit.UNKNOWN: "it may have happened: the outcome is not known yet",
    Exit.INTERRUPTED: "interrupted by Ctrl-C; what was running was cancelled and recorded",
    Exit.TERMINATED: "ended by SIGTERM; what was running was cancelled and recorded",
}

OF_STATE: dict[EffectState, Exit] = {
    EffectState.REQUESTED: Exit.UNKNOWN,
    EffectState.REFUSED: Exit.REFUSED,
    EffectState.IN_REVIEW: Exit.WAITING,
    EffectState.GRANTED: Exit.WAITING,
    EffectState.EXPIRED: Exit.REFUSED,
    EffectState.REVOKED: Exit.REFUSED,
    EffectState.DISPATCHED: Exit.UNKNOWN,
    EffectState.SUCCEEDED: Exit.DONE,
    EffectState.FAILED: Exit.FAILED,
    EffectState.CANCELLED: Exit.FAILED,
    EffectState.UNKNOWN: Exit.UNKNOWN,
    EffectState.QUARANTINED: Exit.UNKNOWN,
}


def of_error(error: AssentError) -> Exit:
    """How a command ends that raised `error`."""
    if isinstance(error, Malformed):
        return Exit.USAGE
    return Exit.REFUSED if isinstance(error, Refused) else Exit.FAILED
