"""Reviews: a question to people, bound to the digest of one exact call. Pure values and the rule of who may answer."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any

import msgspec

from assent.primitives.digests import Digest
from assent.primitives.errors import Malformed
from assent.primitives.ids import EffectId, ReviewId, TenantId
from assent.primitives.transitions import Transitions

REASON_BYTES_MAX = 2_000

_PERSON = re.compile(r"person:[!-~]{1,128}\Z")


class ReviewState(StrEnum):
    """Where a review can stand."""

    OPEN = "open"
    APPROVED = "approved"
    DENIED = "denied"
    EXPIRED = "expired"
    CONSUMED = "consumed"
    VOID = "void"


class ReviewMove(StrEnum):
    """What happens to a review."""

    APPROVE = "approve"
    DENY = "deny"
    EXPIRE = "expire"
    CONSUME = "consume"
    VOID = "void"


REVIEW = Transitions(
    start=ReviewState.OPEN,
    moves={
        (ReviewState.OPEN, ReviewMove.APPROVE): ReviewState.APPROVED,
        (ReviewState.OPEN, ReviewMove.DENY): ReviewState.DENIED,
        (ReviewState.OPEN, ReviewMove.EXPIRE): ReviewState.EXPIRED,
        (ReviewState.APPROVED, ReviewMove.CONSUME): ReviewState.CONSUMED,
        (ReviewState.APPROVED, ReviewMove.EXPIRE): ReviewState.EXPIRED,
        # The policy of the day of dispatch said no, although a person had said yes.
        (ReviewState.APPROVED, ReviewMove.VOID): ReviewState.VOID,
    },
)


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """One question. `intent` is the digest it is bound to, `approvers` who said yes so far, `reason` what the last
    answer said. `requested_by` is the principal and its on-behalf-of chain."""

    tenant: TenantId
    id: ReviewId
    effect: EffectId
    intent: Digest
    state: ReviewState
    question: str
    quorum: int
    requested_by: tuple[str, ...]
    approvers: tuple[str, ...] = ()
    reason: str = ""
    opened_at_ms: int
    expires_at_ms: int


def review_terms(review: Review) -> dict[str, Any]:
    """What the log's entry keeps of a review's terms, so that they cannot be changed afterwards."""
    return {
        "question": review.question,
        "quorum": review.quorum,
        "requested_by": list(review.requested_by),
        "opened_at": review.opened_at_ms,
        "expires_at": review.expires_at_ms,
    }


def is_person(name: str) -> bool:
    """Whether `name` is one person's name: `person:` and printable ASCII without a space."""
    return _PERSON.match(name) is not None


def check_reason(reason: str) -> None:
    """Check what a person gives as a reason.

    Raises:
        Malformed: `reason_malformed` or `reason_too_long`.
    """
    try:
        size = len(reason.encode())
    except UnicodeEncodeError as error:
        raise Malformed("reason_malformed", "a reason must be valid Unicode") from error
    if size > REASON_BYTES_MAX:
        raise Malformed("reason_too_long", f"a reason has at most {REASON_BYTES_MAX} bytes")


def may_not_answer(review: Review, approver: str) -> str:
    """Why `approver` may not answer `review`, or an empty string when they may.

    Only people answer, under a name without a gap: two names are not one, and the requester's with a space behind it is
    nobody's. The requester may not; someone the requester acts for may, because it is in their name that consent is
    asked.
    """
    if not is_person(approver):
        return f"only people answer reviews, and `{approver[:80]!a}` is not a person"
    if approver == review.requested_by[0]:
        return f"`{approver}` made this request and may not answer it"
    return ""
