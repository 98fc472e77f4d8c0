"""What a model is told about a call, from its record alone. Pure, so a resumed run tells the same as the first one."""

from __future__ import annotations

from typing import Any

import msgspec

from assent.execution.outcomes import Outcome
from assent.ledger.effects import Effect, EffectState

TOLD_CHARACTERS_MAX = 30_000
_FAR_END = 4_000


def told(effect: Effect, outcome: Outcome | None, *, reason: str) -> tuple[str, bool]:
    """The words for what came of a call, and whether it is to be taken as failed."""
    match effect.state:
        case EffectState.SUCCEEDED:
            return bounded(shown(effect.operation, outcome.value if outcome else {})), False
        case EffectState.REFUSED:
            return f"refused by policy ({effect.code}): {reason}. Nothing was done; do not try it another way.", True
        case EffectState.EXPIRED:
            return "nobody approved it in time. Nothing was done.", True
        case EffectState.REVOKED:
            return "it was approved, and policy no longer allows it. Nothing was done.", True
        case EffectState.CANCELLED:
            return "it was cancelled before it ended.", True
        case EffectState.FAILED:
            return bounded(_failed(effect, outcome)), True
        case EffectState.QUARANTINED:
            return "nobody can say whether it happened; a person looks into it. Do not repeat it.", True
        case _:
            return "", False


def shown(operation: str, value: dict[str, Any]) -> str:
    """A result as text: what a program or file said, as it is; anything else as JSON."""
    if operation == "files.read" and isinstance(value.get("text"), str):
        return str(value["text"])
    if isinstance(value.get("stdout"), str):
        return _program(value)
    if "body" in value and "status" in value:
        return f"status {value['status']}\n{value['body'] if isinstance(value['body'], str) else '[bytes]'}"
    if value.keys() == {"result"}:
        result = value["result"]
        return result if isinstance(result, str) else _json(result)
    return _json(value)


def bounded(text: str) -> str:
    """The text, or its beginning and its end where it is too long."""
    if len(text) <= TOLD_CHARACTERS_MAX:
        return text
    head, tail = text[: TOLD_CHARACTERS_MAX - _FAR_END], text[-_FAR_END:]
    return f"{head}\n[… {len(text) - TOLD_CHARACTERS_MAX} characters left out …]\n{tail}"


def _failed(effect: Effect, outcome: Outcome | None) -> str:
    if outcome is None:
        return f"it failed ({effect.code})"
    said = f"it failed ({outcome.code}): {outcome.message}" if outcome.message else f"it failed ({outcome.code})"
    return f"{said}\n{shown(effect.operation, outcome.value)}" if outcome.value else said


def _program(value: dict[str, Any]) -> str:
    parts = [str(value["stdout"])]
    if value.get("stderr"):
        parts.append(f"[stderr]\n{value['stderr']}")
    if value.get("exit"):
        parts.append(f"[exit {value['exit']}]")
    return "\n".join(part for part in parts if part) or "[no output]"


def _json(value: object) -> str:
    return msgspec.json.encode(value, order="sorted").decode()
