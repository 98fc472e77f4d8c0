"""The life cycle of a run. The table is all there is of it; a run has no snapshot that is truth."""

from __future__ import annotations

from enum import StrEnum

from assent.primitives.transitions import Transitions


class RunState(StrEnum):
    """Where a run can stand. WAITING: for a person, a review, a child or a provider; nothing is lost by waiting."""

    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


class RunMove(StrEnum):
    """What happens to a run."""

    WAIT = "wait"
    PAUSE = "pause"
    RESUME = "resume"
    FINISH = "finish"
    FAIL = "fail"
    CANCEL = "cancel"


ALIVE = (RunState.RUNNING, RunState.WAITING, RunState.PAUSED)
"""Where something may still come of it."""

_S, _M = RunState, RunMove

RUN = Transitions(
    start=_S.RUNNING,
    moves={
        (_S.RUNNING, _M.WAIT): _S.WAITING,
        (_S.RUNNING, _M.PAUSE): _S.PAUSED,
        (_S.RUNNING, _M.RESUME): _S.RUNNING,  # taken over from a node that is gone
        (_S.RUNNING, _M.FINISH): _S.FINISHED,
        (_S.RUNNING, _M.FAIL): _S.FAILED,
        (_S.RUNNING, _M.CANCEL): _S.CANCELLED,
        (_S.WAITING, _M.RESUME): _S.RUNNING,
        (_S.WAITING, _M.PAUSE): _S.PAUSED,
        (_S.WAITING, _M.CANCEL): _S.CANCELLED,
        (_S.PAUSED, _M.RESUME): _S.RUNNING,
        (_S.PAUSED, _M.CANCEL): _S.CANCELLED,
    },
)
