"""Exceptions as values: type, message, and where in the caller's own code. Nothing of the interpreter's is told."""

from __future__ import annotations

import traceback
from types import TracebackType
from typing import Any

from .values import type_name

MESSAGE_CHARS_MAX = 4_096
PLACES_MAX = 40
_CHAIN_MAX = 3
_LINE_CHARS_MAX = 200


def told(error: BaseException, *, own: tuple[str, ...], depth: int = 0) -> dict[str, Any]:
    """`{"type", "message", "traceback": [{"file", "line", "function", "text"}], "cause"}`, everything cut.

    `own` are the beginnings of file names that are the caller's.
    """
    fault: dict[str, Any] = {
        "type": type_name(type(error)),
        "message": _message(error),
        "traceback": _places(error.__traceback__, own),
    }
    if isinstance(error, SyntaxError) and error.lineno is not None:
        fault["line"] = error.lineno
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and depth < _CHAIN_MAX:
        fault["cause"] = told(cause, own=own, depth=depth + 1)
    return fault


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - anybody's `__str__`
        return "(its `__str__` fails)"
    return _clean(text[:MESSAGE_CHARS_MAX])


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _places(trace: TracebackType | None, own: tuple[str, ...]) -> list[dict[str, Any]]:
    """The innermost places in the caller's code, oldest first; of a long way only both ends."""
    found = [(frame, line) for frame, line in traceback.walk_tb(trace) if frame.f_code.co_filename.startswith(own)]
    if len(found) > PLACES_MAX:
        found = found[: PLACES_MAX // 2] + found[-PLACES_MAX // 2 :]
    return [
        {
            "file": _clean(place.filename[:_LINE_CHARS_MAX]),
            "line": place.lineno,
            "function": _clean(place.name[:_LINE_CHARS_MAX]),
            "text": _clean((place.line or "")[:_LINE_CHARS_MAX]),
        }
        for place in traceback.StackSummary.extract(iter(found))
    ]
