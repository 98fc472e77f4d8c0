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


class ReviewTerms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a review asks for: the plain question, how many approvals, and for how long it stays open."""

    question: str
    quorum: int = 1
    ttl_s: int = 86_400


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
    `policy_missing`, `target_unavailable`, `budget_exhausted`); `rules` are the ids of the rules that decided; `reason`
    is one sentence for people. `obligations` are set for allow and review, `review` for review."""

    verdict: Verdict
    code: str
    reason: str
    policy_revision: str
    rules: tuple[str, ...] = ()
    obligations: Obligations | None = None
    review: ReviewTerms | None = None
