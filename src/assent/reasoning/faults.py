"""What an error of a provider means: they spell it in four ways, and mean the same few things."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from assent.reasoning.failures import FailureKind, Fault
from assent.reasoning.streams import one_line

_TOO_LARGE = re.compile(
    r"context.?length|context window|prompt is too long|too many tokens|maximum context|token count.{0,40}exceeds",
    re.IGNORECASE,
)
_FILTERED = re.compile(r"content.?filter|content_policy|safety system|blocked by.{0,20}policy", re.IGNORECASE)
_LATER = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
_WHAT = {
    401: "it does not accept the key: check the credential of this endpoint",
    403: "the key may not do this: check what it is allowed to use",
    404: "it knows no such model or address: check the model's name and the `url` of this endpoint",
}


def fault_of(*, wire: str, status: int, headers: Mapping[str, str], body: bytes) -> Fault:
    """What an answer with an error status means. The provider's words are shown in one bounded line."""
    said, code = _said(body)
    words = f"`{wire}` answered {status}" + (f": {one_line(said)}" if said else "")
    if status in _LATER:
        return Fault(kind=FailureKind.ADAPTER_UNAVAILABLE, message=words, retry_after_ms=retry_after_ms(headers))
    if status in (400, 413, 422) and (status == 413 or _TOO_LARGE.search(f"{code} {said}")):
        return Fault(kind=FailureKind.CONTEXT_TOO_LARGE, message=words)
    if status == 400 and _FILTERED.search(f"{code} {said}"):
        return Fault(kind=FailureKind.PROVIDER_FILTERED, message=words)
    hint = f"; {_WHAT[status]}" if status in _WHAT else ""
    return Fault(kind=FailureKind.ADAPTER_REJECTED, message=words + hint)


def retry_after_ms(headers: Mapping[str, str]) -> int | None:
    """How long it asks to wait: `retry-after-ms`, or `retry-after` in seconds. A date is not read here: the http lane
    knows the time, and nothing here does."""
    named = {name.lower(): value.strip() for name, value in headers.items()}
    for name, factor in (("retry-after-ms", 1), ("retry-after", 1000)):
        try:
            value = float(named.get(name, ""))
        except ValueError:
            continue
        if 0 <= value < 10**9:
            return int(value * factor)
    return None


def _said(body: bytes) -> tuple[str, str]:
    """The words and the code of an error, in whichever shape it came."""
    try:
        value: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "", ""
    value = value[0] if isinstance(value, list) and value else value
    error = value.get("error", value) if isinstance(value, dict) else value
    if isinstance(error, str):
        return error, ""
    if not isinstance(error, dict):
        return "", ""
    code = " ".join(str(error.get(name, "")) for name in ("type", "code", "status"))
    return str(error.get("message", "")), code
