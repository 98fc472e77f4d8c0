"""When an exchange is tried again, and how long to wait before. Pure.

A try is worth another only where a second one cannot do harm (the method is safe, or the contract of the operation says
that doing it twice is doing it once) and where the first one failed for a reason that passes: nobody there, the answer
cut short, or a status by which servers say "later". Anything else is an answer.

The waits grow by doubling and are spread by chance, so that many who failed together do not come back together: between
half of the wait and the whole of it. A `Retry-After` (RFC 9110 section 10.2.3, seconds or a date) is waited for as it
stands; one beyond the bound ends the tries, because the server has said that an earlier one is in vain.
"""

from __future__ import annotations

import re

import msgspec

from assent.primitives.http_dates import http_date_ms

RETRY_AFTER_MS_MAX = 60_000
RETRIES_MAX = 10
TRY_LATER = frozenset({408, 425, 429, 502, 503, 504})
PASSING = frozenset({"unreachable", "cut_short", "no_answer"})
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})

_SECONDS = re.compile(rb"[0-9]{1,9}\Z")


class Backoff(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long to wait before the second try (`first_ms`), doubling up to `most_ms`."""

    first_ms: int = 250
    most_ms: int = 8_000

    def wait_ms(self, tries: int, chance: bytes) -> int:
        """The wait after `tries` tries (from 1). `chance` (any bytes) picks a point between half of it and the whole;
        without any it is the whole."""
        whole = min(self.most_ms, self.first_ms << min(tries - 1, 32))
        half = whole // 2
        return half + int.from_bytes(chance, "big") % (whole - half + 1) if chance else whole


def retry_after_ms(value: bytes | None, *, now_ms: int) -> int | None:
    """What a `Retry-After` says, in milliseconds from `now_ms`, never below 0; None when there is none to be read."""
    text = (value or b"").strip()
    if _SECONDS.match(text):
        return int(text) * 1000
    moment = http_date_ms(text.decode("latin-1"))
    return None if moment is None else max(0, moment - now_ms)


def may_repeat(method: str, *, idempotency_key: str) -> bool:
    """Whether `method` may be sent again without another effect: by what it means (RFC 9110 section 9.2.2), or because
    a key makes the server drop the second."""
    return method in _IDEMPOTENT or bool(idempotency_key)
