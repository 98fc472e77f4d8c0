"""Reviews: a question to people, bound to the digest of one exact call. Pure values and the rule of who may answer."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from assent.ledger.decisions import ANYBODY, Demands, Seat
from assent.primitives.digests import Digest
from assent.primitives.errors import Malformed
from assent.primitives.ids import EffectId, ReviewId, TenantId
from assent.primitives.transitions import Transitions

REASON_BYTES_MAX = 2_000

_PERSON = re.compile(r"person:[A-Za-z0-9](?:[A-Za-z0-9._@+/:-]{0,126}[A-Za-z0-9])?\Z")


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
    """One question. `intent` is the digest it is bound to, `approvers` who said yes so far, `places` in whose place
    each of them did (empty: their own), `reason` what the last answer said. `requested_by` is the principal and its
    on-behalf-of chain. With `after` the call was carried out first, in an emergency, and is looked at now."""

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
    places: tuple[str, ...] = ()
    demands: Demands = ANYBODY
    escalated: bool = False
    after: bool = False

    def is_due(self, now_ms: int) -> bool:
        """Whether its time has passed, or that after which it goes to others."""
        wait_s = 0 if self.escalated else self.demands.escalate_s
        return now_ms >= self.expires_at_ms or bool(wait_s and now_ms >= self.opened_at_ms + wait_s * 1_000)


class Voice(NamedTuple):
    """Somebody who approved, with the roles by which that counts: their own, or those of whom they stand in for."""

    name: str
    roles: frozenset[str]


def review_terms(review: Review) -> dict[str, Any]:
    """What the log's entry keeps of a review's terms, so that they cannot be changed afterwards."""
    terms: dict[str, Any] = {
        "question": review.question,
        "quorum": review.quorum,
        "requested_by": list(review.requested_by),
        "opened_at": review.opened_at_ms,
        "expires_at": review.expires_at_ms,
    }
    if review.demands != ANYBODY:
        terms["demands"] = msgspec.to_builtins(review.demands)
    if review.after:
        terms["after"] = True
    return terms


def demands_text(demands: object) -> str:
    """Demands as a row keeps them: one text for the same demands, from a struct or from an entry."""
    return msgspec.json.encode(msgspec.to_builtins(demands), order="sorted").decode()


def is_person(name: str) -> bool:
    """Whether `name` is one person's name, as policy writes them: plain ASCII, without a mark at either end."""
    return _PERSON.match(name) is not None


def is_among(name: str, names: Iterable[str]) -> bool:
    """Whether somebody is among `names`, whatever the case: two people who differ in nothing else count as one."""
    return name.lower() in (one.lower() for one in names if one)


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


def may_not_answer(review: Review, approver: str, *, place_of: str = "") -> str:
    """Why `approver` may not answer `review` (in the place of `place_of`), or an empty string when they may.

    Only people answer, under a plain name: the requester's with a mark behind it is nobody's, in other letters it is
    still theirs. The requester may not, nor may anybody in their place; someone the requester acts for may, because it
    is in their name that consent is asked, unless the rule wants others. A place is taken once.
    """
    asker, *chain = review.requested_by
    for name in (approver, place_of) if place_of else (approver,):
        if not is_person(name):
            return f"only people answer reviews, and `{name[:80]!a}` is not a person"
        if is_among(name, (asker,)):
            return f"`{name}` made this request and may not answer it"
        if review.demands.apart and is_among(name, chain):
            return f"this is asked in the name of `{name}`, and somebody else has to answer"
    if place_of and is_among(place_of, (approver, *review.approvers, *review.places)):
        return f"the place of `{place_of}` is taken"
    return ""


def has_a_say(demands: Demands, quorum: int, roles: Collection[str], *, escalated: bool) -> bool:
    """Whether the yes of somebody with `roles` can help to complete a review at all."""
    if sum(seat.quorum for seat in demands.seats) < quorum:
        return True  # there is room beside the seats
    return any(_sits(seat, roles, escalated=escalated) for seat in demands.seats)


def completes(demands: Demands, quorum: int, voices: Sequence[Voice], *, escalated: bool) -> bool:
    """Whether these approvals are all that is asked for: enough people, and in each seat enough with its roles."""
    people = {voice.name.lower(): voice.roles for voice in voices if is_person(voice.name)}
    return len(people) >= quorum and all(
        sum(_sits(seat, roles, escalated=escalated) for roles in people.values()) >= seat.quorum
        for seat in demands.seats
    )


def _sits(seat: Seat, roles: Collection[str], *, escalated: bool) -> bool:
    wanted = (*seat.roles, *seat.escalate_to) if escalated else seat.roles
    return any(role in wanted for role in roles)
