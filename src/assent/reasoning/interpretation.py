"""What an answer means: an answer, proposals, a refusal, or nothing that can be used. A closed union; nothing acts."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeAlias

import msgspec

from assent.primitives.canonical import canonical
from assent.primitives.errors import Malformed
from assent.reasoning.failures import Failure, FailureKind, failure
from assent.reasoning.messages import BrokenCall, Completion, Stop, ToolCall

CALLS_MAX = 32
ARGUMENTS_BYTES_MAX = 1_048_576


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """The model is done, and this is what it says. `cut`: it was not done, but had no more room to speak."""

    text: str
    cut: bool = False


class Proposed(msgspec.Struct, frozen=True, kw_only=True):
    """The model wishes things done. `calls` can be asked for, `faults` cannot: their place in the answer, and why."""

    text: str
    calls: tuple[tuple[int, ToolCall], ...]
    faults: tuple[tuple[int, ToolCall | BrokenCall, str], ...] = ()


class Declined(msgspec.Struct, frozen=True, kw_only=True):
    """The model, or its provider, will not answer."""

    text: str
    failure: Failure


class Unusable(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing can be made of it; `failure` says what may follow."""

    failure: Failure


Meaning: TypeAlias = Answered | Proposed | Declined | Unusable


def interpret(completion: Completion, *, tools: Collection[str]) -> Meaning:
    """What a whole answer means to an agent that was told of `tools`."""
    text = completion.text.strip()
    if completion.stop is Stop.FILTERED:
        return Declined(text=text, failure=failure(FailureKind.PROVIDER_FILTERED, "the provider kept the answer back"))
    if completion.stop is Stop.REFUSED:
        return Declined(
            text=text, failure=failure(FailureKind.PROVIDER_REFUSAL, text or "the model declined to answer")
        )
    proposals = [part for part in completion.parts if isinstance(part, ToolCall | BrokenCall)]
    if proposals:
        return _proposed(text, proposals, tools)
    if text:
        return Answered(text=text, cut=completion.stop is Stop.CUT)
    return Unusable(failure=failure(FailureKind.INVALID_OUTPUT, "the answer holds neither words nor a call"))


def _proposed(text: str, proposals: list[ToolCall | BrokenCall], tools: Collection[str]) -> Proposed:
    calls: list[tuple[int, ToolCall]] = []
    faults: list[tuple[int, ToolCall | BrokenCall, str]] = []
    for place, one in enumerate(proposals[:CALLS_MAX]):
        if isinstance(one, BrokenCall):
            faults.append((place, one, f"the arguments are not a JSON object: {one.fault}"))
        elif one.name not in tools:
            known = ", ".join(sorted(tools)) or "none"
            faults.append((place, one, f"there is no tool `{one.name[:80]}`; there are: {known}"[:2_000]))
        elif wrong := _unspeakable(one):
            faults.append((place, one, wrong))
        else:
            calls.append((place, one))
    return Proposed(text=text, calls=tuple(calls), faults=tuple(faults))


def _unspeakable(call: ToolCall) -> str:
    """Why these arguments cannot be those of a call, or an empty string."""
    try:
        size = len(canonical(call.arguments))
    except Malformed as malformed:
        return f"the arguments cannot be recorded: {malformed.message}"
    return f"the arguments have {size} bytes, and {ARGUMENTS_BYTES_MAX} are the most" * (size > ARGUMENTS_BYTES_MAX)


def left_over(completion: Completion) -> int:
    """How many proposals of one answer are beyond `CALLS_MAX`, and so were never looked at."""
    return max(0, sum(isinstance(part, ToolCall | BrokenCall) for part in completion.parts) - CALLS_MAX)
