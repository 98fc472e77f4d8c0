"""Activation: everything that is wrong or doubtful about a policy text, found before it can decide anything.

A policy can be wrong while every line of it is valid: a rule about an operation that nobody offers, a condition that
never holds, a `forbid` that fails to evaluate and thus forbids nothing. So besides reading the text, each rule is asked
about calls from its own grid (`calls`) until one is found to which it applies. A rule for which none is found is
refused. The search is bounded and can miss; then `@example` gives it the call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from assent.ledger.contracts import OperationContract
from assent.policy.calls import SOMEONE
from assent.policy.cedar import Cedar
from assent.policy.expressions import constants, variables
from assent.policy.faults import Fault
from assent.policy.principals import KnownPrincipal
from assent.policy.rules import Rule, read_rules
from assent.policy.schema import SCHEMA
from assent.policy.trials import Trial, Trials
from assent.policy.world import World

_EXAMPLES = {"person": SOMEONE, "agent": "agent:someone", "service": "service:someone"}


class RuleReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One good rule: where it stands and a call to which it applies."""

    rule: str
    effect: str
    line: int
    example: str


class Report(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was found. A text with faults must not be activated; warnings are for the author."""

    faults: tuple[Fault, ...] = ()
    warnings: tuple[Fault, ...] = ()
    rules: tuple[RuleReport, ...] = ()


def check(text: str, *, contracts: Mapping[str, OperationContract], principals: Iterable[KnownPrincipal]) -> Report:
    """Check a policy text against the declared operations and principals. Nothing in the text makes it raise.

    Raises:
        Malformed: an operation or a principal is badly declared (see `World`).
    """
    cedar = Cedar(SCHEMA)
    world = World(contracts=contracts, principals=_populated(principals))
    reading = read_rules(text, cedar=cedar)
    trials = Trials(world=world, cedar=cedar)
    faults, warnings, good = list(reading.faults), [] if reading.faults else list(_about(reading.rules)), []
    for rule in reading.rules:
        trial = trials.run(rule)
        found = [*_lint(rule), *_tried(rule, trial)]
        wrong = [fault for fault in found if fault.code not in _WARNINGS]
        warnings += [fault for fault in found if fault.code in _WARNINGS]
        faults += wrong
        if not wrong:
            good.append(RuleReport(rule=rule.id, effect=rule.effect, line=rule.line, example=str(trial.witness or "")))
    return Report(faults=tuple(_by_place(faults)), warnings=tuple(_by_place(warnings)), rules=tuple(good))


_WARNINGS = frozenset({"question_missing", "nothing_declared", "policy_empty"})


def _populated(principals: Iterable[KnownPrincipal]) -> list[KnownPrincipal]:
    """The declared principals, and an example of each kind of which there is none yet: a rule about agents is no
    mistake before the first agent is declared."""
    known = list(principals)
    kinds = {principal.name.partition(":")[0] for principal in known}
    return known + [KnownPrincipal(name=name) for kind, name in _EXAMPLES.items() if kind not in kinds]


def _about(rules: tuple[Rule, ...]) -> Iterator[Fault]:
    if all(rule.forbids for rule in rules):
        yield Fault(code="policy_empty", message="no rule permits anything, so everything is denied")


def _lint(rule: Rule) -> Iterator[Fault]:
    """What is wrong with a rule by its text alone."""
    if any(not variables(condition) or constants(condition) for condition in rule.conditions):
        yield _fault(rule, "condition_constant", "a condition compares constants, so it decides nothing")
    if not rule.forbids and rule.asks:
        yield _fault(
            rule,
            "permit_asks",
            "a permit cannot ask for an approval: permit the call, and forbid it unless it is approved",
        )
    if rule.forbids and rule.asks and rule.terms.review is None:
        yield _fault(
            rule, "question_missing", 'an approval lifts the rule: write what people are asked, `@review("…")`'
        )
    if rule.terms.review is not None and not rule.asks:
        yield _fault(rule, "review_not_lifted", "`@review` is written, but no approval lifts the rule")


def _tried(rule: Rule, trial: Trial) -> Iterator[Fault]:
    """What trying a rule out has shown."""
    if trial.failed:
        yield _fault(rule, "rule_fails", f"the rule cannot be evaluated for some calls: {trial.failed}")
    if trial.example_fault:
        yield _fault(rule, "example", trial.example_fault)
    elif trial.undeclared:
        code = "nothing_declared" if trial.general else "never_applies"
        yield _fault(rule, code, f"the rule applies to nothing: {trial.undeclared}")
    elif trial.witness is None and not trial.failed:
        yield _fault(
            rule,
            "never_applies",
            f"none of {trial.calls} calls that were tried makes the rule apply: "
            "mend its condition, or give a call to which it applies with `@example`",
        )
    if trial.witness is not None and not rule.forbids and _unscoped(rule) and not trial.spares:
        yield _fault(rule, "permit_unconditional", "the rule permits everything to everybody: name what it permits")
    if trial.witness is not None and rule.terms.review is not None and rule.asks and not trial.lifted:
        yield _fault(
            rule, "review_not_lifted", "`@review` is written, but the approval it asks for lifts the rule nowhere"
        )


def _unscoped(rule: Rule) -> bool:
    action = rule.action.anything or ("Action", "call") in rule.action.entities
    return action and rule.principal.anything and rule.resource.anything


def _fault(rule: Rule, code: str, message: str) -> Fault:
    return Fault(code=code, message=message, rule=rule.id, line=rule.line, column=rule.column)


def _by_place(faults: Iterable[Fault]) -> list[Fault]:
    return sorted(faults, key=lambda fault: (fault.line, fault.column))
