"""Why a call is not carried out, where it is not a rule that says so. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from assent.ledger.budgets import Shortage
from assent.ledger.decisions import Decision, Rung, Verdict
from assent.primitives.errors import Conflict, Refused


def unsettled_policy() -> Conflict:
    """Decided again and again, and every time the policy had moved."""
    return Conflict("policy_moved", "the policy keeps changing", hint="try again when it has settled")


def no_policy() -> Decision:
    """Nobody has put a policy in force."""
    return denied("policy_missing", "no policy is active; activate one with `assent policy activate`")


def unsigned(lacking: str, *, revision: str) -> Decision:
    """The policy in force is not signed by those who must sign it."""
    return denied("policy_unsigned", f"the policy in force decides nothing: {lacking}", revision=revision)


def outdated_policy() -> Refused:
    """The same files mean another revision now, since what rules can look at is part of it."""
    return Refused(
        "policy_outdated", "the policy in force was put in force by another release, which knew other facts",
        hint="`assent policy activate` puts the files in force for this one",
    )  # fmt: skip


def no_rung(rungs: tuple[Rung, ...]) -> str:
    """Why no target will do: each rung that was considered."""
    told = "; ".join(f"{rung.confinement} on `{rung.target}`: {rung.reason}" for rung in rungs)
    return f"no target will do ({told or 'every accepted class lies below the floor'})"[:1_000]


def exhausted(why: Shortage, allowed: Decision) -> Decision:
    """No budget has room for it."""
    return denied("budget_exhausted", why.told, revision=allowed.policy_revision)


def unasked(why: Decision) -> Decision:
    """People would have to be asked, and were asked as often as they may be."""
    told = f"people were asked as often as they may be for this work, and are not asked again: {why.reason}"
    return replace(denied("asks_exhausted", told, revision=why.policy_revision), rules=why.rules)


def denied(code: str, reason: str, *, revision: str = "") -> Decision:
    """A no that no rule said."""
    return Decision(verdict=Verdict.DENY, code=code, reason=reason, policy_revision=revision)
