"""Fetching a description: a governed call like any other, and the bytes it brought."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from assent.operations.gate import Gate
from assent.operations.wishes import Answer, Wish
from assent.primitives.errors import Refused


async def fetched(gate: Gate, wish: Wish) -> bytes:
    """Perform `wish` and return the body it brought.

    Raises:
        Refused: `description_unfetched`: policy or the other side said no; the call is on record.
    """
    answer = await gate.perform(wish)
    value = answer.outcome.value if answer.outcome is not None else {}
    body = body_of(value) if answer.effect.state == "succeeded" else None
    if body is None:
        raise Refused(
            "description_unfetched",
            f"the description was not fetched: {_why(answer)}",
            hint=f"see `assent explain {answer.effect.id[-8:]}`, or give a file",
        )
    return body


async def listed(gate: Gate, wish: Wish) -> list[Any]:
    """Perform `wish` and return the definitions of the tools it brought.

    Raises:
        Refused: `description_unfetched`, as `fetched`.
    """
    answer = await gate.perform(wish)
    tools = answer.outcome.value.get("tools") if answer.outcome is not None else None
    if answer.effect.state != "succeeded" or not isinstance(tools, list):
        raise Refused(
            "description_unfetched",
            f"the tools were not listed: {_why(answer)}",
            hint=f"see `assent explain {answer.effect.id[-8:]}`",
        )
    return tools


def body_of(value: dict[str, Any]) -> bytes | None:
    """The bytes of the body in a value of the http lane, or None when they are not all there."""
    body = value.get("body")
    if isinstance(body, str):
        return body.encode()
    packed = body.get("base64") if isinstance(body, dict) else None
    try:
        return base64.b64decode(packed, validate=True) if isinstance(packed, str) else None
    except binascii.Error:
        return None


def _why(answer: Answer) -> str:
    if answer.outcome is not None:
        return answer.outcome.message or answer.outcome.code
    if answer.review is not None:
        return "people are asked first"
    return answer.decision.reason if answer.decision is not None else answer.effect.state
