"""Effects: one thing done to the world, or attempted. The life cycle is this table and nothing else."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from assent.execution.outcomes import Ending, Outcome
from assent.primitives.digests import Digest
from assent.primitives.ids import EffectId, TenantId
from assent.primitives.transitions import Transitions


class EffectState(StrEnum):
    """Where an effect can stand."""

    REQUESTED = "requested"
    REFUSED = "refused"
    IN_REVIEW = "in_review"
    GRANTED = "granted"
    EXPIRED = "expired"
    REVOKED = "revoked"
    DISPATCHED = "dispatched"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"
    QUARANTINED = "quarantined"


class Move(StrEnum):
    """What happens to an effect."""

    REFUSE = "refuse"
    REVIEW = "review"
    GRANT = "grant"
    EXPIRE = "expire"
    REVOKE = "revoke"
    DISPATCH = "dispatch"
    SUCCEED = "succeed"
    FAIL = "fail"
    CANCEL = "cancel"
    LOSE = "lose"
    QUARANTINE = "quarantine"


_S, _M = EffectState, Move

EFFECT = Transitions(
    start=_S.REQUESTED,
    moves={
        (_S.REQUESTED, _M.REFUSE): _S.REFUSED,
        (_S.REQUESTED, _M.REVIEW): _S.IN_REVIEW,
        (_S.REQUESTED, _M.GRANT): _S.GRANTED,
        (_S.IN_REVIEW, _M.GRANT): _S.GRANTED,
        (_S.IN_REVIEW, _M.REFUSE): _S.REFUSED,
        (_S.IN_REVIEW, _M.EXPIRE): _S.EXPIRED,
        (_S.GRANTED, _M.DISPATCH): _S.DISPATCHED,
        (_S.GRANTED, _M.REVOKE): _S.REVOKED,
        (_S.GRANTED, _M.EXPIRE): _S.EXPIRED,
        (_S.DISPATCHED, _M.SUCCEED): _S.SUCCEEDED,
        (_S.DISPATCHED, _M.FAIL): _S.FAILED,
        (_S.DISPATCHED, _M.CANCEL): _S.CANCELLED,
        (_S.DISPATCHED, _M.LOSE): _S.UNKNOWN,
        (_S.UNKNOWN, _M.SUCCEED): _S.SUCCEEDED,
        (_S.UNKNOWN, _M.FAIL): _S.FAILED,
        (_S.UNKNOWN, _M.QUARANTINE): _S.QUARANTINED,
    },
)

MOVE_OF_ENDING: dict[Ending, Move] = {
    Ending.SUCCEEDED: Move.SUCCEED,
    Ending.FAILED: Move.FAIL,
    Ending.CANCELLED: Move.CANCEL,
    Ending.UNKNOWN: Move.LOSE,
}


class Effect(msgspec.Struct, frozen=True, kw_only=True):
    """Where one effect stands now. `intent` is the intent's digest; `attempt` counts dispatches from 1; `observations`
    counts what the reconciler looked at since the outcome became unknown; `first_seq` and `last_seq` are log positions.
    """

    tenant: TenantId
    id: EffectId
    key: str
    intent: Digest
    operation: str
    run: str
    parent: str
    state: EffectState
    code: str
    review: str
    attempt: int
    node: str
    fence: int
    observations: int
    first_seq: int
    last_seq: int

    @property
    def settled(self) -> bool:
        """Whether nothing more can happen to it."""
        return self.state in EFFECT.terminal


def settled_effect(effect: Effect, outcome: Outcome, seq: int) -> Effect:
    """The effect after an attempt ended so and was applied at log position `seq`."""
    _, state = ended(effect.state, outcome.ending)
    return msgspec.structs.replace(effect, state=state, code=outcome.code, last_seq=seq)


def ended(state: EffectState, ending: Ending) -> tuple[tuple[Move, ...], EffectState]:
    """The move an ending makes from `state`, and where it leads; an unknown effect that stays unclear does not move."""
    move = MOVE_OF_ENDING[ending]
    if not EFFECT.allows(state, move):
        return (), state
    return (move,), EFFECT.after(state, move)
