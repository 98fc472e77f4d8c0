"""Explanations: a decision, and what every rule of the policy made of the call. For people; never for deciding."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from assent.ledger.decisions import Decision
from assent.ledger.operations import Facts
from assent.policy.cedar import Cedar, Question
from assent.policy.rules import Rule
from assent.policy.world import World


class Bearing(StrEnum):
    """What a rule has to do with a call."""

    MATCHED = "matched"  # its head and its condition hold
    CONDITION_FALSE = "condition_false"  # its head holds, its condition does not
    OUT_OF_SCOPE = "out_of_scope"  # its head is about others
    FAILED = "failed"  # it could not be evaluated


class RuleBearing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of an explanation."""

    rule: str
    effect: str
    bearing: Bearing
    reason: str = ""
    line: int = 0
    layer: str = ""


class Explanation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`rules` are in the order of the policy text; empty when the call was denied before any rule was asked. `facts`
    are what rules saw of it, where somebody kept them."""

    decision: Decision
    facts: Facts | None = None
    rules: tuple[RuleBearing, ...] = ()


def explained(
    decision: Decision,
    *,
    rules: Iterable[Rule],
    world: World,
    cedar: Cedar,
    principal: str,
    operation: str,
    context: str,
) -> Explanation:
    """Ask every rule alone about one call of a declared principal for a declared operation."""
    offer = world.offers.get(operation)
    if offer is None or principal not in world.principals:
        return Explanation(decision=decision)
    entities = cedar.entities(world.entities())
    question = Question(principal=world.uids[principal], action=offer.action, resource=operation, context=context)
    lines: list[RuleBearing] = []
    for rule in rules:
        bearing = Bearing.OUT_OF_SCOPE
        if world.reaches(rule, offer) and world.concerns(rule, principal):
            answer = cedar.judge({rule.id: rule.body}, entities).ask(question)
            matched = Bearing.MATCHED if rule.id in answer.rules else Bearing.CONDITION_FALSE
            bearing = Bearing.FAILED if answer.failed else matched
        lines.append(
            RuleBearing(
                rule=rule.id,
                effect=rule.effect,
                bearing=bearing,
                reason=rule.terms.reason,
                line=rule.line,
                layer=rule.layer,
            )
        )
    return Explanation(decision=decision, rules=tuple(lines))
