"""What a model is told about a call, from its record alone. Pure, so a resumed run tells the same as the first one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assent.execution.outcomes import Outcome
from assent.ledger.effects import Effect, EffectState
from assent.operations.runs.results import shown

TOLD_CHARACTERS_MAX = 30_000
_FAR_END = 4_000
_NO_OTHER_WAY = "Nothing was done; do not try it another way."
_ENDED = {
    EffectState.EXPIRED: "nobody approved it in time. Nothing was done.",
    EffectState.REVOKED: "it was approved, and policy no longer allows it. Nothing was done.",
    EffectState.CANCELLED: "it was cancelled before it ended.",
    EffectState.QUARANTINED: "nobody can say whether it happened; a person looks into it. Do not repeat it.",
}


def told(
    effect: Effect, outcome: Outcome | None, *, reason: str, arguments: Mapping[str, Any] | None = None
) -> tuple[str, bool]:
    """The words for what came of a call with these `arguments`, and whether it is to be taken as failed."""
    match effect.state:
        case EffectState.SUCCEEDED if outcome is None:
            return "it happened; what came of it was lost when the machine stopped", False
        case EffectState.SUCCEEDED:
            return bounded(shown(effect.operation, arguments or {}, outcome.value if outcome else {})), False
        case EffectState.FAILED:
            return bounded(_failed(effect, outcome, arguments or {})), True
        case EffectState.REFUSED if effect.code == "arguments_invalid":
            return bounded(f"the call was not well-formed: {reason}. Nothing was done; mend it and try again."), True
        case EffectState.REFUSED:
            return bounded(f"refused by policy ({effect.code}): {reason}. {_NO_OTHER_WAY}"), True
        case _:
            words = _ENDED.get(effect.state, "")
            return words, bool(words)


def bounded(text: str) -> str:
    """The text, or its beginning and its end where it is too long."""
    if len(text) <= TOLD_CHARACTERS_MAX:
        return text
    head, tail = text[: TOLD_CHARACTERS_MAX - _FAR_END], text[-_FAR_END:]
    return f"{head}\n[… {len(text) - TOLD_CHARACTERS_MAX} characters left out …]\n{tail}"


def _failed(effect: Effect, outcome: Outcome | None, arguments: Mapping[str, Any]) -> str:
    if outcome is None:
        return f"it failed ({effect.code})"
    said = f"it failed ({outcome.code}): {outcome.message}" if outcome.message else f"it failed ({outcome.code})"
    more = shown(effect.operation, arguments, outcome.value) if outcome.value else ""
    return f"{said}\n{more}" if more else said
