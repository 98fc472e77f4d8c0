"""Decisions, as the ledger records them: policy's answer, the rules that decided, what must hold. Pure values."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from assent.execution.attestations import ConfinementClass
from assent.execution.obligations import Obligations


class Verdict(StrEnum):
    """Policy's answer. REVIEW: people have to be asked first."""

    ALLOW = "allow"
    DENY = "deny"
    REVIEW = "review"


class Seat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Among those who approve, `quorum` must have one of `roles`. A review that nobody answered for `escalate_s`
    seconds (0: never) is escalated: from then on somebody with one of `escalate_to` counts here too."""

    roles: tuple[str, ...]
    quorum: int = 1
    escalate_s: int = 0
    escalate_to: tuple[str, ...] = ()


class Demands(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Who has to be among those who approve. With `apart` nobody answers in whose name it is asked."""

    seats: tuple[Seat, ...] = ()
    apart: bool = False

    @property
    def escalate_s(self) -> int:
        """After how long it is escalated when nobody answers; 0: never."""
        return min((seat.escalate_s for seat in self.seats if seat.escalate_s), default=0)


ANYBODY = Demands()


class ReviewTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a review asks for: the plain question, how many approvals, for how long it stays open, and who must be among
    the approvers. People with one of the roles of `emergency` may do it first and be looked at afterwards; people may
    waive the question for calls of a kind, for `waivable_s` at most (0: never)."""

    question: str
    quorum: int = 1
    ttl_s: int = 86_400
    demands: Demands = ANYBODY
    emergency: tuple[str, ...] = ()
    waivable_s: int = 0


class Rung(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One class on one target that was considered for an order: taken, or why not."""

    target: str
    confinement: ConfinementClass
    taken: bool
    reason: str = ""


class Placement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where an allowed order runs: the one target, the class it must show there, and every rung that was considered."""

    target: str
    floor: ConfinementClass
    rungs: tuple[Rung, ...] = ()


class Decision(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`code` is a stable word (`allowed`, `needs_review`, `forbidden`, `no_rule`, `unknown_operation`,
    `unknown_principal`, `principal_invalid`, `contract_changed`, `arguments_invalid`, `policy_error`,
    `policy_missing`, `policy_unsigned`, `target_unavailable`, `budget_exhausted`); `rules` are the ids
    of the rules that decided; `reason` is one sentence for people. `obligations` are set for allow and
    review, `review` for review."""

    verdict: Verdict
    code: str
    reason: str
    policy_revision: str
    rules: tuple[str, ...] = ()
    obligations: Obligations | None = None
    review: ReviewTerms | None = None
