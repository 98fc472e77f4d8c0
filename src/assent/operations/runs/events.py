"""What a surface is shown while a run is driven. Plain values; the record is the log, not these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec


class TurnBegan(msgspec.Struct, frozen=True, kw_only=True, tag="turn"):
    """A model is asked. `label` is the integrity of what it is told, `tokens` about how much that is."""

    run: str
    turn: int
    model: str
    tokens: int
    label: str
    left_out: tuple[str, ...] = ()


class Words(msgspec.Struct, frozen=True, kw_only=True, tag="words"):
    """Some more words of the answer, as they come. A broken answer is asked for again: what came of it is void."""

    run: str
    turn: int
    text: str


class ModelFailed(msgspec.Struct, frozen=True, kw_only=True, tag="model_failed"):
    """A model did not answer. `then` is what follows, after `delay_ms`."""

    run: str
    turn: int
    model: str
    message: str
    then: str
    delay_ms: int = 0


class Shortened(msgspec.Struct, frozen=True, kw_only=True, tag="shortened"):
    """What was said is told more shortly from here on: about `tokens` instead of `tokens_before`."""

    run: str
    turn: int
    tokens_before: int
    tokens: int


class Proposal(msgspec.Struct, frozen=True, kw_only=True, tag="proposal"):
    """The model wishes a call; nothing has been decided."""

    run: str
    turn: int
    place: int
    tool: str
    operation: str
    arguments: dict[str, Any]


class Decided(msgspec.Struct, frozen=True, kw_only=True, tag="decided"):
    """Policy has answered a proposal, and the answer is on record. Nothing has been carried out yet."""

    run: str
    turn: int
    place: int
    tool: str
    effect: str
    verdict: str
    rules: tuple[str, ...]
    reason: str


class CallEnded(msgspec.Struct, frozen=True, kw_only=True, tag="call_ended"):
    """A call is over, or was never made; `text` is what the model is told."""

    run: str
    turn: int
    place: int
    tool: str
    effect: str
    state: str
    code: str
    text: str


class Waiting(msgspec.Struct, frozen=True, kw_only=True, tag="waiting"):
    """The run waits. `reason` is `review`, `person`, `unknown`, `provider`, `budget`, `halted` or `child`; `of` the
    review, the effect or the run it waits for; `question` is what a person is asked."""

    run: str
    reason: str
    of: str
    question: str = ""


class Paused(msgspec.Struct, frozen=True, kw_only=True, tag="paused"):
    """Somebody stopped the run for a while."""

    run: str


class RunEnded(msgspec.Struct, frozen=True, kw_only=True, tag="ended"):
    """The run is over."""

    run: str
    state: str
    text: str
    failure: str = ""


RunEvent: TypeAlias = (
    TurnBegan | Words | ModelFailed | Shortened | Proposal | Decided | CallEnded | Waiting | Paused | RunEnded
)
OnRunEvent: TypeAlias = Callable[[RunEvent], None]
