"""What an error of a provider means: they spell it in many ways, and mean the same few things. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from assent.primitives.http_dates import http_date_ms
from assent.reasoning.failures import FailureKind, Fault
from assent.reasoning.reading import Misread, read_json

WORDS_CHARACTERS_MAX = 300
RETRY_AFTER_MS_MAX = 10**9
_READ_CHARACTERS_MAX = 4_000

_TOO_LARGE = re.compile(
    r"context[ _-]?(?:length|window|limit|size)|prompt is too long|input is too long|too many tokens"
    r"|token count.{0,60}exceeds|maximum (?:model|prompt|input) length|longer than the maximum",
    re.IGNORECASE,
)
_FILTERED = re.compile(
    r"content[ _-]?(?:filter|policy|management)|(?:usage|safety|responsible.ai) polic|safety system|\bflagged\b"
    r"|prohibited_content",
    re.IGNORECASE,
)
_KEY_REFUSED = re.compile(r"api[ _]key not valid|api_key_invalid|invalid api key", re.IGNORECASE)
_NEVER = re.compile(r"invalid_request|authentication|permission|not_found|billing|insufficient_quota", re.IGNORECASE)
_KEY = re.compile(r"\b(?:sk|pk|rk|gsk|xai|key|AIza)[-_A-Za-z0-9*.]{6,}")
_DURATION = re.compile(r"([0-9]{1,7})(?:\.([0-9]{1,9}))?s\Z")
_LATER = frozenset({408, 409, 425, 429})
_TOLD = frozenset({400, 403, 413, 422})
"""Statuses whose words say what was wrong with the question."""
_WHAT = {
    401: "it does not accept the key: check the credential of this endpoint",
    402: "the account has no credit left: check its billing",
    403: "the key may not do this: check what it is allowed to use",
    404: "it knows no such model or address: check the model's name and the `url` of this endpoint",
}


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """An error in the provider's own words. `code` holds all its codes, `cause` what it passes on from further away."""

    words: str = ""
    code: str = ""
    cause: str = ""
    retry_after_ms: int | None = None

    @property
    def all(self) -> str:
        """Everything that may tell what is meant."""
        return f"{self.code} {self.words} {self.cause}"


def said_of(value: object) -> Said:
    """An error in whichever shape it came: a text, an object, one inside another, or the first of a list."""
    value = value[0] if isinstance(value, list) and value else value
    if isinstance(value, str):
        return Said(words=value[:_READ_CHARACTERS_MAX])
    if not isinstance(value, dict):
        return Said()
    if value.get("error"):
        inner = said_of(value["error"])
        return inner if inner.words else msgspec.structs.replace(inner, words=_text(value.get("message")))
    words = next((found for name in ("message", "msg", "detail") if (found := _words(value.get(name)))), "")
    metadata = value.get("metadata")
    return Said(
        words=words,
        code=" ".join(_text(value.get(name)) for name in ("type", "code", "status", "reason")),
        cause=_text(metadata.get("raw")) if isinstance(metadata, dict) else "",
        retry_after_ms=_asked_to_wait(value.get("details")),
    )


def fault_of(*, wire: str, status: int, headers: Mapping[str, str], body: bytes) -> Fault:
    """What an answer with an error status means. The provider's words are shown in one bounded line."""
    try:
        said = said_of(read_json(body))
    except Misread:
        said = Said()
    kind = _kind_of_status(status, said)
    status = 401 if _KEY_REFUSED.search(said.all) else status
    # What is said about a key may quote it.
    shown = "" if status == 401 else one_line(said.words)
    words = f"`{wire}` answered {status}" + (f": {shown}" if shown else "")
    if kind is FailureKind.ADAPTER_REJECTED and status in _WHAT:
        words += f"; {_WHAT[status]}"
    later = kind is FailureKind.ADAPTER_UNAVAILABLE
    asked = retry_after_ms(headers) if later else None
    return Fault(kind=kind, message=words, retry_after_ms=said.retry_after_ms if later and asked is None else asked)


def kind_within(said: Said) -> FailureKind:
    """What an error in the middle of an answer means, where no status tells."""
    if _TOO_LARGE.search(said.all):
        return FailureKind.CONTEXT_TOO_LARGE
    if _FILTERED.search(said.all):
        return FailureKind.PROVIDER_FILTERED
    return FailureKind.ADAPTER_REJECTED if _NEVER.search(said.code) else FailureKind.ADAPTER_UNAVAILABLE


def retry_after_ms(headers: Mapping[str, str]) -> int | None:
    """How long it asks to wait: `retry-after-ms`, or `retry-after` in seconds or as a date, which is measured against
    the answer's own `date`."""
    named = {name.lower(): value.strip() for name, value in headers.items()}
    for name, factor in (("retry-after-ms", 1), ("retry-after", 1_000)):
        try:
            wait = float(named.get(name, "")) * factor
        except ValueError:
            continue
        if 0 <= wait <= RETRY_AFTER_MS_MAX:
            return int(wait)
    until, now = http_date_ms(named.get("retry-after", "")), http_date_ms(named.get("date", ""))
    return None if until is None or now is None else min(max(0, until - now), RETRY_AFTER_MS_MAX)


def one_line(text: str) -> str:
    """Foreign words in one line with an end, without what looks like a key."""
    plain = "".join(c if c.isprintable() else " " for c in text[:_READ_CHARACTERS_MAX])
    return _KEY.sub("[key]", " ".join(plain.split()))[:WORDS_CHARACTERS_MAX]


def _kind_of_status(status: int, said: Said) -> FailureKind:
    if status in _LATER or status >= 500:
        return FailureKind.ADAPTER_UNAVAILABLE
    if status == 413 or (status in _TOLD and _TOO_LARGE.search(said.all)):
        return FailureKind.CONTEXT_TOO_LARGE
    if status in _TOLD and _FILTERED.search(said.all):
        return FailureKind.PROVIDER_FILTERED
    return FailureKind.ADAPTER_REJECTED


def _asked_to_wait(details: object) -> int | None:
    """The `retryDelay` among the details of a Google error (google.rpc.RetryInfo): a duration like `34.07s`."""
    for one in details if isinstance(details, list) else ():
        found = _DURATION.match(_text(one.get("retryDelay"))) if isinstance(one, dict) else None
        if found:
            return int(found[1]) * 1_000 + int((found[2] or "0").ljust(3, "0")[:3])
    return None


def _words(value: object) -> str:
    """Words, or the first words of a list of faults."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return _text(value[0].get("msg"))
    return _text(value)


def _text(value: Any) -> str:  # noqa: ANN401 (JSON)
    return value[:_READ_CHARACTERS_MAX] if isinstance(value, str) else str(value) if isinstance(value, int) else ""
