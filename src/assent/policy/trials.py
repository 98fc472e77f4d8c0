"""Trials: one rule alone, asked about many hypothetical calls."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import msgspec

from assent.ledger.operations import Facts
from assent.policy.approvals import Hypothetical
from assent.policy.calls import OTHERS, SOMEONE, Call, Grid, approvals
from assent.policy.cedar import Answer, Cedar, Judge, Question
from assent.policy.expressions import has_arithmetic
from assent.policy.principals import chain_fault
from assent.policy.rules import Rule
from assent.policy.world import World

BATCH = 64


class Example(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `@example` holds as JSON: a call to which its rule applies."""

    principal: str
    operation: str
    on_behalf_of: tuple[str, ...] = ()
    facts: Facts = Facts()
    run: str = ""
    approved: bool = False


class Trial(msgspec.Struct, kw_only=True):
    """What was found out about a rule. `witness`: a call to which it applies; `spares`: there is one to which it does
    not; `lifted`: an approval on its own terms makes it not apply; `failed`: Cedar's error for some call; `undeclared`:
    what is missing for any call in its scope, and `general` whether that is no fault of the rule."""

    witness: Call | None = None
    spares: bool = False
    lifted: bool = False
    failed: str = ""
    undeclared: str = ""
    general: bool = False
    example_fault: str = ""
    calls: int = 0


class Trials:
    """Tries rules out in one world."""

    def __init__(self, *, world: World, cedar: Cedar) -> None:
        self._world = world
        self._cedar = cedar
        self._entities = cedar.entities(world.entities())

    def run(self, rule: Rule) -> Trial:
        """Try `rule` out, first on its `@example`."""
        judge = self._cedar.judge({rule.id: rule.body}, self._entities)
        trial = Trial()
        if rule.terms.example:
            self._exemplify(rule, judge, trial)
        grid = Grid(rule, self._world)
        if not grid.size:
            if trial.witness is None:
                trial.undeclared, trial.general = self._missing(rule)
            return trial
        self._search(rule, judge, trial, iter(grid))
        return trial

    def _exemplify(self, rule: Rule, judge: Judge, trial: Trial) -> None:
        try:
            example = msgspec.json.decode(rule.terms.example, type=Example)
        except msgspec.MsgspecError as error:
            trial.example_fault = f"`@example` is not a call: {error}"
            return
        offer = self._world.offers.get(example.operation)
        fault = chain_fault(example.principal, example.on_behalf_of)
        if fault or offer is None or example.principal not in self._world.principals:
            trial.example_fault = (
                f"`@example` is not a call here: {fault or 'its principal or operation is not declared'}"
            )
            return
        approval = approvals(rule, self._world)[0] if example.approved else None
        call = Call(
            principal=example.principal,
            operation=example.operation,
            on_behalf_of=example.on_behalf_of,
            facts=example.facts,
            run=example.run,
            approval=approval,
        )
        self._search(rule, judge, trial, iter([call]))
        if trial.witness is None:
            trial.example_fault = "the rule does not apply to its `@example`"

    def _search(self, rule: Rule, judge: Judge, trial: Trial, calls: Iterator[Call]) -> None:
        """Ask about `calls` until all is known; about all of them when something is calculated, which can fail."""
        every = any(has_arithmetic(condition) for condition in rule.conditions)
        while batch := list(islice(calls, BATCH)):
            for call, answer in zip(batch, self._ask(judge, batch), strict=True):
                self._note(rule, judge, trial, call, answer)
            if trial.failed or (not every and self._known(rule, trial)):
                return

    def _known(self, rule: Rule, trial: Trial) -> bool:
        if trial.witness is None:
            return False
        return trial.lifted if rule.terms.review is not None and rule.asks else rule.forbids or trial.spares

    def _note(self, rule: Rule, judge: Judge, trial: Trial, call: Call, answer: Answer) -> None:
        trial.calls += 1
        if answer.failed:
            trial.failed = trial.failed or answer.failed
        elif rule.id not in answer.rules:
            trial.spares = True
        else:
            trial.witness = trial.witness or call
            if rule.terms.review is not None and call.approval is None and not trial.lifted:
                trial.lifted = self._lifts(rule, judge, call, quorum=rule.terms.review.quorum)

    def _lifts(self, rule: Rule, judge: Judge, call: Call, *, quorum: int) -> bool:
        """Whether an approval by as many people as the rule asks for makes it let `call` pass."""
        people = {SOMEONE, *OTHERS, *(name for name in self._world.principals if name.startswith("person:"))}
        named = {name for approval in approvals(rule, self._world) for name in approval.approvers}
        groups = [people | named, (people | named).difference(call.on_behalf_of)]
        calls = [
            msgspec.structs.replace(
                call,
                approval=Hypothetical(intent=call.digest, quorum=quorum, approvers=tuple(sorted(group))),
            )
            for group in groups
        ]
        return any(not a.failed and rule.id not in a.rules for a in self._ask(judge, calls))

    def _ask(self, judge: Judge, calls: list[Call]) -> list[Answer]:
        return judge.ask_all([self._question(call) for call in calls])

    def _question(self, call: Call) -> Question:
        return Question(
            principal=self._world.uids[call.principal],
            action=self._world.offers[call.operation].action,
            resource=call.operation,
            context=call.context,
        )

    def _missing(self, rule: Rule) -> tuple[str, bool]:
        """Why no call is in the rule's scope, and whether only because nothing of the kind is declared yet."""
        if not any(self._world.reaches(rule, offer) for offer in self._world.offers.values()):
            return "no declared operation is in its scope", rule.resource.anything
        return "no declared principal is in its scope", False
