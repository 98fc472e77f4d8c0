"""What asking a model may use and did use: tokens as its provider counts them, money by the price that was declared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from assent.execution.outcomes import Ending, Outcome
from assent.reasoning.context import Piece, piece_tokens
from assent.reasoning.messages import Completion

_PRICED_TOKENS = 1_000_000
# Nothing reached the provider, so it has nothing to charge.
_NEVER_SENT = frozenset(
    {
        "host_refused", "address_refused", "unreachable", "tls_failed", "tls_unknown", "credential_missing",
        "credential_in_the_clear",
    }
)  # fmt: skip


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a million tokens cost, in millionths of the currency unit."""

    input_micros: int
    output_micros: int

    def of(self, *, input_tokens: int, output_tokens: int) -> int:
        """What so many tokens cost, rounded up. What a provider reads from its cache is not made cheaper."""
        return -(-(input_tokens * self.input_micros + output_tokens * self.output_micros) // _PRICED_TOKENS)


def estimated(pieces: Iterable[Piece], *, output_tokens_max: int, price: Price | None) -> Mapping[str, int | None]:
    """The most that a question may use, by our own count of what is told. Without a price nobody can say how much
    money."""
    told = sum(map(piece_tokens, pieces))
    money = price.of(input_tokens=told, output_tokens=output_tokens_max) if price else None
    return {"tokens": told + output_tokens_max, "micros": money}


def used(outcome: Outcome, completion: Completion | None, *, price: Price | None) -> Mapping[str, int]:
    """What a question used, as far as its end tells: what the provider counted; nothing where it refused to answer, or
    was never reached. Of anything else nobody can say."""
    if completion is not None:
        usage = completion.usage
        if not usage.input_tokens + usage.output_tokens:
            return {}  # the provider does not count
        money = price.of(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens) if price else 0
        return {"tokens": usage.input_tokens + usage.output_tokens, "micros": money}
    refused = outcome.code == "http_status" and 400 <= outcome.evidence.facts.get("status", 0) < 500
    if outcome.ending is Ending.FAILED and (refused or outcome.code in _NEVER_SENT):
        return {"tokens": 0, "micros": 0}
    return {}
